//! A simulated camera: a TCP server that sends each frame at its due time to whoever connects. The gateway connects to
//! it as to an Annex B source, the baseline programs with a simpler framing. Each frame is stamped when it is sent, and
//! all processes share one clock, so viewers measure the latency from camera to viewer.

use crate::{
    clock::now,
    film::{Album, Film, Stamp},
    record,
};
use anyhow::Result;
use std::{
    io::{ErrorKind, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Interval at which a camera without a client checks for one.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The frames to send and their format.
#[derive(Clone)]
pub enum Media {
    /// Annex B, as a camera sends it.
    Camera(Arc<Film>),
    /// The bytes that viewers of the film get, each run preceded by its length in 4 bytes: for programs that only
    /// forward.
    Messages(Arc<Film>),
    /// The film as fragments of this number of frames, in the same format.
    Fragments(Arc<Film>, u32),
    /// The film as records of `webcodecs`, in the same format: a run is a frame, before that the catalogue if a group
    /// begins.
    Records(Arc<Film>),
    /// The album in the same format.
    Parts(Arc<Album>),
}

impl Media {
    /// Time between two runs in nanoseconds.
    fn step(&self) -> u64 {
        let (frames, rate) = match self {
            Media::Camera(film) | Media::Messages(film) | Media::Records(film) => (1, film.rate),
            Media::Fragments(film, frames) => (*frames, film.rate),
            Media::Parts(_) => (1, Album::RATE),
        };
        1_000_000_000 * u64::from(frames) / u64::from(rate)
    }

    /// Whether a connection may start at this run.
    fn starts(&self, number: u64) -> bool {
        match self {
            Media::Camera(film) | Media::Messages(film) | Media::Records(film) => {
                film.is_key(number)
            }
            Media::Fragments(film, frames) => film.is_key(number * u64::from(*frames)),
            Media::Parts(_) => true,
        }
    }

    fn bytes(&self, number: u64) -> Result<Vec<u8>> {
        let stamp = Stamp {
            number,
            sent: now(),
        };
        let framed = |message: &[u8]| run(&[&frame_head(message.len()), message]);
        Ok(match self {
            Media::Camera(film) => film.camera(stamp),
            Media::Messages(film) => framed(&film.message(stamp)),
            Media::Fragments(film, frames) => {
                let count = u64::from(*frames);
                let first = Stamp {
                    number: number * count,
                    ..stamp
                };
                framed(&film.fragment(first, count)?)
            }
            Media::Records(film) => {
                let catalogue = if film.is_key(number) {
                    record::CATALOGUE
                } else {
                    &[]
                };
                run(&[catalogue, &film.record(stamp)])
            }
            Media::Parts(album) => {
                let nth = usize::try_from(number).unwrap_or(0) % album.jpegs.len().max(1);
                let jpeg: &[u8] = album.jpegs.get(nth).map_or(&[], |jpeg| jpeg);
                let head = format!(
                    "Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
                    jpeg.len()
                );
                let (delimiter, end) = ("\r\n--frame\r\n", "\r\n");
                let size = format!("{:X}\r\n", head.len() + jpeg.len() + delimiter.len());
                run(&[
                    size.as_bytes(),
                    head.as_bytes(),
                    jpeg,
                    delimiter.as_bytes(),
                    end.as_bytes(),
                ])
            }
        })
    }
}

/// Head of an unmasked binary message (RFC 6455 5.2).
fn frame_head(length: usize) -> Vec<u8> {
    match u16::try_from(length) {
        Ok(short @ 0..126) => vec![0x82, short as u8],
        Ok(medium) => [&[0x82, 126][..], &medium.to_be_bytes()].concat(),
        Err(_) => [&[0x82, 127][..], &(length as u64).to_be_bytes()].concat(),
    }
}

fn run(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    [
        &[&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()[..]],
        parts,
    ]
    .concat()
    .concat()
}

/// A running camera; stops when dropped.
pub struct Feeder {
    /// Address on which it listens.
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Starts a camera on a port chosen by the system.
    pub fn start(roll: Media) -> Result<Feeder> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("feeder".into())
            .spawn(move || {
                feed(&listener, &roll, &stopped);
            })?;
        Ok(Feeder {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn feed(listener: &TcpListener, roll: &Media, stop: &AtomicBool) {
    let step = roll.step();
    let (mut began, mut number) = (now(), 0);
    let mut waiting: Vec<TcpStream> = Vec::new();
    let mut connections: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_nanos(
            (began + number * step).saturating_sub(now()),
        ));
        loop {
            match listener.accept() {
                Ok((connection, _)) => waiting.extend(greet(connection, roll)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return eprintln!("the feeder cannot accept: {error}"),
            }
        }
        if connections.is_empty() {
            // The film starts from its beginning for the first client.
            (began, number) = (now(), 0);
        }
        if roll.starts(number) {
            connections.append(&mut waiting);
        }
        if connections.is_empty() {
            thread::sleep(POLL_INTERVAL);
            continue;
        }
        let bytes = match roll.bytes(number) {
            Ok(bytes) => bytes,
            Err(error) => return eprintln!("the feeder stopped sending: {error:#}"),
        };
        connections.retain_mut(|connection| connection.write_all(&bytes).is_ok());
        number += 1;
    }
}

/// Prepares a connection for its first frame; `None` if it is closed already.
fn greet(mut connection: TcpStream, roll: &Media) -> Option<TcpStream> {
    connection.set_nonblocking(false).ok()?;
    connection.set_nodelay(true).ok()?;
    // A client that does not read must not block the shutdown.
    connection
        .set_write_timeout(Some(Duration::from_secs(5)))
        .ok()?;
    if matches!(roll, Media::Camera(_)) {
        connection.write_all(&Film::opening()).ok()?;
    }
    Some(connection)
}
