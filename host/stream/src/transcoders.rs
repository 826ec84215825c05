//! What is made of a stream natively: JPEGs and H.264 of other sizes, AAC, each once, while anybody uses it.

use super::{
    catchup::Pictures as Input,
    encoded,
    feed::Feed,
    frames::Frames,
    joined, jpeg,
    ring::{Numbers, Past},
    sound,
    status::Status,
    variant::{Pictures, Recipe},
};
use sluicegate_config as config;
use sluicegate_source::{Keyframes, Stop};
use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use thiserror::Error;

/// Sizes and qualities of JPEGs that viewers may ask for at the same time, per stream.
const MAX_AD_HOC: usize = 4;

/// Why something is not made.
#[derive(Debug, Error)]
pub enum MakeError {
    /// The bound of ad-hoc sizes is reached.
    #[error(
        "viewers of this stream already get {MAX_AD_HOC} other sizes or qualities; ask for one of those, for none, or later"
    )]
    TooMany,
    /// The system refuses a thread.
    #[error("no thread for converting the stream: {0}")]
    Thread(#[from] std::io::Error),
}

/// A feed of something made. Its thread ends when the last holder lets go.
#[derive(Debug)]
pub struct DerivedFeed {
    recipe: Recipe,
    feed: Arc<Feed>,
    keyframes: Keyframes,
    current: Arc<Current>,
    stop: Stop,
    /// What it is made of in turn.
    _parts: Vec<Arc<DerivedFeed>>,
}

impl DerivedFeed {
    /// The samples, on the stream's own timeline.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// By which its encoder is asked for a keyframe.
    pub fn keyframes(&self) -> &Keyframes {
        &self.keyframes
    }

    /// Whether its past has been made: what comes from now on is of the present.
    pub fn is_current(&self) -> bool {
        self.current.is_reached()
    }
}

/// Whether something that begins in the past has come to the present.
#[derive(Debug, Default)]
pub(super) struct Current(AtomicBool);

impl Current {
    /// It has; whoever follows `feed` is woken the first time.
    pub fn reached(&self, feed: &Feed) {
        if !self.0.swap(true, Ordering::Release) {
            feed.wake();
        }
    }

    /// Whether it has.
    pub fn is_reached(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for DerivedFeed {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Where the pictures of one run are decoded and made into other things.
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
    made: Vec<Weak<DerivedFeed>>,
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

    /// What `recipe` gives, shared with all who want the same. If nobody has so far, it begins as far back as `past` says and
    /// can be had.
    pub fn make(&self, recipe: Recipe, past: Past) -> Result<Arc<DerivedFeed>, MakeError> {
        let (pictures, sound) = match recipe {
            Recipe::Joined { pictures, aac } => {
                let pictures = pictures.map(|pictures| self.make(Recipe::Pictures(pictures), past));
                let sound = aac.then(|| self.make(Recipe::Aac, past));
                (pictures.transpose()?, sound.transpose()?)
            }
            _ => (None, None),
        };
        let mut inner = self.lock();
        inner.made.retain(|made| made.strong_count() > 0);
        let running: Vec<Arc<DerivedFeed>> = inner.made.iter().filter_map(Weak::upgrade).collect();
        if let Some(made) = running.iter().find(|made| made.recipe == recipe) {
            return Ok(made.clone());
        }
        let made = match recipe {
            Recipe::Aac => self.start_sound(past)?,
            Recipe::Joined { .. } => self.join(recipe, pictures, sound, past)?,
            Recipe::Pictures(pictures) => {
                let is_ad_hoc = |recipe: &Recipe| {
                    matches!(
                        recipe,
                        Recipe::Pictures(Pictures::Jpeg { ad_hoc: true, .. })
                    )
                };
                let ad_hoc = running.iter().filter(|made| is_ad_hoc(&made.recipe));
                if is_ad_hoc(&recipe) && ad_hoc.count() >= MAX_AD_HOC {
                    return Err(MakeError::TooMany);
                }
                let frames = self.frames_of(&mut inner)?;
                self.start_pictures(pictures, frames, past)?
            }
        };
        inner.made.push(Arc::downgrade(&made));
        Ok(made)
    }

    /// The decoded pictures, shared with all who make something of them.
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

    /// Whether pictures are decoded.
    pub fn is_decoding(&self) -> bool {
        self.lock().frames.strong_count() > 0
    }

    /// Bytes of coded pictures held.
    pub fn bytes(&self) -> usize {
        let made = self.lock().made.clone();
        let running = made.iter().filter_map(Weak::upgrade);
        // What is joined is the parts' own.
        running
            .filter(|made| !matches!(made.recipe, Recipe::Joined { .. }))
            .map(|made| made.feed.bytes())
            .sum()
    }

    /// How the encoders at work are set.
    pub fn encoders(&self) -> Vec<config::Encode> {
        let made = self.lock().made.clone();
        made.iter()
            .filter_map(Weak::upgrade)
            .filter_map(|made| match made.recipe {
                Recipe::Pictures(Pictures::H264(encoding)) => Some(encoding.encode),
                _ => None,
            })
            .collect()
    }

    fn start_pictures(
        &self,
        pictures: Pictures,
        frames: Arc<Frames>,
        past: Past,
    ) -> io::Result<Arc<DerivedFeed>> {
        let (kind, numbers) = match pictures {
            Pictures::Jpeg { .. } => ("jpeg", self.own_numbers()),
            Pictures::H264(_) => ("encode", self.source.numbers().encoded()),
        };
        let made = Arc::new(DerivedFeed {
            recipe: Recipe::Pictures(pictures),
            feed: Feed::made_of(&self.source, numbers),
            keyframes: Keyframes::default(),
            current: Arc::default(),
            stop: Stop::default(),
            _parts: Vec::new(),
        });
        let (out, keyframes, stop) = (made.feed.clone(), made.keyframes.clone(), made.stop.clone());
        let (stream, status) = (self.stream.clone(), self.status.clone());
        let (source, current) = (self.source.clone(), made.current.clone());
        self.spawn(kind, move || {
            stop.attach();
            match pictures {
                Pictures::Jpeg { look, .. } => {
                    let follower = frames.follow(1);
                    drop(frames);
                    // Only the newest counts.
                    current.reached(&out);
                    jpeg::run(&follower, look, &stream, &out, &status, &stop);
                }
                Pictures::H264(encoding) => {
                    let pictures = Input::new(&source, frames, &out.numbers(), past, &status);
                    drop(source);
                    encoded::run(
                        pictures, encoding, &out, &status, &keyframes, &current, &stop,
                    );
                }
            }
        })?;
        Ok(made)
    }

    fn start_sound(&self, past: Past) -> io::Result<Arc<DerivedFeed>> {
        let made = Arc::new(DerivedFeed {
            recipe: Recipe::Aac,
            feed: Feed::new(self.own_numbers()),
            keyframes: Keyframes::default(),
            current: Arc::default(),
            stop: Stop::default(),
            _parts: Vec::new(),
        });
        let (source, out) = (self.source.clone(), made.feed.clone());
        let (status, stop) = (self.status.clone(), made.stop.clone());
        let current = made.current.clone();
        self.spawn("sound", move || {
            stop.attach();
            sound::run(&source, &out, past, &status, &current, &stop);
        })?;
        Ok(made)
    }

    fn join(
        &self,
        recipe: Recipe,
        pictures: Option<Arc<DerivedFeed>>,
        sound: Option<Arc<DerivedFeed>>,
        past: Past,
    ) -> io::Result<Arc<DerivedFeed>> {
        let feed = |made: &Option<Arc<DerivedFeed>>| {
            made.as_ref()
                .map_or(&self.source, |made| &made.feed)
                .clone()
        };
        let keyframes = pictures
            .as_ref()
            .map_or(&self.keyframes, |made| &made.keyframes)
            .clone();
        let (seen, heard) = (feed(&pictures), feed(&sound));
        let parts: Vec<Arc<DerivedFeed>> = pictures.into_iter().chain(sound).collect();
        let of_parts: Vec<Arc<Current>> = parts.iter().map(|part| part.current.clone()).collect();
        let made = Arc::new(DerivedFeed {
            recipe,
            feed: Feed::made_of(&seen, seen.numbers().followed()),
            keyframes,
            current: Arc::default(),
            stop: Stop::default(),
            _parts: parts,
        });
        let (out, stop, current) = (made.feed.clone(), made.stop.clone(), made.current.clone());
        let status = self.status.clone();
        let parts = joined::Parts {
            seen,
            heard,
            made: of_parts,
        };
        self.spawn("join", move || {
            stop.attach();
            joined::run(&parts, past, &out, &current, &status, &stop);
        })?;
        Ok(made)
    }

    /// For what has groups of its own.
    fn own_numbers(&self) -> Numbers {
        Numbers::own(self.started_at_us, Duration::ZERO)
    }

    fn spawn(&self, kind: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let name = format!("{kind} {}", self.stream);
        thread::Builder::new().name(name).spawn(work).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
