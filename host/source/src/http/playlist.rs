//! Recognises playlists, and rewrites them for libavformat. libavformat speaks only plain HTTP to the
//! [`super::PlaylistProxy`], which adds TLS where the original URL has it, so the scheme is encoded in host names.
//! Pure.

use super::url::{Scheme, Url};
use memchr::memmem;

/// Prefix of a host that the guard must request over TLS. No real host name starts with it, and libavformat accepts it
/// as a part of one.
const TLS_HOST_PREFIX: &str = "https!";

/// Whether a response is a playlist that names other URLs: HLS (RFC 8216) or DASH.
pub fn is_playlist(kind: Option<&str>, start: &[u8]) -> bool {
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    kind.contains("mpegurl")
        || kind.contains("dash+xml")
        || start.starts_with(b"#EXTM3U")
        || memmem::find(start, b"<MPD").is_some()
}

/// A URL for libavformat, without its login.
pub fn encoded_url(url: &Url) -> String {
    match url.scheme {
        Scheme::Https => format!("{}{}", disguised_origin(url), url.path),
        _ => url.text_without_login(),
    }
}

/// Replaces the colons of an IPv6 address: in brackets libavformat accepts only an address.
fn disguised_origin(url: &Url) -> String {
    let host = url.host.replace(':', "!");
    format!("http://{TLS_HOST_PREFIX}{host}:{}", url.port)
}

/// The original URL of one that libavformat requests.
pub fn original_url(text: &str) -> Option<Url> {
    let place = text.strip_prefix("http://")?;
    let Some(place) = place.strip_prefix(TLS_HOST_PREFIX) else {
        return Url::parse(text);
    };
    let (authority, path) = place.split_at(place.find(['/', '?']).unwrap_or(place.len()));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    let host = match host.contains('!') {
        true => format!("[{}]", host.replace('!', ":")),
        false => host.to_owned(),
    };
    Url::parse(&format!("https://{host}:{port}{path}"))
}

/// Rewrites a playlist that came from `from`: every HTTPS URL in it is encoded. A URL is recognised at the start of a
/// line, of a quoted value or of an element; similar text elsewhere, as in a query, is left alone.
pub fn rewrite_playlist(text: &str, from: &Url) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_start = true;
    while let Some(next) = rest.chars().next() {
        if is_start && let Some((origin, behind)) = split_https_origin(rest, from) {
            out.push_str(&origin);
            rest = behind;
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
        is_start =
            matches!(next, '\n' | '\r' | '"' | '\'' | '>') || (is_start && next.is_whitespace());
    }
    out
}

/// If `text` starts with an HTTPS origin, that origin in encoded form, and the rest of the text.
fn split_https_origin<'a>(text: &'a str, from: &Url) -> Option<(String, &'a str)> {
    const HTTPS: &str = "https://";
    let is_https = text
        .get(..HTTPS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(HTTPS));
    let behind = match is_https {
        true => &text[HTTPS.len()..],
        false => text
            .strip_prefix("//")
            .filter(|_| from.scheme.is_secure())?,
    };
    let is_end = |c: char| c.is_whitespace() || "/?#\"'<>,".contains(c);
    let (authority, behind) = behind.split_at(behind.find(is_end).unwrap_or(behind.len()));
    let url = Url::parse(&format!("{HTTPS}{authority}"))?;
    Some((disguised_origin(&url), behind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn playlists_are_recognised_by_type_or_first_bytes() {
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

    #[test]
    fn a_disguised_url_reads_back_as_the_original() {
        for text in [
            "http://cam/x?y",
            "http://cam:81/",
            "https://cam/x?y=https://z",
            "https://cam:8443/x",
            "https://[fe80::1%eth0]:8443/x",
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(original_url(&encoded_url(&url)), Some(url), "{text}");
        }
        assert_eq!(
            original_url("http://https!cam/x"),
            Url::parse("https://cam/x")
        );
        for wrong in [
            "https://cam/",
            "tcp://cam",
            "http://https!",
            "http://https!!/",
        ] {
            assert_eq!(original_url(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn urls_by_tls_are_disguised_where_urls_stand() {
        let from = Url::parse("http://cam/").unwrap();
        for (text, rewritten_to) in [
            ("https://cdn/a.ts\n", "http://https!cdn:443/a.ts\n"),
            (
                "#EXTM3U\r\n  HTTPS://u:p@cdn:8443?a",
                "#EXTM3U\r\n  http://https!cdn:8443?a",
            ),
            (
                "#EXT-X-KEY:METHOD=AES-128,URI=\"https://[::1]/k\",IV=0",
                "#EXT-X-KEY:METHOD=AES-128,URI=\"http://https!!!1:443/k\",IV=0",
            ),
            (
                "<BaseURL>https://cdn</BaseURL>",
                "<BaseURL>http://https!cdn:443</BaseURL>",
            ),
            ("http://cdn/x", "http://cdn/x"),
            ("a.ts?from=https://cdn/", "a.ts?from=https://cdn/"),
            ("//cdn/x", "//cdn/x"),
            ("https://", "https://"),
            ("höher\nß", "höher\nß"),
        ] {
            assert_eq!(rewrite_playlist(text, &from), rewritten_to);
        }
        let secure = Url::parse("https://cam/").unwrap();
        assert_eq!(
            rewrite_playlist("//cdn:1/x", &secure),
            "http://https!cdn:1/x"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_can_be_rewritten_and_named(text in "(https://|//|[a-z!:%/\\n\"\\[\\]é ]){0,20}") {
            let from = Url::parse("https://cam/").unwrap();
            let _ = (rewrite_playlist(&text, &from), original_url(&format!("http://{text}")));
        }
    }
}
