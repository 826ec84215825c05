//! Whatever a source's clock does, every transport recovers within a second, with audio in sync. Runs in virtual time
//! as a library: samples pass through `Ingest` to the built-in components and to the decoder that JPEGs, renditions and
//! captures share.

use bytes::Bytes;
use sluicegate_media::{
    aac,
    sample::{Audio, Codec},
    time::Moment,
};
use sluicegate_plugin::{Answer, Chunk, Engine, Instance, Limits, Plugin, Profile, Usage};
use sluicegate_source::{AudioTrack, Expected, Sink, SourceTimes};
use sluicegate_stream::{
    Entry, Feed, Frames, GroupNumbers, Ingest, Next, Reader, Selection, Status, WakeOn,
};
use sluicegate_tests::{
    Gateway, PATIENCE,
    camera::{COUNT, GROUP, clip},
    format_for,
    hls::{assert_no_violations, check, parse},
    mp4::{self, Part, Sample},
};
use sluicegate_viewer::Content;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const STARTED: u64 = 1_700_000_000_000_000;
const SECOND: i64 = 90_000;
/// 25 video and 46.875 audio frames per second.
const VIDEO_FRAME: i64 = 3600;
const AUDIO_FRAME: i64 = 1920;
const GLITCH: i64 = 2 * SECOND;
const END: i64 = 5 * SECOND;
/// Tolerance between video and audio, and between either and its position without the glitch.
const SKEW: i64 = SECOND * 60 / 1000;
const SIZES: [f64; 10] = [
    0.5, 2.0, 8.0, 20.0, 3600.0, -0.5, -2.0, -8.0, -20.0, -3600.0,
];

/// Kinds of glitches.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Time stamps are off by this number of ticks.
    Off(i64),
    /// The clock wraps after this number of ticks, at the glitch.
    Wrap(i64),
    /// Time stamps run backwards.
    Backwards,
    /// All samples repeat the previous time stamp.
    Equal,
    /// Samples have no time stamps.
    Untimed,
    /// Samples are lost.
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Glitch {
    kind: Kind,
    /// Number of affected samples per track.
    count: i64,
    video: bool,
    audio: bool,
    /// Only presentation times are affected, decode times are right.
    presentation: bool,
}

impl Glitch {
    /// Decode and presentation time of the sample at `time`, as the source states them; `None` if it is lost.
    fn told(&self, is_audio: bool, time: i64) -> Option<SourceTimes> {
        let step = if is_audio { AUDIO_FRAME } else { VIDEO_FRAME };
        // The first sample at or after the glitch has number 0.
        let nth = (time - GLITCH + step - 1).div_euclid(step);
        let hit = if is_audio { self.audio } else { self.video };
        let hit = hit && (0..self.count).contains(&nth);
        let wrong = match self.kind {
            Kind::Wrap(length) => Some((time - GLITCH).rem_euclid(length)),
            _ if !hit => Some(time),
            Kind::Off(by) => Some(time + by),
            Kind::Backwards => Some(time - 2 * (nth + 1) * step),
            Kind::Equal => Some(time - (nth + 1) * step),
            Kind::Untimed => None,
            Kind::Lost => return None,
        };
        let wrong = wrong.map(|time| time + 3 * SECOND);
        let right = time + 3 * SECOND;
        Some(SourceTimes {
            decode: if self.presentation {
                Some(right)
            } else {
                wrong
            },
            presentation: wrong,
            duration: step as u32,
        })
    }
}

#[test]
fn after_any_glitch_all_transports_recover_within_a_second_in_sync_with_audio() {
    let bench = Bench::new();
    let tracks = [
        (true, false, false),
        (false, true, false),
        (true, true, false),
        (true, false, true),
    ];
    let off = |by: &f64| Kind::Off((by * SECOND as f64) as i64);
    let sizes = SIZES
        .iter()
        .map(off)
        .flat_map(|kind| [1, 10, i64::MAX].map(|count| (kind, count)));
    let others = [Kind::Backwards, Kind::Equal, Kind::Untimed, Kind::Lost];
    let others = others.into_iter().flat_map(|kind| [(kind, 1), (kind, 10)]);
    let mut glitches: Vec<Glitch> = Vec::new();
    for (kind, count) in sizes.chain(others) {
        for (video, audio, presentation) in tracks {
            let is_moot = presentation && matches!(kind, Kind::Lost | Kind::Untimed);
            if !is_moot {
                glitches.push(Glitch {
                    kind,
                    count,
                    video,
                    audio,
                    presentation,
                });
            }
        }
    }
    let wraps = [1 << 33, 1 << 32, (1 << 32) * 90];
    glitches.extend(wraps.map(|length| Glitch {
        kind: Kind::Wrap(length),
        count: 0,
        video: true,
        audio: true,
        presentation: false,
    }));
    for glitch in glitches {
        bench.run(glitch);
    }
}

/// The transports that pass H.264 through.
struct Bench {
    plugins: [(&'static str, Arc<Plugin>); 3],
    audio: Audio,
}

/// A transport in use, with its output.
struct Muxer {
    name: &'static str,
    instance: Instance,
    profile: Profile,
    reader: Reader,
    position: u64,
    out: Vec<Vec<u8>>,
}

impl Bench {
    fn new() -> Bench {
        let engine = Engine::new().unwrap();
        let config = aac::Config::parse(&Bytes::from_static(&[0x11, 0x90])).unwrap();
        Bench {
            plugins: ["nal", "mse", "hls"].map(|name| {
                let path = Gateway::component(name);
                (name, engine.load_file(&path, Limits::default()).unwrap())
            }),
            audio: Audio::aac(&config, 2, "und"),
        }
    }

    fn run(&self, glitch: Glitch) {
        let feed = Feed::new(GroupNumbers::own(STARTED, Duration::from_secs(2)));
        let status = Arc::new(Status::new("glitch", Arc::default()));
        let micros = Arc::<AtomicU64>::default();
        let clock = micros.clone();
        let clock = move || {
            let micros = clock.load(Ordering::Relaxed);
            Moment {
                unix_us: STARTED + micros,
                elapsed: Duration::from_micros(micros),
            }
        };
        let mut muxers = self
            .plugins
            .each_ref()
            .map(|(name, plugin)| Muxer::open(name, plugin, &feed));
        // The decoder ignores audio.
        let frames = glitch.video.then(|| {
            let frames = Frames::start("glitch", &feed, status.clone()).unwrap();
            // Without a follower the decoder thread would pause before each frame to give delivery priority.
            let follower = frames.follow(1);
            (frames, follower)
        });
        let mut ingest = Ingest::new(feed.clone(), status.clone(), STARTED, Box::new(clock));
        ingest.expect(Expected {
            video: true,
            audio: true,
        });
        ingest.configured(25.0);
        ingest.audio_track(AudioTrack {
            audio: self.audio.clone(),
            length: 1024,
            coding: None,
        });
        let mut order: Vec<(i64, bool)> = (0..END / AUDIO_FRAME)
            .map(|nth| (nth * AUDIO_FRAME, true))
            .chain((0..END / VIDEO_FRAME).map(|nth| (nth * VIDEO_FRAME, false)))
            .collect();
        order.sort_unstable();
        let mut video = Vec::new();
        for (time, is_audio) in order {
            // Samples arrive up to 20 ms late.
            let arrives = time + 900 + (time / 7).rem_euclid(1800);
            micros.fetch_max(arrives as u64 * 100 / 9, Ordering::Relaxed);
            let Some(times) = glitch.told(is_audio, time) else {
                continue;
            };
            match is_audio {
                true => ingest.audio_frame(Bytes::copy_from_slice(&time.to_be_bytes()), times),
                false => {
                    let nth = (time / VIDEO_FRAME) as usize % COUNT;
                    let clip = clip();
                    ingest.access_unit(clip.frames[nth].clone(), times);
                    // Frames that refer to a lost one are not usable.
                    let group = GLITCH..GLITCH + GROUP as i64 * VIDEO_FRAME;
                    if !(glitch.video && matches!(glitch.kind, Kind::Lost) && group.contains(&time))
                    {
                        video.push(time);
                    }
                }
            }
            muxers.iter_mut().for_each(Muxer::follow);
            if let Some((frames, _)) = &frames
                && !is_audio
            {
                // Audio alone does not wake the decoder.
                let end = feed.newest_frame().map_or(0, |newest| newest + 1);
                let until = Instant::now() + PATIENCE;
                let sight = frames.wait_for(until, |sight| sight.reached >= end);
                assert!(sight.reached >= end, "{glitch:?}: the decoder is stuck");
                if time >= GLITCH + SECOND {
                    let good = sight.good.expect("a good frame").time as i64;
                    assert!(
                        (good - time).abs() <= 2 * SKEW,
                        "{glitch:?}: at {time} seen {good}"
                    );
                }
            }
        }
        let notes = status.report(true).notes;
        let is_told = matches!(glitch.kind, Kind::Off(_)) && (!glitch.presentation || glitch.video);
        assert!(!is_told || !notes.is_empty(), "{glitch:?}: not reported");
        for muxer in muxers {
            muxer.check(&glitch, &video);
        }
    }
}

impl Muxer {
    fn open(name: &'static str, plugin: &Arc<Plugin>, feed: &Arc<Feed>) -> Muxer {
        let (instance, profile) =
            Instance::open(plugin, "glitch", "{}", Arc::<Usage>::default()).unwrap();
        let reader = feed.reader(WakeOn::All);
        let (position, _) = reader.start(profile.group_ms, profile.history);
        Muxer {
            name,
            instance,
            profile,
            reader,
            position,
            out: Vec::new(),
        }
    }

    fn follow(&mut self) {
        while let Next::Entry(entry, group) = self.reader.next(self.position, self.profile.group_ms)
        {
            self.position += 1;
            match entry {
                Entry::Configure(info) => {
                    let choice = Selection {
                        video: format_for(&self.profile, Codec::H264),
                        audio: format_for(&self.profile, Codec::Aac),
                        recipe: None,
                    };
                    self.instance.configure(&info, choice, &[], 0).unwrap();
                }
                Entry::Sample(sample) if format_for(&self.profile, sample.codec()).is_none() => {}
                Entry::Sample(sample) => {
                    let chunks = self.instance.push(&sample, group).unwrap();
                    self.out.extend(chunks.iter().filter_map(bytes));
                }
                Entry::Stop(reason) => panic!("stopped: {reason}"),
            }
        }
    }

    /// Checks the output. `video` has the times, without the glitch, of the video frames that were pushed.
    fn check(mut self, glitch: &Glitch, video: &[i64]) {
        let what = format!("{} {glitch:?}", self.name);
        match self.name {
            "nal" => return assert_eq!(self.out.len(), video.len(), "{what}"),
            "hls" => self.read_playlist(glitch, &what),
            _ => {}
        }
        let mut samples: Vec<Sample> = Vec::new();
        for bytes in &self.out {
            for part in mp4::read(bytes).0 {
                if let Part::Fragment(fragment) = part {
                    samples.extend(fragment.samples);
                }
            }
        }
        let (seen, heard): (Vec<Sample>, Vec<Sample>) =
            samples.into_iter().partition(|sample| sample.track == 1);
        assert_eq!(seen.len(), video.len(), "{what}: a frame is missing");
        let rises = |samples: &[Sample]| {
            samples
                .windows(2)
                .all(|two| two[0].decode_time < two[1].decode_time)
        };
        assert!(
            rises(&seen) && rises(&heard),
            "{what}: decode times do not rise"
        );

        // Pairs of the time without a glitch and the offset from it.
        let seen: Vec<(i64, i64)> = video
            .iter()
            .zip(&seen)
            .map(|(time, sample)| (*time, sample.presentation_time() as i64 - time))
            .collect();
        let heard: Vec<(i64, i64)> = heard
            .iter()
            .map(|sample| {
                let time = i64::from_be_bytes(sample.data[..].try_into().unwrap());
                (
                    time,
                    sample.presentation_time() as i64 * SECOND / 48_000 - time,
                )
            })
            .collect();
        let after = |(time, _): &&(i64, i64)| *time >= GLITCH + SECOND;
        for (places, step) in [(&seen, VIDEO_FRAME), (&heard, AUDIO_FRAME)] {
            let places: Vec<_> = places.iter().filter(after).collect();
            assert!(
                places.windows(2).all(|two| two[1].0 - two[0].0 == step),
                "{what}: one is missing after the glitch"
            );
            assert!(
                places.len() as i64 >= (END - GLITCH - SECOND) / step - 1,
                "{what}: {places:?}"
            );
            for (time, off) in places {
                assert!(
                    (off - seen[0].1).abs() <= SKEW,
                    "{what}: at {} ms off by {} ms",
                    time / 90,
                    (off - seen[0].1) / 90
                );
            }
        }
        let (last_seen, last_heard) = (seen.last().unwrap().1, heard.last().unwrap().1);
        assert!(
            (last_seen - last_heard).abs() <= SKEW,
            "{what}: {last_seen} {last_heard}"
        );
    }

    /// Reads what an HLS player would read.
    fn read_playlist(&mut self, glitch: &Glitch, what: &str) {
        self.instance.stop("the end", true).unwrap();
        let text = String::from_utf8(self.get("media.m3u8")).unwrap();
        // Where frames are missing, parts cannot have their regular duration.
        if !matches!(glitch.kind, Kind::Lost) {
            assert_no_violations(what, &text, &check(&text));
        }
        let (playlist, _) = parse(&text);
        for segment in &playlist.segments {
            assert!(!segment.gap, "{what}: {text}");
            let bytes = self.get(&segment.uri);
            self.out.push(bytes);
        }
        let breaks = playlist
            .segments
            .iter()
            .filter(|segment| segment.discontinuity);
        assert_eq!(breaks.count(), 0, "{what}: {text}");
    }

    fn get(&mut self, path: &str) -> Vec<u8> {
        match self.instance.request(path, "").unwrap() {
            Answer::Done(response) => {
                assert_eq!(response.status, 200, "{path}");
                response.body.to_bytes().to_vec()
            }
            other => panic!("{path}: {other:?}"),
        }
    }
}

fn bytes(chunk: &Chunk) -> Option<Vec<u8>> {
    match &chunk.content {
        Content::Binary(buffer) => Some(buffer.to_bytes().to_vec()),
        Content::Text(_) => None,
    }
}
