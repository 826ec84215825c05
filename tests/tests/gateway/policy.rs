//! The built-in policy (the real component) on changing links: no more stalls than the best single transport, few
//! moves, little wasted bandwidth, and reproducible decisions.

use serde_json::{Value, json};
use sluicegate::{
    gateway::built_in,
    session::{Call, LoggedCall},
};
use sluicegate_link::{CANDIDATES, Decider, Outcome, SECONDS, decider, run, traces};
use sluicegate_plugin::{
    Engine,
    policy::{Policy, PolicyInstance},
};
use sluicegate_tests::{
    Control, Gateway, client::request, command::sluicegate, http_get, scratch, within,
};

const OPTIONS: &str = r#"{"near": ["mjpeg"]}"#;

fn policy() -> Policy {
    Policy::load(&Engine::new().unwrap(), built_in::POLICIES, None, &[]).unwrap()
}

#[test]
fn no_more_stalls_than_the_best_single_transport_and_few_moves() {
    let policy = policy();
    let mut bad = Vec::new();
    for seed in 1..=10 {
        for trace in traces(seed) {
            let auto = run(&trace, decider(&policy, OPTIONS, trace.network));
            let fixed: Vec<Outcome> = (0..CANDIDATES.len())
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

/// After the component is replaced, existing sessions keep their candidates, whatever the new component would have
/// chosen; it decides for new sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_swap_moves_no_session_and_decides_new_ones() {
    let path = scratch("swap").join("policy.wasm");
    std::fs::copy(Gateway::component("auto"), &path).unwrap();
    let gateway = Gateway::with_config(&format!(
        "[streams.demo]\nsource = \"test-pattern\"\nalways-on = true\n[policy]\nplugin = \"{}\"\n",
        path.display()
    ))
    .await;
    let can = "can=mjpeg,hls,nal";
    let (mut control, chosen) = Control::open(&gateway, "demo", can).await;
    assert_eq!(chosen["transport"], "nal");
    control.playing(&chosen).await;

    // An invalid component is refused, and the previous one stays in use.
    let address = gateway.address;
    let reload = |name: &'static str| async move {
        let path = format!("/api/plugins/{name}/reload");
        let asked = request(address, "POST", &path, &[]);
        let (status, _, body) = within("an answer", asked).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body)
    };
    std::fs::write(&path, b"no component").unwrap();
    let (status, body) = reload("policy").await;
    assert_eq!(status, 422, "{body}");
    let (status, body) = reload("mjpeg").await;
    assert!(
        status == 409
            && body["error"]
                .as_str()
                .unwrap()
                .contains("part of the binary"),
        "{status} {body}"
    );
    assert_eq!(reload("polcy").await.0, 404);
    let (_, chosen) = Control::open(&gateway, "demo", can).await;
    assert_eq!(chosen["transport"], "nal");

    std::fs::copy(Gateway::component("whimsical"), &path).unwrap();
    let (status, body) = reload("policy").await;
    assert_eq!(
        (status, &body["component"], &body["name"]),
        (200, &json!("whimsical@0.1.0"), &json!("whimsical")),
        "{body}"
    );
    assert_eq!(body["state"], "running");
    // The new component prefers the last candidate; an existing session is not moved to it, even after a report.
    let (_, chosen) = Control::open(&gateway, "demo", can).await;
    assert_eq!(
        (&chosen["transport"], &chosen["reason"]),
        (&json!("nal"), &json!("a whim"))
    );
    let (_, chosen) = Control::open(&gateway, "demo", "can=nal,hls,mjpeg").await;
    assert_eq!(chosen["transport"], "mjpeg");
    for nth in 0..3 {
        control.report(json!({})).await;
        control.say(json!({ "type": "ping", "id": nth })).await;
        loop {
            let said = within("an answer", control.hear()).await.unwrap();
            assert_ne!(said["type"], "move", "{said}");
            if said["type"] == "pong" {
                break;
            }
        }
    }
    let (_, _, body) = http_get(gateway.address, &control.path, &[]).await.unwrap();
    let log: Value = serde_json::from_slice(&body).unwrap();
    let log = log["log"].as_array().unwrap();
    let opened = log
        .iter()
        .filter(|asked| asked["call"]["open"].is_object())
        .count();
    assert_eq!(opened, 2, "the new one was told of it: {log:?}");
    let url = format!("http://{address}");
    let reloaded = sluicegate(&["plugin", "reload", "policy", "--url", &url]).await;
    assert!(reloaded.out.ends_with("), in use\n"), "{reloaded:?}");
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
    let log: Vec<LoggedCall> = serde_json::from_value(recorded["log"].clone()).unwrap();
    assert!(
        log.iter().filter(|asked| asked.answer.is_some()).count() >= 3,
        "{log:?}"
    );
    let mut instance = PolicyInstance::new(&policy()).unwrap();
    let mut session = None;
    for asked in &log {
        let again = match (&asked.call, session) {
            (Call::Open { client, options }, _) => {
                session = Some(instance.open(client, options).unwrap().unwrap());
                None
            }
            (
                Call::Choose {
                    candidates,
                    playing,
                },
                Some(session),
            ) => Some(
                instance
                    .choose(session, asked.at, candidates, *playing)
                    .unwrap(),
            ),
            (Call::Observe(event), Some(session)) => {
                instance.observe(session, asked.at, event).unwrap()
            }
            (call, None) => panic!("{call:?} before `open`"),
        };
        assert_eq!(again, asked.answer, "{asked:?}");
    }
}
