//! Latency figures, the resources that a process holds, and whether they grow.

use crate::Gateway;
use std::time::Duration;

/// Margin for the 99th percentile of a frame's latency from the source's socket to a viewer: 10 % or this, whichever is
/// more.
///
/// With all processors busy, a thread that wakes up may wait for a slice of Linux's scheduler, which is about 3 ms, and
/// a frame passes four threads: those of the source, the muxer, the carrier and the test. By chance that sum occurs in
/// one measurement and not in the next.
pub const P99_MARGIN: Duration = Duration::from_millis(12);

/// Latencies of frames: median, percentile and maximum.
#[derive(Debug)]
pub struct Summary {
    pub median: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Summary {
    /// Summarizes at least one latency.
    pub fn of(mut all: Vec<Duration>) -> Summary {
        all.sort_unstable();
        let at = |percent: usize| all[(all.len() * percent / 100).min(all.len() - 1)];
        Summary {
            median: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

/// Slope of the least-squares line through `values`: the growth from one to the next.
pub fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = values.iter().sum::<f64>() / count;
    let places = values.iter().zip(0..);
    let (mut above, mut below) = (0.0, 0.0);
    for (value, place) in places {
        let from_middle = f64::from(place) - middle;
        above += from_middle * (value - mean);
        below += from_middle * from_middle;
    }
    above / below
}

/// Converts bytes to MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Gateway {
    /// Number of open descriptors.
    pub fn descriptors(&self) -> usize {
        self.entries("fd")
    }

    /// Names of the threads, which Linux cuts to 15 characters.
    pub fn thread_names(&self) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        let names = std::fs::read_dir(tasks)
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.entries("task")
    }

    fn entries(&self, of: &str) -> usize {
        let id = self.child.id().expect("it has ended");
        std::fs::read_dir(format!("/proc/{id}/{of}"))
            .unwrap()
            .count()
    }

    /// Fails the test if the log reports a panic.
    pub fn no_panic(&self) {
        let log = self.log.lock().unwrap();
        let panicked: Vec<&String> = log
            .iter()
            .filter(|line| line.contains("panicked"))
            .collect();
        assert!(panicked.is_empty(), "{panicked:#?}");
    }
}

/// Raises the descriptor limit of this process and its future children to `count`.
pub fn allow_descriptors(count: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(count);
        setrlimit(Resource::Nofile, limit)
            .unwrap_or_else(|error| panic!("{count} descriptors are needed: {error}"));
    }
}
