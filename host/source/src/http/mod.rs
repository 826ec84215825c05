//! The HTTP client of sources: one request at a time, blocking the source's own thread.
//!
//! It uses hyper on a single-threaded runtime that runs only while the source waits. A camera that sends faster than it
//! is read therefore gets TCP backpressure. Redirects are followed to the same host, and to others only if the config
//! names them; the login is sent only to the origin that it was written for. `web` uses it for media, `guard` for
//! playlists.

mod guard;
mod login;
mod playlist;
mod tls;
mod url;

pub use guard::PlaylistProxy;
pub use login::{Login, MAX_LOGINS};
pub use playlist::is_playlist;
pub use tls::config as tls_config;
#[cfg(test)]
pub use tls::server as tls_server;
pub use url::{Redirects, Scheme, Url};

use super::{DATA_TIMEOUT, POLL_INTERVAL, SourceError, Stop};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{
    fmt,
    future::Future,
    io, net,
    pin::pin,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    runtime::{self, Runtime},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Timeout for connecting to one address of a host.
const CONNECT: Duration = Duration::from_secs(5);
/// Number of bytes from which a response's type is recognised if `Content-Type` does not help.
const MAX_SNIFFED_BYTES: usize = 512;

/// A client for one source.
pub struct Client {
    redirects: Redirects,
    /// The login of the origin that was requested last with its challenge, and a URL of that origin.
    login: Option<(Url, Login)>,
    /// Sent with every request.
    cookie: Option<HeaderValue>,
    stop: Stop,
    /// When a wait times out.
    deadline: Instant,
    body: Option<Incoming>,
    link: Option<ClientConnection>,
    /// Always `Some`, except while the client is dropped.
    runtime: Option<Runtime>,
}

/// A connection on which a request may be sent.
struct ClientConnection {
    place: (bool, String, u16),
    sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<()>,
}

/// A range of bytes, to the end if `to` is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Position of the first byte, from 0.
    pub from: u64,
    /// Position of the last byte.
    pub to: Option<u64>,
}

impl ByteRange {
    /// Value for a `Range` header (RFC 9110 14.1.2).
    fn range(&self) -> String {
        let to = self.to.map_or(String::new(), |to| to.to_string());
        format!("bytes={}-{to}", self.from)
    }

    /// Whether a response with this `Content-Range` starts where this range does (RFC 9110 14.4).
    pub fn begins(&self, content_range: &str) -> bool {
        let numbers = content_range.trim().strip_prefix("bytes ");
        let first = numbers.and_then(|numbers| numbers.split('-').next());
        first.and_then(|first| first.trim().parse().ok()) == Some(self.from)
    }
}

/// Response to one request.
pub enum Reply {
    /// The content follows.
    Content(ResponseHead),
    /// A redirect, with its `Location` header if there is one.
    Moved(Option<String>),
}

/// Head of a response with content, 200 or 206; [`Client::next`] returns the content.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Final URL, after redirects.
    pub url: Url,
    /// `Content-Type`, as sent.
    pub content_type: Option<String>,
    /// Length in bytes, if known.
    pub length: Option<u64>,
    /// Whether the server accepts range requests.
    pub takes_ranges: bool,
    /// `Content-Range` of a partial response, as sent; it starts where the requested range does.
    pub part: Option<String>,
    /// `Set-Cookie` headers.
    pub cookies: Vec<HeaderValue>,
}

/// Why a request failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The source was stopped.
    Stopped,
    /// No data arrived for [`DATA_TIMEOUT`].
    Silent,
    /// Reason for the user, and what to do.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Stopped => f.write_str("the source was stopped"),
            Failure::Silent => write!(f, "no data for {} s", DATA_TIMEOUT.as_secs()),
            Failure::Failed(reason) => f.write_str(reason),
        }
    }
}

impl Failure {
    /// The error of the source `what`: a read error if it was open, otherwise an error of opening it.
    pub fn of(self, what: &str, is_open: bool) -> SourceError {
        let (what, reason) = (what.to_owned(), self.to_string());
        match is_open {
            false => SourceError::Open { what, reason },
            true => SourceError::Read { what, reason },
        }
    }

    /// The result with which the source `what` ends; being stopped is not a failure.
    pub fn end(self, what: &str, is_open: bool) -> Result<(), SourceError> {
        match self {
            Failure::Stopped => Ok(()),
            failure => Err(failure.of(what, is_open)),
        }
    }
}

impl Client {
    /// A client for the URL at which `redirects` start, and the URLs that it leads to.
    ///
    /// # Errors
    /// The system provides no resources for a runtime.
    pub fn new(redirects: Redirects, stop: &Stop) -> io::Result<Client> {
        Ok(Client {
            redirects,
            login: None,
            cookie: None,
            stop: stop.clone(),
            deadline: Instant::now() + DATA_TIMEOUT,
            body: None,
            link: None,
            runtime: Some(runtime()?),
        })
    }

    /// Sends this `Cookie` with every request from now on.
    pub fn send_cookie(&mut self, cookie: HeaderValue) {
        self.cookie = Some(cookie);
    }

    /// Restarts the timeout of [`DATA_TIMEOUT`], after data that counts.
    pub fn extend(&mut self) {
        self.deadline = Instant::now() + DATA_TIMEOUT;
    }

    /// Requests the content, or a range of it, follows redirects, and waits for the head of the response.
    pub fn get(&mut self, part: Option<ByteRange>) -> Result<ResponseHead, Failure> {
        self.extend();
        let mut redirects = self.redirects.clone();
        let mut url = redirects.from.clone();
        loop {
            match self.get_at(&url, part)? {
                Reply::Content(answer) => return Ok(answer),
                Reply::Moved(to) => url = redirects.follow(&url, to.as_deref())?,
            }
        }
    }

    /// As [`Client::get`], but for another URL, with that URL's login, and without following redirects.
    pub fn get_at(&mut self, url: &Url, part: Option<ByteRange>) -> Result<Reply, Failure> {
        self.body = None;
        let mut logins = 0;
        loop {
            let response = self.send(url, part)?;
            let status = response.status();
            if status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT {
                let answer = ResponseHead::of(&response, url, part)?;
                self.body = Some(response.into_body());
                return Ok(Reply::Content(answer));
            }
            // The rest of the response would have to be read before the connection could be reused.
            self.link = None;
            if status == StatusCode::UNAUTHORIZED {
                self.answer_login(&response, url, logins)?;
                logins += 1;
            } else if status.is_redirection() {
                return Ok(Reply::Moved(text(&response, header::LOCATION)));
            } else {
                return Err(Failure::Failed(format!("the server answered {status}")));
            }
        }
    }

    /// Reads the start of the content, until `is_told` recognises it or [`MAX_SNIFFED_BYTES`] bytes have arrived.
    pub fn start(&mut self, is_told: impl Fn(&[u8]) -> bool) -> Result<Bytes, Failure> {
        let mut start = BytesMut::new();
        while start.len() < MAX_SNIFFED_BYTES && !is_told(&start) {
            match self.next()? {
                Some(bytes) => start.extend_from_slice(&bytes),
                None => break,
            }
        }
        Ok(start.freeze())
    }

    /// The next bytes of the content; `None` at its end.
    pub fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(mut body) = self.body.take() else {
            return Ok(None);
        };
        let taken = self.wait(async {
            loop {
                match body.frame().await {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(format!("the connection was lost: {error}")),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Ok(Some(data)),
                        // Trailers are ignored.
                        Err(_) => {}
                    },
                }
            }
        });
        let data = taken?.map_err(Failure::Failed)?;
        if data.is_some() {
            self.body = Some(body);
        }
        Ok(data)
    }

    fn send(&mut self, url: &Url, part: Option<ByteRange>) -> Result<Response<Incoming>, Failure> {
        let place = (url.scheme.is_secure(), url.host.clone(), url.port);
        let link = self.link.take().filter(|link| link.place == place);
        if let Some(mut link) = link {
            let request = self.request(url, part)?;
            let asked = self.wait(async {
                link.sender.ready().await?;
                link.sender.send_request(request).await
            })?;
            // The server may have closed the connection since the previous response.
            if let Ok(response) = asked {
                self.link = Some(link);
                return Ok(response);
            }
        }
        let connected = self.wait(connect_link(place))?;
        let mut link = connected.map_err(Failure::Failed)?;
        let request = self.request(url, part)?;
        let asked = self.wait(link.sender.send_request(request))?;
        let response =
            asked.map_err(|error| Failure::Failed(format!("invalid HTTP response: {error}")))?;
        self.link = Some(link);
        Ok(response)
    }

    fn request(
        &mut self,
        url: &Url,
        part: Option<ByteRange>,
    ) -> Result<Request<Empty<Bytes>>, Failure> {
        let mut request = Request::get(&url.path)
            .header(header::HOST, url.authority())
            .header(
                header::USER_AGENT,
                concat!("sluicegate/", env!("CARGO_PKG_VERSION")),
            )
            // A gateway that is asked by itself, or by another one, must not take this for its own user on the same
            // machine (RFC 9110 section 7.6.3).
            .header(header::VIA, "1.1 sluicegate")
            .header(header::ACCEPT, "*/*");
        if let Some(part) = part {
            request = request.header(header::RANGE, part.range());
        }
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let login = match self.login(url) {
            Some(login) => login.authorization("GET", &url.path),
            None => Ok(None),
        };
        if let Some(login) = login.map_err(Failure::Failed)? {
            request = request.header(header::AUTHORIZATION, login);
        }
        request
            .body(Empty::new())
            .map_err(|error| Failure::Failed(format!("its URL cannot be requested: {error}")))
    }

    /// The login of `url`, with the newest challenge of its origin; the challenge of another origin is forgotten.
    fn login(&mut self, url: &Url) -> Option<&mut Login> {
        let is_known = self
            .login
            .as_ref()
            .is_some_and(|(of, _)| of.is_same_origin(url));
        if !is_known || url.login.is_none() {
            let login = url.login.clone();
            self.login = login.map(|(user, word)| (url.clone(), Login::new(user, word)));
        }
        self.login.as_mut().map(|(_, login)| login)
    }

    fn answer_login(
        &mut self,
        response: &Response<Incoming>,
        url: &Url,
        logins: usize,
    ) -> Result<(), Failure> {
        let refused = |reason: &str| Err(Failure::Failed(reason.into()));
        let Some(login) = self.login(url) else {
            return refused(
                "the server requires a login; write it into the URL, http://USER:PASSWORD@HOST/…",
            );
        };
        if logins == MAX_LOGINS {
            return refused("the server rejected the login; check user name and password");
        }
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<_> = challenges
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let challenges = challenges.iter().map(AsRef::as_ref);
        login.challenged(challenges).map_err(Failure::Failed)
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        match &self.runtime {
            Some(runtime) => wait(runtime, self.deadline, &self.stop, future),
            None => Err(Failure::Stopped),
        }
    }
}

/// Runs `future` until it completes, the source is stopped or the deadline passes.
fn wait<T>(
    runtime: &Runtime,
    deadline: Instant,
    stop: &Stop,
    future: impl Future<Output = T>,
) -> Result<T, Failure> {
    runtime.block_on(async {
        let mut future = pin!(future);
        loop {
            if stop.is_stopped() {
                return Err(Failure::Stopped);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Silent);
            }
            if let Ok(done) = timeout(left.min(POLL_INTERVAL), &mut future).await {
                return Ok(done);
            }
        }
    })
}

/// A runtime for name resolution and sockets; nothing runs on it between waits.
fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(1)
        .thread_name("resolve")
        .build()
}

/// Connects to the host of a URL, for callers that read and write on the source's own thread.
pub fn connect(url: &Url, deadline: Instant, stop: &Stop) -> Result<net::TcpStream, Failure> {
    let failed = |error: io::Error| Failure::Failed(error.to_string());
    let runtime = runtime().map_err(failed)?;
    let connected = wait(&runtime, deadline, stop, async {
        let stream = connect_tcp(&url.host, url.port).await?;
        stream.into_std().map_err(|error| error.to_string())
    });
    runtime.shutdown_background();
    let stream = connected?.map_err(Failure::Failed)?;
    stream.set_nonblocking(false).map_err(failed)?;
    Ok(stream)
}

impl Drop for Client {
    fn drop(&mut self) {
        self.body = None;
        self.link = None;
        // Name resolution that is under way is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ResponseHead {
    /// # Errors
    /// The response is another range than requested, or a range although none was requested (RFC 9110 15.3.7).
    fn of(
        response: &Response<Incoming>,
        url: &Url,
        asked: Option<ByteRange>,
    ) -> Result<ResponseHead, Failure> {
        let part = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let part = text(response, header::CONTENT_RANGE).unwrap_or_default();
                if !asked.is_some_and(|asked| asked.begins(&part)) {
                    let reason = "the server answered with a range that was not requested";
                    return Err(Failure::Failed(reason.into()));
                }
                Some(part)
            }
            _ => None,
        };
        let cookies = response.headers().get_all(header::SET_COOKIE);
        Ok(ResponseHead {
            url: url.clone(),
            content_type: text(response, header::CONTENT_TYPE),
            length: text(response, header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            takes_ranges: text(response, header::ACCEPT_RANGES)
                .is_some_and(|ranges| ranges.eq_ignore_ascii_case("bytes")),
            part,
            cookies: cookies.iter().cloned().collect(),
        })
    }
}

fn text(response: &Response<Incoming>, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(value.to_str().ok()?.to_owned())
}

async fn connect_link(place: (bool, String, u16)) -> Result<ClientConnection, String> {
    let (is_secure, host, port) = &place;
    let stream = connect_tcp(host, *port).await?;
    let (sender, task) = if *is_secure {
        let failed =
            |error: &dyn fmt::Display| format!("TLS handshake with {host} failed: {error}");
        let config = tls::config().map_err(|error| failed(&error))?;
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(&error))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        shake_hands(connected.map_err(|error| failed(&error))?).await?
    } else {
        shake_hands(stream).await?
    };
    Ok(ClientConnection {
        place,
        sender,
        task,
    })
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = lookup_host((host, port)).await;
    let addresses = found.map_err(|error| format!("{host} cannot be resolved: {error}"))?;
    let mut reason = format!("{host} has no address");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small, so without it only latency suffers.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("no connection within {} s", CONNECT.as_secs()),
        }
    }
    Err(reason)
}

/// HTTP/1.1 handshake, as lenient as cameras need it.
async fn shake_hands<S>(stream: S) -> Result<(SendRequest<Empty<Bytes>>, JoinHandle<()>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = http1::Builder::new()
        // Some cameras recognise only the spelling `Host` and `Authorization`.
        .title_case_headers(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = shaken.map_err(|error| error.to_string())?;
    let task = tokio::spawn(async move {
        // A failure shows in the request or content that it interrupts.
        let _ = connection.await;
    });
    Ok((sender, task))
}
