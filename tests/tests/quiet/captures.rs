//! A storm of captures does not affect viewers.

use crate::load::measure;
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use sluicegate_tests::{
    Camera, CaptureClient, Gateway, Raw, Watcher, camera,
    measure::{P99_MARGIN, Summary},
    raw::masked,
    within,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time};
use tokio_tungstenite::tungstenite::Message;

const VIEWERS: usize = 50;
/// Number of clients, each with a hundred requests per second. Half of them never read an answer and are not counted.
const CLIENTS: usize = 20;
const REQUEST: &str = "{\"type\":\"capture\"}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_captures_asked_for_in_a_second_cost_fifty_viewers_no_time() {
    let _turn = crate::alone().await;
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        viewers.push(Watcher::open(gateway.address, "/live/cam/nal", clip).await);
    }
    for _ in 0..2 {
        measure(&mut camera, &mut viewers, &mut Vec::new()).await;
    }
    let (mut calm, mut beside) = (Vec::new(), Vec::new());
    let (mut asked, mut made) = (0, 0);
    for _ in 0..3 {
        measure(&mut camera, &mut viewers, &mut calm).await;
        let storm = Storm::begin(&gateway).await;
        measure(&mut camera, &mut viewers, &mut beside).await;
        let (these, of_them) = storm.end().await;
        asked += these;
        made += of_them;
        // Wait for the end of the storm, so that the next calm measurement is undisturbed.
        let over = |device: &serde_json::Value| device["captures"]["clients"] == 0;
        gateway
            .api_until("/api/devices/cam", "the clients are gone", over)
            .await;
    }
    let (calm, beside) = (Summary::of(calm), Summary::of(beside));
    println!("alone {calm:?}\nbeside {asked} requests, of which {made} gave an image, {beside:?}");
    // 100 images at 50 per second take two seconds.
    assert!(
        asked >= 3 * 2 * 1000 * 9 / 10,
        "{asked} requests are not a storm"
    );
    assert!(made > 60, "{made} images");
    let allowed = (calm.p99 * 11 / 10).max(calm.p99 + P99_MARGIN);
    assert!(beside.p99 <= allowed, "{beside:?}, but alone {calm:?}");
    // A well-behaved client still gets its capture.
    let mut shots = CaptureClient::of(&gateway, "cam").await;
    shots.take(json!({})).await.unwrap();
    gateway.no_panic();
}

/// Clients that send requests continuously.
struct Storm {
    asked: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Storm {
    async fn begin(gateway: &Gateway) -> Storm {
        let mut storm = Storm {
            asked: Arc::default(),
            made: Arc::default(),
            tasks: JoinSet::new(),
        };
        for nth in 0..CLIENTS {
            let asked = storm.asked.clone();
            let mut pace = time::interval(Duration::from_millis(10));
            pace.set_missed_tick_behavior(time::MissedTickBehavior::Burst);
            if nth % 2 == 0 {
                let mut deaf = Raw::with_buffer(gateway.address, Some(16 << 10)).await;
                let head = deaf.upgrade(gateway.address, "/api/ws/capture/cam").await;
                assert_eq!(head.unwrap().status, 101);
                storm.tasks.spawn(async move {
                    let frame = masked(0x81, REQUEST.as_bytes());
                    loop {
                        pace.tick().await;
                        // When the gateway no longer reads from it, the client waits here.
                        deaf.write(&frame).await;
                    }
                });
                continue;
            }
            let shots = CaptureClient::of(gateway, "cam").await;
            let made = storm.made.clone();
            storm.tasks.spawn(async move {
                let (mut ask, mut answers) = shots.socket.split();
                let asks = async {
                    loop {
                        pace.tick().await;
                        asked.fetch_add(1, Ordering::Relaxed);
                        ask.send(Message::text(REQUEST)).await.unwrap();
                    }
                };
                let hears = async {
                    while let Some(Ok(answer)) = answers.next().await {
                        made.fetch_add(u64::from(answer.is_binary()), Ordering::Relaxed);
                    }
                    panic!("the gateway hung up");
                };
                tokio::join!(asks, hears);
            });
        }
        storm
    }

    async fn end(mut self) -> (u64, u64) {
        // Fails if a client has failed.
        while let Some(ended) = self.tasks.try_join_next() {
            ended.unwrap();
        }
        within("the clients end", self.tasks.shutdown()).await;
        (
            self.asked.load(Ordering::Relaxed),
            self.made.load(Ordering::Relaxed),
        )
    }
}
