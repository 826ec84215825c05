//! HTTP/2: the same answers as over HTTP/1.1, slow viewers, floods frame by frame, and a clean end.

use bytes::BytesMut;
use h2::{RecvStream, client::SendRequest};
use rustix::process::Signal;
use sluicegate_tests::{
    Camera, Gateway, PATIENCE, Watcher,
    camera::{self, COUNT},
    client::{jpeg_number, take_part},
    http2::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY,
        HEADERS, PING, RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE, block, frame, get,
    },
    mjpeg, tls, within,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    task::JoinHandle,
    time::timeout,
};

/// Small frames, so that the tests need not wait for their encoder.
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";
const TLS: &str = "[server]\ntls = \"self-signed\"\n";

/// Runs curl; returns status, version and body.
async fn curl(arguments: &[&str]) -> (String, String) {
    let command = Command::new("curl")
        .args([
            "-sSk",
            "--path-as-is",
            "-w",
            "\n%{http_code} %{http_version}",
        ])
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let output = within("curl", command).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, end) = text.rsplit_once('\n').unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    (end.to_owned(), body.to_owned())
}

#[tokio::test]
async fn it_answers_as_http_1_does() {
    let plain = Gateway::with_config(DEMO).await;
    let secure = Gateway::with_config(&format!("{TLS}{DEMO}")).await;
    let long = format!("/live/demo/{}", "x".repeat(3000));
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (path, more, status) in [
        ("/", &[][..], 200),
        ("/watch/demo", &[], 200),
        ("/api/plugins", &[], 200),
        ("/healthz", &["-I"], 200),
        ("/live/demo/mjpeg", &["-I"], 200),
        ("/live/demo/nal", &[], 426),
        ("/live/dem/mjpeg", &[], 404),
        ("/live/demo/%zz", &[], 400),
        (&long, &[], 400),
        ("/nothing", &[], 404),
        ("/live/../etc/passwd", &[], 400),
        ("/api/devices", &["-X", "POST"], 405),
        ("/api/devices", &["-X", "BREW"], 405),
        ("/api/devices", &["-H", "Host: evil.example"], 421),
        ("/api/devices", &["-H", "Origin: https://evil.example"], 403),
        ("/api/plugins", &["-H", "X-Forwarded-For: 192.0.2.1"], 403),
    ] {
        let mut answers = Vec::new();
        for (gateway, scheme, by, version) in [
            (&plain, "http", "--http1.1", "1.1"),
            (&plain, "http", "--http2-prior-knowledge", "2"),
            (&secure, "https", "--http2", "2"),
        ] {
            let url = format!("{scheme}://{}{path}", gateway.address);
            let (end, body) = curl(&[&[by, &url], more].concat()).await;
            assert_eq!(end, format!("{status} {version}"), "{url} {more:?}: {body}");
            answers.push(body);
        }
        if status != 200 {
            assert!(
                answers.iter().all(|body| *body == answers[0]),
                "{path}: {answers:?}"
            );
        }
    }
    // HTTP/2 has no Upgrade; a request without extended CONNECT is refused with an explanation.
    let url = format!("https://{}/live/demo/nal", secure.address);
    let (end, body) = curl(&[
        "--http2",
        &url,
        "-H",
        key,
        "-H",
        "Sec-WebSocket-Version: 13",
    ])
    .await;
    assert_eq!(end, "400 2");
    assert!(body.contains("needs a connection of HTTP/1.1"), "{body}");
}

#[tokio::test]
async fn the_authority_is_the_host_and_connect_is_refused() {
    let gateway = Gateway::with_config(DEMO).await;
    let address = gateway.address;
    let (mut client, _connection) = connect(address).await;
    for (authority, host, status) in [
        (address.to_string(), "evil.example", 200),
        ("evil.example".into(), "localhost", 421),
        (format!("me@{address}"), "localhost", 400),
    ] {
        let uri = format!("http://{authority}/api/plugins");
        let request = http::Request::get(uri)
            .header("host", host)
            .body(())
            .unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let found = within("an answer", response)
            .await
            .map(|response| response.status().as_u16());
        // The h2 crate itself refuses some invalid requests.
        assert!(
            found.as_ref().is_ok_and(|found| *found == status) || (status >= 400 && found.is_err()),
            "{authority}: {found:?}"
        );
    }
    let authority = address.to_string();
    let mut raw = RawHttp2::connect(address).await;
    for (stream, headers) in [
        (1, &[(":method", "CONNECT"), (":authority", &authority)][..]),
        (
            3,
            &[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":authority", &authority),
                (":path", "/live/demo/nal"),
            ],
        ),
    ] {
        raw.write(frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream,
            &block(headers),
        ))
        .await;
        let answer = loop {
            let answer = raw.next().await.unwrap();
            if answer.stream == stream {
                break answer;
            }
        };
        // The status is not 200 (index 8 of the static table, RFC 7541 appendix A), and there is no tunnel.
        assert!(
            answer.kind == RST_STREAM || answer.payload[0] != 0x88,
            "{answer:?}"
        );
    }
    gateway.assert_serves("demo").await;
}

async fn connect(
    address: SocketAddr,
) -> (SendRequest<bytes::Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let tcp = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    (client, tokio::spawn(connection))
}

async fn follow(
    client: &mut SendRequest<bytes::Bytes>,
    address: SocketAddr,
    path: &str,
) -> RecvStream {
    let request = http::Request::get(format!("http://{address}{path}"))
        .body(())
        .unwrap();
    let ready = client.clone();
    *client = within("a free stream", ready.ready()).await.unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    let response = within("an answer", response).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Number of the next frame; opens the window by the number of bytes read.
async fn next_number(body: &mut RecvStream, buffer: &mut BytesMut) -> u32 {
    loop {
        if let Some(jpeg) = take_part(buffer).unwrap() {
            return jpeg_number(&jpeg).expect("a frame without a number");
        }
        let data = within("a frame", body.data()).await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        buffer.extend_from_slice(&data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_opens_no_window_costs_nothing_and_later_gets_the_newest_frame() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let address = gateway.address;
    let mut nal = Watcher::open(address, "/live/cam/nal", clip).await;
    camera.show(&mut nal).await;
    let (mut client, _connection) = connect(address).await;
    let mut slow = follow(&mut client, address, "/live/cam/mjpeg").await;
    // A hundred more viewers on two connections, which read nothing.
    let (mut many, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (mut client, connection) = connect(address).await;
        for _ in 0..50 {
            many.push(follow(&mut client, address, "/live/cam/mjpeg").await);
        }
        connections.push((client, connection));
    }
    let mut other = within("connect", mjpeg(address, "cam")).await.unwrap();
    let mut early = 0;
    for nth in 0..100 {
        let sent = camera.show(&mut nal).await;
        let number = u32::try_from(sent % COUNT).unwrap();
        while within("the other viewer", other.next_number())
            .await
            .unwrap()
            != number
        {}
        if nth == 60 {
            early = gateway.memory();
        }
    }
    let late = gateway.memory();
    assert!(late < early + (24 << 20), "{early} bytes, then {late}");

    let newest = u32::try_from(camera.newest()).unwrap();
    let mut buffer = BytesMut::new();
    let mut numbers = vec![next_number(&mut slow, &mut buffer).await];
    while *numbers.last().unwrap() != newest {
        numbers.push(next_number(&mut slow, &mut buffer).await);
    }
    // The frames that were in transit, then the newest.
    assert!(numbers.len() < 40, "{numbers:?}");
    let last = *numbers.last_chunk::<2>().unwrap();
    assert!(last[0] + 1 != last[1], "{numbers:?}");
    let sessions = gateway.api("/api/sessions").await;
    let all = sessions["sessions"].as_array().unwrap();
    let mut jumped = 0;
    for session in all.iter().filter(|session| session["transport"] == "mjpeg") {
        jumped += usize::from(session["jumps"].as_u64() > Some(0));
    }
    assert!((1..=2).contains(&jumped), "{sessions:#}");
    // These viewers received at most one window, the carrier's buffer, and the frames in transit.
    let stuck = all
        .iter()
        .filter(|session| session["transport"] == "mjpeg")
        .filter(|session| session["bytes"].as_u64() < Some(256 << 10));
    assert_eq!(stuck.count(), 101, "{sessions:#}");
    drop((many, connections, client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_is_a_goaway_and_whole_bodies() {
    let mut gateway = Gateway::with_config(&format!("{TLS}{DEMO}")).await;
    let address = gateway.address;
    let socket = tls::connect(address, "h2").await.unwrap();
    let mut raw = RawHttp2::over(socket).await;
    raw.write(frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &get(address, "/live/demo/mjpeg"),
    ))
    .await;
    raw.next_of(DATA).await.unwrap();
    let mut idle = RawHttp2::over(tls::connect(address, "h2").await.unwrap()).await;
    idle.ping().await.unwrap();

    let began = Instant::now();
    gateway.signal(Signal::TERM);
    let (watched, idle) = (read_to_end(&mut raw).await, read_to_end(&mut idle).await);
    for frames in [&watched, &idle] {
        let word = frames
            .iter()
            .find(|frame| frame.kind == GOAWAY)
            .expect("no GOAWAY");
        assert_eq!(word.error_code(), 0);
        assert!(
            frames.iter().all(|frame| frame.kind != RST_STREAM),
            "{frames:?}"
        );
    }
    let last = watched
        .iter()
        .rfind(|frame| frame.kind == DATA)
        .expect("no end of the body");
    assert_ne!(last.flags & END_STREAM, 0, "the body was cut off");
    let status = within("the end of the process", gateway.child.wait())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

/// Reads to the end and answers pings: before it closes, the server sends a PING to know that its GOAWAY has arrived
/// (RFC 9113 section 6.8).
async fn read_to_end<S: AsyncRead + AsyncWrite + Unpin>(raw: &mut RawHttp2<S>) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Ok(next) = raw.next().await {
        if next.kind == PING {
            raw.write(frame(PING, ACK, 0, &next.payload)).await;
        }
        frames.push(next);
    }
    frames
}

/// Expected end of a flood.
#[derive(Debug, PartialEq)]
enum FloodEnd {
    /// The gateway closes the connection without a GOAWAY.
    Closed,
    /// The gateway closes the connection with this error code (RFC 9113 section 7).
    Goaway(u32),
    /// The connection is served at a limited rate.
    Limited,
}

/// Frames that a client may send without end, and how that ends.
struct Flood {
    what: &'static str,
    first: Vec<u8>,
    /// Returns the bytes of the `nth` repetition.
    then: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    ends: FloodEnd,
}

fn floods(address: SocketAddr) -> Vec<Flood> {
    let request = get(address, "/api/devices");
    let flood = |what, first, ends, then: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>| Flood {
        what,
        first,
        then,
        ends,
    };
    let open = frame(HEADERS, END_HEADERS, 1, &request);
    let begun = frame(HEADERS, 0, 1, &request);
    let large = block(&[("x-large", &"x".repeat(4000))]);
    // A name and value of 4 KB enter the table once and are then referenced by one byte each time (RFC 7541 section
    // 6.1).
    let mut bomb = vec![0x40];
    bomb.extend(&block(&[("x-bomb", &"x".repeat(3900))])[1..]);
    bomb.extend(std::iter::repeat_n(0xbe, 16_000 - bomb.len()));
    let bomb = [&request[..], &bomb].concat();
    let reset = request.clone();
    let asked = request.clone();
    vec![
        flood(
            "requests taken back at once",
            vec![],
            FloodEnd::Goaway(ENHANCE_YOUR_CALM),
            Box::new(move |nth| {
                let stream = 2 * nth + 1;
                [
                    frame(HEADERS, END_HEADERS | END_STREAM, stream, &reset),
                    frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()),
                ]
                .concat()
            }),
        ),
        flood(
            "continuations without end",
            begun.clone(),
            FloodEnd::Goaway(ENHANCE_YOUR_CALM),
            Box::new(move |_| frame(CONTINUATION, 0, 1, &large)),
        ),
        flood(
            "empty continuations",
            begun,
            FloodEnd::Goaway(ENHANCE_YOUR_CALM),
            Box::new(|_| frame(CONTINUATION, 0, 1, &[])),
        ),
        flood(
            "requests with a bomb in them",
            vec![],
            FloodEnd::Goaway(ENHANCE_YOUR_CALM),
            Box::new(move |nth| frame(HEADERS, END_HEADERS | END_STREAM, 2 * nth + 1, &bomb)),
        ),
        flood(
            "empty data",
            open.clone(),
            FloodEnd::Goaway(ENHANCE_YOUR_CALM),
            Box::new(|_| frame(DATA, 0, 1, &[])),
        ),
        flood(
            "padded data",
            open,
            FloodEnd::Goaway(ENHANCE_YOUR_CALM),
            Box::new(|_| frame(DATA, 8, 1, &[0])),
        ),
        flood(
            "settings",
            vec![],
            FloodEnd::Limited,
            Box::new(|_| frame(SETTINGS, 0, 0, &[])),
        ),
        flood(
            "pings",
            vec![],
            FloodEnd::Limited,
            Box::new(|nth| frame(PING, 0, 0, &u64::from(nth).to_be_bytes())),
        ),
        flood(
            "priorities",
            vec![],
            FloodEnd::Limited,
            Box::new(|nth| frame(2, 0, 2 * nth + 1, &[0, 0, 0, 0, 7])),
        ),
        flood(
            "frames of an unknown type",
            vec![],
            FloodEnd::Limited,
            Box::new(|_| frame(0xbb, 0, 0, &[])),
        ),
        flood(
            "windows",
            vec![],
            FloodEnd::Goaway(3),
            Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes())),
        ),
        flood(
            "a huge frame",
            vec![],
            FloodEnd::Goaway(6),
            Box::new(|_| frame(DATA, 0, 1, &[0; 20_000])),
        ),
        flood(
            "more requests than it answers",
            vec![],
            FloodEnd::Goaway(ENHANCE_YOUR_CALM),
            Box::new(move |nth| frame(HEADERS, END_HEADERS | END_STREAM, 2 * nth + 1, &asked)),
        ),
    ]
}

/// Runs a flood for at most this time; returns how it ended.
async fn run(flood: Flood, address: SocketAddr, most: Duration) -> FloodEnd {
    let (mut input, mut output) = RawHttp2::connect(address).await.split();
    let reading = tokio::spawn(async move { input.end().await });
    let writing = async {
        output.write_all(&flood.first).await?;
        let mut nth = 0;
        loop {
            let mut batch = Vec::new();
            while batch.len() < 8192 {
                batch.extend((flood.then)(nth));
                nth += 1;
            }
            output.write_all(&batch).await?;
        }
        #[allow(unreachable_code)]
        std::io::Result::Ok(())
    };
    if timeout(most, writing).await.is_err() {
        reading.abort();
        return FloodEnd::Limited;
    }
    let code = within(flood.what, reading).await.unwrap();
    code.map_or(FloodEnd::Closed, FloodEnd::Goaway)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_ended_or_limited_and_others_go_on() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let address = gateway.address;
    let mut viewer = Watcher::open(address, "/live/cam/nal", clip).await;
    camera.show(&mut viewer).await;
    let (memory, files) = (gateway.memory(), gateway.files());
    for flood in floods(address) {
        let (what, wanted) = (flood.what, format!("{:?}", flood.ends));
        let (cpu, began) = (gateway.cpu(), Instant::now());
        let running = tokio::spawn(run(flood, address, Duration::from_secs(1)));
        let mut slowest = Duration::ZERO;
        while !running.is_finished() {
            let began = Instant::now();
            camera.show(&mut viewer).await;
            slowest = slowest.max(began.elapsed());
        }
        let ended = running.await.unwrap();
        let took = began.elapsed();
        let share = (gateway.cpu() - cpu).as_secs_f64() / took.as_secs_f64();
        // If the client is slow to read the answers queued before it, the GOAWAY may not be sent before the connection
        // ends.
        let unheard = what == "more requests than it answers" && matches!(ended, FloodEnd::Closed);
        assert!(
            unheard || format!("{ended:?}") == wanted,
            "{what}: {ended:?}"
        );
        // A flood that ends at once is too short for a measurement of its cost.
        assert!(
            took < Duration::from_millis(900) || share < 0.5,
            "{what}: {share:.2} of a processor"
        );
        assert!(slowest < Duration::from_secs(1), "{what}: {slowest:?}");
        let grown = gateway.memory().saturating_sub(memory);
        assert!(grown < 48 << 20, "{what}: {grown} bytes more");
    }
    camera.show(&mut viewer).await;
    let began = Instant::now();
    while gateway.files() > files {
        assert!(
            began.elapsed() < PATIENCE,
            "{} files are open, {files} before",
            gateway.files()
        );
        tokio::task::yield_now().await;
    }
}
