//! Captures of any stream, at any moment, over every API.

use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, CaptureClient, Feeder, Gateway, Nal, Watcher,
    camera::{self, COUNT, GROUP},
    capture::post,
    client::jpeg_number,
    feeder::write_in_chunks,
    http_get,
    media::{NumberReader, encode_pattern, nals_of, with_start_codes},
    scratch, within,
};
use std::{collections::BTreeSet, path::Path, process::Command, time::Instant};

/// The test pattern, in a size at which its number is readable.
pub const DEMO: &str = "
[streams.demo]
source = \"test-pattern\"
idle = \"300ms\"
encode = { width = 640, height = 384, frame-rate = 30, bitrate = \"1M\" }
";

fn size_of(jpeg: &[u8]) -> (usize, usize) {
    let head = turbojpeg::read_header(jpeg).unwrap();
    (head.width, head.height)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_in_a_row_on_one_socket_show_what_was_newest_when_they_were_asked_for() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut viewer = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
    camera.show(&mut viewer).await;
    let mut shots = CaptureClient::of(&gateway, "cam").await;
    let mut before = None;
    for _ in 0..20 {
        let sent = camera.show(&mut viewer).await;
        let (said, jpeg) = shots.take(json!({})).await.unwrap();
        let number = jpeg_number(&jpeg).unwrap() as usize;
        // The previous frame is allowed if the decoder still works on the newest after 5 ms.
        let behind = (sent + COUNT - number) % COUNT;
        assert!(behind <= 1, "{number} where {sent} was the newest: {said}");
        assert_eq!(
            (said["width"].as_u64(), said["height"].as_u64()),
            (Some(320), Some(192))
        );
        assert_eq!(
            (said["serial"].as_str(), &said["path"]),
            (Some("cam"), &Value::Null)
        );
        // The source is silent, so its newest frame ages, and the answer says so.
        assert!(said["age_ms"].as_u64().unwrap() >= 20, "{said}");
        let id = said["capture_id"].as_str().unwrap().to_owned();
        assert!(before.replace(id.clone()).is_none_or(|before| before != id));
    }
    let devices = gateway.api("/api/devices/cam").await;
    assert_eq!(devices["captures"]["clients"], 1);
    assert_eq!(devices["decoder"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_still_source_is_captured_at_once_while_its_last_frame_is_repeated() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut viewer = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
    let mut shots = CaptureClient::of(&gateway, "cam").await;
    // HLS continues through the silence by repeating the last frame.
    let playlist = async || {
        let path = "/live/cam/hls/media.m3u8";
        let (status, _, body) = within(path, http_get(gateway.address, path, &[]))
            .await
            .unwrap();
        (status, body)
    };
    // The first playlist waits for a complete segment.
    let (first, ()) = tokio::join!(playlist(), async {
        for _ in 0..15 * GROUP {
            camera.show(&mut viewer).await;
        }
    });
    assert_eq!(first.0, 200);
    // The repeats start after a second.
    within("the silence is filled", async {
        while shots.take(json!({})).await.unwrap().0["age_ms"].as_u64() < Some(2500) {
            playlist().await;
        }
    })
    .await;
    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let (said, jpeg) = shots.take(json!({})).await.unwrap();
        took.push(began.elapsed());
        assert_eq!(jpeg_number(&jpeg), Some(camera.newest() as u32), "{said}");
    }
    // Waiting for the repeats to be decoded would take a quarter of a second every time.
    let shortest = took.iter().min().unwrap();
    assert!(shortest.as_millis() < 200, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_capture_clients_without_viewers_share_a_decoder_that_ends_with_them() {
    let gateway = Gateway::with_config(DEMO).await;
    let (mut one, mut two) = (
        CaptureClient::of(&gateway, "demo").await,
        CaptureClient::of(&gateway, "demo").await,
    );
    let (first, second) = tokio::join!(
        one.take(json!({})),
        two.take(json!({ "width": 320, "quality": 30 }))
    );
    let ((_, first), (_, second)) = (first.unwrap(), second.unwrap());
    assert_eq!(
        (size_of(&first), size_of(&second)),
        ((640, 384), (320, 192))
    );
    assert!(jpeg_number(&first).is_some() && jpeg_number(&second).is_some());
    let threads = gateway.thread_names();
    let of = |name: &str| threads.iter().filter(|thread| *thread == name).count();
    assert_eq!(
        (of("decode demo"), of("capture demo")),
        (1, 1),
        "{threads:?}"
    );
    let device = gateway.api("/api/devices/demo").await;
    assert_eq!(
        (
            &device["decoder"],
            &device["captures"]["clients"],
            &device["viewers"]
        ),
        (&json!("running"), &json!(2), &json!(0))
    );
    drop((one, two));
    let idle = |device: &Value| {
        device["decoder"] == "stopped"
            && device["state"] == "idle"
            && device["captures"]["clients"] == 0
    };
    gateway
        .api_until("/api/devices/demo", "the decoder and the source stop", idle)
        .await;
    let left = |name: &String| name.ends_with(" demo");
    within("the threads end", async {
        while gateway.thread_names().iter().any(left) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Everything starts again on the next request.
    let (status, _, jpeg) = http_get(gateway.address, "/live/demo/frame.jpg", &[])
        .await
        .unwrap();
    assert_eq!((status, size_of(&jpeg)), (200, (640, 384)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_capture_api_returns_the_image_and_its_description() {
    let gateway =
        Gateway::with_config(&format!("{DEMO}renditions.mobile = {{ width = 320 }}\n")).await;
    let header = |head: &str, name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut named = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.to_owned())
    };
    let (status, head, body) = post(&gateway, "demo", "*/*", "").await;
    let said: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, said["type"].as_str()),
        (200, Some("capture_result")),
        "{head} {said}"
    );
    for (accept, body, kind, size) in [
        ("image/jpeg", "{\"width\":160}", "image/jpeg", (160, 96)),
        ("image/*;q=0.8", "", "image/jpeg", (640, 384)),
        ("image/png", "", "image/png", (640, 384)),
        (
            "image/webp",
            "{\"width\":320,\"quality\":50}",
            "image/webp",
            (320, 192),
        ),
        (
            "image/*",
            "{\"format\":\"png\",\"width\":64}",
            "image/png",
            (64, 38),
        ),
    ] {
        let (status, head, image) = post(&gateway, "demo", accept, body).await;
        assert_eq!(
            status,
            200,
            "{accept} {body}: {}",
            String::from_utf8_lossy(&image)
        );
        assert_eq!(
            header(&head, "content-type").as_deref(),
            Some(kind),
            "{head}"
        );
        let told = (header(&head, "x-width"), header(&head, "x-height"));
        assert_eq!(
            told,
            (Some(size.0.to_string()), Some(size.1.to_string())),
            "{accept} {body}"
        );
        assert!(
            header(&head, "x-captured-at").unwrap().ends_with('Z'),
            "{head}"
        );
        assert!(
            header(&head, "x-age-ms").unwrap().parse::<u64>().unwrap() < 5000,
            "{head}"
        );
        assert_eq!(header(&head, "x-path"), None);
        let file = scratch("captures").join(format!("{}.{}", size.0, kind.replace('/', ".")));
        std::fs::write(&file, &image).unwrap();
        assert_eq!(probed(&file), size, "{accept} {body}");
    }
    for (path, size) in [
        ("/live/demo/frame.jpg?width=100", (100, 60)),
        ("/live/demo@mobile/frame.jpg", (320, 192)),
        ("/live/demo@mobile/frame.jpg?width=160&quality=5", (160, 96)),
    ] {
        let (status, head, jpeg) = http_get(gateway.address, path, &[]).await.unwrap();
        assert_eq!((status, size_of(&jpeg)), (200, size), "{path}: {head}");
        assert_eq!(header(&head, "cache-control").as_deref(), Some("no-store"));
    }
}

/// Width and height as reported by ffprobe.
fn probed(file: &Path) -> (u32, u32) {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-select_streams",
            "v:0",
            "-show_entries",
            "stream=width,height",
            "-of",
            "csv=p=0",
        ])
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let (width, height) = text
        .trim()
        .trim_end_matches(',')
        .split_once(',')
        .unwrap_or_else(|| panic!("{file:?}: {text:?}"));
    (width.parse().unwrap(), height.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_and_images_pair_in_request_order_whatever_the_number_of_clients() {
    let gateway = Gateway::with_config(DEMO).await;
    let mut tasks = Vec::new();
    for client in 0..4_u64 {
        let mut shots = CaptureClient::of(&gateway, "demo").await;
        tasks.push(tokio::spawn(async move {
            let mut ids = BTreeSet::new();
            for round in 0..5 {
                let widths = [64, 640, 128, 320].map(|width| width - 4 * ((client + round) % 4));
                for width in widths {
                    shots.ask(json!({ "width": width })).await;
                }
                for width in widths {
                    let (said, jpeg) = shots.answer().await.unwrap();
                    let size = size_of(&jpeg);
                    assert_eq!(
                        said["width"].as_u64(),
                        Some(width),
                        "client {client}: {said}"
                    );
                    assert_eq!(
                        (said["width"].as_u64(), said["height"].as_u64()),
                        (Some(size.0 as u64), Some(size.1 as u64))
                    );
                    assert!(ids.insert(said["capture_id"].as_str().unwrap().to_owned()));
                }
            }
            ids
        }));
    }
    let mut all = BTreeSet::new();
    for task in tasks {
        all.append(&mut task.await.unwrap());
    }
    assert_eq!(all.len(), 4 * 5 * 4);
    // All requests, over every API, share one decoder.
    let device = gateway.api("/api/devices/demo").await;
    assert_eq!(device["made"]["failed"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changes_its_size_is_captured_in_each() {
    let feeder = Feeder::bind().await;
    let config = format!("[streams.cam]\nsource = \"{}\"\n", feeder.source());
    let gateway = Gateway::with_config(&config).await;
    let mut shots = CaptureClient::of(&gateway, "cam").await;
    let mut connection = feeder.accept().await;
    for (nth, size) in [(320, 192), (192, 320), (640, 384)].into_iter().enumerate() {
        let name = format!("capture-{}.h264", size.0);
        let first = 100 * nth as u64;
        let file = encode_pattern(&name, size, first, 10, &["-c:v", "libx264", "-bf", "0"]);
        write_in_chunks(&mut connection, &with_start_codes(&nals_of(&file), |_| 4)).await;
        let of_size = |device: &Value| device["width"] == size.0 && device["state"] == "live";
        gateway
            .api_until("/api/devices/cam", "the new size is seen", of_size)
            .await;
        within("the newest frame is captured", async {
            loop {
                let (said, jpeg) = shots.take(json!({})).await.unwrap();
                let found = size_of(&jpeg);
                if jpeg_number(&jpeg) == Some(first as u32 + 9) {
                    assert_eq!(found, (size.0 as usize, size.1 as usize), "{said}");
                    return;
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_coded_out_of_order_are_captured_in_presentation_order() {
    let film = encode_pattern(
        "capture-b.mp4",
        (320, 192),
        0,
        300,
        &[
            "-c:v",
            "libx264",
            "-bf",
            "3",
            "-b_strategy",
            "0",
            "-g",
            "30",
        ],
    );
    let config = format!("[streams.film]\nsource = \"file:{}\"\n", film.display());
    let gateway = Gateway::with_config(&config).await;
    let mut viewer = within("connect", Nal::connect(gateway.address, "film"))
        .await
        .unwrap();
    let mut reader = NumberReader::default();
    let mut shots = CaptureClient::of(&gateway, "film").await;
    for _ in 0..5 {
        let (mut seen, mut last) = (0, 0);
        while seen < 12 {
            let message = within("a frame", viewer.next()).await.unwrap();
            let numbers = reader.feed(&message);
            seen += numbers.len();
            last = numbers.last().copied().unwrap_or(last);
        }
        let (said, jpeg) = shots.take(json!({})).await.unwrap();
        let number = jpeg_number(&jpeg).unwrap();
        // Display order is up to three frames behind decoding order, and time passes between the two.
        let ahead = (number + 300 - last) % 300;
        assert!(
            ahead <= 15 || ahead >= 296,
            "{number} where {last} was the newest seen: {said}"
        );
    }
}
