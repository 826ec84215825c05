//! The input of an encoder: decoded frames of the past first, then those of the shared decoder.
//!
//! A rendition begins where a group of the source begins, so that its groups have the source's numbers, times and
//! lengths from the first one on. The shared decoder (`frames.rs`) is at the newest frame, so the encoder's thread
//! decodes the past from the ring by itself, as fast as it can, and switches to the shared decoder at a frame that both
//! have. If it does not get there in time, it gives up the past.

use super::{
    decoding::Decoding,
    feed::{Feed, Next, Reader, WakeOn},
    frames::{Event, Follower, Frames},
    info::Info,
    ring::{Entry, GroupNumbers, HistorySpan},
    status::Status,
};
use sluicegate_codec::WorkMeter;
use sluicegate_telemetry::Chain;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Decoded frames that may wait for an encoder. A slower one loses the oldest that begins no group.
const MAX_WAITING: usize = 4;
/// Limit on the work that is spent on the past. A second of work makes three to ten seconds of video.
const MAX_CATCH_UP_WORK: Duration = Duration::from_secs(5);

/// The events that an encoder's thread processes, in order.
pub(super) struct EncoderInput {
    frames: Arc<Frames>,
    past: Option<CatchUp>,
    live: Option<Follower>,
}

/// State while catching up with the past.
struct CatchUp {
    reader: Reader,
    position: u64,
    decoding: Decoding,
    status: Arc<Status>,
    ready: VecDeque<Event>,
    /// What the encoder has got.
    delivered: Progress,
    /// How much of that the shared decoder has delivered, too.
    live: Progress,
    worked: Duration,
    work_meter: WorkMeter,
    measured_at: Instant,
}

/// A position on the timeline: how far events have been delivered.
#[derive(Default, PartialEq, Eq)]
struct Progress {
    epoch: Option<u32>,
    /// Presentation time of its newest frame.
    time: Option<u64>,
    /// Whether nothing follows before the next epoch.
    stopped: bool,
}

impl EncoderInput {
    /// Creates the input from `source`, whose shared decoder is `frames`, for a feed that numbers its groups by
    /// `numbers`. It begins as far back as `past` says and the ring has. The calling thread is unparked when there is
    /// more.
    pub fn new(
        source: &Arc<Feed>,
        frames: Arc<Frames>,
        numbers: &GroupNumbers,
        past: HistorySpan,
        status: &Arc<Status>,
    ) -> EncoderInput {
        let past = CatchUp::new(source, numbers, past, status);
        let live = past.is_none().then(|| frames.follow(MAX_WAITING));
        live.iter().for_each(Follower::go_live);
        EncoderInput { frames, past, live }
    }

    /// Whether the past is done, so that events come from the shared decoder.
    pub fn is_live(&self) -> bool {
        self.past.is_none()
    }

    /// Switches to the shared decoder now.
    pub fn abandon_past(&mut self) {
        self.past = None;
        let follow = || self.frames.follow(MAX_WAITING);
        self.live.get_or_insert_with(follow).go_live();
    }

    /// The next event, if there is one.
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
            return past.deliver(event);
        };
        past.skip_delivered(live);
        if !late && !past.can_switch(live, event.as_ref()) {
            return past.deliver(event);
        }
        self.past = None;
        live.go_live();
        live.next()
    }
}

impl CatchUp {
    /// `None` if the ring has no past to begin with.
    fn new(
        source: &Arc<Feed>,
        numbers: &GroupNumbers,
        past: HistorySpan,
        status: &Arc<Status>,
    ) -> Option<CatchUp> {
        let reader = source.reader(WakeOn::VideoOnly);
        let (position, info) = reader.start_in_past(numbers, past)?;
        let mut catching = CatchUp {
            reader,
            position,
            decoding: Decoding::new(status, numbers.clone()),
            status: status.clone(),
            ready: VecDeque::new(),
            delivered: Progress::default(),
            live: Progress::default(),
            worked: Duration::ZERO,
            work_meter: WorkMeter::default(),
            measured_at: Instant::now(),
        };
        if let Some(info) = info {
            catching.configure(info);
        }
        Some(catching)
    }

    /// The next event of the past; `None` at the end of what the source has delivered so far.
    fn next(&mut self) -> Option<Event> {
        let now = Instant::now();
        self.worked += self.work_meter.count(now - self.measured_at);
        self.measured_at = now;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            match self.reader.next(self.position, 0) {
                Next::Entry(entry, _) => {
                    self.position += 1;
                    self.take(entry);
                }
                Next::Lost(resume_at, info) => {
                    self.position = resume_at;
                    self.decoding.reset();
                    let epoch = self.delivered.epoch;
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
            // Audio, a repeat, or a sample that cannot be decoded here.
            Entry::Sample(sample)
                if sample.is_audio() || sample.repeat > 0 || self.decoding.must_skip(&sample) => {}
            Entry::Sample(sample) => {
                // Failures are reported by the shared decoder, which gets the same samples.
                let (frames, _) = self.decoding.decode(&sample);
                for frame in frames {
                    let placed = self.decoding.place(frame, &sample);
                    let decoded = placed.map(|decoded| Event::Frame(Arc::new(decoded)));
                    self.ready.extend(decoded);
                }
            }
        }
    }

    fn configure(&mut self, info: Arc<Info>) {
        if let Err(error) = self.decoding.configure(&info) {
            let text = format!("the stream cannot be decoded: {}", Chain(&error));
            self.status.note("decoder", text);
        }
        self.ready.push_back(Event::Configure(info));
    }

    /// Whether the budget of work is spent before the present was reached.
    fn is_late(&self) -> bool {
        self.worked > MAX_CATCH_UP_WORK
    }

    /// Discards live events that the encoder already had from the past.
    fn skip_delivered(&mut self, live: &Follower) {
        while let Some(event) = live.peek() {
            let delivered = match &event {
                Event::Configure(info) => Some(info.epoch) <= self.delivered.epoch,
                _ if self.live.epoch < self.delivered.epoch => true,
                Event::Frame(decoded) => Some(decoded.time) <= self.delivered.time,
                Event::Stop(_) => self.delivered.stopped,
            };
            if !delivered {
                return;
            }
            self.live.note(&event);
            live.next();
        }
    }

    /// Whether the live events continue right after what the encoder has, or no later than with `event`, the next of
    /// the past.
    fn can_switch(&self, live: &Follower, event: Option<&Event>) -> bool {
        let next = match (event, live.peek()) {
            (Some(Event::Frame(next)), Some(Event::Frame(shown))) => {
                self.live.epoch == self.delivered.epoch && shown.time <= next.time
            }
            _ => false,
        };
        next || (self.delivered.time.is_some() && self.live == self.delivered)
    }

    /// Records that the encoder gets this event.
    fn deliver(&mut self, event: Option<Event>) -> Option<Event> {
        if let Some(event) = &event {
            self.delivered.note(event);
        }
        event
    }
}

impl Progress {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Configure(info) => (self.epoch, self.stopped) = (Some(info.epoch), false),
            Event::Frame(decoded) => self.time = Some(decoded.time),
            Event::Stop(_) => self.stopped = true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::{
        super::testing::{FRAME_TICKS, Source, next_frame},
        *,
    };

    fn past(group_ms: u32, groups: u32) -> HistorySpan {
        HistorySpan { group_ms, groups }
    }

    #[test]
    fn catch_up_starts_at_a_source_group_and_joins_live_without_missing_frames() {
        let mut source = Source::new();
        source.publish(150);
        // Groups of a second; the newest began at 4 s.
        let mut input = source.input(past(900, 3));
        let mut got = Vec::new();
        while got.last() != Some(&149) {
            assert!(got.len() <= 90, "{got:?}");
            got.push(next_frame(&mut input).time / FRAME_TICKS);
        }
        assert!(got.iter().copied().eq(60..150), "{got:?}");
        // One at a time, so that the mailbox never overflows.
        let mut next = 150;
        while next < 200 {
            source.publish(1);
            let decoded = next_frame(&mut input);
            assert_eq!(decoded.time / FRAME_TICKS, next);
            assert_eq!(decoded.starts_group, next.is_multiple_of(30));
            // At the end of the past it looks at the live frames.
            assert!(input.next().is_none());
            next += 1;
        }
        assert!(input.is_live());
    }

    #[test]
    fn what_began_too_long_ago_is_not_made_and_no_more_than_players_need() {
        let mut source = Source::new();
        source.publish(14 * 30 + 10);
        let first = |past| {
            let decoded = next_frame(&mut source.input(past));
            (decoded.time / FRAME_TICKS, decoded.starts_group)
        };
        // However many a muxer wants: eight seconds and the group in progress.
        assert_eq!(first(past(900, 30)), (6 * 30, true));
        assert_eq!(first(past(1800, 30)), (6 * 30, true));
        // A request for only the newest group gets it if it is short.
        assert_eq!(first(past(0, 1)), (14 * 30, true));
        let (time, _) = first(past(9000, 1));
        assert!(time >= 14 * 30, "{time}");
    }
}
