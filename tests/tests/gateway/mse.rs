//! Fragmented MP4 over WebSocket and as one endless file: nothing is lost, and third-party programs play it.

use bytes::Bytes;
use sluicegate_media::blocks;
use sluicegate_tests::{
    Feeder, Gateway,
    feeder::write_in_chunks,
    media::{encode_pattern, frames, nals_of, packets_of, with_start_codes},
    mp4::{Fragment, Part, Sample},
    mse::{File, Mse},
    within,
};
use std::path::Path;
use tokio::process::Command;

const SIZE: (u32, u32) = (320, 192);
const COUNT: u64 = 60;
const X264: [&str; 6] = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "28"];
const B_FRAMES: [&str; 4] = ["-bf", "2", "-x264-params", "b-adapt=0"];
/// Ticks per second.
const TIMESCALE: u64 = 90_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_nal_unit_comes_out_once_and_in_order() {
    for arguments in [
        &["-profile:v", "baseline"][..],
        &B_FRAMES,
        &["-x264-params", "slices=8:bframes=0"],
        &["-g", "300", "-sc_threshold", "0", "-bf", "0"],
    ] {
        let nals = nals_of(&h264(arguments));
        let feeder = Feeder::bind().await;
        let gateway = Gateway::serve(&[&feeder.source()]).await;
        let mut viewer = Mse::connect(gateway.address, "annexb").await;
        let mut source = feeder.accept().await;
        let first = frames(&nals)[0].len();
        write_in_chunks(&mut source, &with_start_codes(&nals[..first], |_| 4)).await;
        let (mime, moov) = viewer.header().await;
        assert!(mime.starts_with("video/mp4; codecs=\"avc1."), "{mime}");
        assert_eq!(moov.trak.len(), 1);
        let mut got = viewer.fragment().await.samples;
        assert!(got[0].independent);
        let rest = with_start_codes(&nals[first..], |_| 3);
        let collect = async {
            while got
                .iter()
                .map(|sample| nals_in(&sample.data).len())
                .sum::<usize>()
                < nals.len()
            {
                got.extend(viewer.fragment().await.samples);
            }
        };
        tokio::join!(write_in_chunks(&mut source, &rest), collect);
        assert_eq!(got.len() as u64, COUNT, "a sample for each frame");
        let out: Vec<Bytes> = got
            .iter()
            .flat_map(|sample| nals_in(&sample.data))
            .collect();
        assert!(out == nals, "other NAL units with {arguments:?}");
        assert_playable_times(&got);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_are_those_of_the_source_at_any_rate_and_over_its_loop() {
    let sources = [
        ("b-frames", 30, &[&X264[..], &B_FRAMES].concat()[..]),
        (
            "sixty",
            30,
            &[&["-r", "60"], &X264[..], &["-bf", "0"]].concat(),
        ),
        // Two seconds without packets in every three.
        (
            "variable",
            240,
            &[
                &["-vf", "select='lt(mod(n,90),30)'", "-fps_mode", "vfr"][..],
                &X264,
                &["-bf", "2", "-g", "600", "-sc_threshold", "0"],
            ]
            .concat(),
        ),
    ];
    let files = sources.map(|(name, count, arguments)| {
        encode_pattern(&format!("{name}.mp4"), SIZE, 0, count, arguments)
    });
    let named: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let gateway = Gateway::serve(&named).await;
    let watch = files.iter().map(|file| {
        let (address, file) = (gateway.address, file.clone());
        tokio::spawn(async move {
            let shown = shown_in(&file);
            let mut viewer =
                Mse::connect(address, file.file_stem().unwrap().to_str().unwrap()).await;
            viewer.header().await;
            let mut got = Vec::new();
            while got.len() < shown.len() + 10 {
                got.extend(viewer.fragment().await.samples);
            }
            assert_playable_times(&got);
            let nals: Vec<Bytes> = got
                .iter()
                .flat_map(|sample| nals_in(&sample.data))
                .collect();
            let expected: Vec<Bytes> = packets_of(&file)
                .into_iter()
                .cycle()
                .take(nals.len())
                .collect();
            assert!(nals == expected, "other NAL units of {}", file.display());
            // Times are rounded, so two of them may differ by one tick each.
            let first = got[0].presentation_time();
            for (nth, (sample, at)) in got.iter().zip(&shown).enumerate() {
                let got = sample.presentation_time() - first + shown[0];
                assert!(
                    got.abs_diff(*at) <= 2,
                    "{}: frame {nth} at {got}, not {at}",
                    file.display()
                );
            }
        })
    });
    for one in watch.collect::<Vec<_>>() {
        within("a loop", one).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_per_second_goes_out_at_once_with_a_duration_of_a_second() {
    let config = "[streams.slow]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 1 }\n";
    let gateway = Gateway::with_config(config).await;
    let mut viewer = Mse::connect(gateway.address, "slow").await;
    viewer.header().await;
    let mut samples = viewer.fragment().await.samples;
    while samples.len() < 3 {
        samples.extend(viewer.fragment().await.samples);
    }
    assert!(
        samples
            .iter()
            .all(|sample| u64::from(sample.duration) == TIMESCALE),
        "{samples:?}"
    );
    for two in samples.windows(2) {
        let distance = two[1].decode_time - two[0].decode_time;
        assert!(distance.abs_diff(TIMESCALE) < TIMESCALE / 10, "{distance}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_size_reaches_viewers_in_the_middle_as_a_new_type_and_init_segment() {
    let first = [&X264[..], &["-profile:v", "baseline"]].concat();
    let second = [&X264[..], &["-profile:v", "high"], &B_FRAMES].concat();
    let clips = [
        nals_of(&encode_pattern("a.h264", SIZE, 0, 10, &first)),
        nals_of(&encode_pattern("b.h264", (640, 384), 10, 10, &second)),
    ];
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = Mse::connect(gateway.address, "annexb").await;
    let mut source = feeder.accept().await;
    let mut file = None;
    let mut types = Vec::new();
    for (clip, size) in clips.iter().zip([SIZE, (640, 384)]) {
        write_in_chunks(&mut source, &with_start_codes(clip, |_| 4)).await;
        let (mime, moov) = viewer.header().await;
        types.push(mime);
        assert_eq!(size_in(&moov), size);
        let file = match &mut file {
            None => file.insert(File::open(gateway.address, "annexb").await),
            Some(file) => file,
        };
        let Part::Init(_, moov) = file.next().await else {
            panic!("no init segment in the file")
        };
        assert_eq!(size_in(&moov), size);
        for nth in 0..10 {
            let [over_websocket, in_file] = [viewer.fragment().await, fragment(file.next().await)];
            assert_eq!(over_websocket.samples, in_file.samples);
            assert_eq!(
                (
                    over_websocket.samples[0].independent,
                    over_websocket.reference.is_some()
                ),
                (nth == 0, nth == 0)
            );
        }
        // New viewers get the current configuration.
        let (mime, moov) = Mse::connect(gateway.address, "annexb").await.header().await;
        assert_eq!((&mime, size_in(&moov)), (&types[types.len() - 1], size));
    }
    assert_ne!(types[0], types[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_comes_back_goes_on_with_a_keyframe_further_on_the_timeline() {
    let nals = nals_of(&encode_pattern(
        "a.h264",
        SIZE,
        0,
        10,
        &[&X264[..], &["-bf", "0"]].concat(),
    ));
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = Mse::connect(gateway.address, "annexb").await;
    let mut last = None;
    for _ in 0..3 {
        let mut source = feeder.accept().await;
        write_in_chunks(&mut source, &with_start_codes(&nals, |_| 4)).await;
        for nth in 0..10 {
            // The tracks are the same, so there is no second header.
            if last.is_none() {
                viewer.header().await;
            }
            let fragment = viewer.fragment().await;
            let [sample] = &fragment.samples[..] else {
                panic!("{fragment:?}")
            };
            assert_eq!(sample.independent, nth == 0);
            assert!(last.is_none_or(|last| sample.presentation_time() > last));
            last = Some(sample.presentation_time());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn longer_fragments_have_the_same_samples() {
    let file = encode_pattern(
        "clip.mp4",
        SIZE,
        0,
        COUNT,
        &[&X264[..], &B_FRAMES, &["-g", "30"]].concat(),
    );
    let config = format!(
        "[streams.clip]\nsource = \"file:{}\"\n[transports.mse]\nfragment = \"200ms\"\n",
        file.display()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut viewer = Mse::connect(gateway.address, "clip").await;
    viewer.header().await;
    let (mut samples, mut lengths) = (Vec::new(), Vec::new());
    while (samples.len() as u64) < COUNT {
        let fragment = viewer.fragment().await;
        assert_eq!(
            fragment.reference.is_some(),
            fragment.samples[0].independent
        );
        lengths.push(fragment.samples.len());
        samples.extend(fragment.samples);
    }
    assert_eq!(lengths[..5], [6; 5], "{lengths:?}");
    let nals: Vec<Bytes> = samples
        .iter()
        .flat_map(|sample| nals_in(&sample.data))
        .collect();
    assert!(nals == packets_of(&file)[..nals.len()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffprobe_and_ffmpeg_play_the_endless_file_without_a_gap() {
    let clip = encode_pattern("clip.mp4", SIZE, 0, 150, &[&X264[..], &B_FRAMES].concat());
    let gateway = Gateway::serve(&[clip.to_str().unwrap()]).await;
    let url = format!("http://{}/live/clip/mse", gateway.address);
    let show = "packet=pts,dts,duration:stream=codec_name,width,height";
    let (probed, said) = run(
        "ffprobe",
        &[
            "-v",
            "warning",
            "-read_intervals",
            "%+#120",
            "-show_entries",
            show,
            "-of",
            "csv=p=0",
            &url,
        ],
    )
    .await;
    assert_eq!(said, "");
    let probed = String::from_utf8(probed).unwrap();
    let (packets, stream): (Vec<&str>, Vec<&str>) =
        probed.lines().partition(|line| !line.starts_with("h264"));
    assert_eq!(stream, [format!("h264,{},{}", SIZE.0, SIZE.1)]);
    let numbers = |line: &str| -> Vec<u64> {
        line.split(',')
            .map(|number| number.parse().unwrap())
            .collect()
    };
    let packets: Vec<Vec<u64>> = packets.into_iter().map(numbers).collect();
    assert_eq!(packets.len(), 120);
    let distances = |times: Vec<u64>| times.windows(2).all(|two| two[1] - two[0] == 3000);
    let mut shown: Vec<u64> = packets.iter().map(|packet| packet[0]).collect();
    shown.sort_unstable();
    // The last group of B-frames is incomplete.
    shown.truncate(115);
    assert!(distances(shown), "{packets:?}");
    assert!(
        distances(packets.iter().map(|packet| packet[1]).collect()),
        "{packets:?}"
    );
    assert!(
        packets.iter().all(|packet| packet[2] == 3000),
        "{packets:?}"
    );

    let grey = [
        "-v",
        "warning",
        "-nostdin",
        "-i",
        &url,
        "-frames:v",
        "90",
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "gray",
        "-",
    ];
    let (frames, said) = run("ffmpeg", &grey).await;
    assert_eq!(said, "");
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let numbers: Vec<u32> = frames
        .chunks(width * height)
        .map(|frame| {
            blocks::read(frame, width, width, height, blocks::Row::Number).expect("a number")
        })
        .collect();
    assert_eq!(numbers.len(), 90);
    assert!(
        numbers.windows(2).all(|two| two[1] == (two[0] + 1) % 150),
        "{numbers:?}"
    );
}

#[tokio::test]
async fn curl_gets_the_content_type() {
    let gateway = Gateway::serve(&[]).await;
    let url = format!("http://{}/live/demo/mse", gateway.address);
    let (head, _) = run("curl", &["-s", "--head", &url]).await;
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(
        head.starts_with("http/1.1 200") && head.contains("content-type: video/mp4\r\n"),
        "{head}"
    );
    let (status, _) = run(
        "curl",
        &[
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &format!("{url}/x"),
        ],
    )
    .await;
    assert_eq!(status, b"404");
}

/// Fails unless the times of one track suit a player of Media Source Extensions: decode times rise, and two consecutive
/// ones are at most two durations apart, except before an independent frame.
fn assert_playable_times(samples: &[Sample]) {
    for two in samples.windows(2) {
        let distance = two[1].decode_time.strict_sub(two[0].decode_time);
        assert!(
            distance > 0 && (two[1].independent || distance <= 2 * u64::from(two[0].duration)),
            "{two:?}"
        );
    }
}

/// Presentation times of a file's frames, in decoding order, in ticks of [`TIMESCALE`].
fn shown_in(file: &Path) -> Vec<u64> {
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
    let times = String::from_utf8(probe.stdout).unwrap();
    let ticks = |line: &str| (line.parse::<f64>().unwrap() * TIMESCALE as f64).round() as u64;
    times.lines().map(ticks).collect()
}

/// NAL units of a sample in which each follows its length.
fn nals_in(mut data: &[u8]) -> Vec<Bytes> {
    let mut nals = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        nals.push(Bytes::copy_from_slice(nal));
        data = rest;
    }
    assert!(data.is_empty());
    nals
}

fn size_in(moov: &mp4_atom::Moov) -> (u32, u32) {
    let track = &moov.trak[0].tkhd;
    (track.width.integer().into(), track.height.integer().into())
}

fn fragment(part: Part) -> Fragment {
    match part {
        Part::Fragment(fragment) => fragment,
        Part::Init(..) => panic!("an init segment"),
    }
}

fn h264(arguments: &[&str]) -> std::path::PathBuf {
    encode_pattern("a.h264", SIZE, 0, COUNT, &[&X264[..], arguments].concat())
}

/// Standard output and error of a program, which must succeed.
async fn run(program: &str, arguments: &[&str]) -> (Vec<u8>, String) {
    let run = Command::new(program)
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let done = within(program, run).await.unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
    (done.stdout, said)
}
