//! Where a guest may start: which samples it gets and which it must not see.
//!
//! A guest that starts in the middle of a group, or with frames that refer to what it was not given, makes output that
//! no viewer can decode, or numbers that differ from those of other renditions. So a new instance, a newly chosen feed
//! and a feed that lost samples all wait here for a start point. `Source` in [`super`] has a [`Gate`], and each replay
//! has one of its own.

use crate::Profile;
use sluicegate_media::sample::Sample;
use sluicegate_stream::Reader;

/// Decides where the guest may start. Sees only samples of the track that groups begin with: video, or audio if there
/// is no video.
pub(super) struct Gate {
    /// Samples are skipped until one at which the guest may start.
    pub(super) wants_start: bool,
    /// The guest started at the newest independent sample, so samples that lead it are skipped.
    joined: bool,
    /// Set for transports without lanes: the guest gets whole groups or none. Clients address groups by number, and a
    /// partial group would differ from what other renditions have under that number.
    whole_groups: Option<WholeGroups>,
    /// Newest group from which the guest was given samples.
    group: Option<u64>,
}

/// State of a gate that lets only whole groups pass.
struct WholeGroups {
    group_ms: u32,
    /// Newest group whose start was checked.
    group: Option<u64>,
}

impl Gate {
    /// A gate for a transport with this profile.
    pub(super) fn new(profile: &Profile, wants_start: bool) -> Gate {
        let whole_groups = profile.lanes.is_empty().then_some(WholeGroups {
            group_ms: profile.group_ms,
            group: None,
        });
        Gate {
            wants_start,
            joined: false,
            whole_groups,
            group: None,
        }
    }

    /// Whether to push the sample. `is_new`: the sample is after everything that the guest was given, so it may start
    /// here.
    pub(super) fn admits(
        &mut self,
        sample: &Sample,
        position: u64,
        group: u64,
        is_new: bool,
        reader: &Reader,
    ) -> bool {
        // A repeat of the last frame of the previous group must not begin a group whose start was lost.
        let is_other = sample.repeat > 0 && !sample.independent;
        if is_other && self.group.is_some_and(|newest| group > newest) {
            return false;
        }
        let mut starts = sample.independent;
        if let Some(whole_groups) = &mut self.whole_groups
            && (self.wants_start || whole_groups.group != Some(group))
        {
            starts = starts && reader.opens_group(whole_groups.group_ms, position);
            self.wants_start |= !starts;
            whole_groups.group = Some(group);
        }
        if starts {
            self.joined = self.wants_start;
        }
        self.wants_start &= !(starts && is_new);
        let admitted = !(self.wants_start || self.joined && sample.leading);
        if admitted {
            self.group = Some(group);
        }
        admitted
    }
}
