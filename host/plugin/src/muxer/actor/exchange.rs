//! The stages of an exchange of a muxer's component while viewers stay: a candidate is prepared, compared, takes over
//! where viewers can start, and is watched for a while with the predecessor ready to take over again.
//!
//! The second instance is a [`Twin`]; how both get the same calls is in `twin`, whose output goes to viewers in `push`.
//! Opening a candidate and giving it the past may take long, so this happens on a thread of its own, while the calls
//! that come meanwhile are kept for it. What all muxers of a transport do together is up to `muxer::swap`.

use super::{
    Actor,
    follow::{Setting, Step},
    judge::Judge,
    twin::Twin,
};
use crate::{
    muxer::{Message, Muxer, swap::Verdict},
    transports::Transport,
};
use sluicegate_telemetry::contain;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Calls that may wait for a candidate that is being prepared, and the bytes of their samples. One that is slower is
/// refused.
const MAX_BACKLOG: usize = 4096;
const MAX_BACKLOG_BYTES: usize = 64 << 20;
/// Calls that a candidate may catch up with on the muxer's thread. More of them would delay viewers.
const MAX_STEPS_AT_ONCE: usize = 16;
/// A trial ends after this time, whatever was compared until then; earlier if the source delivers nothing.
const MAX_TRIAL: Duration = Duration::from_secs(10);
const MAX_IDLE_TRIAL: Duration = Duration::from_secs(2);
/// After this time a component that is due requests a keyframe. Usual groups are not longer.
const DUE_WITHOUT_KEYFRAME: Duration = Duration::from_secs(3);
/// How long a predecessor stays ready; at least until a group that began after the switch has ended.
const WATCH: Duration = Duration::from_secs(30);
/// How much longer it stays ready at most, if no group begins.
const MAX_WATCH: Duration = Duration::from_secs(300);

/// An exchange that is in progress.
pub(super) enum Swap {
    /// The candidate is being opened and given the past.
    Preparing(Preparation),
    /// There is a second instance, which gets the same calls.
    Beside { twin: Box<Twin>, stage: Stage },
}

/// A candidate that is being prepared on a thread of its own.
pub(super) struct Preparation {
    /// Its number among those of the muxer: an earlier one of the same component is of no use any more.
    nth: u64,
    transport: Arc<Transport>,
    pub(super) backlog: Backlog,
    began: Instant,
    then: Then,
}

/// What the twin is there for: how far its exchange has got.
pub(super) enum Stage {
    /// The candidate is compared with the instance in use.
    Trial {
        judge: Box<Judge>,
        began: Instant,
        verdict: Verdict,
    },
    /// The candidate has passed and waits until all muxers of the transport exchange theirs.
    Passed,
    /// The twin takes over where viewers can start.
    Due {
        keep: bool,
        since: Instant,
        /// Groups that have begun meanwhile.
        groups: u8,
    },
    /// The twin is the predecessor, ready to take over again.
    Watched {
        until: Instant,
        /// Group in which the successor took over.
        group: u64,
        /// Samples in a row for which only the predecessor emitted something, and the group in which they began.
        silent: (u32, u64),
        /// Groups in which the successor had no start point in a lane that viewers wait for.
        without_start: u8,
    },
}

impl Swap {
    /// The twin takes over; whether the one in use is then kept ready.
    fn due(twin: Box<Twin>, keep: bool) -> Swap {
        Swap::Beside {
            twin,
            stage: Stage::Due {
                keep,
                since: Instant::now(),
                groups: 0,
            },
        }
    }

    /// The transport with the component that is not in use.
    fn transport(&self) -> &Arc<Transport> {
        match self {
            Swap::Preparing(preparation) => &preparation.transport,
            Swap::Beside { twin, .. } => &twin.transport,
        }
    }

    /// Whether the candidate has taken over.
    fn is_watched(&self) -> bool {
        matches!(
            self,
            Swap::Beside {
                stage: Stage::Watched { .. },
                ..
            }
        )
    }
}

impl Stage {
    /// Whether a trial has lasted long enough, or a watch is over; `newest` is the newest group.
    fn is_over(&self, now: Instant, newest: Option<u64>) -> bool {
        match self {
            Stage::Trial { judge, began, .. } => {
                let limit = match judge.is_idle() {
                    true => MAX_IDLE_TRIAL,
                    false => MAX_TRIAL,
                };
                judge.has_enough() || now >= *began + limit
            }
            Stage::Watched { until, group, .. } => is_proven(*until, now, newest > Some(*group)),
            Stage::Passed | Stage::Due { .. } => false,
        }
    }
}

/// Calls that a candidate has to catch up with, and how `configure` is to be called.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    steps: Vec<(Step, Option<Setting>)>,
    bytes: usize,
}

impl Backlog {
    /// Adds a call; returns whether there is room for it.
    pub(super) fn add(&mut self, step: &Step, setting: Option<Setting>) -> bool {
        if let Step::Push(sample, ..) = step {
            self.bytes += sample.size();
        }
        self.steps.push((step.clone(), setting));
        self.steps.len() <= MAX_BACKLOG && self.bytes <= MAX_BACKLOG_BYTES
    }
}

/// What follows once a candidate is prepared.
pub(super) enum Then {
    /// It is compared, and the verdict goes there.
    Compare(Verdict),
    /// It takes over; whether the one in use is then kept ready.
    TakeOver { keep: bool },
}

/// A candidate with the past, from the thread that prepared it.
pub(in crate::muxer) struct Prepared {
    nth: u64,
    result: Result<Box<Twin>, String>,
}

impl Actor {
    /// Begins an exchange. One that is in progress is given up: the newest candidate counts.
    pub(super) fn prepare(&mut self, transport: Arc<Transport>, then: Then) {
        self.swap = None;
        if self.instance.is_none() || self.source.is_none() {
            // There is nothing to compare with, and no output to continue.
            match then {
                Then::Compare(verdict) => verdict.send(Ok(())),
                Then::TakeOver { .. } => self.adopt(transport),
            }
            return;
        }
        let setting = self.setting();
        let with_setting = |step| match step {
            Step::Configure(_) => (step, setting.clone()),
            _ => (step, None),
        };
        let steps = self.history().into_iter().map(with_setting).collect();
        self.preparations += 1;
        self.swap = Some(Swap::Preparing(Preparation {
            nth: self.preparations,
            transport: transport.clone(),
            backlog: Backlog::default(),
            began: Instant::now(),
            then,
        }));
        self.run_ahead(transport, None, steps);
    }

    /// Makes these calls to a candidate on a thread of its own; opens it first if there is none.
    fn run_ahead(
        &mut self,
        transport: Arc<Transport>,
        twin: Option<Box<Twin>>,
        steps: Vec<(Step, Option<Setting>)>,
    ) {
        let (nth, candidate, muxer) = (self.preparations, transport, self.muxer.clone());
        let started = thread::Builder::new()
            .name(format!("swap {}", candidate.name))
            .spawn(move || {
                let result = contain(|| catch_up(&candidate, &muxer, twin, &steps));
                let result = result.unwrap_or_else(|panicked| Err(format!("the host {panicked}")));
                // An error means that the muxer has ended.
                let _ = muxer.send(Message::Prepared(Box::new(Prepared { nth, result })));
            });
        if let Err(error) = started {
            self.refuse(format!("cannot start a thread: {error}"));
        }
    }

    /// Takes a prepared candidate into use as planned, if it is still the one that is waited for.
    pub(super) fn prepared(&mut self, prepared: Prepared) {
        let Some(Swap::Preparing(preparation)) = &mut self.swap else {
            return;
        };
        if preparation.nth != prepared.nth {
            return;
        }
        let transport = preparation.transport.clone();
        let mut twin = match prepared.result {
            Ok(twin) => twin,
            Err(reason) => return self.refuse(reason),
        };
        let steps = std::mem::take(&mut preparation.backlog).steps;
        if steps.len() > MAX_STEPS_AT_ONCE {
            if preparation.began.elapsed() > MAX_TRIAL {
                return self.refuse("it does not catch up with the stream".into());
            }
            return self.run_ahead(transport, Some(twin), steps);
        }
        for (step, setting) in &steps {
            if let Err(reason) = twin.take(step, setting.as_ref()) {
                return self.refuse(reason);
            }
        }
        let Some(used) = &self.profile else { return };
        if !twin.profile.can_follow(used) {
            return self.refuse("its profile is not the one that it had when it was loaded".into());
        }
        let judge = Judge::new(used, &twin.profile);
        if let Err(reason) = judge.compare_headers(&self.muxer.outlet.header(), &twin.header) {
            return self.refuse(reason);
        }
        let Some(Swap::Preparing(Preparation { then, .. })) = self.swap.take() else {
            return;
        };
        self.swap = Some(match then {
            Then::Compare(verdict) => Swap::Beside {
                twin,
                stage: Stage::Trial {
                    judge: Box::new(judge),
                    began: Instant::now(),
                    verdict,
                },
            },
            Then::TakeOver { keep } => Swap::due(twin, keep),
        });
    }

    /// The candidate takes over where viewers can start: the one that has passed, or else one that is prepared first.
    pub(super) fn switch_to(&mut self, transport: Arc<Transport>, keep: bool) {
        if Arc::ptr_eq(&self.transport, &transport) {
            // It has taken over already, or the exchange for another one was called off.
            let _ = self.swap.take_if(|swap| !swap.is_watched());
            return;
        }
        match self.swap.take() {
            Some(Swap::Beside { twin, .. }) if Arc::ptr_eq(&twin.transport, &transport) => {
                self.swap = Some(Swap::due(twin, keep));
            }
            _ => self.prepare(transport, Then::TakeOver { keep }),
        }
    }

    /// The twin, if it is due.
    pub(super) fn due_twin(&self) -> Option<&Twin> {
        match &self.swap {
            Some(Swap::Beside {
                twin,
                stage: Stage::Due { .. },
            }) => Some(twin),
            _ => None,
        }
    }

    /// Lets a twin that is due take over at once, because the instance in use is lost.
    pub(super) fn take_over_lost(&mut self) {
        if self.due_twin().is_some() {
            self.take_over(self.pushed_group.unwrap_or_default());
        }
    }

    /// Gives up a candidate that has not taken over yet.
    pub(super) fn abandon(&mut self, transport: &Arc<Transport>) {
        let _ = self
            .swap
            .take_if(|swap| !swap.is_watched() && Arc::ptr_eq(swap.transport(), transport));
        // Also if it was given up before: another one in the table may have been, for it.
        self.follow_table();
    }

    /// Begins to switch to the component in the table if that is another one: the candidate that was given up may have
    /// come between.
    fn follow_table(&mut self) {
        let current = self.muxers.transports.get(&self.transport.name);
        if let Some(current) = current
            && self.swap.is_none()
            && !Arc::ptr_eq(&current, &self.transport)
        {
            self.prepare(current, Then::TakeOver { keep: true });
        }
    }

    /// Ends a trial that has lasted long enough, and a watch that is over.
    pub(super) fn review_swap(&mut self, now: Instant) {
        let Some(Swap::Beside { stage, .. }) = &self.swap else {
            return;
        };
        if let Stage::Due { since, .. } = stage {
            self.keyframe.wanted |= now >= *since + DUE_WITHOUT_KEYFRAME;
        }
        if !stage.is_over(now, self.pushed_group) {
            return;
        }
        match self.swap.take() {
            Some(Swap::Beside {
                mut twin,
                stage: Stage::Trial {
                    mut judge, verdict, ..
                },
            }) => {
                let judged = self.compare_entry(&mut twin, &mut judge);
                let judged = judged.and_then(|()| judge.verdict());
                if judged.is_ok() {
                    tracing::info!(
                        stream = self.muxer.stream,
                        transport = self.transport.name,
                        plugin = %twin.transport.plugin,
                        "the candidate has passed: {}",
                        judge.summary()
                    );
                    let stage = Stage::Passed;
                    self.swap = Some(Swap::Beside { twin, stage });
                }
                verdict.send(judged);
            }
            Some(Swap::Beside { twin, .. }) => tracing::info!(
                stream = self.muxer.stream,
                transport = self.transport.name,
                "the previous component {} is no longer kept ready",
                twin.transport.plugin
            ),
            _ => {}
        }
    }

    /// The twin takes the place of the instance in use, which is kept ready if that was asked for.
    pub(super) fn take_over(&mut self, group: u64) {
        self.tell_dropped();
        let Some(Swap::Beside {
            twin,
            stage: Stage::Due { keep, .. },
        }) = self.swap.take()
        else {
            return;
        };
        let plugin = twin.transport.plugin.to_string();
        self.hold_unless_same(&twin.profile);
        let predecessor = self.put_in_place(*twin);
        tracing::info!(
            stream = self.muxer.stream,
            transport = self.transport.name,
            "{plugin} has taken over"
        );
        self.swap = predecessor.filter(|_| keep).map(|twin| Swap::Beside {
            twin: Box::new(twin),
            stage: Stage::Watched {
                until: Instant::now() + WATCH,
                group,
                silent: (0, group),
                without_start: 0,
            },
        });
        // If a join fails, the predecessor takes over again.
        self.rejoin();
        self.muxers.switched(&self.transport.name);
    }

    /// Puts the predecessor into the place of an instance that has failed for `reason`, if there is one that is ready.
    pub(super) fn fall_back(&mut self, reason: &str) -> bool {
        let watched = self.swap.take_if(|swap| swap.is_watched());
        let Some(Swap::Beside { twin, .. }) = watched else {
            return false;
        };
        let failed = self.transport.clone();
        self.hold_unless_same(&twin.profile);
        // Viewers that wait for a start point see nothing meanwhile.
        self.keyframe.wanted |= self.held.is_waiting();
        self.put_in_place(*twin);
        self.muxers.roll_back(&failed, reason);
        true
    }

    /// Takes the component into use without a twin: the next instance will be of it.
    fn adopt(&mut self, transport: Arc<Transport>) {
        if Arc::ptr_eq(&self.transport, &transport) {
            return;
        }
        self.hold_unless_same(&transport.profile);
        self.set_transport(transport);
        // It is tried at once, whatever the one before did.
        if self.muxer.health.recovered() {
            self.publish_phase();
        }
        self.muxer.requests.changed();
        self.instance = None;
        self.dropped.clear();
        self.muxers.switched(&self.transport.name);
    }

    /// Takes the component that is in the table into use although it could not be prepared, since there is no other: the
    /// one that the muxer has must not stay.
    fn adopt_anyway(&mut self, transport: Arc<Transport>, reason: &str) {
        tracing::warn!(
            stream = self.muxer.stream,
            transport = transport.name,
            plugin = %transport.plugin,
            "an instance could not be prepared ({reason}); viewers wait for another one"
        );
        self.adopt(transport);
    }

    /// The muxer ends, and needs no component any more.
    pub(super) fn end_swap(&mut self) {
        if let Some(
            Swap::Preparing(Preparation {
                then: Then::Compare(verdict),
                ..
            })
            | Swap::Beside {
                stage: Stage::Trial { verdict, .. },
                ..
            },
        ) = self.swap.take()
        {
            verdict.ended();
        }
    }

    /// Gives up the twin, for this reason.
    pub(super) fn refuse(&mut self, reason: String) {
        match self.swap.take() {
            None => {}
            Some(Swap::Preparing(Preparation {
                transport, then, ..
            })) => match then {
                Then::Compare(verdict) => {
                    verdict.send(Err(reason));
                    self.follow_table();
                }
                Then::TakeOver { keep: true } => self.muxers.roll_back(&transport, &reason),
                Then::TakeOver { keep: false } => self.adopt_anyway(transport, &reason),
            },
            Some(Swap::Beside { twin, stage }) => match stage {
                Stage::Trial { verdict, .. } => {
                    verdict.send(Err(reason));
                    self.follow_table();
                }
                Stage::Due { keep: false, .. } => {
                    self.adopt_anyway(twin.transport.clone(), &reason);
                }
                Stage::Passed | Stage::Due { .. } => {
                    self.muxers.roll_back(&twin.transport, &reason);
                }
                Stage::Watched { .. } => tracing::warn!(
                    stream = self.muxer.stream,
                    transport = self.transport.name,
                    "the previous component {} is no longer kept ready: {reason}",
                    twin.transport.plugin
                ),
            },
        }
    }
}

/// Whether a component that is watched until then needs its predecessor no longer; a group may have begun since it took
/// over.
fn is_proven(until: Instant, now: Instant, has_begun_group: bool) -> bool {
    now >= until && (has_begun_group || now >= until + MAX_WATCH)
}

/// Makes calls to a candidate, which is opened first if there is none.
fn catch_up(
    transport: &Arc<Transport>,
    muxer: &Muxer,
    twin: Option<Box<Twin>>,
    steps: &[(Step, Option<Setting>)],
) -> Result<Box<Twin>, String> {
    let mut twin = match twin {
        Some(twin) => twin,
        None => Box::new(Twin::open(transport, muxer)?),
    };
    for (step, setting) in steps {
        twin.take(step, setting.as_ref())?;
    }
    Ok(twin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_predecessor_is_ready_for_the_watch_and_until_a_group_began() {
        let took_over = Instant::now();
        let proven = |after: Duration, has_begun_group| {
            is_proven(took_over + WATCH, took_over + after, has_begun_group)
        };
        let almost = Duration::from_millis(1);
        assert!(!proven(Duration::ZERO, true));
        assert!(!proven(WATCH - almost, true));
        // From here on a failure is repaired as any other, and not rolled back.
        assert!(proven(WATCH, true));
        assert!(!proven(WATCH + MAX_WATCH - almost, false));
        assert!(proven(WATCH + MAX_WATCH, false));
    }
}
