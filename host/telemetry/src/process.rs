//! Resource usage of the process, from `/proc` (proc(5)): memory, processor time, threads, descriptors. Read for
//! `/metrics`; memory also by the limits on sources.

use std::fs;

/// Snapshot of `/proc/self`. Values that cannot be read are `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Resident memory in bytes.
    pub resident: Option<u64>,
    /// Size of the address space in bytes.
    pub virtual_memory: Option<u64>,
    /// Processor time of all threads in seconds.
    pub cpu_seconds: Option<f64>,
    /// Start time in Unix seconds.
    pub started: Option<f64>,
    /// Number of threads.
    pub threads: Option<u64>,
    /// Number of open file descriptors.
    pub open_files: Option<u64>,
    /// Limit of open file descriptors.
    pub most_files: Option<u64>,
}

/// Reads the current values.
pub fn read() -> Process {
    let mut process = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| parse(&stat, &fs::read_to_string("/proc/stat").ok()?))
        .unwrap_or_default();
    process.open_files = fs::read_dir("/proc/self/fd")
        .ok()
        // One entry is the descriptor of this reading itself.
        .map(|entries| (entries.count() as u64).saturating_sub(1));
    process.most_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    process
}

/// Resident memory in bytes. Cheap enough to call often.
pub fn resident_memory() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Parses `/proc/self/stat` (`own`) and `/proc/stat` (`system`).
fn parse(own: &str, system: &str) -> Option<Process> {
    // The name of the program is in parentheses and may contain any character.
    let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields are numbered as in proc(5), where the first one after the name is number 3.
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
