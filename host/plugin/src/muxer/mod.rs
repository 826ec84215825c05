//! A muxer: one transport at work on one stream, as an actor with a thread and a `Store` of its own.
//!
//! The handle here is what carriers hold; `actor` is the thread.

mod actor;
mod effects;
mod health;
mod request_cache;
mod viewing;

pub use health::{Health, Phase};
pub use viewing::{Viewing, Want};

use self::request_cache::{AskOutcome, RequestCache};
use super::{Effect, Profile, Response, Usage, transports::Transport};
use sluicegate_stream::{Stream, Variant};
use sluicegate_telemetry::{Events, contain};
use sluicegate_viewer::{Carrier, Content, Cursor, MetricKey, Outlet};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicUsize},
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::oneshot;

/// Messages that may wait for a muxer, and bytes of them; beyond, the next is refused.
const MAX_WAITING: usize = 4096;
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Effects that may wait for one viewer, and bytes of them; beyond, the viewer is closed.
const EFFECTS: usize = 64;
const EFFECT_BYTES: usize = 4 << 20;
/// How long a request may wait, however short or long groups are.
const MIN_PATIENCE: Duration = Duration::from_secs(10);
const MAX_PATIENCE: Duration = Duration::from_secs(60);

/// Why a muxer does not serve a client.
#[derive(Clone, Debug, Error)]
pub enum Refusal {
    /// The component does not take this viewer.
    #[error("{0}")]
    Rejected(String),
    /// The transport does not go over this carrier.
    #[error("{0}")]
    Carrier(String),
    /// The stream's format does not fit and is not converted.
    #[error("{0}")]
    Format(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
    /// Path and query are longer than what is kept of a request that waits.
    #[error("path and query have more than {} bytes", request_cache::MAX_URL_LEN)]
    TooLong,
}

/// How long a request may be answered "later": three target durations, where groups are segments
/// (draft-pantos-hls-rfc8216bis 6.2.5.2), and these up to twice as long as wished for.
fn request_patience(profile: &Profile) -> Duration {
    let group = Duration::from_millis(profile.group_ms.into());
    MIN_PATIENCE.max(group * 6).min(MAX_PATIENCE)
}

/// What a GET got.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The whole response.
    Done(Arc<Response>),
    /// 200 with this content type, then join.
    Follow(String),
}

impl Reply {
    /// Bytes that it holds, or may come to hold.
    fn bytes(&self) -> usize {
        match self {
            Reply::Done(response) => response.bytes(),
            Reply::Follow(content_type) => content_type.len(),
        }
    }
}

/// The handle of a running muxer.
#[derive(Debug)]
pub struct Muxer {
    /// Name of the stream, and of the form that it is in: "porch", "porch@mobile", "porch?width=640".
    pub stream: String,
    /// Name of the transport.
    pub transport: String,
    /// The same for counting: without what viewers ask for beyond the config.
    pub way: MetricKey,
    /// What it gave out.
    pub outlet: Outlet,
    /// How the guest is doing.
    pub health: Health,
    /// Bytes in the buffers that the guest holds.
    pub held: AtomicUsize,
    /// What guests cost on this way, in earlier runs of the muxer too.
    pub usage: Arc<Usage>,
    requests: RequestCache,
    inbox: Mutex<Inbox>,
    thread: OnceLock<Thread>,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct Inbox {
    messages: VecDeque<Message>,
    /// Of the messages.
    bytes: usize,
    closed: bool,
}

impl Inbox {
    /// Gives what is in it.
    fn take(&mut self) -> VecDeque<Message> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }

    /// Gives what is in it; nothing more gets in.
    fn close(&mut self) -> VecDeque<Message> {
        self.closed = true;
        self.take()
    }

    fn has_room(&self, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= MAX_WAITING_BYTES;
        self.messages.len() < MAX_WAITING && fits
    }
}

enum Message {
    Join {
        viewer: u64,
        request: JoinRequest,
        effects: effects::Sender,
        reply: oneshot::Sender<Result<Vec<Effect>, Refusal>>,
    },
    FromViewer {
        viewer: u64,
        data: Content,
    },
    Leave {
        viewer: u64,
    },
    End(String),
}

impl Message {
    /// What it takes of the inbox's bound: what comes from clients.
    fn bytes(&self) -> usize {
        match self {
            Message::Join { request, .. } => request.path.len() + request.query.len(),
            Message::FromViewer { data, .. } => data.len(),
            Message::Leave { .. } | Message::End(_) => 0,
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// How a viewer asked to join, kept for when the instance is rebuilt.
#[derive(Clone, Debug)]
struct JoinRequest {
    carrier: Carrier,
    path: String,
    query: String,
}

impl Muxer {
    fn send(&self, message: Message) -> Result<(), Refusal> {
        let mut inbox = self.lock();
        if inbox.closed {
            return Err(self.gone());
        }
        // Leaving must always be possible, or the muxer would never learn of it.
        let bytes = message.bytes();
        if !inbox.has_room(bytes) && !matches!(message, Message::Leave { .. } | Message::End(_)) {
            return Err(Refusal::Unavailable(format!(
                "transport `{}` of stream `{}` has too much to do; try again",
                self.transport, self.stream
            )));
        }
        inbox.bytes += bytes;
        inbox.messages.push_back(message);
        drop(inbox);
        self.wake();
        Ok(())
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its thread is gone without a farewell: nobody is left waiting for it.
    fn give_up(&self) {
        self.outlet.close("the transport failed");
        self.requests.close(&self.gone());
        // With the messages go the ways to answer them, which tells who waits.
        drop(self.lock().close());
    }

    fn key(&self) -> (String, String) {
        (self.stream.clone(), self.transport.clone())
    }

    fn gone(&self) -> Refusal {
        Refusal::Unavailable(format!(
            "transport `{}` of stream `{}` was stopped; try again",
            self.transport, self.stream
        ))
    }
}

/// Keeps a muxer running and talks to it.
#[derive(Debug)]
pub struct MuxerUser {
    muxer: Arc<Muxer>,
    muxers: Arc<Muxers>,
    /// Where the outlet ended when it came.
    came: u64,
}

impl MuxerUser {
    /// The muxer.
    pub fn muxer(&self) -> &Arc<Muxer> {
        &self.muxer
    }

    /// Answers a GET; waits as long as the component says "later", within the host's limit.
    pub async fn request(&self, path: &str, query: &str) -> Result<Reply, Refusal> {
        match self.muxer.requests.ask(path, query, Instant::now()) {
            AskOutcome::Answered(outcome) => outcome,
            AskOutcome::Waits { answer, wake } => {
                if wake {
                    self.muxer.wake();
                }
                answer.await.unwrap_or_else(|_| Err(self.muxer.gone()))
            }
        }
    }

    /// Makes the client a viewer, until the returned [`Viewing`] is dropped.
    pub async fn join(
        self,
        viewer: u64,
        carrier: Carrier,
        path: &str,
        query: &str,
    ) -> Result<Viewing, Refusal> {
        let (reply, answer) = oneshot::channel();
        let (sender, effects) = effects::channel(EFFECTS, EFFECT_BYTES);
        self.muxer.send(Message::Join {
            viewer,
            request: JoinRequest {
                carrier,
                path: path.to_owned(),
                query: query.to_owned(),
            },
            effects: sender,
            reply,
        })?;
        // From here on the muxer may know the viewer, so it must be told when it goes.
        let came = self.came;
        let gone = self.muxer.gone();
        let mut viewing = Viewing::new(self, viewer, Cursor::since(came), effects);
        viewing.joined(answer.await.unwrap_or(Err(gone))?);
        Ok(viewing)
    }
}

impl Drop for MuxerUser {
    fn drop(&mut self) {
        self.muxers.leave(&self.muxer);
    }
}

/// All running muxers.
#[derive(Debug)]
pub struct Muxers {
    events: Arc<Events>,
    running: Mutex<Running>,
}

/// By name of the stream in its form, and of the transport.
type Running = BTreeMap<(String, String), Slot>;

#[derive(Debug)]
struct Slot {
    muxer: Arc<Muxer>,
    /// It gives what viewers asked for beyond the config.
    ad_hoc: bool,
    thread: JoinHandle<()>,
    users: usize,
    unused_since: Instant,
}

impl Muxers {
    /// None yet; how their guests do is told to `events`.
    pub fn new(events: &Arc<Events>) -> Arc<Muxers> {
        Arc::new(Muxers {
            events: events.clone(),
            running: Mutex::default(),
        })
    }

    /// The muxer of that transport on that form of the stream, started if need be.
    pub fn enter(
        self: &Arc<Muxers>,
        stream: &Arc<Stream>,
        variant: &Variant,
        transport: &Arc<Transport>,
    ) -> Result<MuxerUser, Refusal> {
        let key = (format!("{}{variant}", stream.name), transport.name.clone());
        let mut running = self.lock();
        if let Some(slot) = running.get_mut(&key) {
            slot.users += 1;
            return Ok(MuxerUser {
                came: slot.muxer.outlet.end(),
                muxer: slot.muxer.clone(),
                muxers: self.clone(),
            });
        }
        let way = MetricKey {
            stream: stream.name.clone(),
            rendition: variant.rendition.clone(),
            transport: transport.name.clone(),
        };
        let muxer = Arc::new(Muxer {
            usage: transport.usage.on(&way),
            way,
            stream: key.0.clone(),
            transport: transport.name.clone(),
            outlet: Outlet::default(),
            health: Health::default(),
            held: AtomicUsize::default(),
            requests: RequestCache::new(request_patience(&transport.profile)),
            inbox: Mutex::default(),
            thread: OnceLock::new(),
        });
        let actor = actor::Actor::new(
            muxer.clone(),
            self.clone(),
            stream.clone(),
            variant.clone(),
            transport.clone(),
        );
        let (given_up, all) = (muxer.clone(), self.clone());
        let thread = thread::Builder::new()
            .name(format!("mux {} {}", transport.name, key.0))
            .spawn(move || {
                if let Err(panicked) = contain(|| actor.run()) {
                    tracing::error!(
                        stream = given_up.stream,
                        transport = given_up.transport,
                        "the muxer {panicked}; its viewers are closed"
                    );
                    given_up.give_up();
                    all.remove(&given_up);
                }
            })
            .map_err(|error| {
                Refusal::Unavailable(format!("no thread for the transport: {error}"))
            })?;
        let _ = muxer.thread.set(thread.thread().clone());
        running.insert(
            key,
            Slot {
                muxer: muxer.clone(),
                ad_hoc: variant.ask.is_of_jpegs(),
                thread,
                users: 1,
                unused_since: Instant::now(),
            },
        );
        Ok(MuxerUser {
            muxer,
            muxers: self.clone(),
            came: 0,
        })
    }

    /// Every running muxer.
    pub fn list(&self) -> Vec<Arc<Muxer>> {
        self.lock()
            .values()
            .map(|slot| slot.muxer.clone())
            .collect()
    }

    /// Ends every muxer; their viewers are told the reason once they have got what is there.
    pub fn shut_down(&self, reason: &str) {
        for muxer in self.list() {
            let _ = muxer.send(Message::End(reason.to_owned()));
        }
    }

    /// Removes the muxer if nobody used it for `idle`; says since when.
    fn retire(&self, muxer: &Muxer, idle: Duration) -> Option<Instant> {
        let mut running = self.lock();
        let key = muxer.key();
        let slot = running.get(&key).filter(|slot| slot.is_of(muxer))?;
        let since = slot.unused_since;
        if slot.users > 0 || since.elapsed() < idle {
            return None;
        }
        running.remove(&key);
        Some(since)
    }

    /// Ends the muxer of the same stream that gives what viewers asked for beyond the config and that nobody has used for
    /// longest, for `muxer` if that is used. What it holds is free when its thread has ended.
    fn make_room(&self, muxer: &Muxer) -> Option<JoinHandle<()>> {
        let mut running = self.lock();
        let slot = running.get(&muxer.key())?;
        if !slot.is_of(muxer) || slot.users == 0 {
            return None;
        }
        let unused = running.iter().filter(|(_, slot)| {
            slot.muxer.way.stream == muxer.way.stream && slot.ad_hoc && slot.users == 0
        });
        let (key, slot) = unused.min_by_key(|(_, slot)| slot.unused_since)?;
        let reason = "another size or quality takes its place";
        let _ = slot.muxer.send(Message::End(reason.into()));
        let key = key.clone();
        running.remove(&key).map(|slot| slot.thread)
    }

    /// Removes the muxer whoever uses it.
    fn remove(&self, muxer: &Muxer) {
        let mut running = self.lock();
        if running
            .get(&muxer.key())
            .is_some_and(|slot| slot.is_of(muxer))
        {
            running.remove(&muxer.key());
        }
    }

    fn leave(&self, muxer: &Muxer) {
        let mut running = self.lock();
        let slot = running.get_mut(&muxer.key());
        if let Some(slot) = slot.filter(|slot| slot.is_of(muxer)) {
            slot.users -= 1;
            slot.unused_since = Instant::now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Another one may have taken its place.
    fn is_of(&self, muxer: &Muxer) -> bool {
        std::ptr::eq(self.muxer.as_ref(), muxer)
    }
}
