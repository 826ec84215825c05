//! Processor time and memory per viewer of `webcodecs` over WebTransport, compared with a bare quinn program that writes
//! the same bytes, with the same bytes over WebSocket, and with `nal`.

use crate::{
    bench::{Bench, Measured, PATIENCE},
    feeder::{Feeder, Media},
    load::Expected,
    process::Process,
    report::{Table, mb, median, spread},
    sessions::Sessions,
};
use anyhow::Result;
use std::{net::SocketAddr, thread, time::Duration};

/// Target ratio to the baseline's processor time, and target in microseconds per 10 KB frame and viewer.
const AIM: f64 = 1.25;
const AIM_FRAME: f64 = 60.0;
/// Path of the stream in the gateway.
pub const PATH: &str = "/live/cam/webcodecs";

/// What is measured in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    WebTransport,
    Bare,
    Twin,
    Nal,
}

const SUBJECTS: [Subject; 4] = [
    Subject::WebTransport,
    Subject::Bare,
    Subject::Twin,
    Subject::Nal,
];

/// The gateway and the bare quinn program with the same camera.
pub struct Programs {
    /// The gateway.
    pub gateway: Process,
    bare: Process,
    _feeders: [Feeder; 2],
}

impl Programs {
    /// Starts both.
    pub fn start(bench: &Bench) -> Result<Programs> {
        let camera = Feeder::start(Media::Camera(bench.film.clone()))?;
        let records = Feeder::start(Media::Records(bench.film.clone()))?;
        let arguments = ["serve-quic", &records.address.to_string()];
        let bare = Process::start(&std::env::current_exe()?, &arguments, &[])?;
        let source = format!("annexb:tcp://{}", camera.address);
        let gateway = bench.serve(&format!("[streams.cam]\nsource = \"{source}\"\n"))?;
        Ok(Programs {
            gateway,
            bare,
            _feeders: [camera, records],
        })
    }

    fn measure(
        &self,
        bench: &Bench,
        subject: Subject,
        viewers: usize,
        time: Duration,
    ) -> Result<Measured> {
        let gateway = (self.gateway.id(), self.gateway.address);
        let film = bench.film.clone();
        match subject {
            Subject::WebTransport => sessions(bench, gateway, PATH, viewers, time),
            Subject::Bare => sessions(
                bench,
                (self.bare.id(), self.bare.address),
                "/",
                viewers,
                time,
            ),
            Subject::Twin => Measured::take(
                gateway.0,
                &Expected::Records(film),
                (gateway.1, PATH),
                viewers,
                time,
            ),
            Subject::Nal => Measured::take(
                gateway.0,
                &Expected::Film(film),
                (gateway.1, "/live/cam/nal"),
                viewers,
                time,
            ),
        }
    }
}

fn sessions(
    bench: &Bench,
    (process, address): (u32, SocketAddr),
    path: &str,
    viewers: usize,
    time: Duration,
) -> Result<Measured> {
    let load = Sessions::start(bench.film.clone(), address, path, viewers, None)?;
    load.settled(PATIENCE)?;
    // The initial burst to new viewers has passed.
    thread::sleep(Duration::from_millis(700));
    Measured::of(process, &load, time)
}

/// Measures all of them in turn at each number of viewers; returns the tables of processor time and of memory.
pub fn run(bench: &Bench) -> Result<[Table; 2]> {
    let counts = bench.pick(&[1, 50][..], &[1, 50, 200]);
    let (rounds, time) = bench.pick(
        (1, Duration::from_millis(1500)),
        (5, Duration::from_secs(5)),
    );
    let mut cpu = Table::new(
        "cpu-webtransport",
        &[
            "viewers",
            "WebTransport, µs per frame",
            "bare quinn, µs per frame",
            "WebTransport / bare quinn",
            "WebSocket, µs per frame",
            "`nal`, µs per frame",
            "WebTransport / `nal`",
            "WebTransport, kernel time",
            "sleeps per frame: WebTransport, bare quinn",
            "frames missed: WebTransport, bare quinn",
            "load generator, µs per frame",
        ],
    );
    let mut memory = Table::new(
        "memory-webtransport",
        &[
            "viewers",
            "RSS, MB",
            "PSS, MB",
            "bare quinn, PSS, MB",
            "threads",
            "file descriptors",
        ],
    );
    let programs = Programs::start(bench)?;
    let mut ratios = Vec::new();
    // Microseconds per frame for all viewers together, and memory; of both programs.
    let mut all: Vec<[f64; 2]> = Vec::new();
    let mut proportional = Vec::new();
    for &count in counts {
        let mut runs: [Vec<Measured>; SUBJECTS.len()] = Default::default();
        for _ in 0..rounds {
            for (subject, runs) in SUBJECTS.into_iter().zip(&mut runs) {
                runs.push(programs.measure(bench, subject, count, time)?);
            }
        }
        let of = |subject: Subject, value: fn(&Measured) -> f64| -> Vec<f64> {
            let place = SUBJECTS.iter().position(|known| *known == subject);
            let runs = place.and_then(|place| runs.get(place));
            runs.into_iter().flatten().map(value).collect()
        };
        let each = |subject| of(subject, Measured::each);
        let ratio = |other| -> Vec<f64> {
            let pairs = each(Subject::WebTransport).into_iter().zip(each(other));
            pairs.map(|(one, other)| one / other).collect()
        };
        let both = |value: fn(&Measured) -> f64, show: fn(f64) -> String| {
            let values = [Subject::WebTransport, Subject::Bare];
            values
                .map(|subject| show(median(&of(subject, value))))
                .join(", ")
        };
        let time = median(&each(Subject::WebTransport));
        cpu.row([
            count.to_string(),
            spread(&each(Subject::WebTransport)),
            spread(&each(Subject::Bare)),
            spread(&ratio(Subject::Bare)),
            spread(&each(Subject::Twin)),
            spread(&each(Subject::Nal)),
            spread(&ratio(Subject::Nal)),
            percent(median(&of(Subject::WebTransport, |run| {
                run.used.kernel_share()
            }))),
            both(
                |run| run.used.sleeps as f64 / run.counts.messages.max(1) as f64,
                |share| format!("{share:.3}"),
            ),
            both(Measured::missed, |share| format!("{:.2} %", share * 100.0)),
            format!(
                "{:.2}",
                median(&of(Subject::WebTransport, |run| {
                    run.load.as_secs_f64() * 1e6 / run.counts.messages.max(1) as f64
                }))
            ),
        ]);
        ratios.push((count, median(&ratio(Subject::Bare)), time));
        all.push([time, median(&each(Subject::Bare))].map(|each| each * count as f64));
        if let (Some(run), Some(bare)) = (runs[0].first(), runs[1].first()) {
            let (gateway, bare) = (run.resources, bare.resources);
            memory.row([
                count.to_string(),
                mb(gateway.resident),
                mb(gateway.proportional),
                mb(bare.proportional),
                gateway.threads.to_string(),
                gateway.descriptors.to_string(),
            ]);
            let both = [gateway.proportional as f64, bare.proportional as f64];
            proportional.push((count as f64, both));
        }
    }
    for (count, ratio, time) in ratios {
        if count == 1 {
            cpu.note(format!(
                "With one viewer the gateway takes {ratio:.2} × the baseline's time, because it also parses the source and calls \
                 the component."
            ));
            continue;
        }
        cpu.aim(&format!("{count} viewers"), ratio, AIM, |ratio| {
            format!("{ratio:.2} ×")
        });
        cpu.aim(
            &format!("{count} viewers, µs per frame"),
            time,
            AIM_FRAME,
            |time| format!("{time:.1}"),
        );
    }
    if let (Some(first), Some(last)) = (proportional.first(), proportional.last())
        && let (Some(few), Some(many)) = (all.first(), all.last())
        && last.0 > first.0
    {
        let slope = |nth: usize| (many[nth] - few[nth]) / (last.0 - first.0);
        let (own, bare) = (slope(0), slope(1));
        cpu.note(format!(
            "Each additional viewer: {own:.2} µs per frame, in bare quinn {bare:.2}."
        ));
        cpu.aim("each additional viewer", own / bare, AIM, |ratio| {
            format!("{ratio:.2} ×")
        });
        let each = |nth: usize| (last.1[nth] - first.1[nth]) / (last.0 - first.0) / 1024.0;
        memory.note(format!(
            "Each additional viewer: {:.1} KiB, in bare quinn {:.1} KiB.",
            each(0),
            each(1)
        ));
    }
    Ok([cpu, memory])
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
