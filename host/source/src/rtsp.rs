//! Resolves RTSP redirects. libavformat follows redirects to any host, which cannot be turned off, so requests are sent
//! here first, and libavformat gets the final URL (RFC 2326 11.3).
//!
//! If a server cannot be reached or does not answer, libavformat is not started: the server might answer then,
//! unchecked. If it closes the connection or answers something that is not RTSP, libavformat is started. A server that
//! answers libavformat differently from this check is not detected.

use super::{
    DATA_TIMEOUT, POLL_INTERVAL, Stop,
    http::{Failure, Login, MAX_LOGINS, Redirects, Url, connect, tls_config},
};
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use sluicegate_config::HostName;
use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Instant,
};

/// The requests that libavformat sends before it sets up tracks. It follows a redirect in response to either.
const METHODS: [&str; 2] = ["OPTIONS", "DESCRIBE"];
/// Largest head of a response, and largest body, in bytes; the body is skipped.
const MAX_RESPONSE_BYTES: usize = 64 << 10;

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// Status and header fields of a response.
struct Head {
    status: u16,
    lines: Vec<String>,
}

impl Head {
    fn is_redirection(&self) -> bool {
        (300..400).contains(&self.status)
    }
}

/// The URL that `url` leads to, through redirects to the same host or to one of `named`. Other problems with the
/// server's responses are left to libavformat.
pub fn resolve_redirects(url: &Url, named: &[HostName], stop: &Stop) -> Result<Url, Failure> {
    let mut redirects = Redirects::new(url.clone(), named);
    let mut at = url.clone();
    while let Some(head) = ask(&at, stop)?.filter(Head::is_redirection) {
        at = redirects.follow(&at, head.field("location"))?;
    }
    Ok(at)
}

/// Response to the first of [`METHODS`] that is redirected, otherwise to the last; `None` if the server does not speak
/// RTSP.
fn ask(at: &Url, stop: &Stop) -> Result<Option<Head>, Failure> {
    let deadline = Instant::now() + DATA_TIMEOUT;
    let stream = connect(at, deadline, stop)?;
    let Ok(connection) = connection(stream, at) else {
        return Ok(None);
    };
    let mut connection = TimedConnection {
        connection,
        deadline,
        stop,
    };
    let login = at.login.clone();
    let mut login = login.map(|(user, password)| Login::new(user, password));
    let uri = at.text_without_login();
    let mut answer = None;
    let mut number = 0;
    for method in METHODS {
        let mut logins = 0;
        loop {
            number += 1;
            let header = match &mut login {
                Some(login) => login.authorization(method, &uri),
                None => Ok(None),
            };
            let authorization = header
                .map_err(Failure::Failed)?
                .map_or(String::new(), |login| format!("Authorization: {login}\r\n"));
            let request = format!(
                "{method} {uri} RTSP/1.0\r\nCSeq: {number}\r\nAccept: application/sdp\r\nUser-Agent: sluicegate/{}\r\n{authorization}\r\n",
                env!("CARGO_PKG_VERSION"),
            );
            let head = match connection.ask(request.as_bytes()) {
                Ok(head) => head,
                Err(_) if stop.is_stopped() => return Err(Failure::Stopped),
                Err(_) if Instant::now() >= deadline => return Err(Failure::Silent),
                Err(_) => return Ok(answer),
            };
            let head = answer.insert(head);
            if head.is_redirection() {
                return Ok(answer);
            }
            let is_answered = head.status == 401
                && logins < MAX_LOGINS
                && login
                    .as_mut()
                    .is_some_and(|login| login.challenged(head.fields("www-authenticate")).is_ok());
            if !is_answered {
                break;
            }
            logins += 1;
        }
    }
    Ok(answer)
}

/// Wraps the connection in TLS if the URL requires it; the handshake happens with the first request.
fn connection(stream: TcpStream, url: &Url) -> io::Result<Box<dyn Connection>> {
    stream.set_read_timeout(Some(POLL_INTERVAL))?;
    stream.set_write_timeout(Some(POLL_INTERVAL))?;
    if !url.scheme.is_secure() {
        return Ok(Box::new(stream));
    }
    let config = tls_config().map_err(io::Error::other)?;
    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
    let client = ClientConnection::new(config, name).map_err(io::Error::other)?;
    Ok(Box::new(StreamOwned::new(client, stream)))
}

/// A connection whose waits end at the deadline or when the source is stopped.
struct TimedConnection<'a> {
    connection: Box<dyn Connection>,
    deadline: Instant,
    stop: &'a Stop,
}

impl TimedConnection<'_> {
    fn ask(&mut self, request: &[u8]) -> io::Result<Head> {
        self.write(request)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= MAX_RESPONSE_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            head.push(self.byte()?);
        }
        let head = Head::parse(&String::from_utf8_lossy(&head));
        let head = head.ok_or(io::ErrorKind::InvalidData)?;
        let length = head
            .field("content-length")
            .and_then(|length| length.parse().ok());
        let length: usize = length.unwrap_or(0);
        if length > MAX_RESPONSE_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for _ in 0..length {
            self.byte()?;
        }
        Ok(head)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.retry(|connection| connection.write(bytes))?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[written..];
        }
        self.retry(|connection| connection.flush())
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        match self.retry(|connection| connection.read(&mut byte))? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(byte[0]),
        }
    }

    /// Retries while the peer is merely slow: with TLS, one call may wait for several of its messages.
    fn retry<T>(
        &mut self,
        mut act: impl FnMut(&mut dyn Connection) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            if self.stop.is_stopped() || Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match act(&mut *self.connection) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                done => return done,
            }
        }
    }
}

impl Head {
    fn parse(text: &str) -> Option<Head> {
        let mut lines = text.lines();
        let status = lines.next()?.strip_prefix("RTSP/")?.split(' ').nth(1)?;
        Some(Head {
            status: status.parse().ok()?,
            lines: lines.map(str::to_owned).collect(),
        })
    }

    fn fields<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found
                .trim()
                .eq_ignore_ascii_case(name)
                .then_some(value.trim())
        })
    }

    fn field<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.fields(name).next()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::http::tls_server;
    use std::{net::TcpListener, thread};

    /// A server that answers each request with the next of `answers`, on any number of connections.
    fn server(answers: Vec<String>) -> (Url, thread::JoinHandle<Vec<String>>) {
        server_on("127.0.0.1", answers)
    }

    fn server_on(host: &str, answers: Vec<String>) -> (Url, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = thread::spawn(move || {
            let mut requests = Vec::new();
            let mut answers = answers.into_iter().peekable();
            while answers.peek().is_some() {
                let (mut client, _) = listener.accept().unwrap();
                while let Some(answer) = answers.peek() {
                    let mut request = Vec::new();
                    let mut byte = [0];
                    while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).unwrap() > 0 {
                        request.push(byte[0]);
                    }
                    if request.is_empty() {
                        break;
                    }
                    requests.push(String::from_utf8(request).unwrap());
                    client
                        .write_all(answer.replace("PORT", &port.to_string()).as_bytes())
                        .unwrap();
                    answers.next();
                }
            }
            requests
        });
        let url = Url::parse(&format!("rtsp://u:p@{host}:{port}/one")).unwrap();
        (url, asked)
    }

    fn moved(to: &str) -> String {
        format!("RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {to}\r\n\r\n")
    }

    #[test]
    fn redirects_are_followed_to_the_same_host_with_the_login_behind_it() {
        let fine = "RTSP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nv=0\n";
        let login = "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"1\"\r\n\r\n";
        let answers = [fine, &moved("rtsp://127.0.0.1:PORT/two"), login, fine, fine];
        let (url, asked) = server(answers.map(str::to_owned).to_vec());
        let end = resolve_redirects(&url, &[], &Stop::default()).unwrap();
        assert_eq!((end.path.as_str(), &end.login), ("/two", &url.login));
        let asked = asked.join().unwrap();
        let begins = ["OPTIONS", "DESCRIBE", "OPTIONS", "OPTIONS", "DESCRIBE"];
        for (asked, begin) in asked.iter().zip(begins) {
            assert!(
                asked.starts_with(&format!("{begin} rtsp://127.0.0.1:")),
                "{asked}"
            );
        }
        assert!(asked[2].contains("/two RTSP"), "{}", asked[2]);
        for asked in &asked[3..] {
            assert!(asked.contains("Authorization: Digest") && asked.contains("uri=\"rtsp://127"));
        }
    }

    #[test]
    fn redirects_to_other_hosts_take_a_name_in_the_config_and_no_login_along() {
        let (url, _) = server(vec![moved("rtsp://127.0.0.9:1/two")]);
        let refused = resolve_redirects(&url, &[], &Stop::default()).unwrap_err();
        assert!(
            refused.to_string().contains("redirects = [\"127.0.0.9\"]"),
            "{refused}"
        );
        let fine = "RTSP/1.0 200 OK\r\n\r\n".to_owned();
        let (other, asked) = server_on("127.0.0.9", vec![fine.clone(), fine]);
        let (url, _) = server(vec![moved(&other.text())]);
        let end =
            resolve_redirects(&url, &["127.0.0.9".parse().unwrap()], &Stop::default()).unwrap();
        assert_eq!(end.text(), other.text_without_login());
        let asked = asked.join().unwrap().concat();
        assert!(!asked.contains("Authorization"), "{asked}");
    }

    #[test]
    fn what_answers_otherwise_is_left_to_libavformat() {
        for answer in [
            "RTSP/1.0 404 Not Found\r\n\r\n",
            "HTTP/1.1 302 Found\r\n\r\n",
            "\r\n\r\n",
        ] {
            let (url, _) = server(vec![answer.into()]);
            assert_eq!(
                resolve_redirects(&url, &[], &Stop::default()).unwrap(),
                url,
                "{answer}"
            );
        }
    }

    #[test]
    fn an_unreachable_server_is_reported_and_a_stop_heeded() {
        let closed = Url::parse("rtsp://127.0.0.1:1/x").unwrap();
        let reason = resolve_redirects(&closed, &[], &Stop::default()).unwrap_err();
        assert!(reason.to_string().contains("refused"), "{reason}");
        let stop = Stop::default();
        stop.stop();
        let (url, _) = server(vec![moved("/x")]);
        assert_eq!(resolve_redirects(&url, &[], &stop), Err(Failure::Stopped));
    }

    /// A stream that delays before each read.
    struct SlowStream(TcpStream);

    impl Read for SlowStream {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl Write for SlowStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            thread::sleep(POLL_INTERVAL * 3 / 2);
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    #[test]
    fn redirects_of_a_server_that_dawdles_over_tls_are_checked_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let mut client = StreamOwned::new(tls_server(), SlowStream(client));
            let mut request = [0; 1000];
            assert!(client.read(&mut request).unwrap() > 0);
            let answer = moved("rtsps://127.0.0.9:1/two");
            client.write_all(answer.as_bytes()).unwrap();
        });
        let url = Url::parse(&format!("rtsps://127.0.0.1:{port}/one")).unwrap();
        let refused = resolve_redirects(&url, &[], &Stop::default()).unwrap_err();
        assert!(refused.to_string().contains("another host"), "{refused}");
        server.join().unwrap();
    }
}
