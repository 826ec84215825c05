//! A panic leaves nobody waiting: whatever the thread was working on fails as on an ordinary error, and recovers.
//!
//! Debug builds panic where `SLUICEGATE_PANIC` says; see `telemetry::provoke`.

use super::audio;
use serde_json::Value;
use sluicegate_tests::{
    Gateway, Metrics, Nal,
    capture::post,
    choose,
    client::Mjpeg,
    mjpeg,
    mp4::Part,
    mse::{Mse, Received},
    within,
};

const DEMO: &str = "
[streams.demo]
source = \"test-pattern\"
encode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = \"500ms\" }
renditions.small = { width = 160 }
";

/// A gateway in which a part panics on its Nth turn (`PART=N`), or on every turn from the Nth (`PART=N+`).
async fn panicking(wish: &str, config: &str) -> Gateway {
    Gateway::with_config_after(&format!("export SLUICEGATE_PANIC={wish}"), config).await
}

/// Waits until the log reports a panic of `part` with its location.
async fn panic_logged(gateway: &Gateway, part: &str) {
    let line = gateway.logged(&format!("{part} panicked at host/")).await;
    let (_, place) = line.split_once("host/").unwrap();
    let mut place = place.split(':');
    let (file, number) = (place.next().unwrap(), place.next().unwrap());
    assert!(
        file.ends_with(".rs") && number.parse::<u32>().is_ok(),
        "{line}"
    );
}

/// Notes of the stream.
async fn notes(gateway: &Gateway) -> String {
    gateway.api("/api/devices/demo").await["notes"].to_string()
}

/// Receives this number of messages.
async fn messages(viewer: &mut Nal, count: usize) {
    for _ in 0..count {
        within("a frame", viewer.next()).await.unwrap();
    }
}

async fn frames(viewer: &mut Mjpeg, count: usize) {
    for _ in 0..count {
        within("a frame", viewer.next()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_panics_is_opened_again_and_its_viewers_go_on() {
    let gateway = panicking("source=20", DEMO).await;
    let mut viewer = Nal::connect(gateway.address, "demo").await.unwrap();
    messages(&mut viewer, 10).await;
    panic_logged(&gateway, "reading the source").await;
    messages(&mut viewer, 60).await;
    let metrics = Metrics::of(&gateway).await;
    for figure in ["failures", "restarts"] {
        let name = format!("sluicegate_stream_source_{figure}_total");
        assert_eq!(metrics.sum(&name, &[]), 1.0, "{figure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decoders_and_encoders_that_panic_are_made_anew_and_viewers_go_on() {
    for (part, stream) in [
        ("decode", "demo"),
        ("jpeg", "demo"),
        ("encode", "demo@small"),
    ] {
        let gateway = panicking(&format!("{part}=12"), DEMO).await;
        if part == "encode" {
            let mut viewer = Nal::connect(gateway.address, stream).await.unwrap();
            messages(&mut viewer, 5).await;
            panic_logged(&gateway, "`encode`").await;
            messages(&mut viewer, 40).await;
        } else {
            let mut viewer = mjpeg(gateway.address, stream).await.unwrap();
            frames(&mut viewer, 1).await;
            panic_logged(&gateway, &format!("`{part}`")).await;
            frames(&mut viewer, 15).await;
        }
        let notes = notes(&gateway).await;
        assert!(
            notes.contains(&format!("`{part}` panicked at host/")),
            "{notes}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_survives_a_panic_of_its_transcoder_and_of_the_join_with_the_video() {
    let file = audio::alaw();
    let config = format!("[streams.demo]\nsource = \"file:{}\"\n", file.display());
    let gateway = panicking("audio=60,join=150", &config).await;
    let mut viewer = Mse::connect(gateway.address, "demo").await;
    let mut fragments = async |count: usize| {
        // Number of samples per track.
        let mut seen = std::collections::BTreeMap::new();
        while seen.len() < 2 || seen.values().any(|seen| *seen < count) {
            if let Received::Part(Part::Fragment(fragment)) = viewer.next().await.unwrap() {
                for sample in fragment.samples {
                    *seen.entry(sample.track).or_insert(0) += 1;
                }
            }
        }
    };
    fragments(1).await;
    panic_logged(&gateway, "`audio`").await;
    panic_logged(&gateway, "`join`").await;
    fragments(30).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_muxer_that_panics_is_repaired_as_if_its_guest_had_failed() {
    let gateway = panicking("mux=25", DEMO).await;
    let mut viewer = Nal::connect(gateway.address, "demo").await.unwrap();
    messages(&mut viewer, 5).await;
    panic_logged(&gateway, "the host").await;
    messages(&mut viewer, 60).await;
    let plugins = gateway.api("/api/plugins").await;
    let nal = plugins
        .as_array()
        .unwrap()
        .iter()
        .find(|plugin| plugin["name"] == "nal");
    assert_eq!(nal.unwrap()["muxers"][0]["failures"], 1, "{plugins:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_of_a_muxer_that_panics_repeatedly_get_a_reason_and_do_not_wait() {
    let gateway = panicking("mux=25+", DEMO).await;
    let mut viewer = Nal::connect(gateway.address, "demo").await.unwrap();
    messages(&mut viewer, 5).await;
    let closed = within("the end", viewer.closed()).await.unwrap();
    let reason = closed.expect("a close frame").reason.to_string();
    assert!(reason.contains("panicked at host/"), "{reason}");
    let answered = within("an answer", Nal::connect(gateway.address, "demo")).await;
    assert!(answered.is_err(), "it works again");
    assert_eq!(gateway.api("/healthz").await["status"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_that_panics_is_answered_and_the_next_one_is_made() {
    let gateway = panicking("capture=2", DEMO).await;
    for (nth, status, code) in [
        (1, 200, None),
        (2, 500, Some("DECODE_FAILED")),
        (3, 200, None),
    ] {
        let (answered, _, body) = post(&gateway, "demo", "application/json", "").await;
        let said: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (answered, said["code"].as_str()),
            (status, code),
            "the capture {nth}: {said}"
        );
    }
    panic_logged(&gateway, "the capture thread").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_panics_is_made_anew_and_sessions_begin_meanwhile() {
    let gateway = panicking("policy=1", DEMO).await;
    for _ in 0..3 {
        let (status, chosen) = choose(&gateway, "demo", "can=nal,mjpeg", &[]).await;
        assert_eq!(status, 200, "{chosen}");
        assert!(chosen["transport"].is_string(), "{chosen}");
    }
    panic_logged(&gateway, "the host").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn android_devices_are_followed_again_after_a_panic() {
    // A source whose port refuses connections; the failure is reported when its tracks are requested.
    let port = sluicegate_tests::feeder::free_port().await;
    let config = format!("{DEMO}\n[android]\ndiscover = true\nadb = \"127.0.0.1:{port}\"\n");
    let gateway = panicking("devices=1", &config).await;
    panic_logged(&gateway, "following the Android devices").await;
    gateway
        .logged("Android devices are offline until then")
        .await;
}
