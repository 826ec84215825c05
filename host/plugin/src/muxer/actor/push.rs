//! The hot path of a muxer's thread: pushes a sample to the guest and publishes the chunks. During an exchange of the
//! component its [`Twin`](super::twin::Twin) gets the sample, too, and here is decided whose output goes to viewers.
//!
//! Viewers that have got the output of another component, or have missed chunks, wait for a start point of each lane
//! ([`HeldLanes`]).

use super::{
    Actor,
    exchange::{Stage, Swap},
    follow::{Step, sample_time},
};
use crate::{Chunk, Profile, guest::thread_time};
use sluicegate_media::{group::Group, sample::Sample};
use sluicegate_viewer::SampleTime;
use std::sync::Arc;

/// Groups in which a component that is due may have no start point, and samples for which a successor may emit nothing
/// while its predecessor does. It has failed then.
const MAX_GROUPS_DUE: u8 = 3;
const MAX_SILENT: u32 = 30;

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

impl Actor {
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
        if self.due_twin().is_some() {
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
        if let Some(Stage::Trial { judge, .. }) = self.stage()
            && let Some((theirs, their_time)) = theirs
            && let Err(reason) = judge.compare(
                sample.repeat > 0,
                starts_group,
                (&ours, took),
                (&theirs, their_time),
            )
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
        let is_due = match (self.due_twin(), &theirs) {
            (Some(twin), Some(_)) if twin.profile.lanes.is_empty() => {
                starts_group && sample.independent
            }
            (Some(twin), Some(chunks)) => twin.can_start(chunks),
            _ => false,
        };
        // The one in use gets the sample in any case, so that it can take over again.
        let mut ours = self.call_guest(|instance| instance.push(sample, *group));
        let is_lost = self.instance.is_none() && self.due_twin().is_some();
        if !is_due && !is_lost {
            let is_published = self.publish_held(ours, time);
            self.count_due(starts_group);
            return is_published;
        }
        let twin = self.due_twin();
        let is_same = twin.is_some_and(|twin| self.has_output_of(&twin.profile));
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

    /// What the twin is there for, if there is one.
    fn stage(&mut self) -> Option<&mut Stage> {
        match &mut self.swap {
            Some(Swap::Beside { stage, .. }) => Some(stage),
            _ => None,
        }
    }

    /// Counts the samples for which a successor emitted nothing while its predecessor did; returns whether these are too
    /// many. A component may collect the samples of a group.
    fn has_fallen_silent(&mut self, is_silent: bool, is_empty: bool, group: u64) -> bool {
        let Some(Stage::Watched { silent, .. }) = self.stage() else {
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
        let lacks_start = self.held.lacks_start();
        let Some(Stage::Watched { without_start, .. }) = self.stage() else {
            return false;
        };
        *without_start = match lacks_start {
            true => without_start.saturating_add(u8::from(starts_group)),
            false => 0,
        };
        *without_start > MAX_GROUPS_DUE
    }

    /// Gives up a candidate that has passed and then lets viewers start nowhere.
    fn count_due(&mut self, starts_group: bool) {
        let Some(Stage::Due {
            keep: true, groups, ..
        }) = self.stage()
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
}
