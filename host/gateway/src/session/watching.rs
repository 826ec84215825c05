//! One session: what the client may play, what was decided for it, what its player shows, and the counters of its
//! connections.
//!
//! The decision (`latest_decision`) and what plays (`playing`) are kept apart, because a move is complete only when the
//! player reports its first frame. All state is behind one mutex that is never held while waiting.
//! [`Sessions`](super::Sessions) drives it; viewers' connections register their counters by
//! [`Session::add_connection`].

use super::{
    Allowed, Decision, Moved, Pin, PlaybackTarget, RequestFacts, ServerMessage, SessionView, base,
    link::Link,
};
use parking_lot::{Mutex, MutexGuard};
use sluicegate_net::quic;
use sluicegate_plugin::policy::{Candidate, Report};
use sluicegate_stream::Stream;
use sluicegate_telemetry::SocketPair;
use sluicegate_viewer::Counter;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;

/// Who can tell about the path of a connection.
#[derive(Clone, Debug)]
pub enum Measured {
    /// The kernel, of the TCP connection with these ends.
    ByKernel(SocketPair),
    /// QUIC, as long as the connection lasts.
    ByQuic(Weak<quic::Path>),
}

impl Measured {
    /// Whether both are about the same connection.
    pub(super) fn is(&self, other: &Measured) -> bool {
        match (self, other) {
            (Measured::ByKernel(one), Measured::ByKernel(two)) => one == two,
            (Measured::ByQuic(one), Measured::ByQuic(two)) => one.ptr_eq(two),
            _ => false,
        }
    }
}

/// One user's watching of one stream.
#[derive(Debug)]
pub struct Session {
    /// Number of the session in events and lists; not secret.
    pub number: u64,
    /// Secret, unguessable id: whoever knows it controls the session.
    pub id: String,
    /// Stream that is watched.
    pub stream: Arc<Stream>,
    /// Address of the client that began the session.
    pub(super) address: String,
    /// Names of the transports that the client can play, best first.
    pub(super) can: Vec<String>,
    pub(super) facts: RequestFacts,
    /// Shortest timeout of a move's first frame.
    pub(super) move_timeout: Duration,
    pub(super) state: Mutex<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    /// What the config allows the client.
    pub(super) allowed: Allowed,
    pub(super) candidates: Vec<Candidate>,
    /// Whether the stream had audio when the player was last told.
    pub(super) sound: bool,
    pub(super) pin: Pin,
    /// The newest decision: what the player should play.
    pub(super) latest_decision: Decision,
    /// What the player shows; `None` before the first frame and after a failure.
    pub(super) playing: Option<PlaybackTarget>,
    /// Since when it plays.
    pub(super) since: SystemTime,
    /// Why it plays.
    pub(super) reason: String,
    /// The newest move.
    pub(super) last: Option<Moved>,
    /// Number of moves.
    pub(super) moves: u64,
    /// When the newest report was accepted.
    pub(super) reported: Option<Instant>,
    /// The newest report.
    pub(super) report: Option<Report>,
    /// Counters of the session's connections, and what measures them unless a proxy announced itself.
    pub(super) counters: Vec<(Weak<Counter>, Option<Measured>)>,
    /// The player's shortest round trip so far.
    pub(super) shortest_trip: Option<Duration>,
    /// The connection's figures at the newest report.
    pub(super) link: Option<Link>,
    /// What measured them.
    pub(super) measured: Option<Measured>,
    /// Sender to the control channel; `None` while there is none.
    pub(super) player: Option<mpsc::UnboundedSender<ServerMessage>>,
    /// When the control channel closed; before the first, when the session began.
    pub(super) detached_at: Instant,
    /// Whether a control channel was ever opened.
    pub(super) claimed: bool,
}

impl Session {
    /// Sets and returns what to play first: the policy's decision, or the first candidate if there is none. `only` says
    /// that there is one candidate, which changes the reason.
    pub(super) fn first(&self, decided: Option<Decision>, only: bool) -> Decision {
        let mut inner = self.lock();
        let target = PlaybackTarget::from(&inner.candidates[0]);
        let mut decision = decided.unwrap_or_else(|| Decision {
            target,
            reason: "the policy did not answer in time, so the first candidate is used".into(),
        });
        if inner.pin != Pin::default() && !inner.allowed.force {
            decision.reason = "it was selected manually".into();
        } else if only {
            decision.reason =
                match inner.allowed.transports.is_some() || inner.allowed.renditions.is_some() {
                    true => "the gateway's config sets it for this client".into(),
                    false => "the client can play nothing else".into(),
                };
        }
        inner.latest_decision = decision.clone();
        inner.reason = decision.reason.clone();
        decision
    }

    /// Records a later decision and sends it to the player as a move.
    pub(super) fn decided(&self, mut decision: Decision) {
        let mut inner = self.lock();
        let fits = |target: &PlaybackTarget| inner.pin.fits(&target.transport, &target.rendition);
        // A move within the pin is the policy's own, and a rule with `force` permits no manual selection.
        if !inner.allowed.force && inner.playing.as_ref().is_some_and(|target| !fits(target)) {
            decision.reason = "it was selected manually".into();
        }
        let group = self
            .stream
            .info()
            .and_then(|info| Some(info.video.as_ref()?.keyframe_ms))
            .unwrap_or(0);
        let timeout = self
            .move_timeout
            .max(2 * Duration::from_millis(group.into()));
        inner.latest_decision = decision.clone();
        let playing = inner.playing.as_ref().map(|target| inner.bandwidth(target));
        let makes_way = playing.is_some_and(|playing| inner.bandwidth(&decision.target) < playing);
        inner.notify_player(ServerMessage::Move {
            makes_way,
            base: base(&self.stream.name, &decision.target.rendition),
            target: decision.target,
            reason: decision.reason,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        });
    }

    /// Adds a connection that carries the session's video. `measured` is `None` if a proxy announced itself.
    pub fn add_connection(&self, counter: &Arc<Counter>, measured: Option<Measured>) {
        let mut inner = self.lock();
        inner.counters.retain(|(known, _)| known.strong_count() > 0);
        inner.counters.push((Arc::downgrade(counter), measured));
    }

    /// What measures the newest connection that is still open.
    pub(super) fn measured(&self) -> Option<Measured> {
        let inner = self.lock();
        let mut there = inner.counters.iter().rev();
        there
            .find(|(known, _)| known.strong_count() > 0)
            .and_then(|(_, measured)| measured.clone())
    }

    /// How long data has been waiting at the gateway for the session's sockets to take it, the longest of its
    /// connections, in milliseconds.
    pub(super) fn blocked_for(&self) -> u32 {
        let inner = self.lock();
        let counters = inner.counters();
        let blocked_for = counters.map(|counter| counter.blocked_for()).max();
        blocked_for.map_or(0, |blocked_for| {
            u32::try_from(blocked_for.as_millis()).unwrap_or(u32::MAX)
        })
    }

    /// A snapshot for `/api/sessions`.
    pub fn view(&self) -> SessionView {
        let inner = self.lock();
        let target = inner
            .playing
            .as_ref()
            .unwrap_or(&inner.latest_decision.target);
        SessionView {
            id: self.number.to_string(),
            stream: self.stream.name.clone(),
            target: target.clone(),
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

    /// Counters of the open connections that carry the session's video.
    pub fn open_counters(&self) -> Vec<Arc<Counter>> {
        self.lock().counters().collect()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock()
    }
}

impl Inner {
    /// Bandwidth of a target in bits per second; 0 if it is not a candidate.
    fn bandwidth(&self, target: &PlaybackTarget) -> u32 {
        let mut candidates = self.candidates.iter();
        let found = candidates.find(|candidate| PlaybackTarget::from(*candidate) == *target);
        found.map_or(0, |candidate| candidate.bandwidth)
    }

    /// Counters of the connections that are open.
    fn counters(&self) -> impl Iterator<Item = Arc<Counter>> {
        self.counters
            .iter()
            .filter_map(|(known, _)| known.upgrade())
    }

    /// Sum of one of the counts over the open connections.
    pub(super) fn sum(&self, count: impl Fn(&Counter) -> &AtomicU64) -> u64 {
        self.counters()
            .map(|counter| count(&counter).load(Ordering::Relaxed))
            .sum()
    }

    /// Sends a message to the player, if its control channel is open.
    pub(super) fn notify_player(&self, message: ServerMessage) {
        if let Some(player) = &self.player {
            let _ = player.send(message);
        }
    }
}
