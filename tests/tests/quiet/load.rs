//! A thousand viewers that read nothing do not delay the others, and cost the gateway no more than its documented bound
//! for each.

use sluicegate_tests::{
    Camera, Gateway, PATIENCE, Raw, Watcher,
    camera::{self, COUNT, Clip},
    measure::{P99_MARGIN, Summary, allow_descriptors, mib},
    media::{encode_pattern, frames, nals_of},
    within,
};
use std::time::{Duration, Instant};

const GOOD: usize = 20;
/// Viewers on each of the two transports.
const STALLED: usize = 500;
/// Bytes of filler data after each frame: the kernel buffers of a stalled viewer are full after about twenty.
const FILLER: usize = 16 << 10;
/// Most memory that the gateway holds per viewer, besides the shared rings: a batch of 64 KiB that the viewer keeps
/// from being freed, the chunk that exceeded it, hyper's two buffers of 16 KiB, and 32 KiB for the connection's task,
/// cursor and list entries.
const BOUND: u64 = (64 + 20 + 2 * 16 + 32) << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_stalled_viewers_cost_others_nothing_and_memory_stays_bounded() {
    let _turn = crate::alone().await;
    allow_descriptors(4096);
    let clip = Box::leak(Box::new(camera::clip().with_filler(FILLER)));
    let mut camera = Camera::new(clip).await;
    let config = format!(
        "[server]\nconnections-per-address = 4096\n{}",
        camera.config()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut good = Vec::new();
    for _ in 0..GOOD {
        good.push(Watcher::open(gateway.address, "/live/cam/nal", clip).await);
    }
    // One viewer of each kind, so that everything allocated only for the first is allocated.
    let one_of_each = stalled(&gateway, 1).await;
    let mut warm = Vec::new();
    for _ in 0..3 {
        measure(&mut camera, &mut good, &mut warm).await;
    }
    drop(one_of_each);

    let (mut calm, mut beside) = (Vec::new(), Vec::new());
    let mut medians = Vec::new();
    let (mut base, mut most) = (0, 0);
    for _ in 0..3 {
        alone(&gateway).await;
        let mut round = (Vec::new(), Vec::new());
        measure(&mut camera, &mut good, &mut round.0).await;
        base = base.max(gateway.memory());
        let idle = stalled(&gateway, STALLED).await;
        stall(&gateway, &mut camera, &mut good).await;
        measure(&mut camera, &mut good, &mut round.1).await;
        most = most.max(gateway.memory());
        drop(idle);
        calm.extend(&round.0);
        beside.extend(&round.1);
        medians.push((Summary::of(round.0).median, Summary::of(round.1).median));
    }
    let (calm, beside) = (Summary::of(calm), Summary::of(beside));
    let each = most.saturating_sub(base) / (2 * STALLED as u64);
    println!("alone {calm:?}\nbeside a thousand {beside:?}");
    println!(
        "{:.1} MiB, then {:.1}: {} bytes each",
        mib(base),
        mib(most),
        each
    );
    assert!(each <= BOUND, "{each} bytes for each, {BOUND} are stated");
    let allowed = (calm.p99 * 11 / 10).max(calm.p99 + P99_MARGIN);
    assert!(beside.p99 <= allowed, "{beside:?}, but alone {calm:?}");
    // Most frames do not wait at all. The two halves of a round follow each other, so they share what else the machine
    // does; other load that comes between them may spoil one round of three.
    let unharmed = |(alone, beside): &(Duration, Duration)| {
        *beside <= *alone * 11 / 10 + Duration::from_millis(3)
    };
    let good_rounds = medians.iter().filter(|round| unharmed(round)).count();
    assert!(good_rounds >= 2, "{medians:?}");
    gateway.no_panic();
}

/// Sends 100 frames, 50 per second; appends the latency of each for every viewer.
pub async fn measure(camera: &mut Camera, good: &mut [Watcher], latencies: &mut Vec<Duration>) {
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..100 {
        pace.tick().await;
        show(camera, good, latencies).await;
    }
}

async fn show(camera: &mut Camera, good: &mut [Watcher], latencies: &mut Vec<Duration>) {
    let sent = Instant::now();
    let (first, others) = good.split_first_mut().unwrap();
    let place = camera.show_at_once(first).await % COUNT;
    latencies.push(sent.elapsed());
    for other in others {
        assert_eq!(within("a frame", other.next()).await.0, place, "a gap");
        latencies.push(sent.elapsed());
    }
}

/// Opens this many viewers of each transport that have read the head of the response and read nothing more.
async fn stalled(gateway: &Gateway, count: usize) -> Vec<Raw> {
    let mut all = Vec::new();
    for nth in 0..2 * count {
        let mut viewer = Raw::with_buffer(gateway.address, Some(16 << 10)).await;
        if nth % 2 == 0 {
            let head = viewer.upgrade(gateway.address, "/live/cam/nal").await;
            assert_eq!(head.unwrap().status, 101);
        } else {
            let host = gateway.address;
            let request = format!("GET /live/cam/mjpeg HTTP/1.1\r\nHost: {host}\r\n\r\n");
            viewer.write(request).await;
            assert_eq!(viewer.head().await.unwrap().status, 200);
        }
        all.push(viewer);
    }
    all
}

/// Shows frames until only the good viewers receive more data.
async fn stall(gateway: &Gateway, camera: &mut Camera, good: &mut [Watcher]) {
    let began = Instant::now();
    let mut before = Vec::new();
    loop {
        for _ in 0..20 {
            show(camera, good, &mut Vec::new()).await;
        }
        let sessions = gateway.api("/api/sessions").await;
        let all = sessions["sessions"].as_array().unwrap();
        assert_eq!(all.len(), GOOD + 2 * STALLED);
        let sent = |nth: usize| all[nth]["bytes"].as_u64().unwrap();
        let sent: Vec<u64> = (GOOD..all.len()).map(sent).collect();
        if sent == before {
            return;
        }
        before = sent;
        assert!(began.elapsed() < PATIENCE, "a stalled viewer still reads");
    }
}

/// Waits until only the good viewers are connected.
async fn alone(gateway: &Gateway) {
    let gone =
        |sessions: &serde_json::Value| sessions["sessions"].as_array().unwrap().len() == GOOD;
    gateway
        .api_until("/api/sessions", "the others are gone", gone)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_frames_cost_the_ring_their_size_and_not_that_of_their_reads() {
    let _turn = crate::alone().await;
    let arguments = [
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "10",
    ];
    let file = encode_pattern("small.h264", (64, 48), 0, COUNT as u64, &arguments);
    let clip = Box::leak(Box::new(Clip::new(frames(&nals_of(&file)))));
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut viewer = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
    for _ in 0..100 {
        camera.show_at_once(&mut viewer).await;
    }
    let before = gateway.memory();
    // Each frame arrives in a read of its own and stays in the ring, which keeps 15 s.
    for _ in 0..1000 {
        camera.show_at_once(&mut viewer).await;
    }
    let more = mib(gateway.memory().saturating_sub(before));
    assert!(
        more < 16.0,
        "{more} MiB for a thousand frames of some hundred bytes"
    );
}
