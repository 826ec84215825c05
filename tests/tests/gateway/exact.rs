//! Valid H.264 that few encoders produce: on every transport the output decodes to exactly the frames that went in.

use bytes::Bytes;
use sluicegate_media::h264::nal;
use sluicegate_tests::{
    Feeder, Gateway, Nal,
    exact::{Got, decoded, on_every_transport},
    feeder::write_in_chunks,
    media::{annexb_of, encode_pattern, frames, nals_of, with_start_codes},
    mse::Mse,
    rare::{self, Coding, REWRITABLE},
    scratch, within,
};
use std::path::{Path, PathBuf};

const SIZE: (u32, u32) = (320, 192);
const COUNT: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pps_that_changes_from_frame_to_frame_is_no_new_stream() {
    let plain = nals_of(&encode_pattern(
        "plain.h264",
        SIZE,
        0,
        COUNT as u64,
        &REWRITABLE,
    ));
    let nals = rare::with_changing_pps(&plain);
    let expected = decoded(&plain);
    assert_eq!(decoded(&nals), expected, "the stream is not valid");
    assert_eq!(expected.len(), COUNT);
    let all = on_every_transport(&file("pps.h264", &nals), COUNT, &expected).await;
    one_epoch(&all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_resets_all_references_is_no_loss() {
    let plain = nals_of(&encode_pattern(
        "plain.h264",
        SIZE,
        0,
        COUNT as u64,
        &REWRITABLE,
    ));
    let nals = rare::with_mmco5(&plain);
    let expected = decoded(&plain);
    assert_eq!(decoded(&nals), expected, "the stream is not valid");
    assert_eq!(expected.len(), COUNT);
    let all = on_every_transport(&file("forgets.h264", &nals), COUNT, &expected).await;
    one_epoch(&all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_a_frame_are_one_sample_whichever_comes_first() {
    for coding in [Coding::TopFirst, Coding::BottomFirst, Coding::Mixed] {
        let nals = rare::interlaced(coding, COUNT as u32);
        let path = file("fields.h264", &nals);
        let expected = decoded(&nals);
        assert_eq!(expected.len(), COUNT, "{coding:?}: the stream is not valid");
        let all = on_every_transport(&path, COUNT, &expected).await;
        one_epoch(&all);
        // Each sample is one frame, and every frame has a presentation time of its own.
        for got in &all[1..] {
            regular(&got.times[..COUNT], 3600);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interlaced_frames_of_x264_pass_in_every_container() {
    for (name, parameters) in [
        ("tff.ts", "tff=1:bframes=2"),
        ("bff.mp4", "bff=1:bframes=2"),
        ("fake.ts", "fake-interlaced=1:bframes=2"),
        ("tff.h264", "tff=1:bframes=2"),
        ("bff.avi", "bff=1:bframes=2"),
    ] {
        let arguments = [
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-x264-params",
            parameters,
        ];
        let path = encode_pattern(name, SIZE, 0, COUNT as u64, &arguments);
        let expected = decoded(&nals_of(&annexb_of(&path)));
        assert_eq!(expected.len(), COUNT, "{name}");
        let all = on_every_transport(&path, COUNT, &expected).await;
        one_epoch(&all);
        for got in &all[1..] {
            regular(&got.times[..COUNT], 3000);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_frames_without_times_are_presented_in_picture_order() {
    for (name, parameters) in [
        ("two.h264", "bframes=2:b-adapt=0"),
        (
            "pyramid.avi",
            "bframes=7:b-adapt=0:b-pyramid=normal:keyint=20",
        ),
        ("open.h264", "bframes=3:b-adapt=0:open-gop=1:keyint=20"),
    ] {
        let arguments = [
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-x264-params",
            parameters,
        ];
        let path = encode_pattern(name, SIZE, 0, COUNT as u64, &arguments);
        let expected = decoded(&nals_of(&annexb_of(&path)));
        assert_eq!(expected.len(), COUNT, "{name}");
        let all = on_every_transport(&path, COUNT, &expected).await;
        // Reference times: ffmpeg's, for the same frames in a container with presentation times.
        let timed = encode_pattern("timed.mp4", SIZE, 0, COUNT as u64, &arguments);
        let expected = shown_in(&timed);
        for got in &all[1..] {
            let (first, decoded) = got.times[0];
            let shown = got.times[..COUNT]
                .iter()
                .map(|(shown, _)| *shown as i64 - first as i64);
            assert_eq!(shown.collect::<Vec<_>>(), expected, "{name}");
            assert!(
                first > decoded,
                "{name}: the reordering depth is known at the first frame"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_that_does_not_exist_is_the_lowest_that_fits() {
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-profile:v",
        "main",
        "-x264-params",
        "ref=1:bframes=0",
    ];
    let mut nals = nals_of(&encode_pattern(
        "level.h264",
        SIZE,
        0,
        COUNT as u64,
        &arguments,
    ));
    for unit in nals
        .iter_mut()
        .filter(|unit| nal::unit_type(unit) == nal::SPS)
    {
        let mut sps = unit.to_vec();
        sps[3] = 0;
        *unit = sps.into();
    }
    let expected = decoded(&nals);
    let [_, mse, hls] = on_every_transport(&file("level.h264", &nals), COUNT, &expected).await;
    // 240 macroblocks, 30 times a second.
    assert_eq!(mse.codec, "video/mp4; codecs=\"avc1.4d400d\"");
    assert_eq!((mse.level, hls.level), (13, 13));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_starting_at_an_open_gop_skips_its_leading_frames_others_do_not() {
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-x264-params",
        "bframes=3:b-adapt=0:open-gop=1:keyint=20:scenecut=0",
    ];
    let nals = nals_of(&encode_pattern(
        "open.h264",
        SIZE,
        0,
        COUNT as u64,
        &arguments,
    ));
    let expected = decoded(&nals);
    assert_eq!(expected.len(), COUNT);
    let units = frames(&nals);
    // A group that starts at a recovery point. The frames that lead it refer to frames before it.
    let opens = |unit: &Vec<Bytes>| unit.iter().any(|nal| nal.starts_with(&[6, 6]));
    let open = units.iter().position(opens).expect("an open group");
    const LEADING: usize = 3;

    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut nal = within("connect", Nal::connect(gateway.address, "annexb"))
        .await
        .unwrap();
    let mut mse = Mse::connect(gateway.address, "annexb").await;
    let mut source = feeder.accept().await;
    // The group has begun, its leading frames have arrived, and so has the next frame, which confirms that decoding can
    // start there.
    let begun = open + LEADING + 2;
    let (before, after) = units.split_at(begun);
    let (mut all_nal, mut all_mse) = (Got::default(), Got::default());
    // Only the first frame, because both viewers start at the newest.
    write_in_chunks(&mut source, &with_start_codes(&before[0], |_| 4)).await;
    tokio::join!(all_nal.more_nal(&mut nal, 1), all_mse.more_mse(&mut mse, 1));
    write_in_chunks(&mut source, &with_start_codes(&before[1..].concat(), |_| 4)).await;
    tokio::join!(
        all_nal.more_nal(&mut nal, begun),
        all_mse.more_mse(&mut mse, begun)
    );

    let mut late_nal = within("connect", Nal::connect(gateway.address, "annexb"))
        .await
        .unwrap();
    let mut late_mse = Mse::connect(gateway.address, "annexb").await;
    let (mut from_nal, mut from_mse) = (Got::default(), Got::default());
    tokio::join!(
        from_nal.more_nal(&mut late_nal, 1),
        from_mse.more_mse(&mut late_mse, 1)
    );
    write_in_chunks(&mut source, &with_start_codes(&after.concat(), |_| 4)).await;
    let rest = COUNT - open - LEADING;
    tokio::join!(
        all_nal.more_nal(&mut nal, COUNT),
        all_mse.more_mse(&mut mse, COUNT),
        from_nal.more_nal(&mut late_nal, rest),
        from_mse.more_mse(&mut late_mse, rest),
    );
    for (got, expected) in [
        (&all_nal, &expected[..]),
        (&all_mse, &expected),
        (&from_nal, &expected[open + LEADING..]),
        (&from_mse, &expected[open + LEADING..]),
    ] {
        assert_eq!(decoded(&got.nals), expected);
    }
    // Players of Media Source Extensions do not accept a gap within a group.
    for two in from_mse.times[..16].windows(2) {
        assert!(two[1].1 > two[0].1 && two[1].1 - two[0].1 < 6000, "{two:?}");
    }
}

/// Fails the test unless presentation times are all different and `apart` ticks apart.
fn regular(times: &[(u64, u64)], apart: u64) {
    let mut shown: Vec<u64> = times.iter().map(|(shown, _)| *shown).collect();
    shown.sort_unstable();
    // Later frames may be shown between the last ones.
    shown.truncate(times.len() - 4);
    let regular = shown.windows(2).all(|two| two[1] - two[0] == apart);
    assert!(regular, "{times:?}");
}

/// Presentation times of a file's frames relative to the first, in decoding order, in ticks of 90 kHz.
fn shown_in(file: &Path) -> Vec<i64> {
    let probe = std::process::Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "packet=pts_time",
            "-of",
            "csv=p=0",
        ])
        .arg(file)
        .output()
        .unwrap();
    assert!(probe.status.success());
    let ticks =
        |time: &str| (time.trim_end_matches(',').parse::<f64>().unwrap() * 90_000.0).round() as i64;
    let times = String::from_utf8(probe.stdout).unwrap();
    let times: Vec<i64> = times.lines().map(ticks).collect();
    times.iter().map(|time| time - times[0]).collect()
}

fn one_epoch(all: &[Got]) {
    let headers: Vec<usize> = all.iter().map(|got| got.headers).collect();
    assert!(headers.iter().all(|count| *count == 1), "{headers:?}");
}

fn file(name: &str, nals: &[Bytes]) -> PathBuf {
    let path = scratch("exact").join(name);
    std::fs::write(&path, with_start_codes(nals, |_| 4)).unwrap();
    path
}
