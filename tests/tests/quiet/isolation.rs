//! Guests do not affect viewers: endless loops, a busy machine, and the cost of the sandbox.

use serde_json::Value;
use sluicegate_tests::{
    Camera, Gateway, Nal, Watcher,
    camera::{self, GROUP},
    measure::{P99_MARGIN, Summary},
    media::NumberReader,
    mjpeg, within,
};
use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_looping_muxers_leave_other_viewers_their_latency() {
    let _turn = crate::alone().await;
    let mut camera = Camera::new(camera::clip()).await;
    let mut config = camera.config();
    // Each component loops for two seconds of processor time when it receives a message.
    for nth in 0..4 {
        let plugin = Gateway::component("hostile");
        config += &format!(
            "[transports.loop{nth}]\nplugin = \"{}\"\nlimits.call = \"2s\"\nin = \"received\"\ndo = \"loop\"\n",
            plugin.display()
        );
    }
    let gateway = Gateway::with_config(&config).await;
    let open = |path| Watcher::open(gateway.address, path, camera::clip());
    let mut viewer = open("/live/cam/nal").await;
    let mut loops = Vec::new();
    for path in [
        "/live/cam/loop0",
        "/live/cam/loop1",
        "/live/cam/loop2",
        "/live/cam/loop3",
    ] {
        loops.push(open(path).await);
    }
    camera.show(&mut viewer).await;
    let (mut calm, mut beside, mut within) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=3 {
        measure(&mut camera, &mut viewer, &mut calm).await;
        // Baseline: the cost of four busy threads on this machine, wherever they run.
        let busy = BusyProcesses::processes(4);
        measure(&mut camera, &mut viewer, &mut beside).await;
        drop(busy);
        for one in &loops {
            one.say("loop");
        }
        // The loops run for at least two seconds, however many processors there are.
        measure(&mut camera, &mut viewer, &mut within).await;
        let failed =
            |plugins: &Value| (0..4).all(|nth| failures(plugins, &format!("loop{nth}")) == round);
        gateway
            .api_until("/api/plugins", "the loops are ended", failed)
            .await;
    }
    let (calm, beside, within) = (Summary::of(calm), Summary::of(beside), Summary::of(within));
    println!("calm {calm:?}\nfour busy processes {beside:?}\nfour looping muxers {within:?}");
    let most = (beside.p99 * 11 / 10).max(beside.p99 + P99_MARGIN);
    assert!(
        within.p99 <= most,
        "{within:?}, but beside four busy processes {beside:?}"
    );
    // Most frames do not wait at all.
    let most = calm.median * 11 / 10 + Duration::from_millis(3);
    assert!(within.median <= most, "{within:?}, but calm {calm:?}");
    let plugins = gateway.api("/api/plugins").await;
    assert_eq!(
        (failures(&plugins, "nal"), failures(&plugins, "mjpeg")),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_machine_kills_no_innocent_plugin() {
    let _turn = crate::alone().await;
    let busy = BusyProcesses::processes(8);
    let gateway = Gateway::with_config(
        "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n\
         [transports.nal]\nlimits.call = \"2ms\"\n[transports.mjpeg]\nlimits.call = \"2ms\"\n",
    )
    .await;
    let mut nal = within("connect", Nal::connect(gateway.address, "demo"))
        .await
        .unwrap();
    let mut frames = within("connect", mjpeg(gateway.address, "demo"))
        .await
        .unwrap();
    let (mut reader, mut numbers) = (NumberReader::default(), Vec::new());
    let mut last = 0;
    while numbers.len() < 45 {
        tokio::select! {
            message = within("a message", nal.next()) => numbers.extend(reader.feed(&message.unwrap())),
            number = within("a frame", frames.next_number()) => {
                let number = number.unwrap();
                assert!(number >= last);
                last = number;
            }
        }
    }
    assert!(numbers.windows(2).all(|two| two[1] > two[0]), "{numbers:?}");
    drop(busy);
    let plugins = gateway.api("/api/plugins").await;
    for name in ["nal", "mjpeg"] {
        let plugin = named(&plugins, name);
        assert!(plugin["pushes"].as_u64().unwrap() >= 10, "{plugin:#}");
        assert_eq!(plugin["failures"], 0, "{plugin:#}");
        assert_eq!(
            plugin["instances"], 2,
            "one to check, one to serve: {plugin:#}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_costs_one_guest_call_however_many_watch() {
    let _turn = crate::alone().await;
    let mut camera = Camera::new(camera::clip()).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut first = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    camera.show(&mut first).await;
    let alone = calls_for(
        &gateway,
        &mut camera,
        std::slice::from_mut(&mut first),
        GROUP,
    )
    .await;
    let mut all = vec![first];
    for _ in 1..50 {
        let mut viewer = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
        // A viewer starts at the newest group; the next frame shows that the start is over.
        camera.show(&mut all[0]).await;
        for other in &mut all[1..] {
            within("a frame", other.next()).await;
        }
        let newest = camera.newest();
        while within("the newest group", viewer.next()).await.0 != newest {}
        all.push(viewer);
    }
    let crowd = calls_for(&gateway, &mut camera, &mut all, GROUP).await;
    assert_eq!(alone, (GROUP as u64, GROUP as u64));
    assert_eq!(crowd, alone);
}

/// Number of guest calls of any function, and of `push`, while this many frames go to all viewers.
async fn calls_for(
    gateway: &Gateway,
    camera: &mut Camera,
    viewers: &mut [Watcher],
    frames: usize,
) -> (u64, u64) {
    let before = gateway.api("/api/plugins").await;
    let (first, others) = viewers.split_first_mut().unwrap();
    for _ in 0..frames {
        let place = camera.show(first).await % camera::COUNT;
        for other in &mut *others {
            assert_eq!(within("a frame", other.next()).await.0, place);
        }
    }
    let after = gateway.api("/api/plugins").await;
    let grown = |key: &str| {
        let of = |plugins: &Value| named(plugins, "nal")[key].as_u64().unwrap();
        of(&after) - of(&before)
    };
    (grown("calls"), grown("pushes"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_costs_less_than_a_tenth_of_the_process_at_a_hundred_viewers() {
    let _turn = crate::alone().await;
    let mut camera = Camera::new(camera::clip()).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut viewers = Vec::new();
    for _ in 0..100 {
        viewers.push(Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await);
    }
    let (mut watched, mut idle) = (viewers.pop().unwrap(), viewers);
    camera.show(&mut watched).await;
    let spent = |plugins: &Value| {
        let nal = named(plugins, "nal");
        nal["us_per_call"].as_f64().unwrap() * nal["calls"].as_f64().unwrap() / 1e6
    };
    let (before, cpu_before) = (gateway.api("/api/plugins").await, gateway.cpu());
    // Until the processor clock, which ticks every 10 ms, is precise enough.
    while gateway.cpu() - cpu_before < Duration::from_millis(500) {
        camera.show_at_once(&mut watched).await;
        for viewer in &mut idle {
            while viewer.ready().is_some() {}
        }
    }
    let (after, cpu) = (
        gateway.api("/api/plugins").await,
        gateway.cpu() - cpu_before,
    );
    let guests = spent(&after) - spent(&before);
    println!("guests {guests:.4} s of {cpu:?}");
    assert!(
        guests < cpu.as_secs_f64() / 10.0,
        "guests {guests} s of {cpu:?}"
    );
}

/// Sends 200 frames, 100 per second; appends the latency of each.
async fn measure(camera: &mut Camera, viewer: &mut Watcher, latencies: &mut Vec<Duration>) {
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..200 {
        pace.tick().await;
        let sent = Instant::now();
        camera.show_at_once(viewer).await;
        latencies.push(sent.elapsed());
    }
}

/// Processes that use all the processor time they get, until this is dropped.
struct BusyProcesses(Vec<Child>);

impl BusyProcesses {
    fn processes(count: usize) -> BusyProcesses {
        let one = |_| {
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .spawn()
                .unwrap()
        };
        BusyProcesses((0..count).map(one).collect())
    }
}

impl Drop for BusyProcesses {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn failures(plugins: &Value, name: &str) -> u64 {
    named(plugins, name)["failures"].as_u64().unwrap()
}

fn named<'a>(plugins: &'a Value, name: &str) -> &'a Value {
    let all = plugins.as_array().unwrap();
    all.iter().find(|plugin| plugin["name"] == name).unwrap()
}
