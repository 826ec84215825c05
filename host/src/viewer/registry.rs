//! Who is watching, for `/api/sessions`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// Counted as it happens.
#[derive(Debug, Default)]
pub struct Counter {
    /// Bytes handed to the socket.
    pub bytes: AtomicU64,
    /// Chunks handed to the socket.
    pub chunks: AtomicU64,
    /// Jumps to a newer start point, because the viewer was slow.
    pub jumps: AtomicU64,
}

/// One connected viewer.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Unguessable.
    pub id: String,
    /// Name of the stream.
    pub stream: String,
    /// Name of the rendition; empty: the stream itself.
    pub rendition: String,
    /// Name of the transport.
    pub transport: String,
    /// Where it comes from.
    pub address: SocketAddr,
    /// When it came.
    pub since: SystemTime,
    /// What it got.
    pub counter: Arc<Counter>,
}

/// Everybody who is watching.
#[derive(Debug, Default)]
pub struct Registry {
    entries: Mutex<BTreeMap<u64, Entry>>,
    next: AtomicU64,
    /// Bytes to viewers that have left, by stream.
    past_bytes: Mutex<BTreeMap<String, u64>>,
}

/// A place in the registry; gives it up when dropped.
#[derive(Debug)]
pub struct Place {
    registry: Arc<Registry>,
    /// Unique in this process.
    pub id: u64,
    /// What the viewer got.
    pub counter: Arc<Counter>,
}

impl Registry {
    /// Adds a viewer until the place is dropped.
    pub fn enter(
        self: &Arc<Registry>,
        stream: &str,
        rendition: &str,
        transport: &str,
        address: SocketAddr,
    ) -> Place {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let counter = Arc::<Counter>::default();
        lock(&self.entries).insert(
            id,
            Entry {
                id: unguessable(),
                stream: stream.to_owned(),
                rendition: rendition.to_owned(),
                transport: transport.to_owned(),
                address,
                since: SystemTime::now(),
                counter: counter.clone(),
            },
        );
        Place {
            registry: self.clone(),
            id,
            counter,
        }
    }

    /// Everybody, in order of arrival.
    pub fn list(&self) -> Vec<Entry> {
        lock(&self.entries).values().cloned().collect()
    }

    /// Viewers of a stream, and the bytes they and those before them got.
    pub fn of_stream(&self, stream: &str) -> (usize, u64) {
        let past = lock(&self.past_bytes).get(stream).copied().unwrap_or(0);
        lock(&self.entries)
            .values()
            .filter(|entry| entry.stream == stream)
            .fold((0, past), |(count, bytes), entry| {
                (
                    count + 1,
                    bytes + entry.counter.bytes.load(Ordering::Relaxed),
                )
            })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(entry) = lock(&self.registry.entries).remove(&self.id) {
            *lock(&self.registry.past_bytes)
                .entry(entry.stream)
                .or_default() += entry.counter.bytes.load(Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 128 bits from the operating system's randomness, in hex.
fn unguessable() -> String {
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
