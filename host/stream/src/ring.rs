//! The recent past of a stream: samples and the discontinuities between them, in order. Pure.
//!
//! A [`Ring`] is a bounded queue of [`Entry`]s at positions that only rise, so that any number of readers can be
//! cursors over it. It evicts by bytes, time span and count, but never what a registered reader still needs: the newest
//! `history` groups of each reader, and the part of the past that a reader has not read yet. Only the limit of entries
//! and twice the limit of bytes override that: then whole groups go, and finally the front of the newest group, which
//! is reported as cut.
//!
//! Groups are counted in a [`GroupIndex`] that a source's ring shares with the rings derived from it
//! ([`GroupNumbers`]), so that numbers agree in all forms of a stream. `feed` wraps a ring with a lock and wake-ups.

use super::Info;
use parking_lot::{Mutex, MutexGuard};
use sluicegate_media::{
    group::{Group, GroupBoundary, GroupIndex},
    sample::Sample,
    time::{TIMESCALE, ticks},
};
use sluicegate_telemetry::{Sequence, Size};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Limits on what a ring keeps beyond the `history` that muxers need. A group larger than `bytes` is cut.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of coded media.
    pub bytes: usize,
    /// Span of decode times, in ticks of [`sluicegate_media::time::TIMESCALE`].
    pub span: u64,
    /// Entries of any kind except repeats.
    pub entries: usize,
    /// Repeats of a frame, which are small.
    pub repeats: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            bytes: 32 << 20,
            span: 15 * u64::from(TIMESCALE),
            entries: 16_384,
            // Two hours, at ten per second.
            repeats: 72_000,
        }
    }
}

/// How a ring numbers its groups: a handle to the group index of the stream's run.
#[derive(Clone, Debug)]
pub struct GroupNumbers {
    index: Arc<Mutex<GroupIndex>>,
    boundary: GroupBoundary,
    /// Whether this ring's own samples are recorded in the index; other rings only look up.
    writes: bool,
}

impl GroupNumbers {
    /// Creates an index that the ring's own samples are recorded in. `cell` is the keyframe interval of
    /// [`GroupIndex::new`], for the H.264 that is encoded from it.
    pub fn own(started_at_us: u64, cell: Duration) -> GroupNumbers {
        GroupNumbers {
            index: Arc::new(Mutex::new(GroupIndex::new(started_at_us, ticks(cell)))),
            boundary: GroupBoundary::Every,
            writes: true,
        }
    }

    /// Numbering for a ring with the same samples, which only looks up.
    pub fn followed(&self) -> GroupNumbers {
        GroupNumbers {
            writes: false,
            ..self.clone()
        }
    }

    /// Numbering for a ring of H.264 that is encoded from this ring's samples.
    pub fn encoded(&self) -> GroupNumbers {
        GroupNumbers {
            boundary: GroupBoundary::Keyframes,
            ..self.followed()
        }
    }

    /// Length of the longest complete group at `group_ms` since the newest discontinuity, in ticks; 0 before there is
    /// one.
    pub fn longest(&self, group_ms: u32) -> u64 {
        self.lock().longest(group_ms, self.boundary)
    }

    /// Presentation time of the source's keyframe that a frame presented at `presented_at` belongs to.
    pub fn keyframe(&self, presented_at: u64) -> Option<u64> {
        self.lock().keyframe(presented_at)
    }

    /// Whether the ring's own samples are recorded in the index.
    pub fn is_own(&self) -> bool {
        self.writes
    }

    /// Starts numbering groups of `group_ms`, including those that are already in the index.
    fn need(&self, group_ms: u32) {
        self.lock().need(group_ms);
    }

    fn lock(&self) -> MutexGuard<'_, GroupIndex> {
        self.index.lock()
    }
}

/// How much of the past a muxer wants, in groups; the newest group counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistorySpan {
    /// Minimum length of a group, in milliseconds.
    pub group_ms: u32,
    /// Number of groups, at least 1.
    pub groups: u32,
}

impl HistorySpan {
    /// Number of groups to encode for a consumer that wants all of them: four complete ones and the one in progress, or
    /// more where groups are short. Players begin three target durations behind the live edge.
    fn groups_to_encode(self) -> u32 {
        const WHOLE: u32 = 4;
        const SPAN_MS: u32 = 8000;
        let short = SPAN_MS.checked_div(self.group_ms).unwrap_or(0);
        self.groups.clamp(1, WHOLE.max(short) + 1)
    }

    /// Greatest age of what is encoded from the past, in ticks. Encoding more would take longer than it is worth.
    fn max_encode_age(self) -> u64 {
        let seconds = if self.groups > 1 { 20 } else { 4 };
        seconds * u64::from(TIMESCALE)
    }
}

/// One event of a stream.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A discontinuity: the samples that follow belong to these tracks.
    Configure(Arc<Info>),
    /// One access unit or audio frame.
    Sample(Arc<Sample>),
    /// Nothing follows until the next `Configure`, for this reason.
    Stop(Arc<str>),
}

impl Size for Entry {
    fn size(&self) -> usize {
        match self {
            Entry::Sample(sample) => sample.size(),
            Entry::Configure(_) | Entry::Stop(_) => 0,
        }
    }
}

/// A bounded ring of entries, whose positions never repeat within a run.
///
/// Invariant: `info_at` knows the tracks for every retained position, also if their `Configure` was evicted. Cost: push
/// and get are O(1) amortised, finding a history start is O(log n).
#[derive(Debug)]
pub struct Ring {
    bounds: Bounds,
    entries: Sequence<Entry>,
    repeats: usize,
    /// Tracks at the front entry, if their `Configure` was evicted.
    front_info: Option<Arc<Info>>,
    info: Option<Arc<Info>>,
    /// Samples where a viewer may start, and groups may begin.
    starts: VecDeque<Start>,
    numbers: GroupNumbers,
    /// By reader.
    retentions: BTreeMap<u64, Retention>,
    /// Position of the newest frame that is not a repeat.
    newest_frame: Option<u64>,
    cut: bool,
}

/// What is retained for one reader.
#[derive(Clone, Copy, Debug)]
struct Retention {
    group_ms: u32,
    /// Number of groups.
    history: u32,
    /// Position of the next entry that it has not read of the past it started with.
    unread: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    position: u64,
    /// Presentation time that identifies it in the group index.
    presented_at: u64,
}

impl Ring {
    /// Creates an empty ring, whose groups are numbered by `numbers`.
    pub fn new(bounds: Bounds, numbers: GroupNumbers) -> Ring {
        Ring {
            bounds,
            entries: Sequence::default(),
            repeats: 0,
            front_info: None,
            info: None,
            starts: VecDeque::new(),
            numbers,
            retentions: BTreeMap::new(),
            newest_frame: None,
            cut: false,
        }
    }

    /// Appends an entry and evicts the oldest beyond the limits.
    pub fn push(&mut self, entry: Entry) {
        let position = self.end();
        match &entry {
            Entry::Sample(sample) => {
                self.repeats += usize::from(sample.repeat > 0);
                if self.may_start(sample) {
                    let presented_at = match self.numbers.writes {
                        true => self.numbers.lock().observe(sample),
                        false => sample.group_time.unwrap_or(sample.presentation_time()),
                    };
                    self.starts.push_back(Start {
                        position,
                        presented_at,
                    });
                    self.cut = false;
                }
                if !sample.is_audio() && sample.repeat == 0 {
                    self.newest_frame = Some(position);
                }
            }
            Entry::Configure(info) => {
                let codec = |info: &Info| info.video.as_ref().map(|video| video.codec);
                let before = self.info.replace(info.clone());
                // A reader cannot start in one codec and continue in another.
                if before.is_some_and(|before| codec(&before) != codec(info)) {
                    self.starts.clear();
                }
                self.close_group();
            }
            Entry::Stop(_) => self.close_group(),
        }
        self.entries.push(entry);
        self.evict();
    }

    /// Position after the newest entry.
    pub fn end(&self) -> u64 {
        self.entries.end()
    }

    /// Frames from the newest back to the last discontinuity, without repeats.
    pub fn frames(&self) -> impl Iterator<Item = &Arc<Sample>> {
        let samples = self.entries.iter().rev().map_while(|entry| match entry {
            Entry::Sample(sample) => Some(sample),
            _ => None,
        });
        samples.filter(|sample| sample.repeat == 0 && !sample.is_audio())
    }

    /// Whether the limit of repeats is reached. More of them would evict the frame that they repeat.
    pub fn is_full_of_repeats(&self) -> bool {
        self.repeats >= self.bounds.repeats
    }

    /// Position of the oldest entry.
    pub fn first(&self) -> u64 {
        self.entries.first()
    }

    /// Bytes of coded media in the ring.
    pub fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    /// The entry at `position`; `None` if it was evicted or does not exist yet.
    pub fn get(&self, position: u64) -> Option<&Entry> {
        self.entries.get(position)
    }

    /// The newest tracks.
    pub fn info(&self) -> Option<&Arc<Info>> {
        self.info.as_ref()
    }

    /// Tracks that a sample at `position` belongs to: the newest `Configure` before it.
    pub fn info_at(&self, position: u64) -> Option<Arc<Info>> {
        self.entries
            .before(position)
            .rev()
            .find_map(|entry| match entry {
                Entry::Configure(info) => Some(info.clone()),
                _ => None,
            })
            .or_else(|| self.front_info.clone())
    }

    /// Whether the newest group exceeded the ring's limits, so that a late viewer has to wait for the next independent
    /// sample.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Registers that reader `reader_id` needs groups of `group_ms` numbered and the newest `history` of them kept.
    pub fn need(&mut self, reader_id: u64, group_ms: u32, history: u32) {
        let need = Retention {
            group_ms,
            history,
            unread: None,
        };
        self.retentions.insert(reader_id, need);
        self.numbers.need(group_ms);
    }

    /// Retains everything from `unread` on while `reader_id` reads the past; `None` ends that. Otherwise a group that
    /// begins meanwhile would evict the oldest one before it is read. The limits in bytes and entries still apply.
    pub fn retain(&mut self, reader_id: u64, unread: Option<u64>) {
        if let Some(need) = self.retentions.get_mut(&reader_id) {
            need.unread = unread;
        }
    }

    /// Drops the needs of `reader_id`. Groups continue to be numbered, so that the next reader gets the same numbers.
    pub fn release(&mut self, reader_id: u64) {
        self.retentions.remove(&reader_id);
    }

    /// The group at `position` for muxers of `group_ms`. A repeat belongs to the group in which it is presented, even
    /// if the start of that group was lost, so that no group becomes longer than the source's.
    pub fn group(&self, group_ms: u32, position: u64) -> Option<Group> {
        let after = self
            .starts
            .partition_point(|start| start.position <= position);
        let start = self.starts.get(after.checked_sub(1)?)?.presented_at;
        let presented_at = match self.get(position) {
            Some(Entry::Sample(sample)) if sample.repeat > 0 => {
                start.max(sample.presentation_time())
            }
            _ => start,
        };
        let index = self.numbers.lock();
        index.group(group_ms, self.numbers.boundary, presented_at)
    }

    /// Whether a group of `group_ms` begins with the sample at `position`; false if that is not in the ring.
    pub fn opens_group(&self, group_ms: u32, position: u64) -> bool {
        let found = self
            .starts
            .binary_search_by_key(&position, |start| start.position);
        let start = found.ok().and_then(|at| self.starts.get(at));
        start.is_some_and(|start| {
            let index = self.numbers.lock();
            index.opens(group_ms, self.numbers.boundary, start.presented_at)
        })
    }

    /// Where a new instance starts: the sample that begins the `history`-th newest group still in the ring.
    pub fn history_start(&self, group_ms: u32, history: u32) -> Option<u64> {
        self.history_start_of(&self.numbers, group_ms, history)
    }

    /// Like [`Ring::history_start`], for what is derived from this ring's samples and numbers its groups by `numbers`.
    pub fn history_start_of(
        &self,
        numbers: &GroupNumbers,
        group_ms: u32,
        history: u32,
    ) -> Option<u64> {
        let newest = self.starts.back()?;
        let index = numbers.lock();
        let presented_at =
            index.history_start(group_ms, numbers.boundary, newest.presented_at, history);
        // The group is older than the index, or than the ring.
        let presented_at = presented_at.unwrap_or(newest.presented_at);
        let at = self
            .starts
            .partition_point(|start| start.presented_at < presented_at);
        self.starts.get(at).map(|start| start.position)
    }

    /// The oldest position where a reader may start.
    pub fn first_start(&self) -> Option<u64> {
        self.starts.front().map(|start| start.position)
    }

    /// How the groups of this ring are numbered.
    pub fn numbers(&self) -> &GroupNumbers {
        &self.numbers
    }

    /// Position of the newest frame that is not a repeat.
    pub fn newest_frame(&self) -> Option<u64> {
        self.newest_frame
    }

    /// Where something derived from this ring's samples begins, if it numbers its groups by `numbers` and should reach
    /// back as far as `past`: at the oldest of those groups that the ring has from its start. `None` if it has not even
    /// the newest from its start, or that began too long ago.
    pub fn past_start(&self, numbers: &GroupNumbers, past: HistorySpan) -> Option<u64> {
        numbers.need(past.group_ms);
        let newest = self.time_at(self.newest_frame?)?;
        let groups = past.groups_to_encode();
        let begins = |groups: u32| {
            let at = self.history_start_of(numbers, past.group_ms, groups)?;
            let start = self.starts.partition_point(|start| start.position < at);
            let presented_at = self.starts.get(start)?.presented_at;
            let opens = numbers
                .lock()
                .opens(past.group_ms, numbers.boundary, presented_at);
            let near = self.time_at(at)?.saturating_add(past.max_encode_age()) >= newest;
            (opens && near).then_some(at)
        };
        (1..=groups).rev().find_map(begins)
    }

    /// Decode time of the sample at `position`; `None` if there is no sample.
    pub fn time_at(&self, position: u64) -> Option<u64> {
        match self.get(position)? {
            Entry::Sample(sample) => Some(sample.decode_time),
            _ => None,
        }
    }

    /// Where a reader that fell behind resumes: the newest independent sample, if that is at or after `position`.
    pub fn newest_start_after(&self, position: u64) -> Option<u64> {
        self.starts
            .back()
            .map(|start| start.position)
            .filter(|start| *start >= position)
    }

    fn may_start(&self, sample: &Sample) -> bool {
        let info = self.info.as_ref();
        info.map_or(sample.independent, |info| info.starts_at(sample))
    }

    fn close_group(&mut self) {
        if self.numbers.writes {
            self.numbers.lock().close();
        }
    }

    fn evict(&mut self) {
        let needed = self
            .retentions
            .values()
            .flat_map(|need| [need.unread, self.history_start(need.group_ms, need.history)])
            .flatten()
            .chain(self.starts.back().map(|start| start.position))
            .min()
            .unwrap_or(self.end());
        while self.first() < needed && self.over(self.bounds.bytes, Some(self.bounds.span)) {
            self.pop();
        }
        // The needed entries may themselves exceed the limits: then whole groups go, and finally the newest one, from
        // its front.
        let mut shortened = false;
        while self.entries.len() > 1 && self.over(self.bounds.bytes * 2, None) {
            self.pop();
            shortened = true;
        }
        if shortened {
            while self.entries.len() > 1 && !self.starts_at_front() && self.starts.front().is_some()
            {
                self.pop();
            }
            self.cut = self.starts.is_empty();
        }
    }

    fn starts_at_front(&self) -> bool {
        self.starts
            .front()
            .is_some_and(|start| start.position == self.first())
    }

    fn over(&self, bytes: usize, span: Option<u64>) -> bool {
        if self.bytes() > bytes || self.entries.len() - self.repeats > self.bounds.entries {
            return true;
        }
        let time = |entry: &Entry| match entry {
            Entry::Sample(sample) => Some(sample.decode_time),
            _ => None,
        };
        match (
            span,
            self.entries.iter().find_map(time),
            self.entries.iter().rev().find_map(time),
        ) {
            (Some(span), Some(oldest), Some(newest)) => newest.saturating_sub(oldest) > span,
            _ => false,
        }
    }

    fn pop(&mut self) {
        match self.entries.pop() {
            Some(Entry::Sample(sample)) => self.repeats -= usize::from(sample.repeat > 0),
            Some(Entry::Configure(info)) => self.front_info = Some(info),
            Some(Entry::Stop(_)) | None => {}
        }
        let first = self.first();
        while self
            .starts
            .front()
            .is_some_and(|start| start.position < first)
        {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use sluicegate_media::{
        geometry::Geometry,
        sample::{Codec, Times, Video},
    };

    const SECOND: u64 = 90_000;

    fn sample(time: u64, independent: bool, size: usize) -> Entry {
        Entry::Sample(Arc::new(Sample::h264(
            Times {
                decode_time: time,
                ..Times::default()
            },
            independent,
            vec![Bytes::from(vec![0; size])],
        )))
    }

    fn info(epoch: u32) -> Entry {
        Entry::Configure(Arc::new(Info {
            started_at: 0,
            epoch,
            video: Some(Video {
                codec: Codec::H264,
                codec_string: String::new(),
                config: Bytes::new(),
                width: 16,
                height: 16,
                geometry: Geometry::default(),
                frame_rate: 30.0,
                keyframe_ms: 0,
            }),
            audio: None,
            coding: None,
        }))
    }

    fn small() -> Ring {
        Ring::new(
            Bounds {
                bytes: 1000,
                span: 15 * SECOND,
                entries: 1000,
                repeats: 100,
            },
            GroupNumbers::own(0, Duration::from_secs(1)),
        )
    }

    #[test]
    fn the_newest_group_stays_however_long_a_silence_was() {
        let mut ring = small();
        ring.need(1, 0, 1);
        ring.push(info(0));
        ring.push(sample(0, true, 10));
        ring.push(sample(3600 * SECOND, false, 10));
        assert_eq!(ring.history_start(0, 1), Some(1));
        assert!(matches!(ring.get(1), Some(Entry::Sample(first)) if first.independent));
    }

    #[test]
    fn a_group_larger_than_the_ring_is_cut_and_reported_until_the_next_start() {
        let mut ring = small();
        ring.need(1, 0, 1);
        ring.push(sample(0, true, 100));
        for n in 1..40 {
            ring.push(sample(n * 3000, false, 100));
        }
        assert!(ring.is_cut() && ring.bytes() <= 2000);
        assert_eq!(ring.history_start(0, 1), None);
        ring.push(sample(SECOND * 3, true, 100));
        assert!(!ring.is_cut());
        assert!(ring.history_start(0, 1).is_some());
    }

    #[test]
    fn tracks_of_an_evicted_break_are_remembered() {
        let mut ring = small();
        ring.push(info(0));
        for n in 0..40 {
            ring.push(sample(n * SECOND, true, 100));
        }
        ring.push(info(1));
        ring.push(sample(41 * SECOND, true, 100));
        assert!(ring.get(0).is_none());
        assert_eq!(ring.info_at(ring.first()).unwrap().epoch, 0);
        assert_eq!(ring.info_at(ring.end()).unwrap().epoch, 1);
    }

    #[test]
    fn a_start_is_never_before_a_change_of_format() {
        let mut ring = small();
        ring.need(1, 0, 2);
        ring.push(info(0));
        ring.push(sample(0, true, 10));
        let Entry::Configure(other) = info(1) else {
            unreachable!()
        };
        let mut other = Info::clone(&other);
        other.video.as_mut().unwrap().codec = Codec::Jpeg;
        ring.push(Entry::Configure(Arc::new(other)));
        assert_eq!(ring.history_start(0, 2), None);
        assert_eq!(ring.newest_start_after(0), None);
        ring.push(sample(SECOND, true, 10));
        assert_eq!(ring.history_start(0, 2), Some(3));
    }

    proptest! {
        #[test]
        fn bounds_hold_and_history_starts_at_an_independent_sample(
            steps in prop::collection::vec((1u64..20_000, prop::bool::weighted(0.1), 0usize..400, 0u8..40), 1..400),
            history in 1u32..4) {
            let mut ring = small();
            ring.need(7, 500, history);
            let mut time = 0;
            for (step, independent, size, event) in steps {
                time += step;
                match event { 0 => ring.push(info(0)), 1 => ring.push(Entry::Stop("gone".into())), _ => ring.push(sample(time, independent, size)) }
                prop_assert!(ring.bytes() <= 2000 || ring.end() - ring.first() == 1);
                if let Some(start) = ring.history_start(500, history) {
                    prop_assert!(matches!(ring.get(start), Some(Entry::Sample(sample)) if sample.independent));
                }
                let held: usize = (ring.first()..ring.end()).filter_map(|at| match ring.get(at) {
                    Some(Entry::Sample(sample)) => Some(sample.size()), _ => None }).sum();
                prop_assert_eq!(held, ring.bytes());
            }
        }
    }
}
