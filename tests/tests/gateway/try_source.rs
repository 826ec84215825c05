//! `POST /api/try`: what a source delivers, or what is wrong with it.

use bytes::Bytes;
use serde_json::{Value, json};
use sluicegate_tests::{
    Feeder, Gateway, Rtsp,
    client::request_with,
    feeder::{free_port, gone},
    http_get,
    media::encode_pattern,
    mjpeg::MjpegCamera,
    within,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

const SIZE: (u32, u32) = (640, 384);

/// Largest number of tries at the same time.
const MOST: usize = 4;

/// Status, head and body of the answer to a try.
async fn asked(address: SocketAddr, body: &Value) -> (u16, String, Value) {
    let body = body.to_string();
    let asked = request_with(address, "POST", "/api/try", &[], body.as_bytes());
    let (status, head, body) = within("the answer to a try", asked).await.unwrap();
    (status, head, serde_json::from_slice(&body).unwrap())
}

/// What a source delivers.
async fn tried(gateway: &Gateway, source: &str) -> Value {
    let (status, _, result) = asked(gateway.address, &json!({ "source": source })).await;
    assert_eq!(status, 200, "{result}");
    result
}

/// What is wrong with a source.
async fn wrong(gateway: &Gateway, source: &str) -> String {
    let (status, _, result) = asked(gateway.address, &json!({ "source": source })).await;
    let text = result["error"].as_str().unwrap().to_owned();
    let is_forbidden = text.contains("only in the config file");
    let expected = if is_forbidden { 403 } else { 422 };
    assert_eq!(status, expected, "{source}: {result}");
    text
}

/// A server that answers every request with `answer`, in which `{CSeq}` is the number of the request.
async fn server(answer: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let mut all = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            all.spawn(async move {
                let mut request = vec![0; 4000];
                while let Ok(length @ 1..) = client.read(&mut request).await {
                    let text = String::from_utf8_lossy(&request[..length]).into_owned();
                    let number = text.lines().find_map(|line| line.strip_prefix("CSeq: "));
                    let answer = answer.replace("{CSeq}", number.unwrap_or_default());
                    let _ = client.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    (address, served)
}

/// The width of a preview, which is a JPEG in a `data:` URL.
fn preview_width(result: &Value) -> u32 {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let url = result["preview"].as_str().expect("a preview");
    let data = url.strip_prefix("data:image/jpeg;base64,").unwrap();
    let jpeg = BASE64_STANDARD.decode(data).unwrap();
    sluicegate_media::jpeg::size(&jpeg).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_is_described_with_its_tracks_rates_and_a_frame() {
    let film = encode_pattern(
        "try-aac.mp4",
        SIZE,
        0,
        300,
        &[
            "-f",
            "lavfi",
            "-i",
            "sine=440:sample_rate=48000:duration=10",
            "-map",
            "0:v",
            "-map",
            "1:a",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-bf",
            "0",
            "-g",
            "30",
            "-c:a",
            "aac",
        ],
    );
    let camera = Rtsp::serve(&film, None).await;
    let gateway = Gateway::serve(&["test-pattern"]).await;
    let began = Instant::now();
    let result = tried(&gateway, &camera.source()).await;
    assert!(
        began.elapsed() < Duration::from_secs(16),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(result["text"], "connected, H.264 640×384, 30/s, AAC 48 kHz");
    let video = &result["video"];
    assert_eq!(
        (&video["width"], &video["height"]),
        (&json!(640), &json!(384))
    );
    assert!(
        video["codec"].as_str().unwrap().starts_with("avc1."),
        "{result}"
    );
    let rate = video["frame_rate"].as_f64().unwrap();
    assert!((29.5..30.5).contains(&rate), "{rate}");
    assert_eq!(
        (&result["audio"]["codec"], &result["audio"]["rate"]),
        (&json!("aac"), &json!(48000))
    );
    assert!(
        result["bits_per_second"].as_u64().unwrap() > 10_000,
        "{result}"
    );
    assert_eq!(result["notes"], json!([]));
    assert_eq!(preview_width(&result), 320);
    // It is in no list.
    let devices = gateway.api("/api/devices").await;
    assert_eq!(devices.as_array().unwrap().len(), 1, "{devices}");
    let (_, _, metrics) = http_get(gateway.address, "/metrics", &[]).await.unwrap();
    assert!(!String::from_utf8_lossy(&metrics).contains("\"try\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mjpeg_camera_with_a_login_and_the_test_pattern_are_described() {
    let camera = MjpegCamera::serve("127.0.0.1", jpegs()).await;
    let gateway = Gateway::serve(&["test-pattern"]).await;
    let result = tried(
        &gateway,
        &format!("http://viewer:pass:word@{}/digest", camera.address),
    )
    .await;
    let text = result["text"].as_str().unwrap();
    assert!(text.starts_with("connected, MJPEG 320×192, "), "{text}");
    assert!(text.ends_with("/s, no audio"), "{text}");
    assert_eq!(
        (&result["video"]["codec"], &result["audio"]),
        (&json!("jpeg"), &Value::Null)
    );
    assert_eq!(preview_width(&result), 320);
    let result = tried(&gateway, " test-pattern ").await;
    assert_eq!(preview_width(&result), 320);
}

/// Frames as JPEGs.
fn jpegs() -> Vec<Bytes> {
    let frames = (0..10).map(|number| {
        let name = format!("try-{number}.jpg");
        let file = encode_pattern(&name, (320, 192), number, 1, &["-frames:v", "1"]);
        Bytes::from(std::fs::read(file).unwrap())
    });
    frames.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_with_what_to_do_and_without_secrets() {
    let (rtsp, _rtsp) = server(
        "RTSP/1.0 401 Unauthorized\r\nCSeq: {CSeq}\r\nWWW-Authenticate: Basic realm=\"cam\"\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let (page, _page) = server(
        "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: 12\r\n\r\n<p>Hello</p>",
    )
    .await;
    let camera = MjpegCamera::serve("127.0.0.1", jpegs()).await;
    let (http, closed) = (camera.address, free_port().await);
    let gateway = Gateway::serve(&["test-pattern"]).await;
    for (source, advice) in [
        (
            format!("rtsp://viewer:hunter2@{rtsp}/hunter2"),
            "valid user name and password",
        ),
        (
            format!("http://viewer:hunter2@{http}/digest?key=hunter2"),
            "valid user name and password",
        ),
        (
            format!("http://{http}/digest"),
            "valid user name and password",
        ),
        (
            format!("http://viewer:hunter2@{http}/nothing"),
            "no video under this path",
        ),
        (
            format!("http://viewer:hunter2@{page}/hunter2"),
            "no video that the gateway can read",
        ),
        (
            format!("rtsp://viewer:hunter2@127.0.0.1:{closed}/hunter2"),
            "nothing listens there",
        ),
        (
            format!("http://viewer:hunter2@127.0.0.1:{closed}/hunter2"),
            "nothing listens there",
        ),
        (
            format!("annexb:tcp://127.0.0.1:{closed}"),
            "nothing listens there",
        ),
        (
            "rtsp://viewer:hunter2@no-such-host.invalid/hunter2".into(),
            "no host of this name",
        ),
        (
            "http://viewer:hunter2@no-such-host.invalid/hunter2".into(),
            "no host of this name",
        ),
        (
            "rtps://viewer:hunter2@cam/hunter2".into(),
            "did you mean `rtsp`?",
        ),
        ("192.168.1.20".into(), "write rtsp://192.168.1.20/PATH"),
        ("file:hunter2.mp4".into(), "only in the config file"),
        ("screen:".into(), "only in the config file"),
        ("lavfi:movie=hunter2".into(), "only in the config file"),
        ("annexb:-".into(), "only in the config file"),
        ("annexb:listen:5000".into(), "only in the config file"),
        (
            "udp://viewer:hunter2@0.0.0.0:5000".into(),
            "only in the config file",
        ),
        ("v4l2:/etc/passwd".into(), "only in the config file"),
    ] {
        let error = wrong(&gateway, &source).await;
        assert!(error.contains(advice), "{source}: {error}");
        assert!(!error.contains("hunter2"), "{source}: {error}");
    }
    assert!(gateway.logs("hunter2").is_empty());
}

#[tokio::test]
async fn a_request_that_is_not_valid_is_refused_without_its_secrets() {
    let gateway = Gateway::serve(&["test-pattern"]).await;
    for (body, status) in [
        (json!([]), 400),
        (json!("rtsp://viewer:hunter2@cam/x"), 400),
        (json!({}), 400),
        (json!({ "source": 5 }), 400),
        (json!({ "source": "test-pattern", "idle": "1s" }), 400),
        (
            json!({ "source": "test-pattern", "redirects": ["rtsp://viewer:hunter2@cam/x"] }),
            400,
        ),
        (
            json!({ "source": "test-pattern", "every": "rtsp://viewer:hunter2@cam/x" }),
            400,
        ),
        (json!({ "source": "test-pattern", "every": "1ms" }), 422),
        (json!({ "source": "" }), 422),
    ] {
        let (answered, _, result) = asked(gateway.address, &body).await;
        assert_eq!(answered, status, "{body}: {result}");
        let error = result["error"].as_str().unwrap();
        assert!(
            error.len() > 20 && !error.contains("hunter2"),
            "{body}: {error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_source_is_given_up_and_one_try_too_many_is_told_to_come_back() {
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&["test-pattern"]).await;
    let began = Instant::now();
    let (mut running, mut sources) = (Vec::new(), Vec::new());
    for scheme in ["rtsp", "rtsp", "http", "annexb"] {
        let source = match scheme {
            "annexb" => feeder.source(),
            scheme => format!("{scheme}://viewer:hunter2@{}/x", feeder.address()),
        };
        let address = gateway.address;
        running.push(tokio::spawn(async move {
            asked(address, &json!({ "source": source })).await
        }));
        sources.push(feeder.accept().await);
    }
    assert_eq!(running.len(), MOST);
    let (status, head, result) = asked(gateway.address, &json!({ "source": "test-pattern" })).await;
    assert_eq!(status, 503, "{result}");
    assert!(head.to_lowercase().contains("retry-after: "), "{head}");
    assert!(
        result["error"].as_str().unwrap().contains("try again"),
        "{result}"
    );
    for one in running {
        let (status, _, result) = one.await.unwrap();
        let error = result["error"].as_str().unwrap();
        assert_eq!(status, 422, "{result}");
        assert!(
            error.contains("10 s") && !error.contains("hunter2"),
            "{error}"
        );
    }
    let took = began.elapsed();
    assert!((9..16).contains(&took.as_secs()), "{took:?}");
    let annexb = sources.pop().unwrap();
    gone(annexb).await;
    // Then there is room again.
    tried(&gateway, "test-pattern").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_ends_the_source() {
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&["test-pattern"]).await;
    let body = json!({ "source": feeder.source() }).to_string();
    for _ in 0..2 * MOST {
        let mut client = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!(
            "POST /api/try HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            gateway.address,
            body.len()
        );
        client
            .write_all([head, body.clone()].concat().as_bytes())
            .await
            .unwrap();
        let source = feeder.accept().await;
        let began = Instant::now();
        drop(client);
        gone(source).await;
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
}
