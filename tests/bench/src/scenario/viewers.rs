//! Processor time and memory by number of viewers, compared with a baseline program that writes the same bytes.

use crate::{
    bench::{Bench, Measured, Pair, Transport},
    process::Process,
    report::{Table, mb, median, spread},
};
use anyhow::Result;
use std::time::Duration;

/// Target ratio to the baseline's processor time.
const AIM: f64 = 1.25;
/// Memory targets in bytes: idle, and per viewer.
const AIM_IDLE: f64 = 40e6;
const AIM_EACH: f64 = 24.0 * 1024.0;

/// Measures both programs in turn at each number of viewers; returns the tables of processor time and of memory.
pub fn run(bench: &Bench, transport: Transport) -> Result<[Table; 2]> {
    let counts = bench.pick(&[1, 50][..], &[1, 50, 300, 1000]);
    let (rounds, time) = bench.pick(
        (1, Duration::from_millis(1500)),
        (3, Duration::from_secs(5)),
    );
    let (cpu, memory) = match transport {
        Transport::Nal => ("cpu-nal", "memory-nal"),
        Transport::Mse => ("cpu-mse", "memory-mse"),
        Transport::Mjpeg => ("cpu-mjpeg", "memory-mjpeg"),
    };
    let mut cpu = Table::new(
        cpu,
        &[
            "viewers",
            "gateway CPU, % of a core",
            "baseline CPU, % of a core",
            "gateway, µs per frame",
            "baseline, µs per frame",
            "gateway / baseline",
            "gateway, kernel time",
            "frames missed: gateway, baseline",
            "load generator, µs per frame",
        ],
    );
    let mut memory = Table::new(
        memory,
        &[
            "viewers",
            "RSS, MB",
            "PSS, MB",
            "threads",
            "file descriptors",
            "kernel socket memory, MB",
        ],
    );
    let pair = Pair::start(bench, transport)?;
    let idle = idle(&pair.gateway)?;
    memory.row([
        "0".into(),
        mb(idle.0),
        mb(idle.1),
        String::new(),
        String::new(),
        String::new(),
    ]);

    // For the lowest and highest number of viewers: the number, the processor load of both programs, and memory.
    let mut ends: Vec<(f64, [f64; 2], f64)> = Vec::new();
    let mut ratios = Vec::new();
    for &count in counts {
        let mut runs: [Vec<Measured>; 2] = Default::default();
        for _ in 0..rounds {
            let gateway = (pair.gateway.address, pair.path.as_str());
            runs[0].push(Measured::take(
                pair.gateway.id(),
                &pair.show,
                gateway,
                count,
                time,
            )?);
            runs[1].push(Measured::take(
                pair.bare.id(),
                &pair.show,
                (pair.bare.address, "/"),
                count,
                time,
            )?);
        }
        let of = |nth: usize, value: fn(&Measured) -> f64| -> Vec<f64> {
            runs[nth].iter().map(value).collect()
        };
        let (gateway, bare) = (of(0, Measured::each), of(1, Measured::each));
        let ratio: Vec<f64> = gateway
            .iter()
            .zip(&bare)
            .map(|(one, other)| one / other)
            .collect();
        let percent = |values: &[f64]| format!("{:.1}", median(values) * 100.0);
        let share = of(0, |run| run.used.kernel_share());
        let load = of(0, |run| {
            run.load.as_secs_f64() * 1e6 / run.counts.messages.max(1) as f64
        });
        cpu.row([
            count.to_string(),
            percent(&of(0, Measured::processor)),
            percent(&of(1, Measured::processor)),
            format!("{:.2}", median(&gateway)),
            format!("{:.2}", median(&bare)),
            spread(&ratio),
            format!("{:.0} %", median(&share) * 100.0),
            format!(
                "{:.2} %, {:.2} %",
                median(&of(0, Measured::missed)) * 100.0,
                median(&of(1, Measured::missed)) * 100.0
            ),
            format!("{:.2}", median(&load)),
        ]);
        ratios.push((count, median(&ratio)));
        if let Some(last) = runs[0].last() {
            memory.row([
                count.to_string(),
                mb(last.resources.resident),
                mb(last.resources.proportional),
                last.resources.threads.to_string(),
                last.resources.descriptors.to_string(),
                mb(last.sockets),
            ]);
            let processors = [
                median(&of(0, Measured::processor)),
                median(&of(1, Measured::processor)),
            ];
            ends.push((count as f64, processors, last.resources.proportional as f64));
        }
    }
    for (count, ratio) in ratios {
        if count == 1 {
            cpu.note(format!("With one viewer the gateway takes {ratio:.2} × the baseline's time, because it also parses the source and calls the component."));
        } else {
            cpu.aim(&format!("{count} viewers"), ratio, AIM, times);
        }
    }
    if let (Some(first), Some(last)) = (ends.first(), ends.last())
        && last.0 > first.0
    {
        let viewers = last.0 - first.0;
        let slope = |nth: usize| (last.1[nth] - first.1[nth]) / viewers * 1e6;
        let rate = match transport {
            Transport::Nal | Transport::Mse => f64::from(bench.film.rate),
            Transport::Mjpeg => f64::from(crate::film::Album::RATE),
        };
        cpu.note(format!(
            "Each additional viewer: gateway {:.0} µs per second ({:.2} per frame), baseline {:.0} ({:.2}).",
            slope(0),
            slope(0) / rate,
            slope(1),
            slope(1) / rate,
        ));
        cpu.aim("each additional viewer", slope(0) / slope(1), AIM, times);
        memory.aim("PSS without viewers", idle.1 as f64, AIM_IDLE, |bytes| {
            format!("{:.1} MB", bytes / 1e6)
        });
        memory.aim(
            "each additional viewer",
            (last.2 - first.2) / viewers,
            AIM_EACH,
            |bytes| format!("{:.1} KiB", bytes / 1024.0),
        );
    }
    Ok([cpu, memory])
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

/// Resident and proportional memory in bytes, a second after the start.
fn idle(gateway: &Process) -> Result<(u64, u64)> {
    std::thread::sleep(Duration::from_secs(1));
    let resources = gateway.resources()?;
    Ok((resources.resident, resources.proportional))
}
