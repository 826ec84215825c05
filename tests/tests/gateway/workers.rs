//! Nothing that may wait runs on a thread that serves sockets. The gateway under test does everything that can be slow
//! the first time, while its runtime reports workers that were blocked for more than 20 ms.

use serde_json::json;
use sluicegate_tests::{
    CaptureClient, Control, Gateway, capture::post, choose, client::request, http_get,
    media::encode_pattern, mjpeg, within,
};

/// The stream itself needs no encoder.
fn config() -> String {
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "15",
        "-bf",
        "0",
    ];
    let file = encode_pattern("workers.mp4", (320, 192), 0, 300, &arguments);
    format!(
        "[streams.film]\nsource = \"file:{}\"\nalways-on = true\nrenditions.small = {{ width = 160 }}\nrenditions.tiny = {{ width = 80 }}\n",
        file.display()
    )
}

async fn watched(config: &str) -> Gateway {
    Gateway::with_config_after("export SLUICEGATE_WATCH_WORKERS=20", config).await
}

#[track_caller]
fn assert_no_worker_blocked(gateway: &Gateway) {
    let log = gateway.log.lock().unwrap();
    let is = |what: &str| {
        log.iter()
            .filter(|line| line.contains(what))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        is("runtime workers blocked for 20ms or longer are reported").len(),
        1,
        "{log:#?}"
    );
    let blocked = is("runtime worker blocked for");
    assert!(blocked.is_empty(), "{blocked:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_choice_tries_out_encoders_and_blocks_no_worker() {
    let gateway = watched(&config()).await;
    // The stream runs by itself, so no encoder has been needed yet.
    let film = gateway
        .api_until("/api/devices/film", "it runs", |film| {
            film["state"] == "live"
        })
        .await;
    assert_eq!(film["encoder"], json!(null));
    // A player, a browser with its own HLS player, and a client of a form that must be encoded.
    let player = async {
        let (mut control, chosen) = Control::open(&gateway, "film", "can=mse,mjpeg,hls").await;
        control.playing(&chosen).await;
        control.report(json!({})).await;
        let choices = control.heard("choices").await;
        let renditions = choices["choices"].as_array().unwrap().iter();
        let names: Vec<&str> = renditions
            .filter_map(|form| form["rendition"].as_str())
            .collect();
        assert!(
            names.contains(&"small") && names.contains(&"tiny"),
            "{choices}"
        );
        control
            .say(json!({ "type": "pin", "rendition": "tiny" }))
            .await;
        let moved = control.heard("move").await;
        assert_eq!(moved["rendition"], "tiny");
    };
    let plain = http_get(
        gateway.address,
        "/live/film",
        &[("User-Agent", "VLC/3.0.18 LibVLC/3.0.18")],
    );
    let (_, plain, other) = tokio::join!(player, plain, choose(&gateway, "film", "can=hls", &[]));
    assert_eq!((plain.unwrap().0, other.0), (307, 200));
    let encoder = gateway.api("/api/devices/film").await["encoder"]["name"].clone();
    assert_eq!(encoder, "libx264");
    assert_no_worker_blocked(&gateway);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_request_blocks_no_worker_the_first_time() {
    let gateway = watched(&config()).await;
    let address = gateway.address;
    for path in [
        "/",
        "/watch/film",
        "/docs",
        "/docs/api",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/devices",
        "/api/devices/film",
        "/api/sessions",
        "/api/plugins",
        "/live/film/frame.jpg",
        "/live/film/hls/main.m3u8",
    ] {
        let (status, _, _) = within(path, http_get(address, path, &[])).await.unwrap();
        assert!(status == 200 || status == 404, "{path}: {status}");
    }
    let (status, _, body) = post(&gateway, "film", "application/json", "").await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    CaptureClient::of(&gateway, "film")
        .await
        .take(json!({}))
        .await
        .unwrap();
    for stream in ["film", "film@small"] {
        let mut viewer = within("connect", mjpeg(address, stream)).await.unwrap();
        within("a frame", viewer.next()).await.unwrap();
    }
    let path = "/api/plugins/policy/reload";
    let (status, _, body) = within(path, request(address, "POST", path, &[]))
        .await
        .unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    assert_no_worker_blocked(&gateway);
}
