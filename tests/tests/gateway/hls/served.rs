//! HLS over HTTP: what players, caches and impatient clients receive.

use rustix::process::Signal;
use sluicegate_tests::{
    AwakeClock, Camera, Gateway, Metrics, Raw,
    camera::clip,
    client::request,
    hls::{
        Session, assert_no_violations, parse,
        player::{Player, get, nals, playlist, resolve},
    },
    http_get, scratch, within,
};
use std::{net::SocketAddr, time::Duration};
use tokio::time::{interval, timeout};

const PLAYLIST: &str = "application/vnd.apple.mpegurl";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_transport_does_not_announce_the_end_and_goes_on_where_it_was() {
    let path = scratch("replaced-hls").join("mine.wasm");
    let mut component = std::fs::read(Gateway::component("hls")).unwrap();
    std::fs::write(&path, &component).unwrap();
    let mut camera = Camera::new(clip()).await;
    let config = camera.config();
    let plugin = path.display();
    let config = format!("{config}[transports.mine]\nplugin = \"{plugin}\"\n");
    let gateway = Gateway::with_config(&config).await;
    let mut player = Player::new(gateway.address, "/live/cam/mine/media.m3u8");
    player.session.patience = Duration::from_secs(10);
    let mut due = interval(Duration::from_millis(40));
    let feeding = async {
        for _ in 0..160 {
            due.tick().await;
            camera.send().await;
        }
    };
    let polling = async {
        loop {
            player.poll().await;
        }
    };
    tokio::select! {
        () = feeding => {}
        () = polling => {}
    }
    let before = player.session.playlist().unwrap().clone();
    let address = gateway.address;
    let segment = |uri: String| async move {
        let url = resolve("/live/cam/mine", &uri);
        let (status, _, body) = within("a segment", http_get(address, &url, &[]))
            .await
            .unwrap();
        assert_eq!(status, 200);
        body
    };
    let newest = before.segments.last().unwrap().uri.clone();
    let bytes = segment(newest.clone()).await;

    // A request that waits is answered by the new component.
    let asked = |metrics: &Metrics| {
        let of = |name| metrics.sum(name, &[("stream", "cam"), ("transport", "mine")]);
        of("sluicegate_guest_calls_total") - of("sluicegate_guest_pushes_total")
    };
    let calls = asked(&Metrics::of(&gateway).await);
    let next = format!("/live/cam/mine/media.m3u8?_HLS_msn={}", before.open.msn);
    let waiting = tokio::spawn(get_lasting(address, next.clone()));
    Metrics::until(&gateway, "the request waits", |now| asked(now) > calls).await;
    // An empty custom section of the name `x` makes the same component another file.
    component.extend([0, 2, 1, b'x']);
    std::fs::write(&path, &component).unwrap();
    let reload = request(address, "POST", "/api/plugins/mine/reload", &[]);
    let mut reload = std::pin::pin!(within("a reload", reload));
    let (status, _, body) = loop {
        tokio::select! {
            reloaded = &mut reload => break reloaded.unwrap(),
            _ = due.tick() => drop(camera.send().await),
        }
    };
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));

    // The new component has the same numbers and bytes, and goes on.
    assert_eq!(segment(newest).await, bytes);
    let feeding = async {
        for _ in 0..110 {
            due.tick().await;
            camera.send().await;
        }
    };
    let (_, waited) = tokio::join!(feeding, waiting);
    let (status, _, body) = waited.unwrap();
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{text}");
    assert!(!text.contains("#EXT-X-ENDLIST"), "{text}");
    let wrong = player.session.full(&text, Duration::ZERO, None);
    assert_no_violations("after the replacement", &text, &wrong);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_returns_is_a_discontinuity_and_the_end_is_announced() {
    let mut camera = Camera::new(clip()).await;
    let mut gateway = Gateway::with_config(&camera.config()).await;
    let mut player = Player::new(gateway.address, "/live/cam/hls/media.m3u8");
    player.session.patience = Duration::from_secs(10);
    let mut sent = 0;
    let (mut connected, mut due) = (true, interval(Duration::from_millis(40)));
    // Four segments, a lost connection in the middle of a group, and four more.
    let feeding = async {
        for _ in 0..2 {
            for _ in 0..220 {
                due.tick().await;
                camera.send().await;
                sent += 1;
            }
            if std::mem::take(&mut connected) {
                camera.hang_up();
            }
        }
    };
    let polling = async {
        loop {
            player.poll().await;
        }
    };
    tokio::select! {
        () = feeding => {}
        () = polling => {}
    }
    let told = player.session.playlist().unwrap().clone();
    // A request that waits for the next segment receives the end of the current one instead.
    let path = format!("/live/cam/hls/media.m3u8?_HLS_msn={}", told.open.msn);
    let asked = |metrics: &Metrics| {
        let of = |name| metrics.sum(name, &[("stream", "cam"), ("transport", "hls")]);
        of("sluicegate_guest_calls_total") - of("sluicegate_guest_pushes_total")
    };
    let before = asked(&Metrics::of(&gateway).await);
    let waiting = tokio::spawn(get_lasting(gateway.address, path));
    Metrics::until(&gateway, "the request waits", |now| asked(now) > before).await;
    gateway.signal(Signal::TERM);
    let (status, _, body) = within("the last playlist", waiting).await.unwrap();
    let text = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{text}");
    assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    let wrong = player.session.full(&text, Duration::ZERO, None);
    assert_no_violations("the last one", &text, &wrong);
    within("the end", gateway.child.wait()).await.unwrap();
    player.assert_no_violations();
    let all: Vec<_> = player.session.segments().collect();
    let breaks = all
        .windows(2)
        .filter(|pair| pair[0].number != pair[1].number);
    assert_eq!(breaks.clone().count(), 1, "one loss");
    for pair in breaks {
        assert_eq!(pair[1].number, pair[0].number + 1);
        assert_ne!(pair[1].map, pair[0].map);
        assert!(pair[1].discontinuity);
    }
    let got: usize = all
        .iter()
        .filter_map(|segment| segment.duration)
        .sum::<u64>() as usize;
    assert!(got > 8 * 100_000 && sent == 440, "{got}");
}

/// A GET without the usual deadline.
async fn get_lasting(address: SocketAddr, path: String) -> (u16, String, Vec<u8>) {
    http_get(address, &path, &[]).await.unwrap()
}

/// Requests for segments and parts that are gone, too far ahead, or do not arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_files_are_not_found_distant_ones_refused_and_late_ones_unavailable() {
    let mut camera = Camera::new(clip()).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let address = gateway.address;
    // The first playlist waits for the first segment.
    let first = tokio::spawn(async move { playlist(address, "/live/cam/hls/media.m3u8").await });
    let mut due = interval(Duration::from_millis(40));
    for _ in 0..130 {
        due.tick().await;
        camera.send().await;
    }
    within("the first playlist", first).await.unwrap();
    let (told, _) = playlist(address, "/live/cam/hls/media.m3u8").await;
    let last = told.segments.last().unwrap();
    let run = last.uri.split('-').next().unwrap().to_owned();
    let (msn, open) = (last.msn, told.open.parts.len() as u64);
    let ask = async |path: String| {
        let path = format!("/live/cam/hls/{path}");
        get(address, &path).await
    };
    for (path, expected) in [
        ("media.m3u8?_HLS_part=1".to_owned(), 400),
        ("media.m3u8?_HLS_msn=soon".into(), 400),
        (format!("media.m3u8?_HLS_msn={}", msn + 3), 400),
        (
            format!("media.m3u8?_HLS_msn={}&_HLS_part=400", msn + 1),
            400,
        ),
        (
            format!("media.m3u8?_HLS_msn={msn}&_HLS_part=0&_HLS_skip=YES"),
            200,
        ),
        (format!("media.m3u8?_HLS_msn={}", msn - 100), 200),
        (format!("{run}-{}.m4s", msn - 100), 404),
        (format!("{run}-{}.0.m4s", msn - 100), 404),
        (format!("{run}-{}.0.m4s", msn + 9), 400),
        (format!("0{run}-{msn}.m4s"), 404),
        (format!("1{run}-{msn}.m4s"), 404),
        (format!("init-{run}-7.mp4"), 404),
        (format!("init-{run}-0.mp4"), 200),
        (format!("%69nit-{run}-0.mp4"), 200),
        (format!("../hls/init-{run}-0.mp4"), 400),
        (format!("%2e%2e/hls/init-{run}-0.mp4"), 400),
        (format!("x/init-{run}-0.mp4"), 404),
        (String::new(), 404),
    ] {
        let (status, _, body) = ask(path.clone()).await;
        assert_eq!(
            status,
            expected,
            "{path}: {}",
            String::from_utf8_lossy(&body)
        );
    }
    // During a silence the last frame is repeated, so parts keep their duration.
    let mut player = Player::new(address, "/live/cam/hls/media.m3u8");
    player.session.patience = Duration::from_secs(60);
    within("twenty parts", async {
        loop {
            player.play(Duration::from_secs(1)).await;
            let shown = &player.session.playlist().unwrap().open;
            assert_eq!(shown.msn, msn + 1, "no keyframe came");
            if shown.parts.len() as u64 >= open + 20 {
                break;
            }
        }
    })
    .await;
    // The segment continues until a keyframe: a request that waits for its end gets 503 with Retry-After, after three
    // target durations.
    let awake = AwakeClock::new();
    let next = format!("media.m3u8?_HLS_msn={}", msn + 1);
    let (waited, part) = tokio::join!(ask(next.clone()), ask(format!("{run}-{}.0.m4s", msn + 2)));
    let took = awake.passed();
    for (status, head, _) in [waited, part] {
        assert_eq!(status, 503, "{head}");
        assert!(head.to_lowercase().contains("retry-after: 1"), "{head}");
    }
    assert!((10..16).contains(&took.as_secs()), "{took:?}");
    // The segment and later requests are not affected by that.
    let waiting = tokio::spawn(get_lasting(address, format!("/live/cam/hls/{next}")));
    for _ in 0..110 {
        due.tick().await;
        camera.send().await;
    }
    let (status, _, body) = within("the next segment", waiting).await.unwrap();
    let body = String::from_utf8(body).unwrap();
    assert_eq!(status, 200, "{body}");
    player.session.target_may_change = true;
    player.play(Duration::from_secs(2)).await;
    player.assert_no_violations();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cache_headers_state_what_lasts_and_text_is_compressed_where_accepted() {
    let gateway = Gateway::with_config("[streams.cam]\nsource = \"test-pattern\"\n").await;
    let address = gateway.address;
    let (told, _) = playlist(address, "/live/cam/hls/media.m3u8").await;
    let init = told.segments[0].map.clone().unwrap().uri;
    let (segment, part) = (
        told.segments[0].uri.clone(),
        told.segments[0].parts[0].uri.clone(),
    );
    let blocking = format!("media.m3u8?_HLS_msn={}", told.open.msn);
    let forever = "public, max-age=31536000, immutable";
    for (name, kind, cache, text) in [
        ("index.m3u8", PLAYLIST, "public, max-age=1", true),
        ("media.m3u8", PLAYLIST, "public, max-age=1", true),
        (&blocking, PLAYLIST, "public, max-age=12", true),
        (&init, "video/mp4", forever, false),
        (&segment, "video/iso.segment", forever, false),
        (&part, "video/iso.segment", forever, false),
        ("nothing", "text/plain; charset=utf-8", "no-store", true),
    ] {
        let path = format!("/live/cam/hls/{name}");
        let mut plain = Raw::connect(address).await;
        let ask = |method, headers: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n")
        };
        plain
            .write(ask("GET", "Accept-Encoding: identity\r\n"))
            .await;
        let (head, _) = plain.response().await.unwrap();
        assert_eq!(head.header("content-type"), Some(kind), "{name}");
        assert_eq!(head.header("cache-control"), Some(cache), "{name}");
        let vary = if text {
            "Origin, Accept-Encoding"
        } else {
            "Origin"
        };
        assert_eq!(head.header("vary"), Some(vary), "{name}");
        assert_eq!(head.header("content-encoding"), None);

        let packed = request(address, "GET", &path, &[("Accept-Encoding", "br, gzip")]);
        let (_, packed_head, body) = within("gzip", packed).await.unwrap();
        let packed = packed_head.contains("content-encoding: gzip");
        assert_eq!(
            packed,
            text && name != "nothing" && name != "index.m3u8",
            "{name}: {packed_head}"
        );
        assert_eq!(body.starts_with(&[0x1f, 0x8b]), packed);

        // HEAD returns the same headers as GET, without a body.
        plain
            .write(ask("HEAD", "Accept-Encoding: identity\r\n"))
            .await;
        let only = plain.head().await.unwrap();
        assert_eq!(only.header("content-type"), Some(kind));
        if head.status == 200 && !text {
            assert_eq!(
                only.header("content-length"),
                head.header("content-length"),
                "{name}"
            );
        }
        plain.write(ask("GET", "Range: bytes=0-9\r\n")).await;
        let (ranged, _) = plain.response().await.unwrap();
        assert_eq!(ranged.status, head.status, "ranges are not served");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_play_the_component_is_called_once_and_all_count_as_viewers() {
    let gateway =
        Gateway::with_config("[streams.cam]\nsource = \"test-pattern\"\nidle = \"1s\"\n").await;
    let address = gateway.address;
    playlist(address, "/live/cam/hls/media.m3u8").await;
    // Guest calls per sample with this number of players.
    let calls = async |count: usize| {
        let before = Metrics::of(&gateway).await;
        let players = (0..count).map(|_| {
            tokio::spawn(async move {
                let mut player = Player::new(address, "/live/cam/hls/media.m3u8");
                player.play(Duration::from_secs(6)).await;
                player.assert_no_violations();
                player.polls()
            })
        });
        let mut polls = 0;
        for player in players.collect::<Vec<_>>() {
            polls += player.await.unwrap();
        }
        assert!(polls as usize > 15 * count, "{polls} polls of {count}");
        let after = Metrics::of(&gateway).await;
        let rose = |name: &str| {
            let labels = [("stream", "cam"), ("transport", "hls")];
            after.sum(name, &labels) - before.sum(name, &labels)
        };
        rose("sluicegate_guest_calls_total") / rose("sluicegate_guest_pushes_total")
    };
    let (one, many) = (calls(1).await, calls(30).await);
    assert!(
        many < one * 1.5 + 0.5,
        "{one} calls a sample for one player, {many} for thirty"
    );

    let viewers = |sessions: &serde_json::Value| sessions["streams"][0]["viewers"].as_u64();
    let sessions = gateway.api("/api/sessions").await;
    assert_eq!(
        viewers(&sessions),
        Some(1),
        "all of one address and program"
    );
    let other = [("User-Agent", "another")];
    within(
        "another",
        http_get(address, "/live/cam/hls/index.m3u8", &other),
    )
    .await
    .unwrap();
    assert_eq!(viewers(&gateway.api("/api/sessions").await), Some(2));
    // Some time after the last request no viewer is counted, and a little later nothing runs.
    gateway
        .api_until("/api/sessions", "they have left", |now| {
            viewers(now) == Some(0)
        })
        .await;
    gateway
        .api_until("/api/devices", "the source stops", |now| {
            now[0]["state"] == "idle"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_hls_breaks_no_rule_either() {
    let config = "[streams.cam]\nsource = \"test-pattern\"\n\
                  [transports.hls]\nlow-latency = false\nsegment = \"1s\"\nwindow = 6\n";
    let gateway = Gateway::with_config(config).await;
    let (first, text) = playlist(gateway.address, "/live/cam/hls/media.m3u8").await;
    assert!(
        !text.contains("PART") && first.part_target.is_none(),
        "{text}"
    );
    let mut session = Session::patient(Duration::from_secs(5));
    let awake = AwakeClock::new();
    let mut due = interval(Duration::from_millis(250));
    while awake.passed() < Duration::from_secs(20) {
        due.tick().await;
        let (_, text) = playlist(gateway.address, "/live/cam/hls/media.m3u8").await;
        assert_no_violations("plain", &text, &session.full(&text, awake.passed(), None));
        let (told, _) = parse(&text);
        let newest = told.segments.last().unwrap();
        let (status, _, body) = get(gateway.address, &resolve("/live/cam/hls", &newest.uri)).await;
        assert_eq!(status, 200);
        assert!(!nals(&body).is_empty());
    }
    assert!(session.segments().count() >= 8);
    let hung = timeout(
        Duration::from_secs(5),
        get(
            gateway.address,
            "/live/cam/hls/media.m3u8?_HLS_msn=99999999999",
        ),
    );
    assert_eq!(hung.await.expect("directives mean nothing here").0, 200);
}
