//! The decoded pictures of a stream: decoded once, however many things are made of them, and only while any is.

use super::{
    decoding::Decoding,
    feed::{Feed, Next, Reader, WakeOn},
    ring::{Entry, Info},
    status::Status,
    supervise::{self, Work},
};
use sluicegate_codec::{Counts, Effort, Frame};
use sluicegate_media::{budget::Held, sample::Sample, time::TIMESCALE};
use sluicegate_source::Stop;
use sluicegate_telemetry::{Chain, Panicked};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// A decoder that is further behind than this, and has been for so much work, goes on at the newest start point, if there is a
/// later one. Who was only held up (a busy machine, one that was asleep) catches up sooner than that.
const LATE: u64 = TIMESCALE as u64;
const LATE_FOR: Duration = Duration::from_secs(2);
/// A decoder that catches up shows a picture at least so often, however old it is.
const UNSEEN: Duration = Duration::from_millis(500);
/// Where nothing is delivered of the decoded pictures, decoding begins so much after a picture came: those who deliver it have
/// the processors until then. Beside 50 viewers on two of them, without it, captures tripled the 99th percentile of delivery.
const HEAD_START: Duration = Duration::from_millis(2);
/// An encoder in whose mailbox there is nothing but starts of groups is waited for this long.
const ROOM: Duration = Duration::from_millis(250);
/// What comes in a burst, as behind a moment in which the machine was elsewhere, waits for encoders for so long in all, so that none of
/// it is lost; and again when they have kept up for a while.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENT_AGAIN: Duration = Duration::from_secs(30);
/// Starts that are closer together are not worth waiting for, in ticks.
const WORTH_WAITING: u64 = TIMESCALE as u64 / 2;

/// A decoder at work. The thread ends when the last holder lets go.
#[derive(Debug)]
pub struct Frames {
    shared: Arc<Shared>,
    stop: Stop,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something in `state` changed.
    changed: Condvar,
    /// A follower took something out of its mailbox.
    taken: Condvar,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct State {
    followers: BTreeMap<u64, Mailbox>,
    next: u64,
    info: Option<Arc<Info>>,
    newest: Option<Arc<Decoded>>,
    state: DecoderState,
}

/// What a decoder has to show for itself.
#[derive(Clone, Debug, Default)]
pub struct DecoderState {
    /// The newest picture of which nothing is lost or guessed.
    pub good: Option<Arc<Decoded>>,
    /// Everything before this position of the source's feed was decoded.
    pub reached: u64,
    /// A picture as good that was shown on the way to the newest one: better than none, where that takes too long.
    pub old: Option<Arc<Decoded>>,
    /// Why what came after `good` is not.
    pub trouble: Option<Arc<str>>,
}

#[derive(Debug)]
struct Mailbox {
    thread: Thread,
    events: VecDeque<Event>,
    /// Pictures that may wait; at the bound the oldest goes that begins no group, as what is made of them has groups
    /// where the source has.
    most: usize,
    /// It takes what comes, and has no past to go through before.
    is_live: bool,
    /// Pictures that were taken. At the first an encoder is found and opened, which is not slowness.
    taken: u64,
}

/// What a follower is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The pictures that follow are of these tracks.
    Configure(Arc<Info>),
    /// The next picture, in the order of showing.
    Picture(Arc<Decoded>),
    /// Nothing comes until the next `Configure`, for this reason.
    Stop(Arc<str>),
}

/// A decoded picture and where it belongs.
#[derive(Debug)]
pub struct Decoded {
    /// The picture.
    pub frame: Frame,
    /// When it is shown, on the stream's timeline; rises.
    pub time: u64,
    /// Microseconds since the Unix epoch.
    pub captured_at: u64,
    /// It is the first that was decoded of a keyframe of the source, or of what would be one if the source were encoded here.
    pub begins: bool,
    /// Its part of the memory that all streams share.
    pub(super) _memory: Held,
}

impl Frames {
    /// Follows `source` on a thread of its own.
    pub fn start(
        stream: &str,
        source: &Arc<Feed>,
        status: Arc<Status>,
    ) -> std::io::Result<Arc<Frames>> {
        Frames::start_with(stream, source, status, LATE_FOR)
    }

    /// The same with another amount of late work after which pictures are left out.
    fn start_with(
        stream: &str,
        source: &Arc<Feed>,
        status: Arc<Status>,
        patience: Duration,
    ) -> std::io::Result<Arc<Frames>> {
        let frames = Arc::new(Frames {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Condvar::new(),
                taken: Condvar::new(),
                counts: status.codec.clone(),
            }),
            stop: Stop::default(),
        });
        let (source, stop, shared) = (source.clone(), frames.stop.clone(), frames.shared.clone());
        thread::Builder::new()
            .name(format!("decode {stream}"))
            .spawn(move || {
                stop.attach();
                let mut worker = Worker {
                    decoding: Decoding::new(&status, source.numbers().encoded()),
                    reader: source.reader(WakeOn::VideoOnly),
                    position: 0,
                    shared,
                    status: status.clone(),
                    info: None,
                    behind: true,
                    patience,
                    late_for: Duration::ZERO,
                    waited: Duration::ZERO,
                    newest: true,
                    patience_left: PATIENCE,
                    waited_at: Instant::now(),
                    effort: Effort::default(),
                    shown: Instant::now(),
                    wants_start: false,
                    trust: Trust::Whole,
                };
                supervise::run(&mut worker, &status, &stop);
            })?;
        Ok(frames)
    }

    /// What there is to see; waits for what is `wanted`, but not beyond `until`.
    pub fn look(&self, until: Instant, wanted: impl Fn(&DecoderState) -> bool) -> DecoderState {
        let mut state = self.shared.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || wanted(&state.state) {
                return state.state.clone();
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the calling thread of every picture from the newest one on, at most `most` (at least 1) waiting; it is
    /// unparked for each.
    pub fn follow(self: &Arc<Frames>, most: usize) -> Follower {
        let mut state = self.shared.lock();
        let id = state.next;
        state.next += 1;
        let known = state.info.clone().map(Event::Configure);
        let newest = state.newest.clone().map(Event::Picture);
        state.followers.insert(
            id,
            Mailbox {
                thread: thread::current(),
                events: known.into_iter().chain(newest).collect(),
                most,
                is_live: false,
                taken: 0,
            },
        );
        drop(state);
        Follower {
            frames: self.clone(),
            id,
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// One thread's place among those that get the pictures.
#[derive(Debug)]
pub struct Follower {
    frames: Arc<Frames>,
    id: u64,
}

impl Follower {
    /// What came next, if there is anything.
    pub fn next(&self) -> Option<Event> {
        let mut state = self.frames.shared.lock();
        let mailbox = state.followers.get_mut(&self.id)?;
        let event = mailbox.events.pop_front();
        mailbox.taken += u64::from(matches!(event, Some(Event::Picture(_))));
        drop(state);
        self.frames.shared.taken.notify_one();
        event
    }

    /// From here on it takes what comes, and is waited for a little where much comes at once.
    pub fn go_live(&self) {
        if let Some(mailbox) = self.frames.shared.lock().followers.get_mut(&self.id) {
            mailbox.is_live = true;
        }
    }

    /// The same without taking it.
    pub fn peek(&self) -> Option<Event> {
        let state = self.frames.shared.lock();
        state.followers.get(&self.id)?.events.front().cloned()
    }

    /// Whether nothing waits.
    pub fn is_caught_up(&self) -> bool {
        let state = self.frames.shared.lock();
        state
            .followers
            .get(&self.id)
            .is_none_or(|mailbox| mailbox.events.is_empty())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.frames.shared.lock().followers.remove(&self.id);
        self.frames.shared.taken.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_followed(&self) -> bool {
        !self.lock().followers.is_empty()
    }

    /// Says whether a follower that needs every picture was too slow for one, and how long was waited for those that are slow: up to
    /// `patience`, and longer for the start of a group.
    fn tell(&self, event: Event, patience: Duration) -> (bool, Duration) {
        let mut wake = Vec::new();
        let mut state = self.lock();
        let mut waited = Duration::ZERO;
        if let Event::Picture(picture) = &event {
            let full = |state: &mut State| {
                let mut mailboxes = state.followers.values();
                mailboxes.any(|mailbox| match patience.is_zero() {
                    true => picture.begins && mailbox.has_only_groups(picture.time),
                    false => mailbox.is_full(),
                })
            };
            let most = if patience.is_zero() { ROOM } else { patience };
            if full(&mut state) {
                let began = Instant::now();
                let room = self.taken.wait_timeout_while(state, most, full);
                state = room.unwrap_or_else(PoisonError::into_inner).0;
                waited = began.elapsed();
            }
        }
        match &event {
            Event::Configure(info) => {
                state.info = Some(info.clone());
                state.newest = None;
                state.state.good = None;
                state.state.old = None;
                state.state.trouble = None;
            }
            Event::Picture(picture) => state.newest = Some(picture.clone()),
            // What was seen before is not how things look.
            Event::Stop(_) => {
                state.state.good = None;
                state.state.old = None;
            }
        }
        let (mut dropped, mut slow) = (0, false);
        for mailbox in state.followers.values_mut() {
            if mailbox.push(event.clone()) {
                dropped += 1;
                slow |= mailbox.taken > 1;
            }
            wake.push(mailbox.thread.clone());
        }
        drop(state);
        self.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        wake.iter().for_each(Thread::unpark);
        (slow, waited)
    }

    fn see(&self, change: impl FnOnce(&mut DecoderState)) {
        change(&mut self.lock().state);
        self.changed.notify_all();
    }
}

impl Mailbox {
    /// Who wants more than the newest picture has no room for another start of a group, shown at `time`. Where each picture is one there
    /// are more soon.
    fn has_only_groups(&self, time: u64) -> bool {
        let mut starts = self.events.iter().filter_map(|event| match event {
            Event::Picture(picture) if picture.begins => Some(picture.time),
            _ => None,
        });
        let apart = |last: u64| time.saturating_sub(last) >= WORTH_WAITING;
        self.most > 1
            && starts.clone().count() >= self.most
            && starts.next_back().is_some_and(apart)
    }

    /// Who takes what comes, and more than the newest, has no room for another picture.
    fn is_full(&self) -> bool {
        let pictures = self
            .events
            .iter()
            .filter(|event| matches!(event, Event::Picture(_)));
        self.is_live && self.most > 1 && pictures.count() >= self.most
    }

    /// Says whether a picture had to go for it. Who wants the newest only misses nothing by it.
    fn push(&mut self, event: Event) -> bool {
        let is_picture = |event: &Event| matches!(event, Event::Picture(_));
        let is_other = |event: &Event| matches!(event, Event::Picture(picture) if !picture.begins);
        let mut dropped = false;
        match &event {
            Event::Picture(picture) => {
                let waiting = self.events.iter().filter(|event| is_picture(event)).count();
                if waiting >= self.most.max(1) {
                    dropped = self.most > 1;
                    let other = self.events.iter().position(is_other).filter(|_| dropped);
                    // Nothing but starts waits, and this is none.
                    if dropped && other.is_none() && !picture.begins {
                        return true;
                    }
                    if let Some(spare) = other.or(self.events.iter().position(is_picture)) {
                        self.events.remove(spare);
                    }
                }
            }
            // What waits is of no use behind a break.
            Event::Configure(_) => self.events.clear(),
            Event::Stop(_) => {}
        }
        self.events.push_back(event);
        dropped
    }
}

struct Worker {
    reader: Reader,
    /// The next entry.
    position: u64,
    shared: Arc<Shared>,
    status: Arc<Status>,
    /// The tracks there.
    info: Option<Arc<Info>>,
    decoding: Decoding,
    /// On the way through what came before it began: only the newest picture counts, until the newest sample is reached.
    behind: bool,
    /// Work after which one that is late leaves pictures out; how long it has worked while it was late.
    patience: Duration,
    late_for: Duration,
    /// In this step, for followers.
    waited: Duration,
    /// The sample of this step is the newest, or what comes of it is not for all.
    newest: bool,
    /// For how long encoders are waited for while there are newer samples, and when they last were or were too slow.
    patience_left: Duration,
    waited_at: Instant,
    effort: Effort,
    /// When a picture was shown, or it began.
    shown: Instant,
    /// Pictures are passed over until an independent one.
    wants_start: bool,
    trust: Trust,
}

/// Whether what is decoded shows what was meant: damage spreads to the pictures that refer to a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It does.
    Whole,
    /// Not before the next start point.
    Lost,
    /// From this time of showing on.
    From(i64),
}

impl Work for Worker {
    const PART: &'static str = "decode";
    const FAULT: &'static str = "decode-fault";

    /// Starts at the newest group.
    fn begin(&mut self) {
        let (position, info) = self.reader.start(0, 1);
        self.position = position;
        if let Some(info) = info {
            self.configure(&info);
        }
    }

    fn step(&mut self) {
        match self.reader.next(self.position, 0) {
            // Sound, the picture before once more, or one that cannot be decoded here.
            Next::Entry(Entry::Sample(sample), _)
                if sample.is_sound() || sample.repeat > 0 || self.decoding.passes_over(&sample) =>
            {
                self.position += 1;
                self.shared.see(|state| state.reached = self.position);
            }
            Next::Entry(Entry::Sample(sample), _) => {
                self.position += 1;
                let newest = self.reader.has_all_pictures(self.position);
                if newest && !self.behind && !self.shared.is_followed() {
                    thread::sleep(HEAD_START);
                }
                let began = Instant::now();
                self.waited = Duration::ZERO;
                self.newest = newest || self.behind;
                self.decode(&sample, newest);
                let worked = began.elapsed().saturating_sub(self.waited);
                self.shared.see(|state| state.reached = self.position);
                if let Some(on) = self.late_until(self.position, worked) {
                    if on > self.position {
                        self.shared
                            .counts
                            .dropped
                            .fetch_add(on - self.position, Ordering::Relaxed);
                        self.skip();
                    }
                    // What comes now is newer than all that was shown, and the newest may never be reached.
                    self.behind = false;
                    self.position = on;
                }
            }
            Next::Entry(Entry::Configure(info), _) => {
                self.position += 1;
                self.configure(&info);
            }
            Next::Entry(Entry::Stop(reason), _) => {
                self.position += 1;
                self.tell(Event::Stop(reason));
            }
            Next::Lost(on, info) => {
                self.skip();
                self.position = on;
                if let Some(info) = info {
                    self.configure(&info);
                }
                self.behind = false;
            }
            Next::Wait => thread::park(),
        }
    }

    /// With a new decoder, at the next start point.
    fn recover(&mut self, panicked: &Panicked) {
        self.behind = true;
        self.wants_start = true;
        self.distrust(&format!("decoding {panicked}"));
        if let Some(info) = self.info.clone() {
            self.open(&info);
        }
    }
}

impl Worker {
    /// Where to go on, if it is so late that it does not catch up.
    fn late_until(&mut self, position: u64, worked: Duration) -> Option<u64> {
        let worked = self.effort.count(worked);
        let on = self.reader.later_start(position, LATE);
        self.late_for = match on {
            Some(_) => self.late_for + worked,
            None => Duration::ZERO,
        };
        on.filter(|_| self.late_for >= self.patience)
    }

    fn configure(&mut self, info: &Arc<Info>) {
        self.info = Some(info.clone());
        self.behind = true;
        self.shown = Instant::now();
        self.wants_start = false;
        self.trust = Trust::Whole;
        self.tell(Event::Configure(info.clone()));
        self.open(info);
    }

    fn open(&mut self, info: &Info) {
        if let Err(error) = self.decoding.configure(info) {
            let text = format!("no pictures can be made: {}", Chain(&error));
            self.distrust(&text);
            self.status.note("decoder", text);
        }
    }

    fn tell(&mut self, event: Event) {
        if self.waited_at.elapsed() >= PATIENT_AGAIN {
            self.patience_left = PATIENCE;
        }
        let patience = match self.newest {
            true => Duration::ZERO,
            false => self.patience_left.min(ROOM),
        };
        let (slow, waited) = self.shared.tell(event, patience);
        self.waited += waited;
        if slow || !waited.is_zero() {
            self.patience_left = self.patience_left.saturating_sub(waited);
            self.waited_at = Instant::now();
        }
        if slow {
            let text = "encoding is slower than the source: pictures are left out; fewer or smaller renditions help";
            self.status.note("encoding-behind", text.into());
        }
    }

    /// The decoder is too slow: what lies between is left out.
    fn skip(&mut self) {
        let text = "decoding is slower than the source: pictures are left out of what is made of it (JPEGs, renditions, captures); a \
                    smaller size or frame rate of the source helps";
        self.status.note("decoding-behind", text.into());
        self.decoding.reset();
        self.late_for = Duration::ZERO;
        self.wants_start = false;
        self.trust = Trust::Whole;
    }

    /// What comes out up to the next start point is not how it was meant.
    fn distrust(&mut self, why: &str) {
        self.trust = Trust::Lost;
        let why: Arc<str> = why.into();
        self.shared.see(|state| state.trouble = Some(why));
    }

    fn decode(&mut self, sample: &Sample, newest: bool) {
        self.wants_start &= !sample.independent;
        if self.wants_start {
            return;
        }
        if self.trust == Trust::Lost && sample.independent {
            self.trust = Trust::From(i64::try_from(sample.shown_at()).unwrap_or(i64::MAX));
        }
        let (frames, outcome) = self.decoding.decode(sample);
        if let Err(error) = outcome {
            let text = format!("a picture could not be decoded: {}", Chain(&error));
            self.distrust(&text);
            self.status.note("decoding", text);
        }
        let caught_up = self.behind && newest;
        // Only one of what was held up.
        let only_one = caught_up || (self.behind && self.shown.elapsed() >= UNSEEN);
        let skip = if only_one {
            frames.len().saturating_sub(1)
        } else {
            0
        };
        let deliver = newest || !self.behind || only_one;
        for frame in frames.into_iter().skip(skip) {
            let good = self.is_good(&frame);
            if let Some(decoded) = self.decoding.place(frame, sample)
                && deliver
            {
                self.behind &= !newest;
                self.shown = Instant::now();
                let decoded = Arc::new(decoded);
                self.tell(Event::Picture(decoded.clone()));
                if good {
                    let behind = self.behind;
                    self.shared.see(|state| {
                        if behind {
                            state.old = Some(decoded);
                        } else {
                            (state.good, state.old) = (Some(decoded), None);
                        }
                        state.trouble = None;
                    });
                }
            }
        }
    }

    /// Whether nothing of it is lost or guessed.
    fn is_good(&mut self, frame: &Frame) -> bool {
        if frame.is_corrupt() {
            self.distrust("parts of a picture are missing");
        }
        match self.trust {
            Trust::Whole => true,
            Trust::Lost => false,
            Trust::From(time) if frame.pts().is_some_and(|shown| shown >= time) => {
                self.trust = Trust::Whole;
                true
            }
            Trust::From(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
