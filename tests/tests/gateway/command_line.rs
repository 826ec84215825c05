//! Arguments of `sluicegate`, and what it prints.

use rustix::process::Signal;
use sluicegate_config::machine;
use sluicegate_tests::{
    Gateway,
    command::{check, config_file, sluicegate},
    http_get,
    proxy::free_address,
    scratch, within,
};
use std::{net::SocketAddr, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_argument_is_served_by_its_name_and_a_bare_port_is_loopback() {
    let arguments = ["porch=test-pattern", "test-pattern", "--listen", "0"];
    let (gateway, _) = Gateway::start(&arguments, Stdio::null()).await;
    assert!(gateway.address.ip().is_loopback());
    let devices = gateway.api("/api/devices").await;
    let names: Vec<&str> = devices
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["serial"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["demo", "porch"]);
    // The same with options before the source, and with `serve`.
    for arguments in [
        &[
            "--log-format",
            "json",
            "hall=test-pattern",
            "--listen",
            "localhost:0",
        ][..],
        &[
            "--log-format",
            "json",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "hall=test-pattern",
        ],
    ] {
        let (gateway, _) = Gateway::start(arguments, Stdio::null()).await;
        assert_eq!(gateway.api("/api/devices").await[0]["serial"], "hall");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_admits_other_machines_and_prints_the_addresses() {
    let mut child = Command::new(Gateway::binary())
        .args(["--open", "--listen", "0", "test-pattern"])
        .env("XDG_STATE_HOME", Gateway::state())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = within("a line", lines.next_line()).await.unwrap().unwrap();
    let here = first.strip_prefix("sluicegate is at http://").unwrap();
    let here: SocketAddr = here.trim_end_matches('/').parse().unwrap();
    assert!(here.ip().is_loopback());
    let all = [0, 0, 0, 0].into();
    for address in machine::addresses(all) {
        let line = within("a line", lines.next_line()).await.unwrap().unwrap();
        let there = SocketAddr::new(address, here.port());
        assert_eq!(line, format!("  for other machines: http://{there}/"));
        let got = within("an answer", http_get(there, "/api/devices", &[])).await;
        assert_eq!(got.unwrap().0, 200, "{there}");
    }
    // By its own host name too, if it has one.
    for name in machine::names() {
        let host = format!("{}:{}", name.as_str(), here.port());
        let headers = [("Host", host.as_str())];
        let got = within("an answer", http_get(here, "/api/devices", &headers)).await;
        assert_eq!(got.unwrap().0, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_that_of_the_running_gateway() {
    let gateway = Gateway::serve(&[]).await;
    let url = format!("http://{}", gateway.address);
    let well = sluicegate(&["health", "--url", &url]).await;
    assert_eq!(well.code, Some(0), "{well:?}");
    assert!(well.out.contains("\"status\":\"ok\""), "{well:?}");
    drop(gateway);
    let gone = sluicegate(&["health", "--url", &url]).await;
    gone.refused(&["no gateway answers at", "--url"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_found_below_a_path_over_tls_and_at_a_unix_socket() {
    let socket = scratch("health").join("http.sock");
    let unix = format!("unix:{}", socket.display());
    let address = free_address();
    for (listen, tls, expected) in [
        (
            vec![address.to_string(), unix.clone()],
            "",
            format!("http://{address}/cams"),
        ),
        (
            vec![address.to_string()],
            "tls = \"self-signed\"\n",
            format!("https://{address}/cams"),
        ),
    ] {
        let file = config_file(&format!(
            "[server]\nlisten = {listen:?}\nbase-path = \"/cams\"\n{tls}[streams.a]\nsource = \"test-pattern\"\n"
        ));
        let file = file.to_str().unwrap();
        let (gateway, _) = Gateway::start(&["serve", "--config", file], Stdio::null()).await;
        let mut places = vec![["--config", file], ["--url", &expected]];
        if listen.len() > 1 {
            places.push(["--url", &unix]);
        }
        for place in &places {
            let well = sluicegate(&[&["health"][..], place].concat()).await;
            assert_eq!(well.code, Some(0), "{place:?}: {well:?}");
            assert!(
                well.out.contains("\"status\":\"ok\""),
                "{place:?}: {well:?}"
            );
        }
        let elsewhere = expected.replace("/cams", "/other");
        let elsewhere = sluicegate(&["health", "--url", &elsewhere]).await;
        elsewhere.refused(&["/other answers 404"]);
        drop(gateway);
        for place in &places {
            let gone = sluicegate(&[&["health"][..], place].concat()).await;
            gone.refused(&["no gateway answers at", "--url"]);
        }
    }
    let both = [
        "health",
        "--config",
        "x.toml",
        "--url",
        "http://127.0.0.1:1",
    ];
    sluicegate(&both).await.misused(&["cannot be used with"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_arguments_are_refused_with_advice_on_the_command_line() {
    let file = config_file("[streams.a]\nsource = \"test-pattern\"\n");
    let file = file.to_str().unwrap();
    for (arguments, code, parts) in [
        (
            &["chekc", file][..],
            2,
            &["no command `chekc`", "did you mean `sluicegate check`"][..],
        ),
        (&["--open", "check", file], 2, &["go after `serve`"]),
        (&[file], 1, &["is a config file", "--config"]),
        (
            &["no-such-clip.mp4"],
            1,
            &["there is no file `no-such-clip.mp4`"],
        ),
        (
            &["porch=no-such-clip.mp4"],
            1,
            &["there is no file `no-such-clip.mp4`"],
        ),
        (
            &["a=test-pattern", "--config", file],
            1,
            &["two streams `a`"],
        ),
        (
            &["--listen", "99999", "test-pattern"],
            2,
            &["write a port, an IP address, or both"],
        ),
        (
            &["--listen", ":8080", "test-pattern"],
            2,
            &["127.0.0.1:8080"],
        ),
    ] {
        let ended = sluicegate(arguments).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        for part in parts {
            assert!(ended.err.contains(part), "{arguments:?}: {ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_reports_all_mistakes_of_every_kind() {
    let nothing = scratch("nothing").join("gone.pem");
    let nothing = nothing.display();
    let said = check(&format!(
        r#"
[server]
lsten = "127.0.0.1:0"
connections = 0
tls = {{ certificate = "{nothing}", key = "{nothing}" }}

[streams.a]
source = "camera"
idle = "10"

[streams.b]
source = "v4l2:"

[transports.hls]
part = "1h"

[transports.unknown]

[policy]
plugin = "gone.wasm"
"#
    ))
    .await;
    // First the mistakes in the file itself, with lines; then those in the rest of it.
    said.refused(&[
        "sluice.toml:3:1: unknown key `lsten`",
        "sluice.toml:4:15: `connections` in [server]: 0 is out of range",
        "sluice.toml:9:8: `idle` in [streams.a]",
        "[streams.a]: `camera` is not a source",
        "[streams.b]: `v4l2:`",
        "`tls` under [server]: cannot read",
        "[transports.hls]",
        "gone.wasm",
    ]);
    // While the file itself has mistakes, a transport without a plugin may only have lost it to one of them.
    assert!(!said.err.contains("[transports.unknown]"), "{said:?}");

    let rules = "[transports.unknown]\n[transports.other]\n[streams.a]\nsource = \"camera\"\n";
    let said = check(rules).await;
    said.refused(&["[transports.unknown]", "[transports.other]", "[streams.a]"]);
    let rules = "[streams.a]\nsource = \"test-pattern\"\n[[clients]]\nmatch = {}\ntransport = [\"mjpg\", \"hsl\"]\n[[clients]]\nmatch = {}\nrendition = \"x\"\n";
    let said = check(rules).await;
    said.refused(&[
        "item 1 of [[clients]]: there is no transport `mjpg`",
        "item 1 of [[clients]]: there is no transport `hsl`",
        "item 2 of [[clients]]: there is no rendition `x`",
    ]);
    // A rule is checked beside other mistakes, and may name a stream that has one.
    let rules = "[streams.a]\nsource = \"foo://x/y\"\n[[clients]]\nmatch = { stream = \"a\" }\ntransport = \"hsl\"\n";
    let said = check(rules).await;
    said.refused(&[
        "[streams.a]: `foo://x/…` is not a source: `foo` is not a protocol",
        "item 1 of [[clients]]: there is no transport `hsl`",
    ]);
    assert!(!said.err.contains("no stream"), "{said:?}");
    // A file may appear while the gateway runs.
    let said = check("[streams.a]\nsource = \"file:gone.mp4\"\n").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("note: [streams.a]: "), "{said:?}");
    assert!(said.out.contains("gone.mp4 does not exist"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let broken = scratch("media").join("nothing-in-it.mp4");
    std::fs::write(&broken, "no video").unwrap();
    let config = format!(
        "[streams.demo]\nsource = \"test-pattern\"\n[streams.broken]\nsource = \"file:{}\"\nalways-on = true\n",
        broken.display()
    );
    // Log output fails because standard error is full.
    let mut gateway = Gateway::with_config_after("exec 2>/dev/full", &config).await;
    let gone = |device: &serde_json::Value| {
        device["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("Invalid data"))
    };
    gateway
        .api_until("/api/devices/broken", "its failure", gone)
        .await;
    assert_eq!(gateway.api("/healthz").await["status"], "ok");
    // The exit code of `check` still depends only on the mistakes.
    let mut shell = Command::new("sh");
    let missing = scratch("media").join("no-such.toml");
    shell
        .args(["-c", "\"$0\" check \"$1\" 2>/dev/full"])
        .arg(Gateway::binary())
        .arg(missing);
    let status = within("check", shell.status()).await.unwrap();
    assert_eq!(status.code(), Some(1));
    gateway.signal(Signal::TERM);
    let status = within("its end", gateway.child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
}
