//! The shared decoder of a stream: frames are decoded once for all their consumers, and only while there are
//! any.
//!
//! [`Frames`] owns a thread that follows the source's feed. Its consumers are encoders, each with a bounded
//! mailbox ([`Follower`]), and captures, which look at the newest good frame ([`DecoderState`]). The
//! trade-off is between delay and loss: a decoder that does not keep up jumps to the newest start point, and
//! a slow encoder loses frames, group starts last, as its groups have to begin where the source's do. Bursts
//! after a stall of the machine cost nothing, because the decoder waits a bounded time for encoders.
//! `decoding` does the decoding itself, `catchup` decodes the past for an encoder that begins there.

use super::{
    decoding::Decoding,
    feed::{Feed, Next, Reader, WakeOn},
    ring::{Entry, Info},
    status::Status,
    supervise::{self, Work},
};
use parking_lot::{Condvar, Mutex, MutexGuard};
use sluicegate_codec::{Counts, Frame, WorkMeter};
use sluicegate_media::{budget::Reservation, sample::Sample, time::TIMESCALE};
use sluicegate_source::Stop;
use sluicegate_telemetry::{Chain, Panicked};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::Ordering},
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// A decoder that is more than `MAX_LAG` ticks behind, and has been for `MAX_LATE_WORK` of work, jumps to the newest
/// start point, if there is a later one. One that was only held up (a busy or suspended machine) catches up
/// sooner than that.
const MAX_LAG: u64 = TIMESCALE as u64;
const MAX_LATE_WORK: Duration = Duration::from_secs(2);
/// A decoder that catches up delivers a frame at least this often, however old it is.
const MAX_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// If nothing made from decoded frames is being delivered, decoding begins this long after a frame arrived:
/// until then its delivery has the processors. Without this delay, captures beside 50 viewers on two
/// processors tripled the 99th percentile of delivery.
const DECODE_DELAY: Duration = Duration::from_millis(2);
/// How long to wait for an encoder whose mailbox has only group starts.
const GROUP_START_WAIT: Duration = Duration::from_millis(250);
/// Budget for waiting for encoders during a burst, such as after the machine was suspended, so that no frame
/// of it is lost. It is available again when encoders have kept up for `BURST_WAIT_RESET`.
const BURST_WAIT: Duration = Duration::from_secs(2);
const BURST_WAIT_RESET: Duration = Duration::from_secs(30);
/// Group starts that are closer together than this are not worth waiting for, in ticks.
const MIN_START_DISTANCE: u64 = TIMESCALE as u64 / 2;

/// A running decoder. Its thread ends when the last holder drops it.
#[derive(Debug)]
pub struct Frames {
    shared: Arc<Shared>,
    stop: Stop,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when `state` changes.
    changed: Condvar,
    /// Notified when a follower took an event out of its mailbox.
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

/// Progress of a decoder, and the frames that a capture may use.
#[derive(Clone, Debug, Default)]
pub struct DecoderState {
    /// The newest frame that has no damage.
    pub good: Option<Arc<Decoded>>,
    /// Everything before this position of the source's feed was decoded.
    pub reached: u64,
    /// An undamaged frame that was delivered while catching up: better than none if catching up takes too
    /// long.
    pub old: Option<Arc<Decoded>>,
    /// Why the frames after `good` are damaged or missing.
    pub trouble: Option<Arc<str>>,
}

#[derive(Debug)]
struct Mailbox {
    thread: Thread,
    events: VecDeque<Event>,
    /// Most frames that may wait. At the bound the oldest that begins no group is dropped: what is made from
    /// the frames has its groups where the source has them.
    limit: usize,
    /// Whether it takes frames as they come, as opposed to catching up with the past first.
    is_live: bool,
    /// Number of frames taken. On the first one an encoder is probed and opened, which does not count as
    /// slow.
    taken: u64,
}

/// An event for a follower.
#[derive(Clone, Debug)]
pub enum Event {
    /// The frames that follow belong to these tracks.
    Configure(Arc<Info>),
    /// The next frame, in presentation order.
    Picture(Arc<Decoded>),
    /// Nothing follows until the next `Configure`, for this reason.
    Stop(Arc<str>),
}

/// A decoded frame, and its place on the timeline.
#[derive(Debug)]
pub struct Decoded {
    /// The decoded frame.
    pub frame: Frame,
    /// Presentation time on the stream's timeline, in ticks; rises.
    pub time: u64,
    /// Capture time, in microseconds since the Unix epoch.
    pub captured_at: u64,
    /// Whether it is the first decoded frame of a group: of a keyframe of the source, or where one would be
    /// if the source were encoded by the gateway.
    pub starts_group: bool,
    /// Its share of the memory limit for decoded frames of all streams.
    pub(super) _memory: Reservation,
}

impl Frames {
    /// Starts a thread that decodes `source`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        stream: &str,
        source: &Arc<Feed>,
        status: Arc<Status>,
    ) -> std::io::Result<Arc<Frames>> {
        Frames::start_with(stream, source, status, MAX_LATE_WORK)
    }

    /// Like [`Frames::start`], with another amount of late work before frames are skipped.
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
                    burst_wait_left: BURST_WAIT,
                    burst_waited_at: Instant::now(),
                    work_meter: WorkMeter::default(),
                    shown: Instant::now(),
                    wants_start: false,
                    integrity: Integrity::Intact,
                };
                supervise::run(&mut worker, &status, &stop);
            })?;
        Ok(frames)
    }

    /// Waits until `wanted` holds, but not beyond `until`, and returns the state at that time.
    pub fn wait_for(&self, until: Instant, wanted: impl Fn(&DecoderState) -> bool) -> DecoderState {
        let mut state = self.shared.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || wanted(&state.state) {
                return state.state.clone();
            }
            self.shared.changed.wait_for(&mut state, left);
        }
    }

    /// Registers the calling thread for every frame from the newest on. At most `limit` (at least 1) wait in
    /// its mailbox; the thread is unparked for each.
    pub fn follow(self: &Arc<Frames>, limit: usize) -> Follower {
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
                limit,
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

/// One thread's subscription to the frames.
#[derive(Debug)]
pub struct Follower {
    frames: Arc<Frames>,
    id: u64,
}

impl Follower {
    /// Takes the next event, if there is one.
    pub fn next(&self) -> Option<Event> {
        let mut state = self.frames.shared.lock();
        let mailbox = state.followers.get_mut(&self.id)?;
        let event = mailbox.events.pop_front();
        mailbox.taken += u64::from(matches!(event, Some(Event::Picture(_))));
        drop(state);
        self.frames.shared.taken.notify_one();
        event
    }

    /// Declares that it takes frames as they come from now on: the decoder then waits a little for it during
    /// bursts.
    pub fn go_live(&self) {
        if let Some(mailbox) = self.frames.shared.lock().followers.get_mut(&self.id) {
            mailbox.is_live = true;
        }
    }

    /// The next event, without taking it.
    pub fn peek(&self) -> Option<Event> {
        let state = self.frames.shared.lock();
        state.followers.get(&self.id)?.events.front().cloned()
    }

    /// Whether the mailbox is empty.
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
        self.state.lock()
    }

    fn is_followed(&self) -> bool {
        !self.lock().followers.is_empty()
    }

    /// Delivers `event` to all followers. Waits for slow ones up to `patience`, and for the start of a group
    /// up to `GROUP_START_WAIT` if that is zero. Returns whether a follower that needs every frame lost one, and how long
    /// was waited.
    fn deliver_event(&self, event: Event, patience: Duration) -> (bool, Duration) {
        let mut wake = Vec::new();
        let mut state = self.lock();
        let mut waited = Duration::ZERO;
        if let Event::Picture(picture) = &event {
            let full = |state: &mut State| {
                let mut mailboxes = state.followers.values();
                mailboxes.any(|mailbox| match patience.is_zero() {
                    true => picture.starts_group && mailbox.is_full_of_starts(picture.time),
                    false => mailbox.is_full(),
                })
            };
            let limit = if patience.is_zero() {
                GROUP_START_WAIT
            } else {
                patience
            };
            if full(&mut state) {
                let began = Instant::now();
                self.taken.wait_while_for(&mut state, full, limit);
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
            // Frames from before the loss do not show the present.
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

    fn update_state(&self, change: impl FnOnce(&mut DecoderState)) {
        change(&mut self.lock().state);
        self.changed.notify_all();
    }
}

impl Mailbox {
    /// Whether a follower of more than the newest frame has no room for another group start, presented at
    /// `time`. If every frame is a group start, the next ones follow soon and this is false.
    fn is_full_of_starts(&self, time: u64) -> bool {
        let mut starts = self.events.iter().filter_map(|event| match event {
            Event::Picture(picture) if picture.starts_group => Some(picture.time),
            _ => None,
        });
        let apart = |last: u64| time.saturating_sub(last) >= MIN_START_DISTANCE;
        self.limit > 1
            && starts.clone().count() >= self.limit
            && starts.next_back().is_some_and(apart)
    }

    /// Whether a live follower of more than the newest frame has no room for another.
    fn is_full(&self) -> bool {
        let pictures = self
            .events
            .iter()
            .filter(|event| matches!(event, Event::Picture(_)));
        self.is_live && self.limit > 1 && pictures.count() >= self.limit
    }

    /// Adds an event; returns whether a frame was dropped. A follower of only the newest frame loses nothing
    /// by that.
    fn push(&mut self, event: Event) -> bool {
        let is_picture = |event: &Event| matches!(event, Event::Picture(_));
        let is_other =
            |event: &Event| matches!(event, Event::Picture(picture) if !picture.starts_group);
        let mut dropped = false;
        match &event {
            Event::Picture(picture) => {
                let waiting = self.events.iter().filter(|event| is_picture(event)).count();
                if waiting >= self.limit.max(1) {
                    dropped = self.limit > 1;
                    let other = self.events.iter().position(is_other).filter(|_| dropped);
                    // Only group starts wait, and this frame is none.
                    if dropped && other.is_none() && !picture.starts_group {
                        return true;
                    }
                    if let Some(spare) = other.or(self.events.iter().position(is_picture)) {
                        self.events.remove(spare);
                    }
                }
            }
            // Frames from before a discontinuity are of no use.
            Event::Configure(_) => self.events.clear(),
            Event::Stop(_) => {}
        }
        self.events.push_back(event);
        dropped
    }
}

struct Worker {
    reader: Reader,
    /// Position of the next entry.
    position: u64,
    shared: Arc<Shared>,
    status: Arc<Status>,
    /// Tracks at `position`.
    info: Option<Arc<Info>>,
    decoding: Decoding,
    /// Catching up with what was there before it began: only the newest frame is delivered, until the newest
    /// sample is reached.
    behind: bool,
    /// `late_for` is how long it has worked while late; from `patience` on it skips frames.
    patience: Duration,
    late_for: Duration,
    /// Time spent waiting for followers in this step.
    waited: Duration,
    /// Whether this step's sample is the newest, or the decoder is catching up and does not deliver every
    /// frame.
    newest: bool,
    /// Rest of the budget for waiting for encoders while there are newer samples, and when it was last used
    /// or an encoder was too slow.
    burst_wait_left: Duration,
    burst_waited_at: Instant,
    work_meter: WorkMeter,
    /// When a frame was last delivered, or the tracks were configured.
    shown: Instant,
    /// Whether samples are skipped until an independent one.
    wants_start: bool,
    integrity: Integrity,
}

/// Whether decoded frames can be trusted: damage spreads to the frames that refer to a damaged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Integrity {
    /// They are undamaged.
    Intact,
    /// Damaged until the next start point.
    Lost,
    /// Undamaged from this presentation time on.
    From(i64),
}

impl Work for Worker {
    const PART: &'static str = "decode";
    const FAULT: &'static str = "decode-fault";

    fn begin(&mut self) {
        let (position, info) = self.reader.start(0, 1);
        self.position = position;
        if let Some(info) = info {
            self.configure(&info);
        }
    }

    fn step(&mut self) {
        match self.reader.next(self.position, 0) {
            // Sound, a repeat, or a sample that cannot be decoded here.
            Next::Entry(Entry::Sample(sample), _)
                if sample.is_audio() || sample.repeat > 0 || self.decoding.must_skip(&sample) =>
            {
                self.position += 1;
                self.shared
                    .update_state(|state| state.reached = self.position);
            }
            Next::Entry(Entry::Sample(sample), _) => {
                self.position += 1;
                let newest = self.reader.has_all_frames(self.position);
                if newest && !self.behind && !self.shared.is_followed() {
                    thread::sleep(DECODE_DELAY);
                }
                let began = Instant::now();
                self.waited = Duration::ZERO;
                self.newest = newest || self.behind;
                self.decode(&sample, newest);
                let worked = began.elapsed().saturating_sub(self.waited);
                self.shared
                    .update_state(|state| state.reached = self.position);
                if let Some(resume_at) = self.jump_target(self.position, worked) {
                    if resume_at > self.position {
                        self.shared
                            .counts
                            .dropped
                            .fetch_add(resume_at - self.position, Ordering::Relaxed);
                        self.skip();
                    }
                    // What follows is newer than everything delivered so far, and the newest sample may never
                    // be reached.
                    self.behind = false;
                    self.position = resume_at;
                }
            }
            Next::Entry(Entry::Configure(info), _) => {
                self.position += 1;
                self.configure(&info);
            }
            Next::Entry(Entry::Stop(reason), _) => {
                self.position += 1;
                self.deliver_event(Event::Stop(reason));
            }
            Next::Lost(resume_at, info) => {
                self.skip();
                self.position = resume_at;
                if let Some(info) = info {
                    self.configure(&info);
                }
                self.behind = false;
            }
            Next::Wait => thread::park(),
        }
    }

    /// Continues with a new decoder, at the next start point.
    fn recover(&mut self, panicked: &Panicked) {
        self.behind = true;
        self.wants_start = true;
        self.mark_damaged(&format!("decoding {panicked}"));
        if let Some(info) = self.info.clone() {
            self.open(&info);
        }
    }
}

impl Worker {
    /// Where to jump, if it is too late to catch up.
    fn jump_target(&mut self, position: u64, worked: Duration) -> Option<u64> {
        let worked = self.work_meter.count(worked);
        let resume_at = self.reader.later_start(position, MAX_LAG);
        self.late_for = match resume_at {
            Some(_) => self.late_for + worked,
            None => Duration::ZERO,
        };
        resume_at.filter(|_| self.late_for >= self.patience)
    }

    fn configure(&mut self, info: &Arc<Info>) {
        self.info = Some(info.clone());
        self.behind = true;
        self.shown = Instant::now();
        self.wants_start = false;
        self.integrity = Integrity::Intact;
        self.deliver_event(Event::Configure(info.clone()));
        self.open(info);
    }

    fn open(&mut self, info: &Info) {
        if let Err(error) = self.decoding.configure(info) {
            let text = format!("the stream cannot be decoded: {}", Chain(&error));
            self.mark_damaged(&text);
            self.status.note("decoder", text);
        }
    }

    fn deliver_event(&mut self, event: Event) {
        if self.burst_waited_at.elapsed() >= BURST_WAIT_RESET {
            self.burst_wait_left = BURST_WAIT;
        }
        let patience = match self.newest {
            true => Duration::ZERO,
            false => self.burst_wait_left.min(GROUP_START_WAIT),
        };
        let (slow, waited) = self.shared.deliver_event(event, patience);
        self.waited += waited;
        if slow || !waited.is_zero() {
            self.burst_wait_left = self.burst_wait_left.saturating_sub(waited);
            self.burst_waited_at = Instant::now();
        }
        if slow {
            let text = "encoding is slower than the source, so frames are dropped; use fewer or smaller renditions";
            self.status.note("encoding-behind", text.into());
        }
    }

    /// Resets for a jump, because decoding is too slow.
    fn skip(&mut self) {
        let text = "decoding is slower than the source, so JPEGs, renditions and captures miss frames; reduce the size or frame \
                    rate of the source";
        self.status.note("decoding-behind", text.into());
        self.decoding.reset();
        self.late_for = Duration::ZERO;
        self.wants_start = false;
        self.integrity = Integrity::Intact;
    }

    /// Marks the output as damaged until the next start point, for the reason `why`.
    fn mark_damaged(&mut self, why: &str) {
        self.integrity = Integrity::Lost;
        let why: Arc<str> = why.into();
        self.shared.update_state(|state| state.trouble = Some(why));
    }

    fn decode(&mut self, sample: &Sample, newest: bool) {
        self.wants_start &= !sample.independent;
        if self.wants_start {
            return;
        }
        if self.integrity == Integrity::Lost && sample.independent {
            self.integrity =
                Integrity::From(i64::try_from(sample.presentation_time()).unwrap_or(i64::MAX));
        }
        let (frames, outcome) = self.decoding.decode(sample);
        if let Err(error) = outcome {
            let text = format!("a frame could not be decoded: {}", Chain(&error));
            self.mark_damaged(&text);
            self.status.note("decoding", text);
        }
        let caught_up = self.behind && newest;
        // While catching up, only the last frame of this step is delivered.
        let only_one = caught_up || (self.behind && self.shown.elapsed() >= MAX_FRAME_INTERVAL);
        let skip = if only_one {
            frames.len().saturating_sub(1)
        } else {
            0
        };
        let deliver = newest || !self.behind || only_one;
        for frame in frames.into_iter().skip(skip) {
            let good = self.is_intact(&frame);
            if let Some(decoded) = self.decoding.place(frame, sample)
                && deliver
            {
                self.behind &= !newest;
                self.shown = Instant::now();
                let decoded = Arc::new(decoded);
                self.deliver_event(Event::Picture(decoded.clone()));
                if good {
                    let behind = self.behind;
                    self.shared.update_state(|state| {
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

    /// Whether `frame` has no damage.
    fn is_intact(&mut self, frame: &Frame) -> bool {
        if frame.is_corrupt() {
            self.mark_damaged("a frame is damaged");
        }
        match self.integrity {
            Integrity::Intact => true,
            Integrity::Lost => false,
            Integrity::From(time) if frame.pts().is_some_and(|shown| shown >= time) => {
                self.integrity = Integrity::Intact;
                true
            }
            Integrity::From(_) => false,
        }
    }
}

#[cfg(test)]
mod tests;
