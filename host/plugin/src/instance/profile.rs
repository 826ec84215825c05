//! The profile of a transport: what it declares when it is opened, checked and in the host's own types.
//!
//! A component fills in the record `profile` of `wit/gateway.wit` and may write anything there. `Profile::from_guest`
//! rejects values that make no sense for any transport, with a message that names the field, and drops names of
//! carriers, formats and embeds that this gateway does not know; [`Profile::ignored`] lists them for the user. So all
//! code that reads a [`Profile`] can trust it: `Instance::open` makes it, muxers and the gateway's API read it.

use crate::bindings::transport;
use sluicegate_media::sample::{Format, Sample};
use sluicegate_viewer::{Carrier, LaneRule};
use std::time::Duration;

/// Upper limits of a profile: no group is worth waiting for longer than a minute, and no viewer is ten minutes behind.
const MAX_GROUP_MS: u32 = 60_000;
const MAX_HISTORY: u32 = 64;
pub(crate) const MAX_LANES: usize = 16;
/// Bytes of `profile.entry`, and characters of `profile.label`.
const MAX_ENTRY_LEN: usize = 256;
const MAX_LABEL_LEN: usize = 64;
/// Entries of `profile.embeds`.
const MAX_EMBEDS: usize = 16;
/// Entries of `profile.protocols`, and characters of each.
const MAX_PROTOCOLS: usize = 16;
const MAX_PROTOCOL_LEN: usize = 64;
/// Characters of `profile.output`.
const MAX_OUTPUT_LEN: usize = 64;
const MAX_STALE_MS: u32 = 600_000;
const MAX_REPEAT_MS: u32 = 600_000;
const MAX_LATENCY_MS: u32 = 600_000;
/// Shortest interval at which a silent source's last frame is repeated; a shorter `repeat-ms` is raised to it.
const MIN_REPEAT_INTERVAL: Duration = Duration::from_millis(100);

/// What a transport declares when it is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Carriers that it supports, of those that the host knows; at least one.
    pub carriers: Vec<Carrier>,
    /// WebSocket subprotocols that it speaks, best first.
    pub protocols: Vec<String>,
    /// Formats that it takes, of those that the host knows, in order of preference; at least one.
    pub formats: Vec<Format>,
    /// How the chunks of each lane are delivered. Empty for a transport that only answers requests.
    pub lanes: Vec<LaneRule>,
    /// Shortest group, in milliseconds; `profile.group-ms` in `wit/gateway.wit`.
    pub group_ms: u32,
    /// Past groups that a new instance gets; `profile.history`.
    pub history: u32,
    /// How long a source must be silent before its last frame is repeated; `None`: never. `profile.repeat-ms`.
    pub repeat: Option<Duration>,
    /// Latency that the transport adds, in milliseconds; `profile.latency-ms`.
    pub latency_ms: u32,
    /// Data of client streams is passed on as it arrives; `profile.partial-streams`.
    pub partial_streams: bool,
    /// See `profile.entry`.
    pub entry: String,
    /// See `profile.label`; empty if the component has none.
    pub label: String,
    /// See `profile.embeds`.
    pub embeds: Vec<Embed>,
    /// See `profile.output`; empty if the component promises nothing.
    pub output: String,
    /// What the component's profile has and this gateway ignores, for the user.
    pub ignored: Vec<String>,
}

/// What a client without a player of ours can use a transport's entry as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embed {
    /// Image for an `<img>`.
    Image,
    /// HLS playlist.
    Playlist,
    /// Media file without an end.
    File,
    /// WebSocket with one access unit of H.264 (Annex B) in each message.
    AccessUnits,
}

impl Embed {
    const ALL: [Embed; 4] = [
        Embed::Image,
        Embed::Playlist,
        Embed::File,
        Embed::AccessUnits,
    ];

    /// Its name in the WIT.
    pub fn name(self) -> &'static str {
        match self {
            Embed::Image => "image",
            Embed::Playlist => "playlist",
            Embed::File => "file",
            Embed::AccessUnits => "access-units",
        }
    }

    fn from_name(name: &str) -> Option<Embed> {
        Embed::ALL.into_iter().find(|embed| embed.name() == name)
    }
}

/// Whether a field of two profiles differs, its name, and its value in words.
type Field<'a> = (bool, &'a str, &'a dyn Fn(&Profile) -> String);

impl Profile {
    /// Checks what a component declares.
    ///
    /// # Errors
    /// What is wrong with it, for the user.
    pub(super) fn from_guest(raw: transport::Profile) -> Result<Profile, String> {
        let carriers: Vec<Carrier> = raw
            .carriers
            .iter()
            .filter_map(|name| Carrier::from_name(name))
            .collect();
        let formats: Vec<Format> = raw
            .formats
            .iter()
            .filter_map(|name| Format::from_name(name))
            .collect();
        if carriers.is_empty() {
            return Err(format!(
                "it names no carrier of this gateway: {}; available are http, websocket and webtransport",
                named(&raw.carriers)
            ));
        }
        if formats.is_empty() {
            return Err(format!(
                "it names no format of this gateway: {}; available are h264/annexb and h264/avcc, also with ;reorder=0, jpeg and aac",
                named(&raw.formats)
            ));
        }
        if raw.lanes.len() > MAX_LANES {
            return Err(format!(
                "it has {} lanes; at most {MAX_LANES} are allowed",
                raw.lanes.len()
            ));
        }
        let stale_ms = raw.lanes.iter().map(|lane| lane.stale_ms).max();
        for (what, value, good) in [
            ("group-ms", raw.group_ms, 0..=MAX_GROUP_MS),
            ("history", raw.history, 1..=MAX_HISTORY),
            ("repeat-ms", raw.repeat_ms, 0..=MAX_REPEAT_MS),
            ("latency-ms", raw.latency_ms, 0..=MAX_LATENCY_MS),
            (
                "stale-ms of a lane",
                stale_ms.unwrap_or(0),
                0..=MAX_STALE_MS,
            ),
        ] {
            if !good.contains(&value) {
                return Err(format!(
                    "it has {value} for {what}; {} to {} are allowed",
                    good.start(),
                    good.end()
                ));
            }
        }
        check_entry(&raw.entry)?;
        if raw.label.chars().count() > MAX_LABEL_LEN || raw.label.contains(char::is_control) {
            return Err(format!(
                "it has an invalid label; at most {MAX_LABEL_LEN} characters are possible, none of them \
                 control characters"
            ));
        }
        if raw.output.chars().count() > MAX_OUTPUT_LEN || raw.output.contains(char::is_control) {
            return Err(format!(
                "it has an invalid output; at most {MAX_OUTPUT_LEN} characters are possible, none of them \
                 control characters"
            ));
        }
        if raw.protocols.len() > MAX_PROTOCOLS || !raw.protocols.iter().all(|name| is_token(name)) {
            return Err(format!(
                "it has invalid protocols {}; at most {MAX_PROTOCOLS} are possible, each a token of at most \
                 {MAX_PROTOCOL_LEN} letters, digits and signs such as . and - (RFC 6455 section 4.1)",
                named(&raw.protocols)
            ));
        }
        if raw.embeds.len() > MAX_EMBEDS {
            return Err(format!(
                "it has {} embeds; at most {MAX_EMBEDS} are possible",
                raw.embeds.len()
            ));
        }
        Ok(Profile {
            ignored: ignored(&raw),
            entry: raw.entry,
            label: raw.label,
            embeds: raw
                .embeds
                .iter()
                .filter_map(|name| Embed::from_name(name))
                .collect(),
            carriers,
            protocols: raw.protocols,
            output: raw.output,
            formats,
            lanes: raw
                .lanes
                .iter()
                .map(|lane| LaneRule {
                    max_lag: Duration::from_millis(lane.stale_ms.into()),
                    datagrams: lane.datagrams,
                })
                .collect(),
            group_ms: raw.group_ms,
            history: raw.history,
            repeat: (raw.repeat_ms > 0)
                .then(|| MIN_REPEAT_INTERVAL.max(Duration::from_millis(raw.repeat_ms.into()))),
            latency_ms: raw.latency_ms,
            partial_streams: raw.partial_streams,
        })
    }

    /// Whether a transport with this profile can take the place of one with the profile `used` while viewers stay: it
    /// takes the same samples, and serves the same carriers and, if it only answers requests, the same entry.
    pub fn can_follow(&self, used: &Profile) -> bool {
        self.differences(used).is_empty()
    }

    /// What keeps a transport with this profile from taking the place of one with the profile `used`, in words.
    pub fn differences(&self, used: &Profile) -> Vec<String> {
        let formats = |profile: &Profile| names(profile.formats.iter().map(|format| format.name()));
        let carriers =
            |profile: &Profile| names(profile.carriers.iter().map(|carrier| carrier.name()));
        let protocols = |profile: &Profile| names(profile.protocols.iter().map(String::as_str));
        let repeat_ms = |profile: &Profile| {
            profile
                .repeat
                .map_or(0, |repeat| repeat.as_millis())
                .to_string()
        };
        let lacks_carrier = used.carriers.iter().any(|of| !self.carriers.contains(of));
        let lacks_protocol = used.protocols.iter().any(|of| !self.protocols.contains(of));
        let has_lanes = !used.lanes.is_empty();
        let all: [Field<'_>; 8] = [
            (self.formats != used.formats, "formats", &formats),
            (self.group_ms != used.group_ms, "group-ms", &|profile| {
                profile.group_ms.to_string()
            }),
            (self.history != used.history, "history", &|profile| {
                profile.history.to_string()
            }),
            (self.repeat != used.repeat, "repeat-ms", &repeat_ms),
            (self.lanes.len() != used.lanes.len(), "lanes", &|profile| {
                profile.lanes.len().to_string()
            }),
            (lacks_carrier, "carriers", &carriers),
            (lacks_protocol, "protocols", &protocols),
            (
                !has_lanes && self.entry != used.entry,
                "entry",
                &|profile| format!("{:?}", profile.entry),
            ),
        ];
        let differs = all.into_iter().filter(|(differs, ..)| *differs);
        differs
            .map(|(_, field, of)| format!("its `{field}`: {}; in use: {}", of(self), of(used)))
            .collect()
    }

    /// Whether the transport does not get this sample, because it is a repeated frame and the transport wants none.
    pub fn skips(&self, sample: &Sample) -> bool {
        sample.repeat > 0 && self.repeat.is_none()
    }
}

/// Names in words; "none" if there are none.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names[..] {
        [] => "none".into(),
        _ => names.join(", "),
    }
}

/// Whether it is a token (RFC 9110 section 5.6.2), as the name of a subprotocol must be.
fn is_token(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_PROTOCOL_LEN).contains(&name.len()) && name.bytes().all(is_valid)
}

/// Checks `profile.entry`, which becomes part of URLs.
fn check_entry(entry: &str) -> Result<(), String> {
    let is_valid = entry.len() <= MAX_ENTRY_LEN
        && !entry.starts_with('/')
        && !entry
            .split('/')
            .any(|segment| matches!(segment, "." | ".."))
        && !entry.contains(|c: char| c.is_control() || "?#%\\".contains(c));
    match is_valid {
        true => Ok(()),
        false => Err(format!(
            "it has an invalid entry {}; it is a relative path such as index.m3u8, of at most \
             {MAX_ENTRY_LEN} bytes",
            named(&[entry.to_owned()])
        )),
    }
}

/// What of a profile this gateway does not know.
fn ignored(raw: &transport::Profile) -> Vec<String> {
    let unknown = |what: &str, names: &[String], is_known: &dyn Fn(&str) -> bool| {
        let names: Vec<String> = names
            .iter()
            .filter(|name| !is_known(name))
            .cloned()
            .collect();
        (!names.is_empty()).then(|| format!("{what} {}", named(&names)))
    };
    let more: Vec<String> = raw.more.iter().map(|(name, _)| name.clone()).collect();
    [
        unknown("carriers", &raw.carriers, &|name| {
            Carrier::from_name(name).is_some()
        }),
        unknown("formats", &raw.formats, &|name| {
            Format::from_name(name).is_some()
        }),
        unknown("embeds", &raw.embeds, &|name| {
            Embed::from_name(name).is_some()
        })
        .map(|ignored| {
            format!(
                "{ignored} (known: {})",
                names(Embed::ALL.iter().map(|embed| embed.name()))
            )
        }),
        unknown("properties", &more, &|_| false),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The first of a guest's names, shortened for a message: a guest can return thousands of names with megabytes.
fn named(names: &[String]) -> String {
    let short = names.iter().take(8).map(|name| {
        let name: String = name.chars().take(64).collect();
        format!("{name:?}")
    });
    format!("[{}]", short.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
impl Profile {
    /// The profile of a transport with one lane.
    pub(crate) fn for_tests() -> Profile {
        Profile {
            carriers: vec![Carrier::Http],
            protocols: vec![],
            formats: vec![Format::Jpeg],
            lanes: vec![LaneRule::new(Duration::from_secs(1))],
            group_ms: 0,
            history: 1,
            repeat: None,
            latency_ms: 0,
            partial_streams: false,
            entry: String::new(),
            label: String::new(),
            embeds: vec![],
            output: String::new(),
            ignored: vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw() -> transport::Profile {
        transport::Profile {
            carriers: vec!["http".into()],
            protocols: vec![],
            formats: vec!["jpeg".into()],
            lanes: vec![transport::Lane {
                stale_ms: 1000,
                datagrams: false,
            }],
            group_ms: 2000,
            history: 1,
            repeat_ms: 0,
            latency_ms: 0,
            partial_streams: false,
            entry: String::new(),
            label: String::new(),
            embeds: vec![],
            output: String::new(),
            more: vec![],
        }
    }

    #[test]
    fn what_no_transport_can_mean_is_refused_by_its_name() {
        assert!(Profile::from_guest(raw()).is_ok());
        type Change = fn(&mut transport::Profile);
        let changes: [(&str, Change); 17] = [
            ("group-ms", |raw| raw.group_ms = u32::MAX),
            ("history", |raw| raw.history = 65),
            ("history", |raw| raw.history = 0),
            ("repeat-ms", |raw| raw.repeat_ms = u32::MAX),
            ("latency-ms", |raw| raw.latency_ms = u32::MAX),
            ("stale-ms", |raw| raw.lanes[0].stale_ms = u32::MAX),
            ("17 lanes", |raw| raw.lanes = vec![raw.lanes[0]; 17]),
            ("17 embeds", |raw| raw.embeds = vec!["file".into(); 17]),
            ("label", |raw| raw.label = "x".repeat(65)),
            ("label", |raw| raw.label = "H\nLS".into()),
            ("entry", |raw| raw.entry = "/etc".into()),
            ("entry", |raw| raw.entry = "a/../../b".into()),
            ("entry", |raw| raw.entry = "a?b".into()),
            ("output", |raw| raw.output = "x".repeat(65)),
            ("protocols", |raw| raw.protocols = vec!["a b".into()]),
            ("protocols", |raw| raw.protocols = vec![String::new()]),
            ("protocols", |raw| raw.protocols = vec!["a".into(); 17]),
        ];
        for (part, change) in changes {
            let mut changed = raw();
            change(&mut changed);
            let refusal = Profile::from_guest(changed).unwrap_err();
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
        let mut long = raw();
        long.carriers = vec!["x".repeat(1 << 20); 100];
        assert!(Profile::from_guest(long).unwrap_err().len() < 1000);
    }

    #[test]
    fn what_keeps_a_profile_from_following_another_is_named() {
        let used = Profile {
            carriers: vec![Carrier::Http, Carrier::WebSocket],
            repeat: Some(Duration::from_millis(250)),
            ..Profile::for_tests()
        };
        assert!(used.can_follow(&used));
        let more = Profile {
            carriers: Carrier::ALL.into(),
            latency_ms: 5,
            entry: "other".into(),
            ..used.clone()
        };
        assert!(more.can_follow(&used));
        let other = Profile {
            carriers: vec![Carrier::Http],
            ..Profile::for_tests()
        };
        assert_eq!(
            other.differences(&used),
            [
                "its `repeat-ms`: 0; in use: 250",
                "its `carriers`: http; in use: http, websocket"
            ]
        );
        let only_answers = |entry: &str| Profile {
            lanes: vec![],
            entry: entry.into(),
            ..Profile::for_tests()
        };
        assert_eq!(
            only_answers("b").differences(&only_answers("")),
            ["its `entry`: \"b\"; in use: \"\""]
        );
    }

    #[test]
    fn ignored_entries_of_a_profile_are_listed() {
        let mut asks = raw();
        asks.carriers.push("rtc".into());
        asks.formats.push("opus".into());
        asks.embeds = vec!["hologram".into(), "file".into()];
        asks.more = vec![("colour".into(), "red".into())];
        let profile = Profile::from_guest(asks).unwrap();
        assert_eq!(profile.embeds, [Embed::File]);
        let expected = [
            "carriers [\"rtc\"]",
            "formats [\"opus\"]",
            "embeds [\"hologram\"] (known: image, playlist, file, access-units)",
            "properties [\"colour\"]",
        ];
        assert_eq!(profile.ignored, expected);
    }
}
