//! The way of samples: the feed that fits the transport, followed into the outlet, and replayed to a new instance.

use super::Actor;
use crate::{Chunk, Profile, Rendition, muxer::Refusal};
use sluicegate_config as config;
use sluicegate_media::{group::Group, sample::Sample, time::TIMESCALE};
use sluicegate_stream::{
    DerivedFeed, Entry, Info, MakeError, Next, Past, Reader, Selection, StreamLease, WakeOn,
};
use sluicegate_viewer::{Header, SampleTime, Track};
use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// Samples taken before requests are looked at again.
const BATCH: usize = 64;
/// A viewer waits this long for a start point before a keyframe is asked for; from one request to the next.
const KEYFRAME_WAIT: Duration = Duration::from_millis(100);
const KEYFRAME_PAUSE: Duration = Duration::from_secs(1);

/// The feed that fits the transport, and the place in it.
pub(super) struct Source {
    reader: Reader,
    choice: Selection,
    /// The next entry that viewers have not seen the outcome of.
    position: u64,
    /// The tracks at `position`.
    info: Option<Arc<Info>>,
    gate: Gate,
    /// Everything that was there when it was chosen has been read.
    current: bool,
    /// Samples on which the guest failed, or that led its start.
    left_out: BTreeSet<u64>,
    /// The one that it is given now.
    pushing: Option<u64>,
    /// Keeps what is made for it coming.
    made: Option<Arc<DerivedFeed>>,
    /// The newest epoch of the stream's source when this was chosen.
    chosen_for: u32,
}

impl Source {
    /// There is no guest to read for.
    pub(super) fn rest(&self) {
        self.reader.rest();
    }

    /// A new instance is not given this sample either.
    fn leave_out(&mut self, position: u64) {
        self.left_out.insert(position);
        let recent = |left_out: &u64| left_out + (1 << 16) > position;
        self.left_out.retain(recent);
    }

    /// What the guest was given when the host panicked is not given to it again.
    pub(super) fn leave_out_pushed(&mut self) {
        if let Some(position) = self.pushing.take() {
            self.leave_out(position);
        }
    }

    /// Whether the guest is still being given the past: what it would answer now is old.
    pub(super) fn is_behind(&self) -> bool {
        !self.current
    }

    /// Whether the sample at `position` is for this transport, and after what it was given before.
    fn wants(&mut self, sample: &Sample, position: u64, group: Group, reached: &Reached) -> bool {
        if self.choice.format(sample.codec()).is_none() {
            return false;
        }
        if sample.is_sound() && self.choice.video.is_some() {
            return !self.gate.wants_start;
        }
        // Another feed begins with what was perhaps seen in the one before.
        let is_new = reached.time.is_none_or(|time| sample.decode_time > time);
        self.gate
            .admits(sample, position, group.number, is_new, &self.reader)
    }
}

/// Where a guest may start, of the samples that groups begin with.
struct Gate {
    /// Samples are passed over until one that the guest may start at.
    wants_start: bool,
    /// The guest began with the newest independent one, so what leads it is passed over.
    joined: bool,
    /// It gets groups from their first sample on or not at all: who answers requests addresses them by their numbers, and a part
    /// of one is not what other renditions have under that number.
    whole: Option<Whole>,
    /// The newest of which the guest was given samples.
    group: Option<u64>,
}

struct Whole {
    group_ms: u32,
    /// The newest that was looked at.
    group: Option<u64>,
}

impl Gate {
    fn new(profile: &Profile, wants_start: bool) -> Gate {
        let whole = profile.lanes.is_empty().then_some(Whole {
            group_ms: profile.group_ms,
            group: None,
        });
        Gate {
            wants_start,
            joined: false,
            whole,
            group: None,
        }
    }

    /// Whether the sample is past the gate; `is_new`: the guest may start here.
    fn admits(
        &mut self,
        sample: &Sample,
        position: u64,
        group: u64,
        is_new: bool,
        reader: &Reader,
    ) -> bool {
        // A group whose start was lost does not begin with the last picture of the one before.
        let is_other = sample.repeat > 0 && !sample.independent;
        if is_other && self.group.is_some_and(|newest| group > newest) {
            return false;
        }
        let mut starts = sample.independent;
        if let Some(whole) = &mut self.whole
            && (self.wants_start || whole.group != Some(group))
        {
            starts = starts && reader.opens_group(whole.group_ms, position);
            self.wants_start |= !starts;
            whole.group = Some(group);
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

/// How far the guest was brought, whichever feed it was from.
#[derive(Default)]
pub(super) struct Reached {
    /// The newest epoch that it was told of.
    epoch: Option<u32>,
    /// The newest decode time of what groups begin with: pictures, if there are any.
    time: Option<u64>,
    /// The forms of the stream that it was told of, in that epoch.
    renditions: Vec<Rendition>,
}

/// That whoever encodes makes a keyframe.
#[derive(Default)]
pub(super) struct KeyframeWish {
    pub(super) wanted: bool,
    /// Since when a viewer has been waiting for a start point.
    waited_since: Option<Instant>,
    asked: Option<Instant>,
}

impl Actor {
    /// Pushes what is new; says whether there is more.
    pub(super) fn follow(&mut self, lease: &StreamLease) -> bool {
        if self.instance.is_none() || !self.choose_source(lease) {
            return false;
        }
        for _ in 0..BATCH {
            let (Some(source), Some(profile)) = (&mut self.source, &self.profile) else {
                return true;
            };
            let group_ms = profile.group_ms;
            let position = source.position;
            let mut made_for = None;
            // Asked before, as it goes on being made meanwhile.
            let made = source.made.as_ref().is_none_or(|made| made.is_current());
            let chunks = match source.reader.next(position, group_ms) {
                Next::Wait => {
                    source.current |= made;
                    return false;
                }
                Next::Lost(on, info) => {
                    self.muxer.usage.overruns.fetch_add(1, Ordering::Relaxed);
                    source.position = on;
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
                    if source.made.is_none() {
                        let formats = self.profile.as_ref().map(|profile| &profile.formats[..]);
                        let choice = self
                            .stream
                            .choose(&self.variant, &info, formats.unwrap_or_default())
                            .filter(|choice| choice.recipe.is_none());
                        let Some(choice) = choice else {
                            // Found again by `choose_source`.
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
                    self.ask(|instance| instance.stop(&reason, false))
                }
                Next::Entry(Entry::Sample(sample), group) => {
                    source.position += 1;
                    if profile.passes_over(&sample) {
                        continue;
                    }
                    if !source.wants(&sample, position, group, &self.reached) {
                        if sample.leading {
                            source.leave_out(position);
                        }
                        continue;
                    }
                    if !sample.is_sound() || source.choice.video.is_none() {
                        self.reached.time = Some(sample.decode_time);
                    }
                    source.pushing = Some(position);
                    made_for = Some(sample_time(&sample));
                    let pushed = self.ask(|instance| instance.push(&sample, group));
                    if let Some(source) = &mut self.source {
                        source.pushing = None;
                    }
                    if pushed.is_none()
                        && let Some(source) = &mut self.source
                    {
                        source.leave_out(position);
                    }
                    pushed
                }
            };
            self.muxer.requests.changed();
            let Some(chunks) = chunks else { return false };
            let at = self.began.elapsed();
            self.muxer
                .outlet
                .publish(chunks.into_iter().map(Chunk::into_parts), at, made_for);
        }
        true
    }

    /// Finds the feed whose format the transport takes. False while the source's tracks are unknown or do not fit.
    fn choose_source(&mut self, lease: &StreamLease) -> bool {
        // What passes untouched tells itself that it changes.
        if self
            .source
            .as_ref()
            .is_some_and(|source| source.made.is_none())
        {
            return true;
        }
        let (Some(profile), Some(info)) = (&self.profile, lease.feed().info()) else {
            return false;
        };
        if let Some(source) = &mut self.source
            && source.chosen_for == info.epoch
        {
            return true;
        }
        let profile = profile.clone();
        let waited_since = self.waited_since.take();
        let chosen = self.stream.choose(&self.variant, &info, &profile.formats);
        if let (Some(source), Some(choice)) = (&mut self.source, chosen)
            && source.choice.recipe == choice.recipe
        {
            (source.choice, source.chosen_for) = (choice, info.epoch);
            return true;
        }
        self.source = None;
        let Some(choice) = chosen else {
            let text = self.unfitting(&info, &profile);
            self.refuse_all(&Refusal::Format(text));
            return false;
        };
        let past = Past {
            group_ms: profile.group_ms,
            groups: profile.history,
        };
        let made = loop {
            let made = choice.recipe.map(|recipe| lease.make(recipe, past));
            match made.transpose() {
                Ok(made) => break made,
                Err(MakeError::TooMany)
                    if let Some(ending) = self.muxers.make_room(&self.muxer) =>
                {
                    let _ = ending.join();
                }
                Err(error) => {
                    self.refuse_all(&Refusal::Unavailable(error.to_string()));
                    return false;
                }
            }
        };
        let chosen_for = info.epoch;
        let feed = made.as_ref().map_or(lease.feed(), |made| made.feed());
        let hears = profile.formats.iter().any(|format| format.is_sound());
        let reader = feed.reader(if hears {
            WakeOn::All
        } else {
            WakeOn::VideoOnly
        });
        let waited_since = waited_since.filter(|_| made.is_none());
        let (position, info) =
            reader.start_and_hold(profile.group_ms, profile.history, waited_since);
        self.source = Some(Source {
            reader,
            choice,
            position,
            info: info.clone(),
            gate: Gate::new(&profile, true),
            current: false,
            left_out: BTreeSet::new(),
            pushing: None,
            made,
            chosen_for,
        });
        info.is_none_or(|info| self.announce(lease, &info))
    }

    /// Why the transport can have nothing of the stream.
    fn unfitting(&self, info: &Info, profile: &Profile) -> String {
        let (stream, transport) = (&self.muxer.stream, &self.transport.name);
        let sees = profile.formats.iter().any(|format| !format.is_sound());
        let hears = profile.formats.iter().any(|format| format.is_sound());
        match (&info.video, &info.audio) {
            (None, Some(_)) if !hears => {
                format!(
                    "`{stream}` has sound only, and transport `{transport}` takes pictures only"
                )
            }
            (Some(_), None) if !sees => {
                format!("`{stream}` has no sound, and transport `{transport}` takes nothing else")
            }
            _ => format!("transport `{transport}` takes nothing that `{stream}` can be made into"),
        }
    }

    /// Has the last picture repeated in a silence, if the transport wants that; says when to look next.
    pub(super) fn fill_silence(&self, now: Instant) -> Option<Instant> {
        let (Some(_), Some(source)) = (&self.instance, &self.source) else {
            return None;
        };
        source.reader.repeat(now, self.profile.as_ref()?.repeat?)
    }

    /// Asks whoever encodes, if somebody waits for it and the last request was not just before.
    pub(super) fn ask_for_keyframe(&mut self, lease: &StreamLease, now: Instant) {
        let Some(source) = &self.source else { return };
        let wish = &mut self.keyframe;
        // What has not begun begins with one.
        if source.reader.end() == 0 || !self.muxer.outlet.start_wanted() {
            wish.waited_since = None;
        } else if now >= *wish.waited_since.get_or_insert(now) + KEYFRAME_WAIT {
            wish.wanted = true;
        }
        if !wish.wanted || wish.asked.is_some_and(|asked| now < asked + KEYFRAME_PAUSE) {
            return;
        }
        match &source.made {
            Some(made) => made.keyframes().ask(),
            None => lease.keyframes().ask(),
        }
        (wish.wanted, wish.asked) = (false, Some(now));
    }

    /// Tells the guest of the tracks, and the viewers of the header that follows from them. Not of what is over: another feed may
    /// begin before the break that led to it.
    fn announce(&mut self, lease: &StreamLease, info: &Info) -> bool {
        if self.reached.epoch > Some(info.epoch) {
            if let Some(source) = &mut self.source {
                source.gate.wants_start = true;
            }
            return true;
        }
        if self.reached.epoch != Some(info.epoch) {
            self.reached.epoch = Some(info.epoch);
            self.reached.renditions = self.renditions(lease);
        }
        let header = self.configure(info);
        let known = header.is_some();
        if let Some(header) = header {
            self.muxer.outlet.set_header(header);
        }
        known
    }

    fn configure(&mut self, info: &Info) -> Option<Header> {
        let source = self.source.as_ref()?;
        let choice = source.choice;
        let group_ms = self.profile.as_ref()?.group_ms;
        let longest = source.reader.longest_group(group_ms) * 1000 / u64::from(TIMESCALE);
        let longest = u32::try_from(longest).unwrap_or(u32::MAX);
        self.muxer.requests.changed();
        // A new instance is told what the one before was told.
        let renditions = std::mem::take(&mut self.reached.renditions);
        let header = self.ask(|instance| instance.configure(info, choice, &renditions, longest));
        self.reached.renditions = renditions;
        header.map(Header::new)
    }

    /// All forms of the stream, and where this transport has them.
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

    /// Feeds a new instance what the old one knew; what it gives out was given out before.
    pub(super) fn replay(&mut self) -> bool {
        let (Some(source), Some(profile)) = (&self.source, self.profile.clone()) else {
            return true;
        };
        let (end, group_ms) = (source.position, profile.group_ms);
        let (mut position, mut info) =
            source
                .reader
                .start_and_hold(group_ms, profile.history, None);
        if position >= end {
            (position, info) = (end, source.info.clone());
        }
        // The header counts once, at the end: who watches has got those in between.
        let mut header = None;
        let mut gate = Gate::new(&profile, false);
        if let Some(info) = info {
            header = self.configure(&info);
            if header.is_none() {
                return false;
            }
        }
        while position < end {
            let Some(source) = &self.source else {
                return true;
            };
            let leads = |sample: &Sample| !sample.is_sound() || source.choice.video.is_none();
            let worked = match source.reader.next(position, group_ms) {
                Next::Entry(Entry::Sample(sample), group)
                    if source.left_out.contains(&position)
                        || profile.passes_over(&sample)
                        || source.choice.format(sample.codec()).is_none()
                        || !match leads(&sample) {
                            true => {
                                gate.admits(&sample, position, group.number, true, &source.reader)
                            }
                            false => !gate.wants_start,
                        } =>
                {
                    true
                }
                Next::Entry(Entry::Sample(sample), group) => {
                    if let Some(source) = &mut self.source {
                        source.pushing = Some(position);
                    }
                    let pushed = self.ask(|instance| instance.push(&sample, group)).is_some();
                    if let Some(source) = &mut self.source {
                        let pushing = source.pushing.take().filter(|_| !pushed);
                        source.left_out.extend(pushing);
                    }
                    pushed
                }
                Next::Entry(Entry::Configure(info), _) => {
                    header = self.configure(&info);
                    header.is_some()
                }
                Next::Entry(Entry::Stop(reason), _) => {
                    self.ask(|instance| instance.stop(&reason, false)).is_some()
                }
                Next::Wait | Next::Lost(..) => break,
            };
            if !worked {
                return false;
            }
            position += 1;
        }
        if let Some(header) = header {
            self.muxer.outlet.set_header(header);
        }
        true
    }
}

/// From one form of a stream to another, by the same transport.
fn base(stream: &str, transport: &str, from: &str, to: &str) -> String {
    let [stream, transport, rendition] = [stream, transport, to].map(config::path_segment);
    match to {
        to if to == from => String::new(),
        "" => format!("../../{stream}/{transport}/"),
        _ => format!("../../{stream}@{rendition}/{transport}/"),
    }
}

fn sample_time(sample: &Sample) -> SampleTime {
    SampleTime {
        track: if sample.is_sound() {
            Track::Audio
        } else {
            Track::Video
        },
        decode: sample.decode_time,
        presentation: sample.shown_at(),
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
