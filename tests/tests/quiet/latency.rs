//! Latency for a viewer that joins late, and of the last frame before a silence.
//!
//! The bounds apply to medians: these measure the gateway, while single values on a busy machine measure the machine.

use bytes::Bytes;
use sluicegate_media::h264::nal;
use sluicegate_tests::{
    Feeder, Gateway, Nal,
    client::is_header,
    media::{NumberReader, cut, encode_pattern, frames, nals_of, with_start_codes},
    mjpeg, within,
};
use std::time::{Duration, Instant};
use tokio::{io::AsyncWriteExt, sync::watch};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_viewer_of_a_ten_second_group_gets_a_frame_within_100_ms() {
    let _turn = crate::alone().await;
    let gop = [
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-bf",
        "0",
        "-g",
        "300",
        "-sc_threshold",
        "0",
    ];
    let film = encode_pattern("gop.mp4", (640, 384), 0, 300, &gop);
    let gateway = Gateway::serve(&[film.to_str().unwrap()]).await;
    let address = gateway.address;
    // The first viewer keeps the reference of what everyone must get.
    let mut first = Nal::connect(address, "gop").await.unwrap();
    let (count, mut counted) = watch::channel(0);
    let keeper = tokio::spawn(async move {
        let mut kept: Vec<Bytes> = Vec::new();
        while kept.len() < 240 {
            let unit = within("the first viewer's next frame", first.next_unit())
                .await
                .unwrap();
            kept.push(unit.data);
            count.send_replace(kept.len());
        }
        kept
    });
    within(
        "five seconds into the group",
        counted.wait_for(|count| *count >= 150),
    )
    .await
    .unwrap();

    let mut delays = Vec::new();
    let mut late = Vec::new();
    for _ in 0..12 {
        let behind = *counted.borrow();
        let asked = Instant::now();
        let mut viewer = within("connect", Nal::connect(address, "gop"))
            .await
            .unwrap();
        let opened = asked.elapsed();
        let mut reader = NumberReader::default();
        let mut units = Vec::new();
        let mut seen = None;
        while units.len() < behind + 3 {
            let message = within("a message", viewer.next()).await.unwrap();
            let nals = cut(&message);
            if seen.is_none() {
                let first = reader.feed(&message).first().copied();
                seen = first.map(|number| (number, asked.elapsed() - opened));
            }
            match is_header(&nals) {
                true => assert!(units.is_empty(), "the header comes first, and once"),
                false => units.push(message),
            }
        }
        assert!(
            cut(&units[0])
                .iter()
                .any(|unit| nal::unit_type(unit) == nal::IDR)
        );
        let (number, delay) = seen.expect("a frame");
        assert_eq!(number, 0, "the group's first frame");
        delays.push(delay);
        late.push(units);
    }
    let kept = within("the first viewer", keeper).await.unwrap();
    for units in late {
        assert!(units.len() > 150);
        let gap = units
            .iter()
            .zip(&kept)
            .position(|(unit, kept)| unit != kept);
        assert_eq!(gap, None, "a late viewer gets every frame of the group");
    }
    judge(
        "a late viewer's first frame",
        delays,
        Duration::from_millis(100),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_frame_before_a_silence_is_out_within_50_ms() {
    let _turn = crate::alone().await;
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = within("connect", Nal::connect(gateway.address, "annexb"))
        .await
        .unwrap();
    let mut source = feeder.accept().await;
    let mut delays = Vec::new();
    for frame in film(21) {
        source
            .write_all(&with_start_codes(&frame, |_| 4))
            .await
            .unwrap();
        let written = Instant::now();
        let unit = within("the frame, with nothing after it", viewer.next_unit())
            .await
            .unwrap();
        delays.push(unit.at - written);
        assert_eq!(cut(&unit.data), frame);
    }
    // The first viewer also starts the guest's stream.
    delays.remove(0);
    judge(
        "the last frame before a silence, on nal",
        delays,
        Duration::from_millis(50),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn last_frame_before_a_silence_is_out_on_mjpeg_too() {
    let _turn = crate::alone().await;
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = within("connect", mjpeg(gateway.address, "annexb"))
        .await
        .unwrap();
    let mut source = feeder.accept().await;
    let (mut after_silence, mut after_another) = (Vec::new(), Vec::new());
    for (number, frame) in film(20).into_iter().enumerate() {
        source
            .write_all(&with_start_codes(&frame, |_| 4))
            .await
            .unwrap();
        let written = Instant::now();
        let came = within("the frame, with nothing after it", viewer.next_number())
            .await
            .unwrap();
        let delays = if number % 2 == 0 {
            &mut after_silence
        } else {
            &mut after_another
        };
        delays.push(written.elapsed());
        assert_eq!(came as usize, number);
        // MJPEG repeats a frame when a silence starts, for browsers that paint a part only when the next one begins.
        // Every second frame waits for that repeat; the others follow at once.
        if number % 2 == 1 {
            let again = within("the frame again", viewer.next_number())
                .await
                .unwrap();
            assert_eq!(again as usize, number);
        }
    }
    after_silence.remove(0);
    judge(
        "the last frame before a silence, on mjpeg",
        after_silence,
        Duration::from_millis(50),
    );
    // At most ten repeats per second: the second of two frames in a row waits for its turn, or until no third one
    // follows.
    judge(
        "the second of two frames, on mjpeg",
        after_another,
        Duration::from_millis(150),
    );
}

/// Frames of the test pattern; only the first is a keyframe.
fn film(count: u64) -> Vec<Vec<Bytes>> {
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-profile:v",
        "baseline",
    ];
    frames(&nals_of(&encode_pattern(
        "film.h264",
        (640, 384),
        0,
        count,
        &arguments,
    )))
}

fn judge(what: &str, mut delays: Vec<Duration>, bound: Duration) {
    delays.sort();
    let (median, most) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!(
        "{what}: median {median:?}, most {most:?}, of {}",
        delays.len()
    );
    assert!(median <= bound, "{what}: median {median:?}: {delays:?}");
}
