//! The sample side of a muxer's thread: chooses the feed whose format the transport takes, pushes its samples to the
//! guest and publishes the chunks, and replays recent samples to a new instance.
//!
//! The guest sees one continuous sequence, even if the muxer changes from the source's feed to a derived one or back:
//! `Progress` has the newest epoch and decode time that it was given, and `Gate` lets it start only at a start point
//! after that. Samples on which the guest failed are remembered and skipped in every later replay.

mod gate;

use super::Actor;
use crate::{Failure, Instance, Profile, Rendition, muxer::Refusal};
use gate::Gate;
use sluicegate_config as config;
use sluicegate_media::{group::Group, sample::Sample, time::TIMESCALE};
use sluicegate_stream::{
    DeriveError, DerivedFeed, Entry, HistorySpan, Info, Next, Reader, Selection, StreamLease,
    WakeOn,
};
use sluicegate_viewer::{Content, Header, SampleTime, Track};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// A call by which a guest follows its stream.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// `configure` with these tracks.
    Configure(Arc<Info>),
    /// `push` of the sample at this position.
    Push(Arc<Sample>, Group, u64),
    /// `stop` for this reason, not for ever.
    Stop(Arc<str>),
}

/// Arguments of `configure` besides the tracks.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub choice: Selection,
    pub renditions: Vec<Rendition>,
    pub longest_group_ms: u32,
}

/// Samples pushed before requests and joins are served again.
const BATCH: usize = 64;
/// How long a viewer waits for a start point before a keyframe is requested, and the shortest interval between two
/// requests.
const KEYFRAME_WAIT: Duration = Duration::from_millis(100);
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);

/// The feed whose format fits the transport, and the position in it.
pub(super) struct Source {
    reader: Reader,
    choice: Selection,
    /// Position of the next entry to process.
    position: u64,
    /// Tracks in effect at `position`.
    info: Option<Arc<Info>>,
    gate: Gate,
    /// Whether all entries that the feed had when it was chosen have been read.
    caught_up: bool,
    /// Positions of samples on which the guest failed, and of leading samples that its start skipped. They are skipped
    /// in replays, too.
    skipped: BTreeSet<u64>,
    /// Position of the sample in the current `push`; still set if the host panics during it.
    pushing: Option<u64>,
    /// The derived feed, if this is not the source's own; it is produced while this is held.
    derived: Option<Arc<DerivedFeed>>,
    /// Newest epoch of the stream's source when this was chosen; `None` if it has to be chosen again.
    chosen_for: Option<u32>,
}

impl Source {
    /// Releases the history that the reader retains, while there is no instance.
    pub(super) fn release_history(&self) {
        self.reader.release_history();
    }

    /// Skips this sample in replays. Positions that have long left the ring are forgotten.
    fn skip(&mut self, position: u64) {
        self.skipped.insert(position);
        let recent = |skipped: &u64| skipped + (1 << 16) > position;
        self.skipped.retain(recent);
    }

    /// The push has ended. If it failed, or the host panicked in it, the sample is never pushed again.
    pub(super) fn pushed(&mut self, worked: bool) {
        let position = self.pushing.take();
        if let Some(position) = position.filter(|_| !worked) {
            self.skip(position);
        }
    }

    /// Whether the guest is still reading the past, so that its answers would be outdated.
    pub(super) fn is_behind(&self) -> bool {
        !self.caught_up
    }

    /// Whether to push the sample at `position`: its format is one that the transport takes, and it comes after what
    /// the guest was given before.
    fn wants(&mut self, sample: &Sample, position: u64, group: Group, progress: &Progress) -> bool {
        if self.choice.format(sample.codec()).is_none() {
            return false;
        }
        if sample.is_audio() && self.choice.video.is_some() {
            return !self.gate.wants_start;
        }
        // A newly chosen feed may begin with samples that the guest was given from the previous one.
        let is_new = progress.time.is_none_or(|time| sample.decode_time > time);
        self.gate
            .admits(sample, position, group.number, is_new, &self.reader)
    }
}

/// How far the guest has got, across changes of the feed.
#[derive(Default)]
pub(super) struct Progress {
    /// Newest epoch that it was configured with.
    epoch: Option<u32>,
    /// Newest decode time of the track that groups begin with: video, or audio if there is no video.
    time: Option<u64>,
    /// Renditions that it was configured with in that epoch. A new instance gets the same.
    renditions: Vec<Rendition>,
    /// Number of changes of the stream's forms that were taken over.
    changes: u64,
}

/// A pending keyframe request to the source or encoder.
#[derive(Default)]
pub(super) struct KeyframeRequest {
    pub(super) wanted: bool,
    /// Since when a viewer has waited for a start point.
    waited_since: Option<Instant>,
    requested_at: Option<Instant>,
}

impl Actor {
    /// Pushes up to [`BATCH`] new entries; returns whether there may be more.
    pub(super) fn follow(&mut self, lease: &StreamLease) -> bool {
        if self.instance.is_none() || !self.take_over_changes(lease) || !self.choose_source(lease) {
            return false;
        }
        for _ in 0..BATCH {
            let (Some(source), Some(profile)) = (&mut self.source, &self.profile) else {
                return true;
            };
            let group_ms = profile.group_ms;
            let position = source.position;
            // Read before `next`, because the derived feed grows meanwhile.
            let derived = source
                .derived
                .as_ref()
                .is_none_or(|derived| derived.is_caught_up());
            let chunks = match source.reader.next(position, group_ms) {
                Next::Wait => {
                    source.caught_up |= derived;
                    return false;
                }
                Next::Lost(resume_at, info) => {
                    self.muxer.usage.overruns.fetch_add(1, Ordering::Relaxed);
                    source.position = resume_at;
                    source.gate.wants_start = true;
                    source.info = info.clone();
                    if info.is_some_and(|info| !self.announce(lease, &info)) {
                        return false;
                    }
                    continue;
                }
                Next::Entry(Entry::Configure(info), _) => {
                    source.position += 1;
                    source.info = Some(info.clone());
                    if source.derived.is_none() {
                        let formats = self.profile.as_ref().map(|profile| &profile.formats[..]);
                        let choice = self
                            .stream
                            .choose(&self.variant, &info, formats.unwrap_or_default())
                            .filter(|choice| choice.recipe.is_none());
                        let Some(choice) = choice else {
                            // `choose_source` chooses a derived feed in the next turn.
                            self.source = None;
                            return true;
                        };
                        source.choice = choice;
                    }
                    if !self.announce(lease, &info) {
                        return false;
                    }
                    continue;
                }
                Next::Entry(Entry::Stop(reason), _) => {
                    source.position += 1;
                    self.mirror(&Step::Stop(reason.clone()));
                    self.call_guest(|instance| instance.stop(&reason, false))
                }
                Next::Entry(Entry::Sample(sample), group) => {
                    source.position += 1;
                    if profile.skips(&sample) {
                        continue;
                    }
                    if !source.wants(&sample, position, group, &self.progress) {
                        if sample.leading {
                            source.skip(position);
                        }
                        continue;
                    }
                    if !sample.is_audio() || source.choice.video.is_none() {
                        self.progress.time = Some(sample.decode_time);
                    }
                    source.pushing = Some(position);
                    let pushed = self.push(&sample, group, position);
                    if let Some(source) = &mut self.source {
                        source.pushed(pushed);
                    }
                    if !pushed {
                        return false;
                    }
                    continue;
                }
            };
            self.muxer.requests.changed();
            let Some(chunks) = chunks else { return false };
            self.publish(chunks, None);
        }
        true
    }

    /// If the settings of the stream have changed, tells the guest its renditions, and lets the feed be chosen again.
    /// Returns false if the guest failed.
    fn take_over_changes(&mut self, lease: &StreamLease) -> bool {
        let changes = self.stream.changes();
        if self.progress.changes == changes {
            return true;
        }
        self.progress.changes = changes;
        if let Some(source) = &mut self.source {
            source.chosen_for = None;
        }
        let names = |all: &[Rendition]| -> Vec<String> {
            let names = all.iter().map(|one| one.offer.rendition.clone());
            names.collect()
        };
        let renditions = self.renditions(lease);
        // Others, or with other figures than those of a measurement.
        let differ = names(&renditions) != names(&self.progress.renditions);
        self.progress.renditions = renditions;
        let info = self.source.as_ref().and_then(|source| source.info.clone());
        match info.filter(|_| differ) {
            Some(info) => self.announce(lease, &info),
            None => true,
        }
    }

    /// Chooses the feed whose format the transport takes, if none is chosen, the source has begun another epoch, or the
    /// settings have changed. Returns false while the tracks of the source are unknown or do not fit.
    fn choose_source(&mut self, lease: &StreamLease) -> bool {
        // The source's own feed reports changes of its tracks itself, as `Configure` entries.
        if self
            .source
            .as_ref()
            .is_some_and(|source| source.derived.is_none() && source.chosen_for.is_some())
        {
            return true;
        }
        let (Some(profile), Some(info)) = (&self.profile, lease.feed().info()) else {
            return false;
        };
        if let Some(source) = &mut self.source
            && source.chosen_for == Some(info.epoch)
        {
            return true;
        }
        let profile = profile.clone();
        let waited_since = self.waited_since.take();
        let chosen = self.stream.choose(&self.variant, &info, &profile.formats);
        if let (Some(source), Some(choice)) = (&mut self.source, chosen)
            && source.choice.recipe == choice.recipe
        {
            (source.choice, source.chosen_for) = (choice, Some(info.epoch));
            return true;
        }
        self.source = None;
        let Some(choice) = chosen else {
            let text = self.unsupported_format(&info, &profile);
            self.refuse_all(&Refusal::Format(text));
            return false;
        };
        let past = HistorySpan {
            group_ms: profile.group_ms,
            groups: profile.history,
        };
        let derived = loop {
            let derived = choice.recipe.map(|recipe| lease.derived_feed(recipe, past));
            match derived.transpose() {
                Ok(derived) => break derived,
                Err(DeriveError::TooMany)
                    if let Some(ending) = self.muxers.evict_unused(&self.muxer) =>
                {
                    let _ = ending.join();
                }
                Err(error) => {
                    self.refuse_all(&Refusal::Unavailable(error.to_string()));
                    return false;
                }
            }
        };
        let chosen_for = Some(info.epoch);
        let feed = derived
            .as_ref()
            .map_or(lease.feed(), |derived| derived.feed());
        let takes_audio = profile.formats.iter().any(|format| format.is_audio());
        let reader = feed.reader(if takes_audio {
            WakeOn::All
        } else {
            WakeOn::VideoOnly
        });
        let waited_since = waited_since.filter(|_| derived.is_none());
        let (position, info) =
            reader.start_and_retain(profile.group_ms, profile.history, waited_since);
        self.source = Some(Source {
            reader,
            choice,
            position,
            info: info.clone(),
            gate: Gate::new(&profile, true),
            caught_up: false,
            skipped: BTreeSet::new(),
            pushing: None,
            derived,
            chosen_for,
        });
        info.is_none_or(|info| self.announce(lease, &info))
    }

    /// Message for a stream that has no format for the transport.
    fn unsupported_format(&self, info: &Info, profile: &Profile) -> String {
        let (stream, transport) = (&self.muxer.stream, &self.transport.name);
        let takes_video = profile.formats.iter().any(|format| !format.is_audio());
        let takes_audio = profile.formats.iter().any(|format| format.is_audio());
        match (&info.video, &info.audio) {
            (None, Some(_)) if !takes_audio => {
                format!(
                    "stream `{stream}` has audio only, and transport `{transport}` takes video only"
                )
            }
            (Some(_), None) if !takes_video => {
                format!(
                    "stream `{stream}` has no audio, and transport `{transport}` takes audio only"
                )
            }
            _ => format!(
                "transport `{transport}` takes no format that stream `{stream}` can be converted to"
            ),
        }
    }

    /// Requests a repeat of the last frame if the source is silent and the transport wants repeats; returns when to
    /// check next.
    pub(super) fn fill_silence(&self, now: Instant) -> Option<Instant> {
        let (Some(_), Some(source)) = (&self.instance, &self.source) else {
            return None;
        };
        source.reader.repeat(now, self.profile.as_ref()?.repeat?)
    }

    /// Requests a keyframe from the source or encoder if a viewer or the guest waits for one, at most every
    /// [`KEYFRAME_INTERVAL`].
    pub(super) fn request_keyframe(&mut self, lease: &StreamLease, now: Instant) {
        let Some(source) = &self.source else { return };
        let pending = &mut self.keyframe;
        // A feed without samples will begin with a keyframe anyway.
        if source.reader.end() == 0 || !self.muxer.outlet.start_wanted() {
            pending.waited_since = None;
        } else if now >= *pending.waited_since.get_or_insert(now) + KEYFRAME_WAIT {
            pending.wanted = true;
        }
        if !pending.wanted
            || pending
                .requested_at
                .is_some_and(|requested_at| now < requested_at + KEYFRAME_INTERVAL)
        {
            return;
        }
        match &source.derived {
            Some(derived) => derived.keyframes().request(),
            None => lease.keyframes().request(),
        }
        (pending.wanted, pending.requested_at) = (false, Some(now));
    }

    /// Configures the guest with the tracks and publishes the resulting header. Ignores `info` of an older epoch: a
    /// newly chosen feed may begin before the discontinuity that led to it. Returns false if the guest failed.
    fn announce(&mut self, lease: &StreamLease, info: &Arc<Info>) -> bool {
        if self.progress.epoch > Some(info.epoch) {
            if let Some(source) = &mut self.source {
                source.gate.wants_start = true;
            }
            return true;
        }
        if self.progress.epoch != Some(info.epoch) {
            self.progress.epoch = Some(info.epoch);
            self.progress.renditions = self.renditions(lease);
        }
        self.mirror(&Step::Configure(info.clone()));
        let header = self.configure(info);
        let known = header.is_some();
        if let Some(header) = header {
            self.muxer.outlet.set_header(header);
            self.compare_headers();
        }
        known
    }

    fn configure(&mut self, info: &Info) -> Option<Header> {
        let setting = self.setting()?;
        self.muxer.requests.changed();
        let header = self.call_guest(|instance| configure(instance, info, &setting));
        header.map(Header::new)
    }

    /// What guests are configured with now. A new instance gets the same renditions as the previous one.
    pub(super) fn setting(&self) -> Option<Setting> {
        let source = self.source.as_ref()?;
        let group_ms = self.profile.as_ref()?.group_ms;
        let longest = source.reader.longest_group(group_ms) * 1000 / u64::from(TIMESCALE);
        Some(Setting {
            choice: source.choice,
            renditions: self.progress.renditions.clone(),
            longest_group_ms: u32::try_from(longest).unwrap_or(u32::MAX),
        })
    }

    /// All renditions of the stream, with their URLs for this transport.
    fn renditions(&self, lease: &StreamLease) -> Vec<Rendition> {
        let (Some(profile), Some(info)) = (&self.profile, lease.feed().info()) else {
            return Vec::new();
        };
        let offers = self.stream.offers(&info, &profile.formats);
        let (stream, transport) = (&self.stream.name, &self.transport.name);
        let base = |to: &str| base(stream, transport, &self.variant.rendition, to);
        offers
            .into_iter()
            .map(|offer| Rendition {
                base: base(&offer.rendition),
                offer,
            })
            .collect()
    }

    /// Replays the retained history to a new instance. The chunks are discarded, since viewers got them from the
    /// previous one.
    pub(super) fn replay(&mut self) -> bool {
        // Only the last header is published: viewers already have the earlier ones.
        let mut header = None;
        for step in self.history() {
            let worked = match step {
                Step::Configure(info) => {
                    header = self.configure(&info);
                    header.is_some()
                }
                Step::Push(sample, group, position) => {
                    if let Some(source) = &mut self.source {
                        source.pushing = Some(position);
                    }
                    let pushed = self.try_guest(|instance| instance.push(&sample, group));
                    if let Some(source) = &mut self.source {
                        source.pushed(pushed.is_some());
                    }
                    pushed.is_some()
                }
                Step::Stop(reason) => self
                    .try_guest(|instance| instance.stop(&reason, false))
                    .is_some(),
            };
            if !worked {
                return false;
            }
        }
        if let Some(header) = header {
            self.muxer.outlet.set_header(header);
        }
        true
    }

    /// What a new instance has to be given to be where the previous one is: the retained history, up to the next entry
    /// to process.
    pub(super) fn history(&self) -> Vec<Step> {
        let (Some(source), Some(profile)) = (&self.source, &self.profile) else {
            return Vec::new();
        };
        let (end, group_ms) = (source.position, profile.group_ms);
        let (mut position, mut info) =
            source
                .reader
                .start_and_retain(group_ms, profile.history, None);
        if position >= end {
            (position, info) = (end, source.info.clone());
        }
        let mut steps: Vec<Step> = info.into_iter().map(Step::Configure).collect();
        let mut gate = Gate::new(profile, false);
        while position < end {
            match source.reader.next(position, group_ms) {
                Next::Entry(Entry::Sample(sample), group) => {
                    let leads = !sample.is_audio() || source.choice.video.is_none();
                    let is_wanted = !source.skipped.contains(&position)
                        && !profile.skips(&sample)
                        && source.choice.format(sample.codec()).is_some()
                        && match leads {
                            true => {
                                gate.admits(&sample, position, group.number, true, &source.reader)
                            }
                            false => !gate.wants_start,
                        };
                    if is_wanted {
                        steps.push(Step::Push(sample, group, position));
                    }
                }
                Next::Entry(Entry::Configure(info), _) => steps.push(Step::Configure(info)),
                Next::Entry(Entry::Stop(reason), _) => steps.push(Step::Stop(reason)),
                Next::Wait | Next::Lost(..) => break,
            }
            position += 1;
        }
        steps
    }
}

/// Calls `configure` of an instance.
pub(super) fn configure(
    instance: &mut Instance,
    info: &Info,
    setting: &Setting,
) -> Result<Vec<Content>, Failure> {
    let Setting {
        choice,
        renditions,
        longest_group_ms,
    } = setting;
    instance.configure(info, *choice, renditions, *longest_group_ms)
}

/// Relative URL from one rendition of a stream to another, for the same transport.
fn base(stream: &str, transport: &str, from: &str, to: &str) -> String {
    let [stream, transport, rendition] = [stream, transport, to].map(config::path_segment);
    match to {
        to if to == from => String::new(),
        "" => format!("../../{stream}/{transport}/"),
        _ => format!("../../{stream}@{rendition}/{transport}/"),
    }
}

/// Track and time of a sample, as viewers get them.
pub(super) fn sample_time(sample: &Sample) -> SampleTime {
    SampleTime {
        track: if sample.is_audio() {
            Track::Audio
        } else {
            Track::Video
        },
        decode: sample.decode_time,
        presentation: sample.presentation_time(),
    }
}

#[cfg(test)]
mod tests {
    use super::base;

    #[test]
    fn renditions_are_found_by_relative_urls() {
        assert_eq!(base("porch", "hls", "", ""), "");
        assert_eq!(base("porch", "hls", "mobile", "mobile"), "");
        assert_eq!(
            base("porch", "hls", "", "mobile"),
            "../../porch@mobile/hls/"
        );
        assert_eq!(base("porch", "hls", "mobile", ""), "../../porch/hls/");
        assert_eq!(
            base("front door", "my hls", "a", "b/c"),
            "../../front%20door@b%2Fc/my%20hls/"
        );
    }
}
