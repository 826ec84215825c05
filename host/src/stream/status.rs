//! How a stream is doing, as `/api/devices` tells it.

use crate::media::sample::Track;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// After this long without a sample a live stream is called silent.
const SILENT: Duration = Duration::from_secs(5);
/// Bit rates are averaged over this long.
const WINDOW: Duration = Duration::from_secs(2);

/// The states of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nobody uses it.
    Idle,
    /// Opening the source.
    Starting,
    /// Samples come.
    Live,
    /// Bytes come, but nothing decodable yet.
    WaitingForKeyframe,
    /// The source is there and says nothing.
    Silent,
    /// The source failed; another attempt follows.
    Retrying,
    /// The source ended for good.
    Failed,
}

/// A reading of a [`Status`].
#[derive(Clone, Debug)]
pub struct Report {
    /// Now.
    pub state: State,
    /// Why it is in that state.
    pub reason: String,
    /// Unix milliseconds.
    pub since: u64,
    /// The newest tracks.
    pub track: Option<Track>,
    /// From the source.
    pub bits_per_second: u64,
    /// Pictures a second, measured.
    pub frame_rate: f32,
    /// What is worth knowing: damage, groups that were cut.
    pub notes: Vec<String>,
}

/// Written by a stream's threads, read by the API.
#[derive(Debug)]
pub struct Status {
    inner: Mutex<Inner>,
    bytes: AtomicU64,
    samples: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    state: State,
    reason: String,
    since: SystemTime,
    track: Option<Track>,
    notes: BTreeMap<&'static str, (String, u64)>,
    last_sample: Instant,
    /// Bytes and samples at the last two window borders.
    window: (Instant, u64, u64),
    rates: (u64, f32),
}

impl Default for Status {
    fn default() -> Self {
        let now = Instant::now();
        Status {
            inner: Mutex::new(Inner {
                state: State::Idle,
                reason: "nobody is watching".into(),
                since: SystemTime::now(),
                track: None,
                notes: BTreeMap::new(),
                last_sample: now,
                window: (now, 0, 0),
                rates: (0, 0.0),
            }),
            bytes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
        }
    }
}

impl Status {
    /// The source is being opened.
    pub fn starting(&self) {
        self.lock()
            .enter(State::Starting, "opening the source".into());
    }

    /// The source waits for somebody to connect to it; `reason` says where.
    pub fn listening(&self, reason: String) {
        self.lock().enter(State::Starting, reason);
    }

    /// The source is open.
    pub fn connected(&self) {
        let mut inner = self.lock();
        if inner.state != State::Live {
            inner.enter(State::Starting, "connected; no picture yet".into());
        }
    }

    /// The source was stopped for want of users.
    pub fn idle(&self) {
        let mut inner = self.lock();
        inner.enter(State::Idle, "nobody is watching".into());
        inner.notes.clear();
        inner.rates = (0, 0.0);
    }

    /// The source failed and is tried again.
    pub fn retrying(&self, reason: String) {
        self.lock().enter(State::Retrying, reason);
    }

    /// The source ended for good.
    pub fn failed(&self, reason: String) {
        self.lock().enter(State::Failed, reason);
    }

    /// A sample went out.
    pub fn live(&self) {
        self.samples.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        inner.last_sample = Instant::now();
        if inner.state != State::Live {
            inner.enter(State::Live, "pictures come".into());
            // Rates are of the time since pictures come, not of the silence before.
            inner.window = (
                inner.last_sample,
                self.bytes.load(Ordering::Relaxed),
                self.samples.load(Ordering::Relaxed),
            );
            inner.rates = (
                0,
                inner.track.as_ref().map_or(0.0, |track| track.frame_rate),
            );
        }
    }

    /// Pictures come that cannot be decoded, for this reason.
    pub fn waiting_for_keyframe(&self, reason: &str) {
        let mut inner = self.lock();
        if inner.state != State::WaitingForKeyframe {
            inner.enter(State::WaitingForKeyframe, reason.into());
        }
    }

    /// The tracks are these now.
    pub fn tracks(&self, track: &Track) {
        self.lock().track = Some(track.clone());
    }

    /// Bytes came from the source.
    pub fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether the newest group is larger than the ring.
    pub fn cut(&self, cut: bool) {
        const KEY: &str = "group";
        let mut inner = self.lock();
        if cut != inner.notes.contains_key(KEY) {
            if cut {
                let text = "the group of pictures is larger than the ring: late viewers start at the next keyframe; a shorter keyframe interval helps";
                inner.notes.insert(KEY, (text.into(), 1));
            } else {
                inner.notes.remove(KEY);
            }
        }
    }

    /// Something worth knowing, once per `key` with the newest text and a count.
    pub fn note(&self, key: &'static str, text: String) {
        let mut inner = self.lock();
        let note = inner.notes.entry(key).or_insert_with(|| (String::new(), 0));
        *note = (text, note.1 + 1);
        if note.1 == 1 {
            tracing::warn!("{}", note.0);
        }
    }

    /// How it is doing. `may_be_silent`: silence is this source's right.
    pub fn report(&self, may_be_silent: bool) -> Report {
        let (bytes, samples) = (
            self.bytes.load(Ordering::Relaxed),
            self.samples.load(Ordering::Relaxed),
        );
        let now = Instant::now();
        let mut inner = self.lock();
        let passed = now - inner.window.0;
        if passed >= WINDOW {
            let seconds = passed.as_secs_f64();
            inner.rates = (
                ((bytes - inner.window.1) as f64 * 8.0 / seconds) as u64,
                ((samples - inner.window.2) as f64 / seconds) as f32,
            );
            inner.window = (now, bytes, samples);
        }
        let quiet = now - inner.last_sample;
        let silent = inner.state == State::Live && quiet > SILENT;
        let (state, reason) = if silent {
            let right = if may_be_silent {
                "; this source may be still"
            } else {
                ""
            };
            (
                State::Silent,
                format!("no picture for {} s{right}", quiet.as_secs()),
            )
        } else {
            (inner.state, inner.reason.clone())
        };
        let since = if silent {
            SystemTime::now() - (quiet - SILENT)
        } else {
            inner.since
        };
        Report {
            state,
            reason,
            since: unix_ms(since),
            track: inner.track.clone(),
            bits_per_second: inner.rates.0,
            frame_rate: inner.rates.1,
            notes: inner
                .notes
                .values()
                .map(|(text, times)| {
                    if *times > 1 {
                        format!("{text} ({times} times)")
                    } else {
                        text.clone()
                    }
                })
                .collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn enter(&mut self, state: State, reason: String) {
        if self.state != state {
            self.since = SystemTime::now();
        }
        (self.state, self.reason) = (state, reason);
    }
}

/// Unix milliseconds.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |passed| {
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    })
}
