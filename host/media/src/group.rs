//! Group numbers. The host numbers groups, not the components, so that numbers survive the replacement of a muxer and a
//! restart of the gateway and are equal in all renditions of a stream (HLS uses them as media sequence numbers).
//!
//! There is one [`GroupIndex`] per run of a stream, in its ring. It records every independent sample of the source and
//! derives the groups of any `group-ms` from them. Everything made of the stream (renditions, repeats, audio) looks up
//! the group it belongs to by presentation time, since that is the only time an encoder preserves.

use super::{
    sample::{Codec, Sample},
    time::TIMESCALE,
};
use std::collections::{BTreeMap, VecDeque};

/// Number of starts that are remembered: as many as a ring has entries.
const MAX_STARTS: usize = 16_384;

/// Selects which independent samples may open a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupBoundary {
    /// Every independent sample of the source.
    Every,
    /// Independent samples that are keyframes in a rendition: every one of H.264, and of JPEGs the first in each cell
    /// of the keyframe interval.
    Keyframes,
}

/// The independent samples of a run, and the numbers of the groups they open.
///
/// A group runs from an independent sample to the next one that is at least `group-ms` later. The first number is the
/// Unix time in units of `group-ms` (at least 1 ms), and each group counts up by one. Groups are at least `group-ms`
/// long, except where a break ends one early, which it may not while the count is ahead of the clock. So the count is
/// at most one ahead, and a later run starts above it.
#[derive(Debug)]
pub struct GroupIndex {
    started_at_us: u64,
    /// Keyframe interval of renditions of a source that has only keyframes, in ticks.
    cell: u64,
    starts: VecDeque<Start>,
    /// A break precedes the next start.
    broken: bool,
    groups: BTreeMap<(u32, GroupBoundary), Groups>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    /// Decode time.
    time: u64,
    /// Presentation time, by which the start is identified because encoders preserve no other. Rises from start to
    /// start.
    presented_at: u64,
    keyframe: bool,
    /// A break precedes the start, which may therefore open a group early.
    after_break: bool,
    /// Unix microseconds of the presentation time.
    date: u64,
}

impl GroupIndex {
    /// Creates the index of a run that began at `started_at_us` (Unix microseconds at decode time 0). `cell` is the
    /// keyframe interval in ticks of renditions of a source that has only keyframes.
    pub fn new(started_at_us: u64, cell: u64) -> GroupIndex {
        GroupIndex {
            started_at_us,
            cell: cell.max(1),
            starts: VecDeque::new(),
            broken: false,
            groups: BTreeMap::new(),
        }
    }

    /// Records the next independent sample. Returns the presentation time by which the index identifies it.
    pub fn observe(&mut self, sample: &Sample) -> u64 {
        let time = sample.decode_time;
        let last = self.starts.back();
        let after_break = std::mem::take(&mut self.broken);
        let start = Start {
            time,
            presented_at: last.map_or(sample.presentation_time(), |last| {
                sample.presentation_time().max(last.presented_at + 1)
            }),
            keyframe: sample.codec() != Codec::Jpeg
                || after_break
                || last.is_none_or(|last| last.time / self.cell != time / self.cell),
            after_break,
            date: sample.captured_at,
        };
        let start = Start {
            date: last.map_or(start.date, |last| date(&start, last)),
            ..start
        };
        self.starts.push_back(start);
        for ((group_ms, boundary), groups) in &mut self.groups {
            groups.observe(&start, *group_ms, *boundary, self.started_at_us);
        }
        if self.starts.len() > MAX_STARTS {
            self.starts.pop_front();
        }
        start.presented_at
    }

    /// Marks a break (new tracks or a lost source): the group ends here, or as soon as there is a number for the next
    /// one.
    pub fn close(&mut self) {
        self.broken = true;
    }

    /// Presentation time of the keyframe that a frame presented at `presented_at` depends on.
    pub fn keyframe(&self, presented_at: u64) -> Option<u64> {
        let after = self
            .starts
            .partition_point(|start| start.presented_at <= presented_at);
        let before = self.starts.iter().take(after).rev();
        before
            .filter(|start| start.keyframe)
            .map(|start| start.presented_at)
            .next()
    }

    /// Starts to number groups of `group_ms`, including the remembered ones.
    pub fn need(&mut self, group_ms: u32) {
        let (starts, started_at_us) = (&self.starts, self.started_at_us);
        // Both boundaries at once, so that they count the same if the source has only keyframes.
        for boundary in [GroupBoundary::Every, GroupBoundary::Keyframes] {
            self.groups.entry((group_ms, boundary)).or_insert_with(|| {
                let mut groups = Groups::default();
                for start in starts {
                    groups.observe(start, group_ms, boundary, started_at_us);
                }
                groups
            });
        }
    }

    /// Group that contains presentation time `presented_at`. `None` if it is before the oldest known group, or if
    /// groups of `group_ms` are not numbered.
    pub fn group(
        &self,
        group_ms: u32,
        boundary: GroupBoundary,
        presented_at: u64,
    ) -> Option<Group> {
        let opening = self.groups.get(&(group_ms, boundary))?.at(presented_at)?;
        Some(Group {
            number: opening.number,
            started_at: opening.date,
        })
    }

    /// Duration in ticks of the longest complete group since the newest break; 0 if there is none yet.
    pub fn longest(&self, group_ms: u32, boundary: GroupBoundary) -> u64 {
        let groups = self.groups.get(&(group_ms, boundary));
        groups.map_or(0, |groups| groups.longest)
    }

    /// Whether a group begins at presentation time `presented_at`. A keyframe inside a group, or one after a lost
    /// start, opens none.
    pub fn opens(&self, group_ms: u32, boundary: GroupBoundary, presented_at: u64) -> bool {
        let groups = self.groups.get(&(group_ms, boundary));
        let starts = groups.map(|groups| &groups.starts);
        starts.is_some_and(|starts| {
            starts
                .binary_search_by_key(&presented_at, |start| start.presented_at)
                .is_ok()
        })
    }

    /// Presentation time at which the `history`-th newest group up to `presented_at` starts (1: the newest), or the
    /// oldest known one if there are fewer.
    pub fn history_start(
        &self,
        group_ms: u32,
        boundary: GroupBoundary,
        presented_at: u64,
        history: u32,
    ) -> Option<u64> {
        let groups = self.groups.get(&(group_ms, boundary))?;
        let first = groups.first()?;
        let wanted = groups
            .at(presented_at)?
            .number
            .saturating_sub(u64::from(history.max(1)) - 1);
        let index = usize::try_from(wanted.saturating_sub(first)).ok()?;
        groups.starts.get(index).map(|start| start.presented_at)
    }
}

/// A group as muxers see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Number of the group.
    pub number: u64,
    /// Unix microseconds of the first frame's presentation. The distance to the previous group is that of the
    /// presentation times, corrected slowly for the drift of the source's clock.
    pub started_at: u64,
}

/// Largest part of the distance between two starts by which the distance of their dates may differ, to follow the drift
/// of the source's clock without the jitter of arrival.
const DRIFT: f64 = 0.0005;
/// Deviation of a date, in microseconds, that is not drift: the clock was set, or the source was away.
const CLOCK_STEP_US: i64 = 500_000;

/// Date of `start` after `last`: the one measured by the wall clock, limited to [`DRIFT`] against the presentation
/// times.
fn date(start: &Start, last: &Start) -> u64 {
    let apart = (start.presented_at.saturating_sub(last.presented_at)).saturating_mul(100) / 9;
    let expected = last.date.saturating_add(apart);
    let off = start.date.wrapping_sub(expected).cast_signed();
    if start.after_break || off.saturating_abs() >= CLOCK_STEP_US {
        return start.date;
    }
    let most = (apart as f64 * DRIFT) as i64;
    expected.saturating_add_signed(off.clamp(-most, most))
}

/// Groups of one length. Their numbers rise by one.
#[derive(Debug, Default)]
struct Groups {
    starts: VecDeque<GroupStart>,
    /// There was a break since the last start.
    broken: bool,
    longest: u64,
}

#[derive(Clone, Copy, Debug)]
struct GroupStart {
    time: u64,
    presented_at: u64,
    number: u64,
    date: u64,
}

impl Groups {
    fn observe(
        &mut self,
        start: &Start,
        group_ms: u32,
        boundary: GroupBoundary,
        started_at_us: u64,
    ) {
        self.broken |= start.after_break;
        if boundary == GroupBoundary::Keyframes && !start.keyframe {
            return;
        }
        let Start {
            time,
            presented_at,
            date,
            ..
        } = *start;
        let period_ms = u64::from(group_ms);
        let period = period_ms * u64::from(TIMESCALE) / 1000;
        let unix_ms = started_at_us / 1000 + time.saturating_mul(1000) / u64::from(TIMESCALE);
        let clock = unix_ms / period_ms.max(1);
        let number = match self.starts.back() {
            None => clock,
            Some(last) if time >= last.time + period => last.number + 1,
            // After a break a group may be short, but a source that comes and goes has to wait for the clock.
            Some(last) if self.broken && last.number <= clock => last.number + 1,
            Some(_) => return,
        };
        let last = self
            .starts
            .back()
            .map_or(presented_at, |last| last.presented_at);
        self.longest = match std::mem::take(&mut self.broken) {
            true => 0,
            false => self.longest.max(presented_at.saturating_sub(last)),
        };
        self.starts.push_back(GroupStart {
            time,
            presented_at,
            number,
            date,
        });
        if self.starts.len() > MAX_STARTS {
            self.starts.pop_front();
        }
    }

    fn first(&self) -> Option<u64> {
        self.starts.front().map(|start| start.number)
    }

    fn at(&self, presented_at: u64) -> Option<&GroupStart> {
        let after = self
            .starts
            .partition_point(|start| start.presented_at <= presented_at);
        self.starts.get(after.checked_sub(1)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::sample::Times;
    use bytes::Bytes;
    use proptest::prelude::*;

    const SECOND: u64 = TIMESCALE as u64;
    const EVERY: GroupBoundary = GroupBoundary::Every;

    fn times(decode_time: u64, composition_offset: i32) -> Times {
        Times {
            decode_time,
            composition_offset,
            ..Times::default()
        }
    }

    fn number_of(
        index: &GroupIndex,
        group_ms: u32,
        boundary: GroupBoundary,
        presented_at: u64,
    ) -> Option<u64> {
        Some(index.group(group_ms, boundary, presented_at)?.number)
    }

    fn h264(time: u64) -> Sample {
        Sample::h264(times(time, 0), true, Vec::new())
    }

    fn jpeg(time: u64) -> Sample {
        Sample::jpeg(times(time, 0), Bytes::new())
    }

    #[test]
    fn groups_are_at_least_their_length_and_count_from_unix_time() {
        let mut index = GroupIndex::new(1_700_000_000_000_000, SECOND);
        for n in 0..5 {
            index.observe(&h264(n * SECOND / 2));
        }
        // Numbers requested later include the starts recorded before.
        index.need(1000);
        for n in 5..10 {
            index.observe(&h264(n * SECOND / 2));
        }
        let number = |time| number_of(&index, 1000, EVERY, time);
        assert_eq!(number(0), Some(1_700_000_000));
        assert_eq!(number(SECOND - 1), Some(1_700_000_000));
        assert_eq!(number(SECOND), Some(1_700_000_001));
        assert_eq!(number_of(&index, 500, EVERY, 0), None, "not numbered");
        let opens = |time| index.opens(1000, EVERY, time);
        assert!(opens(0) && opens(SECOND) && !opens(SECOND / 2) && !opens(SECOND + 1));
        assert!(!index.opens(500, EVERY, 0));
        let newest = 9 * SECOND / 2;
        let start = |presented_at, history| index.history_start(1000, EVERY, presented_at, history);
        assert_eq!(start(newest, 1), Some(4 * SECOND));
        assert_eq!(start(newest, 3), Some(2 * SECOND));
        assert_eq!(start(newest, 99), Some(0));
        // History is counted from the given time, which a lagging viewer passes.
        assert_eq!(start(3 * SECOND, 2), Some(2 * SECOND));
    }

    #[test]
    fn the_longest_group_is_of_complete_ones_since_the_newest_break() {
        let mut index = GroupIndex::new(0, SECOND);
        index.need(1000);
        let mut longest = |second: u64, breaks: bool| {
            if breaks {
                index.close();
            }
            index.observe(&h264(second * SECOND));
            index.longest(1000, EVERY) / SECOND
        };
        let seconds = [
            (0, false),
            (2, false),
            (6, false),
            (8, false),
            (20, true),
            (22, false),
        ];
        let longest: Vec<u64> = seconds.map(|(at, breaks)| longest(at, breaks)).into();
        assert_eq!(longest, [0, 2, 4, 4, 0, 2]);
    }

    #[test]
    fn dates_follow_the_wall_clock_slowly_and_at_once_where_it_was_set() {
        let mut index = GroupIndex::new(0, SECOND);
        index.need(1000);
        // Two days of a clock that is 100 ppm slow, with 80 ms of arrival jitter.
        let mut last: Option<u64> = None;
        for nth in 0..86_400u64 {
            let wall = 1_000_000_000 + nth * 2_000_200 + nth * 7919 % 80_000;
            let sample = Sample::h264(
                Times {
                    decode_time: nth * 2 * SECOND,
                    captured_at: wall,
                    ..Times::default()
                },
                true,
                Vec::new(),
            );
            let presented_at = index.observe(&sample);
            let date = index.group(1000, EVERY, presented_at).unwrap().started_at;
            assert!(date.abs_diff(wall) < 85_000, "{nth}: {date} and {wall}");
            assert!(last.is_none_or(|last| date.abs_diff(last + 2_000_000) <= 1000));
            last = Some(date);
        }
        let set = Sample::h264(
            Times {
                decode_time: 86_400 * 2 * SECOND,
                captured_at: 42,
                ..Times::default()
            },
            true,
            Vec::new(),
        );
        let presented_at = index.observe(&set);
        assert_eq!(
            index.group(1000, EVERY, presented_at).unwrap().started_at,
            42
        );
    }

    #[test]
    fn a_break_ends_a_group_early() {
        // Half a second before the clock's next number.
        let mut index = GroupIndex::new(9_500_000, SECOND);
        index.need(10_000);
        index.observe(&h264(0));
        index.close();
        index.observe(&h264(SECOND));
        for boundary in [EVERY, GroupBoundary::Keyframes] {
            let number = |time| number_of(&index, 10_000, boundary, time);
            assert_eq!((number(0), number(SECOND)), (Some(0), Some(1)));
        }
    }

    #[test]
    fn a_source_that_comes_and_goes_waits_for_numbers_that_are_the_clocks() {
        let mut index = GroupIndex::new(1_700_000_000_000_000, SECOND);
        index.need(2000);
        // A break every tenth of a second.
        let mut numbers = Vec::new();
        for n in 0..100 {
            index.close();
            let presented_at = index.observe(&h264(n * SECOND / 10));
            numbers.push(number_of(&index, 2000, EVERY, presented_at).unwrap());
        }
        let clock = |n: u64| 850_000_000 + n / 20 + u64::from(n > 0);
        let clock: Vec<u64> = (0..100).map(clock).collect();
        assert_eq!(numbers, clock);
    }

    #[test]
    fn of_jpegs_the_first_in_each_cell_is_a_keyframe_and_after_a_break() {
        let mut index = GroupIndex::new(0, 2 * SECOND);
        index.need(0);
        // Three per second, from 0.5 s on; the source is lost at 5 s.
        for n in 0..15 {
            if n == 13 {
                index.close();
            }
            index.observe(&jpeg(SECOND / 2 + n * SECOND / 3));
        }
        let keyframes: Vec<u64> = (0..15)
            .filter_map(|n| index.keyframe(SECOND / 2 + n * SECOND / 3))
            .collect();
        let mut different = keyframes.clone();
        different.dedup();
        assert_eq!(keyframes.len(), 15);
        assert_eq!(different, [45_000, 195_000, 375_000, 435_000]);
        assert_eq!(
            number_of(&index, 0, EVERY, 435_000),
            number_of(&index, 0, EVERY, 45_000).map(|n| n + 13)
        );
        let number = |time| number_of(&index, 0, GroupBoundary::Keyframes, time);
        assert_eq!(number(465_000), number(45_000).map(|first| first + 3));
        assert_eq!(number(0), None, "before the run's first");
    }

    #[test]
    fn a_start_is_known_by_when_it_is_shown() {
        let mut index = GroupIndex::new(0, SECOND);
        index.need(0);
        for n in 0..3 {
            let sample = Sample::h264(times(n * SECOND, 6000), true, Vec::new());
            assert_eq!(index.observe(&sample), n * SECOND + 6000);
        }
        // A frame that is decoded after the second keyframe and presented before it.
        assert_eq!(
            number_of(&index, 0, EVERY, SECOND + 3000),
            number_of(&index, 0, EVERY, 6000)
        );
        assert_eq!(index.keyframe(SECOND + 3000), Some(6000));
    }

    proptest! {
        #[test]
        fn numbers_rise_by_one_stay_behind_the_clock_and_match_for_late_followers(
            steps in prop::collection::vec((1u64..200_000, any::<bool>(), prop::bool::weighted(0.3)), 1..300),
            group_ms in 0u32..4000) {
            let mut index = GroupIndex::new(5_000_000_000, SECOND);
            index.need(group_ms);
            let (mut time, mut last) = (0, None);
            let mut told = Vec::new();
            for (step, is_h264, breaks) in steps {
                time += step.max(90);
                if breaks {
                    index.close();
                }
                let presented_at = index.observe(&if is_h264 { h264(time) } else { jpeg(time) });
                let number = number_of(&index, group_ms, EVERY, presented_at).unwrap();
                prop_assert!(last.is_none_or(|last| number == last || number == last + 1));
                prop_assert!(number <= (5_000_000 + time * 1000 / SECOND) / u64::from(group_ms).max(1) + 1);
                last = Some(number);
                told.push((presented_at, number));
            }
            index.groups.clear();
            index.need(group_ms);
            for (presented_at, number) in told {
                prop_assert_eq!(number_of(&index, group_ms, EVERY, presented_at), Some(number));
            }
        }
    }
}
