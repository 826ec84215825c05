//! `[android]`: the adb server, the user's scrcpy-server, which devices become streams, and how they are encoded.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::document::{Problem, Step};
use super::encode::Check;
use super::{BitRate, Span, Stream, text};

/// Largest scrcpy-server that is pushed to a device, in bytes; upstream's are about 100 KB.
pub const MAX_SCRCPY_SERVER_BYTES: u64 = 16 << 20;

/// `[android]`: mirroring of Android devices.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Android {
    /// `HOST:PORT` of the adb server. The gateway does not start one. Default `127.0.0.1:5037`.
    #[serde(deserialize_with = "address")]
    pub adb: String,
    /// Path of the scrcpy-server to run on devices. Relative paths are resolved against the config file's directory
    /// when [`Config::parse`](super::Config::parse) returns. Default: none; then devices are listed but cannot be
    /// watched.
    pub server: Option<PathBuf>,
    /// Version of the scrcpy-server, a string. Default: taken from the file's name, such as `scrcpy-server-v3.3.4`;
    /// required if the name does not contain it.
    pub version: Option<ScrcpyVersion>,
    /// Boolean: whether scrcpy sends frame times and boundaries; if `false`, `raw_stream` is used and frames get their
    /// arrival times. Default `true`.
    pub metadata: bool,
    /// Boolean: whether a device whose screen is off is woken, as by its power key, when somebody starts watching.
    /// Default `false`.
    pub wake: bool,
    /// Boolean: whether every attached and allowed device becomes a stream; if `false`, only devices that a stream
    /// names. Default `true`.
    pub discover: bool,
    /// List of serials that become streams; `*` matches any characters. Devices that a stream names need no entry.
    /// Default `["*"]`.
    pub allow: Vec<String>,
    /// List of serials that do not become streams, even if `allow` matches them. Default: none.
    pub deny: Vec<String>,
    /// Largest number of discovered devices that are known, including detached ones, 1 to 4096. A new device replaces
    /// the unused one that has been detached for longest. Default 256.
    pub max_devices: usize,
    /// Duration that a discovered device keeps running after its last user. Default 10 s.
    pub idle: Span,
    /// Largest length of the longer side in pixels: an integer, 64 to 8192. Default 1280.
    pub max_size: u32,
    /// Largest number of frames per second: an integer, 1 to 240. Default 30.
    pub frame_rate: u32,
    /// Average bit rate, 16 kbit/s to 200 Mbit/s. Default 4 Mbit/s.
    pub bitrate: BitRate,
    /// Duration between keyframes, 100 ms to 1 min. Default 2 s.
    pub keyframe_interval: Span,
    /// `[android.devices."SERIAL"]`: settings that differ for one device, by serial. Default: none.
    pub devices: BTreeMap<String, AndroidDevice>,
}

/// `[android.devices."SERIAL"]`. Missing keys are as in `[android]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table such as { max-size = 800, bitrate = \"1M\" }"
)]
pub struct AndroidDevice {
    /// Longer side in pixels, as [`Android::max_size`].
    pub max_size: Option<u32>,
    /// Frames per second, as [`Android::frame_rate`].
    pub frame_rate: Option<u32>,
    /// Average bit rate, as [`Android::bitrate`].
    pub bitrate: Option<BitRate>,
    /// Duration between keyframes, as [`Android::keyframe_interval`].
    pub keyframe_interval: Option<Span>,
    /// Duration, as [`Android::idle`].
    pub idle: Option<Span>,
}

/// Settings for the encoder of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirror {
    /// Largest length of the longer side in pixels.
    pub max_size: u32,
    /// Largest number of frames per second.
    pub frame_rate: u32,
    /// Average bit rate.
    pub bitrate: BitRate,
    /// Duration between keyframes.
    pub keyframe_interval: Span,
}

impl Android {
    /// The encoder settings of the device with this serial.
    pub fn mirror(&self, serial: &str) -> Mirror {
        let own = self.devices.get(serial).copied().unwrap_or_default();
        Mirror {
            max_size: own.max_size.unwrap_or(self.max_size),
            frame_rate: own.frame_rate.unwrap_or(self.frame_rate),
            bitrate: own.bitrate.unwrap_or(self.bitrate),
            keyframe_interval: own.keyframe_interval.unwrap_or(self.keyframe_interval),
        }
    }

    /// The stream of a discovered device, one that no stream in the config names.
    pub fn stream(&self, serial: &str) -> Stream {
        let own = self.devices.get(serial).and_then(|device| device.idle);
        Stream {
            source: format!("android:{serial}").into(),
            idle: own.unwrap_or(self.idle),
            ..Stream::default()
        }
    }

    /// Whether a device that no stream names may become a stream.
    pub fn allows(&self, serial: &str) -> bool {
        let among = |patterns: &[String]| {
            patterns
                .iter()
                .any(|pattern| matches_pattern(pattern, serial))
        };
        among(&self.allow) && !among(&self.deny)
    }

    /// The version of [`Android::server`], as configured or taken from the file's name.
    pub fn scrcpy(&self) -> Option<ScrcpyVersion> {
        let named = || version_in(self.server.as_deref()?)?.parse().ok();
        self.version.clone().or_else(named)
    }

    /// Resolves a relative path against `dir`.
    pub(super) fn resolve(&mut self, dir: &Path) {
        self.server = self.server.take().map(|server| dir.join(server));
    }

    pub(super) fn check(&self, path: &[Step]) -> Result<(), Problem> {
        let at = |key: &str| [path, &[key.into()]].concat();
        if let Some(server) = &self.server
            && self.version.is_none()
        {
            let named = version_in(server).ok_or_else(|| {
                "has no version in its file name, as scrcpy-server-v3.3.4 has; add e.g. version = \"3.3.4\"".to_owned()
            });
            named
                .and_then(str::parse::<ScrcpyVersion>)
                .map_err(|what| Problem::value(at("server"), what))?;
        }
        for (key, patterns) in [("allow", &self.allow), ("deny", &self.deny)] {
            if let Some(index) = patterns.iter().position(String::is_empty) {
                let what =
                    "is empty; write a serial as `adb devices` shows it, with * for anything";
                let path = [&at(key)[..], &[Step::Index(index)]].concat();
                return Err(Problem::value(path, what));
            }
        }
        if !(1..=4096).contains(&self.max_devices) {
            let what = format!("{} is out of range; write 1 to 4096", self.max_devices);
            return Err(Problem::value(at("max-devices"), what));
        }
        Check(path)
            .longer_side("max-size", self.max_size)?
            .frame_rate(self.frame_rate)?
            .bitrate(self.bitrate)?
            .keyframe_interval(self.keyframe_interval)?;
        for (serial, device) in &self.devices {
            let path = [path, &["devices".into(), serial.into()]].concat();
            let check = Check(&path);
            device
                .max_size
                .map_or(Ok(&check), |size| check.longer_side("max-size", size))?;
            device
                .frame_rate
                .map_or(Ok(&check), |rate| check.frame_rate(rate))?;
            device
                .bitrate
                .map_or(Ok(&check), |rate| check.bitrate(rate))?;
            device
                .keyframe_interval
                .map_or(Ok(()), |interval| check.keyframe_interval(interval))?;
        }
        Ok(())
    }

    /// Checks that the scrcpy-server can be read; the only check here that accesses the file system.
    pub(super) fn check_server_file(&self) -> Result<(), Problem> {
        let Some(server) = &self.server else {
            return Ok(());
        };
        let read = File::open(server).and_then(|file| file.metadata());
        let found = read.and_then(|found| match found.len() {
            _ if !found.is_file() => Err(io::Error::other("it is not a regular file")),
            0 => Err(io::Error::other("it is empty")),
            size if size > MAX_SCRCPY_SERVER_BYTES => {
                Err(io::Error::other("it is larger than 16 MiB"))
            }
            _ => Ok(()),
        });
        found.map_err(|error| {
            let what = format!(
                "{} cannot be read: {error}; name the file scrcpy-server-v… of https://github.com/Genymobile/scrcpy/releases, \
                 or the scrcpy-server that your distribution's scrcpy has, with its version",
                server.display()
            );
            Problem::value(vec!["android".into(), "server".into()], what)
        })
    }
}

impl Default for Android {
    fn default() -> Self {
        Self {
            adb: "127.0.0.1:5037".into(),
            server: None,
            version: None,
            metadata: true,
            wake: false,
            discover: true,
            allow: vec!["*".into()],
            deny: Vec::new(),
            max_devices: 256,
            idle: Stream::IDLE,
            max_size: 1280,
            frame_rate: 30,
            bitrate: BitRate::from_bits_per_second(4_000_000),
            keyframe_interval: Span::from_duration(Duration::from_secs(2)),
            devices: BTreeMap::new(),
        }
    }
}

/// A version of scrcpy, 2.0 or newer, such as `"3.3.4"`. The server refuses to start unless it is given exactly its
/// own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrcpyVersion {
    text: String,
    /// Major and minor number.
    numbers: (u32, u32),
}

impl ScrcpyVersion {
    /// Major and minor number.
    pub fn numbers(&self) -> (u32, u32) {
        self.numbers
    }
}

impl fmt::Display for ScrcpyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ScrcpyVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split('.').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u32>().ok()).flatten()
        });
        let parts: Option<Vec<u32>> = parts.collect();
        let (major, minor) = match parts.as_deref() {
            Some([major, minor] | [major, minor, _]) => (*major, *minor),
            _ => {
                let shown: String = text.chars().take(40).collect();
                return Err(format!(
                    "`{shown}` is not a version of scrcpy; write e.g. \"3.3.4\""
                ));
            }
        };
        if major < 2 {
            return Err(format!(
                "scrcpy {text} uses another protocol; take 2.0 or newer, e.g. scrcpy-server-v3.3.4"
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            numbers: (major, minor),
        })
    }
}

impl<'de> Deserialize<'de> for ScrcpyVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expecting = "a version of scrcpy such as \"3.3.4\"";
        text::parse(deserializer, expecting, str::parse)
    }
}

/// Extracts `3.3.4` from `scrcpy-server-v3.3.4` and `scrcpy-server-v3.3.4.jar`.
fn version_in(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let (_, rest) = name.rsplit_once("-v")?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    let version = rest.get(..end)?.trim_end_matches('.');
    (!version.is_empty()).then_some(version)
}

/// Whether `text` matches `pattern`, in which `*` matches any characters.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let expecting = "where the adb server listens, e.g. \"127.0.0.1:5037\"";
    text::parse(deserializer, expecting, |text| {
        let good = text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        match good {
            true => Ok(text.to_owned()),
            false => {
                let shown: String = text.chars().take(60).collect();
                Err(format!(
                    "`{shown}` is not a valid address; write HOST:PORT, as in \"127.0.0.1:5037\""
                ))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_pattern_may_have_stars_anywhere() {
        for (pattern, text, good) in [
            ("*", "", true),
            ("*", "R58M", true),
            ("R58M", "R58M", true),
            ("R58M", "R58MX", false),
            ("emulator-*", "emulator-5554", true),
            ("emulator-*", "xemulator-5554", false),
            ("*:5555", "192.168.0.7:5555", true),
            ("192.*:5555", "192.168.0.7:5556", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches_pattern(pattern, text), good, "{pattern} {text}");
        }
    }

    #[test]
    fn a_version_is_two_or_three_numbers_from_two_on() {
        for (text, numbers) in [("2.0", (2, 0)), ("3.3.4", (3, 3)), ("4.1", (4, 1))] {
            let version: ScrcpyVersion = text.parse().unwrap();
            assert_eq!(
                (version.to_string().as_str(), version.numbers()),
                (text, numbers)
            );
        }
        for text in ["", "3", "v3.3", "3.x", "3.3.4.5", "1.25", "+3.1", "3."] {
            assert!(text.parse::<ScrcpyVersion>().is_err(), "{text}");
        }
        for (name, version) in [
            ("scrcpy-server-v3.3.4", Some("3.3.4")),
            ("/opt/scrcpy-server-v2.0.jar", Some("2.0")),
            ("scrcpy-server", None),
            ("scrcpy-server.jar", None),
            ("scrcpy-server-vX", None),
        ] {
            assert_eq!(version_in(Path::new(name)), version, "{name}");
        }
    }
}
