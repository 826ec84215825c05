//! Third-party components: inspected, named in the config, used in place of the built-in ones, and compiled only once.

use serde_json::Value;
use sluicegate_tests::{
    Camera, Gateway, PATIENCE, Raw, Watcher,
    camera::{self, GROUP},
    client::{self, Nal},
    command::{CommandResult, check, config_file, sluicegate},
    http_get,
    raw::handshake,
    scratch, within,
};
use std::{
    collections::BTreeMap,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};
use tokio::process::Command;

/// Built-in transports, in alphabetical order.
const BUILT_IN: [&str; 5] = ["hls", "mjpeg", "mse", "nal", "webcodecs"];
/// Including the policy.
const COMPONENTS: usize = BUILT_IN.len() + 1;
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";

#[tokio::test]
async fn inspect_says_what_a_good_component_is() {
    for (name, carrier, format) in [
        ("nal", "websocket", "h264/annexb"),
        ("mjpeg", "http", "jpeg"),
        ("mse", "websocket, http", "h264/avcc"),
        ("h264", "http, websocket", "h264/annexb"),
    ] {
        let file = Gateway::component(name);
        let seen = sluicegate(&["plugin", "inspect", file.to_str().unwrap()]).await;
        assert_eq!(seen.code, Some(0), "{seen:?}");
        for line in [
            "sluicegate:gateway/media@0.2.0".to_owned(),
            "exports    sluicegate:gateway/transport@0.2.0".to_owned(),
            format!("carriers   {carrier}\n"),
            format!("formats    {format}"),
            format!("({} bytes)", std::fs::metadata(&file).unwrap().len()),
        ] {
            assert!(seen.out.contains(&line), "{line:?} is not in {seen:#?}");
        }
    }
    let nal = Gateway::component("nal");
    let inspect = [
        "plugin",
        "inspect",
        nal.to_str().unwrap(),
        "--options",
        "{\"stael\": 1}",
    ];
    sluicegate(&inspect)
        .await
        .refused(&["nal@", "rejected its options", "`stael`"]);
}

#[tokio::test]
async fn inspect_says_what_a_policy_is_and_commands_for_transports_say_that_it_is_none() {
    let file = Gateway::component("auto");
    let file = file.to_str().unwrap();
    let seen = sluicegate(&["plugin", "inspect", file]).await;
    assert_eq!(seen.code, Some(0), "{seen:?}");
    for line in [
        "component  auto@0.1.0, a policy\n",
        "exports    sluicegate:gateway/policy@0.2.0\n",
        "needs      interface 0.2.0 or newer of 0.2\n",
        "costs      loaded in ",
    ] {
        assert!(seen.out.contains(line), "{line:?} is not in {seen:#?}");
    }
    sluicegate(&["plugin", "test", file])
        .await
        .refused(&["auto.wasm: auto@0.1.0 is a policy; `plugin test` takes transports"]);
    sluicegate(&["plugin", "replay", "none.jsonl", file])
        .await
        .refused(&["auto.wasm: auto@0.1.0 is a policy; `plugin replay` takes transports"]);
}

#[tokio::test]
async fn a_file_that_is_no_transport_is_reported_by_inspect_and_check() {
    let good = std::fs::read(Gateway::component("nal")).unwrap();
    let partly = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $t (export "stop" (func $f)) (export "leave" (func $f)))
        (export "sluicegate:gateway/transport@0.2.0" (instance $t)))"#;
    let policy = r#"(component
        (core module $m (func (export "f")))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $t (export "choose" (func $f)))
        (export "sluicegate:gateway/policy@0.2.0" (instance $t)))"#;
    let wat = |text: &str| wat::parse_str(text).unwrap();
    for (name, bytes, parts) in [
        (
            "text.wasm",
            b"MZ this is no component".to_vec(),
            &["is not WebAssembly"][..],
        ),
        ("empty.wasm", Vec::new(), &["is not WebAssembly"]),
        (
            "library.so",
            b"\x7fELF\x02\x01\x01".to_vec(),
            &[
                "it is a native library or program (ELF); build with --target wasm32-unknown-unknown",
            ],
        ),
        (
            "truncated.wasm",
            good[..good.len() / 2].to_vec(),
            &["is a core module", "it is truncated or damaged"],
        ),
        (
            "core.wasm",
            wat("(module (func (export \"f\")))"),
            &["is a core module", "it has no embedded component type"],
        ),
        (
            "nothing.wasm",
            wat("(component)"),
            &[
                "is not a transport: it exports nothing",
                "(in Rust: `sluicegate_sdk::export!(TYPE)`)",
            ],
        ),
        (
            "policy.wasm",
            wat(policy),
            &[
                "is not a transport: it exports `sluicegate:gateway/policy@0.2.0`",
                "implement the world `transport-plugin`",
            ],
        ),
        (
            "partly.wasm",
            wat(partly),
            &["lacks the function `open`, `configure`, `push`, `request`, `join`, `received`"],
        ),
        (
            "older.wasm",
            wat(&partly.replace("@0.2.0", "@0.1.0")),
            &[
                "needs version 0.1.0 of the interface",
                "build it with the SDK",
            ],
        ),
        (
            "newer.wasm",
            wat(&partly.replace("@0.2.0", "@0.2.99")),
            &[
                "needs version 0.2.99 of the interface",
                "update the gateway",
            ],
        ),
    ] {
        let file = scratch("components").join(name);
        std::fs::write(&file, bytes).unwrap();
        let shown = file.to_str().unwrap();
        refused_once(
            &sluicegate(&["plugin", "inspect", shown]).await,
            shown,
            parts,
        );
        let config = format!("[transports.mine]\nplugin = \"{shown}\"\n{DEMO}");
        let checked = check(&config).await;
        refused_once(&checked, shown, parts);
        assert!(checked.err.contains("[transports.mine]: "), "{checked:?}");
    }
    let missing = check(&format!(
        "[transports.mine]\nplugin = \"plugins/mine.wasm\"\n{DEMO}"
    ))
    .await;
    refused_once(
        &missing,
        "[transports.mine]: cannot read the plugin ",
        &["/plugins/mine.wasm: No such file"],
    );
    sluicegate(&["plugin", "inspect", "no-such.wasm"])
        .await
        .refused(&["no-such.wasm", "No such file"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subprotocol_is_agreed_on_and_the_component_learns_it() {
    let plugin = Gateway::component("hostile");
    let config = format!(
        "[transports.two]\nplugin = \"{}\"\nprotocols = [\"v2.example\", \"v1.example\"]\n{DEMO}",
        plugin.display()
    );
    let gateway = Gateway::with_config(&config).await;
    for (offered, agreed) in [
        (
            "Sec-WebSocket-Protocol: v0.example, v1.example\r\n",
            Some("v1.example"),
        ),
        (
            "Sec-WebSocket-Protocol: v1.example\r\nSec-WebSocket-Protocol: v2.example\r\n",
            Some("v2.example"),
        ),
        ("Sec-WebSocket-Protocol: v0.example\r\n", None),
        ("", None),
    ] {
        let mut viewer = Raw::connect(gateway.address).await;
        let request = handshake(gateway.address, "/live/demo/two");
        viewer
            .write(request.replacen("\r\n", &format!("\r\n{offered}"), 1))
            .await;
        let head = viewer.head().await.unwrap();
        assert_eq!(head.status, 101, "{}", head.text);
        assert_eq!(head.header("sec-websocket-protocol"), agreed, "{offered}");
        let (opcode, first) = viewer.frame().await.unwrap();
        let expected = agreed.unwrap_or("none").as_bytes();
        assert_eq!((opcode, &*first), (1, expected), "{offered}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_named_in_the_config_is_served_to_a_real_player() {
    let plugin = Gateway::component("h264");
    let gateway = Gateway::with_config(&format!(
        "[transports.h264]\nplugin = \"{}\"\nstale = \"3s\"\n{DEMO}",
        plugin.display()
    ))
    .await;
    let url = format!("http://{}/live/demo/h264", gateway.address);
    let arguments = [
        "-v",
        "error",
        "-f",
        "h264",
        "-count_frames",
        "-read_intervals",
        "%+#10",
    ];
    let shows = [
        "-show_entries",
        "stream=codec_name,width,height,nb_read_frames",
        "-of",
        "csv=p=0",
        &url,
    ];
    let probe = Command::new("ffprobe")
        .args(arguments)
        .args(shows)
        .kill_on_drop(true)
        .output();
    let probe = within("ffprobe", probe)
        .await
        .expect("the tests need the ffprobe program");
    let said = String::from_utf8(probe.stdout).unwrap();
    assert!(
        said.trim().starts_with("h264,320,192,"),
        "{said:?} {:?}",
        String::from_utf8(probe.stderr)
    );
    let frames: u32 = said.trim().rsplit(',').next().unwrap().parse().unwrap();
    assert!(frames >= 9, "{said:?}");
    let (status, head, body) = http_get(gateway.address, "/live/demo/h264/info", &[])
        .await
        .unwrap();
    assert_eq!(status, 200, "{head}");
    let info: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&info["width"], &info["height"]),
        (&320.into(), &192.into()),
        "{info}"
    );
    let plugins = gateway.api("/api/plugins").await;
    let names: Vec<_> = plugins
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one["built_in"].as_bool().unwrap(),
            )
        })
        .collect();
    let built_in = BUILT_IN.map(|name| (name, true));
    let policy = [("auto", true)];
    assert_eq!(names, [&[("h264", false)][..], &built_in, &policy].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_takes_the_place_of_a_built_in_transport() {
    let mut camera = Camera::new(camera::clip()).await;
    let config = camera.config();
    let plugin = Gateway::component("hostile");
    let gateway = Gateway::with_config(&format!(
        "{config}[transports.nal]\nplugin = \"{}\"\n",
        plugin.display()
    ))
    .await;
    let open = |path| Watcher::open(gateway.address, path, camera::clip());
    let mut viewer = open("/live/cam/nal").await;
    // The API path that is an alias of `nal` uses the component, too.
    let mut other = open("/api/ws/stream/cam").await;
    for _ in 0..GROUP + 1 {
        let sent = camera.show(&mut viewer).await;
        assert_eq!(within("a frame", other.next()).await.0, sent);
    }
    let plugins = gateway.api("/api/plugins").await;
    let nal = plugins
        .as_array()
        .unwrap()
        .iter()
        .find(|plugin| plugin["name"] == "nal")
        .unwrap();
    assert_eq!(nal["component"], "hostile@0.1.0");
    assert_eq!(nal["built_in"], false);
    assert_eq!(nal["size"], std::fs::metadata(plugin).unwrap().len());
}

#[tokio::test]
async fn a_plugin_that_is_no_regular_file_is_refused_and_not_read() {
    let pipe = scratch("pipe").join("mine.wasm");
    let made = Command::new("mkfifo").arg(&pipe).status().await.unwrap();
    assert!(made.success());
    for file in [pipe.to_str().unwrap(), "/dev/zero"] {
        let inspected = sluicegate(&["plugin", "inspect", file]).await;
        inspected.refused(&[file, "is not a regular file"]);
        let config = format!("[transports.mine]\nplugin = \"{file}\"\n{DEMO}");
        check(&config)
            .await
            .refused(&[file, "is not a regular file"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_is_replaced_while_it_is_watched() {
    let path = scratch("replaced").join("mine.wasm");
    std::fs::copy(Gateway::component("nal"), &path).unwrap();
    let config = format!("{DEMO}[transports.mine]\nplugin = \"{}\"\n", path.display());
    let gateway = Gateway::with_config(&config).await;
    let reload = || async {
        let asked = client::request(gateway.address, "POST", "/api/plugins/mine/reload", &[]);
        let (status, _, body) = within("a reload", asked).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        (status, body)
    };
    let watch = || async {
        let opened = Nal::open(gateway.address, "/live/demo/mine");
        within("a viewer", opened).await.unwrap()
    };
    let mut viewer = watch().await;
    within("a frame", viewer.next_unit()).await.unwrap();

    // A file that has not changed, or is no component, disturbs nobody.
    let (status, same) = reload().await;
    assert_eq!(
        (status, &same["component"]),
        (200, &"nal@0.1.0".into()),
        "{same}"
    );
    std::fs::write(&path, b"no component").unwrap();
    let (status, refused) = reload().await;
    let said = refused["error"].as_str().unwrap();
    assert_eq!(status, 422, "{refused}");
    assert!(
        said.contains("[transports.mine]") && said.contains("is not WebAssembly"),
        "{said}"
    );
    for _ in 0..GROUP {
        within("a frame", viewer.next_unit()).await.unwrap();
    }

    // The viewer stays while another component with the same output takes over.
    std::fs::copy(Gateway::component("hostile"), &path).unwrap();
    let (status, new) = reload().await;
    assert_eq!(
        (status, &new["component"]),
        (200, &"hostile@0.1.0".into()),
        "{new}"
    );
    assert!(
        new["calls"].as_u64() > same["calls"].as_u64(),
        "{same} {new}"
    );
    let switched = |plugins: &Value| plugins.to_string().contains("\"state\":\"switched\"");
    gateway
        .api_until("/api/plugins", "the muxer switches", switched)
        .await;
    for _ in 0..10 * GROUP {
        within("a frame", viewer.next_unit()).await.unwrap();
    }
}

#[tokio::test]
async fn compiled_code_is_cached_for_this_user_only_and_damage_to_it_is_noticed() {
    let home = scratch("cache");
    let config = scratch("config").join("sluice.toml");
    std::fs::write(&config, DEMO).unwrap();
    let file = config.to_str().unwrap();
    let start = || with_cache(&home, &["check", file]);
    // It says so before it finds that it cannot listen.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let serve = || with_cache(&home, &["serve", "--listen", &listen, "--config", file]);
    let first = serve().await;
    let said = format!("compiling {COMPONENTS} components for this machine, once");
    first.refused(&[&said, "cannot listen on "]);
    let dir = home.join("sluicegate/compiled");
    assert_eq!(mode(&dir), 0o700);
    let first = cached_files(&dir);
    assert_eq!(first.len(), COMPONENTS, "{first:?}");
    assert!(first.keys().all(|file| mode(file) == 0o600));
    // The second start reads the cache and compiles nothing.
    assert_eq!(start().await.code, Some(0));
    let second = serve().await;
    assert!(!second.err.contains("compiling"), "{second:?}");
    assert_eq!(cached_files(&dir), first);
    // A changed byte, and a file that others could have written.
    let files: Vec<&PathBuf> = first.keys().collect();
    let good = std::fs::read(files[0]).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    std::fs::write(files[0], &bad).unwrap();
    std::fs::set_permissions(files[1], PermissionsExt::from_mode(0o666)).unwrap();
    assert_eq!(start().await.code, Some(0));
    let again = cached_files(&dir);
    assert!(again.keys().eq(first.keys()), "{again:?}");
    assert!(
        files[..2].iter().all(|file| again[*file] != first[*file]),
        "damaged files were used"
    );
    assert!(files.iter().all(|file| mode(file) == 0o600));
    assert!(
        std::fs::read(files[0]).unwrap() == good,
        "not made well again"
    );
    // A directory that others can write to is not used at all.
    std::fs::remove_file(files[0]).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o777)).unwrap();
    let open = start().await;
    assert_eq!(open.code, Some(0));
    assert!(
        open.err.contains("compiled components are not cached"),
        "{open:?}"
    );
    assert_eq!(cached_files(&dir).len(), COMPONENTS - 1);
}

#[tokio::test]
async fn without_a_home_nothing_is_cached_anywhere() {
    let config = config_file(DEMO);
    for home in ["", "home"] {
        let folder = scratch("no-home");
        let command = Command::new(Gateway::binary())
            .arg("check")
            .arg(&config)
            .current_dir(&folder)
            .env("HOME", home)
            .env_remove("XDG_CACHE_HOME")
            .kill_on_drop(true)
            .output();
        let checked: CommandResult = within("sluicegate check", command).await.unwrap().into();
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let said = "are not cached: neither XDG_CACHE_HOME nor HOME is an absolute path";
        assert!(checked.err.contains(said), "{checked:?}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    }
}

fn with_cache(home: &Path, arguments: &[&str]) -> impl Future<Output = CommandResult> + use<> {
    let command = Command::new(Gateway::binary())
        .args(arguments)
        .env("XDG_CACHE_HOME", home)
        .kill_on_drop(true)
        .output();
    async { within("sluicegate", command).await.unwrap().into() }
}

/// Files in a directory with size and time; a rewritten file differs.
/// The files with what tells whether they were written again; that a file was used changes its time of modification.
fn cached_files(dir: &Path) -> BTreeMap<PathBuf, (u64, Option<SystemTime>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let found = entry.metadata().unwrap();
            (entry.path(), (found.ino(), found.created().ok()))
        })
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

/// Fails unless the error names the file and states each part exactly once.
fn refused_once(ended: &CommandResult, name: &str, parts: &[&str]) {
    ended.refused(&[name]);
    ended.refused(parts);
    for part in parts {
        assert_eq!(ended.err.matches(part).count(), 1, "{}", ended.err);
    }
}

/// A small component whose single function makes compilers use many gigabytes: each of its loops can be entered from
/// two places with different values of every variable.
fn expensive_component() -> PathBuf {
    const MANY: usize = 8000;
    let locals = "i32 ".repeat(MANY);
    let loops = "(loop (br_if 0 (local.get 0)))".repeat(MANY);
    let uses: String = (1..MANY)
        .map(|nth| format!("(drop (local.get {nth}))"))
        .collect();
    let text =
        format!("(component (core module (func (param i32) (local {locals}) {loops} {uses})))");
    let path = scratch("heavy").join("heavy.wasm");
    let bytes = wat::parse_str(text).unwrap();
    assert!(bytes.len() < 128 << 10, "{} bytes", bytes.len());
    std::fs::write(&path, bytes).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_takes_too_much_to_compile_is_refused_by_inspect() {
    let file = expensive_component();
    // Less memory than the compiler's own limit, so that the test ends sooner; 8,000 times 8,000 values exceed both.
    let limited = Command::new("sh")
        .args(["-c", "ulimit -d 100000; exec \"$0\" plugin inspect \"$1\""])
        .arg(Gateway::binary())
        .arg(&file)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(4 * PATIENCE, limited).await;
    let output = output.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "heavy.wasm does not compile: ",
        "30 s of processor time and 1024 MiB of memory",
    ] {
        let part = part.replace(
            "30 s",
            if cfg!(debug_assertions) {
                "120 s"
            } else {
                "30 s"
            },
        );
        assert!(said.contains(&part), "{part:?} is not in {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn components_reload_one_at_a_time_and_their_memory_is_not_the_gateways() {
    let path = scratch("reload").join("policy.wasm");
    std::fs::copy(Gateway::component("auto"), &path).unwrap();
    let config = format!("{DEMO}[policy]\nplugin = \"{}\"\n", path.display());
    let gateway = Gateway::with_config_after("ulimit -d 200000", &config).await;
    std::fs::copy(expensive_component(), &path).unwrap();
    let before = gateway.memory();
    let reload = || client::request(gateway.address, "POST", "/api/plugins/policy/reload", &[]);
    let both = async { tokio::join!(reload(), reload()) };
    let answers = tokio::time::timeout(4 * PATIENCE, both)
        .await
        .expect("answers");
    let mut answers = [answers.0.unwrap(), answers.1.unwrap()]
        .map(|(status, _, body)| (status, String::from_utf8(body).unwrap()));
    answers.sort();
    let [(busy, first), (refused, second)] = answers;
    assert_eq!((busy, refused), (409, 422), "{first} {second}");
    assert!(
        first.contains("is being loaded or compared: a request reloads `policy`")
            && second.contains("does not compile"),
        "{first} {second}"
    );
    let more = gateway.memory().saturating_sub(before);
    assert!(more < 64 << 20, "{more} bytes more");
    // The previous component stays in use, and a valid one is accepted.
    assert_eq!(
        gateway
            .api("/api/plugins")
            .await
            .as_array()
            .unwrap()
            .last()
            .unwrap()["state"],
        "running"
    );
    std::fs::copy(Gateway::component("auto"), &path).unwrap();
    assert_eq!(within("a reload", reload()).await.unwrap().0, 200);
}
