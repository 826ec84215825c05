//! Components of others: what a call and an instance cost in Rust and in JavaScript, and what the exchange of a component
//! costs while it is watched.

use crate::{
    bench::{Bench, Measured, get, post},
    client::Client,
    clock::{Histogram, now},
    feeder::{Feeder, Media},
    load::{Expected, Load, request},
    process::Resources,
    report::{Table, mb, ms},
    wire::Kind,
};
use anyhow::{Context, Result, ensure};
use sluicegate_kit::Film;
use sluicegate_plugin::{Engine, Instance, Limits, Plugin, thread_time};
use std::{
    fs,
    hint::black_box,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Instances that are opened to measure the memory of one.
const INSTANCES: usize = 64;
/// Longest time of an exchange.
const PATIENCE: Duration = Duration::from_secs(60);
/// Target for the longest gap at a viewer beyond the usual one: a group of the film.
const AIM: Duration = Duration::from_secs(2);

/// Cost of the same transport in Rust and JavaScript; `components` is the directory of the built components.
pub fn costs(bench: &Bench, components: &Path) -> Result<Table> {
    let mut table = Table::new(
        "languages",
        &[
            "<transport `h264`",
            "component, MB",
            "compilation, ms",
            "opening, µs",
            "call p50 µs",
            "p99",
            "memory of the guest, KiB",
            "resident memory per instance, KiB",
        ],
    );
    let written = [
        ("Rust", components.join("h264.wasm")),
        ("JavaScript", javascript(bench)?),
    ];
    for (language, file) in written {
        table.row(cost(bench, language, &file)?);
    }
    table.note(
        "Both do the same: `examples/plugins/h264` and the project of `plugin new --lang js`. Compilation is done once for each \
         version of a component, in a process of its own.",
    );
    Ok(table)
}

/// The component of a new project in JavaScript.
fn javascript(bench: &Bench) -> Result<PathBuf> {
    let folder = bench.dir.join("mine");
    let component = folder.join("mine.wasm");
    if component.exists() {
        return Ok(component);
    }
    if !folder.exists() {
        let new = ["plugin", "new", "--lang", "js"];
        run(Command::new(&bench.gateway).args(new).arg(&folder))?;
    }
    run(Command::new("npm").arg("ci").current_dir(&folder))?;
    run(Command::new("npm")
        .args(["run", "build"])
        .current_dir(&folder))?;
    Ok(component)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

/// The bytes of a component with a number in a custom section, so that they are another component that does the same.
fn another(component: &[u8], number: u32) -> Vec<u8> {
    let name = format!("{number:09}");
    [component, &[0, 10, 9], name.as_bytes()].concat()
}

fn cost(bench: &Bench, language: &str, file: &Path) -> Result<[String; 8]> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let engine = Engine::new()?;
    // Not in the cache of compiled components.
    let fresh = another(&bytes, std::process::id());
    let began = Instant::now();
    let plugin: Arc<Plugin> = engine.load("bench.wasm", &fresh, Limits::default())?;
    let compiled = began.elapsed();
    let open = || Instance::open(&plugin, "bench", "{}", Arc::default());
    let began = thread_time();
    let (mut instance, profile) = open()?;
    let opened = thread_time().saturating_sub(began);
    let film = Film::all(&profile).into_iter().next();
    let film = film.context("it takes no stream")?.make(&profile)?;
    let calls = film.endless().context("the stream has no groups")?;
    let mut times = Histogram::default();
    for (nth, call) in calls.take(bench.pick(500, 20_000)).enumerate() {
        let began = now();
        black_box(instance.make(call));
        if nth > 100 {
            times.add(now() - began);
        }
    }
    let guest = instance.holds().memory;
    let resident = || Resources::of(std::process::id()).map(|resources| resources.resident);
    let before = resident()?;
    let mut instances = Vec::new();
    for _ in 0..INSTANCES {
        let (mut instance, _) = open()?;
        for call in film.calls.iter().take(60) {
            black_box(instance.make(call.clone()));
        }
        instances.push(instance);
    }
    let each = resident()?.saturating_sub(before) / INSTANCES as u64;
    let us = |part: f64| format!("{:.1}", times.quantile(part).as_secs_f64() * 1e6);
    Ok([
        language.to_owned(),
        mb(bytes.len() as u64),
        ms(compiled),
        format!("{:.0}", opened.as_secs_f64() * 1e6),
        us(0.5),
        us(0.99),
        (guest / 1024).to_string(),
        (each / 1024).to_string(),
    ])
}

/// Steps, gap and cost of exchanges under viewers of `nal` in a file; `components` is the directory of the built
/// components.
pub fn exchanges(bench: &Bench, components: &Path) -> Result<Table> {
    let mut table = Table::new(
        "exchange",
        &[
            "viewers",
            "loading, ms",
            "comparing, ms",
            "switching, ms",
            "longest gap at a viewer, ms: usual",
            "during the exchange",
            "gateway CPU: usual",
            "during the exchange",
        ],
    );
    let component = fs::read(components.join("nal.wasm")).context("run plugins/build")?;
    let file = bench.dir.join("exchanged.wasm");
    let mut longest = Duration::ZERO;
    for viewers in bench.pick(&[5][..], &[1, 300]) {
        fs::write(&file, another(&component, 0))?;
        let camera = Feeder::start(Media::Camera(bench.film.clone()))?;
        let gateway = bench.serve(&format!(
            "[streams.cam]\nsource = \"annexb:tcp://{}\"\n[transports.mine]\nplugin = {file:?}\n",
            camera.address
        ))?;
        let path = "/live/cam/mine";
        let mut load = Load::watching(Expected::Film(bench.film.clone()), 10)?;
        load.open(gateway.address, path, *viewers)?;
        load.settled(Duration::from_secs(20))?;
        let gap = Gap::watch(gateway.address, path)?;
        thread::sleep(Duration::from_secs(1));
        let time = bench.pick(Duration::from_secs(1), Duration::from_secs(5));
        gap.take();
        let usual = Measured::of(gateway.id(), &load, time)?;
        let usual_gap = gap.take();
        // The number differs from run to run, so that the component is not in the cache.
        fs::write(
            &file,
            another(&component, std::process::id() + *viewers as u32),
        )?;
        let address = gateway.address;
        let reload = thread::spawn(move || exchange(address));
        // Loading happens in another process; the comparison begins soon.
        let busy = Measured::of(gateway.id(), &load, bench.pick(time, time / 2))?;
        let steps = reload
            .join()
            .map_err(|_| anyhow::anyhow!("the exchange panicked"))??;
        thread::sleep(Duration::from_millis(200));
        let busy_gap = gap.take();
        longest = longest.max(busy_gap.saturating_sub(usual_gap));
        let percent = |part: f64| format!("{:.1} %", part * 100.0);
        table.row([
            viewers.to_string(),
            ms(steps[0]),
            ms(steps[1]),
            ms(steps[2]),
            ms(usual_gap),
            ms(busy_gap),
            percent(usual.processor()),
            percent(busy.processor()),
        ]);
    }
    table.aim(
        "gap beyond the usual, ms",
        longest.as_secs_f64() * 1e3,
        AIM.as_secs_f64() * 1e3,
        |ms| format!("{ms:.0}"),
    );
    table.note(
        "A camera with 30 frames per second and groups of 2 s: a comparison needs 30 samples and the start of a group, and \
         the switch waits for the next one.",
    );
    Ok(table)
}

/// Lets the gateway read the component again; returns how long it loaded, compared and switched.
fn exchange(address: SocketAddr) -> Result<[Duration; 3]> {
    let began = Instant::now();
    let reload = thread::spawn(move || post(address, "/api/plugins/mine/reload"));
    let reached = |states: &[&str]| -> Result<Duration> {
        loop {
            let plugins: serde_json::Value = serde_json::from_str(&get(address, "/api/plugins")?)?;
            let mut plugins = plugins.as_array().context("not a list")?.iter();
            let mine = plugins.find(|plugin| plugin["name"] == "mine");
            let state = mine.and_then(|mine| mine["swap"]["state"].as_str());
            if states.contains(&state.unwrap_or_default()) {
                return Ok(began.elapsed());
            }
            ensure!(state != Some("refused"), "the candidate was refused");
            ensure!(
                began.elapsed() < PATIENCE,
                "no exchange within {PATIENCE:?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    };
    let loaded = reached(&["comparing", "switching", "switched"])?;
    let compared = reached(&["switching", "switched"])?;
    let switched = reached(&["switched"])?;
    let answered = reload
        .join()
        .map_err(|_| anyhow::anyhow!("the request panicked"))?;
    answered?;
    Ok([loaded, compared - loaded, switched - compared])
}

/// A viewer that notes the longest time without data.
struct Gap {
    longest: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Gap {
    fn watch(address: SocketAddr, path: &str) -> Result<Gap> {
        let mut client = Client::connect(address)?;
        client.write(request(Kind::WebSocket, address, path).as_bytes())?;
        let gap = Gap {
            longest: Arc::default(),
            ends: Arc::default(),
        };
        let (longest, ends) = (gap.longest.clone(), gap.ends.clone());
        thread::spawn(move || {
            let mut last = Instant::now();
            while !ends.load(Ordering::Relaxed) && client.read().is_ok() {
                let gap = u64::try_from(last.elapsed().as_nanos()).unwrap_or(u64::MAX);
                longest.fetch_max(gap, Ordering::Relaxed);
                last = Instant::now();
            }
            // A viewer that was disconnected has the longest gap.
            longest.store(u64::MAX, Ordering::Relaxed);
        });
        Ok(gap)
    }

    /// The longest gap since the last call.
    fn take(&self) -> Duration {
        Duration::from_nanos(self.longest.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Gap {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}
