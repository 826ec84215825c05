//! Cost of many devices: idle, all watched, and all captured.

use super::streams::HISTORY;
use crate::{
    bench::{Bench, Measured, until},
    clock::{Histogram, now, random_below},
    feeder::{Feeder, Media},
    film::{Film, Shape},
    load::{Expected, Load},
    process::{Process, Usage},
    report::{Table, mb, ms},
    shots::CaptureClient,
};
use anyhow::{Result, anyhow};
use std::{
    fmt::Write,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const SHAPE: Shape = Shape {
    size: (1280, 720),
    rate: 30,
    group: 60,
    bits: 2_000_000,
};
/// Delay between the starts of two devices: the keyframes of sixteen devices are spread over the 2 s between two
/// keyframes of one, and no two devices send frames at the same time.
const START_INTERVAL: Duration = Duration::from_millis(127);
/// Longer than the time from the last viewer to the first capture, so that sources keep running with a full history.
const IDLE: Duration = Duration::from_secs(2);
/// Time after which everything unused has ended.
const SETTLE: Duration = Duration::from_secs(4);
/// Interval between captures of each device (`CAPTURE_INTERVAL`), shifted by at most the duration of a frame (`FRAME`).
const CAPTURE_INTERVAL: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(33);

/// One gateway that passes through all states.
pub fn run(bench: &Bench) -> Result<Table> {
    let count = bench.pick(4, 16);
    let time = bench.pick(Duration::from_secs(2), Duration::from_secs(10));
    let film = Arc::new(Film::make(&bench.dir, SHAPE)?);
    let (mut feeders, mut config) = (Vec::new(), String::new());
    for nth in 0..count {
        let feeder = Feeder::start(Media::Camera(film.clone()))?;
        write!(
            config,
            "[streams.dev{nth}]\nsource = \"annexb:tcp://{}\"\nidle = \"{}s\"\n",
            feeder.address,
            IDLE.as_secs()
        )?;
        feeders.push(feeder);
    }
    let gateway = bench.serve(&config)?;
    let mut states = States::new(&gateway, count);

    thread::sleep(Duration::from_secs(1));
    let idle = || {
        thread::sleep(time);
        Ok(())
    };
    let (before, ()) = during(gateway.id(), idle)?;
    states.add("idle", before, None)?;

    let mut load = Load::new(Expected::Film(film))?;
    for nth in 0..count {
        load.open(gateway.address, &format!("/live/dev{nth}/nal"), 1)?;
        thread::sleep(START_INTERVAL);
    }
    load.settled(Duration::from_secs(30))?;
    // Until the streams' histories have their full length.
    thread::sleep(bench.pick(Duration::from_secs(1), HISTORY));
    let measured = Measured::of(gateway.id(), &load, time)?;
    let processor = measured.processor();
    let rate = measured.counts.messages as f64 / measured.time.as_secs_f64();
    states.add("watched", processor, Some((rate, &measured.counts.delays)))?;

    let mut clients = (0..count)
        .map(|nth| CaptureClient::connect(gateway.address, &format!("dev{nth}")))
        .collect::<Result<Vec<_>>>()?;
    drop(load);
    capture(&mut clients, SETTLE)?;
    let began = Instant::now();
    let (processor, times) = during(gateway.id(), || capture(&mut clients, time))?;
    let rate = times.count() as f64 / began.elapsed().as_secs_f64();
    states.add("captured", processor, Some((rate, &times)))?;

    drop(clients);
    for nth in 0..count {
        until(gateway.address, &format!("dev{nth}"), |device| {
            device["state"] == "idle"
        })?;
    }
    thread::sleep(Duration::from_secs(1));
    let (after, ()) = during(gateway.id(), idle)?;
    states.add("idle again", after, None)?;
    Ok(states.told())
}

/// Processor load of the process while `act` runs, where 1 is one processor.
fn during<T>(id: u32, act: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let (before, began) = (Usage::of(id)?, Instant::now());
    let done = act()?;
    let used = Usage::of(id)?.since(&before);
    let part = used.running.as_secs_f64() / began.elapsed().as_secs_f64();
    Ok((part, done))
}

/// Every client sends requests independently, spread over [`CAPTURE_INTERVAL`], for `time`; returns the latencies.
fn capture(clients: &mut [CaptureClient], time: Duration) -> Result<Histogram> {
    let (began, count) = (Instant::now(), clients.len());
    thread::scope(|scope| {
        let each = clients.iter_mut().enumerate().map(|(nth, shots)| {
            let mut due = began + CAPTURE_INTERVAL.mul_f64(nth as f64 / count as f64);
            scope.spawn(move || {
                let mut times = Histogram::default();
                while due < began + time {
                    let left = due.saturating_duration_since(Instant::now());
                    thread::sleep(left + random_below(FRAME));
                    let asked = now();
                    shots.take()?;
                    times.add(now() - asked);
                    due += CAPTURE_INTERVAL;
                }
                Ok::<_, anyhow::Error>(times)
            })
        });
        // Start all threads before the first is joined.
        let each: Vec<_> = each.collect();
        let mut all = Histogram::default();
        for one in each {
            all.merge(&one.join().map_err(|_| anyhow!("a client failed"))??);
        }
        Ok(all)
    })
}

/// The result table; compares each state with idle devices.
struct States<'a> {
    gateway: &'a Process,
    devices: usize,
    table: Table,
    idle: Option<(f64, f64)>,
}

impl States<'_> {
    fn new(gateway: &Process, devices: usize) -> States<'_> {
        let head = [
            "<state",
            "devices",
            "% of a core",
            "RSS, MB",
            "threads",
            "file descriptors",
            "frames or captures per second",
            "p50 ms",
            "p99 ms",
        ];
        States {
            gateway,
            devices,
            table: Table::new("devices", &head),
            idle: None,
        }
    }

    /// Adds a row: processor load, frames per second and their latency.
    fn add(&mut self, name: &str, part: f64, got: Option<(f64, &Histogram)>) -> Result<()> {
        let resources = self.gateway.resources()?;
        let [rate, half, most] = got.map_or_else(Default::default, |(rate, times)| {
            let [half, most] = [0.5, 0.99].map(|part| ms(times.quantile(part)));
            [format!("{rate:.1}"), half, most]
        });
        self.table.row([
            name.to_owned(),
            self.devices.to_string(),
            format!("{:.1}", part * 100.0),
            mb(resources.resident),
            resources.threads.to_string(),
            resources.descriptors.to_string(),
            rate,
            half,
            most,
        ]);
        let (percent, memory) = (part * 100.0, resources.resident as f64 / 1e6);
        let idle = *self.idle.get_or_insert((percent, memory));
        if got.is_some() {
            let count = self.devices as f64;
            self.table.note(format!(
                "Each {name} device, compared with an idle one: {:.2} % of a core, {:.2} MB.",
                (percent - idle.0) / count,
                (memory - idle.1) / count,
            ));
        }
        Ok(())
    }

    fn told(self) -> Table {
        self.table
    }
}
