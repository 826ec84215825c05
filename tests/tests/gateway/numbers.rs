//! `/metrics`: valid for Prometheus, and correct: the counters equal what viewers received.

use sluicegate_tests::{
    Camera, Gateway, Metrics, Nal, Raw, Watcher,
    camera::{self, GROUP},
    mjpeg, within,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::task::JoinHandle;

const NAL: [(&str, &str); 2] = [("stream", "cam"), ("transport", "nal")];
const MJPEG: [(&str, &str); 2] = [("stream", "cam"), ("transport", "mjpeg")];

/// A viewer that only counts the bytes after the response's head.
struct CountingViewer {
    bytes: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl CountingViewer {
    async fn open(gateway: &Gateway, transport: &str) -> CountingViewer {
        let address = gateway.address;
        let path = format!("/live/cam/{transport}");
        let mut raw = Raw::connect(address).await;
        let head = if transport == "nal" {
            raw.upgrade(address, &path).await.unwrap()
        } else {
            // HTTP/1.0, so that only the body follows.
            raw.write(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n"))
                .await;
            raw.head().await.unwrap()
        };
        assert!(matches!(head.status, 101 | 200), "{}", head.text);
        let bytes = Arc::new(AtomicU64::new(raw.buffer.len() as u64));
        let counted = bytes.clone();
        let task = tokio::spawn(async move {
            let mut some = vec![0; 64 << 10];
            while let Ok(read @ 1..) =
                tokio::io::AsyncReadExt::read(&mut raw.socket, &mut some).await
            {
                counted.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
        CountingViewer { bytes, task }
    }

    /// Bytes received by all of them.
    fn sum(all: &[CountingViewer]) -> f64 {
        let bytes = all.iter().map(|one| one.bytes.load(Ordering::Relaxed));
        bytes.sum::<u64>() as f64
    }

    /// Disconnects all of them.
    async fn leave(all: Vec<CountingViewer>) {
        for one in all {
            one.task.abort();
            let _ = one.task.await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_viewers_received_is_what_was_counted_and_stays_counted_when_they_left() {
    let mut camera = Camera::new(camera::clip()).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut watcher = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    // The watcher's bytes are computed from those of the other viewers, since WebSocket messages have a header of 2, 4
    // or 10 bytes.
    let mut nal = Vec::new();
    for _ in 0..3 {
        nal.push(CountingViewer::open(&gateway, "nal").await);
    }
    let mut jpegs = Vec::new();
    for _ in 0..2 {
        jpegs.push(CountingViewer::open(&gateway, "mjpeg").await);
    }
    for _ in 0..2 * GROUP {
        camera.show(&mut watcher).await;
    }
    let settled = Metrics::until(&gateway, "every byte is counted", |metrics| {
        // The watcher received as much as each of the other three on `nal`.
        let nal = CountingViewer::sum(&nal) / 3.0 * 4.0;
        let jpegs = CountingViewer::sum(&jpegs);
        nal > 10_000.0
            && jpegs > 10_000.0
            && metrics.sum("sluicegate_sent_bytes_total", &NAL) == nal
            && metrics.sum("sluicegate_sent_bytes_total", &MJPEG) == jpegs
            // The last frame may still be in the decoder.
            && metrics.sum("sluicegate_decoded_frames_total", &[("stream", "cam")])
                >= 2.0 * GROUP as f64
    })
    .await;
    assert_eq!(settled.sum("sluicegate_viewers", &NAL), 4.0);
    assert_eq!(settled.sum("sluicegate_viewers", &MJPEG), 2.0);
    assert_eq!(settled.sum("sluicegate_viewers_total", &[]), 6.0);
    // A viewer that arrives before the first frame misses none.
    let frames = 2.0 * GROUP as f64;
    assert_eq!(
        settled.sum("sluicegate_sent_chunks_total", &NAL),
        4.0 * frames
    );
    assert_eq!(settled.sum("sluicegate_viewer_jumps_total", &NAL), 0.0);
    let cam = [("stream", "cam")];
    assert_eq!(settled.sum("sluicegate_stream_samples_total", &cam), frames);
    assert!(settled.sum("sluicegate_stream_received_bytes_total", &cam) > 10_000.0);
    assert_eq!(settled.sum("sluicegate_guest_pushes_total", &NAL), frames);
    assert_eq!(settled.sum("sluicegate_guest_instances_total", &NAL), 1.0);
    assert!(settled.sum("sluicegate_guest_seconds_total", &NAL) > 0.0);
    assert_eq!(settled.sum("sluicegate_decoded_frames_total", &cam), frames);
    let made = settled.sum("sluicegate_jpegs_total", &cam);
    assert!((1.0..=frames).contains(&made), "{made} JPEGs");
    assert!(settled.sum("sluicegate_stream_ring_bytes", &cam) > 0.0);
    assert!(settled.sum("sluicegate_outlet_bytes", &NAL) > 0.0);
    for (state, is) in [("live", 1.0), ("silent", 0.0), ("retrying", 0.0)] {
        let labels = [("stream", "cam"), ("state", state)];
        assert_eq!(
            settled.sum("sluicegate_stream_state", &labels),
            is,
            "{state}"
        );
    }
    let running = [NAL[0], NAL[1], ("state", "running")];
    assert_eq!(settled.sum("sluicegate_muxers", &running), 1.0);

    // One first byte per viewer, and one delivery per write, which contains one frame if nobody is slow.
    for (transport, viewers) in [("nal", 4.0), ("mjpeg", 2.0)] {
        let labels = [("transport", transport)];
        assert_eq!(
            settled.sum("sluicegate_first_byte_seconds_count", &labels),
            viewers
        );
        let deliveries = settled.sum("sluicegate_delivery_seconds_count", &labels);
        let chunks = settled.sum("sluicegate_sent_chunks_total", &labels);
        assert!(
            (chunks / 2.0..=chunks).contains(&deliveries),
            "{deliveries} deliveries of {chunks} chunks on {transport}"
        );
        // Viewers waited for the camera from the request to the first frame, but chunks did not wait.
        let seconds = settled.sum("sluicegate_delivery_seconds_sum", &labels);
        assert!(seconds / deliveries < 1.0, "{seconds} s for {deliveries}");
    }

    CountingViewer::leave(nal).await;
    CountingViewer::leave(jpegs).await;
    let left = Metrics::until(&gateway, "they are gone", |metrics| {
        metrics.sum("sluicegate_viewers", &[]) == 1.0
    })
    .await;
    assert_eq!(left.decreased_since(&settled), Vec::<String>::new());
    let bytes = |metrics: &Metrics| metrics.sum("sluicegate_sent_bytes_total", &NAL);
    assert_eq!(bytes(&left), bytes(&settled));
    assert_eq!(left.sum("sluicegate_viewers", &MJPEG), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_outlive_sources_muxers_and_decoders() {
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!("{}idle = '0s'\n", camera.config());
    let gateway = Gateway::with_config(&config).await;
    let mut before = Metrics::of(&gateway).await;
    assert!(!before.has("sluicegate_muxers", &NAL));
    for round in 1..=2 {
        let mut watcher = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
        let frames = within("connect", mjpeg(gateway.address, "cam")).await;
        camera.show(&mut watcher).await;
        // The source fails and reconnects.
        camera.hang_up();
        camera.show(&mut watcher).await;
        let after = Metrics::of(&gateway).await;
        assert_eq!(after.decreased_since(&before), Vec::<String>::new());
        drop((watcher, frames));
        gateway
            .api_until("/api/devices/cam", "it is stopped", |device| {
                device["state"] == "idle"
            })
            .await;
        camera.hang_up();
        let idle = Metrics::until(&gateway, "the muxers are gone", |metrics| {
            !metrics.has("sluicegate_muxers", &NAL) && !metrics.has("sluicegate_muxers", &MJPEG)
        })
        .await;
        assert_eq!(idle.decreased_since(&after), Vec::<String>::new());
        let cam = [("stream", "cam")];
        assert_eq!(
            idle.sum("sluicegate_stream_source_failures_total", &cam),
            f64::from(round)
        );
        assert_eq!(
            idle.sum("sluicegate_stream_source_restarts_total", &cam),
            f64::from(round)
        );
        assert_eq!(
            idle.sum("sluicegate_guest_instances_total", &NAL),
            f64::from(round)
        );
        assert_eq!(idle.sum("sluicegate_stream_ring_bytes", &cam), 0.0);
        before = idle;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renditions_have_their_own_metrics_and_sizes_requested_by_viewers_do_not() {
    let gateway = Gateway::with_config(
        "[streams.demo]\nsource = 'test-pattern'\nencode = { width = 320, height = 192 }\n\
         renditions.small = { width = 160 }\n",
    )
    .await;
    let mut viewers = Vec::new();
    for path in ["demo/mjpeg", "demo/mjpeg?width=160", "demo@small/mjpeg"] {
        let mut raw = Raw::connect(gateway.address).await;
        let host = gateway.address;
        raw.write(format!("GET /live/{path} HTTP/1.0\r\nHost: {host}\r\n\r\n"))
            .await;
        assert_eq!(raw.head().await.unwrap().status, 200, "{path}");
        raw.part().await.unwrap();
        viewers.push(raw);
    }
    let metrics = Metrics::of(&gateway).await;
    for (rendition, count) in [("", 2.0), ("small", 1.0)] {
        let way = [
            ("stream", "demo"),
            ("rendition", rendition),
            ("transport", "mjpeg"),
        ];
        assert_eq!(metrics.sum("sluicegate_viewers", &way), count);
        assert!(metrics.sum("sluicegate_sent_bytes_total", &way) > 1000.0);
        let running = [&way[..], &[("state", "running")]].concat();
        assert_eq!(metrics.sum("sluicegate_muxers", &running), count);
        assert_eq!(metrics.sum("sluicegate_guest_instances_total", &way), count);
    }
    let device = gateway.api("/api/devices/demo").await;
    let watching = serde_json::json!([
        { "rendition": "", "transport": "mjpeg", "viewers": 2 },
        { "rendition": "small", "transport": "mjpeg", "viewers": 1 },
    ]);
    assert_eq!(device["watching"], watching);
}

#[tokio::test]
async fn names_from_the_config_cannot_break_the_format() {
    let odd = "a \"b {c}=,d";
    let gateway = Gateway::with_config(&format!(
        "[streams.{}]\nsource = 'test-pattern'\n[streams.plain]\nsource = 'test-pattern'\n",
        toml_key(odd)
    ))
    .await;
    let metrics = Metrics::of(&gateway).await;
    let labels = [("stream", odd), ("state", "idle")];
    assert_eq!(metrics.sum("sluicegate_stream_state", &labels), 1.0);
    let viewer = within("connect", Nal::connect(gateway.address, "plain")).await;
    let encoded =
        |metrics: &Metrics| metrics.sum("sluicegate_encoded_frames_total", &[("stream", "plain")]);
    Metrics::until(&gateway, "the encoder is counted", |metrics| {
        encoded(metrics) > 2.0
    })
    .await;
    drop(viewer);
}

#[tokio::test]
async fn the_process_is_measured_as_the_system_measures_it() {
    let gateway = Gateway::serve(&[]).await;
    let metrics = Metrics::of(&gateway).await;
    let memory = metrics.sum("sluicegate_process_resident_memory_bytes", &[]);
    let ratio = memory / gateway.memory() as f64;
    assert!(
        (0.8..1.25).contains(&ratio),
        "{memory} of {}",
        gateway.memory()
    );
    let cpu = metrics.sum("sluicegate_process_cpu_seconds_total", &[]);
    assert!(
        cpu <= gateway.cpu().as_secs_f64() + 0.02 && cpu > 0.0,
        "{cpu}"
    );
    let fds = std::fs::read_dir(format!("/proc/{}/fd", gateway.child.id().unwrap()));
    // The connection that fetched the metrics may be closed by now.
    let counted = metrics.sum("sluicegate_process_open_fds", &[]);
    assert!(
        (fds.unwrap().count() as f64 - counted).abs() <= 2.0,
        "{counted}"
    );
    let age = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        - metrics.sum("sluicegate_process_start_time_seconds", &[]);
    assert!((-2.0..60.0).contains(&age), "started {age} s ago");
}

/// A name as a quoted TOML key.
fn toml_key(name: &str) -> String {
    serde_json::to_string(name).unwrap()
}
