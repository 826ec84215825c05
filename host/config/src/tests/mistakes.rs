//! The messages for mistakes in a config file, with their positions.

use super::*;

#[test]
fn an_error_shows_the_line_and_underlines_the_place() {
    let text =
        "[streams.porch]\nsource = \"test-pattern\"\n[streams.porch.encode]\nbitrat = \"1M\"\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "sluice.toml:4:1: unknown key `bitrat` in [streams.porch.encode]; did you mean `bitrate`? known keys: \
         `width`, `height`, `frame-rate`, `bitrate`, `keyframe-interval`, `encoder`\n  |\n4 | bitrat = \"1M\"\n  | ^^^^^^"
    );
}

#[test]
fn an_unknown_key_names_its_table_the_nearest_and_all_known_keys() {
    for (text, start, parts) in [
        (
            "[sever]",
            "sluice.toml:1:2: unknown key `sever` in the top level",
            &["did you mean `server`?", "`streams`"][..],
        ),
        (
            "[server]\nListen = 1",
            "sluice.toml:2:1: unknown key `Listen` in [server]",
            &["did you mean `listen`?"],
        ),
        (
            "[server]\ntrusted_proxies = 1",
            "sluice.toml:2:1: unknown key",
            &["did you mean `trusted-proxies`?"],
        ),
        (
            "[server]\nzzz = 1",
            "sluice.toml:2:1: unknown key `zzz` in [server]; known keys: `listen`, `base-path`, `names`",
            &[],
        ),
        (
            "[streams.'a b']\nsorce = 'x'",
            "sluice.toml:2:1: unknown key `sorce` in [streams.\"a b\"]",
            &["`source`?"],
        ),
        (
            "[streams.a]\nsource='x'\nencode = { widht = 1 }",
            "sluice.toml:3:12: unknown key `widht` in [streams.a.encode]",
            &["`width`?"],
        ),
        (
            "streams.a.source = 'x'\nstreams.a.encode.widht = 1",
            "sluice.toml:2:18: unknown key `widht` in [streams.a.encode]",
            &[],
        ),
        (
            "[transports.x.limits]\nmem = '1MiB'",
            "sluice.toml:2:1: unknown key `mem` in [transports.x.limits]",
            &["`memory`"],
        ),
        (
            "[[clients]]\nmatch = { netwrk = '::/0' }",
            "sluice.toml:2:11: unknown key `netwrk` in [clients[0].match]",
            &["`network`?"],
        ),
        ("\u{feff}[server]\r\nüüü = 1\r\n", "sluice.toml:2:", &[]),
    ] {
        refused(text, start, parts);
    }
}

#[test]
fn a_value_of_the_wrong_kind_says_what_was_found_and_what_to_write() {
    for (text, start, parts) in [
        (
            "[server]\nopen = 1",
            "sluice.toml:2:8: `open` in [server]: found integer `1`, expected true or false",
            &[][..],
        ),
        (
            "[server]\norigins = ['https://a', 5]",
            "sluice.toml:2:25: item 2 of `origins` in [server]: found integer `5`",
            &["https://home.example"],
        ),
        (
            "[server]\norigins = 'https://a'",
            "sluice.toml:2:11: `origins` in [server]: found string",
            &["a list in [ ]"],
        ),
        (
            "server = 1",
            "sluice.toml:1:10: `server`: found integer `1`, expected a table",
            &[],
        ),
        (
            "[streams]\na = 'rtsp://x'",
            "sluice.toml:2:5: `a` in [streams]: found string",
            &["{ source ="],
        ),
        (
            "[[streams]]\nsource = 'x'",
            "sluice.toml:1:1: `streams`: found sequence, expected a table",
            &[],
        ),
        (
            "[transports]\nhls = 'x.wasm'",
            "sluice.toml:2:7: `hls` in [transports]: found string",
            &["{ plugin ="],
        ),
        (
            "[streams.a]\nsource = 'x'\nencode = { frame-rate = 29.97 }",
            "sluice.toml:3:25: `frame-rate` in",
            &["a whole number"],
        ),
        (
            "[streams.a]\nsource = 'x'\nencode = { width = -2 }",
            "sluice.toml:3:20: `width` in",
            &["a whole number"],
        ),
        (
            "[streams.a]\nidle = '1s'",
            "sluice.toml:1:1: `source` is missing in [streams.a]; write e.g.",
            &[],
        ),
        (
            "streams.a = { }",
            "sluice.toml:1:13: `source` is missing in [streams.a]",
            &[],
        ),
        (
            "[streams.a.encode]\nwidth = 64",
            "sluice.toml:1:",
            &["`source` is missing in [streams.a]"],
        ),
        (
            "[transports.x]\nratio = nan",
            "sluice.toml:2:9: `ratio` in [transports.x]: NaN cannot be passed",
            &["JSON"],
        ),
        (
            "[transports.x]\nlist = [1, { a = inf }]",
            "sluice.toml:2:",
            &["in [transports.x]: inf cannot"],
        ),
    ] {
        refused(text, start, parts);
    }
}

#[test]
fn a_bad_unit_says_what_to_write() {
    let stream = "[streams.a]\nsource = 'x'\n";
    for (line, start, parts) in [
        (
            "idle = 10",
            "sluice.toml:3:8: `idle` in [streams.a]: found integer `10`, expected a duration",
            &["\"10s\""][..],
        ),
        (
            "idle = 1.5",
            "sluice.toml:3:8: `idle` in [streams.a]: found floating point `1.5`, expected a duration",
            &[],
        ),
        (
            "idle = '2 parsecs'",
            "sluice.toml:3:8: `idle` in [streams.a]: `2 parsecs` is not a duration: the unit `parsecs` is not known",
            &[],
        ),
        (
            "encode.bitrate = '1MB'",
            "sluice.toml:3:18: `bitrate` in [streams.a.encode]: `1MB` is not a bit rate",
            &["bits per second"],
        ),
        (
            "encode.bitrate = 1000000",
            "sluice.toml:3:18: `bitrate` in [streams.a.encode]: found integer `1000000`, expected a bit rate",
            &[],
        ),
    ] {
        refused(&format!("{stream}{line}\n"), start, parts);
    }
    refused(
        "[transports.x]\nlimits = { memory = 32 }",
        "sluice.toml:2:21: `memory` in [transports.x.limits]",
        &["32MiB"],
    );
}

#[test]
fn a_value_out_of_range_says_the_range() {
    for (encode, what) in [
        (
            "width = 641",
            "`width` in [streams.a.encode]: 641 is not a valid size",
        ),
        (
            "height = 0",
            "`height` in [streams.a.encode]: 0 is not a valid size",
        ),
        ("width = 10000", "an even number from 64 to 8192"),
        ("frame-rate = 0", "write 1 to 240"),
        (
            "bitrate = '1k'",
            "`bitrate` in [streams.a.encode]: 1k bit/s is out of range",
        ),
        (
            "keyframe-interval = '0s'",
            "0s is out of range; write \"100ms\" to \"1m\"",
        ),
        (
            "encoder = 'x264'",
            "`encoder` in [streams.a.encode]: `x264` is not a known encoder; write one of h264_amf, h264_nvenc, h264_qsv, h264_vaapi, h264_v4l2m2m, libx264",
        ),
    ] {
        let text = format!("[streams.a]\nsource = 'x'\nencode = {{ {encode} }}");
        refused(&text, "sluice.toml:3:", &[what]);
    }
    for (limits, what) in [
        ("memory = '1KiB'", "\"1MiB\" to \"4GiB\""),
        ("call = '0ms'", "\"1ms\" to \"10s\""),
    ] {
        let text = format!("[transports.x]\nlimits = {{ {limits} }}");
        refused(&text, "sluice.toml:2:", &[what]);
    }
    refused(
        "[transports.x]\nplugin = ''",
        "sluice.toml:2:10: `plugin` in [transports.x] is empty",
        &[".wasm"],
    );
    refused(
        "[streams.x]\nsource = ''",
        "sluice.toml:2:10: `source` in [streams.x] is empty",
        &["test-pattern"],
    );
}

#[test]
fn a_repeated_key_is_refused() {
    refused(
        "[server]\nopen = true\nopen = false",
        "sluice.toml:3:1: `open` is written twice; keep one of the two",
        &["3 | open = false\n  | ^^^^"],
    );
    refused(
        "[server]\n[server]",
        "sluice.toml:2:2: `server` is written twice",
        &[],
    );
}

#[test]
fn what_is_not_toml_says_where() {
    refused(
        "[server]\nopen = yes",
        "sluice.toml:2:8: this is not TOML: string values must be quoted",
        &["^^^"],
    );
    refused(
        "[server\nopen = true",
        "sluice.toml:1:8: this is not TOML: unclosed table",
        &["| [server\n  |        ^"],
    );
    refused("a = '''\nfoo", "sluice.toml:2:4: this is not TOML:", &[]);
    let deep = format!("a = {}", "[".repeat(100_000));
    refused(&deep, "sluice.toml:1:", &[]);
}

#[test]
fn an_error_does_not_show_credentials() {
    let text = "[streams.a]\nsource = 'rtsp://admin:se@cret@camera/1'\nsource = 'x'\n";
    assert!(!refused(text, "sluice.toml:3", &[]).contains("cret"));
    for text in [
        "[streams]\na = 'rtsp://admin:secret@camera/1'",
        "[streams.a]\nidle = 'rtsp://admin:secret@camera/1'",
        "streams.a = { source = 'rtsp://admin:secret@camera/1', idle = 5 }",
    ] {
        let error = refused(text, "sluice.toml:", &["@camera"]);
        assert!(
            !error.contains("secret") && !error.contains("admin"),
            "{error}"
        );
    }
}

#[test]
fn a_long_line_is_shown_around_the_place() {
    let text = format!(
        "[server]\nnames = [{}5]",
        "\"cam.home.example\", ".repeat(100)
    );
    let error = refused(&text, "sluice.toml:2:2010:", &[]);
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[2].chars().nth(lines[3].find('^').unwrap()), Some('5'));
    assert!(
        error.lines().skip(1).all(|line| line.len() < 120),
        "{error}"
    );
}

#[test]
fn columns_count_characters_and_tabs_stay_aligned() {
    let error = refused(
        "[server]\n\tnames = ['ü'] # ö\n",
        "sluice.toml:2:",
        &["`ü` is not a valid host name"],
    );
    let lines: Vec<Vec<char>> = error.lines().map(|line| line.chars().collect()).collect();
    let mark = lines[3].iter().position(|c| *c == '^').unwrap();
    assert_eq!(lines[2][mark + 1], 'ü');
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\[(server|streams\\.[a-zü'\" ]{0,4}|transports\\.x|capture)\\]\r?\n|(listen|source|idle|names|tls|encode|limits|x) ?= ?['\"\\[{0-9a-zü:/@.]{0,12}['\"\\]}]?\n){0,6}") {
        if let Err(error) = parse(&text) {
            proptest::prop_assert!(error.to_string().starts_with("sluice.toml:"));
        }
    }
}

#[test]
fn mistakes_are_reported_in_file_order_without_consequential_ones() {
    let text = r#"
[server]
listen = "nowhere"
connections = 0
lsten = 1
origins = ["https://good.example", "bad", "https://fine.example", "worse"]

[streams.porch]
sorce = "test-pattern"
idle = "10"
encode = { width = 3, height = 5, frame-rate = "x" }

[streams."a/b"]
source = 5
always-on = true
idle = "1s"
renditions.small = { width = 1 }

[streams.empty]

[transports.hls]
wasi = true
limits = { memory = "1KiB", call = "1h" }

[[clients]]
match = { netwrk = "::/0" }

[[clients]]
match = {}
force = true
"#;
    let error = parse(text).unwrap_err();
    let Error::Invalid(Mistakes { found, rest }) = error else {
        panic!("{error}")
    };
    let told: Vec<(usize, &str)> = found
        .iter()
        .map(|invalid| (invalid.line, invalid.message.as_str()))
        .collect();
    let expected = [
        (3, "`listen` in [server]: `nowhere`"),
        (4, "`connections` in [server]: 0 is out of range"),
        (5, "unknown key `lsten` in [server]"),
        (6, "item 2 of `origins` in [server]"),
        (6, "item 4 of `origins` in [server]"),
        (9, "unknown key `sorce` in [streams.porch]"),
        (10, "`idle` in [streams.porch]"),
        (11, "`width` in [streams.porch.encode]: 3"),
        (11, "`height` in [streams.porch.encode]: 5"),
        (11, "`frame-rate` in [streams.porch.encode]"),
        (13, "`a/b` in [streams] is not a valid stream name"),
        (14, "`source` in [streams.\"a/b\"]: found integer `5`"),
        (16, "`idle` in [streams.\"a/b\"] has no effect"),
        (17, "`width` in [streams.\"a/b\".renditions.small]: 1"),
        (19, "`source` is missing in [streams.empty]"),
        (
            22,
            "`wasi` in [transports.hls] is not supported in this version",
        ),
        (23, "`memory` in [transports.hls.limits]"),
        (23, "`call` in [transports.hls.limits]"),
        (26, "unknown key `netwrk` in [clients[0].match]"),
        (30, "`force` in [clients[1]] has no effect"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for ((line, message), (expected_line, start)) in told.iter().zip(expected) {
        assert_eq!(*line, expected_line, "{message}");
        assert!(message.starts_with(start), "{message}\n{start}");
    }
    // What remains without the mistakes is a valid config.
    let rest = rest.unwrap();
    assert_eq!(rest.server.listen, Config::default().server.listen);
    assert!(rest.streams.contains_key("porch") && !rest.streams.contains_key("a/b"));
    assert_eq!(rest.server.origins.len(), 2);
}

#[test]
fn no_more_than_the_maximum_of_mistakes_is_reported() {
    let text: String = (0..200).map(|nth| format!("key-{nth} = 1\n")).collect();
    let Error::Invalid(mistakes) = parse(&text).unwrap_err() else {
        panic!("other")
    };
    assert_eq!(mistakes.found.len(), 50);
    assert!(mistakes.rest.is_none());
}

#[test]
fn each_line_that_is_not_toml_is_reported_once() {
    let text = "[server]\nlisten = 1\nlisten = 2\n[streams.a]\nsource = x y\nidle = 5 5\nwidth 6\n";
    let Error::Invalid(mistakes) = parse(text).unwrap_err() else {
        panic!("other")
    };
    let lines: Vec<usize> = mistakes.found.iter().map(|invalid| invalid.line).collect();
    assert_eq!(lines, [3, 5, 6, 7], "{mistakes}");
}
