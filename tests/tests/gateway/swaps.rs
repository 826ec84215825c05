//! Components are exchanged while they are watched: viewers stay, lose nothing, and keep what they have if the new
//! component does worse.

use rustix::process::Signal;
use serde_json::Value;
use sluicegate_tests::{
    Camera, Gateway, Nal, Watcher,
    camera::{self, GROUP},
    client::request,
    exchange::{
        Exchanged, FAST, entry, reload, reload_by_force, reload_while_watched, state_until,
    },
    hls::player::Player,
    mp4::Sample,
    mse::Mse,
    within,
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// A viewer of fragmented MP4 that fails at the first gap.
struct Mp4Viewer {
    samples: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Mp4Viewer {
    /// Watches a transport with the component `mse`; `follows` tells whether a sample is the one after the sample before.
    async fn open(
        address: SocketAddr,
        path: &str,
        mut follows: impl FnMut(&Sample) -> bool + Send + 'static,
    ) -> Mp4Viewer {
        let mut viewer = Mse::connect_to(address, path).await;
        viewer.header().await;
        let samples = Arc::<AtomicU64>::default();
        let count = samples.clone();
        let task = tokio::spawn(async move {
            loop {
                // Any text or init segment in between fails here: nothing may begin anew.
                for sample in viewer.fragment().await.samples {
                    let at = sample.decode_time;
                    assert!(follows(&sample), "a gap before decode time {at}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Mp4Viewer { samples, task }
    }

    /// Samples so far. Fails the test if the viewer has failed.
    fn samples(&self) -> u64 {
        assert!(!self.task.is_finished(), "the viewer of MP4 has failed");
        self.samples.load(Ordering::Relaxed)
    }
}

/// Decode times of the samples of a viewer.
type Times = Arc<Mutex<Vec<u64>>>;

/// Notes the samples, which are to be compared with those of another viewer: the test pattern leaves frames out on a busy
/// machine.
fn noted(times: &Times) -> impl FnMut(&Sample) -> bool + use<> {
    let times = times.clone();
    move |sample| {
        let mut times = times.lock().unwrap();
        let follows = times.last().is_none_or(|last| *last < sample.decode_time);
        times.push(sample.decode_time);
        follows
    }
}

/// Asserts that two viewers got the same samples while both watched, and that these were at least so many.
fn assert_same(one: &Times, other: &Times, least: usize) {
    let (one, other) = (one.lock().unwrap(), other.lock().unwrap());
    let begin = one[0].max(other[0]);
    let end = one[one.len() - 1].min(other[other.len() - 1]);
    let both = |times: &[u64]| -> Vec<u64> {
        let both = times.iter().filter(|at| (begin..=end).contains(*at));
        both.copied().collect()
    };
    let (one, other) = (both(&one), both(&other));
    let gap = one.iter().zip(&other).position(|(one, other)| one != other);
    assert_eq!((gap, one.len()), (None, other.len()));
    assert!(one.len() >= least, "only {} samples", one.len());
}

/// Frames of the camera's clip, which are told by their last NAL unit: durations of a camera are guessed.
fn in_clip() -> impl FnMut(&Sample) -> bool {
    let frames = camera::clip().frames.iter();
    let last = frames.map(|frame| frame.last().unwrap().to_vec());
    let places: HashMap<Vec<u8>, usize> = last.zip(0..).collect();
    assert_eq!(places.len(), camera::COUNT, "frames that end alike");
    let mut before = None;
    move |sample| {
        let mut data = &sample.data[..];
        let mut unit = data;
        while let Some((length, rest)) = data.split_first_chunk::<4>() {
            (unit, data) = rest.split_at(u32::from_be_bytes(*length) as usize);
        }
        let place = places[unit];
        let before = before.replace(place);
        before.is_none_or(|before| (before + 1) % camera::COUNT == place)
    }
}

/// An ffmpeg that decodes a URL of the gateway until it is told to end.
struct Ffmpeg {
    child: Child,
    frames: Arc<AtomicU64>,
}

impl Ffmpeg {
    fn open(gateway: &Gateway, path: &str) -> Ffmpeg {
        let mut child = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-loglevel", "error", "-i"])
            .arg(format!("http://{}{path}", gateway.address))
            .args(["-progress", "pipe:1", "-f", "null", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let frames = Arc::<AtomicU64>::default();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let count = frames.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(frame) = line.strip_prefix("frame=") {
                    count.store(frame.trim().parse().unwrap(), Ordering::Relaxed);
                }
            }
        });
        Ffmpeg { child, frames }
    }

    /// Frames that it has decoded.
    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Ends it; it must not have complained about anything.
    async fn end(mut self) {
        let id = i32::try_from(self.child.id().expect("ffmpeg has ended")).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, Signal::INT).unwrap();
        let mut said = String::new();
        let mut errors = self.child.stderr.take().unwrap();
        within("ffmpeg ends", errors.read_to_string(&mut said))
            .await
            .unwrap();
        assert_eq!(said, "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_gets_every_frame_over_a_hundred_swaps() {
    let mine = Exchanged::new("mine", "nal");
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!("{}{}", camera.config(), mine.config(""));
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let mut viewer = Watcher::open(address, "/live/cam/mine", camera::clip()).await;
    camera.show_at_once(&mut viewer).await;
    let mut hashes = Vec::new();
    for nth in 0..100 {
        mine.rebuild(nth);
        let (status, new) = reload_while_watched(&mut camera, &mut viewer, address, "mine").await;
        assert_eq!(status, 200, "swap {nth}: {new}");
        hashes.push(new["hash"].clone());
        // The switch comes with the next group.
        for _ in 0..GROUP {
            camera.show_at_once(&mut viewer).await;
        }
    }
    hashes.dedup();
    assert_eq!(hashes.len(), 100);
    let mine = entry(&gateway, "mine").await;
    assert_eq!(mine["swap"]["state"], "switched", "{mine}");
    assert_eq!(mine["muxers"].as_array().unwrap().len(), 1, "{mine}");
    assert_eq!(mine["failures"], 0, "{mine}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_of_mp4_gets_every_frame_over_a_hundred_swaps() {
    let mse = Exchanged::new("mse", "mse");
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!("{}{}", camera.config(), mse.config(""));
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    // Sets the pace of the camera.
    let mut other = Watcher::open(address, "/live/cam/nal", camera::clip()).await;
    let opened = tokio::spawn(Mp4Viewer::open(address, "/live/cam/mse", in_clip()));
    while !opened.is_finished() {
        camera.show_at_once(&mut other).await;
    }
    let viewer = opened.await.unwrap();
    for nth in 0..100 {
        mse.rebuild(nth);
        let (status, new) = reload_while_watched(&mut camera, &mut other, address, "mse").await;
        assert_eq!(status, 200, "swap {nth}: {new}");
        for _ in 0..GROUP {
            camera.show_at_once(&mut other).await;
        }
    }
    let samples = viewer.samples();
    while viewer.samples() < samples + 2 * GROUP as u64 {
        camera.show_at_once(&mut other).await;
    }
    let mse = entry(&gateway, "mse").await;
    assert_eq!(mse["swap"]["state"], "switched", "{mse}");
    assert_eq!(mse["muxers"][0]["hash"], mse["hash"], "{mse}");
    assert_eq!(mse["failures"], 0, "{mse}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn players_of_mp4_and_hls_notice_no_swap() {
    const SWAPS: usize = 100;
    let (mse, hls) = (Exchanged::new("mse", "mse"), Exchanged::new("hls", "hls"));
    let mse_config = mse.config("");
    // The usual length of a window, in shorter segments.
    let hls_config = hls.config("segment = \"500ms\"\nwindow = 20");
    let unchanged = format!(
        "[transports.unchanged]\nplugin = {:?}\n",
        Gateway::component("mse")
    );
    let gateway = Gateway::with_config(&format!("{FAST}{mse_config}{hls_config}{unchanged}")).await;
    let [times, usual_times] = [Times::default(), Times::default()];
    let viewer = Mp4Viewer::open(gateway.address, "/live/demo/mse", noted(&times)).await;
    let path = "/live/demo/unchanged";
    let usual = Mp4Viewer::open(gateway.address, path, noted(&usual_times)).await;
    let others = ["/live/demo/hls/index.m3u8", "/live/demo/mse"];
    let others = others.map(|path| Ffmpeg::open(&gateway, path));
    let mut player = Player::new(gateway.address, "/live/demo/hls/media.m3u8");
    let exchange = async |exchanged: &Exchanged, nth| {
        exchanged.rebuild(nth);
        let (status, new) = reload(gateway.address, exchanged.name).await;
        assert_eq!(status, 200, "swap {nth}: {new}");
        state_until(&gateway, exchanged.name, "switched").await;
    };
    let swapping = async {
        for nth in 0..SWAPS {
            exchange(&hls, nth).await;
            if nth % 5 == 0 {
                exchange(&mse, nth).await;
            }
        }
        // All go on after the last one.
        let counts = || {
            [
                viewer.samples(),
                usual.samples(),
                others[0].frames(),
                others[1].frames(),
            ]
        };
        let before = counts();
        let has_grown = |(now, before): (&u64, &u64)| *now > before + 30;
        within("all play on", async {
            while !counts().iter().zip(&before).all(has_grown) {
                gateway.api("/healthz").await;
            }
        })
        .await;
    };
    let polling = async {
        loop {
            player.poll().await;
        }
    };
    tokio::select! {
        () = swapping => {}
        () = polling => {}
    }
    assert_same(&times, &usual_times, 20 * SWAPS);
    player.assert_no_violations();
    assert!(player.refused.is_empty(), "{:?}", player.refused);
    for other in others {
        other.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_does_worse_is_refused_and_nobody_notices() {
    for (options, reason) in [
        ("in = \"open\"\ndo = \"trap\"", "`open` failed"),
        (
            "in = \"open\"\ndo = \"refuse\"",
            "hostile refuses these options",
        ),
        ("in = \"configure\"\ndo = \"trap\"", "`configure` failed"),
        ("in = \"push\"\ndo = \"trap\"", "`push` failed"),
        (
            "in = \"push\"\ndo = \"panic\"\nafter = 9",
            "told to panic in Push",
        ),
        ("in = \"push\"\ndo = \"loop\"\nafter = 5", "limits.call"),
        (
            "in = \"push\"\ndo = \"slow\"",
            "for a sample, and the component in use",
        ),
        ("in = \"push\"\ndo = \"silent\"", "viewers could not start"),
        (
            "in = \"push\"\ndo = \"double\"",
            "bytes, and the component in use",
        ),
        ("in = \"push\"\ndo = \"nonsense\"", "on lane 200"),
        (
            "in = \"push\"\ndo = \"differ\"\nafter = 15\noutput = \"hostile/1\"",
            "its output differs from that of the component in use",
        ),
    ] {
        let mine = Exchanged::new("mine", "hostile");
        let mut camera = Camera::new(camera::clip()).await;
        let options = format!("{options}\nbuild = \"B\"");
        let config = format!("{}{}", camera.config(), mine.config(&options));
        let gateway = Gateway::with_config(&config).await;
        let address = gateway.address;
        let mut viewer = Watcher::open(address, "/live/cam/mine", camera::clip()).await;
        for _ in 0..GROUP {
            camera.show_at_once(&mut viewer).await;
        }
        let before = entry(&gateway, "mine").await;
        mine.write_build(b'B');
        let (status, refused) =
            reload_while_watched(&mut camera, &mut viewer, address, "mine").await;
        assert_eq!(status, 422, "{options}: {refused}");
        let said = refused["error"].as_str().unwrap();
        // A camera without pauses may be ahead of a slow one before the comparison.
        let is_behind = options.contains("\"slow\"") && said.contains("it does not catch up");
        assert!(said.contains(reason) || is_behind, "{options}: {said}");
        for _ in 0..2 * GROUP {
            camera.show_at_once(&mut viewer).await;
        }
        let after = entry(&gateway, "mine").await;
        assert_eq!(after["hash"], before["hash"], "{options}");
        assert_eq!(after["muxers"][0]["failures"], 0, "{options}: {after}");
        // Another one is welcome.
        mine.write_build(b'C');
        let (status, new) = reload_while_watched(&mut camera, &mut viewer, address, "mine").await;
        assert_eq!(status, 200, "{options}: {new}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_fails_soon_after_the_switch_is_rolled_back() {
    // With the thousandth push.
    const FAILS_AT: usize = 999;
    let mine = Exchanged::new("mine", "hostile");
    let mut camera = Camera::new(camera::clip()).await;
    let options = format!(
        "in = \"push\"\ndo = \"trap\"\nafter = {FAILS_AT}\nbuild = \"B\"\noutput = \"hostile/1\""
    );
    let config = format!("{}{}", camera.config(), mine.config(&options));
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let mut viewer = Watcher::open(address, "/live/cam/mine", camera::clip()).await;
    camera.show_at_once(&mut viewer).await;
    let before = entry(&gateway, "mine").await;
    mine.write_build(b'B');
    let reloading = tokio::spawn(reload(address, "mine"));
    // Asked after each frame, so that the camera does not send hundreds while the request is answered.
    while !reloading.is_finished() {
        camera.show_at_once(&mut viewer).await;
        entry(&gateway, "mine").await;
    }
    let (status, new) = reloading.await.unwrap();
    assert_eq!(status, 200, "{new}");
    assert_ne!(new["hash"], before["hash"]);
    // A viewer that joins the new component stays with the old one.
    for _ in 0..GROUP {
        camera.show_at_once(&mut viewer).await;
    }
    let mut late = Watcher::open(address, "/live/cam/mine", camera::clip()).await;
    for _ in 0..FAILS_AT {
        camera.show_at_once(&mut viewer).await;
    }
    let after = state_until(&gateway, "mine", "rolled-back").await;
    assert!(after.to_string().contains("`push` failed"), "{after}");
    assert_eq!(after["hash"], before["hash"]);
    assert_eq!(after["muxers"][0]["hash"], before["hash"]);
    let mut place = within("a frame", late.next()).await.0;
    // The late viewer begins where a group does.
    for _ in GROUP..FAILS_AT {
        let next = within("a frame", late.next()).await.0;
        assert_eq!(next, (place + 1) % camera::COUNT, "a gap");
        place = next;
    }
    gateway
        .logged("the component failed soon after it had taken over")
        .await;
}

/// A component that needs other samples cannot run beside the one in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_takes_other_samples_is_refused_while_somebody_watches_unless_it_is_forced()
 {
    let mine = Exchanged::new("mine", "nal");
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(""))).await;
    let address = gateway.address;
    let mut viewer = within("a viewer", Nal::open(address, "/live/demo/mine"))
        .await
        .unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    std::fs::copy(Gateway::component("mse"), &mine.path).unwrap();
    let (status, refused) = reload(address, "mine").await;
    let reason = refused["error"].as_str().unwrap();
    assert_eq!(status, 422, "{reason}");
    assert!(
        reason.contains(
            "it cannot run beside the component in use: its `formats`: h264/avcc, aac; in use: h264/annexb; \
             `plugin reload mine --force`, or `?force=true`, disconnects the viewers instead"
        ),
        "{reason}"
    );
    within("a frame", viewer.next_unit()).await.unwrap();
    let (status, new) = reload_by_force(address, "mine").await;
    assert_eq!(
        (status, &new["component"]),
        (200, &"mse@0.1.0".into()),
        "{new}"
    );
    assert_eq!(new["swap"]["reason"], "its viewers were disconnected");
    let close = within("a close frame", viewer.closed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(u16::from(close.code), 1001, "{close:?}");
    assert!(
        close.reason.contains("the transport was replaced"),
        "{close:?}"
    );
}

/// A component for other samples that nobody misses is taken into use at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_nobody_watches_is_replaced_by_any_other() {
    let mine = Exchanged::new("mine", "nal");
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(""))).await;
    std::fs::copy(Gateway::component("mse"), &mine.path).unwrap();
    let (status, new) = reload(gateway.address, "mine").await;
    assert_eq!(
        (status, &new["component"]),
        (200, &"mse@0.1.0".into()),
        "{new}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_falls_silent_makes_way_and_a_forced_reload_compares_nothing() {
    let mine = Exchanged::new("mine", "hostile");
    let options = "in = \"push\"\ndo = \"silent\"\nafter = 300\nbuild = \"B\"";
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(options))).await;
    let address = gateway.address;
    let watch = || async {
        let opened = Nal::open(address, "/live/demo/mine");
        within("a viewer", opened).await.unwrap()
    };
    let mut viewer = watch().await;
    within("a frame", viewer.next_unit()).await.unwrap();
    let before = entry(&gateway, "mine").await;
    mine.write_build(b'B');
    let (status, new) = reload(address, "mine").await;
    assert_eq!(status, 200, "{new}");
    gateway
        .logged("the component failed soon after it had taken over: it emitted nothing")
        .await;
    let after = entry(&gateway, "mine").await;
    assert_eq!(after["swap"]["state"], "rolled-back", "{after}");
    assert_eq!(after["hash"], before["hash"]);
    let mut late = watch().await;
    for _ in 0..240 {
        within("a frame", viewer.next_unit()).await.unwrap();
        within("a frame", late.next_unit()).await.unwrap();
    }

    let wrong = "/api/plugins/mine/reload?force=1";
    let asked = request(address, "POST", wrong, &[]);
    assert_eq!(within("an answer", asked).await.unwrap().0, 400);
    let (status, body) = reload_by_force(address, "mine").await;
    assert_eq!(status, 200, "{body:?}");
    let close = within("a close frame", viewer.closed()).await.unwrap();
    assert_eq!(u16::from(close.unwrap().code), 1001);
    assert_eq!(entry(&gateway, "mine").await["hash"], new["hash"]);

    // What is silent now is no measure for the next one.
    let _viewer = watch().await;
    let pushes = |plugins: &Value| {
        let mut plugins = plugins.as_array().unwrap().iter();
        let mine = plugins.find(|plugin| plugin["name"] == "mine").unwrap();
        mine["pushes"].as_u64().unwrap()
    };
    let earlier = pushes(&gateway.api("/api/plugins").await);
    gateway
        .api_until("/api/plugins", "it is silent", |plugins| {
            pushes(plugins) > earlier + 320
        })
        .await;
    mine.write_build(b'C');
    let (status, new) = reload(address, "mine").await;
    assert_eq!(status, 200, "{new}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_flaps_during_an_exchange_costs_no_viewer() {
    let mine = Exchanged::new("mine", "nal");
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!("{}{}", camera.config(), mine.config(""));
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let mut viewer = Watcher::open(address, "/live/cam/mine", camera::clip()).await;
    for _ in 0..GROUP {
        camera.show_at_once(&mut viewer).await;
    }
    for nth in 0..2 {
        mine.rebuild(nth);
        let reloading = tokio::spawn(reload(address, "mine"));
        state_until(&gateway, "mine", "comparing").await;
        // The connection ends while the candidate is prepared or compared.
        while !reloading.is_finished() {
            for _ in 0..GROUP + GROUP / 2 {
                camera.show_at_once(&mut viewer).await;
            }
            camera.hang_up();
        }
        let (status, new) = reloading.await.unwrap();
        assert_eq!(status, 200, "swap {nth}: {new}");
        // It ends once more where the candidate is about to take over.
        camera.hang_up();
        for _ in 0..GROUP {
            camera.show_at_once(&mut viewer).await;
        }
        let mine = state_until(&gateway, "mine", "switched").await;
        assert_eq!(mine["muxers"][0]["hash"], new["hash"], "{mine}");
        assert_eq!(mine["failures"], 0, "{mine}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_keeps_failing_is_exchanged_while_it_is_restarted() {
    let mine = Exchanged::new("mine", "hostile");
    // Each instance fails once in a comparison of 30 samples, also because it gets the past first.
    let options = "in = \"push\"\ndo = \"trap\"\nafter = 40\nbuild = \"A\"";
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(options))).await;
    let mut viewer = within("a viewer", Nal::open(gateway.address, "/live/demo/mine"))
        .await
        .unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    mine.write_build(b'B');
    let before = entry(&gateway, "mine").await;
    let (status, new) = reload(gateway.address, "mine").await;
    assert_eq!(status, 200, "{new}");
    let after = state_until(&gateway, "mine", "switched").await;
    assert_ne!(after["failures"], before["failures"], "it has not failed");
    assert_eq!(after["muxers"][0]["hash"], new["hash"], "{after}");
    for _ in 0..120 {
        within("a frame", viewer.next_unit()).await.unwrap();
    }
    // Those of the transport may include one of the predecessor that was kept ready.
    let (later, after) = (entry(&gateway, "mine").await, &after["muxers"][0]);
    let muxer = &later["muxers"][0];
    assert_eq!(muxer["failures"], after["failures"], "{later}");
    assert_eq!(muxer["state"], "running", "{later}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_fails_while_other_muxers_compare_it_is_refused() {
    let mine = Exchanged::new("mine", "hostile");
    let mut camera = Camera::new(camera::clip()).await;
    // Compared for seconds, while the camera has sent enough at once.
    let slow = "[streams.slow]\nsource = \"test-pattern\"\n\
                encode = { width = 320, height = 192, frame-rate = 10, keyframe-interval = \"1s\" }\n";
    let options = "in = \"push\"\ndo = \"trap\"\nafter = 199\nbuild = \"B\"";
    let config = format!("{}{slow}{}", camera.config(), mine.config(options));
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let mut other = within("a viewer", Nal::open(address, "/live/slow/mine"))
        .await
        .unwrap();
    within("a frame", other.next_unit()).await.unwrap();
    let mut viewer = Watcher::open(address, "/live/cam/mine", camera::clip()).await;
    camera.show_at_once(&mut viewer).await;
    let before = entry(&gateway, "mine").await;
    mine.write_build(b'B');
    let reloading = tokio::spawn(reload(address, "mine"));
    state_until(&gateway, "mine", "comparing").await;
    while !reloading.is_finished() {
        camera.show_at_once(&mut viewer).await;
    }
    let (status, refused) = reloading.await.unwrap();
    assert_eq!(status, 422, "{refused}");
    let said = refused["error"].as_str().unwrap();
    assert!(said.contains("`push` failed"), "{said}");
    for _ in 0..GROUP {
        camera.show_at_once(&mut viewer).await;
    }
    within("a frame", other.next_unit()).await.unwrap();
    let after = entry(&gateway, "mine").await;
    assert_eq!(after["swap"]["state"], "refused", "{after}");
    assert_eq!(after["hash"], before["hash"]);
    for muxer in after["muxers"].as_array().unwrap() {
        assert_eq!(muxer["hash"], before["hash"], "{after}");
        assert_eq!(muxer["failures"], 0, "{after}");
    }
}

/// A gateway that compares a candidate, with one frame so far; the comparison lasts until more frames come.
async fn comparing() -> (
    Gateway,
    Exchanged,
    Camera,
    Watcher,
    JoinHandle<(u16, Value)>,
) {
    let mine = Exchanged::new("mine", "nal");
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!("{}{}", camera.config(), mine.config(""));
    let gateway = Gateway::with_config(&config).await;
    let mut viewer = Watcher::open(gateway.address, "/live/cam/mine", camera::clip()).await;
    camera.show_at_once(&mut viewer).await;
    mine.rebuild(1);
    let reloading = tokio::spawn(reload(gateway.address, "mine"));
    state_until(&gateway, "mine", "comparing").await;
    camera.show_at_once(&mut viewer).await;
    (gateway, mine, camera, viewer, reloading)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_component_is_changed_at_a_time() {
    let (gateway, mine, mut camera, mut viewer, reloading) = comparing().await;
    let address = gateway.address;
    for (method, path) in [
        ("POST", "/api/plugins/mine/reload"),
        ("POST", "/api/plugins/policy/reload"),
        ("DELETE", "/api/plugins/mine"),
    ] {
        let answer = within(path, request(address, method, path, &[])).await;
        let (status, head, body) = answer.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 409, "{method} {path}: {body}");
        let busy = "another component is being loaded or compared: a request reloads `mine`; try again in a few seconds";
        assert!(body.contains(busy), "{body}");
        assert!(head.to_lowercase().contains("retry-after: 1"), "{head}");
    }
    while !reloading.is_finished() {
        camera.show_at_once(&mut viewer).await;
    }
    assert_eq!(reloading.await.unwrap().0, 200);
    // The next one begins while the old instance of the one before is still kept ready.
    mine.rebuild(2);
    let (status, new) = reload_while_watched(&mut camera, &mut viewer, address, "mine").await;
    assert_eq!(status, 200, "{new}");
    for _ in 0..GROUP {
        camera.show_at_once(&mut viewer).await;
    }
    let mine = state_until(&gateway, "mine", "switched").await;
    assert_eq!(mine["muxers"][0]["hash"], new["hash"], "{mine}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_a_comparison_at_once() {
    let (mut gateway, _mine, _camera, viewer, reloading) = comparing().await;
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    let (status, answer) = within("an answer", reloading).await.unwrap();
    assert_eq!(status, 503, "{answer}");
    assert!(answer.to_string().contains("shutting down"), "{answer}");
    // The viewer reads on, which ends its connection.
    drop(viewer);
    let ended = within("the end", gateway.child.wait()).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    // A comparison goes on for ten seconds if few samples come.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    gateway.logged("swap: refused").await;
}
