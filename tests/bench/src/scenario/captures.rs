//! Latency of a capture, cost of its decoder, and whether viewers are affected by a storm of captures.

use crate::{
    bench::{Bench, Measured, until},
    clock::{Histogram, now, random_below},
    feeder::{Feeder, Media},
    film::{Film, Shape},
    load::{Expected, Load},
    process::Process,
    report::{Table, median, ms, spread},
    shots::CaptureClient,
    storm::Storm,
};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::{sync::Arc, thread, time::Duration};

/// Target in milliseconds, at 1280×720 with a running decoder.
const AIM: f64 = 10.0;
const LARGE: Shape = Shape {
    size: (1920, 1080),
    rate: 30,
    group: 60,
    bits: 5_000_000,
};
/// Short, so that decoders end soon after their last client.
const IDLE: &str = "200ms";
/// Pause between a client's capture and its next request: a fixed and a random part. At 30 frames per second another
/// frame has arrived by then.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(50));
/// Random delay before a client connects: keyframes are 2 s apart, and clients arrive at any phase.
const MAX_START_DELAY: Duration = Duration::from_millis(300);
/// Time for a new decoder or storm to settle.
const SETTLE: Duration = Duration::from_millis(700);
const PATIENCE: Duration = Duration::from_secs(20);
const WATCHING: usize = 50;
/// One viewer in this number is timed.
const TIMED_ONE_IN: usize = 5;

/// Tables of latencies, of decoders and of the storm.
pub fn run(bench: &Bench) -> Result<[Table; 3]> {
    let small = Stage::start(bench, "1280×720", bench.film.clone())?;
    let large = Film::make(&bench.dir, LARGE)?.into();
    let large = Stage::start(bench, "1920×1080", large)?;
    Ok([
        times(bench, [&small, &large])?,
        decoders(bench, [&small, &large])?,
        storm(bench, &small)?,
    ])
}

/// A gateway with one stream.
struct Stage {
    size: &'static str,
    film: Arc<Film>,
    gateway: Process,
    _feeder: Feeder,
}

impl Stage {
    fn start(bench: &Bench, size: &'static str, film: Arc<Film>) -> Result<Stage> {
        let feeder = Feeder::start(Media::Camera(film.clone()))?;
        let gateway = bench.serve(&format!(
            "[streams.cam]\nsource = \"annexb:tcp://{}\"\nidle = \"{IDLE}\"\n",
            feeder.address
        ))?;
        Ok(Stage {
            size,
            film,
            gateway,
            _feeder: feeder,
        })
    }

    /// Opens viewers on `nal` and waits until all of them receive frames.
    fn watch(&self, viewers: usize, closely: usize) -> Result<Load> {
        let mut load = Load::watching(Expected::Film(self.film.clone()), closely)?;
        load.open(self.gateway.address, "/live/cam/nal", viewers)?;
        load.settled(PATIENCE)?;
        Ok(load)
    }

    fn shots(&self) -> Result<CaptureClient> {
        CaptureClient::connect(self.gateway.address, "cam")
    }

    fn until(&self, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        until(self.gateway.address, "cam", wanted)
    }

    /// A single client that sends requests repeatedly.
    fn warm(&self, count: u64) -> Result<Latencies> {
        let mut shots = self.shots()?;
        // The first capture brings the decoder to the newest frame.
        let mut last = shots.take()?.captured_at;
        let (mut took, mut same) = (Latencies::default(), 0);
        while took.times.count() < count {
            thread::sleep(PAUSE.0 + random_below(PAUSE.1));
            let began = now();
            let image = shots.take()?;
            let time = now() - began;
            // An image of the same frame was cached, which is not what is measured here.
            if image.captured_at == last {
                same += 1;
                ensure!(same * 10 <= count, "the source sends no new frames");
                continue;
            }
            took.add(time, image.bytes);
            last = image.captured_at;
        }
        Ok(took)
    }

    /// New clients, one after the other, each of which starts when the stream is in the `wanted` state.
    fn cold(&self, count: u64, wanted: impl Fn(&Value) -> bool) -> Result<Latencies> {
        let mut took = Latencies::default();
        for _ in 0..count {
            self.until(&wanted)?;
            thread::sleep(random_below(MAX_START_DELAY));
            let began = now();
            let mut shots = self.shots()?;
            let image = shots.take()?;
            took.add(now() - began, image.bytes);
        }
        Ok(took)
    }
}

/// Latencies of captures, and their total size.
#[derive(Default)]
struct Latencies {
    times: Histogram,
    bytes: usize,
}

impl Latencies {
    fn add(&mut self, nanos: u64, bytes: usize) {
        self.times.add(nanos);
        self.bytes += bytes;
    }
}

fn rests(device: &Value) -> bool {
    device["decoder"] == "stopped"
}

fn times(bench: &Bench, stages: [&Stage; 2]) -> Result<Table> {
    let (warm, cold) = bench.pick((20, 4), (500, 100));
    let mut table = Table::new(
        "captures",
        &[
            "<size",
            "<decoder",
            "captures",
            "p50 ms",
            "p99 ms",
            "KB per capture",
        ],
    );
    let mut aims = Vec::new();
    for stage in stages {
        let viewer = stage.watch(1, 1)?;
        let at_work = stage.warm(warm)?;
        let stopped = stage.cold(cold, rests)?;
        let (counts, _) = viewer.as_ref().take()?;
        ensure!(counts.faults == 0, "{:#?}", counts.said);
        drop(viewer);
        let asleep = |device: &Value| rests(device) && device["state"] == "idle";
        let asleep = stage.cold(cold, asleep)?;
        aims.push([0.5, 0.99].map(|part| at_work.times.quantile(part)));
        for (name, took) in [
            ("warm", at_work),
            ("cold", stopped),
            ("cold, source idle", asleep),
        ] {
            let count = took.times.count();
            table.row([
                stage.size.to_owned(),
                name.to_owned(),
                count.to_string(),
                ms(took.times.quantile(0.5)),
                ms(took.times.quantile(0.99)),
                format!("{:.1}", took.bytes as f64 / 1e3 / count.max(1) as f64),
            ]);
        }
    }
    if let Some([half, most]) = aims.first() {
        let millis = |time: &Duration| time.as_secs_f64() * 1e3;
        let shown = |ms: f64| format!("{ms:.2} ms");
        table.aim("warm at 1280×720, p50", millis(half), AIM, shown);
        table.aim("the same, p99", millis(most), AIM, shown);
    }
    Ok(table)
}

fn decoders(bench: &Bench, stages: [&Stage; 2]) -> Result<Table> {
    let (rounds, time) = bench.pick(
        (1, Duration::from_millis(1500)),
        (3, Duration::from_secs(5)),
    );
    let mut table = Table::new(
        "decoders",
        &[
            "<size",
            "without client, CPU ms per second",
            "with client",
            "difference",
            "ms per frame",
        ],
    );
    for stage in stages {
        let viewer = stage.watch(1, 1)?;
        let (mut without, mut with) = (Vec::new(), Vec::new());
        let millis = || -> Result<f64> {
            let measured = Measured::of(stage.gateway.id(), &viewer, time)?;
            Ok(measured.processor() * 1e3)
        };
        for _ in 0..rounds {
            stage.until(rests)?;
            without.push(millis()?);
            let mut shots = stage.shots()?;
            shots.take()?;
            thread::sleep(SETTLE);
            with.push(millis()?);
        }
        let neighbours = with.iter().zip(&without);
        let more: Vec<f64> = neighbours.map(|(with, without)| with - without).collect();
        table.row([
            stage.size.to_owned(),
            format!("{:.1}", median(&without)),
            format!("{:.1}", median(&with)),
            spread(&more),
            format!("{:.2}", median(&more) / f64::from(stage.film.rate)),
        ]);
    }
    Ok(table)
}

fn storm(bench: &Bench, stage: &Stage) -> Result<Table> {
    let viewers = bench.pick(10, WATCHING);
    let (rounds, time) = bench.pick((1, Duration::from_secs(2)), (9, Duration::from_secs(4)));
    let mut table = Table::new(
        "storm",
        &[
            "<capture load",
            "viewers",
            "frames timed",
            "p50 ms",
            "p99 ms",
            "missed",
            "gateway CPU, % of a core",
            "captures requested per second",
            "received per second",
            "load generator, % of a core",
        ],
    );
    let load = stage.watch(viewers, TIMED_ONE_IN)?;
    let (mut calm, mut beside) = (Vec::new(), Vec::new());
    let mut storms = Vec::new();
    for _ in 0..rounds {
        stage.until(rests)?;
        calm.push(Measured::of(stage.gateway.id(), &load, time)?);
        let storm = Storm::begin(stage.gateway.address, "cam")?;
        storm.settled(PATIENCE)?;
        thread::sleep(SETTLE);
        storm.take()?;
        let measured = Measured::of(stage.gateway.id(), &load, time)?;
        let (took, seconds) = (storm.take()?, measured.time.as_secs_f64());
        let used = took.load.as_secs_f64() * 100.0;
        storms.push([took.asked as f64, took.images as f64, used].map(|all| all / seconds));
        beside.push(measured);
    }
    let of_storm = |nth: usize| median(&storms.iter().map(|of| of[nth]).collect::<Vec<_>>());
    for (name, runs) in [("none", &calm), ("heavy", &beside)] {
        let mut delays = Histogram::default();
        runs.iter().for_each(|run| delays.merge(&run.counts.delays));
        let of = |value: fn(&Measured) -> f64| {
            median(&runs.iter().map(value).collect::<Vec<_>>()) * 100.0
        };
        let rates = match name {
            "none" => [0.0; 3],
            _ => [0, 1, 2].map(of_storm),
        };
        table.row([
            name.to_owned(),
            viewers.to_string(),
            delays.count().to_string(),
            ms(delays.quantile(0.5)),
            ms(delays.quantile(0.99)),
            format!("{:.2} %", of(Measured::missed)),
            format!("{:.1}", of(Measured::processor)),
            format!("{:.0}", rates[0]),
            format!("{:.0}", rates[1]),
            format!("{:.1}", rates[2]),
        ]);
    }
    let [half, most] = [0.5, 0.99].map(|part| {
        let time = |run: &Measured| run.counts.delays.quantile(part).as_secs_f64();
        let pairs = beside.iter().zip(&calm);
        spread(
            &pairs
                .map(|(one, other)| time(one) / time(other))
                .collect::<Vec<_>>(),
        )
    });
    table.note(format!(
        "Under load, relative to the run without load just before: p50 {half} ×, p99 {most} ×."
    ));
    Ok(table)
}
