//! The policy's thread: owns the guest instance and the state of every session in it.
//!
//! A policy that traps, exceeds its deadline or answers with an invalid index is dropped and replaced by a new
//! instance, with backoff and a circuit breaker as for a muxer's guest. Sessions do not depend on it: those that begin
//! meanwhile get the first candidate, and those that play keep playing. They are opened in the new instance at their
//! next message. A session with which the policy failed [`MAX_FAILURES`] times is not passed to it again. Reads
//! messages from the [`PolicyHandle`](super::PolicyHandle); calls the [`PolicyInstance`].

use super::{Call, Decision, LoggedCall, Message, PlaybackTarget, SessionEvent, SessionStart};
use sluicegate_media::budget::Reservation;
use sluicegate_plugin::{
    Failure, Health,
    policy::{Choice, Event, Policy, PolicyInstance, PolicySession},
};
use sluicegate_telemetry::{contain, panic_point};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// Failures with one session after which the policy is not asked about it again.
const MAX_FAILURES: u32 = 3;
/// Largest number of entries in a session's log.
const MAX_LOG_ENTRIES: usize = 128;
/// Largest size of a session's log in bytes.
const MAX_LOG_BYTES: usize = 64 << 10;
/// Size in bytes that each session's log may always have.
const MIN_LOG_BYTES: usize = 4 << 10;
/// Bytes that are shared among all logs. A session's share is updated, and its log cut, with its next entry.
const ALL_LOG_BYTES: usize = 64 << 20;

/// State of the policy's thread.
pub(super) struct PolicyActor {
    policy: Arc<Policy>,
    health: Arc<Health>,
    instance: Option<PolicyInstance>,
    sessions: BTreeMap<u64, PolicyEntry>,
    began: Instant,
}

impl PolicyActor {
    /// Creates the state, without sessions and without an instance.
    pub fn new(policy: Arc<Policy>, health: Arc<Health>, began: Instant) -> PolicyActor {
        PolicyActor {
            policy,
            health,
            instance: None,
            sessions: BTreeMap::new(),
            began,
        }
    }

    /// Handles messages until the handle is dropped.
    pub fn run(mut self, messages: &mpsc::Receiver<(Message, Reservation)>) {
        loop {
            match messages.recv_timeout(Duration::from_secs(60)) {
                Ok((message, _held)) => {
                    let handled = contain(|| {
                        panic_point("policy");
                        self.handle(message);
                    });
                    // Treated as a trap. The reply's sender was dropped, which ends the wait for it.
                    if let Err(panicked) = handled {
                        self.failed(format!("the host {panicked}"));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn handle(&mut self, message: Message) {
        let share = ALL_LOG_BYTES / self.sessions.len().max(1);
        if let Some(entry) = message.session().and_then(|id| self.sessions.get_mut(&id)) {
            entry.max_log_bytes = share.clamp(MIN_LOG_BYTES, MAX_LOG_BYTES);
        }
        match message {
            Message::Begin(id, start, reply) => {
                let entry = PolicyEntry {
                    start: *start,
                    playing: None,
                    session: None,
                    failures: 0,
                    log: VecDeque::new(),
                    log_bytes: 0,
                    max_log_bytes: MAX_LOG_BYTES,
                };
                self.sessions.insert(id, entry);
                if let Some(decision) = self.choose(id) {
                    let _ = reply.send(decision);
                }
            }
            Message::Change(id, candidates, playing) => {
                let Some(entry) = self.sessions.get_mut(&id) else {
                    return;
                };
                entry.start.candidates = candidates;
                entry.playing = playing.and_then(|target| entry.find(&target));
                let stays = entry.playing.is_some();
                let decision = self.choose(id);
                if let (false, Some(decision), Some(entry)) =
                    (stays, decision, self.sessions.get(&id))
                {
                    let _ = entry.start.decisions.send(decision);
                }
            }
            Message::SessionEvent(id, at, what) => self.report_event(id, at, what),
            Message::Log(id, reply) => {
                let log = self
                    .sessions
                    .get(&id)
                    .map(|entry| entry.log.iter().cloned());
                let _ = reply.send(log.into_iter().flatten().collect());
            }
            Message::Options(id, options) => {
                let Some(entry) = self.sessions.get_mut(&id) else {
                    return;
                };
                if entry.start.options == options {
                    return;
                }
                entry.start.options = options;
                entry.failures = 0;
                let before = entry.session.take();
                self.close(before);
            }
            Message::End(id) => {
                let ended = self.sessions.remove(&id).and_then(|entry| entry.session);
                self.close(ended);
            }
            Message::Replace(policy) => {
                self.policy = policy;
                self.drop_instance();
                self.health.recovered();
            }
        }
    }

    /// Closes a session in the instance, if it is open there.
    fn close(&mut self, session: Option<PolicySession>) {
        if let (Some(session), Some(instance)) = (session, &mut self.instance)
            && let Err(failure) = instance.close(session)
        {
            self.failed(failure.to_string());
        }
    }

    /// What a session should play: the policy's choice, or the first candidate if it makes none.
    fn choose(&mut self, id: u64) -> Option<Decision> {
        let at = self.now();
        // An instance that does not know the session is asked to choose when `session` opens it there.
        let known = self.sessions.get(&id)?.session.is_some();
        let answer = match known {
            true => self.ask_choose(id, at),
            false => self.session(id, at).map(|(_, choice)| choice),
        };
        let choice = match answer {
            Ok(choice) => choice,
            Err(no_decision) => {
                let reason = match &no_decision {
                    NoDecision::Unavailable => {
                        "the policy is not available after a failure, so the first candidate is used"
                    }
                    NoDecision::Failed(_) => "the policy failed, so the first candidate is used",
                };
                self.record_failure(id, no_decision);
                Choice {
                    candidate: 0,
                    reason: reason.into(),
                }
            }
        };
        self.sessions.get(&id)?.decision(choice)
    }

    fn report_event(&mut self, id: u64, at: u64, what: SessionEvent) {
        let Some(entry) = self.sessions.get_mut(&id) else {
            return;
        };
        let event = match what {
            SessionEvent::Report(report) => Event::Report(report),
            SessionEvent::Playing(target) => {
                let Some(index) = entry.find(&target) else {
                    return;
                };
                entry.playing = Some(index);
                Event::Playing(index)
            }
            SessionEvent::Failed(target) => {
                let Some(index) = entry.find(&target) else {
                    return;
                };
                if entry.playing == Some(index) {
                    entry.playing = None;
                }
                Event::Failed(index)
            }
        };
        let failed = match event {
            Event::Failed(index) => Some(index),
            _ => None,
        };
        let decision = match self.observe(id, at, event) {
            Ok(choice) => choice.and_then(|choice| self.sessions.get(&id)?.decision(choice)),
            Err(no_decision) => {
                self.record_failure(id, no_decision);
                // Without the policy, the next candidate replaces the one that failed.
                failed.and_then(|failed| self.next_after(id, failed))
            }
        };
        if let (Some(decision), Some(entry)) = (decision, self.sessions.get(&id)) {
            let _ = entry.start.decisions.send(decision);
        }
    }

    /// The candidate after one that failed, if nothing plays.
    fn next_after(&self, id: u64, failed: u32) -> Option<Decision> {
        let entry = self.sessions.get(&id)?;
        if entry.playing.is_some() {
            return None;
        }
        let count = u32::try_from(entry.start.candidates.len()).ok()?;
        entry.decision(Choice {
            candidate: (failed + 1) % count.max(1),
            reason: "the previous choice displayed no frame, and the policy is not available"
                .into(),
        })
    }

    fn observe(&mut self, id: u64, at: u64, event: Event) -> Result<Option<Choice>, NoDecision> {
        let (session, _) = self.session(id, at)?;
        let (Some(entry), Some(instance)) = (self.sessions.get_mut(&id), &mut self.instance) else {
            return Err(NoDecision::Unavailable);
        };
        let answer = instance.observe(session, at, &event)?;
        entry.log_call(at, Call::Observe(event), answer.clone());
        if let Some(choice) = &answer {
            check_choice(entry, choice)?;
        }
        Ok(answer)
    }

    fn ask_choose(&mut self, id: u64, at: u64) -> Result<Choice, NoDecision> {
        let (Some(entry), Some(instance)) = (self.sessions.get_mut(&id), &mut self.instance) else {
            return Err(NoDecision::Unavailable);
        };
        let Some(session) = entry.session else {
            return Err(NoDecision::Unavailable);
        };
        let (candidates, playing) = (&entry.start.candidates, entry.playing);
        let choice = instance.choose(session, at, candidates, playing)?;
        let call = Call::Choose {
            candidates: candidates.clone(),
            playing,
        };
        entry.log_call(at, call, Some(choice.clone()));
        check_choice(entry, &choice)?;
        Ok(choice)
    }

    /// The session's handle in the running instance, and the choice made when it was opened there; if it was open
    /// already, what plays.
    fn session(&mut self, id: u64, at: u64) -> Result<(PolicySession, Choice), NoDecision> {
        self.ensure_instance()?;
        let (Some(entry), Some(instance)) = (self.sessions.get_mut(&id), &mut self.instance) else {
            return Err(NoDecision::Unavailable);
        };
        let stays = Choice {
            candidate: entry.playing.unwrap_or(0),
            reason: String::new(),
        };
        if let Some(session) = entry.session {
            return Ok((session, stays));
        }
        if entry.failures >= MAX_FAILURES {
            return Err(NoDecision::Unavailable);
        }
        let SessionStart {
            client, options, ..
        } = &entry.start;
        let opened = instance.open(client, options)?;
        let session = opened.map_err(|message| {
            // Options were checked with the policy that was in force at the start; this may be another one.
            NoDecision::Failed(format!("it rejected its options: {message}"))
        })?;
        let call = Call::Open {
            client: client.clone(),
            options: options.clone(),
        };
        entry.log_call(at, call, None);
        entry.session = Some(session);
        let choice = self.ask_choose(id, at)?;
        Ok((session, choice))
    }

    /// Creates an instance if there is none and the backoff is over.
    fn ensure_instance(&mut self) -> Result<(), NoDecision> {
        if self.instance.is_some() {
            return Ok(());
        }
        if self
            .health
            .retry_at()
            .is_some_and(|retry| Instant::now() < retry)
        {
            return Err(NoDecision::Unavailable);
        }
        self.instance = Some(PolicyInstance::new(&self.policy)?);
        Ok(())
    }

    fn record_failure(&mut self, id: u64, no_decision: NoDecision) {
        match no_decision {
            NoDecision::Unavailable => {}
            NoDecision::Failed(reason) => {
                if let Some(entry) = self.sessions.get_mut(&id) {
                    entry.failures += 1;
                }
                self.failed(reason);
            }
        }
    }

    fn failed(&mut self, reason: String) {
        self.drop_instance();
        let broken = self.health.failed(Instant::now(), reason.clone());
        let outcome = match broken {
            true => "circuit breaker open, next attempt in 30 s",
            false => "a new instance follows",
        };
        tracing::error!(plugin = %self.policy.plugin, "{reason}; {outcome}; sessions keep playing");
    }

    /// Drops the instance, and with it every session's handle.
    fn drop_instance(&mut self) {
        self.instance = None;
        for entry in self.sessions.values_mut() {
            entry.session = None;
        }
    }
}

/// One session on the policy's thread.
struct PolicyEntry {
    start: SessionStart,
    /// Index of the candidate that plays.
    playing: Option<u32>,
    /// Handle in the current instance; `None` if it was not opened there yet.
    session: Option<PolicySession>,
    /// Failures of the policy with this session.
    failures: u32,
    log: VecDeque<LoggedCall>,
    log_bytes: usize,
    max_log_bytes: usize,
}

impl PolicyEntry {
    fn find(&self, target: &PlaybackTarget) -> Option<u32> {
        let mut candidates = self.start.candidates.iter();
        let found = candidates.position(|candidate| PlaybackTarget::from(candidate) == *target);
        found.and_then(|found| u32::try_from(found).ok())
    }

    fn decision(&self, choice: Choice) -> Option<Decision> {
        let index = usize::try_from(choice.candidate).ok()?;
        let candidate = self.start.candidates.get(index)?;
        Some(Decision {
            target: candidate.into(),
            reason: choice.reason,
        })
    }

    fn log_call(&mut self, at: u64, call: Call, answer: Option<Choice>) {
        let logged = LoggedCall { at, call, answer };
        self.log_bytes += logged.bytes();
        self.log.push_back(logged);
        while self.log.len() > MAX_LOG_ENTRIES || self.log_bytes > self.max_log_bytes {
            let Some(oldest) = self.log.pop_front() else {
                break;
            };
            self.log_bytes -= oldest.bytes();
        }
    }
}

/// Why the policy made no decision.
enum NoDecision {
    /// The policy waits for its next attempt, or is not asked about this session any more.
    Unavailable,
    /// The policy failed, for this reason.
    Failed(String),
}

impl From<Failure> for NoDecision {
    fn from(failure: Failure) -> NoDecision {
        NoDecision::Failed(failure.to_string())
    }
}

/// Checks that the chosen candidate exists.
fn check_choice(entry: &PolicyEntry, choice: &Choice) -> Result<(), NoDecision> {
    let count = entry.start.candidates.len();
    if usize::try_from(choice.candidate).is_ok_and(|index| index < count) {
        return Ok(());
    }
    Err(NoDecision::Failed(format!(
        "the policy chose candidate {}; there are {count}, counted from 0",
        choice.candidate
    )))
}
