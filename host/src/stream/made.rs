//! What is made of a stream's pictures natively: JPEGs and H.264 of other sizes, each once, while anybody uses it.

use super::{encoded, feed::Feed, frames::Frames, jpeg, status::Status, variant::Recipe};
use crate::{
    config,
    source::{Keyframes, Stop},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
};
use thiserror::Error;

/// Sizes and qualities of JPEGs that viewers may ask for at the same time, per stream.
const MOST_AD_HOC: usize = 4;
/// Decoded pictures that may wait for an encoder; one that is slower loses the oldest.
const MOST_WAITING: usize = 4;

/// Why something is not made.
#[derive(Debug, Error)]
pub enum MakeError {
    /// The bound of ad-hoc sizes is reached.
    #[error(
        "viewers of this stream already get {MOST_AD_HOC} other sizes or qualities; ask for one of those, for none, or later"
    )]
    TooMany,
    /// The system refuses a thread.
    #[error("no thread for converting the pictures: {0}")]
    Thread(#[from] std::io::Error),
}

/// A feed of something made. Its thread ends when the last holder lets go.
#[derive(Debug)]
pub struct Made {
    recipe: Recipe,
    feed: Arc<Feed>,
    keyframes: Keyframes,
    stop: Stop,
}

impl Made {
    /// The samples, on the stream's own timeline.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What it is made by.
    pub fn recipe(&self) -> Recipe {
        self.recipe
    }

    /// By which its encoder is asked for a keyframe.
    pub fn keyframes(&self) -> &Keyframes {
        &self.keyframes
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Where the pictures of one run are decoded and made into other things.
#[derive(Debug)]
pub(super) struct Workshop {
    stream: String,
    source: Arc<Feed>,
    started_at_us: u64,
    status: Arc<Status>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    frames: Weak<Frames>,
    made: Vec<Weak<Made>>,
}

impl Workshop {
    pub fn new(
        stream: &str,
        source: Arc<Feed>,
        started_at_us: u64,
        status: Arc<Status>,
    ) -> Workshop {
        Workshop {
            stream: stream.to_owned(),
            source,
            started_at_us,
            status,
            inner: Mutex::default(),
        }
    }

    /// What `recipe` gives, shared with all who want the same.
    pub fn make(&self, recipe: Recipe) -> Result<Arc<Made>, MakeError> {
        let mut inner = self.lock();
        inner.made.retain(|made| made.strong_count() > 0);
        let running: Vec<Arc<Made>> = inner.made.iter().filter_map(Weak::upgrade).collect();
        if let Some(made) = running.iter().find(|made| made.recipe == recipe) {
            return Ok(made.clone());
        }
        let is_ad_hoc = |recipe: &Recipe| matches!(recipe, Recipe::Jpeg { ad_hoc: true, .. });
        let ad_hoc = running.iter().filter(|made| is_ad_hoc(&made.recipe));
        if is_ad_hoc(&recipe) && ad_hoc.count() >= MOST_AD_HOC {
            return Err(MakeError::TooMany);
        }
        let frames = match inner.frames.upgrade() {
            Some(frames) => frames,
            None => Frames::start(&self.stream, &self.source, self.status.clone())?,
        };
        inner.frames = Arc::downgrade(&frames);
        let made = self.start(recipe, frames)?;
        inner.made.push(Arc::downgrade(&made));
        Ok(made)
    }

    /// Whether pictures are decoded.
    pub fn is_decoding(&self) -> bool {
        self.lock().frames.strong_count() > 0
    }

    /// Bytes of coded pictures held.
    pub fn bytes(&self) -> usize {
        let made = self.lock().made.clone();
        let running = made.iter().filter_map(Weak::upgrade);
        running.map(|made| made.feed.bytes()).sum()
    }

    /// How the encoders at work are set.
    pub fn encoders(&self) -> Vec<config::Encode> {
        let made = self.lock().made.clone();
        made.iter()
            .filter_map(Weak::upgrade)
            .filter_map(|made| match made.recipe {
                Recipe::H264(encoding) => Some(encoding.encode),
                Recipe::Jpeg { .. } => None,
            })
            .collect()
    }

    fn start(&self, recipe: Recipe, frames: Arc<Frames>) -> std::io::Result<Arc<Made>> {
        let made = Arc::new(Made {
            recipe,
            feed: Feed::new(self.started_at_us),
            keyframes: Keyframes::default(),
            stop: Stop::default(),
        });
        let (out, keyframes, stop) = (made.feed.clone(), made.keyframes.clone(), made.stop.clone());
        let (stream, status) = (self.stream.clone(), self.status.clone());
        let kind = match recipe {
            Recipe::Jpeg { .. } => "jpeg",
            Recipe::H264(_) => "encode",
        };
        thread::Builder::new()
            .name(format!("{kind} {stream}"))
            .spawn(move || {
                stop.attach();
                match recipe {
                    Recipe::Jpeg { look, .. } => {
                        let follower = frames.follow(1);
                        drop(frames);
                        jpeg::run(&follower, look, &stream, &out, &status.codec, &stop);
                    }
                    Recipe::H264(encoding) => {
                        let follower = frames.follow(MOST_WAITING);
                        drop(frames);
                        encoded::run(&follower, encoding, &out, &status, &keyframes, &stop);
                    }
                }
            })?;
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
