//! Streams: a source that runs while it is in use, and the ring of its recent samples.
//!
//! A [`Stream`] is a configured source under a name. Its source runs on a thread of its own from the first
//! [`StreamLease`] until `idle` after the last one is dropped; a source that fails or panics is retried with backoff.
//! One such stretch is a run: it has one timeline, one feed and one set of transcoders, and group numbers and epochs
//! continue across retries within it. The settings of a stream can change while it runs ([`Stream::change`]): only what
//! they concern begins anew, and a new source continues the run like a source that was lost and came back.
//!
//! `ingest` turns what the source reads into samples, `ring` and `feed` keep and distribute them, `transcoders` make
//! every derived form (JPEG, H.264 renditions, AAC) once while it is used, and `status` is what `/api/devices` reports.
//! Callers are the muxers (`host/plugin`), captures (`host/capture`) and the gateway's API.

mod audio;
mod catchup;
mod decoding;
mod encoded;
mod feed;
mod frames;
mod info;
mod ingest;
mod joined;
mod jpeg;
mod offer;
mod peak;
mod recipe;
mod registry;
mod ring;
mod settings;
mod status;
mod supervise;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod testing;
mod transcoders;
mod variant;

pub use feed::{Feed, Next, Reader, WakeOn};
pub use frames::{Decoded, DecoderState, Frames};
pub use info::Info;
pub use ingest::Ingest;
pub use offer::{Offer, Peaks};
pub use recipe::{H264Settings, JpegSettings, Recipe, VideoTranscode};
pub use registry::Streams;
pub use ring::{Bounds, Entry, GroupNumbers, HistorySpan, Ring};
pub use status::{Report, State, Status, Totals};
pub use transcoders::{DeriveError, DerivedFeed};
pub use variant::{Selection, Variant, VariantOptions};

use parking_lot::{Mutex, MutexGuard, RwLock};
use settings::{Attempt, Settings};
use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_media::{sample::Format, time::Moment};
use sluicegate_source::{Keyframes, Presence, Sink, Source, SourceContext, SourceError, Stop};
use sluicegate_telemetry::{Backoff, Events, contain, panic_point};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};
use transcoders::Transcoders;

/// Backoff between attempts to open a failed source; each delay is jittered.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// A configured stream.
#[derive(Debug)]
pub struct Stream {
    /// Name of the stream in the config and in URL paths.
    pub name: String,
    settings: RwLock<Arc<Settings>>,
    /// Whether the stream does not exist any more.
    removed: AtomicBool,
    status: Arc<Status>,
    /// Whether a thread is probing the encoders; see [`Stream::probe_encoders`].
    probing: AtomicBool,
    control: Mutex<Control>,
}

#[derive(Debug, Default)]
struct Control {
    users: usize,
    run: Option<Arc<Run>>,
    unused_since: Option<Instant>,
    /// Thread of the previous run, which may not have ended yet.
    ending: Option<JoinHandle<()>>,
}

/// One run: from the source's first user to its idle stop.
#[derive(Debug)]
struct Run {
    feed: Arc<Feed>,
    stop: Stop,
    /// The current attempt to run the source.
    attempt: Mutex<Attempt>,
    keyframes: Keyframes,
    transcoders: Transcoders,
}

impl Run {
    /// Begins another attempt to run the source, with the newest settings. It is stopped from the beginning if the run
    /// is.
    fn begin_attempt(&self, settings: &RwLock<Arc<Settings>>) -> Attempt {
        let mut current = self.attempt.lock();
        // Read under the lock: a change is either in what is read, or stops this attempt.
        let attempt = Attempt::new(settings.read().clone());
        attempt.stop.attach();
        *current = attempt.clone();
        if self.stop.is_stopped() {
            attempt.stop.stop();
        }
        attempt
    }

    fn stop(&self) {
        self.stop.stop();
        self.attempt.lock().stop.stop();
    }
}

impl Stream {
    /// Creates a stream that does not run yet. State changes are published to `events`.
    pub fn new(
        name: &str,
        source: Arc<dyn Source>,
        config: &config::Stream,
        events: &Arc<Events>,
    ) -> Arc<Stream> {
        Arc::new(Stream {
            name: name.to_owned(),
            settings: RwLock::new(Arc::new(Settings::new(source, config, 0))),
            removed: AtomicBool::new(false),
            status: Arc::new(Status::new(name, events.clone())),
            probing: AtomicBool::new(false),
            control: Mutex::default(),
        })
    }

    /// Takes other settings. What runs goes on, except for what they concern: another source takes the place of the one
    /// that runs, muxers turn to other forms of the stream, and a source that encodes begins anew with other encoder
    /// settings. Viewers stay.
    pub fn change(&self, source: Arc<dyn Source>, config: &config::Stream) {
        {
            let mut settings = self.settings.write();
            let mut new = Settings::new(source, config, settings.changes);
            new.changes += u64::from(new.recipes != settings.recipes);
            *settings = Arc::new(new);
        }
        let run = self.lock().run.clone();
        let Some(run) = run else { return };
        run.attempt.lock().take_over(&self.settings());
        // Muxers look for their form of the stream.
        run.feed.wake();
    }

    /// Ends the stream, which does not exist any more: its source does not start again. Returns the thread of the
    /// source, for the caller to join.
    pub fn remove(&self) -> Option<JoinHandle<()>> {
        self.removed.store(true, Ordering::Release);
        self.shut_down()
    }

    /// Whether the stream does not exist any more.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// The source as configured.
    pub fn source(&self) -> Arc<dyn Source> {
        self.settings().source.clone()
    }

    /// Number of changes so far of the forms that the stream has.
    pub fn changes(&self) -> u64 {
        self.settings.read().changes
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings.read().clone()
    }

    /// Takes a lease on the stream, starting the source if necessary. The source runs until `idle` after the last lease
    /// was dropped.
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

    /// Current tracks of the source; `None` while it does not run or has none yet.
    pub fn info(&self) -> Option<Arc<Info>> {
        let run = self.lock().run.clone();
        run?.feed.info()
    }

    /// Current state and rates of the stream, for the API.
    pub fn report(&self) -> Report {
        self.status.report(self.source().may_be_silent())
    }

    /// Sets the availability of the device behind this stream, for a stream that is one. A running source waits by
    /// itself for a device that is not ready.
    pub fn present(&self, presence: &Presence) {
        self.status.presence(presence);
    }

    /// Counters of this stream since the gateway started.
    pub fn totals(&self) -> Totals {
        self.status.totals()
    }

    /// Counts of frames decoded and encoded for this stream since the gateway started.
    pub fn codec(&self) -> &Arc<codec::Counts> {
        &self.status.codec
    }

    /// Bytes of coded media in the rings of this stream, its derived feeds included; 0 while it does not run.
    pub fn ring_bytes(&self) -> usize {
        let run = self.lock().run.clone();
        run.map_or(0, |run| run.feed.bytes() + run.transcoders.bytes())
    }

    /// Whether a decoder runs for this stream.
    pub fn is_decoding(&self) -> bool {
        let run = self.lock().run.clone();
        run.is_some_and(|run| run.transcoders.is_decoding())
    }

    /// Encoder settings of each running H.264 transcoder of this stream.
    pub fn encoders(&self) -> Vec<config::Encode> {
        let run = self.lock().run.clone();
        run.map(|run| run.transcoders.encoders())
            .unwrap_or_default()
    }

    /// Names of the configured renditions.
    pub fn renditions(&self) -> Vec<String> {
        let settings = self.settings();
        settings.recipes.renditions.keys().cloned().collect()
    }

    /// Config of the rendition `name`.
    pub fn rendition(&self, name: &str) -> Option<config::Rendition> {
        self.settings.read().recipes.renditions.get(name).cloned()
    }

    /// Resolves `variant` for a transport that takes `formats`, while the source has the tracks `info`. `None` if the
    /// variant does not exist or has no track in any of the formats.
    pub fn choose(&self, variant: &Variant, info: &Info, formats: &[Format]) -> Option<Selection> {
        self.settings().recipes.choose(variant, info, formats)
    }

    /// Offers of the stream and its renditions, best first, for a transport that takes `formats`, while the source has
    /// the tracks `info`.
    ///
    /// Probes the encoders the first time, which may take a moment: do not call it on a thread that serves sockets.
    pub fn offers(&self, info: &Info, formats: &[Format]) -> Vec<Offer> {
        offer::offers(&self.settings().recipes, info, formats, self.status.peaks())
    }

    /// Like [`Stream::offers`] but never blocks: forms that are encoded by the gateway have no codec string, and those
    /// whose encoder was not probed yet are offered as if it worked. The flag says whether all encoders have been
    /// probed, by [`Stream::offers`] or [`Stream::probe_encoders`].
    pub fn offers_without_probing(&self, info: &Info, formats: &[Format]) -> (Vec<Offer>, bool) {
        offer::offers_without_probing(&self.settings().recipes, info, formats, self.status.peaks())
    }

    /// Probes the encoders on a thread of its own, unless one is doing so already.
    pub fn probe_encoders(self: &Arc<Stream>, info: &Arc<Info>, formats: &[Format]) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (stream, info, formats) = (self.clone(), info.clone(), formats.to_vec());
        let spawned = thread::Builder::new()
            .name(format!("offers {}", self.name))
            .spawn(move || {
                if let Err(panicked) = contain(|| stream.offers(&info, &formats)) {
                    tracing::error!(stream = stream.name, "probing the encoders {panicked}");
                }
                stream.probing.store(false, Ordering::Release);
            });
        if spawned.is_err() {
            // The next caller tries again.
            self.probing.store(false, Ordering::Release);
        }
    }

    /// How long the source keeps running after its last user left.
    pub fn idle(&self) -> Duration {
        self.settings.read().idle
    }

    /// Whether the stream has no users and its source does not run.
    pub fn is_inactive(&self) -> bool {
        let control = self.lock();
        control.users == 0 && control.run.is_none()
    }

    /// Whether the source runs even without users.
    pub fn always_on(&self) -> bool {
        self.settings.read().always_on
    }

    /// Called periodically: stops the source if it was unused for the idle time.
    pub fn tidy(&self, now: Instant) {
        let mut control = self.lock();
        let unused = control
            .unused_since
            .is_some_and(|since| now - since >= self.idle());
        if unused && control.users == 0 {
            self.end(&mut control);
        }
    }

    /// Stops the source regardless of its users. Returns its thread, for the caller to join.
    pub fn shut_down(&self) -> Option<JoinHandle<()>> {
        let mut control = self.lock();
        self.end(&mut control);
        control.ending.take()
    }

    fn end(&self, control: &mut Control) {
        control.unused_since = None;
        if let Some(run) = control.run.take() {
            run.stop();
            self.status.idle();
        }
    }

    fn start(
        self: &Arc<Stream>,
        before: Option<JoinHandle<()>>,
    ) -> (Arc<Run>, Option<JoinHandle<()>>) {
        let began = Instant::now();
        let started_at_us = unix_us();
        let settings = self.settings();
        let cell = settings.recipes.encode.keyframe_interval.duration();
        let feed = Feed::new(GroupNumbers::own(started_at_us, cell));
        let keyframes = Keyframes::default();
        let run = Arc::new(Run {
            stop: Stop::default(),
            attempt: Mutex::new(Attempt::new(settings)),
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
            panic_point("source");
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
        if self.is_removed() {
            self.status.failed("the stream was removed".into());
            run.stop();
            return (run, before);
        }
        let (stream, running) = (self.clone(), run.clone());
        self.status.starting();
        let spawned = thread::Builder::new()
            .name(format!("source {}", self.name))
            .spawn(move || {
                running.stop.attach();
                // Ports and devices of the previous run are free only when its thread has ended.
                if let Some(before) = before {
                    let _ = before.join();
                }
                stream.status.starting();
                stream.supervise(&mut ingest, &running);
                // Set again, since the last sample may have arrived after `end` set it.
                if running.stop.is_stopped() {
                    stream.status.idle();
                }
            });
        match spawned {
            Ok(thread) => (run, Some(thread)),
            Err(error) => {
                self.status
                    .failed(format!("cannot start a thread for the source: {error}"));
                (run, None)
            }
        }
    }

    /// Runs the source repeatedly until it is stopped. A panic counts as a failure, like a read error.
    fn supervise(&self, ingest: &mut Ingest, run: &Run) {
        let mut backoff = BACKOFF;
        let mut logged_reason = String::new();
        loop {
            let attempt = run.begin_attempt(&self.settings);
            if run.stop.is_stopped() {
                return;
            }
            let Attempt {
                settings,
                stop,
                encode,
            } = &attempt;
            let source = &settings.source;
            let (began, before) = (Instant::now(), self.status.totals().samples);
            let ended = contain(|| {
                source.run(&mut SourceContext {
                    sink: ingest,
                    stop,
                    keyframes: &run.keyframes,
                    encode,
                    fetch: &settings.fetch,
                })
            });
            let (reason, over) = match ended {
                Ok(Ok(())) if !stop.is_stopped() => return,
                Ok(Ok(())) => (String::new(), false),
                Ok(Err(error)) => {
                    let over = source.is_finite() && matches!(error, SourceError::Ended(_));
                    (source.scrub(&error.to_string()), over)
                }
                Err(panicked) => (format!("reading the source {panicked}"), false),
            };
            if run.stop.is_stopped() {
                return;
            }
            if stop.is_stopped() {
                // Another source, or the same one with other settings, begins at once.
                self.report_loss(ingest, "the settings of the stream were changed");
                backoff.reset();
                logged_reason.clear();
                continue;
            }
            if over {
                self.report_loss(ingest, &reason);
                self.status.failed(reason);
                // Only another source can follow.
                stop.wait_for_stop();
                continue;
            }
            // A source that delivered for longer than its next delay would be starts again with the shortest one. A
            // reason is logged once, not for every attempt.
            if began.elapsed() > backoff.upcoming() && self.status.totals().samples > before {
                backoff.reset();
            }
            if began.elapsed() > backoff.longest() {
                logged_reason.clear();
            }
            if logged_reason != reason {
                tracing::warn!(stream = self.name, "{reason}; retrying");
                logged_reason.clone_from(&reason);
            }
            self.report_loss(ingest, &reason);
            stop.wait(jittered(backoff.next_delay()));
            if stop.is_stopped() {
                backoff.reset();
                logged_reason.clear();
            }
        }
    }

    /// Announces that the source is lost for now, even if a panic left `ingest` in an inconsistent state.
    fn report_loss(&self, ingest: &mut Ingest, reason: &str) {
        if let Err(panicked) = contain(|| ingest.lost(reason.to_owned())) {
            tracing::error!(
                stream = self.name,
                "handling the loss of the source {panicked}"
            );
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
        self.control.lock()
    }
}

/// Lease that keeps a stream's source running.
#[derive(Debug)]
pub struct StreamLease {
    stream: Arc<Stream>,
    run: Arc<Run>,
    unused_since: Option<Instant>,
}

impl StreamLease {
    /// The feed of samples as the source delivers them.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.run.feed
    }

    /// Declares that this lease was last used at `since`: the stream's idle time counts from then instead of from the
    /// drop.
    pub fn unused_since(&mut self, since: Instant) {
        self.unused_since = Some(since);
    }

    /// Returns the derived feed of `recipe`, which is shared and produced while anyone holds it. `past` is how far back
    /// it begins; it applies only if this call starts it.
    ///
    /// # Errors
    /// Too many ad-hoc JPEG sizes are in use, or the system refuses a thread.
    pub fn derived_feed(
        &self,
        recipe: Recipe,
        past: HistorySpan,
    ) -> Result<Arc<DerivedFeed>, DeriveError> {
        self.run.transcoders.derived_feed(recipe, past)
    }

    /// Returns the stream's shared decoder, for consumers that need only the newest frames. Frames are decoded while
    /// anyone holds it.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn frames(&self) -> std::io::Result<Arc<Frames>> {
        self.run.transcoders.frames()
    }

    /// Handle to request a keyframe from the source.
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

/// Adds jitter: half to one and a half of `wait`, so that many sources that were lost at once do not all reconnect at
/// once.
fn jittered(wait: Duration) -> Duration {
    wait / 2 + wait.mul_f64(fastrand::f64())
}
