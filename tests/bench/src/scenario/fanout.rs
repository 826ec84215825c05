//! Cheapest way to write to many sockets: the same bytes and viewers, with one program per way.

use crate::{
    bench::{Bench, Measured},
    feeder::{Feeder, Media},
    load::Expected,
    report::{Table, median, ms, spread},
    server::FanOut,
};
use anyhow::Result;
use clap::ValueEnum;
use std::time::Duration;

/// Measures each way in turn at these numbers of viewers.
pub fn run(bench: &Bench, viewers: &[usize], rounds: usize, time: Duration) -> Result<Table> {
    let mut table = Table::new(
        "fanout",
        &[
            "<method",
            "viewers",
            "µs per message",
            "relative to `bare`",
            "kernel time",
            "sleeps per message",
            "p50 ms",
            "p99 ms",
            "missed",
        ],
    );
    for &count in viewers {
        let ways = FanOut::value_variants();
        let mut runs: Vec<Vec<Measured>> = ways.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (way, runs) in ways.iter().zip(&mut runs) {
                let feeder = Feeder::start(Media::Messages(bench.film.clone()))?;
                let process = bench.start_bare(*way, &feeder)?;
                let show = Expected::Film(bench.film.clone());
                runs.push(Measured::take(
                    process.id(),
                    &show,
                    (process.address, "/"),
                    count,
                    time,
                )?);
            }
        }
        let bare = runs
            .first()
            .map(|runs| runs.iter().map(Measured::each).collect::<Vec<_>>())
            .unwrap_or_default();
        for (way, runs) in ways.iter().zip(&runs) {
            let of = |value: fn(&Measured) -> f64| -> Vec<f64> { runs.iter().map(value).collect() };
            let ratio: Vec<f64> = of(Measured::each)
                .iter()
                .zip(&bare)
                .map(|(one, bare)| one / bare)
                .collect();
            let mut delays = crate::clock::Histogram::default();
            runs.iter().for_each(|run| delays.merge(&run.counts.delays));
            table.row([
                way.to_possible_value()
                    .map_or(String::new(), |value| value.get_name().to_owned()),
                count.to_string(),
                spread(&of(Measured::each)),
                spread(&ratio),
                format!(
                    "{:.0} %",
                    median(&of(|run| run.used.kernel_share())) * 100.0
                ),
                format!(
                    "{:.3}",
                    median(&of(
                        |run| run.used.sleeps as f64 / run.counts.messages.max(1) as f64
                    ))
                ),
                ms(delays.quantile(0.5)),
                ms(delays.quantile(0.99)),
                format!("{:.2} %", median(&of(Measured::missed)) * 100.0),
            ]);
        }
    }
    Ok(table)
}
