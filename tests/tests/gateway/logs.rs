//! The log: one line per failure, with the same fields everywhere, as text or as JSON.

use serde_json::Value;
use sluicegate_tests::{
    Camera, Gateway, Metrics, Nal, Watcher, camera,
    command::{config_file, sluicegate},
    feeder::free_port,
    within,
};
use std::process::Stdio;

/// A gateway that logs JSON.
async fn with_json(config: &str) -> Gateway {
    let file = config_file(config);
    let arguments = [
        "serve",
        "--log-format",
        "json",
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.to_str().unwrap(),
    ];
    Gateway::start(&arguments, Stdio::null()).await.0
}

fn lines(gateway: &Gateway) -> Vec<Value> {
    let log = gateway.log.lock().unwrap();
    let read = |line: &String| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    log.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_fails_again_and_again_is_logged_once_for_each_reason() {
    let refused = free_port().await;
    let gateway = Gateway::with_config(&format!(
        "[streams.door]\nsource = \"annexb:tcp://127.0.0.1:{refused}\"\n"
    ))
    .await;
    let mut viewers = Vec::new();
    for _ in 0..5 {
        viewers.push(
            within("connect", Nal::connect(gateway.address, "door"))
                .await
                .unwrap(),
        );
    }
    Metrics::until(&gateway, "it failed four times", |metrics| {
        metrics.sum(
            "sluicegate_stream_source_failures_total",
            &[("stream", "door")],
        ) >= 4.0
    })
    .await;
    let log = gateway.log.lock().unwrap();
    let told: Vec<_> = log
        .iter()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        .collect();
    assert_eq!(told.len(), 1, "{told:#?}");
    for part in ["Connection refused", "retrying", "stream=\"door\""] {
        assert!(told[0].contains(part), "{part:?} is not in {:?}", told[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_lines_have_all_fields_and_a_broken_plugin_logs_a_failure_once_at_most() {
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!(
        "{}[transports.odd]\nplugin = \"{}\"\nin = \"push\"\ndo = \"panic\"\n",
        camera.config(),
        Gateway::component("hostile").display()
    );
    let gateway = with_json(&config).await;
    let mut watcher = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    let mut viewers = Vec::new();
    for _ in 0..5 {
        viewers.push(Watcher::open(gateway.address, "/live/cam/odd", camera::clip()).await);
    }
    let labels = [("transport", "odd")];
    let failed = async {
        Metrics::until(&gateway, "the plugin fails", |metrics| {
            metrics.sum("sluicegate_guest_failures_total", &labels) >= 3.0
        })
        .await
    };
    let shows = async {
        loop {
            camera.show(&mut watcher).await;
        }
    };
    tokio::select! {
        _ = failed => {},
        () = shows => unreachable!(),
    }
    gateway.logged("a new instance takes over").await;
    let of_plugin = |lines: &[Value]| {
        let lines = lines.iter().filter(|line| line["transport"] == "odd");
        lines.cloned().collect::<Vec<_>>()
    };
    let told = of_plugin(&lines(&gateway));
    let failures = Metrics::of(&gateway)
        .await
        .sum("sluicegate_guest_failures_total", &labels);
    assert!(
        (1.0..=failures).contains(&(told.len() as f64)),
        "{failures} failures, {told:#?}"
    );
    for line in &told {
        assert_eq!(
            (
                &line["level"],
                &line["stream"],
                &line["plugin"],
                &line["call"]
            ),
            (
                &"ERROR".into(),
                &"cam".into(),
                &"hostile@0.1.0".into(),
                &"push".into()
            )
        );
        let message = line["message"].as_str().unwrap();
        assert!(
            message.contains("hostile was told to panic in Push"),
            "{message}"
        );
        assert!(line["timestamp"].as_str().unwrap().contains('T'));
    }
}

#[tokio::test]
async fn an_error_at_the_start_is_one_json_line_too() {
    let file = config_file("[streams.door]\nsource = \"nonsense\"\n");
    let ended = sluicegate(&["--log-format", "json", "check", file.to_str().unwrap()]).await;
    assert_eq!(ended.code, Some(1));
    let line: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["message"].as_str().unwrap().contains("[streams.door]"),
        "{line}"
    );
    let refused = sluicegate(&["--log-format", "xml", "serve"]).await;
    assert!(
        refused.err.contains("[possible values: text, json]"),
        "{refused:?}"
    );
}
