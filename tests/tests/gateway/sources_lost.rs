//! Sources that stay connected but send nothing any more.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sluicegate_tests::{
    Camera, Feeder, Gateway, Nal, Numbered, Rtsp, Watcher, camera::clip, media::encode_pattern,
    within, xserver::XServer,
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Time within which the gateway notices the silence of a source that must not be silent, with a margin for a busy
/// machine.
const NOTICE_SECONDS: std::ops::Range<f64> = 5.0..16.0;

/// A server that accepts a connection, answers a request with `answer` and then sends nothing more.
async fn silent_server(answer: Vec<u8>) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut all: Vec<TcpStream> = Vec::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            if !answer.is_empty() {
                let mut request = [0; 2000];
                let _ = client.read(&mut request).await;
                let _ = client.write_all(&answer).await;
            }
            all.push(client);
        }
    });
    (address, held)
}

/// Waits until the stream reports that its source fell silent; returns how long that took.
async fn time_to_notice(gateway: &Gateway, stream: &str, since: Instant) -> f64 {
    let told = |device: &Value| {
        device["state"] == "retrying"
            && device["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("no data for 10 s"))
    };
    gateway
        .api_until(
            &format!("/api/devices/{stream}"),
            "silence is noticed",
            told,
        )
        .await;
    since.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_source_is_noticed_within_ten_seconds_unless_it_may_be_silent() {
    let film = encode_pattern(
        "film.mp4",
        (320, 192),
        0,
        600,
        &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-bf",
            "0",
            "-g",
            "30",
        ],
    );
    let stopped = Rtsp::serve(&film, None).await;
    let (mute_rtsp, _held) = silent_server(Vec::new()).await;
    let (mute_http, _held) = silent_server(Vec::new()).await;
    let jpeg = encode_pattern("one.jpg", (320, 192), 0, 1, &["-frames:v", "1"]);
    let jpeg = std::fs::read(jpeg).unwrap();
    let mut answer =
        b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=cam\r\n\r\n".to_vec();
    for _ in 0..3 {
        let head = format!(
            "--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
            jpeg.len()
        );
        answer.extend_from_slice(&[head.as_bytes(), &jpeg, b"\r\n"].concat());
    }
    let (half_http, _held) = silent_server(answer).await;
    let screen = XServer::start((320, 192)).await;
    let mut camera = Camera::new(clip()).await;
    let config = format!(
        "[streams.mute-rtsp]\nsource = 'rtsp://{mute_rtsp}/x'\n\
         [streams.mute-http]\nsource = 'http://{mute_http}/x'\n\
         [streams.half-http]\nsource = 'http://{half_http}/x'\n\
         [streams.stopped]\nsource = '{}'\n\
         [streams.screen]\nsource = 'screen:{}'\n{}",
        stopped.source(),
        screen.display,
        camera.config(),
    );
    let gateway = Gateway::with_config(&config).await;

    let mut still = Watcher::open(gateway.address, "/live/cam/nal", clip()).await;
    camera.show(&mut still).await;
    let mut plays = Numbered::connect(&gateway, "stopped").await;
    plays.count(20).await;
    gateway.assert_serves("screen").await;
    let mut viewers = Vec::new();
    for stream in ["screen", "mute-rtsp", "mute-http", "half-http"] {
        viewers.push(
            within("connect", Nal::connect(gateway.address, stream))
                .await
                .unwrap(),
        );
    }
    let server = Pid::from_raw(stopped.child.id().unwrap() as i32).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    screen.signal(Signal::STOP);
    let since = Instant::now();
    let (a, b, c, d, e) = tokio::join!(
        time_to_notice(&gateway, "mute-rtsp", since),
        time_to_notice(&gateway, "mute-http", since),
        time_to_notice(&gateway, "half-http", since),
        time_to_notice(&gateway, "stopped", since),
        time_to_notice(&gateway, "screen", since),
    );
    for took in [a, b, c, d, e] {
        assert!(NOTICE_SECONDS.contains(&took), "{:?}", [a, b, c, d, e]);
    }

    // Both return, and their viewers continue.
    kill_process(server, Signal::CONT).unwrap();
    screen.signal(Signal::CONT);
    let before = plays.numbers.len();
    plays.count(before + 10).await;
    let live = |device: &Value| device["state"] == "live";
    gateway
        .api_until("/api/devices/screen", "the screen is back", live)
        .await;

    // Longer than the timeout without a byte: the same connection, and nothing is missed.
    assert!(since.elapsed() > Duration::from_secs(9));
    let device = gateway.api("/api/devices/cam").await;
    assert_eq!(device["state"], "silent");
    assert!(
        device["reason"].as_str().unwrap().contains("may be silent"),
        "{device:#}"
    );
    camera.show(&mut still).await;
}

/// The program map names other PIDs in the middle of a transport stream, as when a broadcaster switches over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_goes_on_under_other_pids_is_followed_at_once() {
    let half = |name: &str, first: u64, pid: &str| {
        let offset = (first / 30).to_string();
        let coded = ["-c:v", "libx264", "-g", "15", "-bf", "0", "-f", "mpegts"];
        let there = ["-streamid", pid, "-output_ts_offset", &offset];
        let film = encode_pattern(name, (320, 192), first, 90, &[&coded[..], &there].concat());
        std::fs::read(film).unwrap()
    };
    let (one, other) = (half("one.ts", 0, "0:256"), half("other.ts", 90, "0:300"));
    let feeder = Feeder::bind().await;
    let config = format!("[streams.cam]\nsource = \"tcp://{}\"\n", feeder.address());
    let gateway = Gateway::with_config(&config).await;
    let mut plays = Numbered::connect(&gateway, "cam").await;
    let mut sends = feeder.accept().await;
    sends.write_all(&one).await.unwrap();
    plays.until(80).await;
    let began = Instant::now();
    sends.write_all(&other).await.unwrap();
    // The last frame is complete only with the next PES packet.
    plays.until(170).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let seen = plays.numbers.iter().filter(|number| **number >= 90);
    assert!(seen.count() >= 75, "{:?}", plays.numbers);
    assert_eq!(gateway.api("/api/devices/cam").await["state"], "live");
    drop(sends);
}
