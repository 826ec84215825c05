//! Shared parts of the scenarios: test media, the programs under measurement, and a single measurement of one of them.
//! A scenario starts a [`Pair`] (the gateway and the baseline with the same frames), takes a [`Measured`] of each in
//! turn and puts the figures into a table.

use crate::{
    feeder::{Feeder, Media},
    film::{Album, Film, Shape},
    load::{Expected, Load},
    process::{Process, Resources, Usage, socket_memory},
    server::FanOut,
    tally::{Counts, Tally},
};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Time for viewers to get their first frame.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Settings and media of a benchmark run.
pub struct Bench {
    /// Directory of films, configs and the cache of compiled components.
    pub dir: PathBuf,
    /// The gateway's binary.
    pub gateway: PathBuf,
    /// Reduced run that only shows whether the benchmarks work.
    pub quick: bool,
    /// 1280×720, 30 frames per second, 2.5 Mbit/s.
    pub film: Arc<Film>,
    /// 1280×720, 10 frames per second, 40 KB each.
    pub album: Arc<Album>,
}

impl Bench {
    /// Creates the media if they do not exist yet.
    pub fn new(dir: &Path, gateway: &Path, quick: bool) -> Result<Bench> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let dir = fs::canonicalize(dir)?;
        let gateway = fs::canonicalize(gateway).with_context(|| {
            format!(
                "{} is missing: cargo build --release -p sluicegate",
                gateway.display()
            )
        })?;
        let shape = Shape {
            size: (1280, 720),
            rate: 30,
            group: 60,
            bits: 2_500_000,
        };
        let (film, album) = (Film::make(&dir, shape)?.into(), Album::make(&dir)?.into());
        Ok(Bench {
            dir,
            gateway,
            quick,
            film,
            album,
        })
    }

    /// Returns `quick` in a quick run, else `full`.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Starts a gateway with this config.
    pub fn serve(&self, config: &str) -> Result<Process> {
        self.serve_at(Ipv4Addr::LOCALHOST, config)
    }

    /// The same at another address of this machine.
    pub fn serve_at(&self, address: Ipv4Addr, config: &str) -> Result<Process> {
        let file = self.dir.join("bench.toml");
        fs::write(&file, config)?;
        let file = file.to_string_lossy();
        let listen = format!("{address}:0");
        let arguments = ["serve", "--listen", &listen, "--config", &file];
        Process::start(&self.gateway, &arguments, &[("XDG_CACHE_HOME", &self.dir)])
    }

    /// Starts a baseline program that only forwards what the feeder sends.
    pub fn start_bare(&self, way: FanOut, feeder: &Feeder) -> Result<Process> {
        let name = way
            .to_possible_value()
            .map_or(String::new(), |value| value.get_name().to_owned());
        let arguments = ["serve", &name, &feeder.address.to_string()];
        Process::start(&std::env::current_exe()?, &arguments, &[])
    }
}

/// Sends a GET to the gateway; returns the body.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    ask(address, "GET", path)
}

/// Sends a POST without a body to the gateway; returns the body of the answer.
pub fn post(address: SocketAddr, path: &str) -> Result<String> {
    ask(address, "POST", path)
}

fn ask(address: SocketAddr, method: &str, path: &str) -> Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => bail!("{path}: {answer}"),
    }
}

/// Waits until the API's entry of a stream satisfies `wanted`.
pub fn until(
    address: SocketAddr,
    stream: &str,
    wanted: impl Fn(&serde_json::Value) -> bool,
) -> Result<()> {
    let began = Instant::now();
    loop {
        let said = get(address, &format!("/api/devices/{stream}"))?;
        let device = serde_json::from_str(&said).with_context(|| said.clone())?;
        if wanted(&device) {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "the stream did not reach the expected state within {PATIENCE:?}: {said}"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// A transport with its medium and its carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// H.264 over WebSocket.
    Nal,
    /// H.264 as fragmented MP4 over WebSocket.
    Mse,
    /// JPEGs over HTTP.
    Mjpeg,
}

impl Transport {
    /// Name of the transport in paths.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Nal => "nal",
            Transport::Mse => "mse",
            Transport::Mjpeg => "mjpeg",
        }
    }
}

/// The gateway and the baseline, both serving the same frames.
pub struct Pair {
    /// The frames that viewers get.
    pub show: Expected,
    /// The gateway.
    pub gateway: Process,
    /// The baseline.
    pub bare: Process,
    /// Path of the stream in the gateway.
    pub path: String,
    _feeders: Vec<Feeder>,
}

impl Pair {
    /// Starts both programs.
    pub fn start(bench: &Bench, transport: Transport) -> Result<Pair> {
        let mut feeders = Vec::new();
        let (show, source, roll) = match transport {
            Transport::Nal | Transport::Mse => {
                let film = &bench.film;
                let camera = Feeder::start(Media::Camera(film.clone()))?;
                let source = format!("annexb:tcp://{}", camera.address);
                feeders.push(camera);
                let (show, roll) = match transport {
                    Transport::Mse => (
                        Expected::Fragments(film.clone()),
                        Media::Fragments(film.clone(), 1),
                    ),
                    _ => (Expected::Film(film.clone()), Media::Messages(film.clone())),
                };
                (show, source, roll)
            }
            Transport::Mjpeg => {
                let source = format!("file:{}", bench.album.file.display());
                (
                    Expected::Album(bench.album.clone()),
                    source,
                    Media::Parts(bench.album.clone()),
                )
            }
        };
        let passed = Feeder::start(roll)?;
        let bare = bench.start_bare(FanOut::Bare, &passed)?;
        feeders.push(passed);
        let gateway = bench.serve(&format!("[streams.cam]\nsource = \"{source}\"\n"))?;
        Ok(Pair {
            show,
            gateway,
            bare,
            path: format!("/live/cam/{}", transport.name()),
            _feeders: feeders,
        })
    }
}

/// A measurement of a process and the load on it.
pub struct Measured {
    /// Processor time used by the process.
    pub used: Usage,
    /// Resources held by the process at the end.
    pub resources: Resources,
    /// What the viewers received.
    pub counts: Counts,
    /// Processor time of the load generator.
    pub load: Duration,
    /// Duration of the measurement.
    pub time: Duration,
    /// Kernel memory for sockets in bytes, at both ends.
    pub sockets: u64,
}

impl Measured {
    /// Opens `viewers` on the process, lets them settle, and measures for `time`.
    ///
    /// # Errors
    ///
    /// If not all of them get frames, or one gets anything wrong.
    pub fn take(
        process: u32,
        show: &Expected,
        to: (SocketAddr, &str),
        viewers: usize,
        time: Duration,
    ) -> Result<Measured> {
        let mut load = Load::watching(show.clone(), 10)?;
        load.open(to.0, to.1, viewers)?;
        load.settled(PATIENCE)?;
        // The initial burst to new viewers has passed.
        thread::sleep(Duration::from_millis(700));
        Measured::of(process, &load, time)
    }

    /// Measures a process and an existing load for `time`.
    pub fn of(
        process: u32,
        load: &(impl AsRef<Tally> + ?Sized),
        time: Duration,
    ) -> Result<Measured> {
        let tally = load.as_ref();
        tally.take()?;
        let before = Usage::of(process)?;
        let began = Instant::now();
        thread::sleep(time);
        let used = Usage::of(process)?.since(&before);
        let time = began.elapsed();
        let (counts, load) = tally.take()?;
        let measured = Measured {
            used,
            resources: Resources::of(process)?,
            counts,
            load,
            time,
            sockets: socket_memory()?,
        };
        let counts = &measured.counts;
        ensure!(
            counts.faults == 0,
            "viewers received {} faults: {:#?}",
            counts.faults,
            counts.said
        );
        ensure!(counts.messages > 0, "viewers received nothing");
        Ok(measured)
    }

    /// Processor load, where 1 is one whole processor.
    pub fn processor(&self) -> f64 {
        self.used.running.as_secs_f64() / self.time.as_secs_f64()
    }

    /// Processor time in microseconds per delivered frame.
    pub fn each(&self) -> f64 {
        self.used.running.as_secs_f64() * 1e6 / self.counts.messages.max(1) as f64
    }

    /// Share of the frames that were not delivered, 0 to 1.
    pub fn missed(&self) -> f64 {
        self.counts.missed as f64 / (self.counts.messages + self.counts.missed).max(1) as f64
    }
}
