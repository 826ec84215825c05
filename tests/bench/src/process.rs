//! Other processes as Linux accounts for them: processor time, memory, threads, descriptors.

use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A process that was started here; killed when dropped.
pub struct Process {
    child: Child,
    /// What it said it listens on.
    pub address: SocketAddr,
}

impl Process {
    /// Starts it and waits for its first line, which names its address.
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
                bail!(
                    "{} did not say where it listens: {line:?}",
                    program.display()
                )
            }
        }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it holds now.
    pub fn holds(&self) -> Result<Holds> {
        Holds::of(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of all threads there are, and how often they slept. Threads that ended are not in it, so it counts
/// over a stretch in which none does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// On a processor, to the nanosecond (`/proc/PID/task/*/schedstat`).
    pub running: Duration,
    /// Ready, and waiting for a processor.
    pub waiting: Duration,
    /// In the process itself and in the kernel for it, in clock ticks: only their ratio is of use.
    pub ticks: (u64, u64),
    /// Times a thread went to sleep of its own will.
    pub sleeps: u64,
}

impl Used {
    /// Of the process with that id.
    pub fn of(id: u32) -> Result<Used> {
        let mut used = Used::default();
        let tasks = format!("/proc/{id}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            // A thread may end between the listing and the reading.
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

    /// What was used since.
    pub fn since(&self, before: &Used) -> Used {
        Used {
            running: self.running.saturating_sub(before.running),
            waiting: self.waiting.saturating_sub(before.waiting),
            ticks: (
                self.ticks.0.saturating_sub(before.ticks.0),
                self.ticks.1.saturating_sub(before.ticks.1),
            ),
            sleeps: self.sleeps.saturating_sub(before.sleeps),
        }
    }

    /// The kernel's part of the processor time, 0 to 1.
    pub fn kernel_share(&self) -> f64 {
        self.ticks.1 as f64 / (self.ticks.0 + self.ticks.1).max(1) as f64
    }
}

/// Processor time so far of one of this process's threads.
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
pub struct Holds {
    /// Resident bytes.
    pub resident: u64,
    /// The same, pages shared with other processes counted by their share.
    pub proportional: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Holds {
    /// Of the process with that id.
    pub fn of(id: u32) -> Result<Holds> {
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        Ok(Holds {
            resident: field(&rollup, "Rss:").context("no Rss")? * 1024,
            proportional: field(&rollup, "Pss:").context("no Pss")? * 1024,
            threads: field(&status, "Threads:").unwrap_or(0),
            descriptors: fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64,
        })
    }
}

/// Bytes the kernel holds for TCP sockets, of all processes and both ends.
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

/// The number behind a name in the tables of `/proc`.
pub fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
