//! Counters of guest calls: number, time, failures. Written by `Sandbox` and the muxers, read by `/metrics` and
//! `/api/plugins`.

use parking_lot::{Mutex, MutexGuard};
use sluicegate_viewer::MetricKey;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Counters of one component on one rendition of a stream, over all its instances. They only rise.
#[derive(Debug, Default)]
pub struct Usage {
    /// Calls of all functions.
    pub calls: AtomicU64,
    /// Real time of those calls, in nanoseconds.
    pub nanos: AtomicU64,
    /// Calls of `push`.
    pub pushes: AtomicU64,
    /// Calls that failed: traps and exceeded limits.
    pub failures: AtomicU64,
    /// Instances created.
    pub instances: AtomicU64,
    /// Times that the muxer was too slow for its feed and lost samples.
    pub overruns: AtomicU64,
}

/// Snapshot of a [`Usage`], with the same fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct UsageSnapshot {
    pub calls: u64,
    pub nanos: u64,
    pub pushes: u64,
    pub failures: u64,
    pub instances: u64,
    pub overruns: u64,
}

impl Usage {
    /// Current values.
    pub fn read(&self) -> UsageSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UsageSnapshot {
            calls: read(&self.calls),
            nanos: read(&self.nanos),
            pushes: read(&self.pushes),
            failures: read(&self.failures),
            instances: read(&self.instances),
            overruns: read(&self.overruns),
        }
    }
}

impl UsageSnapshot {
    /// Mean time of a call, in microseconds.
    pub fn us_per_call(&self) -> f64 {
        self.nanos as f64 / 1000.0 / self.calls.max(1) as f64
    }
}

impl std::iter::Sum for UsageSnapshot {
    fn sum<I: Iterator<Item = UsageSnapshot>>(all: I) -> UsageSnapshot {
        all.fold(UsageSnapshot::default(), |sum, one| UsageSnapshot {
            calls: sum.calls + one.calls,
            nanos: sum.nanos + one.nanos,
            pushes: sum.pushes + one.pushes,
            failures: sum.failures + one.failures,
            instances: sum.instances + one.instances,
            overruns: sum.overruns + one.overruns,
        })
    }
}

/// Counters of one transport by metrics key. They outlive the muxers. All sizes of JPEGs that viewers choose in the URL
/// share one key.
#[derive(Debug, Default)]
pub struct Usages {
    /// Counters of the instances that validated the options, at start and at reloads.
    pub check: Arc<Usage>,
    book: Mutex<UsageByKey>,
}

#[derive(Debug, Default)]
struct UsageByKey {
    by_key: BTreeMap<MetricKey, Arc<Usage>>,
    /// Sum of the streams that were removed.
    gone: UsageSnapshot,
}

impl Usages {
    /// The counters for that key.
    pub fn on(&self, metric_key: &MetricKey) -> Arc<Usage> {
        self.lock()
            .by_key
            .entry(metric_key.clone())
            .or_default()
            .clone()
    }

    /// Values of all keys.
    pub fn by_key(&self) -> BTreeMap<MetricKey, UsageSnapshot> {
        let book = self.lock();
        let by_key = book.by_key.iter();
        by_key
            .map(|(metric_key, usage)| (metric_key.clone(), usage.read()))
            .collect()
    }

    /// Drops the keys of a removed stream; its values remain in the total.
    pub fn forget(&self, stream: &str) {
        let mut book = self.lock();
        let gone = book
            .by_key
            .extract_if(.., |metric_key, _| metric_key.stream == stream);
        let gone: UsageSnapshot = gone.map(|(_, usage)| usage.read()).sum();
        book.gone = [book.gone, gone].into_iter().sum();
    }

    /// Sum of all keys, removed streams and the checks of options.
    pub fn total(&self) -> UsageSnapshot {
        let book = self.lock();
        let by_key = book.by_key.values().map(|usage| usage.read());
        by_key.chain([book.gone, self.check.read()]).sum()
    }

    fn lock(&self) -> MutexGuard<'_, UsageByKey> {
        self.book.lock()
    }
}
