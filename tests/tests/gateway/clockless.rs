//! Cameras whose time stamps are not a clock: they are recognised, arrival times replace the stamps, and HLS has
//! segments as from any other camera. Stamps that jump at random can only be recognised on an idle machine, so
//! `timeline::tests` covers those.

use sluicegate_tests::{
    Gateway, PATIENCE, Watcher,
    camera::{COUNT, clip},
    clockless::{Clockless, RATE, Stamp},
    hls::player::playlist,
    within,
};
use std::time::Instant;

/// In units of the playlist parser.
const SECOND: u64 = 100_000;

const CAMERAS: [(&str, Stamp); 4] = [
    ("constant", |_| 12_345_678),
    ("milliseconds", |nth| nth * 1000 / RATE),
    ("fast", |nth| nth * 4 * 90_000 / RATE),
    ("pairs", |nth| (nth - nth % 2) * 90_000 / RATE),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_without_a_clock_is_reported_and_has_segments_like_any_other() {
    let mut cameras = Vec::new();
    let mut config = String::new();
    for (name, stamp) in CAMERAS {
        let camera = Clockless::serve(stamp).await;
        config += &format!("[streams.{name}]\nsource = \"{}\"\n", camera.source());
        cameras.push(camera);
    }
    let gateway = Gateway::with_config(&config).await;
    let watch = CAMERAS.map(|(name, _)| {
        let address = gateway.address;
        tokio::spawn(async move {
            let mut viewer = Watcher::open(address, &format!("/live/{name}/nal"), clip()).await;
            let mut last = None;
            loop {
                let (place, _) = within(&format!("a frame of {name}"), viewer.next()).await;
                assert!(
                    last.is_none_or(|last| place == (last + 1) % COUNT),
                    "{name}: {last:?} {place}"
                );
                last = Some(place);
            }
        })
    });
    for (name, _) in CAMERAS {
        let told = |devices: &serde_json::Value| {
            let devices = devices.as_array().into_iter().flatten();
            let mut notes = devices
                .filter(|device| device["serial"] == name)
                .filter_map(|device| device["notes"].as_array())
                .flatten();
            notes.any(|note| note.as_str().is_some_and(|note| note.contains("arrival")))
        };
        let what = format!("the clock of {name} is reported as unusable");
        gateway.api_until("/api/devices", &what, told).await;
    }
    for (name, _) in CAMERAS {
        let path = format!("/live/{name}/hls/media.m3u8");
        let (first, _) = playlist(gateway.address, &path).await;
        let from = first.segments.last().unwrap().msn + 1;
        let began = Instant::now();
        loop {
            let (now, text) = playlist(gateway.address, &path).await;
            assert!(began.elapsed() < PATIENCE, "{name}: {text}");
            // The oldest of these segments may have begun with other time stamps, so it is skipped.
            let new: Vec<_> = now.segments.iter().filter(|new| new.msn > from).collect();
            for segment in &new {
                let duration = segment.duration.unwrap();
                assert!((SECOND..=4 * SECOND).contains(&duration), "{name}: {text}");
                assert!(!segment.discontinuity && !segment.gap, "{name}: {text}");
            }
            if new.len() >= 3 {
                break;
            }
        }
    }
    for viewer in watch {
        assert!(!viewer.is_finished());
        viewer.abort();
    }
}
