//! Where the processor time of a delivery is spent: system calls, sleeps and functions of the gateway while it serves.

use crate::{
    bench::{Bench, Measured, Pair, Transport},
    load::Load,
    report::Table,
    scenario::others::on_path,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

/// Functions below this share, in percent, are not listed.
const MIN_SHARE: f64 = 0.8;

/// Prints the profile at this number of viewers.
pub fn run(
    bench: &Bench,
    transport: Transport,
    viewers: usize,
    time: Duration,
) -> Result<Vec<Table>> {
    for tool in ["perf", "strace"] {
        ensure!(
            on_path(tool).is_some(),
            "`{tool}` is missing: install Debian's linux-perf and strace"
        );
    }
    let pair = Pair::start(bench, transport)?;
    let mut load = Load::watching(pair.show.clone(), 10)?;
    load.open(pair.gateway.address, &pair.path, viewers)?;
    load.settled(Duration::from_secs(20))?;
    thread::sleep(Duration::from_secs(1));
    let id = pair.gateway.id();

    let threads = threads(id)?;
    let plain = Measured::of(id, &load, time)?;
    let threads = since(self::threads(id)?, &threads);
    let calls = calls(id, time)?;
    let samples = samples(bench, id, time)?;

    let mut account = Table::new("profile", &["<part", "µs per frame", "share"]);
    account.row([
        "total".into(),
        format!("{:.2}", plain.each()),
        "100 %".into(),
    ]);
    let each = |share: f64| format!("{:.2}", plain.each() * share / 100.0);
    for (name, share) in samples.inclusive {
        account.row([name, each(share), format!("{share:.1} %")]);
    }
    account.note(format!(
        "{} viewers on `{}`, {:.0} frames sent per second; {:.0} % kernel time by the kernel's accounting; {:.3} sleeps and {:.2} µs of waiting for a CPU per frame. \
         A function's time includes what it calls, so rows overlap.",
        viewers,
        transport.name(),
        plain.counts.messages as f64 / plain.time.as_secs_f64(),
        plain.used.kernel_share() * 100.0,
        plain.used.sleeps as f64 / plain.counts.messages as f64,
        plain.used.waiting.as_secs_f64() * 1e6 / plain.counts.messages as f64,
    ));

    let mut functions = Table::new(
        "profile-functions",
        &["<function (self time)", "µs per frame", "share"],
    );
    for (name, share) in samples.own {
        functions.row([format!("`{name}`"), each(share), format!("{share:.1} %")]);
    }

    let mut system = Table::new("profile-calls", &["<system call", "per `writev`"]);
    for (name, count) in calls {
        system.row([format!("`{name}`"), format!("{count:.3}")]);
    }
    system.note(
        "Counted by strace, which slows the process down, so there are fewer wake-ups than without it and more work at each.",
    );

    let mut sleeps = Table::new(
        "profile-threads",
        &[
            "<thread name",
            "threads",
            "µs per frame",
            "sleeps per frame",
            "µs waiting for a CPU per frame",
        ],
    );
    let messages = plain.counts.messages as f64;
    for (name, thread) in threads {
        sleeps.row([
            format!("`{name}`"),
            thread.count.to_string(),
            format!("{:.2}", thread.running / 1e3 / messages),
            format!("{:.3}", thread.sleeps / messages),
            format!("{:.2}", thread.waiting / 1e3 / messages),
        ]);
    }
    Ok(vec![account, functions, system, sleeps])
}

#[derive(Clone, Copy, Default)]
struct Threads {
    count: u32,
    /// Time on a processor in nanoseconds.
    running: f64,
    /// Time waiting for a processor in nanoseconds.
    waiting: f64,
    sleeps: f64,
}

/// Figures of the threads, grouped by name.
fn threads(process: u32) -> Result<BTreeMap<String, Threads>> {
    let mut all: BTreeMap<String, Threads> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let dir = task?.path();
        let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
        let entry = all.entry(read("comm").trim().to_owned()).or_default();
        let schedule = read("schedstat");
        let mut numbers = schedule
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0));
        entry.count += 1;
        entry.running += numbers.next().unwrap_or(0.0);
        entry.waiting += numbers.next().unwrap_or(0.0);
        entry.sleeps +=
            crate::process::field(&read("status"), "voluntary_ctxt_switches:").unwrap_or(0) as f64;
    }
    Ok(all)
}

fn since(
    mut after: BTreeMap<String, Threads>,
    before: &BTreeMap<String, Threads>,
) -> BTreeMap<String, Threads> {
    for (name, threads) in &mut after {
        let before = before.get(name).copied().unwrap_or_default();
        threads.running -= before.running;
        threads.waiting -= before.waiting;
        threads.sleeps -= before.sleeps;
    }
    after.retain(|_, threads| threads.running > 0.0);
    after
}

/// System calls per call that writes to viewers, most frequent first. They cannot be related to frames, because strace
/// slows the process so much that viewers miss some.
fn calls(process: u32, time: Duration) -> Result<Vec<(String, f64)>> {
    let seconds = time.as_secs_f64().to_string();
    let process = process.to_string();
    let output = Command::new("timeout")
        .args(["--signal=INT", &seconds, "strace"])
        .args(["-c", "-f", "-U", "calls,name", "-p", &process])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut calls: Vec<(String, f64)> = text
        .lines()
        .filter_map(|line| {
            let (count, name) = line.trim().split_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        })
        .filter(|(name, _)| name != "total")
        .collect();
    let writes = calls.iter().find(|(name, _)| name == "writev");
    let writes = writes
        .with_context(|| format!("strace recorded no writes: {text}"))?
        .1;
    calls.iter_mut().for_each(|(_, count)| *count /= writes);
    calls.retain(|(_, each)| *each >= 0.0005);
    calls.sort_by(|one, other| other.1.total_cmp(&one.1));
    Ok(calls)
}

struct Samples {
    /// Shares in percent including callees: system calls and interesting functions inside the kernel.
    inclusive: Vec<(String, f64)>,
    /// Shares of functions without callees.
    own: Vec<(String, f64)>,
}

/// Kernel functions to look for, and their meaning.
const INSIDE: [(&str, &str); 8] = [
    ("tcp_sendmsg", "TCP send"),
    ("_copy_from_iter", "copying the data into the kernel"),
    (
        "__local_bh_enable_ip",
        "receive path of the loopback, in the sender's time",
    ),
    ("sock_def_readable", "waking the receiver"),
    ("tcp_ack", "acknowledgements"),
    ("ep_poll_callback", "notifying epoll"),
    ("try_to_wake_up", "waking a thread"),
    ("__schedule", "context switch"),
];

fn samples(bench: &Bench, process: u32, time: Duration) -> Result<Samples> {
    let file = bench.dir.join("perf.data");
    let file = file.to_string_lossy();
    let process = process.to_string();
    let seconds = time.as_secs_f64().to_string();
    // Machines without performance counters have the clock; 1999 Hz so as not to be in phase with the frames.
    let record = [
        "record",
        "-q",
        "-e",
        "cpu-clock",
        "-F",
        "1999",
        "-g",
        "-o",
        &file,
        "-p",
        &process,
        "--",
        "sleep",
        &seconds,
    ];
    let done = Command::new("perf")
        .args(record)
        .stdout(Stdio::null())
        .output()?;
    if !done.status.success() {
        bail!("perf: {}", String::from_utf8_lossy(&done.stderr));
    }
    let report = |children: &str| -> Result<Vec<(String, f64)>> {
        let arguments = [
            "report",
            "-i",
            &file,
            "--stdio",
            "-g",
            "none",
            children,
            "--sort",
            "symbol",
            "--percent-limit",
            "0.05",
            "-w",
            "0,200",
        ];
        let output = Command::new("perf").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(line)
            .collect())
    };
    let all = report("--children")?;
    let own = report("--no-children")?;
    let find = |wanted: &str| {
        all.iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, share)| *share)
    };
    let mut inclusive = Vec::new();
    let mut calls = 0.0;
    // If the compiler turned the last call of a system call into a jump, only the target is on the stack.
    let call = |name: &str| -> Option<String> {
        let plain = name.strip_prefix("__x64_sys_");
        let jumped = || {
            ["do_writev", "__sys_sendto", "__sys_recvfrom"]
                .contains(&name)
                .then_some(name)
        };
        Some(
            plain
                .or_else(jumped)?
                .replace("do_", "")
                .replace("__sys_", ""),
        )
    };
    for (name, share) in &all {
        if let Some(call) = call(name)
            && inclusive
                .iter()
                .all(|(known, _): &(String, f64)| !known.contains(&call))
        {
            calls += share;
            inclusive.push((format!("system call `{call}`"), *share));
        }
    }
    ensure!(
        calls > 0.0,
        "perf names no system calls: is /proc/sys/kernel/kptr_restrict set?"
    );
    let entry = find("do_syscall_64").context("perf names no entry of the kernel")?;
    inclusive.push(("user space, with interrupts".into(), 100.0 - entry));
    for (name, what) in INSIDE {
        if let Some(share) = find(name) {
            inclusive.push((format!("`{name}`: {what}"), share));
        }
    }
    let own = own
        .into_iter()
        .filter(|(_, share)| *share >= MIN_SHARE)
        .collect();
    Ok(Samples { inclusive, own })
}

/// Parses `12.34%  [k] name`, with one or two shares in front.
fn line(line: &str) -> Option<(String, f64)> {
    let line = line.trim();
    let (first, rest) = line.split_once('%')?;
    let share: f64 = first.parse().ok()?;
    let (_, name) = rest.split_once("] ")?;
    // Generic parameters and hashes are long and uninformative.
    let name = name.split("  ").next().unwrap_or(name).trim();
    Some((name.to_owned(), share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_perf_are_read() {
        assert_eq!(
            line("    12.34%     1.10%  [k] tcp_sendmsg      -      -   "),
            Some(("tcp_sendmsg".into(), 12.34))
        );
        assert_eq!(
            line("     2.50%  [.] <a::B as c::D>::e"),
            Some(("<a::B as c::D>::e".into(), 2.5))
        );
        assert_eq!(line("# Overhead  Symbol"), None);
        assert_eq!(line(""), None);
    }
}
