//! Connection limits: slow clients are disconnected, further clients are refused at the limit, and the gateway survives
//! running out of file descriptors.

use bytes::BytesMut;
use rustix::process::{Resource, Rlimit, prlimit};
use sluicegate_tests::{
    Camera, Gateway, PATIENCE, Raw, Watcher, camera, http_get,
    http2::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, frame, get},
    tls, within,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};

/// Small frames, so that the tests need not wait for their encoder.
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";
const TLS: &str = "[server]\ntls = \"self-signed\"\n";
/// Shortest time that the gateway gives a client to send something; the upper limit has a margin for a busy machine.
const MIN_WAIT: Duration = Duration::from_secs(8);
const MAX_WAIT: Duration = Duration::from_secs(20);

/// Sends a piece at intervals until the gateway disconnects; returns how long that took.
async fn send_slowly(mut raw: Raw, pieces: impl Iterator<Item = Vec<u8>>) -> Duration {
    let began = Instant::now();
    let mut byte = [0; 4096];
    for piece in pieces {
        raw.write(piece).await;
        let pause = Duration::from_millis(500);
        match timeout(pause, raw.socket.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => return began.elapsed(),
            Ok(Ok(_)) | Err(_) => assert!(began.elapsed() < MAX_WAIT, "it is still there"),
        }
    }
    panic!("nothing left to send");
}

fn bytes_of(text: &str) -> impl Iterator<Item = Vec<u8>> + use<> {
    let bytes = text.to_owned().into_bytes();
    bytes.into_iter().map(|byte| vec![byte])
}

fn nothing() -> impl Iterator<Item = Vec<u8>> {
    std::iter::repeat(Vec::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_slow_to_send_a_request_are_disconnected_on_every_carrier() {
    let plain = Gateway::with_config(DEMO).await;
    let secure = Gateway::with_config(&format!("{TLS}{DEMO}")).await;
    let address = plain.address;
    let slow_head = format!(
        "GET /healthz HTTP/1.1\r\nHost: {address}\r\nX: {}",
        "x".repeat(99)
    );
    let good = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");

    let head = send_slowly(Raw::connect(address).await, bytes_of(&slow_head));
    let mut raw = Raw::connect(address).await;
    raw.write(&good).await;
    raw.response().await.unwrap();
    let second_head = send_slowly(raw, bytes_of(&slow_head));
    let mut raw = Raw::connect(address).await;
    raw.write(&good).await;
    raw.response().await.unwrap();
    let keep_alive = send_slowly(raw, nothing());
    let silent = send_slowly(Raw::connect(address).await, nothing());
    let body = format!("POST /healthz HTTP/1.1\r\nHost: {address}\r\nContent-Length: 9\r\n\r\n");
    let mut raw = Raw::connect(address).await;
    raw.write(body).await;
    let body = send_slowly(raw, nothing());

    // A TLS record that is sent byte by byte and never completed.
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 90]].concat();
    let handshake = hello.into_iter().map(|byte| vec![byte]);
    let handshake = send_slowly(Raw::connect(secure.address).await, handshake);
    let silent_tls = send_slowly(Raw::connect(secure.address).await, nothing());

    let preface = send_slowly(
        Raw::connect(address).await,
        bytes_of(&format!("PRI{}", " ".repeat(99))),
    );
    let mut idle = RawHttp2::connect(address).await;
    let block = get(address, "/healthz");
    idle.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block))
        .await;
    let mut half = RawHttp2::connect(address).await;
    half.write(frame(HEADERS, 0, 1, &block)).await;
    let mut secure_idle = RawHttp2::over(tls::connect(secure.address, "h2").await.unwrap()).await;
    let began = Instant::now();
    let http2 = async {
        // An idle connection is closed without an error; an incomplete header block may be an error.
        let ends = (idle.end().await, half.end().await, secure_idle.end().await);
        assert_eq!((ends.0, ends.2), (Some(0), Some(0)));
        began.elapsed()
    };
    // A client that keeps sending requests stays connected.
    let busy = async {
        let mut raw = Raw::connect(address).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(14) {
            raw.write(&good).await;
            assert_eq!(raw.response().await.unwrap().0.status, 200);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let (head, second_head, keep_alive, silent, body, handshake, silent_tls, preface, http2, ()) = tokio::join!(
        head,
        second_head,
        keep_alive,
        silent,
        body,
        handshake,
        silent_tls,
        preface,
        http2,
        busy
    );
    for (what, took) in [
        ("a slow head", head),
        ("a slow second head", second_head),
        ("keep-alive", keep_alive),
        ("silence", silent),
        ("a slow handshake", handshake),
        ("silence before a handshake", silent_tls),
        ("a slow preface", preface),
        ("HTTP/2 without requests", http2),
    ] {
        assert!((MIN_WAIT..MAX_WAIT).contains(&took), "{what}: {took:?}");
    }
    // The gateway does not wait for a body that it will not use.
    assert!(body < MAX_WAIT, "{body:?}");
    plain.assert_serves("demo").await;
    assert!(http_get(address, "/healthz", &[]).await.is_ok());
}

/// Opens a connection that may be refused at once.
async fn try_connect(address: SocketAddr) -> Option<Raw> {
    let socket = TcpStream::connect(address).await.ok()?;
    Some(Raw {
        socket,
        buffer: BytesMut::new(),
    })
}

/// Opens a WebSocket viewer that reads nothing.
async fn viewer(address: SocketAddr) -> Option<Raw> {
    let mut raw = try_connect(address).await?;
    let head = raw.upgrade(address, "/live/demo/nal").await.ok()?;
    assert_eq!(head.status, 101);
    Some(raw)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_is_full_until_somebody_leaves() {
    let gateway = Gateway::with_config(&format!("[server]\nconnections = 20\n{DEMO}")).await;
    let address = gateway.address;
    let mut inside = Vec::new();
    for _ in 0..20 {
        inside.push(viewer(address).await.expect("there is room"));
    }
    for _ in 0..50 {
        assert!(viewer(address).await.is_none(), "it is full");
    }
    gateway
        .logged("refused a connection: 20 connections are open, which is the limit")
        .await;
    // Connected clients stay, and one that leaves makes room for one more.
    for raw in &mut inside {
        within("a frame", raw.frame()).await.unwrap();
    }
    inside.pop();
    let began = Instant::now();
    inside.push(loop {
        match viewer(address).await {
            Some(raw) => break raw,
            None => assert!(began.elapsed() < PATIENCE, "it is still full"),
        }
    });
    assert!(viewer(address).await.is_none(), "it is full again");
    let log = gateway.log.lock().unwrap();
    let lines = log.iter().filter(|line| line.contains("refused")).count();
    assert!(lines <= 2, "{log:#?}");
}

/// Connects until a connection is not served; returns those that are.
async fn connect_until_full(address: SocketAddr, most: usize) -> Vec<Raw> {
    let mut inside = Vec::new();
    for _ in 0..most {
        let Some(mut raw) = try_connect(address).await else {
            return inside;
        };
        raw.write(format!(
            "GET /live/cam/mjpeg HTTP/1.1\r\nHost: {address}\r\n\r\n"
        ))
        .await;
        match timeout(Duration::from_secs(2), raw.head()).await {
            Ok(Ok(head)) => assert_eq!(head.status, 200, "{}", head.text),
            _ => return inside,
        }
        inside.push(raw);
    }
    panic!("{most} were served");
}

/// At the limit, frames continue for connected clients, the processor load stays low, and a slot is free when a client
/// leaves.
async fn assert_serves_at_limit(
    gateway: &Gateway,
    camera: &mut Camera,
    watcher: &mut Watcher,
    inside: Vec<Raw>,
) {
    let (cpu, began) = (gateway.cpu(), Instant::now());
    // Clients that try to connect all the time.
    let connecting: Vec<_> = (0..8)
        .map(|_| {
            let address = gateway.address;
            tokio::spawn(async move { TcpStream::connect(address).await })
        })
        .collect();
    let mut shown = 0;
    while began.elapsed() < Duration::from_secs(1) {
        camera.show(watcher).await;
        shown += 1;
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    let share = (gateway.cpu() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    eprintln!(
        "{} viewers, {shown} frames, {share:.3} of a processor",
        inside.len()
    );
    assert!(
        share < 0.2 * scale(inside.len()),
        "{share:.2} of a processor with {} viewers",
        inside.len()
    );
    drop((connecting, inside));
    let began = Instant::now();
    loop {
        let asked = timeout(
            Duration::from_secs(2),
            http_get(gateway.address, "/healthz", &[]),
        )
        .await;
        if matches!(asked, Ok(Ok((200, ..)))) {
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "no client gets a slot: {asked:?}"
        );
    }
    camera.show(watcher).await;
}

/// Factor for the cost of the frames themselves.
fn scale(viewers: usize) -> f64 {
    1.0 + viewers as f64 / 400.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_few_files_it_serves_few_and_lives_on() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config_after("ulimit -n 256", &camera.config()).await;
    let mut watcher = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
    camera.show(&mut watcher).await;
    let line = gateway
        .logged("connections: the process may have 256 files open")
        .await;
    assert!(line.contains("at most 188 connections"), "{line}");
    let inside = connect_until_full(gateway.address, 250).await;
    assert!(inside.len() > 180, "only {} were served", inside.len());
    gateway
        .logged("refused a connection: 188 connections are open")
        .await;
    assert_serves_at_limit(&gateway, &mut camera, &mut watcher, inside).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_file_left_it_waits_without_spinning_and_viewers_go_on() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut watcher = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
    camera.show(&mut watcher).await;
    let first = fill_one(gateway.address).await;
    // A limit lower than at the start, as if other processes had used up the descriptors.
    let few = Some(gateway.files() as u64 + 10);
    let limit = Rlimit {
        current: few,
        maximum: few,
    };
    prlimit(Some(gateway.pid()), Resource::Nofile, limit).unwrap();
    let mut inside = connect_until_full(gateway.address, 30).await;
    assert!(!inside.is_empty());
    gateway.logged("cannot accept connections: ").await;
    inside.push(first);
    assert_serves_at_limit(&gateway, &mut camera, &mut watcher, inside).await;
    let log = gateway.log.lock().unwrap();
    let lines = log
        .iter()
        .filter(|line| line.contains("cannot accept"))
        .count();
    assert!(lines <= 2, "{log:#?}");
}

async fn fill_one(address: SocketAddr) -> Raw {
    let mut raw = Raw::connect(address).await;
    raw.write(format!(
        "GET /live/cam/mjpeg HTTP/1.1\r\nHost: {address}\r\n\r\n"
    ))
    .await;
    assert_eq!(within("the head", raw.head()).await.unwrap().status, 200);
    raw
}
