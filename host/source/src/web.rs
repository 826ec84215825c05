//! URL sources: chooses the reader for a URL.
//!
//! HTTP responses are fetched by our own client, which follows redirects only to permitted hosts. MJPEG is parsed here,
//! containers are demuxed by libavformat from our connection, and playlists by libavformat through a local proxy
//! ([`PlaylistProxy`]). RTSP redirects are resolved first (`rtsp`). Any other scheme is opened by libavformat directly.

use super::{
    SourceContext, SourceError,
    http::{ByteRange, Client, Failure, PlaylistProxy, Redirects, Scheme, Url, is_playlist},
    libav, mjpeg, rtsp,
};
use bytes::{Buf, Bytes};
use sluicegate_config as config;
use std::io::{self, Read, Seek, SeekFrom};

/// Streams the URL `source`.
pub fn run(source: &config::Source, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
    let (what, url) = (source.to_string(), source.url());
    // Schemes are case-insensitive (RFC 3986 3.1), but libavformat knows them in lower case only.
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    let url = format!("{scheme}://{rest}");
    let fail = |reason: String| SourceError::Open {
        what: what.clone(),
        reason,
    };
    if let Some(reason) = refused(&scheme) {
        return Err(fail(reason));
    }
    if Scheme::parse(&scheme).is_none() {
        return libav::run_url(&what, &url, None, context);
    }
    let target =
        Url::parse(&url).ok_or_else(|| fail("its URL has no valid host and port".into()))?;
    if !target.scheme.is_http() {
        let end = match rtsp::resolve_redirects(&target, &context.fetch.redirects, context.stop) {
            Ok(end) => end,
            Err(failure) => return failure.end(&what, false),
        };
        // If there was no redirect, the URL is used exactly as written.
        let url = if end == target { url } else { end.text() };
        return libav::run_url(&what, &url, None, context);
    }
    let redirects = Redirects::new(target, &context.fetch.redirects);
    let unable = |error: io::Error| fail(error.to_string());
    let mut client = Client::new(redirects.clone(), context.stop).map_err(unable)?;
    let opened = client.get(None).and_then(|answer| {
        let kind = answer.content_type.as_deref();
        let is_told = |start: &[u8]| mjpeg::is_mjpeg(kind, start) || is_playlist(kind, start);
        let start = client.start(is_told)?;
        Ok((answer, start))
    });
    let (answer, start) = match opened {
        Ok(opened) => opened,
        Err(failure) => return failure.end(&what, false),
    };
    let kind = answer.content_type.as_deref();
    if mjpeg::is_mjpeg(kind, &start) {
        return mjpeg::run(
            &what,
            &mut client,
            answer,
            &start,
            context.fetch.every,
            context,
        );
    }
    if is_playlist(kind, &start) {
        drop(client);
        if PlaylistProxy::is_bypassed() {
            return Err(fail("playlists are refused while the environment variable no_proxy is set, because it lets hosts bypass the redirect check; start the gateway without it".into()));
        }
        let guard = PlaylistProxy::start(redirects).map_err(unable)?;
        let url = PlaylistProxy::encode_url(&answer.url);
        return libav::run_url(&what, &url, Some(&guard), context);
    }
    let length = answer.length.filter(|_| answer.takes_ranges);
    let content = HttpFile {
        client,
        ready: start,
        at: 0,
        length,
        needs_request: false,
    };
    let peer = (content, length.is_some());
    libav::run_peer(&what, peer, context)
}

/// Whether the URL's host is valid, for schemes whose host is checked here.
pub fn has_host(source: &config::Source) -> bool {
    let url = source.url();
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    Scheme::parse(&scheme).is_none() || Url::parse(&format!("{scheme}://{rest}")).is_some()
}

/// Why a URL of this scheme is refused, if it is: libavformat uses its own HTTP client for it, which follows redirects
/// to any host.
fn refused(scheme: &str) -> Option<String> {
    let instead = match scheme {
        "rtmpt" | "rtmpte" => "rtmp",
        "rtmpts" => "rtmps",
        "mmsh" => "http",
        _ => return None,
    };
    Some(format!(
        "{scheme} is not supported, because its HTTP redirects cannot be checked; try {instead}://…"
    ))
}

/// The content of an HTTP response as a seekable file: read in order, or from another position by a new range request.
struct HttpFile {
    client: Client,
    /// Bytes received but not read yet.
    ready: Bytes,
    /// Position in bytes from the beginning.
    at: u64,
    /// Length in bytes, if the server supports range requests.
    length: Option<u64>,
    /// Whether the position changed, so that a new request is needed.
    needs_request: bool,
}

impl Read for HttpFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.needs_request {
            if self.length.is_some_and(|length| self.at >= length) {
                return Ok(0);
            }
            let part = ByteRange {
                from: self.at,
                to: None,
            };
            let answer = self.client.get(Some(part)).map_err(to_io_error)?;
            if answer.part.is_none() {
                return Err(io::Error::other(
                    "the server announced range requests but does not support them",
                ));
            }
            self.needs_request = false;
        }
        while self.ready.is_empty() {
            self.client.extend();
            match self.client.next().map_err(to_io_error)? {
                Some(bytes) => self.ready = bytes,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.ready.len());
        self.ready.copy_to_slice(&mut buffer[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for HttpFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.and_then(|length| length.checked_add_signed(by)),
        };
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        if place != self.at {
            self.at = place;
            self.ready = Bytes::new();
            self.needs_request = true;
        }
        Ok(place)
    }
}

/// Maps errors for libavformat, which checks whether to stop when it is interrupted.
fn to_io_error(failure: Failure) -> io::Error {
    match failure {
        Failure::Stopped => io::ErrorKind::Interrupted.into(),
        Failure::Silent | Failure::Failed(_) => io::Error::other(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::{
        ConfiguredSource, Fleet, Spec,
        testing::{Recorder, run_fetching},
    };
    use std::{
        net::{Ipv4Addr, TcpListener},
        thread,
    };

    /// Runs a source; returns the reason for its end and the number of JPEGs.
    fn end(url: &str) -> (String, usize) {
        let mut sink = Recorder::default();
        let fetch = config::Fetch {
            every: std::time::Duration::from_millis(20),
            ..config::Fetch::default()
        };
        let source = ConfiguredSource::new(Spec::Url(url.into()), &Fleet::new(&None));
        let ended = run_fetching(&source, &fetch, &mut sink);
        (ended.unwrap_err().to_string(), sink.jpegs)
    }

    /// A server that gives each connection the next of `answers`, and then 403.
    fn server(answers: Vec<Vec<u8>>) -> String {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = server.local_addr().unwrap();
        let last = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec();
        thread::spawn(move || {
            for answer in answers.into_iter().chain(std::iter::repeat(last)) {
                let (mut client, _) = server.accept().unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap_or(0) > 0 {
                    head.push(byte[0]);
                }
                let _ = io::Write::write_all(&mut client, &answer);
            }
        });
        format!("http://{address}/x")
    }

    #[test]
    fn what_libavformat_would_open_unwatched_is_refused() {
        for (url, why) in [
            ("http://[fe80::1%eth0/mjpeg", "no valid host"),
            ("HTTP://a b/", "no valid host"),
            ("rtsps://cam:0/", "no valid host"),
            ("rtmpt://cam/1", "try rtmp://"),
            ("MMSH://cam/1", "try http://"),
        ] {
            let (reason, _) = end(url);
            assert!(reason.contains(why), "{url}: {reason}");
        }
    }

    #[test]
    fn errors_within_a_file_are_reported() {
        // An MP4 whose index is elsewhere.
        let mdat = b"\0\0\0\x14ftypisom\0\0\0\0isom\0\x10\0\0mdat";
        let head = "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: 2000000\r\n\r\n";
        let answer = [head.as_bytes(), mdat, &[0; 1 << 18]].concat();
        let (reason, _) = end(&server(vec![answer]));
        assert!(reason.contains("the server answered 403"), "{reason}");
    }

    #[test]
    fn a_part_that_was_not_asked_for_is_not_taken() {
        for range in ["Content-Range: bytes 0-9/10\r\n", ""] {
            let answer = format!("HTTP/1.1 206 Partial\r\n{range}\r\n");
            let (reason, _) = end(&server(vec![answer.into_bytes()]));
            assert!(reason.contains("not requested"), "{reason}");
        }
        let part = ByteRange { from: 5, to: None };
        for (range, begins) in [
            ("bytes 5-9/10", true),
            ("bytes 5-9/*", true),
            ("bytes 0-9/10", false),
            ("bytes */10", false),
            ("", false),
        ] {
            assert_eq!(part.begins(range), begins, "{range}");
        }
    }

    #[test]
    fn a_single_image_is_requested_again_though_its_length_is_wrong() {
        let image = b"\xff\xd8\xff\xda\0\x02\x55\xff\xd9";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n";
        let answer = [head.as_bytes(), image].concat();
        let (reason, images) = end(&server(vec![answer.clone(), answer.clone(), answer]));
        assert!(reason.contains("the server answered 403"), "{reason}");
        assert_eq!(images, 3);
    }
}
