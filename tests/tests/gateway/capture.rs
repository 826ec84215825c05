//! Single pictures: of any stream, at any moment, by every way of asking; each failure by its name.

use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, Feeder, Gateway, Nal, Shots, Watcher,
    camera::{self, COUNT, GROUP},
    capture::post,
    client::jpeg_number,
    feeder::pour,
    http_get,
    media::{NumberReader, encode_pattern, nals_of, with_start_codes},
    scratch, within,
};
use std::{collections::BTreeSet, path::Path, process::Command, time::Instant};

/// The test pattern, in a size whose number can be read.
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
    let mut shots = Shots::of(&gateway, "cam").await;
    let mut before = None;
    for _ in 0..20 {
        let sent = camera.show(&mut viewer).await;
        let (said, jpeg) = shots.take(json!({})).await.unwrap();
        let number = jpeg_number(&jpeg).unwrap() as usize;
        // The one before, where the decoder is still at the newest after 5 ms.
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
        // A still source is silent, so its newest picture grows old, and says so.
        assert!(said["age_ms"].as_u64().unwrap() >= 20, "{said}");
        let id = said["capture_id"].as_str().unwrap().to_owned();
        assert!(before.replace(id.clone()).is_none_or(|before| before != id));
    }
    let devices = gateway.api("/api/devices/cam").await;
    assert_eq!(devices["captures"]["clients"], 1);
    assert_eq!(devices["decoder"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_still_source_is_captured_at_once_though_its_last_picture_is_repeated_for_others() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut viewer = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
    let mut shots = Shots::of(&gateway, "cam").await;
    // HLS goes on through the silence with the last picture, over and over.
    let playlist = async || {
        let path = "/live/cam/hls/media.m3u8";
        let (status, _, body) = within(path, http_get(gateway.address, path, &[]))
            .await
            .unwrap();
        (status, body)
    };
    // Its first playlist waits for a whole segment.
    let (first, ()) = tokio::join!(playlist(), async {
        for _ in 0..15 * GROUP {
            camera.show(&mut viewer).await;
        }
    });
    assert_eq!(first.0, 200);
    // It begins to after a second.
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
    // A decoder that looked for the repeats would be waited for, a quarter of a second each time.
    let shortest = took.iter().min().unwrap();
    assert!(shortest.as_millis() < 200, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_need_watch_two_clients_share_one_decoder_and_all_of_it_ends_when_they_are_gone() {
    let gateway = Gateway::with_config(DEMO).await;
    let (mut one, mut two) = (
        Shots::of(&gateway, "demo").await,
        Shots::of(&gateway, "demo").await,
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
    // And all of it begins again.
    let (status, _, jpeg) = http_get(gateway.address, "/live/demo/frame.jpg", &[])
        .await
        .unwrap();
    assert_eq!((status, size_of(&jpeg)), (200, (640, 384)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_asking_gives_the_picture_and_what_is_said_of_it() {
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
        let (status, head, picture) = post(&gateway, "demo", accept, body).await;
        assert_eq!(
            status,
            200,
            "{accept} {body}: {}",
            String::from_utf8_lossy(&picture)
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
        std::fs::write(&file, &picture).unwrap();
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

/// Width and height as ffprobe sees them.
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
async fn results_and_pictures_pair_in_the_order_of_the_requests_however_many_ask() {
    let gateway = Gateway::with_config(DEMO).await;
    let mut tasks = Vec::new();
    for client in 0..4_u64 {
        let mut shots = Shots::of(&gateway, "demo").await;
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
    // However they were asked for, by one decoder.
    let device = gateway.api("/api/devices/demo").await;
    assert_eq!(device["made"]["failed"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_is_told_by_its_name() {
    let gateway = Gateway::with_config(DEMO).await;
    let mut shots = Shots::of(&gateway, "demo").await;
    for (text, code, what) in [
        (
            "picture, please",
            "BAD_REQUEST",
            "this is no request for a capture: write a JSON object",
        ),
        (
            "{}",
            "BAD_REQUEST",
            "`type` is missing; write {\"type\":\"capture\"}",
        ),
        ("{\"type\":\"shoot\"}", "BAD_REQUEST", "write \"capture\""),
        (
            "{\"type\":\"capture\",\"qualty\":8}",
            "BAD_REQUEST",
            "unknown field `qualty`",
        ),
        (
            "{\"type\":\"capture\",\"quality\":0}",
            "BAD_REQUEST",
            "from 1 to 100",
        ),
        (
            "{\"type\":\"capture\",\"width\":1}",
            "BAD_REQUEST",
            "from 16 to 8192",
        ),
        (
            "{\"type\":\"capture\",\"format\":\"gif\"}",
            "UNSUPPORTED_FORMAT",
            "write jpeg, png or webp",
        ),
    ] {
        shots.say(text).await;
        let failure = shots.answer().await.unwrap_err();
        assert_eq!(failure["code"], code, "{failure}");
        assert!(
            failure["message"].as_str().unwrap().contains(what),
            "{failure}"
        );
        assert_eq!(
            failure["capture_id"].as_str().unwrap().len(),
            16,
            "{failure}"
        );
    }
    // The client is served on.
    shots.take(json!({})).await.unwrap();

    for (serial, body, status, code) in [
        ("demo", "{\"format\":\"bmp\"}", 415, "UNSUPPORTED_FORMAT"),
        ("demo", "{\"quality\":\"best\"}", 400, "BAD_REQUEST"),
        ("dem", "", 404, "UNKNOWN_DEVICE"),
    ] {
        let (found, head, answer) = post(&gateway, serial, "application/json", body).await;
        let failure: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (found, failure["code"].as_str()),
            (status, Some(code)),
            "{head} {failure}"
        );
    }
    let long = format!("{{\"format\":\"{}\"}}", "x".repeat(5000));
    let (status, _, _) = post(&gateway, "demo", "*/*", &long).await;
    assert_eq!(status, 400);
    let get = |path: &'static str| async { http_get(gateway.address, path, &[]).await.unwrap() };
    for (path, status, what) in [
        ("/live/dem/frame.jpg", 404, "did you mean `demo`?"),
        ("/live/demo@x/frame.jpg", 404, "there is no rendition `x`"),
        (
            "/live/demo/frame.jpg?width=9",
            400,
            "write a whole number from 16 to 8192",
        ),
        ("/api/ws/capture/dem", 404, "UNKNOWN_DEVICE"),
        ("/api/ws/capture/demo", 426, "this path speaks WebSocket"),
    ] {
        let (found, _, body) = get(path).await;
        let body = String::from_utf8(body).unwrap();
        assert!(
            found == status && body.contains(what),
            "{path}: {found} {body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_a_picture_is_waited_for_and_one_that_is_gone_is_offline() {
    let silent = Feeder::bind().await;
    let gone = Feeder::bind().await;
    let config = format!(
        "[capture]\ntimeout = \"400ms\"\n[streams.silent]\nsource = \"{}\"\n[streams.gone]\nsource = \"{}\"\n",
        silent.source(),
        gone.source()
    );
    drop(gone);
    let gateway = Gateway::with_config(&config).await;
    let began = Instant::now();
    let (status, _, body) = post(&gateway, "silent", "*/*", "").await;
    let failure: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, failure["code"].as_str()),
        (504, Some("CAPTURE_TIMEOUT")),
        "{failure}"
    );
    assert!(began.elapsed().as_millis() >= 400);
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("connected; no picture yet")
            && message.contains("`timeout` under [capture]"),
        "{message}"
    );
    let (status, _, body) = post(&gateway, "gone", "*/*", "").await;
    let failure: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status, failure["code"].as_str()),
        (503, Some("DEVICE_OFFLINE")),
        "{failure}"
    );
    assert!(
        failure["message"].as_str().unwrap().contains("refused"),
        "{failure}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_for_too_many_at_once_is_told_to_wait_and_so_is_the_seventeenth() {
    let silent = Feeder::bind().await;
    let config = format!(
        "[capture]\ntimeout = \"2s\"\n[streams.cam]\nsource = \"{}\"\n",
        silent.source()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(Shots::of(&gateway, "cam").await);
    }
    let mut codes = Vec::new();
    for shots in &mut clients[..1] {
        for _ in 0..6 {
            shots.ask(json!({})).await;
        }
        for _ in 0..6 {
            codes.push(shots.answer().await.unwrap_err()["code"].clone());
        }
    }
    // In the order of the requests: four waited, two could not.
    let (timeout, busy) = (json!("CAPTURE_TIMEOUT"), json!("CAPTURE_BUSY"));
    assert_eq!(
        codes[..4],
        [
            timeout.clone(),
            timeout.clone(),
            timeout.clone(),
            timeout.clone()
        ]
    );
    assert_eq!(codes[4..], [busy.clone(), busy.clone()]);
    // Of 24 requests of six clients one is at work and sixteen wait.
    for shots in &mut clients {
        for _ in 0..4 {
            shots.ask(json!({})).await;
        }
    }
    let mut refused = 0;
    for shots in &mut clients {
        for _ in 0..4 {
            let failure = shots.answer().await.unwrap_err();
            if failure["code"] == busy {
                let message = failure["message"].as_str().unwrap();
                assert!(
                    message.contains("16 captures of this stream wait already"),
                    "{message}"
                );
                refused += 1;
            }
        }
    }
    assert!((7..=8).contains(&refused), "{refused} of 24");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_decoder_no_capture() {
    let gateway = Gateway::with_config(&format!("[capture]\ndecoder = false\n{DEMO}")).await;
    let mut shots = Shots::of(&gateway, "demo").await;
    let failure = shots.take(json!({})).await.unwrap_err();
    assert_eq!(failure["code"], "DECODER_DISABLED");
    let (status, _, _) = http_get(gateway.address, "/live/demo/frame.jpg", &[])
        .await
        .unwrap();
    assert_eq!(status, 501);
    assert_eq!(gateway.api("/api/devices/demo").await["decoder"], "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_picture_is_never_shown_the_last_good_one_is_with_its_age() {
    let clip = camera::clip();
    let feeder = Feeder::bind().await;
    let config = format!(
        "[capture]\ntimeout = \"1s\"\n[streams.cam]\nsource = \"{}\"\n",
        feeder.source()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut shots = Shots::of(&gateway, "cam").await;
    let mut connection = feeder.accept().await;
    let whole = |place: usize| with_start_codes(&clip.pictures[place], |_| 4);
    // The slice's header stays, what it codes does not.
    let broken = |place: usize| {
        let mut bytes = whole(place);
        let from = bytes.len() / 3;
        let length = bytes.len();
        for (at, byte) in bytes[from..length - 1].iter_mut().enumerate() {
            *byte = 0x55 ^ (at as u8).wrapping_mul(37) | 0x10;
        }
        bytes
    };
    // A keyframe that cannot be decoded, and nothing before it.
    pour(&mut connection, &broken(0)).await;
    let failure = shots.take(json!({})).await.unwrap_err();
    assert_eq!(failure["code"], "DECODE_FAILED", "{failure}");
    let mut number_after = async |bytes: Vec<u8>, decoded: u64| {
        pour(&mut connection, &bytes).await;
        let reached = |device: &Value| {
            device["made"]["decoded"].as_u64().unwrap() + device["made"]["failed"].as_u64().unwrap()
                >= decoded
        };
        gateway
            .api_until("/api/devices/cam", "it is decoded", reached)
            .await;
        let (said, jpeg) = shots.take(json!({})).await.unwrap();
        (jpeg_number(&jpeg), said["age_ms"].as_u64().unwrap())
    };
    let so_far = gateway.api("/api/devices/cam").await;
    let so_far =
        so_far["made"]["decoded"].as_u64().unwrap() + so_far["made"]["failed"].as_u64().unwrap();
    let (number, _) = number_after(whole(GROUP), so_far + 1).await;
    assert_eq!(number, Some(GROUP as u32));
    // What refers to a broken one is no better.
    let (number, age) = number_after(broken(GROUP + 1), so_far + 2).await;
    assert_eq!(number, Some(GROUP as u32));
    let (number, later) = number_after(whole(GROUP + 2), so_far + 3).await;
    assert_eq!(number, Some(GROUP as u32));
    assert!(later >= age, "{later} {age}");
    let (number, _) = number_after(whole(2 * GROUP), so_far + 4).await;
    assert_eq!(number, Some(2 * GROUP as u32));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_changes_its_size_is_captured_in_each() {
    let feeder = Feeder::bind().await;
    let config = format!("[streams.cam]\nsource = \"{}\"\n", feeder.source());
    let gateway = Gateway::with_config(&config).await;
    let mut shots = Shots::of(&gateway, "cam").await;
    let mut connection = feeder.accept().await;
    for (nth, size) in [(320, 192), (192, 320), (640, 384)].into_iter().enumerate() {
        let name = format!("capture-{}.h264", size.0);
        let first = 100 * nth as u64;
        let file = encode_pattern(&name, size, first, 10, &["-c:v", "libx264", "-bf", "0"]);
        pour(&mut connection, &with_start_codes(&nals_of(&file), |_| 4)).await;
        let of_size = |device: &Value| device["width"] == size.0 && device["state"] == "live";
        gateway
            .api_until("/api/devices/cam", "the new size is seen", of_size)
            .await;
        within("the newest picture is captured", async {
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
async fn pictures_that_are_coded_out_of_order_are_captured_as_they_are_shown() {
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
    let mut shots = Shots::of(&gateway, "film").await;
    for _ in 0..5 {
        let (mut seen, mut last) = (0, 0);
        while seen < 12 {
            let message = within("a picture", viewer.next()).await.unwrap();
            let numbers = reader.feed(&message);
            seen += numbers.len();
            last = numbers.last().copied().unwrap_or(last);
        }
        let (said, jpeg) = shots.take(json!({})).await.unwrap();
        let number = jpeg_number(&jpeg).unwrap();
        // What is shown last is up to three pictures behind what was decoded last; and time goes on.
        let ahead = (number + 300 - last) % 300;
        assert!(
            ahead <= 15 || ahead >= 296,
            "{number} where {last} was the newest seen: {said}"
        );
    }
}
