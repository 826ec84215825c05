//! Source strings: `test-pattern`, `file:PATH`, URLs, `v4l2:…`, `screen:…`, `annexb:…`, `android:…`.

use super::{android::stream_name, web};
use sluicegate_config::{Source, is_scheme, nearest};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// A source, as the config names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// The generated picture.
    TestPattern,
    /// Anything libavformat demuxes, in real time, looped.
    File(PathBuf),
    /// Anything libavformat opens over a network.
    Url(Source),
    /// A camera: a V4L2 device file.
    Camera(PathBuf),
    /// An X11 screen, or a part of it.
    Screen(Screen),
    /// What a filter graph of libavfilter generates, for tests; as written, behind `lavfi:`.
    Lavfi(Source),
    /// Bare Annex B from whoever connects.
    AnnexbListen(SocketAddr),
    /// Bare Annex B from a TCP server, `HOST:PORT`.
    AnnexbConnect(String),
    /// Bare Annex B from standard input.
    AnnexbStdin,
    /// An Android device, by its serial as `adb devices` shows it.
    Android(String),
}

/// What is taken of an X11 screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// As in `DISPLAY`, which stands in for it.
    pub display: Option<String>,
    /// Pixels from the left and from the top.
    pub offset: (u32, u32),
    /// Width and height in pixels; else the whole screen.
    pub size: Option<(u32, u32)>,
}

/// A source string that names nothing.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// No scheme that is known.
    #[error(
        "`{0}` is no source: write test-pattern, file:PATH, a URL such as rtsp://HOST/PATH, v4l2:/dev/video0, screen:, annexb:listen:PORT, annexb:tcp://HOST:PORT, annexb:- or android:SERIAL"
    )]
    Unknown(Source),
    /// What was probably meant is known.
    #[error("`{0}` is no source; write {1}")]
    Meant(Source, String),
    /// A scheme that is nearly another.
    #[error("`{0}` is no source: there is no `{1}`; did you mean `{2}`?")]
    Scheme(Source, String, &'static str),
    /// On the command line: no scheme that is known, and no such file.
    #[error(
        "there is no file `{0}`, and it is no other source: write a file's path, test-pattern, a URL such as rtsp://HOST/PATH, v4l2:/dev/video0, screen:, annexb:listen:PORT, annexb:tcp://HOST:PORT, annexb:- or android:SERIAL"
    )]
    NoFile(Source),
    /// On the command line: a folder.
    #[error("`{0}` is a folder; name a file in it")]
    Folder(String),
    /// On the command line: a config file, where a source was to be.
    #[error("`{0}` is a config file, not a source: write sluicegate serve --config {0}")]
    Config(String),
    /// `android:` and no serial, or one that no device has.
    #[error("`{0}`: after android: comes a device's serial, as `adb devices` shows it")]
    Android(Source),
    /// `annexb:` and something else.
    #[error("`{0}`: after annexb: comes listen:PORT, listen:ADDRESS:PORT, tcp://HOST:PORT or -")]
    Annexb(Source),
    /// `v4l2:` and no path.
    #[error(
        "`{0}`: after v4l2: comes a camera's device, e.g. v4l2:/dev/video0; `sluicegate sources` lists those that are here"
    )]
    Camera(Source),
    /// `screen:` and something that is no part of a screen.
    #[error(
        "`{0}`: after screen: comes nothing, or an X display such as :0, then +X,Y and ?size=WIDTHxHEIGHT if it is to be a part"
    )]
    Screen(Source),
    /// `lavfi:` and nothing.
    #[error("lavfi: needs a filter graph, e.g. lavfi:testsrc=size=640x360:rate=15")]
    NoGraph,
    /// A URL of HTTP or RTSP whose host or port cannot be.
    #[error(
        "`{0}`: what stands between :// and the path is no host with a port from 1 to 65535; an IPv6 address stands in brackets"
    )]
    Host(Source),
    /// An empty path.
    #[error("file: needs a path, e.g. file:clips/garden.mp4")]
    NoPath,
}

/// Schemes of URLs that cameras and servers have, the usual ones first; one that is nearly one of these is mistyped, any other is
/// left to libavformat.
const SCHEMES: &[&str] = &[
    "rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "udp", "rtp", "tcp", "tls", "dtls",
    "rist", "ftp", "sftp", "srtp", "hls", "mms", "mmst", "mmsh", "rtmpe", "rtmpt", "rtmpte",
    "rtmpts", "sctp",
];

impl Spec {
    /// Parses a source string; relative paths are looked up in `dir`.
    pub fn parse(text: &str, dir: &Path) -> Result<Spec, SpecError> {
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
                    Some(known) if known != lower => Err(SpecError::Scheme(source, lower, known)),
                    _ if !web::has_host(&source) => Err(SpecError::Host(source)),
                    _ => Ok(Spec::Url(source)),
                }
            }
            _ => Err(match meant(text) {
                Some(meant) => SpecError::Meant(text.into(), meant),
                None => SpecError::Unknown(text.into()),
            }),
        }
    }

    /// As on the command line: like [`Spec::parse`], and a path that exists is a file.
    pub fn parse_argument(text: &str) -> Result<Spec, SpecError> {
        match Spec::parse(text, Path::new("")) {
            Err(SpecError::Unknown(_)) if text.ends_with(".toml") => {
                Err(SpecError::Config(text.into()))
            }
            Err(SpecError::Unknown(_)) if Path::new(text).is_dir() => {
                Err(SpecError::Folder(text.into()))
            }
            Err(SpecError::Unknown(_)) if Path::new(text).exists() => Ok(Spec::File(text.into())),
            Err(SpecError::Meant(..)) if Path::new(text).is_file() => Ok(Spec::File(text.into())),
            Err(SpecError::Unknown(_)) => Err(SpecError::NoFile(text.into())),
            parsed => parsed,
        }
    }

    /// A name for a stream of this source: a file's stem, a URL's host, a device's serial, else its kind.
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

    /// What was said about this source, such as a library's error, without what the source holds that may be secret.
    pub fn scrub(&self, said: &str) -> String {
        match self {
            Spec::Url(source) | Spec::Lavfi(source) => source.scrub(said),
            _ => said.to_owned(),
        }
    }

    /// Whether the source may be still without being lost.
    pub fn may_be_silent(&self) -> bool {
        matches!(
            self,
            Spec::AnnexbListen(_) | Spec::AnnexbConnect(_) | Spec::AnnexbStdin | Spec::Android(_)
        )
    }
}

/// Without what may be secret, see [`Source`].
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spec::TestPattern => f.write_str("test-pattern"),
            // Relative to nothing, it may still be a URL to libavformat.
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

/// What a text that is no source probably means: a device, or a camera's address. It is shown whole, so it must hold no secret.
fn meant(text: &str) -> Option<String> {
    let number = text.strip_prefix("/dev/video");
    if number.is_some_and(|number| number.parse::<u32>().is_ok()) {
        return Some(format!("v4l2:{text}"));
    }
    let host = match text.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => text.parse::<SocketAddr>().ok()?.to_string(),
    };
    Some(format!(
        "rtsp://{host}/PATH, or whichever URL the camera's manual names"
    ))
}

/// `[DISPLAY][+X,Y][?size=WIDTHxHEIGHT]`
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
    fn every_kind_is_told_by_its_text() {
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
    fn what_is_no_source_says_what_is() {
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
