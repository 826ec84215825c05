//! Behind a proxy: with the configurations in `examples/proxies` everything works; with a minimal configuration pages
//! still show frames, and no visitor becomes an administrator.

use sluicegate_tests::{
    Gateway, Raw,
    client::{request, request_with},
    raw::handshake,
    scratch, within,
};
use std::{net::SocketAddr, path::Path, process::Stdio};
use tokio::process::{Child, Command};

const NAME: &str = "cam.home.example";
const CONFIG: &str = "[server]\nnames = [\"cam.home.example\"]\ntrusted-proxies = [\"127.0.0.1\"]\n\
    [[clients]]\nmatch = { network = \"127.0.0.5\" }\ntransport = \"mjpeg\"\nforce = true\n\
    [streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = \"1s\" }\n";

/// A running proxy; killed when dropped.
struct Proxy {
    address: SocketAddr,
    _child: Child,
}

impl Proxy {
    /// Starts a program that listens on this address.
    async fn run(address: SocketAddr, mut command: Command) -> Proxy {
        let child = command.stderr(Stdio::null()).kill_on_drop(true).spawn();
        let child = child.expect("the tests need nginx and caddy");
        within("the proxy listens", async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        Proxy {
            address,
            _child: child,
        }
    }

    /// nginx with these blocks in its `http` section.
    async fn nginx(address: SocketAddr, blocks: &str) -> Proxy {
        let dir = scratch("proxy");
        let text = format!(
            "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\naccess_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
             fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n{blocks}\n}}\n",
            dir = dir.display()
        );
        std::fs::write(dir.join("nginx.conf"), text).unwrap();
        // `/usr/sbin` is not in every user's PATH.
        let installed = Some("/usr/sbin/nginx").filter(|path| Path::new(path).exists());
        let mut command = Command::new(installed.unwrap_or("nginx"));
        command.args(["-p", dir.to_str().unwrap(), "-c", "nginx.conf"]);
        Proxy::run(address, command).await
    }

    /// Sends a request; returns status, head and body.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let asked = request(self.address, method, path, headers);
        let (status, _, body) = within(path, asked).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

/// An example from the documentation.
fn example(name: &str) -> String {
    std::fs::read_to_string(Gateway::root().join("examples/proxies").join(name)).unwrap()
}

/// A loopback address on which nothing listens.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Everything that a visitor's browser does, through a proxy configured as in the examples.
async fn all_of_it_works(proxy: &Proxy) {
    let host = format!("{NAME}:{}", proxy.address.port());
    let origin = format!("http://{host}");
    let own = [("Host", host.as_str()), ("Origin", origin.as_str())];
    for path in [
        "/",
        "/assets/player.js",
        "/api/devices",
        "/live/demo/frame.jpg",
        "/live/demo/hls/index.m3u8",
    ] {
        let (status, body) = proxy.ask("GET", path, &own).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
    let capture = "/api/devices/demo/capture";
    let post = request_with(proxy.address, "POST", capture, &own, b"{}");
    let (status, _, body) = within(capture, post).await.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));

    let mut raw = Raw::connect(proxy.address).await;
    let shake = handshake(proxy.address, "/live/demo/nal");
    let asked = format!("Host: {}", proxy.address);
    raw.write(shake.replace(&asked, &format!("Host: {host}\r\nOrigin: {origin}")))
        .await;
    let head = within("the handshake", raw.head()).await.unwrap();
    assert_eq!(head.status, 101, "{}", head.text);
    within("frames", raw.frame()).await.unwrap();

    let mut raw = Raw::connect(proxy.address).await;
    raw.write(format!(
        "GET /live/demo/mjpeg HTTP/1.0\r\nHost: {host}\r\n\r\n"
    ))
    .await;
    assert_eq!(within("MJPEG", raw.head()).await.unwrap().status, 200);
    for _ in 0..3 {
        within("a frame", raw.part()).await.unwrap();
    }

    // A visitor to whom a rule applies cannot avoid it by forged headers.
    for claim in [
        "",
        "Forwarded: for=127.0.0.6\r\n",
        "X-Forwarded-For: 127.0.0.6\r\n",
    ] {
        let mut raw = Raw::from([127, 0, 0, 5].into(), proxy.address).await;
        let request = format!(
            "GET /live/demo?can=nal,mjpeg&transport=nal HTTP/1.1\r\nHost: {host}\r\n{claim}\r\n"
        );
        raw.write(request).await;
        let (head, body) = within("a choice", raw.response()).await.unwrap();
        assert_eq!((head.status, body.trim()), (307, "demo/mjpeg"), "{claim}");
    }

    let foreign = [("Host", host.as_str()), ("Origin", "http://evil.example")];
    let (status, body) = proxy.ask("GET", "/api/devices", &foreign).await;
    assert_eq!(status, 403, "{body}");
    for host in [host.as_str(), "localhost", "127.0.0.1"] {
        for (method, path) in [
            ("GET", "/metrics"),
            ("GET", "/api/plugins"),
            ("POST", "/api/plugins/policy/reload"),
        ] {
            let headers = [("Host", host), ("Forwarded", "for=127.0.0.1")];
            let (status, body) = proxy.ask(method, path, &headers).await;
            // Caddy answers only to its own host name.
            let elsewhere = status == 200 && body.is_empty();
            assert!(
                status == 403 || elsewhere,
                "{path} of {host}: {status} {body}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_behind_the_nginx_of_the_examples() {
    let gateway = Gateway::with_config(CONFIG).await;
    let address = free_address();
    let block: String = example("nginx.conf")
        .replace("listen 443 ssl;", &format!("listen {address};"))
        .replace("127.0.0.1:8080", &gateway.address.to_string())
        .lines()
        .filter(|line| !line.trim_start().starts_with("ssl_certificate"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(block.contains(&format!("listen {address};")), "{block}");
    all_of_it_works(&Proxy::nginx(address, &block).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_it_works_behind_the_caddy_of_the_examples() {
    let gateway = Gateway::with_config(CONFIG).await;
    let address = free_address();
    let site = format!("http://{NAME}:{} {{\n\tbind 127.0.0.1", address.port());
    let block = example("Caddyfile")
        .replace(&format!("{NAME} {{"), &site)
        .replace("127.0.0.1:8080", &gateway.address.to_string());
    assert!(block.contains(&site), "{block}");
    let dir = scratch("caddy");
    let file = dir.join("Caddyfile");
    std::fs::write(&file, format!("{{\n\tadmin off\n}}\n{block}")).unwrap();
    let mut command = Command::new("caddy");
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&file)
        .env("XDG_DATA_HOME", &dir)
        .env("XDG_CONFIG_HOME", &dir);
    all_of_it_works(&Proxy::run(address, command).await).await;
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
                let (status, body) = proxy.ask(method, path, headers).await;
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
            let (status, body) = proxy.ask("GET", path, headers).await;
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
