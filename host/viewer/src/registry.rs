//! Who is watching, what they got, and how soon.

use super::Taken;
use serde::Serialize;
use sluicegate_telemetry::{Events, Histogram};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// Who only sends requests counts as a viewer for so long after each.
pub const STAYS: Duration = Duration::from_secs(10);
/// Of them so many are told apart on one way.
const MAX_REQUEST_CLIENTS: usize = 4096;

/// Counted as it happens.
#[derive(Debug, Default)]
pub struct Counter {
    /// Bytes handed to the socket.
    pub bytes: AtomicU64,
    /// Chunks handed to the socket.
    pub chunks: AtomicU64,
    /// Jumps to a newer start point, because the viewer was slow.
    pub jumps: AtomicU64,
    /// Since when something has been under way to a socket that does not take it: microseconds on the process's clock, 0 for
    /// nothing.
    stuck_since: AtomicU64,
}

impl Counter {
    /// For how long something has been under way to its socket.
    pub fn late(&self) -> Duration {
        match self.stuck_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(micros(Instant::now()).saturating_sub(since)),
        }
    }
}

/// On one clock for the process, from 1.
fn micros(at: Instant) -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(Instant::now);
    let passed = at.saturating_duration_since(began).as_micros();
    u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
}

/// By which transport what is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MetricKey {
    /// Name of the stream.
    pub stream: String,
    /// Name of the rendition; empty: the stream itself.
    pub rendition: String,
    /// Name of the transport.
    pub transport: String,
}

/// One connected viewer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unguessable.
    pub id: String,
    /// What it watches, and how.
    pub way: MetricKey,
    /// Where it comes from.
    pub address: SocketAddr,
    /// When it came.
    pub since: SystemTime,
    /// What it got.
    pub counter: Arc<Counter>,
}

/// What went out on one way since the gateway started, to those who left too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Who is there now.
    pub viewers: usize,
    /// Who came so far.
    pub came: u64,
    /// Bytes handed to sockets.
    pub bytes: u64,
    /// Chunks handed to sockets.
    pub chunks: u64,
    /// Jumps of slow viewers.
    pub jumps: u64,
    /// Requests that were answered whole.
    pub answers: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.viewers += other.viewers;
        self.came += other.came;
        self.bytes += other.bytes;
        self.chunks += other.chunks;
        self.jumps += other.jumps;
        self.answers += other.answers;
    }
}

/// Tells apart who sends requests: alike programs behind one address count as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestClient {
    /// Where the requests come from.
    pub address: IpAddr,
    /// A hash of the `User-Agent`.
    pub agent: u64,
}

/// How soon the viewers of one transport got something.
#[derive(Debug, Default)]
pub struct Delays {
    /// From the request to the first bytes handed to the socket.
    pub first_byte: Histogram,
    /// From a chunk given out by the muxer to it handed to a viewer's socket: one for each write, of its oldest chunk.
    pub delivery: Histogram,
}

/// Everybody who is watching.
#[derive(Debug)]
pub struct Registry {
    events: Arc<Events>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<u64, Entry>,
    newest: u64,
    /// Without those who are there.
    past: BTreeMap<MetricKey, Totals>,
    /// Viewers that only send requests, and when they did last.
    request_clients: BTreeMap<MetricKey, HashMap<RequestClient, Instant>>,
    /// By transport.
    delays: BTreeMap<String, Arc<Delays>>,
}

/// The event `viewer-came`.
#[derive(Serialize)]
struct Came<'a> {
    /// Its number, which is no secret: `/api/sessions` has the id.
    viewer: u64,
    #[serde(flatten)]
    way: &'a MetricKey,
}

/// The event `viewer-left`.
#[derive(Serialize)]
struct Left<'a> {
    viewer: u64,
    #[serde(flatten)]
    way: &'a MetricKey,
    seconds: u64,
    bytes: u64,
    jumps: u64,
}

impl Registry {
    /// Nobody yet; who comes and goes is told to `events`.
    pub fn new(events: &Arc<Events>) -> Arc<Registry> {
        Arc::new(Registry {
            events: events.clone(),
            inner: Mutex::default(),
        })
    }

    /// Adds a viewer until the place is dropped.
    pub fn enter(self: &Arc<Registry>, way: MetricKey, address: SocketAddr) -> Place {
        let counter = Arc::<Counter>::default();
        let entry = Entry {
            id: unguessable(),
            way: way.clone(),
            address,
            since: SystemTime::now(),
            counter: counter.clone(),
        };
        let mut inner = self.lock();
        inner.newest += 1;
        let id = inner.newest;
        inner.entries.insert(id, entry);
        let delays = inner
            .delays
            .entry(way.transport.clone())
            .or_default()
            .clone();
        drop(inner);
        self.events.publish(
            "viewer-came",
            &Came {
                viewer: id,
                way: &way,
            },
        );
        Place {
            registry: self.clone(),
            id,
            counter,
            delays,
        }
    }

    /// Counts a request that was answered whole, with so many bytes; and who asked, if that is how this way is watched.
    pub fn answered(
        &self,
        way: MetricKey,
        bytes: usize,
        asker: Option<RequestClient>,
        now: Instant,
    ) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let past = inner.past.entry(way.clone()).or_default();
        past.answers += 1;
        past.bytes += bytes as u64;
        let Some(asker) = asker else { return };
        let request_clients = inner.request_clients.entry(way).or_default();
        if let Some(last) = request_clients.get_mut(&asker) {
            past.came += u64::from(!stays(*last, now));
            *last = now;
            return;
        }
        past.came += 1;
        request_clients.retain(|_, last| stays(*last, now));
        if request_clients.len() < MAX_REQUEST_CLIENTS {
            request_clients.insert(asker, now);
        }
    }

    /// Everybody, in order of arrival.
    pub fn list(&self) -> Vec<Entry> {
        self.lock().entries.values().cloned().collect()
    }

    /// What went out. Costs a step for each viewer, under the lock that those who come and go take: once for an answer.
    pub fn totals(&self) -> BTreeMap<MetricKey, Totals> {
        let inner = self.lock();
        let mut present: HashMap<&MetricKey, Totals> = HashMap::new();
        for entry in inner.entries.values() {
            *present.entry(&entry.way).or_default() += entry.totals();
        }
        let mut totals = inner.past.clone();
        for (way, present) in present {
            *totals.entry(way.clone()).or_default() += present;
        }
        let now = Instant::now();
        for (way, request_clients) in &inner.request_clients {
            let there = request_clients
                .values()
                .filter(|last| stays(**last, now))
                .count();
            totals.entry(way.clone()).or_default().viewers += there;
        }
        totals
    }

    /// There is no stream of that name any more: what it gave out is not told any longer.
    pub fn forget(&self, stream: &str) {
        let mut inner = self.lock();
        inner.past.retain(|way, _| way.stream != stream);
        inner.request_clients.retain(|way, _| way.stream != stream);
    }

    /// How soon viewers got something, by transport.
    pub fn delays(&self) -> BTreeMap<String, Arc<Delays>> {
        self.lock().delays.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn totals(&self) -> Totals {
        Totals {
            viewers: 1,
            came: 1,
            bytes: self.counter.bytes.load(Ordering::Relaxed),
            chunks: self.counter.chunks.load(Ordering::Relaxed),
            jumps: self.counter.jumps.load(Ordering::Relaxed),
            answers: 0,
        }
    }
}

/// A place in the registry; gives it up when dropped.
#[derive(Debug)]
pub struct Place {
    registry: Arc<Registry>,
    /// Unique in this process.
    pub id: u64,
    counter: Arc<Counter>,
    delays: Arc<Delays>,
}

impl Place {
    /// What is counted for this viewer.
    pub fn counter(&self) -> &Arc<Counter> {
        &self.counter
    }

    /// What its carrier counts with; the request for it came at `asked`.
    pub fn meter(&self, asked: Instant) -> Meter {
        Meter {
            counter: self.counter.clone(),
            delays: self.delays.clone(),
            asked: Some(asked),
            published: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        let Some(entry) = inner.entries.remove(&self.id) else {
            return;
        };
        // Under one lock, so that no reading finds it in neither place.
        let totals = entry.totals();
        *inner.past.entry(entry.way.clone()).or_default() += Totals {
            viewers: 0,
            ..totals
        };
        drop(inner);
        self.registry.events.publish(
            "viewer-left",
            &Left {
                viewer: self.id,
                way: &entry.way,
                seconds: entry.since.elapsed().map_or(0, |passed| passed.as_secs()),
                bytes: totals.bytes,
                jumps: totals.jumps,
            },
        );
    }
}

/// Counts what one viewer gets, in its carrier's hands. No lock, no allocation.
#[derive(Debug)]
pub struct Meter {
    counter: Arc<Counter>,
    delays: Arc<Delays>,
    /// When it asked, until it got something.
    asked: Option<Instant>,
    /// When the oldest chunk under way was given out.
    published: Option<Instant>,
}

impl Meter {
    /// Chunks were taken out of the ring for it.
    pub fn took(&mut self, taken: &Taken) {
        let Counter { chunks, jumps, .. } = &*self.counter;
        chunks.fetch_add(taken.chunks.into(), Ordering::Relaxed);
        if taken.jumps > 0 {
            jumps.fetch_add(taken.jumps.into(), Ordering::Relaxed);
        }
        self.published = self.published.or(taken.published);
        self.stuck(self.published);
    }

    /// Bytes were handed to its socket; `all`: none are left under way.
    pub fn wrote(&mut self, bytes: usize, all: bool, now: Instant) {
        self.counter
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(asked) = self.asked.take() {
            self.delays
                .first_byte
                .observe(now.saturating_duration_since(asked));
        }
        if all && let Some(published) = self.published.take() {
            self.delays
                .delivery
                .observe(now.saturating_duration_since(published));
            self.stuck(None);
        }
    }

    /// Since when something has been under way that the socket does not take.
    pub fn stuck(&self, since: Option<Instant>) {
        let since = since.map_or(0, micros);
        self.counter.stuck_since.store(since, Ordering::Relaxed);
    }
}

fn stays(last: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last) < STAYS
}

/// 128 bits from the operating system's randomness, in hex.
pub fn unguessable() -> String {
    use std::hash::{BuildHasher, RandomState};
    // RandomState's keys are random per thread and then only counted up, which is not enough: take system randomness.
    let mut bytes = [0u8; 16];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(16) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        _ => format!(
            "{:016x}{:016x}",
            RandomState::new().hash_one(0),
            RandomState::new().hash_one(1)
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    fn registry() -> Arc<Registry> {
        Registry::new(&Arc::default())
    }

    fn way(transport: &str) -> MetricKey {
        MetricKey {
            stream: "cam".into(),
            rendition: String::new(),
            transport: transport.into(),
        }
    }

    fn come(registry: &Arc<Registry>, transport: &str) -> Place {
        registry.enter(way(transport), ([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn what_viewers_got_stays_counted_when_they_leave() {
        let registry = registry();
        let (stays, leaves) = (come(&registry, "nal"), come(&registry, "nal"));
        let now = Instant::now();
        for (place, bytes) in [(&stays, 10), (&leaves, 5)] {
            let mut meter = place.meter(now);
            meter.took(&Taken {
                chunks: 2,
                jumps: 1,
                ..Taken::default()
            });
            meter.wrote(bytes, true, now);
        }
        registry.answered(way("hls"), 7, None, now);
        assert_eq!(registry.totals()[&way("nal")].viewers, 2);
        drop(leaves);
        let after = registry.totals();
        let nal = Totals {
            viewers: 1,
            came: 2,
            bytes: 15,
            chunks: 4,
            jumps: 2,
            answers: 0,
        };
        assert_eq!(after[&way("nal")], nal);
        let hls = after[&way("hls")];
        assert_eq!((hls.answers, hls.bytes), (1, 7));
        drop(stays);
        assert_eq!(registry.totals()[&way("nal")], Totals { viewers: 0, ..nal });
        assert_eq!(registry.totals().len(), 2);
    }

    #[test]
    fn who_sends_requests_is_there_for_a_while_after_each() {
        let registry = registry();
        let now = Instant::now();
        let ask = |host: u8, agent, at| {
            let address = [127, 0, 0, host].into();
            registry.answered(way("hls"), 1, Some(RequestClient { address, agent }), at);
            let totals = registry.totals()[&way("hls")];
            (totals.viewers, totals.came)
        };
        let before = now.checked_sub(STAYS + Duration::from_secs(1)).unwrap();
        assert_eq!(ask(1, 1, before), (0, 1));
        assert_eq!(ask(1, 1, now), (1, 2));
        assert_eq!(ask(1, 1, now), (1, 2));
        assert_eq!(ask(1, 2, now), (2, 3));
        assert_eq!(ask(2, 1, now), (3, 4));
    }

    #[test]
    fn delays_run_from_the_request_and_the_oldest_chunk_to_the_end_of_a_write() {
        let registry = registry();
        let place = come(&registry, "nal");
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut meter = place.meter(start);
        let taken = |published| Taken {
            chunks: 1,
            published,
            ..Taken::default()
        };
        // Chunks from before it came are no delivery.
        meter.took(&taken(None));
        meter.wrote(1, true, at(3));
        meter.took(&taken(Some(at(10))));
        meter.wrote(1, false, at(11));
        meter.wrote(1, true, at(40));
        let delays = &registry.delays()["nal"];
        let (first, delivery) = (delays.first_byte.read(), delays.delivery.read());
        assert_eq!((first.count, first.seconds), (1, 0.003));
        assert_eq!((delivery.count, delivery.seconds), (1, 0.03));
    }
}
