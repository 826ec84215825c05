//! Sessions: one person's watching, across transports. What they may have by the config and can play, what the policy or they
//! themselves chose of that, and what they were told.

mod candidates;
mod link;
mod messages;
mod plain;
mod policy_actor;
mod rules;
mod watching;

pub use candidates::{Allowed, Pin, SessionError};
pub use messages::{FormChoice, Moved, ServerMessage, SessionView, base};
pub use plain::{Plain, plain, wants_json};
pub use policy_actor::{Call, Decision, Form, LoggedCall, PolicyHandle, SessionEvent};
pub use rules::{Asker, first};
pub use watching::Session;

use candidates::{alike, candidates, prepared};
use link::Link;
use messages::MovedEvent;
use policy_actor::SessionStart;
use sluicegate_plugin::{
    policy::{Candidate, Client, Report},
    transports::Transport,
};
use sluicegate_stream::{State, Stream};
use sluicegate_telemetry::{Ends, Events, TcpInfo, TcpProbe};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;
use watching::Inner;

/// Sessions at a time; and how long one lasts without its control channel, before it had one and after.
const MAX_SESSIONS: usize = 16_384;
/// Of those that no player has claimed, so many for one address.
const MAX_UNCLAIMED: usize = 256;
const UNCLAIMED: Duration = Duration::from_secs(30);
const UNATTENDED: Duration = Duration::from_secs(60);
/// Reports closer together than this are passed over.
const REPORT_PAUSE: Duration = Duration::from_millis(250);

/// Somebody begins to watch.
#[derive(Debug)]
pub struct Opening {
    /// What.
    pub stream: Arc<Stream>,
    /// Who.
    pub client: Client,
    /// Names of the transports that the client can play, best first.
    pub can: Vec<String>,
    /// By the config.
    pub allowed: Allowed,
    /// By the person.
    pub pin: Pin,
    /// Options of the policy, JSON.
    pub options: String,
}

/// Every session, and the policy that decides for them.
#[derive(Debug)]
pub struct Sessions {
    policy_actor: PolicyHandle,
    events: Arc<Events>,
    transports: BTreeMap<String, Arc<Transport>>,
    /// Asks the system about connections, where it can be asked.
    probe: Option<Mutex<TcpProbe>>,
    /// A move is given at least so long for its first picture.
    patience: Duration,
    newest: AtomicU64,
    all: Mutex<BTreeMap<String, Arc<Session>>>,
}

impl Sessions {
    /// None yet. Moves are told to `events`, and given `patience` for their first picture, or two groups if that is longer.
    pub fn new(
        policy_actor: PolicyHandle,
        patience: Duration,
        transports: &BTreeMap<String, Arc<Transport>>,
        events: &Arc<Events>,
    ) -> Arc<Sessions> {
        Arc::new(Sessions {
            policy_actor,
            patience,
            events: events.clone(),
            transports: transports.clone(),
            probe: TcpProbe::open().map(Mutex::new).ok(),
            newest: AtomicU64::new(0),
            all: Mutex::default(),
        })
    }

    /// What decides.
    pub fn policy_actor(&self) -> &PolicyHandle {
        &self.policy_actor
    }

    /// Begins a session, and says what it is to play.
    pub async fn begin(
        self: &Arc<Sessions>,
        opening: Opening,
    ) -> Result<(Arc<Session>, Decision), SessionError> {
        let Opening {
            stream,
            client,
            can,
            allowed,
            pin,
            options,
        } = opening;
        prepared(&self.transports, &stream, &can).await;
        let candidates = self.candidates(&stream, &can, &allowed, &pin)?;
        let (decisions, mut messages) = mpsc::unbounded_channel();
        let first = Form::from(&candidates[0]);
        let session = Arc::new(Session {
            number: self.newest.fetch_add(1, Ordering::Relaxed) + 1,
            id: sluicegate_viewer::unguessable(),
            stream,
            address: client.address.clone(),
            can,
            allowed,
            patience: self.patience,
            state: Mutex::new(Inner {
                candidates: candidates.clone(),
                sound: false,
                pin,
                wanted: Decision {
                    form: first,
                    reason: String::new(),
                },
                playing: None,
                since: SystemTime::now(),
                reason: String::new(),
                last: None,
                moves: 0,
                reported: None,
                report: None,
                counters: Vec::new(),
                shortest: None,
                link: None,
                player: None,
                left: Instant::now(),
                claimed: false,
            }),
        });
        {
            let mut all = self.lock();
            if all.len() >= MAX_SESSIONS {
                return Err(SessionError::TooMany);
            }
            let alike =
                |known: &&Arc<Session>| known.address == session.address && !known.lock().claimed;
            if all.values().filter(alike).count() >= MAX_UNCLAIMED {
                return Err(SessionError::TooManyUnclaimed);
            }
            all.insert(session.id.clone(), session.clone());
        }
        let only = candidates.len() == 1;
        let start = SessionStart {
            client,
            options,
            candidates,
            decisions,
        };
        let decided = self.policy_actor.begin(session.number, start).await;
        let decision = session.first(decided, only);
        let (sessions, deciding) = (Arc::downgrade(self), Arc::downgrade(&session));
        // Ends when the policy's thread lets go of the session.
        tokio::spawn(async move {
            while let Some(decision) = messages.recv().await {
                let (Some(_), Some(session)) = (sessions.upgrade(), deciding.upgrade()) else {
                    return;
                };
                session.decided(decision);
            }
        });
        Ok((session, decision))
    }

    /// The one of that id.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    /// The form that a client gets which has no player of ours.
    pub async fn advise(&self, opening: &Opening) -> Result<Form, SessionError> {
        let Opening {
            stream,
            can,
            allowed,
            pin,
            ..
        } = opening;
        prepared(&self.transports, stream, can).await;
        let candidates = self.candidates(stream, can, allowed, pin)?;
        Ok(Form::from(&candidates[0]))
    }

    /// Everybody whose player is there, in order of arrival.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.retain(|session| session.lock().player.is_some());
        all.sort_by_key(|session| session.number);
        all
    }

    /// Lets go of those that nobody attends to.
    pub fn tidy(&self, now: Instant) {
        let mut gone = Vec::new();
        self.lock().retain(|_, session| {
            let inner = session.lock();
            let wait = if inner.claimed { UNATTENDED } else { UNCLAIMED };
            let stays = inner.player.is_some() || now.duration_since(inner.left) < wait;
            if !stays {
                gone.push(session.number);
            }
            stays
        });
        for number in gone {
            self.policy_actor.end(number);
        }
    }

    /// A player attends to its session; what it is told comes here. One that was there before is told nothing more.
    pub fn attend(&self, session: &Session) -> mpsc::UnboundedReceiver<ServerMessage> {
        let (player, messages) = mpsc::unbounded_channel();
        let mut inner = session.lock();
        inner.player = Some(player);
        inner.claimed = true;
        drop(inner);
        self.offer(session);
        messages
    }

    /// The player is gone, if no other attends to the session by now.
    pub fn leave(&self, session: &Session, messages: &mpsc::UnboundedReceiver<ServerMessage>) {
        let mut inner = session.lock();
        if messages.sender_strong_count() > 0 {
            inner.player = None;
            inner.left = Instant::now();
        }
    }

    /// The player says how it is doing.
    pub fn report(&self, session: &Session, mut report: Report) {
        let now = Instant::now();
        let silent = session.stream.report().state != State::Live;
        if silent {
            // Then it is not the link that gives no pictures.
            report.stalled_ms = 0;
        }
        report.queued_ms = report.queued_ms.max(session.late());
        let info = session.ends().and_then(|ends| self.ask(ends));
        let mut inner = session.lock();
        if inner
            .reported
            .is_some_and(|last| now.duration_since(last) < REPORT_PAUSE)
        {
            return;
        }
        inner.reported = Some(now);
        let trip = report
            .round_trip_ms
            .map(|ms| Duration::from_millis(ms.into()));
        inner.shortest = trip.into_iter().chain(inner.shortest).min();
        inner.link = info.map(|info| Link::new(&info, inner.shortest));
        if let Some(link) = &inner.link {
            link.inform(&mut report);
        }
        inner.report = Some(report.clone());
        drop(inner);
        self.refresh(session);
        self.policy_actor
            .report_event(session.number, SessionEvent::Report(report));
    }

    /// What the system knows of a connection.
    fn ask(&self, Ends { local, peer }: Ends) -> Option<TcpInfo> {
        let mut probe = self.probe.as_ref()?.lock().ok()?;
        probe.ask(local, peer).ok().flatten()
    }

    /// Whether the stream has that form; a player that names another is told so.
    fn knows(&self, session: &Session, form: &Form) -> bool {
        let Form {
            transport,
            rendition,
        } = form;
        let mut renditions = session.stream.renditions();
        let known = self.transports.contains_key(transport)
            && (rendition.is_empty() || renditions.any(|known| known == rendition));
        if !known {
            session.lock().tell(ServerMessage::Refused {
                reason: format!(
                    "`{}` has no such transport or rendition",
                    session.stream.name
                ),
            });
        }
        known
    }

    /// A form is on the screen.
    pub fn playing(&self, session: &Session, form: Form) {
        if !self.knows(session, &form) {
            return;
        }
        let mut inner = session.lock();
        if inner.playing.as_ref() == Some(&form) {
            return;
        }
        let before = inner.playing.replace(form.clone());
        inner.since = SystemTime::now();
        if inner.wanted.form == form {
            inner.reason = inner.wanted.reason.clone();
        } else {
            inner.reason = "the player fell back to it".into();
        }
        if let Some(from) = before {
            let moved = Moved {
                at: sluicegate_telemetry::unix_ms(inner.since),
                from,
                to: form.clone(),
                reason: inner.reason.clone(),
            };
            self.events.publish(
                "session",
                &MovedEvent {
                    session: session.number,
                    stream: &session.stream.name,
                    from: &moved.from,
                    to: &moved.to,
                    reason: &moved.reason,
                },
            );
            inner.last = Some(moved);
            inner.moves += 1;
        }
        drop(inner);
        self.policy_actor
            .report_event(session.number, SessionEvent::Playing(form));
    }

    /// A form gave no picture in time, or ended.
    pub fn failed(&self, session: &Session, form: &Form) {
        if !self.knows(session, form) {
            return;
        }
        let mut inner = session.lock();
        if inner.playing.as_ref() == Some(form) {
            inner.playing = None;
        }
        drop(inner);
        self.policy_actor
            .report_event(session.number, SessionEvent::Failed(form.clone()));
    }

    /// A person chooses, or leaves it to the policy again.
    pub fn pin(&self, session: &Session, pin: Pin) {
        let free = pin == Pin::default();
        let chosen = if session.allowed.force {
            Err(SessionError::Forced)
        } else {
            self.candidates(&session.stream, &session.can, &session.allowed, &pin)
        };
        let candidates = match chosen {
            Ok(candidates) => candidates,
            Err(error) => {
                session.lock().tell(ServerMessage::Refused {
                    reason: error.to_string(),
                });
                return self.offer(session);
            }
        };
        let mut inner = session.lock();
        inner.pin = pin;
        inner.candidates.clone_from(&candidates);
        let playing = inner.playing.clone();
        drop(inner);
        self.offer(session);
        let only = (candidates.len() == 1).then(|| Form::from(&candidates[0]));
        // Who lets the policy choose again is asking what it would.
        let keeps = if free { None } else { playing.clone() };
        self.policy_actor.change(session.number, candidates, keeps);
        if let Some(form) = only
            && playing.as_ref() != Some(&form)
        {
            session.decided(Decision {
                form,
                reason: "it was chosen by hand".into(),
            });
        }
    }

    /// Candidates may have changed since the policy was told.
    fn refresh(&self, session: &Session) {
        let pin = session.lock().pin.clone();
        let Ok(candidates) = self.candidates(&session.stream, &session.can, &session.allowed, &pin)
        else {
            return;
        };
        let mut inner = session.lock();
        let changed = !alike(&inner.candidates, &candidates);
        // What was chosen by hand may carry none, and the stream have some.
        let heard = inner.sound != has_sound(&session.stream);
        if changed {
            inner.candidates.clone_from(&candidates);
        }
        let playing = inner.playing.clone();
        drop(inner);
        if changed {
            self.policy_actor
                .change(session.number, candidates, playing);
        }
        if changed || heard {
            self.offer(session);
        }
    }

    /// Tells the player what there is to choose.
    fn offer(&self, session: &Session) {
        let open = self.candidates(
            &session.stream,
            &session.can,
            &session.allowed,
            &Pin::default(),
        );
        let all = match session.allowed.force {
            true => open,
            false => self.candidates(
                &session.stream,
                &session.can,
                &Allowed::default(),
                &Pin::default(),
            ),
        };
        let choices = all
            .unwrap_or_default()
            .iter()
            .map(FormChoice::from)
            .collect();
        let mut inner = session.lock();
        inner.sound = has_sound(&session.stream);
        inner.tell(ServerMessage::Choices {
            choices,
            pin: inner.pin.clone(),
            forced: session.allowed.force,
            sound: inner.sound,
        });
    }

    fn candidates(
        &self,
        stream: &Arc<Stream>,
        can: &[String],
        allowed: &Allowed,
        pin: &Pin,
    ) -> Result<Vec<Candidate>, SessionError> {
        candidates(&self.transports, stream, can, allowed, pin)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether its source gives sound, as far as is known.
fn has_sound(stream: &Stream) -> bool {
    stream.info().is_some_and(|info| info.audio.is_some())
}
