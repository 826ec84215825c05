//! One person's watching: what they may have, what they were told, what is on their screen.

use super::{Allowed, Decision, Form, Moved, Pin, ServerMessage, SessionView, base, link::Link};
use sluicegate_plugin::policy::{Candidate, Report};
use sluicegate_stream::Stream;
use sluicegate_telemetry::Ends;
use sluicegate_viewer::Counter;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;

/// One person's watching.
#[derive(Debug)]
pub struct Session {
    /// In events and lists; no secret.
    pub number: u64,
    /// Unguessable: who knows it controls the session.
    pub id: String,
    /// What is watched.
    pub stream: Arc<Stream>,
    /// Of who began it.
    pub(super) address: String,
    pub(super) can: Vec<String>,
    pub(super) allowed: Allowed,
    /// A move is given at least so long for its first picture.
    pub(super) patience: Duration,
    pub(super) state: Mutex<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) candidates: Vec<Candidate>,
    /// Whether the player knows that the stream has sound.
    pub(super) sound: bool,
    pub(super) pin: Pin,
    /// What it is to play, and why.
    pub(super) wanted: Decision,
    /// What is on its screen, since when, and why.
    pub(super) playing: Option<Form>,
    pub(super) since: SystemTime,
    pub(super) reason: String,
    pub(super) last: Option<Moved>,
    pub(super) moves: u64,
    pub(super) reported: Option<Instant>,
    /// The newest, for those who ask.
    pub(super) report: Option<Report>,
    /// What its connections count, and where they lead if that is to the player.
    pub(super) counters: Vec<(Weak<Counter>, Option<Ends>)>,
    /// The player's shortest round trip so far.
    pub(super) shortest: Option<Duration>,
    /// The newest.
    pub(super) link: Option<Link>,
    /// To the control channel; `None`: there is none now.
    pub(super) player: Option<mpsc::UnboundedSender<ServerMessage>>,
    pub(super) left: Instant,
    pub(super) claimed: bool,
}

impl Session {
    /// What it is to play first: as decided, else the first there is.
    pub(super) fn first(&self, decided: Option<Decision>, only: bool) -> Decision {
        let mut inner = self.lock();
        let form = Form::from(&inner.candidates[0]);
        let mut decision = decided.unwrap_or_else(|| Decision {
            form,
            reason: "the policy did not answer in time; this is the first choice".into(),
        });
        if inner.pin != Pin::default() && !self.allowed.force {
            decision.reason = "it was chosen by hand".into();
        } else if only {
            decision.reason =
                match self.allowed.transports.is_some() || self.allowed.renditions.is_some() {
                    true => "the gateway's config says so for this client".into(),
                    false => "there is nothing else that this client can play".into(),
                };
        }
        inner.wanted = decision.clone();
        inner.reason = decision.reason.clone();
        decision
    }

    pub(super) fn decided(&self, mut decision: Decision) {
        let mut inner = self.lock();
        let fits = |form: &Form| inner.pin.fits(&form.transport, &form.rendition);
        // Within what was chosen it is the policy that moves, and where the config forces nobody chose.
        if !self.allowed.force && inner.playing.as_ref().is_some_and(|form| !fits(form)) {
            decision.reason = "it was chosen by hand".into();
        }
        let group = self
            .stream
            .info()
            .and_then(|info| Some(info.video.as_ref()?.keyframe_ms))
            .unwrap_or(0);
        let timeout = self.patience.max(2 * Duration::from_millis(group.into()));
        inner.wanted = decision.clone();
        let playing = inner.playing.as_ref().map(|form| inner.bandwidth(form));
        let makes_way = playing.is_some_and(|playing| inner.bandwidth(&decision.form) < playing);
        inner.tell(ServerMessage::Move {
            makes_way,
            base: base(&self.stream.name, &decision.form.rendition),
            form: decision.form,
            reason: decision.reason,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// Another connection brings it pictures: between these ends, if no proxy is in between for all that is known.
    pub fn carried_by(&self, counter: &Arc<Counter>, ends: Option<Ends>) {
        let mut inner = self.lock();
        inner.counters.retain(|(known, _)| known.strong_count() > 0);
        inner.counters.push((Arc::downgrade(counter), ends));
    }

    /// The newest connection that brings it pictures.
    pub(super) fn ends(&self) -> Option<Ends> {
        let inner = self.lock();
        let mut there = inner.counters.iter().rev();
        there
            .find(|(known, _)| known.strong_count() > 0)
            .and_then(|(_, ends)| *ends)
    }

    /// For how long what it is sent has been lying at the gateway, ms.
    pub(super) fn late(&self) -> u32 {
        let inner = self.lock();
        let counters = inner.counters();
        let late = counters.map(|counter| counter.late()).max();
        late.map_or(0, |late| {
            u32::try_from(late.as_millis()).unwrap_or(u32::MAX)
        })
    }

    /// How it is doing.
    pub fn seen(&self) -> SessionView {
        let inner = self.lock();
        let form = inner.playing.as_ref().unwrap_or(&inner.wanted.form);
        SessionView {
            id: self.number.to_string(),
            stream: self.stream.name.clone(),
            form: form.clone(),
            since: sluicegate_telemetry::unix_ms(inner.since),
            reason: inner.reason.clone(),
            pin: inner.pin.clone(),
            moves: inner.moves,
            last_move: inner.last.clone(),
            report: inner.report.clone(),
            link: inner.link,
            bytes: inner.sum(|counter| &counter.bytes),
            jumps: inner.sum(|counter| &counter.jumps),
        }
    }

    /// What the connections count that bring it pictures.
    pub fn carriers(&self) -> Vec<Arc<Counter>> {
        self.lock().counters().collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// 0 for what is no candidate.
    fn bandwidth(&self, form: &Form) -> u32 {
        let mut candidates = self.candidates.iter();
        let found = candidates.find(|candidate| Form::from(*candidate) == *form);
        found.map_or(0, |candidate| candidate.bandwidth)
    }

    /// Those that are there.
    fn counters(&self) -> impl Iterator<Item = Arc<Counter>> {
        self.counters
            .iter()
            .filter_map(|(known, _)| known.upgrade())
    }

    pub(super) fn sum(&self, count: impl Fn(&Counter) -> &AtomicU64) -> u64 {
        self.counters()
            .map(|counter| count(&counter).load(Ordering::Relaxed))
            .sum()
    }

    pub(super) fn tell(&self, messages: ServerMessage) {
        if let Some(player) = &self.player {
            let _ = player.send(messages);
        }
    }
}
