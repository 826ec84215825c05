//! The load: many viewers on a single thread, which reads, checks and counts, and costs less than what it measures.
//! Scenarios open viewers through [`Load`] and read the results from its [`Tally`].
//!
//! Every message is cut out and counted; its number is compared with the previous one, and its length with the film's.
//! For one viewer in [`CHECKED`] every byte is compared. Viewers that are watched closely are read as soon as data
//! arrives, which gives exact latencies; the others only in quiet moments, so that reading does not compete with the
//! process under measurement.

use crate::{
    clock::now,
    film::{Album, Film, HEAD, Stamp},
    fragment, readiness, record,
    tally::{Counts, Screen, Tally},
    wire::{Cutter, Kind},
};
use anyhow::{Context, Result, anyhow, ensure};
use rustix::event::epoll;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

/// One viewer in this number has every byte compared.
const CHECKED: usize = 50;
const READ: usize = 256 << 10;
/// Interval at which the thread checks for new viewers and for its end.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Viewers that are not watched closely are read after this many nanoseconds without data (`QUIET`), but not sooner
/// than this long after the previous time (`PAUSE`).
const QUIET: u64 = 8_000_000;
const PAUSE: u64 = 50_000_000;

/// The frames that viewers expect.
#[derive(Clone)]
pub enum Expected {
    /// Access units over WebSocket.
    Film(Arc<Film>),
    /// The same as MP4 fragments, after a text message and an init segment.
    Fragments(Arc<Film>),
    /// The same as records of `webcodecs`, after a catalogue.
    Records(Arc<Film>),
    /// JPEGs in a multipart body.
    Album(Arc<Album>),
    /// JPEGs of unknown content: counted and checked only for their first marker.
    AnyJpegs,
}

impl Expected {
    fn kind(&self) -> Kind {
        match self {
            Expected::Film(_) | Expected::Fragments(_) | Expected::Records(_) => Kind::WebSocket,
            Expected::Album(_) | Expected::AnyJpegs => Kind::Multipart,
        }
    }

    /// Whether a message is one of those before the first frame.
    fn is_opening(&self, head: &[u8]) -> bool {
        match self {
            Expected::Film(_) => head.starts_with(&[0, 0, 0, 1, 0x67]),
            Expected::Fragments(_) => {
                head.starts_with(b"video/mp4") || head.get(4..8) == Some(b"ftyp")
            }
            Expected::Records(_) => record::is_catalogue(head),
            Expected::Album(_) | Expected::AnyJpegs => false,
        }
    }

    /// Number of bytes needed to identify a message.
    fn head(&self) -> usize {
        match self {
            Expected::Fragments(_) => fragment::HEAD,
            Expected::Records(_) => record::HEAD,
            Expected::Film(_) | Expected::Album(_) | Expected::AnyJpegs => HEAD,
        }
    }
}

/// Running viewers; they disconnect when this is dropped.
pub struct Load {
    show: Expected,
    epolls: [Arc<OwnedFd>; 2],
    /// One viewer in this number is read as soon as it has data, the others when nothing else is due.
    closely: usize,
    arrivals: mpsc::Sender<(u64, Viewer)>,
    tally: Arc<Tally>,
    opened: u64,
    thread: Option<JoinHandle<()>>,
}

struct Viewer {
    socket: TcpStream,
    cutter: Cutter,
    /// Number of the newest frame.
    last: Option<u64>,
    whole: bool,
    seen: bool,
    screen: Screen,
}

impl Load {
    /// Starts without viewers; all will be watched closely.
    pub fn new(show: Expected) -> Result<Load> {
        Load::watching(show, 1)
    }

    /// Like [`Load::new`], with one viewer in `closely` watched closely.
    pub fn watching(show: Expected, closely: usize) -> Result<Load> {
        let make =
            || Ok::<_, rustix::io::Errno>(Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?));
        let epolls = [make()?, make()?];
        let (arrivals, arrived) = mpsc::channel();
        let tally = Arc::new(Tally::default());
        let reader = Reader {
            show: show.clone(),
            epolls: epolls.clone(),
            tally: tally.clone(),
            arrived,
            viewers: Vec::new(),
            buffer: vec![0; READ],
        };
        let thread = thread::Builder::new().name("load".into()).spawn(move || {
            let tally = reader.tally.clone();
            if let Err(error) = reader.run() {
                tally
                    .counts()
                    .fault(|| format!("the load ended: {error:#}"));
            }
        })?;
        Ok(Load {
            show,
            epolls,
            closely,
            arrivals,
            tally,
            opened: 0,
            thread: Some(thread),
        })
    }

    /// Opens `count` more viewers of `path`.
    pub fn open(&mut self, address: SocketAddr, path: &str, count: usize) -> Result<()> {
        let request = request(self.show.kind(), address, path);
        for _ in 0..count {
            let mut socket = TcpStream::connect(address)
                .with_context(|| format!("viewer {} cannot connect", self.opened))?;
            socket.write_all(request.as_bytes())?;
            socket.set_nonblocking(true)?;
            let id = self.opened;
            let nth = usize::try_from(id)?;
            let whole = nth.is_multiple_of(CHECKED);
            let close = nth.is_multiple_of(self.closely);
            let poll = &self.epolls[usize::from(!close)];
            let event = socket.try_clone()?;
            let keep = if whole { usize::MAX } else { self.show.head() };
            let cutter = Cutter::new(self.show.kind(), keep);
            let viewer = Viewer {
                socket,
                cutter,
                last: None,
                whole,
                seen: false,
                screen: Screen::default(),
            };
            self.arrivals
                .send((id, viewer))
                .map_err(|_| anyhow!("the load's thread ended"))?;
            epoll::add(
                poll,
                &event,
                epoll::EventData::new_u64(id),
                epoll::EventFlags::IN,
            )?;
            drop(event);
            self.opened += 1;
        }
        Ok(())
    }

    /// Waits until every viewer has received something.
    pub fn settled(&self, patience: Duration) -> Result<()> {
        self.tally.settled(self.opened, patience)
    }
}

impl AsRef<Tally> for Load {
    fn as_ref(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tally.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The request of a viewer of this kind, as a browser would send it.
pub fn request(kind: Kind, address: SocketAddr, path: &str) -> String {
    let upgrade = match kind {
        Kind::WebSocket => {
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        }
        Kind::Multipart | Kind::Records => "",
    };
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{upgrade}\r\n")
}

struct Reader {
    show: Expected,
    epolls: [Arc<OwnedFd>; 2],
    tally: Arc<Tally>,
    arrived: mpsc::Receiver<(u64, Viewer)>,
    viewers: Vec<Option<Viewer>>,
    buffer: Vec<u8>,
}

impl Reader {
    fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(1024);
        let (mut busy, mut all) = (0, 0);
        self.tally.begin();
        while !self.tally.stopped() {
            if self.read(0, &mut events, POLL_INTERVAL)? > 0 {
                busy = now();
            }
            if now() > (busy + QUIET).max(all + PAUSE) {
                all = now();
                while self.read(1, &mut events, Duration::ZERO)? > 0 {}
            }
        }
        Ok(())
    }

    /// Reads once from each viewer that has data; returns how many had.
    fn read(
        &mut self,
        set: usize,
        events: &mut Vec<epoll::Event>,
        most: Duration,
    ) -> Result<usize> {
        readiness::wait(&self.epolls[set], events, most)?;
        let mut counts = self.tally.counts();
        for event in events.iter() {
            let data = event.data;
            let id = usize::try_from(data.u64())?;
            while self.viewers.len() <= id {
                // The viewer was sent before its socket was added to the poll, so it is there.
                let (_, viewer) = self.arrived.recv()?;
                self.viewers.push(Some(viewer));
            }
            let Some(slot) = self.viewers.get_mut(id) else {
                continue;
            };
            let Some(viewer) = slot else { continue };
            match viewer.socket.read(&mut self.buffer) {
                Ok(0) => {
                    counts.fault(|| format!("viewer {id}: the connection ended"));
                    *slot = None;
                }
                Ok(size) => {
                    let bytes = self.buffer.get(..size).unwrap_or_default();
                    if let Err(error) = viewer.take(&self.show, set == 0, bytes, &mut counts) {
                        counts.fault(|| format!("viewer {id}: {error:#}"));
                        *slot = None;
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => {
                    counts.fault(|| format!("viewer {id}: {error}"));
                    *slot = None;
                }
            }
        }
        Ok(events.len())
    }
}

impl Viewer {
    fn take(
        &mut self,
        show: &Expected,
        closely: bool,
        bytes: &[u8],
        counts: &mut Counts,
    ) -> Result<()> {
        let at = now();
        counts.bytes += bytes.len() as u64;
        let (last, whole, seen) = (&mut self.last, self.whole, &mut self.seen);
        let screen = &mut self.screen;
        self.cutter.take(bytes, &mut |head, length| {
            if last.is_none() && show.is_opening(head) {
                return;
            }
            if !std::mem::replace(seen, true) {
                counts.viewers += 1;
            }
            counts.messages += 1;
            counts.compared += u64::from(whole);
            let timed = |stamp: Stamp| closely.then(|| at.saturating_sub(stamp.sent));
            // Number of the frame, how many arrive with it, and its latency.
            let found = match show {
                Expected::Film(film) => film
                    .recognise(head, length)
                    .with_context(|| {
                        let first = head.get(..16);
                        format!("{length} bytes that are not a frame: {first:02x?}")
                    })
                    .and_then(|stamp| {
                        ensure!(
                            !whole || film.message(stamp) == head,
                            "frame {} differs from what was sent",
                            stamp.number
                        );
                        Ok((stamp.number, 1, timed(stamp)))
                    }),
                Expected::Fragments(film) => {
                    film.recognise_fragment(head, length).and_then(|fragment| {
                        if whole {
                            film.compare_fragment(fragment, head, true)?;
                        }
                        let first = fragment.first;
                        Ok((first.number, fragment.frames, timed(first)))
                    })
                }
                Expected::Records(film) => {
                    film.recognise_record(head, length, whole).map(|stamp| {
                        screen.frame(stamp, at, film.group, counts);
                        (stamp.number, 1, timed(stamp))
                    })
                }
                Expected::Album(album) => album
                    .recognise(head, length)
                    .with_context(|| format!("{length} bytes that are not a JPEG of the album"))
                    .and_then(|place| {
                        ensure!(
                            !whole || album.jpegs.get(place).is_some_and(|jpeg| jpeg == head),
                            "JPEG {place} differs from what was sent"
                        );
                        // Numbers continue over the loops of the album.
                        let count = album.jpegs.len() as u64;
                        let behind = |last: u64| (place as u64 + count - last % count) % count;
                        let number = last.map_or(place as u64, |last| last + behind(last));
                        Ok((number, 1, None))
                    }),
                Expected::AnyJpegs => {
                    if !head.starts_with(&[0xff, 0xd8, 0xff]) {
                        counts.fault(|| format!("{length} bytes that are not a JPEG"));
                    }
                    return;
                }
            };
            let (number, frames, delay) = match found {
                Ok(found) => found,
                Err(error) => return counts.fault(|| format!("{error:#}")),
            };
            if let Some(delay) = delay {
                counts.delays.add(delay);
            }
            match *last {
                Some(last) if number > last + 1 => {
                    counts.gaps += 1;
                    counts.missed += (number - last - 1) / frames;
                }
                Some(last) if number <= last => {
                    counts.fault(|| format!("frame {number} after {last}"))
                }
                _ => {}
            }
            *last = Some(number + frames - 1);
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::film::{Stamp, tests::film};
    use std::net::TcpListener;

    /// Counts after a viewer received these messages.
    fn watch(whole: bool, messages: &[Vec<u8>]) -> Counts {
        watch_show(&Expected::Film(Arc::new(film(&FRAMES))), whole, messages)
    }

    fn watch_show(show: &Expected, whole: bool, messages: &[Vec<u8>]) -> Counts {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let keep = if whole { usize::MAX } else { show.head() };
        let cutter = Cutter::new(show.kind(), keep);
        let mut viewer = Viewer {
            socket,
            cutter,
            last: None,
            whole,
            seen: false,
            screen: Screen::default(),
        };
        let mut counts = Counts::default();
        let mut stream = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        for message in messages {
            stream.extend([0x82, 126]);
            stream.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
            stream.extend(message);
        }
        viewer.take(show, true, &stream, &mut counts).unwrap();
        counts
    }

    const FRAMES: [&[u8]; 3] = [b"a first frame", b"another", b"the third one"];

    fn message(number: u64) -> Vec<u8> {
        film(&FRAMES).message(Stamp {
            number,
            sent: now(),
        })
    }

    #[test]
    fn frames_in_order_are_counted_and_timed() {
        let sets = vec![0, 0, 0, 1, 0x67, 1];
        let counts = watch(true, &[sets, message(5), message(6), message(7)]);
        assert_eq!(
            (counts.viewers, counts.messages, counts.compared),
            (1, 3, 3)
        );
        assert_eq!(
            (counts.faults, counts.gaps, counts.missed),
            (0, 0, 0),
            "{:?}",
            counts.said
        );
        assert_eq!(counts.delays.count(), 3);
    }

    #[test]
    fn a_gap_is_counted_with_what_was_missed() {
        let counts = watch(false, &[message(0), message(4), message(5)]);
        assert_eq!(
            (counts.messages, counts.gaps, counts.missed, counts.faults),
            (3, 1, 3, 0)
        );
    }

    #[test]
    fn a_frame_twice_or_out_of_order_is_a_fault() {
        for second in [3, 1] {
            assert_eq!(watch(false, &[message(3), message(second)]).faults, 1);
        }
    }

    #[test]
    fn a_frame_that_is_cut_or_altered_is_a_fault() {
        let mut cut = message(1);
        cut.pop();
        assert_eq!(watch(false, &[message(0), cut]).faults, 1);
        let mut altered = message(1);
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(watch(true, &[message(0), altered.clone()]).faults, 1);
        // Found only if every byte is compared.
        assert_eq!(watch(false, &[message(0), altered]).faults, 0);
        assert_eq!(watch(false, &[b"something else".to_vec()]).faults, 1);
    }

    #[test]
    fn fragments_are_counted_in_order_behind_a_text_and_an_init_segment() {
        let film = Arc::new(film(&FRAMES));
        let fragment = |number: u64, count| {
            let stamp = Stamp {
                number,
                sent: now(),
            };
            film.fragment(stamp, count).unwrap()
        };
        let opening = [
            b"video/mp4; codecs=\"avc1\"".to_vec(),
            b"\0\0\0\x08ftyp".to_vec(),
        ];
        let show = Expected::Fragments(film.clone());
        for whole in [false, true] {
            let frames = [fragment(4, 1), fragment(5, 1), fragment(8, 1)];
            let counts = watch_show(&show, whole, &[&opening[..], &frames].concat());
            assert_eq!(counts.faults, 0, "{:?}", counts.said);
            assert_eq!((counts.viewers, counts.messages, counts.missed), (1, 3, 2));
            assert_eq!(counts.compared, if whole { 3 } else { 0 });
            // A missing fragment of six frames is one gap.
            let six = [fragment(0, 6), fragment(12, 6)];
            let counts = watch_show(&show, whole, &six);
            assert_eq!((counts.messages, counts.missed, counts.faults), (2, 1, 0));
            let twice = watch_show(&show, whole, &[fragment(0, 6), fragment(5, 6)]);
            assert_eq!(twice.faults, 1);
            // The opening messages may arrive only once.
            let again = watch_show(&show, whole, &[&frames[..1], &opening].concat());
            assert_eq!(again.faults, 2);
        }
    }

    #[test]
    fn viewers_of_a_bare_program_get_every_frame() {
        use crate::{
            feeder::{Feeder, Media},
            server::{FanOut, serve_on},
        };
        let film = Arc::new(film(&FRAMES).at_rate(50));
        let feeder = Feeder::start(Media::Messages(film.clone())).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, source) = (listener.local_addr().unwrap(), feeder.address);
        thread::spawn(move || serve_on(listener, FanOut::Tasks, source));
        let mut load = Load::watching(Expected::Film(film), 10).unwrap();
        load.open(address, "/", 30).unwrap();
        load.settled(Duration::from_secs(30)).unwrap();
        let (counts, _) = load.tally.take().unwrap();
        assert!(counts.messages >= 30 && counts.delays.count() > 0);
        assert_eq!(
            (counts.viewers, counts.faults, counts.missed),
            (30, 0, 0),
            "{:?}",
            counts.said
        );
    }
}
