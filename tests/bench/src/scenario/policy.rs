//! The built-in policy on simulated links, compared with fixed choices and with deciding by throughput alone.

use crate::{bench::Bench, report::Table};
use anyhow::Result;
use sluicegate::gateway::built_in;
use sluicegate_link::{CANDIDATES, Decider, Outcome, SECONDS, decider, run as view, traces};
use sluicegate_plugin::{Engine, policy::Policy};

/// The policy's options: MJPEG on a good link.
const OPTIONS: &str = r#"{"near": ["mjpeg"]}"#;
/// Target for a mobile viewer in GB per hour.
const AIM: f64 = 0.7;
/// Name of the trace of a mobile network.
const MOBILE: &str = "4G drive";

/// Every trace with several seeds; the table has the means.
pub fn run(bench: &Bench) -> Result<Table> {
    let seeds: u64 = bench.pick(1, 10);
    let policy = Policy::load(&*Engine::new()?, built_in::POLICIES, None, &[])?;
    let mut table = Table::new(
        "policy",
        &[
            "<link",
            "stalled s: auto",
            "MJPEG only",
            "HLS only",
            "HLS mobile only",
            "HLS by throughput",
            "auto: moves per minute",
            "auto: wasted %",
            "auto: GB/h",
            "MJPEG only: GB/h",
        ],
    );
    let mut mobile = 0.0;
    for nth in 0..traces(1).len() {
        let trace = |seed| traces(seed).swap_remove(nth);
        let mean = |of: &dyn Fn(u64) -> f64| (1..=seeds).map(of).sum::<f64>() / seeds as f64;
        let auto: Vec<Outcome> = (1..=seeds)
            .map(|seed| {
                let trace = trace(seed);
                view(&trace, decider(&policy, OPTIONS, trace.network))
            })
            .collect();
        let of_auto =
            |of: &dyn Fn(&Outcome) -> f64| auto.iter().map(of).sum::<f64>() / seeds as f64;
        let hours = SECONDS as f64 / 3600.0;
        let gigabytes = |outcome: &Outcome| outcome.bytes / 1e9 / hours;
        let stalled =
            |decides: &dyn Fn() -> Decider| mean(&|seed| view(&trace(seed), decides()).stalled);
        let link = trace(1).name;
        let taken = of_auto(&gigabytes);
        if link == MOBILE {
            mobile = taken;
        }
        let moves = of_auto(&|outcome| outcome.moves.len() as f64 * 60.0 / SECONDS as f64);
        let wasted = of_auto(&|outcome| 100.0 * outcome.wasted / outcome.bytes.max(1.0));
        let alone = (0..CANDIDATES.len()).map(|form| stalled(&|| Decider::Fixed(form)));
        let seconds = std::iter::once(of_auto(&|outcome| outcome.stalled))
            .chain(alone)
            .chain([stalled(&|| Decider::Throughput(vec![1, 2]))]);
        let mjpeg = mean(&|seed| gigabytes(&view(&trace(seed), Decider::Fixed(0))));
        let cells = [
            format!("{moves:.2}"),
            format!("{wasted:.1}"),
            format!("{taken:.2}"),
            format!("{mjpeg:.2}"),
        ];
        table.row(
            std::iter::once(link.to_owned())
                .chain(seconds.map(|seconds| format!("{seconds:.2}")))
                .chain(cells),
        );
    }
    table.aim(
        &format!("auto on {MOBILE}, GB/h"),
        mobile,
        AIM,
        |gigabytes| format!("{gigabytes:.2}"),
    );
    Ok(table)
}
