//! The order of the rooms: what the code map in ARCHITECTURE.md promises about imports.

use sluicegate_tests::Gateway;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the ground up: a module imports from those before it only.
const ORDER: [&str; 13] = [
    "media", "config", "auth", "codec", "source", "stream", "capture", "viewer", "plugin",
    "session", "carrier", "gateway", "api",
];

/// Files that take input and time and give output.
const PURE: [&str; 25] = [
    "media",
    "auth",
    "api/routes.rs",
    "capture/wish.rs",
    "carrier/websocket/frame.rs",
    "plugin/muxer/health.rs",
    "session/plain.rs",
    "session/rules.rs",
    "source/android/list.rs",
    "source/android/name.rs",
    "source/android/scrcpy.rs",
    "source/android/shell.rs",
    "source/camera/choice.rs",
    "source/http/url.rs",
    "source/interleave.rs",
    "source/mjpeg/reader.rs",
    "source/spec.rs",
    "stream/ingest.rs",
    "stream/ingest/in_band.rs",
    "stream/ingest/presentation_order.rs",
    "stream/ingest/tracks.rs",
    "stream/ring.rs",
    "telemetry/exposition.rs",
    "telemetry/histogram.rs",
    "viewer/wire.rs",
];

/// What pure code has no use for.
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

/// A file without its tests and comments, which may do as they like.
fn code(path: &Path) -> String {
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
    Gateway::root().join("host/src")
}

/// The names behind `crate::` in a file, those in braces too.
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
fn no_module_imports_from_one_that_stands_above_it() {
    let mut wrong = Vec::new();
    // Everybody may log and count, so telemetry stands below all of them.
    let telemetry = ["telemetry"].into_iter().map(|module| (None, module));
    let others = ORDER.into_iter().enumerate();
    for (place, module) in telemetry.chain(others.map(|(place, module)| (Some(place), module))) {
        for file in files(&sources().join(module)) {
            for import in imports(&code(&file)) {
                let at = ORDER.iter().position(|known| *known == import);
                if at.is_some() && at > place {
                    wrong.push(format!("{} imports {import}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_has_its_place_in_the_order() {
    for entry in fs::read_dir(sources()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(
            path.is_file() || name == "telemetry" || ORDER.contains(&name.as_str()),
            "{name} is not in the order"
        );
    }
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
