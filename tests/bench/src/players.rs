//! Many HLS players on a single thread, each with its own persistent connection. The stamps of all frames in every part
//! are read and must continue where the previous part ended. For one player in [`CHECKED`] every byte is compared.

use crate::{
    answer::Answer,
    clock::now,
    film::Film,
    hls::{Player, ResponseKind},
    readiness,
    tally::{Counts, Tally},
};
use anyhow::{Context, Result, ensure};
use rustix::event::epoll;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

const CHECKED: usize = 50;
const READ: usize = 256 << 10;
/// Interval at which the thread checks for its end.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// When playlists are requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At once: the server holds the response back until the part exists.
    Server,
    /// By all players together at this interval: for a server that has everything from the start.
    Every(Duration),
}

/// Running players; they disconnect when this is dropped.
pub struct Players {
    tally: Arc<Tally>,
    count: usize,
    thread: Option<JoinHandle<()>>,
}

impl Players {
    /// Starts `count` players of the directory at `path`.
    pub fn start(
        film: Arc<Film>,
        address: SocketAddr,
        path: &str,
        count: usize,
        pace: Pace,
    ) -> Result<Players> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut viewers = Vec::with_capacity(count);
        for nth in 0..count {
            let socket = TcpStream::connect(address)
                .with_context(|| format!("player {nth} cannot connect"))?;
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            let event = epoll::EventData::new_u64(nth as u64);
            epoll::add(&poll, &socket, event, epoll::EventFlags::IN)?;
            viewers.push(Some(Viewer {
                socket,
                answer: Answer::default(),
                player: Player::new(),
                waits: None,
                last: None,
                whole: nth.is_multiple_of(CHECKED),
            }));
        }
        let tally = Arc::new(Tally::default());
        let stage = Stage {
            film,
            host: address,
            path: path.to_owned(),
            pace,
            tally: tally.clone(),
        };
        let thread = thread::Builder::new()
            .name("players".into())
            .spawn(move || {
                if let Err(error) = run(&stage, &poll, viewers) {
                    let mut counts = stage.tally.counts();
                    counts.fault(|| format!("the players ended: {error:#}"));
                }
            })?;
        Ok(Players {
            tally,
            count,
            thread: Some(thread),
        })
    }

    /// Waits until every player has received a part.
    pub fn settled(&self, patience: Duration) -> Result<()> {
        self.tally.settled(self.count as u64, patience)
    }
}

impl AsRef<Tally> for Players {
    fn as_ref(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.tally.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// State shared by all players.
struct Stage {
    film: Arc<Film>,
    host: SocketAddr,
    path: String,
    pace: Pace,
    tally: Arc<Tally>,
}

struct Viewer {
    socket: TcpStream,
    answer: Answer,
    player: Player,
    /// Request that is sent when it is due.
    waits: Option<String>,
    /// Number of the newest frame.
    last: Option<u64>,
    whole: bool,
}

fn run(stage: &Stage, poll: &OwnedFd, mut viewers: Vec<Option<Viewer>>) -> Result<()> {
    stage.tally.begin();
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; READ];
    let step = match stage.pace {
        Pace::Server => u64::MAX,
        Pace::Every(step) => u64::try_from(step.as_nanos())?,
    };
    let mut due = now().saturating_add(step);
    for (id, slot) in viewers.iter_mut().enumerate() {
        run_for(stage, id, slot, |viewer, _| viewer.ask(stage));
    }
    while !stage.tally.stopped() {
        let most = Duration::from_nanos(due.saturating_sub(now())).min(POLL_INTERVAL);
        readiness::wait(poll, &mut events, most)?;
        for event in &events {
            let data = event.data;
            let id = usize::try_from(data.u64())?;
            if let Some(slot) = viewers.get_mut(id) {
                run_for(stage, id, slot, |viewer, counts| {
                    viewer.read(stage, &mut buffer, counts)
                });
            }
        }
        if now() >= due {
            due += step;
            for (id, slot) in viewers.iter_mut().enumerate() {
                run_for(stage, id, slot, |viewer, _| match viewer.waits.take() {
                    Some(path) => viewer.send(stage, &path),
                    None => Ok(()),
                });
            }
        }
    }
    Ok(())
}

/// Runs an action for a player that is still connected; a player whose action fails is removed.
fn run_for(
    stage: &Stage,
    id: usize,
    slot: &mut Option<Viewer>,
    act: impl FnOnce(&mut Viewer, &mut Counts) -> Result<()>,
) {
    let Some(viewer) = slot else { return };
    let mut counts = stage.tally.counts();
    if let Err(error) = act(viewer, &mut counts) {
        counts.fault(|| format!("player {id}: {error:#}"));
        *slot = None;
    }
}

impl Viewer {
    /// Sends the next request, now or when it is due.
    fn ask(&mut self, stage: &Stage) -> Result<()> {
        let (path, later) = self.player.ask()?;
        if later && stage.pace != Pace::Server {
            self.waits = Some(path);
            return Ok(());
        }
        self.send(stage, &path)
    }

    fn send(&mut self, stage: &Stage, path: &str) -> Result<()> {
        let Stage {
            host, path: folder, ..
        } = stage;
        let request = format!("GET {folder}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        Ok(self.socket.write_all(request.as_bytes())?)
    }

    fn read(&mut self, stage: &Stage, buffer: &mut [u8], counts: &mut Counts) -> Result<()> {
        let size = match self.socket.read(buffer) {
            Ok(size) => size,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        ensure!(size > 0, "the connection ended");
        let at = now();
        counts.bytes += size as u64;
        self.answer.take(buffer.get(..size).unwrap_or_default());
        let Some((status, body)) = self.answer.whole()? else {
            return Ok(());
        };
        if let ResponseKind::Part(place) = self.player.answered(status, body)? {
            let look = || {
                let fragment = stage.film.recognise_fragment(body, body.len())?;
                let newest = stage.film.compare_fragment(fragment, body, self.whole)?;
                Ok::<_, anyhow::Error>((fragment, newest))
            };
            let (fragment, newest) = look().with_context(|| format!("{place:?}"))?;
            let first = fragment.first.number;
            ensure!(
                self.last.is_none_or(|last| first == last + 1),
                "{place:?} starts with frame {first} after {:?}",
                self.last
            );
            counts.viewers += u64::from(self.last.is_none());
            counts.messages += 1;
            counts.compared += u64::from(self.whole);
            if stage.pace == Pace::Server {
                counts.delays.add(at.saturating_sub(newest.sent));
            }
            self.last = Some(newest.number);
        }
        self.answer.clear();
        self.ask(stage)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::film::{Stamp, tests::film};
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
    };

    /// Serves segment 1 in parts of two frames to every client, and the part named by `wrong` with the frames of the
    /// next part.
    fn serve(film: Arc<Film>, wrong: Option<u64>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let film = film.clone();
                thread::spawn(move || answer(&film, wrong, socket));
            }
        });
        address
    }

    fn answer(film: &Film, wrong: Option<u64>, mut socket: TcpStream) {
        let lines = BufReader::new(socket.try_clone().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            let Some(path) = line
                .strip_prefix("GET /")
                .and_then(|rest| rest.split(' ').next())
            else {
                continue;
            };
            let body = if let Some(name) = path.strip_prefix("r-1.") {
                let part: u64 = name.trim_end_matches(".m4s").parse().unwrap();
                let shift = u64::from(wrong == Some(part));
                let number = 2 * (part + shift);
                film.fragment(
                    Stamp {
                        number,
                        sent: now(),
                    },
                    2,
                )
                .unwrap()
            } else {
                let newest = path.split("_HLS_part=").nth(1);
                let newest: u64 = newest.map_or(0, |part| part.parse().unwrap());
                let parts: String = (0..=newest)
                    .map(|part| format!("#EXT-X-PART:DURATION=1,URI=\"r-1.{part}.m4s\"\n"))
                    .collect();
                let next = newest + 1;
                format!("#EXTM3U\n{parts}#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"r-1.{next}.m4s\"\n")
                    .into()
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if socket
                .write_all(&[head.as_bytes(), &body].concat())
                .is_err()
            {
                return;
            }
        }
    }

    fn play(wrong: Option<u64>) -> Counts {
        let film = Arc::new(film(&[b"\0\0\0\x01\x65one", b"\0\0\0\x01\x41two"]));
        let address = serve(film.clone(), wrong);
        let pace = Pace::Every(Duration::from_millis(5));
        let players = Players::start(film, address, "/", 3, pace).unwrap();
        let until = now() + 20_000_000_000;
        while now() < until {
            let counts = players.tally.counts().clone();
            if counts.messages >= 30 || counts.faults > 0 {
                return counts;
            }
            thread::sleep(Duration::from_millis(1));
        }
        players.tally.counts().clone()
    }

    #[test]
    fn players_get_part_after_part_and_check_every_frame() {
        let counts = play(None);
        assert_eq!((counts.viewers, counts.faults), (3, 0), "{:?}", counts.said);
        assert!(counts.messages >= 30 && counts.compared > 0);
    }

    #[test]
    fn a_part_with_other_frames_is_a_fault() {
        let counts = play(Some(4));
        assert!(
            counts.faults > 0 && counts.said[0].contains("starts with frame 10"),
            "{:?}",
            counts.said
        );
    }
}
