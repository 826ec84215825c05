//! Where an RTSP URL leads to. libavformat follows redirects to any host and cannot be told not to, so it is asked for
//! here first, and libavformat gets what it leads to in the end (RFC 2326 11.3).

use super::{
    LOOK, SILENCE, Stop,
    http::{Failure, Login, Url, tls_config},
};
use crate::config::HostName;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

const CONNECT: Duration = Duration::from_secs(5);
const MOST_REDIRECTS: usize = 5;
/// A login is answered anew where its nonce was too old.
const MOST_REQUESTS: u32 = 3;
/// The longest head of a response, and the longest content, which is passed over.
const LONGEST: usize = 64 << 10;

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// The head of a response.
struct Head {
    status: u16,
    lines: Vec<String>,
}

/// The URL that `url` leads to, by redirects to the same host or to one of `named`. Whatever else is wrong is left to
/// libavformat to find and to tell.
pub fn settle(url: &Url, named: &[HostName], stop: &Stop) -> Result<Url, Failure> {
    let mut at = url.clone();
    for _ in 0..=MOST_REDIRECTS {
        let Some(head) = describe(&at, url, stop)? else {
            return Ok(at);
        };
        if !(300..400).contains(&head.status) {
            return Ok(at);
        }
        let next = at.redirect(head.field("location"), url, named);
        let next = next.map_err(Failure::Failed)?;
        // The login is for the host of the config.
        let login = url.login.clone().filter(|_| next.host == url.host);
        at = Url { login, ..next };
    }
    let reason = "it redirects again and again; write where it leads to in the end";
    Err(Failure::Failed(reason.into()))
}

/// What the server answers to DESCRIBE; none if it does not as it should.
fn describe(at: &Url, from: &Url, stop: &Stop) -> Result<Option<Head>, Failure> {
    let deadline = Instant::now() + SILENCE;
    let Ok(connection) = connect(at) else {
        return Ok(None);
    };
    let mut connection = Watched {
        connection,
        deadline,
        stop,
    };
    let login = from.login.clone().filter(|_| at.host == from.host);
    let mut login = login.map(|(user, password)| Login::new(user, password));
    let uri = at.bare_text();
    let mut answer = None;
    for number in 1..=MOST_REQUESTS {
        let authorization = login
            .as_mut()
            .and_then(|login| login.authorization("DESCRIBE", &uri))
            .map_or(String::new(), |login| format!("Authorization: {login}\r\n"));
        let request = format!(
            "DESCRIBE {uri} RTSP/1.0\r\nCSeq: {number}\r\nAccept: application/sdp\r\nUser-Agent: sluicegate/{}\r\n{authorization}\r\n",
            env!("CARGO_PKG_VERSION"),
        );
        let head = match connection.ask(request.as_bytes()) {
            Ok(head) => head,
            Err(_) if stop.is_stopped() => return Err(Failure::Stopped),
            Err(_) if Instant::now() >= deadline => return Err(Failure::Silent),
            // A server that hangs up is asked by libavformat again.
            Err(_) => return Ok(answer),
        };
        let is_challenge = head.status == 401;
        let challenges = head.fields("www-authenticate");
        let answered = login
            .as_mut()
            .is_some_and(|login| login.challenged(challenges).is_ok());
        answer = Some(head);
        if !is_challenge || !answered {
            break;
        }
    }
    Ok(answer)
}

fn connect(url: &Url) -> io::Result<Box<dyn Connection>> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LOOK))?;
                stream.set_write_timeout(Some(CONNECT))?;
                if !url.scheme.is_secure() {
                    return Ok(Box::new(stream));
                }
                let config = tls_config().map_err(io::Error::other)?;
                let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
                let client = ClientConnection::new(config, name).map_err(io::Error::other)?;
                return Ok(Box::new(StreamOwned::new(client, stream)));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection on which waiting ends with the source.
struct Watched<'a> {
    connection: Box<dyn Connection>,
    deadline: Instant,
    stop: &'a Stop,
}

impl Watched<'_> {
    fn ask(&mut self, request: &[u8]) -> io::Result<Head> {
        self.connection.write_all(request)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= LONGEST {
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
        if length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for _ in 0..length {
            self.byte()?;
        }
        Ok(head)
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        loop {
            if self.stop.is_stopped() || Instant::now() >= self.deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.connection.read(&mut byte) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => return Ok(byte[0]),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock
                            | io::ErrorKind::TimedOut
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
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

    fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.lines.iter().filter_map(move |line| {
            let (found, value) = line.split_once(':')?;
            found
                .trim()
                .eq_ignore_ascii_case(name)
                .then_some(value.trim())
        })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found
                .trim()
                .eq_ignore_ascii_case(name)
                .then_some(value.trim())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use std::{net::TcpListener, thread};

    /// A server that answers each request with the next of these, on as many connections as it takes.
    fn server(answers: Vec<String>) -> (Url, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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
        let url = Url::parse(&format!("rtsp://u:p@127.0.0.1:{port}/one")).unwrap();
        (url, asked)
    }

    fn moved(to: &str) -> String {
        format!("RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: {to}\r\n\r\n")
    }

    #[test]
    fn redirects_are_followed_to_the_same_host_with_the_login_behind_it() {
        let fine = "RTSP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nv=0\n";
        let login = "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"1\"\r\n\r\n";
        let answers = [&moved("rtsp://127.0.0.1:PORT/two"), login, fine].map(str::to_owned);
        let (url, asked) = server(answers.to_vec());
        let end = settle(&url, &[], &Stop::default()).unwrap();
        assert_eq!((end.path.as_str(), &end.login), ("/two", &url.login));
        let asked = asked.join().unwrap();
        assert!(
            asked[1].starts_with("DESCRIBE rtsp://127.0.0.1:") && asked[1].contains("/two RTSP")
        );
        assert!(
            asked[2].contains("Authorization: Digest") && asked[2].contains("uri=\"rtsp://127")
        );
    }

    #[test]
    fn redirects_to_other_hosts_take_a_name_in_the_config_and_no_login_along() {
        let (url, _) = server(vec![moved("rtsp://127.0.0.9:1/two")]);
        let refused = settle(&url, &[], &Stop::default()).unwrap_err();
        assert!(
            refused.to_string().contains("redirects = [\"127.0.0.9\"]"),
            "{refused}"
        );
        let (url, _) = server(vec![moved("rtsp://127.0.0.9:1/two")]);
        let end = settle(&url, &["127.0.0.9".parse().unwrap()], &Stop::default()).unwrap();
        assert_eq!(end.text(), "rtsp://127.0.0.9:1/two");
    }

    #[test]
    fn what_answers_otherwise_or_not_at_all_is_left_to_libavformat() {
        for answer in [
            "RTSP/1.0 404 Not Found\r\n\r\n",
            "HTTP/1.1 302 Found\r\n\r\n",
            "\r\n\r\n",
        ] {
            let (url, _) = server(vec![answer.into()]);
            assert_eq!(
                settle(&url, &[], &Stop::default()).unwrap(),
                url,
                "{answer}"
            );
        }
        let closed = Url::parse("rtsp://127.0.0.1:1/x").unwrap();
        assert_eq!(settle(&closed, &[], &Stop::default()).unwrap(), closed);
        let stop = Stop::default();
        stop.stop();
        let (url, _) = server(vec![moved("/x")]);
        assert_eq!(settle(&url, &[], &stop), Err(Failure::Stopped));
    }
}
