//! Limits of WebTransport: clients that never read, never complete a handshake, come in numbers, or send nonsense cost
//! only themselves.

use sluicegate_tests::{
    Camera, Gateway, PATIENCE,
    camera::{self, GROUP},
    measure::{mib, slope},
    webtransport::{Access, RawHttp3, Session, narrow_client},
    within,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::UdpSocket, sync::mpsc, task::AbortHandle};

const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nidle = \"1s\"\n\
    encode = { width = 64, height = 64, frame-rate = 10, bitrate = \"64k\" }\n";

fn lanes() -> String {
    let plugin = Gateway::component("lanes");
    format!(
        "[transports.lanes]\nplugin = {:?}\n",
        plugin.to_str().unwrap()
    )
}

async fn demo(server: &str) -> Gateway {
    Gateway::with_config(&format!("{server}{DEMO}{}", lanes())).await
}

async fn viewers(gateway: &Gateway, count: usize) {
    let is = |sessions: &serde_json::Value| sessions["sessions"].as_array().unwrap().len() == count;
    gateway
        .api_until("/api/sessions", &format!("{count} viewers"), is)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_never_reads_costs_only_itself() {
    const GROUPS: usize = 70;
    /// Groups after which the rings are full.
    const FULL: usize = 45;
    const FRAME: usize = 100_000;
    /// How many come during each of the next groups, and how many that are.
    const AT_ONCE: usize = 20;
    const STALLED: usize = 200;
    let clip = Box::leak(Box::new(camera::clip().with_filler(FRAME)));
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&format!("{}{}", camera.config(), lanes())).await;
    let access = Access::of(&gateway, "cam").await;
    let session = Session::open(&gateway, "cam/lanes").await.unwrap();
    let (arrived, mut groups) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok(group) = session.whole_stream().await {
            assert!(group.len() > GROUP * FRAME, "{} bytes", group.len());
            if arrived.send(()).await.is_err() {
                return;
            }
        }
    });
    let (mut before, mut stalled) = (0, Vec::new());
    for group in 0..GROUPS {
        if group == FULL {
            before = gateway.memory();
        }
        if group >= FULL && stalled.len() < STALLED {
            for _ in 0..AT_ONCE {
                let client = narrow_client(&access.hashes, 100, 50_000, 100_000);
                let session = Session::with(&client, access.address(), "cam/lanes", &[]).await;
                stalled.push((session.unwrap(), client));
            }
        }
        for _ in 0..GROUP {
            camera.send().await;
        }
        // Each group ends when the next one begins.
        if group > 0 {
            within("the group before", groups.recv()).await.unwrap();
        }
    }
    viewers(&gateway, STALLED + 1).await;
    let grown = mib(gateway.memory().saturating_sub(before));
    println!("{grown:.1} MiB more with {STALLED} sessions that do not read");
    // 15 MB were sent to each.
    assert!(grown < STALLED as f64, "{grown} MiB");
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sessions_come_and_go_without_residue() {
    const SESSIONS: usize = 1000;
    const CONCURRENT: usize = 20;
    const STEP: usize = 100;
    let gateway = demo("").await;
    let access = Access::of(&gateway, "demo").await;
    let stays = Session::open(&gateway, "demo/lanes").await.unwrap();
    stays.stream().await.unwrap();
    let mut memory = Vec::new();
    let (mut files, mut opened) = (0, 0);
    for step in 0..SESSIONS / STEP {
        for _ in 0..STEP / CONCURRENT {
            let visits = (0..CONCURRENT).map(|nth| {
                let (client, address) = (access.client(), access.address());
                tokio::spawn(async move {
                    let session = match Session::with(&client, address, "demo/lanes", &[]).await {
                        // wtransport 0.7.2 loses what it has read of SETTINGS if something else happens before the
                        // rest arrives, takes the rest for a frame of another length, and ends the connection.
                        Err(error) if error.to_string().contains("by peer: 263") => return false,
                        opened => opened.unwrap(),
                    };
                    session.stream().await.unwrap();
                    match nth % 3 {
                        // Closes, vanishes in the middle of a stream, or vanishes with its socket.
                        0 => session.connection.close(7u32.into(), b"bye"),
                        1 => drop(session),
                        _ => drop(client),
                    }
                    true
                })
            });
            for visit in visits.collect::<Vec<_>>() {
                opened += usize::from(within("a visit", visit).await.unwrap());
            }
        }
        memory.push(mib(gateway.memory()));
        if step == 0 {
            viewers(&gateway, 1).await;
            files = gateway.files();
        }
    }
    viewers(&gateway, 1).await;
    assert!(opened >= SESSIONS - SESSIONS / 100, "only {opened} opened");
    let growth = slope(&memory[3..]);
    println!("{growth:.3} MiB for each {STEP}, {memory:.1?}");
    assert!(growth < 0.5, "{growth} MiB for each {STEP}: {memory:?}");
    let began = Instant::now();
    while gateway.files() > files {
        assert!(began.elapsed() < PATIENCE, "{} files", gateway.files());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stays.stream().await.unwrap();
    drop(stays);
    viewers(&gateway, 0).await;
    let none = |plugins: &serde_json::Value| {
        let plugins = plugins.as_array().unwrap();
        plugins
            .iter()
            .all(|plugin| plugin["muxers"].as_array().unwrap().is_empty())
    };
    gateway
        .api_until("/api/plugins", "the muxers end", none)
        .await;
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_count_as_connections() {
    const CONNECTIONS: usize = 5;
    let gateway = demo(&format!("[server]\nconnections = {CONNECTIONS}\n")).await;
    let access = Access::of(&gateway, "demo").await;
    let client = access.client();
    let open = async || Session::with(&client, access.address(), "demo/lanes", &[]).await;
    let mut sessions = Vec::new();
    let began = Instant::now();
    // The connection that asked for the hashes may still count.
    while sessions.len() < CONNECTIONS {
        match open().await {
            Ok(session) => sessions.push(session),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error:#}"),
        }
    }
    let refused = open().await.err().expect("one too many");
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
    gateway.logged("raise `connections` under [server]").await;
    sessions.pop();
    let began = Instant::now();
    while let Err(error) = open().await {
        assert!(began.elapsed() < PATIENCE, "{error:#}");
    }
}

/// Forwards what clients send to the gateway, and nothing back.
struct BlackHole {
    address: SocketAddr,
    forwarded: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl BlackHole {
    /// Counts the Retry packets (RFC 9000 section 17.2.5) of the gateway in `retries`.
    async fn new(gateway: SocketAddr, retries: &Arc<AtomicUsize>) -> BlackHole {
        let inside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let outside = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = inside.local_addr().unwrap();
        let forwarded = Arc::new(AtomicUsize::new(0));
        let (count, retries) = (forwarded.clone(), retries.clone());
        let task = tokio::spawn(async move {
            let (mut sent, mut answer) = (vec![0; 2048], vec![0; 2048]);
            loop {
                tokio::select! {
                    Ok((length, _)) = inside.recv_from(&mut sent) => {
                        outside.send_to(&sent[..length], gateway).await.unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(_) = outside.recv_from(&mut answer) => {
                        let is_retry = answer[0] & 0xf0 == 0xf0;
                        retries.fetch_add(usize::from(is_retry), Ordering::Relaxed);
                    }
                    else => return,
                }
            }
        });
        BlackHole {
            address,
            forwarded,
            task: task.abort_handle(),
        }
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn handshakes_that_are_never_completed_leave_room_for_others() {
    const HANDSHAKES: usize = 10_000;
    const AT_ONCE: usize = 500;
    let gateway = demo("").await;
    let access = Access::of(&gateway, "demo").await;
    let viewer = Session::open(&gateway, "demo/lanes").await.unwrap();
    viewer.stream().await.unwrap();
    let retries = Arc::new(AtomicUsize::new(0));
    let before = mib(gateway.memory());
    let flood = async {
        let mut most: f64 = 0.0;
        for _ in 0..HANDSHAKES / AT_ONCE {
            let hole = BlackHole::new(access.address(), &retries).await;
            let endpoint = RawHttp3::endpoint();
            let mut half_open = Vec::new();
            for _ in 0..AT_ONCE {
                half_open.push(endpoint.connect(hole.address, "localhost").unwrap());
                tokio::task::yield_now().await;
            }
            let began = Instant::now();
            while hole.forwarded.load(Ordering::Relaxed) < AT_ONCE {
                assert!(began.elapsed() < PATIENCE, "too few were begun");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most = most.max(mib(gateway.memory()) - before);
            // First, so that the gateway does not hear that the clients give up.
            drop(hole);
        }
        most
    };
    // A note comes with each frame, 10 each second.
    let plays = async {
        let (mut longest, mut last) = (Duration::ZERO, Instant::now());
        loop {
            within("a note", viewer.connection.receive_datagram())
                .await
                .unwrap();
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if longest > Duration::from_secs(2) {
                return longest;
            }
        }
    };
    let began = Instant::now();
    let grown = tokio::select! {
        grown = flood => grown,
        longest = plays => panic!("the viewer waited {longest:?} for a frame"),
    };
    let retries = retries.load(Ordering::Relaxed);
    println!(
        "{grown:.1} MiB more, {retries} Retry packets, {:?}",
        began.elapsed()
    );
    assert!(grown < 30.0, "{grown} MiB");
    assert!(retries > 0, "nobody had to prove an address");
    // Clients whose address is their own get in, and prove it by a Retry.
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    for session in [&session, &viewer] {
        session.stream().await.unwrap();
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_request_no_session_are_disconnected() {
    let gateway = demo("").await;
    let address = gateway.address;
    let silent = RawHttp3::connect(address).await.unwrap();
    let mut settled = RawHttp3::connect(address).await.unwrap();
    settled.settle().await.unwrap();
    // Before they are given up because they are silent, which is another kind of close.
    for client in [silent, settled] {
        let closed = client.closed().await;
        let is_closed = matches!(closed, quinn::ConnectionError::ApplicationClosed(_));
        assert!(is_closed, "{closed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_its_own_connection_only() {
    let gateway = demo("").await;
    let address = gateway.address;
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    session.stream().await.unwrap();
    // Datagrams that are not QUIC, or only look like it.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for first in 0..=255u8 {
        let mut packet = vec![first; 1200];
        packet[1..5].copy_from_slice(&u32::from(first & 1).to_be_bytes());
        socket.send_to(&packet, address).await.unwrap();
        socket
            .send_to(&packet[..usize::from(first) % 40], address)
            .await
            .unwrap();
    }
    // On the control stream: no settings, other frames, a frame that is too large, reserved frames.
    let control: [&[u8]; 8] = [
        &[0],
        &[0, 0, 0],
        &[0, 4, 0x80, 0xff, 0xff, 0xff],
        &[0, 4, 1, 0xff],
        &[0, 4, 2, 2, 0],
        &[0, 1, 0],
        &[0, 2, 0, 4, 0],
        &[0xff; 64],
    ];
    for bytes in control {
        let mut client = RawHttp3::connect(address).await.unwrap();
        let _ = client.send(bytes).await;
    }
    // Instead of a request: data, an empty or broken header block, a request that is not for WebTransport.
    let requests: [&[u8]; 7] = [
        &[0, 0],
        &[1, 0],
        &[1, 3, 0xff, 0xff, 0xff],
        &[1, 0x80, 0xff, 0xff, 0xff],
        &[4, 0],
        &[0x40, 0x41, 0],
        &[0xff; 64],
    ];
    for bytes in requests {
        let mut client = RawHttp3::connect(address).await.unwrap();
        let _ = client.settle().await;
        if let Ok((mut sender, _receiver)) = client.connection.open_bi().await {
            let _ = sender.write_all(bytes).await;
            let _ = sender.finish();
        }
    }
    for fields in [
        &[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "a"),
            (":path", "/"),
        ][..],
        &[(":method", "CONNECT"), (":authority", "a")],
        &[("x", "y")],
        &[
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":protocol", "websocket"),
            (":authority", "a"),
            (":path", "/live/demo/lanes"),
        ],
    ] {
        let mut client = RawHttp3::connect(address).await.unwrap();
        client.settle().await.unwrap();
        assert!(client.request(fields).await.is_err(), "{fields:?}");
    }
    // More streams and datagrams than the transport takes, on a session.
    let flood = Session::open(&gateway, "demo/lanes").await.unwrap();
    let flooding = async {
        for _ in 0..2000 {
            let _ = flood.connection.send_datagram([7; 1000]);
            let Ok(opening) = flood.connection.open_uni().await else {
                return;
            };
            let Ok(mut stream) = opening.await else {
                return;
            };
            let _ = stream.write_all(&[7; 1000]).await;
        }
    };
    within("a flood", flooding).await;
    session.stream().await.unwrap();
    gateway.assert_serves("demo").await;
    gateway.no_panic();
}
