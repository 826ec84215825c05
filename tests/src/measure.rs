//! Latencies, what a process holds, and whether that grows.

use crate::Gateway;
use std::time::Duration;

/// What may be added to the 99th percentile of a picture's way from the source's socket to a viewer, if 10 % are less.
///
/// With every processor taken, a thread that wakes up may wait for a slice of Linux's scheduler, which is about 3 ms, and
/// a picture passes four: the source's, the muxer's, the carrier's and the test's. By chance that sum comes in one
/// measurement and not in the next.
pub const CHANCE: Duration = Duration::from_millis(12);

/// How long pictures took.
#[derive(Debug)]
pub struct Summary {
    pub median: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Summary {
    /// Of at least one.
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

/// How fast `values` grow from one to the next: the slope of the straight line that fits best.
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

/// Bytes as MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl Gateway {
    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        self.entries("fd")
    }

    /// Names of its threads, which Linux cuts to 15 characters.
    pub fn thread_names(&self) -> Vec<String> {
        let tasks = format!("/proc/{}/task", self.pid().as_raw_nonzero());
        let names = std::fs::read_dir(tasks)
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.entries("task")
    }

    fn entries(&self, of: &str) -> usize {
        let id = self.child.id().expect("it has ended");
        std::fs::read_dir(format!("/proc/{id}/{of}"))
            .unwrap()
            .count()
    }

    /// Fails if something panicked, which a log line tells.
    pub fn no_panic(&self) {
        let log = self.log.lock().unwrap();
        let panicked: Vec<&String> = log
            .iter()
            .filter(|line| line.contains("panicked"))
            .collect();
        assert!(panicked.is_empty(), "{panicked:#?}");
    }
}

/// Lets this process and those that it starts have so many descriptors.
pub fn allow_descriptors(count: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        limit.current = Some(count);
        setrlimit(Resource::Nofile, limit)
            .unwrap_or_else(|error| panic!("{count} descriptors are needed: {error}"));
    }
}
