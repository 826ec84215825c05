//! A source that changes its frame size repeatedly: every viewer follows, and nothing of the old sizes stays in memory.

use bytes::Bytes;
use sluicegate_codec::{Encoder, Settings};
use sluicegate_media::pattern::Painter;
use sluicegate_tests::{
    Feeder, Gateway, Nal,
    client::{is_header, jpeg_number},
    measure::{mib, slope},
    media::{NumberReader, cut, picture_size},
    mjpeg, within,
};
use tokio::io::AsyncWriteExt;

const CHANGES: u32 = 100;
/// Frames of each size.
const FRAMES: u64 = 3;
/// Allowed growth in MiB per change, after the first twenty. A leaked decoder, scaler or ring would be a hundred times
/// as much.
const MAX_GROWTH: f64 = 0.05;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_changes_of_size_reach_every_viewer_and_leave_nothing_behind() {
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = Nal::connect(gateway.address, "annexb").await.unwrap();
    let mut frames = mjpeg(gateway.address, "annexb").await.unwrap();
    let mut source = feeder.accept().await;
    source.set_nodelay(true).unwrap();
    let (mut memory, mut reader) = (Vec::new(), NumberReader::default());
    for change in 0..CHANGES {
        let size = size_of(change);
        let first = u64::from(change) * FRAMES;
        let units = encode(size, first);
        for unit in &units {
            source.write_all(unit).await.unwrap();
        }
        let what = format!("change {change} to {size:?}");
        // Its own configuration, then a keyframe, then the rest: nothing is missing or repeated.
        let header = within(&what, viewer.next()).await.unwrap();
        assert!(is_header(&cut(&header)), "{what}");
        assert_eq!(picture_size(&header), size, "{what}");
        let mut numbers = reader.feed(&header);
        for nth in 0..FRAMES {
            let unit = within(&what, viewer.next_unit()).await.unwrap();
            assert_eq!(unit.is_idr(), nth == 0, "{what}");
            numbers.extend(reader.feed(&unit.data));
        }
        let expected: Vec<u32> = (first..first + FRAMES)
            .map(|number| number as u32)
            .collect();
        assert_eq!(numbers, expected, "{what}");
        // Frames of each size up to the newest, which is sent when nothing follows it.
        loop {
            let jpeg = within(&what, frames.next()).await.unwrap();
            let number = jpeg_number(&jpeg).expect("a number in the frame");
            let header = turbojpeg::read_header(&jpeg).unwrap();
            let found = (header.width as u32, header.height as u32);
            assert_eq!(
                found,
                size_of(number / FRAMES as u32),
                "{what}: frame {number}"
            );
            if u64::from(number) == first + FRAMES - 1 {
                break;
            }
        }
        if change % 10 == 9 {
            let mut late = Nal::connect(gateway.address, "annexb").await.unwrap();
            let header = within(&what, late.next()).await.unwrap();
            assert_eq!(picture_size(&header), size, "a late viewer, {what}");
            let mut reader = NumberReader::default();
            reader.feed(&header);
            let unit = within(&what, late.next_unit()).await.unwrap();
            assert_eq!(
                reader.feed(&unit.data),
                [first as u32],
                "a late viewer, {what}"
            );
            let devices = gateway.api("/api/devices").await;
            let device = &devices[0];
            assert_eq!(device["state"], "live", "{device:#}");
            let shown = (device["width"].as_u64(), device["height"].as_u64());
            assert_eq!(
                shown,
                (Some(size.0.into()), Some(size.1.into())),
                "{device:#}"
            );
        }
        memory.push(mib(gateway.memory()));
    }
    let growth = slope(&memory[20..]);
    println!(
        "{growth:.4} MiB for each change: {:.1} to {:.1}",
        memory[20],
        memory[memory.len() - 1]
    );
    assert!(
        growth <= MAX_GROWTH,
        "{growth} MiB for each change: {memory:?}"
    );
    let plugins = gateway.api("/api/plugins").await;
    for plugin in plugins.as_array().unwrap() {
        assert_eq!(plugin["failures"], 0, "{plugins:#}");
    }
    gateway.no_panic();
}

/// Each size differs from the previous one, and all have about the same area.
fn size_of(change: u32) -> (u32, u32) {
    (160 + 16 * (change % 10), 320 - 16 * (change % 7))
}

/// Access units in Annex B, numbered from `first`. Each but the last is followed by the start of the next one.
fn encode((width, height): (u32, u32), first: u64) -> Vec<Bytes> {
    let settings = Settings {
        width,
        height,
        frame_rate: 30,
        bitrate: 500_000,
        keyframe_interval_ms: 60_000,
        ..Settings::default()
    };
    let mut encoder = Encoder::new(settings).unwrap();
    let mut painter = Painter::new(width, height).unwrap();
    let mut units = Vec::new();
    for number in first..first + FRAMES {
        let image = painter.paint(number, number * 33);
        let time = number as i64 * 3000;
        units.extend(
            encoder
                .encode(image, time, false)
                .unwrap()
                .into_iter()
                .map(|packet| packet.data),
        );
    }
    assert_eq!(units.len() as u64, FRAMES);
    units
}
