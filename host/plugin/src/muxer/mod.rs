//! A muxer: one transport running on one stream, as an actor with its own thread and its own wasmtime `Store`.
//!
//! This module has the handles; `actor` has the thread. [`Muxers`] starts a muxer for the first client of a stream and
//! transport and shares it among all clients. A client either sends a request ([`MuxerUser::request`], answered through
//! `request_cache` so that the guest is called once per URL) or joins as a viewer ([`MuxerUser::join`], which gives a
//! [`Viewing`]). Everything from clients goes to the thread through one bounded inbox; chunks go back through the
//! [`Outlet`], effects for a single viewer through a bounded queue. No guest is ever called on a tokio worker. Called
//! by the gateway's API; a carrier sees a viewer only as a [`Delivery`](sluicegate_viewer::Delivery).

mod actor;
mod effects;
mod health;
mod request_cache;
mod swap;
mod viewing;

pub use health::{Health, Phase};
pub use swap::{SwapPhase, SwapState, Swapped};
pub use viewing::Viewing;

use self::request_cache::{RequestCache, RequestOutcome};
use super::{
    JoinRequest, Plugin, Profile, Response, Usage,
    recording::{self, Recorder, Recording},
    transports::{Transport, Transports},
};
use parking_lot::{Mutex, MutexGuard};
use sluicegate_stream::{Stream, Variant};
use sluicegate_telemetry::{Events, contain};
use sluicegate_viewer::{Cursor, FromClient, MetricKey, Outlet};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::oneshot;

/// Capacity of a muxer's inbox, in messages and in bytes. When it is full, the next message is refused.
const MAX_WAITING: usize = 4096;
const MAX_WAITING_BYTES: usize = 8 << 20;
/// Capacity of one viewer's effect queue, in effects and in bytes. When it is full, the viewer is closed.
const EFFECTS: usize = 64;
const EFFECT_BYTES: usize = 4 << 20;
/// Reason for viewers whose transport was replaced.
const REPLACED: &str = "the transport was replaced";
/// Bounds of the request timeout, whatever the group length is.
const MIN_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Reason why a muxer does not serve a client, as a message for the client.
#[derive(Clone, Debug, Error)]
pub enum Refusal {
    /// The component refused the viewer or request, with this message.
    #[error("{0}")]
    Rejected(String),
    /// The transport does not support this carrier.
    #[error("{0}")]
    Carrier(String),
    /// The transport takes none of the stream's formats, and none that it can be converted to.
    #[error("{0}")]
    Format(String),
    /// Temporarily unavailable: the muxer is overloaded, restarting or stopped. The client may retry.
    #[error("{0}")]
    Unavailable(String),
    /// Path and query are longer than the request cache accepts.
    #[error("path and query have more than {} bytes", request_cache::MAX_URL_LEN)]
    TooLong,
}

/// How long a request may stay pending: three target durations if groups are segments (draft-pantos-hls-rfc8216bis
/// 6.2.5.2), where a group may be up to twice as long as configured.
fn request_timeout(profile: &Profile) -> Duration {
    let group = Duration::from_millis(profile.group_ms.into());
    MIN_REQUEST_TIMEOUT.max(group * 6).min(MAX_REQUEST_TIMEOUT)
}

/// Answer to a GET.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The complete response.
    Done(Arc<Response>),
    /// Status 200 with this content type; the caller then joins and streams the body.
    Follow(String),
}

impl Reply {
    /// Bytes that it holds, including a compressed copy that may still be made.
    fn bytes(&self) -> usize {
        match self {
            Reply::Done(response) => response.bytes(),
            Reply::Follow(content_type) => content_type.len(),
        }
    }
}

/// Shared handle of a running muxer.
#[derive(Debug)]
pub struct Muxer {
    /// Name of the stream with its rendition and options: "porch", "porch@mobile", "porch?width=640".
    pub stream: String,
    /// Name of the transport.
    pub transport: String,
    /// Metrics key: as `stream` and `transport`, but without options such as `width` that viewers choose in the URL.
    pub metric_key: MetricKey,
    /// The transport with the component that it uses, for others than its thread, which has it in `Actor::transport`.
    used: Mutex<Arc<Transport>>,
    /// Ring of the chunks that the guest emitted.
    pub outlet: Outlet,
    /// Failures of the guest, backoff and circuit breaker.
    pub health: Health,
    /// Bytes in the buffers that the guest holds, updated once per turn of the thread.
    pub held: AtomicUsize,
    /// Calls and time of the guests with this metrics key, including earlier runs of the muxer.
    pub usage: Arc<Usage>,
    requests: RequestCache,
    inbox: Mutex<Inbox>,
    thread: OnceLock<Thread>,
}

/// Bounded queue of messages to the thread.
#[derive(Debug, Default)]
struct Inbox {
    messages: VecDeque<Message>,
    /// Size of the queued messages, by [`Message::bytes`].
    bytes: usize,
    closed: bool,
}

impl Inbox {
    /// Takes the oldest message.
    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.bytes();
        Some(message)
    }

    /// Takes all messages and refuses later ones.
    fn close(&mut self) -> VecDeque<Message> {
        self.closed = true;
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }

    fn has_room(&self, bytes: usize) -> bool {
        let fits = self.bytes.saturating_add(bytes) <= MAX_WAITING_BYTES;
        self.messages.len() < MAX_WAITING && fits
    }
}

enum Message {
    Join {
        viewer: u64,
        request: Arc<JoinRequest>,
        effects: effects::Sender,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    FromViewer {
        viewer: u64,
        data: FromClient,
    },
    Leave {
        viewer: u64,
    },
    /// Compare this component with the one in use, and send the verdict there.
    Try {
        transport: Arc<Transport>,
        verdict: swap::Verdict,
    },
    /// From a thread of the muxer's own: a component that is ready to be compared or to take over.
    Prepared(Box<actor::Prepared>),
    /// This component takes over where viewers can start; whether the one in use is kept ready.
    SwitchTo {
        transport: Arc<Transport>,
        keep: bool,
    },
    /// Give up this component, unless it has taken over.
    Abandon(Arc<Transport>),
    /// Record the calls of the guest from now on.
    Record(Recorder),
    End(End),
}

/// How a muxer ends, with a reason for its viewers.
enum End {
    /// The stream goes on by another muxer, so the guest must not finish what it has written: no last chunks, no end of
    /// a playlist. Pending requests fail and may be repeated.
    Replaced(&'static str),
    /// Nothing follows: the guest finishes.
    Finished(String),
}

impl Message {
    /// Tells whoever waits for an answer that the muxer has ended.
    fn discard(self, refusal: &Refusal) {
        match self {
            Message::Join { reply, .. } => drop(reply.send(Err(refusal.clone()))),
            Message::Try { verdict, .. } => verdict.ended(),
            _ => {}
        }
    }

    /// Share of the inbox's byte limit: the data that comes from clients.
    fn bytes(&self) -> usize {
        match self {
            Message::Join { request, .. } => request.bytes(),
            Message::FromViewer { data, .. } => data.len(),
            Message::Leave { .. }
            | Message::Try { .. }
            | Message::Prepared(_)
            | Message::SwitchTo { .. }
            | Message::Abandon(_)
            | Message::Record(_)
            | Message::End(_) => 0,
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Muxer {
    /// Component that it uses.
    pub fn component(&self) -> Arc<Plugin> {
        self.used.lock().plugin.clone()
    }

    /// Profile of the component that it uses.
    pub fn profile(&self) -> Profile {
        self.used.lock().profile.clone()
    }

    /// Records what its instance is called with and what it returns, from now on; see [`recording`].
    ///
    /// # Errors
    /// The muxer has ended.
    pub fn record(&self) -> Result<Recording, Refusal> {
        let (recorder, recording) = recording::channel();
        self.send(Message::Record(recorder))?;
        Ok(recording)
    }

    fn send(&self, message: Message) -> Result<(), Refusal> {
        let mut inbox = self.lock();
        if inbox.closed {
            drop(inbox);
            let gone = self.gone();
            message.discard(&gone);
            return Err(gone);
        }
        // What does not come from clients is accepted even if the inbox is full: otherwise the muxer would never learn
        // that a viewer has left.
        let bytes = message.bytes();
        let is_from_client = matches!(message, Message::Join { .. } | Message::FromViewer { .. });
        if is_from_client && !inbox.has_room(bytes) {
            return Err(Refusal::Unavailable(format!(
                "transport `{}` of stream `{}` is overloaded; try again",
                self.transport, self.stream
            )));
        }
        inbox.bytes += bytes;
        inbox.messages.push_back(message);
        drop(inbox);
        self.wake();
        Ok(())
    }

    /// Tells the thread to end, because the stream goes on by another muxer.
    fn replace(&self, reason: &'static str) {
        // `End` is never refused, except by a muxer that has ended.
        let _ = self.send(Message::End(End::Replaced(reason)));
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock()
    }

    /// The thread ended by a panic: closes the outlet and fails everything that waits for it.
    fn abort(&self) {
        self.outlet.close("the transport failed");
        self.requests.close(&self.gone());
        let waiting = self.lock().close();
        for message in waiting {
            message.discard(&self.gone());
        }
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

/// A client's use of a muxer: it keeps the muxer running and sends requests or a join to it.
#[derive(Debug)]
pub struct MuxerUser {
    muxer: Arc<Muxer>,
    muxers: Arc<Muxers>,
    /// End position of the outlet when the client arrived.
    outlet_end: u64,
}

impl MuxerUser {
    /// The muxer in use.
    pub fn muxer(&self) -> &Arc<Muxer> {
        &self.muxer
    }

    /// Answers a GET. While the component answers "pending", waits, at most for the request timeout of the muxer.
    ///
    /// # Errors
    ///
    /// The component failed, the timeout has passed, the path is too long, or the muxer is overloaded or has stopped.
    pub async fn request(&self, path: &str, query: &str) -> Result<Reply, Refusal> {
        match self.muxer.requests.request(path, query, Instant::now()) {
            RequestOutcome::Answered(outcome) => outcome,
            RequestOutcome::Waits { answer, wake } => {
                if wake {
                    self.muxer.wake();
                }
                answer.await.unwrap_or_else(|_| Err(self.muxer.gone()))
            }
        }
    }

    /// Makes the client a viewer until the returned [`Viewing`] is dropped. `viewer` must be unique in this process.
    ///
    /// # Errors
    ///
    /// The component, the carrier or the stream's format does not allow it, or the muxer is overloaded or has stopped.
    pub async fn join(self, viewer: u64, request: JoinRequest) -> Result<Viewing, Refusal> {
        let (reply, answer) = oneshot::channel();
        let (sender, effects) = effects::channel(EFFECTS, EFFECT_BYTES);
        self.muxer.send(Message::Join {
            viewer,
            request: Arc::new(request),
            effects: sender,
            reply,
        })?;
        // From here on the muxer may know the viewer, so `Viewing` must exist: its drop sends `Leave`.
        let outlet_end = self.outlet_end;
        let gone = self.muxer.gone();
        let viewing = Viewing::new(self, viewer, Cursor::since(outlet_end), effects);
        answer.await.unwrap_or(Err(gone))?;
        Ok(viewing)
    }
}

impl Drop for MuxerUser {
    fn drop(&mut self) {
        self.muxers.leave(&self.muxer);
    }
}

/// All running muxers of the gateway.
#[derive(Debug)]
pub struct Muxers {
    transports: Arc<Transports>,
    events: Arc<Events>,
    running: Mutex<Running>,
    /// Whether the gateway shuts down: no component is exchanged any more.
    is_ending: AtomicBool,
}

/// Key: stream with rendition and options, and transport.
type Running = BTreeMap<(String, String), Slot>;

#[derive(Debug)]
struct Slot {
    muxer: Arc<Muxer>,
    /// Serves a size or quality that viewers chose in the URL. Such muxers may be evicted.
    ad_hoc: bool,
    thread: JoinHandle<()>,
    users: usize,
    unused_since: Instant,
}

impl Muxers {
    /// An empty set of muxers for `transports`. Failures and recoveries of guests are published to `events`.
    pub fn new(transports: &Arc<Transports>, events: &Arc<Events>) -> Arc<Muxers> {
        Arc::new(Muxers {
            transports: transports.clone(),
            events: events.clone(),
            running: Mutex::default(),
            is_ending: AtomicBool::new(false),
        })
    }

    /// Returns the muxer of the transport with that name on `variant` of `stream`; starts it if it does not run.
    ///
    /// # Errors
    ///
    /// [`Refusal::Unavailable`] if the transport was removed meanwhile, or no thread can be started.
    pub fn enter(
        self: &Arc<Muxers>,
        stream: &Arc<Stream>,
        variant: &Variant,
        transport: &str,
    ) -> Result<MuxerUser, Refusal> {
        let key = (format!("{}{variant}", stream.name), transport.to_owned());
        let mut running = self.lock();
        // Looked up under the lock, so that no muxer of a component that was replaced meanwhile starts.
        let Some(transport) = &self.transports.get(transport) else {
            return Err(Refusal::Unavailable(format!(
                "the transport `{transport}` was removed"
            )));
        };
        // Under the lock, so that none starts after those of a stream that was removed were ended.
        if stream.is_removed() {
            return Err(Refusal::Unavailable(format!(
                "the stream `{}` was removed",
                stream.name
            )));
        }
        if let Some(slot) = running.get_mut(&key) {
            slot.users += 1;
            return Ok(MuxerUser {
                outlet_end: slot.muxer.outlet.end(),
                muxer: slot.muxer.clone(),
                muxers: self.clone(),
            });
        }
        let metric_key = MetricKey {
            stream: stream.name.clone(),
            rendition: variant.rendition.clone(),
            transport: transport.name.clone(),
        };
        let muxer = Arc::new(Muxer {
            usage: transport.usage.on(&metric_key),
            metric_key,
            stream: key.0.clone(),
            transport: transport.name.clone(),
            used: Mutex::new(transport.clone()),
            outlet: Outlet::default(),
            health: Health::default(),
            held: AtomicUsize::default(),
            requests: RequestCache::new(request_timeout(&transport.profile)),
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
        let (abandoned, all) = (muxer.clone(), self.clone());
        let thread = thread::Builder::new()
            .name(format!("mux {} {}", transport.name, key.0))
            .spawn(move || {
                if let Err(panicked) = contain(|| actor.run()) {
                    tracing::error!(
                        stream = abandoned.stream,
                        transport = abandoned.transport,
                        "the muxer {panicked}; its viewers are disconnected"
                    );
                    abandoned.abort();
                    all.remove(&abandoned);
                }
            })
            .map_err(|error| {
                Refusal::Unavailable(format!("cannot start a thread for the transport: {error}"))
            })?;
        let _ = muxer.thread.set(thread.thread().clone());
        running.insert(
            key,
            Slot {
                muxer: muxer.clone(),
                ad_hoc: variant.options.is_for_jpeg(),
                thread,
                users: 1,
                unused_since: Instant::now(),
            },
        );
        Ok(MuxerUser {
            muxer,
            muxers: self.clone(),
            outlet_end: 0,
        })
    }

    /// All running muxers.
    pub fn list(&self) -> Vec<Arc<Muxer>> {
        self.lock()
            .values()
            .map(|slot| slot.muxer.clone())
            .collect()
    }

    /// Ends every muxer. Viewers first get the chunks that are in the outlet, then `reason`.
    pub fn shut_down(&self, reason: &str) {
        // Before the muxers end, which ends what they compare.
        self.is_ending.store(true, Ordering::Relaxed);
        for muxer in self.list() {
            let _ = muxer.send(Message::End(End::Finished(reason.to_owned())));
        }
    }

    /// Removes a transport from the table and ends its muxers. Viewers first get the chunks that are in the outlet,
    /// then
    /// `reason`.
    pub fn remove_transport(&self, transport: &str, reason: &str) {
        // Under the lock, so that no predecessor is put back meanwhile.
        let mut running = self.lock();
        self.transports.remove(transport);
        for slot in take_of(&mut running, transport) {
            let end = End::Finished(reason.to_owned());
            let _ = slot.muxer.send(Message::End(end));
        }
    }

    /// Ends the muxers of a stream, or of one of its renditions, that does not exist any more. Viewers first get the
    /// chunks that are in the outlet, then `reason`.
    pub fn end_of(&self, stream: &str, rendition: Option<&str>, reason: &str) {
        let mut running = self.lock();
        let ended = running.extract_if(.., |_, slot| {
            let key = &slot.muxer.metric_key;
            key.stream == stream && rendition.is_none_or(|rendition| key.rendition == rendition)
        });
        for (_, slot) in ended {
            let end = End::Finished(reason.to_owned());
            let _ = slot.muxer.send(Message::End(end));
        }
    }

    /// Removes the muxer if it has been unused for `idle`; returns since when it was unused.
    fn retire(&self, muxer: &Muxer, idle: Duration) -> Option<Instant> {
        let mut running = self.lock();
        let key = muxer.key();
        let slot = running.get(&key).filter(|slot| slot.is_of(muxer))?;
        let since = slot.unused_since;
        if slot.users > 0 || since.elapsed() < idle {
            return None;
        }
        running.remove(&key);
        drop(running);
        self.switched(&muxer.transport);
        Some(since)
    }

    /// Makes room for `muxer`, if that is in use: ends the unused ad-hoc muxer of the same stream that was unused for
    /// longest. Its resources are free once the returned thread has ended.
    fn evict_unused(&self, muxer: &Muxer) -> Option<JoinHandle<()>> {
        let mut running = self.lock();
        let slot = running.get(&muxer.key())?;
        if !slot.is_of(muxer) || slot.users == 0 {
            return None;
        }
        let unused = running.iter().filter(|(_, slot)| {
            slot.muxer.metric_key.stream == muxer.metric_key.stream
                && slot.ad_hoc
                && slot.users == 0
        });
        let (key, slot) = unused.min_by_key(|(_, slot)| slot.unused_since)?;
        slot.muxer.replace("replaced by another size or quality");
        let key = key.clone();
        running.remove(&key).map(|slot| slot.thread)
    }

    /// Removes the muxer even if it is in use.
    fn remove(&self, muxer: &Muxer) {
        let mut running = self.lock();
        if running
            .get(&muxer.key())
            .is_some_and(|slot| slot.is_of(muxer))
        {
            running.remove(&muxer.key());
        }
        drop(running);
        self.switched(&muxer.transport);
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
        self.running.lock()
    }
}

/// Takes the muxers of a transport out of those that run.
fn take_of<'a>(running: &'a mut Running, transport: &'a str) -> impl Iterator<Item = Slot> + 'a {
    let of = running.extract_if(.., move |_, slot| slot.muxer.transport == transport);
    of.map(|(_, slot)| slot)
}

impl Slot {
    /// Whether the slot has this very muxer. After a restart a slot with the same key may have another.
    fn is_of(&self, muxer: &Muxer) -> bool {
        std::ptr::eq(self.muxer.as_ref(), muxer)
    }
}
