//! Checks that an independent parser (mp4-atom) reads back what this crate writes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use mp4::Sample as Parsed;
use mp4_atom::{Codec, ReferenceTime};
use proptest::prelude::*;
use sluicegate_fmp4::{Audio, Error, Kind, Track, Video, check, codecs, init, mime, prft, styp};

#[path = "../../../tests/src/mp4.rs"]
mod mp4;

const AVCC: [u8; 16] = [
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
];
/// AAC-LC, 48 kHz, stereo.
const AAC: [u8; 2] = [0x11, 0x90];
/// Version 0, stereo, pre-skip 312, 48 kHz, gain 0, family 0.
const DOPS: [u8; 11] = [0, 2, 0x01, 0x38, 0, 0, 0xbb, 0x80, 0, 0, 0];

fn video(id: u32) -> Track {
    Track {
        id,
        format: "h264/avcc".into(),
        codec: "avc1.42c01e".into(),
        config: AVCC.into(),
        timescale: 90_000,
        kind: Kind::Video(Video {
            width: 640,
            height: 360,
            pixel_aspect: (1, 1),
            rotation: 0,
            mirrored: false,
        }),
    }
}

fn audio(id: u32, format: &str, language: &str) -> Track {
    let (codec, config) = match format {
        "aac" => ("mp4a.40.2", &AAC[..]),
        _ => ("opus", &DOPS[..]),
    };
    Track {
        id,
        format: format.into(),
        codec: codec.into(),
        config: config.into(),
        timescale: 48_000,
        kind: Kind::Audio(Audio {
            sample_rate: 48_000,
            channels: 2,
            language: language.into(),
        }),
    }
}

type Sample = sluicegate_fmp4::Sample<Vec<u8>>;

/// A complete fragment.
fn fragment(before: Vec<u8>, sequence: u32, samples: &[Sample]) -> Result<Vec<u8>, Error> {
    let fragment = sluicegate_fmp4::fragment(before, sequence, samples.to_vec())?;
    Ok(fragment.to_vec())
}

fn sample(track: u32, decode_time: u64, duration: u32, data: &[u8]) -> Sample {
    Sample {
        track,
        decode_time,
        composition_offset: 0,
        duration,
        independent: true,
        leading: false,
        size: data.len() as u32,
        payload: data.to_vec(),
    }
}

#[test]
fn mime_types_list_the_codecs() {
    let [picture, aac, opus] = [video(1), audio(2, "aac", ""), audio(3, "opus", "")];
    let type_of = |tracks: &[&Track]| mime(&tracks.iter().copied().cloned().collect::<Vec<_>>());
    assert_eq!(
        type_of(&[&picture, &aac]),
        "video/mp4; codecs=\"avc1.42c01e,mp4a.40.2\""
    );
    assert_eq!(type_of(&[&opus]), "audio/mp4; codecs=\"opus\"");
    let mut nameless = aac;
    nameless.codec.clear();
    assert_eq!(codecs(&[picture, nameless]), "avc1.42c01e");
}

#[test]
fn init_segment_describes_every_track_of_a_live_file() {
    let tracks = [
        video(1),
        audio(7, "aac", "de-AT"),
        audio(u32::MAX, "opus", ""),
    ];
    let (ftyp, moov) = mp4::init(&init(&tracks).unwrap());
    assert!(ftyp.compatible_brands.contains(&b"iso6".into()));
    assert_eq!((moov.mvhd.duration, moov.mvhd.next_track_id), (0, u32::MAX));
    let mvex = moov.mvex.as_ref().unwrap();
    assert_eq!(mvex.mehd, None);
    for trex in &mvex.trex {
        assert_eq!(trex.default_sample_description_index, 1);
    }
    let ids =
        |ids: &mut dyn Iterator<Item = u32>| assert_eq!(ids.collect::<Vec<_>>(), [1, 7, u32::MAX]);
    ids(&mut mvex.trex.iter().map(|trex| trex.track_id));
    ids(&mut moov.trak.iter().map(|trak| trak.tkhd.track_id));

    let [picture, aac, opus] = moov.trak.as_slice() else {
        panic!("three tracks")
    };
    assert_eq!(
        (picture.tkhd.width.integer(), picture.tkhd.height.integer()),
        (640, 360)
    );
    let of = |trak: &mp4_atom::Trak| {
        let mdia = &trak.mdia;
        assert_eq!((trak.tkhd.duration, mdia.mdhd.duration), (0, 0));
        assert!(trak.tkhd.enabled && trak.tkhd.in_movie);
        (
            mdia.hdlr.handler,
            mdia.mdhd.timescale,
            mdia.mdhd.language.clone(),
        )
    };
    assert_eq!(of(picture), (b"vide".into(), 90_000, "und".into()));
    assert_eq!(of(aac), (b"soun".into(), 48_000, "deu".into()));
    assert_eq!(of(opus), (b"soun".into(), 48_000, "und".into()));
    let codec = |trak: &mp4_atom::Trak| trak.mdia.minf.stbl.stsd.codecs.clone();

    let [Codec::Avc1(entry)] = &codec(picture)[..] else {
        panic!("avc1")
    };
    assert_eq!((entry.visual.width, entry.visual.height), (640, 360));
    assert_eq!(
        (entry.avcc.avc_profile_indication, entry.avcc.length_size),
        (0x42, 4)
    );
    assert_eq!(entry.avcc.sequence_parameter_sets, [[0x67, 0x42, 0xc0]]);
    assert_eq!(entry.avcc.picture_parameter_sets, [[0x68, 0xce]]);

    let [Codec::Mp4a(entry)] = &codec(aac)[..] else {
        panic!("mp4a")
    };
    assert_eq!(
        (entry.audio.channel_count, entry.audio.sample_rate.integer()),
        (2, 48_000)
    );
    let config = &entry.esds.es_desc.dec_config;
    assert_eq!(
        (config.object_type_indication, config.stream_type),
        (0x40, 5)
    );
    assert!(config.avg_bitrate > 0 && config.max_bitrate >= config.avg_bitrate);
    assert_eq!(config.dec_specific.as_ref().unwrap().raw, AAC);

    let [Codec::Opus(entry)] = &codec(opus)[..] else {
        panic!("Opus")
    };
    assert_eq!(
        (entry.dops.output_channel_count, entry.dops.pre_skip),
        (2, 312)
    );
    assert_eq!(entry.dops.input_sample_rate, 48_000);
}

#[test]
fn pixel_aspect_and_orientation_are_described() {
    const ONE: i32 = 1 << 16;
    for (aspect, rotation, mirrored, size, matrix) in [
        ((1, 1), 0, false, (640, 360), [1, 0, 0, 1, 0, 0]),
        ((16, 11), 0, false, (931, 360), [1, 0, 0, 1, 0, 0]),
        ((8, 9), 0, false, (640, 405), [1, 0, 0, 1, 0, 0]),
        // As phones write video that was recorded upright.
        ((1, 1), 90, false, (640, 360), [0, 1, -1, 0, 360, 0]),
        ((1, 1), 180, false, (640, 360), [-1, 0, 0, -1, 640, 360]),
        ((16, 11), 270, false, (931, 360), [0, -1, 1, 0, 0, 931]),
        ((1, 1), 0, true, (640, 360), [-1, 0, 0, 1, 640, 0]),
        ((1, 1), 90, true, (640, 360), [0, -1, -1, 0, 360, 640]),
    ] {
        let mut track = video(1);
        let Kind::Video(video) = &mut track.kind else {
            panic!("a picture")
        };
        (video.pixel_aspect, video.rotation, video.mirrored) = (aspect, rotation, mirrored);
        let (_, moov) = mp4::init(&init(&[track]).unwrap());
        let [trak] = &moov.trak[..] else {
            panic!("one track")
        };
        let (tkhd, m) = (&trak.tkhd, &trak.tkhd.matrix);
        let shown = (tkhd.width.integer(), tkhd.height.integer());
        assert_eq!(shown, size);
        let [a, b, c, d, x, y] = matrix.map(|number| number * ONE);
        assert_eq!(
            [m.a, m.b, m.u, m.c, m.d, m.v, m.x, m.y, m.w],
            [a, b, 0, c, d, 0, x, y, 1 << 30]
        );
        let [Codec::Avc1(entry)] = &trak.mdia.minf.stbl.stsd.codecs[..] else {
            panic!("one entry")
        };
        assert_eq!((entry.visual.width, entry.visual.height), (640, 360));
        let pasp = entry.pasp.as_ref();
        let told = pasp.map(|pasp| (pasp.h_spacing, pasp.v_spacing));
        assert_eq!(told, Some(aspect).filter(|aspect| *aspect != (1, 1)));
    }
}

#[test]
fn what_has_more_than_its_field_holds_is_described_as_unknown() {
    let (mut wide, mut fine) = (video(1), audio(2, "aac", ""));
    wide.kind = Kind::Video(Video {
        width: 70_000,
        height: 0,
        pixel_aspect: (1, 1),
        rotation: 0,
        mirrored: false,
    });
    fine.kind = Kind::Audio(Audio {
        sample_rate: 96_000,
        channels: 0,
        language: "en".into(),
    });
    let (_, moov) = mp4::init(&init(&[wide, fine]).unwrap());
    let codecs: Vec<_> = moov
        .trak
        .iter()
        .flat_map(|trak| trak.mdia.minf.stbl.stsd.codecs.clone())
        .collect();
    let [Codec::Avc1(picture), Codec::Mp4a(audio)] = &codecs[..] else {
        panic!("two tracks")
    };
    assert_eq!((picture.visual.width, picture.visual.height), (u16::MAX, 0));
    assert_eq!(audio.audio.sample_rate.integer(), 0);
}

#[test]
fn what_cannot_be_described_is_refused_with_a_reason() {
    let ids = |ids: &[u32]| init(&ids.iter().map(|id| video(*id)).collect::<Vec<_>>());
    for bad in [&[][..], &[0], &[1, 2, 1], &(1..=65).collect::<Vec<_>>()] {
        assert_eq!(ids(bad), Err(Error::Tracks(bad.to_vec())));
    }
    assert!(ids(&(1..=64).collect::<Vec<_>>()).is_ok());

    let change = |mut track: Track, change: fn(&mut Track)| {
        change(&mut track);
        track
    };
    for (track, reason) in [
        (
            change(video(1), |track| track.format = "h264/annexb".into()),
            "the formats are h264/avcc",
        ),
        (
            change(video(1), |track| track.format = "aac".into()),
            "the formats are h264/avcc",
        ),
        (
            change(video(1), |track| track.kind = Kind::Other),
            "the formats are h264/avcc",
        ),
        (
            change(video(1), |track| track.timescale = 0),
            "its timescale is 0",
        ),
        (
            change(video(1), |track| track.config.clear()),
            "not an avcC",
        ),
        (change(video(1), |track| track.config[0] = 2), "not an avcC"),
        (
            change(video(1), |track| track.config[4] = 0xfd),
            "4-byte lengths",
        ),
        (
            change(video(1), |track| track.config.resize(1 << 17, 0)),
            "longer than 64 KiB",
        ),
        (
            change(audio(1, "aac", ""), |track| track.config.truncate(1)),
            "not an AudioSpecificConfig",
        ),
        (
            change(audio(1, "opus", ""), |track| track.config.truncate(10)),
            "not a dOps",
        ),
        (
            change(audio(1, "opus", ""), |track| track.config[0] = 1),
            "not a dOps",
        ),
    ] {
        let error = check(&track).unwrap_err();
        assert_eq!(init(&[track]), Err(error.clone()));
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn fragment_that_cannot_be_is_refused() {
    assert_eq!(fragment(vec![], 1, &[]), Err(Error::Empty));
    let mut huge = sample(1, 0, 1, b"x");
    huge.size = i32::MAX as u32;
    let two_huge = [
        huge.clone(),
        Sample {
            size: u32::MAX,
            ..huge.clone()
        },
    ];
    assert_eq!(fragment(vec![], 1, &[huge]), Err(Error::Large));
    assert_eq!(fragment(vec![], 1, &two_huge), Err(Error::Large));
    for (from, to) in [(10, 9), (0, 1 << 32)] {
        let samples = [
            sample(1, from, 1, b""),
            sample(2, 5, 1, b""),
            sample(1, to, 1, b""),
        ];
        assert_eq!(
            fragment(vec![], 1, &samples),
            Err(Error::Time { track: 1, from, to })
        );
    }
}

#[test]
fn times_around_the_wraps_of_32_and_33_bits_and_beyond_are_kept() {
    for wrap in [1 << 32, 1 << 33, 1 << 48, u64::MAX - 10] {
        let samples: Vec<Sample> = (0..4)
            .map(|nth| sample(1, wrap - 4 + 2 * nth, 2, b"x"))
            .collect();
        let parsed = mp4::fragment(&fragment(vec![], 1, &samples).unwrap());
        let shown = parsed.samples.iter().map(mp4::Sample::presentation_time);
        assert!(shown.eq(samples.iter().map(|sample| sample.decode_time)));
    }
}

#[test]
fn boxes_before_a_fragment_do_not_move_its_payload() {
    let mut sample = sample(3, 90_000, 3000, b"picture");
    sample.composition_offset = -3000;
    // 2023-11-14T22:13:20.500Z
    let captured_at = 1_700_000_000_500_000;
    let before = [styp(), prft(&sample, captured_at)].concat();
    let parsed = mp4::fragment(&fragment(before, 9, &[sample]).unwrap());
    assert!(parsed.segment_starts);
    assert_eq!(parsed.samples[0].data, b"picture");
    assert_eq!(parsed.moof.mfhd.sequence_number, 9);
    let reference = parsed.reference.unwrap();
    assert_eq!(
        (reference.reference_track_id, reference.media_time),
        (3, 87_000)
    );
    assert_eq!(reference.utc_time_semantics, ReferenceTime::RealTime);
    assert_eq!(
        reference.ntp_timestamp,
        (1_700_000_000 + 2_208_988_800) << 32 | 1 << 31
    );
}

/// Samples of up to three tracks as they may arrive: mixed, with rising times in each track.
fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let one = (
        1u32..4,
        0u32..100_000,
        any::<i32>(),
        any::<u32>(),
        any::<bool>(),
        0usize..300,
    );
    (0..u64::MAX / 2, prop::collection::vec(one, 1..40)).prop_map(|(start, all)| {
        let mut times = [start; 4];
        all.into_iter()
            .map(
                |(track, step, composition_offset, duration, independent, size)| {
                    let time = &mut times[track as usize];
                    *time += u64::from(step);
                    let data = vec![(step + track) as u8; size];
                    Sample {
                        composition_offset,
                        independent,
                        ..sample(track, *time, duration, &data)
                    }
                },
            )
            .collect()
    })
}

proptest! {
    #[test]
    fn any_samples_are_read_back(samples in any_samples(), sequence: u32) {
        let parsed = mp4::fragment(&fragment(vec![], sequence, &samples).unwrap());
        prop_assert_eq!(parsed.moof.mfhd.sequence_number, sequence);
        for track in 1..4 {
            let sent: Vec<&Sample> = samples.iter().filter(|sample| sample.track == track).collect();
            let got: Vec<&Parsed> = parsed.samples.iter().filter(|sample| sample.track == track).collect();
            prop_assert_eq!(sent.len(), got.len());
            let last = got.len().saturating_sub(1);
            for (nth, (sent, got)) in sent.iter().zip(&got).enumerate() {
                let expected = Parsed {
                    track,
                    decode_time: sent.decode_time,
                    offset: sent.composition_offset,
                    duration: got.duration,
                    independent: sent.independent,
                    data: sent.payload.clone(),
                };
                prop_assert_eq!(*got, &expected);
                if nth == last {
                    prop_assert_eq!(got.duration, sent.duration);
                }
            }
        }
    }

    #[test]
    fn any_track_is_described_or_refused(
        format in prop::sample::select(vec!["h264/avcc", "aac", "opus", "jpeg"]), id: u32, timescale: u32,
        config in prop::collection::vec(any::<u8>(), 0..40), language in "\\PC{0,12}", channels: u8, sample_rate: u32,
    ) {
        let mut track = if format == "h264/avcc" { video(id) } else { audio(id, format, &language) };
        if let Kind::Audio(audio) = &mut track.kind {
            (audio.channels, audio.sample_rate) = (channels, sample_rate);
        }
        (track.timescale, track.config) = (timescale, config);
        let _ = init(&[track]);
    }
}
