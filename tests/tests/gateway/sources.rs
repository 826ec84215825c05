//! Sources that appear, disappear and return, and the state that is reported for the stream meanwhile.

use bytes::Bytes;
use serde_json::Value;
use sluicegate_tests::{
    Feeder, Gateway, Nal, Numbered, Rtsp,
    client::{Mjpeg, is_header},
    feeder::{free_port, gone},
    media::{cut, encode_pattern, ffmpeg, frames, nals_of, packets_of, with_start_codes},
    mjpeg, scratch, within,
};
use std::{collections::HashSet, path::Path, time::Instant};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const SIZE: (u32, u32) = (320, 192);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_returning_source_keeps_its_viewers() {
    let feeder = Feeder::bind().await;
    let address = feeder.address();
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut nal = Numbered::connect(&gateway, "annexb").await;
    let mut jpegs = within("connect", mjpeg(gateway.address, "annexb"))
        .await
        .unwrap();

    let mut source = feeder.accept().await;
    write(&mut source, &baseline(0, 30)).await;
    nal.until(29).await;
    until(&mut jpegs, 29).await;
    assert_eq!(nal.numbers, (0..30).collect::<Vec<_>>());
    let live = state(&gateway, "live").await;
    assert_eq!(
        (live["viewers"].as_u64(), live["reason"].as_str()),
        (Some(2), Some("receiving video"))
    );

    drop((source, feeder));
    let away = state(&gateway, "retrying").await;
    let reason = away["reason"].as_str().unwrap();
    assert!(
        reason.contains(&format!("annexb:tcp://{address}")),
        "{reason}"
    );
    assert_eq!(away["viewers"], 2);

    let feeder = Feeder::bind_at(address).await;
    let mut source = feeder.accept().await;
    write(&mut source, &baseline(100, 30)).await;
    nal.until(129).await;
    until(&mut jpegs, 129).await;
    assert_eq!(nal.numbers, (0..30).chain(100..130).collect::<Vec<_>>());
    let live = state(&gateway, "live").await;
    assert_eq!(live["viewers"], 2);
    let sessions = gateway.api("/api/sessions").await;
    assert_eq!(
        sessions["sessions"].as_array().unwrap().len(),
        2,
        "the same two: {sessions:#}"
    );
}

#[tokio::test]
async fn source_that_never_comes_is_retried_with_its_reason() {
    let refused = format!("annexb:tcp://127.0.0.1:{}", free_port().await);
    let missing = scratch("missing").join("nothing.mp4");
    let text = scratch("text").join("text.mp4");
    std::fs::write(&text, "no film").unwrap();
    let gateway = Gateway::with_config(&format!(
        "[streams.refused]\nsource = '{refused}'\n[streams.missing]\nsource = 'file:{}'\n[streams.text]\nsource = 'file:{}'\n",
        missing.display(),
        text.display()
    ))
    .await;
    for (stream, what) in [
        (
            "refused",
            format!("cannot open {refused}: Connection refused"),
        ),
        (
            "missing",
            "cannot open file:nothing.mp4: No such file".to_owned(),
        ),
        ("text", "cannot open file:text.mp4: Invalid data".to_owned()),
    ] {
        let idle = gateway.api(&format!("/api/devices/{stream}")).await;
        assert_eq!(idle["state"], "idle");
        let viewer = Nal::connect(gateway.address, stream).await.unwrap();
        let reason = |device: &Value| {
            device["state"] == "retrying"
                && device["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.starts_with(&what))
        };
        let device = gateway
            .api_until(&format!("/api/devices/{stream}"), &what, reason)
            .await;
        assert_eq!(device["viewers"], 1);
        drop(viewer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn source_runs_from_its_first_user_until_the_idle_time_after_its_last() {
    let feeder = Feeder::bind().await;
    let gateway = Gateway::with_config(&format!(
        "[streams.porch]\nsource = '{}'\nidle = '1s'\n",
        feeder.source()
    ))
    .await;
    let idle = state(&gateway, "idle").await;
    assert_eq!(idle["reason"], "nobody is watching");
    let film = baseline(0, 10);
    for transport in ["nal", "mjpeg"] {
        let (mut nal, mut jpegs) = (None, None);
        if transport == "nal" {
            nal = Some(Numbered::connect(&gateway, "porch").await);
        } else {
            jpegs = Some(
                within("connect", mjpeg(gateway.address, "porch"))
                    .await
                    .unwrap(),
            );
        }
        let mut source = feeder.accept().await;
        state(&gateway, "starting").await;
        write(&mut source, &film).await;
        if let Some(nal) = &mut nal {
            nal.until(9).await;
        }
        if let Some(jpegs) = &mut jpegs {
            until(jpegs, 9).await;
            assert_eq!(state(&gateway, "live").await["decoder"], "running");
        }
        state(&gateway, "live").await;
        let left = Instant::now();
        drop((nal, jpegs));
        gone(source).await;
        let ran_on = left.elapsed();
        assert!(
            (0.9..5.0).contains(&ran_on.as_secs_f64()),
            "it ran on for {ran_on:?}"
        );
        let idle = state(&gateway, "idle").await;
        assert_eq!(
            (idle["viewers"].as_u64(), idle["decoder"].as_str()),
            (Some(0), Some("stopped"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_who_comes_back_within_the_idle_time_finds_the_same_run() {
    let feeder = Feeder::bind().await;
    let gateway = Gateway::with_config(&format!(
        "[streams.porch]\nsource = '{}'\nidle = '20s'\n",
        feeder.source()
    ))
    .await;
    let mut first = Numbered::connect(&gateway, "porch").await;
    let mut source = feeder.accept().await;
    let film = baseline(0, 20);
    write(&mut source, &film[..10]).await;
    first.until(9).await;
    drop(first);
    let left = |device: &Value| device["viewers"] == 0;
    gateway
        .api_until("/api/devices/porch", "the viewer is gone", left)
        .await;
    let mut second = Numbered::connect(&gateway, "porch").await;
    second.until(9).await;
    // On the same connection.
    write(&mut source, &film[10..]).await;
    second.until(19).await;
    assert_eq!(second.numbers, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mjpeg_file_passes_byte_for_byte_and_is_encoded_for_nal() {
    for extension in ["avi", "mkv"] {
        let arguments = ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"];
        let film = encode_pattern(&format!("door.{extension}"), SIZE, 0, 90, &arguments);
        let frames = jpegs_of(&film);
        assert_eq!(frames.len(), 90);
        let gateway = Gateway::serve(&[film.to_str().unwrap()]).await;
        let mut viewer = within("connect", mjpeg(gateway.address, "door"))
            .await
            .unwrap();
        let mut last = None;
        for _ in 0..40 {
            let jpeg = within("a frame", viewer.next()).await.unwrap();
            let at = frames
                .iter()
                .position(|frame| *frame == jpeg)
                .expect("not a frame of the file");
            assert!(last.is_none_or(|last| at > last), "{at} after {last:?}");
            last = Some(at);
        }
        let device = &gateway.api("/api/devices").await[0];
        assert_eq!(
            [
                &device["serial"],
                &device["codec"],
                &device["decoder"],
                &device["width"],
                &device["height"]
            ]
            .map(Value::to_string),
            ["\"door\"", "\"jpeg\"", "\"stopped\"", "320", "192"]
        );
        let mut nal = Numbered::connect(&gateway, "door").await;
        while nal.numbers.len() < 20 {
            let message = within("an encoded frame", nal.viewer.next()).await.unwrap();
            nal.numbers.extend(nal.reader.feed(&message));
        }
        let goes_on = |two: &[u32]| two[0] < two[1] || (two[0] > 80 && two[1] < 10);
        assert!(nal.numbers.windows(2).all(goes_on), "{:?}", nal.numbers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_returns_in_another_codec_is_passed_or_encoded_as_needed() {
    let encode = |name, first, arguments: &[&str]| encode_pattern(name, SIZE, first, 30, arguments);
    let jpegs = ["-c:v", "mjpeg", "-q:v", "4", "-pix_fmt", "yuvj420p"];
    let h264 = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "0",
        "-g",
        "10",
    ];
    let film = encode("door.mkv", 0, &jpegs);
    // A file that is played in a loop is opened again each time it ends.
    let show = |other: &Path| {
        let copy = film.with_extension("new");
        std::fs::copy(other, &copy).unwrap();
        std::fs::rename(copy, &film).unwrap();
    };
    let (one, other) = (film.with_extension("one"), encode("other.mkv", 100, &h264));
    std::fs::copy(&film, &one).unwrap();
    let slices: HashSet<Bytes> = packets_of(&other).into_iter().collect();
    let passed = |message: &[u8]| cut(message).iter().any(|unit| slices.contains(unit));

    let gateway = Gateway::serve(&[film.to_str().unwrap()]).await;
    let mut nal = Numbered::connect(&gateway, "door").await;
    let mut mjpeg = within("connect", mjpeg(gateway.address, "door"))
        .await
        .unwrap();
    for round in 0..2 {
        for is_passed in [false, true] {
            let what = format!("round {round}, passed: {is_passed}");
            if (round, is_passed) != (0, false) {
                show(if is_passed { &other } else { &one });
            }
            let mut numbers = Vec::new();
            while numbers.len() < 15 {
                let message = within(&what, nal.viewer.next()).await.unwrap();
                let shown = nal.reader.feed(&message);
                // Every frame after the first has the same form.
                if !is_header(&cut(&message)) {
                    let fits = passed(&message) == is_passed;
                    assert!(fits || numbers.is_empty(), "{what}");
                    numbers.extend(shown.into_iter().filter(|_| fits));
                }
            }
            assert!(
                numbers.iter().all(|number| (*number >= 100) == is_passed),
                "{what}: {numbers:?}"
            );
            // JPEGs are encoded from frames that are none.
            while (within(&what, mjpeg.next_number()).await.unwrap() >= 100) != is_passed {}
        }
    }
    gateway.no_panic();
}

#[tokio::test]
async fn streams_are_named_as_requested() {
    let dir = scratch("named");
    let film = encode_pattern("film.mp4", SIZE, 0, 2, &["-c:v", "libx264"]);
    let [one, other] = ["garden gate.mp4", "porch.mp4"].map(|name| dir.join(name));
    for file in [&one, &other] {
        std::fs::copy(&film, file).unwrap();
    }
    let other_url = format!("file:{}", other.display());
    let gateway = Gateway::serve(&[
        one.to_str().unwrap(),
        other.to_str().unwrap(),
        &other_url,
        "rtsp://user:secret@camera.local/1",
    ])
    .await;
    let devices = gateway.api("/api/devices").await;
    let names: Vec<&str> = devices
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["serial"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["camera.local", "garden-gate", "porch", "porch-2"]);
    assert!(!devices.to_string().contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rtsp_server_plays_and_may_be_killed_and_return() {
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-bf",
        "0",
        "-g",
        "300",
    ];
    let film = |first| encode_pattern("camera.mp4", SIZE, first, 300, &arguments);
    let server = Rtsp::serve(&film(0), None).await;
    let port = server.port;
    let gateway = Gateway::serve(&[&format!("rtsp://127.0.0.1:{port}/stream")]).await;
    let mut viewer = Numbered::connect(&gateway, "127.0.0.1").await;
    viewer.until(60).await;
    state(&gateway, "live").await;
    server.kill().await;
    let away = state(&gateway, "retrying").await;
    let reason = away["reason"].as_str().unwrap();
    assert!(
        reason.contains(&format!("rtsp://127.0.0.1:{port}/")),
        "{reason}"
    );
    let server = Rtsp::serve(&film(1000), Some(port)).await;
    viewer.until(1060).await;
    let live = state(&gateway, "live").await;
    assert_eq!(live["viewers"], 1);
    let (before, after): (Vec<u32>, Vec<u32>) =
        viewer.numbers.iter().partition(|number| **number < 1000);
    // The film has one keyframe, the first: it must not be lost while the source is being opened.
    for (numbers, first) in [(before, 0), (after, 1000)] {
        assert_eq!(numbers, (first..).take(numbers.len()).collect::<Vec<u32>>());
    }
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_senders_come_and_go_and_the_gateway_holds_no_more_than_before() {
    let port = free_port().await;
    let gateway = Gateway::with_config(&format!(
        "[streams.drone]\nsource = 'annexb:listen:{port}'\n"
    ))
    .await;
    let film = encode_pattern(
        "film.h264",
        SIZE,
        0,
        2,
        &["-c:v", "libx264", "-preset", "ultrafast"],
    );
    let film: Vec<u8> = frames(&nals_of(&film))
        .iter()
        .flat_map(|nals| with_start_codes(nals, |_| 4))
        .collect();
    let mut viewer = Nal::connect(gateway.address, "drone").await.unwrap();
    let waits = |device: &serde_json::Value| {
        device["reason"]
            .to_string()
            .contains("waiting for a sender")
    };
    gateway
        .api_until("/api/devices/drone", "it listens", waits)
        .await;
    let mut before = (0, 0);
    for turn in 0..1010 {
        if turn == 10 {
            before = (gateway.descriptors(), gateway.threads());
        }
        let mut sender = within("connect", TcpStream::connect(("127.0.0.1", port)))
            .await
            .unwrap();
        sender.write_all(&film).await.unwrap();
        sender.shutdown().await.unwrap();
        // Each frame is shown before the next one arrives.
        let unit = within("its frame", viewer.next_unit()).await.unwrap();
        assert!(unit.is_idr(), "turn {turn}");
        let _ = within("the next", viewer.next_unit()).await.unwrap();
    }
    // The last sender is released when its end was read.
    within("no more than before", async {
        while gateway.descriptors() > before.0 || gateway.threads() > before.1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gateway.no_panic();
}

async fn until(viewer: &mut Mjpeg, number: u32) {
    let found = async { while viewer.next_number().await.unwrap() != number {} };
    within(&format!("number {number} on mjpeg"), found).await;
}

/// Waits until the only stream has this state; returns its entry.
async fn state(gateway: &Gateway, state: &str) -> Value {
    let devices = gateway
        .api_until("/api/devices", state, |devices| {
            devices[0]["state"] == state
        })
        .await;
    devices[0].clone()
}

/// Frames of the test pattern as access units in Annex B; only the first is a keyframe.
fn baseline(first: u64, count: u64) -> Vec<Vec<u8>> {
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-profile:v",
        "baseline",
    ];
    let film = encode_pattern("film.h264", SIZE, first, count, &arguments);
    frames(&nals_of(&film))
        .iter()
        .map(|nals| with_start_codes(nals, |_| 4))
        .collect()
}

async fn write(source: &mut (impl AsyncWriteExt + Unpin), frames: &[Vec<u8>]) {
    source.write_all(&frames.concat()).await.unwrap();
}

/// The frames of an MJPEG file, extracted by the ffmpeg program.
fn jpegs_of(film: &Path) -> Vec<Bytes> {
    let dir = scratch("jpegs");
    ffmpeg(|command| {
        command
            .arg("-i")
            .arg(film)
            .args(["-c", "copy", "-f", "image2"])
            .arg(dir.join("%04d.jpg"))
    });
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| std::fs::read(name).unwrap().into())
        .collect()
}
