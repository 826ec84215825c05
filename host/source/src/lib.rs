//! Sources: cameras, files, URLs, screens, raw streams and Android devices.
//!
//! [`Spec`] is a parsed source string; made a [`Source`] by [`ConfiguredSource`], it reads, blocking, on a thread of
//! its own. A source writes what it reads to a [`Sink`], which ingest (`host/stream`) implements, and makes no
//! assumptions about timelines or viewers. Every wait in this crate ends within 200 ms (`POLL_INTERVAL`) once [`Stop`]
//! is set, and every length that a peer announces is bounded.

pub mod android;
mod annexb;
mod backlog;
mod camera;
mod configured;
mod device;
mod file;
mod http;
mod interleave;
mod libav;
pub mod mjpeg;
mod pace;
mod pattern;
pub mod push;
mod rtsp;
mod spec;
#[cfg(test)]
mod testing;
mod transcode;
mod web;

pub use android::{AttachedDevice, DeviceObserver, Fleet, Presence, stream_name};
pub use camera::{Camera, Capability, CaptureMode, Format, Rates, Sizes, cameras, choose, listing};
pub use configured::ConfiguredSource;
pub use device::set_devices_program;
pub use http::tls_config as unverified_tls;
pub use spec::{RemoteError, Screen, Spec, SpecError};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_media::{
    geometry::{Orientation, PixelAspect},
    sample::Audio,
};
use std::{
    fmt, io,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use thiserror::Error;

/// Interval at which a blocked source checks whether it should stop.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// A source without data for this long is considered lost, unless it may be silent ([`Spec::may_be_silent`]).
const DATA_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a source ended without being stopped.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The source could not be opened.
    #[error("cannot open {what}: {reason}")]
    Open {
        /// The source, without credentials.
        what: String,
        /// Reason, and what to do.
        reason: String,
    },
    /// The source was open and failed.
    #[error("{what} failed: {reason}")]
    Read {
        /// The source, without credentials.
        what: String,
        /// Reason shown to the user.
        reason: String,
    },
    /// The source ended and cannot be restarted. Holds the source, without credentials.
    #[error("{0} ended")]
    Ended(String),
}

/// Times of a packet as far as the source knows them, in ticks of [`sluicegate_media::time::TIMESCALE`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceTimes {
    /// Decode time.
    pub decode: Option<i64>,
    /// Presentation time.
    pub presentation: Option<i64>,
    /// Duration in ticks; 0 if unknown.
    pub duration: u32,
}

/// Tracks that a source announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whether video is expected.
    pub video: bool,
    /// Whether audio is expected.
    pub audio: bool,
}

impl Default for Expected {
    /// Video alone.
    fn default() -> Expected {
        Expected {
            video: true,
            audio: false,
        }
    }
}

/// Display properties of the video as stored in a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// Pixel aspect ratio, which takes precedence over that of the coded frames; `None` if the container has none.
    pub pixel_aspect: Option<PixelAspect>,
    /// Rotation and mirroring.
    pub orientation: Orientation,
}

/// Description of a source's audio track.
#[derive(Clone, Debug)]
pub struct AudioTrack {
    /// Description for transports and viewers.
    pub audio: Audio,
    /// Samples per AAC frame; 0 for other codecs.
    pub length: u32,
    /// How to decode it, if it is not AAC.
    pub coding: Option<codec::AudioCoding>,
}

/// Receives what a source reads.
pub trait Sink {
    /// The source waits for a peer to connect; `reason` says where, for the user.
    fn listening(&mut self, reason: String);
    /// The source is open; no data has arrived yet.
    fn connected(&mut self);
    /// The source's configuration is known, with its nominal frame rate in frames per second (0 if unknown).
    fn configured(&mut self, frame_rate: f32);
    /// Display properties of the frames that follow. Until the first call, and after a loss, frames are displayed as
    /// coded.
    fn presentation(&mut self, presentation: Presentation);
    /// Out-of-band parameter sets; other NAL units are ignored.
    fn parameter_sets(&mut self, nals: Vec<Bytes>);
    /// Bytes of an Annex B stream, split anywhere; a frame gets the arrival time of its first byte.
    fn byte_stream(&mut self, bytes: Bytes);
    /// No data arrives for now, so the buffered bytes form a complete frame.
    fn silence(&mut self);
    /// NAL units of one or more complete access units, usually one.
    fn access_unit(&mut self, nals: Vec<Bytes>, times: SourceTimes);
    /// One JPEG.
    fn jpeg(&mut self, data: Bytes, times: SourceTimes);
    /// The tracks to expect; ingest waits for them for a short time.
    fn expect(&mut self, tracks: Expected);
    /// Description of the audio that follows.
    fn audio_track(&mut self, track: AudioTrack);
    /// One audio frame of [`AudioTrack::length`] samples, or one packet if the codec is not AAC.
    fn audio_frame(&mut self, data: Bytes, times: SourceTimes);
    /// Bytes were lost: everything up to the next random access point is to be dropped.
    fn damaged(&mut self);
    /// A remark for the user. Kept once per `key`, with the newest text and a count.
    fn note(&mut self, key: &'static str, text: String);
    /// The source restarts from its beginning after reaching its end.
    fn loops(&mut self);
    /// The source is lost for now; viewers stay connected.
    fn lost(&mut self, reason: String);
    /// Counters for the codecs that the source uses.
    fn codec_counts(&self) -> &Arc<codec::Counts>;
}

/// Keyframe requests to a source. Sources that encode grant them; others ignore them.
#[derive(Clone, Debug, Default)]
pub struct Keyframes(Arc<AtomicBool>);

impl Keyframes {
    /// Requests that the next frame be a keyframe.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a keyframe has been requested since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Stop signal for a source's thread.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    inner: Arc<StopState>,
}

#[derive(Debug, Default)]
struct StopState {
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Stop {
    /// Sets the signal and unparks the source's thread.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.inner.thread.get() {
            thread.unpark();
        }
    }

    /// Whether the signal is set.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    /// Registers the calling thread as the one to unpark. To be called on the source's thread before its first wait.
    pub fn attach(&self) {
        let _ = self.inner.thread.set(thread::current());
    }

    /// Waits until `deadline`, or until the signal is set.
    pub fn wait_until(&self, deadline: std::time::Instant) {
        while !self.is_stopped() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Waits until the signal is set.
    pub fn wait_for_stop(&self) {
        while !self.is_stopped() {
            thread::park();
        }
    }

    /// Waits for `duration`, or until the signal is set.
    pub fn wait(&self, duration: Duration) {
        self.wait_until(std::time::Instant::now() + duration);
    }
}

/// A source that can be run.
///
/// [`ConfiguredSource`] is every source that a configuration can name, and [`push`] makes one that other code hands its
/// packets to.
/// A stream needs no more of a source than this, so anything that can write to a [`Sink`] can be one.
pub trait Source: fmt::Debug + fmt::Display + Send + Sync {
    /// Runs until the source is stopped (`Ok`), ends or fails.
    ///
    /// Blocks, so it is called on a thread of its own. It may be called again after it has returned.
    ///
    /// # Errors
    /// Why it ended without being stopped.
    fn run(&self, context: &mut SourceContext<'_>) -> Result<(), SourceError>;

    /// Whether it may deliver nothing for any length of time without being lost.
    fn may_be_silent(&self) -> bool {
        false
    }

    /// Whether it cannot be run again once it has ended ([`SourceError::Ended`]).
    fn is_finite(&self) -> bool {
        false
    }

    /// `text` without the credentials of this source, for logs and users.
    fn scrub(&self, text: &str) -> String {
        text.to_owned()
    }

    /// Serial of the Android device that it shows.
    fn android_serial(&self) -> Option<&str> {
        None
    }

    /// Whether it is the built-in test pattern, whose frames carry their number and time.
    fn is_test_pattern(&self) -> bool {
        false
    }
}

/// Encoder settings for a source, which remember whether they were used: if not, the source goes on when they change.
#[derive(Debug, Default)]
pub struct EncodeSettings {
    settings: config::Encode,
    used: AtomicBool,
    outdated: AtomicBool,
    stop: Stop,
}

impl EncodeSettings {
    /// Settings for a source that ends with `stop`.
    pub fn new(settings: config::Encode, stop: Stop) -> EncodeSettings {
        EncodeSettings {
            settings,
            stop,
            ..EncodeSettings::default()
        }
    }

    /// The settings, for a source that does what they say.
    pub fn get(&self) -> &config::Encode {
        self.used.store(true, Ordering::SeqCst);
        self.stop_if_wrong();
        &self.settings
    }

    /// There are other settings now. A source that uses these is stopped; one that does not use them goes on until it
    /// does.
    pub fn outdate(&self) {
        self.outdated.store(true, Ordering::SeqCst);
        self.stop_if_wrong();
    }

    /// Each of the two that set a flag looks at both afterwards, so at least one of them sees both.
    fn stop_if_wrong(&self) {
        if self.used.load(Ordering::SeqCst) && self.outdated.load(Ordering::SeqCst) {
            self.stop.stop();
        }
    }
}

/// What a source works with while it runs.
pub struct SourceContext<'a> {
    /// Receives what the source reads.
    pub sink: &'a mut dyn Sink,
    /// Says when to return.
    pub stop: &'a Stop,
    /// Keyframe requests, for sources that can grant them.
    pub keyframes: &'a Keyframes,
    /// How to encode what is not H.264, JPEG or AAC already.
    pub encode: &'a EncodeSettings,
    /// How to fetch URLs.
    pub fetch: &'a config::Fetch,
}

/// Whether data can be read within `timeout`.
fn readable(input: &impl AsFd, timeout: Duration) -> io::Result<bool> {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::new(input, PollFlags::IN)], Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
