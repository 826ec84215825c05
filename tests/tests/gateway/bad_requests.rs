//! Clients that break the rules are told which rule, and the gateway keeps running.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Raw,
    client::request,
    raw::{handshake, masked},
    within,
};
use tokio::io::AsyncWriteExt;

/// Small frames, so that the tests need not wait for their encoder.
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";

#[tokio::test]
async fn a_wrong_request_is_refused_with_advice() {
    let gateway = Gateway::with_config(DEMO).await;
    let long = format!("/live/demo/{}", "x".repeat(3000));
    for (path, status, part) in [
        ("/live/demo/%zz", 400, "each % needs two hex digits"),
        ("/live/demo/%", 400, "malformed"),
        ("/live/%ff/nal", 400, "UTF-8"),
        ("/live/de%00mo/nal", 400, "control characters"),
        (&long, 400, "longer than 2048"),
        (
            "/live/dem/nal",
            404,
            "there is no stream `dem`; did you mean `demo`?",
        ),
        (
            "/live/garage/nal",
            404,
            "there is no stream `garage`; there are: demo",
        ),
        (
            "/live/demo/mjpg",
            404,
            "there is no transport `mjpg`; did you mean `mjpeg`?",
        ),
        (
            "/live/demo/webrtc",
            404,
            "there is no transport `webrtc`; there are: hls, mjpeg, mse, nal, webcodecs",
        ),
        ("/live/demo/nal", 426, "Connect with a WebSocket"),
        ("/live/demo/nal/x", 404, ""),
        ("/live/demo/mjpeg/x", 404, ""),
        ("/live/../etc/passwd", 400, "no segment may be . or .."),
        ("/live", 404, "streams are listed at /"),
        ("//", 404, ""),
        ("/api/nothing", 404, "{\"error\":"),
        ("/api/devices/dem", 404, "did you mean `demo`?"),
        ("/watch/", 404, ""),
    ] {
        let answer = within(path, request(gateway.address, "GET", path, &[])).await;
        let (found, head, body) = answer.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(found, status, "{path}: {head}\n{body}");
        assert!(body.contains(part), "{path}: {part:?} is not in {body:?}");
        assert!(body.len() < 400, "{path}: {body}");
        assert!(
            head.contains("x-content-type-options: nosniff"),
            "{path}: {head}"
        );
    }
    gateway.assert_serves("demo").await;
}

#[tokio::test]
async fn a_head_that_is_no_http_or_too_large_is_refused() {
    let gateway = Gateway::with_config(DEMO).await;
    let host = format!("Host: {}\r\n", gateway.address);
    let large = format!(
        "GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n",
        "x".repeat(40 << 10)
    );
    let endless = format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(200));
    for (bytes, statuses) in [
        (large, &[431][..]),
        (endless, &[414, 431]),
        (many, &[431]),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".into(), &[400]),
        ("GET  HTTP/1.1\r\n\r\n".into(), &[400]),
        (
            "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\r\n\r\n".into(),
            &[400],
        ),
        (
            format!(
                "GET / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
            ),
            &[200, 400],
        ),
        (format!("GET / HTTP/9.9\r\n{host}\r\n"), &[400, 505]),
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(&bytes).await;
        let shown: String = bytes.chars().take(60).collect();
        let head = within(&shown, raw.head()).await.unwrap();
        assert!(statuses.contains(&head.status), "{shown:?}: {}", head.text);
    }
    gateway.assert_serves("demo").await;
}

#[tokio::test]
async fn a_wrong_handshake_is_refused_with_advice() {
    let gateway = Gateway::with_config(DEMO).await;
    let good = handshake(gateway.address, "/live/demo/nal");
    for (from, to, status, part) in [
        (
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            "",
            400,
            "`Sec-WebSocket-Key` must be 16 bytes in base64",
        ),
        (
            "dGhlIHNhbXBsZSBub25jZQ==",
            "c2hvcnQ=",
            400,
            "`Sec-WebSocket-Key` must be 16 bytes in base64",
        ),
        ("Version: 13", "Version: 8", 426, "version 13"),
        ("Sec-WebSocket-Version: 13\r\n", "", 426, "version 13"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive",
            400,
            "`Connection: Upgrade`",
        ),
        ("HTTP/1.1", "HTTP/1.0", 400, "GET of HTTP/1.1"),
        (
            "/live/demo/nal",
            "/live/demo/mjpeg",
            400,
            "transport `mjpeg` is not available over websocket, only over http",
        ),
        (
            "/live/demo/nal",
            "/live/demo/nal/x",
            400,
            "this transport has nothing at \"x\"",
        ),
        (
            "/live/demo/nal",
            "/live/dem/nal",
            404,
            "did you mean `demo`?",
        ),
        (
            "Upgrade: websocket",
            "Upgrade: h2c",
            426,
            "Connect with a WebSocket",
        ),
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(good.replace(from, to)).await;
        let (head, body) = raw.response().await.unwrap();
        assert_eq!(head.status, status, "{from:?} → {to:?}: {body}");
        assert!(body.contains(part), "{from:?} → {to:?}: {body}");
        if part == "version 13" {
            assert_eq!(
                head.header("sec-websocket-version"),
                Some("13"),
                "RFC 6455 4.4"
            );
        }
    }
    // A browser hides that answer from a script.
    gateway
        .logged("refused a viewer; further ones for this reason are not logged: transport `mjpeg` is not available over")
        .await;
    gateway.assert_serves("demo").await;
}

#[tokio::test]
async fn a_frame_that_breaks_the_protocol_is_answered_with_its_code() {
    let gateway = Gateway::with_config(DEMO).await;
    let announced = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let pieces = [masked(0x01, &[b'x'; 40_000]), masked(0x80, &[b'x'; 40_000])].concat();
    for (what, bytes, code, part) in [
        ("not masked", vec![0x82, 0x01, 0x00], 1002, "masked"),
        ("reserved bits", masked(0xc2, b"x"), 1002, "reserved bits"),
        ("unknown opcode", masked(0x83, b"x"), 1002, "opcode"),
        (
            "continuation of nothing",
            masked(0x80, b"x"),
            1002,
            "continuation",
        ),
        (
            "control frame in pieces",
            masked(0x09, b"x"),
            1002,
            "control frame",
        ),
        (
            "long control frame",
            masked(0x89, &[0; 126]),
            1002,
            "control frame",
        ),
        (
            "close code that must not be sent",
            masked(0x88, &1005u16.to_be_bytes()),
            1002,
            "close code",
        ),
        (
            "text that is not UTF-8",
            masked(0x81, b"\xff\xfe"),
            1007,
            "UTF-8",
        ),
        ("a huge frame", masked(0x82, &[0; 70_000]), 1009, "65536"),
        ("a frame that is only announced", announced, 1009, "65536"),
        ("a huge message in pieces", pieces, 1009, "65536"),
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        let head = raw
            .upgrade(gateway.address, "/live/demo/nal")
            .await
            .unwrap();
        assert_eq!(head.status, 101);
        raw.write(&bytes).await;
        let (found, reason) = within(what, raw.closed()).await.unwrap();
        assert_eq!(found, code, "{what}: {reason}");
        assert!(reason.contains(part), "{what}: {reason}");
    }
    // Well-formed messages are accepted: `nal` has no use for them and ignores them.
    let mut raw = Raw::connect(gateway.address).await;
    raw.upgrade(gateway.address, "/live/demo/nal")
        .await
        .unwrap();
    raw.write(
        [
            masked(0x81, b"hello"),
            masked(0x82, &[7; 60_000]),
            masked(0x89, b"?"),
        ]
        .concat(),
    )
    .await;
    while within("the pong", raw.frame()).await.unwrap() != (10, "?".into()) {}
    raw.write(masked(0x88, &1000u16.to_be_bytes())).await;
    assert_eq!(within("the close", raw.closed()).await.unwrap().0, 1000);
    gateway.assert_serves("demo").await;
}

/// The connection is not reset: a reset can discard an answer that the client has not read yet, or end the client
/// before it reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_still_sending_gets_the_reason_for_the_close() {
    const MORE: usize = 4 << 20;
    let gateway = Gateway::with_config(DEMO).await;
    // The head of the oversized frame decides; the client sends the rest anyway.
    let huge = [&[0x82, 0xff][..], &(MORE as u64).to_be_bytes(), &[0; 4]].concat();
    for (path, first, code) in [
        ("/live/demo/nal", huge.clone(), 1009),
        ("/live/demo/nal", vec![0x82, 0x01, 0x00], 1002),
        ("/api/ws/capture/demo", huge, 1009),
        ("/api/ws/capture/demo", masked(0x82, b"x"), 1003),
        ("/live/demo/nal", masked(0x88, &1000u16.to_be_bytes()), 1000),
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        let head = raw.upgrade(gateway.address, path).await.unwrap();
        assert_eq!(head.status, 101);
        let all = [first, vec![0; MORE]].concat();
        let sent = within(path, raw.socket.write_all(&all)).await;
        assert!(sent.is_ok(), "{path}, {code}: {sent:?}");
        let (found, reason) = within(path, raw.closed()).await.unwrap();
        assert_eq!(found, code, "{path}: {reason}");
        assert!(raw.end().await.is_ok(), "{path}, {code}: a reset");
    }
    let large = format!(
        "POST /api/devices/demo/capture HTTP/1.1\r\nHost: {}\r\nContent-Length: {MORE}\r\n\r\n",
        gateway.address
    );
    let mut raw = Raw::connect(gateway.address).await;
    let sent = [large.into_bytes(), vec![b'x'; MORE]].concat();
    let sent = within("it is read", raw.socket.write_all(&sent)).await;
    assert!(sent.is_ok(), "{sent:?}");
    let (head, body) = within("an answer", raw.response()).await.unwrap();
    assert_eq!(head.status, 400, "{body}");
    gateway.assert_serves("demo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_say_nothing_or_vanish_leave_nothing_behind() {
    let gateway = Gateway::with_config(DEMO).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(Raw::connect(gateway.address).await);
    }
    for path in ["/live/demo/nal", "/live/demo/mjpeg"] {
        for _ in 0..10 {
            let mut raw = Raw::connect(gateway.address).await;
            raw.write(handshake(gateway.address, path)).await;
        }
    }
    gateway.assert_serves("demo").await;
    let nobody = |sessions: &Value| sessions["sessions"].as_array().unwrap().is_empty();
    gateway
        .api_until("/api/sessions", "they are gone", nobody)
        .await;
    drop(silent);
}
