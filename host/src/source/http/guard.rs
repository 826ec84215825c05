//! A proxy on loopback that keeps libavformat to the hosts that are allowed. Playlists name other URLs, and each of those
//! may redirect: whatever libavformat connects to, it asks here, and another host is refused.

use super::url::{may_redirect, split_port};
use crate::{
    config::HostName,
    source::{LOOK, SILENCE, readable},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// Connections at a time; more wait.
const MOST: usize = 16;
/// The longest head of a request.
const LONGEST_HEAD: usize = 16 << 10;
const CONNECT: Duration = Duration::from_secs(5);
/// So much is passed on at once.
const CHUNK: usize = 64 << 10;

/// The proxy, while it is held.
#[derive(Debug)]
pub struct Guard {
    address: SocketAddr,
    rules: Arc<Rules>,
}

#[derive(Debug)]
struct Rules {
    host: String,
    named: Vec<HostName>,
    is_over: AtomicBool,
    connections: AtomicUsize,
}

impl Guard {
    /// Lets connections through to `host` and to those `named`.
    ///
    /// # Errors
    /// The system gives no port or no thread.
    pub fn start(host: &str, named: &[HostName]) -> io::Result<Guard> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules {
            host: host.to_owned(),
            named: named.to_vec(),
            is_over: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let own = rules.clone();
        thread::Builder::new()
            .name("guard".into())
            .spawn(move || accept(&listener, &own))?;
        Ok(Guard { address, rules })
    }

    /// As libavformat's `http_proxy`.
    pub fn proxy(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.rules.is_over.store(true, Ordering::Relaxed);
    }
}

impl Rules {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }
}

fn accept(listener: &TcpListener, rules: &Arc<Rules>) {
    while !rules.is_over() {
        let has_place = rules.connections.load(Ordering::Relaxed) < MOST;
        if !has_place {
            thread::park_timeout(LOOK);
            continue;
        }
        if !matches!(readable(listener, LOOK), Ok(true)) {
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
                // The client sees a connection that ends.
                if let Err(error) = serve(client, &own) {
                    tracing::debug!("a connection for a playlist ended: {error}");
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
    client.set_read_timeout(Some(SILENCE))?;
    client.set_write_timeout(Some(SILENCE))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= LONGEST_HEAD || client.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.push(byte[0]);
    }
    let Some(asked) = Asked::parse(&head) else {
        return client.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    };
    if let Err(reason) = may_redirect(&rules.host, &asked.host, &rules.named) {
        tracing::warn!("a playlist names another host: {reason}");
        return client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    }
    let mut server = connect(&asked.host, asked.port)?;
    server.set_write_timeout(Some(SILENCE))?;
    match asked.forwarded {
        Some(head) => server.write_all(&head)?,
        None => client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?,
    }
    pass(&mut client, &mut server, rules)
}

/// A request to a proxy.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    host: String,
    port: u16,
    /// What the server gets of it; none where it is for a tunnel (RFC 9110 9.3.6).
    forwarded: Option<Vec<u8>>,
}

impl Asked {
    fn parse(head: &[u8]) -> Option<Asked> {
        let head = str::from_utf8(head).ok()?;
        let (line, rest) = head.split_once("\r\n")?;
        let mut words = line.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        let asked = |place: &str, usual: u16, forwarded: Option<String>| {
            let (host, port) = split_port(place)?;
            Some(Asked {
                host: host.to_owned(),
                port: port.unwrap_or(usual),
                forwarded: forwarded.map(String::into_bytes),
            })
        };
        if method == "CONNECT" {
            return asked(target, 443, None);
        }
        let target = target.strip_prefix("http://")?;
        let (place, path) = target.split_at(target.find(['/', '?']).unwrap_or(target.len()));
        let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
        let slash = if path.starts_with('/') { "" } else { "/" };
        let forwarded = format!("{method} {slash}{path} {version}\r\n{rest}");
        asked(place, 80, Some(forwarded))
    }
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Passes bytes on in both directions until either side ends.
fn pass(client: &mut TcpStream, server: &mut TcpStream, rules: &Rules) -> io::Result<()> {
    let look = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK.subsec_nanos().into(),
    };
    let mut chunk = vec![0; CHUNK];
    while !rules.is_over() {
        let ready = {
            let mut both = [
                PollFd::new(&*client, PollFlags::IN),
                PollFd::new(&*server, PollFlags::IN),
            ];
            match poll(&mut both, Some(&look)) {
                Ok(_) => [0, 1].map(|at| !both[at].revents().is_empty()),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        for (is_ready, from_client) in ready.into_iter().zip([true, false]) {
            if !is_ready {
                continue;
            }
            let (from, to) = match from_client {
                true => (&mut *client, &mut *server),
                false => (&mut *server, &mut *client),
            };
            match from.read(&mut chunk)? {
                0 => return Ok(()),
                read => to.write_all(&chunk[..read])?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn requests_go_to_the_host_that_they_name_as_a_server_wants_them() {
        let head = b"GET http://u@cam:81/a?b HTTP/1.1\r\nHost: x\r\n\r\n";
        let asked = Asked::parse(head).unwrap();
        assert_eq!((asked.host.as_str(), asked.port), ("cam", 81));
        let forwarded = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(asked.forwarded.as_deref(), Some(&forwarded[..]));
        let asked = Asked::parse(b"CONNECT [::1]:444 HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((asked.host.as_str(), asked.port), ("::1", 444));
        assert_eq!(asked.forwarded, None);
        for bad in [
            "GET /x HTTP/1.1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
            "CONNECT a:b HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(Asked::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn another_host_is_refused_and_the_right_one_reached() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let answered = thread::spawn(move || {
            let (mut client, _) = server.accept().unwrap();
            let mut head = [0; 200];
            let read = client.read(&mut head).unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        let guard = Guard::start("127.0.0.1", &[]).unwrap();
        let ask = |host: &str| {
            let mut client = TcpStream::connect(guard.address).unwrap();
            write!(
                client,
                "GET http://{host}:{port}/x HTTP/1.1\r\nHost: {host}\r\n\r\n"
            )
            .unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(ask("127.0.0.2").starts_with("HTTP/1.1 403"));
        assert!(ask("127.0.0.1").ends_with("hello"));
        assert!(answered.join().unwrap().starts_with("GET /x HTTP/1.1\r\n"));
    }
}
