//! Two instances of a muxer during an exchange of its component: the one in use, and its [`Twin`].
//!
//! The twin gets the calls by which a guest follows its stream, by [`Actor::mirror`], and a predecessor also those of
//! viewers that join and leave. Viewers join a candidate only when it takes over. Which output goes to viewers is
//! decided for each sample in [`Actor::push`]. What a twin is there for, and for how long, is up to `exchange`.

use super::{
    Actor,
    exchange::Swap,
    follow::{Setting, Step, configure, sample_time},
    judge::Judge,
};
use crate::{
    Answer, Chunk, Failure, Instance, JoinRequest, Profile, guest::thread_time,
    instance::MAX_LANES, muxer::Muxer, transports::Transport,
};
use sluicegate_media::{group::Group, sample::Sample};
use sluicegate_telemetry::contain;
use sluicegate_viewer::{Content, Header, SampleTime};
use std::{sync::Arc, time::Duration};

/// Groups in which a component that is due may have no start point, and samples for which a successor may emit nothing
/// while its predecessor does. It has failed then.
const MAX_GROUPS_DUE: u8 = 3;
const MAX_SILENT: u32 = 30;

/// A second instance beside the one in use.
pub(super) struct Twin {
    pub(super) transport: Arc<Transport>,
    instance: Instance,
    pub(super) profile: Profile,
    /// What its `configure` returned last.
    pub(super) header: Vec<Content>,
    /// Bytes that it has emitted in each lane.
    emitted: [u64; MAX_LANES],
}

/// Lanes, as bits, whose chunks are held back until their next start point.
#[derive(Debug, Default)]
pub(super) struct HeldLanes {
    waiting: u16,
    /// Those of which a chunk was held back.
    missed: u16,
}

impl HeldLanes {
    const ALL: HeldLanes = HeldLanes {
        waiting: u16::MAX,
        missed: 0,
    };

    /// Whether viewers get the chunk.
    fn passes(&mut self, chunk: &Chunk) -> bool {
        let lane = 1u16.checked_shl(chunk.lane.into()).unwrap_or(0);
        if chunk.independent {
            self.waiting &= !lane;
        }
        let is_held = self.waiting & lane != 0;
        self.missed |= if is_held { lane } else { 0 };
        !is_held
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting != 0
    }

    /// Whether viewers miss a lane that has chunks.
    fn lacks_start(&self) -> bool {
        self.waiting & self.missed != 0
    }
}

impl Twin {
    /// Opens an instance of the transport's component.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn open(transport: &Arc<Transport>, muxer: &Muxer) -> Result<Twin, String> {
        let (plugin, options) = (&transport.plugin, &transport.options);
        let opened = Instance::open(plugin, &muxer.stream, options, muxer.usage.clone());
        let (instance, profile) = opened.map_err(|error| error.to_string())?;
        Ok(Twin {
            transport: transport.clone(),
            instance,
            profile,
            header: Vec::new(),
            emitted: [0; MAX_LANES],
        })
    }

    /// Makes a call. That it fails, and also that the host panics, concerns the twin alone, not the instance in use.
    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Instance) -> Result<R, Failure>,
    ) -> Result<R, String> {
        match contain(|| call(&mut self.instance)) {
            Ok(result) => result.map_err(|failure| failure.to_string()),
            Err(panicked) => Err(format!("the host {panicked}")),
        }
    }

    /// Makes one of the calls by which a guest follows its stream.
    ///
    /// # Errors
    /// Why it is given up.
    pub(super) fn take(
        &mut self,
        step: &Step,
        setting: Option<&Setting>,
    ) -> Result<Vec<Chunk>, String> {
        match step {
            Step::Configure(info) => {
                if let Some(setting) = setting {
                    self.header = self.call(|instance| configure(instance, info, setting))?;
                }
                Ok(Vec::new())
            }
            Step::Push(sample, group, _) => {
                let chunks = self.call(|instance| instance.push(sample, *group))?;
                for chunk in &chunks {
                    if let Some(emitted) = self.emitted.get_mut(usize::from(chunk.lane)) {
                        *emitted += chunk.content.len() as u64;
                    }
                }
                Ok(chunks)
            }
            Step::Stop(reason) => self.call(|instance| instance.stop(reason, false)),
        }
    }

    /// Whether viewers see something from one of these chunks on. Of several lanes, the one that carries most has the
    /// picture.
    fn can_start(&self, chunks: &[Chunk]) -> bool {
        let lanes = 0..self.emitted.len();
        let main = lanes.rev().max_by_key(|lane| self.emitted.get(*lane));
        let is_start = |chunk: &Chunk| chunk.independent && Some(usize::from(chunk.lane)) == main;
        chunks.iter().any(is_start)
    }
}

impl Actor {
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
            Err(reason) => {
                self.refuse(reason);
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
            self.hold_all();
            return true;
        }
        if self.has_no_start(starts_group) {
            self.fall_back(&format!(
                "viewers could start nowhere in {MAX_GROUPS_DUE} groups of a lane"
            ));
            self.hold_all();
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
            (Some(Swap::Due { twin, .. }), Some(chunks)) => twin.can_start(chunks),
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
            self.held = HeldLanes::default();
            return self.publish_held(ours, time);
        }
        self.publish_held(theirs, time)
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

    /// Counts the groups in which viewers wait for a start point of a lane that a successor has chunks of; returns
    /// whether these are too many.
    fn has_no_start(&mut self, starts_group: bool) -> bool {
        let Some(Swap::Watched { without_start, .. }) = &mut self.swap else {
            return false;
        };
        *without_start = match self.held.lacks_start() {
            true => without_start.saturating_add(u8::from(starts_group)),
            false => 0,
        };
        *without_start > MAX_GROUPS_DUE
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

    /// Publishes the chunks for which viewers need not wait for a start point. Returns false if there are none because
    /// the guest failed.
    fn publish_held(&mut self, chunks: Option<Vec<Chunk>>, time: Option<SampleTime>) -> bool {
        self.muxer.requests.changed();
        let Some(mut chunks) = chunks else {
            return false;
        };
        if self.held.is_waiting() {
            chunks.retain(|chunk| self.held.passes(chunk));
        }
        self.publish(chunks, time);
        true
    }

    /// Lets viewers wait for a start point of each lane, unless what follows is what they had: they cannot continue with
    /// another format in the middle of a group.
    pub(super) fn hold_unless_same(&mut self, next: &Profile) {
        self.held = match self.has_output_of(next) {
            true => HeldLanes::default(),
            false => HeldLanes::ALL,
        };
    }

    /// Lets viewers wait for a start point of each lane: they have missed chunks.
    fn hold_all(&mut self) {
        self.held = HeldLanes::ALL;
        self.keyframe.wanted = true;
    }

    /// Whether the output of a component with the profile `next` is what viewers have now.
    fn has_output_of(&self, next: &Profile) -> bool {
        let used = self.profile.as_ref().map(|profile| &profile.output);
        !next.output.is_empty() && used == Some(&next.output)
    }

    /// Compares what both instances returned from `configure`, during a trial.
    pub(super) fn compare_headers(&mut self) {
        if let Some(Swap::Trial { twin, judge, .. }) = &self.swap
            && let Err(reason) = judge.compare_headers(&self.muxer.outlet.header(), &twin.header)
        {
            self.refuse(reason);
        }
    }

    /// Compares the answers of both instances to a request, during a trial.
    pub(super) fn compare_answer(&mut self, path: &str, query: &str, ours: &Answer) {
        let Some(Swap::Trial { twin, judge, .. }) = &mut self.swap else {
            return;
        };
        let theirs = twin.call(|instance| instance.request(path, query));
        let compared = theirs.and_then(|theirs| judge.compare_answers(path, ours, &theirs));
        if let Err(reason) = compared {
            self.refuse(reason);
        }
    }

    /// Compares the answers to a request for the entry of a transport that only answers requests.
    pub(super) fn compare_entry(
        &mut self,
        twin: &mut Twin,
        judge: &mut Judge,
    ) -> Result<(), String> {
        let entry = self.transport.profile.entry.clone();
        let has_lanes = !self.transport.profile.lanes.is_empty();
        if has_lanes || twin.profile.entry != entry || self.is_behind() {
            return Ok(());
        }
        let Some(ours) = self.try_guest(|instance| instance.request(&entry, "")) else {
            return Ok(());
        };
        let theirs = twin.call(|instance| instance.request(&entry, ""))?;
        judge.compare_answers(&entry, &ours, &theirs)
    }

    /// Tells the predecessor that a viewer has joined.
    pub(super) fn mirror_join(&mut self, viewer: u64, request: &Arc<JoinRequest>) {
        if let Some(Swap::Watched { twin, .. }) = &mut self.swap
            && let Err(reason) = twin.call(|instance| instance.join(viewer, request))
        {
            self.refuse(reason);
        }
    }

    /// Tells the predecessor that a viewer has left.
    pub(super) fn mirror_leave(&mut self, viewer: u64) {
        if let Some(Swap::Watched { twin, .. }) = &mut self.swap
            && let Err(reason) = twin.call(|instance| instance.leave(viewer))
        {
            self.refuse(reason);
        }
    }

    /// Puts the twin into the place of the instance in use; returns that, if it works.
    pub(super) fn put_in_place(&mut self, twin: Twin) -> Option<Twin> {
        let Twin {
            transport,
            instance,
            profile,
            header,
            ..
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
            emitted: [0; MAX_LANES],
        })
    }
}
