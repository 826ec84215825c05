//! The table of routes, checked over the wire: which role may use each route, from which origin, and how.

use sluicegate::api::{ROUTES, Route, Subject};
use sluicegate_net::auth::Role;
use sluicegate_tests::{Gateway, Raw, client::request, http_get, raw::handshake, within};
use std::collections::{BTreeMap, BTreeSet};

const FOREIGN: &str = "http://evil.example";

/// Whether the route's answer is the same for everybody.
fn is_public(route: &Route) -> bool {
    route.role.is_none() && !is_own(route)
}

/// Whether the route is for the gateway's own pages only, whoever asks.
fn is_own(route: &Route) -> bool {
    matches!(route.subject, Subject::Account | Subject::SignIn)
}

/// A path of each route, with its method.
fn paths() -> Vec<(String, String, &'static Route)> {
    let path = |pattern: &str| {
        pattern
            .replace("{stream}", "demo")
            .replace("{serial}", "demo")
            .replace("{transport}", "mjpeg")
            .replace("{name}", "no-such-file.js")
            .replace("{id}", "nobody")
            .replace("{secret}", "nobody")
            .replace("{*rest}", "no/such/thing")
    };
    ROUTES
        .iter()
        .map(|route| (route.method.to_string(), path(route.pattern), route))
        .collect()
}

#[tokio::test]
async fn every_route_refuses_other_host_names_and_pages_of_other_sites() {
    let gateway = Gateway::serve(&[]).await;
    let address = gateway.address;
    for (method, path, route) in paths() {
        let beyond = format!("{address}/x");
        for (host, expected) in [
            ("evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("192.168.7.7:8080", 421),
            ("\"", 400),
            ("", 400),
            ("a, evil", 400),
            (&beyond, 400),
            ("[::1]evil", 400),
        ] {
            let methods = match method.as_str() {
                "GET" => &["GET", "HEAD", "OPTIONS"][..],
                _ => &["POST", "OPTIONS"],
            };
            for method in methods {
                let headers = [("Host", host)];
                let refused = within(&path, request(address, method, &path, &headers)).await;
                let status = refused.unwrap().0;
                assert_eq!(status, expected, "{method} {path} of host {host:?}");
            }
        }
        let own = address.to_string();
        let twice = [("Host", own.as_str()), ("Host", own.as_str())];
        let refused = within(&path, request(address, &method, &path, &twice)).await;
        assert_eq!(refused.unwrap().0, 400, "{path} of two hosts");
        for origin in [FOREIGN, "null", "http://127.0.0.1:1", ""] {
            let headers = [("Origin", origin), ("Sec-Fetch-Site", "cross-site")];
            // Browsers send the second header only to trustworthy addresses. Public files are refused only with both,
            // because without CORS another site cannot read them anyway.
            let said = if is_public(route) { 2 } else { 1 };
            // Frames with an opaque origin load modules, whose names are known only to those who know their content.
            if path.starts_with("/modules/") && origin == "null" {
                let asked = within(&path, request(address, &method, &path, &headers)).await;
                assert_eq!(asked.unwrap().0, 404, "{path}");
                continue;
            }
            let refused = within(&path, request(address, &method, &path, &headers[..said])).await;
            let (status, head, body) = refused.unwrap();
            let body = String::from_utf8(body).unwrap();
            assert_eq!(status, 403, "{path} for {origin:?}: {body}");
            assert!(
                body.contains("add it to `origins` under [server]"),
                "{path}: {body}"
            );
            let (_, head, _) = match is_public(route) {
                true => within(&path, request(address, &method, &path, &headers[..1]))
                    .await
                    .unwrap(),
                false => (status, head, Vec::new()),
            };
            assert!(
                !head.to_ascii_lowercase().contains("access-control"),
                "{path}: {head}"
            );
        }
    }
    // Requests without a host name, also for paths that do not exist.
    for (request, status) in [
        ("GET /healthz HTTP/1.0\r\n\r\n", 400),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400),
        ("GET http://localhost/healthz HTTP/1.1\r\n\r\n", 400),
        ("GET /nothing HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 204),
    ] {
        let mut raw = Raw::connect(address).await;
        raw.write(request).await;
        assert_eq!(raw.head().await.unwrap().status, status, "{request:?}");
    }
    // Each refusal is logged once with advice, however often it is repeated.
    let line = gateway.logged("the host name `evil.example`").await;
    assert!(line.contains("add it to `names` under [server]"), "{line}");
    let log = gateway.log.lock().unwrap();
    let of_origin = log.iter().filter(|line| line.contains(FOREIGN));
    assert_eq!(of_origin.count(), 1, "{log:#?}");
}

#[tokio::test]
async fn an_image_in_another_sites_page_starts_no_source() {
    let gateway = Gateway::with_config("[streams.demo]\nsource = \"test-pattern\"\n").await;
    let said = |site, mode, dest| {
        [
            ("Sec-Fetch-Site", site),
            ("Sec-Fetch-Mode", mode),
            ("Sec-Fetch-Dest", dest),
        ]
    };
    for path in [
        "/live/demo/frame.jpg",
        "/live/demo/mjpeg",
        "/live/demo/mse",
        "/live/demo/hls/index.m3u8",
        "/live/demo",
    ] {
        for headers in [
            said("cross-site", "no-cors", "image"),
            said("same-site", "no-cors", "video"),
            said("cross-site", "navigate", "iframe"),
        ] {
            let asked = http_get(gateway.address, path, &headers).await.unwrap();
            assert_eq!(asked.0, 403, "{path} {headers:?}");
            let body = String::from_utf8(asked.2).unwrap();
            assert!(body.contains("`origins` under [server]"), "{body}");
        }
    }
    let device = gateway.api("/api/devices/demo").await;
    assert_eq!(device["state"], "idle", "{device:#}");
    // Following a link is allowed.
    let link = said("cross-site", "navigate", "document");
    let asked = within(
        "a frame",
        http_get(gateway.address, "/live/demo/frame.jpg", &link),
    );
    assert_eq!(asked.await.unwrap().0, 200);
}

#[tokio::test]
async fn head_tells_the_length_that_get_would() {
    let gateway = Gateway::serve(&[]).await;
    for path in [
        "/",
        "/assets/player.js",
        "/healthz",
        "/api/openapi.json",
        "/api/devices/nobody",
        "/live/demo/none",
        "/live/demo",
        "/nothing",
        "/live/%zz",
    ] {
        let length = async |method| {
            let (_, head, body) = within(path, request(gateway.address, method, path, &[]))
                .await
                .unwrap();
            let head = head.to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "));
            (length.map(str::to_owned), body.len())
        };
        let (told, got) = length("GET").await;
        assert_eq!(told, Some(got.to_string()), "{path}");
        assert_eq!(length("HEAD").await, (told, 0), "{path}");
    }
    // Bodies of unknown length.
    for path in [
        "/live/demo/mjpeg",
        "/live/demo/mse",
        "/live/demo/frame.jpg",
        "/api/events",
    ] {
        let (status, head, body) = within(path, request(gateway.address, "HEAD", path, &[]))
            .await
            .unwrap();
        assert_eq!((status, body.len()), (200, 0), "{path}: {head}");
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("content-length"), "{path}: {head}");
    }
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
    let mut methods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (method, path, _) in paths() {
        methods.entry(path).or_default().insert(method);
    }
    for (path, own) in methods {
        let (status, head, body) = within(&path, request(gateway.address, "HEAD", &path, &[]))
            .await
            .unwrap();
        assert!(body.is_empty(), "{path}: {body:?}");
        let fine = match path.as_str() {
            // Files under it that do not exist.
            "/assets/no-such-file.js"
            | "/modules/no-such-file.js"
            // A transport that does not exist.
            | "/api/plugins/no-such-file.js/recording"
            // A transport without a half in the browser.
            | "/halves/demo/mjpeg"
            | "/docs/no/such/thing"
            | "/live/demo/mjpeg/no/such/thing"
            // A link that does not exist.
            | "/s/nobody"
            | "/api/sessions/nobody" => status == 404,
            // Redirects to what the client can play.
            "/live/demo" => status == 307,
            "/api/ws/stream/demo" | "/api/ws/capture/demo" => status == 426,
            _ if !own.contains("GET") => status == 405,
            _ => status == 200,
        };
        assert!(fine, "{path}: {head}");
        let (status, head, _) = within(&path, request(gateway.address, "OPTIONS", &path, &[]))
            .await
            .unwrap();
        let head = head.to_ascii_lowercase() + "\r\n";
        assert_eq!(status, 204, "{path}: {head}");
        assert!(!head.contains("access-control"), "{path}: {head}");
        let allow = head.lines().find_map(|line| line.strip_prefix("allow: "));
        let allow = allow.unwrap_or_else(|| panic!("{path}: {head}"));
        let allowed: BTreeSet<_> = allow.split(", ").map(str::to_uppercase).collect();
        let mut expected = own.clone();
        expected.insert("OPTIONS".into());
        if own.contains("GET") {
            expected.insert("HEAD".into());
        }
        assert_eq!(allowed, expected, "{path}");
        for method in ["GET", "POST", "PUT", "DELETE", "BREW"] {
            if own.contains(method) {
                continue;
            }
            let (status, head, _) = within(&path, request(gateway.address, method, &path, &[]))
                .await
                .unwrap();
            assert_eq!(status, 405, "{method} {path}: {head}");
            assert!(
                head.to_ascii_lowercase()
                    .contains(&format!("allow: {allow}\r\n")),
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
    for (method, path, route) in paths()
        .into_iter()
        // These responses never end.
        .filter(|(_, path, _)| !path.contains("mjpeg") && path != "/api/events")
    {
        let headers = [
            ("Host", "cam.home.example"),
            ("Origin", "https://pets.example"),
        ];
        let asked = request(gateway.address, &method, &path, &headers);
        let (status, head, _) = within(&path, asked).await.unwrap();
        if route.role == Some(Role::Admin) || is_own(route) {
            assert_eq!(status, 403, "only by a loopback name: {path}");
            // Not by a loopback name either: such a page may watch, but not administer.
            for method in [method.as_str(), "OPTIONS"] {
                let headers = [
                    ("Origin", "https://pets.example"),
                    ("Access-Control-Request-Method", "POST"),
                ];
                let asked = request(gateway.address, method, &path, &headers);
                let (status, head, body) = within(&path, asked).await.unwrap();
                let body = String::from_utf8_lossy(&body).into_owned();
                let head = head.to_ascii_lowercase();
                assert!(!head.contains("access-control"), "{method} {path}: {head}");
                if method != "OPTIONS" {
                    assert_eq!(status, 403, "{path}: {body}");
                    assert!(body.contains("may watch and capture"), "{body}");
                }
            }
            continue;
        }
        // A page may ask in a preflight whether it may POST JSON, and then do so.
        let preflight = [
            headers[0],
            headers[1],
            ("Access-Control-Request-Method", method.as_str()),
            ("Access-Control-Request-Headers", "content-type"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "cors"),
        ];
        let asked = request(gateway.address, "OPTIONS", &path, &preflight);
        let (answered, allowed, _) = within(&path, asked).await.unwrap();
        let allowed = allowed.to_ascii_lowercase() + "\r\n";
        assert_eq!(answered, 204, "{path}: {allowed}");
        let methods = match method.as_str() {
            "POST" => "access-control-allow-methods: post, options\r\n",
            _ => "access-control-allow-methods: get, head, options\r\n",
        };
        for part in [
            methods,
            "access-control-allow-origin: https://pets.example\r\n",
            "access-control-allow-headers: authorization, content-type, last-event-id\r\n",
        ] {
            assert!(allowed.contains(part), "{path}: {part:?} in {allowed}");
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
        let foreign = [("Origin", FOREIGN), ("Sec-Fetch-Site", "cross-site")];
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
    for (headers, status) in [
        (&[][..], 200),
        (&[("X-Forwarded-For", "192.0.2.1")], 403),
        // Behind a tunnel that ends at the proxy, every client looks like this.
        (&[("X-Forwarded-For", "127.0.0.1")], 403),
        (&[("X-Forwarded-For", "127.0.0.1, 192.0.2.1")], 403),
        (&[("X-Forwarded-For", "192.0.2.1, 127.0.0.1")], 403),
        (&[("Forwarded", "for=\"[::1]:4711\";proto=http")], 403),
        (&[("Forwarded", "for=unknown")], 403),
        (
            &[
                ("Forwarded", "for=127.0.0.1"),
                ("X-Forwarded-For", "192.0.2.1"),
            ],
            403,
        ),
        (&[("Via", "1.1 proxy")], 403),
    ] {
        for gateway in [&unknown, &trusted] {
            let asked = http_get(gateway.address, "/api/plugins", headers)
                .await
                .unwrap();
            assert_eq!(asked.0, status, "{headers:?}: {}", asked.1);
            // Everyone may watch.
            let asked = http_get(gateway.address, "/api/devices", headers)
                .await
                .unwrap();
            assert_eq!(asked.0, 200, "{headers:?}: {}", asked.1);
        }
    }
    // Whether a page is our own depends on the scheme that the browser used, as reported by the proxy.
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
