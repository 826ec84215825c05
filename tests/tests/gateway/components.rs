//! The built-in and example components in wasmtime, without a gateway around them.

use bytes::Bytes;
use sluicegate_media::{
    geometry::Geometry,
    group::{GroupBoundary, GroupIndex},
    sample::{Codec, Format, Sample, Times, Video},
};
use sluicegate_plugin::{
    Answer, Chunk, Effect, Engine, Instance, JoinRequest, Limits, Plugin, Profile, Usage,
};
use sluicegate_stream::Info;
use sluicegate_tests::{Gateway, format_for, media};
use sluicegate_viewer::{Carrier, Content};
use std::sync::Arc;

const STARTED_AT: u64 = 1_700_000_000_000_000;

fn plugin(name: &str) -> Arc<Plugin> {
    let engine = Engine::new().unwrap();
    engine
        .load_file(&Gateway::component(name), Limits::default())
        .unwrap()
}

fn open(plugin: &Arc<Plugin>) -> (Instance, Profile) {
    Instance::open(plugin, "test", "{}", Arc::<Usage>::default()).unwrap()
}

/// Bytes of a chunk, its lane, and whether a viewer may start at it.
type Flat = (Vec<u8>, u8, bool);

fn flat(chunk: &Chunk) -> Flat {
    let bytes = match &chunk.content {
        Content::Binary(buffer) => buffer.to_bytes().to_vec(),
        Content::Text(text) => text.as_bytes().to_vec(),
    };
    (bytes, chunk.lane, chunk.independent)
}

/// A little more than two seconds of the test pattern as samples, with a keyframe every ten frames.
fn h264() -> (Info, Vec<Sample>) {
    let path = media::encode_pattern(
        "components.h264",
        (320, 180),
        0,
        65,
        &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "10",
            "-bf",
            "0",
            "-f",
            "h264",
        ],
    );
    let mut assembler = sluicegate_media::h264::access_unit::Assembler::default();
    let mut units: Vec<_> = media::nals_of(&path)
        .into_iter()
        .filter_map(|nal| assembler.push(nal))
        .collect();
    units.extend(assembler.flush());
    let sets = assembler.parameter_sets().unwrap().clone();
    let info = Info {
        started_at: STARTED_AT,
        video: Some(Video {
            codec: Codec::H264,
            codec_string: sets.picture.codec.clone(),
            config: sets.decoder_config(),
            width: 320,
            height: 180,
            geometry: Geometry::default(),
            frame_rate: 30.0,
            keyframe_ms: 0,
        }),
        ..Info::default()
    };
    let samples = units
        .into_iter()
        .zip(0u64..)
        .map(|(unit, number)| Sample::h264(times(number), unit.start.is_some(), unit.nals))
        .collect();
    (info, samples)
}

/// Samples that only look like JPEGs, which is enough for a muxer.
fn jpeg() -> (Info, Vec<Sample>) {
    let (mut info, _) = h264();
    let video = info.video.as_mut().unwrap();
    video.codec = Codec::Jpeg;
    video.config = Bytes::new();
    let samples = (0..20u64)
        .map(|number| Sample::jpeg(times(number), vec![number as u8; 5000].into()))
        .collect();
    (info, samples)
}

fn times(number: u64) -> Times {
    Times {
        decode_time: number * 3000,
        composition_offset: 0,
        duration: 3000,
        captured_at: STARTED_AT + number * 33_333,
    }
}

/// Chunks and header that a new instance returns for the samples from `start` on.
fn run(
    plugin: &Arc<Plugin>,
    info: &Info,
    samples: &[Sample],
    start: usize,
) -> (Vec<Vec<u8>>, Vec<Vec<Flat>>) {
    let (mut instance, profile) = open(plugin);
    let format = format_for(&profile, info.video.as_ref().unwrap().codec).unwrap();
    // The host counts groups over the whole run, not from the start of an instance.
    let mut index = GroupIndex::new(STARTED_AT, 1);
    index.need(profile.group_ms);
    let mut group = None;
    let header = instance.configure(info, format, &[], 0).unwrap();
    let header = header
        .iter()
        .map(|content| match content {
            Content::Binary(buffer) => buffer.to_bytes().to_vec(),
            Content::Text(text) => text.as_bytes().to_vec(),
        })
        .collect();
    let mut all = Vec::new();
    for (nth, sample) in samples.iter().enumerate() {
        if sample.independent {
            let shown = index.observe(sample);
            group = index.group(profile.group_ms, GroupBoundary::Every, shown);
        }
        if nth >= start {
            let chunks = instance.push(sample, group.unwrap()).unwrap();
            all.push(chunks.iter().map(flat).collect());
        }
    }
    (header, all)
}

/// Invariant 5: output depends only on the options, the tracks and the samples since the group began.
fn restartable(name: &str, info: &Info, samples: &[Sample]) {
    let plugin = plugin(name);
    let (header, whole) = run(&plugin, info, samples, 0);
    assert!(whole.iter().flatten().count() > 0);
    let starts: Vec<usize> = samples
        .iter()
        .enumerate()
        .filter(|(_, sample)| sample.independent)
        .map(|(nth, _)| nth)
        .collect();
    assert!(starts.len() > 3, "{starts:?}");
    for start in starts {
        let (again, rest) = run(&plugin, info, samples, start);
        assert_eq!(again, header);
        assert!(
            rest == whole[start..],
            "{name}: fed from sample {start} it gives out something else"
        );
    }
}

#[test]
fn nal_gives_the_same_chunks_from_any_group_start() {
    let (info, samples) = h264();
    restartable("nal", &info, &samples);
}

#[test]
fn mse_gives_the_same_chunks_from_any_group_start() {
    let (info, samples) = h264();
    restartable("mse", &info, &samples);
}

#[test]
fn the_example_gives_the_same_chunks_from_any_group_start() {
    let (info, samples) = h264();
    restartable("h264", &info, &samples);
}

#[test]
fn mjpeg_gives_the_same_chunks_from_any_group_start() {
    let (info, samples) = jpeg();
    restartable("mjpeg", &info, &samples);
}

#[test]
fn nal_passes_each_access_unit_as_it_is_and_starts_viewers_at_keyframes() {
    let (info, samples) = h264();
    let (header, chunks) = run(&plugin("nal"), &info, &samples, 0);
    assert_eq!(header.len(), 1);
    assert!(
        header[0].starts_with(&[0, 0, 0, 1, 0x67]),
        "{:02x?}",
        &header[0][..8]
    );
    for (sample, chunks) in samples.iter().zip(&chunks) {
        let unit = sample.packaged(Format::H264AnnexB).unwrap();
        assert_eq!(chunks.as_slice(), [(unit.to_vec(), 0, sample.independent)]);
    }
}

#[test]
fn mjpeg_parts_carry_type_and_length_and_any_may_be_the_first() {
    let (info, samples) = jpeg();
    let (header, chunks) = run(&plugin("mjpeg"), &info, &samples, 0);
    assert!(header.is_empty());
    for (sample, chunks) in samples.iter().zip(&chunks) {
        let frame = sample.packaged(Format::Jpeg).unwrap();
        let [(bytes, 0, true)] = chunks.as_slice() else {
            panic!("one independent chunk per frame")
        };
        let head = format!(
            "Content-Type: image/jpeg\r\nContent-Length: {}\r\nX-Timestamp: {}.{:06}\r\n\r\n",
            frame.len(),
            sample.captured_at / 1_000_000,
            sample.captured_at % 1_000_000
        );
        assert_eq!(
            bytes,
            &[head.as_bytes(), &frame, b"\r\n--frame\r\n"].concat()
        );
    }
    let (mut instance, _) = open(&plugin("mjpeg"));
    let followed = instance.request("", "").unwrap();
    assert!(
        matches!(followed, Answer::Follow(kind) if kind == "multipart/x-mixed-replace; boundary=frame")
    );
    assert!(
        matches!(instance.request("nothing", "").unwrap(), Answer::Done(response) if response.status == 404)
    );
    let request = JoinRequest {
        carrier: Carrier::Http,
        path: String::new(),
        query: String::new(),
        protocol: None,
        roles: vec!["view".into()],
    };
    assert!(instance.join(7, &Arc::new(request)).unwrap().is_ok());
    let requests = instance.take_requests();
    assert!(
        matches!(&requests.effects[..], [(7, Effect::Send(first))] if first.len() == 9),
        "the first delimiter: {requests:?}"
    );
}

#[test]
fn components_say_their_name_and_version_and_import_nothing_but_the_gateway() {
    for name in ["nal", "mjpeg", "mse", "h264", "hostile"] {
        let plugin = plugin(name);
        assert_eq!(
            plugin.to_string(),
            format!("{name}@{}", env!("CARGO_PKG_VERSION"))
        );
        assert!(
            plugin
                .imports
                .iter()
                .all(|import| import.starts_with("sluicegate:gateway/")),
            "{:?}",
            plugin.imports
        );
    }
}
