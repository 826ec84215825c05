//! Viewers of `webcodecs` over WebTransport on a single thread, each with a UDP socket of its own, as their browsers
//! would have. Frames of a stream must follow one another from its keyframe on. For one viewer in [`CHECKED`] every
//! byte is compared.

use crate::{
    clock::now,
    film::Film,
    network::Namespace,
    record::{HEAD, is_catalogue},
    tally::{Counts, Screen, Tally},
    wire::{Cutter, Kind},
};
use anyhow::{Context, Result, anyhow, ensure};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use wtransport::{ClientConfig, Connection, Endpoint, RecvStream, endpoint::endpoint_side::Client};

const CHECKED: usize = 50;
/// Interval at which the thread checks for its end.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Running viewers; they disconnect when this is dropped.
pub struct Sessions {
    tally: Arc<Tally>,
    count: usize,
    thread: Option<JoinHandle<()>>,
}

impl Sessions {
    /// Starts `count` viewers of `path`, in another network namespace if one is given.
    pub fn start(
        film: Arc<Film>,
        address: SocketAddr,
        path: &str,
        count: usize,
        namespace: Option<Namespace>,
    ) -> Result<Sessions> {
        let (tally, url) = (
            Arc::new(Tally::default()),
            format!("https://{address}{path}"),
        );
        let shared = tally.clone();
        let thread = thread::Builder::new()
            .name("sessions".into())
            .spawn(move || {
                let result = namespace
                    .map_or(Ok(()), |namespace| namespace.enter())
                    .and_then(|()| run(&film, &url, count, &shared));
                if let Err(error) = result {
                    let fault = || format!("the sessions ended: {error:#}");
                    shared.counts().fault(fault);
                }
            })?;
        Ok(Sessions {
            tally,
            count,
            thread: Some(thread),
        })
    }

    /// Waits until every viewer has received a frame.
    pub fn settled(&self, patience: Duration) -> Result<()> {
        self.tally.settled(self.count as u64, patience)
    }
}

impl AsRef<Tally> for Sessions {
    fn as_ref(&self) -> &Tally {
        &self.tally
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.tally.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client that accepts any certificate; it has a socket of its own.
pub fn client() -> Result<Endpoint<Client>> {
    let mut tls = rustls::ClientConfig::clone(&*sluicegate_source::unverified_tls()?);
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = ClientConfig::builder()
        .with_bind_address((Ipv4Addr::UNSPECIFIED, 0).into())
        .with_custom_tls(tls)
        .build();
    Ok(Endpoint::client(config)?)
}

fn run(film: &Arc<Film>, url: &str, count: usize, tally: &Arc<Tally>) -> Result<()> {
    tally.begin();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut viewers = Vec::new();
        for nth in 0..count {
            let client = client()?;
            let session = client.connect(url).await;
            let session = session.with_context(|| format!("viewer {nth} cannot connect"))?;
            let viewer = Arc::new(Viewer {
                nth,
                film: film.clone(),
                tally: tally.clone(),
                screen: Mutex::new(None),
            });
            tokio::spawn(viewer.watch(session));
            viewers.push(client);
        }
        while !tally.stopped() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        for client in &viewers {
            client.close(0u32.into(), b"");
        }
        for client in viewers {
            // Lets the other side know, so that it does not go on sending.
            let _ = tokio::time::timeout(POLL_INTERVAL, client.wait_idle()).await;
        }
        Ok(())
    })
}

struct Viewer {
    nth: usize,
    film: Arc<Film>,
    tally: Arc<Tally>,
    /// What it has, once it has a frame.
    screen: Mutex<Option<Screen>>,
}

impl Viewer {
    async fn watch(self: Arc<Viewer>, session: Connection) {
        loop {
            match session.accept_uni().await {
                Ok(stream) => drop(tokio::spawn(self.clone().read(stream))),
                Err(error) if !self.tally.stopped() => {
                    return self.fault(&mut self.tally.counts(), &anyhow!(error));
                }
                Err(_) => return,
            }
        }
    }

    fn fault(&self, counts: &mut Counts, error: &anyhow::Error) {
        counts.fault(|| format!("viewer {}: {error:#}", self.nth));
    }

    /// Reads a stream, which is a group, to its end; it may be reset.
    async fn read(self: Arc<Viewer>, mut stream: RecvStream) {
        let whole = self.nth.is_multiple_of(CHECKED);
        let keep = if whole { usize::MAX } else { HEAD };
        let (mut cutter, mut last) = (Cutter::new(Kind::Records, keep), None);
        while let Ok(Some(chunk)) = stream.quic_stream_mut().read_chunk(usize::MAX, true).await {
            let at = now();
            let mut counts = self.tally.counts();
            counts.bytes += chunk.bytes.len() as u64;
            let mut fault = None;
            let cut = cutter.take(&chunk.bytes, &mut |head, length| {
                let taken = self.take(head, length, at, whole, &mut last, &mut counts);
                fault = fault.take().or(taken.err());
            });
            if let Some(error) = cut.err().or(fault) {
                return self.fault(&mut counts, &error);
            }
        }
        let group = self.film.group;
        let missed = last.map_or(0, |last: u64| group - 1 - last % group);
        self.tally.counts().missed += missed;
    }

    fn take(
        &self,
        head: &[u8],
        length: usize,
        at: u64,
        whole: bool,
        last: &mut Option<u64>,
        counts: &mut Counts,
    ) -> Result<()> {
        if is_catalogue(head) {
            return Ok(());
        }
        let stamp = self.film.recognise_record(head, length, whole)?;
        let number = stamp.number;
        let follows = match *last {
            Some(last) => number == last + 1,
            None => self.film.is_key(number),
        };
        ensure!(follows, "frame {number} after {last:?} in a stream");
        *last = Some(number);
        counts.messages += 1;
        counts.compared += u64::from(whole);
        counts.delays.add(at.saturating_sub(stamp.sent));
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = screen.get_or_insert_with(|| {
            counts.viewers += 1;
            Screen::default()
        });
        screen.frame(stamp, at, self.film.group, counts);
        Ok(())
    }
}
