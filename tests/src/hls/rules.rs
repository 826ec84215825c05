//! Rules for a single playlist.

use super::{
    Violation,
    parse::{Playlist, SECOND, Segment, Time, Variant, seconds},
};
use std::collections::BTreeSet;

/// Tolerance in milliseconds between consecutive dates, for rounding.
const DATES: i64 = 2;
/// Further tolerance in millionths: dates follow the wall clock when the source's clock drifts.
const DRIFT: i64 = 500;

/// Checks a media playlist.
pub(super) fn check(playlist: &Playlist) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut fail = |rule, line, what: String| violations.push(Violation::new(rule, line, what));
    let target = playlist.target.unwrap_or(0);
    if playlist.target.is_none() {
        fail("target-duration", 0, "there is none (4.4.3.1)".into());
    }
    if playlist.segments.is_empty() {
        fail("not-empty", 0, "players want a segment".into());
    }
    if !playlist.has_sequence {
        fail(
            "media-sequence",
            0,
            "a live playlist has one (6.2.2)".into(),
        );
    }
    if playlist.playlist_type {
        fail(
            "no-playlist-type",
            0,
            "a live playlist has none (6.2.2)".into(),
        );
    }
    let breaks = playlist
        .segments
        .iter()
        .any(|segment| segment.discontinuity);
    if breaks && playlist.discontinuity_sequence.is_none() {
        fail(
            "discontinuity-sequence",
            0,
            "it has discontinuities (6.2.2)".into(),
        );
    }
    versions(playlist, &mut fail);
    let mut uris = BTreeSet::new();
    for segment in &playlist.segments {
        let line = segment.line;
        let duration = segment.duration.unwrap_or(0);
        if (duration + SECOND / 2) / SECOND > target {
            fail(
                "segment-within-target",
                line,
                format!("{duration} of {target} s (4.4.3.1)"),
            );
        }
        if !uris.insert(&segment.uri) {
            fail("uri-once", line, segment.uri.clone());
        }
        if !relative(&segment.uri) {
            fail("relative-uri", line, segment.uri.clone());
        }
        // A delta update need not repeat the map of the segments that it skips.
        let known = segment.map.is_some() || playlist.skipped.is_some();
        if segment.uri.ends_with(".m4s") && !known {
            fail("map", line, "no EXT-X-MAP before it (3.1.2)".into());
        }
    }
    dates(playlist, &mut fail);
    low_latency(playlist, &mut fail);
    violations
}

fn versions(playlist: &Playlist, fail: &mut impl FnMut(&'static str, usize, String)) {
    let version = playlist.version.unwrap_or(1);
    let gaps = playlist.segments.iter().any(|segment| segment.gap);
    let maps = playlist
        .segments
        .iter()
        .any(|segment| segment.map.is_some());
    let needs = [
        (playlist.skipped.is_some(), 9, "EXT-X-SKIP"),
        (gaps, 8, "EXT-X-GAP"),
        (maps, 6, "EXT-X-MAP"),
        (true, 3, "decimal durations"),
    ];
    for (uses, least, what) in needs {
        if uses && version < least {
            let what = format!("{what} wants {least}, this is {version} (8)");
            return fail("version", 0, what);
        }
    }
}

fn dates(playlist: &Playlist, fail: &mut impl FnMut(&'static str, usize, String)) {
    let open = (!playlist.open.parts.is_empty()).then_some(&playlist.open);
    let all: Vec<&Segment> = playlist.segments.iter().chain(open).collect();
    for pair in all.windows(2) {
        let (Some(before), Some(date)) = (pair[0].date, pair[1].date) else {
            continue;
        };
        let lasts = (pair[0].duration.unwrap_or(0) / (SECOND / 1000)) as i64;
        let (expected, most) = (before + lasts, DATES + lasts * DRIFT / 1_000_000);
        if date < expected - most {
            let what = format!("{} ms before the end of the one before", expected - date);
            fail("dates-rise", pair[1].line, format!("{what} (6.2.1)"));
        } else if !pair[1].discontinuity && date > expected + most {
            let what = format!("{} ms behind the end of the one before", date - expected);
            fail("dates-join", pair[1].line, what);
        }
    }
    let with = all.iter().filter(|segment| segment.date.is_some()).count();
    if with > 0 && with < all.len() {
        // hls.js and Safari do without these dates; this gateway promises them.
        fail("dates-everywhere", 0, format!("{with} of {}", all.len()));
    }
}

fn low_latency(playlist: &Playlist, fail: &mut impl FnMut(&'static str, usize, String)) {
    let target = playlist.target.unwrap_or(0) * SECOND;
    let parts = playlist.segments.iter().flat_map(|segment| &segment.parts);
    let any = parts.chain(&playlist.open.parts).next().is_some();
    if any && !playlist.has_part_inf {
        fail("part-inf", 0, "there are parts (4.4.3.7)".into());
    }
    if playlist.has_part_inf && playlist.part_target.is_none() {
        fail("part-target", 0, "EXT-X-PART-INF has none (4.4.3.7)".into());
    }
    control(playlist, target, fail);
    if let Some(most) = playlist.part_target {
        for segment in &playlist.segments {
            parts_of(segment, most, playlist.independent, fail);
        }
        parts_of(&playlist.open, most, playlist.independent, fail);
    }
    let listed: BTreeSet<&str> = playlist
        .segments
        .iter()
        .chain([&playlist.open])
        .flat_map(|segment| &segment.parts)
        .map(|part| part.uri.as_str())
        .collect();
    let mut types = BTreeSet::new();
    for (line, hint) in &playlist.hints {
        let kind = hint.get("TYPE").map_or("", String::as_str);
        if !matches!(kind, "PART" | "MAP") {
            fail("hint-type", *line, format!("{kind:?} (4.4.5.3)"));
        }
        if !types.insert(kind) {
            fail("hint-once", *line, format!("{kind} (6.2.6)"));
        }
        match hint.get("URI") {
            None => fail("hint-uri", *line, "none (4.4.5.3)".into()),
            Some(uri) if listed.contains(uri.as_str()) => {
                fail("hint-is-new", *line, format!("{uri} is a part already"));
            }
            Some(uri) if !relative(uri) => fail("relative-uri", *line, uri.clone()),
            Some(_) => {}
        }
    }
    if playlist.ended && !playlist.hints.is_empty() {
        fail("no-hint-at-the-end", 0, "(4.4.5.3)".into());
    }
    // Without a hint hls.js polls continuously.
    if playlist.has_part_inf && !playlist.ended && !types.contains("PART") {
        fail("hint", 0, "players of parts want to know the next".into());
    }
    for report in &playlist.reports {
        let missing = report.uri.is_none()
            || report.msn.is_none()
            || (playlist.has_part_inf && report.part.is_none());
        if missing {
            fail(
                "report-is-whole",
                report.line,
                "URI, LAST-MSN and LAST-PART (4.4.5.4)".into(),
            );
        }
        if report.uri.as_deref().is_some_and(|uri| !relative(uri)) {
            fail("relative-uri", report.line, "of a report (4.4.5.4)".into());
        }
    }
    recent(playlist, target, fail);
}

/// `EXT-X-SERVER-CONTROL` (4.4.3.8), and what Apple's players require before they play parts at all.
fn control(playlist: &Playlist, target: Time, fail: &mut impl FnMut(&'static str, usize, String)) {
    let seconds_of = |name: &str| {
        let text = playlist.control.as_ref()?.get(name)?;
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        Some((decimals.len(), seconds(whole, decimals).unwrap_or(0)))
    };
    let mut at_least = |rule, name, least: Time| {
        let Some((decimals, value)) = seconds_of(name) else {
            return;
        };
        if value < least {
            fail(
                rule,
                0,
                format!("{name} is {value}, less than {least} (4.4.3.8)"),
            );
        }
        if decimals > 5 {
            fail("five-decimals", 0, name.into());
        }
    };
    at_least("can-skip-until", "CAN-SKIP-UNTIL", 6 * target);
    at_least("hold-back", "HOLD-BACK", 3 * target);
    at_least(
        "part-hold-back",
        "PART-HOLD-BACK",
        3 * playlist.part_target.unwrap_or(0),
    );
    if playlist.skipped.is_some() && seconds_of("CAN-SKIP-UNTIL").is_none() {
        fail("skip-is-announced", 0, "no CAN-SKIP-UNTIL (4.4.5.2)".into());
    }
    if playlist.has_part_inf {
        if seconds_of("PART-HOLD-BACK").is_none() {
            fail("part-hold-back", 0, "there is none (4.4.3.8)".into());
        }
        let blocks = playlist.control.as_ref();
        let blocks = blocks.and_then(|control| control.get("CAN-BLOCK-RELOAD"));
        if blocks.map(String::as_str) != Some("YES") {
            fail("can-block-reload", 0, "Apple's players want YES".into());
        }
    }
}

/// Durations of parts (4.4.4.9) and the positions of keyframes.
fn parts_of(
    segment: &Segment,
    most: Time,
    independent: bool,
    fail: &mut impl FnMut(&'static str, usize, String),
) {
    let complete = segment.duration.is_some();
    let count = segment.parts.len();
    for (nth, part) in segment.parts.iter().enumerate() {
        if part.duration > most {
            let what = format!("{} of {most} (4.4.4.9)", part.duration);
            fail("part-within-target", part.line, what);
        }
        let last = complete && nth + 1 == count;
        let before_gap = segment.parts.get(nth + 1).is_some_and(|next| next.gap);
        let free = part.independent || part.gap || before_gap || last;
        if !free && part.duration * 100 < most * 85 {
            let what = format!("{} of {most} (4.4.4.9)", part.duration);
            fail("part-of-85-percent", part.line, what);
        }
        if !relative(&part.uri) {
            fail("relative-uri", part.line, part.uri.clone());
        }
    }
    let Some(first) = segment.parts.first() else {
        return;
    };
    if independent && !first.independent && !first.gap {
        let what = "EXT-X-INDEPENDENT-SEGMENTS, but its first part is not (4.4.2.1)";
        fail("segment-begins-independent", first.line, what.into());
    }
    if let Some(duration) = segment.duration {
        let sum: Time = segment.parts.iter().map(|part| part.duration).sum();
        if sum.abs_diff(duration) > count as u64 {
            fail(
                "parts-make-the-segment",
                segment.line,
                format!("{sum} of {duration}"),
            );
        }
    }
}

/// Parts belong near the live edge only (6.2.2).
fn recent(playlist: &Playlist, target: Time, fail: &mut impl FnMut(&'static str, usize, String)) {
    let mut behind: Time = playlist.open.parts.iter().map(|part| part.duration).sum();
    for segment in playlist.segments.iter().rev() {
        for part in segment.parts.iter().rev() {
            behind += part.duration;
            if behind > 3 * target + part.duration {
                return fail(
                    "old-parts",
                    part.line,
                    "older than three targets (6.2.2)".into(),
                );
            }
        }
        if segment.parts.is_empty() {
            behind += segment.duration.unwrap_or(0);
        }
    }
}

/// Checks the variants of a multivariant playlist (4.4.6.2).
pub(super) fn check_variants(variants: &[Variant]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut fail = |rule, line, what: &str| violations.push(Violation::new(rule, line, what));
    if variants.is_empty() {
        fail("variants", 0, "there are none");
    }
    for variant in variants {
        let line = variant.line;
        let get = |name: &str| variant.attributes.get(name).map(String::as_str);
        let number = |name: &str| get(name).map(|text| text.parse::<u64>().unwrap_or(0));
        match number("BANDWIDTH") {
            None | Some(0) => fail("bandwidth", line, "none, or no number"),
            Some(peak) if number("AVERAGE-BANDWIDTH").is_some_and(|mean| mean > peak) => {
                fail(
                    "average-below-peak",
                    line,
                    "AVERAGE-BANDWIDTH is above BANDWIDTH",
                );
            }
            Some(_) => {}
        }
        let codecs = get("CODECS").unwrap_or_default();
        if codecs.is_empty()
            || codecs
                .split(',')
                .any(|codec| codec.trim() != codec || codec.is_empty())
        {
            fail("codecs", line, codecs);
        }
        let resolution = get("RESOLUTION").map(|text| {
            let sides = text.split_once('x');
            sides.is_some_and(|(w, h)| w.parse::<u32>().is_ok() && h.parse::<u32>().is_ok())
        });
        if resolution == Some(false) {
            fail("resolution", line, "not WIDTHxHEIGHT");
        }
        if get("FRAME-RATE").is_some_and(|text| {
            text.split_once('.')
                .is_none_or(|(_, decimals)| decimals.len() != 3)
        }) {
            fail("frame-rate", line, "not with three decimals");
        }
        if variant.uri.as_deref().is_some_and(|uri| !relative(uri)) {
            fail("relative-uri", line, "of a variant");
        }
    }
    violations
}

/// This gateway writes only relative URLs, so that a ticket in a path does not end up in shared playlists.
fn relative(uri: &str) -> bool {
    !uri.starts_with('/') && !uri.contains("://") && !uri.contains('?')
}
