//! Ten thousand clients connect and disconnect on each carrier, cleanly or not, and leave nothing behind.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Nal, PATIENCE,
    client::request,
    measure::{mib, slope},
    mjpeg,
    raw::{handshake, masked},
    scratch, within,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
};

const CLIENTS: usize = 10_000;
/// Number of clients at a time.
const CONCURRENT: usize = 32;
/// Memory is sampled every this number of clients.
const STEP: usize = 1000;
/// Clients before the first sample. They fill what is kept for later ones: heaps of threads, tables that grow by
/// doubling.
const WARM_UP_CLIENTS: usize = 2000;
/// Allowed growth in MiB for each further [`STEP`] clients.
const MAX_GROWTH: f64 = 1.0;

const DEMO: &str = "[server]\nconnections-per-address = 4096\n[streams.demo]\nsource = \"test-pattern\"\nidle = \"1s\"\n\
    encode = { width = 64, height = 64, frame-rate = 5, bitrate = \"64k\" }\n";

#[derive(Clone, Copy, Debug)]
enum Client {
    Mjpeg,
    Nal,
    Plain,
}

#[derive(Clone, Copy)]
enum End {
    /// RST (SO_LINGER 0) while data arrives.
    Abrupt,
    /// Closes by the protocol and waits for the server's end.
    Clean,
    /// Closes in the middle of the request's head.
    HalfWay,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_mjpeg_viewers_leave_nothing_behind() {
    churn(Client::Mjpeg, Ipv4Addr::new(127, 0, 1, 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_websockets_leave_nothing_behind() {
    churn(Client::Nal, Ipv4Addr::new(127, 0, 1, 2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_plain_requests_leave_nothing_behind() {
    churn(Client::Plain, Ipv4Addr::new(127, 0, 1, 3)).await;
}

/// While one transport is replaced again and again, clients come and go on it, and a viewer of another one stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_clients_that_come_and_go_leave_no_muxer_behind() {
    const RELOADS: usize = 12;
    let path = scratch("reloads").join("mine.wasm");
    let component = |nth: usize| {
        Gateway::component(if nth.is_multiple_of(2) {
            "nal"
        } else {
            "hostile"
        })
    };
    std::fs::copy(component(0), &path).unwrap();
    let config = format!("{DEMO}[transports.mine]\nplugin = \"{}\"\n", path.display());
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let mut nal = Nal::connect(address, "demo").await.unwrap();
    within("a frame", nal.next_unit()).await.unwrap();
    let stays = tokio::spawn(async move {
        loop {
            nal.next_unit().await.unwrap();
        }
    });
    let threads = gateway.threads();
    let over = Arc::new(AtomicBool::new(false));
    let (received, mut frames) = mpsc::unbounded_channel();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (over, received) = (over.clone(), received.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let watched = async {
                        let mut viewer = Nal::open(address, "/live/demo/mine").await?;
                        for _ in 0..3 {
                            viewer.next_unit().await?;
                            received.send(())?;
                        }
                        anyhow::Ok(())
                    };
                    within("a client", watched).await.unwrap();
                }
            })
        })
        .collect();
    for nth in 1..=RELOADS {
        std::fs::copy(component(nth), &path).unwrap();
        let reload = request(address, "POST", "/api/plugins/mine/reload", &[]);
        let (status, _, body) = within("a reload", reload).await.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        while frames.try_recv().is_ok() {}
        for _ in 0..8 {
            within("clients play again", frames.recv()).await.unwrap();
        }
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        within("a client ends", client).await.unwrap();
    }
    let ended = |plugins: &Value| {
        let plugins = plugins.as_array().unwrap().iter();
        let mut mine = plugins.filter(|plugin| plugin["name"] == "mine");
        mine.all(|plugin| plugin["muxers"].as_array().unwrap().is_empty())
    };
    gateway
        .api_until("/api/plugins", "the muxers end", ended)
        .await;
    settles("threads", threads, || gateway.threads()).await;
    assert!(
        !stays.is_finished(),
        "a viewer of another transport was disconnected"
    );
    stays.abort();
}

/// `from` is a local address that only this test uses, so that ports in TIME_WAIT do not affect others.
async fn churn(client: Client, from: Ipv4Addr) {
    let gateway = Gateway::with_config(DEMO).await;
    // Two viewers that stay connected keep the source and its muxers running.
    let mut nal = Nal::connect(gateway.address, "demo").await.unwrap();
    let mut frames = mjpeg(gateway.address, "demo").await.unwrap();
    within("a frame", nal.next_unit()).await.unwrap();
    within("a frame", frames.next()).await.unwrap();
    let stay = tokio::spawn(async move {
        loop {
            tokio::select! {
                unit = nal.next_unit() => drop(unit.unwrap()),
                frame = frames.next() => drop(frame.unwrap()),
            }
        }
    });
    burst(client, gateway.address, from, STEP).await;
    until_two_viewers(&gateway).await;
    let (descriptors, threads) = (gateway.descriptors(), gateway.threads());

    let mut memory = Vec::new();
    for _ in 0..CLIENTS / STEP {
        burst(client, gateway.address, from, STEP).await;
        memory.push(mib(gateway.memory()));
    }
    until_two_viewers(&gateway).await;
    settles("descriptors", descriptors, || gateway.descriptors()).await;
    settles("threads", threads, || gateway.threads()).await;
    let growth = slope(&memory[WARM_UP_CLIENTS / STEP..]);
    println!(
        "{client:?}: {growth:.3} MiB for each {STEP}, {memory:.1?}; {descriptors} descriptors, {threads} threads"
    );
    assert!(
        growth <= MAX_GROWTH,
        "{client:?}: {growth} MiB for each {STEP}: {memory:?}"
    );
    assert!(!stay.is_finished(), "a viewer that stays was disconnected");
    stay.abort();
    // Muxers end some time after their last user, so an empty list means that no user was forgotten.
    let none = |plugins: &Value| {
        let plugins = plugins.as_array().unwrap();
        plugins
            .iter()
            .all(|plugin| plugin["muxers"].as_array().unwrap().is_empty())
    };
    gateway
        .api_until("/api/plugins", "the muxers end", none)
        .await;
    let sessions = gateway.api("/api/sessions").await;
    assert!(
        sessions["sessions"].as_array().unwrap().is_empty(),
        "{sessions:#}"
    );
    gateway.assert_serves("demo").await;
    gateway.no_panic();
}

/// Runs `count` clients, a limited number at a time, with the three endings in equal shares.
async fn burst(client: Client, to: SocketAddr, from: Ipv4Addr, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..CONCURRENT).map(|_| {
        let next = next.clone();
        tokio::spawn(async move {
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= count {
                    return;
                }
                let end = [End::Abrupt, End::Clean, End::HalfWay][nth % 3];
                within("one client", come_and_go(client, end, to, from)).await;
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

async fn come_and_go(client: Client, end: End, to: SocketAddr, from: Ipv4Addr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut socket = socket.connect(to).await.unwrap();
    let request = match client {
        Client::Mjpeg => format!("GET /live/demo/mjpeg HTTP/1.1\r\nHost: {to}\r\n\r\n"),
        Client::Nal => handshake(to, "/live/demo/nal"),
        Client::Plain => format!("GET /healthz HTTP/1.1\r\nHost: {to}\r\n\r\n"),
    };
    if let End::HalfWay = end {
        let half = &request.as_bytes()[..request.len() / 2];
        socket.write_all(half).await.unwrap();
        return;
    }
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        assert!(socket.read_buf(&mut read).await.unwrap() > 0, "no answer");
    }
    let status = if let Client::Nal = client {
        " 101 "
    } else {
        " 200 "
    };
    assert!(String::from_utf8_lossy(&read).contains(status), "{read:?}");
    match end {
        End::Abrupt => socket.set_zero_linger().unwrap(),
        End::Clean => close_cleanly(client, socket).await,
        End::HalfWay => {}
    }
}

/// Closes by the protocol and reads to the end.
async fn close_cleanly(client: Client, mut socket: TcpStream) {
    match client {
        Client::Nal => {
            let close = masked(0x88, &1000u16.to_be_bytes());
            socket.write_all(&close).await.unwrap();
        }
        Client::Mjpeg | Client::Plain => socket.shutdown().await.unwrap(),
    }
    // The server may have sent more before it saw the end.
    let _ = socket.read_to_end(&mut Vec::new()).await;
}

/// Waits until all counters show only the two viewers that stay.
async fn until_two_viewers(gateway: &Gateway) {
    let two = |sessions: &Value| {
        sessions["sessions"].as_array().unwrap().len() == 2
            && sessions["streams"][0]["viewers"] == 2
    };
    gateway
        .api_until("/api/sessions", "only two stay", two)
        .await;
    let one_each = |device: &Value| {
        device["watching"]
            == serde_json::json!([
                { "rendition": "", "transport": "mjpeg", "viewers": 1 },
                { "rendition": "", "transport": "nal", "viewers": 1 },
            ])
    };
    gateway
        .api_until("/api/devices/demo", "one of each stays", one_each)
        .await;
}

async fn settles(what: &str, base: usize, count: impl Fn() -> usize) {
    let began = Instant::now();
    // Polling opens no connection; earlier ones may still be closing.
    while count() > base {
        assert!(
            began.elapsed() < PATIENCE,
            "{} {what}, {base} before",
            count()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
