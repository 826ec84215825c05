//! The recent past of a stream: samples and the breaks between them, in order. Pure.

use crate::media::{group::Groups, sample::Sample, sample::Track};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// How much of the past is kept beyond what muxers' `history` needs; a group larger than `bytes` is cut.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of coded pictures.
    pub bytes: usize,
    /// Ticks of [`crate::media::time::TIMESCALE`].
    pub span: u64,
    /// Entries of any kind.
    pub entries: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            bytes: 32 << 20,
            span: 15 * u64::from(crate::media::time::TIMESCALE),
            entries: 16_384,
        }
    }
}

/// What the samples after a break are.
#[derive(Clone, Debug)]
pub struct Info {
    /// Unix microseconds at decode time 0 of this run.
    pub started_at: u64,
    /// Breaks of this run so far.
    pub epoch: u32,
    /// The video track.
    pub track: Track,
}

/// One thing that happened to a stream.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A break: the samples that follow are of these tracks.
    Configure(Arc<Info>),
    /// One access unit.
    Sample(Arc<Sample>),
    /// Nothing comes until the next `Configure`, for this reason.
    Stop(Arc<str>),
}

/// A ring of entries with positions that never repeat in a run.
///
/// Invariant: whatever a reader at a retained position needs to know of the tracks is `info_at`. Cost: push and
/// get are O(1) amortised, finding a history start O(log n).
#[derive(Debug)]
pub struct Ring {
    bounds: Bounds,
    entries: VecDeque<Entry>,
    /// Position of the front entry.
    first: u64,
    bytes: usize,
    started_at_us: u64,
    /// Of the front entry, if a `Configure` was evicted.
    front_info: Option<Arc<Info>>,
    info: Option<Arc<Info>>,
    /// Independent samples, by position and decode time.
    starts: VecDeque<(u64, u64)>,
    groups: BTreeMap<u32, Groups>,
    /// What muxers need: `group-ms` and `history`, by whom.
    needs: BTreeMap<u64, (u32, u32)>,
    cut: bool,
}

impl Ring {
    /// An empty ring of a run that began at `started_at_us`.
    pub fn new(bounds: Bounds, started_at_us: u64) -> Ring {
        Ring {
            bounds,
            entries: VecDeque::new(),
            first: 0,
            bytes: 0,
            started_at_us,
            front_info: None,
            info: None,
            starts: VecDeque::new(),
            groups: BTreeMap::new(),
            needs: BTreeMap::new(),
            cut: false,
        }
    }

    /// Adds an entry and lets the oldest go.
    pub fn push(&mut self, entry: Entry) {
        let position = self.end();
        match &entry {
            Entry::Sample(sample) => {
                self.bytes += sample.size();
                if sample.independent {
                    self.starts.push_back((position, sample.decode_time));
                    self.cut = false;
                }
                for groups in self.groups.values_mut() {
                    groups.observe(sample.decode_time, sample.independent);
                }
            }
            Entry::Configure(info) => {
                let before = self.info.replace(info.clone());
                // Nobody starts in one format and goes on in another.
                if before.is_some_and(|before| before.track.codec != info.track.codec) {
                    self.starts.clear();
                }
                self.close_groups();
            }
            Entry::Stop(_) => self.close_groups(),
        }
        self.entries.push_back(entry);
        self.evict();
    }

    /// The position after the newest entry.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The position of the oldest entry.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Bytes of coded picture held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry at `position`; `None` if it is gone or not there yet.
    pub fn get(&self, position: u64) -> Option<&Entry> {
        self.entries
            .get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    /// The newest tracks.
    pub fn info(&self) -> Option<&Arc<Info>> {
        self.info.as_ref()
    }

    /// The tracks that a sample at `position` belongs to: the newest `Configure` before it.
    pub fn info_at(&self, position: u64) -> Option<Arc<Info>> {
        let before = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.entries
            .iter()
            .take(before)
            .rev()
            .find_map(|entry| match entry {
                Entry::Configure(info) => Some(info.clone()),
                _ => None,
            })
            .or_else(|| self.front_info.clone())
    }

    /// Whether the newest group outgrew the ring, so that a late viewer waits for the next independent sample.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Registers that `who` wants groups of `group_ms` numbered and `history` of them kept.
    pub fn need(&mut self, who: u64, group_ms: u32, history: u32) {
        self.needs.insert(who, (group_ms, history));
        let (entries, started_at_us) = (&self.entries, self.started_at_us);
        self.groups.entry(group_ms).or_insert_with(|| {
            let mut groups = Groups::new(group_ms, started_at_us);
            for entry in entries {
                match entry {
                    Entry::Sample(sample) => groups.observe(sample.decode_time, sample.independent),
                    _ => groups.close(),
                }
            }
            groups
        });
    }

    /// `who` needs nothing more. Numbering goes on, so that whoever comes next gets the same numbers.
    pub fn release(&mut self, who: u64) {
        self.needs.remove(&who);
    }

    /// The group of a sample at `decode_time`, for muxers of that `group_ms`.
    pub fn group(&self, group_ms: u32, decode_time: u64) -> Option<u64> {
        self.groups.get(&group_ms)?.at(decode_time)
    }

    /// Where a new instance starts: the sample that begins the `history`-th newest group that is still held.
    pub fn history_start(&self, group_ms: u32, history: u32) -> Option<u64> {
        let time = self.groups.get(&group_ms)?.history_start(history)?;
        let at = self.starts.partition_point(|(_, start)| *start < time);
        self.starts.get(at).map(|(position, _)| *position)
    }

    /// Where a reader that fell behind goes on: the newest independent sample at or after `position`.
    pub fn newest_start_after(&self, position: u64) -> Option<u64> {
        self.starts
            .back()
            .map(|(start, _)| *start)
            .filter(|start| *start >= position)
    }

    fn close_groups(&mut self) {
        self.groups.values_mut().for_each(Groups::close);
    }

    fn evict(&mut self) {
        let needed = self
            .needs
            .values()
            .filter_map(|(group_ms, history)| self.history_start(*group_ms, *history))
            .chain(self.starts.back().map(|(position, _)| *position))
            .min()
            .unwrap_or(self.end());
        while self.first < needed && self.over(self.bounds.bytes, Some(self.bounds.span)) {
            self.pop();
        }
        // What is needed may itself be too much: then whole groups go, and at last the newest one, from its front.
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
        if let Some(oldest) = self.entries.iter().find_map(|entry| match entry {
            Entry::Sample(sample) => Some(sample.decode_time),
            _ => None,
        }) {
            self.groups
                .values_mut()
                .for_each(|groups| groups.forget_before(oldest));
        }
    }

    fn starts_at_front(&self) -> bool {
        self.starts
            .front()
            .is_some_and(|(position, _)| *position == self.first)
    }

    fn over(&self, bytes: usize, span: Option<u64>) -> bool {
        if self.bytes > bytes || self.entries.len() > self.bounds.entries {
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
            (Some(span), Some(oldest), Some(newest)) => newest - oldest > span,
            _ => false,
        }
    }

    fn pop(&mut self) {
        match self.entries.pop_front() {
            Some(Entry::Sample(sample)) => self.bytes -= sample.size(),
            Some(Entry::Configure(info)) => self.front_info = Some(info),
            Some(Entry::Stop(_)) | None => {}
        }
        self.first += 1;
        while self
            .starts
            .front()
            .is_some_and(|(position, _)| *position < self.first)
        {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::media::sample::{Codec, Times};
    use bytes::Bytes;
    use proptest::prelude::*;

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
            track: Track {
                id: 1,
                codec: Codec::H264,
                codec_string: String::new(),
                config: Bytes::new(),
                width: 16,
                height: 16,
                frame_rate: 30.0,
                keyframe_ms: 0,
            },
        }))
    }

    fn small() -> Ring {
        Ring::new(
            Bounds {
                bytes: 1000,
                span: 15 * SECOND,
                entries: 1000,
            },
            0,
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
    fn a_group_larger_than_the_ring_is_cut_and_told_until_the_next_start() {
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
        other.track.codec = Codec::Jpeg;
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
