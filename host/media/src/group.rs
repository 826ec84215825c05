//! Group numbers: counted by the host for the whole run of a stream, so that they survive a muxer and a restart and are
//! alike in all renditions.

use super::{
    sample::{Codec, Sample},
    time::TIMESCALE,
};
use std::collections::{BTreeMap, VecDeque};

/// Starts that are remembered: as many as a ring holds entries.
const MAX_STARTS: usize = 16_384;

/// Where groups may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupBoundary {
    /// At each independent sample of the source.
    Every,
    /// At those that are keyframes where the stream is encoded: of H.264 each, of JPEGs the first in each cell of the
    /// keyframe interval.
    Keyframes,
}

/// The independent samples of a source's run, and the numbers of the groups that they begin.
///
/// A group runs from an independent sample to the first independent one at least `group-ms` later. The first
/// number is the Unix time in units of `group-ms` (at least 1 ms); the next ones count up. Groups are at least that
/// long, but for those that a break ends, and none ends so while the count is ahead of the clock: it is by one at most, and a later
/// run starts above it.
#[derive(Debug)]
pub struct GroupIndex {
    started_at_us: u64,
    /// Ticks.
    cell: u64,
    starts: VecDeque<Start>,
    /// A break comes before the next start.
    broken: bool,
    groups: BTreeMap<(u32, GroupBoundary), Groups>,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    /// Decode time.
    time: u64,
    /// What it is known by: when it is shown, as encoders know no more; rises.
    shown: u64,
    keyframe: bool,
    /// A break came before: it opens a group however early it is.
    after_break: bool,
    /// Unix microseconds at which it is shown.
    date: u64,
}

impl GroupIndex {
    /// Of a run that began at `started_at_us` (Unix microseconds at decode time 0), whose pictures have a keyframe in each
    /// `cell` (ticks) if they are encoded.
    pub fn new(started_at_us: u64, cell: u64) -> GroupIndex {
        GroupIndex {
            started_at_us,
            cell: cell.max(1),
            starts: VecDeque::new(),
            broken: false,
            groups: BTreeMap::new(),
        }
    }

    /// Takes note of the next independent sample, and says by what time it is known here.
    pub fn observe(&mut self, sample: &Sample) -> u64 {
        let time = sample.decode_time;
        let last = self.starts.back();
        let after_break = std::mem::take(&mut self.broken);
        let start = Start {
            time,
            shown: last.map_or(sample.shown_at(), |last| {
                sample.shown_at().max(last.shown + 1)
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
        start.shown
    }

    /// The tracks change or the source is lost: the group ends here, or as soon as there is a number for the next.
    pub fn close(&mut self) {
        self.broken = true;
    }

    /// The keyframe that a picture shown at `shown` belongs to.
    pub fn keyframe(&self, shown: u64) -> Option<u64> {
        let after = self.starts.partition_point(|start| start.shown <= shown);
        let before = self.starts.iter().take(after).rev();
        before
            .filter(|start| start.keyframe)
            .map(|start| start.shown)
            .next()
    }

    /// Numbers groups of `group_ms` from here on, and those that are known.
    pub fn need(&mut self, group_ms: u32) {
        let (starts, started_at_us) = (&self.starts, self.started_at_us);
        // Both at once, so that they count the same where there are only keyframes.
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

    /// The group that what is known by `shown` belongs to.
    pub fn group(&self, group_ms: u32, boundary: GroupBoundary, shown: u64) -> Option<Group> {
        let opening = self.groups.get(&(group_ms, boundary))?.at(shown)?;
        Some(Group {
            number: opening.number,
            started_at: opening.date,
        })
    }

    /// How long the longest complete group was since the newest break, in ticks; 0 before there is one.
    pub fn longest(&self, group_ms: u32, boundary: GroupBoundary) -> u64 {
        let groups = self.groups.get(&(group_ms, boundary));
        groups.map_or(0, |groups| groups.longest)
    }

    /// Whether a group begins with what is known by `shown`: a keyframe inside a group, or behind a start that was lost, opens
    /// none.
    pub fn opens(&self, group_ms: u32, boundary: GroupBoundary, shown: u64) -> bool {
        let groups = self.groups.get(&(group_ms, boundary));
        let starts = groups.map(|groups| &groups.starts);
        starts.is_some_and(|starts| {
            starts
                .binary_search_by_key(&shown, |start| start.shown)
                .is_ok()
        })
    }

    /// By what the start of the `history`-th newest group is known (1: the newest) of those up to `shown`; of the oldest
    /// known if there are fewer.
    pub fn history_start(
        &self,
        group_ms: u32,
        boundary: GroupBoundary,
        shown: u64,
        history: u32,
    ) -> Option<u64> {
        let groups = self.groups.get(&(group_ms, boundary))?;
        let first = groups.first()?;
        let wanted = groups
            .at(shown)?
            .number
            .saturating_sub(u64::from(history.max(1)) - 1);
        let index = usize::try_from(wanted.saturating_sub(first)).ok()?;
        groups.starts.get(index).map(|start| start.shown)
    }
}

/// A group, as muxers are told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its number.
    pub number: u64,
    /// Unix microseconds at which its first picture is shown: as far from the group before as the times are, but for the drift of the
    /// source's clock.
    pub started_at: u64,
}

/// Dates of starts are as far apart as those are shown, but for this much of the distance: the source's clock drifts and arrival
/// jitters.
const DRIFT: f64 = 0.0005;
/// A date that is this far off is not drift (microseconds): the clock was set, or the source was away.
const SET_US: i64 = 500_000;

/// The date of `start`, whose own is what the wall clock says, behind `last`.
fn date(start: &Start, last: &Start) -> u64 {
    let apart = (start.shown.saturating_sub(last.shown)).saturating_mul(100) / 9;
    let expected = last.date.saturating_add(apart);
    let off = start.date.wrapping_sub(expected).cast_signed();
    if start.after_break || off.saturating_abs() >= SET_US {
        return start.date;
    }
    let most = (apart as f64 * DRIFT) as i64;
    expected.saturating_add_signed(off.clamp(-most, most))
}

/// Groups of one length; their numbers rise by one.
#[derive(Debug, Default)]
struct Groups {
    starts: VecDeque<Opening>,
    /// A break came since the last one.
    broken: bool,
    longest: u64,
}

#[derive(Clone, Copy, Debug)]
struct Opening {
    time: u64,
    shown: u64,
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
            time, shown, date, ..
        } = *start;
        let period_ms = u64::from(group_ms);
        let period = period_ms * u64::from(TIMESCALE) / 1000;
        let unix_ms = started_at_us / 1000 + time.saturating_mul(1000) / u64::from(TIMESCALE);
        let clock = unix_ms / period_ms.max(1);
        let number = match self.starts.back() {
            None => clock,
            Some(last) if time >= last.time + period => last.number + 1,
            // Behind a break a group may be short, but a source that comes and goes has to wait for the clock.
            Some(last) if self.broken && last.number <= clock => last.number + 1,
            Some(_) => return,
        };
        let last = self.starts.back().map_or(shown, |last| last.shown);
        self.longest = match std::mem::take(&mut self.broken) {
            true => 0,
            false => self.longest.max(shown.saturating_sub(last)),
        };
        self.starts.push_back(Opening {
            time,
            shown,
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

    fn at(&self, shown: u64) -> Option<&Opening> {
        let after = self.starts.partition_point(|start| start.shown <= shown);
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
        shown: u64,
    ) -> Option<u64> {
        Some(index.group(group_ms, boundary, shown)?.number)
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
        // Who comes later gets the numbers of who came first.
        index.need(1000);
        for n in 5..10 {
            index.observe(&h264(n * SECOND / 2));
        }
        let number = |time| number_of(&index, 1000, EVERY, time);
        assert_eq!(number(0), Some(1_700_000_000));
        assert_eq!(number(SECOND - 1), Some(1_700_000_000));
        assert_eq!(number(SECOND), Some(1_700_000_001));
        assert_eq!(number_of(&index, 500, EVERY, 0), None, "nobody needs those");
        let opens = |time| index.opens(1000, EVERY, time);
        assert!(opens(0) && opens(SECOND) && !opens(SECOND / 2) && !opens(SECOND + 1));
        assert!(!index.opens(500, EVERY, 0));
        let newest = 9 * SECOND / 2;
        let start = |shown, history| index.history_start(1000, EVERY, shown, history);
        assert_eq!(start(newest, 1), Some(4 * SECOND));
        assert_eq!(start(newest, 3), Some(2 * SECOND));
        assert_eq!(start(newest, 99), Some(0));
        // Who lags behind counts from where it is.
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
        // Two days of a clock that is 100 ppm slow, and arrival that jitters by 80 ms.
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
            let shown = index.observe(&sample);
            let date = index.group(1000, EVERY, shown).unwrap().started_at;
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
        let shown = index.observe(&set);
        assert_eq!(index.group(1000, EVERY, shown).unwrap().started_at, 42);
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
        // Ten times a second.
        let mut numbers = Vec::new();
        for n in 0..100 {
            index.close();
            let shown = index.observe(&h264(n * SECOND / 10));
            numbers.push(number_of(&index, 2000, EVERY, shown).unwrap());
        }
        let clock = |n: u64| 850_000_000 + n / 20 + u64::from(n > 0);
        let clock: Vec<u64> = (0..100).map(clock).collect();
        assert_eq!(numbers, clock);
    }

    #[test]
    fn of_jpegs_the_first_in_each_cell_is_a_keyframe_and_after_a_break() {
        let mut index = GroupIndex::new(0, 2 * SECOND);
        index.need(0);
        // Three a second, from 0.5 s on; the source is lost at 5 s.
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
        // Decoded after the second keyframe, shown before it.
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
            for (step, picture, breaks) in steps {
                time += step.max(90);
                if breaks {
                    index.close();
                }
                let shown = index.observe(&if picture { h264(time) } else { jpeg(time) });
                let number = number_of(&index, group_ms, EVERY, shown).unwrap();
                prop_assert!(last.is_none_or(|last| number == last || number == last + 1));
                prop_assert!(number <= (5_000_000 + time * 1000 / SECOND) / u64::from(group_ms).max(1) + 1);
                last = Some(number);
                told.push((shown, number));
            }
            index.groups.clear();
            index.need(group_ms);
            for (shown, number) in told {
                prop_assert_eq!(number_of(&index, group_ms, EVERY, shown), Some(number));
            }
        }
    }
}
