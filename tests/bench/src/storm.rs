//! A storm of captures: clients that together send a thousand requests per second, and as many that send at the same
//! rate and never read an answer. All on one thread.

use crate::{
    clock::now,
    readiness,
    shots::{AnswerParser, CAPTURE_REQUEST, CaptureClient, CaptureOutcome},
    tally::Tally,
};
use anyhow::{Result, ensure};
use rustix::event::epoll;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Number of clients that read, and of clients that do not.
const CLIENTS: usize = 10;
/// Nanoseconds between two requests; the clients take turns.
const STEP: u64 = 1_000_000;
const READ: usize = 256 << 10;

/// Running clients; they disconnect when this is dropped.
pub struct Storm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Results since the previous reading.
pub struct Results {
    /// Requests of the clients that read.
    pub asked: u64,
    /// Captures that they received.
    pub images: u64,
    /// Processor time of the clients.
    pub load: Duration,
}

#[derive(Default)]
struct Shared {
    tally: Tally,
    asked: AtomicU64,
}

impl Storm {
    /// Connects all clients, which start at once.
    pub fn begin(address: SocketAddr, stream: &str) -> Result<Storm> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (mut reading, mut stalled) = (Vec::new(), Vec::new());
        for nth in 0..CLIENTS {
            let CaptureClient { socket, parser, .. } = CaptureClient::connect(address, stream)?;
            let event = epoll::EventData::new_u64(nth as u64);
            epoll::add(&poll, &socket, event, epoll::EventFlags::IN)?;
            reading.push(Client {
                asker: RequestSender::new(socket)?,
                parser,
                seen: false,
            });
            stalled.push(RequestSender::new(
                CaptureClient::connect_stalled(address, stream)?.socket,
            )?);
        }
        let shared = Arc::new(Shared::default());
        let told = shared.clone();
        let thread = thread::Builder::new().name("storm".into()).spawn(move || {
            if let Err(error) = run(&told, &poll, &mut reading, &mut stalled) {
                let mut counts = told.tally.counts();
                counts.fault(|| format!("the storm ended: {error:#}"));
            }
        })?;
        Ok(Storm {
            shared,
            thread: Some(thread),
        })
    }

    /// Waits until every client that reads has received a capture.
    pub fn settled(&self, patience: Duration) -> Result<()> {
        self.shared.tally.settled(CLIENTS as u64, patience)
    }

    /// Results since the previous reading.
    ///
    /// # Errors
    ///
    /// If a client was disconnected, or received an invalid answer.
    pub fn take(&self) -> Result<Results> {
        let (counts, load) = self.shared.tally.take()?;
        ensure!(counts.faults == 0, "{:#?}", counts.said);
        Ok(Results {
            asked: self.shared.asked.swap(0, Ordering::Relaxed),
            images: counts.messages,
            load,
        })
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.shared.tally.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    shared: &Shared,
    poll: &OwnedFd,
    reading: &mut [Client],
    stalled: &mut [RequestSender],
) -> Result<()> {
    shared.tally.begin();
    let mut events = Vec::with_capacity(CLIENTS);
    let mut buffer = vec![0; READ];
    let (mut due, mut nth) = (now(), 0);
    while !shared.tally.stopped() {
        if now() >= due {
            // After a delay the missed requests are made up for, with reads in between.
            due += STEP;
            if let Some(client) = reading.get_mut(nth % CLIENTS)
                && client.asker.ask()?
            {
                shared.asked.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(client) = stalled.get_mut(nth % CLIENTS) {
                client.ask()?;
            }
            nth += 1;
        }
        let most = Duration::from_nanos(due.saturating_sub(now()));
        readiness::wait(poll, &mut events, most)?;
        for event in &events {
            let data = event.data;
            if let Some(client) = reading.get_mut(usize::try_from(data.u64())?) {
                client.read(&mut buffer, &shared.tally)?;
            }
        }
    }
    Ok(())
}

/// A client that reads.
struct Client {
    asker: RequestSender,
    parser: AnswerParser,
    seen: bool,
}

impl Client {
    fn read(&mut self, buffer: &mut [u8], tally: &Tally) -> Result<()> {
        let size = match self.asker.socket.read(buffer) {
            Ok(size) => size,
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ensure!(size > 0, "the gateway hung up");
        let mut counts = tally.counts();
        counts.bytes += size as u64;
        let (bytes, seen) = (buffer.get(..size).unwrap_or_default(), &mut self.seen);
        self.parser.take(bytes, &mut |got| match got {
            CaptureOutcome::Image(_) => {
                counts.messages += 1;
                counts.viewers += u64::from(!std::mem::replace(seen, true));
            }
            // The regular answer to a storm.
            CaptureOutcome::Refused { code, .. } if code == "CAPTURE_BUSY" => {}
            CaptureOutcome::Refused { code, message } => {
                counts.fault(|| format!("{code}: {message}"))
            }
        })
    }
}

/// Sending half of a client.
struct RequestSender {
    socket: TcpStream,
    /// Bytes of a request that have not been sent yet.
    left: usize,
}

impl RequestSender {
    fn new(socket: TcpStream) -> Result<RequestSender> {
        socket.set_nonblocking(true)?;
        Ok(RequestSender { socket, left: 0 })
    }

    /// Sends a request or the rest of one; returns whether all of it is sent.
    fn ask(&mut self) -> Result<bool> {
        if self.left == 0 {
            self.left = CAPTURE_REQUEST.len();
        }
        let rest = CAPTURE_REQUEST
            .get(CAPTURE_REQUEST.len() - self.left..)
            .unwrap_or_default();
        match self.socket.write(rest) {
            Ok(size) => self.left -= size,
            Err(error) if is_later(&error) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.left == 0)
    }
}

fn is_later(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::shots::tests::answer;
    use std::net::TcpListener;

    /// A server that answers every request and disconnects a client after `most` answers.
    fn serve(most: usize) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                thread::spawn(move || {
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") {
                        socket.read_exact(&mut byte).unwrap();
                        head.extend(byte);
                    }
                    assert!(head.starts_with(b"GET /api/ws/capture/cam "));
                    socket.write_all(b"HTTP/1.1 101 S\r\n\r\n").unwrap();
                    let answer = answer("now", &[&[0xff, 0xd8, 0xff][..], &[7; 9000]].concat());
                    let mut asked = [0; CAPTURE_REQUEST.len()];
                    for _ in 0..most {
                        let taken = socket.read_exact(&mut asked);
                        if taken.and_then(|()| socket.write_all(&answer)).is_err() {
                            return;
                        }
                        assert_eq!(asked, CAPTURE_REQUEST);
                    }
                });
            }
        });
        address
    }

    #[test]
    fn half_of_the_clients_read_what_they_asked_for() {
        let storm = Storm::begin(serve(usize::MAX), "cam").unwrap();
        storm.settled(Duration::from_secs(30)).unwrap();
        let took = storm.take().unwrap();
        assert!(took.images >= CLIENTS as u64 && took.asked >= took.images);
    }

    #[test]
    fn a_client_that_is_hung_up_on_is_a_fault() {
        let storm = Storm::begin(serve(3), "cam").unwrap();
        let until = now() + 30_000_000_000;
        while storm.shared.tally.counts().faults == 0 {
            assert!(now() < until);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(storm.take().is_err());
    }
}
