//! The way from a client's request to a session.
//!
//! The request is checked like any other of the gateway, so it is given as an HTTP request. `wtransport` can refuse it
//! with three statuses only.

use super::super::{limiter::Permit, quic::Path};
use hyper::{
    HeaderMap, Request, Uri, Version,
    header::{HeaderName, HeaderValue},
    http::uri::{Authority, InvalidUri, PathAndQuery, Scheme},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::timeout;

/// How long a client may take to acknowledge an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Port of an authority without one.
const DEFAULT_PORT: u16 = 443;

/// A client's request for a session (extended CONNECT).
pub struct SessionRequest {
    head: Request<()>,
    session: wtransport::endpoint::SessionRequest,
    permit: Permit,
}

/// How a request for a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 403: the client may not, or not so.
    Forbidden,
    /// 404: there is no such thing.
    NotFound,
    /// 429: not now.
    TooManyRequests,
}

impl SessionRequest {
    /// The request as HTTP has it. `port` is the one that it came to; the authority of a request to it becomes that of
    /// the gateway's pages, which have the TCP port `page`. `None` if its path or authority is not a valid one, which
    /// is answered.
    pub(crate) async fn read(
        session: wtransport::endpoint::SessionRequest,
        permit: Permit,
        port: u16,
        page: u16,
    ) -> Option<SessionRequest> {
        let read = head(
            session.authority(),
            session.path(),
            session.headers(),
            port,
            page,
        );
        match read {
            Ok(head) => Some(SessionRequest {
                head,
                session,
                permit,
            }),
            Err(error) => {
                tracing::debug!(peer = %session.remote_address(), "refused a WebTransport session: {error}");
                let _ = timeout(ANSWER_TIMEOUT, session.not_found()).await;
                None
            }
        }
    }

    /// The request, as a GET of HTTP/3.
    pub fn head(&self) -> &Request<()> {
        &self.head
    }

    /// Refuses the session.
    pub async fn refuse(self, refusal: Refusal) {
        let session = self.session;
        let _ = timeout(ANSWER_TIMEOUT, async {
            match refusal {
                Refusal::Forbidden => session.forbidden().await,
                Refusal::NotFound => session.not_found().await,
                Refusal::TooManyRequests => session.too_many_requests().await,
            }
        })
        .await;
    }

    /// Accepts the session; `None` if the client has left.
    pub async fn accept(self) -> Option<Session> {
        let accepted = timeout(ANSWER_TIMEOUT, self.session.accept()).await;
        let connection = accepted.ok()?.ok()?;
        let path = Arc::new(Path::new(connection.quic_connection().clone()));
        Some(Session {
            connection,
            path,
            permit: self.permit,
        })
    }
}

/// An accepted session.
#[derive(Debug)]
pub struct Session {
    pub(super) connection: wtransport::Connection,
    pub(super) path: Arc<Path>,
    pub(super) permit: Permit,
}

impl Session {
    /// The path to the client.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }
}

/// The request as HTTP has it, a GET of HTTP/3, from the parts of a request that came to the UDP port `port`. The
/// authority of a request to that becomes the one of the gateway's pages, which have the TCP port `page`.
///
/// # Errors
/// The authority or the path is not a valid one.
pub fn head(
    authority: &str,
    path: &str,
    fields: &HashMap<String, String>,
    port: u16,
    page: u16,
) -> Result<Request<()>, hyper::http::Error> {
    let authority = Authority::try_from(authority)?;
    let uri = Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(at_page(authority, port, page)?)
        .path_and_query(PathAndQuery::try_from(path)?)
        .build()?;
    let mut request = Request::builder()
        .version(Version::HTTP_3)
        .uri(uri)
        .body(())?;
    *request.headers_mut() = headers(fields);
    Ok(request)
}

/// The authority with the port of the gateway's pages, if it has that of WebTransport.
fn at_page(authority: Authority, port: u16, page: u16) -> Result<Authority, InvalidUri> {
    let named = authority.port_u16().unwrap_or(DEFAULT_PORT);
    if named != port || port == page {
        return Ok(authority);
    }
    Authority::try_from(format!("{}:{page}", authority.host()))
}

/// The header fields, without pseudo-header fields, and without those that HTTP does not allow.
fn headers(fields: &HashMap<String, String>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_read_as_one_to_the_gateways_pages() {
        for (authority, port, page, expected) in [
            ("localhost:8080", 8080, 8080, "localhost:8080"),
            ("localhost:8443", 8443, 8080, "localhost:8080"),
            ("localhost:9000", 8443, 8080, "localhost:9000"),
            ("cam.example", 443, 8080, "cam.example:8080"),
            ("cam.example", 8080, 8080, "cam.example"),
            ("[::1]:8443", 8443, 8080, "[::1]:8080"),
        ] {
            let fields = [
                (":authority", authority),
                ("origin", "https://a"),
                ("b c", "d"),
            ];
            let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let request = head(authority, "/live/a/b?c", &fields.into(), port, page).unwrap();
            assert_eq!(request.uri().authority().unwrap(), expected);
            assert_eq!(request.uri().path_and_query().unwrap(), "/live/a/b?c");
            assert_eq!(request.headers().len(), 1);
            assert_eq!(request.headers()["origin"], "https://a");
        }
        let none = HashMap::new();
        for (authority, path) in [("a b", "/"), ("", "/"), ("a", "b c"), ("a", "")] {
            assert!(
                head(authority, path, &none, 1, 1).is_err(),
                "{authority:?} {path:?}"
            );
        }
    }
}
