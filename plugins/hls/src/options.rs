//! Options of the transport, and what follows from them and the tracks: target durations, hold-back, and how many
//! segments are kept.

use crate::time::{MILLISECOND, SECOND, Time};
use sluicegate_sdk::serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use sluicegate_sdk::{Kind, Millis, StreamInfo};
use std::{fmt, ops::RangeInclusive};

const SEGMENT_MS: RangeInclusive<u32> = 500..=60_000;
const PART_MS: RangeInclusive<u32> = 100..=10_000;
const WINDOW_SEGMENTS: RangeInclusive<u32> = 3..=60;
/// Longest keyframe interval, in milliseconds, that target durations account for. Beyond it, keyframes are requested
/// rather than awaited.
const MAX_KEYFRAME_MS: u32 = 60_000;
/// Keyframe interval that is assumed if the source does not state one.
const DEFAULT_KEYFRAME_INTERVAL: Time = 2 * SECOND;
/// Longest fragment of plain HLS, whose segments are still written in fragments.
const FRAGMENT: Time = SECOND;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", rename_all = "lowercase")]
enum Preset {
    /// Parts of 200 ms, 10 segments of 2 s.
    #[default]
    Lan,
    /// Parts of 1 s, 8 segments of 4 s: fewer requests, more in the buffer.
    Mobile,
}

#[derive(Clone, Copy, Debug)]
enum Window {
    Segments(u32),
    Time(Millis),
}

#[derive(Debug, Default, Deserialize)]
#[serde(
    crate = "sluicegate_sdk::serde",
    deny_unknown_fields,
    default,
    rename_all = "kebab-case"
)]
struct Options {
    /// Defaults for the other options. Default `"lan"`.
    preset: Preset,
    /// Segment duration. A segment ends at the first keyframe after about this time.
    segment: Option<Millis>,
    /// Part duration for low latency, rounded to whole frames.
    part: Option<Millis>,
    /// Length of the playlist: a number of segments, or a duration.
    window: Option<Window>,
    /// `false`: no parts, for players and caches that need plain HLS. Default `true`.
    low_latency: Option<bool>,
}

/// Validated options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Desired duration of a segment.
    pub segment: Time,
    /// Desired duration of a part. `None`: plain HLS.
    pub part: Option<Time>,
    /// Number of listed segments. It is more if they are too short, and less if they are too large together.
    pub window: usize,
}

impl Settings {
    /// Parses and validates the options.
    ///
    /// # Errors
    /// States which option is wrong and what to write instead.
    pub fn read(json: &str) -> Result<Settings, String> {
        let options: Options = sluicegate_sdk::options(json)?;
        let (part, segment, window) = match options.preset {
            Preset::Lan => (200, 2000, 10),
            Preset::Mobile => (1000, 4000, 8),
        };
        let low_latency = options.low_latency.unwrap_or(true);
        if !low_latency && options.part.is_some() {
            return Err(
                "option `part`: there are no parts with `low-latency = false`; remove one of the two"
                    .into(),
            );
        }
        let segment = options.segment.map_or(segment, |segment| segment.0);
        check_range("segment", segment, SEGMENT_MS)?;
        // A part duration that was not configured is reduced to fit a short segment.
        let part = options.part.map_or(part.min(segment / 2), |part| part.0);
        check_range("part", part, PART_MS)?;
        if part > segment / 2 {
            return Err(format!(
                "option `part`: `{part}ms` is more than half of a segment of {segment} ms; write \"{}ms\" or less, or a longer `segment`",
                segment / 2
            ));
        }
        let window = match options.window {
            None => window,
            Some(Window::Segments(count)) => count,
            Some(Window::Time(time)) => time.0.div_ceil(segment),
        };
        if !WINDOW_SEGMENTS.contains(&window) {
            return Err(format!(
                "option `window`: {window} segments of {segment} ms are out of range; write {} to {}, or a duration of that many segments",
                WINDOW_SEGMENTS.start(),
                WINDOW_SEGMENTS.end()
            ));
        }
        Ok(Settings {
            segment: Time::from(segment) * MILLISECOND,
            part: low_latency.then_some(Time::from(part) * MILLISECOND),
            window: window as usize,
        })
    }

    /// Group length for the profile: the host's groups are the segments. Slightly shorter than a segment, because a
    /// camera's interval of two seconds is not always quite two seconds.
    pub fn group_ms(&self) -> u32 {
        u32::try_from(self.segment * 9 / 10 / MILLISECOND).unwrap_or(u32::MAX)
    }

    /// Number of complete segments to keep: those listed, and those that clients may still request. A segment must
    /// remain available for as long as it was listed plus its own duration, and a part until three target durations
    /// after it was removed from the playlist, which happens after three (6.2.2).
    pub fn held(&self) -> usize {
        // A segment is listed for the time of `window` segments and kept for as long again.
        let listed = 2 * self.window + 1;
        if self.part.is_none() {
            return listed;
        }
        let parts = (6 * self.target(0)).div_ceil(self.segment * 9 / 10) as usize + 1;
        listed.max(parts).min(MAX_KEPT_SEGMENTS)
    }

    /// Longest duration of a segment, rounded up to whole seconds, for keyframes that are `keyframe_ms` apart (0:
    /// unknown; a likely value is assumed). A segment ends at the first keyframe that is not too early.
    fn target(&self, keyframe_ms: u32) -> Time {
        let least = self.segment * 9 / 10;
        let longest = match keyframe_ms {
            0 => least + self.segment.max(DEFAULT_KEYFRAME_INTERVAL),
            known => {
                let apart = Time::from(known.min(MAX_KEYFRAME_MS)) * MILLISECOND;
                least.div_ceil(apart) * apart
            }
        };
        longest.div_ceil(SECOND) * SECOND
    }
}

/// The host keeps at most 64 groups for an instance, and the newest one is incomplete.
const MAX_KEPT_SEGMENTS: usize = 63;

/// Durations that a playlist promises, as far as they are known from the tracks. Actual segments may raise them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Target duration, in whole seconds. 0 if the source does not state its keyframe interval; then it follows from
    /// the segments.
    pub duration: Time,
    /// Parts, and fragments of plain segments, end at multiples of this within their segment, within
    /// [`Targets::slack`].
    pub grid: Time,
    /// Part target duration: no part is longer, unless it is a single frame.
    pub part: Time,
    /// Distance from the end of the playlist at which a low-latency player starts.
    pub part_hold_back: Time,
}

impl Targets {
    /// Targets for these tracks and renditions.
    pub fn new(settings: &Settings, info: &StreamInfo) -> Targets {
        let video = info.tracks.iter().find_map(|track| match &track.kind {
            Kind::Video(video) => Some(video),
            _ => None,
        });
        let own = settings.grid(video.map_or(0.0, |video| video.frame_rate));
        let others = info.renditions.iter();
        let others = others.map(|other| part_target(settings.grid(other.frame_rate)));
        Targets {
            duration: match video.map_or(0, |video| video.keyframe_ms) {
                0 => 0,
                known => settings.target(known),
            },
            grid: own,
            part: part_target(own),
            part_hold_back: 3 * others.fold(part_target(own), Time::max),
        }
    }

    /// Tolerance of the grid. A part ends at the start of a frame that is this close to the grid, and otherwise on the
    /// grid, even if a frame is then presented slightly beyond the part's end.
    pub fn slack(grid: Time) -> Time {
        grid / 40
    }
}

impl Settings {
    /// Duration of parts at a frame rate (0: unknown): the number of whole frames that comes closest to the desired
    /// duration.
    pub fn grid(&self, rate: f32) -> Time {
        let desired = self.part.unwrap_or(FRAGMENT) as f64;
        let frame = SECOND as f64 / f64::from(rate);
        let aim = if rate.is_finite() && (0.05..=1000.0).contains(&rate) {
            (desired / frame).round().max(1.0) * frame
        } else {
            desired
        };
        aim.round() as Time
    }
}

/// Part target duration. Both ends of a part may be off the grid, so a part has between 95 % and 105 % of the grid.
/// That is more than the required 85 % of the target (4.4.4.9).
fn part_target(grid: Time) -> Time {
    grid + 2 * Targets::slack(grid)
}

fn check_range(name: &str, ms: u32, allowed: RangeInclusive<u32>) -> Result<(), String> {
    if allowed.contains(&ms) {
        return Ok(());
    }
    let (least, most) = (allowed.start(), allowed.end());
    Err(format!(
        "option `{name}`: `{ms}ms` is out of range; write \"{least}ms\" to \"{}s\"",
        most / 1000
    ))
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of segments or a duration, such as 10 or \"20s\"")
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<Window, E> {
                Ok(Window::Segments(u32::try_from(count).unwrap_or(u32::MAX)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Window, E> {
                Millis::parse(text).map(Window::Time).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use sluicegate_sdk::mock;

    #[test]
    fn presets_fill_in_what_is_not_given() {
        let settings = |segment, part: Option<u64>, window| Settings {
            segment: segment * MILLISECOND,
            part: part.map(|part| part * MILLISECOND),
            window,
        };
        for (json, expected) in [
            ("", settings(2000, Some(200), 10)),
            (r#"{"preset": "mobile"}"#, settings(4000, Some(1000), 8)),
            (
                r#"{"preset": "mobile", "part": "500ms"}"#,
                settings(4000, Some(500), 8),
            ),
            (r#"{"low-latency": false}"#, settings(2000, None, 10)),
            (
                r#"{"segment": "1s", "window": "10.5s"}"#,
                settings(1000, Some(200), 11),
            ),
            (
                r#"{"preset": "mobile", "segment": "1s"}"#,
                settings(1000, Some(500), 8),
            ),
            (r#"{"window": 3}"#, settings(2000, Some(200), 3)),
        ] {
            assert_eq!(Settings::read(json), Ok(expected), "{json}");
        }
    }

    #[test]
    fn mistakes_are_reported() {
        for (json, error) in [
            (
                r#"{"segment": "2 parsecs"}"#,
                "option `segment`: `2 parsecs` is not a valid duration; write for example \"200ms\" or \"2s\"",
            ),
            (
                r#"{"segment": "100ms"}"#,
                "option `segment`: `100ms` is out of range; write \"500ms\" to \"60s\"",
            ),
            (
                r#"{"part": "20ms"}"#,
                "option `part`: `20ms` is out of range; write \"100ms\" to \"10s\"",
            ),
            (
                r#"{"part": "1500ms"}"#,
                "option `part`: `1500ms` is more than half of a segment of 2000 ms; write \"1000ms\" or less, or a longer `segment`",
            ),
            (
                r#"{"part": "200ms", "low-latency": false}"#,
                "option `part`: there are no parts with `low-latency = false`; remove one of the two",
            ),
            (
                r#"{"window": 2}"#,
                "option `window`: 2 segments of 2000 ms are out of range; write 3 to 60, or a duration of that many segments",
            ),
            (
                r#"{"window": "3m"}"#,
                "option `window`: 90 segments of 2000 ms are out of range; write 3 to 60, or a duration of that many segments",
            ),
            (
                r#"{"window": true}"#,
                "option `window`: invalid type: boolean `true`, expected a number of segments or a duration, such as 10 or \"20s\"",
            ),
            (
                r#"{"preset": "moon"}"#,
                "option `preset`: unknown variant `moon`, expected `lan` or `mobile`",
            ),
            (
                r#"{"prt": "200ms"}"#,
                "unknown option `prt`; known: `preset`, `segment`, `part`, `window`, `low-latency`",
            ),
        ] {
            assert_eq!(Settings::read(json).unwrap_err(), error, "{json}");
        }
    }

    #[test]
    fn targets_are_what_keyframes_and_complete_frames_allow() {
        let targets = |json: &str, keyframe_ms, rate| {
            let mut info = mock::video("h264/avcc", "avc1.42c01e", &[]);
            let Kind::Video(video) = &mut info.tracks[0].kind else {
                unreachable!()
            };
            (video.keyframe_ms, video.frame_rate) = (keyframe_ms, rate);
            info.renditions[0].frame_rate = rate;
            let targets = Targets::new(&Settings::read(json).unwrap(), &info);
            assert_eq!(targets.part_hold_back, 3 * targets.part);
            (targets.duration / SECOND, targets.part)
        };
        assert_eq!(targets("", 2000, 30.0), (2, 21_000));
        assert_eq!(targets("", 0, 0.0), (0, 21_000));
        assert_eq!(targets("", 10_000, 24.0), (10, 21_873));
        assert_eq!(targets("", 1000, 1.0), (2, 105_000));
        assert_eq!(targets("", 1500, 1.0), (3, 105_000));
        assert_eq!(targets(r#"{"segment": "1s"}"#, 1000, 60.0), (1, 21_000));
        assert_eq!(targets(r#"{"preset": "mobile"}"#, 2000, 12.5), (4, 109_200));
        assert_eq!(targets("", 3_600_000, f32::NAN), (60, 21_000));
    }

    #[test]
    fn hold_back_is_the_same_for_renditions_of_other_rates() {
        let settings = Settings::read("").unwrap();
        let hold_back = |own: f32| {
            let mut info = mock::video("h264/avcc", "avc1.42c01e", &[]);
            let Kind::Video(video) = &mut info.tracks[0].kind else {
                unreachable!()
            };
            video.frame_rate = own;
            let rates = [30.0, 8.0];
            info.renditions = rates
                .iter()
                .map(|rate| sluicegate_sdk::Rendition {
                    frame_rate: *rate,
                    ..info.renditions[0].clone()
                })
                .collect();
            Targets::new(&settings, &info).part_hold_back
        };
        assert_eq!(hold_back(30.0), hold_back(8.0));
        assert_eq!(hold_back(30.0), 3 * 26_250);
    }

    #[test]
    fn parts_are_held_for_six_target_durations() {
        let settings = Settings::read("").unwrap();
        assert!(settings.held() as u64 * settings.segment * 9 / 10 >= 6 * 4 * SECOND);
        assert_eq!(
            Settings::read(r#"{"low-latency": false}"#).unwrap().held(),
            21
        );
        let long = Settings::read(r#"{"window": 60}"#).unwrap();
        assert_eq!(long.held(), MAX_KEPT_SEGMENTS);
    }
}
