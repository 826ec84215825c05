//! The path below which a client sees the gateway, as behind a proxy at `https://home.example/cams/`.
//!
//! [`enter`] is where every request begins: it finds that path (`base-path` of the config, or what a trusted proxy tells)
//! and takes it off the request's own, if the proxy has not. From there on all paths are the gateway's own. What names a
//! path in an answer is relative, or carries the base path, which [`of`] tells. Reasons are in
//! `docs/decisions/0045-behind-proxies.md`.

use super::{Body, redirect};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    http::{Extensions, uri::PathAndQuery},
};
use sluicegate_config::{BasePath, Server};
use sluicegate_net::auth::{self, Peer};

/// Takes the base path off a request, and notes it there for [`of`].
///
/// # Errors
/// A redirect: the path is the base path without a slash behind it, below which relative links lead elsewhere.
pub fn enter<B>(
    server: &Server,
    peer: Peer,
    mut request: Request<B>,
) -> Result<Request<B>, Box<Response<Body>>> {
    let base_path = auth::base_path(server, peer, request.headers());
    if base_path.is_root() {
        return Ok(request);
    }
    match below(&base_path, request.uri()) {
        Some(Below::Here) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let (status, place) = (StatusCode::PERMANENT_REDIRECT, format!("{base_path}/"));
            let redirect = redirect(status, &place, request.uri().query());
            return Err(Box::new(redirect));
        }
        Some(Below::Path(uri)) => *request.uri_mut() = uri,
        Some(Below::Here) | None => {}
    }
    request.extensions_mut().insert(base_path);
    Ok(request)
}

/// The base path of a request that has passed [`enter`].
pub fn of(extensions: &Extensions) -> BasePath {
    extensions.get().cloned().unwrap_or_default()
}

/// What a path is below the base path.
enum Below {
    /// The base path itself, without a slash behind it.
    Here,
    /// A path below it, without the base path.
    Path(Uri),
}

/// What is requested below the base path; `None` if the path is not below it, since the proxy has taken it off.
fn below(base_path: &BasePath, uri: &Uri) -> Option<Below> {
    if base_path.is_ambiguous() {
        return None;
    }
    let rest = uri.path().strip_prefix(base_path.as_str())?;
    if rest.is_empty() {
        return Some(Below::Here);
    }
    if !rest.starts_with('/') {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    let query = uri
        .query()
        .map_or_else(String::new, |query| format!("?{query}"));
    parts.path_and_query = PathAndQuery::try_from(format!("{rest}{query}")).ok();
    Uri::from_parts(parts).ok().map(Below::Path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use hyper::header;
    use proptest::prelude::*;

    const PEER: Peer = Peer {
        address: Peer::UNIX,
        tls: false,
    };

    fn server(base_path: &str) -> Server {
        Server {
            base_path: base_path.parse().unwrap(),
            trusted_proxies: vec!["unix".parse().unwrap()],
            ..Server::default()
        }
    }

    /// The path and query that are left, and the base path; or where the client is sent.
    fn entered(base_path: &str, told: Option<&str>, asked: &str) -> (String, String) {
        let mut request = Request::builder().uri(asked);
        if let Some(told) = told {
            request = request.header("x-forwarded-prefix", told);
        }
        match enter(&server(base_path), PEER, request.body(()).unwrap()) {
            Ok(request) => {
                let left = request.uri().path_and_query().unwrap().to_string();
                (left, of(request.extensions()).to_string())
            }
            Err(redirect) => {
                let place = redirect.headers()[header::LOCATION].to_str().unwrap();
                (format!("-> {place}"), String::new())
            }
        }
    }

    #[test]
    fn the_base_path_is_taken_off_unless_the_proxy_has_done_so() {
        for (base_path, told, asked, left, carried) in [
            ("", None, "/live/a?b", "/live/a?b", ""),
            (
                "/cams",
                None,
                "/cams/live/a?b=%2F",
                "/live/a?b=%2F",
                "/cams",
            ),
            ("/cams", None, "/live/a", "/live/a", "/cams"),
            ("/cams", None, "/cams/", "/", "/cams"),
            ("/cams", None, "/cams/cams/", "/cams/", "/cams"),
            ("/cams", None, "/camshaft/a", "/camshaft/a", "/cams"),
            ("/cams", None, "/cams?a", "-> /cams/?a", ""),
            ("/cams", None, "/cams", "-> /cams/", ""),
            ("/a/b", None, "/a/b/live", "/live", "/a/b"),
            ("/a/b", None, "/a", "/a", "/a/b"),
            (
                "/cams",
                None,
                "/cams//evil.example/",
                "//evil.example/",
                "/cams",
            ),
            ("/cams", None, "/cams/../x", "/../x", "/cams"),
            // What the proxy tells takes precedence.
            (
                "/cams",
                Some("/other"),
                "/other/live/a",
                "/live/a",
                "/other",
            ),
            ("/cams", Some("/other"), "/live/a", "/live/a", "/other"),
            ("", Some("/"), "/live/a", "/live/a", ""),
            ("", Some("//evil.example"), "/live/a", "/live/a", ""),
            // A proxy that tells of such a path has taken it off.
            ("", Some("/live"), "/live/a", "/live/a", "/live"),
            (
                "",
                Some("/api/hassio_ingress/x"),
                "/api/devices",
                "/api/devices",
                "/api/hassio_ingress/x",
            ),
        ] {
            let found = entered(base_path, told, asked);
            assert_eq!(
                found,
                (left.into(), carried.into()),
                "{base_path} {told:?} {asked}"
            );
        }
        // A request with its authority, as of HTTP/2.
        let request = Request::builder().uri("https://h.example:1/cams/a?b");
        let request = enter(&server("/cams"), PEER, request.body(()).unwrap()).unwrap();
        assert_eq!(request.uri().to_string(), "https://h.example:1/a?b");
        // Only what is read can be asked for again.
        let request = Request::post("/cams").body(()).unwrap();
        let request = enter(&server("/cams"), PEER, request).unwrap();
        assert_eq!(request.uri().path(), "/cams");
    }

    proptest! {
        #[test]
        fn whatever_is_told_and_asked_nobody_is_sent_elsewhere(told in "[ -~]{0,30}", asked in "/[!-~]{0,30}") {
            let request = Request::builder().uri(asked.as_str()).header("x-forwarded-prefix", told);
            let Ok(request) = request.body(()) else { return Ok(()) };
            if let Err(redirect) = enter(&server(""), PEER, request) {
                let place = redirect.headers()[header::LOCATION].to_str().unwrap();
                prop_assert!(place.starts_with('/') && !place.starts_with("//"), "{}", place);
            }
        }
    }
}
