//! Time from `exec` to the first accepted connection.

use crate::{
    bench::Bench,
    clock::{Histogram, now},
    report::{Table, ms},
};
use anyhow::{Result, ensure};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// Target in milliseconds, with components compiled before.
const AIM: f64 = 150.0;
const PATIENCE: u64 = 30_000_000_000;

/// Measures with and without a cache of compiled components.
pub fn run(bench: &Bench) -> Result<Table> {
    let runs = bench.pick(3, 20);
    let mut table = Table::new(
        "start",
        &["<components", "runs", "p50 ms", "p95 ms", "max ms"],
    );
    let mut aim = Duration::ZERO;
    for (name, cold) in [("from the cache", false), ("compiled at start", true)] {
        let cache = bench.dir.join("start-cache");
        let mut times = Histogram::default();
        // The first run fills our cache and the kernel's, and does not count.
        for run in 0..=runs {
            if cold {
                let _ = fs::remove_dir_all(&cache);
            }
            fs::create_dir_all(&cache)?;
            let time = start(bench, &cache)?;
            if run > 0 {
                times.add(time);
            }
        }
        if !cold {
            aim = times.quantile(0.5);
        }
        let cells = [0.5, 0.95, 1.0].map(|part| ms(times.quantile(part)));
        table.row([name.to_owned(), runs.to_string()].into_iter().chain(cells));
    }
    table.aim("from the cache, p50", aim.as_secs_f64() * 1e3, AIM, |ms| {
        format!("{ms:.0} ms")
    });
    Ok(table)
}

fn start(bench: &Bench, cache: &Path) -> Result<u64> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let began = now();
    let mut child = KillOnDrop(
        Command::new(&bench.gateway)
            .args(["serve", "--listen", &free.to_string(), "test-pattern"])
            .env("XDG_CACHE_HOME", cache)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?,
    );
    let time = connects(free, began, &mut child.0)?;
    Ok(time)
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn connects(address: SocketAddr, began: u64, child: &mut Child) -> Result<u64> {
    loop {
        if TcpStream::connect(address).is_ok() {
            return Ok(now() - began);
        }
        ensure!(child.try_wait()?.is_none(), "the gateway ended");
        ensure!(now() < began + PATIENCE, "the gateway does not listen");
        thread::sleep(Duration::from_micros(200));
    }
}
