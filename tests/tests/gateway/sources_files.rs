//! Files as they occur in practice: audio in large blocks, and concatenated recordings.

use sluicegate_tests::{
    Gateway, Numbered,
    media::{encode_pattern, ffmpeg},
    mp4::Part,
    mse::{Mse, Received},
    scratch, within,
};
use std::time::Instant;

const SIZE: (u32, u32) = (320, 192);
const X264: [&str; 8] = [
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-bf",
    "0",
    "-g",
    "30",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_badly_interleaved_audio_has_both_tracks_from_its_first_frame() {
    let inputs = [
        "-f",
        "lavfi",
        "-i",
        "sine=440:r=48000:d=12",
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:a",
        "aac",
        "-shortest",
    ];
    let plain = encode_pattern("plain.mp4", SIZE, 0, 360, &[&inputs[..], &X264].concat());
    let lumps = scratch("lumps").join("lumps.mp4");
    // Fragments of two seconds, alternating between the tracks.
    ffmpeg(|command| {
        command
            .arg("-i")
            .arg(&plain)
            .args([
                "-c",
                "copy",
                "-movflags",
                "empty_moov+separate_moof+default_base_moof",
            ])
            .args(["-frag_duration", "2000000", "-min_frag_duration", "2000000"])
            .arg(&lumps)
    });
    let gateway = Gateway::serve(&[lumps.to_str().unwrap()]).await;
    let mut viewer = Mse::connect(gateway.address, "lumps").await;
    let (mime, moov) = viewer.header().await;
    assert!(mime.contains("avc1") && mime.contains("mp4a"), "{mime}");
    assert_eq!(moov.trak.len(), 2);
    // Three fragments of each track: no further header, and both tracks side by side.
    let mut ends = [0u64; 2];
    let rates = moov
        .trak
        .iter()
        .map(|track| u64::from(track.mdia.mdhd.timescale));
    let rates: Vec<u64> = rates.collect();
    let mut first = None;
    while ends[0].saturating_sub(first.unwrap_or(ends[0])) < 6000 {
        match within("a fragment", viewer.next()).await.unwrap() {
            Received::Part(Part::Fragment(fragment)) => {
                for sample in fragment.samples {
                    let track = moov
                        .trak
                        .iter()
                        .position(|track| track.tkhd.track_id == sample.track);
                    let track = track.unwrap();
                    ends[track] = sample.decode_time * 1000 / rates[track];
                }
            }
            other => panic!("another beginning after {ends:?} ms: {other:?}"),
        }
        if ends[0] > 0 && ends[1] > 0 {
            first.get_or_insert(ends[0]);
            assert!(ends[0].abs_diff(ends[1]) < 500, "tracks apart: {ends:?} ms");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joined_recordings_are_played_in_real_time_over_the_joint() {
    let one = encode_pattern("one.ts", SIZE, 0, 60, &X264);
    let other = encode_pattern("other.ts", SIZE, 100, 150, &X264);
    let joined = scratch("joined").join("joined.ts");
    let bytes = [std::fs::read(one).unwrap(), std::fs::read(other).unwrap()].concat();
    std::fs::write(&joined, bytes).unwrap();
    let gateway = Gateway::serve(&[joined.to_str().unwrap()]).await;
    let mut viewer = Numbered::connect(&gateway, "joined").await;
    viewer.until(45).await;
    let since = Instant::now();
    viewer.until(190).await;
    let took = since.elapsed().as_secs_f64();
    // 15 frames of the first part and 90 of the second, at 30 per second.
    assert!(took > 3.0, "3.5 s in {took} s");
    let joint: Vec<u32> = viewer
        .numbers
        .iter()
        .copied()
        .filter(|number| (58..102).contains(number))
        .collect();
    // The last frame of the first part counts as damaged, because the continuity counters of the packets after it do
    // not match (ISO/IEC 13818-1 2.4.3.3).
    assert!(joint.contains(&58) && joint.contains(&101), "{joint:?}");
}
