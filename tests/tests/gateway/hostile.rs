//! A broken component costs no connection: whatever it does in whichever call, viewers stay connected, viewers of other
//! transports miss nothing, and its own viewers continue after the gap. For each call, all kinds of misbehaviour run at
//! once on one stream.

use serde_json::Value;
use sluicegate_tests::{
    Camera, Gateway, PATIENCE, Raw, Watcher,
    camera::{self, COUNT, GROUP},
    command::{CommandResult, check, config_file, sluicegate},
    http_get,
    raw::{handshake, masked},
    within,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::timeout;

/// Misbehaviour that ends the instance, and text of the resulting error.
const FATAL: [(&str, &str); 6] = [
    (
        "trap",
        "`unreachable` instruction executed; it logged no error that says why",
    ),
    ("panic", "hostile was told to panic in "),
    (
        "loop",
        "it ran longer than its limit of 60ms a call (limits.call)",
    ),
    ("giant", "its buffers hold more than 67108864 bytes"),
    ("output", ""),
    ("hold", "it holds more than 8192 handles"),
];
/// Time that a viewer has to receive the frames shown so far, before one more is shown.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(1);
/// Misbehaviour that ends the instance only in calls that return chunks.
const LANE: (&str, &str) = ("nonsense", "it returned a chunk on lane 200");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_push_does_its_viewers_resume_after_the_gap_others_miss_nothing() {
    let deeds = [
        "trap", "panic", "loop", "giant", "output", "memory", "log", "hold", "nonsense",
    ];
    let mut scene = Scene::new("push", &deeds, "after = 15").await;
    scene.show(4 * GROUP).await;
    let plugins = scene.gateway.api("/api/plugins").await;
    for deed in deeds {
        let left_out = scene.frames_missed(deed).await;
        let plugin = named(&plugins, deed);
        if ["trap", "panic", "loop", "giant", "output", "nonsense"].contains(&deed) {
            assert!(!left_out.is_empty(), "{deed} did nothing");
            // Only the frame at which the instance failed is lost.
            assert!(
                plugin["failures"].as_u64().unwrap() <= left_out.len() as u64,
                "{deed}: {left_out:?} {plugin:#}"
            );
            scene.is_logged(deed, "push").await;
        }
        // Two frames in a row are lost only if a new instance fails at its first one.
        let in_a_row = left_out.iter().any(|place| left_out.contains(&(place + 1)));
        assert!(!in_a_row || deed == "memory", "{deed}: {left_out:?}");
    }
    scene.others_are_unaffected().await;
    assert!(
        scene.gateway.memory() < 512 << 20,
        "{} bytes",
        scene.gateway.memory()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buffers_that_are_kept_for_ever_are_taken_away_with_the_instance() {
    // The 65th frame of 1 MiB exceeds 64 MiB.
    let clip = Box::leak(Box::new(camera::clip().with_filler(1 << 20)));
    let mut scene = Scene::with_clip(clip, "push", &["hold"], "").await;
    scene.show(90).await;
    let left_out = scene.frames_missed("hold").await;
    assert!(!left_out.is_empty(), "no buffer was kept");
    let line = scene
        .gateway
        .logged("its buffers hold more than 67108864 bytes")
        .await;
    assert!(
        line.contains("hostile@0.1.0 on stream cam: `push` failed"),
        "{line}"
    );
    // The buffers kept by the guest, the stream's ring of 32 MiB and the rings of two transports.
    let most = (64 + 32 + 2 * 64 + 100) << 20;
    assert!(
        scene.gateway.memory() < most,
        "{} bytes",
        scene.gateway.memory()
    );
    scene.others_are_unaffected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_configure_does_when_the_source_returns_no_viewer_misses_a_frame() {
    // Nonsense in a header is passed through: only viewers can judge it.
    let deeds = [
        "trap", "panic", "loop", "giant", "output", "memory", "log", "hold",
    ];
    // Each instance accepts its first configuration, so that there is a working state to return to.
    let mut scene = Scene::new("configure", &deeds, "after = 1").await;
    scene.show(GROUP + 3).await;
    scene.hang_up();
    scene.show(2 * GROUP).await;
    scene.recovers_after(&deeds, &FATAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_stop_does_when_the_source_is_lost_no_viewer_misses_a_frame() {
    let deeds = [
        "trap", "panic", "loop", "giant", "output", "memory", "log", "hold", "nonsense",
    ];
    let mut scene = Scene::new("stop", &deeds, "").await;
    scene.show(GROUP + 3).await;
    scene.hang_up();
    scene.show(2 * GROUP).await;
    scene
        .recovers_after(&deeds, &[&FATAL[..], &[LANE]].concat())
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_request_does_its_client_gets_a_reason_and_no_viewer_misses_a_frame() {
    let deeds = [
        "trap", "panic", "loop", "giant", "output", "memory", "log", "hold", "nonsense",
    ];
    let mut scene = Scene::new("request", &deeds, "").await;
    scene.show(3).await;
    for deed in deeds {
        let (status, head, body) = scene.get(deed).await;
        match FATAL.iter().find(|(fatal, _)| *fatal == deed) {
            Some((_, reason)) => {
                assert_eq!(status, 503, "{deed}: {body}");
                assert!(
                    body.contains("`request` failed") && body.contains(reason),
                    "{deed}: {body}"
                );
            }
            None if deed == "nonsense" => {
                assert_eq!(status, 500, "a status that is none");
                assert!(!head.contains("owned") && !body.contains("owned"), "{head}");
            }
            None => {}
        }
        scene.show(2).await;
    }
    scene.show(GROUP).await;
    scene.recovers_after(&deeds, &FATAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_join_does_the_viewer_gets_a_reason_and_no_other_misses_a_frame() {
    let deeds = [
        "trap", "panic", "loop", "giant", "output", "memory", "log", "hold", "nonsense", "refuse",
    ];
    // The first viewer is admitted, by each new instance, too.
    let mut scene = Scene::new("join", &deeds, "after = 1").await;
    scene.show(3).await;
    for deed in deeds {
        let mut second = Raw::connect(scene.gateway.address).await;
        second
            .write(handshake(
                scene.gateway.address,
                &format!("/live/cam/{deed}"),
            ))
            .await;
        let head = second.head().await.unwrap();
        match FATAL.iter().find(|(fatal, _)| *fatal == deed) {
            Some(_) => assert_eq!(head.status, 503, "{deed}: {}", head.text),
            None if deed == "refuse" => assert_eq!(head.status, 400, "{}", head.text),
            None => assert!(matches!(head.status, 101 | 503), "{deed}: {}", head.text),
        }
        scene.show(2).await;
    }
    scene.show(GROUP).await;
    scene.recovers_after(&deeds, &FATAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_received_does_its_sender_stays_and_no_viewer_misses_a_frame() {
    let deeds = [
        "trap", "panic", "loop", "giant", "output", "memory", "log", "hold",
    ];
    let mut scene = Scene::new("received", &deeds, "").await;
    scene.show(3).await;
    for viewer in scene.hostile.values() {
        viewer.say("do it");
    }
    scene.show(2 * GROUP).await;
    scene.recovers_after(&deeds, &FATAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_leave_does_the_viewers_that_stay_miss_no_frame() {
    let deeds = ["trap", "panic", "loop", "memory", "log", "hold"];
    let mut scene = Scene::new("leave", &deeds, "").await;
    scene.show(3).await;
    for deed in deeds {
        let second = scene.open(deed).await;
        drop(second);
    }
    scene.show(2 * GROUP).await;
    let fatal: Vec<_> = FATAL
        .into_iter()
        .filter(|(deed, _)| deeds.contains(deed))
        .collect();
    scene.recovers_after(&deeds, &fatal).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_is_notified_of_viewers_that_the_host_drops() {
    let mut scene = Scene::new("received", &["burst"], "").await;
    scene.show(3).await;
    for _ in 0..3 {
        let mut second = Raw::connect(scene.gateway.address).await;
        let head = second
            .upgrade(scene.gateway.address, "/live/cam/burst")
            .await;
        assert_eq!(head.unwrap().status, 101);
        second.write(masked(0x81, b"more")).await;
        let (code, reason) = within("the viewer is disconnected", second.closed())
            .await
            .unwrap();
        assert_eq!(code, 1008, "{reason}");
        // The viewer's slot is released only after the component was told.
        within("the component hears of it", async {
            loop {
                scene.show(1).await;
                let path = "/live/cam/burst/viewers";
                let (status, _, body) = http_get(scene.gateway.address, path, &[]).await.unwrap();
                assert_eq!(status, 200);
                match body.as_slice() {
                    // Only the scene's own viewer.
                    b"1" => break,
                    b"2" => {}
                    other => panic!("{} viewers", String::from_utf8_lossy(other)),
                }
            }
        })
        .await;
    }
    scene.others_are_unaffected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_sends_requests_and_never_reads_is_dropped_within_its_bound() {
    const MESSAGES: usize = 1000;
    const ANSWER: usize = 32 << 10;
    let mut scene = Scene::new("received", &["echo"], "").await;
    scene.show(3).await;
    let mut viewer = Raw::with_buffer(scene.gateway.address, Some(4096)).await;
    let head = viewer
        .upgrade(scene.gateway.address, "/live/cam/echo")
        .await;
    assert_eq!(head.unwrap().status, 101);
    for _ in 0..MESSAGES {
        viewer.write(masked(0x81, b"more")).await;
    }
    // The component has answered them all, or was told that the viewer is gone.
    within("the component drops the viewer", async {
        while {
            scene.show(1).await;
            let path = "/live/cam/echo/viewers";
            let (_, _, body) = http_get(scene.gateway.address, path, &[]).await.unwrap();
            body != b"1"
        } {}
    })
    .await;
    // What was on its way still comes: the kernel's buffers, the session's and the muxer's, of 32 MiB of answers.
    let mut received = 0;
    let (code, reason) = within("the viewer is told", async {
        loop {
            let (opcode, payload) = viewer.frame().await.unwrap();
            if opcode == 8 {
                let reason = String::from_utf8_lossy(&payload[2..]).into_owned();
                break (u16::from_be_bytes([payload[0], payload[1]]), reason);
            }
            received += payload.len();
        }
    })
    .await;
    assert_eq!(code, 1008, "{reason}");
    assert!(received < MESSAGES * ANSWER / 2, "{received} bytes");
    scene.others_are_unaffected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_always_fails_is_rested_and_the_others_live_on() {
    let mut scene = Scene::new("push", &["panic"], "").await;
    let mut seen = BTreeSet::new();
    // Nine instances with growing backoff, about eleven seconds in total.
    let broken = within("the breaker opens", async {
        loop {
            scene.show(1).await;
            let plugins = scene.gateway.api("/api/plugins").await;
            let muxer = named(&plugins, "panic")["muxers"][0].clone();
            let state = muxer["state"].as_str().unwrap().to_owned();
            if state == "broken" {
                break muxer;
            }
            if state == "backing-off" {
                assert_explains(muxer["reason"].as_str().unwrap());
            }
            seen.insert(state);
        }
    })
    .await;
    assert!(seen.contains("backing-off"), "{seen:?}");
    assert_explains(broken["reason"].as_str().unwrap());
    assert_eq!(broken["failures"], 10);
    scene
        .gateway
        .logged("circuit breaker open, next attempt in 30 s")
        .await;
    // New viewers get 503 with Retry-After at once; existing ones stay connected.
    let mut late = Raw::connect(scene.gateway.address).await;
    late.write(handshake(scene.gateway.address, "/live/cam/panic"))
        .await;
    let (head, body) = late.response().await.unwrap();
    assert_eq!(
        (head.status, head.header("retry-after")),
        (503, Some("1")),
        "{body}"
    );
    assert_explains(&body);
    scene.show(2 * GROUP).await;
    let plugins = scene.gateway.api("/api/plugins").await;
    assert_eq!(named(&plugins, "panic")["muxers"][0]["state"], "broken");
    let sessions = scene.gateway.api("/api/sessions").await;
    let of = |transport: &str| {
        let all = sessions["sessions"].as_array().unwrap();
        all.iter()
            .filter(|session| session["transport"] == transport)
            .count()
    };
    assert_eq!((of("panic"), of("nal")), (1, 1), "{sessions:#}");
    scene.others_are_unaffected().await;
}

#[tokio::test]
async fn a_component_that_does_not_open_is_found_by_check_and_serve() {
    for (deed, part) in [
        (
            "refuse",
            "hostile@0.1.0 rejected its options: hostile refuses these options",
        ),
        (
            "trap",
            "hostile@0.1.0 on stream (check): `open` failed: wasm trap",
        ),
        ("panic", "hostile was told to panic in Open"),
        ("loop", "it ran longer than its limit of 60ms a call"),
        ("hold", "it holds more than 8192 handles"),
        ("output", "hostile@0.1.0 on stream (check): `open` failed"),
        (
            "nonsense",
            "names no carrier of this gateway: [\"carrier pigeon\"]",
        ),
    ] {
        let config = config(&[deed], "open", "") + "[streams.demo]\nsource = \"test-pattern\"\n";
        let checked = check(&config).await;
        refused_once(&checked, &[&format!("[transports.{deed}]: "), part]);
        let file = config_file(&config);
        let served = sluicegate(&["serve", "--config", file.to_str().unwrap()]).await;
        refused_once(&served, &[part]);
        assert_eq!(served.out, "", "no socket was opened");
    }
    let options = "[transports.hostile]\nplugin = \"PLUGIN\"\nbefore = 3\n[streams.demo]\nsource = \"test-pattern\"\n";
    let plugin = Gateway::component("hostile");
    let checked = check(&options.replace("PLUGIN", plugin.to_str().unwrap())).await;
    checked.refused(&[
        "[transports.hostile]: hostile@0.1.0 rejected its options:",
        "`before`",
    ]);
}

/// A stream `cam`, its viewer on `nal`, and one viewer for each transport that misbehaves.
struct Scene {
    gateway: Gateway,
    camera: Camera,
    nal: Watcher,
    hostile: BTreeMap<String, Watcher>,
    /// Frames shown and received over `nal`: index in the clip and message.
    shown: Vec<(usize, bytes::Bytes)>,
    clip: &'static camera::Clip,
}

impl Scene {
    async fn new(call: &str, deeds: &[&str], more: &str) -> Scene {
        Scene::with_clip(camera::clip(), call, deeds, more).await
    }

    async fn with_clip(
        clip: &'static camera::Clip,
        call: &str,
        deeds: &[&str],
        more: &str,
    ) -> Scene {
        let camera = Camera::new(clip).await;
        let gateway = Gateway::with_config(&(camera.config() + &config(deeds, call, more))).await;
        let nal = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
        let mut hostile = BTreeMap::new();
        for deed in deeds {
            let path = format!("/live/cam/{deed}");
            let viewer = Watcher::open(gateway.address, &path, clip).await;
            hostile.insert((*deed).to_owned(), viewer);
        }
        Scene {
            gateway,
            camera,
            nal,
            hostile,
            shown: Vec::new(),
            clip,
        }
    }

    async fn open(&self, deed: &str) -> Watcher {
        Watcher::open(
            self.gateway.address,
            &format!("/live/cam/{deed}"),
            self.clip,
        )
        .await
    }

    /// Shows the next frames one after the other; each must arrive over `nal`.
    async fn show(&mut self, count: usize) {
        for _ in 0..count {
            let sent = self.camera.send().await;
            let came = within(&format!("frame {sent}"), self.nal.next()).await;
            assert_eq!(came.0, sent % COUNT, "viewers of nal see a gap");
            self.shown.push(came);
        }
    }

    fn hang_up(&mut self) {
        self.camera.hang_up();
    }

    /// Waits until the viewer of `deed` has received the newest frame or a later one; returns those that it missed.
    /// What it received is in order and has the same bytes as over `nal`.
    async fn frames_missed(&mut self, deed: &str) -> BTreeSet<usize> {
        let (mut left_out, mut at) = (BTreeSet::new(), 0);
        let (newest, began) = (self.shown.len(), std::time::Instant::now());
        loop {
            let viewer = self.hostile.get_mut(deed).unwrap();
            let Ok(next) = timeout(CATCH_UP_TIMEOUT, viewer.next()).await else {
                // Shows one more frame, as the newest may be among those lost. Only occasionally, because the other
                // transports may fail at each of them.
                assert!(began.elapsed() < PATIENCE, "{deed} does not continue");
                self.show(1).await;
                continue;
            };
            while self.shown[at].0 != next.0 {
                left_out.insert(at);
                at += 1;
                assert!(
                    at < self.shown.len(),
                    "{deed}: frame {} is out of order",
                    next.0
                );
            }
            assert!(self.shown[at].1 == next.1, "{deed}: other bytes than nal");
            at += 1;
            if at >= newest {
                return left_out;
            }
        }
    }

    /// Every viewer received every frame, and the failures are reported.
    async fn recovers_after(&mut self, deeds: &[&str], fatal: &[(&str, &str)]) {
        for deed in deeds {
            let left_out = self.frames_missed(deed).await;
            assert!(left_out.is_empty(), "{deed}: {left_out:?} are missing");
        }
        let plugins = self.gateway.api("/api/plugins").await;
        for (deed, reason) in fatal {
            let plugin = named(&plugins, deed);
            assert!(
                plugin["failures"].as_u64().unwrap() > 0,
                "{deed}: {plugin:#}"
            );
            self.gateway.logged(reason).await;
        }
        self.others_are_unaffected().await;
    }

    async fn is_logged(&self, deed: &str, call: &str) {
        let mut reasons = FATAL.iter().chain([&LANE]);
        let reason = reasons.find(|(known, _)| *known == deed).unwrap().1;
        let line = self.gateway.logged(reason).await;
        if !reason.is_empty() {
            let place = format!("hostile@0.1.0 on stream cam: `{call}` failed");
            assert!(line.contains(&place), "{line}");
        }
    }

    async fn others_are_unaffected(&self) {
        let plugins = self.gateway.api("/api/plugins").await;
        for name in ["nal", "mjpeg"] {
            assert_eq!(named(&plugins, name)["failures"], 0, "{plugins:#}");
        }
        assert_eq!(
            named(&plugins, "nal")["instances"],
            2,
            "one to check, one to serve"
        );
    }

    async fn get(&self, deed: &str) -> (u16, String, String) {
        let path = format!("/live/cam/{deed}");
        let got = sluicegate_tests::http_get(self.gateway.address, &path, &[]);
        let (status, head, body) = within("an answer", got).await.unwrap();
        (status, head, String::from_utf8_lossy(&body).into_owned())
    }
}

/// Config with a transport for each kind of misbehaviour, performed in `call`.
fn config(deeds: &[&str], call: &str, more: &str) -> String {
    let plugin = Gateway::component("hostile");
    let one = |deed: &&str| {
        // The host does not end the instance for it, as it harms no other viewer, so the component must stop by itself.
        let once = *deed == "nonsense";
        // In an unoptimised build, taking all available handles takes a third of this limit.
        format!(
            "[transports.{deed}]\nplugin = \"{}\"\nlimits = {{ call = \"60ms\" }}\nin = \"{call}\"\ndo = \"{deed}\"\nonce = {once}\n{more}\n",
            plugin.display()
        )
    };
    deeds.iter().map(one).collect()
}

fn named<'a>(plugins: &'a Value, name: &str) -> &'a Value {
    let all = plugins.as_array().unwrap();
    all.iter().find(|plugin| plugin["name"] == name).unwrap()
}

/// Fails unless the text names plugin, version, stream and call, and quotes the guest.
fn assert_explains(text: &str) {
    for part in [
        "hostile@0.1.0 on stream cam: `push` failed: ",
        "hostile was told to panic in Push",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

/// Fails unless the command was refused with these parts, each stated once.
fn refused_once(ended: &CommandResult, parts: &[&str]) {
    ended.refused(parts);
    for part in parts {
        assert_eq!(ended.err.matches(part).count(), 1, "{}", ended.err);
    }
}
