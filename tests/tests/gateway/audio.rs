//! Audio beside video, and alone: AAC passes through, everything else is transcoded to AAC, in sync with the video.
//! ffmpeg reads what `mse` sends.

use serde_json::Value;
use sluicegate_media::blocks;
use sluicegate_tests::{
    Gateway, Raw, hls::player::Player, http_get, media::encode_pattern, numbered::Rtsp, scratch,
    within,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;

const SIZE: (u32, u32) = (320, 192);
/// Ten seconds; no test plays its file to the end.
const COUNT: u64 = 300;
const X264: [&str; 12] = [
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-g",
    "10",
    "-bf",
    "0",
    "-sc_threshold",
    "0",
    "-map",
    "0:v",
];
/// 440 Hz for half a second in every second, starting at the half second.
const BEEPS: &str = "aevalsrc=0.3*sin(2*PI*440*t)*gte(mod(t\\,1)\\,0.5):s=48000:d=10";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aac_passes_byte_for_byte_in_sync_with_the_video() {
    for (name, container) in [("aac.mp4", "mp4"), ("aac.ts", "mpegts")] {
        let file = film(
            name,
            BEEPS,
            &["-c:a", "aac", "-b:a", "96k", "-f", container],
        );
        let gateway = serve("", &file).await;
        let kept = scratch("audio").join("seen.mp4");
        let seen = watch_into(&gateway, "demo", 4, &kept).await;
        let given = packets(&file).await;
        assert!(
            seen.video.len() >= 90 && seen.audio.len() >= 140,
            "{seen:?}"
        );
        assert_is_part(&given.audio, &seen.audio);
        // Pictures have another form in a transport stream.
        if container == "mp4" {
            assert_is_part(&given.video, &seen.video);
        }
        gapless(&seen.audio, 1024.0 / 48_000.0);
        gapless(&seen.video, 1.0 / 30.0);
        let audio = offset(&given.audio, &seen.audio);
        let video = moved(&kept, &seen).await - given.video[0].0;
        assert!(
            (video - audio).abs() < 0.002,
            "{name}: video moved by {video} s, audio by {audio} s"
        );

        let devices = gateway.api("/api/devices").await;
        assert_eq!(devices[0]["audio"]["codec"], "aac");
        assert_eq!(devices[0]["audio"]["rate"], 48_000);
        assert_eq!(devices[0]["audio"]["channels"], 1);
        let rate = devices[0]["frame_rate"].as_f64().unwrap();
        assert!(
            (25.0..35.0).contains(&rate),
            "audio counts as video: {rate}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_audio_becomes_aac_in_sync_with_the_video() {
    for (name, codec, arguments) in [
        (
            "pcm.mov",
            "pcm_s16le",
            &["-c:a", "pcm_s16le", "-ar", "44100", "-ac", "2"][..],
        ),
        (
            "alaw.mov",
            "pcm_alaw",
            &["-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"],
        ),
        ("opus.mkv", "opus", &["-c:a", "libopus", "-b:a", "64k"]),
    ] {
        let file = film(name, BEEPS, arguments);
        let gateway = serve("", &file).await;
        let kept = scratch("audio").join("seen.mp4");
        let seen = watch_into(&gateway, "demo", 5, &kept).await;
        let given = packets(&file).await;
        let moved = offset(&given.video, &seen.video);
        gapless(&seen.audio, 1024.0 / 48_000.0);
        let devices = gateway.api("/api/devices").await;
        assert_eq!(devices[0]["audio"]["codec"], codec);
        // The beeps start at the half seconds of the file.
        let heard = detect_beeps(&kept).await;
        assert!(heard.beeps.len() >= 3, "{name}: {heard:?}");
        for beep in &heard.beeps {
            let off = (beep - moved).rem_euclid(1.0) - 0.5;
            assert!(off.abs() < 0.02, "{name}: a beep is {off} s off: {heard:?}");
        }
        assert!((heard.pitch - 440.0).abs() < 4.0, "{name}: {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rendition_has_the_streams_audio_in_sync_with_its_video() {
    let file = film("rendition.mp4", BEEPS, &["-c:a", "aac"]);
    let gateway = serve(
        "renditions.mobile = { width = 160, frame-rate = 10, bitrate = \"100k\" }\n",
        &file,
    )
    .await;
    // One after the other, so that the second finds the conversion of the first running.
    let whole = watch(&gateway, "demo", 3).await;
    let small = watch(&gateway, "demo@mobile", 4).await;
    let given = packets(&file).await;
    let moved = offset(&given.audio, &whole.audio);
    assert!((offset(&given.audio, &small.audio) - moved).abs() < 0.002);
    gapless(&small.audio, 1024.0 / 48_000.0);
    assert!(
        small.audio.len() >= 120 && small.video.len() >= 25,
        "{small:?}"
    );
    // Pictures have the same times as those of the source.
    for (time, _) in &small.video {
        let shown = (time - moved) * 30.0;
        assert!((shown - shown.round()).abs() < 0.05, "{time} {moved}");
    }

    // With audio in another format both forms share one conversion.
    let file = film("rendition.mov", BEEPS, &["-c:a", "pcm_s16le"]);
    let gateway = serve(
        "renditions.mobile = { width = 160, frame-rate = 10, bitrate = \"100k\" }\n",
        &file,
    )
    .await;
    let (whole, small) = tokio::join!(
        watch(&gateway, "demo", 4),
        watch(&gateway, "demo@mobile", 4)
    );
    let same = small
        .audio
        .iter()
        .filter(|(_, hash)| whole.audio.iter().any(|(_, known)| known == hash));
    assert!(
        same.count() * 10 >= small.audio.len() * 6,
        "{whole:?} {small:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_alone_is_served_where_supported_and_refused_elsewhere() {
    for (name, arguments) in [
        ("alone.m4a", &["-c:a", "aac"][..]),
        ("alone.wav", &["-c:a", "pcm_s16le"]),
    ] {
        let file = scratch("audio").join(name);
        ffmpeg(&["-f", "lavfi", "-i", BEEPS], arguments, &file).await;
        let gateway = serve("", &file).await;
        let kept = scratch("audio").join("seen.mp4");
        let seen = watch_into(&gateway, "demo", 3, &kept).await;
        assert!(seen.video.is_empty(), "{seen:?}");
        gapless(&seen.audio, 1024.0 / 48_000.0);
        let heard = detect_beeps(&kept).await;
        assert!(
            heard.beeps.len() >= 2 && (heard.pitch - 440.0).abs() < 4.0,
            "{heard:?}"
        );
        let device = &gateway.api("/api/devices").await[0];
        assert_eq!(
            (&device["state"], &device["codec"]),
            (&"live".into(), &Value::Null)
        );
        assert_eq!(device["reason"], "receiving audio");
        let (status, _, body) = http_get(gateway.address, "/live/demo/mjpeg", &[])
            .await
            .unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 406, "{body}");
        assert_eq!(
            body.trim_end(),
            "stream `demo` has audio only, and transport `mjpeg` takes video only"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generated_source_may_have_audio() {
    let gateway = Gateway::with_config(
        "[streams.demo]\nsource = \"lavfi:testsrc=size=320x192:rate=15[out0];sine=frequency=440[out1]\"\n\
         encode = { width = 320, height = 192, frame-rate = 15, bitrate = \"300k\" }\n",
    )
    .await;
    let kept = scratch("audio").join("seen.mp4");
    let seen = watch_into(&gateway, "demo", 8, &kept).await;
    assert!(
        seen.video.len() >= 90 && seen.audio.len() >= 300,
        "{seen:?}"
    );
    // Both tracks complete from where they started: fifteen video and 46.9 AAC frames per second.
    let span = seen.audio.last().unwrap().0 - seen.audio[0].0;
    let (video, frames) = (seen.video.len() as f64, seen.audio.len() as f64);
    assert!(
        video >= 15.0 * span - 2.0 && frames >= 46.8 * span,
        "{seen:?}"
    );
    let heard = detect_beeps(&kept).await;
    assert!((heard.pitch - 440.0).abs() < 2.0, "{heard:?}");
}

/// Served by GStreamer; libav learns from RTCP how the two tracks relate in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audio_of_an_rtsp_camera_is_in_sync_with_its_video() {
    for (name, arguments) in [
        ("aac.mp4", &["-c:a", "aac"][..]),
        ("alaw.mov", &["-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"]),
    ] {
        let server = Rtsp::serve(&film(name, BEEPS, arguments), None).await;
        let gateway = Gateway::serve(&[&server.source()]).await;
        let kept = scratch("audio").join("seen.mp4");
        let seen = watch_into(&gateway, "127.0.0.1", 6, &kept).await;
        gapless(&seen.audio, 1024.0 / 48_000.0);
        let moved = moved(&kept, &seen).await;
        let heard = detect_beeps(&kept).await;
        assert!(heard.beeps.len() >= 3, "{name}: {heard:?}");
        for beep in &heard.beeps {
            let off = (beep - moved).rem_euclid(1.0) - 0.5;
            assert!(off.abs() < 0.06, "{name}: a beep is {off} s off: {heard:?}");
        }
        server.kill().await;
    }
}

/// A muxer that takes no audio does not start any conversion of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_video_only_transport_is_not_called_for_audio() {
    let file = film("quiet.mp4", BEEPS, &["-c:a", "aac"]);
    let gateway = serve("", &file).await;
    let mut viewer = within(
        "connect",
        sluicegate_tests::Nal::connect(gateway.address, "demo"),
    )
    .await
    .unwrap();
    for _ in 0..90 {
        within("a frame", viewer.next_unit()).await.unwrap();
    }
    let plugins = gateway.api("/api/plugins").await;
    let nal = plugins
        .as_array()
        .unwrap()
        .iter()
        .find(|plugin| plugin["name"] == "nal");
    let pushes = nal.unwrap()["pushes"].as_u64().unwrap();
    assert!(
        (90..=110).contains(&pushes),
        "{pushes} calls for some 90 frames"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_that_comes_late_and_stops_is_a_change_of_tracks_each_time() {
    let file = scratch("audio").join("late.mkv");
    let video = encode_pattern("late.mp4", SIZE, 0, COUNT, &X264);
    ffmpeg(
        &[
            "-i",
            video.to_str().unwrap(),
            "-itsoffset",
            "2.5",
            "-f",
            "lavfi",
            "-t",
            "2",
            "-i",
            BEEPS,
        ],
        &["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac"],
        &file,
    )
    .await;
    let gateway = serve("", &file).await;
    let mut player = Player::new(gateway.address, "/live/demo/hls/media.m3u8");
    player.session.patience = Duration::from_secs(10);
    let playing = tokio::spawn(async move {
        player.play(Duration::from_secs(14)).await;
        player
    });
    let mut viewer = Raw::connect(gateway.address).await;
    let head = viewer
        .upgrade(gateway.address, "/live/demo/mse")
        .await
        .unwrap();
    assert_eq!(head.status, 101, "{}", head.text);
    let mut told = Vec::new();
    within("three kinds of tracks", async {
        while told.len() < 3 {
            let (opcode, payload) = viewer.frame().await.unwrap();
            if opcode == 1 {
                told.push(String::from_utf8(payload.to_vec()).unwrap());
            }
        }
    })
    .await;
    let with_audio: Vec<bool> = told.iter().map(|mime| mime.contains("mp4a.40.2")).collect();
    assert_eq!(with_audio, [false, true, false], "{told:?}");
    assert!(told.iter().all(|mime| mime.contains("avc1.")), "{told:?}");
    let player = playing.await.unwrap();
    player.assert_no_violations();
    let maps: Vec<_> = player.session.segments().map(|one| &one.map).collect();
    let changes = maps.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes >= 2, "{changes} changes of tracks in {maps:?}");
}

/// Ten seconds of the test pattern with this audio.
fn film(name: &str, audio: &str, arguments: &[&str]) -> PathBuf {
    let audio = ["-f", "lavfi", "-i", audio];
    let arguments = [&audio[..], &X264, &["-map", "1:a"], arguments].concat();
    encode_pattern(name, SIZE, 0, COUNT, &arguments)
}

/// A film with audio that must be transcoded to AAC.
pub fn alaw() -> PathBuf {
    film(
        "panics.mov",
        BEEPS,
        &["-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"],
    )
}

async fn ffmpeg(inputs: &[&str], arguments: &[&str], file: &Path) {
    let ended = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-y"])
        .args(inputs)
        .args(arguments)
        .arg(file)
        .status();
    assert!(ended.await.unwrap().success(), "{inputs:?} {arguments:?}");
}

async fn serve(more: &str, file: &Path) -> Gateway {
    let config = format!(
        "[streams.demo]\nsource = \"file:{}\"\n{more}",
        file.display()
    );
    Gateway::with_config(&config).await
}

/// Times in seconds and hashes of packets.
#[derive(Debug, Default)]
struct Packets {
    video: Vec<(f64, String)>,
    audio: Vec<(f64, String)>,
}

async fn watch(gateway: &Gateway, stream: &str, seconds: u32) -> Packets {
    watch_into(gateway, stream, seconds, &scratch("audio").join("seen.mp4")).await
}

/// Records `mse` for this time into a file and reads it with ffmpeg.
async fn watch_into(gateway: &Gateway, stream: &str, seconds: u32, file: &Path) -> Packets {
    let url = format!("http://{}/live/{stream}/mse", gateway.address);
    let ended = Command::new("curl")
        .args(["--silent", "--max-time", &seconds.to_string(), "--output"])
        .arg(file)
        .arg(url)
        .status();
    // Exit code 28: the time limit was reached.
    assert_eq!(within("curl", ended).await.unwrap().code(), Some(28));
    packets(file).await
}

/// Packets of a file as ffmpeg reads them, except the last of each track, which may be cut short. AAC without ADTS
/// headers.
async fn packets(file: &Path) -> Packets {
    let mut reader = Command::new("ffmpeg");
    reader.args(["-hide_banner", "-loglevel", "fatal", "-copyts", "-i"]);
    reader.arg(file).args(["-map", "0", "-c", "copy"]);
    if file.extension().is_some_and(|extension| extension == "ts") {
        reader.args(["-bsf:a", "aac_adtstoasc"]);
    }
    let output = within("ffmpeg", reader.args(["-f", "framemd5", "-"]).output());
    let text = String::from_utf8(output.await.unwrap().stdout).unwrap();
    let mut packets = Packets::default();
    let mut tracks: BTreeMap<&str, (f64, bool)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((track, base)) = line
            .strip_prefix("#tb ")
            .and_then(|rest| rest.split_once(": "))
        {
            let (numerator, denominator) = base.split_once('/').unwrap();
            let base = numerator.parse::<f64>().unwrap() / denominator.parse::<f64>().unwrap();
            tracks.entry(track).or_default().0 = base;
        } else if let Some((track, kind)) = line
            .strip_prefix("#media_type ")
            .and_then(|rest| rest.split_once(": "))
        {
            tracks.entry(track).or_default().1 = kind == "audio";
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let (base, is_audio) = tracks[fields[0]];
            let time = fields[2].parse::<f64>().unwrap() * base;
            let track = if is_audio {
                &mut packets.audio
            } else {
                &mut packets.video
            };
            track.push((time, fields[5].to_owned()));
        }
    }
    packets.video.pop();
    packets.audio.pop();
    packets
}

/// Constant offset in seconds of what was seen against the file.
fn offset(given: &[(f64, String)], seen: &[(f64, String)]) -> f64 {
    let times = |hash: &str| -> Vec<f64> {
        let same = given.iter().filter(|(_, known)| known == hash);
        same.map(|(time, _)| *time).collect()
    };
    // All frames of silence are alike.
    let moved: Vec<f64> = seen
        .iter()
        .filter_map(|(time, hash)| match times(hash)[..] {
            [given] => Some(time - given),
            _ => None,
        })
        .collect();
    assert!(
        moved.len() * 3 >= seen.len(),
        "{} of {} are of the file",
        moved.len(),
        seen.len()
    );
    let (least, most) = moved
        .iter()
        .fold((f64::MAX, f64::MIN), |(least, most), moved| {
            (least.min(*moved), most.max(*moved))
        });
    assert!(most - least < 0.002, "moved by {least} to {most} s");
    least
}

/// Offset in seconds of the video against the film, by the numbers in them.
async fn moved(file: &Path, seen: &Packets) -> f64 {
    let decoded = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "fatal", "-i"])
        .arg(file)
        .args([
            "-map",
            "0:v",
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "-",
        ])
        .output();
    let grey = within("ffmpeg", decoded).await.unwrap().stdout;
    let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
    let numbers = grey
        .chunks_exact(width * height)
        .map(|frame| blocks::read(frame, width, width, height, blocks::Row::Number).unwrap());
    let mut moved: Vec<f64> = numbers
        .zip(&seen.video)
        .map(|(number, (time, _))| time - f64::from(number) / 30.0)
        .collect();
    moved.sort_by(f64::total_cmp);
    let (least, most) = (moved[0], moved[moved.len() - 1]);
    assert!(most - least < 0.06, "moved by {least} to {most} s");
    moved[moved.len() / 2]
}

/// Fails unless `seen` is a contiguous part of `given`.
fn assert_is_part(given: &[(f64, String)], seen: &[(f64, String)]) {
    let hashes = |packets: &[(f64, String)]| {
        packets
            .iter()
            .map(|(_, hash)| hash.clone())
            .collect::<Vec<_>>()
    };
    let (given, seen) = (hashes(given), hashes(seen));
    assert!(
        given.windows(seen.len()).any(|part| part == seen),
        "{seen:?} is not in {given:?}"
    );
}

fn gapless(packets: &[(f64, String)], step: f64) {
    for two in packets.windows(2) {
        let found = two[1].0 - two[0].0;
        assert!(
            (found - step).abs() < 0.0002,
            "{found} s from {} on, not {step}",
            two[0].0
        );
    }
}

/// What can be heard in a file.
#[derive(Debug)]
struct Beeps {
    /// Start of each tone in seconds.
    beeps: Vec<f64>,
    /// Frequency of the tones in Hz.
    pitch: f64,
}

async fn detect_beeps(file: &Path) -> Beeps {
    const RATE: usize = 48_000;
    let start = packets(file).await.audio[0].0;
    let decoded = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "fatal", "-i"])
        .arg(file)
        .args([
            "-map", "0:a", "-ac", "1", "-ar", "48000", "-f", "f32le", "-",
        ])
        .output();
    let bytes = within("ffmpeg", decoded).await.unwrap().stdout;
    let samples: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    let loud: Vec<bool> = samples
        .chunks(RATE / 500)
        .map(|chunk| chunk.iter().any(|sample| sample.abs() > 0.08))
        .collect();
    let (mut beeps, mut rises, mut toned) = (Vec::new(), 0, 0);
    for (at, is_loud) in loud.iter().enumerate() {
        let before = &loud[at.saturating_sub(100)..at];
        if *is_loud && at >= 100 && before.iter().all(|loud| !loud) {
            beeps.push(start + at as f64 / 500.0);
        }
        // Within a tone, not at its ends.
        if at >= 5 && at + 5 < loud.len() && loud[at - 5..at + 5].iter().all(|loud| *loud) {
            let chunk = &samples[at * RATE / 500..(at + 1) * RATE / 500 + 1];
            rises += chunk
                .windows(2)
                .filter(|two| two[0] < 0.0 && two[1] >= 0.0)
                .count();
            toned += 1;
        }
    }
    Beeps {
        beeps,
        pitch: rises as f64 * 500.0 / f64::from(toned.max(1)),
    }
}
