//! Time that a session takes to move: the player in a real browser, behind a link that becomes narrow and wide again.

use super::page::script_output;
use crate::{
    bench::Bench,
    report::{Table, spread},
};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::Path;

/// One move; times in milliseconds.
#[derive(Debug, Deserialize, PartialEq)]
struct Move {
    /// `down` or `up`.
    r#move: String,
    /// Time from the change of the link to the first frame of the new transport.
    change: f64,
    /// Time from the gateway's `move` message to that frame.
    picture: f64,
    /// Longest time without a new frame, from before the move to two seconds after it.
    longest: f64,
}

/// Several rounds down and up; `script` opens the pages.
pub fn run(bench: &Bench, script: &Path) -> Result<Table> {
    let rounds: u32 = bench.pick(1, 5);
    let text = script_output(bench, script, &[rounds.to_string()], None)?;
    let moves: Vec<Move> = serde_json::from_str(&text).with_context(|| text.clone())?;
    ensure!(!moves.is_empty(), "there were no moves");
    let mut table = Table::new(
        "moves",
        &[
            "<move",
            "link change to first frame, s",
            "`move` message to first frame, s",
            "longest time without a new frame, s",
            "moves",
        ],
    );
    for (name, label) in [("down", "MJPEG to HLS"), ("up", "HLS to MJPEG")] {
        let of = |value: &dyn Fn(&Move) -> f64| -> Vec<f64> {
            let moves = moves.iter().filter(|known| known.r#move == name);
            moves.map(|known| value(known) / 1000.0).collect()
        };
        let change = of(&|known| known.change);
        table.row([
            label.to_owned(),
            spread(&change),
            spread(&of(&|known| known.picture)),
            spread(&of(&|known| known.longest)),
            change.len().to_string(),
        ]);
    }
    Ok(table)
}
