//! Cost of the policy's work.

use crate::alone;
use rustix::time::{ClockId, clock_gettime};
use sluicegate::gateway::built_in;
use sluicegate_plugin::{
    Engine,
    policy::{Candidate, Client, Event, Policy, PolicyInstance, Report},
};
use std::time::Duration;

/// Number of sessions, and how often each of them reports.
const SESSIONS: usize = 1000;
const ROUNDS: u64 = 10;

fn spent() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[tokio::test]
async fn a_thousand_sessions_cost_less_than_a_hundredth_of_a_processor() {
    let _alone = alone().await;
    let policy = Policy::load(&Engine::new().unwrap(), built_in::POLICIES, None, &[]).unwrap();
    let mut instance = PolicyInstance::new(&policy).unwrap();
    let client = Client {
        address: "203.0.113.7".into(),
        user_agent: "x".repeat(120),
        save_data: false,
        network: None,
        listening: false,
        more: Vec::new(),
    };
    let candidates: Vec<Candidate> = [("nal", ""), ("hls", ""), ("hls", "mobile"), ("mjpeg", "")]
        .into_iter()
        .map(|(transport, rendition)| Candidate {
            transport: transport.into(),
            label: transport.to_uppercase(),
            rendition: rendition.into(),
            bandwidth: 2_000_000,
            latency_ms: 100,
            width: 1280,
            height: 720,
            frame_rate: 15.0,
            sound: false,
            more: Vec::new(),
        })
        .collect();
    let mut cases = Vec::new();
    for _ in 0..SESSIONS {
        let session = instance.open(&client, "{}").unwrap().unwrap();
        let choice = instance.choose(session, 0, &candidates, None).unwrap();
        instance
            .observe(session, 0, &Event::Playing(choice.candidate))
            .unwrap();
        cases.push(session);
    }
    let report = Event::Report(Report {
        round_trip_ms: Some(20),
        goodput: Some(20_000_000),
        received: 1_500_000,
        queued_ms: 0,
        buffered_ms: Some(500),
        stalled_ms: 0,
        frames_dropped: 0,
        frame_rate: 15.0,
        network: Some("4g".into()),
        visible: true,
        listening: false,
        loss: None,
        view_width: 1280,
        view_height: 720,
        more: Vec::new(),
    });
    let mut second = |nth: u64| {
        for session in &cases {
            instance.observe(*session, nth * 1000, &report).unwrap();
        }
    };
    // First-time allocations do not count as the work of a second.
    second(1);
    // A round is the work of one second. The quickest round shows its cost, since other load on the machine only makes
    // rounds slower.
    let rounds = (2..2 + ROUNDS).map(|nth| {
        let began = spent();
        second(nth);
        spent() - began
    });
    let each = rounds.min().unwrap();
    println!("{each:?} of a second");
    assert!(each < Duration::from_millis(10), "{each:?} of a second");
}
