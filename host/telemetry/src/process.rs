//! What the process uses, from `/proc` (proc(5)).

use std::fs;

/// A reading of `/proc/self`; what cannot be read is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Bytes in memory.
    pub resident: Option<u64>,
    /// Bytes of address space.
    pub virtual_memory: Option<u64>,
    /// Processor seconds of all threads.
    pub cpu_seconds: Option<f64>,
    /// Unix seconds.
    pub started: Option<f64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Descriptors in use.
    pub open_files: Option<u64>,
    /// Descriptors allowed.
    pub most_files: Option<u64>,
}

/// How it is now.
pub fn read() -> Process {
    let mut process = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| parse(&stat, &fs::read_to_string("/proc/stat").ok()?))
        .unwrap_or_default();
    process.open_files = fs::read_dir("/proc/self/fd")
        .ok()
        // One of them is the reading itself.
        .map(|entries| (entries.count() as u64).saturating_sub(1));
    process.most_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    process
}

/// Bytes in memory, alone: cheap enough to ask often.
pub fn resident_memory() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// From the process's own line and the system's.
fn parse(own: &str, system: &str) -> Option<Process> {
    // The name of the program is in brackets and may hold any other character.
    let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
    // By the numbers in proc(5), whose third is the first behind the name.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let boot = system
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|seconds| seconds.parse::<f64>().ok());
    Some(Process {
        cpu_seconds: Some((field(14)? + field(15)?) as f64 / ticks),
        threads: field(20),
        started: boot
            .zip(field(22))
            .map(|(boot, at)| boot + at as f64 / ticks),
        virtual_memory: field(23),
        resident: field(24).map(|pages| pages * rustix::param::page_size() as u64),
        ..Process::default()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_program_may_be_called_what_it_likes() {
        let own = "7 (a) b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 4200 1000000 3 0";
        let process = parse(own, "cpu 1 2 3\nbtime 1000\n").unwrap();
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(process.cpu_seconds, Some(200.0 / ticks));
        assert_eq!(process.started, Some(1000.0 + 4200.0 / ticks));
        assert_eq!(
            (process.threads, process.virtual_memory),
            (Some(9), Some(1_000_000))
        );
        assert_eq!(
            process.resident,
            Some(3 * rustix::param::page_size() as u64)
        );
    }

    #[test]
    fn this_process_uses_something() {
        let process = read();
        assert!(process.resident.unwrap() > 100_000);
        assert!(process.threads.unwrap() >= 1);
        assert!(process.open_files.unwrap() >= 3);
        assert!(process.started.unwrap() > 1.7e9);
    }
}
