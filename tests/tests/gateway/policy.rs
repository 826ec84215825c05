//! The built-in policy on links that change, by the real component: no more stalls than the best single transport, few moves,
//! little waste, and the same again when it is asked the same.

use serde_json::{Value, json};
use sluicegate::{
    plugin::{
        Engine,
        policy::{Judge, Policy},
    },
    session::{Asked, Call},
};
use sluicegate_link::{Decider, FORMS, Outcome, SECONDS, decider, run, traces};
use sluicegate_tests::{Control, Gateway, http_get};

const OPTIONS: &str = r#"{"near": ["mjpeg"]}"#;

fn policy() -> Policy {
    Policy::load(&Engine::new().unwrap(), None).unwrap()
}

#[test]
fn no_more_stalls_than_the_best_single_transport_and_few_moves() {
    let policy = policy();
    let mut bad = Vec::new();
    for seed in 1..=10 {
        for trace in traces(seed) {
            let auto = run(&trace, decider(&policy, OPTIONS, trace.network));
            let fixed: Vec<Outcome> = (0..FORMS.len())
                .map(|form| run(&trace, Decider::Fixed(form)))
                .collect();
            let best = fixed
                .iter()
                .map(|outcome| outcome.stalled)
                .fold(f64::INFINITY, f64::min);
            let told = format!(
                "{} ({seed}): stalled {:.2} s, alone {:?}; {} of {} bytes wasted; on {:?}; stalls {:?}; {:?}",
                trace.name,
                auto.stalled,
                fixed
                    .iter()
                    .map(|outcome| outcome.stalled)
                    .collect::<Vec<_>>(),
                auto.wasted,
                auto.bytes,
                auto.on,
                auto.stalls,
                auto.moves
            );
            let good = auto.stalled <= best + 1.0
                && auto.moves.len() as u64 <= 2 * SECONDS / 60
                && auto.wasted <= 0.1 * auto.bytes;
            if !good {
                bad.push(told);
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_session_is_decided_the_same_again() {
    let gateway = Gateway::with_config(
        "[streams.demo]\nsource = \"test-pattern\"\nalways-on = true\nrenditions.mobile = { width = 320 }\n\
         [policy]\nnear = [\"mjpeg\"]\ndwell = \"1s\"\nup-after = \"1s\"\n",
    )
    .await;
    let (mut control, chosen) = Control::open(&gateway, "demo", "can=mjpeg,hls").await;
    control.playing(&chosen).await;
    control.report(json!({ "network": "cellular" })).await;
    let told = control.heard("move").await;
    control.playing(&told).await;
    control
        .report(json!({ "network": "wifi", "goodput": 50_000_000 }))
        .await;
    control
        .say(json!({ "type": "failed", "transport": "hls", "rendition": "" }))
        .await;
    control.heard("move").await;
    let (_, _, body) = http_get(gateway.address, &control.path, &[]).await.unwrap();
    let recorded: Value = serde_json::from_slice(&body).unwrap();
    let log: Vec<Asked> = serde_json::from_value(recorded["log"].clone()).unwrap();
    assert!(
        log.iter().filter(|asked| asked.answer.is_some()).count() >= 3,
        "{log:?}"
    );
    let mut judge = Judge::new(&policy()).unwrap();
    let mut case = None;
    for asked in &log {
        let again = match (&asked.call, case) {
            (Call::Open { client, options }, _) => {
                case = Some(judge.open(client, options).unwrap().unwrap());
                None
            }
            (
                Call::Choose {
                    candidates,
                    playing,
                },
                Some(case),
            ) => Some(judge.choose(case, asked.at, candidates, *playing).unwrap()),
            (Call::Observe(event), Some(case)) => judge.observe(case, asked.at, event).unwrap(),
            (call, None) => panic!("{call:?} before `open`"),
        };
        assert_eq!(again, asked.answer, "{asked:?}");
    }
}
