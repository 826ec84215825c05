//! Sources that are neither H.264 nor files of JPEGs, and must be encoded; and JPEGs over HTTP.

use bytes::Bytes;
use serde_json::Value;
use sluicegate_tests::{
    Gateway, Nal, Numbered, Rtsp, http_get,
    media::{encode_pattern, ffmpeg},
    mjpeg, scratch, within,
};
use std::collections::HashSet;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const SIZE: (u32, u32) = (320, 192);
const HEVC: [&str; 8] = [
    "-c:v",
    "libx265",
    "-preset",
    "ultrafast",
    "-x265-params",
    "log-level=none:bframes=3:keyint=30",
    "-tag:v",
    "hvc1",
];

/// Whether numbers of a looped film of `length` frames follow each other at a distance of `step`.
fn in_order(numbers: &[u32], length: u32, step: u32) -> bool {
    numbers
        .windows(2)
        .all(|two| two[1] == two[0] + step || (two[0] + step >= length && two[1] < step))
}

/// Fails unless the numbers are complete. On a machine that is too busy frames are dropped, which the stream reports;
/// then only their order is checked.
async fn all_there(gateway: &Gateway, stream: &str, numbers: &[u32], length: u32, step: u32) {
    let device = gateway.api(&format!("/api/devices/{stream}")).await;
    let behind = device["notes"]
        .to_string()
        .contains("slower than the source");
    let rising = numbers
        .windows(2)
        .all(|two| two[0] < two[1] || two[1] < length / 2);
    assert!(rising, "{numbers:?}");
    assert!(
        behind || in_order(numbers, length, step),
        "{numbers:?}\n{device:#}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_other_codecs_are_encoded_on_their_own_timeline_without_a_gap() {
    let films = [
        ("hevc.mp4", &HEVC[..]),
        (
            "vp9.webm",
            &[
                "-c:v",
                "libvpx-vp9",
                "-deadline",
                "realtime",
                "-cpu-used",
                "8",
            ],
        ),
        ("mpeg4.avi", &["-c:v", "mpeg4", "-q:v", "3", "-bf", "2"]),
    ];
    let mut config = String::new();
    for (name, arguments) in films {
        let film = encode_pattern(name, SIZE, 0, 60, arguments);
        let (stream, _) = name.split_once('.').unwrap();
        let film = film.display();
        config += &format!(
            "[streams.{stream}]\nsource = 'file:{film}'\nencode = {{ frame-rate = 30, encoder = 'libx264' }}\n"
        );
    }
    let gateway = Gateway::with_config(&config).await;
    for stream in ["hevc", "vp9", "mpeg4"] {
        let mut viewer = Numbered::connect(&gateway, stream).await;
        // Across the end into the next loop.
        viewer.count(90).await;
        all_there(&gateway, stream, &viewer.numbers, 60, 1).await;
        let device = gateway.api(&format!("/api/devices/{stream}")).await;
        assert_eq!(
            (&device["state"], &device["width"]),
            (&Value::from("live"), &Value::from(320))
        );
        assert!(
            device["codec"].as_str().unwrap().starts_with("avc1.64"),
            "{device:#}"
        );
        assert!(
            device["made"]["encoded"].as_u64().unwrap() >= 90,
            "{device:#}"
        );
        let mut jpegs = within("connect", mjpeg(gateway.address, stream))
            .await
            .unwrap();
        assert!(within("a JPEG", jpegs.next_number()).await.unwrap() < 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hevc_over_rtsp_is_encoded_within_the_configured_size_and_rate() {
    let film = encode_pattern("hevc.mp4", (640, 384), 0, 300, &HEVC);
    let server = Rtsp::serve(&film, None).await;
    let gateway = Gateway::with_config(&format!(
        "[streams.door]\nsource = '{}'\nencode = {{ width = 480, height = 480, frame-rate = 15 }}\n",
        server.source()
    ))
    .await;
    let mut viewer = Numbered::connect(&gateway, "door").await;
    viewer.count(40).await;
    all_there(&gateway, "door", &viewer.numbers, 300, 2).await;
    let device = gateway.api("/api/devices/door").await;
    assert_eq!(
        (&device["width"], &device["height"]),
        (&Value::from(480), &Value::from(288))
    );
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_encoder_is_the_first_that_works_and_the_others_come_with_reasons() {
    let began = std::time::Instant::now();
    let gateway = Gateway::serve(&["test-pattern"]).await;
    let listening = began.elapsed();
    assert_eq!(
        gateway.api("/api/devices/demo").await["encoder"],
        Value::Null
    );
    gateway.assert_serves("demo").await;
    let device = gateway.api("/api/devices/demo").await;
    let chosen = device["encoder"]["name"].as_str().unwrap();
    let order = [
        "h264_amf",
        "h264_nvenc",
        "h264_qsv",
        "h264_vaapi",
        "h264_v4l2m2m",
        "libx264",
    ];
    let passed_over = device["encoder"]["passed_over"].as_array().unwrap();
    let names: Vec<&str> = passed_over
        .iter()
        .map(|passed| passed["name"].as_str().unwrap())
        .collect();
    let place = order.iter().position(|name| *name == chosen).unwrap();
    assert_eq!(names, order[..place]);
    for passed in passed_over {
        let reason = passed["reason"].as_str().unwrap();
        assert!(reason.len() > 10, "{passed:#}");
    }
    let line = gateway.logged("using the H.264 encoder").await;
    assert!(names.iter().all(|name| line.contains(name)), "{line}");
    assert!(listening < std::time::Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encoder_that_is_named_is_used_or_the_stream_says_why_not() {
    let gateway = Gateway::with_config(
        "[streams.good]\nsource = 'test-pattern'\nencode = { encoder = 'libx264' }\n\
         [streams.bad]\nsource = 'test-pattern'\nencode = { encoder = 'h264_vaapi' }\n",
    )
    .await;
    gateway.assert_serves("good").await;
    let _viewer = Nal::connect(gateway.address, "bad").await.unwrap();
    let failed = |device: &Value| {
        device["state"] == "retrying"
            && device["reason"].as_str().is_some_and(|reason| {
                reason.contains("the encoder h264_vaapi does not work on this machine: ")
            })
    };
    gateway
        .api_until("/api/devices/bad", "the reason", failed)
        .await;
}

#[tokio::test]
async fn the_child_that_tries_an_encoder_says_good_or_why_not() {
    let probe = |name: &str| {
        let done = std::process::Command::new(Gateway::binary())
            .args(["probe-encoder", name])
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        let said = String::from_utf8(done.stdout).unwrap();
        let answer = said.lines().find_map(|line| line.strip_prefix("probe: "));
        answer.unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    assert_eq!(probe("libx264"), "good");
    // This encoder takes frames in GPU memory only.
    assert_ne!(probe("h264_vaapi"), "good");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_video_runs_in_real_time_and_a_bad_graph_is_reported() {
    let gateway = Gateway::with_config(
        "[streams.bars]\nsource = 'lavfi:testsrc2=size=400x300:rate=10,format=yuyv422'\n\
         [streams.bad]\nsource = 'lavfi:nonsense=1'\n",
    )
    .await;
    let mut viewer = Nal::connect(gateway.address, "bars").await.unwrap();
    let first = within("a frame", viewer.next_unit()).await.unwrap();
    let mut last = first.clone();
    for _ in 0..20 {
        last = within("a frame", viewer.next_unit()).await.unwrap();
    }
    let seconds = (last.at - first.at).as_secs_f64();
    assert!(
        (1.5..6.0).contains(&seconds),
        "20 frames at 10/s in {seconds} s"
    );
    let device = gateway.api("/api/devices/bars").await;
    assert_eq!(
        (&device["width"], &device["height"]),
        (&Value::from(400), &Value::from(300))
    );
    let _viewer = Nal::connect(gateway.address, "bad").await.unwrap();
    let told = |device: &Value| {
        device["reason"]
            .to_string()
            .contains("No such filter: 'nonsense'")
    };
    gateway
        .api_until("/api/devices/bad", "what is wrong", told)
        .await;
}

/// Serves JPEGs in a loop as cameras do, with or without lengths.
async fn jpeg_server(jpegs: Vec<Bytes>, with_lengths: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let jpegs = jpegs.clone();
            tokio::spawn(async move {
                let mut request = [0; 2000];
                let _ = client.read(&mut request).await;
                let head = "HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=cam\r\n\r\n";
                let mut sent = client.write_all(head.as_bytes()).await;
                let mut beat = tokio::time::interval(std::time::Duration::from_millis(50));
                for jpeg in jpegs.iter().cycle() {
                    beat.tick().await;
                    let length = match with_lengths {
                        true => format!("Content-Length: {}\r\n", jpeg.len()),
                        false => String::new(),
                    };
                    let head = format!("--cam\r\nContent-Type: image/jpeg\r\n{length}\r\n");
                    let part = [head.as_bytes(), jpeg, b"\r\n"].concat();
                    sent = sent.and(client.write_all(&part).await);
                    if sent.is_err() {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}/video")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jpegs_over_http_pass_byte_for_byte_and_are_encoded_for_nal() {
    let dir = scratch("jpegs");
    let film = encode_pattern(
        "door.mkv",
        SIZE,
        0,
        60,
        &[
            "-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p", "-huffman", "default",
        ],
    );
    ffmpeg(|command| {
        command
            .arg("-i")
            .arg(&film)
            .args(["-c", "copy", "-f", "image2"])
            .arg(dir.join("%04d.jpg"))
    });
    let jpegs: Vec<Bytes> = (1..=60)
        .map(|number| {
            std::fs::read(dir.join(format!("{number:04}.jpg")))
                .unwrap()
                .into()
        })
        .collect();
    let known: HashSet<&Bytes> = jpegs.iter().collect();
    let config = format!(
        "[streams.lengths]\nsource = '{}'\n[streams.bare]\nsource = '{}'\n",
        jpeg_server(jpegs.clone(), true).await,
        jpeg_server(jpegs.clone(), false).await,
    );
    let gateway = Gateway::with_config(&config).await;
    for stream in ["lengths", "bare"] {
        let mut viewer = within("connect", mjpeg(gateway.address, stream))
            .await
            .unwrap();
        let mut seen = HashSet::new();
        while seen.len() < 10 {
            let jpeg = within("a frame", viewer.next()).await.unwrap();
            assert!(known.contains(&jpeg), "{stream}: not a frame of the camera");
            seen.insert(jpeg);
        }
        let device = gateway.api(&format!("/api/devices/{stream}")).await;
        assert_eq!(
            (&device["codec"], &device["width"]),
            (&Value::from("jpeg"), &Value::from(320))
        );
        let mut numbers = Numbered::connect(&gateway, stream).await;
        numbers.count(20).await;
        assert!(
            numbers
                .numbers
                .windows(2)
                .all(|two| two[0] < two[1] || two[1] < 30),
            "{:?}",
            numbers.numbers
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_shows_what_another_makes_of_a_camera() {
    let first = Gateway::serve(&["test-pattern"]).await;
    let source = format!("http://{}/live/demo/mjpeg", first.address);
    let second = Gateway::with_config(&format!("[streams.far]\nsource = '{source}'\n")).await;
    let mut near = within("connect", mjpeg(first.address, "demo"))
        .await
        .unwrap();
    let mut far = within("connect", mjpeg(second.address, "far"))
        .await
        .unwrap();
    let (mut made, mut shown) = (HashSet::new(), Vec::new());
    // Both viewers see only the newest frame, so neither sees all: some that both saw are enough.
    while shown.iter().filter(|jpeg| made.contains(*jpeg)).count() < 5 {
        made.insert(within("a frame", near.next()).await.unwrap());
        shown.push(within("a frame", far.next()).await.unwrap());
        assert!(shown.len() < 200, "no frame is the same");
    }
    let (status, _, jpeg) = http_get(second.address, "/api/devices/far", &[])
        .await
        .unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&jpeg));
}
