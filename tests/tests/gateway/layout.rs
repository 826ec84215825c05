//! Import rules of the code map in ARCHITECTURE.md: crates depend only on those below them, which Cargo keeps free of
//! cycles and the manifests keep in order; the same within crates that have several layers; and which files are pure.

use sluicegate_tests::Gateway;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The crates below `host`, bottom up: each depends only on earlier ones.
const CRATES: [&str; 13] = [
    "telemetry",
    "media",
    "config",
    "accounts",
    "viewer",
    "net",
    "codec",
    "source",
    "stream",
    "capture",
    "plugin",
    "kit",
    "gateway",
];

/// Modules of one crate, bottom up: each imports only from earlier ones.
const LAYERS: [(&str, &[&str]); 2] = [
    ("net", &["auth", "tls", "websocket"]),
    ("gateway", &["session", "gateway", "api"]),
];

/// Files that take input and time and return output.
const PURE: [&str; 42] = [
    "media/src",
    "accounts/src/external.rs",
    "accounts/src/identity.rs",
    "accounts/src/jwt",
    "accounts/src/jwt.rs",
    "accounts/src/session.rs",
    "accounts/src/throttle.rs",
    "accounts/src/ticket.rs",
    "accounts/src/used.rs",
    "accounts/src/verified.rs",
    "net/src/auth",
    "gateway/src/api/routes.rs",
    "capture/src/request.rs",
    "net/src/quic/losses.rs",
    "net/src/quic/rate.rs",
    "net/src/websocket/frame.rs",
    "net/src/webtransport/datagrams.rs",
    "net/src/webtransport/streams.rs",
    "plugin/src/muxer/health.rs",
    "gateway/src/session/redirect_target.rs",
    "gateway/src/session/rules.rs",
    "source/src/android/list.rs",
    "source/src/android/name.rs",
    "source/src/android/scrcpy.rs",
    "source/src/android/shell.rs",
    "source/src/camera/choice.rs",
    "source/src/http/url.rs",
    "source/src/interleave.rs",
    "source/src/mjpeg/reader.rs",
    "source/src/spec.rs",
    "stream/src/ingest.rs",
    "stream/src/ingest/in_band.rs",
    "stream/src/ingest/presentation_order.rs",
    "stream/src/ingest/tracks.rs",
    "stream/src/ring.rs",
    "telemetry/src/backoff.rs",
    "telemetry/src/exposition.rs",
    "telemetry/src/histogram.rs",
    "telemetry/src/rate_limit.rs",
    "telemetry/src/sequence.rs",
    "viewer/src/piece.rs",
    "viewer/src/item.rs",
];

/// What pure code must not use.
const IMPURE: [&str; 7] = [
    "tokio::",
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::thread",
    "TcpStream",
    "UdpSocket",
];

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries
        .flat_map(|entry| files(&entry.unwrap().path()))
        .collect()
}

/// Source of a file without tests and comments, which are exempt.
fn code(path: &Path) -> String {
    if path.ends_with("tests.rs") {
        return String::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let text = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .fold(String::new(), |all, line| all + line + "\n")
}

fn sources() -> PathBuf {
    Gateway::root().join("host")
}

/// Names after `crate::` in a file, including those in braces.
fn imports(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let name = |text: &str| {
            text.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        };
        let Some(inner) = rest.strip_prefix('{') else {
            names.push(name(rest));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                c if start && depth == 0 && c.is_alphabetic() => {
                    names.push(name(&inner[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn every_crate_depends_on_those_below_it_only() {
    let mut wrong = Vec::new();
    for (place, name) in CRATES.into_iter().enumerate() {
        let manifest = fs::read_to_string(sources().join(name).join("Cargo.toml")).unwrap();
        for above in &CRATES[place..] {
            if [".", " "]
                .iter()
                .any(|end| manifest.contains(&format!("\nsluicegate-{above}{end}")))
            {
                wrong.push(format!("host/{name} depends on host/{above}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for entry in fs::read_dir(sources()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        // The helper program that opens devices shares no code with the gateway.
        assert!(
            name == "devices" || CRATES.contains(&name.as_str()),
            "host/{name} has no place in the order"
        );
    }
}

#[test]
fn no_module_imports_from_one_that_stands_above_it() {
    let mut wrong = Vec::new();
    for (name, layers) in LAYERS {
        for (place, module) in layers.iter().enumerate() {
            for file in files(&sources().join(name).join("src").join(module)) {
                for import in imports(&code(&file)) {
                    if layers[place + 1..].contains(&import.as_str()) {
                        wrong.push(format!("{} imports {import}", file.display()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_parts_do_no_io_and_read_no_clock() {
    let mut wrong = Vec::new();
    for part in PURE {
        for file in files(&sources().join(part)) {
            let code = code(&file);
            wrong.extend(
                IMPURE
                    .iter()
                    .filter(|word| code.contains(*word))
                    .map(|word| format!("{} uses {word}", file.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
