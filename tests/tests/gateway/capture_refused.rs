//! Captures that fail: each failure has its own error code, and a damaged image is never returned as a good one.

use crate::capture::DEMO;
use serde_json::{Value, json};
use sluicegate_tests::{
    CaptureClient, Feeder, Gateway,
    camera::{self, GROUP},
    capture::post,
    client::jpeg_number,
    feeder::write_in_chunks,
    http_get,
    media::with_start_codes,
};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_capture_request_is_refused_by_name() {
    let patient = format!("{DEMO}[capture]\ntimeout = '20s'\n");
    let gateway = Gateway::with_config(&patient).await;
    let mut shots = CaptureClient::of(&gateway, "demo").await;
    for (text, code, what) in [
        (
            "image, please",
            "BAD_REQUEST",
            "not a valid capture request: write a JSON object",
        ),
        (
            "{}",
            "BAD_REQUEST",
            "`type` is missing; write {\"type\":\"capture\"}",
        ),
        ("{\"type\":\"shoot\"}", "BAD_REQUEST", "write \"capture\""),
        (
            "{\"type\":\"capture\",\"qualty\":8}",
            "BAD_REQUEST",
            "unknown field `qualty`",
        ),
        (
            "{\"type\":\"capture\",\"quality\":0}",
            "BAD_REQUEST",
            "from 1 to 100",
        ),
        (
            "{\"type\":\"capture\",\"width\":1}",
            "BAD_REQUEST",
            "from 16 to 8192",
        ),
        (
            "{\"type\":\"capture\",\"format\":\"gif\"}",
            "UNSUPPORTED_FORMAT",
            "write jpeg, png or webp",
        ),
    ] {
        shots.say(text).await;
        let failure = shots.answer().await.unwrap_err();
        assert_eq!(failure["code"], code, "{failure}");
        assert!(
            failure["message"].as_str().unwrap().contains(what),
            "{failure}"
        );
        assert_eq!(
            failure["capture_id"].as_str().unwrap().len(),
            16,
            "{failure}"
        );
    }
    // The client is still served.
    shots.take(json!({})).await.unwrap();

    for (serial, body, status, code) in [
        ("demo", "{\"format\":\"bmp\"}", 415, "UNSUPPORTED_FORMAT"),
        ("demo", "{\"quality\":\"best\"}", 400, "BAD_REQUEST"),
        ("dem", "", 404, "UNKNOWN_DEVICE"),
    ] {
        let (found, head, answer) = post(&gateway, serial, "application/json", body).await;
        let failure: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(
            (found, failure["code"].as_str()),
            (status, Some(code)),
            "{head} {failure}"
        );
    }
    let long = format!("{{\"format\":\"{}\"}}", "x".repeat(5000));
    let (status, _, _) = post(&gateway, "demo", "*/*", &long).await;
    assert_eq!(status, 400);
    let get = |path: &'static str| async { http_get(gateway.address, path, &[]).await.unwrap() };
    for (path, status, what) in [
        ("/live/dem/frame.jpg", 404, "did you mean `demo`?"),
        ("/live/demo@x/frame.jpg", 404, "there is no rendition `x`"),
        (
            "/live/demo/frame.jpg?width=9",
            400,
            "write a whole number from 16 to 8192",
        ),
        ("/api/ws/capture/dem", 404, "UNKNOWN_DEVICE"),
        ("/api/ws/capture/demo", 426, "this path is for WebSocket"),
    ] {
        let (found, _, body) = get(path).await;
        let body = String::from_utf8(body).unwrap();
        assert!(
            found == status && body.contains(what),
            "{path}: {found} {body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_a_frame_is_waited_for_and_one_that_is_gone_is_offline() {
    let silent = Feeder::bind().await;
    let gone = Feeder::bind().await;
    let config = format!(
        "[capture]\ntimeout = \"400ms\"\n[streams.silent]\nsource = \"{}\"\n[streams.gone]\nsource = \"{}\"\n",
        silent.source(),
        gone.source()
    );
    drop(gone);
    let gateway = Gateway::with_config(&config).await;
    let began = Instant::now();
    let message = failure(&gateway, "silent", 504, "CAPTURE_TIMEOUT").await;
    assert!(began.elapsed().as_millis() >= 400);
    assert!(
        message.contains("connected; no frame yet")
            && message.contains("`timeout` under [capture]"),
        "{message}"
    );
    let message = failure(&gateway, "gone", 503, "DEVICE_OFFLINE").await;
    assert!(message.contains("refused"), "{message}");
}

/// Fails the test unless a capture of the stream fails with this status and code; returns the message.
async fn failure(gateway: &Gateway, stream: &str, status: u16, code: &str) -> String {
    let (found, _, body) = post(gateway, stream, "*/*", "").await;
    let failure: Value = serde_json::from_slice(&body).unwrap();
    let is = (found, failure["code"].as_str());
    assert_eq!(is, (status, Some(code)), "{failure}");
    failure["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_captures_of_a_client_or_of_a_stream_are_refused_as_busy() {
    let silent = Feeder::bind().await;
    let config = format!(
        "[capture]\ntimeout = \"2s\"\n[streams.cam]\nsource = \"{}\"\n",
        silent.source()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(CaptureClient::of(&gateway, "cam").await);
    }
    let mut codes = Vec::new();
    for shots in &mut clients[..1] {
        for _ in 0..6 {
            shots.ask(json!({})).await;
        }
        for _ in 0..6 {
            codes.push(shots.answer().await.unwrap_err()["code"].clone());
        }
    }
    // Answers come in the order of the requests: four waited, two did not fit in the queue.
    let (timeout, busy) = (json!("CAPTURE_TIMEOUT"), json!("CAPTURE_BUSY"));
    assert_eq!(
        codes[..4],
        [
            timeout.clone(),
            timeout.clone(),
            timeout.clone(),
            timeout.clone()
        ]
    );
    assert_eq!(codes[4..], [busy.clone(), busy.clone()]);
    // Six clients send 24 requests: one is in progress and sixteen wait.
    for shots in &mut clients {
        for _ in 0..4 {
            shots.ask(json!({})).await;
        }
    }
    let mut refused = 0;
    for shots in &mut clients {
        for _ in 0..4 {
            let failure = shots.answer().await.unwrap_err();
            if failure["code"] == busy {
                let message = failure["message"].as_str().unwrap();
                assert!(
                    message.contains("16 captures of this stream are already waiting"),
                    "{message}"
                );
                refused += 1;
            }
        }
    }
    assert!((7..=8).contains(&refused), "{refused} of 24");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_decoder_no_capture() {
    let gateway = Gateway::with_config(&format!("[capture]\ndecoder = false\n{DEMO}")).await;
    let mut shots = CaptureClient::of(&gateway, "demo").await;
    let failure = shots.take(json!({})).await.unwrap_err();
    assert_eq!(failure["code"], "DECODER_DISABLED");
    let (status, _, _) = http_get(gateway.address, "/live/demo/frame.jpg", &[])
        .await
        .unwrap();
    assert_eq!(status, 501);
    assert_eq!(gateway.api("/api/devices/demo").await["decoder"], "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_frame_is_never_captured_the_last_good_one_is_with_its_age() {
    let clip = camera::clip();
    let feeder = Feeder::bind().await;
    let config = format!(
        "[capture]\ntimeout = \"1s\"\n[streams.cam]\nsource = \"{}\"\n",
        feeder.source()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut shots = CaptureClient::of(&gateway, "cam").await;
    let mut connection = feeder.accept().await;
    let whole = |place: usize| with_start_codes(&clip.frames[place], |_| 4);
    // Keeps the slice header and destroys the coded data.
    let broken = |place: usize| {
        let mut bytes = whole(place);
        let from = bytes.len() / 3;
        let length = bytes.len();
        for (at, byte) in bytes[from..length - 1].iter_mut().enumerate() {
            *byte = 0x55 ^ (at as u8).wrapping_mul(37) | 0x10;
        }
        bytes
    };
    // A keyframe that cannot be decoded, with nothing before it.
    write_in_chunks(&mut connection, &broken(0)).await;
    let failure = shots.take(json!({})).await.unwrap_err();
    assert_eq!(failure["code"], "DECODE_FAILED", "{failure}");
    let mut number_after = async |bytes: Vec<u8>, decoded: u64| {
        write_in_chunks(&mut connection, &bytes).await;
        let reached = |device: &Value| {
            device["made"]["decoded"].as_u64().unwrap() + device["made"]["failed"].as_u64().unwrap()
                >= decoded
        };
        gateway
            .api_until("/api/devices/cam", "it is decoded", reached)
            .await;
        let (said, jpeg) = shots.take(json!({})).await.unwrap();
        (jpeg_number(&jpeg), said["age_ms"].as_u64().unwrap())
    };
    let so_far = gateway.api("/api/devices/cam").await;
    let so_far =
        so_far["made"]["decoded"].as_u64().unwrap() + so_far["made"]["failed"].as_u64().unwrap();
    let (number, _) = number_after(whole(GROUP), so_far + 1).await;
    assert_eq!(number, Some(GROUP as u32));
    // A frame that refers to a broken one counts as broken, too.
    let (number, age) = number_after(broken(GROUP + 1), so_far + 2).await;
    assert_eq!(number, Some(GROUP as u32));
    let (number, later) = number_after(whole(GROUP + 2), so_far + 3).await;
    assert_eq!(number, Some(GROUP as u32));
    assert!(later >= age, "{later} {age}");
    let (number, _) = number_after(whole(2 * GROUP), so_far + 4).await;
    assert_eq!(number, Some(2 * GROUP as u32));
}
