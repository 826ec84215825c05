//! A proxy on loopback through which libavformat reads playlists and the URLs that they name.
//!
//! Playlists name other URLs, and each of those may redirect. libavformat requests all of them from this proxy by plain
//! HTTP, and our own client fetches them: it keeps to permitted hosts, adds TLS and sends the login. libavformat is
//! allowed no other protocol than HTTP to loopback. `web` starts a guard for each playlist source.

use super::{
    ByteRange, Client, Failure, Redirects, Reply, ResponseHead, Url,
    playlist::{encoded_url, is_playlist, original_url, rewrite_playlist},
};
use crate::{DATA_TIMEOUT, POLL_INTERVAL, Stop, readable};
use hyper::header::HeaderValue;
use parking_lot::Mutex;
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Largest number of simultaneous connections; further ones wait in the listen queue.
const MAX_CONNECTIONS: usize = 16;
/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Longest playlist in bytes: a day of segments of one second.
const MAX_PLAYLIST_BYTES: usize = 16 << 20;

/// The proxy; it stops when this is dropped.
#[derive(Debug)]
pub struct PlaylistProxy {
    address: SocketAddr,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    redirects: Redirects,
    stop: Stop,
    connections: AtomicUsize,
    errors: Mutex<ProxyError>,
}

/// Why a URL was not fetched.
#[derive(Debug, Default)]
struct ProxyError {
    /// The first time that the playlist led to a URL that is not permitted.
    refused: Option<String>,
    /// The newest fetch that failed.
    failed: Option<String>,
}

impl PlaylistProxy {
    /// Starts a proxy for a playlist, with the redirect rules of the config's URL.
    ///
    /// # Errors
    /// The system provides no port or no thread.
    pub fn start(redirects: Redirects) -> io::Result<PlaylistProxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules {
            redirects,
            stop: Stop::default(),
            connections: AtomicUsize::new(0),
            errors: Mutex::default(),
        });
        let own = rules.clone();
        thread::Builder::new()
            .name("guard".into())
            .spawn(move || accept(&listener, &own))?;
        Ok(PlaylistProxy { address, rules })
    }

    /// Whether libavformat would bypass any proxy for some hosts.
    pub fn is_bypassed() -> bool {
        std::env::var_os("no_proxy").is_some_and(|hosts| !hosts.is_empty())
    }

    /// Value of libavformat's `http_proxy` option.
    pub fn proxy(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `url` in the form in which libavformat must request it from the proxy.
    pub fn encode_url(url: &Url) -> String {
        encoded_url(url)
    }

    /// Why libavformat did not get what it requested; libavformat itself only knows that it failed.
    pub fn explain(&self) -> Option<String> {
        let errors = self.rules.errors();
        errors.refused.clone().or(errors.failed.clone())
    }
}

impl Drop for PlaylistProxy {
    fn drop(&mut self) {
        self.rules.stop.stop();
    }
}

impl Rules {
    fn errors(&self) -> parking_lot::MutexGuard<'_, ProxyError> {
        self.errors.lock()
    }

    /// Records that a playlist led to a URL that is not permitted. It will do so again, so it is logged once.
    fn refuse(&self, reason: String) {
        let mut errors = self.errors();
        if errors.refused.is_none() {
            tracing::warn!("a playlist names a URL that is not permitted: {reason}");
            errors.refused = Some(reason);
        }
    }
}

fn accept(listener: &TcpListener, rules: &Arc<Rules>) {
    while !rules.stop.is_stopped() {
        let has_place = rules.connections.load(Ordering::Relaxed) < MAX_CONNECTIONS;
        if !has_place {
            thread::park_timeout(POLL_INTERVAL);
            continue;
        }
        if !matches!(readable(listener, POLL_INTERVAL), Ok(true)) {
            continue;
        }
        let Ok((client, _)) = listener.accept() else {
            continue;
        };
        rules.connections.fetch_add(1, Ordering::Relaxed);
        let own = rules.clone();
        let spawned = thread::Builder::new()
            .name("guarded".into())
            .spawn(move || {
                // libavformat sees a closed connection.
                if let Err(error) = serve(client, &own) {
                    tracing::debug!("a playlist proxy connection failed: {error}");
                }
                own.connections.fetch_sub(1, Ordering::Relaxed);
            });
        if spawned.is_err() {
            rules.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn serve(mut client: TcpStream, rules: &Rules) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(DATA_TIMEOUT))?;
    client.set_write_timeout(Some(DATA_TIMEOUT))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD_BYTES || client.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(byte[0]);
    }
    let Some(asked) = ProxyRequest::parse(&head) else {
        return refuse(&mut client, "400 Bad Request");
    };
    let url = match rules.redirects.admit(asked.url) {
        Ok(url) => url,
        Err(reason) => {
            rules.refuse(reason);
            return refuse(&mut client, "403 Forbidden");
        }
    };
    let mut server = Client::new(rules.redirects.clone(), &rules.stop)?;
    if let Some(cookie) = asked.cookie {
        server.send_cookie(cookie);
    }
    let fetched = match server.get_at(&url, asked.part) {
        Ok(Reply::Content(answer)) => begin(&mut server, answer),
        Ok(Reply::Moved(to)) => match rules.redirects.clone().follow(&url, to.as_deref()) {
            Ok(next) => return redirect(&mut client, &next),
            Err(failure) => {
                rules.refuse(failure.to_string());
                return refuse(&mut client, "403 Forbidden");
            }
        },
        Err(failure) => Err(failure),
    };
    rules.errors().failed = fetched.as_ref().err().map(Failure::to_string);
    let Ok((head, start)) = fetched else {
        return refuse(&mut client, "502 Bad Gateway");
    };
    client.write_all(&head)?;
    client.write_all(&start)?;
    loop {
        server.extend();
        match server.next() {
            Ok(Some(bytes)) => client.write_all(&bytes)?,
            Ok(None) => return Ok(()),
            Err(failure) => {
                let reason = failure.to_string();
                rules.errors().failed = Some(reason.clone());
                return Err(io::Error::other(reason));
            }
        }
    }
}

fn refuse(client: &mut TcpStream, status: &str) -> io::Result<()> {
    write!(
        client,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
}

fn redirect(client: &mut TcpStream, to: &Url) -> io::Result<()> {
    let to = encoded_url(to);
    write!(
        client,
        "HTTP/1.1 302 Found\r\nConnection: close\r\nContent-Length: 0\r\nLocation: {to}\r\n\r\n"
    )
}

/// The response's head for libavformat, and the first bytes of its content; a playlist is read completely and
/// rewritten.
fn begin(server: &mut Client, answer: ResponseHead) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let kind = answer.content_type.as_deref();
    let mut start = server.start(|start| is_playlist(kind, start))?.to_vec();
    let mut length = answer.length;
    if answer.part.is_none() && is_playlist(kind, &start) {
        while let Some(bytes) = server.next()? {
            if start.len() + bytes.len() > MAX_PLAYLIST_BYTES {
                let most = MAX_PLAYLIST_BYTES >> 20;
                return Err(Failure::Failed(format!(
                    "its playlist is longer than {most} MiB"
                )));
            }
            start.extend_from_slice(&bytes);
        }
        start = rewrite_playlist(&String::from_utf8_lossy(&start), &answer.url).into_bytes();
        length = u64::try_from(start.len()).ok();
    }
    let status = match answer.part {
        Some(_) => "206 Partial Content",
        None => "200 OK",
    };
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    let fields = [
        ("Content-Type", answer.content_type),
        ("Content-Length", length.map(|length| length.to_string())),
        ("Content-Range", answer.part),
        ("Accept-Ranges", answer.takes_ranges.then(|| "bytes".into())),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let mut head = head.into_bytes();
    for cookie in answer.cookies {
        head.extend_from_slice(b"Set-Cookie: ");
        head.extend_from_slice(cookie.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    Ok((head, start))
}

/// A proxy request of libavformat.
#[derive(Debug, PartialEq, Eq)]
struct ProxyRequest {
    url: Url,
    part: Option<ByteRange>,
    cookie: Option<HeaderValue>,
}

impl ProxyRequest {
    fn parse(head: &[u8]) -> Option<ProxyRequest> {
        let head = str::from_utf8(head).ok()?;
        let (line, rest) = head.split_once("\r\n")?;
        let target = line.strip_prefix("GET ")?.split(' ').next()?;
        let field = |name: &str| {
            rest.lines().find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let part = field("range").and_then(|range| {
            let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
            Some(ByteRange {
                from: from.parse().ok()?,
                to: to.parse().ok(),
            })
        });
        Some(ProxyRequest {
            url: original_url(target)?,
            // libavformat requests everything with this range.
            part: part.filter(|part| (part.from, part.to) != (0, None)),
            cookie: field("cookie").and_then(|cookie| HeaderValue::from_str(cookie).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::http::tls_server;

    #[test]
    fn requests_say_what_libavformat_means() {
        let head = b"GET http://u@cam:81/a?b HTTP/1.1\r\nHost: x\r\nrange: bytes=5-9\r\nCookie: a=b\r\n\r\n";
        let asked = ProxyRequest::parse(head).unwrap();
        assert_eq!(asked.url.text_without_login(), "http://cam:81/a?b");
        let (from, to) = (5, Some(9));
        assert_eq!(asked.part, Some(ByteRange { from, to }));
        assert_eq!(asked.cookie.unwrap(), "a=b");
        let whole = b"GET http://https!cam:443/ HTTP/1.1\r\nRange: bytes=0-\r\n\r\n";
        let asked = ProxyRequest::parse(whole).unwrap();
        assert_eq!(
            (asked.url.text_without_login().as_str(), asked.part),
            ("https://cam/", None)
        );
        for bad in [
            "GET /x HTTP/1.1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\n\r\n",
            "POST http://cam/ HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
            "CONNECT cam:443 HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(ProxyRequest::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    /// A server on loopback that answers each request with the next of `answers`; returns its URL, and in the end the
    /// requests.
    fn server(answers: Vec<&'static str>) -> (Url, thread::JoinHandle<Vec<String>>) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let answered = thread::spawn(move || {
            let answer = |answer: &str| {
                let (mut client, _) = server.accept().unwrap();
                let mut head = [0; 1000];
                let read = client.read(&mut head).unwrap();
                client.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&head[..read]).into_owned()
            };
            answers.into_iter().map(answer).collect()
        });
        let url = Url::parse(&format!("http://u:p@127.0.0.1:{port}/")).unwrap();
        (url, answered)
    }

    fn ask(guard: &PlaylistProxy, url: &str) -> String {
        let mut client = TcpStream::connect(guard.address).unwrap();
        write!(client, "GET {url} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn another_host_is_refused_and_the_right_one_reached_and_logged_in_at() {
        let (url, answered) = server(vec![
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\nhello",
        ]);
        let guard = PlaylistProxy::start(Redirects::new(url.clone(), &[])).unwrap();
        let wrong = format!("http://127.0.0.2:{}/x", url.port);
        assert!(ask(&guard, &wrong).starts_with("HTTP/1.1 403"));
        let reason = guard.explain().unwrap();
        assert!(reason.contains("another host, 127.0.0.2"), "{reason}");
        let right = format!("http://127.0.0.1:{}/x", url.port);
        assert!(ask(&guard, &right).ends_with("\r\n\r\nhello"));
        let asked = answered.join().unwrap();
        assert!(asked[1].starts_with("GET /x HTTP/1.1\r\n"), "{}", asked[1]);
        assert!(
            asked[1].contains("\r\nAuthorization: Basic dTpw\r\n"),
            "{}",
            asked[1]
        );
    }

    #[test]
    fn playlists_are_rewritten_redirects_checked_and_failures_kept() {
        let (url, answered) = server(vec![
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 25\r\n\r\n#EXTM3U\nhttps://cdn/a.ts\n",
            "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
        ]);
        let guard = PlaylistProxy::start(Redirects::new(url.clone(), &[])).unwrap();
        let place = format!("http://127.0.0.1:{}", url.port);
        let playlist = ask(&guard, &format!("{place}/index"));
        let (head, text) = playlist.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains("Set-Cookie: a=b\r\n") || head.ends_with("Set-Cookie: a=b"),
            "{head}"
        );
        assert!(head.contains("Content-Length: 34\r\n"), "{head}");
        assert_eq!(text, "#EXTM3U\nhttp://https!cdn:443/a.ts\n");
        let moved = ask(&guard, &format!("{place}/b"));
        assert!(
            moved.contains(&format!("Location: {place}/elsewhere\r\n")),
            "{moved}"
        );
        assert_eq!(guard.explain(), None);
        assert!(ask(&guard, &format!("{place}/c")).starts_with("HTTP/1.1 502"));
        assert_eq!(
            guard.explain().as_deref(),
            Some("the server answered 404 Not Found")
        );
        answered.join().unwrap();
    }

    #[test]
    fn a_playlist_by_tls_is_asked_for_by_tls_only() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let text = format!("#EXTM3U\nhttps://127.0.0.1:{port}/a.ts\nb.ts\n");
        let server = thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let mut client = rustls::StreamOwned::new(tls_server(), client);
            let mut head = [0; 1000];
            let read = client.read(&mut head).unwrap();
            write!(client, "HTTP/1.0 200 OK\r\n\r\n{text}").unwrap();
            client.conn.send_close_notify();
            client.flush().unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        let from = Url::parse(&format!("https://127.0.0.1:{port}/index")).unwrap();
        let asked = PlaylistProxy::encode_url(&from);
        let guard = PlaylistProxy::start(Redirects::new(from, &[])).unwrap();
        let answer = ask(&guard, &asked);
        let segment = format!("http://https!127.0.0.1:{port}/a.ts\nb.ts\n");
        assert!(answer.ends_with(&segment), "{answer}");
        assert!(server.join().unwrap().starts_with("GET /index HTTP/1.1"));
        assert!(ask(&guard, "http://127.0.0.1/x").starts_with("HTTP/1.1 403"));
        assert!(guard.explain().unwrap().contains("from TLS"));
    }
}
