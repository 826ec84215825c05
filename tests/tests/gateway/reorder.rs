//! `nal` for players that cannot reorder frames: `?reorder=0` has no B-frames, and a source without B-frames is passed
//! through.

use bytes::Bytes;
use sluicegate_media::h264::nal;
use sluicegate_tests::{
    Gateway, Nal,
    client::is_header,
    http_get,
    media::{NumberReader, cut, encode_pattern, ffmpeg, nals_of},
    within,
};

const SIZE: (u32, u32) = (320, 192);
const RATE: u64 = 30;
/// Number of access units inspected.
const INSPECTED: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_come_in_presentation_order_and_none_is_held_back() {
    let film = film("reorder.mp4", &["-bf", "2", "-x264-params", "b-adapt=0"]);
    let bare = film.with_extension("h264");
    ffmpeg(|ffmpeg| {
        ffmpeg
            .arg("-i")
            .arg(&film)
            .args(["-c", "copy", "-bsf:v", "h264_mp4toannexb"])
            .arg(&bare)
    });
    let b_frames = nals_of(&bare).iter().filter(|unit| is_b(unit)).count();
    assert!(b_frames > 50, "{b_frames} B slices are none to leave out");

    let gateway = serve(&film).await;
    let path = "/live/demo/nal?reorder=0";
    let mut viewer = within("connect", Nal::open(gateway.address, path))
        .await
        .unwrap();
    let mut reader = NumberReader::default();
    let mut numbers = Vec::new();
    while numbers.len() < INSPECTED {
        let data = within("an access unit", viewer.next()).await.unwrap();
        let nals = cut(&data);
        assert!(!nals.iter().any(is_b), "a B slice");
        let shown = reader.feed(&data);
        if is_header(&nals) {
            continue;
        }
        // The decoder holds nothing back: each frame comes out when it goes in.
        assert_eq!(shown.len(), 1, "after {numbers:?}");
        numbers.extend(shown);
    }
    // A busy machine drops some frames; none is late.
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_b_frames_passes_unchanged() {
    let film = film("ordered.h264", &["-profile:v", "baseline"]);
    let given = nals_of(&film);
    let gateway = serve(&film).await;
    let path = "/live/demo/nal?reorder=0";
    let mut viewer = within("connect", Nal::open(gateway.address, path))
        .await
        .unwrap();
    for _ in 0..INSPECTED {
        let unit = within("an access unit", viewer.next_unit()).await.unwrap();
        for nal in &unit.nals {
            assert!(given.contains(nal), "a NAL unit that is not the source's");
        }
    }
    let devices = gateway.api("/api/devices").await;
    assert_eq!(devices[0]["made"]["encoded"], 0, "{devices:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_value_is_refused_with_advice() {
    let gateway = Gateway::serve(&[]).await;
    let asked = http_get(gateway.address, "/live/demo/nal?reorder=never", &[]).await;
    let (status, _, body) = asked.unwrap();
    let text = String::from_utf8_lossy(&body);
    assert!(
        status == 400 && text.contains("`reorder=never` is not valid: write 0"),
        "{status} {text}"
    );
}

fn film(name: &str, arguments: &[&str]) -> std::path::PathBuf {
    let x264 = ["-c:v", "libx264", "-preset", "veryfast", "-g", "30"];
    encode_pattern(name, SIZE, 0, 20 * RATE, &[&x264[..], arguments].concat())
}

async fn serve(film: &std::path::Path) -> Gateway {
    let config = format!("[streams.demo]\nsource = \"file:{}\"\n", film.display());
    Gateway::with_config(&config).await
}

/// Whether a NAL unit is a slice of a B-frame (H.264 7.3.3, `slice_type`).
fn is_b(unit: &Bytes) -> bool {
    if !matches!(nal::unit_type(unit), nal::SLICE | nal::IDR) {
        return false;
    }
    let bits: Vec<bool> = unit[1..unit.len().min(16)]
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1))
        .collect();
    let mut at = 0;
    let mut golomb = || {
        let zeros = bits[at..].iter().take_while(|bit| !**bit).count();
        let digits = &bits[at + zeros..at + 2 * zeros + 1];
        at += 2 * zeros + 1;
        digits
            .iter()
            .fold(0, |sum, bit| sum * 2 + usize::from(*bit))
            - 1
    };
    let _first_macroblock = golomb();
    golomb() % 5 == 1
}
