//! The pictures that an encoder is given: first those of the past, then what the shared decoder shows.
//!
//! What is made of a stream begins where a group of the source begins, so that its groups have the source's numbers, times and
//! lengths from the first one on. The shared decoder (`frames.rs`) is at the newest picture, so the encoder's thread decodes the
//! past itself, as fast as it can, and goes over to the shared decoder at a picture that both have. An encoder that does not
//! get there in time gives up the past.

use super::{
    decoding::Decoding,
    feed::{Feed, Next, Reader, WakeOn},
    frames::{Event, Follower, Frames},
    ring::{Entry, Info, Numbers, Past},
    status::Status,
};
use sluicegate_codec::Effort;
use sluicegate_telemetry::Chain;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Decoded pictures that may wait for an encoder; one that is slower loses the oldest that begins no group.
const MAX_WAITING: usize = 4;
/// The work that is put into the past. A second of it makes three to ten of pictures.
const WORK: Duration = Duration::from_secs(5);

/// What an encoder's thread is told, in order.
pub(super) struct Pictures {
    frames: Arc<Frames>,
    past: Option<Catching>,
    live: Option<Follower>,
}

/// On the way through the past.
struct Catching {
    reader: Reader,
    position: u64,
    decoding: Decoding,
    status: Arc<Status>,
    ready: VecDeque<Event>,
    told: Told,
    /// What of that the shared decoder showed, too.
    live: Told,
    worked: Duration,
    effort: Effort,
    asked: Instant,
}

/// How far the encoder was brought.
#[derive(Default, PartialEq, Eq)]
struct Told {
    epoch: Option<u32>,
    /// When the newest picture of it is shown.
    time: Option<u64>,
    /// Nothing comes before the next epoch.
    stopped: bool,
}

impl Pictures {
    /// Of `source`, whose shared decoder is `frames`, for a feed that counts its groups by `numbers`: from as far back as
    /// `past` says and the ring has. The calling thread is unparked when there is more.
    pub fn new(
        source: &Arc<Feed>,
        frames: Arc<Frames>,
        numbers: &Numbers,
        past: Past,
        status: &Arc<Status>,
    ) -> Pictures {
        let past = Catching::new(source, numbers, past, status);
        let live = past.is_none().then(|| frames.follow(MAX_WAITING));
        live.iter().for_each(Follower::go_live);
        Pictures { frames, past, live }
    }

    /// Whether what comes next is what the shared decoder shows.
    pub fn is_live(&self) -> bool {
        self.past.is_none()
    }

    /// Goes on with what the shared decoder shows.
    pub fn give_up_past(&mut self) {
        self.past = None;
        let follow = || self.frames.follow(MAX_WAITING);
        self.live.get_or_insert_with(follow).go_live();
    }

    /// What comes next, if it is there.
    pub fn next(&mut self) -> Option<Event> {
        let Some(past) = &mut self.past else {
            return self.live.as_ref()?.next();
        };
        let event = past.next();
        let late = past.is_late();
        if event.is_none() || late {
            self.live
                .get_or_insert_with(|| self.frames.follow(MAX_WAITING));
        }
        let Some(live) = &self.live else {
            return past.tell(event);
        };
        past.pass_over(live);
        if !late && !past.meets(live, event.as_ref()) {
            return past.tell(event);
        }
        self.past = None;
        live.go_live();
        live.next()
    }
}

impl Catching {
    /// `None` where there is no past to begin with.
    fn new(
        source: &Arc<Feed>,
        numbers: &Numbers,
        past: Past,
        status: &Arc<Status>,
    ) -> Option<Catching> {
        let reader = source.reader(WakeOn::Deaf);
        let (position, info) = reader.start_in_past(numbers, past)?;
        let mut catching = Catching {
            reader,
            position,
            decoding: Decoding::new(status, numbers.clone()),
            status: status.clone(),
            ready: VecDeque::new(),
            told: Told::default(),
            live: Told::default(),
            worked: Duration::ZERO,
            effort: Effort::default(),
            asked: Instant::now(),
        };
        if let Some(info) = info {
            catching.configure(info);
        }
        Some(catching)
    }

    /// The next of the past; `None` when there is no more of it than the source has given so far.
    fn next(&mut self) -> Option<Event> {
        let now = Instant::now();
        self.worked += self.effort.count(now - self.asked);
        self.asked = now;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.reader.next(self.position, 0) {
                Next::Entry(entry, _) => {
                    self.position += 1;
                    self.take(entry);
                }
                Next::Lost(on, info) => {
                    self.position = on;
                    self.decoding.reset();
                    let epoch = self.told.epoch;
                    if let Some(info) = info.filter(|info| Some(info.epoch) != epoch) {
                        self.configure(info);
                    }
                }
                Next::Wait => return None,
            }
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Configure(info) => self.configure(info),
            Entry::Stop(reason) => self.ready.push_back(Event::Stop(reason)),
            // Sound, the picture before once more, or one that cannot be decoded here.
            Entry::Sample(sample)
                if sample.is_sound() || sample.repeat > 0 || self.decoding.passes_over(&sample) => {
            }
            Entry::Sample(sample) => {
                // A failure is told by the shared decoder, which gets the same samples.
                let (frames, _) = self.decoding.decode(&sample);
                for frame in frames {
                    let placed = self.decoding.place(frame, &sample);
                    let picture = placed.map(|decoded| Event::Picture(Arc::new(decoded)));
                    self.ready.extend(picture);
                }
            }
        }
    }

    fn configure(&mut self, info: Arc<Info>) {
        if let Err(error) = self.decoding.configure(&info) {
            let text = format!("no pictures can be made: {}", Chain(&error));
            self.status.note("decoder", text);
        }
        self.ready.push_back(Event::Configure(info));
    }

    /// It does not get to the present with the work that is put into it.
    fn is_late(&self) -> bool {
        self.worked > WORK
    }

    /// Takes out of the live pictures what the encoder was told already.
    fn pass_over(&mut self, live: &Follower) {
        while let Some(event) = live.peek() {
            let told = match &event {
                Event::Configure(info) => Some(info.epoch) <= self.told.epoch,
                _ if self.live.epoch < self.told.epoch => true,
                Event::Picture(picture) => Some(picture.time) <= self.told.time,
                Event::Stop(_) => self.told.stopped,
            };
            if !told {
                return;
            }
            self.live.note(&event);
            live.next();
        }
    }

    /// Whether the live pictures go on right behind what was told, or no later than with `event`, the next of the past.
    fn meets(&self, live: &Follower, event: Option<&Event>) -> bool {
        let next = match (event, live.peek()) {
            (Some(Event::Picture(next)), Some(Event::Picture(shown))) => {
                self.live.epoch == self.told.epoch && shown.time <= next.time
            }
            _ => false,
        };
        next || (self.told.time.is_some() && self.live == self.told)
    }

    /// Remembers that the encoder is told of this.
    fn tell(&mut self, event: Option<Event>) -> Option<Event> {
        if let Some(event) = &event {
            self.told.note(event);
        }
        event
    }
}

impl Told {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Configure(info) => (self.epoch, self.stopped) = (Some(info.epoch), false),
            Event::Picture(picture) => self.time = Some(picture.time),
            Event::Stop(_) => self.stopped = true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::{
        super::testing::{PICTURE, Source, next_picture},
        *,
    };

    fn past(group_ms: u32, groups: u32) -> Past {
        Past { group_ms, groups }
    }

    #[test]
    fn catch_up_starts_at_a_source_group_and_joins_live_without_missing_frames() {
        let mut source = Source::new();
        source.publish(150);
        // Groups of a second; the newest began at 4 s.
        let mut pictures = source.pictures(past(900, 3));
        let mut got = Vec::new();
        while got.last() != Some(&149) {
            assert!(got.len() <= 90, "{got:?}");
            got.push(next_picture(&mut pictures).time / PICTURE);
        }
        assert!(got.iter().copied().eq(60..150), "{got:?}");
        // One after the other, so that none is too many at once.
        let mut next = 150;
        while next < 200 {
            source.publish(1);
            let picture = next_picture(&mut pictures);
            assert_eq!(picture.time / PICTURE, next);
            assert_eq!(picture.begins, next.is_multiple_of(30));
            // At the end of the past it looks for the live pictures.
            assert!(pictures.next().is_none());
            next += 1;
        }
        assert!(pictures.is_live());
    }

    #[test]
    fn what_began_too_long_ago_is_not_made_and_no_more_than_players_need() {
        let mut source = Source::new();
        source.publish(14 * 30 + 10);
        let first = |past| {
            let picture = next_picture(&mut source.pictures(past));
            (picture.time / PICTURE, picture.begins)
        };
        // However many a muxer wants: eight seconds and the group in progress.
        assert_eq!(first(past(900, 30)), (6 * 30, true));
        assert_eq!(first(past(1800, 30)), (6 * 30, true));
        // Who wants the newest group only gets that if it is short.
        assert_eq!(first(past(0, 1)), (14 * 30, true));
        let (time, _) = first(past(9000, 1));
        assert!(time >= 14 * 30, "{time}");
    }
}
