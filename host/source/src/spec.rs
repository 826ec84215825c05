//! Parses source strings: `test-pattern`, `file:PATH`, URLs, `v4l2:…`, `screen:…`, `annexb:…`, `android:…`.
//!
//! Nothing is opened here. Mistakes that people make (a device path without its scheme, an address without a URL, a
//! misspelled scheme) get a message that says what to write. `Display` never shows secrets, see [`Source`].

mod remote;

pub use remote::RemoteError;

use super::{android::stream_name, web};
use sluicegate_config::{Source, is_scheme, nearest};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// A parsed source string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// The generated test pattern.
    TestPattern,
    /// A file that libavformat demuxes, played in real time and looped.
    File(PathBuf),
    /// A URL: HTTP, RTSP, or anything else that libavformat opens over a network.
    Url(Source),
    /// A camera: path of a V4L2 device file.
    Camera(PathBuf),
    /// An X11 screen, or a part of it.
    Screen(Screen),
    /// A filter graph of libavfilter, for tests; the source as written, with `lavfi:`.
    Lavfi(Source),
    /// Raw Annex B from any sender that connects to this address.
    AnnexbListen(SocketAddr),
    /// Raw Annex B from a TCP server, `HOST:PORT`.
    AnnexbConnect(String),
    /// Raw Annex B from standard input.
    AnnexbStdin,
    /// An Android device, by its serial as `adb devices` shows it.
    Android(String),
}

/// The captured part of an X11 screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// X display, such as `:0`; default: the environment variable `DISPLAY`.
    pub display: Option<String>,
    /// Offset from the left and from the top in pixels.
    pub offset: (u32, u32),
    /// Width and height in pixels; default: the whole screen.
    pub size: Option<(u32, u32)>,
}

/// A source string that is not valid.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// Unknown kind of source.
    #[error(
        "`{0}` is not a source: write test-pattern, file:PATH, a URL such as rtsp://HOST/PATH, v4l2:/dev/video0, screen:, annexb:listen:PORT, annexb:tcp://HOST:PORT, annexb:- or android:SERIAL"
    )]
    Unknown(Source),
    /// Not a source, but with a probable meaning, which the message suggests.
    #[error("`{0}` is not a source; write {1}")]
    Suggestion(Source, String),
    /// An unknown scheme that resembles a known one.
    #[error("`{0}` is not a source: unknown scheme `{1}`; did you mean `{2}`?")]
    Scheme(Source, String, &'static str),
    /// A scheme that resembles no known one.
    #[error(
        "`{0}` is not a source: `{1}` is not a protocol that the gateway opens; write one of {known}, …",
        known = SCHEMES[..COMMON_SCHEMES].join(", ")
    )]
    UnknownScheme(Source, String),
    /// On the command line: neither a known kind of source nor an existing file.
    #[error(
        "there is no file `{0}`, and it is not another kind of source: write a file's path, test-pattern, a URL such as rtsp://HOST/PATH, v4l2:/dev/video0, screen:, annexb:listen:PORT, annexb:tcp://HOST:PORT, annexb:- or android:SERIAL"
    )]
    NoFile(Source),
    /// On the command line: a directory.
    #[error("`{0}` is a directory; name a file in it")]
    Folder(String),
    /// On the command line: a config file instead of a source.
    #[error("`{0}` is a config file, not a source: write sluicegate serve --config {0}")]
    Config(String),
    /// `android:` without a valid serial.
    #[error("`{0}`: write android: and the device's serial, as `adb devices` shows it")]
    Android(Source),
    /// `annexb:` without a valid address.
    #[error("`{0}`: write annexb: and listen:PORT, listen:ADDRESS:PORT, tcp://HOST:PORT or -")]
    Annexb(Source),
    /// `v4l2:` without a path.
    #[error(
        "`{0}`: write v4l2: and a camera's device, e.g. v4l2:/dev/video0; `sluicegate sources` lists the cameras"
    )]
    Camera(Source),
    /// `screen:` with something that is not a part of a screen.
    #[error(
        "`{0}`: write screen: alone, or with an X display such as :0; for a part of it add +X,Y and ?size=WIDTHxHEIGHT"
    )]
    Screen(Source),
    /// `lavfi:` without a filter graph.
    #[error("lavfi: needs a filter graph, e.g. lavfi:testsrc=size=640x360:rate=15")]
    NoGraph,
    /// An HTTP or RTSP URL with an invalid host or port.
    #[error(
        "`{0}`: write a host between :// and the path, optionally with a port from 1 to 65535, and an IPv6 address in brackets"
    )]
    Host(Source),
    /// A line break or another control character, which no source has, and which would be part of what is sent to a
    /// server.
    #[error("the source has a line break or another control character; remove it")]
    Control,
    /// `file:` without a path.
    #[error("file: needs a path, e.g. file:clips/garden.mp4")]
    NoPath,
}

/// URL schemes of cameras and servers that libavformat or the gateway itself opens, common ones first.
const SCHEMES: &[&str] = &[
    "rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp", "tls", "dtls",
    "rist", "ftp", "sftp", "srtp", "hls", "mms", "mmst", "mmsh", "rtmpe", "rtmpt", "rtmpte",
    "rtmpts", "sctp",
];
/// How many of [`SCHEMES`] a message names.
const COMMON_SCHEMES: usize = 10;

impl Spec {
    /// Parses a source string; relative paths are resolved against `dir`.
    pub fn parse(text: &str, dir: &Path) -> Result<Spec, SpecError> {
        if text.chars().any(char::is_control) {
            return Err(SpecError::Control);
        }
        if text == "test-pattern" {
            return Ok(Spec::TestPattern);
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(SpecError::NoPath)
            } else {
                Ok(Spec::File(dir.join(path)))
            };
        }
        if let Some(rest) = text.strip_prefix("annexb:") {
            return annexb(rest).ok_or_else(|| SpecError::Annexb(text.into()));
        }
        if let Some(path) = text.strip_prefix("v4l2:") {
            return match path {
                "" => Err(SpecError::Camera(text.into())),
                path => Ok(Spec::Camera(dir.join(path))),
            };
        }
        if let Some(rest) = text.strip_prefix("screen:") {
            let screen = screen(rest).map(Spec::Screen);
            return screen.ok_or_else(|| SpecError::Screen(text.into()));
        }
        if let Some(graph) = text.strip_prefix("lavfi:") {
            return match graph {
                "" => Err(SpecError::NoGraph),
                _ => Ok(Spec::Lavfi(text.into())),
            };
        }
        if let Some(serial) = text.strip_prefix("android:") {
            return match stream_name(serial) {
                Some(_) if !serial.contains(char::is_control) => Ok(Spec::Android(serial.into())),
                _ => Err(SpecError::Android(text.into())),
            };
        }
        match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) && !rest.is_empty() => {
                let (source, lower) = (Source::from(text), scheme.to_ascii_lowercase());
                match nearest(&lower, SCHEMES) {
                    None => Err(SpecError::UnknownScheme(source, lower)),
                    Some(known) if known != lower => Err(SpecError::Scheme(source, lower, known)),
                    _ if !web::has_host(&source) => Err(SpecError::Host(source)),
                    _ => Ok(Spec::Url(source)),
                }
            }
            _ => Err(match suggest(text) {
                Some(suggest) => SpecError::Suggestion(text.into(), suggest),
                None => SpecError::Unknown(text.into()),
            }),
        }
    }

    /// Parses a source on the command line: as [`Spec::parse`], but an existing path is a file.
    pub fn parse_argument(text: &str) -> Result<Spec, SpecError> {
        match Spec::parse(text, Path::new("")) {
            Err(SpecError::Unknown(_)) if text.ends_with(".toml") => {
                Err(SpecError::Config(text.into()))
            }
            Err(SpecError::Unknown(_)) if Path::new(text).is_dir() => {
                Err(SpecError::Folder(text.into()))
            }
            Err(SpecError::Unknown(_)) if Path::new(text).exists() => Ok(Spec::File(text.into())),
            Err(SpecError::Suggestion(..)) if Path::new(text).is_file() => {
                Ok(Spec::File(text.into()))
            }
            Err(SpecError::Unknown(_)) => Err(SpecError::NoFile(text.into())),
            parsed => parsed,
        }
    }

    /// The file or device that the source needs and that does not exist now. It may appear later; until then the source
    /// is retried.
    pub fn missing(&self) -> Option<&Path> {
        match self {
            Spec::File(path) | Spec::Camera(path) => {
                Some(path.as_path()).filter(|path| !path.exists())
            }
            _ => None,
        }
    }

    /// A default stream name for this source: the file's stem, the URL's host, the device's serial, otherwise its kind.
    pub fn default_name(&self) -> String {
        if let Spec::Android(serial) = self {
            return stream_name(serial).unwrap_or_else(|| "android".into());
        }
        let raw = match self {
            Spec::TestPattern => "demo".into(),
            Spec::File(path) => path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default(),
            Spec::Url(url) => url.host().unwrap_or_default().to_owned(),
            Spec::Camera(path) => path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            Spec::Screen(_) => "screen".into(),
            Spec::Lavfi(_) => "lavfi".into(),
            Spec::AnnexbListen(_) | Spec::AnnexbConnect(_) | Spec::AnnexbStdin => "annexb".into(),
            Spec::Android(_) => "android".into(),
        };
        let name: String = raw
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .take(64)
            .collect();
        let name = name.trim_matches(['.', '-']);
        if name.is_empty() {
            "stream".into()
        } else {
            name.into()
        }
    }

    /// Removes the source's secrets from a text about it, such as an error message of a library.
    pub fn scrub(&self, said: &str) -> String {
        match self {
            Spec::Url(source) | Spec::Lavfi(source) => source.scrub(said),
            _ => said.to_owned(),
        }
    }
}

/// Without secrets, see [`Source`].
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spec::TestPattern => f.write_str("test-pattern"),
            // Without a directory before it, the path may still be a URL to libavformat.
            Spec::File(path) => Source::from(format!("file:{}", path.display())).fmt(f),
            Spec::Url(source) | Spec::Lavfi(source) => source.fmt(f),
            Spec::Camera(path) => write!(f, "v4l2:{}", path.display()),
            Spec::Screen(screen) => write!(f, "screen:{screen}"),
            Spec::AnnexbListen(address) => write!(f, "annexb:listen:{address}"),
            Spec::AnnexbConnect(address) => write!(f, "annexb:tcp://{address}"),
            Spec::AnnexbStdin => f.write_str("annexb:-"),
            Spec::Android(serial) => write!(f, "android:{serial}"),
        }
    }
}

impl fmt::Display for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.display.as_deref().unwrap_or_default())?;
        if self.offset != (0, 0) {
            write!(f, "+{},{}", self.offset.0, self.offset.1)?;
        }
        match self.size {
            Some((width, height)) => write!(f, "?size={width}x{height}"),
            None => Ok(()),
        }
    }
}

/// What a text that is not a source probably means: a device, or a camera's address. The text is shown in full, so only
/// texts without secrets may match.
fn suggest(text: &str) -> Option<String> {
    let number = text.strip_prefix("/dev/video");
    if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
        return Some(format!("v4l2:{text}"));
    }
    // What follows the host may have a password.
    let place = text.split(['/', '?']).next().unwrap_or_default();
    let host = match place.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => place.parse::<SocketAddr>().ok()?.to_string(),
    };
    Some(format!(
        "rtsp://{host}/PATH or http://{host}/PATH, whichever URL the camera's manual names"
    ))
}

/// Parses `[DISPLAY][+X,Y][?size=WIDTHxHEIGHT]`.
fn screen(rest: &str) -> Option<Screen> {
    let pair = |text: &str, by: char| {
        let (one, other) = text.split_once(by)?;
        Some((one.parse().ok()?, other.parse().ok()?))
    };
    let (rest, size) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(pair(query.strip_prefix("size=")?, 'x')?)),
        None => (rest, None),
    };
    let (display, offset) = match rest.split_once('+') {
        Some((display, offset)) => (display, pair(offset, ',')?),
        None => (rest, (0, 0)),
    };
    // HOST:DISPLAY or HOST:DISPLAY.SCREEN
    let (_, numbers) = match display {
        "" => ("", "0"),
        display => display.rsplit_once(':')?,
    };
    let good = numbers
        .split('.')
        .all(|number| number.parse::<u32>().is_ok());
    good.then(|| Screen {
        display: Some(display.to_owned()).filter(|display| !display.is_empty()),
        offset,
        size,
    })
}

fn annexb(rest: &str) -> Option<Spec> {
    if rest == "-" {
        return Some(Spec::AnnexbStdin);
    }
    if let Some(address) = rest.strip_prefix("tcp://") {
        let (host, port) = address.rsplit_once(':')?;
        port.parse::<u16>().ok().filter(|port| *port > 0)?;
        let is_host = !host.is_empty() && !host.contains(['@', '/', '?', '#']);
        return is_host.then(|| Spec::AnnexbConnect(address.into()));
    }
    let address = rest.strip_prefix("listen:")?;
    match address.parse::<u16>() {
        Ok(port) => Some(Spec::AnnexbListen((Ipv4Addr::LOCALHOST, port).into())),
        Err(_) => address.parse().ok().map(Spec::AnnexbListen),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_kind_is_recognised_by_its_text() {
        let dir = Path::new("/etc/sluice");
        for (text, spec) in [
            ("test-pattern", Spec::TestPattern),
            ("file:a.mp4", Spec::File("/etc/sluice/a.mp4".into())),
            ("file:/b.ts", Spec::File("/b.ts".into())),
            ("rtsp://u:p@cam/1", Spec::Url("rtsp://u:p@cam/1".into())),
            ("v4l2:/dev/video0", Spec::Camera("/dev/video0".into())),
            ("screen:", Spec::Screen(Screen::default())),
            (
                "screen::0.0+100,200?size=640x360",
                Spec::Screen(Screen {
                    display: Some(":0.0".into()),
                    offset: (100, 200),
                    size: Some((640, 360)),
                }),
            ),
            (
                "screen:+1,2",
                Spec::Screen(Screen {
                    offset: (1, 2),
                    ..Screen::default()
                }),
            ),
            ("lavfi:testsrc", Spec::Lavfi("lavfi:testsrc".into())),
            ("annexb:-", Spec::AnnexbStdin),
            (
                "annexb:listen:5000",
                Spec::AnnexbListen("127.0.0.1:5000".parse().unwrap()),
            ),
            (
                "annexb:listen:0.0.0.0:5000",
                Spec::AnnexbListen("0.0.0.0:5000".parse().unwrap()),
            ),
            ("annexb:tcp://box:99", Spec::AnnexbConnect("box:99".into())),
            ("android:R58M", Spec::Android("R58M".into())),
            ("android:[::1%2]:5555", Spec::Android("[::1%2]:5555".into())),
        ] {
            if !text.starts_with("file:") && !text.contains("@") && !text.contains("listen") {
                assert_eq!(spec.to_string(), text);
            }
            assert_eq!(Spec::parse(text, dir), Ok(spec), "{text}");
        }
    }

    #[test]
    fn an_invalid_source_is_refused_with_the_valid_kinds() {
        let dir = Path::new("");
        for text in [
            "",
            "camera",
            "rtsp://[::1/x",
            "rtsp://cam:99999/x",
            "http://cam:0/x",
            "://x",
            "file:",
            "annexb:",
            "annexb:tcp://x",
            "annexb:listen:99999",
            "v4l2:",
            "lavfi:",
            "android:",
            "android:a\nb",
            "screen:0",
            "screen::x",
            "screen::0+1",
            "screen::0+-1,2",
            "screen::0?width=5",
            "screen::0?size=5",
        ] {
            let error = Spec::parse(text, dir).unwrap_err().to_string();
            assert!(error.len() > 20, "{text}: {error}");
        }
        for (text, advice) in [
            ("/dev/video0", "write v4l2:/dev/video0"),
            ("192.168.1.20:554", "write rtsp://192.168.1.20:554/PATH"),
            ("192.168.1.20", "write rtsp://192.168.1.20/PATH"),
            ("fe80::1", "write rtsp://[fe80::1]/PATH"),
            ("rtps://me:hunter2@cam/x", "did you mean `rtsp`?"),
            ("HTTPX://cam/x", "did you mean `http`?"),
            (
                "foo://me:hunter2@cam/x",
                "`foo` is not a protocol that the gateway opens; write one of rtsp, rtsps, http, https,",
            ),
        ] {
            let error = Spec::parse(text, dir).unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let device = Spec::parse("/dev/video0://me:hunter2@cam", dir).unwrap_err();
        assert!(!device.to_string().contains("hunter2"), "{device}");
    }

    #[test]
    fn what_is_shown_carries_no_secret() {
        let spec = Spec::parse(
            "rtsp://admin:hun/ter2@cam.local:554/live?token=abc",
            Path::new(""),
        )
        .unwrap();
        assert_eq!(spec.to_string(), "rtsp://cam.local:554/…");
        assert_eq!(spec.default_name(), "cam.local");
        assert_eq!(
            spec.scrub("GET /live?token=abc failed for admin:hun/ter2"),
            "GET … failed for …"
        );
        let wrong = Spec::parse("annexb:tcp://admin:hunter2@cam:1", Path::new(""));
        assert!(!wrong.unwrap_err().to_string().contains("hunter2"));
        let typo = Spec::parse_argument("rtsp:/admin:hunter2@cam/1");
        assert!(!typo.unwrap_err().to_string().contains("hunter2"));
    }
}
