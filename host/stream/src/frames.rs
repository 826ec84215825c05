//! The shared decoder of a stream: frames are decoded once for all their consumers, and only while there are any.
//!
//! [`Frames`] owns a thread that follows the source's feed. Its consumers are encoders, each with a bounded mailbox
//! ([`Follower`]), and captures, which take the newest good frame ([`DecoderState`]). The trade-off is between delay
//! and loss: a decoder that does not keep up jumps to the newest start point, and a slow encoder loses frames, group
//! starts last, as its groups have to begin where the source's do. Bursts after a stall of the machine cost nothing,
//! because the decoder waits a bounded time for encoders. `worker` is the thread, `mailbox` is what it shares with the
//! consumers. `decoding` does the decoding itself, `catchup` decodes the past for an encoder that begins there.

mod mailbox;
mod worker;

pub use mailbox::Follower;

use super::{feed::Feed, info::Info, status::Status, supervise};
use mailbox::Shared;
use sluicegate_codec::Frame;
use sluicegate_media::budget::Reservation;
use sluicegate_source::Stop;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use worker::Worker;

/// How much work a decoder that is too late for its source does before it skips frames. One that was only held up (a
/// busy or suspended machine) catches up sooner than that.
const MAX_LATE_WORK: Duration = Duration::from_secs(2);

/// A running decoder. Its thread ends when the last holder drops it.
#[derive(Debug)]
pub struct Frames {
    shared: Arc<Shared>,
    stop: Stop,
}

/// Progress of a decoder, and the frames that a capture may use.
#[derive(Clone, Debug, Default)]
pub struct DecoderState {
    /// The newest frame that has no damage.
    pub good: Option<Arc<Decoded>>,
    /// Everything before this position of the source's feed was decoded.
    pub reached: u64,
    /// An undamaged frame that was delivered while catching up: better than none if catching up takes too long.
    pub old: Option<Arc<Decoded>>,
    /// Why the frames after `good` are damaged or missing.
    pub damage_reason: Option<Arc<str>>,
}

/// An event for a follower.
#[derive(Clone, Debug)]
pub enum Event {
    /// The frames that follow belong to these tracks.
    Configure(Arc<Info>),
    /// The next frame, in presentation order.
    Frame(Arc<Decoded>),
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
    /// Whether it is the first decoded frame of a group: of a keyframe of the source, or where one would be if the
    /// source were encoded by the gateway.
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
            shared: Arc::new(Shared::new(status.codec.clone())),
            stop: Stop::default(),
        });
        let (source, stop, shared) = (source.clone(), frames.stop.clone(), frames.shared.clone());
        thread::Builder::new()
            .name(format!("decode {stream}"))
            .spawn(move || {
                stop.attach();
                let mut worker = Worker::new(&source, shared, status.clone(), patience);
                supervise::run(&mut worker, &status, &stop);
            })?;
        Ok(frames)
    }

    /// Waits until `wanted` holds, but not beyond `until`, and returns the state at that time.
    pub fn wait_for(&self, until: Instant, wanted: impl Fn(&DecoderState) -> bool) -> DecoderState {
        self.shared.wait_for(until, wanted)
    }

    /// Registers the calling thread for every frame from the newest on. At most `limit` (at least 1) wait in its
    /// mailbox; the thread is unparked for each.
    pub fn follow(self: &Arc<Frames>, limit: usize) -> Follower {
        Follower::new(self.clone(), limit)
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

#[cfg(test)]
mod tests;
