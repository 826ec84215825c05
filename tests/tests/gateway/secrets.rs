//! Credentials in a source stay inside the gateway: they work, and are shown to nobody.

use base64::{Engine, engine::general_purpose::STANDARD};
use sluicegate_tests::{
    Gateway, Raw,
    client::{request, request_with},
    command::{check, sluicegate},
    within,
};
use std::fmt::Write as _;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};

/// The text that must not appear, in any spelling.
const SECRET: &str = "hunter2";

/// Sources that contain it. `HOST` stands for a host and port that answers nobody.
const SPELLINGS: [&str; 30] = [
    "rtsp://admin:hunter2@HOST/1",
    "rtsp://admin:hunter2@HOST",
    "rtsp://hunter2@HOST/1",
    "rtsp://admin:hunter2%40@HOST/1",
    "rtsp://admin:hunter2@home@HOST/1",
    "rtsp://admin:hunter2/home@HOST/1",
    "rtsp://admin:home/hunter2@HOST/1",
    "rtsp://admin:hunter2?home@HOST/1",
    "rtsp://admin:home?hunter2@HOST/1",
    "rtsp://admin:hunter2#home@HOST/1",
    "rtsp://admin:home#hunter2@HOST/1",
    "rtsp://admin:12/hunter2@HOST/1",
    "rtsp://admin:a@b/hunter2@HOST/1",
    "rtsp://admin:[hunter2]@HOST/1",
    "rtsp://admin:hunter2 @HOST/1",
    "rtsp://admin:hünter2/hunter2@HOST/1",
    "rtsp://HOST/user=admin_password=hunter2_channel=1",
    "rtsp://HOST/hunter2/1",
    "rtsp://HOST/live?token=hunter2",
    "rtsp://HOST/live?user=admin&pwd=hunter2&mail=a@b",
    "rtsp://HOST/live#hunter2",
    "rtsp://HOST/;password=hunter2",
    "RTSP://admin:hunter2@HOST/1",
    "rtmp://HOST/live/hunter2",
    "http://admin:hunter2@HOST/video.mjpg",
    "http://HOST/cgi-bin/snap.cgi?loginuse=admin&loginpas=hunter2",
    "http://HOST/?src=rtsp://admin:hunter2@camera/1",
    "srt://HOST?passphrase=hunter2hunter2",
    "lavfi:movie=rtsp\\\\://admin\\\\:hunter2@HOST/1",
    "lavfi:movie=filename=/nowhere/hunter2.mp4:loop=0",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_spelling_of_a_secret_leaves_the_process() {
    // Bound but not listening: nobody else gets the port, and connections are refused.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let host = nobody.local_addr().unwrap().to_string();
    let mut config = "[capture]\ntimeout = \"1s\"\n".to_owned();
    for (nth, source) in SPELLINGS.iter().enumerate() {
        let source = source.replace("HOST", &host);
        writeln!(config, "[streams.s{nth}]\nsource = {source:?}").unwrap();
    }
    let gateway = Gateway::with_config_after("export RUST_LOG=trace", &config).await;
    let address = gateway.address;
    let mut events = Raw::connect(address).await;
    let follow = format!("GET /api/events HTTP/1.0\r\nHost: {address}\r\n\r\n");
    events.write(follow).await;
    let mut told = events.head().await.unwrap().text;
    let captures = (0..SPELLINGS.len()).map(|nth| async move {
        let path = format!("/api/devices/s{nth}/capture");
        let asked = request_with(address, "POST", &path, &[], b"{}");
        let (_, head, body) = within(&path, asked).await.unwrap();
        head + &String::from_utf8_lossy(&body)
    });
    told += &captures.collect::<JoinSet<_>>().join_all().await.concat();
    for nth in 0..SPELLINGS.len() {
        // The source is tried first, so that its state has a reason.
        let path = format!("/api/devices/s{nth}");
        let failed = |device: &serde_json::Value| !device["reason"].is_null();
        let device = gateway.api_until(&path, "a reason", failed).await;
        told += &device.to_string();
    }
    for path in [
        "/api/devices",
        "/api/sessions",
        "/api/plugins",
        "/metrics",
        "/live/nobody",
        "/live/s0/mjpeg?width=x",
        "/",
    ] {
        let (_, head, body) = within(path, request(gateway.address, "GET", path, &[]))
            .await
            .unwrap();
        told += &head;
        told += &String::from_utf8_lossy(&body);
    }
    told += &all_of(events).await;
    told += &arguments_of_children(&gateway);
    told += &gateway.log.lock().unwrap().join("\n");
    assert!(told.contains("rtsp://127.0.0.1"), "nothing was tried");
    assert!(told.contains("lavfi:movie…"), "nothing was tried");
    assert_not_disclosed(&told);
}

#[tokio::test]
async fn nor_does_a_mistake_beside_it_have_it_printed() {
    for source in SPELLINGS {
        let source = source.replace("HOST", "camera.local:554");
        // A mistake on its own line, in the same value, in the TOML syntax, and in a value that is not a source.
        let typo = source
            .replacen("://", ":/", 1)
            .replacen("lavfi:", "lavfi", 1);
        for config in [
            format!("[streams.a]\nsource = {source:?}\nidle = 5\n"),
            format!("streams.a = {{ source = {source:?}, idle = 5 }}\n"),
            format!("[streams.a]\nidle = {source:?}\n"),
            format!("[streams]\na = {source:?}\n"),
            format!("[streams.a]\nsource = {source:?}x\n"),
            format!("[streams.a]\nsource = \"{}\n", source.replace('\\', "")),
            format!("[streams.a]\nsource = {typo:?}\n"),
        ] {
            let checked = check(&config).await;
            assert_eq!(checked.code, Some(1), "{config}{checked:?}");
            assert_not_disclosed(&checked.err);
            assert_not_disclosed(&checked.out);
        }
        let served = sluicegate(&["serve", "--listen", "127.0.0.1:0", &typo]).await;
        assert_eq!(served.code, Some(1), "{typo} {served:?}");
        assert_not_disclosed(&served.err);
        assert_not_disclosed(&served.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_works_as_people_write_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let passwords = [
        "plain",
        "a@b",
        "a/b",
        "a?b",
        "a#b",
        "/",
        "a/b?c#d@e",
        "12#4",
    ];
    let mut config = String::new();
    for (nth, password) in passwords.iter().enumerate() {
        let source = format!("rtsp://u{nth}:{password}@{address}/1");
        writeln!(
            config,
            "[streams.s{nth}]\nsource = {source:?}\nalways-on = true"
        )
        .unwrap();
    }
    let gateway = Gateway::with_config(&config).await;
    let mut wanted: Vec<String> = passwords
        .iter()
        .enumerate()
        .map(|(nth, password)| format!("u{nth}:{password}"))
        .collect();
    within("all of them log in", async {
        while !wanted.is_empty() {
            let (socket, _) = listener.accept().await.unwrap();
            let user = login(socket).await;
            wanted.retain(|wanted| Some(wanted) != user.as_ref());
        }
    })
    .await;
    drop(gateway);
}

/// Plays a camera that demands a password until it gets one or the client gives up; returns the login.
async fn login(socket: tokio::net::TcpStream) -> Option<String> {
    let mut socket = BufReader::new(socket);
    loop {
        let (mut number, mut user) = (String::new(), None);
        loop {
            let mut line = String::new();
            let read = within("a request", socket.read_line(&mut line)).await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
            if let Some(basic) = line.trim().strip_prefix("Authorization: Basic ") {
                user = STANDARD.decode(basic).ok();
            }
            if let Some(found) = line.trim().strip_prefix("CSeq: ") {
                number = found.to_owned();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        if let Some(user) = user {
            return String::from_utf8(user).ok();
        }
        let refusal = format!(
            "RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\nWWW-Authenticate: Basic realm=\"camera\"\r\n\r\n"
        );
        if socket.write_all(refusal.as_bytes()).await.is_err() {
            return None;
        }
    }
}

/// Events up to a failure of each stream.
async fn all_of(mut events: Raw) -> String {
    within("the events", async {
        loop {
            let text = String::from_utf8_lossy(&events.buffer).into_owned();
            let failed = |nth| {
                let name = format!("\"serial\":\"s{nth}\"");
                text.lines()
                    .any(|line| line.contains(&name) && line.contains("\"reason\":\"cannot open"))
            };
            if (0..SPELLINGS.len()).all(failed) {
                return text;
            }
            events.more().await.unwrap();
        }
    })
    .await
}

/// Command lines of the gateway's child processes, which every user of the machine can read.
fn arguments_of_children(gateway: &Gateway) -> String {
    let own = gateway.child.id().unwrap().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let children = processes.filter(|process| {
        let status = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        parent.is_some_and(|parent| parent.trim() == own)
    });
    children
        .filter_map(|child| std::fs::read_to_string(child.path().join("cmdline")).ok())
        .collect()
}

fn assert_not_disclosed(text: &str) {
    for line in text.lines() {
        assert!(!line.contains(SECRET), "{line}");
        assert!(!line.contains("hünter"), "{line}");
    }
}
