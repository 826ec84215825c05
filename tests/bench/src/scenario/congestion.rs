//! Congestion control of WebTransport: each controller on links that lose packets, that are too slow, and that are mostly
//! idle; the same frames over WebSocket beside them.

use crate::{
    bench::{Bench, Measured, PATIENCE},
    feeder::{Feeder, Media},
    film::{Film, Shape},
    load::{Expected, Load},
    network::{Conditions, NEAR, Network},
    report::{Table, ms},
    sessions::Sessions,
};
use anyhow::Result;
use std::{sync::Arc, thread, time::Duration};

use super::webtransport::PATH;

/// A link with a source.
struct Case {
    name: &'static str,
    conditions: Conditions,
    shape: Shape,
}

/// Half of the round trip, and how much a queue holds.
const DELAY: Duration = Duration::from_millis(25);
const QUEUE: Duration = Duration::from_millis(200);

fn cases() -> [Case; 5] {
    let conditions = |rate, loss| Conditions {
        delay: DELAY,
        loss,
        rate,
        queue: QUEUE,
    };
    let case = |name, conditions, bits| Case {
        name,
        conditions,
        shape: Shape {
            size: (1280, 720),
            rate: 30,
            group: 15,
            bits,
        },
    };
    [
        case(
            "idle: 20 Mbit/s, source 0.3",
            conditions(20e6, 0.0),
            300_000,
        ),
        case("lossy: 1 %, source 2.5", conditions(20e6, 0.01), 2_500_000),
        case("lossy: 3 %, source 2.5", conditions(20e6, 0.03), 2_500_000),
        case(
            "slow: 5 Mbit/s, source 10",
            conditions(5e6, 0.0),
            10_000_000,
        ),
        case(
            "slow: 5 Mbit/s and 1 %, source 10",
            conditions(5e6, 0.01),
            10_000_000,
        ),
    ]
}

/// What carries the frames.
const SENDERS: [(&str, &str); 4] = [
    ("loss-tolerant", "loss-tolerant"),
    ("cubic", "CUBIC"),
    ("bbr", "BBR"),
    ("", "WebSocket"),
];

/// Measures each sender on each link.
pub fn run(bench: &Bench) -> Result<Table> {
    let time = bench.pick(Duration::from_secs(5), Duration::from_secs(30));
    let mut table = Table::new(
        "congestion",
        &[
            "<link, Mbit/s",
            "<sender",
            "age p50 ms",
            "age p95 ms",
            "age max ms",
            "whole groups",
            "frames arrived",
        ],
    );
    for case in cases() {
        let film = Arc::new(Film::make(&bench.dir, case.shape)?);
        for (congestion, label) in SENDERS {
            let measured = measure(bench, &film, case.conditions, congestion, time)?;
            let counts = &measured.counts;
            let sent = measured.time.as_secs_f64() * f64::from(film.rate);
            let age = |part| ms(counts.ages.quantile(part));
            table.row([
                case.name.to_owned(),
                label.to_owned(),
                age(0.5),
                age(0.95),
                age(1.0),
                format!(
                    "{:.0} %",
                    100.0 * counts.whole_groups as f64 / counts.groups.max(1) as f64
                ),
                format!("{:.0} %", 100.0 * counts.messages as f64 / sent),
            ]);
        }
    }
    Ok(table)
}

/// One viewer on the other side of the link.
fn measure(
    bench: &Bench,
    film: &Arc<Film>,
    conditions: Conditions,
    congestion: &str,
    time: Duration,
) -> Result<Measured> {
    let network = Network::new(conditions)?;
    network.near.run(|| {
        let camera = Feeder::start(Media::Camera(film.clone()))?;
        let source = format!("annexb:tcp://{}", camera.address);
        let config = match congestion {
            "" => String::new(),
            name => format!("congestion = \"{name}\"\n"),
        };
        let config =
            format!("[server]\nopen = true\n{config}[streams.cam]\nsource = \"{source}\"\n");
        let gateway = bench.serve_at(NEAR, &config)?;
        let measure = |load: &dyn AsRef<crate::tally::Tally>| {
            // Congestion control has found the link.
            thread::sleep(bench.pick(Duration::from_secs(1), Duration::from_secs(6)));
            Measured::of(gateway.id(), load, time)
        };
        if congestion.is_empty() {
            let mut load = Load::new(Expected::Records(film.clone()))?;
            network.far.run(|| load.open(gateway.address, PATH, 1))?;
            load.settled(PATIENCE)?;
            return measure(&load);
        }
        let far = Some(network.far.clone());
        let load = Sessions::start(film.clone(), gateway.address, PATH, 1, far)?;
        load.settled(PATIENCE)?;
        measure(&load)
    })
}
