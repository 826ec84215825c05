//! Streams that are damaged on their way: what is visibly undecodable is not sent, nothing panics, and from the next
//! clean keyframe on every frame is there.
//!
//! Criteria: (1) before the damage and from the first clean IDR frame after it, all frames come out, byte for byte and
//! in order, and libavcodec with `err_detect=explode` decodes them without an error; (2) after anything was dropped,
//! the next output is a frame at which decoding may start; (3) if the damage is visible without decoding (lost,
//! exchanged or marked frames, other or unreadable parameter sets), libavcodec reports no error at all.

use bytes::Bytes;
use sluicegate_media::{
    h264::{annexb, avcc, nal},
    sample::Format,
    time::{Moment, ticks},
};
use sluicegate_source::Sink;
use sluicegate_stream::{Entry, Feed, GroupNumbers, Ingest, Next, Status, WakeOn};
use sluicegate_tests::{
    Feeder, Gateway, Nal, PATIENCE,
    camera::{self, COUNT, Clip, GROUP},
    client::is_header,
    damage::{Damage, Random, StrictDecoder, miscounted},
    feeder::write_in_chunks,
    media::{NumberReader, cut, encode_pattern, ffmpeg, frames, nals_of, with_start_codes},
    scratch, within,
};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Damaged groups in a stream, each followed by a clean one.
const DAMAGED_GROUPS: usize = 4;
/// Streams for each kind of damage and each clip.
const SEEDS: u64 = 24;

#[test]
fn damage_sends_nothing_undecodable_if_visible_and_ends_at_the_next_keyframe() {
    let sliced = sliced();
    for damage in Damage::ALL {
        for seed in 0..SEEDS {
            judge(camera::clip(), damage, seed, damage.shows());
            // A frame can lose slices after the first one without a visible sign.
            judge(&sliced, damage, seed, false);
        }
    }
}

/// The clip with four slices per frame.
fn sliced() -> Clip {
    let arguments = [
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "10", "-slices", "4",
    ];
    let file = encode_pattern("sliced.h264", (320, 192), 0, COUNT as u64, &arguments);
    let clip = Clip::new(frames(&nals_of(&file)));
    assert!(clip.frames[1].len() == 4, "slices");
    clip
}

fn judge(clip: &Clip, damage: Damage, seed: u64, strict: bool) {
    let what = format!("{damage:?}, seed {seed}");
    let mut random = Random::new(seed * 31 + damage as u64);
    let mut run = Run::new();
    let mut judge = StrictDecoder::default();
    let group = |nth: usize| &clip.frames[nth % (COUNT / GROUP) * GROUP..][..GROUP];
    let bytes = |nth: usize| with_start_codes(&group(nth).concat(), |_| 4);
    let mut next = 0;
    for _ in 0..DAMAGED_GROUPS {
        run.send(&bytes(next), &mut random);
        run.send(
            &damage.apply(group(next + 1), &other_sps(), &mut random),
            &mut random,
        );
        next += 2;
    }
    run.send(&bytes(next), &mut random);
    run.send(&bytes(next + 1), &mut random);
    run.ingest.silence();

    let samples = run.samples();
    assert!(samples[0].start, "{what}");
    let places: Vec<Option<usize>> = samples.iter().map(|one| clip.find(&one.bytes)).collect();
    // (1) Every clean group is complete.
    for clean in (0..=next).step_by(2).chain([next + 1]) {
        let first = clean % (COUNT / GROUP) * GROUP;
        let expected: Vec<Option<usize>> = (first..first + GROUP).map(Some).collect();
        let start = places.windows(GROUP).position(|places| places == expected);
        // The last frame of a group is adjacent to the damaged group after it and may be lost with its first bytes.
        let most = start.or_else(|| {
            let less = &expected[..GROUP - 1];
            places.windows(GROUP - 1).position(|places| places == less)
        });
        let start =
            most.unwrap_or_else(|| panic!("{what}: group {clean} is incomplete: {places:?}"));
        let mut fresh = StrictDecoder::default();
        // As for a new viewer: the header first.
        let mut header = samples[start].header.clone();
        for sample in &samples[start..start + GROUP - 1] {
            let bytes = [std::mem::take(&mut header), sample.bytes.clone()].concat();
            assert_eq!(fresh.feed(&bytes), 1, "{what}: group {clean}");
        }
        assert_eq!(fresh.errors, 0, "{what}: group {clean}");
    }
    // (2) After a gap comes a start.
    for two in 1..samples.len() {
        let (Some(one), Some(other)) = (places[two - 1], places[two]) else {
            continue;
        };
        let follows = other == (one + 1) % COUNT || other == one;
        assert!(
            follows || samples[two].start || damage == Damage::FlippedInHeader,
            "{what}: {other} after {one}: {places:?}"
        );
    }
    // (3) Visible damage causes no decoding error.
    for sample in &samples {
        judge.feed(&sample.bytes);
    }
    if strict {
        assert_eq!(judge.errors, 0, "{what}: {places:?}");
        assert!(places.iter().all(Option::is_some), "{what}: {places:?}");
    }
}

/// SPS of a stream with another size.
fn other_sps() -> Bytes {
    static OTHER: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
    let sps = OTHER.get_or_init(|| {
        let file = encode_pattern("other.h264", (640, 352), 0, 1, &["-c:v", "libx264"]);
        let nals = nals_of(&file);
        let sps = nals.iter().find(|unit| nal::unit_type(unit) == nal::SPS);
        sps.unwrap().clone()
    });
    sps.clone()
}

/// Ingest and feed of a source, without sockets and with a virtual clock.
struct Run {
    ingest: Ingest,
    feed: Arc<Feed>,
    now: Arc<AtomicU64>,
}

struct Sent {
    /// Parameter sets that a viewer needs before the sample if it starts there.
    header: Bytes,
    bytes: Bytes,
    start: bool,
}

impl Run {
    fn new() -> Run {
        let (feed, now) = (
            Feed::new(GroupNumbers::own(0, Duration::ZERO)),
            Arc::new(AtomicU64::new(0)),
        );
        let ms = now.clone();
        let clock = move || {
            let ms = ms.load(Ordering::Relaxed);
            Moment {
                unix_us: ms * 1000,
                elapsed: Duration::from_millis(ms),
            }
        };
        let status = Arc::new(Status::new("stream", Arc::default()));
        Run {
            ingest: Ingest::new(feed.clone(), status, 0, Box::new(clock)),
            feed,
            now,
        }
    }

    fn send(&mut self, mut bytes: &[u8], random: &mut Random) {
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at((1 + random.roll(3000)).min(bytes.len()));
            self.ingest.byte_stream(Bytes::copy_from_slice(chunk));
            self.now.fetch_add(5, Ordering::Relaxed);
            bytes = rest;
        }
    }

    fn samples(&self) -> Vec<Sent> {
        let reader = self.feed.reader(WakeOn::All);
        let (mut samples, mut position, mut last) = (Vec::new(), 0, None);
        let mut header = Bytes::new();
        while let Next::Entry(entry, _) = reader.next(position, 0) {
            position += 1;
            if let Entry::Configure(info) = &entry {
                let config =
                    avcc::DecoderConfig::parse(&info.video.as_ref().unwrap().config).unwrap();
                header = annexb::join(&[config.sps, config.pps].concat());
            }
            if let Entry::Sample(sample) = entry {
                assert!(last.is_none_or(|last| sample.decode_time > last));
                last = Some(sample.decode_time);
                samples.push(Sent {
                    header: header.clone(),
                    bytes: sample.packaged(Format::H264AnnexB).unwrap(),
                    start: sample.independent,
                });
            }
        }
        assert!(ticks(Duration::from_millis(self.now.load(Ordering::Relaxed))) > 0);
        samples
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_of_a_damaged_stream_stay_and_go_on_with_the_next_keyframe() {
    let clip = camera::clip();
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = within("connect", Nal::connect(gateway.address, "annexb"))
        .await
        .unwrap();
    let mut frames = within(
        "connect",
        sluicegate_tests::mjpeg(gateway.address, "annexb"),
    )
    .await
    .unwrap();
    let mut source = feeder.accept().await;
    let mut random = Random::new(7);
    let group = |nth: usize| &clip.frames[nth % (COUNT / GROUP) * GROUP..][..GROUP];
    for (round, damage) in Damage::ALL.into_iter().enumerate() {
        let hurt = damage.apply(group(2 * round), &other_sps(), &mut random);
        write_in_chunks(&mut source, &hurt).await;
        let clean = group(2 * round + 1).concat();
        write_in_chunks(&mut source, &with_start_codes(&clean, |_| 3)).await;
        let first = (2 * round + 1) % (COUNT / GROUP) * GROUP;
        for expected in first..first + GROUP {
            let what = format!("frame {expected} after {damage:?}");
            while clip.find(&within(&what, viewer.next()).await.unwrap()) != Some(expected) {}
        }
        let last = u32::try_from(first + GROUP - 1).unwrap();
        while within(&format!("{damage:?}"), frames.next_number())
            .await
            .unwrap()
            != last
        {}
    }
    let devices = gateway.api("/api/devices").await;
    assert_eq!(devices[0]["state"], "live", "{devices:#}");
    let plugins = gateway.api("/api/plugins").await;
    for plugin in plugins.as_array().unwrap() {
        assert_eq!(plugin["failures"], 0, "{plugins:#}");
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_that_miscounts_its_frames_is_complete_from_its_fourth_group() {
    let frames = camera::clip().frames.iter();
    let clip = Clip::new(frames.map(|frame| miscounted(frame, 4)).collect());
    let feeder = Feeder::bind().await;
    let gateway = Gateway::serve(&[&feeder.source()]).await;
    let mut viewer = within("connect", Nal::connect(gateway.address, "annexb"))
        .await
        .unwrap();
    let mut source = feeder.accept().await;
    let (mut numbers, mut reader) = (Vec::new(), NumberReader::default());
    let mut expected = Vec::new();
    for (nth, group) in clip.frames.chunks(GROUP).enumerate() {
        write_in_chunks(&mut source, &with_start_codes(&group.concat(), |_| 4)).await;
        let count = if nth < 3 { 1 } else { GROUP };
        for place in nth * GROUP..nth * GROUP + count {
            let mut message = within("a frame", viewer.next()).await.unwrap().to_vec();
            if is_header(&cut(&message)) {
                message.extend(within("its frame", viewer.next()).await.unwrap());
            }
            let frame = clip.frames[place].as_slice();
            assert!(cut(&message).ends_with(frame), "frame {place}");
            numbers.extend(reader.feed(&message));
            expected.push(place);
        }
    }
    // libavcodec decodes them without errors, too.
    let shown: Vec<usize> = numbers.iter().map(|number| *number as usize).collect();
    assert_eq!(shown, expected[..shown.len()]);
    assert!(shown.len() + 2 * GROUP >= expected.len(), "{shown:?}");
    let devices = gateway.api("/api/devices").await;
    assert!(
        devices[0]["notes"]
            .to_string()
            .contains("numbers its frames wrongly"),
        "{devices:#}"
    );
    gateway.no_panic();
}

/// Damage inside containers: bytes exchanged in MP4 and MKV, packets lost in TS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_play_on_from_keyframe_to_keyframe() {
    let clip = camera::clip();
    let raw = encode_pattern(
        "whole.h264",
        (320, 192),
        0,
        COUNT as u64,
        &[
            "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "10",
        ],
    );
    let slices = slices(&nals_of(&raw));
    let dir = scratch("damaged");
    let mut files = Vec::new();
    for (kind, seed) in [
        ("mp4", 1),
        ("mkv", 2),
        ("ts", 3),
        ("mp4", 4),
        ("mkv", 5),
        ("ts", 6),
    ] {
        let file = dir.join(format!("{kind}{seed}.{kind}"));
        ffmpeg(|command| {
            command
                .args(["-r", "30", "-i"])
                .arg(&raw)
                .args(["-c", "copy"])
                .arg(&file)
        });
        hurt(&file, kind, seed);
        files.push(file);
    }
    let sources: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let gateway = Gateway::serve(&sources).await;
    let plays = files.iter().map(|file| {
        let (address, name) = (
            gateway.address,
            file.file_stem().unwrap().to_str().unwrap().to_owned(),
        );
        let (slices, lossy) = (slices.clone(), name.starts_with("ts"));
        tokio::spawn(async move {
            let mut viewer = Nal::connect(address, &name).await.unwrap();
            let (mut judge, mut places, mut seen) =
                (StrictDecoder::default(), Vec::new(), HashSet::new());
            let (mut starts, mut ahead) = (0, Vec::new());
            // Two loops and the beginning of the third, minus what was dropped.
            while starts < 2 {
                let message = within(&name, viewer.next()).await.unwrap();
                let nals = cut(&message);
                let place = nals.iter().find_map(|unit| slices.get(unit).copied());
                starts += usize::from(place == Some(0));
                // Parameter sets alone are not a frame; libavcodec reports an error for them.
                ahead.extend_from_slice(&message);
                if !is_header(&nals) {
                    judge.feed(&std::mem::take(&mut ahead));
                    places.push(place);
                    seen.extend(place);
                }
            }
            println!(
                "{name}: {} of {COUNT} frames as they were, {} errors of {} messages",
                seen.len(),
                judge.errors,
                places.len()
            );
            // Damage in the middle of a TS is detected and dropped.
            if lossy {
                assert!(places.iter().all(Option::is_some), "{name}: {places:?}");
                assert_eq!(judge.errors, 0, "{name}: {places:?}");
                let gap = places.windows(2).find(|two| {
                    let (one, other) = (two[0].unwrap(), two[1].unwrap());
                    other != (one + 1) % COUNT && other % GROUP != 0
                });
                assert_eq!(gap, None, "{name}: {places:?}");
            }
            // A group with an intact keyframe is there up to its end, or up to the damage in it.
            assert!(seen.len() >= COUNT / 2, "{name}: {places:?}");
            let whole = (0..COUNT / GROUP).filter(|group| {
                (group * GROUP..(group + 1) * GROUP).all(|place| seen.contains(&place))
            });
            assert!(whole.count() >= 4, "{name}: {places:?}");
        })
    });
    for play in plays.collect::<Vec<_>>() {
        tokio::time::timeout(PATIENCE, play).await.unwrap().unwrap();
    }
    assert_eq!(clip.frames.len(), COUNT);
    gateway.no_panic();
}

/// Maps slices to the frame they belong to.
fn slices(nals: &[Bytes]) -> Arc<HashMap<Bytes, usize>> {
    let slices = nals
        .iter()
        .filter(|unit| matches!(nal::unit_type(unit), nal::SLICE | nal::IDR));
    Arc::new(slices.cloned().zip(0..).collect())
}

/// Damages the middle of a file, so that it still opens and ends correctly.
fn hurt(file: &Path, kind: &str, seed: u64) {
    let mut bytes = std::fs::read(file).unwrap();
    let mut random = Random::new(seed);
    let (from, to) = (bytes.len() / 5, bytes.len() * 3 / 5);
    if kind == "ts" {
        let packets = from / 188..to / 188;
        let lost: HashSet<usize> = (0..6)
            .map(|_| packets.start + random.roll(packets.len()))
            .collect();
        let kept = bytes
            .chunks(188)
            .enumerate()
            .filter(|(nth, _)| !lost.contains(nth));
        bytes = kept.flat_map(|(_, packet)| packet.to_vec()).collect();
    } else {
        for _ in 0..6 {
            let at = from + random.roll(to - from);
            let length = 1 + random.roll(40);
            let noise = random.bytes(length);
            bytes[at..at + length].copy_from_slice(&noise);
        }
    }
    std::fs::write(file, bytes).unwrap();
}
