//! TLS: certificates that are generated, kept, loaded, exchanged and refused; every kind of viewer over TLS; a clean
//! end.

use rustix::process::Signal;
use sluicegate_tests::{
    Camera, Gateway, Nal, PATIENCE, Raw, Watcher,
    camera::{self, COUNT},
    command::{config_file, sluicegate},
    scratch,
    tls::{self, Pair, run},
    within,
};
use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// Small frames, so that the tests need not wait for their encoder.
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";
const SELF_SIGNED: &str = "[server]\ntls = \"self-signed\"\nnames = [\"cam.home.example\"]\n";

/// Waits until new clients are shown a certificate other than `old`; returns it.
async fn another(address: SocketAddr, old: &[u8]) -> Vec<u8> {
    let began = Instant::now();
    loop {
        let shown = shown(address).await;
        if shown != old {
            return shown;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the old certificate is still shown"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn shown(address: SocketAddr) -> Vec<u8> {
    let stream = tls::connect(address, "http/1.1").await.unwrap();
    tls::certificate(&stream).to_vec()
}

async fn nal(address: SocketAddr, path: &str) -> Nal<TlsStream<TcpStream>> {
    let stream = tls::connect(address, "http/1.1").await.unwrap();
    let url = format!("wss://localhost:{}{path}", address.port());
    within("the handshake", Nal::over(stream, &url))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_certificate_is_made_kept_and_trusted_by_real_clients_for_its_names() {
    let gateway = Gateway::with_config(&format!("{SELF_SIGNED}{DEMO}")).await;
    let port = gateway.address.port();
    let made = gateway.logged("created a certificate, saved in ").await;
    let file = made.split("saved in ").nth(1).unwrap();
    for name in ["localhost", "127.0.0.1", "cam.home.example"] {
        let resolve = format!("{name}:{port}:127.0.0.1");
        let url = format!("https://{name}:{port}/healthz");
        for version in ["--http1.1", "--http2", "--tls-max"] {
            let version: &[&str] = match version {
                "--tls-max" => &["--tls-max", "1.2"],
                version => &[version],
            };
            let arguments = [
                version,
                &["-sS", "--cacert", file, "--resolve", &resolve, &url],
            ]
            .concat();
            let (good, text) = run("curl", &arguments).await;
            assert!(good && text.contains("\"ok\""), "{arguments:?}: {text}");
        }
    }
    let other = format!("other.example:{port}:127.0.0.1");
    let url = format!("https://other.example:{port}/healthz");
    let (good, text) = run(
        "curl",
        &["-sS", "--cacert", file, "--resolve", &other, &url],
    )
    .await;
    assert!(
        !good && text.contains("no alternative certificate"),
        "{text}"
    );

    let to = gateway.address.to_string();
    let (good, text) = run(
        "sh",
        &[
            "-c",
            &format!("openssl s_client -connect {to} -alpn h2 -CAfile {file} -verify_return_error -verify_hostname localhost </dev/null"),
        ],
    )
    .await;
    assert!(good && text.contains("Verify return code: 0"), "{text}");
    assert!(text.contains("ALPN protocol: h2"), "{text}");

    let (_, text) = run(
        "openssl",
        &["x509", "-in", file, "-noout", "-fingerprint", "-sha256"],
    )
    .await;
    let fingerprint = text.trim().split('=').nth(1).unwrap();
    gateway
        .logged(&format!("certificate in use: SHA-256 {fingerprint}"))
        .await;

    let again = Gateway::with_config(&format!("{SELF_SIGNED}{DEMO}")).await;
    again
        .logged(&format!("certificate in use: SHA-256 {fingerprint}"))
        .await;
    let names = SELF_SIGNED.replace("cam.home", "door.home");
    let other = Gateway::with_config(&format!("{names}{DEMO}")).await;
    let line = other.logged("certificate in use: SHA-256").await;
    assert!(!line.contains(fingerprint), "{line}");
}

#[tokio::test]
async fn plain_http_on_the_tls_port_is_refused_with_advice() {
    let gateway = Gateway::with_config(&format!("{SELF_SIGNED}{DEMO}")).await;
    let url = format!("http://{}/", gateway.address);
    let (good, text) = run("curl", &["-sS", "-i", &url]).await;
    assert!(good && text.starts_with("HTTP/1.1 400 "), "{text}");
    assert!(text.contains("write https://"), "{text}");
    // A body after the head does not reset the connection before the answer was read.
    let mut raw = Raw::connect(gateway.address).await;
    raw.write("POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n")
        .await;
    raw.write(vec![b'x'; 9000]).await;
    assert_eq!(raw.head().await.unwrap().status, 400);
    assert!(raw.end().await.unwrap().ends_with(b"http://\n"));
    // Bytes that are neither TLS nor HTTP are disconnected, and other clients are served.
    let mut raw = Raw::connect(gateway.address).await;
    raw.write([22, 3, 1, 0, 5, 1, 2, 3, 4, 5]).await;
    let _ = raw.end().await;
    let mut viewer = nal(gateway.address, "/live/demo/nal").await;
    within("a frame", viewer.next_unit()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_frame_before_a_silence_passes_tls_and_a_plain_http_page_does_not() {
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&format!("{SELF_SIGNED}{}", camera.config())).await;
    let mut plain_origin = tls::connect(gateway.address, "http/1.1").await.unwrap();
    let port = gateway.address.port();
    let request = format!(
        "GET /api/devices HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: http://localhost:{port}\r\nConnection: close\r\n\r\n"
    );
    plain_origin.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("the answer", plain_origin.read_to_string(&mut answer))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");

    let viewer = nal(gateway.address, "/live/cam/nal").await;
    let mut watcher = Watcher::new(viewer, "wss".into(), clip);
    // Each frame is followed by nothing until it has arrived.
    for _ in 0..COUNT {
        camera.show(&mut watcher).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_viewer_that_stops_reading_jumps_later_and_others_miss_nothing() {
    let clip = Box::leak(Box::new(camera::clip().with_filler(256 << 10)));
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&format!("{SELF_SIGNED}{}", camera.config())).await;
    let mut slow = nal(gateway.address, "/live/cam/nal").await;
    let mut other = Watcher::new(
        nal(gateway.address, "/live/cam/nal").await,
        "wss".into(),
        clip,
    );
    let began = Instant::now();
    let mut shown = 0;
    while shown < 300 || began.elapsed() < Duration::from_secs(3) {
        camera.show_at_once(&mut other).await;
        shown += 1;
    }
    assert!(gateway.memory() < 400 << 20, "{}", gateway.memory());
    let mut places = Vec::new();
    while places.last() != Some(&camera.newest()) {
        let unit = within("a frame", slow.next_unit()).await.unwrap();
        places.push(clip.place(&unit.data));
    }
    assert!(
        places.len() < shown / 2,
        "{} of {shown} were kept for it",
        places.len()
    );
    let jumps = places
        .windows(2)
        .filter(|two| two[1] != (two[0] + 1) % COUNT)
        .count();
    assert_eq!(jumps, 1, "{places:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_is_taken_and_a_wrong_one_is_not_while_viewers_go_on() {
    let clip = camera::clip();
    let pair = Pair::new().await;
    let mut camera = Camera::new(clip).await;
    let config = format!("{}{}", pair.config(), camera.config());
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let first = shown(address).await;
    let mut watcher = Watcher::new(nal(address, "/live/cam/nal").await, "wss".into(), clip);
    camera.show(&mut watcher).await;

    // The certificate is half written, then complete but of another key, and only then the key follows.
    let (key, certificate) = Pair::make(&scratch("new")).await;
    let whole = fs::read(&certificate).unwrap();
    fs::write(pair.certificate(), &whole[..whole.len() / 2]).unwrap();
    let line = gateway.logged("cert.pem is incomplete").await;
    assert!(
        line.contains("ERROR the previous certificate stays in use"),
        "{line}"
    );
    assert_eq!(shown(address).await, first);
    camera.show(&mut watcher).await;

    fs::write(pair.certificate(), &whole).unwrap();
    gateway.logged("does not belong to the certificate").await;
    assert_eq!(shown(address).await, first);
    camera.show(&mut watcher).await;

    fs::rename(key, pair.key()).unwrap();
    let second = another(address, &first).await;
    gateway.logged("a new certificate is in use, SHA-256").await;
    camera.show(&mut watcher).await;

    fs::remove_file(pair.key()).unwrap();
    gateway.logged("cannot read").await;
    assert_eq!(shown(address).await, second);
    camera.show(&mut watcher).await;

    pair.renew().await;
    another(address, &second).await;
    camera.show(&mut watcher).await;
    let log = gateway.log.lock().unwrap();
    let lines = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(lines("is incomplete"), 1, "{log:#?}");
    assert_eq!(lines("a new certificate is in use"), 2, "{log:#?}");
    // The watcher may also see the moment in which the key is written before its certificate.
    assert!((3..=4).contains(&lines("stays in use")), "{log:#?}");
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_stops_the_start_and_check_finds_it() {
    let pair = Pair::new().await;
    let other = Pair::new().await;
    let good = fs::read(pair.certificate()).unwrap();
    let own_key = fs::read(pair.key()).unwrap();
    let foreign_key = fs::read(other.key()).unwrap();
    let half = good.len() / 2;
    for (certificate, key, parts) in [
        (
            &good[..],
            Some(&foreign_key[..]),
            &["does not belong to the certificate in", "cert.pem"][..],
        ),
        (&good[..half], Some(&own_key), &["cert.pem is incomplete"]),
        (
            b"",
            Some(&own_key),
            &["cert.pem has no certificate", "BEGIN CERTIFICATE"],
        ),
        (&good, Some(&good), &["key.pem has no private key"]),
        (
            &good,
            Some(&own_key[..own_key.len() - 40]),
            &["key.pem is incomplete"],
        ),
        (&good, None, &["cannot read", "key.pem", "No such file"]),
        (&own_key, Some(&own_key), &["cert.pem has no certificate"]),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            Some(&own_key),
            &["cert.pem has a certificate that cannot be used"],
        ),
        (
            &good,
            Some(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            &["key.pem has a key that cannot be used"],
        ),
    ] {
        fs::write(pair.certificate(), certificate).unwrap();
        match key {
            Some(key) => fs::write(pair.key(), key).unwrap(),
            None => fs::remove_file(pair.key()).unwrap(),
        }
        let file = config_file(&format!("{}{DEMO}", pair.config()));
        let file = file.to_str().unwrap();
        let parts = [&["`tls` under [server]"], parts].concat();
        sluicegate(&["check", file]).await.refused(&parts);
        sluicegate(&["serve", "--listen", "127.0.0.1:0", "--config", file])
            .await
            .refused(&parts);
    }
    // Relative to the config file.
    let dir = scratch("relative");
    Pair::make(&dir).await;
    let config =
        format!("[server]\ntls = {{ certificate = \"cert.pem\", key = \"key.pem\" }}\n{DEMO}");
    fs::write(dir.join("sluice.toml"), config).unwrap();
    let checked = sluicegate(&["check", dir.join("sluice.toml").to_str().unwrap()]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_every_connection_by_its_protocol_and_by_close_notify() {
    let mut gateway = Gateway::with_config(&format!("{SELF_SIGNED}{DEMO}")).await;
    let address = gateway.address;
    let mut viewer = nal(address, "/live/demo/nal").await;
    within("a frame", viewer.next_unit()).await.unwrap();
    let mut mjpeg = tls::connect(address, "http/1.1").await.unwrap();
    let request = format!("GET /live/demo/mjpeg HTTP/1.1\r\nHost: {address}\r\n\r\n");
    mjpeg.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 4096];
    within("a frame", mjpeg.read_exact(&mut start))
        .await
        .unwrap();
    let mut idle = tls::connect(address, "http/1.1").await.unwrap();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    idle.write_all(request.as_bytes()).await.unwrap();
    within("an answer", idle.read(&mut start)).await.unwrap();
    // One connection that has sent nothing, and one in the middle of its handshake.
    let silent = TcpStream::connect(address).await.unwrap();
    let mut greeting = Raw::connect(address).await;
    greeting.write([22, 3, 1]).await;
    // And connections with requests sent before the signal that the gateway has not read when it arrives.
    let mut late = Vec::new();
    for _ in 0..50 {
        late.push(tls::connect(address, "http/1.1").await.unwrap());
    }

    let began = Instant::now();
    gateway.signal(Signal::STOP);
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    for asking in &mut late {
        asking.write_all(request.as_bytes()).await.unwrap();
    }
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    for asking in &mut late {
        let mut answer = String::new();
        within("an answer", asking.read_to_string(&mut answer))
            .await
            .unwrap();
        let answered = ["HTTP/1.1 200 ", "HTTP/1.1 503 "];
        assert!(
            answered.iter().any(|head| answer.starts_with(head)),
            "{answer:?}"
        );
    }
    let close = within("the close frame", viewer.closed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(u16::from(close.code), 1001);
    // rustls reports an end without close_notify as an error.
    let mut rest = Vec::new();
    within("the end", mjpeg.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(
        rest.ends_with(b"\r\n0\r\n\r\n"),
        "the body has no last chunk"
    );
    rest.clear();
    within("the end", idle.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.is_empty());
    let mut socket = viewer.socket.into_inner();
    within("the end", socket.shutdown()).await.unwrap();
    within("the end", socket.read_to_end(&mut rest))
        .await
        .unwrap();
    let status = within("the end of the process", gateway.child.wait())
        .await
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop((silent, greeting));
}
