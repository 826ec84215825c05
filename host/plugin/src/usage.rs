//! What transports' guests cost.

use sluicegate_viewer::MetricKey;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Calls and time of a plugin on one form of a stream, over all its instances; only rises.
#[derive(Debug, Default)]
pub struct Usage {
    /// Calls of any function.
    pub calls: AtomicU64,
    /// Nanoseconds spent in them.
    pub nanos: AtomicU64,
    /// Calls of `push`.
    pub pushes: AtomicU64,
    /// Traps, timeouts and breaches.
    pub failures: AtomicU64,
    /// Instances made.
    pub instances: AtomicU64,
    /// Times the muxer was too slow for its feed and left samples out.
    pub overruns: AtomicU64,
}

/// A reading of a [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Spent {
    pub calls: u64,
    pub nanos: u64,
    pub pushes: u64,
    pub failures: u64,
    pub instances: u64,
    pub overruns: u64,
}

impl Usage {
    /// So far.
    pub fn read(&self) -> Spent {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Spent {
            calls: read(&self.calls),
            nanos: read(&self.nanos),
            pushes: read(&self.pushes),
            failures: read(&self.failures),
            instances: read(&self.instances),
            overruns: read(&self.overruns),
        }
    }
}

impl Spent {
    /// Mean time of a call, microseconds.
    pub fn us_per_call(&self) -> f64 {
        self.nanos as f64 / 1000.0 / self.calls.max(1) as f64
    }
}

impl std::iter::Sum for Spent {
    fn sum<I: Iterator<Item = Spent>>(all: I) -> Spent {
        all.fold(Spent::default(), |sum, one| Spent {
            calls: sum.calls + one.calls,
            nanos: sum.nanos + one.nanos,
            pushes: sum.pushes + one.pushes,
            failures: sum.failures + one.failures,
            instances: sum.instances + one.instances,
            overruns: sum.overruns + one.overruns,
        })
    }
}

/// The usages of one transport; they stay when a muxer ends. JPEGs of all sizes are one way, as viewers name them.
#[derive(Debug, Default)]
pub struct Usages {
    /// Of the instance that judged the options at the start.
    pub check: Arc<Usage>,
    book: Mutex<UsageByKey>,
}

#[derive(Debug, Default)]
struct UsageByKey {
    ways: BTreeMap<MetricKey, Arc<Usage>>,
    /// Of streams that are none any more.
    gone: Spent,
}

impl Usages {
    /// On that way.
    pub fn on(&self, way: &MetricKey) -> Arc<Usage> {
        self.lock().ways.entry(way.clone()).or_default().clone()
    }

    /// On every way so far.
    pub fn ways(&self) -> BTreeMap<MetricKey, Spent> {
        let book = self.lock();
        let ways = book.ways.iter();
        ways.map(|(way, usage)| (way.clone(), usage.read()))
            .collect()
    }

    /// There is no stream of that name any more: what it cost only counts in the total.
    pub fn forget(&self, stream: &str) {
        let mut book = self.lock();
        let gone = book.ways.extract_if(.., |way, _| way.stream == stream);
        let gone: Spent = gone.map(|(_, usage)| usage.read()).sum();
        book.gone = [book.gone, gone].into_iter().sum();
    }

    /// All together.
    pub fn total(&self) -> Spent {
        let book = self.lock();
        let ways = book.ways.values().map(|usage| usage.read());
        ways.chain([book.gone, self.check.read()]).sum()
    }

    fn lock(&self) -> MutexGuard<'_, UsageByKey> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
