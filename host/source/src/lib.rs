//! Where pictures come from. Each source runs on a thread of its own and hands what it reads to a [`Sink`].

pub mod android;
mod annexb;
mod backlog;
mod camera;
mod device;
mod file;
mod http;
mod interleave;
mod libav;
pub mod mjpeg;
mod pace;
mod pattern;
mod rtsp;
mod spec;
mod transcode;
mod web;

pub use android::{Attached, Audience, Fleet, Presence, stream_name};
pub use camera::{Camera, Capability, CaptureMode, Format, Rates, Sizes, cameras, choose, listing};
pub use device::devices_with;
pub use spec::{Screen, Spec, SpecError};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_media::{
    geometry::{Orientation, PixelAspect},
    sample::Audio,
};
use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use thiserror::Error;

/// How often a waiting source looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);
/// A source that says nothing this long is taken for lost, where silence is not its right.
const SILENCE: Duration = Duration::from_secs(10);

/// Why a source stopped by itself.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("cannot open {what}: {reason}")]
    Open {
        /// The source, without credentials.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// It was open and failed.
    #[error("{what} failed: {reason}")]
    Read {
        /// The source, without credentials.
        what: String,
        /// Why.
        reason: String,
    },
    /// It ended and cannot begin again.
    #[error("{0} ended")]
    Ended(String),
}

/// What a source knows of a packet's times, in ticks of [`sluicegate_media::time::TIMESCALE`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SourceTimes {
    /// When it is to be decoded.
    pub decode: Option<i64>,
    /// When it is to be shown.
    pub presentation: Option<i64>,
    /// 0: unknown.
    pub duration: u32,
}

/// Which tracks a source says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Pictures come, or are to come.
    pub pictures: bool,
    /// And sound.
    pub sound: bool,
}

impl Default for Expected {
    /// Pictures alone.
    fn default() -> Expected {
        Expected {
            pictures: true,
            sound: false,
        }
    }
}

/// What a container says of how the pictures in it are to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// The shape of a pixel, which goes before what coded pictures say of it; `None`: not told.
    pub pixel_aspect: Option<PixelAspect>,
    /// Which way up.
    pub orientation: Orientation,
}

/// The sound of a source.
#[derive(Clone, Debug)]
pub struct Sound {
    /// What viewers are told of it.
    pub audio: Audio,
    /// Samples in a frame of AAC.
    pub length: u32,
    /// By what it is decoded, if it is not AAC.
    pub coding: Option<codec::SoundCoding>,
}

/// Takes what a source reads.
pub trait Sink {
    /// The source waits for somebody to connect to it; `reason` says where.
    fn listening(&mut self, reason: String);
    /// The source is open; nothing came yet.
    fn connected(&mut self);
    /// The source told its configuration, and the rate it claims (0: unknown).
    fn configured(&mut self, frame_rate: f32);
    /// How the pictures that follow are to be shown; until then, and after a loss, as they are coded.
    fn presentation(&mut self, told: Presentation);
    /// Parameter sets that are not in the stream itself; other NAL units are passed over.
    fn parameter_sets(&mut self, nals: Vec<Bytes>);
    /// Bytes of an Annex B stream, cut anywhere; a picture is stamped when its first byte comes.
    fn byte_stream(&mut self, bytes: Bytes);
    /// Nothing comes for now: what is there is a whole picture.
    fn silence(&mut self);
    /// NAL units that make up whole pictures, usually one.
    fn access_unit(&mut self, nals: Vec<Bytes>, times: SourceTimes);
    /// One JPEG picture.
    fn jpeg(&mut self, data: Bytes, times: SourceTimes);
    /// Which tracks are to come: they are waited for, but not long.
    fn expect(&mut self, tracks: Expected);
    /// What the sound is from here on.
    fn sound(&mut self, sound: Sound);
    /// One frame of sound, of [`Sound::length`] samples, or in another codec than AAC one packet.
    fn sound_frame(&mut self, data: Bytes, times: SourceTimes);
    /// Bytes were lost: nothing until the next random access point.
    fn damaged(&mut self);
    /// Something worth knowing, kept once per `key` with the newest text and a count.
    fn note(&mut self, key: &'static str, text: String);
    /// The source begins again where it ended.
    fn loops(&mut self);
    /// The source is gone for now; viewers stay.
    fn lost(&mut self, reason: String);
    /// Where codecs on the way to the sink count their pictures.
    fn codec_counts(&self) -> &Arc<codec::Counts>;
}

/// Asks a source that encodes for a keyframe; others cannot give one and leave it be.
#[derive(Clone, Debug, Default)]
pub struct Keyframes(Arc<AtomicBool>);

impl Keyframes {
    /// The next picture is to be a keyframe.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether one was asked for since the last call.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// Tells a source's thread to end.
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
    /// Ends the source as soon as it looks.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.inner.thread.get() {
            thread.unpark();
        }
    }

    /// Whether it is to end.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    /// Called on the source's thread before its first wait.
    pub fn attach(&self) {
        let _ = self.inner.thread.set(thread::current());
    }

    /// Waits until `deadline`, or less if told to end.
    pub fn wait_until(&self, deadline: std::time::Instant) {
        while !self.is_stopped() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Waits `duration`, or less if told to end.
    pub fn wait(&self, duration: Duration) {
        self.wait_until(std::time::Instant::now() + duration);
    }
}

/// Runs the source until it is told to stop (`Ok`), ends or fails. A device is one of `fleet`.
///
/// Blocking; call it on a thread of its own. May be called again after a failure.
pub fn run(
    spec: &Spec,
    encode: &config::Encode,
    fetch: &config::Fetch,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
    fleet: &Arc<Fleet>,
) -> Result<(), SourceError> {
    let ended = match spec {
        Spec::TestPattern => pattern::run(encode, sink, stop, keyframes),
        Spec::File(path) => file::run(path, encode, sink, stop, keyframes),
        Spec::Url(url) => web::run(url, encode, fetch, sink, stop, keyframes),
        Spec::Camera(path) => device::run_camera(path, encode, sink, stop, keyframes),
        Spec::Screen(screen) => device::run_screen(screen, encode, sink, stop, keyframes),
        Spec::Lavfi(source) => device::run_lavfi(source, encode, sink, stop, keyframes),
        Spec::AnnexbListen(address) => annexb::run_listener(*address, sink, stop),
        Spec::AnnexbConnect(address) => annexb::run_connection(address, sink, stop),
        Spec::AnnexbStdin => annexb::run_stdin(sink, stop),
        Spec::Android(serial) => android::run(serial, fleet, sink, stop, keyframes),
    };
    // What is interrupted ends in errors.
    if stop.is_stopped() { Ok(()) } else { ended }
}

/// Whether something can be read within `timeout`.
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
