//! The pages in the binary.

use super::{Body, error, full, set};
use hyper::{HeaderMap, Response, StatusCode, header};

/// Name, fingerprint and content of every file under `web`'s build.
const FILES: &[(&str, &str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// No script or style but our own files; pictures and video may come from memory.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

/// A file by its name, or 304 if the client has it.
pub fn page(name: &str, headers: &HeaderMap) -> Response<Body> {
    let Some((_, hash, content)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return error(false, StatusCode::NOT_FOUND, "there is no such file");
    };
    let tag = format!("\"{hash}\"");
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        full(StatusCode::NOT_MODIFIED, content_type(name), "")
    } else {
        full(StatusCode::OK, content_type(name), *content)
    };
    set(&mut response, header::ETAG, &tag);
    set(&mut response, header::CACHE_CONTROL, "no-cache");
    set(&mut response, header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
