//! Rules for successive playlists of one rendition (6.2.1, 6.2.2), for delta updates, and between renditions (6.2.4). A
//! [`Session`] is fed every playlist that a client receives, in order, and remembers what earlier ones listed.

use super::{
    Violation, check,
    parse::{Part, Playlist, SECOND, Segment, Time, parse},
};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Number of segments remembered after they left the playlist.
const MAX_REMEMBERED: usize = 200;

/// One client's view of one rendition.
#[derive(Debug, Default)]
pub struct Session {
    before: Option<Playlist>,
    known: BTreeMap<u64, Segment>,
    /// Every part ever listed, by segment.
    parts: BTreeMap<u64, Vec<Part>>,
    /// Newest hint that has not become a part yet.
    hint: Option<String>,
    /// When the newest segment was first listed.
    last_growth: Option<Duration>,
    /// Time that may pass between two segments in addition to 1.5 target durations, for a busy machine or a lost
    /// source.
    pub patience: Duration,
    /// The target duration may change at a discontinuity, which the draft does not provide for.
    pub target_may_change: bool,
}

impl Session {
    /// Creates a session with this patience.
    pub fn patient(patience: Duration) -> Session {
        Session {
            patience,
            ..Session::default()
        }
    }

    /// Checks a full playlist received at `at`. `asked` is the segment and part that it had to contain.
    pub fn full(
        &mut self,
        text: &str,
        at: Duration,
        asked: Option<(u64, Option<u64>)>,
    ) -> Vec<Violation> {
        let mut violations = check(text);
        let (playlist, _) = parse(text);
        if playlist.skipped.is_some() {
            violations.push(Violation::new(
                "skip-only-if-asked",
                0,
                "a full one was asked for",
            ));
            return violations;
        }
        self.follow(&playlist, at, asked, &mut violations);
        self.before = Some(playlist);
        violations
    }

    /// Checks a delta update merged with the known playlist (6.3.7).
    pub fn delta(
        &mut self,
        text: &str,
        at: Duration,
        asked: Option<(u64, Option<u64>)>,
    ) -> Vec<Violation> {
        let mut violations = check(text);
        let (mut playlist, _) = parse(text);
        if let Some(skipped) = playlist.skipped.take() {
            let mut old = VecDeque::new();
            for msn in playlist.first..playlist.first + skipped {
                match self.known.get(&msn) {
                    Some(segment) => old.push_back(segment.clone()),
                    None => violations.push(Violation::new(
                        "skipped-is-known",
                        0,
                        format!("segment {msn} was never listed (6.2.5.1)"),
                    )),
                }
            }
            self.skip_boundary(&playlist, &mut violations);
            let map = old.back().and_then(|last| last.map.clone());
            let number = old.back().map_or(0, |last| last.number);
            let base = playlist.discontinuity_sequence.unwrap_or(0);
            for segment in &mut playlist.segments {
                segment.map = segment.map.take().or_else(|| map.clone());
                // Skipped tags count, too.
                segment.number += number.saturating_sub(base);
            }
            old.extend(std::mem::take(&mut playlist.segments));
            playlist.segments = old.into();
        }
        self.follow(&playlist, at, asked, &mut violations);
        self.before = Some(playlist);
        violations
    }

    /// Segment and index of the newest part.
    pub fn newest(&self) -> Option<(u64, u64)> {
        newest(self.before.as_ref()?)
    }

    /// The newest playlist.
    pub fn playlist(&self) -> Option<&Playlist> {
        self.before.as_ref()
    }

    /// Segments seen so far.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.known.values()
    }

    fn follow(
        &mut self,
        playlist: &Playlist,
        at: Duration,
        asked: Option<(u64, Option<u64>)>,
        violations: &mut Vec<Violation>,
    ) {
        let mut fail = |rule, what: String| violations.push(Violation::new(rule, 0, what));
        if let Some((msn, part)) = asked.filter(|_| !playlist.ended) {
            let last = playlist.open.msn.saturating_sub(1);
            let there = match part {
                None => last >= msn,
                Some(part) => {
                    newest(playlist).is_some_and(|newest| newest >= (msn, part)) || last >= msn
                }
            };
            if !there {
                fail(
                    "waited-for",
                    format!("{msn} {part:?} is not there (6.2.5.2)"),
                );
            }
        }
        if let Some(before) = &self.before {
            compare(before, playlist, self.target_may_change, &mut fail);
        }
        for segment in &playlist.segments {
            match self.known.get(&segment.msn) {
                Some(known) if !alike(known, segment) => {
                    fail(
                        "segment-unchanged",
                        format!("{known:?}, now {segment:?} (6.2.1)"),
                    );
                }
                Some(_) => {}
                None => {
                    if let Some(newest) = self.known.keys().next_back()
                        && *newest > segment.msn
                    {
                        fail("segments-appended", format!("{} appears late", segment.msn));
                    }
                    self.known.insert(segment.msn, segment.clone());
                }
            }
        }
        self.parts(playlist, &mut fail);
        self.hints(playlist, &mut fail);
        let last_growth = self
            .before
            .as_ref()
            .is_none_or(|before| before.open.msn < playlist.open.msn);
        if let Some(since) = self.last_growth.filter(|_| !playlist.ended) {
            let most =
                Duration::from_secs(playlist.target.unwrap_or(0)).mul_f64(1.5) + self.patience;
            if at.saturating_sub(since) > most {
                fail(
                    "new-segment-in-time",
                    format!("none for {:?} (6.2.1)", at - since),
                );
            }
        }
        if last_growth {
            self.last_growth = Some(at);
        }
        while self.known.len() > MAX_REMEMBERED {
            self.known.pop_first();
        }
        while self.parts.len() > MAX_REMEMBERED {
            self.parts.pop_first();
        }
    }

    fn parts(&mut self, playlist: &Playlist, fail: &mut impl FnMut(&'static str, String)) {
        for segment in playlist.segments.iter().chain([&playlist.open]) {
            let complete = segment.duration.is_some();
            let known = self.parts.entry(segment.msn).or_default();
            // Parts of old segments are not listed any more.
            if segment.parts.is_empty() && complete {
                continue;
            }
            for (nth, known) in known.iter().enumerate() {
                let now = segment.parts.get(nth);
                let same = now.is_some_and(|now| {
                    now.uri == known.uri
                        && now.duration == known.duration
                        && now.independent == known.independent
                });
                if !same {
                    let what =
                        format!("segment {} part {nth}: {known:?}, now {now:?}", segment.msn);
                    fail("part-unchanged", what);
                }
            }
            if segment.parts.len() > known.len() {
                known.clone_from(&segment.parts);
            }
        }
    }

    fn hints(&mut self, playlist: &Playlist, fail: &mut impl FnMut(&'static str, String)) {
        let hinted = playlist.hints.iter().find_map(|(_, hint)| hint.get("URI"));
        if let Some(old) = self.hint.take()
            && Some(&old) != hinted
            && !playlist.ended
        {
            let listed = self.parts.values().flatten().any(|part| part.uri == old);
            // What a starved machine did not encode is a gap, which nobody knew when the part was hinted.
            let mut gaps = playlist.segments.iter().filter(|segment| segment.gap);
            let part_of = |uri: &str| {
                uri.strip_suffix("m4s")
                    .is_some_and(|stem| old.starts_with(stem))
            };
            let is_gap = gaps.any(|gap| part_of(&gap.uri));
            if !listed && !is_gap {
                fail("hint-comes-true", format!("{old} (4.4.5.3)"));
            }
        }
        self.hint = hinted.cloned();
    }

    fn skip_boundary(&self, playlist: &Playlist, violations: &mut Vec<Violation>) {
        let left: Time = playlist
            .segments
            .iter()
            .filter_map(|segment| segment.duration)
            .sum();
        let target = playlist.target.unwrap_or(0) * SECOND;
        if left < 6 * target {
            violations.push(Violation::new(
                "skip-boundary",
                0,
                format!("{left} are left, less than six target durations (4.4.3.8)"),
            ));
        }
    }
}

fn compare(
    before: &Playlist,
    now: &Playlist,
    target_may_change: bool,
    fail: &mut impl FnMut(&'static str, String),
) {
    if before.target != now.target && !target_may_change {
        let what = format!("{:?} to {:?} (6.2.1)", before.target, now.target);
        fail("target-duration-unchanged", what);
    }
    if before.part_target != now.part_target && !target_may_change {
        let what = format!("{:?} to {:?}", before.part_target, now.part_target);
        fail("part-target-unchanged", what);
    }
    if before.control != now.control && before.target == now.target && !target_may_change {
        let what = format!("{:?} to {:?}", before.control, now.control);
        fail("server-control-unchanged", what);
    }
    if now.first < before.first {
        fail(
            "sequence-rises",
            format!("{} to {} (6.2.2)", before.first, now.first),
        );
    }
    if now.discontinuity_sequence < before.discontinuity_sequence {
        let what = format!(
            "{:?} to {:?}",
            before.discontinuity_sequence, now.discontinuity_sequence
        );
        fail("discontinuity-sequence-rises", format!("{what} (6.2.2)"));
    }
    if now.open.msn < before.open.msn {
        fail(
            "segments-stay",
            format!("the last was {}, now {}", before.open.msn, now.open.msn),
        );
    }
    if newest(now) < newest(before) {
        fail(
            "parts-go-on",
            format!("{:?} to {:?}", newest(before), newest(now)),
        );
    }
    if before.ended && (!now.ended || before.segments.len() != now.segments.len()) {
        fail("the-end-is-final", "it goes on (6.2.1)".into());
    }
    let left: Time = now
        .segments
        .iter()
        .filter_map(|segment| segment.duration)
        .sum();
    let target = now.target.unwrap_or(0) * SECOND;
    if now.first > before.first && !now.ended && left < 3 * target {
        fail(
            "three-targets-left",
            format!("{left} of {} (6.2.2)", 3 * target),
        );
    }
}

fn alike(one: &Segment, other: &Segment) -> bool {
    // A discontinuity before the first listed segment appears only in its sequence number.
    one.uri == other.uri
        && one.duration == other.duration
        && one.date == other.date
        && one.map == other.map
        && one.gap == other.gap
        && one.number == other.number
}

fn newest(playlist: &Playlist) -> Option<(u64, u64)> {
    let all = playlist.segments.iter().chain([&playlist.open]);
    let last = all.rev().find(|segment| !segment.parts.is_empty())?;
    Some((last.msn, last.parts.len() as u64 - 1))
}

/// Checks that playlists of two renditions from about the same moment agree (6.2.4). `report` is the rendition report
/// of the first about the second.
pub fn agree(one: &Playlist, other: &Playlist) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut fail = |rule, what: String| violations.push(Violation::new(rule, 0, what));
    if one.target != other.target {
        fail(
            "same-target",
            format!("{:?} and {:?}", one.target, other.target),
        );
    }
    if one.control != other.control {
        fail(
            "same-server-control",
            format!("{:?} and {:?}", one.control, other.control),
        );
    }
    let mut met = 0;
    for segment in &one.segments {
        let Some(twin) = other.segments.iter().find(|twin| twin.msn == segment.msn) else {
            continue;
        };
        met += 1;
        if segment.number != twin.number {
            let what = format!("{} and {}", segment.number, twin.number);
            fail(
                "same-discontinuities",
                format!("segment {}: {what}", segment.msn),
            );
        }
        let apart = |one: Option<i64>, other: Option<i64>| Some((one? - other?).abs());
        if apart(segment.date, twin.date).is_some_and(|ms| ms > 2) {
            let what = format!("{:?} and {:?}", segment.date, twin.date);
            fail("same-dates", format!("segment {}: {what}", segment.msn));
        }
    }
    if met == 0 {
        fail("same-numbers", "they have no segment in common".into());
    }
    for report in &one.reports {
        let (Some(msn), Some(newest)) = (report.msn, newest(other)) else {
            continue;
        };
        let said = (msn, report.part.unwrap_or(0));
        // A request that relies on a report does not block if the report is off by one segment.
        if said.0.abs_diff(newest.0) > 1 {
            fail("report-is-true", format!("{said:?}, where {newest:?} is"));
        }
    }
    violations
}
