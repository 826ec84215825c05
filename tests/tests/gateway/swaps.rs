//! Components are exchanged while they are watched: viewers stay, lose nothing, and keep what they have if the new
//! component does worse.

use serde_json::Value;
use sluicegate_tests::{
    Camera, Gateway, Nal, Watcher,
    camera::{self, GROUP},
    client::request,
    command::{CommandResult, sluicegate},
    hls::player::Player,
    http_get,
    mse::Mse,
    scratch, within,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tokio::process::Command;

/// Many frames and short groups, so that a candidate is soon compared.
const FAST: &str = "[streams.demo]\nsource = \"test-pattern\"\n\
    encode = { width = 320, height = 192, frame-rate = 60, keyframe-interval = \"500ms\" }\n";

/// A component in a file that a test replaces.
struct Exchanged {
    name: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Exchanged {
    fn new(name: &'static str, component: &str) -> Exchanged {
        let path = scratch("swaps").join(format!("{name}.wasm"));
        let bytes = std::fs::read(Gateway::component(component)).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        Exchanged { name, path, bytes }
    }

    /// The transport in the config, with these options.
    fn config(&self, options: &str) -> String {
        let (name, path) = (self.name, self.path.display());
        format!("[transports.{name}]\nplugin = \"{path}\"\n{options}\n")
    }

    /// Writes another file that does the same: a custom section is added.
    fn rebuild(&self, nth: usize) {
        let name = format!("{nth:09}");
        let mut bytes = self.bytes.clone();
        bytes.extend([0, 10, 9]);
        bytes.extend(name.as_bytes());
        std::fs::write(&self.path, bytes).unwrap();
    }

    /// Writes the build `name` of the component `hostile`.
    fn write_build(&self, name: u8) {
        let build = b"hostile's build ";
        let mut bytes = self.bytes.clone();
        let found = bytes.windows(build.len()).position(|part| part == build);
        bytes[found.unwrap() + build.len()] = name;
        std::fs::write(&self.path, bytes).unwrap();
    }
}

/// Asks the gateway to read the transport's component again.
async fn reload(address: SocketAddr, name: &str) -> (u16, Value) {
    let path = format!("/api/plugins/{name}/reload");
    let (status, _, body) = within("a reload", request(address, "POST", &path, &[]))
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// Reloads while the camera goes on; the viewer must get every frame.
async fn reload_while_watched(
    camera: &mut Camera,
    viewer: &mut Watcher,
    address: SocketAddr,
    name: &'static str,
) -> (u16, Value) {
    let reloading = tokio::spawn(reload(address, name));
    while !reloading.is_finished() {
        camera.show_at_once(viewer).await;
    }
    reloading.await.unwrap()
}

/// The transport's entry in `/api/plugins`.
async fn entry(gateway: &Gateway, name: &str) -> Value {
    let plugins = gateway.api("/api/plugins").await;
    let all = plugins.as_array().unwrap().iter();
    let mut found = all.filter(|plugin| plugin["name"] == name);
    found.next().unwrap().clone()
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
async fn players_of_mp4_and_hls_notice_no_swap() {
    const SWAPS: usize = 8;
    let (mse, hls) = (Exchanged::new("mse", "mse"), Exchanged::new("hls", "hls"));
    let config = format!("{FAST}{}{}", mse.config(""), hls.config(""));
    let gateway = Gateway::with_config(&config).await;
    let address = gateway.address;
    let log = scratch("swaps-ffmpeg").join("log");
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-i"])
        .arg(format!("http://{address}/live/demo/hls/index.m3u8"))
        .args(["-t", "20", "-f", "null", "-"])
        .stderr(std::fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut player = Player::new(address, "/live/demo/hls/media.m3u8");
    let mut viewer = Mse::connect(address, "demo").await;
    viewer.header().await;
    let watching = tokio::spawn(async move {
        let mut expected = None;
        loop {
            // Any text or init segment in between fails here: nothing may begin anew.
            let fragment = viewer.fragment().await;
            let first = fragment.samples[0].decode_time;
            assert!(
                expected.is_none_or(|expected| expected == first),
                "a gap at {first}"
            );
            let last = fragment.samples.last().unwrap();
            expected = Some(last.decode_time + u64::from(last.duration));
        }
    });
    let swapping = async {
        for nth in 0..SWAPS {
            for exchanged in [&mse, &hls] {
                exchanged.rebuild(nth);
                let (status, new) = reload(address, exchanged.name).await;
                assert_eq!(status, 200, "swap {nth}: {new}");
                let switched = |plugins: &Value| {
                    let mut plugins = plugins.as_array().unwrap().iter();
                    let of = plugins.find(|plugin| plugin["name"] == exchanged.name);
                    of.unwrap()["swap"]["state"] == "switched"
                };
                gateway
                    .api_until("/api/plugins", "the muxer switches", switched)
                    .await;
            }
        }
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
    player.assert_no_violations();
    assert!(player.refused.is_empty(), "{:?}", player.refused);
    assert!(!watching.is_finished(), "the viewer of MP4 failed");
    watching.abort();
    let ended = within("ffmpeg ends", ffmpeg.wait()).await.unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(ended.success() && said.is_empty(), "{said}");
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
    const FAILS_AT: usize = 500;
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
    let (status, new) = reload_while_watched(&mut camera, &mut viewer, address, "mine").await;
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
    let after = gateway
        .api_until("/api/plugins", "it is rolled back", |plugins| {
            let mut plugins = plugins.as_array().unwrap().iter();
            let mine = plugins.find(|plugin| plugin["name"] == "mine").unwrap();
            mine["swap"]["state"] == "rolled-back"
        })
        .await;
    assert!(after.to_string().contains("`push` failed"), "{after}");
    assert_eq!(entry(&gateway, "mine").await["hash"], before["hash"]);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_half_written_or_the_same_changes_nothing() {
    let mine = Exchanged::new("mine", "nal");
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(""))).await;
    let address = gateway.address;
    let mut viewer = within("a viewer", Nal::open(address, "/live/demo/mine"))
        .await
        .unwrap();
    let before = entry(&gateway, "mine").await;
    let (status, same) = reload(address, "mine").await;
    assert_eq!((status, &same["hash"]), (200, &before["hash"]));
    assert_eq!(same["swap"]["state"], "unchanged");
    std::fs::write(&mine.path, &mine.bytes[..mine.bytes.len() / 2]).unwrap();
    let (status, refused) = reload(address, "mine").await;
    assert_eq!(status, 422, "{refused}");
    let said = refused["error"].as_str().unwrap();
    assert!(said.contains("truncated or damaged"), "{said}");
    for _ in 0..60 {
        within("a frame", viewer.next_unit()).await.unwrap();
    }
    assert_eq!(entry(&gateway, "mine").await["hash"], before["hash"]);
}

/// Runs `sluicegate plugin` against this gateway.
async fn plugin(url: &str, arguments: &[&str]) -> CommandResult {
    let arguments = [&["plugin"][..], arguments, &["--url", url]].concat();
    sluicegate(&arguments).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_is_added_exchanged_and_removed_by_the_command_line() {
    for tls in [false, true] {
        let server = "[server]\ntls = \"self-signed\"\n";
        let config = format!("{}{FAST}", if tls { server } else { "" });
        let gateway = Gateway::with_config(&config).await;
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", gateway.address);
        let mine = Exchanged::new("mine", "nal");
        let file = mine.path.to_str().unwrap();
        let added = plugin(
            &url,
            &["add", "mine", file, "--options", "{\"stale\": \"2s\"}"],
        )
        .await;
        assert_eq!(added.code, Some(0), "{added:?}");
        assert_eq!(added.out, "mine: nal@0.1.0, in use by 0 muxers\n");
        plugin(&url, &["add", "mine", file])
            .await
            .refused(&["409", "there is a transport `mine` already"]);
        plugin(&url, &["add", "other", "no-such.wasm"])
            .await
            .refused(&[
                "422",
                "[transports.other]: cannot read the plugin",
                "No such file",
            ]);
        plugin(&url, &["add", "other", file, "--options", "{\"stael\": 1}"])
            .await
            .refused(&["422", "unknown option `stael`"]);
        plugin(&url, &["add", "Other", file])
            .await
            .refused(&["400", "`Other` is not a valid transport name"]);
        mine.rebuild(1);
        let reloaded = plugin(&url, &["reload", "mine"]).await;
        assert_eq!(reloaded.code, Some(0), "{reloaded:?}");
        assert_eq!(reloaded.out, "mine: nal@0.1.0, switched, 0 muxers\n");
        plugin(&url, &["reload", "nothing"])
            .await
            .refused(&["404", "there is no component `nothing`"]);
        plugin(&url, &["remove", "hls"])
            .await
            .refused(&["409", "is part of the binary"]);
        let removed = plugin(&url, &["remove", "mine"]).await;
        assert_eq!(removed.out, "mine: nal@0.1.0, removed\n", "{removed:?}");
        plugin(&url, &["remove", "mine"])
            .await
            .refused(&["404", "there is no transport `mine`"]);
    }
    // A port that nothing listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    plugin(&url, &["reload", "hls"])
        .await
        .refused(&["no gateway answers at", "is it running"]);
    plugin("http://192.0.2.1", &["reload", "hls"])
        .await
        .refused(&["is not on this machine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transports_that_come_and_go_under_load_leave_nothing_behind() {
    let gateway = Gateway::with_config(FAST).await;
    let (address, url) = (gateway.address, format!("http://{}", gateway.address));
    let mut stays = within("a viewer", Nal::connect(address, "demo"))
        .await
        .unwrap();
    let mine = Exchanged::new("mine", "nal");
    let file = mine.path.to_str().unwrap();
    let mut before = None;
    for round in 0..10 {
        let added = plugin(&url, &["add", "mine", file]).await;
        assert_eq!(added.code, Some(0), "{added:?}");
        let mut viewers = Vec::new();
        for _ in 0..20 {
            let viewer = Nal::open(address, "/live/demo/mine");
            let mut viewer = within("a viewer", viewer).await.unwrap();
            within("a frame", viewer.next_unit()).await.unwrap();
            viewers.push(viewer);
        }
        let removed = plugin(&url, &["remove", "mine"]).await;
        assert_eq!(removed.code, Some(0), "{removed:?}");
        for mut viewer in viewers {
            let close = within("a close frame", viewer.closed()).await.unwrap();
            let close = close.unwrap();
            assert_eq!(u16::from(close.code), 1001, "{close:?}");
            assert!(
                close.reason.contains("the transport was removed"),
                "{close:?}"
            );
        }
        let gone = http_get(address, "/live/demo/mine", &[]).await.unwrap();
        assert_eq!(gone.0, 404);
        within("a frame", stays.next_unit()).await.unwrap();
        // The first round has started threads that stay.
        let (threads, files) = *before.get_or_insert((gateway.threads(), gateway.files()));
        within(&format!("round {round} leaves nothing"), async {
            while gateway.threads() > threads || gateway.files() > files {
                within("a frame", stays.next_unit()).await.unwrap();
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_file_is_reloaded_when_it_has_changed_and_is_complete() {
    let mine = Exchanged::new("mine", "nal");
    let config = format!("{FAST}{}", mine.config("watch = true"));
    let gateway = Gateway::with_config(&config).await;
    let mut viewer = within("a viewer", Nal::open(gateway.address, "/live/demo/mine"))
        .await
        .unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    let before = entry(&gateway, "mine").await;
    std::fs::write(&mine.path, &mine.bytes[..mine.bytes.len() / 2]).unwrap();
    gateway.logged("it is truncated or damaged").await;
    mine.rebuild(1);
    let changed = |plugins: &Value| {
        let mut plugins = plugins.as_array().unwrap().iter();
        let mine = plugins.find(|plugin| plugin["name"] == "mine").unwrap();
        mine["hash"] != before["hash"] && mine["swap"]["state"] == "switched"
    };
    gateway
        .api_until("/api/plugins", "the file is read", changed)
        .await;
    for _ in 0..60 {
        within("a frame", viewer.next_unit()).await.unwrap();
    }
}

/// A component that needs other samples cannot run beside the one in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_are_told_to_come_back_if_the_new_component_takes_other_samples() {
    let mine = Exchanged::new("mine", "nal");
    let gateway = Gateway::with_config(&format!("{FAST}{}", mine.config(""))).await;
    let address = gateway.address;
    let mut viewer = within("a viewer", Nal::open(address, "/live/demo/mine"))
        .await
        .unwrap();
    within("a frame", viewer.next_unit()).await.unwrap();
    replace(&mine.path, "mse");
    let (status, new) = reload(address, "mine").await;
    assert_eq!(
        (status, &new["component"]),
        (200, &"mse@0.1.0".into()),
        "{new}"
    );
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

fn replace(path: &Path, component: &str) {
    std::fs::copy(Gateway::component(component), path).unwrap();
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

    let path = |query| format!("/api/plugins/mine/reload?{query}");
    let (wrong, right) = (path("force=1"), path("force=true"));
    let asked = request(address, "POST", &wrong, &[]);
    assert_eq!(within("an answer", asked).await.unwrap().0, 400);
    let asked = request(address, "POST", &right, &[]);
    let (status, _, body) = within("a reload", asked).await.unwrap();
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
