//! Writes playlists (draft-pantos-hls-rfc8216bis) from a `Window`. URLs are relative. Those of media contain the run,
//! so they mean the same bytes for ever and can be cached without limit.

use crate::{
    time::{Date, SECOND, Seconds, Time},
    window::{Segment, Window},
};
use sluicegate_sdk::{Rendition, StreamInfo};
use std::fmt::{self, Write};

/// Name of the media playlist below a rendition's base.
pub const MEDIA: &str = "media.m3u8";

/// Name of an initialization segment, a segment or a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Start of the run, in microseconds since the Unix epoch.
    pub run: u64,
    /// What the name refers to within the run.
    pub what: What,
}

/// What a name refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The initialization segment of an epoch.
    Init(u32),
    /// The segment with a media sequence number.
    Segment(u64),
    /// A part: its segment's media sequence number, and its index there.
    Part(u64, usize),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let run = self.run;
        match self.what {
            What::Init(epoch) => write!(f, "init-{run:x}-{epoch}.mp4"),
            What::Segment(msn) => write!(f, "{run:x}-{msn}.m4s"),
            What::Part(msn, part) => write!(f, "{run:x}-{msn}.{part}.m4s"),
        }
    }
}

impl Name {
    /// Parses a name; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Name> {
        let name = |run: &str, what| {
            let run = u64::from_str_radix(run, 16).ok()?;
            Some(Name { run, what })
        };
        let parsed = if let Some(rest) = text.strip_prefix("init-") {
            let (run, epoch) = rest.strip_suffix(".mp4")?.split_once('-')?;
            name(run, What::Init(epoch.parse().ok()?))
        } else {
            let (run, rest) = text.strip_suffix(".m4s")?.split_once('-')?;
            match rest.split_once('.') {
                None => name(run, What::Segment(rest.parse().ok()?)),
                Some((msn, part)) => name(run, What::Part(msn.parse().ok()?, part.parse().ok()?)),
            }
        };
        // Accept only one spelling, since caches treat others as different resources.
        parsed.filter(|name| name.to_string() == text)
    }
}

/// Writes the media playlist; `None` while there is no segment to list. With `skip`, as a delta update (6.2.5.1).
pub fn media(window: &Window, renditions: &[Rendition], skip: bool) -> Option<String> {
    let mut text = String::with_capacity(4096);
    // Writing into a string cannot fail.
    write_media(&mut text, window, renditions, skip)
        .ok()?
        .then_some(text)
}

fn write_media(
    text: &mut String,
    window: &Window,
    renditions: &[Rendition],
    skip: bool,
) -> Result<bool, fmt::Error> {
    let Some(first) = window.listed().next() else {
        return Ok(false);
    };
    let low_latency = window.settings.part.is_some();
    let target = window.target_duration();
    let gaps = window.listed().any(|segment| segment.parts.is_empty());
    // Protocol version that the tags require (8): delta updates, gaps, `EXT-X-MAP`.
    let version = match (low_latency, gaps) {
        (true, _) => 9,
        (false, true) => 8,
        (false, false) => 6,
    };
    writeln!(text, "#EXTM3U\n#EXT-X-VERSION:{version}")?;
    writeln!(text, "#EXT-X-TARGETDURATION:{}", target / SECOND)?;
    if low_latency {
        let (part, hold_back) = window.part_targets();
        writeln!(
            text,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={},HOLD-BACK={},PART-HOLD-BACK={}",
            Seconds(6 * target),
            Seconds(3 * target),
            Seconds(hold_back)
        )?;
        let part = Seconds(part);
        writeln!(text, "#EXT-X-PART-INF:PART-TARGET={part}")?;
    }
    writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", first.msn)?;
    writeln!(
        text,
        "#EXT-X-DISCONTINUITY-SEQUENCE:{}",
        discontinuity(window.run, first.epoch)
    )?;
    writeln!(text, "#EXT-X-INDEPENDENT-SEGMENTS")?;

    let end = window.listed().next_back().map_or(0, |last| last.ended);
    let skipped = match skip && low_latency && !window.ended {
        true => skippable(window, end.saturating_sub(6 * target)),
        false => 0,
    };
    if skipped > 0 {
        writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
    }
    let edge = window.open().map_or(end, |open| open.ended);
    let mut before = None;
    for (nth, segment) in window.listed().enumerate() {
        if nth >= skipped {
            write_head(text, window, segment, before)?;
            if low_latency && segment.began + 3 * target >= edge {
                write_parts(text, window, segment)?;
            }
            let (run, what) = (window.run, What::Segment(segment.msn));
            if segment.parts.is_empty() {
                writeln!(text, "#EXT-X-GAP")?;
            }
            let duration = Seconds(segment.duration());
            writeln!(text, "#EXTINF:{duration},\n{}", Name { run, what })?;
        }
        before = Some(segment.epoch);
    }
    if window.ended {
        writeln!(text, "#EXT-X-ENDLIST")?;
    } else if low_latency {
        write_edge(text, window, renditions, before)?;
    }
    Ok(true)
}

/// Writes the segment in progress, the preload hint, and the rendition reports.
fn write_edge(
    text: &mut String,
    window: &Window,
    renditions: &[Rendition],
    before: Option<u32>,
) -> fmt::Result {
    if let Some(open) = window.open().filter(|open| !open.parts.is_empty()) {
        write_head(text, window, open, before)?;
        write_parts(text, window, open)?;
    }
    let Some((msn, part)) = window.next_part() else {
        return Ok(());
    };
    let next = Name {
        run: window.run,
        what: What::Part(msn, part),
    };
    writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{next}\"")?;
    // Segments are equal in all renditions, but parts differ with the frame rate: the newest part of the other
    // rendition is the one that ends no later than the newest part here.
    let now = match (
        window.open().filter(|open| !open.parts.is_empty()),
        window.last(),
    ) {
        (Some(open), _) => open.ended,
        (None, Some(last)) => last.ended,
        (None, None) => return Ok(()),
    };
    for other in renditions.iter().filter(|other| !other.base.is_empty()) {
        let grid = window.settings.grid(other.frame_rate);
        let Some((msn, part)) = window.part_at(now, grid) else {
            continue;
        };
        writeln!(
            text,
            "#EXT-X-RENDITION-REPORT:URI=\"{}{MEDIA}\",LAST-MSN={msn},LAST-PART={part}",
            other.base
        )?;
    }
    Ok(())
}

/// Writes the tags in front of a segment or its first part.
fn write_head(
    text: &mut String,
    window: &Window,
    segment: &Segment,
    before: Option<u32>,
) -> fmt::Result {
    let (run, epoch) = (window.run, segment.epoch);
    if before != Some(epoch) {
        // An epoch without segments counts too, as it does for a restarted instance and in other renditions.
        for _ in before.unwrap_or(epoch)..epoch {
            writeln!(text, "#EXT-X-DISCONTINUITY")?;
        }
        let what = What::Init(epoch);
        writeln!(text, "#EXT-X-MAP:URI=\"{}\"", Name { run, what })?;
    }
    let date = Date {
        unix_us: segment.date,
    };
    writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{date}")
}

fn write_parts(text: &mut String, window: &Window, segment: &Segment) -> fmt::Result {
    for (place, part) in segment.parts.iter().enumerate() {
        let name = Name {
            run: window.run,
            what: What::Part(segment.msn, place),
        };
        let duration = Seconds(part.duration);
        write!(text, "#EXT-X-PART:DURATION={duration},URI=\"{name}\"")?;
        text.push_str(match part.independent {
            true => ",INDEPENDENT=YES\n",
            false => "\n",
        });
    }
    Ok(())
}

/// Number of segments that a delta update may omit: those that end before the skip boundary.
fn skippable(window: &Window, boundary: Time) -> usize {
    window
        .listed()
        .take_while(|segment| segment.ended <= boundary)
        .count()
}

/// Discontinuity sequence number of an epoch. It also rises from run to run, where media times start again, provided
/// that a run has fewer breaks than units of ten minutes. It must be small because players allocate arrays of that
/// length; seconds since 1970 made them hang.
fn discontinuity(run: u64, epoch: u32) -> u64 {
    const FIRST: u64 = 1_767_225_600; // 2026-01-01, in Unix seconds
    (run / 1_000_000).saturating_sub(FIRST) / 600 + u64::from(epoch)
}

/// Writes the multivariant playlist; `None` while there is no segment, since bit rates are measured on segments.
pub fn multivariant(info: &StreamInfo, window: &Window) -> Option<String> {
    let measured = window.bit_rates()?;
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for rendition in &info.renditions {
        let told = u64::from(rendition.bandwidth);
        text.push_str(&match rendition.base.is_empty() {
            true => {
                let codecs = window.epoch().map_or("", |epoch| &epoch.codecs);
                let (peak, average) = measured;
                variant(rendition, codecs, peak.max(told), average)
            }
            false => variant(rendition, &rendition.codecs, told, told),
        });
    }
    Some(text)
}

/// Writes one variant. `peak` is the highest bit rate known so far. `BANDWIDTH` must not be below later peaks (4.4.6.2)
/// of segments including their boxes. A quarter more suffices if the encoder keeps to its bit rate; the gateway's own
/// encoders exceed theirs by at most one second's worth in their buffer.
fn variant(rendition: &Rendition, codecs: &str, peak: u64, average: u64) -> String {
    let bandwidth = (peak + peak.div_ceil(4)).max(1);
    let mut line = format!("#EXT-X-STREAM-INF:BANDWIDTH={bandwidth}");
    let mut add = |attribute: String| line.push_str(&attribute);
    if average > 0 {
        add(format!(",AVERAGE-BANDWIDTH={average}"));
    }
    if !codecs.is_empty() {
        add(format!(",CODECS=\"{codecs}\""));
    }
    if rendition.width > 0 && rendition.height > 0 {
        add(format!(
            ",RESOLUTION={}x{}",
            rendition.width, rendition.height
        ));
    }
    if rendition.frame_rate > 0.0 {
        add(format!(",FRAME-RATE={:.3}", rendition.frame_rate));
    }
    format!("{line}\n{}{MEDIA}\n", rendition.base)
}

#[cfg(test)]
mod tests {
    use super::discontinuity;

    #[test]
    fn discontinuity_sequences_rise_over_runs_and_are_small() {
        let run = |seconds: u64| discontinuity(seconds * 1_000_000, 0);
        assert_eq!(run(0), 0);
        assert_eq!(discontinuity(1_767_225_600_000_000, 3), 3);
        let (one, next) = (run(1_800_000_000), run(1_800_000_600));
        assert_eq!(next, one + 1);
        // Ten years later.
        assert!(run(2_100_000_000) < 1_000_000);
    }
}
