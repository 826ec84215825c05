//! The connected viewers, and counters of what was delivered to them and how quickly.
//!
//! A viewer over a connection registers with [`Registry::enter`] and counts through its [`Meter`], without locks.
//! Clients that only send requests (HLS) have no connection to count, so they are told apart by address and
//! `User-Agent` and count as viewers for a while after each request. Totals per stream, rendition and transport outlive
//! the viewers. Arrivals and departures are published as events. Read by `/metrics` and `/api`.

use super::TakenChunks;
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use sluicegate_telemetry::{Events, Histogram};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// How long a request-only client (HLS) counts as a viewer after its last request.
pub const REQUEST_CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most request-only clients that are told apart per metrics key.
const MAX_REQUEST_CLIENTS: usize = 4096;

/// Live counters of one viewer.
#[derive(Debug, Default)]
pub struct Counter {
    /// Bytes written to the socket.
    pub bytes: AtomicU64,
    /// Chunks taken for the socket.
    pub chunks: AtomicU64,
    /// Jumps to a newer start point because the viewer was slow.
    pub jumps: AtomicU64,
    /// Since when the socket has not accepted pending data: microseconds on the process's clock, 0 if nothing is
    /// pending.
    stalled_since: AtomicU64,
}

impl Counter {
    /// How long data has been pending that the socket does not accept.
    pub fn blocked_for(&self) -> Duration {
        match self.stalled_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(micros(Instant::now()).saturating_sub(since)),
        }
    }
}

/// Microseconds on a clock of the process that starts at 1, so that 0 can mean "never".
fn micros(at: Instant) -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = *BEGAN.get_or_init(Instant::now);
    let passed = at.saturating_duration_since(began).as_micros();
    u64::try_from(passed).unwrap_or(u64::MAX - 1) + 1
}

/// Metrics key: stream, rendition, transport.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct MetricKey {
    /// Name of the stream.
    pub stream: String,
    /// Name of the rendition; empty for the stream itself.
    pub rendition: String,
    /// Name of the transport.
    pub transport: String,
}

/// One connected viewer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Random id of the viewer, unguessable.
    pub id: String,
    /// What it watches: stream, rendition, transport.
    pub metric_key: MetricKey,
    /// Address of the client.
    pub address: SocketAddr,
    /// When it connected.
    pub since: SystemTime,
    /// What was delivered to it.
    pub counter: Arc<Counter>,
}

/// Totals of one metrics key since the gateway started, including viewers that have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Viewers connected now.
    pub viewers: usize,
    /// Viewers that have ever connected.
    pub total_viewers: u64,
    /// Bytes written to sockets.
    pub bytes: u64,
    /// Chunks taken for sockets.
    pub chunks: u64,
    /// Jumps of slow viewers.
    pub jumps: u64,
    /// Requests that were answered with a complete response.
    pub answers: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.viewers += other.viewers;
        self.total_viewers += other.total_viewers;
        self.bytes += other.bytes;
        self.chunks += other.chunks;
        self.jumps += other.jumps;
        self.answers += other.answers;
    }
}

/// Identifies a request-only client. Equal programs behind one address count as one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestClient {
    /// Address of the client.
    pub address: IpAddr,
    /// A hash of the `User-Agent`.
    pub agent: u64,
}

/// Delivery delays of one transport's viewers.
#[derive(Debug, Default)]
pub struct Delays {
    /// From the request to the first bytes written to the socket.
    pub first_byte: Histogram,
    /// From the publication of a chunk to its write to a viewer's socket: one observation per write, for its oldest
    /// chunk.
    pub delivery: Histogram,
}

/// All viewers of the gateway.
#[derive(Debug)]
pub struct Registry {
    events: Arc<Events>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<u64, Entry>,
    newest: u64,
    /// Totals of the viewers that have left, and of requests.
    past: BTreeMap<MetricKey, Totals>,
    /// Request-only clients, with the time of their last request.
    request_clients: BTreeMap<MetricKey, HashMap<RequestClient, Instant>>,
    /// Delays by transport.
    delays: BTreeMap<String, Arc<Delays>>,
}

/// Payload of the event `viewer-came`.
#[derive(Serialize)]
struct ViewerJoined<'a> {
    /// Number of the viewer. It is not secret; the unguessable id is in `/api/sessions` only.
    viewer: u64,
    #[serde(flatten)]
    metric_key: &'a MetricKey,
}

/// Payload of the event `viewer-left`.
#[derive(Serialize)]
struct ViewerLeft<'a> {
    viewer: u64,
    #[serde(flatten)]
    metric_key: &'a MetricKey,
    seconds: u64,
    bytes: u64,
    jumps: u64,
}

impl Registry {
    /// An empty registry; arrivals and departures are published to `events`.
    pub fn new(events: &Arc<Events>) -> Arc<Registry> {
        Arc::new(Registry {
            events: events.clone(),
            inner: Mutex::default(),
        })
    }

    /// Registers a viewer until the returned place is dropped.
    pub fn enter(self: &Arc<Registry>, metric_key: MetricKey, address: SocketAddr) -> Registration {
        let counter = Arc::<Counter>::default();
        let entry = Entry {
            id: random_id(),
            metric_key: metric_key.clone(),
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
            .entry(metric_key.transport.clone())
            .or_default()
            .clone();
        drop(inner);
        self.events.publish(
            "viewer-came",
            Some(&metric_key.stream),
            &ViewerJoined {
                viewer: id,
                metric_key: &metric_key,
            },
        );
        Registration {
            registry: self.clone(),
            id,
            counter,
            delays,
        }
    }

    /// Counts a request that was answered with a complete response of `bytes`, and the client, if this transport is
    /// watched by requests alone.
    pub fn answered(
        &self,
        metric_key: MetricKey,
        bytes: usize,
        request_client: Option<RequestClient>,
        now: Instant,
    ) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let past = inner.past.entry(metric_key.clone()).or_default();
        past.answers += 1;
        past.bytes += bytes as u64;
        let Some(request_client) = request_client else {
            return;
        };
        let request_clients = inner.request_clients.entry(metric_key).or_default();
        if let Some(last) = request_clients.get_mut(&request_client) {
            past.total_viewers += u64::from(!is_present(*last, now));
            *last = now;
            return;
        }
        past.total_viewers += 1;
        request_clients.retain(|_, last| is_present(*last, now));
        if request_clients.len() < MAX_REQUEST_CLIENTS {
            request_clients.insert(request_client, now);
        }
    }

    /// All connected viewers, in order of arrival.
    pub fn list(&self) -> Vec<Entry> {
        self.lock().entries.values().cloned().collect()
    }

    /// Totals by metrics key. Iterates over all viewers under the lock that arrivals and departures take, so call it
    /// once per response.
    pub fn totals(&self) -> BTreeMap<MetricKey, Totals> {
        let inner = self.lock();
        let mut present: HashMap<&MetricKey, Totals> = HashMap::new();
        for entry in inner.entries.values() {
            *present.entry(&entry.metric_key).or_default() += entry.totals();
        }
        let mut totals = inner.past.clone();
        for (metric_key, present) in present {
            *totals.entry(metric_key.clone()).or_default() += present;
        }
        let now = Instant::now();
        for (metric_key, request_clients) in &inner.request_clients {
            let there = request_clients
                .values()
                .filter(|last| is_present(**last, now))
                .count();
            totals.entry(metric_key.clone()).or_default().viewers += there;
        }
        totals
    }

    /// Drops the totals of a removed stream.
    pub fn forget(&self, stream: &str) {
        let mut inner = self.lock();
        inner
            .past
            .retain(|metric_key, _| metric_key.stream != stream);
        inner
            .request_clients
            .retain(|metric_key, _| metric_key.stream != stream);
    }

    /// Delivery delays by transport.
    pub fn delays(&self) -> BTreeMap<String, Arc<Delays>> {
        self.lock().delays.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

impl Entry {
    fn totals(&self) -> Totals {
        Totals {
            viewers: 1,
            total_viewers: 1,
            bytes: self.counter.bytes.load(Ordering::Relaxed),
            chunks: self.counter.chunks.load(Ordering::Relaxed),
            jumps: self.counter.jumps.load(Ordering::Relaxed),
            answers: 0,
        }
    }
}

/// A viewer's place in the registry; dropping it removes the viewer.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    /// Number of the viewer, unique in this process.
    pub id: u64,
    counter: Arc<Counter>,
    delays: Arc<Delays>,
}

impl Registration {
    /// Counters of this viewer.
    pub fn counter(&self) -> &Arc<Counter> {
        &self.counter
    }

    /// A meter for its carrier; `requested_at` is when the request arrived.
    pub fn meter(&self, requested_at: Instant) -> Meter {
        Meter {
            counter: self.counter.clone(),
            delays: self.delays.clone(),
            requested_at: Some(requested_at),
            published: None,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        let Some(entry) = inner.entries.remove(&self.id) else {
            return;
        };
        // Moved under one lock, so that no reader misses the viewer.
        let totals = entry.totals();
        *inner.past.entry(entry.metric_key.clone()).or_default() += Totals {
            viewers: 0,
            ..totals
        };
        drop(inner);
        self.registry.events.publish(
            "viewer-left",
            Some(&entry.metric_key.stream),
            &ViewerLeft {
                viewer: self.id,
                metric_key: &entry.metric_key,
                seconds: entry.since.elapsed().map_or(0, |passed| passed.as_secs()),
                bytes: totals.bytes,
                jumps: totals.jumps,
            },
        );
    }
}

/// Counts what one viewer gets; used by its carrier for each write. No locks, no allocations.
#[derive(Debug)]
pub struct Meter {
    counter: Arc<Counter>,
    delays: Arc<Delays>,
    /// When the request arrived; `None` after the first bytes were written.
    requested_at: Option<Instant>,
    /// When the oldest pending chunk was published.
    published: Option<Instant>,
}

impl Meter {
    /// Counts chunks that were taken from the ring and are pending until everything is written.
    pub fn chunks_taken(&mut self, taken: &TakenChunks) {
        self.count_chunks(taken);
        self.published = self.published.or(taken.published);
        self.set_stalled_since(self.published);
    }

    /// Counts chunks that were taken from the ring. The carrier itself knows which of them are pending.
    pub fn count_chunks(&self, taken: &TakenChunks) {
        let Counter { chunks, jumps, .. } = &*self.counter;
        chunks.fetch_add(taken.chunks.into(), Ordering::Relaxed);
        if taken.jumps > 0 {
            jumps.fetch_add(taken.jumps.into(), Ordering::Relaxed);
        }
    }

    /// Counts jumps that the carrier itself made, where it gave up what had been taken from the ring.
    pub fn jumped(&self, jumps: u32) {
        self.counter
            .jumps
            .fetch_add(jumps.into(), Ordering::Relaxed);
    }

    /// Counts bytes that were written to the socket; `all` if nothing is pending any more.
    pub fn wrote(&mut self, bytes: usize, all: bool, now: Instant) {
        let completed = self.published.take_if(|_| all);
        if completed.is_some() {
            self.set_stalled_since(None);
        }
        self.completed(bytes, completed, now);
    }

    /// Counts bytes that were written to the socket. `published` is the time of the oldest chunk that is complete with
    /// them, if there is one.
    pub fn completed(&mut self, bytes: usize, published: Option<Instant>, now: Instant) {
        self.counter
            .bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(requested_at) = self.requested_at.take() {
            self.delays
                .first_byte
                .observe(now.saturating_duration_since(requested_at));
        }
        if let Some(published) = published {
            self.delays
                .delivery
                .observe(now.saturating_duration_since(published));
        }
    }

    /// Sets since when data has been pending that the socket does not accept.
    pub fn set_stalled_since(&self, since: Option<Instant>) {
        let since = since.map_or(0, micros);
        self.counter.stalled_since.store(since, Ordering::Relaxed);
    }
}

fn is_present(last: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last) < REQUEST_CLIENT_TIMEOUT
}

/// 128 random bits from the operating system, in hexadecimal.
pub fn random_id() -> String {
    use std::hash::{BuildHasher, RandomState};
    // `RandomState` is not enough by itself: its keys are random per thread and then only counted up.
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

    fn metric_key(transport: &str) -> MetricKey {
        MetricKey {
            stream: "cam".into(),
            rendition: String::new(),
            transport: transport.into(),
        }
    }

    fn come(registry: &Arc<Registry>, transport: &str) -> Registration {
        registry.enter(metric_key(transport), ([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn counts_of_viewers_remain_when_they_leave() {
        let registry = registry();
        let (stays, leaves) = (come(&registry, "nal"), come(&registry, "nal"));
        let now = Instant::now();
        for (place, bytes) in [(&stays, 10), (&leaves, 5)] {
            let mut meter = place.meter(now);
            meter.chunks_taken(&TakenChunks {
                chunks: 2,
                jumps: 1,
                ..TakenChunks::default()
            });
            meter.wrote(bytes, true, now);
        }
        registry.answered(metric_key("hls"), 7, None, now);
        assert_eq!(registry.totals()[&metric_key("nal")].viewers, 2);
        drop(leaves);
        let after = registry.totals();
        let nal = Totals {
            viewers: 1,
            total_viewers: 2,
            bytes: 15,
            chunks: 4,
            jumps: 2,
            answers: 0,
        };
        assert_eq!(after[&metric_key("nal")], nal);
        let hls = after[&metric_key("hls")];
        assert_eq!((hls.answers, hls.bytes), (1, 7));
        drop(stays);
        assert_eq!(
            registry.totals()[&metric_key("nal")],
            Totals { viewers: 0, ..nal }
        );
        assert_eq!(registry.totals().len(), 2);
    }

    #[test]
    fn a_request_client_counts_as_a_viewer_for_a_while_after_each_request() {
        let registry = registry();
        let now = Instant::now();
        let ask = |host: u8, agent, at| {
            let address = [127, 0, 0, host].into();
            registry.answered(
                metric_key("hls"),
                1,
                Some(RequestClient { address, agent }),
                at,
            );
            let totals = registry.totals()[&metric_key("hls")];
            (totals.viewers, totals.total_viewers)
        };
        let before = now
            .checked_sub(REQUEST_CLIENT_TIMEOUT + Duration::from_secs(1))
            .unwrap();
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
        let taken = |published| TakenChunks {
            chunks: 1,
            published,
            ..TakenChunks::default()
        };
        // Chunks from before the viewer arrived are not observed.
        meter.chunks_taken(&taken(None));
        meter.wrote(1, true, at(3));
        meter.chunks_taken(&taken(Some(at(10))));
        meter.wrote(1, false, at(11));
        meter.wrote(1, true, at(40));
        let delays = &registry.delays()["nal"];
        let (first, delivery) = (delays.first_byte.read(), delays.delivery.read());
        assert_eq!((first.count, first.seconds), (1, 0.003));
        assert_eq!((delivery.count, delivery.seconds), (1, 0.03));
    }
}
