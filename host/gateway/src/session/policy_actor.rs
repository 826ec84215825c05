//! The way to the thread on which the policy decides, for all sessions; never one that serves sockets.

mod state;

use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_media::budget::{Budget, Reservation};
use sluicegate_plugin::{
    Health, Phase,
    policy::{Candidate, Choice, Client, Event, Policy, Report},
};
use state::PolicyActor;
use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc as channel, oneshot};

/// How long a new session waits for the policy.
const PATIENCE: Duration = Duration::from_millis(500);
/// What is on its way to the thread, in number and bytes: sessions report once a second.
const INBOX: usize = 65_536;
const INBOX_BYTES: usize = 32 << 20;

/// A transport and a rendition of the stream; an empty one is the stream itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Form {
    /// Its name.
    pub transport: String,
    /// Its name.
    pub rendition: String,
}

impl LoggedCall {
    /// About what it takes.
    fn bytes(&self) -> usize {
        let call = match &self.call {
            Call::Open { client, options } => {
                client.address.len() + client.user_agent.len() + options.len()
            }
            Call::Choose { candidates, .. } => weight(candidates),
            Call::Observe(Event::Report(report)) => report.network.as_ref().map_or(0, String::len),
            Call::Observe(_) => 0,
        };
        let reason = self.answer.as_ref().map_or(0, |choice| choice.reason.len());
        size_of::<LoggedCall>() + call + reason
    }
}

impl From<&Candidate> for Form {
    fn from(candidate: &Candidate) -> Form {
        Form {
            transport: candidate.transport.clone(),
            rendition: candidate.rendition.clone(),
        }
    }
}

/// What a session is to play, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What.
    pub form: Form,
    /// A phrase for people.
    pub reason: String,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// About once a second.
    Report(Report),
    /// Its first picture is on the screen.
    Playing(Form),
    /// It gave no picture in time, or ended.
    Failed(Form),
}

/// One call of the policy and its answer: enough to ask another instance the same.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
#[schemars(rename = "PolicyCall")]
pub struct LoggedCall {
    /// Milliseconds on the gateway's clock.
    pub at: u64,
    /// What it was told.
    pub call: Call,
    /// What it answered.
    pub answer: Option<Choice>,
}

/// See `interface policy` in `wit/gateway.wit`.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// `open`.
    Open {
        /// Who watches.
        client: Client,
        /// JSON.
        options: String,
    },
    /// `choose`.
    Choose {
        /// What there is.
        candidates: Vec<Candidate>,
        /// An index.
        playing: Option<u32>,
    },
    /// `observe`.
    Observe(Event),
}

/// A session that begins.
#[derive(Debug)]
pub struct SessionStart {
    /// Who watches.
    pub client: Client,
    /// JSON.
    pub options: String,
    /// What there is; at least one.
    pub candidates: Vec<Candidate>,
    /// Where later decisions go.
    pub decisions: channel::UnboundedSender<Decision>,
}

enum Message {
    Begin(u64, Box<SessionStart>, oneshot::Sender<Decision>),
    Change(u64, Vec<Candidate>, Option<Form>),
    SessionEvent(u64, u64, SessionEvent),
    Log(u64, oneshot::Sender<Vec<LoggedCall>>),
    End(u64),
    Replace(Arc<Policy>),
}

impl Message {
    /// Which it is about.
    fn session(&self) -> Option<u64> {
        match self {
            Message::Begin(id, ..)
            | Message::Change(id, ..)
            | Message::SessionEvent(id, ..)
            | Message::Log(id, _)
            | Message::End(id) => Some(*id),
            Message::Replace(_) => None,
        }
    }

    /// About what it takes, with what it refers to.
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
                client + start.options.len() + weight(&start.candidates)
            }
            Message::Change(_, candidates, playing) => {
                weight(candidates) + playing.as_ref().map_or(0, Form::bytes)
            }
            Message::SessionEvent(_, _, SessionEvent::Report(report)) => {
                report.network.as_ref().map_or(0, String::len)
            }
            Message::SessionEvent(
                _,
                _,
                SessionEvent::Playing(form) | SessionEvent::Failed(form),
            ) => form.bytes(),
            Message::Log(..) | Message::End(_) | Message::Replace(_) => 0,
        };
        size_of::<Message>() + more
    }
}

impl Form {
    fn bytes(&self) -> usize {
        self.transport.len() + self.rendition.len()
    }
}

/// About what candidates take.
fn weight(candidates: &[Candidate]) -> usize {
    let each = |candidate: &Candidate| {
        size_of::<Candidate>() + candidate.transport.len() + candidate.rendition.len()
    };
    candidates.iter().map(each).sum()
}

/// The way to the thread.
#[derive(Debug)]
pub struct PolicyHandle {
    inbox: mpsc::SyncSender<(Message, Reservation)>,
    budget: Budget,
    health: Arc<Health>,
    policy: Mutex<Arc<Policy>>,
    began: Instant,
}

impl PolicyHandle {
    /// Starts the thread; it ends with the last `PolicyHandle`.
    pub fn start(policy: Policy) -> std::io::Result<PolicyHandle> {
        let policy = Arc::new(policy);
        let (inbox, messages) = mpsc::sync_channel(INBOX);
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
        let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        policy.clone()
    }

    /// How it is doing.
    pub fn phase(&self) -> Phase {
        self.health.phase()
    }

    /// A session begins; gives what it is to play. `None`: the policy is too busy to say.
    pub async fn begin(&self, session: u64, start: SessionStart) -> Option<Decision> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Begin(session, Box::new(start), reply));
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }

    /// There are other candidates, at least one. What plays goes on if it is among them; with nothing playing, a decision follows.
    pub fn change(&self, session: u64, candidates: Vec<Candidate>, playing: Option<Form>) {
        self.send(Message::Change(session, candidates, playing));
    }

    /// Something happened to a session; decisions may follow.
    pub fn report_event(&self, session: u64, what: SessionEvent) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.send(Message::SessionEvent(session, at, what));
    }

    /// What the policy was asked about a session and answered, the newest last.
    pub async fn log(&self, session: u64) -> Vec<LoggedCall> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Log(session, reply));
        answer.await.unwrap_or_default()
    }

    /// A session is over.
    pub fn end(&self, session: u64) {
        self.send(Message::End(session));
    }

    /// Another policy decides from here on. Who plays goes on playing.
    pub fn replace(&self, policy: Policy) {
        let policy = Arc::new(policy);
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy.clone();
        self.send(Message::Replace(policy));
    }

    /// If the thread is that far behind, what it would hear is out of date anyway.
    fn send(&self, message: Message) {
        let held = self.budget.take(message.bytes());
        if held.is_none_or(|held| self.inbox.try_send((message, held)).is_err()) {
            tracing::warn!("the policy is too far behind; something that it should know is lost");
        }
    }
}
