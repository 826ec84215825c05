//! Age of the picture in a real browser on a path that loses packets, for every transport.

use super::page::script_output;
use crate::{
    bench::Bench,
    network::{Conditions, NEAR, Network},
    report::Table,
};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

/// Target in milliseconds for the median on a good path, and for the 95th percentile at the highest loss, relative to
/// the same frames over WebSocket.
const AIM: f64 = 30.0;
const AIM_LOSS: f64 = 0.5;
const BEST: &str = "webcodecs, WebTransport";
const TWIN: &str = "webcodecs, WebSocket";
/// Share of lost packets in each direction, and half of the round trip in milliseconds.
const PATHS: [(f64, u64); 4] = [(0.0, 0), (0.0, 25), (0.01, 25), (0.03, 25)];

/// What a page says of a transport; times in milliseconds.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Watched {
    transport: String,
    /// Why there is nothing more.
    problem: Option<String>,
    /// Age of a frame when it is displayed.
    #[serde(default)]
    displayed: f64,
    /// Age of what is on the screen at any time.
    #[serde(default)]
    screen: [f64; 2],
}

/// Measures every transport on each path; `script` opens the pages.
pub fn run(bench: &Bench, script: &Path) -> Result<Table> {
    let seconds = bench.pick(3, 12);
    let mut table = Table::new(
        "loss",
        &[
            "loss",
            "round trip, ms",
            "<transport",
            "when displayed, median ms",
            "on the screen, median ms",
            "on the screen, p95 ms",
        ],
    );
    let mut aims = Vec::new();
    for (loss, delay) in PATHS {
        let watched = watch(bench, script, seconds, loss, delay)?;
        for found in &watched {
            let path = [format!("{:.0} %", loss * 100.0), (2 * delay).to_string()];
            match &found.problem {
                None => table.row([
                    path[0].clone(),
                    path[1].clone(),
                    found.transport.clone(),
                    format!("{:.0}", found.displayed),
                    format!("{:.0}", found.screen[0]),
                    format!("{:.0}", found.screen[1]),
                ]),
                Some(problem) => table.note(format!(
                    "{} at {}, {} ms: **missed**, {problem}.",
                    found.transport, path[0], path[1]
                )),
            }
        }
        let find = |name| {
            let mut played = watched.iter().filter(|found| found.problem.is_none());
            played.find(|found| found.transport == name)
        };
        if let (Some(best), Some(twin)) = (find(BEST), find(TWIN)) {
            let relative = best.screen[1] / twin.screen[1];
            aims.push((loss, delay, best.displayed, relative));
        }
    }
    let ms = |ms| format!("{ms:.0} ms");
    for (loss, delay, displayed, relative) in aims {
        if delay == 0 {
            let what = format!("{BEST} without loss and delay, median when displayed");
            table.aim(&what, displayed, AIM, ms);
        } else if loss == PATHS[PATHS.len() - 1].0 {
            let what = format!("{BEST}, p95 on the screen relative to WebSocket, highest loss");
            table.aim(&what, relative, AIM_LOSS, |ratio| format!("{ratio:.2} ×"));
        }
    }
    Ok(table)
}

fn watch(
    bench: &Bench,
    script: &Path,
    seconds: u32,
    loss: f64,
    delay: u64,
) -> Result<Vec<Watched>> {
    let network = Network::new(Conditions {
        delay: Duration::from_millis(delay),
        loss,
        rate: 100e6,
        queue: Duration::from_millis(100),
    })?;
    let browser = super::page::browser().context("no Chromium on the PATH; set CHROMIUM")?;
    let wrapper = bench.dir.join("browser-behind-link");
    let namespace = network.far.path().display();
    let text = format!(
        "#!/bin/sh\nexec nsenter --net={namespace} '{}' \"$@\"\n",
        browser.display()
    );
    fs::write(&wrapper, text)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let host = NEAR.to_string();
    let arguments = [seconds.to_string(), host];
    let text = network
        .near
        .run(|| script_output(bench, script, &arguments, Some(&wrapper)))?;
    serde_json::from_str(&text).with_context(|| text.clone())
}
