//! Content served by a component is not a page of the gateway: every response tells browsers so, whatever it contains.

use sluicegate_tests::{Gateway, client::request, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CONTAINED: &str =
    "content-security-policy: sandbox; default-src 'none'; frame-ancestors 'self'\r\n";

fn config() -> String {
    let plugin = Gateway::component("hostile");
    let transport = |name: &str, more: &str| {
        format!(
            "[transports.{name}]\nplugin = {plugin:?}\n{more}\n",
            plugin = plugin.display().to_string()
        )
    };
    [
        "[streams.demo]\nsource = \"test-pattern\"\n".to_owned(),
        transport("page", "in = \"request\"\ndo = \"page\""),
        transport("nonsense", "in = \"request\"\ndo = \"nonsense\""),
        transport("trap", "in = \"request\"\ndo = \"trap\""),
        transport("trusted", "in = \"request\"\ndo = \"page\"\ntrusted = true"),
    ]
    .concat()
}

#[tokio::test]
async fn every_answer_of_a_component_is_contained_and_never_guessed_at() {
    let gateway = Gateway::with_config(&config()).await;
    for (path, status) in [
        ("/live/demo/page/page.html", 200),
        ("/live/demo/page/page.svg", 200),
        ("/live/demo/page/nothing", 404),
        ("/live/demo/nonsense/x", 500),
        ("/live/demo/trap/x", 503),
        ("/live/demo/hls/index.m3u8", 200),
        ("/live/demo/hls/nothing", 404),
        ("/live/demo/nal", 426),
        ("/live/demo/none", 404),
        ("/api/ws/stream/demo", 426),
    ] {
        for method in ["GET", "HEAD"] {
            let asked = request(gateway.address, method, path, &[]);
            let (found, head, _) = within(path, asked).await.unwrap();
            // The instance that trapped may still be under repair.
            assert_eq!(found, status, "{method} {path}: {head}");
            must_be_contained(path, &head);
        }
    }
    // Endless responses have the header, too.
    for path in ["/live/demo/mjpeg", "/live/demo/mse"] {
        let mut socket = TcpStream::connect(gateway.address).await.unwrap();
        let asked = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.address);
        socket.write_all(asked.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(path, socket.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains(" 200 "), "{head}");
        must_be_contained(path, &head);
        let (_, head, _) = within(path, request(gateway.address, "HEAD", path, &[]))
            .await
            .unwrap();
        must_be_contained(path, &head);
    }
}

#[tokio::test]
async fn a_component_sets_no_header_that_is_not_its_business() {
    let gateway = Gateway::with_config(&config()).await;
    let path = "/live/demo/nonsense/x";
    let (_, head, _) = request(gateway.address, "GET", path, &[]).await.unwrap();
    assert!(head.contains("content-language: en\r\n"), "{head}");
    must_be_contained(path, &head);
    for foreign in ["cookie", "accel", "etag", "location", "evil"] {
        assert!(!head.to_lowercase().contains(foreign), "{foreign}: {head}");
    }
    gateway
        .logged("headers of a response are left out, as a component may not set them")
        .await;
}

#[tokio::test]
async fn a_trusted_component_may_run_scripts_but_is_never_a_service_worker() {
    let gateway = Gateway::with_config(&config()).await;
    let path = "/live/demo/trusted/page.html";
    let (_, head, _) = request(gateway.address, "GET", path, &[]).await.unwrap();
    let policy = "content-security-policy: sandbox allow-scripts allow-same-origin; default-src 'self' 'unsafe-inline' blob: data:; frame-ancestors 'self'\r\n";
    assert!(head.contains(policy), "{head}");
    assert!(head.contains("x-content-type-options: nosniff"), "{head}");
    for path in [
        "/live/demo/trusted/worker.js",
        "/%6Cive/demo/trusted/worker.js",
        "/live/demo/page/worker.js",
        "/live/demo/hls/index.m3u8",
        "/live/demo/frame.jpg",
        "/live/demo",
    ] {
        let headers = [("Service-Worker", "script")];
        let asked = request(gateway.address, "GET", path, &headers);
        let (status, _, body) = within(path, asked).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(status, 403, "{path}: {body}");
        assert!(body.contains("service worker"), "{path}: {body}");
    }
    let (status, _, _) = request(gateway.address, "GET", "/live/demo/trusted/worker.js", &[])
        .await
        .unwrap();
    assert_eq!(status, 200);
}

fn must_be_contained(path: &str, head: &str) {
    let head = format!("{head}\r\n");
    assert!(head.contains(CONTAINED), "{path}: {head}");
    assert_eq!(
        head.matches("content-security-policy").count(),
        1,
        "{path}: {head}"
    );
    assert!(
        head.contains("x-content-type-options: nosniff\r\n"),
        "{path}: {head}"
    );
}
