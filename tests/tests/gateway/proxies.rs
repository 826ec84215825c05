//! Behind a proxy: with the configurations in `examples/proxies` everything works, at the root and below a path; with a
//! minimal configuration pages still show frames, and no visitor becomes an administrator.

use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, Gateway, Raw,
    camera::{self, GROUP},
    client::{Mjpeg, request_with},
    proxy::{Proxy, config_in, example, free_address},
    raw::{handshake, masked},
    scratch, within,
};
use std::collections::BTreeSet;

/// Added to what an example says.
const MORE: &str = "\n[[clients]]\nmatch = { network = \"127.0.0.5\" }\ntransport = \"mjpeg\"\nforce = true\n\
    [streams.demo]\nsource = \"test-pattern\"\n\
    encode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = \"1s\" }\n\
    [transports.hls]\nsegment = \"2s\"\n";

/// How visitors see the gateway.
struct Site<'a> {
    proxy: &'a Proxy,
    /// Host name and port.
    host: String,
    /// Path before all of the gateway's.
    base: &'a str,
}

impl Site<'_> {
    fn new<'a>(proxy: &'a Proxy, name: &str, base: &'a str) -> Site<'a> {
        let host = format!("{name}:{}", proxy.address.port());
        Site { proxy, host, base }
    }

    fn origin(&self) -> String {
        format!("http://{}", self.host)
    }

    /// A path of the site.
    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Fetches a path of the site as one of its pages does.
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String, String) {
        let origin = self.origin();
        let own = [("Host", self.host.as_str()), ("Origin", origin.as_str())];
        self.proxy.ask("GET", path, &[&own, headers].concat()).await
    }

    /// Fetches a path of the site, which there must be.
    async fn text(&self, path: &str) -> String {
        let (status, _, body) = self.get(path, &[]).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn json(&self, path: &str) -> Value {
        let accept = [("Accept", "application/json")];
        let (status, _, body) = self.get(path, &accept).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Opens a WebSocket at a path of the site.
    async fn socket(&self, path: &str) -> Raw {
        let (address, origin) = (self.proxy.address, self.origin());
        let mut raw = Raw::connect(address).await;
        let asked = format!("Host: {address}");
        let by_page = format!("Host: {}\r\nOrigin: {origin}", self.host);
        raw.write(handshake(address, path).replace(&asked, &by_page))
            .await;
        let head = within("the handshake", raw.head()).await.unwrap();
        assert_eq!(head.status, 101, "{path}: {}", head.text);
        raw
    }

    /// Sends a GET of HTTP/1.0, so that no chunk sizes stand between the bytes of the body.
    async fn follow(&self, path: &str) -> Raw {
        let mut raw = Raw::connect(self.proxy.address).await;
        let host = &self.host;
        raw.write(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"))
            .await;
        let head = within(path, raw.head()).await.unwrap();
        assert_eq!(head.status, 200, "{path}: {}", head.text);
        raw
    }

    /// Everything that a visitor's browser and other players do.
    async fn works(&self) {
        self.pages_work().await;
        self.paths_in_json_work().await;
        self.nothing_is_held_back().await;
        self.low_latency_hls_works().await;
        self.visitors_stay_what_they_are().await;
    }

    /// Pages with everything that they refer to.
    async fn pages_work(&self) {
        for page in [
            "/",
            "/watch/demo",
            "/docs",
            "/docs/api",
            "/docs/guide/operate",
        ] {
            let page = self.at(page);
            let html = self.text(&page).await;
            let references = html.split("href=\"").chain(html.split("src=\""));
            let references = references.filter_map(|rest| rest.split_once('"'));
            let files = references
                .map(|(reference, _)| reference)
                .filter(|reference| {
                    let ends = [".js", ".css", ".svg", ".webmanifest", ".json"];
                    ends.iter().any(|end| reference.ends_with(end))
                });
            let files: BTreeSet<&str> = files.filter(|file| !file.contains("://")).collect();
            assert!(files.len() >= 4, "{page}: {files:?} of {html}");
            for file in files {
                self.text(&resolve(&page, file)).await;
            }
        }
        let manifest = self.at("/assets/app.webmanifest");
        let app = self.json(&manifest).await;
        for key in ["start_url", "scope"] {
            let place = resolve(&manifest, app[key].as_str().unwrap());
            assert_eq!(place, self.at("/"), "{key}");
        }
        for icon in app["icons"].as_array().unwrap() {
            self.text(&resolve(&manifest, icon["src"].as_str().unwrap()))
                .await;
        }
        if !self.base.is_empty() {
            // A page's links would lead elsewhere without the slash.
            let (status, head, _) = self.get(self.base, &[]).await;
            assert!((301..=308).contains(&status), "{head}");
            let place = location(&head);
            let place = place.strip_prefix(&self.origin()).unwrap_or(&place);
            assert_eq!(place, self.at("/"));
        }
        let (status, head, _) = self.get(&self.at("/docs/guide/operate/"), &[]).await;
        let place = resolve(&self.at("/docs/guide/operate/"), &location(&head));
        assert_eq!((status, place), (308, self.at("/docs/guide/operate")));
    }

    /// What the gateway tells of its own paths.
    async fn paths_in_json_work(&self) {
        let path = |value: &Value| value.as_str().unwrap().to_owned();
        for device in [
            self.json(&self.at("/api/devices")).await[0].clone(),
            self.json(&self.at("/api/devices/demo")).await,
        ] {
            assert_eq!(device["url"], self.at("/live/demo"));
            self.text(&format!("{}/frame.jpg", path(&device["url"])))
                .await;
            self.text(&path(&device["watch"])).await;
        }
        let choice = self.json(&self.at("/live/demo?can=hls")).await;
        assert_eq!(choice["base"], self.at("/live/demo"));
        assert_eq!(choice["webtransport"], Value::Null);
        self.text(&path(&choice["url"])).await;
        let mut control = self.socket(&path(&choice["session"])).await;
        let ping = json!({ "type": "ping", "id": 7 }).to_string();
        control.write(masked(0x81, ping.as_bytes())).await;
        loop {
            let (_, message) = within("a pong", control.frame()).await.unwrap();
            if message.starts_with(b"{\"type\":\"pong\"") {
                break;
            }
        }
        let description = self.json(&self.at("/api/openapi.json")).await;
        let server = description["servers"][0]["url"].as_str().unwrap();
        assert_eq!(server.trim_end_matches('/'), self.base);
        let capture = self.at("/api/devices/demo/capture");
        let origin = self.origin();
        let own = [("Host", self.host.as_str()), ("Origin", origin.as_str())];
        let post = request_with(self.proxy.address, "POST", &capture, &own, b"{}");
        let (status, _, body) = within(&capture, post).await.unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }

    /// Each frame and each event arrives, though little follows it.
    async fn nothing_is_held_back(&self) {
        let mut nal = self.socket(&self.at("/live/demo/nal")).await;
        within("frames", nal.frame()).await.unwrap();
        let mut mjpeg = self.follow(&self.at("/live/demo/mjpeg")).await;
        for _ in 0..3 {
            within("a frame", mjpeg.part()).await.unwrap();
        }
        let mut events = self.follow(&self.at("/api/events")).await;
        until_contains(&mut events, "event: hello").await;
        for _ in 0..3 {
            let viewer = self.follow(&self.at("/live/demo/mjpeg")).await;
            until_contains(&mut events, "event: viewer-came").await;
            drop(viewer);
            until_contains(&mut events, "event: viewer-left").await;
        }
    }

    /// A playlist is answered as soon as the part that is asked for is there (RFC 8216bis section 6.2.5.2), and all
    /// that it names can be fetched.
    async fn low_latency_hls_works(&self) {
        let index = self.at("/live/demo/hls/index.m3u8");
        let master = self.text(&index).await;
        let lines = || master.lines().filter(|line| !line.starts_with('#'));
        let media = resolve(&index, lines().find(|line| !line.is_empty()).unwrap());
        let media = media.split('?').next().unwrap().to_owned();
        let playlist = self.text(&media).await;
        assert!(playlist.contains("CAN-BLOCK-RELOAD=YES"), "{playlist}");
        let first = attribute(&playlist, "#EXT-X-MEDIA-SEQUENCE:");
        let first: u64 = first.trim().parse().unwrap();
        let mut next = first + playlist.matches("#EXTINF").count() as u64;
        for _ in 0..2 {
            next += 1;
            let path = format!("{media}?_HLS_msn={next}&_HLS_part=0");
            let playlist = self.text(&path).await;
            let first = attribute(&playlist, "#EXT-X-MEDIA-SEQUENCE:");
            let first: u64 = first.trim().parse().unwrap();
            let complete = playlist.matches("#EXTINF").count() as u64;
            assert!(first + complete >= next, "{path}: {playlist}");
            let part = attribute(&playlist, "#EXT-X-PART:");
            let part = part.split("URI=\"").nth(1).unwrap();
            let part = part.split('"').next().unwrap();
            self.text(&resolve(&media, part)).await;
        }
    }

    /// No header of a visitor makes another one of it.
    async fn visitors_stay_what_they_are(&self) {
        let host = &self.host;
        // A visitor to whom a rule applies cannot avoid it.
        for claim in [
            "",
            "Forwarded: for=127.0.0.6\r\n",
            "X-Forwarded-For: 127.0.0.6\r\n",
        ] {
            let mut raw = Raw::from([127, 0, 0, 5].into(), self.proxy.address).await;
            let path = self.at("/live/demo?can=nal,mjpeg&transport=nal");
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{claim}\r\n");
            raw.write(request).await;
            let (head, body) = within("a choice", raw.response()).await.unwrap();
            assert_eq!((head.status, body.trim()), (307, "demo/mjpeg"), "{claim}");
        }
        for forged in [
            ("X-Forwarded-Prefix", "/other"),
            ("X-Forwarded-Prefix", "//evil.example"),
            ("X-Ingress-Path", "/other"),
            ("X-Ingress-Path", "/../.."),
        ] {
            let (status, _, body) = self.get(&self.at("/api/devices/demo"), &[forged]).await;
            assert_eq!(status, 200, "{forged:?}: {body}");
            let device: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(device["url"], self.at("/live/demo"), "{forged:?}");
        }
        let foreign = [("Host", host.as_str()), ("Origin", "http://evil.example")];
        let devices = self.at("/api/devices");
        let (status, _, body) = self.proxy.ask("GET", &devices, &foreign).await;
        assert_eq!(status, 403, "{body}");
        for host in [host.as_str(), "localhost", "127.0.0.1"] {
            for (method, path) in [
                ("GET", "/metrics"),
                ("GET", "/api/plugins"),
                ("POST", "/api/plugins/policy/reload"),
            ] {
                let headers = [("Host", host), ("Forwarded", "for=127.0.0.1")];
                let (status, _, body) = self.proxy.ask(method, &self.at(path), &headers).await;
                // Caddy answers only to its own host name.
                let elsewhere = status == 200 && body.is_empty();
                assert!(
                    status == 403 || elsewhere,
                    "{path} of {host}: {status} {body}"
                );
            }
        }
    }
}

/// Reads until this text has arrived, and drops everything up to it.
async fn until_contains(raw: &mut Raw, text: &str) {
    within(text, async {
        loop {
            let found = raw.buffer.windows(text.len());
            let found = found.into_iter().position(|part| part == text.as_bytes());
            match found {
                Some(at) => return drop(raw.buffer.split_to(at + text.len())),
                None => raw.more().await.unwrap(),
            }
        }
    })
    .await;
}

/// The rest of the last line that begins so.
fn attribute(playlist: &str, start: &str) -> String {
    let mut lines = playlist.lines().rev();
    let found = lines.find_map(|line| line.strip_prefix(start));
    let found = found.unwrap_or_else(|| panic!("no {start} in {playlist}"));
    found.to_owned()
}

/// Where a redirect leads to.
pub fn location(head: &str) -> String {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let found = lines.find(|(name, _)| name.eq_ignore_ascii_case("location"));
    found.map_or_else(String::new, |(_, place)| place.to_owned())
}

/// The path that a reference on the page at `page` leads to (RFC 3986 section 5.2).
pub fn resolve(page: &str, reference: &str) -> String {
    if reference.starts_with('/') {
        return reference.to_owned();
    }
    let mut segments: Vec<&str> = page.split('/').collect();
    segments.pop();
    let parts: Vec<&str> = reference.split('/').collect();
    for (at, part) in parts.iter().enumerate() {
        let is_last = at + 1 == parts.len();
        match *part {
            ".." => drop(segments.pop()),
            "." => {}
            part => segments.push(part),
        }
        if is_last && matches!(*part, "." | "..") {
            segments.push("");
        }
    }
    segments.join("/")
}

async fn gateway_for(example: &str) -> Gateway {
    Gateway::with_config(&format!("{}{MORE}", config_in(example))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_behind_the_nginx_of_the_examples() {
    let gateway = gateway_for("nginx.conf").await;
    let proxy = Proxy::nginx_of("nginx.conf", &gateway.address.to_string()).await;
    Site::new(&proxy, "cam.home.example", "").works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_behind_the_caddy_of_the_examples() {
    let gateway = gateway_for("Caddyfile").await;
    let (name, upstream) = ("cam.home.example", gateway.address.to_string());
    let proxy = Proxy::caddy_of("Caddyfile", name, &upstream).await;
    Site::new(&proxy, name, "").works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_below_a_path_of_nginx() {
    let gateway = gateway_for("nginx-sub-path.conf").await;
    let proxy = Proxy::nginx_of("nginx-sub-path.conf", &gateway.address.to_string()).await;
    Site::new(&proxy, "home.example", "/cams").works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_below_a_path_of_caddy() {
    let gateway = gateway_for("Caddyfile-sub-path").await;
    let (name, upstream) = ("home.example", gateway.address.to_string());
    let proxy = Proxy::caddy_of("Caddyfile-sub-path", name, &upstream).await;
    Site::new(&proxy, name, "/cams").works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_over_a_unix_socket() {
    for name in ["nginx.conf", "Caddyfile"] {
        let path = scratch("socket").join("http.sock");
        let path = path.to_str().unwrap();
        // What the examples say of Unix sockets.
        let text = example(name);
        assert!(text.contains("\"unix\" in `trusted-proxies`"), "{text}");
        let config = config_in(name).replace("[\"127.0.0.1\"]", "[\"unix\"]");
        let config = format!("{config}listen = [\"127.0.0.1:0\", \"unix:{path}\"]\n{MORE}");
        let _gateway = Gateway::listening_as_configured(&config).await;
        let host = "cam.home.example";
        let proxy = match name {
            "Caddyfile" => Proxy::caddy_of(name, host, &format!("unix/{path}")).await,
            _ => Proxy::nginx_of(name, &format!("unix:{path}")).await,
        };
        Site::new(&proxy, host, "").works().await;
    }
}

/// What Home Assistant's ingress sends: it takes the path off, tells it in `X-Ingress-Path`, and passes the browser's
/// `Host` on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_in_home_assistant() {
    const BASE: &str = "/api/hassio_ingress/Pq3-x_8RtZ";
    let config = example("home-assistant.toml");
    let config = config
        .replace("172.30.32.2", "127.0.0.1")
        .replace("rtsp://camera.local/stream1", "test-pattern");
    let config = format!("{config}{MORE}");
    let gateway = Gateway::with_config(&config).await;
    let (address, upstream) = (free_address(), gateway.address);
    let ingress = format!(
        "map $http_upgrade $connection_header {{ default upgrade; '' ''; }}\n\
         server {{ listen {address}; location {BASE}/ {{\n\
         proxy_pass http://{upstream}/; proxy_http_version 1.1; proxy_buffering off;\n\
         proxy_set_header Host $http_host; proxy_set_header X-Ingress-Path {BASE};\n\
         proxy_set_header X-Forwarded-Prefix ''; proxy_set_header Forwarded '';\n\
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Host $http_host;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_header; }} }}"
    );
    let proxy = Proxy::nginx(address, &ingress).await;
    Site::new(&proxy, "homeassistant.local", BASE).works().await;
}

/// Without `proxy_buffering off`, nginx holds back what it has until its buffers are full.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_buffers_lets_live_bodies_through() {
    let mut camera = Camera::new(camera::clip()).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let (address, upstream) = (free_address(), gateway.address);
    let block =
        format!("server {{ listen {address}; location / {{ proxy_pass http://{upstream}; }} }}");
    let proxy = Proxy::nginx(address, &block).await;
    let site = Site::new(&proxy, "127.0.0.1", "");
    let mut events = site.follow("/api/events").await;
    until_contains(&mut events, "event: hello").await;
    let opened = Mjpeg::open(address, "/live/cam/mjpeg");
    let (viewer, mut sent) = tokio::join!(within("MJPEG", opened), camera.send());
    let mut viewer = viewer.unwrap();
    // Each frame is followed by nothing until it has arrived.
    for _ in 0..GROUP {
        while within("the frame", viewer.next_number()).await.unwrap() as usize != sent {}
        sent = camera.send().await;
    }
    until_contains(&mut events, "event: viewer-came").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plainest_nginx_breaks_no_page_and_makes_nobody_an_administrator() {
    let gateway = Gateway::with_config("[streams.demo]\nsource = \"test-pattern\"\n").await;
    for more in [
        "",
        // Directives that users add first, some of them copied from elsewhere.
        "proxy_set_header Host $host;",
        "proxy_set_header Host $host; proxy_http_version 1.1;",
        "proxy_set_header Host $http_host;",
    ] {
        let address = free_address();
        let upstream = gateway.address;
        let block = format!(
            "server {{ listen {address}; location / {{ proxy_pass http://{upstream}; {more} }} }}"
        );
        let proxy = Proxy::nginx(address, &block).await;
        let host = address.to_string();
        let origin = format!("http://{host}");
        let page = format!("{origin}/");
        for headers in [
            &[][..],
            &[
                ("Origin", origin.as_str()),
                ("Sec-Fetch-Site", "same-origin"),
            ],
            &[("Referer", page.as_str())],
            &[("Host", "localhost")],
            &[("Host", &upstream.to_string())],
        ] {
            for (method, path) in [
                ("GET", "/metrics"),
                ("GET", "/api/plugins"),
                ("POST", "/api/plugins/policy/reload"),
            ] {
                let (status, _, body) = proxy.ask(method, path, headers).await;
                assert_eq!(status, 403, "{more:?} {path} {headers:?}: {body}");
            }
        }
        // A page with everything that it loads, as a browser requests it: scripts with their origin, the rest without.
        let script = [("Origin", origin.as_str()), ("Referer", page.as_str())];
        for (path, headers) in [
            ("/", &[][..]),
            ("/watch/demo", &[]),
            ("/assets/watch.js", &script),
            ("/assets/player.js", &script),
            ("/assets/style.css", &script[1..]),
            ("/api/devices", &script[1..]),
            ("/live/demo/frame.jpg", &script[1..]),
            ("/live/demo/hls/index.m3u8", &script[1..]),
        ] {
            let (status, _, body) = proxy.ask("GET", path, headers).await;
            assert_eq!(status, 200, "{more:?} {path}: {body}");
        }
    }
    // What is still refused is logged once, with advice.
    let line = gateway.logged("this is for administrators").await;
    assert!(line.contains("proxy"), "{line}");
    let log = gateway.log.lock().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for line in log.iter().filter(|line| line.contains("refused a request")) {
        let (_, said) = line.split_once("are not logged: ").unwrap();
        assert!(seen.insert(said.to_owned()), "twice: {said}");
    }
}
