//! Links for tests and measurements: one in real time, and a simulator.
//!
//! [`UdpLink`] relays UDP in real time, under conditions that tests change while it runs. The program `sluicegate-link`
//! is one for the browser tests.
//!
//! The simulator is a viewer behind one bottleneck whose rate and delay change over time, and a decider that chooses
//! what it watches. A decider learns about the link only from reports, as in the gateway, and can be the real policy
//! component. Everything there runs in virtual time with seeded randomness, so a run is reproducible. The policy's test
//! and the benchmark `policy` compare the component with fixed choices and with deciding by throughput alone.

// The crate is only for tests and measurements.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod random;
mod trace;
mod udp;
mod viewer;

pub use trace::{SECONDS, STEP_MS, Step, Trace, traces};
pub use udp::{Conditions, Counts, Packets, UdpLink};
pub use viewer::{Kind, LinkCandidate, Viewer};

use sluicegate_plugin::policy::{
    Candidate, Client, Event, Policy, PolicyInstance, PolicySession, Report,
};
use std::collections::VecDeque;
use viewer::TICK_MS;

/// Timeout in milliseconds for the first frame after a move: max(5 s, two groups of 2 s).
const PATIENCE_MS: u64 = 5000;
/// Share of the estimated throughput that players use when they decide by throughput alone.
const THROUGHPUT_ONLY: f64 = 0.7;

/// Candidates: MJPEG with low latency, and HLS in two sizes.
pub const CANDIDATES: [LinkCandidate; 3] = [
    LinkCandidate {
        transport: "mjpeg",
        rendition: "",
        kind: Kind::Mjpeg { frame_rate: 10 },
        rate: 3.2e6,
    },
    LinkCandidate {
        transport: "hls",
        rendition: "",
        kind: Kind::Hls { part_ms: 500 },
        rate: 1.2e6,
    },
    LinkCandidate {
        transport: "hls",
        rendition: "mobile",
        kind: Kind::Hls { part_ms: 500 },
        rate: 0.4e6,
    },
];

/// What decides which candidate is watched.
pub enum Decider {
    /// Always the same candidate.
    Fixed(usize),
    /// Throughput alone, once a second, among these candidates.
    Throughput(Vec<usize>),
    /// The policy component.
    Policy(Box<PolicyInstance>, PolicySession),
}

/// Result of a simulation.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Seconds in which playback stood still, beyond the first second of each stall.
    pub stalled: f64,
    /// Moves as (second, candidate, reason).
    pub moves: Vec<(u64, usize, String)>,
    pub bytes: f64,
    /// Bytes that were received but never shown.
    pub wasted: f64,
    /// Seconds on each candidate.
    pub on: [f64; CANDIDATES.len()],
    /// Stalls as (second, candidate).
    pub stalls: Vec<(u64, usize)>,
    /// Longest time without a new frame, in seconds.
    pub longest: f64,
}

/// The gateway's policy with these options, for one session.
pub fn decider(policy: &Policy, options: &str, network: Option<&str>) -> Decider {
    let mut instance = PolicyInstance::new(policy).unwrap();
    let client = Client {
        address: "203.0.113.7".into(),
        user_agent: "simulated".into(),
        save_data: false,
        network: network.map(str::to_owned),
        listening: false,
        more: Vec::new(),
    };
    let session = instance.open(&client, options).unwrap().unwrap();
    Decider::Policy(Box::new(instance), session)
}

fn candidates() -> Vec<Candidate> {
    let candidate = |form: &LinkCandidate| Candidate {
        transport: form.transport.into(),
        label: form.transport.to_uppercase(),
        rendition: form.rendition.into(),
        bandwidth: form.rate as u32,
        latency_ms: 0,
        width: 0,
        height: 0,
        frame_rate: match form.kind {
            Kind::Mjpeg { frame_rate } => frame_rate as f32,
            Kind::Hls { .. } => 30.0,
        },
        sound: false,
        more: Vec::new(),
    };
    CANDIDATES.iter().map(candidate).collect()
}

/// Figures of the last second, for a report.
#[derive(Default)]
struct Second {
    bytes: f64,
    busy: u64,
    frames: u64,
    stalled: u64,
    late: u64,
}

/// Simulates one viewer over the whole trace.
pub fn run(trace: &Trace, mut decider: Decider) -> Outcome {
    let mut outcome = Outcome::default();
    let start = match &mut decider {
        Decider::Fixed(form) => *form,
        Decider::Throughput(forms) => *forms.last().unwrap(),
        Decider::Policy(instance, session) => {
            let choice = instance.choose(*session, 0, &candidates(), None).unwrap();
            choice.candidate as usize
        }
    };
    // Media time does not start at zero.
    let origin = 10_000;
    let (mut playing, mut index) = (Viewer::new(CANDIDATES[start], origin), start);
    let mut pending: Option<(Viewer, usize, String)> = None;
    let mut told = false;
    let mut queue: VecDeque<(bool, f64)> = VecDeque::new();
    let mut second = Second::default();
    let mut mean = 2e6;
    let mut last_frame = origin;
    for passed in (0..SECONDS * 1000).step_by(TICK_MS as usize) {
        let now = origin + passed;
        let step = trace.steps[(passed / STEP_MS) as usize];
        let queued_bytes: f64 = queue.iter().map(|(_, bytes)| bytes).sum();
        let round_trip = 2 * step.delay_ms + (queued_bytes * 8000.0 / step.rate.max(1e4)) as u64;
        let mut queue_free = (trace.queue_ms as f64 * 4e6 / 8000.0 - queued_bytes).max(0.0);
        // As in the player: on a move to something smaller, the old transport makes way as soon as the new one receives
        // data.
        let down = pending
            .as_ref()
            .filter(|(viewer, ..)| viewer.form.rate < playing.form.rate && viewer.bytes > 0.0);
        let yields = down.map(|(viewer, ..)| now - viewer.since(now));
        let mut viewers = [
            Some(&mut playing),
            pending.as_mut().map(|(viewer, ..)| viewer),
        ];
        for (nth, viewer) in viewers.iter_mut().enumerate() {
            let Some(viewer) = viewer else { continue };
            let yields = yields.filter(|_| nth == 0);
            let put = viewer.pending_bytes(now, yields).min(queue_free);
            if put > 0.0 {
                queue_free -= put;
                viewer.in_queue += put;
                queue.push_back((nth == 1, put));
            }
        }
        let mut left = step.rate / 8.0 * TICK_MS as f64 / 1000.0;
        let mut was_busy = false;
        while left > 0.0
            && let Some((to_pending, bytes)) = queue.front_mut()
        {
            let taken = bytes.min(left);
            left -= taken;
            *bytes -= taken;
            let to_pending = *to_pending;
            if *bytes <= 0.0 {
                queue.pop_front();
            }
            if let Some(viewer) = &mut viewers[usize::from(to_pending)] {
                viewer.deliver(now, taken, step.delay_ms);
                was_busy |= !to_pending;
                second.bytes += if to_pending { 0.0 } else { taken };
            }
            outcome.bytes += taken;
        }
        second.busy += if was_busy { TICK_MS } else { 0 };
        let (before, still) = (playing.frames, playing.stalled);
        let late = playing.late;
        playing.play(now);
        if let Some((viewer, ..)) = &mut pending {
            viewer.play(now);
        }
        if playing.frames > before || last_frame == origin {
            last_frame = now;
        }
        outcome.longest = outcome.longest.max((now - last_frame) as f64 / 1000.0);
        second.frames += playing.frames - before;
        second.stalled += playing.stalled - still;
        outcome.stalled += (playing.stalled - still) as f64 / 1000.0;
        if playing.stalled > still && outcome.stalls.last() != Some(&(passed / 1000, index)) {
            outcome.stalls.push((passed / 1000, index));
        }
        second.late = second
            .late
            .max(late.max(playing.overdue(now)).saturating_sub(step.delay_ms));
        outcome.on[index] += TICK_MS as f64 / 1000.0;

        if playing.shown && !told {
            told = true;
            tell(&mut decider, passed, &Event::Playing(index as u32));
        }
        if pending.as_ref().is_some_and(|(viewer, ..)| viewer.shown) {
            let (viewer, to, reason) = pending.take().unwrap();
            // What the old viewer had buffered and did not show.
            outcome.wasted += playing.buffered().unwrap_or(0) as f64 / 8000.0 * playing.form.rate;
            queue.retain(|(to_pending, _)| *to_pending);
            for (to_pending, _) in &mut queue {
                *to_pending = false;
            }
            (playing, index) = (viewer, to);
            outcome.moves.push((passed / 1000, to, reason));
            tell(&mut decider, passed, &Event::Playing(to as u32));
            last_frame = now;
        }
        let mut wanted = None;
        if pending
            .as_ref()
            .is_some_and(|(viewer, ..)| viewer.since(now) > PATIENCE_MS)
        {
            let (viewer, to, _) = pending.take().unwrap();
            outcome.wasted += viewer.bytes;
            queue.retain(|(to_pending, _)| !to_pending);
            wanted = tell(&mut decider, passed, &Event::Failed(to as u32));
        }
        if passed % 1000 == 1000 - TICK_MS {
            let report = report(trace, &second, &playing, round_trip);
            let busy = second.bytes * 8000.0 / second.busy.max(1) as f64;
            if second.busy > 0 {
                mean += (busy - mean) * 0.3;
            }
            second = Second::default();
            wanted = match &decider {
                Decider::Throughput(forms) => {
                    let fits = |form: &&usize| CANDIDATES[**form].rate <= THROUGHPUT_ONLY * mean;
                    let best = forms.iter().find(fits).or(forms.last()).copied();
                    best.map(|best| (best, "throughput".to_owned()))
                }
                _ => tell(&mut decider, passed, &Event::Report(report)).or(wanted),
            };
        }
        let Some((to, reason)) = wanted else { continue };
        if let Some((viewer, going, _)) = &pending {
            if *going == to {
                continue;
            }
            outcome.wasted += viewer.bytes;
            queue.retain(|(to_pending, _)| !to_pending);
            pending = None;
        }
        if to != index {
            pending = Some((Viewer::new(CANDIDATES[to], now), to, reason));
        }
    }
    outcome
}

fn report(trace: &Trace, second: &Second, playing: &Viewer, round_trip: u64) -> Report {
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let measured = second.bytes >= 15_000.0 && second.busy >= 30;
    Report {
        round_trip_ms: Some(small(round_trip)),
        goodput: measured.then(|| (second.bytes * 8000.0 / second.busy as f64) as u32),
        received: (second.bytes * 8.0) as u32,
        queued_ms: small(second.late),
        buffered_ms: playing.buffered().map(small),
        stalled_ms: small(second.stalled),
        frames_dropped: 0,
        frame_rate: second.frames as f32,
        network: trace.network.map(str::to_owned),
        visible: true,
        listening: false,
        loss: None,
        view_width: 0,
        view_height: 0,
        more: Vec::new(),
    }
}

fn tell(decider: &mut Decider, at: u64, event: &Event) -> Option<(usize, String)> {
    let Decider::Policy(instance, session) = decider else {
        return None;
    };
    let choice = instance.observe(*session, at, event).unwrap()?;
    Some((choice.candidate as usize, choice.reason))
}
