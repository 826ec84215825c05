//! Links that change over time, generated from stated statistics with a seed.

use crate::random::Random;

/// Duration of a trace, and of one step.
pub const SECONDS: u64 = 240;
pub const STEP_MS: u64 = 500;

/// One step of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Rate in bits per second.
    pub rate: f64,
    /// One-way delay without queues.
    pub delay_ms: u64,
}

/// A link over time.
#[derive(Clone, Debug)]
pub struct Trace {
    pub name: &'static str,
    pub steps: Vec<Step>,
    /// Capacity of the queue before the bottleneck, as time at 4 Mbit/s.
    pub queue_ms: u64,
    /// Network type that the browser reports, if any.
    pub network: Option<&'static str>,
}

/// All traces with this seed.
pub fn traces(seed: u64) -> Vec<Trace> {
    vec![
        drive(seed),
        wifi_edge(seed),
        bufferbloat(seed),
        lift(seed),
        tethering(seed),
        evening(seed),
    ]
}

fn make(
    name: &'static str,
    seed: u64,
    queue_ms: u64,
    mut step: impl FnMut(f64, &mut Random) -> Step,
) -> Trace {
    let mut random = Random::new(seed);
    let steps = (0..SECONDS * 1000 / STEP_MS)
        .map(|nth| step((nth * STEP_MS) as f64 / 1000.0, &mut random))
        .collect();
    Trace {
        name,
        steps,
        queue_ms,
        network: None,
    }
}

/// Whether an event that happens once in `seconds` on average happens in this step.
fn occurs(random: &mut Random, seconds: f64) -> bool {
    random.next() < STEP_MS as f64 / 1000.0 / seconds
}

/// Log-normal around 5 Mbit/s, sigma 0.7, a quarter of it renewed each second; every 45 s a handover with no traffic
/// for 1 to 2 s.
fn drive(seed: u64) -> Trace {
    let (mut level, mut out) = (0.0f64, 0.0f64);
    let mut trace = make("4G drive", seed, 400, |_, random| {
        let kept = 0.75f64.powf(STEP_MS as f64 / 1000.0);
        level = level * kept + random.normal() * (1.0 - kept * kept).sqrt();
        if out <= 0.0 && occurs(random, 45.0) {
            out = 1.0 + random.next();
        }
        out -= STEP_MS as f64 / 1000.0;
        Step {
            rate: if out > 0.0 {
                0.0
            } else {
                5e6 * (0.7 * level).exp()
            },
            delay_ms: 25 + (random.next() * 20.0) as u64,
        }
    });
    trace.network = Some("cellular");
    trace
}

/// 20 Mbit/s near the router for 25 s on average, 0.4 to 2 Mbit/s behind the wall for 15 s.
fn wifi_edge(seed: u64) -> Trace {
    let (mut far, mut weak) = (false, 1e6);
    make("Wi-Fi edge", seed, 300, |_, random| {
        if occurs(random, if far { 15.0 } else { 25.0 }) {
            far = !far;
            weak = 0.4e6 + random.next() * 1.6e6;
        }
        let noise = 0.8 + 0.4 * random.next();
        Step {
            rate: noise * if far { weak } else { 20e6 },
            delay_ms: if far { 15 } else { 3 },
        }
    })
}

/// 6 Mbit/s with a queue of 2 s; every 60 s a competing upload takes all but a sixth for 25 s.
fn bufferbloat(seed: u64) -> Trace {
    make("bufferbloat", seed, 2000, |at, random| {
        let busy = at % 60.0 > 30.0 && at % 60.0 < 55.0;
        Step {
            rate: (0.9 + 0.2 * random.next()) * if busy { 1e6 } else { 6e6 },
            delay_ms: 15,
        }
    })
}

/// 15 Mbit/s with two lift rides: 2 s down to nothing, 10 s without traffic, 3 s up again.
fn lift(seed: u64) -> Trace {
    make("lift ride", seed, 300, |at, random| {
        let part = match at % 110.0 {
            at if (40.0..42.0).contains(&at) => 1.0 - (at - 40.0) / 2.0,
            at if (42.0..52.0).contains(&at) => 0.0,
            at if (52.0..55.0).contains(&at) => (at - 52.0) / 3.0,
            _ => 1.0,
        };
        Step {
            rate: 15e6 * part * (0.9 + 0.2 * random.next()),
            delay_ms: 10,
        }
    })
}

/// 2.5 Mbit/s, a fifth up and down from step to step, 60 ms; no traffic for half a second every 30 s.
fn tethering(seed: u64) -> Trace {
    make("tethering", seed, 600, |_, random| Step {
        rate: if occurs(random, 30.0) {
            0.0
        } else {
            2.5e6 * (0.8 + 0.4 * random.next())
        },
        delay_ms: 60,
    })
}

/// From 9 Mbit/s down to 0.9 in 100 s, 40 s at that rate, and up again.
fn evening(seed: u64) -> Trace {
    make("evening congestion", seed, 500, |at, random| {
        let full = match at {
            at if at < 100.0 => 1.0 - 0.9 * at / 100.0,
            at if at < 140.0 => 0.1,
            at => (0.1 + 0.9 * (at - 140.0) / 100.0).min(1.0),
        };
        Step {
            rate: 9e6 * full * (0.85 + 0.3 * random.next()),
            delay_ms: 20,
        }
    })
}
