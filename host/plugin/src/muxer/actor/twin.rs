//! The exchange of a muxer's component while viewers stay: a candidate runs beside the instance in use, takes its place
//! where viewers can start, and is watched for a while with the predecessor ready to take over again.
//!
//! The second instance of a muxer is its [`Twin`]. It gets the calls by which a guest follows its stream, by
//! [`Actor::mirror`], and a predecessor also those of viewers that join and leave. Which output goes to viewers is
//! decided for each sample in [`Actor::push`]. Opening a candidate and giving it the past may take long, so this happens
//! on a thread of its own, while the calls that come meanwhile are kept for it. Viewers join a candidate only when it
//! takes over. What all muxers of a transport do together is up to `muxer::swap`.

use super::{
    Actor,
    follow::{Setting, Step, configure, sample_time},
    judge::Judge,
};
use crate::{
    Answer, Chunk, Failure, Instance, JoinRequest, Profile,
    guest::thread_time,
    muxer::{Message, Muxer, swap::Verdict},
    transports::Transport,
};
use sluicegate_media::{group::Group, sample::Sample};
use sluicegate_telemetry::contain;
use sluicegate_viewer::{Content, Header, SampleTime};
use std::{
    sync::{Arc, mpsc},
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
/// How long a predecessor stays ready; at least until a group that began after the switch has ended.
const WATCH: Duration = Duration::from_secs(30);
/// Groups in which a component that is due may have no start point, and samples for which a successor may emit nothing
/// while its predecessor does. It has failed then.
const MAX_GROUPS_DUE: u8 = 3;
const MAX_SILENT: u32 = 30;
/// How much longer it stays ready at most, if no group begins.
const MAX_WATCH: Duration = Duration::from_secs(300);

/// A second instance beside the one in use.
pub(super) struct Twin {
    transport: Arc<Transport>,
    instance: Instance,
    profile: Profile,
    /// What its `configure` returned last.
    header: Vec<Content>,
}

impl Twin {
    /// Makes one call.
    fn take(&mut self, step: &Step, setting: Option<&Setting>) -> Result<Vec<Chunk>, Failure> {
        match step {
            Step::Configure(info) => {
                if let Some(setting) = setting {
                    self.header = configure(&mut self.instance, info, setting)?;
                }
                Ok(Vec::new())
            }
            Step::Push(sample, group, _) => self.instance.push(sample, *group),
            Step::Stop(reason) => self.instance.stop(reason, false),
        }
    }
}

/// How far an exchange has got.
pub(super) enum Swap {
    /// The candidate is being opened and given the past.
    Preparing {
        transport: Arc<Transport>,
        backlog: Backlog,
        began: Instant,
        then: Then,
    },
    /// The candidate is compared with the instance in use.
    Trial {
        twin: Box<Twin>,
        judge: Box<Judge>,
        began: Instant,
        verdict: mpsc::Sender<Verdict>,
    },
    /// The candidate has passed and waits until all muxers of the transport exchange theirs.
    Passed { twin: Box<Twin> },
    /// The twin takes over where viewers can start.
    Due {
        twin: Box<Twin>,
        keep: bool,
        /// Groups that have begun meanwhile.
        groups: u8,
    },
    /// The predecessor is ready to take over again.
    Watched {
        twin: Box<Twin>,
        until: Instant,
        /// Group in which the successor took over.
        group: u64,
        /// Samples in a row for which only the predecessor emitted something, and the group in which they began.
        silent: (u32, u64),
    },
}

/// Calls that a candidate has to catch up with, and how `configure` is to be called.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    steps: Vec<(Step, Option<Setting>)>,
    bytes: usize,
}

impl Backlog {
    /// Adds a call; returns whether there is room for it.
    fn add(&mut self, step: &Step, setting: Option<Setting>) -> bool {
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
    Compare(mpsc::Sender<Verdict>),
    /// It takes over; whether the one in use is then kept ready.
    TakeOver { keep: bool },
}

/// A candidate with the past, from the thread that prepared it.
pub(in crate::muxer) struct Prepared {
    transport: Arc<Transport>,
    result: Result<Box<Twin>, String>,
}

impl Actor {
    /// Begins an exchange. One that is in progress is given up: the newest candidate counts.
    pub(super) fn prepare(&mut self, transport: Arc<Transport>, then: Then) {
        self.swap = None;
        if self.instance.is_none() || self.source.is_none() {
            // There is nothing to compare with, and no output to continue.
            match then {
                Then::Compare(verdict) => drop(verdict.send(Ok(()))),
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
        self.swap = Some(Swap::Preparing {
            transport: transport.clone(),
            backlog: Backlog::default(),
            began: Instant::now(),
            then,
        });
        self.run_ahead(transport, None, steps);
    }

    /// Makes these calls to a candidate on a thread of its own; opens it first if there is none.
    fn run_ahead(
        &mut self,
        transport: Arc<Transport>,
        twin: Option<Box<Twin>>,
        steps: Vec<(Step, Option<Setting>)>,
    ) {
        let (candidate, muxer) = (transport, self.muxer.clone());
        let started = thread::Builder::new()
            .name(format!("swap {}", candidate.name))
            .spawn(move || {
                let result = contain(|| catch_up(&candidate, &muxer, twin, &steps));
                let result = result.unwrap_or_else(|panicked| Err(format!("the host {panicked}")));
                // An error means that the muxer has ended.
                let _ = muxer.send(Message::Prepared(Box::new(Prepared {
                    transport: candidate,
                    result,
                })));
            });
        if let Err(error) = started {
            self.refuse(format!("cannot start a thread: {error}"));
        }
    }

    /// Takes a prepared candidate into use as planned, if it is still the one that is waited for.
    pub(super) fn prepared(&mut self, prepared: Prepared) {
        let Prepared { transport, result } = prepared;
        let Some(Swap::Preparing {
            transport: awaited,
            backlog,
            began,
            ..
        }) = &mut self.swap
        else {
            return;
        };
        if !Arc::ptr_eq(awaited, &transport) {
            return;
        }
        let mut twin = match result {
            Ok(twin) => twin,
            Err(reason) => return self.refuse(reason),
        };
        let steps = std::mem::take(backlog).steps;
        if steps.len() > MAX_STEPS_AT_ONCE {
            if began.elapsed() > MAX_TRIAL {
                return self.refuse("it does not catch up with the stream".into());
            }
            return self.run_ahead(transport, Some(twin), steps);
        }
        for (step, setting) in &steps {
            if let Err(failure) = twin.take(step, setting.as_ref()) {
                return self.refuse(failure.to_string());
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
        let Some(Swap::Preparing { then, .. }) = self.swap.take() else {
            return;
        };
        self.swap = Some(match then {
            Then::Compare(verdict) => Swap::Trial {
                judge: Box::new(judge),
                twin,
                began: Instant::now(),
                verdict,
            },
            Then::TakeOver { keep } => Swap::Due {
                twin,
                keep,
                groups: 0,
            },
        });
    }

    /// The candidate takes over where viewers can start: the one that has passed, or else one that is prepared first.
    pub(super) fn switch_to(&mut self, transport: Arc<Transport>, keep: bool) {
        if Arc::ptr_eq(&self.transport, &transport) {
            // It has taken over already, or the exchange for another one was called off.
            let _ = self
                .swap
                .take_if(|swap| !matches!(swap, Swap::Watched { .. }));
            return;
        }
        match self.swap.take() {
            Some(
                Swap::Passed { twin }
                | Swap::Trial { twin, .. }
                | Swap::Due { twin, .. }
                | Swap::Watched { twin, .. },
            ) if Arc::ptr_eq(&twin.transport, &transport) => {
                self.swap = Some(Swap::Due {
                    twin,
                    keep,
                    groups: 0,
                });
            }
            _ => self.prepare(transport, Then::TakeOver { keep }),
        }
    }

    /// Lets a twin that is due take over at once, because the instance in use is lost.
    pub(super) fn take_over_lost(&mut self) {
        if let Some(Swap::Due { .. }) = &self.swap {
            self.take_over(self.pushed_group.unwrap_or_default());
        }
    }

    /// Gives up a candidate that has not taken over yet.
    pub(super) fn abandon(&mut self, transport: &Arc<Transport>) {
        let is_of = |swap: &mut Swap| match swap {
            Swap::Preparing { transport: of, .. } => Arc::ptr_eq(of, transport),
            Swap::Trial { twin, .. } | Swap::Passed { twin } | Swap::Due { twin, .. } => {
                Arc::ptr_eq(&twin.transport, transport)
            }
            Swap::Watched { .. } => false,
        };
        if self.swap.take_if(is_of).is_some() {
            self.follow_table();
        }
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

    /// Makes a call to the twin, too, if there is one. Returns what it emits and the processor time that it took.
    pub(super) fn mirror(&mut self, step: &Step) -> Option<(Vec<Chunk>, Duration)> {
        let setting = match step {
            Step::Configure(_) => self.setting(),
            _ => None,
        };
        let twin = match self.swap.as_mut()? {
            Swap::Preparing { backlog, .. } => {
                if !backlog.add(step, setting) {
                    self.refuse("it does not catch up with the stream".into());
                }
                return None;
            }
            Swap::Trial { twin, .. }
            | Swap::Passed { twin }
            | Swap::Due { twin, .. }
            | Swap::Watched { twin, .. } => twin,
        };
        let began = thread_time();
        match twin.take(step, setting.as_ref()) {
            Ok(chunks) => Some((chunks, thread_time().saturating_sub(began))),
            Err(failure) => {
                self.refuse(failure.to_string());
                None
            }
        }
    }

    /// Pushes a sample to the guest, and publishes the chunks; then pushes it to the twin. Where the twin is due, it takes
    /// over with this sample. Returns false if the guest failed and no twin has taken over.
    pub(super) fn push(&mut self, sample: &Arc<Sample>, group: Group, position: u64) -> bool {
        let starts_group = self.pushed_group.replace(group.number) != Some(group.number);
        let time = Some(sample_time(sample));
        if self.swap.is_none() {
            let pushed = self.call_guest(|instance| instance.push(sample, group));
            return self.publish_held(pushed, time);
        }
        let step = Step::Push(sample.clone(), group, position);
        if let Some(Swap::Due { .. }) = &self.swap {
            return self.push_due(&step, starts_group);
        }
        let used = Arc::as_ptr(&self.transport);
        let began = thread_time();
        let mut ours = self.call_guest(|instance| instance.push(sample, group));
        let took = thread_time().saturating_sub(began);
        if ours.is_none() && !std::ptr::eq(used, Arc::as_ptr(&self.transport)) {
            // The predecessor has taken over, and needs this sample.
            ours = self.call_guest(|instance| instance.push(sample, group));
            return self.publish_held(ours, time);
        }
        // A copy shares the bytes.
        let published = ours.clone();
        if !self.publish_held(published, time) {
            return false;
        }
        let ours = ours.unwrap_or_default();
        let theirs = self.mirror(&step);
        let is_silent = ours.is_empty()
            && theirs
                .as_ref()
                .is_some_and(|(chunks, _)| !chunks.is_empty());
        if self.has_fallen_silent(is_silent, ours.is_empty(), group.number) {
            self.fall_back(&format!("it emitted nothing for {MAX_SILENT} samples"));
            // Viewers have missed what came meanwhile.
            self.held_lanes = u16::MAX;
            return true;
        }
        if let (Some(Swap::Trial { judge, .. }), Some((theirs, their_time))) =
            (&mut self.swap, theirs)
            && let Err(reason) = {
                judge.count(sample.repeat > 0, starts_group);
                judge.compare((&ours, took), (&theirs, their_time))
            }
        {
            self.refuse(reason);
        }
        true
    }

    /// Counts the samples for which a successor emitted nothing while its predecessor did; returns whether these are too
    /// many. A component may collect the samples of a group.
    fn has_fallen_silent(&mut self, is_silent: bool, is_empty: bool, group: u64) -> bool {
        let Some(Swap::Watched { silent, .. }) = &mut self.swap else {
            return false;
        };
        match (is_silent, is_empty) {
            (true, _) => {
                let since = if silent.0 == 0 { group } else { silent.1 };
                *silent = (silent.0 + 1, since);
            }
            (false, false) => *silent = (0, group),
            (false, true) => {}
        }
        silent.0 >= MAX_SILENT && silent.1 != group
    }

    /// Pushes a sample while the twin is due: first to the twin, which takes over if viewers can start with what it
    /// emits.
    fn push_due(&mut self, step: &Step, starts_group: bool) -> bool {
        let Step::Push(sample, group, _) = step else {
            return true;
        };
        let time = Some(sample_time(sample));
        let theirs = self.mirror(step).map(|(chunks, _)| chunks);
        let is_due = match (&self.swap, &theirs) {
            (Some(Swap::Due { twin, .. }), Some(_)) if twin.profile.lanes.is_empty() => {
                starts_group && sample.independent
            }
            (Some(Swap::Due { .. }), Some(chunks)) => chunks.iter().any(|chunk| chunk.independent),
            _ => false,
        };
        // The one in use gets the sample in any case, so that it can take over again.
        let mut ours = self.call_guest(|instance| instance.push(sample, *group));
        let is_lost = self.instance.is_none() && matches!(self.swap, Some(Swap::Due { .. }));
        if !is_due && !is_lost {
            let is_published = self.publish_held(ours, time);
            self.count_due(starts_group);
            return is_published;
        }
        let is_same = match &self.swap {
            Some(Swap::Due { twin, .. }) => self.has_output_of(&twin.profile),
            _ => false,
        };
        if let (Some(ours), false) = (&mut ours, is_same) {
            // What completes the group before is in the format that viewers have.
            let start = ours.iter().position(|chunk| chunk.independent);
            let rest = ours.drain(..start.unwrap_or(ours.len())).collect();
            self.publish_held(Some(rest), time);
        }
        let used = self.transport.clone();
        self.take_over(group.number);
        if Arc::ptr_eq(&used, &self.transport) {
            // The twin has failed at once. Viewers can start here with the one in use, too.
            self.held_lanes = 0;
            return self.publish_held(ours, time);
        }
        self.publish_held(theirs, time)
    }

    /// Gives up a candidate that has passed and then lets viewers start nowhere.
    fn count_due(&mut self, starts_group: bool) {
        let Some(Swap::Due {
            keep: true, groups, ..
        }) = &mut self.swap
        else {
            return;
        };
        *groups = groups.saturating_add(u8::from(starts_group));
        if *groups > MAX_GROUPS_DUE {
            self.refuse(format!(
                "viewers could start nowhere in {MAX_GROUPS_DUE} groups"
            ));
        }
    }

    /// Whether the output of a component with the profile `next` is what viewers have now.
    fn has_output_of(&self, next: &Profile) -> bool {
        let used = self.profile.as_ref().map(|profile| &profile.output);
        !next.output.is_empty() && used == Some(&next.output)
    }

    /// Publishes the chunks for which viewers need not wait for a start point. Returns false if there are none because
    /// the guest failed.
    fn publish_held(&mut self, chunks: Option<Vec<Chunk>>, time: Option<SampleTime>) -> bool {
        self.muxer.requests.changed();
        let Some(mut chunks) = chunks else {
            return false;
        };
        if self.held_lanes != 0 {
            chunks.retain(|chunk| {
                let lane = 1u16.checked_shl(chunk.lane.into()).unwrap_or(0);
                if chunk.independent {
                    self.held_lanes &= !lane;
                }
                self.held_lanes & lane == 0
            });
        }
        self.publish(chunks, time);
        true
    }

    /// Compares the answers of both instances to a request, during a trial.
    pub(super) fn compare_answer(&mut self, path: &str, query: &str, ours: &Answer) {
        let Some(Swap::Trial { twin, judge, .. }) = &mut self.swap else {
            return;
        };
        let compared = match twin.instance.request(path, query) {
            Ok(theirs) => judge.compare_answers(path, ours, &theirs),
            Err(failure) => Err(failure.to_string()),
        };
        if let Err(reason) = compared {
            self.refuse(reason);
        }
    }

    /// Ends a trial that has lasted long enough, and a watch that is over.
    pub(super) fn review_swap(&mut self, now: Instant) {
        let newest = self.pushed_group;
        let is_over = |swap: &mut Swap| match swap {
            Swap::Trial { judge, began, .. } => {
                let limit = match judge.is_idle() {
                    true => MAX_IDLE_TRIAL,
                    false => MAX_TRIAL,
                };
                judge.has_enough() || now >= *began + limit
            }
            Swap::Watched { until, group, .. } => {
                let is_after = newest > Some(*group) || now >= *until + MAX_WATCH;
                now >= *until && is_after
            }
            _ => false,
        };
        match self.swap.take_if(is_over) {
            Some(Swap::Trial {
                mut twin,
                mut judge,
                verdict,
                ..
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
                    self.swap = Some(Swap::Passed { twin });
                }
                let _ = verdict.send(judged);
            }
            Some(Swap::Watched { twin, .. }) => tracing::info!(
                stream = self.muxer.stream,
                transport = self.transport.name,
                "the previous component {} is no longer kept ready",
                twin.transport.plugin
            ),
            _ => {}
        }
    }

    /// Compares the answers to a request for the entry of a transport that only answers requests.
    fn compare_entry(&mut self, twin: &mut Twin, judge: &mut Judge) -> Result<(), String> {
        let entry = self.transport.profile.entry.clone();
        if !self.transport.profile.lanes.is_empty() || twin.profile.entry != entry {
            return Ok(());
        }
        let Some(ours) = self.try_guest(|instance| instance.request(&entry, "")) else {
            return Ok(());
        };
        let theirs = twin.instance.request(&entry, "");
        let theirs = theirs.map_err(|failure| failure.to_string())?;
        judge.compare_answers(&entry, &ours, &theirs)
    }

    /// The twin takes the place of the instance in use, which is kept ready if that was asked for.
    fn take_over(&mut self, group: u64) {
        self.tell_dropped();
        let Some(Swap::Due { twin, keep, .. }) = self.swap.take() else {
            return;
        };
        let plugin = twin.transport.plugin.to_string();
        self.hold_unless_same(&twin.profile);
        let predecessor = self.exchange(*twin);
        tracing::info!(
            stream = self.muxer.stream,
            transport = self.transport.name,
            "{plugin} has taken over"
        );
        self.swap = predecessor.filter(|_| keep).map(|twin| Swap::Watched {
            twin: Box::new(twin),
            until: Instant::now() + WATCH,
            group,
            silent: (0, group),
        });
        // If a join fails, the predecessor takes over again.
        self.rejoin();
        self.muxers.switched(&self.transport.name);
    }

    /// Puts the predecessor into the place of an instance that has failed for `reason`, if there is one that is ready.
    pub(super) fn fall_back(&mut self, reason: &str) -> bool {
        let is_ready = |swap: &mut Swap| matches!(swap, Swap::Watched { .. });
        let Some(Swap::Watched { twin, .. }) = self.swap.take_if(is_ready) else {
            return false;
        };
        let failed = self.transport.clone();
        self.hold_unless_same(&twin.profile);
        self.exchange(*twin);
        self.muxers.roll_back(&failed, reason);
        true
    }

    /// Lets viewers wait for a start point of each lane, unless what follows is what they had: they cannot continue with
    /// another format in the middle of a group.
    fn hold_unless_same(&mut self, next: &Profile) {
        self.held_lanes = match self.has_output_of(next) {
            true => 0,
            false => u16::MAX,
        };
    }

    /// Puts the twin into the place of the instance in use; returns that, if it works.
    fn exchange(&mut self, twin: Twin) -> Option<Twin> {
        let Twin {
            transport,
            instance,
            profile,
            header,
        } = twin;
        let before = self.muxer.outlet.header();
        if self
            .profile
            .as_ref()
            .is_none_or(|used| used.lanes != profile.lanes)
        {
            self.muxer.outlet.set_lanes(profile.lanes.clone());
        }
        self.muxer.outlet.set_header(Header::new(header));
        self.muxer.requests.changed();
        if self.muxer.health.recovered() {
            self.publish_phase();
        }
        *self.muxer.used.lock() = transport.clone();
        let transport = std::mem::replace(&mut self.transport, transport);
        let profile = self.profile.replace(profile)?;
        let mut predecessor = self.instance.replace(instance)?;
        predecessor.end_recording("another component has taken over");
        Some(Twin {
            transport,
            instance: predecessor,
            profile,
            header: before,
        })
    }

    /// Takes the component into use without a twin: the next instance will be of it.
    fn adopt(&mut self, transport: Arc<Transport>) {
        if Arc::ptr_eq(&self.transport, &transport) {
            return;
        }
        *self.muxer.used.lock() = transport.clone();
        self.transport = transport;
        // It is tried at once, whatever the one before did.
        if self.muxer.health.recovered() {
            self.publish_phase();
        }
        self.muxer.requests.changed();
        self.instance = None;
        self.dropped.clear();
        self.muxers.switched(&self.transport.name);
    }

    /// Gives up the twin, for this reason.
    pub(super) fn refuse(&mut self, reason: String) {
        match self.swap.take() {
            None => {}
            Some(Swap::Preparing {
                transport, then, ..
            }) => match then {
                Then::Compare(verdict) => {
                    let _ = verdict.send(Err(reason));
                    self.follow_table();
                }
                Then::TakeOver { .. } => self.muxers.roll_back(&transport, &reason),
            },
            Some(Swap::Trial { verdict, .. }) => {
                let _ = verdict.send(Err(reason));
                self.follow_table();
            }
            Some(Swap::Passed { twin } | Swap::Due { twin, .. }) => {
                self.muxers.roll_back(&twin.transport, &reason);
            }
            Some(Swap::Watched { twin, .. }) => tracing::warn!(
                stream = self.muxer.stream,
                transport = self.transport.name,
                "the previous component {} is no longer kept ready: {reason}",
                twin.transport.plugin
            ),
        }
    }

    /// Tells the predecessor that a viewer has joined.
    pub(super) fn mirror_join(&mut self, viewer: u64, request: &Arc<JoinRequest>) {
        if let Some(Swap::Watched { twin, .. }) = &mut self.swap
            && let Err(failure) = twin.instance.join(viewer, request)
        {
            self.refuse(failure.to_string());
        }
    }

    /// Tells the predecessor that a viewer has left.
    pub(super) fn mirror_leave(&mut self, viewer: u64) {
        if let Some(Swap::Watched { twin, .. }) = &mut self.swap
            && let Err(failure) = twin.instance.leave(viewer)
        {
            self.refuse(failure.to_string());
        }
    }
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
        None => {
            let (plugin, options) = (&transport.plugin, &transport.options);
            let opened = Instance::open(plugin, &muxer.stream, options, muxer.usage.clone());
            let (instance, profile) = opened.map_err(|error| error.to_string())?;
            Box::new(Twin {
                transport: transport.clone(),
                instance,
                profile,
                header: Vec::new(),
            })
        }
    };
    for (step, setting) in steps {
        let taken = twin.take(step, setting.as_ref());
        taken.map_err(|failure| failure.to_string())?;
    }
    Ok(twin)
}
