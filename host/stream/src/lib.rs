//! Streams: a source that runs while it has users, with its ring of recent samples.

mod catchup;
mod decoding;
mod encoded;
mod feed;
mod frames;
mod ingest;
mod joined;
mod jpeg;
mod offer;
mod registry;
mod ring;
mod sound;
mod status;
mod supervise;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod testing;
mod transcoders;
mod variant;

pub use encoded::H264Settings;
pub use feed::{Feed, Next, Reader, WakeOn};
pub use frames::{Decoded, DecoderState, Frames};
pub use ingest::Ingest;
pub use jpeg::JpegSettings;
pub use offer::{Offer, Peaks};
pub use registry::Streams;
pub use ring::{Bounds, Entry, Info, Numbers, Past, Ring};
pub use status::{Report, State, Status, Totals};
pub use transcoders::{DerivedFeed, MakeError};
pub use variant::{Ask, Pictures, Recipe, Selection, Variant};

use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_media::{sample::Format, time::Moment};
use sluicegate_source as source;
use sluicegate_source::{Fleet, Keyframes, Presence, Sink, SourceError, Spec, Stop};
use sluicegate_telemetry::{Events, contain, provoke};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};
use transcoders::Transcoders;

/// Between attempts to open a failed source: the first wait and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// A configured stream.
#[derive(Debug)]
pub struct Stream {
    /// As in the config and in paths.
    pub name: String,
    /// Where its pictures come from.
    pub source: Spec,
    fetch: config::Fetch,
    idle: Duration,
    always_on: bool,
    recipes: variant::Recipes,
    fleet: Arc<Fleet>,
    status: Arc<Status>,
    /// A thread finds out how encoders would do.
    learning: AtomicBool,
    control: Mutex<Control>,
}

#[derive(Debug, Default)]
struct Control {
    users: usize,
    run: Option<Arc<Run>>,
    unused_since: Option<Instant>,
    /// The thread of the run before, which may still be ending.
    ending: Option<JoinHandle<()>>,
}

/// One stretch of a source's work, from its first user to its idle stop.
#[derive(Debug)]
struct Run {
    feed: Arc<Feed>,
    stop: Stop,
    keyframes: Keyframes,
    transcoders: Transcoders,
}

impl Stream {
    /// A stream that does not run yet; what happens to it is told to `events`. If it is a device, it is one of `fleet`.
    pub fn new(
        name: &str,
        source: Spec,
        config: &config::Stream,
        events: &Arc<Events>,
        fleet: &Arc<Fleet>,
    ) -> Arc<Stream> {
        Arc::new(Stream {
            name: name.to_owned(),
            source,
            fetch: config.fetch(),
            idle: config.idle.duration(),
            always_on: config.always_on,
            recipes: variant::Recipes {
                encode: config.encode,
                renditions: config.renditions.clone(),
            },
            fleet: fleet.clone(),
            status: Arc::new(Status::new(name, events.clone())),
            learning: AtomicBool::new(false),
            control: Mutex::default(),
        })
    }

    /// Takes part in the stream; the source runs until an idle time after the last user left.
    pub fn enter(self: &Arc<Stream>) -> StreamLease {
        let mut control = self.lock();
        control.users += 1;
        control.unused_since = None;
        let run = match &control.run {
            Some(run) => run.clone(),
            None => {
                let (run, thread) = self.start(control.ending.take());
                control.run = Some(run.clone());
                control.ending = thread;
                run
            }
        };
        StreamLease {
            stream: self.clone(),
            run,
            unused_since: None,
        }
    }

    /// The tracks of its source, while that runs.
    pub fn info(&self) -> Option<Arc<Info>> {
        let run = self.lock().run.clone();
        run?.feed.info()
    }

    /// How it is doing.
    pub fn report(&self) -> Report {
        self.status.report(self.source.may_be_silent())
    }

    /// How its device is, for a stream that is one. A source that runs waits by itself for a device that is not ready.
    pub fn present(&self, presence: &Presence) {
        self.status.presence(presence);
    }

    /// What happened to it since the gateway started.
    pub fn totals(&self) -> Totals {
        self.status.totals()
    }

    /// Pictures decoded and made of it since the gateway started.
    pub fn codec(&self) -> &Arc<codec::Counts> {
        &self.status.codec
    }

    /// Bytes of coded pictures held in its rings.
    pub fn ring_bytes(&self) -> usize {
        let run = self.lock().run.clone();
        run.map_or(0, |run| run.feed.bytes() + run.transcoders.bytes())
    }

    /// Whether its pictures are being decoded.
    pub fn is_decoding(&self) -> bool {
        let run = self.lock().run.clone();
        run.is_some_and(|run| run.transcoders.is_decoding())
    }

    /// How the encoders that work on decoded pictures of it are set.
    pub fn encoders(&self) -> Vec<config::Encode> {
        let run = self.lock().run.clone();
        run.map(|run| run.transcoders.encoders())
            .unwrap_or_default()
    }

    /// Names of its renditions.
    pub fn renditions(&self) -> impl Iterator<Item = &String> + Clone {
        self.recipes.renditions.keys()
    }

    /// How a rendition of it is made.
    pub fn rendition(&self, name: &str) -> Option<&config::Rendition> {
        self.recipes.renditions.get(name)
    }

    /// What `variant` is while the source has these tracks, for a transport that takes `formats`. `None` if it cannot be had.
    pub fn choose(&self, variant: &Variant, info: &Info, formats: &[Format]) -> Option<Selection> {
        self.recipes.choose(variant, info, formats)
    }

    /// The stream and its renditions, best first, as a transport gets them that takes `formats`, while the source has these
    /// tracks. Finding out how encoders would do may take a moment, the first time: not for a thread that serves sockets.
    pub fn offers(&self, info: &Info, formats: &[Format]) -> Vec<Offer> {
        offer::offers(&self.recipes, info, formats, self.status.peaks())
    }

    /// The same without waiting, and without the codecs of what is encoded here; whether it can be is found out on the way by
    /// [`Stream::offers`] or [`Stream::learn`], and until then everything is offered. Says whether nothing is left to be found out.
    pub fn likely_offers(&self, info: &Info, formats: &[Format]) -> (Vec<Offer>, bool) {
        offer::likely_offers(&self.recipes, info, formats, self.status.peaks())
    }

    /// Has a thread of its own find out how encoders would do, unless one is at it.
    pub fn learn(self: &Arc<Stream>, info: &Arc<Info>, formats: &[Format]) {
        if self.learning.swap(true, Ordering::AcqRel) {
            return;
        }
        let (stream, info, formats) = (self.clone(), info.clone(), formats.to_vec());
        let spawned = thread::Builder::new()
            .name(format!("offers {}", self.name))
            .spawn(move || {
                if let Err(panicked) = contain(|| stream.offers(&info, &formats)) {
                    tracing::error!(stream = stream.name, "trying out encoders {panicked}");
                }
                stream.learning.store(false, Ordering::Release);
            });
        if spawned.is_err() {
            // Whoever asks next tries again.
            self.learning.store(false, Ordering::Release);
        }
    }

    /// How long it runs on after its last user.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    /// Whether nobody uses it and its source does not run.
    pub fn is_at_rest(&self) -> bool {
        let control = self.lock();
        control.users == 0 && control.run.is_none()
    }

    /// Whether it runs without users.
    pub fn always_on(&self) -> bool {
        self.always_on
    }

    /// Called now and then: stops the source if nobody used it for the idle time.
    pub fn tidy(&self, now: Instant) {
        let mut control = self.lock();
        let unused = control
            .unused_since
            .is_some_and(|since| now - since >= self.idle);
        if unused && control.users == 0 {
            self.end(&mut control);
        }
    }

    /// Stops the source whoever uses it; gives its thread, to be waited for.
    pub fn shut_down(&self) -> Option<JoinHandle<()>> {
        let mut control = self.lock();
        self.end(&mut control);
        control.ending.take()
    }

    fn end(&self, control: &mut Control) {
        control.unused_since = None;
        if let Some(run) = control.run.take() {
            run.stop.stop();
            self.status.idle();
        }
    }

    fn start(
        self: &Arc<Stream>,
        before: Option<JoinHandle<()>>,
    ) -> (Arc<Run>, Option<JoinHandle<()>>) {
        let began = Instant::now();
        let started_at_us = unix_us();
        let cell = self.recipes.encode.keyframe_interval.duration();
        let feed = Feed::new(Numbers::own(started_at_us, cell));
        let keyframes = Keyframes::default();
        let run = Arc::new(Run {
            stop: Stop::default(),
            transcoders: Transcoders::new(
                &self.name,
                feed.clone(),
                keyframes.clone(),
                started_at_us,
                self.status.clone(),
            ),
            keyframes,
            feed,
        });
        let clock = move || {
            provoke("source");
            Moment {
                unix_us: unix_us(),
                elapsed: began.elapsed(),
            }
        };
        let mut ingest = Ingest::new(
            run.feed.clone(),
            self.status.clone(),
            started_at_us,
            Box::new(clock),
        );
        let stream = self.clone();
        let (stop, keyframes) = (run.stop.clone(), run.keyframes.clone());
        self.status.starting();
        let spawned = thread::Builder::new()
            .name(format!("source {}", self.name))
            .spawn(move || {
                stop.attach();
                // Ports and devices of the run before are free only when its thread has ended.
                if let Some(before) = before {
                    let _ = before.join();
                }
                stream.status.starting();
                stream.supervise(&mut ingest, &stop, &keyframes);
                // Again, as the last sample may have come after `end` said so.
                if stop.is_stopped() {
                    stream.status.idle();
                }
            });
        match spawned {
            Ok(thread) => (run, Some(thread)),
            Err(error) => {
                self.status
                    .failed(format!("no thread for the source: {error}"));
                (run, None)
            }
        }
    }

    /// Runs the source again and again until told to stop. One that panics failed, as one that cannot be read.
    fn supervise(&self, ingest: &mut Ingest, stop: &Stop, keyframes: &Keyframes) {
        let mut wait = BACKOFF.0;
        let mut told = String::new();
        loop {
            let (began, before) = (Instant::now(), self.status.totals().samples);
            let encode = &self.recipes.encode;
            let ended = contain(|| {
                source::run(
                    &self.source,
                    encode,
                    &self.fetch,
                    ingest,
                    stop,
                    keyframes,
                    &self.fleet,
                )
            });
            let (reason, over) = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    let over = matches!(
                        (&self.source, &error),
                        (Spec::AnnexbStdin, SourceError::Ended(_))
                    );
                    (self.source.scrub(&error.to_string()), over)
                }
                Err(panicked) => (format!("reading the source {panicked}"), false),
            };
            if stop.is_stopped() {
                return;
            }
            if over {
                self.lose(ingest, &reason);
                self.status.failed(reason);
                return;
            }
            // A source that gave pictures for longer than it was waited for earns a quick retry; a reason is logged once.
            if began.elapsed() > wait && self.status.totals().samples > before {
                wait = BACKOFF.0;
            }
            if began.elapsed() > BACKOFF.1 {
                told.clear();
            }
            if told != reason {
                tracing::warn!(stream = self.name, "{reason}; retrying");
                told.clone_from(&reason);
            }
            self.lose(ingest, &reason);
            stop.wait(jittered(wait));
            wait = (wait * 2).min(BACKOFF.1);
            if stop.is_stopped() {
                return;
            }
        }
    }

    /// Tells everybody that the source is gone for now, even where a panic left `ingest` in disorder.
    fn lose(&self, ingest: &mut Ingest, reason: &str) {
        if let Err(panicked) = contain(|| ingest.lost(reason.to_owned())) {
            tracing::error!(stream = self.name, "giving up the source {panicked}");
            self.status.retrying(reason.to_owned());
        }
    }

    fn leave(&self, since: Instant) {
        let mut control = self.lock();
        control.users -= 1;
        if control.users == 0 {
            control.unused_since = Some(since);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a stream's source running.
#[derive(Debug)]
pub struct StreamLease {
    stream: Arc<Stream>,
    run: Arc<Run>,
    unused_since: Option<Instant>,
}

impl StreamLease {
    /// The samples as the source gives them.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.run.feed
    }

    /// Nobody has used it since then, so that the idle time counts from there.
    pub fn unused_since(&mut self, since: Instant) {
        self.unused_since = Some(since);
    }

    /// What `recipe` gives; made while anybody holds it. Who is the first to want it says from when on.
    pub fn make(&self, recipe: Recipe, past: Past) -> Result<Arc<DerivedFeed>, MakeError> {
        self.run.transcoders.make(recipe, past)
    }

    /// The decoded pictures, for whom the newest is enough; decoded while anybody holds them.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn frames(&self) -> std::io::Result<Arc<Frames>> {
        self.run.transcoders.frames()
    }

    /// By which the source is asked for a keyframe.
    pub fn keyframes(&self) -> &Keyframes {
        &self.run.keyframes
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        self.stream
            .leave(self.unused_since.unwrap_or_else(Instant::now));
    }
}

fn unix_us() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |passed| {
            u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
        })
}

/// Half to one and a half of `wait`, so that many sources lost at once do not all come back at once.
fn jittered(wait: Duration) -> Duration {
    let dice = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), unix_us());
    wait / 2 + wait.mul_f64((dice % 1000) as f64 / 1000.0)
}
