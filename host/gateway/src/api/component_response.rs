//! Turns a component's answer to a request, such as an HLS playlist, into an HTTP response with status, cache lifetime
//! and compression.
//!
//! The answer is shared by all clients that request the same URL, and its gzipped form is made once. Byte ranges are
//! not served, since players request parts and segments by name; a range request gets the complete response, as RFC
//! 9110 section 14.2 allows. Called by `live` for transports and by `pages` for the web pages.

use super::{Body, boxed, full, set};
use bytes::Bytes;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use sluicegate_net::WholeBody;
use sluicegate_plugin as plugin;
use sluicegate_viewer::RequestClient;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
};

/// Largest `Retry-After` that is sent, in seconds.
const MAX_RETRY_AFTER: u32 = 60;

/// Keeps shared caches from serving the response after its URL, which has a ticket, has expired.
pub fn make_private(response: &mut Response<Body>) {
    if let Some(value) = response.headers().get(header::CACHE_CONTROL)
        && let Ok(value) = value.to_str()
    {
        let value = value.replace("public", "private");
        set(response, header::CACHE_CONTROL, &value);
    }
}

/// The response to a request with the headers `request_headers`, and the size of its body in bytes.
pub fn respond(answer: &plugin::Response, request_headers: &HeaderMap) -> (Response<Body>, usize) {
    let status = StatusCode::from_u16(answer.status)
        .ok()
        // Only final statuses (RFC 9110 section 15); a component may return any number.
        .filter(|status| (200..600).contains(&status.as_u16()))
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let packed = takes_gzip(request_headers)
        .then(|| answer.gzipped())
        .flatten();
    let mut response = full(status, &answer.content_type, Bytes::new());
    let bytes = match packed {
        Some(packed) => {
            set(&mut response, header::CONTENT_ENCODING, "gzip");
            *response.body_mut() = boxed(WholeBody::from(packed.clone()));
            packed.len()
        }
        None => {
            *response.body_mut() = boxed(WholeBody::from(&answer.body));
            answer.body.len()
        }
    };
    if answer.is_text() {
        set(&mut response, header::VARY, "Origin, Accept-Encoding");
    }
    for (name, value) in &answer.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            let name = HeaderName::from_static(name);
            response.headers_mut().append(name, value);
        }
    }
    match answer.max_age {
        // Not cached; the client should retry (RFC 9110 section 15.6.4).
        seconds if status == StatusCode::SERVICE_UNAVAILABLE => {
            let seconds = seconds.clamp(1, MAX_RETRY_AFTER).to_string();
            set(&mut response, header::RETRY_AFTER, &seconds);
        }
        // Not cached.
        0 => {}
        plugin::Response::IMMUTABLE => set(
            &mut response,
            header::CACHE_CONTROL,
            "public, max-age=31536000, immutable",
        ),
        seconds => {
            let value = format!("public, max-age={seconds}");
            set(&mut response, header::CACHE_CONTROL, &value);
        }
    }
    (response, bytes)
}

/// Identifies the client of a request by address and `User-Agent`, to count viewers of request-only transports.
pub fn request_client(peer: SocketAddr, request_headers: &HeaderMap) -> RequestClient {
    let mut hasher = DefaultHasher::new();
    request_headers.get(header::USER_AGENT).hash(&mut hasher);
    RequestClient {
        address: peer.ip(),
        agent: hasher.finish(),
    }
}

/// Whether the client accepts gzip (RFC 9110 section 12.5.3).
fn takes_gzip(request_headers: &HeaderMap) -> bool {
    let lines = request_headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let weight = |coding: &str| -> Option<(bool, f32)> {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let named = match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => true,
            "*" => false,
            _ => return None,
        };
        let weight = parameters.trim().strip_prefix("q=").unwrap_or("1");
        Some((named, weight.trim().parse().unwrap_or(0.0)))
    };
    // A coding that is named takes precedence over "*".
    codings
        .filter_map(weight)
        .max_by_key(|(named, _)| *named)
        .is_some_and(|(_, weight)| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_media::buffer::Buffer;

    fn accepting(codings: &'static str) -> HeaderMap {
        let value = HeaderValue::from_static(codings);
        [(header::ACCEPT_ENCODING, value)].into_iter().collect()
    }

    #[test]
    fn gzip_is_sent_only_where_accepted() {
        for (codings, takes) in [
            ("gzip", true),
            ("br, gzip;q=0.5", true),
            ("br;q=1.0, GZIP ; q=0.8", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("gzip;q=0", false),
            ("*;q=0, gzip", true),
            ("br", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&accepting(codings)), takes, "{codings}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn only_final_statuses_of_http_go_out() {
        for (status, sent) in [
            (200, 200),
            (404, 404),
            (599, 599),
            (0, 500),
            (100, 500),
            (101, 500),
            (199, 500),
            (600, 500),
            (999, 500),
            (u16::MAX, 500),
        ] {
            let answer = plugin::Response::new(status, "text/plain".into(), 0, Buffer::default());
            assert_eq!(
                respond(&answer, &HeaderMap::new()).0.status(),
                sent,
                "{status}"
            );
        }
    }

    #[test]
    fn cache_headers_state_the_lifetime_and_the_encodings() {
        let answer = |content_type: &str, max_age| {
            let body = Buffer::from(Bytes::from("#EXTINF:2.00000,\n".repeat(50)));
            plugin::Response::new(200, content_type.into(), max_age, body)
        };
        let get = |answer: &plugin::Response, codings| {
            let (response, bytes) = respond(answer, &accepting(codings));
            let header = |name| {
                let value = response.headers().get(name)?;
                value.to_str().ok().map(str::to_owned)
            };
            let cache = header(header::CACHE_CONTROL);
            (
                cache.unwrap_or_default(),
                header(header::VARY).unwrap_or_default(),
                header(header::CONTENT_ENCODING).unwrap_or_default(),
                bytes,
            )
        };
        let playlist = answer("application/vnd.apple.mpegurl", 24);
        let (cache, vary, coding, bytes) = get(&playlist, "gzip");
        assert_eq!(
            (cache.as_str(), coding.as_str()),
            ("public, max-age=24", "gzip")
        );
        assert_eq!(vary, "Origin, Accept-Encoding");
        assert!(bytes < 100);
        let (_, vary, coding, bytes) = get(&playlist, "");
        assert_eq!(
            (vary.as_str(), coding.as_str(), bytes),
            ("Origin, Accept-Encoding", "", 850)
        );
        let segment = answer("video/iso.segment", plugin::Response::IMMUTABLE);
        let (cache, vary, coding, bytes) = get(&segment, "gzip");
        assert_eq!(cache, "public, max-age=31536000, immutable");
        assert_eq!((vary.as_str(), coding.as_str(), bytes), ("", "", 850));
        assert_eq!(get(&answer("text/plain", 0), "").0, "");
    }
}
