//! Tests of ingest on virtual time: bytes, packets and losses in, entries of the feed out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::{GroupNumbers, Info, Next, Reader, Report, State, WakeOn};
use sluicegate_media::{
    h264::{
        annexb,
        testing::{Field, PpsOptions, SliceOptions, SpsOptions},
    },
    sample::Format,
};
use sluicegate_source::Sink;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Unix microseconds at which the run begins.
const STARTED: u64 = 1_700_000_000_000_000;
/// Duration of a frame at 30 per second, in ticks.
const STEP: i64 = 3000;

#[test]
fn a_frame_ends_at_the_next_or_in_a_silence_with_the_time_of_its_first_byte() {
    let mut rig = Rig::new();
    let [start, next, last] = [keyframe(1), frame(2), frame(3)];
    rig.bytes(10, &start);
    assert_eq!(rig.published(), "");
    // The first bytes of the next frame's NAL unit.
    rig.bytes(40, &next[..5]);
    rig.bytes(45, &next[5..]);
    rig.bytes(70, &last);
    assert_eq!(rig.published(), "configure 0 320x240; 10 ms: key 1");
    rig.at(90);
    rig.ingest.silence();
    assert_eq!(rig.published(), "40 ms: 2; 70 ms: 3");
    rig.at(110);
    rig.ingest.silence();
    assert_eq!(rig.published(), "");
    assert_eq!(rig.report().state, State::Live);
}

#[test]
fn frame_alone_is_stamped_at_its_first_byte_and_not_when_the_silence_ends_it() {
    let mut rig = Rig::new();
    for (number, ms) in [(1, 100), (2, 200), (3, 300)] {
        let bytes = if number == 1 {
            keyframe(1)
        } else {
            frame(number)
        };
        rig.bytes(ms, &bytes[..6]);
        rig.bytes(ms + 5, &bytes[6..]);
        rig.at(ms + 25);
        rig.ingest.silence();
    }
    assert_eq!(
        rig.published(),
        "configure 0 320x240; 100 ms: key 1; 200 ms: 2; 300 ms: 3"
    );
}

#[test]
fn frame_that_continues_after_a_silence_is_damage_until_the_next_keyframe() {
    let mut rig = Rig::new();
    rig.bytes(0, &keyframe(1));
    rig.at(20);
    rig.ingest.silence();
    let cut = frame(2);
    rig.bytes(33, &cut[..cut.len() - 1]);
    rig.at(53);
    rig.ingest.silence();
    assert_eq!(rig.samples().len(), 2);
    rig.bytes(60, &cut[cut.len() - 1..]);
    rig.bytes(66, &[frame(3), frame(4)].concat());
    assert_eq!(rig.published(), "");
    let report = rig.report();
    assert_eq!(report.state, State::WaitingForKeyframe);
    assert_eq!(
        report.reason,
        "data was lost; video resumes at the next keyframe"
    );
    assert!(
        report.notes[0].contains("continued after a pause"),
        "{:?}",
        report.notes
    );
    rig.bytes(100, &[keyframe(5), frame(6)].concat());
    rig.at(130);
    rig.ingest.silence();
    assert_eq!(rig.published(), "100 ms: key 5; 100 ms: 6");
    assert_eq!(rig.report().state, State::Live);
}

#[test]
fn what_comes_before_the_first_keyframe_is_left_out_and_reported() {
    let mut rig = Rig::new();
    rig.ingest.connected();
    assert_eq!(rig.report().state, State::Starting);
    rig.bytes(0, &frame(1));
    rig.at(20);
    rig.ingest.silence();
    assert_eq!(rig.published(), "");
    assert_eq!(rig.report().state, State::WaitingForKeyframe);
    rig.bytes(40, &keyframe(2));
    rig.at(60);
    rig.ingest.silence();
    assert_eq!(rig.published(), "configure 0 320x240; 40 ms: key 2");
}

#[test]
fn loop_goes_on_without_a_break_one_duration_after_its_end() {
    let mut rig = Rig::new();
    for turn in 0..2 {
        rig.ingest.configured(30.0);
        for number in 0..3 {
            rig.at(turn * 100 + u64::from(number) * 33);
            rig.packet(&nals_of(number), i64::from(number) * STEP + 900);
        }
        rig.ingest.loops();
    }
    assert_eq!(
        rig.published(),
        "configure 0 320x240; 0 ms: key 0; 33 ms: 1; 66 ms: 2; 100 ms: key 0; 133 ms: 1; 166 ms: 2"
    );
}

#[test]
fn source_that_is_lost_and_returns_begins_an_epoch_at_the_present() {
    let mut rig = Rig::new();
    rig.packet(&nals_of(0), 0);
    rig.ingest.lost("the cable is out".into());
    rig.ingest.lost("nobody is there".into());
    assert_eq!(
        rig.published(),
        "configure 0 320x240; 0 ms: key 0; stop: the cable is out"
    );
    let report = rig.report();
    assert_eq!(
        (report.state, report.reason.as_str()),
        (State::Retrying, "nobody is there")
    );
    rig.at(4000);
    // Nothing from before the loss is used, not even parameter sets.
    rig.packet(&nals_of(1), 500);
    assert_eq!(rig.published(), "");
    assert_eq!(rig.report().state, State::WaitingForKeyframe);
    rig.packet(&nals_of(0), 1000);
    rig.packet(&nals_of(1), 1000 + STEP);
    assert_eq!(
        rig.published(),
        "configure 1 320x240; 4000 ms: key 0; 4033 ms: 1"
    );
    assert_eq!(rig.report().state, State::Live);
}

#[test]
fn source_that_never_sent_a_frame_is_lost_without_a_break() {
    let mut rig = Rig::new();
    rig.ingest.lost("connection refused".into());
    assert_eq!(rig.published(), "");
    assert_eq!(rig.report().state, State::Retrying);
    rig.packet(&nals_of(0), 0);
    assert_eq!(rig.published(), "configure 0 320x240; 0 ms: key 0");
}

#[test]
fn half_a_frame_before_a_loss_does_not_run_into_what_comes_after() {
    let mut rig = Rig::new();
    let whole = keyframe(1);
    rig.bytes(0, &whole[..whole.len() - 2]);
    rig.ingest.lost("reset".into());
    rig.bytes(100, &whole[whole.len() - 2..]);
    rig.bytes(110, &keyframe(2));
    rig.at(130);
    rig.ingest.silence();
    assert_eq!(rig.published(), "configure 0 320x240; 110 ms: key 2");
}

#[test]
fn change_of_size_begins_an_epoch_and_the_same_parameter_sets_again_do_not() {
    let mut rig = Rig::new();
    rig.packet(&nals_of(0), 0);
    rig.packet(&nals_of(0), STEP);
    let large = SpsOptions {
        width_mbs: 40,
        height_mbs: 30,
        ..SpsOptions::default()
    };
    rig.packet(
        &[large.nal(), PpsOptions::default().nal(), slice(2, true)],
        2 * STEP,
    );
    assert_eq!(
        rig.published(),
        "configure 0 320x240; 0 ms: key 0; 33 ms: key 0; configure 1 640x480; 66 ms: key 2"
    );
}

#[test]
fn two_frames_in_a_packet_are_two_samples_in_order() {
    let mut rig = Rig::new();
    rig.packet(&[nals_of(0), nals_of(1)].concat(), 0);
    rig.packet(&nals_of(2), 2 * STEP);
    let times: Vec<u64> = rig
        .samples()
        .iter()
        .map(|sample| sample.decode_time)
        .collect();
    assert_eq!(times, [0, 1, 6000]);
}

#[test]
fn presentation_follows_decoding_by_what_the_source_says() {
    let mut rig = Rig::new();
    for (number, (decode, shown)) in [(-3000, 0), (0, 9000), (3000, 3000)]
        .into_iter()
        .enumerate()
    {
        let times = SourceTimes {
            decode: Some(decode),
            presentation: Some(shown),
            duration: 3000,
        };
        rig.ingest.access_unit(nals_of(number as u16), times);
    }
    let times: Vec<_> = rig
        .samples()
        .iter()
        .map(|sample| (sample.decode_time, sample.composition_offset))
        .collect();
    assert_eq!(times, [(0, 3000), (3000, 9000), (6000, 0)]);
}

#[test]
fn parameter_sets_from_outside_the_stream_are_enough() {
    let mut rig = Rig::new();
    rig.ingest.parameter_sets(vec![
        SpsOptions::default().nal(),
        PpsOptions::default().nal(),
    ]);
    rig.packet(&nals_of(0)[2..], 0);
    assert_eq!(rig.published(), "configure 0 320x240; 0 ms: key 0");
}

#[test]
fn display_geometry_of_the_container_applies_from_the_next_keyframe_on() {
    let mut rig = Rig::new();
    rig.ingest.presentation(Presentation {
        pixel_aspect: PixelAspect::new(4, 3),
        orientation: Orientation::new(90, false),
    });
    rig.packet(&nals_of(0), 0);
    assert_eq!(rig.shown(), [(240, 427)]);
    // The same coded pictures, presented as they are.
    rig.ingest.presentation(Presentation::default());
    rig.packet(&nals_of(1), STEP);
    assert!(rig.shown().is_empty());
    rig.packet(&nals_of(0), 2 * STEP);
    assert_eq!(rig.shown(), [(320, 240)]);
    // A JPEG carries its own orientation: Exif orientation 6, and 320x240 in the frame header.
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\x00\x2a\0\0\0\x08\x00\x01\x01\x12\x00\x03\0\0\0\x01\x00\x06\0\0\0\0\0\0";
    let frame = b"\xff\xc0\x00\x0b\x08\x00\xf0\x01\x40\x01\x01\x11\x00\xff\xd9";
    let jpeg = [&b"\xff\xd8"[..], exif, frame].concat();
    rig.ingest.jpeg(jpeg.into(), SourceTimes::default());
    assert_eq!(rig.shown(), [(240, 320)]);
}

#[test]
fn jpeg_is_measured_by_its_header_and_what_is_none_is_left_out() {
    let mut rig = Rig::new();
    let jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x0b\x08\x00\xf0\x01\x40\x01\x01\x11\x00\xff\xd9";
    rig.ingest
        .jpeg(Bytes::from_static(jpeg), SourceTimes::default());
    rig.ingest
        .jpeg(Bytes::from_static(b"text"), SourceTimes::default());
    rig.ingest
        .jpeg(Bytes::from_static(&jpeg[..9]), SourceTimes::default());
    let entries = rig.entries();
    assert_eq!(entries.len(), 2);
    assert!(matches!(&entries[0], Entry::Configure(info) if size(info) == (320, 240)));
    assert!(
        rig.report().notes[0].contains("invalid JPEG"),
        "{:?}",
        rig.report().notes
    );
}

#[test]
fn a_pps_change_is_sent_with_its_frame_and_later_starts_and_opens_no_epoch() {
    let with = |pps: &PpsOptions, number: u32, idr: bool| {
        let options = SliceOptions {
            idr,
            slice_type: if idr { 2 } else { 0 },
            frame_num: number,
            order: [2 * number as i32, 0],
            ..SliceOptions::default()
        };
        options.nal(&SpsOptions::default(), pps)
    };
    let [sps, first] = sets();
    let other = PpsOptions {
        qp: 3,
        ..PpsOptions::default()
    };
    let beside = PpsOptions {
        id: 1,
        qp: 5,
        ..PpsOptions::default()
    };
    let mut rig = Rig::new();
    rig.packet(&[sps.clone(), first.clone(), with(&other, 0, true)], 0);
    // In band: it stays where it is.
    rig.packet(&[other.nal(), with(&other, 1, false)], STEP);
    // Out of band: it is added to the next frame.
    rig.ingest.parameter_sets(vec![beside.nal()]);
    rig.packet(&[with(&beside, 2, false)], 2 * STEP);
    rig.packet(&[with(&other, 3, false)], 3 * STEP);
    // A viewer that starts here knows only the first configuration.
    let key = with(&other, 0, true);
    rig.packet(std::slice::from_ref(&key), 4 * STEP);
    rig.packet(
        &[sps.clone(), other.nal(), beside.nal(), key.clone()],
        5 * STEP,
    );
    // Back to the first PPS.
    rig.packet(&[first.clone(), with(&other, 1, false)], 6 * STEP);
    rig.packet(std::slice::from_ref(&key), 7 * STEP);
    let mut epochs = 0;
    let mut samples = Vec::new();
    for entry in rig.entries() {
        match entry {
            Entry::Configure(info) => {
                epochs += 1;
                assert_eq!(info.video.as_ref().unwrap().codec_string, "avc1.4d001f");
            }
            Entry::Sample(sample) => samples.push(sample.nals().unwrap().to_vec()),
            Entry::Stop(_) => panic!("a stop"),
        }
    }
    assert_eq!(epochs, 1);
    let expected = [
        vec![sps.clone(), first.clone(), with(&other, 0, true)],
        vec![other.nal(), with(&other, 1, false)],
        vec![beside.nal(), with(&beside, 2, false)],
        vec![with(&other, 3, false)],
        vec![other.nal(), beside.nal(), key.clone()],
        vec![sps, other.nal(), beside.nal(), key.clone()],
        vec![first, with(&other, 1, false)],
        vec![beside.nal(), key],
    ];
    assert_eq!(samples, expected);

    // If in-band parameter sets were seen, the next configuration says so.
    rig.ingest.lost("gone".into());
    rig.packet(&nals_of(0), 8 * STEP);
    let codecs = rig.entries().into_iter().filter_map(|entry| match entry {
        Entry::Configure(info) => Some(info.video.as_ref()?.codec_string.clone()),
        _ => None,
    });
    assert_eq!(codecs.collect::<Vec<_>>(), ["avc3.4d001f"]);
}

#[test]
fn a_source_that_comes_back_may_have_other_presentation_times() {
    let mut rig = Rig::new();
    let sets = [SpsOptions::default().nal(), PpsOptions::default().nal()];
    let mut offsets = |shown_later: i64| {
        let from = rig.ms.load(Ordering::Relaxed);
        for nth in 0..30 {
            let key = SliceOptions {
                idr: true,
                slice_type: 2,
                ..SliceOptions::default()
            };
            let key = key.nal(&SpsOptions::default(), &PpsOptions::default());
            rig.at(from + nth as u64 * 33);
            let times = SourceTimes {
                decode: Some(nth * STEP),
                presentation: Some(nth * STEP + shown_later),
                duration: 3000,
            };
            rig.ingest.access_unit([&sets[..], &[key]].concat(), times);
        }
        rig.ingest.lost("gone".into());
        let offsets = rig.entries().into_iter().filter_map(|entry| match entry {
            Entry::Sample(sample) => Some(i64::from(sample.composition_offset)),
            _ => None,
        });
        offsets.collect::<Vec<_>>()
    };
    assert_eq!(offsets(0), [0; 30]);
    assert_eq!(offsets(45_000), [45_000; 30]);
}

/// A field of an interlaced stream.
fn field(number: u32, field: Field, idr: bool) -> Bytes {
    let sps = SpsOptions {
        fields: true,
        ..SpsOptions::default()
    };
    let options = SliceOptions {
        idr,
        slice_type: 2,
        frame_num: number,
        field: Some(field),
        order: [2 * number as i32 + i32::from(field == Field::Bottom), 0],
        ..SliceOptions::default()
    };
    options.nal(&sps, &PpsOptions::default())
}

fn fields_sets() -> Vec<Bytes> {
    let sps = SpsOptions {
        fields: true,
        ..SpsOptions::default()
    };
    vec![sps.nal(), PpsOptions::default().nal()]
}

#[test]
fn two_fields_are_one_sample_with_the_times_of_the_first_in_one_packet_or_two() {
    let times = |at: i64, shown: i64, duration| SourceTimes {
        decode: Some(at),
        presentation: Some(shown),
        duration,
    };
    let pair = |number| {
        [
            field(number, Field::Top, number == 0),
            field(number, Field::Bottom, false),
        ]
    };
    for apart in [false, true] {
        let mut rig = Rig::new();
        rig.ingest.parameter_sets(fields_sets());
        for number in 0..3 {
            let at = i64::from(number) * 3600;
            let [first, second] = pair(number);
            if apart {
                rig.ingest
                    .access_unit(vec![first], times(at, at + 7200, 1800));
                rig.ingest
                    .access_unit(vec![second], times(at + 1800, at + 9000, 1800));
            } else {
                rig.ingest
                    .access_unit(vec![first, second], times(at, at + 7200, 3600));
            }
        }
        let samples = rig.samples();
        let got: Vec<_> = samples
            .iter()
            .map(|sample| {
                (
                    sample.decode_time,
                    sample.composition_offset,
                    sample.duration,
                )
            })
            .collect();
        assert_eq!(
            got,
            [(0, 7200, 3600), (3600, 7200, 3600), (7200, 7200, 3600)]
        );
        let counts: Vec<usize> = samples
            .iter()
            .map(|sample| sample.nals().unwrap().len())
            .collect();
        assert_eq!(counts, [2, 2, 2]);
    }
}

#[test]
fn a_field_without_a_second_keeps_its_own_times_and_is_not_lost_at_the_end() {
    let mut rig = Rig::new();
    rig.ingest.parameter_sets(fields_sets());
    let [first, second] = [field(0, Field::Top, true), field(0, Field::Bottom, false)];
    rig.packet(&[first, second], 0);
    rig.packet(&[field(1, Field::Top, false)], 3600);
    rig.packet(&[field(2, Field::Top, false)], 7200);
    rig.ingest.loops();
    let times: Vec<u64> = rig
        .samples()
        .iter()
        .map(|sample| sample.decode_time)
        .collect();
    assert_eq!(times, [0, 3600, 7200]);
}

#[test]
fn the_fields_of_a_live_stream_wait_for_each_other_through_a_silence() {
    let mut rig = Rig::new();
    rig.ingest.parameter_sets(fields_sets());
    for number in 0..3 {
        for half in [Field::Top, Field::Bottom] {
            let ms = u64::from(number) * 80 + 40 * u64::from(half == Field::Bottom);
            let unit = field(number, half, number == 0 && half == Field::Top);
            rig.bytes(ms, &annexb::join(&[unit]));
            rig.at(ms + 20);
            rig.ingest.silence();
        }
    }
    let samples = rig.samples();
    let got: Vec<_> = samples
        .iter()
        .map(|sample| (sample.decode_time / 90, sample.nals().unwrap().len()))
        .collect();
    assert_eq!(got, [(0, 2), (80, 2), (160, 2)]);
}

/// An ingest on virtual time, with a reader of what it publishes.
struct Rig {
    ingest: Ingest,
    ms: Arc<AtomicU64>,
    reader: Reader,
    status: Arc<Status>,
    read: u64,
}

impl Rig {
    fn new() -> Rig {
        let (feed, status, ms) = (
            Feed::new(GroupNumbers::own(STARTED, Duration::ZERO)),
            Arc::new(Status::new("test", Arc::default())),
            Arc::<AtomicU64>::default(),
        );
        let clock = ms.clone();
        let clock = move || {
            let ms = clock.load(Ordering::Relaxed);
            Moment {
                unix_us: STARTED + ms * 1000,
                elapsed: Duration::from_millis(ms),
            }
        };
        let reader = feed.reader(WakeOn::All);
        let ingest = Ingest::new(feed, status.clone(), STARTED, Box::new(clock));
        Rig {
            ingest,
            ms,
            reader,
            status,
            read: 0,
        }
    }

    fn at(&mut self, ms: u64) {
        self.ms.store(ms, Ordering::Relaxed);
    }

    fn bytes(&mut self, ms: u64, bytes: &[u8]) {
        self.at(ms);
        self.ingest.byte_stream(Bytes::copy_from_slice(bytes));
    }

    fn packet(&mut self, nals: &[Bytes], ticks: i64) {
        let times = SourceTimes {
            decode: Some(ticks),
            presentation: Some(ticks),
            duration: STEP as u32,
        };
        self.ingest.access_unit(nals.to_vec(), times);
    }

    fn entries(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        while let Next::Entry(entry, _) = self.reader.next(self.read, 0) {
            self.read += 1;
            entries.push(entry);
        }
        entries
    }

    fn samples(&mut self) -> Vec<Arc<Sample>> {
        let entries = self.entries().into_iter();
        entries
            .filter_map(|entry| match entry {
                Entry::Sample(sample) => Some(sample),
                _ => None,
            })
            .collect()
    }

    /// What was published since the last call, as text. A sample is described by its decode time and number.
    fn published(&mut self) -> String {
        let entries = self.entries().into_iter();
        let words = entries.map(|entry| match entry {
            Entry::Configure(info) => {
                let (width, height) = size(&info);
                format!("configure {} {width}x{height}", info.epoch)
            }
            Entry::Stop(reason) => format!("stop: {reason}"),
            Entry::Sample(sample) => {
                let data = sample.packaged(Format::H264AnnexB).unwrap();
                let key = if sample.independent { "key " } else { "" };
                format!("{} ms: {key}{}", sample.decode_time / 90, number(&data))
            }
        });
        words.collect::<Vec<_>>().join("; ")
    }

    /// Display sizes of the tracks announced since the last call.
    fn shown(&mut self) -> Vec<(u32, u32)> {
        let entries = self.entries().into_iter();
        let sizes = entries.filter_map(|entry| match entry {
            Entry::Configure(info) => info.video.as_ref().map(Video::display_size),
            _ => None,
        });
        sizes.collect()
    }

    fn report(&self) -> Report {
        self.status.report(true)
    }
}

fn size(info: &Info) -> (u32, u32) {
    let video = info.video.as_ref().unwrap();
    (video.width, video.height)
}

/// A keyframe with its parameter sets, as a byte stream.
fn keyframe(number: u16) -> Vec<u8> {
    let [sps, pps] = sets();
    annexb::join(&[sps, pps, slice(number, true)]).to_vec()
}

/// A frame that refers to others, as a byte stream.
fn frame(number: u16) -> Vec<u8> {
    annexb::join(&[slice(number, false)]).to_vec()
}

/// NAL units of a frame: 0 is a keyframe, the others are not.
fn nals_of(number: u16) -> Vec<Bytes> {
    match number {
        0 => [sets().to_vec(), vec![slice(0, true)]].concat(),
        _ => vec![slice(number, false)],
    }
}

fn sets() -> [Bytes; 2] {
    [SpsOptions::default().nal(), PpsOptions::default().nal()]
}

fn slice(number: u16, key: bool) -> Bytes {
    let options = SliceOptions {
        idr: key,
        slice_type: if key { 2 } else { 0 },
        // Counted from any previous keyframe, which this parser accepts.
        frame_num: number.into(),
        idr_pic_id: number.into(),
        payload: 0xbe00 + number,
        ..SliceOptions::default()
    };
    options.nal(&SpsOptions::default(), &PpsOptions::default())
}

/// The number of the frame that `data` ends with.
fn number(data: &[u8]) -> u16 {
    (0..16)
        .find(|number| {
            [true, false]
                .iter()
                .any(|key| data.ends_with(&slice(*number, *key)))
        })
        .expect("a frame of this test")
}
