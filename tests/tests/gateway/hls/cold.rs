//! First playlists: of renditions that nobody has watched, and of streams that run without viewers.

use rustix::process::Signal;
use sluicegate_tests::{
    Gateway,
    hls::{
        Playlist, agree, assert_no_violations,
        player::{Player, playlist, variants},
    },
    http_get,
    media::{encode_pattern, ffmpeg},
    scratch,
};
use std::time::{Duration, SystemTime};
use tokio::time::interval;

/// Streams with plain H.264, with B-frames, with JPEGs, and with audio that must be transcoded to AAC.
fn config() -> String {
    let x264 = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-sc_threshold",
        "0",
    ];
    let b = [&x264[..], &["-g", "60", "-bf", "2"]].concat();
    let b = encode_pattern("cold-b.mp4", (320, 192), 0, 300, &b);
    let jpegs = encode_pattern("cold.avi", (320, 192), 0, 300, &["-c:v", "mjpeg"]);
    let heard = scratch("media").join("cold-heard.mkv");
    ffmpeg(|command| {
        let frames = ["-f", "lavfi", "-i", "testsrc=size=320x192:rate=30"];
        let sound = [
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=16000",
            "-t",
            "10",
        ];
        let coded = [
            "-g",
            "60",
            "-bf",
            "0",
            "-pix_fmt",
            "yuv420p",
            "-c:a",
            "pcm_s16le",
        ];
        command
            .args(frames)
            .args(sound)
            .args(x264)
            .args(coded)
            .arg(&heard)
    });
    let mut config = String::new();
    for (name, source) in [
        ("pattern", "test-pattern".to_owned()),
        ("b", format!("file:{}", b.display())),
        ("jpegs", format!("file:{}", jpegs.display())),
        ("heard", format!("file:{}", heard.display())),
    ] {
        config += &format!(
            "[streams.{name}]\nsource = \"{source}\"\nalways-on = true\n\
             encode = {{ width = 320, height = 192, frame-rate = 30, bitrate = \"300k\" }}\n\
             renditions.mobile = {{ width = 160, frame-rate = 15, bitrate = \"100k\" }}\n"
        );
    }
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unwatched_rendition_lists_its_streams_segments_from_the_first_playlist() {
    let gateway = Gateway::with_config(&config()).await;
    let address = gateway.address;
    let play = async |name: &str| {
        let paths = variants(address, &format!("/live/{name}/hls/")).await;
        let of = |rendition: &str| {
            let path = format!("/live/{name}{rendition}/hls/media.m3u8");
            assert!(paths.contains(&path), "{paths:?}");
            path
        };
        let mut whole = Player::new(address, &of(""));
        whole.session.patience = Duration::from_secs(5);
        while whole.seconds() < 12.0 {
            whole.poll().await;
        }
        let (first, text) = playlist(address, &of("@mobile")).await;
        // Polls again, so that the reference is no older than the playlist compared with it.
        whole.poll().await;
        whole.assert_no_violations();
        let source = whole.session.playlist().unwrap();
        same_segments(name, source, &first, &text);
        assert!(first.segments.len() >= 4, "{name}: {text}");
        // It is also current: the segment in progress is the same, or was when the playlist was requested.
        assert!(source.open.msn - first.open.msn <= 1, "{name}: {text}");
        assert_no_violations(name, &text, &agree(source, &first));
        // It continues from there.
        let mut mobile = Player::new(address, &of("@mobile"));
        mobile.session.patience = Duration::from_secs(5);
        let wrong = mobile.session.full(&text, Duration::ZERO, None);
        assert_no_violations(name, &text, &wrong);
        tokio::join!(
            mobile.play(Duration::from_secs(5)),
            whole.play(Duration::from_secs(5))
        );
        mobile.assert_no_violations();
        whole.assert_no_violations();
        let (one, other) = (
            whole.session.playlist().unwrap(),
            mobile.session.playlist().unwrap(),
        );
        same_segments(name, one, other, "later");
        assert_no_violations(name, &text, &agree(one, other));
    };
    tokio::join!(play("pattern"), play("b"), play("jpegs"), play("heard"));
    gateway.no_panic();
}

/// Segments listed by both are equal, and both list the same range.
fn same_segments(name: &str, source: &Playlist, other: &Playlist, text: &str) {
    let mut met = 0;
    for segment in &other.segments {
        let twin = source.segments.iter().find(|twin| twin.msn == segment.msn);
        let Some(twin) = twin else {
            assert!(segment.msn >= source.open.msn, "{name}: {segment:?}");
            continue;
        };
        met += 1;
        let of = |segment: &sluicegate_tests::hls::Segment| {
            (segment.date, segment.duration, segment.number, segment.gap)
        };
        assert_eq!(of(segment), of(twin), "{name}: {} in {text}", segment.msn);
    }
    assert!(met + 1 >= other.segments.len().min(4), "{name}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_playlist_is_current_however_much_there_is_of_the_past() {
    let gateway = Gateway::with_config(
        "[streams.cam]\nsource = \"test-pattern\"\nalways-on = true\nrenditions.mobile = { width = 160 }\n",
    )
    .await;
    // No request is sent until the stream has a history of 14 s.
    let samples = async || {
        let (_, _, text) = http_get(gateway.address, "/metrics", &[]).await.unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix("sluicegate_stream_samples_total{stream=\"cam\"} "));
        count.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let mut looks = interval(Duration::from_millis(100));
    while samples().await < 14 * 30 {
        looks.tick().await;
    }
    for name in ["cam", "cam@mobile"] {
        let path = format!("/live/{name}/hls/media.m3u8");
        let (first, text) = playlist(gateway.address, &path).await;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap().as_millis() as i64;
        let open: u64 = first.open.parts.iter().map(|part| part.duration).sum();
        let last = first.segments.last().unwrap();
        let ended = last.date.unwrap() + (last.duration.unwrap() + open) as i64 / 100;
        // One part in progress, one frame that waits for the next, and the margin for a busy machine.
        assert!(
            now - ended < 200 + 67 + 700,
            "{name}: {} ms in {text}",
            now - ended
        );
        assert!(first.segments.len() >= 4, "{name}: {text}");
    }
}

/// As after the suspension of a laptop or virtual machine: everything due meanwhile happens at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_asleep_for_three_seconds_breaks_no_rule() {
    let gateway = Gateway::with_config(&config()).await;
    let paths =
        ["pattern", "jpegs", "b"].map(|name| ["", "@mobile"].map(|of| format!("{name}{of}")));
    let playing = paths.into_iter().flatten().map(|name| {
        let path = format!("/live/{name}/hls/media.m3u8");
        let mut player = Player::new(gateway.address, &path);
        player.session.patience = Duration::from_secs(5);
        tokio::spawn(async move {
            player.play(Duration::from_secs(16)).await;
            player
        })
    });
    let playing: Vec<_> = playing.collect();
    let mut due = interval(Duration::from_secs(3));
    for _ in 0..3 {
        due.tick().await;
    }
    gateway.signal(Signal::STOP);
    due.tick().await;
    gateway.signal(Signal::CONT);
    let mut players = Vec::new();
    for player in playing {
        players.push(player.await.unwrap());
    }
    for two in players.chunks(2) {
        let [one, other] = two else { unreachable!() };
        one.assert_no_violations();
        other.assert_no_violations();
        let lists = (one.session.playlist(), other.session.playlist());
        let (Some(one), Some(other)) = lists else {
            panic!("no playlist")
        };
        assert_no_violations("the renditions", "", &agree(one, other));
        let gaps = other.segments.iter().filter(|segment| segment.gap);
        assert_eq!(gaps.count(), 0, "{other:?}");
    }
    gateway.no_panic();
}
