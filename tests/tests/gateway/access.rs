//! The one table of routes, asked over the wire: who may, from where, and how.

use sluicegate::{api::ROUTES, auth::Role};
use sluicegate_tests::{Gateway, Raw, client::request, http_get, raw::handshake, within};

const FOREIGN: &str = "http://evil.example";

/// A path of each route, with its method and role.
fn paths() -> Vec<(String, String, Role)> {
    let path = |pattern: &str| {
        pattern
            .replace("{stream}", "demo")
            .replace("{serial}", "demo")
            .replace("{transport}", "mjpeg")
            .replace("{name}", "no-such-file.js")
            .replace("{id}", "nobody")
            .replace("{*rest}", "no/such/thing")
    };
    ROUTES
        .iter()
        .map(|route| (route.method.to_string(), path(route.pattern), route.role))
        .collect()
}

#[tokio::test]
async fn every_route_refuses_other_host_names_and_pages_of_other_sites() {
    let gateway = Gateway::serve(&[]).await;
    let address = gateway.address;
    for (method, path, _) in paths() {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "192.168.7.7:8080",
            "\"",
            "",
        ] {
            let methods = match method.as_str() {
                "GET" => &["GET", "HEAD"][..],
                _ => &["POST"],
            };
            for method in methods {
                let headers = [("Host", host)];
                let refused = within(&path, request(address, method, &path, &headers)).await;
                assert_eq!(refused.unwrap().0, 421, "{method} {path} of host {host:?}");
            }
        }
        for origin in [FOREIGN, "null", "http://127.0.0.1:1", ""] {
            let refused = within(
                &path,
                request(address, &method, &path, &[("Origin", origin)]),
            )
            .await;
            let (status, head, body) = refused.unwrap();
            let body = String::from_utf8(body).unwrap();
            assert_eq!(status, 403, "{path} for {origin:?}: {body}");
            assert!(
                body.contains("add it to `origins` under [server]"),
                "{path}: {body}"
            );
            assert!(
                !head.to_ascii_lowercase().contains("access-control"),
                "{path}: {head}"
            );
        }
    }
    // Without a name at all, as HTTP/1.0 allows.
    let mut raw = Raw::connect(address).await;
    raw.write("GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw.head().await.unwrap().status, 421);
}

#[tokio::test]
async fn a_websocket_of_another_site_is_refused() {
    let gateway = Gateway::serve(&[]).await;
    for path in [
        "/live/demo/nal",
        "/api/ws/stream/demo",
        "/api/ws/capture/demo",
        "/api/sessions/nobody",
    ] {
        for (field, status) in [
            (format!("Origin: {FOREIGN}"), 403),
            ("Host: evil.example".into(), 421),
        ] {
            let mut raw = Raw::connect(gateway.address).await;
            let good = handshake(gateway.address, path);
            let host = format!("Host: {}", gateway.address);
            let own = if status == 421 {
                good.replace(&host, &field)
            } else {
                good.replace(&host, &format!("{host}\r\n{field}"))
            };
            raw.write(own).await;
            assert_eq!(raw.head().await.unwrap().status, status, "{path}, {field}");
        }
    }
}

#[tokio::test]
async fn every_route_answers_head_without_a_body_and_names_its_methods() {
    let gateway = Gateway::serve(&[]).await;
    for (own, path, _) in paths() {
        let (status, head, body) = within(&path, request(gateway.address, "HEAD", &path, &[]))
            .await
            .unwrap();
        assert!(body.is_empty(), "{path}: {body:?}");
        let fine = match path.as_str() {
            // What is asked for below them does not exist.
            "/assets/no-such-file.js"
            | "/live/demo/mjpeg/no/such/thing"
            | "/api/sessions/nobody" => status == 404,
            // To what it can play.
            "/live/demo" => status == 307,
            "/api/ws/stream/demo" | "/api/ws/capture/demo" => status == 426,
            _ if own == "POST" => status == 405,
            _ => status == 200,
        };
        assert!(fine, "{path}: {head}");
        let allow = match own.as_str() {
            "POST" => "allow: post\r\n",
            _ => "allow: get, head\r\n",
        };
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            if method == own {
                continue;
            }
            let (status, head, _) = within(&path, request(gateway.address, method, &path, &[]))
                .await
                .unwrap();
            assert_eq!(status, 405, "{method} {path}: {head}");
            assert!(
                head.to_ascii_lowercase().contains(allow),
                "{method} {path}: {head}"
            );
        }
    }
}

#[tokio::test]
async fn a_site_that_is_listed_may_embed_and_is_named_exactly() {
    let gateway = Gateway::with_config(
        "[server]\norigins = [\"https://pets.example\"]\nnames = [\"cam.home.example\"]\n[streams.demo]\nsource = \"test-pattern\"\n",
    )
    .await;
    for (method, path, role) in paths()
        .into_iter()
        // These go on for ever.
        .filter(|(_, path, _)| !path.contains("mjpeg") && path != "/api/events")
    {
        let headers = [
            ("Host", "cam.home.example"),
            ("Origin", "https://pets.example"),
        ];
        let asked = request(gateway.address, &method, &path, &headers);
        let (status, head, _) = within(&path, asked).await.unwrap();
        if role == Role::Admin {
            assert_eq!(status, 403, "only by a loopback name: {path}");
            continue;
        }
        let head = head.to_ascii_lowercase();
        assert!(!matches!(status, 403 | 421), "{path}: {head}");
        assert!(
            head.contains("access-control-allow-origin: https://pets.example\r\n"),
            "{path}: {head}"
        );
        assert!(
            !head.contains("access-control-allow-credentials"),
            "{path}: {head}"
        );
        let foreign = [("Origin", FOREIGN)];
        let asked = request(gateway.address, &method, &path, &foreign);
        assert_eq!(within(&path, asked).await.unwrap().0, 403, "{path}");
    }
}

#[tokio::test]
async fn a_proxy_on_this_machine_makes_nobody_an_administrator() {
    let demo = "[streams.demo]\nsource = \"test-pattern\"\n";
    let unknown = Gateway::with_config(demo).await;
    let trusted = format!("[server]\ntrusted-proxies = [\"127.0.0.1\"]\n{demo}");
    let trusted = Gateway::with_config(&trusted).await;
    for (headers, by_unknown, by_trusted) in [
        (&[][..], 200, 200),
        (&[("X-Forwarded-For", "192.0.2.1")], 403, 403),
        (&[("X-Forwarded-For", "127.0.0.1")], 403, 200),
        (&[("X-Forwarded-For", "127.0.0.1, 192.0.2.1")], 403, 403),
        (&[("X-Forwarded-For", "192.0.2.1, 127.0.0.1")], 403, 403),
        (&[("Forwarded", "for=\"[::1]:4711\";proto=http")], 403, 200),
        (&[("Forwarded", "for=unknown")], 403, 403),
        (
            &[
                ("Forwarded", "for=127.0.0.1"),
                ("X-Forwarded-For", "192.0.2.1"),
            ],
            403,
            403,
        ),
        (&[("Via", "1.1 proxy")], 403, 403),
    ] {
        for (gateway, status) in [(&unknown, by_unknown), (&trusted, by_trusted)] {
            let asked = http_get(gateway.address, "/api/plugins", headers)
                .await
                .unwrap();
            assert_eq!(asked.0, status, "{headers:?}: {}", asked.1);
            // Watching is for everybody.
            let asked = http_get(gateway.address, "/api/devices", headers)
                .await
                .unwrap();
            assert_eq!(asked.0, 200, "{headers:?}: {}", asked.1);
        }
    }
    // What the browser spoke, as the proxy tells it, decides which page is our own.
    let told = |proto| {
        [
            ("Forwarded", proto),
            ("Origin", "http://cam.example"),
            ("Host", "cam.example"),
        ]
    };
    let config =
        format!("[server]\nnames = [\"cam.example\"]\ntrusted-proxies = [\"127.0.0.0/8\"]\n{demo}");
    let named = Gateway::with_config(&config).await;
    for (headers, status) in [
        (told("for=192.0.2.1;proto=https"), 403),
        (told("for=192.0.2.1;proto=http"), 200),
    ] {
        let asked = http_get(named.address, "/api/devices", &headers)
            .await
            .unwrap();
        assert_eq!(asked.0, status, "{headers:?}");
    }
}
