//! Growth with the number of streams, each with one viewer.

use crate::{
    bench::{Bench, Measured},
    feeder::{Feeder, Media},
    film::{Film, Shape},
    load::{Expected, Load},
    report::{Table, mb},
};
use anyhow::Result;
use std::{fmt::Write, sync::Arc, thread, time::Duration};

/// A little longer than the ring's history (`Bounds` of `stream`).
pub const HISTORY: Duration = Duration::from_secs(18);

/// Measures with one viewer on `nal` per stream.
pub fn run(bench: &Bench) -> Result<Table> {
    let counts = bench.pick(&[1, 8][..], &[1, 4, 16, 64]);
    let time = bench.pick(Duration::from_millis(1500), Duration::from_secs(6));
    let shape = Shape {
        size: (320, 180),
        rate: 30,
        group: 60,
        bits: 250_000,
    };
    let film = Arc::new(Film::make(&bench.dir, shape)?);
    let mut table = Table::new(
        "streams",
        &[
            "streams",
            "% of a core",
            "µs per frame",
            "RSS, MB",
            "threads",
            "file descriptors",
        ],
    );
    let mut ends = Vec::new();
    for &count in counts {
        let feeder = Feeder::start(Media::Camera(film.clone()))?;
        let mut config = String::new();
        for nth in 0..count {
            write!(
                config,
                "[streams.cam{nth}]\nsource = \"annexb:tcp://{}\"\n",
                feeder.address
            )?;
        }
        let gateway = bench.serve(&config)?;
        let mut load = Load::new(Expected::Film(film.clone()))?;
        for nth in 0..count {
            load.open(gateway.address, &format!("/live/cam{nth}/nal"), 1)?;
        }
        load.settled(Duration::from_secs(30))?;
        // Until the streams' histories have their full length.
        thread::sleep(bench.pick(Duration::from_secs(1), HISTORY));
        let measured = Measured::of(gateway.id(), &load, time)?;
        table.row([
            count.to_string(),
            format!("{:.1}", measured.processor() * 100.0),
            format!("{:.1}", measured.each()),
            mb(measured.resources.resident),
            measured.resources.threads.to_string(),
            measured.resources.descriptors.to_string(),
        ]);
        ends.push((
            count as f64,
            measured.processor(),
            measured.resources.resident as f64,
        ));
    }
    if let (Some(first), Some(last)) = (ends.first(), ends.last()) {
        let streams = last.0 - first.0;
        table.note(format!(
            "Each additional stream with its viewer: {:.2} % of a core, {:.0} KB.",
            (last.1 - first.1) / streams * 100.0,
            (last.2 - first.2) / streams / 1e3,
        ));
    }
    Ok(table)
}
