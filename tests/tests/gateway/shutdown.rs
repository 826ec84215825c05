//! SIGTERM: viewers are told, the port is released, and the process ends cleanly and in time.

use rustix::process::Signal;
use serde_json::Value;
use sluicegate_tests::{
    Gateway, PATIENCE, Raw,
    client::Mjpeg,
    http2::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, SETTINGS, frame, get as request_block},
    raw::{handshake, masked},
    tls, within,
};
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    process::ExitStatus,
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
    nal.write(masked(0x88, &1001u16.to_be_bytes())).await;
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
    drop((bound, stuck));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing_are_given_up_before_the_deadline() {
    for tls in [false, true] {
        let server = "[server]\ntls = \"self-signed\"\n";
        let config = format!("{}{CONFIG}", if tls { server } else { "" });
        let mut gateway = Gateway::with_config(&config).await;
        let address = gateway.address;
        let mut stuck = Vec::new();
        for request in [
            format!("GET /live/demo/mjpeg HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            handshake(address, "/live/demo/nal"),
        ] {
            let mut client = connect(address, tls, "http/1.1").await;
            client.write_all(request.as_bytes()).await.unwrap();
            stuck.push(client);
        }
        let mut captures = connect(address, tls, "http/1.1").await;
        let requests = masked(0x81, br#"{"type":"capture"}"#).repeat(100);
        let upgrade = handshake(address, "/api/ws/capture/demo");
        captures.write_all(upgrade.as_bytes()).await.unwrap();
        captures.write_all(&requests).await.unwrap();
        // Over HTTP/2 the socket is never full, but no stream's window is open (RFC 9113 section 6.9.2).
        let mut http2 = RawHttp2::over(connect(address, tls, "h2").await).await;
        http2
            .write(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]))
            .await;
        for (stream, path) in (1..).step_by(2).zip([
            "/live/demo/mjpeg",
            "/api/events",
            "/live/demo/frame.jpg",
            "/",
        ]) {
            let request = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &request_block(address, path),
            );
            http2.write(request).await;
        }
        http2.ping().await.unwrap();
        until_stuck(&gateway, tls, 3).await;

        let began = Instant::now();
        gateway.signal(Signal::TERM);
        assert_eq!(ended(&mut gateway).await.code(), Some(0));
        assert!(began.elapsed() < DRAIN, "{:?}", began.elapsed());
        let log = gateway.log.lock().unwrap();
        let late = log.iter().find(|line| line.contains("did not end in time"));
        assert!(late.is_none(), "{late:?}");
        drop((stuck, captures, http2));
    }
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
async fn sighup_ends_no_service() {
    let mut gateway = Gateway::with_config(CONFIG).await;
    let mut viewer = Raw::connect(gateway.address).await;
    let upgraded = viewer.upgrade(gateway.address, "/live/demo/nal").await;
    assert_eq!(upgraded.unwrap().status, 101);
    viewer.frame().await.unwrap();
    gateway.signal(Signal::HUP);
    let told = "SIGHUP reloaded the config: nothing has changed";
    gateway.logged(told).await;
    viewer.frame().await.unwrap();
    gateway.assert_serves("demo").await;
    gateway.signal(Signal::TERM);
    let (code, _) = within("the close frame", viewer.closed()).await.unwrap();
    assert_eq!(code, 1001);
    assert_eq!(ended(&mut gateway).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_terminal_ends_the_gateway_in_it_cleanly() {
    let gateway = Gateway::in_terminal(CONFIG).await;
    let mut viewer = Raw::connect(gateway.address).await;
    let upgraded = viewer.upgrade(gateway.address, "/live/demo/nal").await;
    assert_eq!(upgraded.unwrap().status, 101);
    viewer.frame().await.unwrap();
    gateway.signal(Signal::KILL);
    let (code, reason) = within("the close frame", viewer.closed()).await.unwrap();
    assert_eq!(
        (code, reason.as_str()),
        (1001, "the gateway is shutting down")
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
    until_stuck(&gateway, false, 1).await;
    (gateway, stuck)
}

/// Waits until the first `count` viewers get nothing while another one gets ten frames.
async fn until_stuck(gateway: &Gateway, tls: bool, count: usize) {
    let address = gateway.address;
    let socket = connect(address, tls, "http/1.1").await;
    let other = Mjpeg::over(socket, address, "/live/demo/mjpeg");
    let mut other = within("a viewer", other).await.unwrap();
    let mut before = BTreeMap::new();
    loop {
        for _ in 0..10 {
            within("a frame", other.next()).await.unwrap();
        }
        let request = format!("GET /api/sessions HTTP/1.0\r\nHost: {address}\r\n\r\n");
        let (mut socket, mut answer) = (connect(address, tls, "http/1.1").await, Vec::new());
        socket.write_all(request.as_bytes()).await.unwrap();
        within("an answer", socket.read_to_end(&mut answer))
            .await
            .unwrap();
        let body = answer.iter().position(|byte| *byte == b'{').unwrap();
        let answer: Value = serde_json::from_slice(&answer[body..]).unwrap();
        let sessions = answer["sessions"].as_array().unwrap().iter();
        let now: BTreeMap<String, u64> = sessions
            .map(|session| {
                (
                    session["id"].to_string(),
                    session["bytes"].as_u64().unwrap(),
                )
            })
            .collect();
        // The others may have joined in any order.
        let stuck = now
            .iter()
            .filter(|(id, bytes)| before.get(*id) == Some(*bytes));
        if stuck.count() == count {
            return;
        }
        before = now;
    }
}

/// Connects with a small receive buffer.
async fn connect(address: SocketAddr, over_tls: bool, protocol: &str) -> Box<dyn Duplex> {
    let tcp = Raw::with_buffer(address, Some(4096)).await.socket;
    if !over_tls {
        return Box::new(tcp);
    }
    let connected = tls::connector(protocol).connect(tls::name(), tcp);
    Box::new(within("the TLS handshake", connected).await.unwrap())
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Duplex for S {}

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
