//! HLS on air for minutes: tracks change and instances break while players continue.

use sluicegate_tests::{
    Gateway,
    hls::{
        Session, agree, assert_no_violations,
        player::{Player, get, playlist, resolve, variants},
    },
    media::encode_pattern,
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tokio::time::interval;

/// One run of three minutes with two renditions: the size changes twice a minute, and the instance of each rendition
/// traps ten times under its player.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_minutes_with_changes_of_tracks_and_ten_traps_break_no_rule() {
    const TIME: Duration = Duration::from_secs(180);
    let film = film_of_two_sizes(30);
    let config = format!(
        "[streams.cam]\nsource = \"file:{}\"\n[streams.cam.renditions.mobile]\nwidth = 160\nbitrate = \"200k\"\n\
         [transports.hls]\nplugin = \"{}\"\nwindow = 16\n",
        film.display(),
        Gateway::component("brittle-hls").display()
    );
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let paths = variants(address, "/live/cam/hls/").await;
    assert_eq!(
        paths,
        [
            "/live/cam/hls/media.m3u8",
            "/live/cam@mobile/hls/media.m3u8"
        ]
    );
    let mut players: Vec<Player> = paths
        .iter()
        .map(|path| Player::new(address, path))
        .collect();
    let (first, second) = players.split_at_mut(1);
    let playing = async { tokio::join!(first[0].play(TIME), second[0].play(TIME)) };
    let breaking = async {
        let began = Instant::now();
        let mut next = interval(TIME / 11);
        next.tick().await;
        for nth in 0..10 {
            next.tick().await;
            for path in &paths {
                let base = path.trim_end_matches("media.m3u8");
                let (_, before) = playlist(address, path).await;
                let (status, _, body) = get(address, &format!("{base}trap")).await;
                assert_eq!(status, 503, "{}", String::from_utf8_lossy(&body));
                // The new instance keeps everything that playlists promised before.
                let (_, after) = playlist(address, path).await;
                let mut session = Session::patient(TIME);
                session.target_may_change = true;
                session.full(&before, Duration::ZERO, None);
                let wrong = session.full(&after, Duration::ZERO, None);
                assert_no_violations(
                    &format!("after trap {nth}, {:?}", began.elapsed()),
                    &after,
                    &wrong,
                );
            }
        }
    };
    tokio::join!(playing, breaking);

    let (one, other) = (&players[0], &players[1]);
    for player in [one, other] {
        player.assert_no_violations();
        assert!(player.refused.is_empty(), "{:?}", player.refused);
        let seconds = player.seconds();
        assert!(seconds > TIME.as_secs_f64() - 10.0, "only {seconds} s");
        // The size changes in the middle of the file and where it repeats.
        let numbers = player.session.segments().map(|segment| segment.number);
        let numbers: BTreeSet<u64> = numbers.collect();
        let changes = numbers.len() - 1;
        assert!(changes >= 5, "{changes} changes of tracks");
        player_has_what_is_served(player).await;
    }
    let (one, other) = (
        one.session.playlist().unwrap(),
        other.session.playlist().unwrap(),
    );
    assert_no_violations("the renditions", "", &agree(one, other));
    let plugins = gateway.api("/api/plugins").await;
    let failures: u64 = plugins
        .as_array()
        .unwrap()
        .iter()
        .filter(|plugin| plugin["name"] == "hls")
        .map(|plugin| plugin["failures"].as_u64().unwrap())
        .sum();
    assert_eq!(failures, 20);
}

/// Parts received long ago, before traps, have the same bytes as the segments served now.
async fn player_has_what_is_served(player: &Player) {
    let mut compared = 0;
    for segment in &player.session.playlist().unwrap().segments {
        let path = resolve(&player.base, &segment.uri);
        let (status, _, whole) = get(player.address, &path).await;
        // The oldest listed segments may have expired meanwhile.
        if status != 200 {
            continue;
        }
        let stem = segment.uri.trim_end_matches(".m4s");
        let names = (0..).map(|nth| format!("{stem}.{nth}.m4s"));
        let parts: Option<Vec<&Vec<u8>>> = names
            .take(segment.parts.len().max(10))
            .map(|name| player.parts.get(&name))
            .collect();
        if let Some(parts) = parts {
            let joined: Vec<u8> = parts.into_iter().flatten().copied().collect();
            assert_eq!(joined.len(), whole.len(), "{path}");
            assert!(joined == whole, "{path} is other bytes than its parts were");
            compared += 1;
        }
    }
    assert!(compared >= 3, "{compared} segments compared");
}

/// A film whose second half has another size, with a keyframe every second.
fn film_of_two_sizes(seconds: u64) -> std::path::PathBuf {
    let arguments = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "30",
        "-sc_threshold",
        "0",
        "-bf",
        "0",
    ];
    let half = |name, size, first| encode_pattern(name, size, first, seconds * 15, &arguments);
    let mut film = std::fs::read(half("a.h264", (320, 192), 0)).unwrap();
    film.extend(std::fs::read(half("b.h264", (480, 288), seconds * 15)).unwrap());
    let path = sluicegate_tests::scratch("media").join("film.h264");
    std::fs::write(&path, film).unwrap();
    path
}
