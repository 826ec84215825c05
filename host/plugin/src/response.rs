//! A component's response to a GET, shared by all clients that request the same URL.

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sluicegate_media::buffer::Buffer;
use std::{io::Write, sync::OnceLock};

/// Smallest body in bytes that is compressed; below it, compression saves no packet.
const MIN_COMPRESSED_BYTES: usize = 256;
/// Largest body in bytes that is compressed; a larger one would occupy a thread that serves sockets for too long.
/// Playlists have a tenth of this.
const MAX_COMPRESSED_BYTES: usize = 512 << 10;

/// An HTTP response without the headers that the carrier adds.
#[derive(Debug, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub content_type: String,
    /// `max-age` for caches, in seconds; [`Response::IMMUTABLE`] if it never changes.
    pub max_age: u32,
    /// The body, uncompressed.
    pub body: Buffer,
    gzip: OnceLock<Option<Bytes>>,
}

impl Response {
    /// The `max_age` of a response that never changes.
    pub const IMMUTABLE: u32 = u32::MAX;

    /// Creates a response.
    pub fn new(status: u16, content_type: String, max_age: u32, body: Buffer) -> Response {
        Response {
            status,
            content_type,
            max_age,
            body,
            gzip: OnceLock::new(),
        }
    }

    /// Size in bytes, including the compressed copy that may be made on request.
    pub fn bytes(&self) -> usize {
        let compressed = match self.is_compressible() {
            true => self.body.len(),
            false => 0,
        };
        self.body.len() + compressed
    }

    fn is_compressible(&self) -> bool {
        self.is_text() && (MIN_COMPRESSED_BYTES..=MAX_COMPRESSED_BYTES).contains(&self.body.len())
    }

    /// Whether its media type is text, which playlists and vector graphics are: such bodies are worth compressing.
    pub fn is_text(&self) -> bool {
        let kind = self.content_type.split(';').next().unwrap_or_default();
        let kind = kind.trim();
        kind.starts_with("text/")
            || matches!(
                kind,
                "application/vnd.apple.mpegurl"
                    | "application/json"
                    | "application/dash+xml"
                    | "application/manifest+json"
                    | "image/svg+xml"
            )
    }

    /// The body compressed by gzip (RFC 1952), once for all clients; `None` if that does not make it smaller.
    pub fn gzipped(&self) -> Option<&Bytes> {
        self.gzip
            .get_or_init(|| {
                let compressed = self.is_compressible().then(|| gzip(&self.body))??;
                (compressed.len() < self.body.len()).then_some(compressed)
            })
            .as_ref()
    }
}

fn gzip(body: &Buffer) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::default());
    for part in body.parts() {
        encoder.write_all(part).ok()?;
    }
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    fn response(content_type: &str, body: &str) -> Response {
        let body = Buffer::from(Bytes::from(body.to_owned()));
        Response::new(200, content_type.into(), 0, body)
    }

    #[test]
    fn text_is_compressed_where_that_is_a_gain() {
        let long = "#EXTINF:2.00000,\n".repeat(100);
        let playlist = response("application/vnd.apple.mpegurl", &long);
        let compressed = playlist.gzipped().unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&compressed[..])
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, long);
        assert!(compressed.len() < 200);
        assert!(
            response("text/plain; charset=utf-8", &long)
                .gzipped()
                .is_some()
        );
        let too_long = "#EXTINF:2.00000,\n".repeat(MAX_COMPRESSED_BYTES / 10);
        for (content_type, body) in [
            ("text/plain", too_long.as_str()),
            ("video/mp4", long.as_str()),
            ("text/plain", "short"),
            ("", &long),
        ] {
            assert!(
                response(content_type, body).gzipped().is_none(),
                "{content_type}"
            );
        }
    }
}
