//! Limits on what a source can make the gateway do: how much memory it takes, and where it connects.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Nal, Numbered,
    media::encode_pattern,
    mjpeg,
    mjpeg::MjpegCamera,
    scratch,
    web::{Page, Web},
    within,
};
use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

const SIZE: (u32, u32) = (320, 192);
/// Bound in bytes: more than the limits allow for one frame, including what the sources of this test share.
const MAX_MEMORY: u64 = 320 << 20;

/// An AVI whose third frame claims two gigabytes; the data after it is missing.
fn oversized_avi() -> Vec<u8> {
    let arguments = ["-c:v", "mjpeg", "-q:v", "6", "-pix_fmt", "yuvj420p"];
    let mut film = std::fs::read(encode_pattern("film.avi", SIZE, 0, 10, &arguments)).unwrap();
    let starts: Vec<usize> = (0..film.len() - 4)
        .filter(|at| &film[*at..*at + 4] == b"00dc")
        .collect();
    let third = starts[2];
    film[third + 4..third + 8].copy_from_slice(&2_000_000_000u32.to_le_bytes());
    film.truncate(third + 8);
    film
}

/// Waits until the stream reports `what`; returns the highest memory use of the gateway meanwhile.
async fn until_reported(gateway: &Gateway, stream: &str, what: &str) -> u64 {
    let most = std::cell::Cell::new(0);
    let says = |device: &Value| {
        most.set(most.get().max(gateway.memory()));
        device.to_string().contains(what)
    };
    gateway
        .api_until(&format!("/api/devices/{stream}"), what, says)
        .await;
    most.get().max(gateway.memory())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_of_two_gigabytes_is_not_believed_whatever_says_it() {
    let web = Web::serve("127.0.0.1").await;
    let host = web.address;
    let part = b"--cam\r\nContent-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n";
    // Header of a JPEG, and a scan without an end.
    let scan = [&part[..], &[0xff, 0xd8, 0xff, 0xda, 0, 2]].concat();
    let multipart = "Content-Type: multipart/x-mixed-replace; boundary=cam\r\n";
    web.put("/jpeg", Page::Endless(multipart, scan, 0x55));
    let no_jpeg = [&part[..], b"no JPEG"].concat();
    web.put("/text", Page::Endless(multipart, no_jpeg, b'x'));
    web.put(
        "/avi",
        Page::Endless("Content-Type: video/avi\r\n", oversized_avi(), 0x55),
    );
    // A sparse file, as large as its packet claims.
    let file = scratch("boastful").join("film.avi");
    std::fs::write(&file, oversized_avi()).unwrap();
    let long = OpenOptions::new().write(true).open(&file).unwrap();
    long.set_len(2_100_000_000).unwrap();
    let config: String = [
        ("jpeg", format!("http://{host}/jpeg")),
        ("text", format!("http://{host}/text")),
        ("avi", format!("http://{host}/avi")),
        ("file", format!("file:{}", file.display())),
    ]
    .iter()
    .map(|(name, source)| format!("[streams.{name}]\nsource = '{source}'\n"))
    .collect();
    let gateway = Gateway::with_config(&config).await;
    let before = gateway.memory();
    for (stream, what) in [
        ("jpeg", "dropped a JPEG of more than 33554432 bytes"),
        ("text", "no data for 10 s"),
        ("avi", "64 MiB were read without a video or audio packet"),
        ("file", "64 MiB were read without a video or audio packet"),
    ] {
        let viewer = within("connect", Nal::connect(gateway.address, stream)).await;
        let most = until_reported(&gateway, stream, what).await;
        assert!(
            most < before + MAX_MEMORY,
            "{stream}: {} MiB",
            (most - before) >> 20
        );
        drop(viewer);
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_another_host_is_followed_where_the_config_names_it() {
    let frames = std::fs::read(encode_pattern("one.jpg", SIZE, 7, 1, &["-frames:v", "1"])).unwrap();
    let other = MjpegCamera::serve("127.0.0.2", vec![frames.into()]).await;
    let web = Web::serve("127.0.0.1").await;
    let to = format!("http://{}/right", other.address);
    web.put("/moved", Page::Moved(to));
    let source = format!("source = 'http://{}/moved'\n", web.address);
    let gateway = Gateway::with_config(&format!(
        "[streams.refused]\n{source}[streams.named]\n{source}redirects = ['127.0.0.2']\n"
    ))
    .await;
    let _viewer = within("connect", mjpeg(gateway.address, "refused"))
        .await
        .unwrap();
    until_reported(&gateway, "refused", "refers to another host, 127.0.0.2").await;
    let mut viewer = within("connect", mjpeg(gateway.address, "named"))
        .await
        .unwrap();
    assert_eq!(within("a frame", viewer.next_number()).await.unwrap(), 7);
}

/// A film of ten seconds as HLS, with its segments on another server.
fn hls(web: &Web, segments: &Web) {
    let dir = scratch("hls");
    let playlist = dir.join("index.m3u8");
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "30",
        "-bf",
        "0",
        "-sc_threshold",
        "0",
    ];
    let film = encode_pattern("film.ts", SIZE, 0, 300, &arguments);
    sluicegate_tests::media::ffmpeg(|command| {
        command
            .arg("-i")
            .arg(&film)
            .args([
                "-c",
                "copy",
                "-f",
                "hls",
                "-hls_time",
                "2",
                "-hls_list_size",
                "0",
            ])
            .arg(&playlist)
    });
    let text = std::fs::read_to_string(&playlist).unwrap();
    let lines = text.lines().map(|line| match line.ends_with(".ts") {
        true => {
            let bytes = std::fs::read(dir.join(line)).unwrap();
            segments.put(&format!("/{line}"), Page::File("video/mp2t", bytes));
            format!("http://{}/{line}", segments.address)
        }
        false => line.to_owned(),
    });
    let text = lines.collect::<Vec<String>>().join("\n") + "\n";
    web.put(
        "/index.m3u8",
        Page::File("application/vnd.apple.mpegurl", text.into_bytes()),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playlist_names_hosts_that_the_config_names_only() {
    let (web, other) = (Web::serve("127.0.0.1").await, Web::serve("127.0.0.2").await);
    hls(&web, &other);
    let own = Web::serve("127.0.0.1").await;
    hls(&own, &own);
    let gateway = Gateway::with_config(&format!(
        "[streams.refused]\nsource = 'http://{0}/index.m3u8'\n\
         [streams.named]\nsource = 'http://{0}/index.m3u8'\nredirects = ['127.0.0.2']\n\
         [streams.own]\nsource = 'http://{1}/index.m3u8'\n",
        web.address, own.address,
    ))
    .await;
    let _viewer = within("connect", Nal::connect(gateway.address, "refused"))
        .await
        .unwrap();
    let line = gateway
        .logged("a playlist names a URL that is not permitted")
        .await;
    assert!(line.contains("another host, 127.0.0.2"), "{line}");
    until_reported(&gateway, "refused", "refers to another host, 127.0.0.2").await;
    assert_eq!(other.connections(), 0);
    for stream in ["own", "named"] {
        Numbered::connect(&gateway, stream).await.count(20).await;
    }
    assert!(other.connections() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_playlist_names_no_other_protocols() {
    let (web, other) = (Web::serve("127.0.0.1").await, Web::serve("127.0.0.2").await);
    let mut config = String::new();
    for (name, begins) in [
        ("proxy", "httpproxy://OTHER/127.0.0.2:80"),
        ("tcp", "tcp://OTHER"),
        ("nested", "crypto+httpproxy://OTHER/127.0.0.2:80"),
    ] {
        let begins = begins.replace("OTHER", &other.address.to_string());
        for (what, text) in [
            ("segment", format!("#EXTINF:2,\n{begins}/a.ts\n")),
            (
                "key",
                format!("#EXT-X-KEY:METHOD=AES-128,URI=\"{begins}/k\"\n#EXTINF:2,\na.ts\n"),
            ),
        ] {
            let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n{text}#EXT-X-ENDLIST\n");
            let path = format!("/{name}-{what}.m3u8");
            let kind = "application/vnd.apple.mpegurl";
            web.put(&path, Page::File(kind, text.into_bytes()));
            let source = format!("http://{}{path}", web.address);
            config += &format!("[streams.{name}-{what}]\nsource = '{source}'\n");
        }
    }
    web.put("/a.ts", Page::File("video/mp2t", vec![0; 1 << 16]));
    let gateway = Gateway::with_config(&config).await;
    for name in ["proxy", "tcp", "nested"] {
        for what in ["segment", "key"] {
            let stream = format!("{name}-{what}");
            let _viewer = within("connect", Nal::connect(gateway.address, &stream))
                .await
                .unwrap();
            let is_lost = |device: &Value| device["state"] == "retrying";
            let path = format!("/api/devices/{stream}");
            gateway.api_until(&path, "it is refused", is_lost).await;
        }
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_over_http_are_read_in_order_or_by_ranges() {
    let web = Web::serve("127.0.0.1").await;
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "30",
        "-bf",
        "0",
    ];
    // Its index is at the end.
    let mp4 = encode_pattern("film.mp4", SIZE, 0, 90, &arguments);
    let ts = encode_pattern("film.ts", SIZE, 0, 90, &arguments);
    web.put(
        "/film.mp4",
        Page::File("video/mp4", std::fs::read(mp4).unwrap()),
    );
    web.put(
        "/film.ts",
        Page::Endless(
            "Content-Type: video/mp2t\r\n",
            std::fs::read(ts).unwrap(),
            0xff,
        ),
    );
    let gateway = Gateway::with_config(&format!(
        "[streams.mp4]\nsource = 'http://{0}/film.mp4'\n[streams.ts]\nsource = 'http://{0}/film.ts'\n",
        web.address
    ))
    .await;
    for stream in ["mp4", "ts"] {
        let mut viewer = Numbered::connect(&gateway, stream).await;
        viewer.count(1).await;
        let began = Instant::now();
        viewer.count(46).await;
        // A source of known length is a file, however fast the server sends it: this takes a second and a half, except
        // for what the first viewer gets at once.
        let took = began.elapsed();
        let is_live = stream == "ts";
        assert!(is_live || took > Duration::from_millis(1000), "{took:?}");
    }
}

/// An RTSP server that answers DESCRIBE with an endless session description.
async fn endless_sdp_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let (mut line, mut describes, mut sequence) = (String::new(), false, String::new());
                loop {
                    line.clear();
                    if client.read_line(&mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                    describes |= line.starts_with("DESCRIBE");
                    if line.to_ascii_lowercase().starts_with("cseq") {
                        sequence.clone_from(&line);
                    }
                    if line == "\r\n" && !describes {
                        let answer = format!("RTSP/1.0 200 OK\r\n{sequence}\r\n");
                        client.write_all(answer.as_bytes()).await.unwrap();
                    } else if line == "\r\n" {
                        break;
                    }
                }
                let head = format!(
                    "RTSP/1.0 200 OK\r\n{sequence}Content-Type: application/sdp\r\nContent-Length: 2000000000\r\n\r\n"
                );
                let _ = client.write_all(head.as_bytes()).await;
                while client.write_all(&[b' '; 65_536]).await.is_ok() {}
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_libavformat_reads_itself_ends_before_it_takes_all_memory() {
    let web = Web::serve("127.0.0.1").await;
    let camera = endless_sdp_server().await;
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nendless.mp4\n".to_owned();
    web.put(
        "/list.m3u8",
        Page::File("application/vnd.apple.mpegurl", list.into_bytes()),
    );
    // A `moov` box that claims four gigabytes less one byte.
    let begin = b"\0\0\0\x14ftypisom\0\0\0\0isom\xff\xff\xff\xffmoov".to_vec();
    web.put(
        "/endless.mp4",
        Page::Endless("Content-Type: video/mp4\r\n", begin, 0x55),
    );
    let gateway = Gateway::with_config(&format!(
        "[streams.rtsp]\nsource = 'rtsp://{camera}/1'\n[streams.list]\nsource = 'http://{}/list.m3u8'\n",
        web.address
    ))
    .await;
    let before = gateway.memory();
    for (stream, what) in [("rtsp", "memory grew by"), ("list", "cannot open")] {
        let viewer = within("connect", Nal::connect(gateway.address, stream)).await;
        let most = until_reported(&gateway, stream, what).await;
        assert!(
            most < before + 3 * MAX_MEMORY,
            "{stream}: {} MiB",
            (most - before) >> 20
        );
        drop(viewer);
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_files_names_files_only() {
    let web = Web::serve("127.0.0.1").await;
    let list = scratch("list").join("list.m3u8");
    let text = format!(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://{}/a.ts\n#EXT-X-ENDLIST\n",
        web.address
    );
    write(&list, &text);
    let gateway = Gateway::serve(&[list.to_str().unwrap()]).await;
    let _viewer = within("connect", Nal::connect(gateway.address, "list"))
        .await
        .unwrap();
    let is_lost = |device: &Value| device["state"] == "retrying";
    gateway
        .api_until("/api/devices/list", "it is refused", is_lost)
        .await;
    assert_eq!(web.connections(), 0);
}

fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_rtsp_redirect_to_another_host_is_not_followed() {
    let to = "rtsp://127.0.0.2:9/live";
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let camera = tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            if sluicegate_tests::mjpeg::read_head(&mut client)
                .await
                .is_ok()
            {
                let answer = format!("RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {to}\r\n\r\n");
                let _ = tokio::io::AsyncWriteExt::write_all(&mut client, answer.as_bytes()).await;
            }
        }
    });
    let gateway = Gateway::serve(&[&format!("rtsp://{address}/1")]).await;
    let _viewer = within("connect", Nal::connect(gateway.address, "127.0.0.1"))
        .await
        .unwrap();
    until_reported(&gateway, "127.0.0.1", "refers to another host, 127.0.0.2").await;
    camera.abort();
}
