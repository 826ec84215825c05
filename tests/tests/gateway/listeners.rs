//! Where the gateway listens: several addresses, Unix sockets, sockets that another process passes; and what those who
//! connect over a Unix socket may do.

use rustix::process::Signal;
use serde_json::Value;
use sluicegate_tests::{
    Gateway, Raw,
    client::http_get,
    command::{check, config_file, sluicegate},
    proxy::free_address,
    scratch,
    webtransport::{Access, client, dual_client},
    within,
};
use std::{
    fmt::Display,
    net::{Ipv6Addr, SocketAddr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    process::Stdio,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    process::Command,
};

const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";

/// A config that listens at these addresses.
fn config(listen: &[&dyn Display], server: &str) -> String {
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    format!("[server]\nlisten = {listen:?}\n{server}\n[capture]\ntimeout = '20s'\n{DEMO}")
}

/// Sends a request over a Unix socket; returns status, head and body.
async fn ask_unix(path: &Path, target: &str, headers: &str) -> (u16, String, String) {
    let exchange = async {
        let mut socket = UnixStream::connect(path).await.unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let text = within(target, exchange).await;
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

async fn status(address: SocketAddr, path: &str) -> u16 {
    let answer = within(path, http_get(address, path, &[])).await;
    answer.unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_addresses_serve_the_same_until_all_end_together() {
    let socket = scratch("listeners").join("http.sock");
    let free = free_address();
    let other = SocketAddr::from((Ipv6Addr::LOCALHOST, free.port()));
    let unix = format!("unix:{}", socket.display());
    let text = config(&[&free, &other, &unix], "");
    let mut gateway = Gateway::listening_as_configured(&text).await;
    assert_eq!(gateway.address, free);
    for address in [free, other] {
        for path in ["/readyz", "/live/demo/frame.jpg", "/metrics"] {
            assert_eq!(status(address, path).await, 200, "{path} of {address}");
        }
    }
    let local = "Host: localhost\r\n";
    for path in ["/readyz", "/live/demo/frame.jpg"] {
        assert_eq!(ask_unix(&socket, path, local).await.0, 200, "{path}");
    }
    // Each TCP address has its own UDP port of the same number.
    let access = Access::of(&gateway, "demo").await;
    assert_eq!(access.port, free.port());
    for address in [free, other] {
        let url = format!("https://{address}/live/demo/webcodecs");
        let caller = dual_client(&access.hashes);
        let session = caller.connect(&url);
        within(&url, session).await.unwrap();
    }
    // Who is connected when it shuts down gets what is in progress.
    let mut viewer = UnixStream::connect(&socket).await.unwrap();
    let request = format!("GET /live/demo/mjpeg HTTP/1.0\r\n{local}\r\n");
    viewer.write_all(request.as_bytes()).await.unwrap();
    let mut begun = [0; 15];
    within("MJPEG", viewer.read_exact(&mut begun))
        .await
        .unwrap();
    assert_eq!(&begun, b"HTTP/1.0 200 OK");
    gateway.signal(Signal::TERM);
    let ended = within("the end", gateway.child.wait()).await.unwrap();
    assert!(ended.success(), "{ended}");
    let mut rest = Vec::new();
    let read = viewer.read_to_end(&mut rest);
    within("the viewer's end", read).await.unwrap();
    assert!(!socket.exists());
    for address in [free, other] {
        assert!(TcpStream::connect(address).await.is_err(), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_addresses_of_ipv4_and_ipv6_share_a_port() {
    let port = free_address().port();
    let (v4, v6) = (format!("0.0.0.0:{port}"), format!("[::]:{port}"));
    let text = config(&[&v4, &v6], "open = true");
    let gateway = Gateway::listening_as_configured(&text).await;
    assert_eq!(gateway.address.port(), port);
    for address in [
        SocketAddr::from(([127, 0, 0, 1], port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ] {
        assert_eq!(status(address, "/readyz").await, 200, "{address}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_that_is_taken_is_an_error_and_leaves_nothing_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let socket = scratch("listeners").join("http.sock");
    let unix = format!("unix:{}", socket.display());
    let file = config_file(&config(&[&unix, &address], ""));
    let arguments = ["serve", "--config", file.to_str().unwrap()];
    sluicegate(&arguments).await.refused(&[
        &address,
        "another program is using it",
        "`listen` under [server]",
    ]);
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
    let dir = scratch("listeners");
    let socket = dir.join("http.sock");
    let listen = format!("unix:{}", socket.display());
    let own = config(&[&"127.0.0.1:0", &listen], "");
    let mut first = Gateway::listening_as_configured(&own).await;
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let refused = async |parts: &[&str]| {
        let file = config_file(&own);
        let arguments = ["serve", "--config", file.to_str().unwrap()];
        sluicegate(&arguments).await.refused(parts);
    };
    refused(&[&listen, "another program is using it", "unix:PATH"]).await;
    let local = "Host: localhost\r\n";
    assert_eq!(ask_unix(&socket, "/readyz", local).await.0, 200);
    first.child.kill().await.unwrap();
    assert!(
        std::fs::symlink_metadata(&socket)
            .unwrap()
            .file_type()
            .is_socket()
    );
    let second = Gateway::listening_as_configured(&own).await;
    assert_eq!(ask_unix(&socket, "/readyz", local).await.0, 200);
    drop(second);
    std::fs::remove_file(&socket).unwrap();
    std::fs::write(&socket, "mine").unwrap();
    refused(&[&listen, "a file that is no socket"]).await;
    assert_eq!(std::fs::read(&socket).unwrap(), b"mine");
    let missing = format!("unix:{}/no/http.sock", dir.display());
    let file = config_file(&config(&[&missing], ""));
    let arguments = ["serve", "--config", file.to_str().unwrap()];
    sluicegate(&arguments)
        .await
        .refused(&[&missing, "create its directory"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_connects_over_a_unix_socket_is_a_visitor_behind_a_proxy() {
    const RULES: &str = "[[clients]]\nmatch = { network = \"192.0.2.0/24\" }\ntransport = \"mjpeg\"\nforce = true\n";
    for trusted in [false, true] {
        let socket = scratch("listeners").join("http.sock");
        let listen = format!("unix:{}", socket.display());
        let proxies = if trusted {
            "\"unix\""
        } else {
            "\"0.0.0.0/0\", \"::/0\""
        };
        let server = format!("trusted-proxies = [{proxies}]\nnames = [\"cam.example\"]");
        let text = format!("{}{RULES}", config(&[&"127.0.0.1:0", &listen], &server));
        let gateway = Gateway::listening_as_configured(&text).await;
        let port = gateway.address.port();
        for host in [
            "localhost",
            &format!("localhost:{port}"),
            &format!("127.0.0.1:{port}"),
        ] {
            for more in [
                "",
                "X-Forwarded-For: 127.0.0.1\r\n",
                "Forwarded: for=127.0.0.1\r\n",
            ] {
                for path in ["/metrics", "/api/plugins"] {
                    let headers = format!("Host: {host}\r\n{more}");
                    let (status, _, body) = ask_unix(&socket, path, &headers).await;
                    assert_eq!(status, 403, "{path} {headers}: {body}");
                }
            }
        }
        assert_eq!(status(gateway.address, "/metrics").await, 200);
        // What a proxy tells counts if it is trusted.
        let json = "Host: cam.example\r\nAccept: application/json\r\n";
        let forwarded = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Prefix: /cams\r\n";
        let headers = format!("{json}{forwarded}");
        let target = "/live/demo?can=nal,mjpeg&transport=nal";
        let (status, _, body) = ask_unix(&socket, target, &headers).await;
        let choice: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200, "{choice}");
        assert_eq!(choice["transport"], if trusted { "mjpeg" } else { "nal" });
        let base = if trusted {
            "/cams/live/demo"
        } else {
            "/live/demo"
        };
        assert_eq!(choice["base"], base);
        // Its UDP port would be somebody else's.
        let (_, _, body) = ask_unix(&socket, "/live/demo", json).await;
        let choice: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(choice["webtransport"], Value::Null);
        // The rules for names and pages hold as anywhere.
        for (headers, expected) in [
            ("Host: evil.example\r\n", 421),
            ("Host: cam.example\r\nOrigin: http://evil.example\r\n", 403),
            ("", 400),
        ] {
            let (status, ..) = ask_unix(&socket, "/api/devices", headers).await;
            assert_eq!(status, expected, "{headers}");
        }
    }
}

/// Starts a gateway that gets these sockets passed.
pub fn activated(sockets: &[&str], config: &str) -> Command {
    let file = config_file(config);
    let mut command = Command::new("python3");
    command
        .arg(Gateway::root().join("tests/fixtures/activate.py"))
        .args(sockets)
        .arg("--")
        .arg(Gateway::binary())
        .args(["serve", "--config"])
        .arg(file);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_are_passed_are_used_instead_of_those_of_the_config() {
    let socket = scratch("listeners").join("http.sock");
    let (address, configured) = (free_address(), free_address());
    let passed = [
        format!("tcp:{address}"),
        format!("udp:{address}"),
        format!("unix:{}", socket.display()),
    ];
    let passed = passed.each_ref().map(String::as_str);
    let own = config(&[&configured], "");
    let mut gateway = Gateway::run(activated(&passed, &own), Stdio::null())
        .await
        .0;
    assert_eq!(gateway.address, address);
    assert_eq!(status(address, "/metrics").await, 200);
    assert!(TcpStream::connect(configured).await.is_err());
    let local = "Host: localhost\r\n";
    assert_eq!(ask_unix(&socket, "/readyz", local).await.0, 200);
    assert_eq!(ask_unix(&socket, "/metrics", local).await.0, 403);
    let access = Access::of(&gateway, "demo").await;
    let url = format!("https://{address}/live/demo/webcodecs");
    let caller = client(&access.hashes);
    let session = caller.connect(&url);
    within("a session", session).await.unwrap();
    gateway.signal(Signal::TERM);
    within("the end", gateway.child.wait()).await.unwrap();
    // It belongs to whoever passed it.
    assert!(socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passed_sockets_of_no_use_are_an_error() {
    let refused = async |sockets: &[&str], parts: &[&str]| {
        let mut command = activated(sockets, &config(&[&"127.0.0.1:0"], ""));
        let output = within("the error", command.kill_on_drop(true).output()).await;
        let error = String::from_utf8(output.unwrap().stderr).unwrap();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    };
    let good = format!("tcp:{}", free_address());
    refused(
        &[&good, "connected"],
        &["number 2", "a connection", "Accept=yes"],
    )
    .await;
    // Sockets that are meant for another process are left alone.
    let gateway = Gateway::with_config_after("export LISTEN_FDS=1 LISTEN_PID=1", DEMO).await;
    assert_eq!(status(gateway.address, "/readyz").await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_on_the_command_line_replace_those_of_the_config() {
    let socket = scratch("listeners").join("http.sock");
    let unix = format!("unix:{}", socket.display());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = config_file(&config(&[&taken.local_addr().unwrap()], ""));
    let arguments = [
        "serve",
        "--config",
        file.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--listen",
        &unix,
    ];
    let gateway = Gateway::start(&arguments, Stdio::null()).await.0;
    assert_eq!(status(gateway.address, "/readyz").await, 200);
    let local = "Host: localhost\r\n";
    assert_eq!(ask_unix(&socket, "/readyz", local).await.0, 200);
    for (listen, part) in [("unix:", "names no file"), ("unix:@x", "no permissions")] {
        let misused = sluicegate(&["serve", "--listen", listen]).await;
        misused.misused(&[part, "unix:/run/sluicegate/http.sock"]);
    }
}

/// The device as a client at this address of its own sees it, with these headers.
async fn device_url(gateway: &Gateway, from: [u8; 4], headers: &str) -> String {
    let address = gateway.address;
    let mut raw = Raw::from(from.into(), address).await;
    raw.write(format!(
        "GET /api/devices/demo HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n"
    ))
    .await;
    let (head, body) = within("the device", raw.response()).await.unwrap();
    assert_eq!(head.status, 200, "{headers}: {body}");
    let device: Value = serde_json::from_str(&body).unwrap();
    device["url"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_path_is_believed_from_a_trusted_proxy_and_only_if_it_is_one_path() {
    const PROXY: [u8; 4] = [127, 0, 0, 9];
    const STRANGER: [u8; 4] = [127, 0, 0, 8];
    let server = "[server]\ntrusted-proxies = [\"127.0.0.9\"]\n";
    let gateway = Gateway::with_config(&format!("{server}{DEMO}")).await;
    let url = async |from, headers: &str| device_url(&gateway, from, headers).await;
    for header in ["X-Forwarded-Prefix", "X-Ingress-Path"] {
        let good = format!("{header}: /cams\r\n");
        assert_eq!(url(PROXY, &good).await, "/cams/live/demo");
        assert_eq!(url(STRANGER, &good).await, "/live/demo");
        for value in [
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/../..",
            "/cams/../..",
            "/cams/./x",
            "/%2e%2e/x",
            "/cams\"onload=\"x",
            "/cams'",
            "/cams<script>",
            "/cams;default-src *",
            "/cams, /other",
            "/cams?x",
            "/cams#x",
            "/ca\tms",
            "/\u{fc}",
            "cams",
            "",
            &format!("/{}", "a".repeat(300)),
        ] {
            let hostile = format!("{header}: {value}\r\n");
            assert_eq!(url(PROXY, &hostile).await, "/live/demo", "{value:?}");
        }
        let several = format!("{header}: /cams\r\n{header}: /other\r\n");
        assert_eq!(url(PROXY, &several).await, "/live/demo");
    }
    let disagree = "X-Forwarded-Prefix: /cams\r\nX-Ingress-Path: /other\r\n";
    assert_eq!(url(PROXY, disagree).await, "/live/demo");
    // One who shares the list of devices must not get another one's paths.
    let shared = "Cache-Control: max-age=1\r\n";
    for (headers, expected) in [
        ("X-Forwarded-Prefix: /a\r\n", "/a/live/demo"),
        ("X-Forwarded-Prefix: /b\r\n", "/b/live/demo"),
        ("", "/live/demo"),
    ] {
        let address = gateway.address;
        let mut raw = Raw::from(PROXY.into(), address).await;
        let request =
            format!("GET /api/devices HTTP/1.1\r\nHost: {address}\r\n{shared}{headers}\r\n");
        raw.write(request).await;
        let (_, body) = within("devices", raw.response()).await.unwrap();
        let devices: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(devices[0]["url"], expected);
    }
    // A request with such a header is nobody's on this machine.
    for header in ["X-Forwarded-Prefix: /a", "X-Ingress-Path: /a"] {
        let mut raw = Raw::connect(gateway.address).await;
        let host = gateway.address;
        raw.write(format!(
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\n{header}\r\n\r\n"
        ))
        .await;
        let (head, _) = within("metrics", raw.response()).await.unwrap();
        assert_eq!(head.status, 403, "{header}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_base_path_the_gateway_is_there_and_at_the_root() {
    let config = format!("[server]\nbase-path = \"/cams/\"\n{DEMO}");
    let gateway = Gateway::with_config(&config).await;
    for (path, expected) in [
        ("/cams/", 200),
        ("/", 200),
        ("/cams/readyz", 200),
        ("/readyz", 200),
        ("/cams/metrics", 200),
        ("/metrics", 200),
        ("/cams", 308),
        ("/cams/cams/readyz", 404),
        ("/camsreadyz", 404),
        ("/cams/../readyz", 400),
        ("/cams//readyz", 404),
        ("/other/readyz", 404),
    ] {
        assert_eq!(status(gateway.address, path).await, expected, "{path}");
    }
    let access = Access::of(&gateway, "demo").await;
    let url = format!("https://{}/cams/live/demo/webcodecs", access.address());
    let caller = client(&access.hashes);
    let session = caller.connect(&url);
    within("a session", session).await.unwrap();
    for base_path in [
        "cams",
        "//evil.example",
        "/a/../b",
        "/live",
        "/api/x",
        "/a b",
    ] {
        let config = format!("[server]\nbase-path = \"{base_path}\"\n{DEMO}");
        let checked = check(&config).await;
        checked.refused(&["sluice.toml:2:13: `base-path` in [server]", "\"/cams\""]);
    }
}
