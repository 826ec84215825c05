//! The way from a request to a socket: check the handshake (RFC 6455 4.2), answer 101, and serve what hyper hands over.
//!
//! It is two steps, as a viewer is admitted between them: [`Handshake::of`] says whether the request is one, and
//! [`Handshake::upgrade`] answers it. A handshake that is dropped instead is simply not answered by 101.

use crate::{Socket, WholeBody};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    header::{self, HeaderValue},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};

/// A valid handshake that waits for its answer.
#[derive(Debug)]
pub struct Handshake {
    accept: String,
    /// Subprotocols that the client offers, in its order.
    offered: Vec<String>,
    /// The one that was agreed on.
    protocol: Option<String>,
}

/// Reason why a WebSocket handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// It requests another version than 13; the answer is 426 with `Sec-WebSocket-Version: 13`.
    Version,
    /// A header or the method is missing or invalid, for this reason; the answer is 400.
    Invalid(&'static str),
}

impl Handshake {
    /// The handshake that `request` is; `None` if it is an ordinary request.
    ///
    /// # Errors
    /// It is a handshake and invalid.
    pub fn of<B>(request: &Request<B>) -> Result<Option<Handshake>, HandshakeError> {
        let accept = accept(request.method(), request.version(), request.headers())?;
        Ok(accept.map(|accept| Handshake {
            accept,
            offered: offered(request.headers()),
            protocol: None,
        }))
    }

    /// Agrees on the first of these subprotocols that the client offers, and returns it. The answer names it (RFC 6455
    /// section 4.2.2).
    pub fn agree(&mut self, protocols: &[String]) -> Option<String> {
        let mut known = protocols.iter();
        self.protocol = known.find(|known| self.offered.contains(known)).cloned();
        self.protocol.clone()
    }

    /// The answer to `request`, 101. Once it has been sent, `serve` runs on a task of its own with the socket and the
    /// bytes that were read of it already. If the connection fails before, `serve` is dropped.
    pub fn upgrade<B, F, T>(self, request: &mut Request<B>, serve: F) -> Response<WholeBody>
    where
        F: FnOnce(Socket, Bytes) -> T + Send + 'static,
        T: Future<Output = ()> + Send,
    {
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move {
            if let Some((socket, first)) = socket(upgrade).await {
                serve(socket, first).await;
            }
        });
        let mut response = Response::new(WholeBody::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        let protocol = self.protocol.map(HeaderValue::try_from);
        if let Some(Ok(protocol)) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }
}

/// The socket under an upgraded connection, and what was read of it already.
async fn socket(upgrade: OnUpgrade) -> Option<(Socket, Bytes)> {
    match upgrade.await {
        Ok(upgraded) => match upgraded.downcast::<TokioIo<Socket>>() {
            Ok(parts) => Some((parts.io.into_inner(), parts.read_buf)),
            Err(_) => {
                tracing::error!("an upgraded connection is not one that this gateway accepted");
                None
            }
        },
        Err(error) => {
            tracing::debug!("the upgrade failed: {error}");
            None
        }
    }
}

/// The subprotocols that a handshake offers.
fn offered(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let lines = lines.filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_owned())
        .collect()
}

/// The `Sec-WebSocket-Accept` of a handshake; `None` of another request.
fn accept(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<Option<String>, HandshakeError> {
    let has = |name: header::HeaderName, token: &str| {
        headers.get_all(name).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(token))
            })
        })
    };
    if version == Version::HTTP_2 && headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        // There is no Upgrade in HTTP/2, and this gateway does not offer RFC 8441.
        return Err(HandshakeError::Invalid(
            "a WebSocket needs a connection of HTTP/1.1; offer only http/1.1 in ALPN",
        ));
    }
    if !has(header::UPGRADE, "websocket") {
        return Ok(None);
    }
    if method != Method::GET || version < Version::HTTP_11 {
        return Err(HandshakeError::Invalid(
            "a WebSocket handshake is a GET of HTTP/1.1",
        ));
    }
    if !has(header::CONNECTION, "upgrade") {
        return Err(HandshakeError::Invalid(
            "a WebSocket handshake needs `Connection: Upgrade`",
        ));
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(HandshakeError::Version);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| {
            STANDARD
                .decode(key.as_bytes())
                .is_ok_and(|bytes| bytes.len() == 16)
        })
        .ok_or(HandshakeError::Invalid(
            "`Sec-WebSocket-Key` must be 16 bytes in base64",
        ))?;
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    Ok(Some(STANDARD.encode(hash.finalize())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn the_example_of_the_standard_is_accepted() {
        let good = headers(&[
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let accepted = accept(&Method::GET, Version::HTTP_11, &good);
        assert_eq!(accepted, Ok(Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into())));
    }

    #[test]
    fn the_first_subprotocol_that_the_client_offers_is_agreed_on() {
        let mut request = Request::get("/").body(()).unwrap();
        *request.headers_mut() = headers(&[
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "old, new"),
        ]);
        let third = "third".parse().unwrap();
        request
            .headers_mut()
            .append("sec-websocket-protocol", third);
        let mut handshake = Handshake::of(&request).unwrap().unwrap();
        for (known, expected) in [
            (&["new", "old"][..], Some("new")),
            (&["newest", "third"], Some("third")),
            (&["ne"], None),
            (&[], None),
        ] {
            let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(handshake.agree(&known).as_deref(), expected, "{known:?}");
        }
    }

    #[test]
    fn each_error_of_a_handshake_is_distinguished() {
        let mut bad = headers(&[("upgrade", "websocket"), ("connection", "upgrade")]);
        assert_eq!(
            accept(&Method::GET, Version::HTTP_11, &bad),
            Err(HandshakeError::Version)
        );
        bad.insert("sec-websocket-version", "13".parse().unwrap());
        bad.insert("sec-websocket-key", "short".parse().unwrap());
        assert!(matches!(
            accept(&Method::GET, Version::HTTP_11, &bad),
            Err(HandshakeError::Invalid(_))
        ));
        assert!(matches!(
            accept(&Method::POST, Version::HTTP_11, &bad),
            Err(HandshakeError::Invalid(_))
        ));
        assert_eq!(
            accept(&Method::GET, Version::HTTP_11, &HeaderMap::new()),
            Ok(None)
        );
    }
}
