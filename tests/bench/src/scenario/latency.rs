//! Latency from a frame's last byte at the source's socket to its last byte at a viewer.

use crate::{
    bench::{Bench, Measured, Pair, Transport, get},
    clock::Histogram,
    load::Load,
    report::{Table, ms},
};
use anyhow::{Result, ensure};
use std::{net::SocketAddr, thread, time::Duration};

/// Targets in milliseconds for the median and the 99th percentile.
const AIM: [f64; 2] = [0.3, 2.0];

/// One viewer in this number is timed.
const TIMED_ONE_IN: usize = 10;

/// 200 viewers on `nal`.
///
/// One in ten is read as soon as it has data and is timed; the others are read when all have received the frame, so
/// that reading does not compete with writing. The timed ones are spread over the order in which viewers connected.
pub fn run(bench: &Bench) -> Result<Table> {
    let viewers = bench.pick(20, 200);
    let (rounds, time) = bench.pick((1, Duration::from_secs(2)), (3, Duration::from_secs(8)));
    let mut table = Table::new(
        "latency",
        &[
            "<program",
            "viewers",
            "frames timed",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
        ],
    );
    let pair = Pair::start(bench, Transport::Nal)?;
    let subjects = [
        ("gateway", &pair.gateway, pair.path.as_str()),
        ("baseline", &pair.bare, "/"),
    ];
    let mut delays: [Histogram; 2] = Default::default();
    let mut handed = Buckets::default();
    for _ in 0..rounds {
        for (nth, (_, process, path)) in subjects.iter().enumerate() {
            let gateway = nth == 0;
            let mut load = Load::watching(pair.show.clone(), TIMED_ONE_IN)?;
            load.open(process.address, path, viewers)?;
            load.settled(Duration::from_secs(20))?;
            thread::sleep(Duration::from_millis(700));
            let before = if gateway {
                Buckets::read(process.address)?
            } else {
                Buckets::default()
            };
            let measured = Measured::of(process.id(), &load, time)?;
            if gateway {
                handed.add(&Buckets::read(process.address)?, &before);
            }
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
    let own = [0.5, 0.9, 0.99, 0.999].map(|part| format!("≤ {}", ms(handed.quantile(part))));
    let row = [
        "gateway's own histogram".to_owned(),
        viewers.to_string(),
        format!("{:.0}", handed.total()),
    ];
    table.row(row.into_iter().chain(own));
    table.note(
        "The gateway's own histogram (`sluicegate_delivery_seconds`) covers all viewers, from the creation of a chunk to the write \
         into the viewer's socket; the values are upper bounds of buckets. The other rows are from the camera's write to the viewer's read.",
    );
    for (part, aim) in [0.5, 0.99].into_iter().zip(AIM) {
        let found = delays[0].quantile(part).as_secs_f64() * 1e3;
        table.aim(&format!("p{:.0}", part * 100.0), found, aim, |ms| {
            format!("{ms:.2} ms")
        });
    }
    Ok(table)
}

/// A Prometheus histogram: upper bounds in seconds, and cumulative counts.
#[derive(Debug, Default)]
struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// The gateway's histogram of deliveries to sockets on `nal`.
    fn read(address: SocketAddr) -> Result<Buckets> {
        let text = get(address, "/metrics")?;
        let buckets = text.lines().filter_map(|line| {
            let (labels, count) = line
                .strip_prefix("sluicegate_delivery_seconds_bucket{")?
                .rsplit_once(' ')?;
            let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
            let of_nal = labels.contains("transport=\"nal\"");
            of_nal.then_some((bound.parse().ok()?, count.parse().ok()?))
        });
        let buckets: Vec<(f64, f64)> = buckets.collect();
        ensure!(
            !buckets.is_empty(),
            "/metrics has no sluicegate_delivery_seconds of nal"
        );
        Ok(Buckets(buckets))
    }

    /// Adds the counts of `after` that are not in `before`.
    fn add(&mut self, after: &Buckets, before: &Buckets) {
        if self.0.is_empty() {
            self.0 = after.0.iter().map(|(bound, _)| (*bound, 0.0)).collect();
        }
        let new = after.0.iter().zip(&before.0);
        for ((_, count), ((_, after), (_, before))) in self.0.iter_mut().zip(new) {
            *count += after - before;
        }
    }

    fn total(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// The bound that this share of all values does not exceed; the largest bound for values beyond it.
    fn quantile(&self, part: f64) -> Duration {
        let wanted = self.total() * part;
        let finite = || self.0.iter().filter(|(bound, _)| bound.is_finite());
        let found = finite().find(|(_, count)| *count >= wanted);
        let found = found.or_else(|| finite().next_back());
        Duration::from_secs_f64(found.map_or(0.0, |(bound, _)| *bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let before = Buckets(vec![(0.001, 5.0), (0.002, 5.0), (f64::INFINITY, 5.0)]);
        let after = Buckets(vec![(0.001, 55.0), (0.002, 104.0), (f64::INFINITY, 105.0)]);
        let mut all = Buckets::default();
        all.add(&after, &before);
        assert_eq!(all.total(), 100.0);
        for (part, bound) in [(0.5, 1), (0.51, 2), (0.99, 2), (1.0, 2)] {
            assert_eq!(all.quantile(part), Duration::from_millis(bound));
        }
    }
}
