//! A client of a gateway that runs on this machine, for the command line: one request at a time, with its complete
//! answer.
//!
//! Administration is for loopback only (`auth`), so the client connects nowhere else. There any certificate can be
//! accepted: nobody but this machine can be on the other side, and a certificate for `localhost` is usually self-signed.

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{fmt, io, pin::Pin, str::FromStr, sync::Arc, task::Context, time::Duration};
use thiserror::Error;
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tokio_rustls::TlsConnector;

use crate::WholeBody;

/// Time for a connection, and for the answer: a component may have to be compiled, for at most two minutes, and compared,
/// for at most half a minute.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);
/// Largest answer in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Address of a gateway on this machine, such as `http://127.0.0.1:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUrl {
    tls: bool,
    /// Name or address, with brackets around an IPv6 address.
    host: String,
    port: u16,
}

impl Default for GatewayUrl {
    fn default() -> Self {
        GatewayUrl {
            tls: false,
            host: "127.0.0.1".into(),
            port: 8080,
        }
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl FromStr for GatewayUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a gateway's address; write http://127.0.0.1:8080 or https://localhost:8443"
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let usual = if tls { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (authority, usual),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-[]:".contains(c);
        match host.is_empty() || !host.chars().all(is_host) {
            true => Err(wrong()),
            false => Ok(GatewayUrl {
                tls,
                host: host.to_owned(),
                port,
            }),
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The host has no loopback address.
    #[error(
        "{0} is not on this machine; administration is possible from the gateway's own machine only"
    )]
    Elsewhere(GatewayUrl),
    /// There is no gateway.
    #[error("no gateway answers at {url}: {reason}; is it running, and on that port? (--url)")]
    Connect {
        /// Its address.
        url: GatewayUrl,
        /// The system's error.
        reason: io::Error,
    },
    /// The connection failed during the request.
    #[error("the request to {url} failed: {reason}")]
    Failed {
        /// Its address.
        url: GatewayUrl,
        /// What went wrong.
        reason: String,
    },
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    url: GatewayUrl,
    body: Incoming,
    /// Kept while the body arrives.
    _connection: Connection,
}

/// A connection, which ends when this is dropped.
#[derive(Debug)]
struct Connection {
    task: JoinHandle<hyper::Result<()>>,
    /// Without it hyper may end the connection before the body has arrived.
    _sender: http1::SendRequest<WholeBody>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    /// The next part of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let next = |context: &mut Context<'_>| Pin::new(&mut self.body).poll_frame(context);
        let failed = |error: hyper::Error| ClientError::Failed {
            url: self.url.clone(),
            reason: error.to_string(),
        };
        let frame = std::future::poll_fn(next).await.transpose();
        let frame = frame.map_err(failed)?;
        Ok(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// The complete body.
    ///
    /// # Errors
    /// The connection failed, or the body is too long.
    pub async fn collect(mut self) -> Result<Bytes, ClientError> {
        let mut all = Vec::new();
        while let Some(data) = self.next().await? {
            all.extend_from_slice(&data);
            if all.len() > MAX_ANSWER_BYTES {
                return Err(ClientError::Failed {
                    url: self.url.clone(),
                    reason: "the answer is too long".into(),
                });
            }
        }
        Ok(all.into())
    }
}

/// Sends one request, with a JSON body if there is one; returns status and body of the answer.
///
/// # Errors
/// There is no gateway at that address, or the connection failed.
pub async fn request(
    url: &GatewayUrl,
    method: Method,
    path: &str,
    json: Option<String>,
    tls: Arc<ClientConfig>,
) -> Result<(StatusCode, Bytes), ClientError> {
    let answered = async {
        let answer = open(url, method, path, json, tls).await?;
        Ok((answer.status, answer.collect().await?))
    };
    timeout(ANSWER_TIMEOUT, answered)
        .await
        .unwrap_or_else(|_| Err(late(url)))
}

/// Sends one request, with a JSON body if there is one; returns the answer once its head has arrived.
///
/// # Errors
/// There is no gateway at that address, or the connection failed.
pub async fn open(
    url: &GatewayUrl,
    method: Method,
    path: &str,
    json: Option<String>,
    tls: Arc<ClientConfig>,
) -> Result<Answer, ClientError> {
    let failed = |reason: String| ClientError::Failed {
        url: url.clone(),
        reason,
    };
    let connected = timeout(CONNECT_TIMEOUT, connect(url)).await;
    let tcp = connected.map_err(|_| failed("it does not accept the connection".into()))??;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, format!("{}:{}", url.host, url.port))
        .header(header::ACCEPT, "application/json");
    if json.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = WholeBody::from(Bytes::from(json.unwrap_or_default()));
    let request = request
        .body(body)
        .map_err(|error| failed(error.to_string()))?;
    let answered = async {
        match url.tls {
            false => exchange(tcp, request).await,
            true => {
                let connector = TlsConnector::from(tls);
                let host = url.host.trim_matches(['[', ']']).to_owned();
                let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
                let tls = connector.connect(name, tcp).await.map_err(|error| {
                    format!(
                        "there is no TLS ({error}); for a gateway without, write http:// (--url)"
                    )
                });
                exchange(tls?, request).await
            }
        }
    };
    let answered = timeout(ANSWER_TIMEOUT, answered).await;
    let (response, connection) = answered.map_err(|_| late(url))?.map_err(failed)?;
    let (head, body) = response.into_parts();
    Ok(Answer {
        status: head.status,
        url: url.clone(),
        body,
        _connection: connection,
    })
}

fn late(url: &GatewayUrl) -> ClientError {
    ClientError::Failed {
        url: url.clone(),
        reason: "it does not answer".into(),
    }
}

/// Connects to the first loopback address of the host.
async fn connect(url: &GatewayUrl) -> Result<TcpStream, ClientError> {
    let unreachable = |reason| ClientError::Connect {
        url: url.clone(),
        reason,
    };
    let host = url.host.trim_matches(['[', ']']);
    let addresses = tokio::net::lookup_host((host, url.port)).await;
    let mut refused = None;
    for address in addresses.map_err(unreachable)? {
        if !address.ip().to_canonical().is_loopback() {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => refused = Some(error),
        }
    }
    Err(match refused {
        Some(reason) => unreachable(reason),
        None => ClientError::Elsewhere(url.clone()),
    })
}

/// Sends the request; returns the answer's head, with the connection on which its body arrives.
async fn exchange<S>(
    socket: S,
    request: Request<WholeBody>,
) -> Result<(Response<Incoming>, Connection), String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let shown = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(shown)?;
    let task = tokio::spawn(connection);
    let response = sender.send_request(request).await;
    let connection = Connection {
        task,
        _sender: sender,
    };
    Ok((response.map_err(shown)?, connection))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://localhost/", "http://localhost:80"),
            ("https://[::1]:8443", "https://[::1]:8443"),
            ("https://[::1]", "https://[::1]:443"),
        ] {
            let url: GatewayUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
        }
        for text in [
            "localhost:8080",
            "ftp://x",
            "http://",
            "http://a/b",
            "http://a:b",
        ] {
            assert!(text.parse::<GatewayUrl>().is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn other_machines_are_not_connected_to() {
        let url: GatewayUrl = "http://192.0.2.1:80".parse().unwrap();
        let tls =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let refused = request(&url, Method::GET, "/", None, Arc::new(tls)).await;
        let refused = refused.unwrap_err();
        assert!(matches!(refused, ClientError::Elsewhere(_)), "{refused}");
    }
}
