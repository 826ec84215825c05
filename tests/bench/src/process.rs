//! Processor time, memory, threads and descriptors of other processes, as Linux accounts for them.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A process started by this program; killed when dropped.
pub struct Process {
    child: Child,
    /// Address that it printed.
    pub address: SocketAddr,
}

impl Process {
    /// Starts a process and waits for its first line, which contains its address.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &Path)],
    ) -> Result<Process> {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let address = line.split_whitespace().find_map(|word| {
            word.trim_start_matches("http://")
                .trim_end_matches('/')
                .parse()
                .ok()
        });
        match address {
            Some(address) => Ok(Process { child, address }),
            None => {
                let _ = child.kill();
                bail!("{} did not print its address: {line:?}", program.display())
            }
        }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resources that it holds now.
    pub fn resources(&self) -> Result<Resources> {
        Resources::of(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all existing threads, and how often they slept. Threads that have ended are not included, so this
/// is valid only for intervals in which none ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a processor, exact to the nanosecond (`/proc/PID/task/*/schedstat`).
    pub running: Duration,
    /// Time ready to run but waiting for a processor.
    pub waiting: Duration,
    /// Time in user mode and in the kernel, in clock ticks: only their ratio is useful.
    pub ticks: (u64, u64),
    /// Number of voluntary context switches.
    pub sleeps: u64,
}

impl Usage {
    /// Reads the figures of a process.
    pub fn of(id: u32) -> Result<Usage> {
        let mut used = Usage::default();
        let tasks = format!("/proc/{id}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            // A thread may end between listing and reading.
            let dir = task?.path();
            let Ok(schedule) = fs::read_to_string(dir.join("schedstat")) else {
                continue;
            };
            let mut numbers = schedule
                .split_whitespace()
                .map(|field| field.parse().unwrap_or(0));
            used.running += Duration::from_nanos(numbers.next().unwrap_or(0));
            used.waiting += Duration::from_nanos(numbers.next().unwrap_or(0));
            let status = fs::read_to_string(dir.join("status")).unwrap_or_default();
            used.sleeps += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = |nth: usize| {
            fields
                .get(nth)
                .and_then(|field| field.parse().ok())
                .unwrap_or(0)
        };
        // Fields 14 and 15 of proc(5), counted from the third.
        used.ticks = (ticks(11), ticks(12));
        Ok(used)
    }

    /// Difference to an earlier reading.
    pub fn since(&self, before: &Usage) -> Usage {
        Usage {
            running: self.running.saturating_sub(before.running),
            waiting: self.waiting.saturating_sub(before.waiting),
            ticks: (
                self.ticks.0.saturating_sub(before.ticks.0),
                self.ticks.1.saturating_sub(before.ticks.1),
            ),
            sleeps: self.sleeps.saturating_sub(before.sleeps),
        }
    }

    /// Share of the processor time spent in the kernel, 0 to 1.
    pub fn kernel_share(&self) -> f64 {
        self.ticks.1 as f64 / (self.ticks.0 + self.ticks.1).max(1) as f64
    }
}

/// Processor time used so far by a thread of this process.
pub fn running(thread: i32) -> Result<Duration> {
    let schedule = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
    let nanos = schedule
        .split_whitespace()
        .next()
        .and_then(|field| field.parse().ok());
    Ok(Duration::from_nanos(nanos.unwrap_or(0)))
}

/// Memory, threads and descriptors of a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resources {
    /// Resident memory in bytes.
    pub resident: u64,
    /// The same with shared pages divided between the processes that share them.
    pub proportional: u64,
    /// Number of threads.
    pub threads: u64,
    /// Number of open descriptors.
    pub descriptors: u64,
}

impl Resources {
    /// Reads the figures of a process.
    pub fn of(id: u32) -> Result<Resources> {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        Ok(Resources {
            resident: field(&rollup, "Rss:").context("no Rss")? * 1024,
            proportional: field(&rollup, "Pss:").context("no Pss")? * 1024,
            threads: field(&status, "Threads:").unwrap_or(0),
            descriptors: fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64,
        })
    }
}

/// Kernel memory for TCP sockets in bytes, of all processes and both ends.
pub fn socket_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.and_then(|line| {
        line.split_whitespace()
            .skip_while(|word| *word != "mem")
            .nth(1)
    });
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Ok(pages * rustix::param::page_size() as u64)
}

/// The number after a name in a table of `/proc`.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
