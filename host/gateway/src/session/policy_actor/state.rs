//! The thread's side.
//!
//! A policy that traps, loops or answers nonsense is thrown away and made anew, at once, then later and later: as a muxer's guest
//! is. Sessions do not notice: who begins meanwhile gets the first candidate, and who plays goes on playing. A session with
//! which it failed several times is left alone.

use super::{Call, Decision, Form, LoggedCall, Message, SessionEvent, SessionStart};
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

/// Failures with one session after which the policy is not asked about it any more.
const MAX_FAILURES: u32 = 3;
/// Entries of a session's log that are kept, and bytes of them; of all logs together, as soon as each has had another entry.
const LOG: usize = 128;
const LOG_BYTES: usize = 64 << 10;
const MIN_LOG_BYTES: usize = 4 << 10;
const ALL_LOG_BYTES: usize = 64 << 20;

/// The state of the thread.
pub(super) struct PolicyActor {
    policy: Arc<Policy>,
    health: Arc<Health>,
    instance: Option<PolicyInstance>,
    sessions: BTreeMap<u64, PolicyEntry>,
    began: Instant,
}

impl PolicyActor {
    /// Knows no session yet.
    pub fn new(policy: Arc<Policy>, health: Arc<Health>, began: Instant) -> PolicyActor {
        PolicyActor {
            policy,
            health,
            instance: None,
            sessions: BTreeMap::new(),
            began,
        }
    }

    /// Ends with the last who could send it a message.
    pub fn run(mut self, messages: &mpsc::Receiver<(Message, Reservation)>) {
        loop {
            match messages.recv_timeout(Duration::from_secs(60)) {
                Ok((message, _held)) => {
                    let handled = contain(|| {
                        panic_point("policy");
                        self.handle(message);
                    });
                    // As a trap: whoever waits for this answer goes on without it.
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
        if let Some(kept) = message.session().and_then(|id| self.sessions.get_mut(&id)) {
            kept.most_log_bytes = share.clamp(MIN_LOG_BYTES, LOG_BYTES);
        }
        match message {
            Message::Begin(id, start, reply) => {
                let kept = PolicyEntry {
                    start: *start,
                    playing: None,
                    session: None,
                    blamed: 0,
                    log: VecDeque::new(),
                    log_bytes: 0,
                    most_log_bytes: LOG_BYTES,
                };
                self.sessions.insert(id, kept);
                if let Some(decision) = self.choose(id) {
                    let _ = reply.send(decision);
                }
            }
            Message::Change(id, candidates, playing) => {
                let Some(kept) = self.sessions.get_mut(&id) else {
                    return;
                };
                kept.start.candidates = candidates;
                kept.playing = playing.and_then(|form| kept.find(&form));
                let stays = kept.playing.is_some();
                let decision = self.choose(id);
                if let (false, Some(decision), Some(kept)) =
                    (stays, decision, self.sessions.get(&id))
                {
                    let _ = kept.start.decisions.send(decision);
                }
            }
            Message::SessionEvent(id, at, what) => self.report_event(id, at, what),
            Message::Log(id, reply) => {
                let log = self.sessions.get(&id).map(|kept| kept.log.iter().cloned());
                let _ = reply.send(log.into_iter().flatten().collect());
            }
            Message::End(id) => {
                let ended = self.sessions.remove(&id).and_then(|kept| kept.session);
                if let (Some(session), Some(instance)) = (ended, &mut self.instance)
                    && let Err(failure) = instance.close(session)
                {
                    self.failed(failure.to_string());
                }
            }
            Message::Replace(policy) => {
                self.policy = policy;
                self.forget();
                self.health.recovered();
            }
        }
    }

    /// What a session is to play; the first that it may have, if the policy does not say.
    fn choose(&mut self, id: u64) -> Option<Decision> {
        let at = self.now();
        // One that does not know the session is told in `session`.
        let known = self.sessions.get(&id)?.session.is_some();
        let asked = match known {
            true => self.ask_choose(id, at),
            false => self.session(id, at).map(|(_, choice)| choice),
        };
        let choice = match asked {
            Ok(choice) => choice,
            Err(trouble) => {
                let reason = match &trouble {
                    NoDecision::Resting => {
                        "the policy rests after a failure; this is the first choice"
                    }
                    NoDecision::Failed(_) => "the policy failed; this is the first choice",
                };
                self.blame(id, trouble);
                Choice {
                    candidate: 0,
                    reason: reason.into(),
                }
            }
        };
        self.sessions.get(&id)?.decision(choice)
    }

    fn report_event(&mut self, id: u64, at: u64, what: SessionEvent) {
        let Some(kept) = self.sessions.get_mut(&id) else {
            return;
        };
        let event = match what {
            SessionEvent::Report(report) => Event::Report(report),
            SessionEvent::Playing(form) => {
                let Some(index) = kept.find(&form) else {
                    return;
                };
                kept.playing = Some(index);
                Event::Playing(index)
            }
            SessionEvent::Failed(form) => {
                let Some(index) = kept.find(&form) else {
                    return;
                };
                if kept.playing == Some(index) {
                    kept.playing = None;
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
            Err(trouble) => {
                self.blame(id, trouble);
                // Somebody has to say what plays instead.
                failed.and_then(|failed| self.next_after(id, failed))
            }
        };
        if let (Some(decision), Some(kept)) = (decision, self.sessions.get(&id)) {
            let _ = kept.start.decisions.send(decision);
        }
    }

    fn next_after(&self, id: u64, failed: u32) -> Option<Decision> {
        let kept = self.sessions.get(&id)?;
        if kept.playing.is_some() {
            return None;
        }
        let count = u32::try_from(kept.start.candidates.len()).ok()?;
        kept.decision(Choice {
            candidate: (failed + 1) % count.max(1),
            reason: "what was chosen gave no picture, and the policy rests".into(),
        })
    }

    fn observe(&mut self, id: u64, at: u64, event: Event) -> Result<Option<Choice>, NoDecision> {
        let (session, _) = self.session(id, at)?;
        let (Some(kept), Some(instance)) = (self.sessions.get_mut(&id), &mut self.instance) else {
            return Err(NoDecision::Resting);
        };
        let answer = instance.observe(session, at, &event)?;
        kept.note(at, Call::Observe(event), answer.clone());
        if let Some(choice) = &answer {
            judged(kept, choice)?;
        }
        Ok(answer)
    }

    fn ask_choose(&mut self, id: u64, at: u64) -> Result<Choice, NoDecision> {
        let (Some(kept), Some(instance)) = (self.sessions.get_mut(&id), &mut self.instance) else {
            return Err(NoDecision::Resting);
        };
        let Some(session) = kept.session else {
            return Err(NoDecision::Resting);
        };
        let (candidates, playing) = (&kept.start.candidates, kept.playing);
        let choice = instance.choose(session, at, candidates, playing)?;
        let call = Call::Choose {
            candidates: candidates.clone(),
            playing,
        };
        kept.note(at, call, Some(choice.clone()));
        judged(kept, &choice)?;
        Ok(choice)
    }

    /// The session in an instance that works: opened there, and told what plays, if it is not in it yet.
    fn session(&mut self, id: u64, at: u64) -> Result<(PolicySession, Choice), NoDecision> {
        self.bring_up()?;
        let (Some(kept), Some(instance)) = (self.sessions.get_mut(&id), &mut self.instance) else {
            return Err(NoDecision::Resting);
        };
        let stays = Choice {
            candidate: kept.playing.unwrap_or(0),
            reason: String::new(),
        };
        if let Some(session) = kept.session {
            return Ok((session, stays));
        }
        if kept.blamed >= MAX_FAILURES {
            return Err(NoDecision::Resting);
        }
        let SessionStart {
            client, options, ..
        } = &kept.start;
        let opened = instance.open(client, options)?;
        let session = opened.map_err(|message| {
            // Another policy than the one that judged them.
            NoDecision::Failed(format!("it refuses its options: {message}"))
        })?;
        let call = Call::Open {
            client: client.clone(),
            options: options.clone(),
        };
        kept.note(at, call, None);
        kept.session = Some(session);
        let choice = self.ask_choose(id, at)?;
        Ok((session, choice))
    }

    fn bring_up(&mut self) -> Result<(), NoDecision> {
        if self.instance.is_some() {
            return Ok(());
        }
        if self
            .health
            .retry_at()
            .is_some_and(|retry| Instant::now() < retry)
        {
            return Err(NoDecision::Resting);
        }
        self.instance = Some(PolicyInstance::new(&self.policy)?);
        Ok(())
    }

    fn blame(&mut self, id: u64, trouble: NoDecision) {
        match trouble {
            NoDecision::Resting => {}
            NoDecision::Failed(reason) => {
                if let Some(kept) = self.sessions.get_mut(&id) {
                    kept.blamed += 1;
                }
                self.failed(reason);
            }
        }
    }

    fn failed(&mut self, reason: String) {
        self.forget();
        let broken = self.health.failed(Instant::now(), reason.clone());
        let outcome = match broken {
            true => "that was too often, it rests",
            false => "it is made anew",
        };
        tracing::error!(plugin = %self.policy.plugin, "{reason}; {outcome}; sessions play on");
    }

    /// No session is in an instance any more.
    fn forget(&mut self) {
        self.instance = None;
        for kept in self.sessions.values_mut() {
            kept.session = None;
        }
    }
}

/// One session as the thread knows it.
struct PolicyEntry {
    start: SessionStart,
    /// Where it is in the candidates.
    playing: Option<u32>,
    session: Option<PolicySession>,
    blamed: u32,
    log: VecDeque<LoggedCall>,
    log_bytes: usize,
    most_log_bytes: usize,
}

impl PolicyEntry {
    fn find(&self, form: &Form) -> Option<u32> {
        let mut candidates = self.start.candidates.iter();
        let found = candidates.position(|candidate| Form::from(candidate) == *form);
        found.and_then(|found| u32::try_from(found).ok())
    }

    fn decision(&self, choice: Choice) -> Option<Decision> {
        let index = usize::try_from(choice.candidate).ok()?;
        let candidate = self.start.candidates.get(index)?;
        Some(Decision {
            form: candidate.into(),
            reason: choice.reason,
        })
    }

    fn note(&mut self, at: u64, call: Call, answer: Option<Choice>) {
        let asked = LoggedCall { at, call, answer };
        self.log_bytes += asked.bytes();
        self.log.push_back(asked);
        while self.log.len() > LOG || self.log_bytes > self.most_log_bytes {
            let Some(oldest) = self.log.pop_front() else {
                break;
            };
            self.log_bytes -= oldest.bytes();
        }
    }
}

/// Why there is no answer.
enum NoDecision {
    /// The policy rests, or the session is not asked about.
    Resting,
    /// It failed.
    Failed(String),
}

impl From<Failure> for NoDecision {
    fn from(failure: Failure) -> NoDecision {
        NoDecision::Failed(failure.to_string())
    }
}

/// Whether there is such a candidate.
fn judged(kept: &PolicyEntry, choice: &Choice) -> Result<(), NoDecision> {
    let count = kept.start.candidates.len();
    if usize::try_from(choice.candidate).is_ok_and(|index| index < count) {
        return Ok(());
    }
    Err(NoDecision::Failed(format!(
        "the policy chose candidate {}; there are {count}, counted from 0",
        choice.candidate
    )))
}
