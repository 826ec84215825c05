//! Which sources may be given over the API.
//!
//! Whoever may add a stream or try a source from afar may have the gateway connect to what it is meant to connect to:
//! cameras and servers in its network, and cameras attached to its machine. They may not have it read files, show a
//! screen, open ports, or run arbitrary filters: those need access to the machine, and so to its config file.

use super::Spec;
use sluicegate_config::Source;
use std::path::{Component, Path};
use thiserror::Error;

/// Why a source may not be given over the API.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RemoteError {
    /// A file.
    #[error(
        "a file may be a source only in the config file, because it is on the gateway's machine"
    )]
    File,
    /// A screen.
    #[error(
        "a screen may be a source only in the config file, because it shows what the gateway's machine shows"
    )]
    Screen,
    /// A filter graph.
    #[error(
        "lavfi: may be a source only in the config file, because its filters can read files of the gateway's machine"
    )]
    Lavfi,
    /// Standard input.
    #[error("standard input may be a source only in the config file")]
    Stdin,
    /// A source that opens a port and waits for a sender.
    #[error(
        "a source for which the gateway listens on a port may be given only in the config file; write a URL that it connects to, such as rtsp://HOST/PATH or annexb:tcp://HOST:PORT"
    )]
    Listens,
    /// A protocol of libavformat that is not for cameras and servers, or may read files.
    #[error(
        "a source of this protocol may be given only in the config file; over the API write a URL with one of {}", PROTOCOLS.join(", ")
    )]
    Protocol,
    /// `v4l2:` with a path that is not a camera's.
    #[error(
        "write v4l2: and a camera's device, which is /dev/videoNUMBER or below /dev/v4l/; others may be given only in the config file"
    )]
    Device,
}

/// Protocols of URLs that may be given over the API. Others have options with which libavformat reads files (`tls`), or
/// open ports.
const PROTOCOLS: [&str; 9] = [
    "rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "srt", "rist", "tcp",
];

impl Spec {
    /// Whether it is a device: a camera of the gateway's machine, or an Android device. Whoever may use one this way
    /// may see what other streams show of it.
    pub fn is_device(&self) -> bool {
        matches!(self, Spec::Camera(_) | Spec::Android(_))
    }

    /// Whether the source may be given over the API: a URL that the gateway connects to, the test pattern, an Android
    /// device, an Annex B server, or a V4L2 camera.
    ///
    /// # Errors
    /// Why it may be given only in the config file or on the command line.
    pub fn allowed_remotely(&self) -> Result<(), RemoteError> {
        match self {
            Spec::TestPattern | Spec::Android(_) | Spec::AnnexbConnect(_) => Ok(()),
            Spec::Url(source) if listens(source) => Err(RemoteError::Listens),
            Spec::Url(source) if !is_for_cameras(source) => Err(RemoteError::Protocol),
            Spec::Url(_) => Ok(()),
            Spec::Camera(path) if is_camera(path) => Ok(()),
            Spec::Camera(_) => Err(RemoteError::Device),
            Spec::File(_) => Err(RemoteError::File),
            Spec::Screen(_) => Err(RemoteError::Screen),
            Spec::Lavfi(_) => Err(RemoteError::Lavfi),
            Spec::AnnexbListen(_) => Err(RemoteError::Listens),
            Spec::AnnexbStdin => Err(RemoteError::Stdin),
        }
    }
}

fn is_for_cameras(source: &Source) -> bool {
    let url = source.url();
    let (scheme, _) = url.split_once("://").unwrap_or_default();
    PROTOCOLS.contains(&scheme.to_ascii_lowercase().as_str())
}

/// Whether libavformat opens a port for this URL instead of connecting to its host.
fn listens(source: &Source) -> bool {
    let url = source.url();
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = query
        .split('&')
        .map(|option| option.split_once('=').unwrap_or((option, "")));
    match scheme.as_str() {
        // Opened by our own client; everything behind the host is for the server.
        "http" | "https" | "rtsp" | "rtsps" => false,
        "udp" | "rtp" | "srtp" => true,
        _ if place.is_empty() || place.starts_with([':', '/']) => true,
        // librist: an address after @ is one to listen on.
        "rist" => place.contains('@'),
        "srt" => options.any(|(key, value)| key == "mode" && value != "caller"),
        _ => options.any(|(key, _)| key == "listen"),
    }
}

/// Whether the path is one that the kernel or udev gives to video devices.
fn is_camera(path: &Path) -> bool {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let text = path.to_string_lossy();
    let number = text.strip_prefix("/dev/video");
    let is_numbered = number.is_some_and(|number| number.parse::<u32>().is_ok());
    !climbs && (is_numbered || path.starts_with("/dev/v4l"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn over_the_api_a_source_is_what_the_gateway_connects_to_and_nothing_of_its_machine() {
        let allowed = |text: &str| {
            let spec = Spec::parse(text, Path::new("/etc/sluicegate")).expect(text);
            spec.allowed_remotely()
        };
        for text in [
            "test-pattern",
            "rtsp://u:p@cam/1",
            "RTSPS://cam/1",
            "http://cam/video?listen=1",
            "https://cam/live.m3u8",
            "rtmp://server/live/key",
            "srt://server:9000",
            "srt://server:9000?mode=caller&latency=200",
            "tcp://server:5000",
            "rist://server:5000",
            "annexb:tcp://box:99",
            "android:R58M",
            "v4l2:/dev/video0",
            "v4l2:/dev/v4l/by-id/usb-camera",
        ] {
            assert_eq!(allowed(text), Ok(()), "{text}");
        }
        for (text, error) in [
            ("file:a.mp4", RemoteError::File),
            ("file:///etc/passwd", RemoteError::File),
            ("screen:", RemoteError::Screen),
            ("lavfi:movie=/etc/passwd", RemoteError::Lavfi),
            ("annexb:-", RemoteError::Stdin),
            ("annexb:listen:5000", RemoteError::Listens),
            ("udp://@:5000", RemoteError::Listens),
            ("udp://239.0.0.1:5000", RemoteError::Listens),
            ("UDP://host:5000", RemoteError::Listens),
            ("rtp://host:5000", RemoteError::Listens),
            (
                "srt://host:9000?latency=1&mode=listener",
                RemoteError::Listens,
            ),
            ("srt://:9000", RemoteError::Listens),
            ("srt://host:9000?mode=rendezvous", RemoteError::Listens),
            ("tcp://0.0.0.0:5000?listen", RemoteError::Listens),
            ("tls://0.0.0.0:5000?a=b&listen=1", RemoteError::Listens),
            ("rist://@0.0.0.0:5000", RemoteError::Listens),
            ("v4l2:/etc/passwd", RemoteError::Device),
            ("v4l2:/dev/watchdog", RemoteError::Device),
            ("v4l2:/dev/video0/../sda", RemoteError::Device),
            ("v4l2:/dev/v4l/../sda", RemoteError::Device),
            ("v4l2:video0", RemoteError::Device),
        ] {
            assert_eq!(allowed(text), Err(error), "{text}");
            assert!(error.to_string().contains("config file"), "{error}");
        }
    }
}
