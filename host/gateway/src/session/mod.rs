//! Sessions: one user's watching, across transports and renditions.
//!
//! A session has a list of candidates (`candidates`: what the config allows, the client can play and the stream
//! offers). The policy, or the user by a pin, chooses one of them, and the player gets it as a message on its control
//! channel. The one idea: a session holds decisions, never media. A viewer's connection only registers its counters
//! with the session, so a slow, lost or undecided session stops no video. [`Sessions`] holds all of them and the
//! [`PolicyHandle`]; `api/choice.rs` begins sessions, `api/session.rs` runs their control channels, `api/live.rs` adds
//! connections.

mod candidates;
mod link;
mod messages;
mod policy_actor;
mod redirect_target;
mod rules;
mod watching;

pub use candidates::{Allowed, Pin, SessionError};
pub use messages::{Moved, ServerMessage, SessionView, TargetChoice, base};
pub use policy_actor::{Call, Decision, LoggedCall, PlaybackTarget, PolicyHandle, SessionEvent};
pub use redirect_target::{RedirectTarget, redirect_target, wants_json};
pub use rules::{ClientRequest, RequestFacts, first};
pub use watching::{Measured, Session};

use candidates::{candidates, is_similar, wait_for_probes};
use link::Link;
use messages::MovedEvent;
use parking_lot::{Mutex, MutexGuard};
use policy_actor::SessionStart;
use sluicegate_config as config;
use sluicegate_plugin::{
    policy::{Candidate, Client, Policy, Report},
    transports::Transports,
};
use sluicegate_stream::{State, Stream};
use sluicegate_telemetry::{Events, PathInfo, TcpProbe};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;
use watching::Inner;

/// Largest number of sessions.
const MAX_SESSIONS: usize = 16_384;
/// Largest number of sessions of one address whose control channel was never opened.
const MAX_UNCLAIMED: usize = 256;
/// How long a session lasts whose control channel was never opened.
const UNCLAIMED_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a session lasts after its control channel closed.
const DETACHED_TIMEOUT: Duration = Duration::from_secs(60);
/// Shortest time between two reports of a session; reports in between are ignored.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// What a new session, or a client without a player of ours, asks for.
#[derive(Debug)]
pub struct SessionRequest {
    /// Stream to watch.
    pub stream: Arc<Stream>,
    /// Description of the client, for the policy.
    pub client: Client,
    /// Names of the transports that the client can play, best first.
    pub can: Vec<String>,
    /// What the rules of the config look at, to apply other rules later.
    pub facts: RequestFacts,
    /// What the config allows this client.
    pub allowed: Allowed,
    /// What the user has pinned.
    pub pin: Pin,
    /// Options of the policy for this client, JSON.
    pub options: String,
}

/// All sessions, and the policy that decides for them.
#[derive(Debug)]
pub struct Sessions {
    policy_actor: PolicyHandle,
    events: Arc<Events>,
    transports: Arc<Transports>,
    /// Reads the kernel's figures of connections; `None` where the kernel cannot be asked.
    probe: Option<Mutex<TcpProbe>>,
    /// Shortest timeout of a move's first frame.
    move_timeout: Mutex<Duration>,
    newest: AtomicU64,
    all: Mutex<BTreeMap<String, Arc<Session>>>,
}

impl Sessions {
    /// Creates an empty set of sessions. Moves are published to `events`. The timeout of a move's first frame is
    /// `move_timeout`, or two groups if that is longer.
    pub fn new(
        policy_actor: PolicyHandle,
        move_timeout: Duration,
        transports: &Arc<Transports>,
        events: &Arc<Events>,
    ) -> Arc<Sessions> {
        Arc::new(Sessions {
            policy_actor,
            move_timeout: Mutex::new(move_timeout),
            events: events.clone(),
            transports: transports.clone(),
            probe: TcpProbe::open().map(Mutex::new).ok(),
            newest: AtomicU64::new(0),
            all: Mutex::default(),
        })
    }

    /// Sets the shortest timeout of a move's first frame, for sessions that begin from now on.
    pub fn set_move_timeout(&self, move_timeout: Duration) {
        *self.move_timeout.lock() = move_timeout;
    }

    /// The handle of the policy's thread.
    pub fn policy_actor(&self) -> &PolicyHandle {
        &self.policy_actor
    }

    /// Begins a session and returns it with what it plays first.
    ///
    /// # Errors
    /// No candidate is left, or a limit on sessions is reached.
    pub async fn begin(
        self: &Arc<Sessions>,
        session_request: SessionRequest,
    ) -> Result<(Arc<Session>, Decision), SessionError> {
        let SessionRequest {
            stream,
            client,
            can,
            facts,
            allowed,
            pin,
            options,
        } = session_request;
        wait_for_probes(&self.transports.all(), &stream, &can).await;
        let candidates = self.candidates(&stream, &can, &allowed, &pin)?;
        let (decisions, mut messages) = mpsc::unbounded_channel();
        let first = PlaybackTarget::from(&candidates[0]);
        let session = Arc::new(Session {
            number: self.newest.fetch_add(1, Ordering::Relaxed) + 1,
            id: sluicegate_viewer::random_id(),
            stream,
            address: client.address.clone(),
            can,
            facts,
            move_timeout: *self.move_timeout.lock(),
            state: Mutex::new(Inner {
                allowed,
                candidates: candidates.clone(),
                sound: false,
                pin,
                latest_decision: Decision {
                    target: first,
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
                shortest_trip: None,
                link: None,
                measured: None,
                player: None,
                detached_at: Instant::now(),
                claimed: false,
            }),
        });
        {
            let mut all = self.lock();
            // Under the lock, so that it is either here when the sessions of the stream end, or not at all.
            if session.stream.is_removed() {
                return Err(SessionError::Removed);
            }
            if all.len() >= MAX_SESSIONS {
                return Err(SessionError::TooMany);
            }
            let is_similar =
                |known: &&Arc<Session>| known.address == session.address && !known.lock().claimed;
            if all.values().filter(is_similar).count() >= MAX_UNCLAIMED {
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
        // Ends when the policy's thread drops the session, and with it the sender.
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

    /// The session with the secret id `id`.
    pub fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).cloned()
    }

    /// The session with this number.
    pub fn numbered(&self, number: u64) -> Option<Arc<Session>> {
        let all = self.lock();
        all.values()
            .find(|session| session.number == number)
            .cloned()
    }

    /// The first candidate, for a client without a player of ours. Creates no session and does not ask the policy.
    ///
    /// # Errors
    /// No candidate is left.
    pub async fn first_candidate(
        &self,
        session_request: &SessionRequest,
    ) -> Result<PlaybackTarget, SessionError> {
        let SessionRequest {
            stream,
            can,
            allowed,
            pin,
            ..
        } = session_request;
        wait_for_probes(&self.transports.all(), stream, can).await;
        let candidates = self.candidates(stream, can, allowed, pin)?;
        Ok(PlaybackTarget::from(&candidates[0]))
    }

    /// Sessions whose control channel is open, in order of arrival.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.retain(|session| session.lock().player.is_some());
        all.sort_by_key(|session| session.number);
        all
    }

    /// Removes sessions that have been without a control channel for too long.
    pub fn tidy(&self, now: Instant) {
        let mut gone = Vec::new();
        self.lock().retain(|_, session| {
            let inner = session.lock();
            let wait = if inner.claimed {
                DETACHED_TIMEOUT
            } else {
                UNCLAIMED_TIMEOUT
            };
            let stays = inner.player.is_some() || now.duration_since(inner.detached_at) < wait;
            if !stays {
                gone.push(session.number);
            }
            stays
        });
        for number in gone {
            self.policy_actor.end(number);
        }
    }

    /// Opens a control channel: returns the receiver of the session's messages, which begin with the choices. The
    /// receiver of an earlier control channel of the session ends.
    pub fn open_channel(&self, session: &Session) -> mpsc::UnboundedReceiver<ServerMessage> {
        let (player, messages) = mpsc::unbounded_channel();
        let mut inner = session.lock();
        inner.player = Some(player);
        inner.claimed = true;
        drop(inner);
        self.offer(session);
        messages
    }

    /// Closes the control channel with the receiver `messages`; no effect if another control channel took over.
    pub fn close_channel(
        &self,
        session: &Session,
        messages: &mpsc::UnboundedReceiver<ServerMessage>,
    ) {
        let mut inner = session.lock();
        if messages.sender_strong_count() > 0 {
            inner.player = None;
            inner.detached_at = Instant::now();
        }
    }

    /// Handles a player's report: completes it with the gateway's measurements and passes it to the policy. Ignored if
    /// it follows the last one within 250 ms.
    pub fn report(&self, session: &Session, mut report: Report) {
        let now = Instant::now();
        let silent = session.stream.report().state != State::Live;
        if silent {
            // The source delivers no frames, so the missing frames are not the link's fault.
            report.stalled_ms = 0;
        }
        report.queued_ms = report.queued_ms.max(session.blocked_for());
        let measured = session.measured();
        let info = measured.as_ref().and_then(|by| self.query(by));
        let mut inner = session.lock();
        if inner
            .reported
            .is_some_and(|last| now.duration_since(last) < MIN_REPORT_INTERVAL)
        {
            return;
        }
        inner.reported = Some(now);
        let trip = report
            .round_trip_ms
            .map(|ms| Duration::from_millis(ms.into()));
        inner.shortest_trip = trip.into_iter().chain(inner.shortest_trip).min();
        let is_known = match (&measured, &inner.measured) {
            (Some(now), Some(before)) => now.is(before),
            _ => false,
        };
        let before = inner.link.filter(|_| is_known);
        inner.link = info.map(|info| Link::new(&info, inner.shortest_trip, before.as_ref()));
        inner.measured = measured;
        if let Some(link) = &inner.link {
            link.complete(&mut report);
        }
        inner.report = Some(report.clone());
        drop(inner);
        self.refresh(session);
        self.policy_actor
            .report_event(session.number, SessionEvent::Report(report));
    }

    /// What the sender of a connection knows of its path.
    fn query(&self, measured: &Measured) -> Option<PathInfo> {
        match measured {
            Measured::ByKernel(ends) => {
                let mut probe = self.probe.as_ref()?.lock();
                probe.query(ends.local, ends.peer).ok().flatten()
            }
            Measured::ByQuic(path) => path.upgrade()?.info(),
        }
    }

    /// Whether the transport and rendition exist; if not, a refusal is sent to the player.
    fn check_target(&self, session: &Session, target: &PlaybackTarget) -> bool {
        let PlaybackTarget {
            transport,
            rendition,
        } = target;
        let known = self.transports.get(transport).is_some()
            && (rendition.is_empty() || session.stream.rendition(rendition).is_some());
        if !known {
            session.lock().notify_player(ServerMessage::Refused {
                reason: format!(
                    "`{}` has no such transport or rendition",
                    session.stream.name
                ),
            });
        }
        known
    }

    /// Handles a player's message that `target` shows its first frame: records the move and tells the policy.
    pub fn playing(&self, session: &Session, target: PlaybackTarget) {
        if !self.check_target(session, &target) {
            return;
        }
        let mut inner = session.lock();
        if inner.playing.as_ref() == Some(&target) {
            return;
        }
        let before = inner.playing.replace(target.clone());
        inner.since = SystemTime::now();
        if inner.latest_decision.target == target {
            inner.reason = inner.latest_decision.reason.clone();
        } else {
            inner.reason = "the player fell back to it".into();
        }
        if let Some(from) = before {
            let moved = Moved {
                at: sluicegate_telemetry::unix_ms(inner.since),
                from,
                to: target.clone(),
                reason: inner.reason.clone(),
            };
            self.events.publish(
                "session",
                Some(&session.stream.name),
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
            .report_event(session.number, SessionEvent::Playing(target));
    }

    /// Handles a player's message that `target` showed no frame in time, or ended: tells the policy, which may move.
    pub fn failed(&self, session: &Session, target: &PlaybackTarget) {
        if !self.check_target(session, target) {
            return;
        }
        let mut inner = session.lock();
        if inner.playing.as_ref() == Some(target) {
            inner.playing = None;
        }
        drop(inner);
        self.policy_actor
            .report_event(session.number, SessionEvent::Failed(target.clone()));
    }

    /// Handles a user's choice; the default pin leaves the choice to the policy again. A pin without candidates, or
    /// against a rule that forces, is refused with a message.
    pub fn pin(&self, session: &Session, pin: Pin) {
        let free = pin == Pin::default();
        let allowed = session.lock().allowed.clone();
        let chosen = if allowed.force {
            Err(SessionError::Forced)
        } else {
            self.candidates(&session.stream, &session.can, &allowed, &pin)
        };
        let candidates = match chosen {
            Ok(candidates) => candidates,
            Err(error) => {
                session.lock().notify_player(ServerMessage::Refused {
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
        let only = (candidates.len() == 1).then(|| PlaybackTarget::from(&candidates[0]));
        // When a pin is removed, the policy chooses again, as if nothing played.
        let keeps = if free { None } else { playing.clone() };
        self.policy_actor.change(session.number, candidates, keeps);
        if let Some(target) = only
            && playing.as_ref() != Some(&target)
        {
            session.decided(Decision {
                target,
                reason: "it was selected manually".into(),
            });
        }
    }

    /// Computes the candidates again and, if they changed, tells the policy and the player.
    fn refresh(&self, session: &Session) {
        let (pin, allowed) = {
            let inner = session.lock();
            (inner.pin.clone(), inner.allowed.clone())
        };
        let Ok(candidates) = self.candidates(&session.stream, &session.can, &allowed, &pin) else {
            return;
        };
        let mut inner = session.lock();
        let changed = !is_similar(&inner.candidates, &candidates);
        // The stream may have audio even if no candidate of the pin carries it.
        let audio_changed = inner.sound != has_audio(&session.stream);
        if changed {
            inner.candidates.clone_from(&candidates);
        }
        let playing = inner.playing.clone();
        drop(inner);
        if changed {
            self.policy_actor
                .change(session.number, candidates, playing);
        }
        if changed || audio_changed {
            self.offer(session);
        }
    }

    /// Applies other rules of the config, or those for another policy, to all sessions. Only those for which they
    /// change something notice it.
    pub fn apply_rules(&self, rules: &[config::Client], policy: &Policy) {
        let all: Vec<_> = self.lock().values().cloned().collect();
        for session in all {
            self.apply_rules_to(&session, rules, policy);
        }
    }

    /// Does the same for one session.
    pub fn apply_rules_to(&self, session: &Session, rules: &[config::Client], policy: &Policy) {
        let rule = session.facts.find(rules, &session.stream.name);
        let allowed = rule.map(Allowed::from).unwrap_or_default();
        let options = policy.options_with(rule.and_then(|rule| rule.policy.as_ref()));
        let mut inner = session.lock();
        let is_allowed_otherwise = inner.allowed != allowed;
        if allowed.force {
            inner.pin = Pin::default();
        }
        inner.allowed.clone_from(&allowed);
        let pin = inner.pin.clone();
        drop(inner);
        // The policy's thread compares them with those that it has.
        self.policy_actor
            .set_options(session.number, options.to_string());
        if !is_allowed_otherwise {
            return;
        }
        self.refresh(session);
        self.offer(session);
        if let Err(reason) = self.candidates(&session.stream, &session.can, &allowed, &pin) {
            let reason = reason.to_string();
            session
                .lock()
                .notify_player(ServerMessage::Refused { reason });
        }
    }

    /// Ends the sessions of a stream that does not exist any more, with their control channels.
    pub fn end_of(&self, stream: &Arc<Stream>) {
        let mut ended = Vec::new();
        self.lock().retain(|_, session| {
            let stays = !Arc::ptr_eq(&session.stream, stream);
            if !stays {
                ended.push(session.clone());
            }
            stays
        });
        for session in ended {
            session.lock().player = None;
            self.policy_actor.end(session.number);
        }
    }

    /// Sends the player its choices: everything the client can play, or what the rule allows if it forces.
    fn offer(&self, session: &Session) {
        let allowed = session.lock().allowed.clone();
        let open = self.candidates(&session.stream, &session.can, &allowed, &Pin::default());
        let all = match allowed.force {
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
            .map(TargetChoice::from)
            .collect();
        let mut inner = session.lock();
        inner.sound = has_audio(&session.stream);
        inner.notify_player(ServerMessage::Choices {
            choices,
            pin: inner.pin.clone(),
            forced: allowed.force,
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
        candidates(&self.transports.all(), stream, can, allowed, pin)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.all.lock()
    }
}

/// Whether the stream has audio, as far as is known.
fn has_audio(stream: &Stream) -> bool {
    stream.info().is_some_and(|info| info.audio.is_some())
}
