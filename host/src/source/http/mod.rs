//! The HTTP client of sources: one request at a time, for whoever blocks on its thread anyway.
//!
//! It is hyper's, on a runtime that lives in the source's own thread and runs only while that waits, so a camera that
//! sends faster than it is read waits in its socket. Redirects are followed to the same host, and to others only where
//! the config names them; the login goes to the host that it was written for.

mod guard;
mod login;
mod tls;
mod url;

pub use guard::Guard;
pub use login::Login;
pub use tls::config as tls_config;
pub use url::Url;

use super::{LOOK, SILENCE, SourceError, Stop};
use crate::config::HostName;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{
    fmt,
    future::Future,
    io,
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

/// How long one address of a host may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Redirects in a row that are followed.
const MOST_REDIRECTS: usize = 5;
/// A login is answered anew where its nonce was too old (RFC 7616 3.3, `stale`).
const MOST_LOGINS: usize = 2;

/// Asks one server.
pub struct Client {
    url: Url,
    redirects: Vec<HostName>,
    login: Option<Login>,
    stop: Stop,
    /// When waiting is given up.
    deadline: Instant,
    body: Option<Incoming>,
    link: Option<Link>,
    /// Always there, but for the moment in which it ends.
    runtime: Option<Runtime>,
}

/// A connection that a request may be sent on.
struct Link {
    place: (bool, String, u16),
    sender: SendRequest<Empty<Bytes>>,
    task: JoinHandle<()>,
}

/// The head of a response with content, 200 or 206; [`Client::next`] gives the content.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Where it came from in the end.
    pub url: Url,
    /// As sent.
    pub content_type: Option<String>,
    /// In bytes, where it is known.
    pub length: Option<u64>,
    /// A part of it may be asked for.
    pub takes_ranges: bool,
    /// It is the part that was asked for.
    pub is_part: bool,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The source was told to stop.
    Stopped,
    /// Nothing came for [`SILENCE`].
    Silent,
    /// What went wrong, and what to do.
    Failed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Stopped => f.write_str("it was told to stop"),
            Failure::Silent => write!(f, "nothing came for {} s", SILENCE.as_secs()),
            Failure::Failed(reason) => f.write_str(reason),
        }
    }
}

impl Failure {
    /// As the failure of the source `what` to open, or to go on.
    pub fn of(self, what: &str, is_open: bool) -> SourceError {
        let (what, reason) = (what.to_owned(), self.to_string());
        match is_open {
            false => SourceError::Open { what, reason },
            true => SourceError::Read { what, reason },
        }
    }
}

impl Client {
    /// For one URL; `redirects` are other hosts that it may send on to.
    ///
    /// # Errors
    /// The system refuses what a runtime needs.
    pub fn new(url: Url, redirects: &[HostName], stop: &Stop) -> io::Result<Client> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .thread_name("resolve")
            .build()?;
        let login = url.login.clone();
        Ok(Client {
            login: login.map(|(user, password)| Login::new(user, password)),
            url,
            redirects: redirects.to_vec(),
            stop: stop.clone(),
            deadline: Instant::now() + SILENCE,
            body: None,
            link: None,
            runtime: Some(runtime),
        })
    }

    /// Something came that counts: [`SILENCE`] begins anew.
    pub fn extend(&mut self) {
        self.deadline = Instant::now() + SILENCE;
    }

    /// Asks for the content, from byte `from` on where that is given, and waits for the head of the response.
    pub fn get(&mut self, from: Option<u64>) -> Result<Answer, Failure> {
        self.extend();
        self.body = None;
        let mut url = self.url.clone();
        let (mut redirects, mut logins) = (0, 0);
        loop {
            let response = self.ask(&url, from)?;
            let status = response.status();
            if status == StatusCode::OK || status == StatusCode::PARTIAL_CONTENT {
                let answer = Answer::of(&response, url);
                self.body = Some(response.into_body());
                return Ok(answer);
            }
            // What is left of the response would have to be read before the connection is good for another.
            self.link = None;
            if status == StatusCode::UNAUTHORIZED {
                self.answer_login(&response, &url, logins)?;
                logins += 1;
            } else if status.is_redirection() {
                if redirects == MOST_REDIRECTS {
                    let reason = "it redirects again and again; write where it leads to in the end";
                    return Err(Failure::Failed(reason.into()));
                }
                redirects += 1;
                url = self.follow(&response, &url).map_err(Failure::Failed)?;
            } else {
                return Err(Failure::Failed(format!("it answers {status}")));
            }
        }
    }

    /// The next bytes of the content; none at its end.
    pub fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(mut body) = self.body.take() else {
            return Ok(None);
        };
        let taken = self.wait(async {
            loop {
                match body.frame().await {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(format!("the connection broke: {error}")),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if data.is_empty() => {}
                        Ok(data) => return Ok(Some(data)),
                        // Trailers.
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

    fn ask(&mut self, url: &Url, from: Option<u64>) -> Result<Response<Incoming>, Failure> {
        let place = (url.scheme.is_secure(), url.host.clone(), url.port);
        let link = self.link.take().filter(|link| link.place == place);
        if let Some(mut link) = link {
            let request = self.request(url, from)?;
            let asked = self.wait(async {
                link.sender.ready().await?;
                link.sender.send_request(request).await
            })?;
            // The server may have closed it since the answer before.
            if let Ok(response) = asked {
                self.link = Some(link);
                return Ok(response);
            }
        }
        let connected = self.wait(connect(place))?;
        let mut link = connected.map_err(Failure::Failed)?;
        let request = self.request(url, from)?;
        let asked = self.wait(link.sender.send_request(request))?;
        let response = asked.map_err(|error| {
            Failure::Failed(format!("it does not answer as HTTP wants: {error}"))
        })?;
        self.link = Some(link);
        Ok(response)
    }

    fn request(&mut self, url: &Url, from: Option<u64>) -> Result<Request<Empty<Bytes>>, Failure> {
        let mut request = Request::get(&url.path)
            .header(header::HOST, url.authority())
            .header(
                header::USER_AGENT,
                concat!("sluicegate/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::ACCEPT, "*/*");
        if let Some(from) = from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        let is_own = self.is_own(url);
        let login = self.login.as_mut().filter(|_| is_own);
        if let Some(login) = login.and_then(|login| login.authorization("GET", &url.path)) {
            request = request.header(header::AUTHORIZATION, login);
        }
        request
            .body(Empty::new())
            .map_err(|error| Failure::Failed(format!("its URL cannot be asked for: {error}")))
    }

    /// Whether the login of the config is for that host.
    fn is_own(&self, url: &Url) -> bool {
        url.host == self.url.host && (url.scheme.is_secure() || !self.url.scheme.is_secure())
    }

    fn answer_login(
        &mut self,
        response: &Response<Incoming>,
        url: &Url,
        logins: usize,
    ) -> Result<(), Failure> {
        let refused = |reason: &str| Err(Failure::Failed(reason.into()));
        let is_own = self.is_own(url);
        let Some(login) = self.login.as_mut().filter(|_| is_own) else {
            return refused("it wants a login; write it into the URL, http://USER:PASSWORD@HOST/…");
        };
        if logins == MOST_LOGINS {
            return refused("it refuses the login; are user name and password right?");
        }
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges = challenges.iter().filter_map(|value| value.to_str().ok());
        login.challenged(challenges).map_err(Failure::Failed)
    }

    fn follow(&self, response: &Response<Incoming>, url: &Url) -> Result<Url, String> {
        let location = response.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        url.redirect(location, &self.url, &self.redirects)
    }

    /// Runs `future`, unless the source is told to stop or nothing counts for too long.
    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let Some(runtime) = &self.runtime else {
            return Err(Failure::Stopped);
        };
        runtime.block_on(async {
            let mut future = pin!(future);
            loop {
                if self.stop.is_stopped() {
                    return Err(Failure::Stopped);
                }
                let left = self.deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(Failure::Silent);
                }
                if let Ok(done) = timeout(left.min(LOOK), &mut future).await {
                    return Ok(done);
                }
            }
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.body = None;
        self.link = None;
        // A name that is being resolved is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answer {
    fn of(response: &Response<Incoming>, url: Url) -> Answer {
        let text = |name| {
            let value = response.headers().get(name)?;
            Some(value.to_str().ok()?.to_owned())
        };
        Answer {
            url,
            content_type: text(header::CONTENT_TYPE),
            length: text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
            takes_ranges: text(header::ACCEPT_RANGES)
                .is_some_and(|ranges| ranges.eq_ignore_ascii_case("bytes")),
            is_part: response.status() == StatusCode::PARTIAL_CONTENT,
        }
    }
}

async fn connect(place: (bool, String, u16)) -> Result<Link, String> {
    let (is_secure, host, port) = &place;
    let stream = connect_tcp(host, *port).await?;
    let (sender, task) = if *is_secure {
        let failed = |error: &dyn fmt::Display| format!("no TLS with {host}: {error}");
        let config = tls::config().map_err(|error| failed(&error))?;
        let name = ServerName::try_from(host.clone()).map_err(|error| failed(&error))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        shake_hands(connected.map_err(|error| failed(&error))?).await?
    } else {
        shake_hands(stream).await?
    };
    Ok(Link {
        place,
        sender,
        task,
    })
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let found = lookup_host((host, port)).await;
    let addresses = found.map_err(|error| format!("{host} is not found: {error}"))?;
    let mut reason = format!("{host} has no address");
    for address in addresses {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small; without it nothing but speed is lost.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("no connection within {} s", CONNECT.as_secs()),
        }
    }
    Err(reason)
}

/// As lenient as cameras need it.
async fn shake_hands<S>(stream: S) -> Result<(SendRequest<Empty<Bytes>>, JoinHandle<()>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = http1::Builder::new()
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, connection) = shaken.map_err(|error| error.to_string())?;
    let task = tokio::spawn(async move {
        // A failure shows in the request or the content that it cuts off.
        let _ = connection.await;
    });
    Ok((sender, task))
}
