//! Tests of the config as a whole: every key, the defaults, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::json;
use std::time::Duration;

use super::*;

mod access;
mod mistakes;

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("sluice.toml"))
}

/// The error of `text`. Its first line must start with `start`, and the rest must contain each of `parts`.
#[track_caller]
fn refused(text: &str, start: &str, parts: &[&str]) -> String {
    let error = parse(text).expect_err(text).to_string();
    assert!(error.starts_with(start), "{text}\n{error}");
    for part in parts {
        assert!(error.contains(part), "{text}\n{error}\nlacks {part}");
    }
    error
}

#[test]
fn no_file_is_the_demo_on_loopback() {
    let config = Config::default();
    let listen = config.server.listen.first().map(ToString::to_string);
    assert_eq!(listen.as_deref(), Some("127.0.0.1:8080"));
    assert_eq!(config.streams.len(), 1);
    let demo = &config.streams["demo"];
    assert_eq!(demo.source.expose(), "test-pattern");
    assert_eq!(demo.idle.duration(), Duration::from_secs(10));
    assert_eq!((demo.encode.width, demo.encode.height), (1280, 720));
    assert_eq!(demo.encode.frame_rate, 30);
    assert_eq!(demo.encode.bitrate.bits_per_second(), 2_500_000);
}

#[test]
fn a_file_without_streams_shows_nothing() {
    assert!(parse("").unwrap().shows_nothing());
    assert!(!Config::default().shows_nothing());
}

#[test]
fn every_key_is_read() {
    let config = Config::parse(
        r#"
        [server]
        listen = "0.0.0.0:0"
        names = ["Cam.home.example"]
        origins = ["https://home.example"]
        open = true
        tls = { certificate = "tls/cert.pem", key = "/etc/key.pem" }
        trusted-proxies = ["10.0.0.0/8", "::1"]
        connections = 500
        connections-per-address = 5

        [streams.porch]
        source = "rtsp://camera.local/stream1"
        idle = "1m"
        encode = { width = 640, height = 360, frame-rate = 10, bitrate = "500k", keyframe-interval = "1s" }

        [streams."192.168.0.7:5555"]
        source = "test-pattern"
        always-on = true

        [android]
        adb = "phones.lan:5037"
        server = "scrcpy/scrcpy-server-v3.3.4"
        version = "3.3.1"
        metadata = false
        wake = true
        discover = false
        allow = ["emulator-*", "R58M1234"]
        deny = ["emulator-5556"]
        max-devices = 40
        idle = "3s"
        max-size = 800
        frame-rate = 15
        bitrate = "1M"
        keyframe-interval = "1s"
        devices."192.168.0.7:5555" = { max-size = 640, frame-rate = 5, bitrate = "300k", keyframe-interval = "500ms", idle = "1m" }

        [transports.flv]
        trusted = true
        plugin = "plugins/flv.wasm"
        limits = { memory = "8MiB", call = "5ms" }
        part = "200ms"
        count = 3
        ratio = 0.5
        on = true
        list = [1, { a = "b" }]
        since = 2026-11-21T03:00:00Z
        deep.er = 1
        "#,
        Path::new("conf/sluice.toml"),
    )
    .unwrap();

    assert_eq!(config.dir, Path::new("conf"));
    let ports: Vec<u16> = config.server.tcp_addresses().map(|at| at.port()).collect();
    assert_eq!(ports, [0]);
    assert_eq!(config.server.names[0].as_str(), "cam.home.example");
    assert_eq!(config.server.origins[0].as_str(), "https://home.example");
    assert!(config.server.open);
    let files = Tls::Files {
        certificate: "conf/tls/cert.pem".into(),
        key: "/etc/key.pem".into(),
    };
    assert_eq!(config.server.tls, Some(files));
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.server.connections, 500);
    assert_eq!(config.server.connections_per_address, 5);

    let porch = &config.streams["porch"];
    assert_eq!(porch.idle.duration(), Duration::from_secs(60));
    let expected = Encode {
        width: 640,
        height: 360,
        frame_rate: 10,
        bitrate: BitRate::from_bits_per_second(500_000),
        keyframe_interval: Span::from_duration(Duration::from_secs(1)),
        encoder: None,
    };
    assert_eq!(porch.encode, expected);
    assert!(config.streams["192.168.0.7:5555"].always_on);

    let android = config.android.unwrap();
    assert_eq!(
        android.server.as_deref(),
        Some(Path::new("conf/scrcpy/scrcpy-server-v3.3.4"))
    );
    assert_eq!(android.scrcpy().unwrap().to_string(), "3.3.1");
    assert_eq!(android.adb, "phones.lan:5037");
    assert!(!android.metadata && android.wake && !android.discover);
    assert_eq!(android.max_devices, 40);
    let allowed = |serial| android.allows(serial);
    assert!(allowed("emulator-5554") && !allowed("emulator-5556") && !allowed("R58M"));
    let mirror = |max_size, frame_rate, bits, ms| Mirror {
        max_size,
        frame_rate,
        bitrate: BitRate::from_bits_per_second(bits),
        keyframe_interval: Span::from_duration(Duration::from_millis(ms)),
    };
    assert_eq!(android.mirror("R58M"), mirror(800, 15, 1_000_000, 1000));
    let own = "192.168.0.7:5555";
    assert_eq!(android.mirror(own), mirror(640, 5, 300_000, 500));
    assert_eq!(android.stream(own).idle.to_string(), "1m");
    assert_eq!(android.stream("R58M").idle.to_string(), "3s");
    assert_eq!(android.stream("R58M").source.expose(), "android:R58M");

    let flv = &config.transports["flv"];
    assert_eq!(
        flv.plugin.as_deref(),
        Some(Path::new("conf/plugins/flv.wasm"))
    );
    assert!(flv.trusted);
    assert_eq!(flv.limits.memory.bytes(), 8 << 20);
    assert_eq!(flv.limits.call.duration(), Duration::from_millis(5));
    assert_eq!(
        flv.options,
        json!({
            "part": "200ms", "count": 3, "ratio": 0.5, "on": true, "list": [1, { "a": "b" }],
            "since": "2026-11-21T03:00:00Z", "deep": { "er": 1 },
        })
    );
}

#[test]
fn a_transport_needs_no_plugin_and_has_limits_and_empty_options_by_default() {
    let config = parse("[transports.hls]").unwrap();
    assert_eq!(config.transports["hls"], Transport::default());
    assert_eq!(Transport::default().options.to_string(), "{}");
    assert_eq!(Limits::default().memory.to_string(), "32MiB");
    assert_eq!(Limits::default().call.to_string(), "20ms");
}

#[test]
fn an_address_is_one_that_others_can_reach_or_not() {
    for listen in [
        "0.0.0.0:80",
        "192.168.0.2:80",
        "[::]:80",
        "[::ffff:10.0.0.1]:80",
    ] {
        let text = format!("[server]\nlisten = '{listen}'\n");
        assert!(parse(&text).unwrap().server.is_reachable());
    }
    for listen in [
        "127.0.0.1:0",
        "127.9.9.9:80",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
    ] {
        let text = format!("[server]\nlisten = '{listen}'\n");
        assert!(!parse(&text).unwrap().server.is_reachable());
    }
    for listen in [
        "localhost:80",
        ":80",
        "80",
        "127.0.0.1",
        "127.0.0.1:99999",
        "",
    ] {
        let text = format!("[server]\nlisten = '{listen}'");
        refused(
            &text,
            "sluice.toml:2:10: `listen` in [server]: ",
            &["e.g. \"127.0.0.1:8080\""],
        );
    }
    refused(
        "[server]\nlisten = 80",
        "sluice.toml:2:10:",
        &["e.g. \"127.0.0.1:8080\""],
    );
    let server = Server {
        listen: vec![
            "127.0.0.1:80".parse().unwrap(),
            "0.0.0.0:80".parse().unwrap(),
        ],
        ..Server::default()
    };
    assert!(server.is_reachable());
}

#[test]
fn a_stream_name_must_fit_into_a_url() {
    let long = "x".repeat(128);
    for name in [
        "porch",
        "a-b_c.d",
        "192.168.0.7:5555",
        "Türkamera 2",
        "门口",
        "~a~b".trim_start_matches('~'),
        &long,
    ] {
        assert_eq!(check_stream_name(name), Ok(()), "{name}");
    }
    let longer = "x".repeat(129);
    for name in [
        "",
        ".",
        "..",
        "~ticket",
        "a/b",
        "a\\b",
        "a@b",
        "a?b",
        "a#b",
        "a%2Fb",
        "a\nb",
        "a\0b",
        " a",
        "a ",
        "a\u{202e}b",
        &longer,
    ] {
        assert!(check_stream_name(name).is_err(), "{name:?}");
    }
    refused(
        "[streams.'a/b']\nsource = 'x'",
        "sluice.toml:1:10: `a/b` in [streams] is not a valid stream name: it contains `/`",
        &["| [streams.'a/b']\n  |          ^^^^^"],
    );
}

#[test]
fn a_transport_name_is_a_plain_word() {
    for name in ["HLS", "frame.jpg", "", "1a", "a/b", "-a"] {
        refused(
            &format!("[transports.'{name}']"),
            "sluice.toml:1:13: `",
            &["is not a valid transport name"],
        );
    }
    assert!(parse("[transports.my_own-2]").is_ok());
}

#[test]
fn a_word_with_a_meaning_names_no_transport_and_no_rendition() {
    for (name, meaning) in [
        ("auto", "means the automatic choice of a transport"),
        ("policy", "means the policy where components are named"),
    ] {
        refused(
            &format!("[transports.{name}]"),
            &format!("sluice.toml:1:13: `{name}` in [transports] {meaning}"),
            &["choose another name"],
        );
    }
    // Segments of other paths, and words of players, are names like any other.
    for name in ["api", "frame", "halves", "live", "modules", "none", "watch"] {
        assert!(parse(&format!("[transports.{name}]")).is_ok(), "{name}");
    }
    refused(
        "[streams.a]\nsource = 'x'\nrenditions.'-' = { width = 64 }",
        "sluice.toml:3:12: `-` in [streams.a.renditions] means the stream itself where players choose a rendition",
        &["choose another name"],
    );
}

#[test]
fn idle_and_always_on_exclude_each_other() {
    let text = "[streams.a]\nsource = 'x'\nalways-on = true\nidle = '1s'";
    refused(
        text,
        "sluice.toml:4:1: `idle` in [streams.a] has no effect with always-on = true",
        &[],
    );
}

#[test]
fn fetch_settings_of_a_url_are_those_of_its_stream() {
    let usual = parse("[streams.a]\nsource = 'x'").unwrap().streams["a"].fetch();
    assert_eq!(usual, Fetch::default());
    assert_eq!(usual.every, Duration::from_millis(500));
    let text =
        "[streams.a]\nsource = 'x'\nevery = '2s'\nredirects = ['CDN.example', '192.168.0.2']";
    let fetch = parse(text).unwrap().streams["a"].fetch();
    assert_eq!(fetch.every, Duration::from_secs(2));
    let hosts: Vec<&str> = fetch.redirects.iter().map(HostName::as_str).collect();
    assert_eq!(hosts, ["cdn.example", "192.168.0.2"]);
    for (line, what) in [
        ("every = '1ms'", "write \"20ms\" to \"1h\""),
        ("every = '2h'", "write \"20ms\" to \"1h\""),
        ("redirects = ['http://cdn']", "is not a valid host name"),
    ] {
        let text = format!("[streams.a]\nsource = 'x'\n{line}");
        refused(&text, "sluice.toml:3:", &[what]);
    }
}

#[test]
fn renditions_are_checked_as_the_stream_is() {
    let stream = "[streams.a]\nsource = 'x'\nrenditions.";
    let good = format!("{stream}mobile = {{ width = 640, frame-rate = 10, bitrate = '500k' }}");
    let config = parse(&good).unwrap();
    let mobile = config.streams["a"].renditions["mobile"];
    assert_eq!((mobile.width, mobile.height), (Some(640), None));
    for (rendition, what) in [
        ("m = { width = 641 }", "641 is not a valid size"),
        ("m = { frame-rate = 0 }", "write 1 to 240"),
        ("m = { bitrate = '1k' }", "write \"16k\" to \"200M\""),
        (
            "m = { keyframe-interval = '1h' }",
            "write \"100ms\" to \"1m\"",
        ),
        ("m = { widht = 640 }", "did you mean `width`?"),
        (
            "'a@b' = { width = 640 }",
            "is not a valid rendition name: it contains `@`",
        ),
    ] {
        refused(&format!("{stream}{rendition}"), "sluice.toml:3:", &[what]);
    }
}

#[test]
fn android_is_modest_by_default_and_its_mistakes_are_reported() {
    let android = parse("[android]").unwrap().android.unwrap();
    assert_eq!(android, Android::default());
    assert_eq!(
        (android.adb.as_str(), android.max_size),
        ("127.0.0.1:5037", 1280)
    );
    assert_eq!(
        (android.frame_rate, android.bitrate.to_string()),
        (30, "4M".into())
    );
    assert_eq!(android.keyframe_interval.to_string(), "2s");
    assert!(android.metadata && android.discover && android.allows("anything"));
    assert_eq!(parse("").unwrap().android, None);
    for (text, place, what) in [
        ("adb = '5037'", "2:7", "write HOST:PORT"),
        ("adb = 'x:0'", "2:7", "write HOST:PORT"),
        ("version = '1.25'", "2:11", "take 2.0 or newer"),
        ("version = 'new'", "2:11", "is not a version of scrcpy"),
        ("server = 'scrcpy-server'", "2:10", "add e.g. version"),
        (
            "server = 'scrcpy-server-v1.24'",
            "2:10",
            "take 2.0 or newer",
        ),
        (
            "allow = ['a', '']",
            "2:15",
            "item 2 of `allow` in [android] is empty",
        ),
        ("max-size = 32", "2:12", "write 64 to 8192"),
        ("frame-rate = 0", "2:14", "write 1 to 240"),
        ("bitrate = '1k'", "2:11", "write \"16k\" to \"200M\""),
        ("bitrate = 4", "2:11", "expected a bit rate"),
        (
            "keyframe-interval = '5m'",
            "2:21",
            "write \"100ms\" to \"1m\"",
        ),
        ("max_size = 5", "2:1", "did you mean `max-size`?"),
        (
            "devices.a = { bitrate = '1k' }",
            "2:25",
            "`bitrate` in [android.devices.a]",
        ),
        (
            "devices.a = { max-szie = 1 }",
            "2:15",
            "did you mean `max-size`?",
        ),
    ] {
        let start = format!("sluice.toml:{place}: ");
        refused(&format!("[android]\n{text}"), &start, &[what]);
    }
    assert!(parse("[android]\nserver = 'scrcpy-server'\nversion = '4.1'").is_ok());
    let nothing = parse("[android]\ndiscover = false").unwrap();
    assert!(nothing.shows_nothing());
    assert!(!parse("[android]").unwrap().shows_nothing());
}

#[test]
fn what_later_versions_bring_is_parsed_as_agreed_and_then_refused() {
    for (text, line, key) in [
        ("[transports.x]\nwasi = true", 2, "`wasi` in [transports.x]"),
        (
            "[transports.x]\nrecord = 'x.rec'",
            2,
            "`record` in [transports.x]",
        ),
        ("[policy]\nrecord = 'x'", 2, "`record` in [policy]"),
    ] {
        let what = format!("{key} is not supported in this version yet; remove it");
        refused(text, &format!("sluice.toml:{line}:"), &[&what]);
    }
    for (text, what) in [
        ("[server]\ntls = 'yes'", "`yes` is not a TLS setting"),
        (
            "[server]\ntls = { certificate = 'c.pem' }",
            "`key` is missing in [server.tls]",
        ),
        (
            "[server]\ntrusted-proxies = ['x']",
            "`x` is not a valid network",
        ),
        ("[capture]\ntimeout = 5", "expected a duration"),
    ] {
        refused(text, "sluice.toml:", &[what]);
    }
}

#[test]
fn captures_are_read_and_what_they_cannot_be_is_refused() {
    let text = "[streams.a]\nsource = 'test-pattern'\n[capture]\ndir = 'shots'\nquality = 90\ntimeout = '2s'\ndecoder = false\nkeep = '7d'\nkeep-bytes = '2GiB'";
    let capture = Config::parse(text, Path::new("/etc/sluice.toml"))
        .unwrap()
        .capture;
    assert_eq!(
        capture,
        Capture {
            dir: "/etc/shots".into(),
            quality: 90,
            timeout: Span::from_duration(Duration::from_secs(2)),
            decoder: false,
            keep: Span::from_duration(Duration::from_secs(7 * 86_400)),
            keep_bytes: ByteSize::from_bytes(2 << 30),
        }
    );
    for (line, what) in [
        ("dir = ''", "is empty; name a folder"),
        ("quality = 0", "0 is out of range; write 1 to 100"),
        ("timeout = '2m'", "write \"100ms\" to \"1m\""),
        ("keep = '1s'", "write \"1m\" or more"),
        ("keep-bytes = '1kB'", "write \"1MiB\" or more"),
        ("qualty = 3", "did you mean `quality`?"),
    ] {
        refused(&format!("[capture]\n{line}"), "sluice.toml:2:", &[what]);
    }
}

#[test]
fn clients_and_policy_are_read() {
    let text = "
[policy]
limits = { call = '5ms' }
up-after = '1m'
[[clients]]
match = { network = '10.0.0.0/8', header = { X-Room = 'hall' }, user-agent = 'iPhone' }
transport = 'mjpeg'
force = true
[[clients]]
match = {}
transport = ['hls', 'mse']
rendition = ['', 'mobile']
policy = { up-at = 0.5 }
";
    let config = parse(text).unwrap();
    let policy = config.policy.unwrap();
    assert_eq!(policy.plugin, "auto");
    assert_eq!(policy.options, serde_json::json!({ "up-after": "1m" }));
    let [first, second] = &config.clients[..] else {
        panic!("{:?}", config.clients)
    };
    assert_eq!(first.transport, Some(vec!["mjpeg".to_owned()]));
    assert_eq!(first.r#match.header["X-Room"], "hall");
    assert!(first.force && first.rendition.is_none() && first.policy.is_none());
    assert_eq!(second.rendition, Some(vec![String::new(), "mobile".into()]));
    assert_eq!(second.policy, Some(serde_json::json!({ "up-at": 0.5 })));
    let file = parse("[policy]\nplugin = 'mine.wasm'").unwrap().policy;
    assert_eq!(file.unwrap().plugin, "./mine.wasm");
    for (text, what) in [
        ("transport = []", "`transport` in [clients[0]] is empty"),
        ("force = true", "`force` in [clients[0]] has no effect"),
        ("transport = 5", "a name or a list of names"),
        ("policy = 'auto'", "expected a"),
        ("trasnport = 'hls'", "did you mean `transport`?"),
    ] {
        refused(
            &format!("[[clients]]\nmatch = {{}}\n{text}"),
            "sluice.toml:3:",
            &[what],
        );
    }
    refused(
        "[[clients]]\ntransport = 'hls'",
        "sluice.toml:1:",
        &["`match` is missing"],
    );
    refused(
        "[policy]\nplugin = ''",
        "sluice.toml:2:",
        &["is empty; write \"auto\""],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Config::load(Path::new("/nowhere/sluice.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read the config /nowhere/sluice.toml: "),
        "{error}"
    );
    let dir = std::env::temp_dir().join(format!("sluicegate-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("bad.toml");
    std::fs::write(&file, b"# ok\n# \xff\n").unwrap();
    let latin = Config::load(&file).unwrap_err().to_string();
    std::fs::write(&file, vec![b'#'; MAX_FILE as usize + 1]).unwrap();
    let large = Config::load(&file).unwrap_err().to_string();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(
        latin.ends_with("line 2 is not UTF-8; save the file as UTF-8"),
        "{latin}"
    );
    assert!(large.ends_with("it is larger than 1MiB"), "{large}");
}

#[test]
fn every_example_is_a_config() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/config");
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(!config.shows_nothing(), "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 4);
}

#[test]
fn a_stream_is_read_from_json_with_all_checks_of_the_file() {
    let read = |name: &str, keys: serde_json::Value| Stream::from_json(name, &keys);
    let keys = json!({ "source": "rtsp://cam/\u{7f}1", "idle": "30s", "renditions": { "a": { "width": 640 } } });
    let stream = read("front door", keys).unwrap();
    assert_eq!(stream.source.expose(), "rtsp://cam/\u{7f}1");
    assert_eq!(stream.renditions["a"].width, Some(640));
    for (name, keys, what) in [
        ("a/b", json!({ "source": "x" }), "not a valid stream name"),
        ("a", json!({}), "`source` is missing in [streams.a]"),
        (
            "a",
            json!({ "source": "x", "soruce": 1 }),
            "did you mean `source`",
        ),
        (
            "a",
            json!({ "source": "x", "encode": { "width": null } }),
            "`encode.width` is null",
        ),
        (
            "a",
            json!({ "source": "x", "idle": "5" }),
            "`idle` in [streams.a]",
        ),
        (
            "a",
            json!({ "source": "x", "encode": { "width": 3 }, "every": "0s" }),
            "\n",
        ),
        ("a", json!(7), "expected a table"),
    ] {
        let told = read(name, keys).unwrap_err();
        assert!(told.contains(what), "{told}");
    }
}

#[test]
fn the_place_of_a_key_is_found_and_a_copy_says_the_same() {
    let text = "[streams.a]\nsource = 'x'\n\n[[clients]]\nmatch = {}\n[[clients]]\nmatch = { client = 'x' }\n";
    let config = parse(text).unwrap();
    for (path, place) in [
        (&["streams", "a", "source"][..], Some("sluice.toml:2:1")),
        (&["streams", "a", "idle"], Some("sluice.toml:1:10")),
        (&["clients", "1", "match"], Some("sluice.toml:7:1")),
        (&["policy"], None),
        (&[], None),
    ] {
        assert_eq!(config.place(path).as_deref(), place, "{path:?}");
    }
    assert_eq!(config, parse(&text.replace("'x'", "\"x\"")).unwrap());
    assert_eq!(config.stream_keys()["a"], json!({ "source": "x" }));
    assert!(!format!("{config:?}").contains("[[clients]]"));
}
