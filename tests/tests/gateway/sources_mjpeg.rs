//! MJPEG cameras, each with its own variant of the protocol, and recordings of their output.

use bytes::Bytes;
use serde_json::Value;
use sluicegate_tests::{
    Gateway,
    client::{Mjpeg, jpeg_number},
    feeder::free_port,
    media::encode_pattern,
    mjpeg,
    mjpeg::{MjpegCamera, VARIANTS, Way, without_tables},
    scratch, within,
};
use std::{collections::HashSet, sync::Arc, time::Instant};
use tokio::task::JoinSet;

const SIZE: (u32, u32) = (320, 192);
/// Frames that a viewer of each camera receives.
const FRAMES_PER_CAMERA: usize = 8;

/// Numbered frames with the Huffman tables of ITU-T T.81 K.3.
fn jpegs() -> Vec<Bytes> {
    let name = "film.mjpeg";
    let arguments = [
        "-c:v", "mjpeg", "-q:v", "6", "-pix_fmt", "yuvj420p", "-huffman", "default",
    ];
    let film = std::fs::read(encode_pattern(name, SIZE, 0, 60, &arguments)).unwrap();
    let starts: Vec<usize> = (0..film.len() - 2)
        .filter(|at| film[*at..].starts_with(&[0xff, 0xd8, 0xff]))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([film.len()]);
    let found: Vec<Bytes> = starts
        .iter()
        .zip(ends)
        .map(|(start, end)| Bytes::copy_from_slice(&film[*start..end]))
        .collect();
    assert_eq!(found.len(), 60);
    found
}

/// Watches the stream of this camera and checks the frames.
async fn watch(gateway: &Gateway, stream: &str, way: &Way, frames: &[Bytes]) {
    let mut viewer = within(stream, mjpeg(gateway.address, stream))
        .await
        .unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < FRAMES_PER_CAMERA {
        let jpeg = within(stream, viewer.next()).await.unwrap();
        let number = jpeg_number(&jpeg).unwrap_or_else(|| panic!("{stream}: no frame"));
        let whole = &frames[number as usize];
        // Byte for byte, with missing tables added.
        let sent = (way.sent)(whole);
        let is_sent = jpeg == sent || jpeg == [&sent[..], &[0xff, 0xd9]].concat();
        assert!(
            is_sent || without_tables(&jpeg) == sent,
            "{stream}: {number}"
        );
        assert!(jpeg.ends_with(&[0xff, 0xd9]), "{stream}");
        numbers.push(number);
    }
    // The last frame is repeated in a silence, as on any MJPEG stream.
    numbers.dedup();
    let different: HashSet<u32> = numbers.iter().copied().collect();
    assert!(
        different.len() > FRAMES_PER_CAMERA / 2,
        "{stream}: {numbers:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_camera_is_understood_and_its_frames_pass_byte_for_byte() {
    let frames = jpegs();
    let camera = MjpegCamera::serve("127.0.0.1", frames.clone()).await;
    let host = camera.address;
    let mut config = String::new();
    let mut streams: Vec<(String, &'static Way)> = Vec::new();
    for way in &VARIANTS {
        config += &format!(
            "[streams.{}]\nsource = 'http://{host}/{}'\nevery = '50ms'\n",
            way.name, way.name
        );
        streams.push((way.name.into(), way));
    }
    let right = &VARIANTS[0];
    for (name, url) in [
        (
            "basic",
            format!("http://viewer:pass%3Aword@{host}/basic?channel=1"),
        ),
        (
            "digest",
            format!("http://viewer:pass:word@{host}/digest?channel=1"),
        ),
        ("moved", format!("http://{host}/moved/moved/right")),
    ] {
        config += &format!("[streams.{name}]\nsource = '{url}'\n");
        streams.push((name.into(), right));
    }
    let gateway = Gateway::with_config(&config).await;
    let (gateway, frames) = (Arc::new(gateway), Arc::new(frames));
    let mut watching = JoinSet::new();
    for (stream, way) in streams {
        let (gateway, frames) = (gateway.clone(), frames.clone());
        watching.spawn(async move { watch(&gateway, &stream, way, &frames).await });
    }
    while let Some(done) = watching.join_next().await {
        done.unwrap();
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_that_gives_one_jpeg_is_asked_again_as_often_as_configured() {
    let frames = jpegs();
    let camera = MjpegCamera::serve("127.0.0.1", frames.clone()).await;
    let host = camera.address;
    let gateway = Gateway::with_config(&format!(
        "[streams.usual]\nsource = 'http://{host}/one'\n[streams.slow]\nsource = 'http://{host}/one'\nevery = '1s'\n"
    ))
    .await;
    for (stream, every) in [("usual", 0.5), ("slow", 1.0)] {
        let mut viewer = within("connect", mjpeg(gateway.address, stream))
            .await
            .unwrap();
        let first = next_other(&mut viewer, None).await;
        let since = Instant::now();
        let mut last = first;
        for _ in 0..4 {
            last = next_other(&mut viewer, Some(last)).await;
        }
        let took = since.elapsed().as_secs_f64();
        assert!(took > 4.0 * every - 0.2, "{stream}: {took}");
        // The same connection, frame by frame.
        assert!(last > first, "{stream}: {first} to {last}");
    }
}

async fn next_other(viewer: &mut Mjpeg, last: Option<u32>) -> u32 {
    loop {
        let number = within("a frame", viewer.next_number()).await.unwrap();
        if Some(number) != last {
            return number;
        }
    }
}

#[tokio::test]
async fn a_refusal_by_a_camera_is_reported_with_advice() {
    let camera = MjpegCamera::serve("127.0.0.1", jpegs()).await;
    let host = camera.address;
    let closed = free_port().await;
    let gateway = Gateway::with_config(&format!(
        "[streams.login]\nsource = 'http://{host}/digest'\n\
         [streams.wrong]\nsource = 'http://viewer:other@{host}/digest'\n\
         [streams.missing]\nsource = 'http://{host}/nothing'\n\
         [streams.closed]\nsource = 'http://127.0.0.1:{closed}/'\n"
    ))
    .await;
    for (stream, what) in [
        (
            "login",
            "the server requires a login; write it into the URL",
        ),
        ("wrong", "the server rejected the login"),
        ("missing", "the server answered 404 Not Found"),
        ("closed", "Connection refused"),
    ] {
        let _viewer = within(
            "connect",
            sluicegate_tests::Nal::connect(gateway.address, stream),
        )
        .await;
        let told = |device: &Value| device["reason"].as_str().unwrap_or_default().contains(what);
        let device = gateway
            .api_until(&format!("/api/devices/{stream}"), what, told)
            .await;
        assert!(!device.to_string().contains("other@"), "{device}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_jpegs_and_of_what_a_camera_sent_are_played() {
    let frames = jpegs();
    let dir = scratch("sent");
    let bare = dir.join("bare.mjpeg");
    std::fs::write(&bare, frames.concat()).unwrap();
    let multipart = dir.join("multipart.bin");
    let part = |jpeg: &Bytes| {
        [
            &b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: 17\r\n\r\n"[..],
            jpeg,
            b"\r\n",
        ]
        .concat()
    };
    std::fs::write(
        &multipart,
        frames.iter().flat_map(part).collect::<Vec<u8>>(),
    )
    .unwrap();
    let one = dir.join("one.jpg");
    std::fs::write(&one, &frames[7]).unwrap();
    let gateway =
        Gateway::serve(&[&bare, &multipart, &one].map(|path| path.to_str().unwrap())).await;
    let right = &VARIANTS[0];
    watch(&gateway, "bare", right, &frames).await;
    watch(&gateway, "multipart", right, &frames).await;
    let mut still = within("connect", mjpeg(gateway.address, "one"))
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(within("a frame", still.next()).await.unwrap(), frames[7]);
    }
}
