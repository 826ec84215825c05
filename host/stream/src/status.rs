//! State of a stream as `/api/devices` reports it: what it is doing and why, its tracks, measured rates, notes and
//! counters.
//!
//! A [`Status`] is written by the threads of a stream and read by the API. Every change of state is also published as
//! an event. A silence is detected only when somebody reads the report, since no thread watches for it. While the
//! device behind a stream is away, that is reported instead of the state of its source.

mod notes;
mod rates;
mod state;

pub use state::State;

use super::{info::Info, offer::Peaks, peak::Peak};
use notes::Notes;
use parking_lot::{Mutex, MutexGuard};
use rates::Rates;
use sluicegate_codec as codec;
use sluicegate_media::sample::{Audio, Sample, Video};
use sluicegate_source::Presence;
use sluicegate_telemetry::{Events, unix_ms};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// A live stream without a sample for this long is reported as silent.
const SILENT: Duration = Duration::from_secs(5);

/// Snapshot of a [`Status`].
#[derive(Clone, Debug)]
pub struct Report {
    /// Current state.
    pub state: State,
    /// Why the stream is in that state, for people.
    pub reason: String,
    /// When it entered the state, in Unix milliseconds.
    pub since: u64,
    /// Newest video track.
    pub video: Option<Video>,
    /// Newest audio track.
    pub audio: Option<Audio>,
    /// Measured bit rate from the source.
    pub bits_per_second: u64,
    /// Measured frame rate; the declared one until a window has passed.
    pub frame_rate: f32,
    /// Problems worth knowing, such as damage or groups that were cut.
    pub notes: Vec<String>,
}

/// Counters of a stream since the gateway started; they never decrease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes received from the source.
    pub bytes: u64,
    /// Video frames published.
    pub samples: u64,
    /// How often the source failed or ended.
    pub failures: u64,
    /// How often the source returned after a failure.
    pub restarts: u64,
    /// Groups that exceeded the ring's limits.
    pub cut_groups: u64,
}

/// The state of a stream, shared by its threads and the API. Changes of state are also published as events.
#[derive(Debug)]
pub struct Status {
    stream: String,
    events: Arc<Events>,
    inner: Mutex<Inner>,
    bytes: AtomicU64,
    samples: AtomicU64,
    /// Frames decoded and encoded for this stream, by any of its threads.
    pub codec: Arc<codec::Counts>,
}

/// Payload of the event `stream`.
#[derive(serde::Serialize)]
struct StateEvent<'a> {
    serial: &'a str,
    state: State,
    reason: &'a str,
    since: u64,
}

/// Payload of the event `group-cut`.
#[derive(serde::Serialize)]
struct GroupCutEvent<'a> {
    serial: &'a str,
    reason: &'a str,
}

#[derive(Debug)]
struct Inner {
    state: State,
    reason: String,
    since: SystemTime,
    /// If the device is away: the state to report instead, its reason and since when.
    away: Option<(State, String, SystemTime)>,
    video: Option<Video>,
    audio: Option<Audio>,
    video_peak: Peak,
    audio_peak: Peak,
    notes: Notes,
    last_sample: Instant,
    rates: Rates,
    /// The state and reason that were published last.
    published: (State, String),
    failures: u64,
    restarts: u64,
    cut_groups: u64,
}

impl Status {
    /// Creates the status of the stream `stream`, whose changes are published to `events`.
    pub fn new(stream: &str, events: Arc<Events>) -> Status {
        let now = Instant::now();
        let reason = "nobody is watching";
        Status {
            stream: stream.to_owned(),
            events,
            codec: Arc::default(),
            inner: Mutex::new(Inner {
                state: State::Idle,
                reason: reason.into(),
                since: SystemTime::now(),
                away: None,
                video: None,
                audio: None,
                video_peak: Peak::default(),
                audio_peak: Peak::default(),
                notes: Notes::default(),
                last_sample: now,
                rates: Rates::since(now, 0, 0, 0.0),
                published: (State::Idle, reason.into()),
                failures: 0,
                restarts: 0,
                cut_groups: 0,
            }),
            bytes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
        }
    }

    /// Sets the availability of the stream's device. While it is not ready, that is published and reported, whatever
    /// the source does meanwhile.
    pub fn presence(&self, presence: &Presence) {
        let mut inner = self.lock();
        let (state, reason) = match presence {
            Presence::Offline(reason) => (State::Offline, reason),
            Presence::Unauthorized(reason) => (State::Unauthorized, reason),
            Presence::Ready => {
                if inner.away.take().is_some() {
                    inner.since = SystemTime::now();
                    let (state, reason) = (inner.state, inner.reason.clone());
                    let since = inner.since;
                    self.publish_state(&mut inner, state, &reason, since);
                }
                return;
            }
        };
        let since = match &inner.away {
            Some((before, _, since)) if *before == state => *since,
            _ => SystemTime::now(),
        };
        let away = Some((state, reason.clone(), since));
        if inner.away != away {
            inner.away = away;
            self.publish_state(&mut inner, state, reason, since);
        }
    }

    /// The source is being opened.
    pub fn starting(&self) {
        self.set_state(&mut self.lock(), State::Starting, "opening the source");
    }

    /// The source waits for a client to connect; `reason` says where.
    pub fn listening(&self, reason: String) {
        self.set_state(&mut self.lock(), State::Starting, &reason);
    }

    /// The source is open.
    pub fn connected(&self) {
        let mut inner = self.lock();
        if inner.state != State::Live {
            self.set_state(&mut inner, State::Starting, "connected; no frame yet");
        }
    }

    /// The source was stopped because nobody uses the stream.
    pub fn idle(&self) {
        let mut inner = self.lock();
        self.set_state(&mut inner, State::Idle, "nobody is watching");
        inner.notes = Notes::default();
        let (bytes, samples) = self.received_so_far();
        inner.rates = Rates::since(Instant::now(), bytes, samples, 0.0);
    }

    /// The source failed and will be opened again.
    pub fn retrying(&self, reason: String) {
        let mut inner = self.lock();
        inner.failures += 1;
        self.set_state(&mut inner, State::Retrying, &reason);
    }

    /// The source ended for good.
    pub fn failed(&self, reason: String) {
        let mut inner = self.lock();
        // A failure that was about to be retried has been counted.
        if (inner.state, &inner.reason) != (State::Retrying, &reason) {
            inner.failures += 1;
        }
        self.set_state(&mut inner, State::Failed, &reason);
    }

    /// A sample was published. Audio makes a stream live only if it has no video.
    pub fn live(&self, sample: &Sample) {
        let is_audio = sample.is_audio();
        let mut inner = self.lock();
        let peak = match is_audio {
            true => &mut inner.audio_peak,
            false => &mut inner.video_peak,
        };
        peak.add(sample.decode_time, sample.size());
        if is_audio && inner.video.is_some() {
            return;
        }
        if !is_audio {
            self.samples.fetch_add(1, Ordering::Relaxed);
        }
        inner.last_sample = Instant::now();
        // A silence that was published is over.
        if inner.state != State::Live || inner.published.0 != State::Live {
            let reason = match is_audio {
                true => "receiving audio",
                false => "receiving video",
            };
            self.set_state(&mut inner, State::Live, reason);
            // Rates are measured since frames arrive, not across the silence before.
            let declared = inner.video.as_ref().map_or(0.0, |video| video.frame_rate);
            let (bytes, samples) = self.received_so_far();
            inner.rates = Rates::since(inner.last_sample, bytes, samples, declared);
        }
    }

    /// Frames arrive that cannot be decoded, for this reason.
    pub fn waiting_for_keyframe(&self, reason: &str) {
        let mut inner = self.lock();
        if inner.state != State::WaitingForKeyframe {
            self.set_state(&mut inner, State::WaitingForKeyframe, reason);
        }
    }

    /// Sets the current tracks.
    pub fn tracks(&self, info: &Info) {
        let mut inner = self.lock();
        if inner.video != info.video {
            inner.video.clone_from(&info.video);
            inner.video_peak = Peak::default();
        }
        if inner.audio != info.audio {
            inner.audio.clone_from(&info.audio);
            inner.audio_peak = Peak::default();
        }
    }

    /// Highest bit rates measured for the current tracks.
    pub fn peaks(&self) -> Peaks {
        let inner = self.lock();
        Peaks {
            video: inner.video_peak.bits_per_second(),
            audio: inner.audio_peak.bits_per_second(),
        }
    }

    /// Counts bytes from the source.
    pub fn received(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Sets whether the newest group is larger than the ring.
    pub fn cut(&self, cut: bool) {
        const KEY: &str = "group";
        let mut inner = self.lock();
        if cut != inner.notes.contains(KEY) {
            if cut {
                let text = "the group of pictures is larger than the ring, so late viewers start at the next keyframe; use a shorter keyframe interval";
                inner.notes.record(KEY, text.into());
                inner.cut_groups += 1;
                let (serial, reason) = (self.stream.as_str(), text);
                let cut = GroupCutEvent { serial, reason };
                self.events.publish("group-cut", Some(serial), &cut);
            } else {
                inner.notes.remove(KEY);
            }
        }
    }

    /// Records a problem: kept once per `key` with its newest text and a count, and logged the first time.
    pub fn note(&self, key: &'static str, text: String) {
        let is_first = self.lock().notes.record(key, text.clone());
        if is_first {
            tracing::warn!(stream = self.stream, "{text}");
        }
    }

    /// Records a failure of the gateway itself on this stream: like [`Status::note`], but logged every time, as an
    /// error.
    pub fn fault(&self, key: &'static str, text: String) {
        tracing::error!(stream = self.stream, "{text}");
        self.lock().notes.record(key, text);
    }

    /// Bytes and frames received since the gateway started.
    fn received_so_far(&self) -> (u64, u64) {
        (
            self.bytes.load(Ordering::Relaxed),
            self.samples.load(Ordering::Relaxed),
        )
    }

    /// Current counters.
    pub fn totals(&self) -> Totals {
        let (bytes, samples) = self.received_so_far();
        let inner = self.lock();
        Totals {
            bytes,
            samples,
            failures: inner.failures,
            restarts: inner.restarts,
            cut_groups: inner.cut_groups,
        }
    }

    /// Current state; detects a silence. `may_be_silent` says that a silence of this source is no fault.
    pub fn report(&self, may_be_silent: bool) -> Report {
        let (bytes, samples) = self.received_so_far();
        let now = Instant::now();
        let mut inner = self.lock();
        inner.rates.update(now, bytes, samples);
        let quiet = now - inner.last_sample;
        let away = inner.away.clone();
        let silent = away.is_none() && inner.state == State::Live && quiet > SILENT;
        let (state, reason) = if let Some((state, reason, _)) = &away {
            (*state, reason.clone())
        } else if silent {
            let right = if may_be_silent {
                "; this source may be silent"
            } else {
                ""
            };
            (
                State::Silent,
                format!("no frame for {} s{right}", quiet.as_secs()),
            )
        } else {
            (inner.state, inner.reason.clone())
        };
        let since = if let Some((_, _, since)) = away {
            since
        } else if silent {
            SystemTime::now() - (quiet - SILENT)
        } else {
            inner.since
        };
        if silent && inner.published.0 != State::Silent {
            self.publish_state(&mut inner, state, &reason, since);
        }
        Report {
            state,
            reason,
            since: unix_ms(since),
            video: inner.video.clone(),
            audio: inner.audio.clone(),
            bits_per_second: inner.rates.bits_per_second,
            frame_rate: inner.rates.frame_rate,
            notes: inner.notes.texts(),
        }
    }

    fn set_state(&self, inner: &mut Inner, state: State, reason: &str) {
        // The published state counts here, so that leaving a silence is a change.
        if inner.published.0 != state {
            inner.since = SystemTime::now();
        }
        if inner.state == State::Retrying
            && !matches!(state, State::Retrying | State::Idle | State::Failed)
        {
            inner.restarts += 1;
        }
        inner.state = state;
        if inner.reason != reason {
            inner.reason = reason.to_owned();
        }
        if inner.away.is_none() && (inner.published.0 != state || inner.published.1 != reason) {
            self.publish_state(inner, state, reason, inner.since);
        }
    }

    fn publish_state(&self, inner: &mut Inner, state: State, reason: &str, since: SystemTime) {
        inner.published = (state, reason.to_owned());
        let changed = StateEvent {
            serial: &self.stream,
            state,
            reason,
            since: unix_ms(since),
        };
        self.events.publish("stream", Some(&self.stream), &changed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bytes::Bytes;
    use sluicegate_media::sample::Times;
    use std::task::{Context, Poll, Waker};

    fn frame() -> Sample {
        Sample::jpeg(Times::default(), Bytes::new())
    }

    /// A status, and a reader of the events that it publishes.
    struct Recorder {
        status: Status,
        reader: sluicegate_telemetry::events::Reader,
    }

    impl Recorder {
        fn new() -> Recorder {
            let events = Arc::<Events>::default();
            let mut published = Recorder {
                status: Status::new("cam", events.clone()),
                reader: events.reader(None),
            };
            assert_eq!(published.now(), Vec::<String>::new());
            published
        }

        fn now(&mut self) -> Vec<String> {
            let mut all = Vec::new();
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(text) = self.reader.poll(&mut context, |_| true) {
                let text = std::str::from_utf8(&text).unwrap().to_owned();
                for event in text.split("\n\n").filter(|event| event.contains("serial")) {
                    let (_, data) = event.split_once("data: ").unwrap();
                    let data: serde_json::Value = serde_json::from_str(data).unwrap();
                    assert_eq!(data["serial"], "cam");
                    let state = data["state"].as_str().unwrap_or("group-cut").to_owned();
                    all.push(state);
                }
            }
            all
        }
    }

    #[test]
    fn changes_are_published_once_and_failures_are_counted() {
        let mut published = Recorder::new();
        published.status.starting();
        published.status.starting();
        published.status.connected();
        published.status.live(&frame());
        published.status.live(&frame());
        assert_eq!(published.now(), ["starting", "starting", "live"]);
        for _ in 0..3 {
            published.status.retrying("gone".into());
        }
        published.status.connected();
        published.status.live(&frame());
        published.status.cut(true);
        published.status.cut(true);
        assert_eq!(
            published.now(),
            ["retrying", "starting", "live", "group-cut"]
        );
        // A failure that was about to be retried and then ends for good is one failure.
        published.status.retrying("it ended".into());
        published.status.failed("it ended".into());
        assert_eq!(published.now(), ["retrying", "failed"]);
        let totals = published.status.totals();
        assert_eq!(
            (
                totals.failures,
                totals.restarts,
                totals.cut_groups,
                totals.samples
            ),
            (4, 1, 1, 3)
        );
    }

    #[test]
    fn an_absent_device_is_reported_once_whatever_its_source_does_meanwhile() {
        let mut published = Recorder::new();
        let offline = Presence::Offline("not attached".into());
        let unauthorized = Presence::Unauthorized("asked".into());
        published.status.presence(&Presence::Ready);
        published.status.presence(&offline);
        published.status.presence(&offline);
        assert_eq!(published.now(), ["offline"]);
        published.status.starting();
        published.status.live(&frame());
        published.status.retrying("gone".into());
        assert_eq!(published.now(), Vec::<String>::new());
        let report = published.status.report(true);
        assert_eq!(
            (report.state, report.reason.as_str()),
            (State::Offline, "not attached")
        );
        published.status.presence(&unauthorized);
        assert_eq!(published.status.report(true).state, State::Unauthorized);
        published.status.presence(&Presence::Ready);
        assert_eq!(published.now(), ["unauthorized", "retrying"]);
        assert_eq!(published.status.report(true).state, State::Retrying);
        published.status.live(&frame());
        assert_eq!(published.now(), ["live"]);
    }

    #[test]
    fn a_silence_is_reported_when_it_is_detected_and_when_it_ends() {
        let mut published = Recorder::new();
        published.status.live(&frame());
        assert_eq!(published.now(), ["live"]);
        let long_ago = Instant::now().checked_sub(SILENT * 2).unwrap();
        published.status.lock().last_sample = long_ago;
        for _ in 0..2 {
            assert_eq!(published.status.report(false).state, State::Silent);
        }
        assert_eq!(published.now(), ["silent"]);
        published.status.live(&frame());
        assert_eq!(published.status.report(false).state, State::Live);
        assert_eq!(published.now(), ["live"]);
    }
}
