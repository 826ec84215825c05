//! The options, and what follows from them and the tracks: target durations, hold-backs, how much is held.

use crate::time::{MILLISECOND, SECOND, Time};
use sluicegate_sdk::serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use sluicegate_sdk::{Kind, Millis, StreamInfo};
use std::{fmt, ops::RangeInclusive};

const SEGMENT: RangeInclusive<u32> = 500..=60_000;
const PART: RangeInclusive<u32> = 100..=10_000;
const WINDOW: RangeInclusive<u32> = 3..=60;
/// Keyframes further apart than this are asked for rather than waited for.
const MAX_KEYFRAME_MS: u32 = 60_000;
/// What is provided for where a source does not tell how far apart its keyframes are.
const LIKELY_KEYFRAME: Time = 2 * SECOND;
/// Without parts segments are still written in fragments, as long as this at most.
const FRAGMENT: Time = SECOND;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(crate = "sluicegate_sdk::serde", rename_all = "lowercase")]
enum Preset {
    /// Parts of 200 ms, segments of 2 s, 10 of them.
    #[default]
    Lan,
    /// Parts of 1 s, segments of 4 s, 8 of them: fewer requests, more in the buffer.
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
    /// What the others are where they are not given. Default `"lan"`.
    preset: Preset,
    /// A segment ends at the first keyframe after about this long.
    segment: Option<Millis>,
    /// Low latency: parts of about this long, as whole pictures make it.
    part: Option<Millis>,
    /// How much a playlist lists: a number of segments, or a time.
    window: Option<Window>,
    /// `false`: no parts; for players and caches that want plain HLS. Default `true`.
    low_latency: Option<bool>,
}

/// The options, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Length of a segment, wished for.
    pub segment: Time,
    /// Length of a part, wished for. `None`: plain HLS.
    pub part: Option<Time>,
    /// Segments listed, if they are not too short or too large together.
    pub window: usize,
}

impl Settings {
    /// # Errors
    /// Which option is wrong and what to write.
    pub fn read(json: &str) -> Result<Settings, String> {
        let options: Options = sluicegate_sdk::options(json)?;
        let (part, segment, window) = match options.preset {
            Preset::Lan => (200, 2000, 10),
            Preset::Mobile => (1000, 4000, 8),
        };
        let low_latency = options.low_latency.unwrap_or(true);
        if !low_latency && options.part.is_some() {
            return Err(
                "option `part`: there are no parts with `low-latency = false`; leave one of them out"
                    .into(),
            );
        }
        let segment = options.segment.map_or(segment, |segment| segment.0);
        within("segment", segment, SEGMENT)?;
        // A part that nobody asked for gives way to a short segment.
        let part = options.part.map_or(part.min(segment / 2), |part| part.0);
        within("part", part, PART)?;
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
        if !WINDOW.contains(&window) {
            return Err(format!(
                "option `window`: {window} segments of {segment} ms cannot be listed; write {} to {}, or a time that is so many segments",
                WINDOW.start(),
                WINDOW.end()
            ));
        }
        Ok(Settings {
            segment: Time::from(segment) * MILLISECOND,
            part: low_latency.then_some(Time::from(part) * MILLISECOND),
            window: window as usize,
        })
    }

    /// The host's groups are the segments: one begins at the first keyframe so much later. A bit early, as a camera's two
    /// seconds are not always quite two seconds.
    pub fn group_ms(&self) -> u32 {
        u32::try_from(self.segment * 9 / 10 / MILLISECOND).unwrap_or(u32::MAX)
    }

    /// Complete segments held: those listed, and longer those that clients may still ask for. A segment stays for the time
    /// that it was listed and as long as itself (6.2.2), a part for three target durations after its tag has gone, which is
    /// after three (6.2.2).
    pub fn held(&self) -> usize {
        // Until its tag has gone it was listed for `window` segments; and so long again.
        let listed = 2 * self.window + 1;
        if self.part.is_none() {
            return listed;
        }
        let parts = (6 * self.target(0)).div_ceil(self.segment * 9 / 10) as usize + 1;
        listed.max(parts).min(MAX_HELD)
    }

    /// How long a segment is, in whole seconds rounded up, where keyframes are this far apart (0: unknown; then what is likely):
    /// it ends at the first one that is not too early.
    fn target(&self, keyframe_ms: u32) -> Time {
        let least = self.segment * 9 / 10;
        let longest = match keyframe_ms {
            0 => least + self.segment.max(LIKELY_KEYFRAME),
            known => {
                let apart = Time::from(known.min(MAX_KEYFRAME_MS)) * MILLISECOND;
                least.div_ceil(apart) * apart
            }
        };
        longest.div_ceil(SECOND) * SECOND
    }
}

/// The host keeps 64 groups for an instance at most, and the newest is not complete.
const MAX_HELD: usize = 63;

/// What a playlist promises, from what is known when the tracks are; the segments may tell more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Whole seconds; 0 where the source does not tell how far apart its keyframes are. Then the segments themselves tell.
    pub duration: Time,
    /// Parts, or fragments of a plain segment, end at multiples of this in their segment, give or take [`Targets::slack`].
    pub grid: Time,
    /// No part is longer, unless it is a single picture.
    pub part: Time,
    /// Where a player starts in low-latency mode, behind the end.
    pub part_hold_back: Time,
}

impl Targets {
    /// For these tracks and renditions.
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

    /// A part ends at a picture's start if that is so close to the grid, and else on the grid, though a picture may then be
    /// shown beyond its end.
    pub fn slack(grid: Time) -> Time {
        grid / 40
    }
}

impl Settings {
    /// The length of parts at so many pictures a second (0: unknown): as many whole pictures as fit best.
    pub fn grid(&self, rate: f32) -> Time {
        let wished = self.part.unwrap_or(FRAGMENT) as f64;
        let picture = SECOND as f64 / f64::from(rate);
        let aim = if rate.is_finite() && (0.05..=1000.0).contains(&rate) {
            (wished / picture).round().max(1.0) * picture
        } else {
            wished
        };
        aim.round() as Time
    }
}

/// The part target: both ends of a part may be off the grid, so that it is between 95 % and 105 % of its distance. That is
/// more than the 85 % of the target that a part must have (4.4.4.9).
fn part_target(grid: Time) -> Time {
    grid + 2 * Targets::slack(grid)
}

fn within(name: &str, ms: u32, good: RangeInclusive<u32>) -> Result<(), String> {
    if good.contains(&ms) {
        return Ok(());
    }
    let (least, most) = (good.start(), good.end());
    Err(format!(
        "option `{name}`: `{ms}ms` cannot be; write \"{least}ms\" to \"{}s\"",
        most / 1000
    ))
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Window;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number of segments or a duration: write e.g. 10 or \"20s\"")
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
    fn mistakes_are_told() {
        for (json, error) in [
            (
                r#"{"segment": "2 parsecs"}"#,
                "option `segment`: `2 parsecs` is no duration: write e.g. \"200ms\" or \"2s\"",
            ),
            (
                r#"{"segment": "100ms"}"#,
                "option `segment`: `100ms` cannot be; write \"500ms\" to \"60s\"",
            ),
            (
                r#"{"part": "20ms"}"#,
                "option `part`: `20ms` cannot be; write \"100ms\" to \"10s\"",
            ),
            (
                r#"{"part": "1500ms"}"#,
                "option `part`: `1500ms` is more than half of a segment of 2000 ms; write \"1000ms\" or less, or a longer `segment`",
            ),
            (
                r#"{"part": "200ms", "low-latency": false}"#,
                "option `part`: there are no parts with `low-latency = false`; leave one of them out",
            ),
            (
                r#"{"window": 2}"#,
                "option `window`: 2 segments of 2000 ms cannot be listed; write 3 to 60, or a time that is so many segments",
            ),
            (
                r#"{"window": "3m"}"#,
                "option `window`: 90 segments of 2000 ms cannot be listed; write 3 to 60, or a time that is so many segments",
            ),
            (
                r#"{"window": true}"#,
                "option `window`: invalid type: boolean `true`, expected a number of segments or a duration: write e.g. 10 or \"20s\"",
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
    fn targets_are_what_keyframes_and_whole_pictures_make() {
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
        assert_eq!(long.held(), MAX_HELD);
    }
}
