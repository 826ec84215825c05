//! Parses playlists into lines, tags and attributes (4.1 to 4.4).

use super::Violation;
use std::collections::BTreeMap;

/// A duration in units of 10 µs.
pub type Time = u64;

/// One second.
pub const SECOND: Time = 100_000;

/// A media playlist.
#[derive(Clone, Debug, Default)]
pub struct Playlist {
    pub version: Option<u64>,
    /// Target duration in seconds.
    pub target: Option<u64>,
    pub part_target: Option<Time>,
    pub has_part_inf: bool,
    /// Attributes of `EXT-X-SERVER-CONTROL`.
    pub control: Option<BTreeMap<String, String>>,
    pub first: u64,
    pub has_sequence: bool,
    pub discontinuity_sequence: Option<u64>,
    pub independent: bool,
    pub skipped: Option<u64>,
    pub segments: Vec<Segment>,
    /// Parts and tags after the last complete segment.
    pub open: Segment,
    pub hints: Vec<(usize, BTreeMap<String, String>)>,
    pub reports: Vec<Report>,
    pub ended: bool,
    pub playlist_type: bool,
}

/// A segment, complete or still growing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    pub msn: u64,
    pub line: usize,
    pub uri: String,
    pub duration: Option<Time>,
    pub parts: Vec<Part>,
    /// `EXT-X-PROGRAM-DATE-TIME` in Unix milliseconds.
    pub date: Option<i64>,
    pub map: Option<Map>,
    /// Whether `EXT-X-DISCONTINUITY` precedes it.
    pub discontinuity: bool,
    /// Discontinuity sequence number.
    pub number: u64,
    pub gap: bool,
}

/// A partial segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    pub line: usize,
    pub uri: String,
    pub duration: Time,
    pub independent: bool,
    pub gap: bool,
}

/// `EXT-X-MAP`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    pub uri: String,
}

/// `EXT-X-RENDITION-REPORT`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    pub line: usize,
    pub uri: Option<String>,
    pub msn: Option<u64>,
    pub part: Option<u64>,
}

/// `EXT-X-STREAM-INF` and its URI.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    pub line: usize,
    pub attributes: BTreeMap<String, String>,
    pub uri: Option<String>,
}

/// Tags that may occur at most once in a playlist.
const ONCE: [&str; 9] = [
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-ENDLIST",
    "EXT-X-PART-INF",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-SKIP",
    "EXT-X-INDEPENDENT-SEGMENTS",
];

const MULTIVARIANT: [&str; 5] = [
    "EXT-X-STREAM-INF",
    "EXT-X-MEDIA",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-SESSION-DATA",
    "EXT-X-SESSION-KEY",
];

struct Reader {
    playlist: Playlist,
    violations: Vec<Violation>,
    seen: BTreeMap<String, usize>,
    map: Option<Map>,
    number: u64,
    line: usize,
}

/// Parses a media playlist; unreadable lines become violations and are skipped.
pub fn parse(text: &str) -> (Playlist, Vec<Violation>) {
    let mut reader = Reader {
        playlist: Playlist::default(),
        violations: as_text(text),
        seen: BTreeMap::new(),
        map: None,
        number: 0,
        line: 0,
    };
    for (at, line) in text.lines().enumerate() {
        reader.line = at + 1;
        match line.strip_prefix('#') {
            _ if line.is_empty() => {}
            Some(tag) if tag.starts_with("EXT") => reader.tag(tag),
            Some(_) => {}
            None => reader.uri(line),
        }
    }
    let next = reader.next_msn();
    reader.playlist.open.msn = next;
    (reader.playlist, reader.violations)
}

/// Parses a multivariant playlist.
pub fn multivariant(text: &str) -> (Vec<Variant>, Vec<Violation>) {
    let mut violations = as_text(text);
    let mut variants: Vec<Variant> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line_number = at + 1;
        let mut fail = |rule, what: &str| violations.push(Violation::new(rule, line_number, what));
        let waiting = variants.last_mut().filter(|variant| variant.uri.is_none());
        match line.strip_prefix('#') {
            _ if line.is_empty() => {}
            None => match waiting {
                Some(variant) => variant.uri = Some(line.to_owned()),
                None => fail("stream-inf-before-uri", line),
            },
            Some(tag) if tag.starts_with("EXT") => {
                if waiting.is_some() {
                    fail("uri-after-stream-inf", line);
                }
                let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                match name {
                    "EXT-X-STREAM-INF" => match attributes(value) {
                        Ok(attributes) => variants.push(Variant {
                            line: line_number,
                            attributes,
                            uri: None,
                        }),
                        Err(error) => fail("attribute-list", &error),
                    },
                    "EXTM3U" | "EXT-X-VERSION" | "EXT-X-INDEPENDENT-SEGMENTS" | "EXT-X-MEDIA" => {}
                    _ => fail("media-tag-in-multivariant", line),
                }
            }
            Some(_) => {}
        }
    }
    if variants.last().is_some_and(|variant| variant.uri.is_none()) {
        violations.push(Violation::new("uri-after-stream-inf", 0, "at the end"));
    }
    (variants, violations)
}

/// Checks rules about the text itself (4.1).
fn as_text(text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    if text.starts_with('\u{feff}') {
        violations.push(Violation::new("no-byte-order-mark", 1, "the text has one"));
    }
    if text.trim_start_matches('\u{feff}').lines().next() != Some("#EXTM3U") {
        violations.push(Violation::new(
            "extm3u-first",
            1,
            "the first line is another",
        ));
    }
    let control = |c: char| c.is_control() && c != '\n' && c != '\r';
    for (at, line) in text.lines().enumerate() {
        if line.contains(control) {
            violations.push(Violation::new("no-control-characters", at + 1, line));
        }
        if line != line.trim() {
            violations.push(Violation::new("no-white-space", at + 1, line));
        }
    }
    violations
}

impl Reader {
    fn fail(&mut self, rule: &'static str, what: impl Into<String>) {
        self.violations.push(Violation::new(rule, self.line, what));
    }

    fn next_msn(&self) -> u64 {
        let playlist = &self.playlist;
        playlist.first + playlist.skipped.unwrap_or(0) + playlist.segments.len() as u64
    }

    fn tag(&mut self, tag: &str) {
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        let times = self.seen.entry(name.to_owned()).or_default();
        *times += 1;
        if *times > 1 && ONCE.contains(&name) {
            self.fail("tag-once", name);
        }
        if MULTIVARIANT.contains(&name) {
            self.fail("multivariant-tag-in-media", name);
        }
        match name {
            "EXTM3U" => {}
            "EXT-X-VERSION" => self.playlist.version = self.integer(value),
            "EXT-X-TARGETDURATION" => self.playlist.target = self.integer(value),
            "EXT-X-MEDIA-SEQUENCE" => {
                self.before_segments(name);
                self.playlist.has_sequence = true;
                self.playlist.first = self.integer(value).unwrap_or(0);
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                self.before_segments(name);
                self.playlist.discontinuity_sequence = self.integer(value);
                self.number = self.playlist.discontinuity_sequence.unwrap_or(0);
            }
            "EXT-X-INDEPENDENT-SEGMENTS" => self.playlist.independent = true,
            "EXT-X-PLAYLIST-TYPE" => self.playlist.playlist_type = true,
            "EXT-X-ENDLIST" => self.playlist.ended = true,
            "EXT-X-PART-INF" => {
                self.playlist.has_part_inf = true;
                let attributes = self.attributes(value);
                self.playlist.part_target = self.seconds_of(&attributes, "PART-TARGET");
            }
            "EXT-X-SERVER-CONTROL" => self.playlist.control = Some(self.attributes(value)),
            "EXT-X-SKIP" => {
                let attributes = self.attributes(value);
                self.before_segments(name);
                self.playlist.skipped = self.integer_of(&attributes, "SKIPPED-SEGMENTS");
                if self.playlist.skipped.is_none() {
                    self.fail("skip-says-how-many", value);
                }
            }
            "EXT-X-PRELOAD-HINT" => {
                let hint = (self.line, self.attributes(value));
                self.playlist.hints.push(hint);
            }
            "EXT-X-RENDITION-REPORT" => {
                let attributes = self.attributes(value);
                let report = Report {
                    line: self.line,
                    uri: attributes.get("URI").cloned(),
                    msn: self.integer_of(&attributes, "LAST-MSN"),
                    part: self.integer_of(&attributes, "LAST-PART"),
                };
                self.playlist.reports.push(report);
            }
            "EXTINF" => self.extinf(value),
            "EXT-X-PART" => self.part(value),
            "EXT-X-GAP" => self.playlist.open.gap = true,
            "EXT-X-DISCONTINUITY" => {
                self.before_parts(name);
                self.number += 1;
                self.playlist.open.discontinuity = true;
            }
            "EXT-X-MAP" => {
                self.before_parts(name);
                let attributes = self.attributes(value);
                match attributes.get("URI") {
                    Some(uri) => self.map = Some(Map { uri: uri.clone() }),
                    None => self.fail("map-has-a-uri", value),
                }
            }
            "EXT-X-PROGRAM-DATE-TIME" => {
                self.before_parts(name);
                self.playlist.open.date = unix_ms(value);
                if self.playlist.open.date.is_none() {
                    self.fail("date-time", value);
                }
            }
            _ if MULTIVARIANT.contains(&name) => {}
            _ => self.fail("unknown-tag", name),
        }
    }

    fn extinf(&mut self, value: &str) {
        let Some((duration, _)) = value.split_once(',') else {
            return self.fail("extinf-ends-in-a-comma", value);
        };
        self.playlist.open.duration = self.seconds(duration);
    }

    fn part(&mut self, value: &str) {
        let attributes = self.attributes(value);
        let duration = self.seconds_of(&attributes, "DURATION");
        let (Some(uri), Some(duration)) = (attributes.get("URI").cloned(), duration) else {
            return self.fail("part-has-uri-and-duration", value);
        };
        let mut flag = |name: &str| match attributes.get(name).map(String::as_str) {
            None => false,
            Some("YES") => true,
            Some(other) => {
                self.fail("flag-is-yes", format!("{name}={other}"));
                false
            }
        };
        let (independent, gap) = (flag("INDEPENDENT"), flag("GAP"));
        self.playlist.open.parts.push(Part {
            line: self.line,
            uri,
            duration,
            independent,
            gap,
        });
    }

    fn uri(&mut self, uri: &str) {
        let mut segment = std::mem::take(&mut self.playlist.open);
        if segment.duration.is_none() {
            self.fail("segment-has-extinf", uri);
        }
        segment.msn = self.next_msn();
        segment.line = self.line;
        segment.uri = uri.to_owned();
        segment.map = self.map.clone();
        segment.number = self.number;
        self.playlist.segments.push(segment);
    }

    fn before_segments(&mut self, name: &str) {
        if !self.playlist.segments.is_empty() || !self.playlist.open.parts.is_empty() {
            self.fail("tag-before-segments", name);
        }
    }

    fn before_parts(&mut self, name: &str) {
        if !self.playlist.open.parts.is_empty() {
            self.fail("tag-before-parts", name);
        }
    }

    fn attributes(&mut self, list: &str) -> BTreeMap<String, String> {
        attributes(list).unwrap_or_else(|error| {
            self.fail("attribute-list", error);
            BTreeMap::new()
        })
    }

    fn integer(&mut self, text: &str) -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        if number.is_none() {
            self.fail("decimal-integer", text);
        }
        number
    }

    fn integer_of(&mut self, attributes: &BTreeMap<String, String>, name: &str) -> Option<u64> {
        self.integer(attributes.get(name)?)
    }

    fn seconds_of(&mut self, attributes: &BTreeMap<String, String>, name: &str) -> Option<Time> {
        self.seconds(attributes.get(name)?)
    }

    fn seconds(&mut self, text: &str) -> Option<Time> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        // iOS does not read more decimals.
        if decimals.len() > 5 {
            self.fail("five-decimals", text);
        }
        let parsed = seconds(whole, decimals);
        if parsed.is_none() {
            self.fail("decimal-floating-point", text);
        }
        parsed
    }
}

/// A decimal number of seconds; decimals after the fifth are cut off.
pub fn seconds(whole: &str, decimals: &str) -> Option<Time> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) {
        return None;
    }
    let five: String = decimals.chars().chain("00000".chars()).take(5).collect();
    Some(whole.parse::<u64>().ok()? * SECOND + five.parse::<u64>().ok()?)
}

/// An attribute list (4.2), with quotes removed.
fn attributes(list: &str) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut rest = list;
    loop {
        let (name, behind) = rest
            .split_once('=')
            .ok_or_else(|| format!("no `=` in {rest:?}"))?;
        let good = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(good) {
            return Err(format!("{name:?} is not an attribute name"));
        }
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .ok_or_else(|| format!("no end of {behind:?}"))?,
            None => behind.split_at(behind.find(',').unwrap_or(behind.len())),
        };
        if found.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(format!("{name} twice"));
        }
        if behind.is_empty() {
            return Ok(found);
        }
        rest = behind
            .strip_prefix(',')
            .ok_or_else(|| format!("no comma before {behind:?}"))?;
    }
}

/// Converts `2026-11-21T10:00:00.123Z` to Unix milliseconds; accepts only UTC with milliseconds or finer.
fn unix_ms(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator| -> Option<Vec<i64>> {
        text.split(separator)
            .map(|part| part.parse().ok())
            .collect()
    };
    let (time, fraction) = time.split_once('.')?;
    let fraction = fraction.get(..3)?.parse::<i64>().ok()?;
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let ([year, month, day], [hour, minute, second]) = (&date[..], &time[..]) else {
        return None;
    };
    if !(1..=12).contains(month) || !(1..=31).contains(day) || *hour > 23 || *minute > 59 {
        return None;
    }
    // Counts the days of the civil calendar one year at a time: slow and simple.
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut days = (1970..*year)
        .map(|year| 365 + i64::from(leap(year)))
        .sum::<i64>();
    let lengths = [
        31,
        28 + i64::from(leap(*year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    days += lengths[..*month as usize - 1].iter().sum::<i64>() + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + fraction)
}
