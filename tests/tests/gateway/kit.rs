//! What authors of components use: tests of a finished component, recordings of running ones and their replay, and the
//! errors of the commands.

use serde_json::{Value, json};
use sluicegate_tests::{
    Camera, Gateway, Nal, Raw,
    camera::{GROUP, clip},
    client::request,
    command::{CommandResult, sluicegate},
    exchange::Exchanged,
    http_get,
    mse::Mse,
    scratch,
};
use std::path::Path;

const DEMO: &str = "
[streams.demo]
source = \"test-pattern\"
encode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = \"500ms\" }
";

async fn test(component: &str, options: &Value) -> CommandResult {
    let component = Gateway::component(component);
    let options = options.to_string();
    let arguments = [component.to_str().unwrap(), "--options", &options];
    sluicegate(&[&["plugin", "test"], &arguments[..]].concat()).await
}

/// Lines of the checks that failed.
fn failed(tested: &CommandResult) -> Vec<&str> {
    let lines = tested.out.lines();
    lines.filter(|line| line.starts_with("FAIL")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transports_of_the_gateway_pass_their_tests() {
    for (name, part) in [
        ("nal", "as h264"),
        ("mse", "packets of audio from 7 start points, as mov,mp4"),
        ("hls", "in 10 segments, as mov,mp4"),
        ("mjpeg", "174 start points, as mjpeg"),
        ("h264", "from 7 start points, as h264"),
    ] {
        let tested = test(name, &json!({})).await;
        assert_eq!(tested.code, Some(0), "{tested:#?}");
        assert!(tested.out.contains(part), "{part:?} is not in {tested:#?}");
        assert!(tested.out.contains("10000 samples: "), "{tested:#?}");
        let is_over_http = tested.out.contains("ok    HTTP clients get it\n");
        assert_eq!(is_over_http, name != "nal", "{tested:#?}");
    }
    // Whatever it sends, no format of it is named.
    let tested = test("webcodecs", &json!({})).await;
    let note = "note  whether players can read it is not checked: neither its media type nor `embeds` names a format";
    assert!(tested.out.contains(note), "{tested:#?}");
}

/// What `hostile` is told if it names the carrier `http`.
const NOT_FOLLOWED: &str = "its carriers name `http`, but `request` of \"\" answers 426 text/plain; charset=utf-8 instead of \
    `Reply::Follow`: no HTTP client becomes a viewer; let it follow, or leave out `http`";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_a_component_are_found_and_told() {
    for (options, part) in [
        (
            json!({ "in": "push", "do": "panic", "after": 50 }),
            "after 51 samples `push` of a sample of track 1",
        ),
        (
            json!({ "in": "push", "do": "loop" }),
            "it ran longer than its limit of 20ms",
        ),
        (
            json!({ "in": "push", "do": "silent" }),
            "viewers see nothing",
        ),
        // Depends on the number of calls, so another instance answers differently.
        (
            json!({ "in": "push", "do": "differ", "after": 100 }),
            "a new instance continues from each group: an instance that gets 1 group, from group",
        ),
        (
            json!({ "in": "push", "do": "hold" }),
            "after 8192 samples `push` of a sample",
        ),
        (
            json!({ "in": "configure", "do": "trap", "after": 1 }),
            "goes on after the source was lost: `configure` fails",
        ),
        (
            json!({ "in": "received", "do": "trap" }),
            "survives viewers that send nonsense and leave: `received` fails",
        ),
        (
            json!({ "in": "push", "do": "nonsense", "after": 10 }),
            "it returned a chunk on lane",
        ),
        (
            json!({ "in": "push", "do": "text" }),
            "are text, which HTTP bodies leave out: send bytes",
        ),
        (
            json!({ "in": "push", "do": "clock" }),
            "a component has no clock; samples have their times",
        ),
        (json!({ "carriers": ["websocket", "http"] }), NOT_FOLLOWED),
    ] {
        let tested = test("hostile", &options).await;
        let told = failed(&tested);
        assert!(
            told.iter().any(|line| line.contains(part)),
            "{part:?} is not in {tested:#?}"
        );
        tested.refused(&["checks failed"]);
    }
    // What is wrong with each call is told once.
    let tested = test("hostile", &json!({ "in": "push", "do": "panic" })).await;
    let reason = "hostile was told to panic in Push";
    assert_eq!(tested.out.matches(reason).count(), 1, "{tested:#?}");
    let again = failed(&tested);
    let again = again.iter().filter(|line| line.ends_with("fails as above"));
    assert_eq!(again.count(), 2, "{tested:#?}");
    let note = "note  the other checks of this stream cannot run because of that";
    assert_eq!(tested.out.matches(note).count(), 2, "{tested:#?}");
    // The same stream with more processor time than usual is fine.
    let component = Gateway::component("hostile");
    let slow = json!({ "in": "push", "do": "slow" }).to_string();
    let arguments = [
        component.to_str().unwrap(),
        "--call",
        "100ms",
        "--options",
        &slow,
    ];
    let tested = sluicegate(&[&["plugin", "test"], &arguments[..]].concat()).await;
    assert_eq!(tested.code, Some(0), "{tested:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_lets_a_component_run() {
    let hostile = Gateway::component("hostile");
    for (options, part) in [
        (
            json!({ "in": "push", "do": "panic" }),
            "`push` of a sample of track 1, group 1767225600000, decode time 0, ",
        ),
        (
            json!({ "in": "push", "do": "panic" }),
            " fails: panicked at ",
        ),
        (
            json!({ "in": "configure", "do": "trap" }),
            "`configure` fails: wasm trap: ",
        ),
        (
            json!({ "in": "stop", "do": "panic" }),
            "`stop` fails: panicked at ",
        ),
        (
            json!({ "in": "push", "do": "loop" }),
            "it ran longer than its limit of 20ms",
        ),
        (
            json!({ "in": "push", "do": "silent" }),
            "viewers see nothing",
        ),
    ] {
        let options = options.to_string();
        let arguments = [hostile.to_str().unwrap(), "--options", &options];
        let checked = sluicegate(&[&["plugin", "check"], &arguments[..]].concat()).await;
        checked.refused(&["hostile.wasm: h264/annexb, 320×180", part]);
    }
    let check = async |name: &str, options: Value| {
        let (component, options) = (Gateway::component(name), options.to_string());
        let arguments = [component.to_str().unwrap(), "--options", &options];
        sluicegate(&[&["plugin", "check"], &arguments[..]].concat()).await
    };
    check("hostile", json!({ "carriers": ["websocket", "http"] }))
        .await
        .refused(&[&format!("hostile.wasm: {NOT_FOLLOWED}")]);
    check("hostile", json!({ "in": "open", "do": "nonsense" }))
        .await
        .refused(&[
            "hostile@0.1.0: its profile is refused: it names no carrier of this gateway: [\"carrier pigeon\"]",
        ]);
    let checked = check("hostile", json!({ "embeds": ["video"] })).await;
    for note in [
        "note: this gateway ignores embeds [\"video\"] (known: image, playlist, file, access-units)\n",
        "note: it has no `embeds` that this gateway knows: ",
    ] {
        assert!(checked.out.contains(note), "{checked:?}");
    }
    for name in ["nal", "mse", "hls", "mjpeg", "webcodecs", "h264"] {
        let checked = check(name, json!({})).await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let note = "note: nothing here looks into its half in the browser: ";
        assert_eq!(checked.out.contains(note), name == "h264", "{checked:?}");
    }
    let arguments = [hostile.to_str().unwrap(), "--memory", "1MiB"];
    let checked = sluicegate(&[&["plugin", "check"], &arguments[..]].concat()).await;
    let limit = "and its limit is 1MiB (limits.memory)";
    checked.refused(&["it needs at least 1152KiB of memory", limit]);
}

async fn record(
    gateway: &Gateway,
    stream: &str,
    transport: Option<&str>,
    file: &Path,
) -> CommandResult {
    let url = format!("http://{}", gateway.address);
    let mut arguments = vec![
        "plugin",
        "record",
        stream,
        "--duration",
        "2s",
        "--url",
        &url,
    ];
    arguments.extend(["--output", file.to_str().unwrap()]);
    if let Some(transport) = transport {
        arguments.extend(["--transport", transport]);
    }
    sluicegate(&arguments).await
}

async fn replay(recording: &Path, component: &Path) -> CommandResult {
    let files = [recording.to_str().unwrap(), component.to_str().unwrap()];
    sluicegate(&[&["plugin", "replay"], &files[..]].concat()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_repeated_bit_for_bit_and_a_changed_component_is_told() {
    let folder = scratch("recording");
    let component = Gateway::component("hostile");
    let misbehaves = "in = \"push\"\ndo = \"differ\"\nbuild = \"B\"";
    let config = format!("{DEMO}[transports.mine]\nplugin = {component:?}\n{misbehaves}\n");
    let gateway = Gateway::with_config(&config).await;

    let none = record(&gateway, "demo", None, &folder.join("none")).await;
    none.refused(&[
        "nobody watches `demo` now",
        "/watch/demo?transport=NAME, or run `curl -o /dev/null http://",
        "/live/demo/NAME`, first",
    ]);
    let none = record(&gateway, "dmo", None, &folder.join("none")).await;
    none.refused(&["404", "there is no stream `dmo`; did you mean `demo`?"]);
    let none = record(&gateway, "street", Some("mine"), &folder.join("none")).await;
    none.refused(&["404", "there is no stream `street`; there are: demo"]);
    let none = record(&gateway, "demo@low", Some("mine"), &folder.join("none")).await;
    none.refused(&["404", "there is no rendition `low`"]);
    let none = record(&gateway, "demo", Some("mine"), &folder.join("none")).await;
    none.refused(&["404", "nobody watches a stream by the transport `mine`"]);
    let none = record(&gateway, "demo", Some("mime"), &folder.join("none")).await;
    none.refused(&["did you mean `mine`?"]);

    let mut viewer = Nal::open(gateway.address, "/live/demo/mine").await.unwrap();
    viewer.next().await.unwrap();
    let mut mse = Mse::connect(gateway.address, "demo").await;
    mse.header().await;
    let (status, ..) = http_get(gateway.address, "/live/demo/hls/media.m3u8", &[])
        .await
        .unwrap();
    assert_eq!(status, 200);
    let several = record(&gateway, "demo", None, &folder.join("none")).await;
    several.refused(&["say which by --transport: ", "mine", "mse"]);

    // Viewers join, talk and leave meanwhile, and the playlist is requested.
    let files = ["mine", "mse", "hls"].map(|name| folder.join(format!("{name}.jsonl")));
    let recorded = async {
        tokio::join!(
            record(&gateway, "demo", Some("mine"), &files[0]),
            record(&gateway, "demo", Some("mse"), &files[1]),
            record(&gateway, "demo", Some("hls"), &files[2]),
        )
    };
    let busy = async {
        loop {
            let mut other = Nal::open(gateway.address, "/live/demo/mine?q=1")
                .await
                .unwrap();
            other.next().await.unwrap();
            other.say("hello".into()).await.unwrap();
            let (status, ..) = http_get(gateway.address, "/live/demo/hls/media.m3u8", &[])
                .await
                .unwrap();
            assert_eq!(status, 200);
        }
    };
    let (mine, mse_recorded, hls) = tokio::select! {
        recorded = recorded => recorded,
        () = busy => unreachable!(),
    };
    drop((viewer, mse));
    for recorded in [&mine, &mse_recorded, &hls] {
        assert_eq!(recorded.code, Some(0), "{recorded:?}");
        assert!(
            recorded.out.contains("it ended because 2 s were recorded"),
            "{recorded:?}"
        );
    }
    let again = record(&gateway, "demo", Some("mine"), &files[0]).await;
    again.refused(&["cannot write", "--output names another file"]);

    // The built-in components are the files of the build.
    for (file, name) in files.iter().zip(["hostile", "mse", "hls"]) {
        let replayed = replay(file, &Gateway::component(name)).await;
        assert_eq!(replayed.code, Some(0), "{replayed:?}");
        assert!(
            replayed.out.contains(": no difference in ")
                && replayed.out.contains("(the recorded component)"),
            "{replayed:?}"
        );
    }
    let other = Exchanged::new("b", "hostile");
    other.write_build(b'B');
    let changed = replay(&files[0], &other.path).await;
    changed.refused(&[
        "mine.jsonl, line ",
        "`push` of a sample of track 1",
        "chunk 0: ",
        "from byte ",
    ]);
    let other = replay(&files[1], &Gateway::component("mjpeg")).await;
    other.refused(&["has samples in h264/avcc, and the component takes jpeg"]);

    // A recorded stream is one to test on.
    let component = Gateway::component("mse");
    let arguments = [
        component.to_str().unwrap(),
        "--recording",
        files[1].to_str().unwrap(),
    ];
    let tested = sluicegate(&[&["plugin", "test"], &arguments[..]].concat()).await;
    assert_eq!(tested.code, Some(0), "{tested:#?}");
    assert!(
        tested.out.contains("mse.jsonl (demo over mse)"),
        "{tested:#?}"
    );

    // What was cut off in the middle of a line can be repeated up to there.
    let text = std::fs::read(&files[0]).unwrap();
    let cut = folder.join("cut.jsonl");
    std::fs::write(&cut, &text[..text.len() / 2]).unwrap();
    let replayed = replay(&cut, &Gateway::component("hostile")).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert!(
        replayed.out.contains("the recording was cut off"),
        "{replayed:?}"
    );
}

#[tokio::test]
async fn a_new_project_has_its_name_wherever_it_is_needed() {
    let parent = scratch("new");
    for (name, file) in [("my-cam", "my_cam"), ("my_cam", "my_cam"), ("mine", "mine")] {
        let folder = parent.join(name);
        let made = sluicegate(&["plugin", "new", "--lang", "rust", folder.to_str().unwrap()]).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        let copy = format!("cp target/wasm32-unknown-unknown/release/{file}.wasm {name}.wasm\n");
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        for text in [&made.out, &readme] {
            assert!(text.contains(&copy), "{copy:?} is not in {text}");
            assert!(
                text.contains("rustup target add wasm32-unknown-unknown"),
                "{text}"
            );
        }
        let source = std::fs::read_to_string(folder.join("src/lib.rs")).unwrap();
        assert!(source.contains("/live/demo/NAME"), "{source}");
        assert!(folder.join("src/half.js").exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_input_gets_an_error_that_says_what_to_do() {
    let folder = scratch("kit");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(path("text.jsonl"), "hello\n").unwrap();
    std::fs::write(path("empty.jsonl"), "").unwrap();
    std::fs::write(path("other.jsonl"), "{\"some\":\"object\"}\n").unwrap();
    let call = "{\"call\":{\"leave\":{\"viewer\":1}},\"answer\":null}\n";
    std::fs::write(path("headless.jsonl"), call).unwrap();
    std::fs::write(path("end.jsonl"), "{\"end\":\"nothing\"}\n").unwrap();
    let newer = "{\"recording\":2,\"interface\":\"0.3.0\",\"component\":\"a@1\",\"sha256\":\"\",\"transport\":\"a\",\"stream\":\"b\",\"options\":\"{}\"}\n";
    std::fs::write(path("newer.jsonl"), newer).unwrap();
    let nal = Gateway::component("nal").to_str().unwrap().to_owned();
    std::fs::create_dir(path("taken")).unwrap();
    for (arguments, parts) in [
        (
            vec!["new", "--lang", "rust", &path("Nope!")],
            &["`Nope!` cannot be the name", "lower-case"][..],
        ),
        (
            vec!["new", "--lang", "js", &path("taken")],
            &["exists already", "choose another name"],
        ),
        (
            vec!["new", "--lang", "js", &path("no/such/folder")],
            &["cannot write", "No such file"],
        ),
        (
            vec!["replay", &path("none.jsonl"), &nal],
            &["cannot read", "none.jsonl"],
        ),
        (
            vec!["replay", &path("text.jsonl"), &nal],
            &[
                "text.jsonl is not a recording: ",
                "`sluicegate plugin record` writes one",
            ],
        ),
        (
            vec!["replay", &path("empty.jsonl"), &nal],
            &["empty.jsonl is not a recording: it is empty"],
        ),
        (
            vec!["replay", &path("other.jsonl"), &nal],
            &[
                "is not a recording: ",
                "none of the keys `recording`, `call` and `end`",
            ],
        ),
        (
            vec!["replay", &path("headless.jsonl"), &nal],
            &["is not a recording: its first line has no `recording`"],
        ),
        (
            vec!["new", "--lang", "js", &path("hls")],
            &["`hls` is the name of a component in the gateway"],
        ),
        (
            vec!["new", "--lang", "rust", &path("auto")],
            &["`auto` is the name of a component in the gateway"],
        ),
        (
            vec!["new", "--lang", "js", ".."],
            &["`..` cannot be the name"],
        ),
        (
            vec!["new", "--lang", "js", "."],
            &["`.` cannot be the name"],
        ),
        (
            vec!["replay", &path("end.jsonl"), &nal],
            &["it has no calls: nothing"],
        ),
        (
            vec!["replay", &path("newer.jsonl"), &nal],
            &["version 2 of the format", "reads 1"],
        ),
        (vec!["test", &path("text.jsonl")], &["is not WebAssembly"]),
        (vec!["check", &path("text.jsonl")], &["is not WebAssembly"]),
        (
            vec!["test", &nal, "--options", "{\"x\": 1}"],
            &["rejected its options"],
        ),
        (
            vec!["test", &nal, "--recording", &path("end.jsonl")],
            &["it has no calls"],
        ),
    ] {
        sluicegate(&[&["plugin"], &arguments[..]].concat())
            .await
            .refused(parts);
    }
    for arguments in [
        &["new", "--lang", "js", ""][..],
        &["record", "demo", "--duration", "0s"],
        &["record", "demo", "--duration", "61m"],
        &["record", "demo", "--max-size", "0B"],
        &["record", "demo", "--max-size", "2GiB"],
        &["check", &nal, "--call", "0ms"],
        &["test", &nal, "--memory", "5GiB"],
        &["test", &nal, "--options", "7"],
        &["check", &nal, "--options", "[]"],
        &["inspect", &nal, "--options", "{"],
        &["add", "mine", &nal, "--options", "stale=2s"],
    ] {
        let used = sluicegate(&[&["plugin"], arguments].concat()).await;
        let name = arguments[arguments.len() - 2];
        let name = if name == "js" { "<FOLDER>" } else { name };
        used.misused(&[name]);
        if name == "--options" {
            used.misused(&["it is not a JSON object such as {\"stale\": \"2s\"}"]);
        }
    }
    for (name, kind) in [("nal", "is a transport"), ("auto", "is a policy")] {
        let file = Gateway::component(name);
        let checked = sluicegate(&["plugin", "check", file.to_str().unwrap()]).await;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.out.contains(kind), "{checked:?}");
    }
    let checked = sluicegate(&[
        "plugin",
        "check",
        Gateway::component("hostile").to_str().unwrap(),
    ])
    .await;
    for note in ["no `label`", "no `output`"] {
        assert!(checked.out.contains(note), "{checked:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_waits_for_an_instance() {
    let folder = scratch("waits");
    let hostile = Gateway::component("hostile");
    let mut camera = Camera::new(clip()).await;
    let config = format!(
        "{}[transports.fails]\nplugin = {hostile:?}\nin = \"configure\"\ndo = \"trap\"\n",
        camera.config()
    );
    let gateway = Gateway::with_config(&config).await;

    let mut viewer = Raw::connect(gateway.address).await;
    let file = folder.join("nal.jsonl");
    let recorded = async {
        let runs = |plugins: &Value| plugins.to_string().contains("\"stream\":\"cam\"");
        gateway.api_until("/api/plugins", "it runs", runs).await;
        record(&gateway, "cam", Some("nal"), &file).await
    };
    let delivered = async {
        // The recording was accepted before the source has delivered anything.
        let accepted = |_: &Value| file.exists();
        gateway
            .api_until("/api/plugins", "a file is written", accepted)
            .await;
        for _ in 0..2 * GROUP {
            camera.send().await;
        }
    };
    let open = viewer.upgrade(gateway.address, "/live/cam/nal");
    let (recorded, ..) = tokio::join!(recorded, delivered, open);
    assert_eq!(recorded.code, Some(0), "{recorded:?}");
    assert!(
        recorded.out.contains("it ended because 2 s were recorded"),
        "{recorded:?}"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("{\"call\":{\"push\":"), "{text}");

    // What has no call is no recording.
    let file = folder.join("none.jsonl");
    let url = format!("http://{}", gateway.address);
    let to_file = ["--output", file.to_str().unwrap(), "--url", &url];
    let short = ["plugin", "record", "cam", "--max-size", "1B"];
    let short = sluicegate(&[&short[..], &to_file].concat()).await;
    short.refused(&["no call was recorded: it ended because 1 bytes were recorded"]);
    assert!(!file.exists(), "the name can be used again");
    // One recording at a time.
    let mut first = Raw::connect(gateway.address).await;
    let begin = format!(
        "GET /api/plugins/nal/recording HTTP/1.1\r\nHost: {}\r\n\r\n",
        gateway.address
    );
    first.write(begin).await;
    assert_eq!(first.head().await.unwrap().status, 200);
    let second = record(&gateway, "cam", Some("nal"), &file).await;
    second.refused(&["409", "it is being recorded already"]);
    assert!(!file.exists(), "the name can be used again");
    // HEAD is checked as GET is and records nothing, so it is not refused for that.
    for (query, expected) in [("", 200), ("?seconds=0", 400), ("?stream=other", 404)] {
        let path = format!("/api/plugins/nal/recording{query}");
        let answered = request(gateway.address, "HEAD", &path, &[]).await.unwrap();
        let (status, head, body) = answered;
        assert_eq!((status, body.len()), (expected, 0), "{path}: {head}");
        let is_recording = head.contains("application/x-ndjson");
        assert_eq!(is_recording, expected == 200, "{path}: {head}");
    }

    let mut other = Raw::connect(gateway.address).await;
    let begin = format!(
        "GET /live/cam/fails HTTP/1.1\r\nHost: {}\r\n\r\n",
        gateway.address
    );
    other.write(begin).await;
    gateway.logged("`configure` failed").await;
    let file = folder.join("fails.jsonl");
    let nothing = record(&gateway, "cam", Some("fails"), &file).await;
    nothing.refused(&["there was nothing to record for 2 s: the component is being restarted"]);
    assert!(!file.exists(), "the name can be used again");
}
