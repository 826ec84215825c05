//! The policy as an actor: one thread with one guest instance that decides for all sessions.
//!
//! Guest code must not run on a thread that serves sockets, so sessions send messages to the policy's thread and wait
//! at most 500 ms for a first decision; later decisions arrive on a channel. The inbox is bounded in number and bytes.
//! When it is full, messages are dropped, because by the time they would be read they are out of date.
//! [`Sessions`](super::Sessions) uses the [`PolicyHandle`]; `state` is the thread.

mod state;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_media::budget::{Budget, Reservation};
use sluicegate_plugin::{
    Health, Phase,
    policy::{Candidate, Choice, Client, Event, Policy, Report},
};
use state::PolicyActor;
use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc as channel, oneshot};

/// How long a new session waits for the policy's decision.
const DECISION_TIMEOUT: Duration = Duration::from_millis(500);
/// Capacity of the inbox in bytes. Each session reports once a second.
const INBOX_BYTES: usize = 32 << 20;

/// A transport and a rendition of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct PlaybackTarget {
    /// Name of the transport.
    pub transport: String,
    /// Name of the rendition; empty for the stream itself.
    pub rendition: String,
}

impl LoggedCall {
    /// Estimated size in bytes, with what it refers to.
    fn bytes(&self) -> usize {
        let call = match &self.call {
            Call::Open { client, options } => {
                client.address.len() + client.user_agent.len() + options.len()
            }
            Call::Choose { candidates, .. } => candidates_bytes(candidates),
            Call::Observe(Event::Report(report)) => report.network.as_ref().map_or(0, String::len),
            Call::Observe(_) => 0,
        };
        let reason = self.answer.as_ref().map_or(0, |choice| choice.reason.len());
        size_of::<LoggedCall>() + call + reason
    }
}

impl From<&Candidate> for PlaybackTarget {
    fn from(candidate: &Candidate) -> PlaybackTarget {
        PlaybackTarget {
            transport: candidate.transport.clone(),
            rendition: candidate.rendition.clone(),
        }
    }
}

/// What a session should play, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Transport and rendition to play.
    pub target: PlaybackTarget,
    /// Reason shown to the user.
    pub reason: String,
}

/// What happened to a session, as its player reports it.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// Measurements, about once a second.
    Report(Report),
    /// The target shows its first frame.
    Playing(PlaybackTarget),
    /// The target showed no frame in time, or ended.
    Failed(PlaybackTarget),
}

/// One call of the policy with its answer, complete enough to replay it in another instance.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
#[schemars(rename = "PolicyCall")]
pub struct LoggedCall {
    /// When it was called: milliseconds since the policy's thread started.
    pub at: u64,
    /// Function and arguments.
    pub call: Call,
    /// The policy's choice; null if it made none.
    pub answer: Option<Choice>,
}

/// A function of the policy with its arguments; see `interface policy` in `wit/gateway.wit`.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// `open`: a session begins.
    Open {
        /// Description of the client.
        client: Client,
        /// Options of the policy for this client, JSON.
        options: String,
    },
    /// `choose`: pick one of the candidates.
    Choose {
        /// Transports and renditions to choose from, best first.
        candidates: Vec<Candidate>,
        /// Index of the candidate that plays; null if none does.
        playing: Option<u32>,
    },
    /// `observe`: something happened to the session.
    Observe(Event),
}

/// What the policy's thread needs for a new session.
#[derive(Debug)]
pub struct SessionStart {
    /// Description of the client.
    pub client: Client,
    /// Options of the policy for this client, JSON.
    pub options: String,
    /// Candidates, best first; at least one.
    pub candidates: Vec<Candidate>,
    /// Receives the decisions after the first.
    pub decisions: channel::UnboundedSender<Decision>,
}

/// A message to the policy's thread. The first `u64` is the session's number, that of an event's time in milliseconds.
enum Message {
    Begin(u64, Box<SessionStart>, oneshot::Sender<Decision>),
    Change(u64, Vec<Candidate>, Option<PlaybackTarget>),
    SessionEvent(u64, u64, SessionEvent),
    Log(u64, oneshot::Sender<Vec<LoggedCall>>),
    Options(u64, String),
    End(u64),
    Replace(Arc<Policy>),
}

impl Message {
    /// Number of the session that the message concerns.
    fn session(&self) -> Option<u64> {
        match self {
            Message::Begin(id, ..)
            | Message::Change(id, ..)
            | Message::SessionEvent(id, ..)
            | Message::Log(id, _)
            | Message::Options(id, _)
            | Message::End(id) => Some(*id),
            Message::Replace(_) => None,
        }
    }

    /// Estimated size in bytes, with what it refers to.
    fn bytes(&self) -> usize {
        let more = match self {
            Message::Begin(_, start, _) => {
                let Client {
                    address,
                    user_agent,
                    network,
                    ..
                } = &start.client;
                let network = network.as_ref().map_or(0, String::len);
                let client = address.len() + user_agent.len() + network;
                client + start.options.len() + candidates_bytes(&start.candidates)
            }
            Message::Change(_, candidates, playing) => {
                candidates_bytes(candidates) + playing.as_ref().map_or(0, PlaybackTarget::bytes)
            }
            Message::SessionEvent(_, _, SessionEvent::Report(report)) => {
                report.network.as_ref().map_or(0, String::len)
            }
            Message::SessionEvent(
                _,
                _,
                SessionEvent::Playing(target) | SessionEvent::Failed(target),
            ) => target.bytes(),
            Message::Options(_, options) => options.len(),
            Message::Log(..) | Message::End(_) | Message::Replace(_) => 0,
        };
        size_of::<Message>() + more
    }
}

impl PlaybackTarget {
    fn bytes(&self) -> usize {
        self.transport.len() + self.rendition.len()
    }
}

/// Estimated size of candidates in bytes.
fn candidates_bytes(candidates: &[Candidate]) -> usize {
    let each = |candidate: &Candidate| {
        size_of::<Candidate>() + candidate.transport.len() + candidate.rendition.len()
    };
    candidates.iter().map(each).sum()
}

/// Sends messages to the policy's thread. All calls but [`PolicyHandle::begin`] and [`PolicyHandle::log`] return at
/// once.
#[derive(Debug)]
pub struct PolicyHandle {
    inbox: mpsc::Sender<(Message, Reservation)>,
    budget: Budget,
    health: Arc<Health>,
    policy: Mutex<Arc<Policy>>,
    began: Instant,
}

impl PolicyHandle {
    /// Starts the thread, which ends when the handle is dropped.
    ///
    /// # Errors
    /// The system starts no thread.
    pub fn start(policy: Policy) -> std::io::Result<PolicyHandle> {
        let policy = Arc::new(policy);
        let (inbox, messages) = mpsc::channel();
        let health = Arc::<Health>::default();
        let began = Instant::now();
        let state = PolicyActor::new(policy.clone(), health.clone(), began);
        thread::Builder::new()
            .name("policy".into())
            .spawn(move || state.run(&messages))?;
        Ok(PolicyHandle {
            inbox,
            budget: Budget::new(INBOX_BYTES),
            health,
            policy: Mutex::new(policy),
            began,
        })
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        let policy = self.policy.lock();
        policy.clone()
    }

    /// State of the policy's instance.
    pub fn phase(&self) -> Phase {
        self.health.phase()
    }

    /// Begins a session and returns what it should play first; `None` if the answer takes longer than 500 ms.
    pub async fn begin(&self, session: u64, start: SessionStart) -> Option<Decision> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Begin(session, Box::new(start), reply));
        tokio::time::timeout(DECISION_TIMEOUT, answer)
            .await
            .ok()?
            .ok()
    }

    /// Replaces a session's candidates (at least one). If `playing` is not among them, or nothing plays, a decision
    /// follows.
    pub fn change(
        &self,
        session: u64,
        candidates: Vec<Candidate>,
        playing: Option<PlaybackTarget>,
    ) {
        self.send(Message::Change(session, candidates, playing));
    }

    /// Passes an event to the policy; a decision may follow.
    pub fn report_event(&self, session: u64, what: SessionEvent) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.send(Message::SessionEvent(session, at, what));
    }

    /// The policy's last calls for a session, oldest first; empty if the session is unknown.
    pub async fn log(&self, session: u64) -> Vec<LoggedCall> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Log(session, reply));
        answer.await.unwrap_or_default()
    }

    /// Gives a session these options. If they are others than before, it is opened anew with them.
    pub fn set_options(&self, session: u64, options: String) {
        self.send(Message::Options(session, options));
    }

    /// Ends a session.
    pub fn end(&self, session: u64) {
        self.send(Message::End(session));
    }

    /// Puts another policy in force. Sessions keep playing what they play.
    pub fn replace(&self, policy: Arc<Policy>) {
        *self.policy.lock() = policy.clone();
        self.send(Message::Replace(policy));
    }

    /// Sends a message. If the inbox is full, most are dropped: the thread is then so far behind that they would be out
    /// of date when they are read. The end of a session, its options and another policy must arrive.
    fn send(&self, message: Message) {
        let bytes = message.bytes();
        let held = match message {
            Message::End(_) | Message::Options(..) | Message::Replace(_) => {
                Some(self.budget.reserve_over_limit(bytes))
            }
            _ => self.budget.take(bytes),
        };
        match held {
            // An error means that the thread has ended, which it does with this handle only.
            Some(held) => drop(self.inbox.send((message, held))),
            None => tracing::warn!("the policy's message queue is full; a message was dropped"),
        }
    }
}
