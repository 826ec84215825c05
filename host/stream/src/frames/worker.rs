//! The decoding thread of a stream: it follows the source's feed and delivers every frame that comes out.
//!
//! It has to keep up with the source whatever that sends. It begins at the newest group and delivers only the newest
//! frame until it has caught up; when it is late for too long it jumps to the newest start point; after a panic it goes
//! on with a new decoder. It waits for slow encoders only while it works off a burst, and only for a bounded time. It
//! also keeps track of damage, which spreads from a frame to those that refer to it, so that captures get the newest
//! frame without any. [`Frames`](super::Frames) starts it; frames go to `mailbox`, and `decoding` has the decoder.

use super::{
    Event,
    mailbox::{GROUP_START_WAIT, Shared},
};
use crate::{
    decoding::Decoding,
    feed::{Feed, Next, Reader, WakeOn},
    info::Info,
    ring::Entry,
    status::Status,
    supervise::Work,
};
use sluicegate_codec::{Frame, WorkMeter};
use sluicegate_media::{sample::Sample, time::TIMESCALE};
use sluicegate_telemetry::{Chain, Panicked};
use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

/// A decoder that is more than this many ticks behind is late: if it stays so for its `patience`, it jumps to the
/// newest start point, if there is a later one.
const MAX_LAG: u64 = TIMESCALE as u64;
/// A decoder that catches up delivers a frame at least this often, however old it is.
const MAX_FRAME_INTERVAL: Duration = Duration::from_millis(500);
/// If nothing made from decoded frames is being delivered, decoding begins this long after a frame arrived: until then
/// its delivery has the processors. Without this delay, captures beside 50 viewers on two processors tripled the 99th
/// percentile of delivery.
const DECODE_DELAY: Duration = Duration::from_millis(2);
/// Budget for waiting for encoders during a burst, such as after the machine was suspended, so that no frame of it is
/// lost. It is available again when encoders have kept up for `BURST_WAIT_RESET`.
const BURST_WAIT: Duration = Duration::from_secs(2);
const BURST_WAIT_RESET: Duration = Duration::from_secs(30);

/// The work of the decoding thread.
pub(super) struct Worker {
    reader: Reader,
    /// Position of the next entry.
    position: u64,
    shared: Arc<Shared>,
    status: Arc<Status>,
    /// Tracks at `position`.
    info: Option<Arc<Info>>,
    decoding: Decoding,
    /// Catching up with what was there before it began: only the newest frame is delivered, until the newest sample is
    /// reached.
    behind: bool,
    /// `late_for` is how long it has worked while late; from `patience` on it skips frames.
    patience: Duration,
    late_for: Duration,
    /// Time spent waiting for followers in this step.
    waited: Duration,
    /// Whether this step's sample is the newest, or the decoder is catching up and does not deliver every frame.
    newest: bool,
    /// Rest of the budget for waiting for encoders while there are newer samples, and when it was last used or an
    /// encoder was too slow.
    burst_wait_left: Duration,
    burst_waited_at: Instant,
    work_meter: WorkMeter,
    /// When a frame was last delivered, or the tracks were configured.
    delivered_at: Instant,
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
            // Audio, a repeat, or a sample that cannot be decoded here.
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
                    // What follows is newer than everything delivered so far, and the newest sample may never be
                    // reached.
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
    /// Follows `source` with the calling thread. It skips frames after `patience` of work during which it was late.
    pub(super) fn new(
        source: &Arc<Feed>,
        shared: Arc<Shared>,
        status: Arc<Status>,
        patience: Duration,
    ) -> Worker {
        Worker {
            decoding: Decoding::new(&status, source.numbers().encoded()),
            reader: source.reader(WakeOn::VideoOnly),
            position: 0,
            shared,
            status,
            info: None,
            behind: true,
            patience,
            late_for: Duration::ZERO,
            waited: Duration::ZERO,
            newest: true,
            burst_wait_left: BURST_WAIT,
            burst_waited_at: Instant::now(),
            work_meter: WorkMeter::default(),
            delivered_at: Instant::now(),
            wants_start: false,
            integrity: Integrity::Intact,
        }
    }

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
        self.delivered_at = Instant::now();
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
        let text = "decoding is slower than the source, so JPEGs, renditions and captures miss frames; reduce the size \
                    or frame rate of the source";
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
        self.shared
            .update_state(|state| state.damage_reason = Some(why));
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
        let only_one =
            caught_up || (self.behind && self.delivered_at.elapsed() >= MAX_FRAME_INTERVAL);
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
                self.delivered_at = Instant::now();
                let decoded = Arc::new(decoded);
                self.deliver_event(Event::Frame(decoded.clone()));
                if good {
                    let behind = self.behind;
                    self.shared.update_state(|state| {
                        if behind {
                            state.old = Some(decoded);
                        } else {
                            (state.good, state.old) = (Some(decoded), None);
                        }
                        state.damage_reason = None;
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
