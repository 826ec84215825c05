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

/// Headers that a component may set: those that describe its content, and those of a resource that it has created. All
/// others are the host's, as they concern the connection, caches or the security of the gateway's pages.
const ALLOWED_HEADERS: [&str; 7] = [
    "accept-patch",
    "content-disposition",
    "content-language",
    "etag",
    "last-modified",
    "link",
    "location",
];
/// Most headers of a response that a component may set, and their size together in bytes.
const MAX_HEADERS: usize = 16;
const MAX_HEADER_BYTES: usize = 4 << 10;

/// An HTTP response without the headers that the carrier adds.
#[derive(Debug, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub content_type: String,
    /// `max-age` for caches, in seconds; [`Response::IMMUTABLE`] if it never changes.
    pub max_age: u32,
    /// Further headers, of those that a component may set, with valid values.
    pub headers: Vec<(&'static str, String)>,
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
            headers: Vec::new(),
            body,
            gzip: OnceLock::new(),
        }
    }

    /// Adds the headers that a component stated. Returns the names of those that it may not set, that are invalid or
    /// too many, shortened for a message.
    pub fn add_headers(&mut self, stated: Vec<(String, String)>) -> Vec<String> {
        let mut refused = Vec::new();
        let mut bytes = 0;
        for (name, value) in stated {
            let mut allowed = ALLOWED_HEADERS.into_iter();
            let allowed = allowed.find(|allowed| allowed.eq_ignore_ascii_case(&name));
            bytes += name.len() + value.len();
            // Only links may be several.
            let is_again = |name: &str| {
                let mut known = self.headers.iter();
                name != "link" && known.any(|(known, _)| *known == name)
            };
            let fits = self.headers.len() < MAX_HEADERS && bytes <= MAX_HEADER_BYTES;
            match allowed {
                Some(allowed) if fits && !is_again(allowed) && is_valid(allowed, &value) => {
                    self.headers.push((allowed, value));
                }
                _ if refused.len() < MAX_HEADERS => {
                    let short: String = name.chars().take(64).collect();
                    refused.push(format!("{short:?}"));
                }
                _ => {}
            }
        }
        refused
    }

    /// Size in bytes, including the compressed copy that may be made on request.
    pub fn bytes(&self) -> usize {
        let compressed = match self.is_compressible() {
            true => self.body.len(),
            false => 0,
        };
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        self.body.len() + compressed + headers
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

/// Whether a URL's segment means another one: "." or "..", also percent-encoded, which the URL Standard treats alike.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// Whether the value can be sent in that header: printable ASCII (RFC 9110 section 5.5), and a location below the path
/// of the request.
fn is_valid(name: &str, value: &str) -> bool {
    let is_printable = value.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let is_below = || {
        !value.starts_with('/') && !value.contains([':', '\\']) && !value.split('/').any(is_dots)
    };
    is_printable && (name != "location" || is_below())
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
    fn a_component_sets_only_headers_that_are_its_business() {
        let mut response = response("text/plain", "");
        let stated = [
            ("ETag", "\"1\""),
            ("Set-Cookie", "a=b"),
            ("content-security-policy", "none"),
            ("X-Accel-Redirect", "/etc/passwd"),
            ("link", "a\r\nSet-Cookie: c=d"),
            ("location", "/session/7"),
            ("location", "https://evil.example/"),
            ("location", "a/../../b"),
            ("location", "a/.%2E/b"),
            ("location", "session/7?x=1"),
            ("location", "session/8"),
        ];
        let stated = stated.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let refused = response.add_headers(stated.into());
        assert_eq!(
            response.headers,
            [
                ("etag", "\"1\"".into()),
                ("location", "session/7?x=1".into())
            ]
        );
        let expected = [
            "\"Set-Cookie\"",
            "\"content-security-policy\"",
            "\"X-Accel-Redirect\"",
            "\"link\"",
            "\"location\"",
            "\"location\"",
            "\"location\"",
            "\"location\"",
            "\"location\"",
        ];
        assert_eq!(refused, expected);
        let many = vec![("link".to_owned(), "x".repeat(300)); 100];
        response.add_headers(many);
        assert_eq!(response.headers.len(), 2 + 13, "4 KiB");
        let refused = response.add_headers(vec![("y".repeat(5000), String::new()); 100]);
        assert!(refused.concat().len() < 2000);
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
