//! The API calls that dashboards make every second are cheap, however many streams and viewers there are.

use sluicegate_tests::{
    Camera, Gateway, Raw, Watcher, camera, http_get, measure::allow_descriptors, within,
};
use std::time::{Duration, Instant};

const STREAMS: usize = 256;
const VIEWERS: usize = 1000;
/// Time for the gateway to build an answer and send it; ten times as much in an unoptimized build.
const MAX_TIME: Duration = Duration::from_millis(if cfg!(debug_assertions) { 50 } else { 5 });

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listing_256_streams_and_a_thousand_viewers_takes_five_milliseconds() {
    let _turn = crate::alone().await;
    allow_descriptors(4096);
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let others: String = (1..STREAMS)
        .map(|nth| format!("[streams.s{nth}]\nsource = \"test-pattern\"\n"))
        .collect();
    let config = format!(
        "[server]\nconnections-per-address = 4096\n{}{others}",
        camera.config()
    );
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let mut viewer = Watcher::open(address, "/live/cam/nal", clip).await;
    camera.show(&mut viewer).await;
    let mut viewers = Vec::new();
    for _ in 1..VIEWERS {
        let mut viewer = Raw::connect(address).await;
        let head = viewer.upgrade(address, "/live/cam/nal").await;
        assert_eq!(head.unwrap().status, 101);
        viewers.push(viewer);
    }
    let ask = async |headers: &[(&str, &str)]| {
        let began = Instant::now();
        let asked = within("the devices", http_get(address, "/api/devices", headers)).await;
        let (status, _, body) = asked.unwrap();
        assert_eq!(status, 200);
        (began.elapsed(), body)
    };
    let (_, body) = ask(&[]).await;
    let devices: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let devices = devices.as_array().unwrap();
    assert_eq!(devices.len(), STREAMS);
    let watched = devices.iter().find(|device| device["serial"] == "cam");
    assert_eq!(watched.unwrap()["viewers"], VIEWERS);

    // A client that accepts a cached answer gets the same bytes. The quickest of many requests shows the cost.
    let shared = [("Cache-Control", "max-age=1")];
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in 0..30 {
        let (took, body) = ask(&[]).await;
        alone.push(took);
        let (took, again) = ask(&shared).await;
        together.push((took, body == again));
    }
    let best = alone.iter().min().unwrap();
    println!("alone {alone:?}\nshared {together:?}");
    assert!(*best <= MAX_TIME, "{best:?} at best");
    assert!(
        together.iter().any(|(_, same)| *same),
        "no answer was shared"
    );
}
