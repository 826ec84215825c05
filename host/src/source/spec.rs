//! Source strings: `test-pattern`, `file:PATH`, URLs, `annexb:…`.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
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
    Url(String),
    /// Bare Annex B from whoever connects.
    AnnexbListen(SocketAddr),
    /// Bare Annex B from a TCP server, `HOST:PORT`.
    AnnexbConnect(String),
    /// Bare Annex B from standard input.
    AnnexbStdin,
}

/// A source string that names nothing.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// No scheme that is known.
    #[error(
        "`{0}` is no source: write test-pattern, file:PATH, a URL such as rtsp://HOST/PATH, annexb:listen:PORT, annexb:tcp://HOST:PORT or annexb:-"
    )]
    Unknown(String),
    /// On the command line: no scheme that is known, and no such file.
    #[error(
        "there is no file `{0}`, and it is no other source: write a file's path, test-pattern, a URL such as rtsp://HOST/PATH, annexb:listen:PORT, annexb:tcp://HOST:PORT or annexb:-"
    )]
    NoFile(String),
    /// Part of the design, not of this version.
    #[error("sources of the kind `{0}` are not in this version yet")]
    NotYet(String),
    /// `annexb:` and something else.
    #[error("`{0}`: after annexb: comes listen:PORT, listen:ADDRESS:PORT, tcp://HOST:PORT or -")]
    Annexb(String),
    /// An empty path.
    #[error("file: needs a path, e.g. file:clips/garden.mp4")]
    NoPath,
}

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
        for scheme in ["v4l2:", "screen:", "android:"] {
            if text.starts_with(scheme) {
                return Err(SpecError::NotYet(scheme.trim_end_matches(':').into()));
            }
        }
        match text.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) && !rest.is_empty() => {
                Ok(Spec::Url(text.into()))
            }
            _ => Err(SpecError::Unknown(text.into())),
        }
    }

    /// As on the command line: like [`Spec::parse`], and a path that exists is a file.
    pub fn parse_argument(text: &str) -> Result<Spec, SpecError> {
        match Spec::parse(text, Path::new("")) {
            Err(SpecError::Unknown(_)) if Path::new(text).exists() => Ok(Spec::File(text.into())),
            Err(SpecError::Unknown(_)) => Err(SpecError::NoFile(text.into())),
            parsed => parsed,
        }
    }

    /// A name for a stream of this source: a file's stem, a URL's host, else its kind.
    pub fn default_name(&self) -> String {
        let raw = match self {
            Spec::TestPattern => "demo".into(),
            Spec::File(path) => path
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
                .unwrap_or_default(),
            Spec::Url(url) => host(url).to_owned(),
            Spec::AnnexbListen(_) | Spec::AnnexbConnect(_) | Spec::AnnexbStdin => "annexb".into(),
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

    /// Whether the source may be still without being lost.
    pub fn may_be_silent(&self) -> bool {
        matches!(
            self,
            Spec::AnnexbListen(_) | Spec::AnnexbConnect(_) | Spec::AnnexbStdin
        )
    }
}

/// Without user names, passwords and queries, which may be secrets.
impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spec::TestPattern => f.write_str("test-pattern"),
            Spec::File(path) => write!(f, "file:{}", path.display()),
            Spec::Url(url) => f.write_str(&without_secrets(url)),
            Spec::AnnexbListen(address) => write!(f, "annexb:listen:{address}"),
            Spec::AnnexbConnect(address) => write!(f, "annexb:tcp://{address}"),
            Spec::AnnexbStdin => f.write_str("annexb:-"),
        }
    }
}

fn annexb(rest: &str) -> Option<Spec> {
    if rest == "-" {
        return Some(Spec::AnnexbStdin);
    }
    if let Some(address) = rest.strip_prefix("tcp://") {
        let (host, port) = address.rsplit_once(':')?;
        port.parse::<u16>().ok().filter(|port| *port > 0)?;
        return (!host.is_empty()).then(|| Spec::AnnexbConnect(address.into()));
    }
    let address = rest.strip_prefix("listen:")?;
    match address.parse::<u16>() {
        Ok(port) => Some(Spec::AnnexbListen((Ipv4Addr::LOCALHOST, port).into())),
        Err(_) => address.parse().ok().map(Spec::AnnexbListen),
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn authority(url: &str) -> Option<(usize, usize)> {
    let start = url.find("://")? + 3;
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| start + at);
    Some((start, end))
}

fn host(url: &str) -> &str {
    let Some((start, end)) = authority(url) else {
        return url;
    };
    let authority = &url[start..end];
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

fn without_secrets(url: &str) -> String {
    let Some((start, end)) = authority(url) else {
        return url.into();
    };
    let authority = &url[start..end];
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let path = url[end..].split(['?', '#']).next().unwrap_or_default();
    format!("{}{host}{path}", &url[..start])
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
        ] {
            assert_eq!(Spec::parse(text, dir), Ok(spec), "{text}");
        }
    }

    #[test]
    fn what_is_no_source_says_what_is() {
        let dir = Path::new("");
        for text in [
            "",
            "camera",
            "://x",
            "file:",
            "annexb:",
            "annexb:tcp://x",
            "annexb:listen:99999",
            "v4l2:/dev/video0",
        ] {
            let error = Spec::parse(text, dir).unwrap_err().to_string();
            assert!(error.len() > 20, "{text}: {error}");
        }
    }

    #[test]
    fn what_is_shown_carries_no_secret() {
        let spec = Spec::parse(
            "rtsp://admin:hunter2@cam.local:554/live?token=abc",
            Path::new(""),
        )
        .unwrap();
        assert_eq!(spec.to_string(), "rtsp://cam.local:554/live");
        assert_eq!(spec.default_name(), "cam.local");
    }
}
