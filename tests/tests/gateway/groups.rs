//! Group numbers are the same in all forms of a stream, whoever requests them and when. Uses the library, with real
//! sources.

use sluicegate_config as config;
use sluicegate_media::sample::Format;
use sluicegate_source::{ConfiguredSource, Fleet, Spec};
use sluicegate_stream::{
    DerivedFeed, Entry, HistorySpan, Next, Reader, Stream, StreamLease, Variant, WakeOn,
};
use sluicegate_telemetry::Events;
use sluicegate_tests::{PATIENCE, media::encode_pattern};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const SECOND: u64 = 90_000;
const GROUP_MS: u32 = 1000;
const FORMATS: [Format; 2] = [Format::H264Avcc, Format::Aac];

const CONFIG: &str = "
[streams.demo]
source = \"SOURCE\"
encode = { width = 320, height = 192, frame-rate = 15, bitrate = \"300k\", keyframe-interval = \"500ms\" }
renditions.mobile = { width = 160, frame-rate = 5, bitrate = \"100k\" }
renditions.often = { width = 160, frame-rate = 10, bitrate = \"100k\", keyframe-interval = \"200ms\" }
";

#[test]
fn numbers_are_equal_in_all_renditions_and_over_restarts_of_followers() {
    compare("test-pattern");
}

/// Every JPEG is independent, so the encoders must agree on which frames become keyframes.
#[test]
fn numbers_are_alike_in_all_renditions_of_jpegs() {
    let file = encode_pattern("numbers.avi", (320, 192), 0, 120, &["-c:v", "mjpeg"]);
    compare(&format!("file:{}", file.display()));
}

#[test]
fn numbers_are_alike_in_all_renditions_of_a_stream_with_b_frames() {
    let file = encode_pattern(
        "numbers.mp4",
        (320, 192),
        0,
        120,
        &[
            "-c:v",
            "libx264",
            "-g",
            "15",
            "-bf",
            "2",
            "-sc_threshold",
            "0",
        ],
    );
    compare(&format!("file:{}", file.display()));
}

/// Runs followers that start at different times, one of them twice, and compares their groups.
fn compare(source: &str) {
    let text = CONFIG.replace("SOURCE", source);
    let config = config::Config::parse(&text, Path::new("groups.toml")).unwrap();
    let settings = &config.streams["demo"];
    let spec = Spec::parse(source, Path::new(".")).unwrap();
    let stream = Stream::new(
        "demo",
        Arc::new(ConfiguredSource::new(spec, &Fleet::new(&None))),
        settings,
        &Arc::<Events>::default(),
    );
    let user = stream.enter();
    let began = Instant::now();
    let mut first = Follower::new(&stream, &user, "");
    let mut others: Vec<Follower> = Vec::new();
    let mut again: Option<Follower> = None;
    let mut before = BTreeMap::new();
    while first.seconds() < 9 {
        assert!(began.elapsed() < PATIENCE, "{:?}", first.groups);
        for (second, name) in [(2, "mobile"), (4, "often"), (5, "")] {
            if first.seconds() >= second && !others.iter().any(|other| other.name == name) {
                others.push(Follower::new(&stream, &user, name));
            }
        }
        // One follower stops and starts again.
        if first.seconds() == 6 && again.is_none() {
            before = others.remove(0).groups;
            others.push(Follower::new(&stream, &user, "often"));
            again = Some(Follower::new(&stream, &user, "mobile"));
        }
        first.follow();
        others
            .iter_mut()
            .chain(&mut again)
            .for_each(Follower::follow);
        thread::park_timeout(Duration::from_millis(5));
    }
    // Two samples at the same time have the same group number, and numbers rise by one.
    let whole = first.groups.clone();
    assert!(whole.len() >= 8, "{whole:?}");
    let numbers: Vec<u64> = whole.values().copied().collect();
    assert!(
        numbers.windows(2).all(|two| two[1] == two[0] + 1),
        "{whole:?}"
    );
    let steps: BTreeSet<u64> = whole
        .keys()
        .zip(whole.keys().skip(1))
        .map(|(one, two)| two - one)
        .collect();
    assert!(steps.iter().all(|step| *step >= SECOND), "{steps:?}");
    let again = again.unwrap().groups;
    assert!(
        before.len() >= 2 && again.len() >= 2,
        "{before:?} {again:?}"
    );
    for (name, groups) in others
        .iter()
        .map(|other| (other.name, &other.groups))
        .chain([("mobile", &before), ("mobile again", &again)])
    {
        for (time, number) in groups {
            assert_eq!(
                whole.get(time),
                Some(number),
                "{name} at {time}: {groups:?} {whole:?}"
            );
        }
        assert!(groups.len() >= 2, "{name}: {groups:?}");
    }
    drop(user);
    stream.shut_down();
}

/// A muxer without a guest.
struct Follower<'a> {
    name: &'static str,
    stream: &'a Stream,
    user: &'a StreamLease,
    /// Reader, its position and the derived feed, once the source's tracks are known.
    place: Option<(Reader, u64, Option<Arc<DerivedFeed>>)>,
    /// Start of each group in presentation time, with its number.
    groups: BTreeMap<u64, u64>,
    newest: u64,
}

impl<'a> Follower<'a> {
    fn new(stream: &'a Stream, user: &'a StreamLease, name: &'static str) -> Follower<'a> {
        Follower {
            name,
            stream,
            user,
            place: None,
            groups: BTreeMap::new(),
            newest: 0,
        }
    }

    /// Seconds on the stream's timeline.
    fn seconds(&self) -> u64 {
        self.newest / SECOND
    }

    fn follow(&mut self) {
        if self.place.is_none() {
            let Some(info) = self.user.feed().info() else {
                return;
            };
            let variant = Variant {
                rendition: self.name.to_owned(),
                ..Variant::default()
            };
            let choice = self.stream.choose(&variant, &info, &FORMATS).unwrap();
            let past = HistorySpan {
                group_ms: GROUP_MS,
                groups: 2,
            };
            let make = |recipe| self.user.derived_feed(recipe, past).unwrap();
            let made = choice.recipe.map(make);
            let feed = made.as_ref().map_or(self.user.feed(), |made| made.feed());
            let reader = feed.reader(WakeOn::All);
            let (position, _) = reader.start(GROUP_MS, 2);
            self.place = Some((reader, position, made));
        }
        let Some((reader, position, _)) = &mut self.place else {
            return;
        };
        loop {
            match reader.next(*position, GROUP_MS) {
                Next::Entry(Entry::Sample(sample), group) => {
                    let newest = self.groups.values().next_back();
                    if newest.is_none_or(|newest| *newest != group.number) {
                        assert!(
                            sample.independent,
                            "{}: a group begins with what needs others",
                            self.name
                        );
                        self.groups.insert(sample.presentation_time(), group.number);
                    }
                    self.newest = sample.decode_time;
                }
                Next::Entry(..) => {}
                Next::Wait => return,
                Next::Lost(..) => panic!("{} is too slow", self.name),
            }
            *position += 1;
        }
    }
}
