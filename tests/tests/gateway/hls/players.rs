//! HLS in third-party programs, and HLS of unusual sources.

use bytes::Bytes;
use sluicegate_media::h264::nal;
use sluicegate_tests::{
    Gateway, Metrics,
    feeder::free_port,
    hls::player::{Player, nals, playlist, resolve},
    http_get,
    media::{encode_pattern, ffmpeg, packets_of},
    scratch, within,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::timeout,
};

const X264: [&str; 6] = [
    "-c:v",
    "libx264",
    "-preset",
    "ultrafast",
    "-sc_threshold",
    "0",
];

/// Thirty seconds without a gap: each frame starts when the previous one's duration has passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffprobe_reads_thirty_seconds_without_a_gap() {
    let film = film("b.mp4", 90, &["-g", "60", "-bf", "2"]);
    let gateway = Gateway::serve(&[film.to_str().unwrap()]).await;
    let url = format!("http://{}/live/b/hls/index.m3u8", gateway.address);
    let read = [
        "-v",
        "error",
        "-read_intervals",
        "%+30",
        "-show_entries",
        "packet=dts_time,pts_time",
        "-of",
        "csv=p=0",
        &url,
    ];
    let text = output("ffprobe", &read, Duration::from_secs(90)).await;
    let times: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| {
            let (pts, dts) = line.split_once(',')?;
            Some((pts.parse().ok()?, dts.trim_end_matches(',').parse().ok()?))
        })
        .collect();
    assert!(times.len() > 29 * 30, "{} packets", times.len());
    for pair in times.windows(2) {
        let apart = pair[1].1 - pair[0].1;
        assert!(
            (apart - 1.0 / 30.0).abs() < 0.002,
            "{apart} s after {:?}",
            pair[0]
        );
    }
    let mut shown: Vec<f64> = times.iter().map(|(pts, _)| *pts).collect();
    shown.sort_by(f64::total_cmp);
    let gap = shown
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .fold(0.0, f64::max);
    assert!(gap < 0.036, "{gap} s without a frame");
}

/// GStreamer's HLS client (plain HLS, without low latency), followed by an H.264 parser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gstreamer_plays_without_a_gap() {
    let gateway = Gateway::with_config("[streams.cam]\nsource = \"test-pattern\"\n").await;
    let url = format!(
        "location=http://{}/live/cam/hls/index.m3u8",
        gateway.address
    );
    let arguments = [
        "-v",
        "souphttpsrc",
        &url,
        "!",
        "hlsdemux",
        "!",
        "qtdemux",
        "!",
        "h264parse",
        "!",
        "video/x-h264,alignment=au",
        "!",
        "fakesink",
        "silent=false",
        "sync=false",
    ];
    let mut playing = Command::new("gst-launch-1.0")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the tests need gst-launch-1.0");
    let mut said = BufReader::new(playing.stdout.take().unwrap()).lines();
    let mut times: Vec<f64> = Vec::new();
    let reading = async {
        while times.len() < 150 {
            let line = said.next_line().await.unwrap().expect("it ended");
            if line.contains("last-message = chain") {
                let pts = line
                    .split("pts: ")
                    .nth(1)
                    .and_then(|rest| rest.split(',').next());
                times.extend(pts.and_then(clock));
            }
        }
    };
    timeout(Duration::from_secs(60), reading)
        .await
        .expect("ten seconds of video");
    for pair in times.windows(2) {
        let apart = pair[1] - pair[0];
        assert!(
            (apart - 1.0 / 15.0).abs() < 0.002,
            "{apart} s after {}",
            pair[0]
        );
    }
}

/// Parses `0:00:01.233333333` into seconds.
fn clock(text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    for part in text.trim().split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Some(seconds)
}

/// Unusual sources, each polled as by a player: every NAL unit arrives once and in order, and no rule is broken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_nal_unit_comes_once_and_in_order_from_all_kinds_of_sources() {
    // Name, seconds, arguments; the pattern has 30 frames per second unless the arguments override it.
    let films = [
        ("baseline", 8, ["-g", "30", "-bf", "0", "-vf", "null"]),
        ("b-frames", 8, ["-g", "45", "-bf", "2", "-vf", "null"]),
        ("one-a-second", 12, ["-g", "2", "-bf", "0", "-vf", "fps=1"]),
        (
            "sixty-a-second",
            8,
            ["-g", "60", "-bf", "0", "-vf", "setpts=N/60/TB"],
        ),
        (
            "variable",
            10,
            [
                "-g",
                "20",
                "-bf",
                "0",
                "-vf",
                "setpts=(N*2+mod(N\\,5)*mod(N\\,3)/4)/30/TB",
            ],
        ),
        (
            "ten-second-groups",
            24,
            ["-g", "300", "-bf", "0", "-vf", "null"],
        ),
        // MPEG-TS time stamps wrap at 2^33, which happens after two seconds.
        ("wraps", 8, ["-g", "30", "-bf", "0", "-vf", "null"]),
    ];
    let films: Vec<(&str, PathBuf)> = films
        .iter()
        .map(|(name, seconds, arguments)| {
            let rate: &[&str] = match *name {
                "sixty-a-second" => &["-r", "60"],
                "one-a-second" => &["-r", "1"],
                "variable" => &["-fps_mode", "vfr"],
                "wraps" => &["-output_ts_offset", "95440"],
                _ => &[],
            };
            let format = if *name == "wraps" { "ts" } else { "mp4" };
            let file = film(
                &format!("{name}.{format}"),
                seconds * 30,
                &[&arguments[..], rate].concat(),
            );
            (*name, file)
        })
        .collect();
    let sources: Vec<&str> = films
        .iter()
        .map(|(_, file)| file.to_str().unwrap())
        .collect();
    let gateway = Gateway::serve(&sources).await;
    let address = gateway.address;
    let all = films.into_iter().map(|(name, file)| {
        tokio::spawn(async move {
            let mut player = Player::new(address, &format!("/live/{name}/hls/media.m3u8"));
            if name == "ten-second-groups" {
                // The target duration promises keyframes two seconds apart, so segments of this film come late.
                player.session.patience = Duration::from_secs(5);
            }
            let whole = frames_of(&packets_of(&file));
            let mut got: Vec<Bytes> = Vec::new();
            let mut seen = None;
            while got.len() < whole.len() + 20 {
                if !player.poll().await {
                    continue;
                }
                let segments = player.session.playlist().unwrap().segments.clone();
                for segment in segments {
                    if seen.is_some_and(|seen| segment.msn <= seen) {
                        continue;
                    }
                    let path = resolve(&player.base, &segment.uri);
                    let (status, _, body) = http_get(address, &path, &[]).await.unwrap();
                    assert_eq!(status, 200, "{path}");
                    got.extend(frames_of(&nals(&body)));
                    seen = Some(segment.msn);
                }
            }
            let again = whole.iter().cycle();
            let differs = got.iter().zip(again).position(|(one, other)| one != other);
            assert_eq!(differs, None, "{name}: NAL unit of {}", got.len());
            player.assert_no_violations();
        })
    });
    for one in all.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(90), one)
            .await
            .expect("the film was not received within 90 s")
            .unwrap();
    }
}

/// Without parameter sets and delimiters: MP4 has the former in the init segment and no use for the latter.
fn frames_of(nals: &[Bytes]) -> Vec<Bytes> {
    let kept = |unit: &&Bytes| !matches!(nal::unit_type(unit), nal::SPS | nal::PPS | nal::AUD);
    nals.iter().filter(kept).cloned().collect()
}

/// Video and audio in one rendition, and audio alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audio_plays_in_sync_with_video_and_alone() {
    let dir = scratch("media");
    let (both, alone) = (dir.join("both.mp4"), dir.join("alone.m4a"));
    ffmpeg(|command| {
        command
            .args([
                "-f",
                "lavfi",
                "-i",
                "testsrc=size=320x192:rate=30",
                "-f",
                "lavfi",
            ])
            .args(["-i", "sine=frequency=440:sample_rate=48000", "-t", "20"])
            .args(X264)
            .args(["-g", "30", "-bf", "0", "-pix_fmt", "yuv420p", "-c:a", "aac"])
            .arg(&both)
    });
    ffmpeg(|command| {
        command
            .args([
                "-f",
                "lavfi",
                "-i",
                "sine=frequency=440:sample_rate=44100",
                "-t",
                "20",
            ])
            .args(["-c:a", "aac"])
            .arg(&alone)
    });
    let sources = [both.to_str().unwrap(), alone.to_str().unwrap()];
    let gateway = Gateway::serve(&sources).await;
    let address = gateway.address;
    let play = async |name: &str| {
        let mut player = Player::new(address, &format!("/live/{name}/hls/media.m3u8"));
        player.play(Duration::from_secs(12)).await;
        player.assert_no_violations();
        let url = format!("http://{address}/live/{name}/hls/index.m3u8");
        let read = [
            "-v",
            "error",
            "-read_intervals",
            "%+8",
            "-show_entries",
            "packet=codec_type,dts_time",
            "-of",
            "csv=p=0",
            &url,
        ];
        let text = output("ffprobe", &read, Duration::from_secs(60)).await;
        let mut times = BTreeMap::<String, Vec<f64>>::new();
        for line in text.lines() {
            let (kind, time) = line.split_once(',').unwrap();
            let time = time.trim_end_matches(',').parse().unwrap();
            times.entry(kind.to_owned()).or_default().push(time);
        }
        times
    };
    let (both, alone) = tokio::join!(play("both"), play("alone"));
    let gap_free = |times: &[f64], step: f64| {
        assert!(times.len() as f64 * step > 6.0, "{}", times.len());
        for pair in times.windows(2) {
            assert!((pair[1] - pair[0] - step).abs() < 0.002, "{pair:?}");
        }
    };
    gap_free(&both["video"], 1.0 / 30.0);
    gap_free(&both["audio"], 1024.0 / 48_000.0);
    assert!(
        (both["video"][0] - both["audio"][0]).abs() < 0.3,
        "{both:?}"
    );
    gap_free(&alone["audio"], 1024.0 / 44_100.0);
    assert!(!alone.contains_key("video"));
    let (_, _, index) = http_get(address, "/live/alone/hls/index.m3u8", &[])
        .await
        .unwrap();
    let index = String::from_utf8(index).unwrap();
    assert!(
        index.contains("CODECS=\"mp4a.40.2\"") && !index.contains("RESOLUTION"),
        "{index}"
    );
}

/// A cache in front, as in any CDN: many players cost the gateway about as many requests as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_behind_a_caching_nginx_cost_the_gateway_as_one() {
    const PLAYERS: usize = 12;
    let gateway = Gateway::with_config("[streams.cam]\nsource = \"test-pattern\"\n").await;
    let (dir, port) = (scratch("nginx"), free_port().await);
    std::fs::write(dir.join("nginx.conf"), nginx(&dir, port, &gateway)).unwrap();
    // `/usr/sbin` is not in every user's PATH.
    let installed = ["/usr/sbin/nginx"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let mut proxy = Command::new(installed.unwrap_or("nginx"))
        .args(["-p", dir.to_str().unwrap(), "-c", "nginx.conf"])
        .kill_on_drop(true)
        .spawn()
        .expect("the tests need nginx");
    let address = ([127, 0, 0, 1], port).into();
    within("nginx listens", async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    playlist(address, "/live/cam/hls/media.m3u8").await;
    let answers = async || {
        let labels = [("stream", "cam"), ("transport", "hls")];
        Metrics::of(&gateway)
            .await
            .sum("sluicegate_answers_total", &labels)
    };
    let before = answers().await;
    let players = (0..PLAYERS).map(|_| {
        tokio::spawn(async move {
            let mut player = Player::new(address, "/live/cam/hls/media.m3u8");
            player.play(Duration::from_secs(10)).await;
            player.assert_no_violations();
            player.polls() as usize + player.parts.len()
        })
    });
    let mut asked = 0;
    for player in players.collect::<Vec<_>>() {
        asked += player.await.unwrap();
    }
    let answered = answers().await - before;
    assert!(asked > PLAYERS * 50, "{asked} requests");
    assert!(
        answered * 4.0 < asked as f64,
        "{answered} of {asked} reached the gateway"
    );
    proxy.kill().await.unwrap();
}

fn nginx(dir: &Path, port: u16, gateway: &Gateway) -> String {
    let dir = dir.display();
    let upstream = gateway.address;
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
           uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
           proxy_cache_path {dir}/cache keys_zone=hls:1m use_temp_path=off;\n\
           server {{\n\
             listen 127.0.0.1:{port};\n\
             location / {{\n\
               proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
               proxy_cache hls; proxy_cache_lock on; proxy_cache_lock_timeout 20s; proxy_cache_lock_age 20s;\n\
             }}\n\
           }}\n\
         }}\n"
    )
}

/// A film of the numbered test pattern.
fn film(name: &str, frames: u64, arguments: &[&str]) -> PathBuf {
    encode_pattern(
        name,
        (320, 192),
        0,
        frames,
        &[&X264[..], arguments].concat(),
    )
}

/// Standard output of a program, which must succeed within the time limit.
async fn output(program: &str, arguments: &[&str], most: Duration) -> String {
    let running = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let done = tokio::time::timeout(most, running)
        .await
        .unwrap_or_else(|_| panic!("{program} did not end within {most:?}"))
        .unwrap_or_else(|error| panic!("the tests need {program}: {error}"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
