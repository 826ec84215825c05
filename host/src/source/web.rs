//! URLs. What HTTP brings is looked at by a client of our own, which keeps to hosts that are allowed: MJPEG is read here,
//! containers by libavformat from our connection. Playlists and other schemes are libavformat's altogether.

use super::{
    Keyframes, Sink, SourceError, Stop,
    http::{Client, Failure, Guard, Url},
    libav, mjpeg, rtsp,
};
use crate::config;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use std::io::{self, Read, Seek, SeekFrom};

/// So many bytes tell what a response is, if its type does not.
const START: usize = 512;

/// Streams what is at the URL that `source` is.
pub fn run(
    source: &config::Source,
    encode: &config::Encode,
    fetch: &config::Fetch,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let (what, url) = (source.to_string(), source.url());
    // Schemes are written in any case (RFC 3986 3.1), and libavformat knows them in lower case only.
    let url = match url.split_once("://") {
        Some((scheme, rest)) => format!("{}://{rest}", scheme.to_ascii_lowercase()),
        None => url.into_owned(),
    };
    let url = url.as_str();
    let target = match Url::parse(url) {
        Some(target) if target.scheme.is_http() => target,
        Some(target) => {
            let end = rtsp::settle(&target, &fetch.redirects, stop);
            // As it was written, where it leads to itself.
            let text = end.map(|end| {
                if end == target {
                    url.to_owned()
                } else {
                    end.text()
                }
            });
            return match text {
                Ok(url) => libav::run_url(&what, &url, None, encode, sink, stop, keyframes),
                Err(Failure::Stopped) => Ok(()),
                Err(failure) => Err(failure.of(&what, false)),
            };
        }
        None => return libav::run_url(&what, url, None, encode, sink, stop, keyframes),
    };
    let fail = |error: io::Error| SourceError::Open {
        what: what.clone(),
        reason: error.to_string(),
    };
    let mut client = Client::new(target, &fetch.redirects, stop).map_err(fail)?;
    let opened = client.get(None).and_then(|answer| {
        let start = start(&mut client, answer.content_type.as_deref())?;
        Ok((answer, start))
    });
    let (answer, start) = match opened {
        Ok(opened) => opened,
        Err(Failure::Stopped) => return Ok(()),
        Err(failure) => return Err(failure.of(&what, false)),
    };
    let kind = answer.content_type.as_deref();
    if mjpeg::is_mjpeg(kind, &start) {
        return mjpeg::run(&what, &mut client, answer, &start, fetch.every, sink, stop);
    }
    if is_playlist(kind, &start) {
        drop(client);
        let guard = Guard::start(&answer.url.host, &fetch.redirects).map_err(fail)?;
        let (url, proxy) = (answer.url.text(), guard.proxy());
        return libav::run_url(&what, &url, Some(&proxy), encode, sink, stop, keyframes);
    }
    let length = answer.length.filter(|_| answer.takes_ranges);
    let content = Content {
        client,
        ready: start,
        at: 0,
        length,
        moved: false,
    };
    let peer = (content, length.is_some());
    libav::run_peer(&what, peer, encode, sink, stop, keyframes)
}

/// As much of a response as tells what it is.
fn start(client: &mut Client, kind: Option<&str>) -> Result<Bytes, Failure> {
    let mut start = BytesMut::new();
    let is_told = |start: &[u8]| mjpeg::is_mjpeg(kind, start) || is_playlist(kind, start);
    while start.len() < START && !is_told(&start) {
        match client.next()? {
            Some(bytes) => start.extend_from_slice(&bytes),
            None => break,
        }
    }
    Ok(start.freeze())
}

/// Whether it names other URLs: HLS (RFC 8216) or DASH.
fn is_playlist(kind: Option<&str>, start: &[u8]) -> bool {
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    kind.contains("mpegurl")
        || kind.contains("dash+xml")
        || start.starts_with(b"#EXTM3U")
        || memmem::find(start, b"<MPD").is_some()
}

/// The content of a response as a file: read in order, or from elsewhere by another request.
struct Content {
    client: Client,
    /// What came and was not read.
    ready: Bytes,
    /// Where it stands, in bytes from the beginning.
    at: u64,
    /// Where parts may be asked for.
    length: Option<u64>,
    /// What comes next is not what the response brings next.
    moved: bool,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.moved) {
            if self.length.is_some_and(|length| self.at >= length) {
                self.moved = true;
                return Ok(0);
            }
            let answer = self.client.get(Some(self.at)).map_err(broken)?;
            if !answer.is_part {
                return Err(io::Error::other("the server gives no parts after all"));
            }
        }
        while self.ready.is_empty() {
            self.client.extend();
            match self.client.next().map_err(broken)? {
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

impl Seek for Content {
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
            self.moved = true;
        }
        Ok(place)
    }
}

fn broken(failure: Failure) -> io::Error {
    match failure {
        Failure::Silent => io::ErrorKind::TimedOut.into(),
        failure => io::Error::other(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_playlist;

    #[test]
    fn playlists_are_told_by_type_or_by_how_they_begin() {
        for (kind, start, is) in [
            (Some("application/vnd.apple.mpegurl"), &b""[..], true),
            (Some("audio/x-mpegURL; charset=utf-8"), b"", true),
            (None, b"\xef\xbb\xbf#EXTM3U\n", true),
            (Some("text/xml"), b"<?xml version=\"1.0\"?>\n<MPD ", true),
            (Some("video/mp2t"), b"\x47", false),
            (None, b"", false),
        ] {
            assert_eq!(is_playlist(kind, start), is, "{kind:?}");
        }
    }
}
