//! From a picture's last byte at the source's socket to its last byte at a viewer's.

use crate::{
    bench::{Bench, Measured, Pair, Transport},
    clock::Histogram,
    report::{Table, ms},
};
use anyhow::Result;
use std::time::Duration;

/// Milliseconds, half and 99 of 100.
const AIM: [f64; 2] = [0.3, 2.0];

/// 200 viewers on `nal`.
///
/// One in ten is read as soon as there is something, and gives the times; the others when all have got the picture, so that
/// reading is not in the way of writing. Those ten in a hundred are spread over the order in which viewers came.
pub fn run(bench: &Bench) -> Result<Table> {
    let viewers = bench.pick(20, 200);
    let (rounds, time) = bench.pick((1, Duration::from_secs(2)), (3, Duration::from_secs(8)));
    let mut table = Table::new(
        "latency",
        &[
            "<program",
            "viewers",
            "pictures timed",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
        ],
    );
    let pair = Pair::start(bench, Transport::Nal)?;
    let subjects = [
        ("gateway", &pair.gateway, pair.path.as_str()),
        ("bare", &pair.bare, "/"),
    ];
    let mut delays: [Histogram; 2] = Default::default();
    for _ in 0..rounds {
        for (nth, (_, process, path)) in subjects.iter().enumerate() {
            let measured = Measured::take(
                process.id(),
                &pair.show,
                (process.address, path),
                viewers,
                time,
            )?;
            delays[nth].merge(&measured.counts.delays);
        }
    }
    for ((name, ..), delays) in subjects.iter().zip(&delays) {
        let times = [0.5, 0.9, 0.99, 0.999].map(|part| ms(delays.quantile(part)));
        table.row(
            [
                (*name).to_owned(),
                viewers.to_string(),
                delays.count().to_string(),
            ]
            .into_iter()
            .chain(times),
        );
    }
    for (part, aim) in [0.5, 0.99].into_iter().zip(AIM) {
        let found = delays[0].quantile(part).as_secs_f64() * 1e3;
        table.aim(&format!("p{:.0}", part * 100.0), found, aim, |ms| {
            format!("{ms:.2} ms")
        });
    }
    Ok(table)
}
