//! Which way to write to many sockets costs least: the same bytes, the same viewers, one program for each way.

use crate::{
    feeder::{Feeder, Roll},
    film::Film,
    load::{Load, Show},
    process::Process,
    server::Way,
};
use anyhow::Result;
use clap::ValueEnum;
use std::{sync::Arc, thread, time::Duration};

/// Measures each way at so many viewers, `rounds` times in turn, each for `time`.
pub fn run(film: &Arc<Film>, counts: &[usize], rounds: usize, time: Duration) -> Result<()> {
    println!("| way | viewers | round | µs a message | kernel | sleeps a message | load, µs | p50 ms | p99 ms | missed | faults |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    for &count in counts {
        for round in 0..rounds {
            for way in Way::value_variants() {
                let feeder = Feeder::start(Roll::Messages(film.clone()))?;
                let name = way.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
                let program = std::env::current_exe()?;
                let process = Process::start(&program, &["serve", &name, &feeder.address.to_string()], &[])?;
                let mut load = Load::watching(Show::Film(film.clone()), 10)?;
                load.open(process.address, "/", count)?;
                load.settled(Duration::from_secs(20))?;
                thread::sleep(Duration::from_millis(500));
                load.take()?;
                let before = process.used()?;
                thread::sleep(time);
                let (counts, load_used) = load.take()?;
                let used = process.used()?.since(&before);
                let each = |time: Duration| time.as_secs_f64() * 1e6 / counts.messages.max(1) as f64;
                println!(
                    "| {name} | {count} | {round} | {:.2} | {:.0} % | {:.3} | {:.2} | {:.2} | {:.2} | {} | {} {:?} |",
                    each(used.running),
                    used.kernel_share() * 100.0,
                    used.sleeps as f64 / counts.messages.max(1) as f64,
                    each(load_used),
                    counts.delays.quantile(0.5).as_secs_f64() * 1e3,
                    counts.delays.quantile(0.99).as_secs_f64() * 1e3,
                    counts.missed,
                    counts.faults,
                    counts.said,
                );
            }
        }
    }
    Ok(())
}
