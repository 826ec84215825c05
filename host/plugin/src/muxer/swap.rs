//! The exchange of a transport's component in all of its running muxers, while their viewers stay.
//!
//! [`Muxers::swap`] lets each muxer compare the candidate with what it has in use. If one refuses, nothing changes. If
//! none does, the table of transports gets the candidate, and each muxer switches over where its viewers can start. A
//! muxer in which the new component then fails puts its predecessor back and calls [`Muxers::roll_back`], which does the
//! same for all others. What one muxer does is in `actor/exchange.rs`. A candidate that takes other samples than the one in
//! use cannot run beside it: it is refused while somebody watches, unless the exchange is forced.

use super::{Message, Muxer, Muxers, REPLACED, Running, take_of};
use crate::transports::Transport;
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

/// Takes the verdict of one muxer on a candidate. One that is dropped without a verdict refuses the candidate: another
/// exchange came between, or the host panicked.
pub(super) struct Verdict(Option<mpsc::Sender<Result<(), String>>>);

impl Verdict {
    /// Sends the verdict; an error is the reason of a refusal.
    pub(super) fn send(mut self, verdict: Result<(), String>) {
        self.tell(verdict);
    }

    /// The muxer has ended, and needs no component any more.
    pub(super) fn ended(self) {
        self.send(Ok(()));
    }

    fn tell(&mut self, verdict: Result<(), String>) {
        if let Some(verdicts) = self.0.take() {
            // An error means that another muxer has refused the candidate.
            let _ = verdicts.send(verdict);
        }
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        self.tell(Err("the comparison was given up; try again".into()));
    }
}

/// Why a candidate is refused when the gateway shuts down.
const ENDING: &str = "the gateway is shutting down";
/// Longest time for the verdicts of all muxers.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// What happened to a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// Viewers stay; each muxer switches over where its viewers can start. This many muxers compared it first.
    Beside(usize),
    /// It was forced, or nobody watched: viewers, if any, are disconnected and come back.
    Restarted,
}

/// How far an exchange of a component has got, by its name in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum SwapPhase {
    /// The candidate is compared with the component in use.
    Comparing,
    /// The candidate was refused.
    Refused,
    /// Each muxer switches where its viewers can start.
    Switching,
    /// All muxers have switched.
    Switched,
    /// It failed soon after, and the one before is used again.
    RolledBack,
    /// It is the component in use.
    Unchanged,
}

impl SwapPhase {
    /// Name of the phase in the API.
    pub fn name(self) -> &'static str {
        match self {
            SwapPhase::Comparing => "comparing",
            SwapPhase::Refused => "refused",
            SwapPhase::Switching => "switching",
            SwapPhase::Switched => "switched",
            SwapPhase::RolledBack => "rolled-back",
            SwapPhase::Unchanged => "unchanged",
        }
    }
}

impl Serialize for SwapPhase {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// The newest exchange of a transport's component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SwapState {
    /// How far it has got.
    pub state: SwapPhase,
    /// Component, as name@version.
    pub component: String,
    /// Why it was refused or rolled back, or that viewers were disconnected for it; empty otherwise.
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
    /// Blocks for the time of the comparison. If it is forced, nothing is compared and viewers are disconnected. A candidate
    /// that takes other samples than the one in use cannot be compared: somebody who watches keeps what there is.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub fn swap(&self, candidate: &Arc<Transport>, is_forced: bool) -> Result<Swapped, String> {
        let name = candidate.name.as_str();
        let current = self.transports.get(name);
        let differences = current.map_or_else(Vec::new, |current| {
            candidate.profile.differences(&current.profile)
        });
        let is_watched = || !self.of_transport(name).is_empty();
        if !is_forced && !differences.is_empty() && is_watched() {
            let reason = format!(
                "it cannot run beside the component in use: {}; `plugin reload {name} --force`, or `?force=true`, \
                 disconnects the viewers instead",
                differences.join(", and ")
            );
            self.set_state(candidate, SwapPhase::Refused, &reason);
            return Err(reason);
        }
        if is_forced || !differences.is_empty() {
            // Under the lock, so that nothing is rolled back meanwhile.
            let mut running = self.lock();
            self.transports.put(candidate.clone(), None);
            // Viewers get the chunks that are in the outlet, then a reason; when they come back, they get a muxer of the
            // new component.
            let ended = take_of(&mut running, name).inspect(|slot| slot.muxer.replace(REPLACED));
            let disconnected = match ended.count() {
                0 => "",
                _ => "its viewers were disconnected",
            };
            self.set_state(candidate, SwapPhase::Switched, disconnected);
            return Ok(Swapped::Restarted);
        }
        self.set_state(candidate, SwapPhase::Comparing, "");
        let compared = self
            .compare(candidate)
            .and_then(|compared| self.put_in_force(candidate).map(|()| compared))
            .inspect_err(|reason| {
                for muxer in self.of_transport(name) {
                    let _ = muxer.send(Message::Abandon(candidate.clone()));
                }
                self.set_state(candidate, SwapPhase::Refused, reason);
            })?;
        self.switched(name);
        Ok(Swapped::Beside(compared))
    }

    /// Puts a candidate that all muxers have accepted into the table, and lets them switch to it.
    ///
    /// # Errors
    /// Why it is refused after all: it has failed in a muxer that waited for the others, or the gateway shuts down.
    fn put_in_force(&self, candidate: &Arc<Transport>) -> Result<(), String> {
        let running = self.lock();
        if self.is_ending.load(Ordering::Relaxed) {
            return Err(ENDING.into());
        }
        if let Some(reason) = candidate.failure.get() {
            return Err(reason.clone());
        }
        let previous = self.transports.get(&candidate.name);
        // Before the muxers are told: one may switch, and another roll back, at once.
        self.set_state(candidate, SwapPhase::Switching, "");
        self.put(&running, candidate, previous, true);
        Ok(())
    }

    /// Notes that a reload has found the component that is in use. One that muxers still switch to stays noted as such.
    pub fn unchanged(&self, name: &str) {
        // Under the lock, so that nothing is switched or rolled back meanwhile.
        let _running = self.lock();
        if let Some(current) = self.transports.get(name)
            && !self.is_switching(name)
        {
            self.set_state(&current, SwapPhase::Unchanged, "");
        }
    }

    fn is_switching(&self, name: &str) -> bool {
        let state = self.transports.swap_state(name);
        state.is_some_and(|state| state.state == SwapPhase::Switching)
    }

    /// Lets all muxers of the transport compare the candidate; returns how many did.
    fn compare(&self, candidate: &Arc<Transport>) -> Result<usize, String> {
        let (send, verdicts) = mpsc::channel();
        let mut asked = 0;
        for muxer in self.of_transport(&candidate.name) {
            let transport = candidate.clone();
            let verdict = Verdict(Some(send.clone()));
            asked += usize::from(muxer.send(Message::Try { transport, verdict }).is_ok());
        }
        drop(send);
        let deadline = Instant::now() + TRIAL_TIMEOUT;
        loop {
            match verdicts.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => return Err(reason),
                // All have answered.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(asked),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let seconds = TRIAL_TIMEOUT.as_secs();
                    return Err(format!("it could not be compared within {seconds} s"));
                }
            }
        }
    }

    /// Puts the predecessor of a component that has failed back into use everywhere. A component that is not in use yet
    /// is not taken into use any more.
    pub(super) fn roll_back(&self, failed: &Arc<Transport>, reason: &str) {
        // Under the lock, so that a candidate is either refused or put back.
        let running = self.lock();
        let Some(previous) = self.transports.previous(failed) else {
            let _ = failed.failure.set(reason.to_owned());
            return tracing::error!(
                transport = failed.name,
                plugin = %failed.plugin,
                hash = failed.plugin.short_hash(),
                "the component failed: {reason}"
            );
        };
        // What failed is not put back.
        self.put(&running, &previous, None, false);
        self.set_state(failed, SwapPhase::RolledBack, reason);
        drop(running);
        tracing::error!(
            transport = failed.name,
            plugin = %failed.plugin,
            hash = failed.plugin.short_hash(),
            "the component failed soon after it had taken over: {reason}; {} ({}) is used again",
            previous.plugin,
            previous.plugin.short_hash()
        );
    }

    /// Puts a component into the table, in the place of `previous` if that may have to be put back, and lets all muxers
    /// switch to it; whether they keep what they have ready. Each muxer is either told or started with the new component.
    fn put(
        &self,
        running: &Running,
        transport: &Arc<Transport>,
        previous: Option<Arc<Transport>>,
        keep: bool,
    ) {
        self.transports.put(transport.clone(), previous);
        for slot in running.values() {
            if slot.muxer.transport == transport.name {
                let transport = transport.clone();
                let _ = slot.muxer.send(Message::SwitchTo { transport, keep });
            }
        }
    }

    /// Notes that a muxer has switched over to the component that is in the table, or has ended: perhaps all have now.
    pub(super) fn switched(&self, name: &str) {
        // Under the lock, so that nothing is rolled back meanwhile.
        let running = self.lock();
        let mut muxers = running.values().filter(|slot| slot.muxer.transport == name);
        if self.is_switching(name)
            && let Some(current) = self.transports.get(name)
            && muxers.all(|slot| Arc::ptr_eq(&slot.muxer.used.lock(), &current))
        {
            self.set_state(&current, SwapPhase::Switched, "");
        }
    }

    fn of_transport(&self, name: &str) -> Vec<Arc<Muxer>> {
        let running = self.lock();
        let slots = running.values().filter(|slot| slot.muxer.transport == name);
        slots.map(|slot| slot.muxer.clone()).collect()
    }

    /// Notes how an exchange goes. That a component is in use, or was rolled back, is noted under the lock under which it
    /// was put into the table, so an earlier exchange does not overwrite the state of a later one.
    fn set_state(&self, candidate: &Transport, state: SwapPhase, reason: &str) {
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
                state.state.name()
            );
            let changed = SwapChanged {
                transport: name,
                state: &state,
            };
            self.events.publish("swap", None, &changed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_schema_has_the_names_of_all_phases() {
        let schema = schemars::schema_for!(SwapPhase);
        let variants = schema.get("oneOf").and_then(|known| known.as_array());
        let names: Vec<_> = variants
            .unwrap()
            .iter()
            .map(|known| &known["const"])
            .collect();
        let phases = [
            SwapPhase::Comparing,
            SwapPhase::Refused,
            SwapPhase::Switching,
            SwapPhase::Switched,
            SwapPhase::RolledBack,
            SwapPhase::Unchanged,
        ];
        let serialized = phases.map(|phase| serde_json::to_value(phase).unwrap());
        assert_eq!(names, serialized.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_candidate_that_was_not_judged_is_not_accepted() {
        let (send, verdicts) = mpsc::channel();
        let verdict = || Verdict(Some(send.clone()));
        drop(verdict());
        assert!(verdicts.recv().is_ok_and(|verdict| verdict.is_err()));
        verdict().ended();
        assert_eq!(verdicts.recv(), Ok(Ok(())));
        verdict().send(Err("no".into()));
        assert_eq!(verdicts.recv(), Ok(Err("no".into())));
        assert!(verdicts.try_recv().is_err(), "one verdict each");
    }
}
