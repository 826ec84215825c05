//! Serves the web pages that `build.rs` embedded: dashboard, player page, documentation and their scripts.
//!
//! Files whose name contains a hash of their content are cached for ever; the others are revalidated by `ETag`. Every
//! response has a Content Security Policy. Compression and caching headers are those of `component_response`.

use super::{Body, component_response, error, full, redirect, set, webtransport};
use crate::gateway::Gateway;
use bytes::Bytes;
use hyper::{HeaderMap, Request, Response, StatusCode, header};
use sluicegate_config as config;
use sluicegate_net::auth;
use sluicegate_plugin as plugin;
use std::{collections::BTreeMap, sync::LazyLock};

/// Name, fingerprint and content of every file in `target/web`.
const FILES: &[(&str, &str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// Fingerprint and response of each file by name; compressed at most once.
static RESPONSES: LazyLock<BTreeMap<&str, (&str, plugin::Response)>> = LazyLock::new(|| {
    let answer = |(name, hash, content): &(&'static str, &'static str, &'static [u8])| {
        let max_age = if has_content_hash(name) {
            plugin::Response::IMMUTABLE
        } else {
            0
        };
        let body = Bytes::from_static(content).into();
        let answer = plugin::Response::new(200, content_type(name).into(), max_age, body);
        (*name, (*hash, answer))
    };
    FILES.iter().map(answer).collect()
});

/// Content Security Policy of pages: scripts and styles only from the gateway; images and media also from blobs, images
/// also from data URLs.
const POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; frame-ancestors 'self'; base-uri 'none'; form-action 'none'";

/// The same of pages with forms and without scripts.
const FORM_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Answers with a page made from a file, in which each `{{name}}` is replaced by its value, which is HTML.
pub fn filled(name: &str, status: StatusCode, values: &[(&str, &str)]) -> Response<Body> {
    let mut rest = text(name);
    let mut page = String::with_capacity(rest.len());
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, behind) = behind.split_once("}}").unwrap_or((behind, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        page.push_str(before);
        page.push_str(value.map_or("", |(_, value)| value));
        rest = behind;
    }
    page.push_str(rest);
    let mut response = full(status, "text/html; charset=utf-8", page);
    set(&mut response, header::CONTENT_SECURITY_POLICY, FORM_POLICY);
    response
}

/// A text as it is written in HTML, also as the value of an attribute in quotes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Answers with a file of the player, which opens WebTransport sessions, or 304 if the client's copy is current.
pub fn player<B>(name: &str, gateway: &Gateway, request: &Request<B>) -> Response<Body> {
    let mut response = page(name, request.headers());
    let host = auth::requested_host(request.into());
    if let Some(origin) = host.and_then(|host| webtransport::origin(&host, gateway)) {
        let policy = format!("{POLICY}; connect-src 'self' {origin}");
        set(&mut response, header::CONTENT_SECURITY_POLICY, &policy);
    }
    response
}

/// Answers with a file, or 304 if the client's copy is current.
fn page(name: &str, headers: &HeaderMap) -> Response<Body> {
    let Some((hash, answer)) = RESPONSES.get(name) else {
        return error(false, StatusCode::NOT_FOUND, "there is no such file");
    };
    // A weak tag (RFC 9110 section 8.8.1), since it is the same with and without compression.
    let tag = format!("W/\"{hash}\"");
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = if known {
        full(StatusCode::NOT_MODIFIED, content_type(name), "")
    } else {
        component_response::respond(answer, headers).0
    };
    set(&mut response, header::ETAG, &tag);
    if !has_content_hash(name) {
        set(&mut response, header::CACHE_CONTROL, "no-cache");
    }
    set(&mut response, header::CONTENT_SECURITY_POLICY, POLICY);
    response
}

/// Answers with a page of the documentation by its name, without `.html`, or with a file that a page links to.
pub fn documentation(name: &str, headers: &HeaderMap) -> Response<Body> {
    let name = format!("docs/{name}");
    match RESPONSES.contains_key(name.as_str()) {
        true => page(&name, headers),
        false => page(&format!("{name}.html"), headers),
    }
}

/// The same by its path below `/docs/`. Since links in pages are relative, each has one path only: a slash at its end
/// and the name of the first page lead there.
pub fn documentation_below(path: &str, headers: &HeaderMap) -> Response<Body> {
    let name = match path {
        "" | "index" | "index.html" => "docs",
        _ if path.ends_with('/') => {
            let path = path.trim_end_matches('/');
            path.rsplit('/').next().unwrap_or_default()
        }
        _ => return documentation(path, headers),
    };
    let place = format!("../{}", config::path_segment(name));
    redirect(StatusCode::PERMANENT_REDIRECT, &place, None)
}

/// The text of a file; empty if there is none.
pub fn text(name: &str) -> &'static str {
    let file = FILES.iter().find(|(known, ..)| *known == name);
    file.and_then(|(.., content)| std::str::from_utf8(content).ok())
        .unwrap_or_default()
}

/// Whether the name contains the bundler's hash of the content, as in `chunk-3S2IWZWS.js`.
fn has_content_hash(name: &str) -> bool {
    let stem = name.strip_suffix(".js").unwrap_or_default();
    stem.rsplit_once('-').is_some_and(|(_, hash)| {
        let of_hash = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        hash.len() == 8 && hash.bytes().all(of_hash)
    })
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "txt" | "toml" | "wit" | "conf" => "text/plain; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_is_found_without_html_and_at_one_path_each() {
        for (path, status, place) in [
            ("api", 200, ""),
            ("api.html", 200, ""),
            ("no/such/page", 404, ""),
            ("../index", 404, ""),
            ("../watch.html", 404, ""),
            ("", 308, "../docs"),
            ("/", 308, "../"),
            ("index", 308, "../docs"),
            ("index.html", 308, "../docs"),
            ("api/", 308, "../api"),
            ("guide/install/", 308, "../install"),
            ("evil.example//", 308, "../evil.example"),
        ] {
            let found = documentation_below(path, &HeaderMap::new());
            let location = found.headers().get(header::LOCATION);
            let location = location.map_or("", |place| place.to_str().unwrap_or_default());
            assert_eq!(
                (found.status().as_u16(), location),
                (status, place),
                "{path:?}"
            );
        }
        let first = documentation("index", &HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
    }

    #[test]
    fn files_that_the_documentation_links_to_are_text_to_be_read() {
        for name in [
            "docs/repo/examples/config/lan.toml",
            "docs/repo/wit/gateway.wit",
            "nginx.conf",
            "Caddyfile.txt",
        ] {
            assert_eq!(content_type(name), "text/plain; charset=utf-8", "{name}");
        }
    }

    #[test]
    fn a_text_cannot_leave_its_place_in_a_page() {
        let text = "\"><script>alert('&')</script>";
        let written = escaped(text);
        assert!(!written.contains(['<', '>', '"']), "{written}");
        assert_eq!(escaped("porch"), "porch");
    }

    #[test]
    fn names_with_a_hash_last() {
        for (name, lasts) in [
            ("assets/hls_js-5DVAMUVT.js", true),
            ("assets/chunk-3S2IWZWS.js", true),
            ("assets/player.js", false),
            ("assets/logo-maskable.svg", false),
            ("assets/some-lowercas.js", false),
        ] {
            assert_eq!(has_content_hash(name), lasts, "{name}");
        }
    }
}
