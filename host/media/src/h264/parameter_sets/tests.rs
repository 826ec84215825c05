//! Tests of the parsers with real, damaged and synthetic parameter sets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::testing::{self, SpsOptions};
use super::*;
use proptest::prelude::*;

#[test]
fn reads_the_picture_format_of_real_streams() {
    // Size, codec string, frame rate, reorder, full range.
    let expected = [
        (320, 240, "avc1.42c00d", 25.0, Some(0), false),
        (1920, 1080, "avc1.640028", 30.0, Some(2), false),
        (320, 240, "avc1.4d400d", 25.0, Some(2), false),
        (320, 240, "avc1.640015", 25.0, Some(2), false),
        (320, 240, "avc1.f4000d", 25.0, Some(2), false),
        (642, 362, "avc1.640016", 15.0, Some(2), false),
        (320, 240, "avc1.64000d", 25.0, Some(2), true),
    ];
    for ((name, set), (width, height, codec, rate, reorder, full_range)) in
        testing::STREAMS.into_iter().zip(expected)
    {
        let (sps, pps) = set.nals();
        let picture = ParameterSets::new(&[sps], &[pps]).unwrap().picture;
        let profile_idc = set.sps[1];
        let level_idc = set.sps[3];
        let expected = Picture {
            width,
            height,
            profile_idc,
            level_idc,
            codec: codec.to_owned(),
            frame_rate: Some(rate),
            reorder,
            full_range,
            pixel_aspect: Some(PixelAspect::SQUARE),
        };
        assert_eq!(picture, expected, "{name}");
    }
}

#[test]
fn without_vui_the_rate_is_unknown_and_reordering_only_where_it_is_possible() {
    let table = [
        (66, 0, Some(0)),
        (77, 0, None),
        (77, 1, None),
        (77, 2, Some(0)),
    ];
    for (profile, poc_type, reorder) in table {
        let options = SpsOptions {
            profile,
            poc_type,
            ..SpsOptions::default()
        };
        let picture = Sps::parse(&options.nal()).unwrap().picture;
        assert_eq!(picture.reorder, reorder, "{options:?}");
        assert_eq!(picture.frame_rate, None);
    }
}

#[test]
fn the_vui_tells_the_shape_of_pixels_and_nonsense_is_passed_over() {
    for (told, expected) in [
        (None, None),
        (Some((16, 11)), PixelAspect::new(16, 11)),
        (Some((160, 110)), PixelAspect::new(16, 11)),
        (Some((0, 11)), None),
        (Some((65535, 1)), None),
    ] {
        let options = SpsOptions {
            pixel_aspect: told,
            ..SpsOptions::default()
        };
        let picture = Sps::parse(&options.nal()).unwrap().picture;
        assert_eq!(picture.pixel_aspect, expected, "{told:?}");
    }
}

#[test]
fn a_level_too_low_for_the_size_is_no_reason_to_refuse_a_camera() {
    let options = SpsOptions {
        level: 10,
        width_mbs: 120,
        height_mbs: 68,
        ..SpsOptions::default()
    };
    let picture = Sps::parse(&options.nal()).unwrap().picture;
    assert_eq!(
        (picture.width, picture.height, picture.level_idc),
        (1920, 1088, 10)
    );
}

#[test]
fn an_invalid_level_becomes_the_lowest_that_fits_size_rate_and_references() {
    for level in [0, 1, 14, 255] {
        let options = SpsOptions {
            level,
            width_mbs: 120,
            height_mbs: 68,
            ..SpsOptions::default()
        };
        let (sps, pps) = (options.nal(), testing::PpsOptions::default().nal());
        let sets = ParameterSets::new(std::slice::from_ref(&sps), &[pps]).unwrap();
        assert_eq!(
            (&*sets.picture.codec, sets.picture.level_idc),
            ("avc1.4d0028", 40)
        );
        // A frame rate from the container counts, too.
        let fast = sets.at_rate(60.0);
        assert_eq!(fast.picture.codec, "avc1.4d002a");
        assert_eq!(fast.decoder_config()[3], 42);
        assert_eq!(fast.sps, [sps], "the SPS itself stays as it is");
    }
    // A level that exists is kept at any rate.
    let sps = SpsOptions {
        level: 10,
        ..SpsOptions::default()
    }
    .nal();
    let sets = ParameterSets::new(&[sps], &[testing::PpsOptions::default().nal()]).unwrap();
    assert_eq!(sets.at_rate(300.0).picture.codec, "avc1.4d000a");
}

#[test]
fn bytes_behind_the_end_are_no_reason_to_refuse_a_camera() {
    let (sps, _) = testing::STREAMS[1].1.nals();
    let mut longer = sps.to_vec();
    longer.extend_from_slice(&[0x12, 0x34, 0x80]);
    let parsed = Sps::parse(&Bytes::from(longer)).unwrap();
    assert_eq!(parsed.picture, Sps::parse(&sps).unwrap().picture);
}

#[test]
fn an_sps_that_ends_within_its_vui_still_gives_the_size() {
    let (sps, _) = testing::STREAMS[1].1.nals();
    let picture = Sps::parse(&sps.slice(..sps.len() - 7)).unwrap().picture;
    assert_eq!((picture.width, picture.height), (1920, 1080));
    assert_eq!(picture.frame_rate, None);
}

#[test]
fn impossible_sizes_are_refused() {
    let options = SpsOptions {
        width_mbs: 1025,
        height_mbs: 1,
        ..SpsOptions::default()
    };
    assert_eq!(
        Sps::parse(&options.nal()).unwrap_err(),
        Error::Size {
            width: 16400,
            height: 16
        }
    );
    let options = SpsOptions {
        width_mbs: 1,
        height_mbs: 1,
        crop_right: 8,
        ..SpsOptions::default()
    };
    assert_eq!(
        Sps::parse(&options.nal()).unwrap_err(),
        Error::Size {
            width: 0,
            height: 16
        }
    );
    let options = SpsOptions {
        width_mbs: 60000,
        height_mbs: 60000,
        ..SpsOptions::default()
    };
    assert!(matches!(
        Sps::parse(&options.nal()),
        Err(Error::Broken { .. })
    ));
}

#[test]
fn what_is_no_parameter_set_is_refused_with_a_reason() {
    let (sps, pps) = testing::STREAMS[0].1.nals();
    let one = std::slice::from_ref;
    let table = [
        (
            ParameterSets::new(&[], one(&pps)),
            "no SPS was given; a decoder needs an SPS and a PPS",
        ),
        (
            ParameterSets::new(one(&sps), &[]),
            "no PPS was given; a decoder needs an SPS and a PPS",
        ),
        (
            ParameterSets::new(one(&pps), one(&pps)),
            "the SPS is invalid (NAL unit type 8); it is ignored",
        ),
        (
            ParameterSets::new(one(&sps), one(&sps)),
            "the PPS is invalid (NAL unit type 7); it is ignored",
        ),
        (
            ParameterSets::new(&[Bytes::from(vec![0x67; MAX_SIZE + 1])], &[]),
            "the SPS has 8193 bytes, at most 8192 are accepted; it is ignored",
        ),
        (
            ParameterSets::new(&[sps.slice(..3)], &[]),
            "the SPS is invalid (too short); it is ignored",
        ),
    ];
    for (result, message) in table {
        assert_eq!(result.unwrap_err().to_string(), message);
    }
}

#[test]
fn slice_groups_do_not_hide_the_rest_of_a_pps() {
    for map_type in 0..=6 {
        let nal = testing::pps_with_slice_groups(map_type);
        let pps = Pps::parse(&nal).unwrap();
        assert_eq!((pps.id, pps.sps_id), (3, 2));
        assert!(
            pps.bottom_field_order && pps.redundant_pictures,
            "{map_type}"
        );
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..120), vui in any::<bool>()) {
        for header in [0x67, 0x68] {
            let mut nal = vec![header];
            if vui {
                nal.extend_from_slice(&[100, 0, 31]);
            }
            nal.extend_from_slice(&body);
            let nal = Bytes::from(nal);
            let _ = Sps::parse(&nal);
            let _ = Pps::parse(&nal);
        }
    }

    #[test]
    fn damaged_parameter_sets_are_read_or_refused(
        stream in 0usize..testing::STREAMS.len(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let (sps, pps) = testing::STREAMS[stream].1.nals();
        let damage = |nal: Bytes| {
            let mut nal = nal.to_vec();
            for (at, value) in &flips {
                let at = 1 + at.index(nal.len() - 1);
                nal[at] = *value;
            }
            Bytes::from(nal)
        };
        if let Ok(sets) = ParameterSets::new(&[damage(sps)], &[damage(pps)]) {
            prop_assert!(DecoderConfig::parse(&sets.decoder_config()).is_ok());
        }
    }
}
