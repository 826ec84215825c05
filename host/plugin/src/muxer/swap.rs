//! The exchange of a transport's component in all of its running muxers, while their viewers stay.
//!
//! [`Muxers::swap`] lets each muxer compare the candidate with what it has in use. If one refuses, nothing changes. If
//! none does, the table of transports gets the candidate, and each muxer switches over where its viewers can start. A
//! muxer in which the new component then fails puts its predecessor back and calls [`Muxers::roll_back`], which does the
//! same for all others. What one muxer does is in `actor/twin.rs`. A candidate that takes other samples than the one in
//! use cannot run beside it: its viewers are disconnected and come back.

use super::{Message, Muxer, Muxers, REPLACED};
use crate::transports::Transport;
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// Verdict of one muxer on a candidate; the error is the reason of a refusal.
pub(super) type Verdict = Result<(), String>;

/// Longest time for the verdicts of all muxers.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// What happened to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// Viewers stay; each muxer switches over where its viewers can start. This many muxers compared it first.
    Beside(usize),
    /// It takes other samples, so that its viewers are disconnected and come back.
    Restarted,
}

/// How far an exchange of a component has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SwapState {
    /// "comparing" with the one in use, "refused", "switching" where viewers can start, "switched", "rolled-back" because
    /// it failed soon after, or "unchanged" because it is the one in use.
    pub state: &'static str,
    /// Component, as name@version.
    pub component: String,
    /// Why it was refused or rolled back; empty otherwise.
    pub reason: String,
}

/// Payload of the event `swap`.
#[derive(Serialize)]
struct SwapChanged<'a> {
    transport: &'a str,
    #[serde(flatten)]
    state: &'a SwapState,
}

impl Muxers {
    /// Puts the candidate into the place of the transport of the same name, in the table and in all running muxers.
    /// Blocks for the time of the comparison. If it is forced, nothing is compared and viewers are disconnected.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub fn swap(&self, candidate: &Arc<Transport>, is_forced: bool) -> Result<Swapped, String> {
        let name = candidate.name.as_str();
        let current = self.transports.get(name);
        if let Some(current) = &current
            && (is_forced || !candidate.profile.can_follow(&current.profile))
        {
            self.set_state(candidate, "switched", "");
            self.transports.put(candidate.clone(), None);
            self.retire_replaced();
            return Ok(Swapped::Restarted);
        }
        self.set_state(candidate, "comparing", "");
        let compared = self.compare(candidate).inspect_err(|reason| {
            for muxer in self.of_transport(name) {
                let _ = muxer.send(Message::Abandon(candidate.clone()));
            }
            self.set_state(candidate, "refused", reason);
        })?;
        self.set_state(candidate, "switching", "");
        self.put(candidate, None, true);
        self.switched(name);
        Ok(Swapped::Beside(compared))
    }

    /// Notes that a reload has found the component that is in use.
    pub fn unchanged(&self, name: &str) {
        if let Some(current) = self.transports.get(name) {
            self.set_state(&current, "unchanged", "");
        }
    }

    /// Lets all muxers of the transport compare the candidate; returns how many did.
    fn compare(&self, candidate: &Arc<Transport>) -> Result<usize, String> {
        let (send, verdicts) = mpsc::channel();
        let mut asked = 0;
        for muxer in self.of_transport(&candidate.name) {
            let transport = candidate.clone();
            let verdict = send.clone();
            asked += usize::from(muxer.send(Message::Try { transport, verdict }).is_ok());
        }
        drop(send);
        let deadline = Instant::now() + TRIAL_TIMEOUT;
        loop {
            match verdicts.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return Err(reason),
                // All have answered or ended.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(asked),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let seconds = TRIAL_TIMEOUT.as_secs();
                    return Err(format!("it could not be compared within {seconds} s"));
                }
            }
        }
    }

    /// Puts the predecessor of a component that has failed back into use everywhere. Does nothing if the component is
    /// not in use any more.
    pub(super) fn roll_back(&self, failed: &Arc<Transport>, reason: &str) {
        let previous = self.transports.previous(failed);
        let Some(previous) = previous.filter(|previous| self.put(previous, Some(failed), false))
        else {
            return tracing::error!(
                transport = failed.name,
                plugin = %failed.plugin,
                "the component failed: {reason}"
            );
        };
        tracing::error!(
            transport = failed.name,
            plugin = %failed.plugin,
            hash = short(&failed.plugin.hash),
            "the component failed soon after it had taken over: {reason}; {} ({}) is used again",
            previous.plugin,
            short(&previous.plugin.hash)
        );
        self.set_state(failed, "rolled-back", reason);
    }

    /// Puts a component into the table, in the place of `failed` if one is given, and lets all muxers switch to it.
    /// Returns false if `failed` is not in the table any more.
    fn put(&self, transport: &Arc<Transport>, failed: Option<&Arc<Transport>>, keep: bool) -> bool {
        // Under the lock, so that each muxer is either told or started with the new component.
        let mut running = self.lock();
        let current = self.transports.get(&transport.name);
        let is_failed =
            |current: &Arc<Transport>| failed.is_none_or(|failed| Arc::ptr_eq(current, failed));
        if !current.as_ref().is_some_and(is_failed) {
            return false;
        }
        // What failed is not put back.
        let previous = current.filter(|_| failed.is_none());
        self.transports.put(transport.clone(), previous);
        for slot in running.values_mut() {
            if slot.transport.name == transport.name {
                slot.transport = transport.clone();
                let transport = transport.clone();
                let _ = slot.muxer.send(Message::SwitchTo { transport, keep });
            }
        }
        true
    }

    /// Notes that a muxer has switched over to the component that is in the table, or has ended: perhaps all have now.
    pub(super) fn switched(&self, name: &str) {
        let is_switching = |state: SwapState| state.state == "switching";
        let muxers = self.of_transport(name);
        if self.transports.swap_state(name).is_some_and(is_switching)
            && let Some(current) = self.transports.get(name)
            && muxers
                .iter()
                .all(|muxer| Arc::ptr_eq(&muxer.used.lock(), &current))
        {
            self.set_state(&current, "switched", "");
        }
    }

    fn of_transport(&self, name: &str) -> Vec<Arc<Muxer>> {
        let running = self.lock();
        let slots = running.values().filter(|slot| slot.transport.name == name);
        slots.map(|slot| slot.muxer.clone()).collect()
    }

    fn set_state(&self, candidate: &Transport, state: &'static str, reason: &str) {
        let state = SwapState {
            state,
            component: candidate.plugin.to_string(),
            reason: reason.to_owned(),
        };
        let name = &candidate.name;
        if self.transports.set_swap_state(name, &state) {
            tracing::info!(
                transport = name,
                plugin = state.component,
                "swap: {}",
                state.state
            );
            let changed = SwapChanged {
                transport: name,
                state: &state,
            };
            self.events.publish("swap", &changed);
        }
    }

    /// Ends every muxer whose transport was replaced or removed in the table since it started. Its viewers get the
    /// chunks that are in the outlet, then a reason; when they come back, they get a muxer of the new transport.
    pub fn retire_replaced(&self) {
        let mut running = self.lock();
        let table = self.transports.all();
        let is_current = |slot: &super::Slot| {
            let current = table.get(&slot.transport.name);
            current.is_some_and(|current| Arc::ptr_eq(current, &slot.transport))
        };
        for (_, slot) in running.extract_if(.., |_, slot| !is_current(slot)) {
            slot.muxer.replace(REPLACED);
        }
    }
}

/// The first digits of a hash: enough to tell two builds of one version apart.
fn short(hash: &str) -> &str {
    hash.get(..8).unwrap_or(hash)
}
