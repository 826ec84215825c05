//! Everything that is made from a stream natively, and shared by all who use it: decoded frames, JPEGs, H.264, AAC, and
//! joined feeds.
//!
//! [`Transcoders`] holds only weak references: a [`DerivedFeed`] lives while a muxer holds it, and its thread ends when
//! the last one drops it. A second request for the same [`Recipe`] gets the running feed. A joined feed holds the feeds
//! that it is joined from. [`StreamLease::derived_feed`](super::StreamLease::derived_feed) is the entry point; the work
//! is in `frames`, `encoded`, `jpeg`, `audio` and `joined`.

use super::{
    audio,
    catchup::EncoderInput,
    encoded,
    feed::Feed,
    frames::Frames,
    joined, jpeg,
    recipe::{Recipe, VideoTranscode},
    ring::{GroupNumbers, HistorySpan},
    status::Status,
};
use parking_lot::{Mutex, MutexGuard};
use sluicegate_config as config;
use sluicegate_source::{Keyframes, Stop};
use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use thiserror::Error;

/// Limit of ad-hoc JPEG sizes and qualities per stream at a time.
const MAX_AD_HOC: usize = 4;

/// Why a derived feed was not started.
#[derive(Debug, Error)]
pub enum DeriveError {
    /// The limit of ad-hoc sizes is reached.
    #[error(
        "viewers of this stream already use {MAX_AD_HOC} custom JPEG sizes or qualities; request one of those, omit `width` and `quality`, or try again later"
    )]
    TooMany,
    /// The system refuses a thread.
    #[error("cannot start a transcoder thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A feed that is derived from a stream. Its thread ends when the last holder drops it.
#[derive(Debug)]
pub struct DerivedFeed {
    recipe: Recipe,
    feed: Arc<Feed>,
    keyframes: Keyframes,
    caught_up: Arc<CaughtUp>,
    stop: Stop,
    /// The derived feeds that this one is joined from.
    _parts: Vec<Arc<DerivedFeed>>,
}

impl DerivedFeed {
    /// The feed of samples, on the stream's own timeline.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Handle to request a keyframe: from its encoder, or from the source if it joins the source's own video.
    pub fn keyframes(&self) -> &Keyframes {
        &self.keyframes
    }

    /// Whether it has caught up with the past, so that what follows is live.
    pub fn is_caught_up(&self) -> bool {
        self.caught_up.is_reached()
    }
}

/// Whether a derived feed that begins in the past has reached the present.
#[derive(Debug, Default)]
pub(super) struct CaughtUp(AtomicBool);

impl CaughtUp {
    /// Sets it; the first time, wakes the followers of `feed`.
    pub fn reached(&self, feed: &Feed) {
        if !self.0.swap(true, Ordering::Release) {
            feed.wake();
        }
    }

    /// Whether it is set.
    pub fn is_reached(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for DerivedFeed {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// The decoder and transcoders of one run of a stream.
#[derive(Debug)]
pub(super) struct Transcoders {
    stream: String,
    source: Arc<Feed>,
    keyframes: Keyframes,
    started_at_us: u64,
    status: Arc<Status>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    frames: Weak<Frames>,
    derived: Vec<Weak<DerivedFeed>>,
}

impl Transcoders {
    pub fn new(
        stream: &str,
        source: Arc<Feed>,
        keyframes: Keyframes,
        started_at_us: u64,
        status: Arc<Status>,
    ) -> Transcoders {
        Transcoders {
            stream: stream.to_owned(),
            source,
            keyframes,
            started_at_us,
            status,
            inner: Mutex::default(),
        }
    }

    /// Returns the feed of `recipe`, which all callers share. The first caller starts it, as far back as `past` says
    /// and the ring allows.
    pub fn derived_feed(
        &self,
        recipe: Recipe,
        past: HistorySpan,
    ) -> Result<Arc<DerivedFeed>, DeriveError> {
        let (video, audio) = match recipe {
            Recipe::Joined { video, aac } => {
                let video = video.map(|video| self.derived_feed(Recipe::Video(video), past));
                let audio = aac.then(|| self.derived_feed(Recipe::Aac, past));
                (video.transpose()?, audio.transpose()?)
            }
            _ => (None, None),
        };
        let mut inner = self.lock();
        inner.derived.retain(|derived| derived.strong_count() > 0);
        let running: Vec<Arc<DerivedFeed>> =
            inner.derived.iter().filter_map(Weak::upgrade).collect();
        if let Some(derived) = running.iter().find(|derived| derived.recipe == recipe) {
            return Ok(derived.clone());
        }
        let derived = match recipe {
            Recipe::Aac => self.start_audio(past)?,
            Recipe::Joined { .. } => self.join(recipe, video, audio, past)?,
            Recipe::Video(video) => {
                let is_ad_hoc = |recipe: &Recipe| {
                    matches!(
                        recipe,
                        Recipe::Video(VideoTranscode::Jpeg { ad_hoc: true, .. })
                    )
                };
                let ad_hoc = running.iter().filter(|derived| is_ad_hoc(&derived.recipe));
                if is_ad_hoc(&recipe) && ad_hoc.count() >= MAX_AD_HOC {
                    return Err(DeriveError::TooMany);
                }
                let frames = self.frames_of(&mut inner)?;
                self.start_video(video, frames, past)?
            }
        };
        inner.derived.push(Arc::downgrade(&derived));
        Ok(derived)
    }

    /// The shared decoder, started if it does not run.
    pub fn frames(&self) -> io::Result<Arc<Frames>> {
        self.frames_of(&mut self.lock())
    }

    fn frames_of(&self, inner: &mut Inner) -> io::Result<Arc<Frames>> {
        if let Some(frames) = inner.frames.upgrade() {
            return Ok(frames);
        }
        let frames = Frames::start(&self.stream, &self.source, self.status.clone())?;
        inner.frames = Arc::downgrade(&frames);
        Ok(frames)
    }

    /// Whether the shared decoder runs.
    pub fn is_decoding(&self) -> bool {
        self.lock().frames.strong_count() > 0
    }

    /// Bytes of coded media in the rings of the derived feeds.
    pub fn bytes(&self) -> usize {
        let derived = self.lock().derived.clone();
        let running = derived.iter().filter_map(Weak::upgrade);
        // The samples of joined feeds are those of their parts, or of the source.
        running
            .filter(|derived| !matches!(derived.recipe, Recipe::Joined { .. }))
            .map(|derived| derived.feed.bytes())
            .sum()
    }

    /// Settings of the running H.264 encoders.
    pub fn encoders(&self) -> Vec<config::Encode> {
        let derived = self.lock().derived.clone();
        derived
            .iter()
            .filter_map(Weak::upgrade)
            .filter_map(|derived| match derived.recipe {
                Recipe::Video(VideoTranscode::H264(encoding)) => Some(encoding.encode),
                _ => None,
            })
            .collect()
    }

    fn start_video(
        &self,
        video: VideoTranscode,
        frames: Arc<Frames>,
        past: HistorySpan,
    ) -> io::Result<Arc<DerivedFeed>> {
        let (kind, numbers) = match video {
            VideoTranscode::Jpeg { .. } => ("jpeg", self.own_numbers()),
            VideoTranscode::H264(_) => ("encode", self.source.numbers().encoded()),
        };
        let derived = Arc::new(DerivedFeed {
            recipe: Recipe::Video(video),
            feed: Feed::derived_from(&self.source, numbers),
            keyframes: Keyframes::default(),
            caught_up: Arc::default(),
            stop: Stop::default(),
            _parts: Vec::new(),
        });
        let (out, keyframes, stop) = (
            derived.feed.clone(),
            derived.keyframes.clone(),
            derived.stop.clone(),
        );
        let (stream, status) = (self.stream.clone(), self.status.clone());
        let (source, caught_up) = (self.source.clone(), derived.caught_up.clone());
        self.spawn(kind, move || {
            stop.attach();
            match video {
                VideoTranscode::Jpeg { jpeg_settings, .. } => {
                    let follower = frames.follow(1);
                    drop(frames);
                    // JPEGs are made of the newest frame only, so there is no past.
                    caught_up.reached(&out);
                    jpeg::run(&follower, jpeg_settings, &stream, &out, &status, &stop);
                }
                VideoTranscode::H264(encoding) => {
                    let video = EncoderInput::new(&source, frames, &out.numbers(), past, &status);
                    drop(source);
                    encoded::run(
                        video, encoding, &out, &status, &keyframes, &caught_up, &stop,
                    );
                }
            }
        })?;
        Ok(derived)
    }

    fn start_audio(&self, past: HistorySpan) -> io::Result<Arc<DerivedFeed>> {
        let derived = Arc::new(DerivedFeed {
            recipe: Recipe::Aac,
            feed: Feed::new(self.own_numbers()),
            keyframes: Keyframes::default(),
            caught_up: Arc::default(),
            stop: Stop::default(),
            _parts: Vec::new(),
        });
        let (source, out) = (self.source.clone(), derived.feed.clone());
        let (status, stop) = (self.status.clone(), derived.stop.clone());
        let caught_up = derived.caught_up.clone();
        self.spawn("audio", move || {
            stop.attach();
            audio::run(&source, &out, past, &status, &caught_up, &stop);
        })?;
        Ok(derived)
    }

    fn join(
        &self,
        recipe: Recipe,
        video: Option<Arc<DerivedFeed>>,
        audio: Option<Arc<DerivedFeed>>,
        past: HistorySpan,
    ) -> io::Result<Arc<DerivedFeed>> {
        let feed = |derived: &Option<Arc<DerivedFeed>>| {
            derived
                .as_ref()
                .map_or(&self.source, |derived| &derived.feed)
                .clone()
        };
        let keyframes = video
            .as_ref()
            .map_or(&self.keyframes, |derived| &derived.keyframes)
            .clone();
        let (video_side, audio_side) = (feed(&video), feed(&audio));
        let parts: Vec<Arc<DerivedFeed>> = video.into_iter().chain(audio).collect();
        let parts_caught_up: Vec<Arc<CaughtUp>> =
            parts.iter().map(|part| part.caught_up.clone()).collect();
        let derived = Arc::new(DerivedFeed {
            recipe,
            feed: Feed::derived_from(&video_side, video_side.numbers().followed()),
            keyframes,
            caught_up: Arc::default(),
            stop: Stop::default(),
            _parts: parts,
        });
        let (out, stop, caught_up) = (
            derived.feed.clone(),
            derived.stop.clone(),
            derived.caught_up.clone(),
        );
        let status = self.status.clone();
        let parts = joined::Parts {
            video_side,
            audio_side,
            derived: parts_caught_up,
        };
        self.spawn("join", move || {
            stop.attach();
            joined::run(&parts, past, &out, &caught_up, &status, &stop);
        })?;
        Ok(derived)
    }

    /// Numbering for feeds with groups of their own.
    fn own_numbers(&self) -> GroupNumbers {
        GroupNumbers::own(self.started_at_us, Duration::ZERO)
    }

    fn spawn(&self, kind: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let name = format!("{kind} {}", self.stream);
        thread::Builder::new().name(name).spawn(work).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}
