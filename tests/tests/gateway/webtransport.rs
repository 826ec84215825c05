//! WebTransport: what a session gets, who may open one, its certificates, and its end.

use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, Control, Gateway, Nal, PATIENCE,
    camera::{self, GROUP},
    choose,
    client::request,
    command::{check, config_file, sluicegate},
    feeder::free_port,
    tls::Pair,
    webtransport::{
        Access, RawHttp3, Session, after, ask, client, narrow_client, read_exact, read_to_end, tell,
    },
    within,
};
use std::{net::UdpSocket, time::Instant};

/// Small frames, so that the tests need not wait for their encoder.
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";
const HEADER: &[u8] = b"head";

/// `[transports.lanes]` with these further options.
fn lanes(options: &str) -> String {
    let plugin = Gateway::component("lanes");
    format!(
        "[transports.lanes]\nplugin = {:?}\n{options}\n",
        plugin.to_str().unwrap()
    )
}

async fn demo(server: &str) -> Gateway {
    Gateway::with_config(&format!("{server}{DEMO}{}", lanes(""))).await
}

fn is_note(content: &[u8]) -> bool {
    content.starts_with(b"note ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_gets_what_a_websocket_gets_bit_for_bit() {
    const GROUPS: usize = 4;
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!("{}{}", camera.config(), lanes(""));
    let gateway = Gateway::with_config(&config).await;
    let mut socket = Nal::open(gateway.address, "/live/cam/lanes").await.unwrap();
    let session = Session::open(&gateway, "cam/lanes").await.unwrap();
    for _ in 0..=GROUPS * GROUP {
        camera.send().await;
    }
    let (mut groups, mut notes) = (Vec::<Vec<u8>>::new(), Vec::new());
    assert_eq!(within("the header", socket.next()).await.unwrap(), HEADER);
    let mut frames = 0;
    while frames <= GROUPS * GROUP {
        let message = within("a message", socket.next()).await.unwrap();
        if is_note(&message) {
            notes.push(message);
            continue;
        }
        if frames % GROUP == 0 {
            groups.push(HEADER.to_vec());
        }
        groups.last_mut().unwrap().extend_from_slice(&message);
        frames += 1;
    }
    // The last group has not ended. Streams are found in any order.
    let newest = groups.pop().unwrap();
    for _ in 0..=GROUPS {
        let mut stream = session.stream().await.unwrap();
        let begin = read_exact(&mut stream, newest.len()).await.unwrap();
        if begin == newest {
            continue;
        }
        let rest = read_to_end(&mut stream).await.unwrap();
        let all = [begin, rest].concat();
        let at = groups.iter().position(|group| *group == all);
        groups.remove(at.expect("a group as the WebSocket has it"));
    }
    assert!(groups.is_empty());
    let datagram = within("a datagram", session.connection.receive_datagram());
    let datagram = datagram.await.unwrap().payload();
    assert!(notes.contains(&datagram), "{datagram:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fits_into_no_datagram_comes_as_a_stream_with_the_header() {
    let config = format!("{DEMO}{}", lanes("padding = 5000"));
    let gateway = Gateway::with_config(&config).await;
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    let note = loop {
        let mut stream = session.stream().await.unwrap();
        let begin = read_exact(&mut stream, HEADER.len() + 5).await.unwrap();
        if is_note(after(&begin, HEADER)) {
            break read_to_end(&mut stream).await.unwrap();
        }
    };
    assert_eq!(note.iter().filter(|byte| **byte == b'.').count(), 5000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_sends_reaches_the_transport_and_is_answered() {
    let gateway = demo("").await;
    let session = Session::open(&gateway, "demo/lanes/named").await.unwrap();
    let hello = session.whole_stream().await.unwrap();
    let id = String::from_utf8(after(&hello, b"hello ").to_vec()).unwrap();
    let head = format!("[{id}]head");
    let mut group = session.stream().await.unwrap();
    let begin = read_exact(&mut group, head.len()).await.unwrap();
    assert_eq!(begin, head.as_bytes());

    for content in [&b"question"[..], &vec![7; 64 << 10], b""] {
        assert_eq!(ask(&session, content).await.unwrap(), content);
    }
    tell(&session, b"said").await.unwrap();
    session.connection.send_datagram(b"sent").unwrap();
    let mut expected = vec![&b"stream said"[..], b"datagram sent"];
    while !expected.is_empty() {
        let content = session.whole_stream().await.unwrap();
        expected.retain(|expected| *expected != content);
    }
    // More than a message may have.
    let _ = tell(&session, &vec![7; (64 << 10) + 1]).await;
    let (code, reason) = session.closed().await;
    assert_eq!(code, 1009, "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_may_take_streams_piece_by_piece() {
    let config = format!("{DEMO}{}", lanes("partial-streams = true"));
    let gateway = Gateway::with_config(&config).await;
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    let opening = session.connection.open_bi().await.unwrap();
    let (mut sender, mut receiver) = within("a stream", opening).await.unwrap();
    for piece in [&b"one"[..], b"two"] {
        sender.write_all(piece).await.unwrap();
        let echo = read_exact(&mut receiver, piece.len()).await.unwrap();
        assert_eq!(echo, piece);
    }
    sender.finish().await.unwrap();
    assert_eq!(read_to_end(&mut receiver).await.unwrap(), b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_learn_how_to_open_sessions() {
    let told = async |server: &str| {
        let gateway = demo(server).await;
        let (status, chosen) = choose(&gateway, "demo", "", &[]).await;
        assert_eq!(status, 200);
        (gateway, chosen["webtransport"].clone())
    };
    let gateway = demo("").await;
    let access = Access::of(&gateway, "demo").await;
    assert_eq!(access.hashes.len(), 2);
    assert_ne!(access.hashes[0], access.hashes[1]);
    assert_eq!(access.port, gateway.address.port());
    // A page from a proxy has another host and port than the UDP port.
    let proxied = [("X-Forwarded-For", "192.0.2.1")];
    let (status, chosen) = choose(&gateway, "demo", "", &proxied).await;
    assert_eq!((status, &chosen["webtransport"]), (200, &Value::Null));

    let port = free_port().await;
    let (gateway, access) = told(&format!("[server]\nwebtransport = {port}\n")).await;
    assert_eq!(access["port"], port);
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    session.stream().await.unwrap();
    // A page of the gateway has the TCP port, and the session the other.
    let origin = format!("http://{}", gateway.address);
    let address = ([127, 0, 0, 1], port).into();
    let authority = format!("127.0.0.1:{port}");
    let headers = [("origin", origin.as_str())];
    let status = RawHttp3::status(address, &authority, "demo/lanes", &headers).await;
    assert_eq!(status.unwrap(), 200);
    for path in ["/", "/watch/demo", "/assets/webcodecs_worker.js"] {
        let (status, head, _) = request(gateway.address, "GET", path, &[]).await.unwrap();
        assert_eq!(status, 200, "{path}");
        let allowed = format!("; connect-src 'self' https://{authority}\r\n");
        assert!(head.contains(&allowed), "{path}: {head}");
    }

    let (gateway, access) = told("[server]\nwebtransport = false\n").await;
    assert_eq!(access, Value::Null);
    let free = UdpSocket::bind(gateway.address);
    assert!(free.is_ok(), "{free:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_in_the_config_say_what_to_write() {
    for (setting, expected) in [
        ("webtransport = 0", "write a number from 1 to 65535"),
        ("webtransport = 70000", "write a number from 1 to 65535"),
        (
            "webtransport = \"no\"",
            "true, false or the number of a UDP port",
        ),
        (
            "congestion = \"BBR\"",
            "`BBR` is not known; write one of \\\"loss-tolerant\\\", \\\"cubic\\\", \\\"bbr\\\"",
        ),
    ] {
        let refused = check(&format!("[server]\n{setting}\n{DEMO}")).await;
        assert_ne!(refused.code, Some(0));
        let text = format!("{refused:?}");
        assert!(text.contains(expected), "{setting}: {text}");
    }
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = config_file(&format!("[server]\nwebtransport = {port}\n{DEMO}"));
    let file = file.to_str().unwrap();
    let arguments = ["serve", "--listen", "127.0.0.1:0", "--config", file];
    let refused = sluicegate(&arguments);
    let text = format!("{:?}", within("the gateway ends", refused).await);
    assert!(text.contains(&format!("UDP port {port}")), "{text}");
    assert!(text.contains("webtransport = false"), "{text}");
    for controller in ["cubic", "bbr"] {
        let gateway = demo(&format!("[server]\ncongestion = \"{controller}\"\n")).await;
        let session = Session::open(&gateway, "demo/lanes").await.unwrap();
        session.whole_stream().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_open_a_session_is_refused_with_a_status() {
    let server = "[server]\norigins = [\"https://home.example\"]\nnames = [\"cam.example\"]\n";
    let gateway = demo(server).await;
    let address = gateway.address;
    let here = address.to_string();
    let own = format!("http://{here}");
    let named = format!("cam.example:{}", address.port());
    for (authority, path, origin, expected) in [
        (here.as_str(), "demo/lanes", None, 200),
        (&here, "demo/lanes", Some(own.as_str()), 200),
        (&here, "demo/lanes", Some("https://home.example"), 200),
        (&named, "demo/lanes", None, 200),
        (&here, "demo/lanes?x=y&width=1", None, 200),
        (&here, "demo/lanes", Some("https://evil.example"), 403),
        (&here, "demo/lanes", Some("http://localhost:1"), 403),
        (&here, "demo/lanes", Some("null"), 403),
        (&here, "demo/lanes", Some("https://ä.example"), 403),
        (&here, "demo/lanes", Some("https://evil.example\n"), 404),
        ("evil.example", "demo/lanes", None, 403),
        (&here, "demo/lanes?ticket=x", Some("null"), 403),
        (&here, "nobody/lanes", None, 404),
        (&here, "demo@none/lanes", None, 404),
        (&here, "demo/none", None, 404),
        (&here, "demo", None, 404),
        (&here, "demo/frame.jpg", None, 404),
        (&here, "../api/plugins", None, 404),
        (&here, "%zz", None, 404),
        (&here, "demo/mjpeg", None, 403),
        (&here, "demo/lanes/refuse", None, 403),
        (&here, "demo/mjpeg?width=0", None, 403),
        ("a b", "demo/lanes", None, 404),
    ] {
        let headers: Vec<_> = origin.iter().map(|origin| ("origin", *origin)).collect();
        let status = RawHttp3::status(address, authority, path, &headers).await;
        assert_eq!(status.unwrap(), expected, "{authority} {path} {origin:?}");
    }
    gateway.logged("refused a request").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_under_a_running_session() {
    let pair = Pair::new().await;
    let config = format!("{}{DEMO}{}", pair.config(), lanes(""));
    let gateway = Gateway::with_config(&config).await;
    let old = client(&[pair.hash()]);
    let open = async |client| Session::with(client, gateway.address, "demo/lanes", &[]).await;
    let session = open(&old).await.unwrap();
    session.whole_stream().await.unwrap();
    pair.renew().await;
    gateway.logged("a new certificate is in use").await;
    assert!(open(&old).await.is_err(), "the old certificate is in use");
    let new = client(&[pair.hash()]);
    let second = open(&new).await.unwrap();
    for session in [&session, &second] {
        session.whole_stream().await.unwrap();
        session.whole_stream().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_code_and_reason() {
    let config = format!(
        "{DEMO}{}{}",
        lanes(""),
        lanes("").replace("lanes]", "other]")
    );
    let mut gateway = Gateway::with_config(&config).await;
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    let other = Session::open(&gateway, "demo/other").await.unwrap();
    session.stream().await.unwrap();
    other.stream().await.unwrap();
    let remove = request(gateway.address, "DELETE", "/api/plugins/other", &[]);
    let (status, ..) = within("the removal", remove).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        other.closed().await,
        (1001, "the transport was removed".into())
    );
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    assert_eq!(
        session.closed().await,
        (1001, "the gateway is shutting down".into())
    );
    let ended = within("the gateway ends", gateway.child.wait()).await;
    assert!(ended.unwrap().success());
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_lags_too_much_is_reset_when_a_newer_one_has_begun() {
    let clip = Box::leak(Box::new(camera::clip().with_filler(50_000)));
    let mut camera = Camera::new(clip).await;
    let config = format!("{}{}", camera.config(), lanes("stale = \"100ms\""));
    let gateway = Gateway::with_config(&config).await;
    let access = Access::of(&gateway, "cam").await;
    // Room for one frame of a stream.
    let client = narrow_client(&access.hashes, 100, 60_000, 10_000_000);
    let session = Session::with(&client, access.address(), "cam/lanes", &[]);
    let session = session.await.unwrap();
    camera.send().await;
    camera.send().await;
    let mut first = session.stream().await.unwrap();
    let fill = async {
        loop {
            camera.send().await;
        }
    };
    // Nobody reads the first group, and later ones arrive.
    let later = async {
        let reset = within("a reset", first.quic_stream_mut().received_reset()).await;
        session.whole_stream().await.unwrap();
        reset
    };
    let reset = tokio::select! {
        () = fill => unreachable!(),
        reset = later => reset,
    };
    // Application code 0 (draft-ietf-webtrans-http3 section 4.4).
    assert_eq!(reset.unwrap().unwrap().into_inner(), 0x52e4_a40f_a8db);
    gateway
        .api_until("/api/sessions", "the jump is counted", |sessions| {
            sessions["sessions"][0]["jumps"].as_u64() >= Some(1)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_figures_of_quic_complete_a_players_report() {
    let gateway = demo("").await;
    let (mut control, chosen) = Control::open(&gateway, "demo", "can=lanes").await;
    assert_eq!(chosen["transport"], "lanes");
    let id = control.path.rsplit('/').next().unwrap();
    let session = Session::open(&gateway, &format!("demo/lanes?session={id}")).await;
    let session = session.unwrap();
    session.whole_stream().await.unwrap();
    control.playing(&chosen).await;
    let began = Instant::now();
    loop {
        control.report(json!({ "round_trip_ms": 5 })).await;
        let sessions = gateway.api("/api/sessions").await;
        let shown = &sessions["sessions"][0];
        if let Some(trip) = shown["link"]["round_trip_ms"].as_f64() {
            assert!(trip > 0.0 && trip < 1000.0, "{shown:#}");
            assert_eq!(shown["link"]["under_way"], Value::Null);
            assert_eq!(shown["link"]["direct"], true);
            assert!(shown["link"]["loss"].is_number(), "{shown:#}");
            assert!(shown["report"]["loss"].is_number(), "{shown:#}");
            assert!(shown["bytes"].as_u64().unwrap() > 0);
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no figures: {shown:#}");
    }
}
