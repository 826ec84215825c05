//! A client of a gateway that runs on this machine, for the command line: one request at a time, with its complete
//! answer.
//!
//! Administration is for loopback only (`auth`), so the client connects nowhere else. There any certificate can be
//! accepted: nobody but this machine can be on the other side, and a certificate for `localhost` is usually
//! self-signed.

use bytes::Bytes;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use sluicegate_config::{BasePath, ListenAddress, Server};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::Context,
    time::Duration,
};
use thiserror::Error;
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::WholeBody;

/// Time for a connection, and for the answer: a component may have to be compiled, for at most two minutes, and
/// compared, for at most half a minute.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(180);
/// Largest answer in bytes.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Address of a gateway on this machine: `http://127.0.0.1:8080`, perhaps with the path below which it is, or
/// `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUrl {
    place: Place,
    base_path: BasePath,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp {
        tls: bool,
        /// Name or address, with brackets around an IPv6 address.
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl Default for GatewayUrl {
    fn default() -> Self {
        GatewayUrl {
            place: Place::Tcp {
                tls: false,
                host: "127.0.0.1".into(),
                port: 8080,
            },
            base_path: BasePath::default(),
        }
    }
}

impl GatewayUrl {
    /// Where a gateway with this config is reached from its own machine: over loopback if it listens there, else over a
    /// Unix socket, else at its first address.
    pub fn of(server: &Server) -> GatewayUrl {
        let is_here = |address: &SocketAddr| {
            let ip = address.ip().to_canonical();
            ip.is_loopback() || ip.is_unspecified()
        };
        let mut sockets = server.listen.iter().filter_map(|listen| match listen {
            ListenAddress::Unix(path) => Some(Place::Unix(path.clone())),
            ListenAddress::Tcp(_) => None,
        });
        let at = |address: SocketAddr| {
            let ip: IpAddr = match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let host = match ip {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            };
            let (tls, port) = (server.tls.is_some(), address.port());
            Place::Tcp { tls, host, port }
        };
        let here = server.tcp_addresses().find(is_here).map(at);
        let place = here
            .or_else(|| sockets.next())
            .or_else(|| server.tcp_addresses().next().map(at));
        place.map_or_else(GatewayUrl::default, |place| GatewayUrl {
            place,
            base_path: server.base_path.clone(),
        })
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Tcp { tls, host, port } => {
                let scheme = if *tls { "https" } else { "http" };
                write!(f, "{scheme}://{host}:{port}{}", self.base_path)
            }
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for GatewayUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is not a gateway's address; write http://127.0.0.1:8080, https://localhost:8443 \
                 or unix:PATH"
            )
        };
        if text.starts_with("unix:") {
            return match text.parse()? {
                ListenAddress::Unix(path) => Ok(GatewayUrl {
                    place: Place::Unix(path),
                    base_path: BasePath::default(),
                }),
                ListenAddress::Tcp(_) => Err(wrong()),
            };
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let usual = if tls { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong())?)
            }
            _ => (authority, usual),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-[]:".contains(c);
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(wrong());
        }
        let base_path = path
            .parse()
            .map_err(|reason| format!("the path of `{text}` cannot be used: {reason}"))?;
        let host = host.to_owned();
        Ok(GatewayUrl {
            place: Place::Tcp { tls, host, port },
            base_path,
        })
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
    let socket = connected.map_err(|_| failed("it does not accept the connection".into()))??;
    let host = match &url.place {
        Place::Tcp { host, port, .. } => format!("{host}:{port}"),
        Place::Unix(_) => "localhost".into(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", url.base_path))
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json");
    if json.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = WholeBody::from(Bytes::from(json.unwrap_or_default()));
    let request = request
        .body(body)
        .map_err(|error| failed(error.to_string()))?;
    let answered = async {
        match socket {
            Socket::Unix(socket) => exchange(socket, request).await,
            Socket::Tcp(tcp, None) => exchange(tcp, request).await,
            Socket::Tcp(tcp, Some(name)) => {
                let connector = TlsConnector::from(tls);
                let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
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

enum Socket {
    Unix(UnixStream),
    /// With the name to expect over TLS, if there is TLS.
    Tcp(TcpStream, Option<String>),
}

/// Connects to the Unix socket, or to the first loopback address of the host.
async fn connect(url: &GatewayUrl) -> Result<Socket, ClientError> {
    let unreachable = |reason| ClientError::Connect {
        url: url.clone(),
        reason,
    };
    let (tls, host, port) = match &url.place {
        Place::Tcp { tls, host, port } => (*tls, host.trim_matches(['[', ']']), *port),
        Place::Unix(path) => {
            let connected = UnixStream::connect(path).await;
            return connected.map(Socket::Unix).map_err(unreachable);
        }
    };
    let addresses = tokio::net::lookup_host((host, port)).await;
    let mut refused = None;
    for address in addresses.map_err(unreachable)? {
        if !address.ip().to_canonical().is_loopback() {
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(tcp) => return Ok(Socket::Tcp(tcp, tls.then(|| host.to_owned()))),
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
            ("http://localhost:8080/cams/", "http://localhost:8080/cams"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            let url: GatewayUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
        }
        for text in [
            "localhost:8080",
            "ftp://x",
            "http://",
            "http://a/../b",
            "http://a/b?c",
            "http://a:b",
            "unix:",
        ] {
            assert!(text.parse::<GatewayUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_config_tells_where_its_gateway_is() {
        for (listen, shown) in [
            (&["0.0.0.0:8080"][..], "http://127.0.0.1:8080/cams"),
            (&["[::]:81", "127.0.0.1:80"], "http://[::1]:81/cams"),
            (
                &["192.0.2.1:80", "127.0.0.2:82"],
                "http://127.0.0.2:82/cams",
            ),
            (&["192.0.2.1:80", "unix:/run/x"], "unix:/run/x"),
            (&["192.0.2.1:80"], "http://192.0.2.1:80/cams"),
        ] {
            let server = Server {
                listen: listen
                    .iter()
                    .map(|listen| listen.parse().unwrap())
                    .collect(),
                base_path: "/cams".parse().unwrap(),
                ..Server::default()
            };
            assert_eq!(GatewayUrl::of(&server).to_string(), shown);
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
