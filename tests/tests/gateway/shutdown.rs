//! SIGTERM: viewers are told, the port is released, and the process ends cleanly and in time.

use rustix::process::Signal;
use sluicegate_tests::{Gateway, PATIENCE, Raw, mjpeg, within};
use std::{
    net::TcpListener,
    process::ExitStatus,
    time::{Duration, Instant},
};

const CONFIG: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 640, height = 384, frame-rate = 30 }\n";
/// Longest time from the signal to the end.
const DRAIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_closes_every_kind_of_connection_cleanly() {
    let mut gateway = Gateway::with_config(CONFIG).await;
    let address = gateway.address;
    let mut nal = Raw::connect(address).await;
    assert_eq!(
        nal.upgrade(address, "/live/demo/nal").await.unwrap().status,
        101
    );
    nal.frame().await.unwrap();
    let mut mjpeg = get(&gateway, "/live/demo/mjpeg").await;
    let head = mjpeg.head().await.unwrap();
    assert_eq!(
        head.header("transfer-encoding"),
        Some("chunked"),
        "{}",
        head.text
    );
    let mut idle = get(&gateway, "/healthz").await;
    assert_eq!(idle.response().await.unwrap().0.status, 200);
    // A client in the middle of its request.
    let mut asking = Raw::connect(address).await;
    asking.write("GET /readyz HTTP/1.1\r\n").await;

    let began = Instant::now();
    gateway.signal(Signal::TERM);
    gateway
        .logged("shutting down; a second signal ends the process at once")
        .await;
    asking.write(format!("Host: {address}\r\n\r\n")).await;
    let (head, body) = asking.response().await.unwrap();
    assert_eq!(
        (head.status, body.as_str()),
        (503, r#"{"status":"draining"}"#)
    );
    asking.end().await.unwrap();

    let (code, reason) = within("the close frame", nal.closed()).await.unwrap();
    assert_eq!(
        (code, reason.as_str()),
        (1001, "the gateway is shutting down")
    );
    // The Close frame is answered as RFC 6455 5.5.1 requires; the server then ends the connection.
    nal.write(sluicegate_tests::raw::masked(0x88, &1001u16.to_be_bytes()))
        .await;
    assert!(
        nal.end().await.unwrap().is_empty(),
        "bytes after the close frame"
    );
    let body = mjpeg.end().await.unwrap();
    assert!(
        body.ends_with(b"\r\n0\r\n\r\n"),
        "the body has no last chunk"
    );
    assert!(idle.end().await.unwrap().is_empty());

    let status = ended(&mut gateway).await;
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < DRAIN / 2, "{:?}", began.elapsed());
    TcpListener::bind(address).expect("the port is free");
    gateway
        .log
        .lock()
        .unwrap()
        .iter()
        .for_each(|line| assert!(!line.contains("cut"), "{line}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_accepted_before_sigterm_are_answered_even_if_not_yet_read() {
    let mut gateway = Gateway::with_config(CONFIG).await;
    let address = gateway.address;
    // The connections wait in the kernel: the signal arrives while they are being accepted one after the other.
    gateway.signal(Signal::STOP);
    let mut came = Vec::new();
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let most: usize = most.trim().parse().unwrap();
    for _ in 0..most.min(200) {
        let mut raw = Raw::connect(address).await;
        raw.write("GET /readyz HTTP/1.1\r\n").await;
        came.push(raw);
    }
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    gateway
        .logged("shutting down; a second signal ends the process at once")
        .await;
    for (nth, raw) in came.iter_mut().enumerate() {
        raw.write(format!("Host: {address}\r\n\r\n")).await;
        let answered = raw.response().await;
        let (head, _) = answered.unwrap_or_else(|error| panic!("connection {nth}: {error}"));
        assert_eq!(head.status, 503, "connection {nth}");
        assert!(raw.end().await.unwrap().is_empty());
    }
    assert_eq!(ended(&mut gateway).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_is_free_while_the_last_viewers_go() {
    let (mut gateway, stuck) = with_a_stuck_viewer().await;
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    // The port is free as soon as possible, long before the viewer that reads nothing is given up.
    let bound = loop {
        if let Ok(bound) = TcpListener::bind(gateway.address) {
            break bound;
        }
        assert!(began.elapsed() < DRAIN / 4, "the port is still taken");
        tokio::task::yield_now().await;
    };
    assert!(
        gateway.child.try_wait().unwrap().is_none(),
        "the viewer was not waited for"
    );
    assert_eq!(ended(&mut gateway).await.code(), Some(0));
    assert!(began.elapsed() < DRAIN, "{:?}", began.elapsed());
    gateway
        .logged("some connections did not end in time and are closed")
        .await;
    drop((bound, stuck));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigterm_ends_at_once_even_when_a_viewer_reads_nothing() {
    let (mut gateway, stuck) = with_a_stuck_viewer().await;
    gateway.signal(Signal::TERM);
    gateway
        .logged("shutting down; a second signal ends the process at once")
        .await;
    assert!(
        gateway.child.try_wait().unwrap().is_none(),
        "the viewer was not waited for"
    );
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    let status = ended(&mut gateway).await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(status.code(), Some(143));
    TcpListener::bind(gateway.address).expect("the port is free");
    drop(stuck);
}

#[tokio::test]
async fn sigint_ends_a_gateway_that_nobody_uses() {
    let mut gateway = Gateway::serve(&[]).await;
    let began = Instant::now();
    gateway.signal(Signal::INT);
    assert_eq!(ended(&mut gateway).await.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_sources_that_wait_for_somebody_end_at_the_same_time() {
    let stream = |nth| {
        format!("[streams.s{nth}]\nsource = \"annexb:listen:127.0.0.1:0\"\nalways-on = true\n")
    };
    let config: String = (0..64).map(stream).collect();
    let mut gateway = Gateway::with_config(&config).await;
    let waits = |device: &serde_json::Value| {
        device["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("wait"))
    };
    gateway
        .api_until("/api/devices", "all listen", |devices| {
            devices.as_array().unwrap().iter().all(waits)
        })
        .await;
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(ended(&mut gateway).await.code(), Some(0));
    // Each source checks every 200 ms whether it should stop: stopping one after the other took 9 s.
    assert!(began.elapsed() < DRAIN / 4, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_does_not_end_is_named_and_left_behind_at_the_deadline() {
    let dir = sluicegate_tests::scratch("shutdown");
    let (pipe, list) = (dir.join("pipe.ts"), dir.join("list.m3u8"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // Nothing writes to the pipe. The gateway can stop waiting for a pipe that is itself the source, but libavformat,
    // which opens this one through a playlist, does not return.
    let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\npipe.ts\n#EXT-X-ENDLIST\n";
    std::fs::write(&list, text).unwrap();
    let always_on = |name: &str, path: &std::path::Path| {
        let path = path.display();
        format!("[streams.{name}]\nsource = \"file:{path}\"\nalways-on = true\n")
    };
    let (waits, hangs) = (always_on("waits", &pipe), always_on("hung", &list));
    let config = format!("{CONFIG}always-on = true\n{waits}{hangs}");
    let mut gateway = Gateway::with_config(&config).await;
    gateway
        .api_until("/api/devices/demo", "it runs", |demo| {
            demo["state"] == "live"
        })
        .await;
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(ended(&mut gateway).await.code(), Some(0));
    assert!(began.elapsed() < DRAIN, "{:?}", began.elapsed());
    gateway
        .logged("did not end in time and are abandoned: hung")
        .await;
    let log = gateway.log.lock().unwrap();
    assert!(!log.iter().any(|line| line.contains("waits")), "{log:?}");
}

/// A viewer of MJPEG whose socket accepts no more data.
async fn with_a_stuck_viewer() -> (Gateway, Raw) {
    let gateway = Gateway::with_config(CONFIG).await;
    let mut stuck = Raw::with_buffer(gateway.address, Some(4096)).await;
    let request = format!(
        "GET /live/demo/mjpeg HTTP/1.1\r\nHost: {}\r\n\r\n",
        gateway.address
    );
    stuck.write(request).await;
    stuck.head().await.unwrap();
    // The viewer is stuck when it got nothing while another one got ten frames.
    let mut other = within("connect", mjpeg(gateway.address, "demo"))
        .await
        .unwrap();
    let mut bytes = None;
    loop {
        let sessions = gateway.api("/api/sessions").await;
        let now = sessions["sessions"][0]["bytes"].as_u64();
        if bytes == now {
            break;
        }
        bytes = now;
        for _ in 0..10 {
            within("a frame", other.next()).await.unwrap();
        }
    }
    (gateway, stuck)
}

async fn get(gateway: &Gateway, path: &str) -> Raw {
    let mut raw = Raw::connect(gateway.address).await;
    raw.write(format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n",
        gateway.address
    ))
    .await;
    raw
}

async fn ended(gateway: &mut Gateway) -> ExitStatus {
    let ended = tokio::time::timeout(PATIENCE, gateway.child.wait());
    ended.await.expect("the process does not end").unwrap()
}
