//! Tests of the assembler: what belongs to an access unit, start points, losses, wrong `frame_num`, and output order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::super::annexb::{self, Piece, Splitter};
use super::super::slice::Field;
use super::super::testing::{PpsOptions, SliceOptions, SpsOptions, chunks, nal_unit, recovery_sei};
use super::*;
use proptest::prelude::*;

const SPS: SpsOptions = SpsOptions {
    id: 0,
    profile: 77,
    level: 31,
    poc_type: 0,
    width_mbs: 20,
    height_mbs: 15,
    crop_right: 0,
    fields: false,
    gaps_allowed: false,
    pixel_aspect: None,
};
const PPS: PpsOptions = PpsOptions {
    id: 0,
    sps_id: 0,
    bottom_field_order: false,
    redundant_pictures: false,
    qp: 0,
};
const AUD: Bytes = Bytes::from_static(&[9, 0x10]);
const FILLER: Bytes = Bytes::from_static(&[12, 0xff, 0x80]);
const PREFIX: Bytes = Bytes::from_static(&[0x6e, 0x40, 0x80, 0x80]);
const SEI: Bytes = Bytes::from_static(&[6, 5, 2, 1, 2, 0x80]);

fn idr() -> SliceOptions {
    SliceOptions {
        idr: true,
        slice_type: 2,
        ..SliceOptions::default()
    }
}

fn p(frame_num: u32) -> SliceOptions {
    SliceOptions {
        frame_num,
        order: [2 * frame_num as i32 % 16, 0],
        ..SliceOptions::default()
    }
}

/// A further slice of the same picture.
fn below(slice: SliceOptions, first_mb: u32) -> SliceOptions {
    SliceOptions { first_mb, ..slice }
}

fn slice(options: SliceOptions) -> Bytes {
    options.nal(&SPS, &PPS)
}

fn assemble(assembler: &mut Assembler, nals: &[Bytes]) -> Vec<AccessUnit> {
    let mut units: Vec<AccessUnit> = nals
        .iter()
        .filter_map(|nal| assembler.push(nal.clone()))
        .collect();
    units.extend(assembler.flush());
    units
}

/// Number of NAL units of each access unit.
fn shape(units: &[AccessUnit]) -> Vec<usize> {
    units.iter().map(|unit| unit.nals.len()).collect()
}

#[test]
fn what_precedes_a_picture_goes_with_it() {
    let nals = [
        AUD,
        SPS.nal(),
        PPS.nal(),
        SEI,
        slice(idr()),
        slice(p(1)),
        FILLER,
        AUD,
        slice(p(2)),
        SEI,
        slice(p(3)),
        PPS.nal(),
        slice(p(4)),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    assert_eq!(shape(&units), [5, 2, 2, 2, 2]);
    let starts: Vec<_> = units.iter().map(|unit| unit.start).collect();
    assert_eq!(starts, [Some(Start::Idr), None, None, None, None]);
    let out: Vec<Bytes> = units.into_iter().flat_map(|unit| unit.nals).collect();
    assert_eq!(out, nals);
}

#[test]
fn slices_of_one_picture_stay_together() {
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        slice(below(idr(), 100)),
        slice(below(idr(), 200)),
        slice(p(1)),
        slice(below(p(1), 100)),
        slice(p(2)),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    assert_eq!(shape(&units), [5, 2, 1]);
}

#[test]
fn idr_pictures_that_all_have_the_same_id_are_told_apart_by_their_tops() {
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        slice(below(idr(), 9)),
        slice(idr()),
        slice(idr()),
    ];
    assert_eq!(
        shape(&assemble(&mut Assembler::default(), &nals)),
        [4, 1, 1]
    );
}

#[test]
fn slices_in_any_order_are_one_picture() {
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(below(idr(), 9)),
        slice(idr()),
        slice(below(idr(), 3)),
        slice(p(1)),
    ];
    assert_eq!(shape(&assemble(&mut Assembler::default(), &nals)), [5, 1]);
}

#[test]
fn redundant_slices_belong_to_the_primary_picture() {
    let pps = PpsOptions {
        redundant_pictures: true,
        ..PPS
    };
    let redundant = |options| SliceOptions {
        redundant: 1,
        ..options
    };
    let options = [idr(), redundant(idr()), p(1), redundant(p(1)), p(2)];
    let mut nals = vec![SPS.nal(), pps.nal()];
    nals.extend(options.iter().map(|options| options.nal(&SPS, &pps)));
    assert_eq!(
        shape(&assemble(&mut Assembler::default(), &nals)),
        [4, 2, 1]
    );
}

#[test]
fn a_prefix_goes_with_the_slice_behind_it() {
    let nals = [
        SPS.nal(),
        PPS.nal(),
        PREFIX,
        slice(idr()),
        PREFIX,
        slice(below(idr(), 9)),
        PREFIX,
        slice(p(1)),
        PREFIX,
        AUD,
        slice(p(2)),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    assert_eq!(shape(&units), [6, 2, 3]);
}

const FIELDS: SpsOptions = SpsOptions {
    fields: true,
    ..SPS
};

fn top(options: SliceOptions) -> SliceOptions {
    SliceOptions {
        field: Some(Field::Top),
        ..options
    }
}

fn bottom(options: SliceOptions) -> SliceOptions {
    SliceOptions {
        field: Some(Field::Bottom),
        ..options
    }
}

fn field(options: SliceOptions) -> Bytes {
    options.nal(&FIELDS, &PPS)
}

#[test]
fn two_fields_of_a_frame_are_one_access_unit_whichever_is_first() {
    let second = SliceOptions::default();
    let sets = [FIELDS.nal(), PPS.nal()];
    for (what, fields, expected) in [
        (
            "top first",
            &[top(idr()), bottom(second), top(p(1)), bottom(p(1))][..],
            &[2, 2][..],
        ),
        (
            "bottom first",
            &[bottom(idr()), top(second), bottom(p(1)), top(p(1))],
            &[2, 2],
        ),
        (
            "each of two slices",
            &[
                top(idr()),
                below(top(idr()), 9),
                bottom(second),
                below(bottom(second), 9),
                top(p(1)),
                bottom(p(1)),
            ],
            &[4, 2],
        ),
        (
            "one without a second",
            &[
                top(idr()),
                bottom(second),
                top(p(1)),
                top(p(2)),
                bottom(p(2)),
            ],
            &[2, 1, 2],
        ),
        (
            "and frames in between",
            &[
                top(idr()),
                bottom(second),
                p(1),
                top(p(2)),
                bottom(p(2)),
                p(3),
            ],
            &[2, 1, 2, 1],
        ),
        (
            "one of another parity that is no second",
            &[idr(), top(p(1)), bottom(p(2)), top(p(3))],
            &[1, 1, 1, 1],
        ),
    ] {
        let nals: Vec<Bytes> = fields.iter().map(|options| field(*options)).collect();
        let mut assembler = Assembler::default();
        assemble(&mut assembler, &sets);
        let mut units: Vec<AccessUnit> = nals
            .into_iter()
            .filter_map(|nal| assembler.push(nal))
            .collect();
        units.extend(assembler.flush().or_else(|| assembler.end()));
        let mut shape = shape(&units);
        shape[0] -= sets.len();
        assert_eq!(shape, expected, "{what}");
        assert_eq!(assembler.take_error(), None, "{what}");
    }
}

#[test]
fn nal_units_between_fields_stay_in_the_frame_and_later_ones_start_the_next() {
    let other = PpsOptions {
        id: 1,
        qp: 3,
        ..PPS
    };
    let second = bottom(SliceOptions::default());
    let nals = [
        AUD,
        FIELDS.nal(),
        PPS.nal(),
        field(top(idr())),
        AUD,
        other.nal(),
        SEI,
        second.nal(&FIELDS, &other),
        AUD,
        recovery_sei(0),
        field(top(p(1))),
        AUD,
        recovery_sei(0),
        field(top(p(2))),
        field(bottom(p(2))),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    assert_eq!(shape(&units), [8, 3, 4]);
    let start = Some(Start::Recovery { frames: 0 });
    let starts: Vec<_> = units.iter().map(|unit| unit.start).collect();
    assert_eq!(starts, [Some(Start::Idr), start, start]);
    let out: Vec<Bytes> = units.iter().flat_map(|unit| unit.nals.clone()).collect();
    assert_eq!(out, nals);
    assert_eq!(units[0].parameter_sets.pps, [PPS.nal(), other.nal()]);
}

#[test]
fn a_first_field_waits_for_its_second_through_a_flush_but_not_beyond_the_end() {
    let mut assembler = Assembler::default();
    let second = field(bottom(SliceOptions::default()));
    assert_eq!(
        assemble(
            &mut assembler,
            &[FIELDS.nal(), PPS.nal(), field(top(idr()))]
        ),
        []
    );
    assert!(assembler.has_begun());
    assert_eq!(shape(&assemble(&mut assembler, &[second])), [4]);
    assert_eq!(assemble(&mut assembler, &[field(top(p(1)))]), []);
    let end = assembler.end().unwrap();
    assert_eq!(end.nals, [field(top(p(1)))]);
    assert!(!assembler.has_begun());
}

#[test]
fn a_second_field_without_its_first_slice_is_a_loss() {
    let nals = [
        FIELDS.nal(),
        PPS.nal(),
        field(top(idr())),
        field(bottom(SliceOptions::default())),
        field(top(p(1))),
        field(below(bottom(p(1)), 9)),
        field(top(p(2))),
        field(bottom(p(2))),
    ];
    assert_eq!(told(&nals), (1, Some(Error::Loss(Loss::Top))));
}

#[test]
fn nothing_comes_out_before_a_start_with_parameter_sets() {
    let mut assembler = Assembler::default();
    let nals = [slice(p(3)), slice(idr()), SPS.nal(), PPS.nal(), slice(p(4))];
    assert_eq!(assemble(&mut assembler, &nals), []);
    assert_eq!(assembler.dropped(), 3);
    assert!(assembler.is_waiting());
    assert_eq!(
        assembler.take_error(),
        Some(Error::MissingParameterSets { pps: 0 })
    );
    assert_eq!(assembler.take_error(), None);
    let units = assemble(&mut assembler, &[SEI, slice(idr()), slice(p(1))]);
    assert_eq!(shape(&units), [2, 1]);
    assert!(Arc::ptr_eq(
        &units[0].parameter_sets,
        &units[1].parameter_sets
    ));
}

#[test]
fn the_rest_of_a_picture_that_was_joined_half_way_is_no_start() {
    let mut assembler = Assembler::default();
    assembler
        .set_parameter_sets(&[SPS.nal()], &[PPS.nal()])
        .unwrap();
    let nals = [
        slice(below(idr(), 9)),
        slice(p(1)),
        slice(idr()),
        slice(below(idr(), 9)),
    ];
    assert_eq!(shape(&assemble(&mut assembler, &nals)), [2]);
    assert_eq!(assembler.dropped(), 2);
}

#[test]
fn a_recovery_point_is_a_start() {
    let mut assembler = Assembler::default();
    let nals = [
        slice(p(1)),
        SPS.nal(),
        PPS.nal(),
        recovery_sei(12),
        slice(p(2)),
        slice(p(3)),
        recovery_sei(0),
        slice(idr()),
    ];
    let units = assemble(&mut assembler, &nals);
    let starts: Vec<_> = units.iter().map(|unit| unit.start).collect();
    assert_eq!(
        starts,
        [Some(Start::Recovery { frames: 12 }), None, Some(Start::Idr)]
    );
    assert_eq!(shape(&units), [4, 1, 2]);
}

#[test]
fn parameter_sets_from_outside_serve_until_the_stream_has_its_own() {
    let mut assembler = Assembler::default();
    assembler
        .set_parameter_sets(&[SPS.nal()], &[PPS.nal()])
        .unwrap();
    assert_eq!(assembler.parameter_sets().unwrap().picture.width, 320);
    let wider = SpsOptions {
        width_mbs: 40,
        ..SPS
    };
    let units = assemble(
        &mut assembler,
        &[slice(idr()), slice(p(1)), wider.nal(), slice(idr())],
    );
    let widths: Vec<_> = units
        .iter()
        .map(|unit| unit.parameter_sets.picture.width)
        .collect();
    assert_eq!(widths, [320, 320, 640]);
    assert_eq!(assembler.parameter_sets().unwrap().sps, [wider.nal()]);
}

#[test]
fn each_picture_tells_the_parameter_sets_that_hold_at_it() {
    let other = PpsOptions { qp: 3, ..PPS };
    let beside = PpsOptions {
        id: 4,
        qp: 2,
        ..PPS
    };
    let elsewhere = PpsOptions {
        id: 5,
        sps_id: 1,
        ..PPS
    };
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        other.nal(),
        slice(p(1)),
        beside.nal(),
        elsewhere.nal(),
        p(2).nal(&SPS, &beside),
        slice(p(3)),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    let sets: Vec<_> = units
        .iter()
        .map(|unit| unit.parameter_sets.pps.clone())
        .collect();
    let expected = [
        vec![PPS.nal()],
        vec![PPS.nal()],
        vec![other.nal()],
        vec![other.nal(), beside.nal()],
        vec![other.nal(), beside.nal()],
    ];
    assert_eq!(sets, expected);
    let same = |two: &[AccessUnit]| Arc::ptr_eq(&two[0].parameter_sets, &two[1].parameter_sets);
    let unchanged: Vec<bool> = units.windows(2).map(same).collect();
    assert_eq!(unchanged, [true, false, false, true]);
}

#[test]
fn a_broken_sps_leaves_the_one_before_in_use() {
    let mut assembler = Assembler::default();
    let broken = Bytes::from_static(&[0x67, 77, 0]);
    let nals = [SPS.nal(), PPS.nal(), slice(idr()), broken, slice(p(1))];
    let units = assemble(&mut assembler, &nals);
    assert_eq!(shape(&units), [3, 1]);
    assert_eq!(units[1].parameter_sets, units[0].parameter_sets);
    assert_eq!(
        assembler.take_error().unwrap().to_string(),
        "the SPS is invalid (too short); it is ignored"
    );
}

#[test]
fn a_loss_drops_everything_to_the_next_start() {
    let mut assembler = Assembler::default();
    assert_eq!(
        assemble(&mut assembler, &[SPS.nal(), PPS.nal(), slice(idr())]).len(),
        1
    );
    assert_eq!(assembler.push(slice(p(1))), None);
    assembler.damaged();
    let nals = [
        slice(below(p(1), 9)),
        slice(p(2)),
        slice(idr()),
        slice(p(1)),
    ];
    let units = assemble(&mut assembler, &nals);
    assert_eq!(shape(&units), [1, 1]);
    assert_eq!(units[0].start, Some(Start::Idr));
    assert_eq!(units[0].parameter_sets.pps, [PPS.nal()]);
    assert_eq!(assembler.dropped(), 3);
}

#[test]
fn a_flush_in_the_middle_of_a_picture_loses_no_slice() {
    let mut assembler = Assembler::default();
    let units = assemble(&mut assembler, &[SPS.nal(), PPS.nal(), slice(idr())]);
    assert!(!units[0].continues);
    let units = assemble(
        &mut assembler,
        &[slice(below(idr(), 9)), slice(below(idr(), 12)), slice(p(1))],
    );
    assert_eq!(shape(&units), [2, 1]);
    assert!(units[0].continues && !units[1].continues);
    assert_eq!(units[0].start, None);
}

#[test]
fn a_flush_keeps_what_precedes_the_next_picture() {
    let mut assembler = Assembler::default();
    assert_eq!(assemble(&mut assembler, &[SPS.nal(), PPS.nal()]), []);
    assert_eq!(
        shape(&assemble(&mut assembler, &[slice(idr()), FILLER])),
        [4]
    );
    assert_eq!(assemble(&mut assembler, &[FILLER, AUD]), []);
    assert_eq!(shape(&assemble(&mut assembler, &[slice(p(1))])), [3]);
}

#[test]
fn an_access_unit_over_the_limit_is_dropped_to_the_next_start() {
    for limits in [
        Limits {
            bytes: 60,
            nals: 100,
        },
        Limits {
            bytes: 10000,
            nals: 6,
        },
    ] {
        let mut assembler = Assembler::new(limits);
        let mut nals = vec![SPS.nal(), PPS.nal(), slice(idr()), slice(p(1))];
        nals.extend((1..20).map(|at| slice(below(p(1), at))));
        nals.extend([slice(p(2)), slice(idr())]);
        let units = assemble(&mut assembler, &nals);
        assert_eq!(shape(&units), [3, 1], "{limits:?}");
        assert_eq!(units[1].start, Some(Start::Idr));
        assert_eq!(assembler.take_error(), Some(Error::TooLarge(limits)));
    }
}

#[test]
fn nal_units_without_a_picture_do_not_pile_up() {
    let mut assembler = Assembler::new(Limits {
        bytes: 1000,
        nals: 10,
    });
    for _ in 0..1000 {
        assert_eq!(assembler.push(SEI), None);
        assert!(assembler.unit.nals.len() <= 10);
    }
    assert_eq!(assembler.dropped(), 0);
}

#[test]
fn b_slices_are_seen() {
    let b = SliceOptions {
        slice_type: 6,
        ref_idc: 0,
        ..p(2)
    };
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        slice(p(1)),
        slice(b),
        slice(below(b, 4)),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    let seen: Vec<bool> = units.iter().map(|unit| unit.bidirectional).collect();
    assert_eq!(seen, [false, false, true]);
}

/// Pictures of one to three slices, some preceded by an AUD, an SEI or repeated parameter sets.
fn stream() -> impl Strategy<Value = Vec<Vec<Bytes>>> {
    let picture = (
        1u32..4,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        any::<u16>(),
    );
    prop::collection::vec(picture, 1..12).prop_map(|pictures| {
        let mut units = Vec::new();
        for (number, (slices, aud, sei, again, payload)) in pictures.into_iter().enumerate() {
            let number = number as u32;
            let first = if number.is_multiple_of(5) {
                idr()
            } else {
                p(number % 5)
            };
            let mut unit = Vec::new();
            unit.extend(aud.then_some(AUD));
            if first.idr || again {
                unit.extend([SPS.nal(), PPS.nal()]);
            }
            unit.extend(sei.then_some(SEI));
            unit.extend((0..slices).map(|at| {
                slice(SliceOptions {
                    payload,
                    ..below(first, at * 20)
                })
            }));
            units.push(unit);
        }
        units
    })
}

proptest! {
    #[test]
    fn every_nal_unit_comes_out_once_in_its_access_unit_however_the_bytes_are_cut(
        expected in stream(),
        cuts in prop::collection::vec(0usize..60, 0..30),
    ) {
        let nals: Vec<Bytes> = expected.iter().flatten().cloned().collect();
        let mut splitter = Splitter::new(1000);
        let mut assembler = Assembler::default();
        let mut units = Vec::new();
        for chunk in chunks(&annexb::join(&nals), &cuts) {
            for piece in splitter.push(chunk) {
                let Piece::Nal(nal) = piece else { panic!("{piece:?}") };
                units.extend(assembler.push(nal));
            }
        }
        units.extend(splitter.flush().and_then(|nal| assembler.push(nal)));
        units.extend(assembler.flush());
        let out: Vec<Vec<Bytes>> = units.iter().map(|unit| unit.nals.clone()).collect();
        prop_assert_eq!(out, expected);
        prop_assert_eq!(assembler.dropped(), 0);
    }

    #[test]
    fn any_nal_units_pass_in_order_or_are_dropped(
        noise in prop::collection::vec(nal_unit(), 0..40),
        flushes in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut assembler = Assembler::new(Limits { bytes: 400, nals: 12 });
        let mut nals = vec![SPS.nal(), PPS.nal(), slice(idr())];
        nals.extend(noise);
        nals.push(Bytes::new());
        let mut out = Vec::new();
        for (nal, flush) in nals.iter().zip(flushes.into_iter().chain([true; 4])) {
            out.extend(assembler.push(nal.clone()));
            if flush {
                out.extend(assembler.flush());
            }
            if assembler.dropped() % 3 == 2 {
                assembler.damaged();
            }
        }
        out.extend(assembler.flush());
        let mut rest = nals.iter();
        for nal in out.iter().flat_map(|unit| &unit.nals) {
            prop_assert!(rest.any(|given| given == nal), "out of order or made up: {:?}", nal);
        }
    }
}

/// Number of access units that are output, and the last error.
fn told(nals: &[Bytes]) -> (usize, Option<Error>) {
    let mut assembler = Assembler::default();
    let units = assemble(&mut assembler, nals);
    (units.len(), assembler.take_error())
}

#[test]
fn nothing_follows_a_missing_reference_picture_until_the_next_start() {
    let sets = [SPS.nal(), PPS.nal()];
    let unused = |frame_num| SliceOptions {
        ref_idc: 0,
        ..p(frame_num)
    };
    let loss = Some(Error::Loss(Loss::Pictures));
    for (what, pictures, out, error) in [
        ("none missing", &[idr(), p(1), p(2), p(3)][..], 4, None),
        (
            "one",
            &[idr(), p(1), p(3), p(4), idr(), p(1)],
            4,
            loss.clone(),
        ),
        (
            "an IDR picture",
            &[idr(), p(1), p(2), p(1), p(2)],
            3,
            loss.clone(),
        ),
        ("a swap", &[idr(), p(2), p(1), p(3)], 1, loss.clone()),
        (
            "one that none refers to",
            &[idr(), unused(1), p(1), unused(2), p(2)],
            5,
            None,
        ),
        ("the count restarts", &[idr(), p(15), p(0), p(1)], 1, loss),
    ] {
        let nals = [
            &sets[..],
            &pictures.iter().map(|one| slice(*one)).collect::<Vec<_>>(),
        ];
        assert_eq!(told(&nals.concat()), (out, error), "{what}");
    }
    // From 15 the count continues at 0: `frame_num` has four bits here.
    let round = std::iter::once(idr()).chain((1..20).map(|n| p(n % 16)));
    let nals: Vec<Bytes> = sets.iter().cloned().chain(round.map(slice)).collect();
    assert_eq!(told(&nals), (20, None));
}

/// Number of pictures output of each group, where a group is an IDR picture followed by pictures with these numbers.
fn out_of_groups(sps: &SpsOptions, groups: &[Vec<u32>]) -> (Vec<usize>, bool) {
    let mut assembler = Assembler::default();
    assemble(&mut assembler, &[sps.nal(), PPS.nal()]);
    let out = groups.iter().map(|numbers| {
        let pictures = std::iter::once(idr()).chain(numbers.iter().map(|number| p(*number)));
        let nals: Vec<Bytes> = pictures.map(|one| one.nal(sps, &PPS)).collect();
        assemble(&mut assembler, &nals).len()
    });
    (out.collect(), assembler.ignores_frame_num())
}

#[test]
fn a_source_that_miscounts_alike_in_every_group_is_complete_from_the_fourth() {
    let by = |step: u32, count: u32| (1..=count).map(|n| n * step % 16).collect::<Vec<_>>();
    let six = vec![by(2, 8); 6];
    assert_eq!(
        out_of_groups(&SPS, &six),
        (vec![1, 1, 1, 9, 9, 9], true),
        "by two"
    );
    // Groups of different lengths are compared up to the shorter length.
    let lengths = [by(3, 9), by(3, 4), by(3, 12), by(3, 7)];
    assert_eq!(out_of_groups(&SPS, &lengths), (vec![1, 1, 1, 8], true));
    // The count wraps at 6, although the SPS says 16.
    let wraps = vec![(1..10).map(|n| n % 6).collect(); 4];
    assert_eq!(out_of_groups(&SPS, &wraps), (vec![6, 6, 6, 10], true));

    let gaps_allowed = SpsOptions {
        gaps_allowed: true,
        ..SPS
    };
    assert_eq!(
        out_of_groups(&gaps_allowed, &six),
        (vec![9; 6], false),
        "the SPS allows gaps"
    );
}

#[test]
fn a_loss_that_brings_the_counting_back_to_where_it_was_shows() {
    let no_order = SpsOptions { poc_type: 2, ..SPS };
    for sps in [SPS, no_order] {
        let mut assembler = Assembler::default();
        assemble(&mut assembler, &[sps.nal(), PPS.nal()]);
        let mut out = |pictures: &[SliceOptions]| {
            let nals: Vec<Bytes> = pictures.iter().map(|one| one.nal(&sps, &PPS)).collect();
            assemble(&mut assembler, &nals).len()
        };
        assert_eq!(out(&[idr(), p(1), p(2), p(3)]), 4);
        // In the next group, the keyframe and everything before number 3 is lost.
        assert_eq!(out(&[p(3), p(4)]), 0);
        assert_eq!(out(&[idr(), p(1)]), 2);
        // Non-reference pictures have the number of the picture after them.
        let unused = SliceOptions { ref_idc: 0, ..p(2) };
        assert_eq!(out(&[unused, unused, p(2)]), 3);
    }
}

#[test]
fn a_source_that_never_counts_is_trusted_by_order_or_complete_from_group_four() {
    let group: Vec<SliceOptions> = (1..6)
        .map(|n| SliceOptions {
            order: [2 * n, 0],
            ..p(0)
        })
        .collect();
    let no_order = SpsOptions { poc_type: 2, ..SPS };
    for (sps, expected) in [(SPS, [6, 6, 6, 6]), (no_order, [1, 1, 1, 6])] {
        let mut assembler = Assembler::default();
        assemble(&mut assembler, &[sps.nal(), PPS.nal()]);
        let out = [(); 4].map(|()| {
            let pictures = std::iter::once(idr()).chain(group.iter().copied());
            let nals: Vec<Bytes> = pictures.map(|one| one.nal(&sps, &PPS)).collect();
            assemble(&mut assembler, &nals).len()
        });
        assert_eq!(out, expected);
    }
}

#[test]
fn losses_are_not_taken_for_wrong_counting() {
    let without = |lost: &[u32]| (1..10).filter(|n| !lost.contains(n)).collect::<Vec<_>>();
    // The picture after a large keyframe is lost again and again.
    let behind = vec![without(&[1]); 8];
    assert_eq!(out_of_groups(&SPS, &behind), (vec![1; 8], false));
    // The same gap in many groups, but not in all.
    let mut often = vec![without(&[2, 5]); 8];
    often[2] = without(&[]);
    often[5] = without(&[3, 5]);
    let (out, ignores_frame_num) = out_of_groups(&SPS, &often);
    assert_eq!(out, [2, 2, 10, 2, 2, 3, 2, 2]);
    assert!(!ignores_frame_num);

    // Two of thirty pictures are lost at random, for half an hour.
    let mut seed = 7_u32;
    let mut dice = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (seed >> 16) % 29
    };
    let mut two_lost = || {
        let lost = [dice(), dice()];
        let left = (1..30).filter(|n| !lost.contains(n));
        left.map(|n| n % 16).collect::<Vec<_>>()
    };
    let random: Vec<Vec<u32>> = (0..1800).map(|_| two_lost()).collect();
    assert!(!out_of_groups(&SPS, &random).1);
}

#[test]
fn a_slice_that_cannot_be_read_is_a_loss() {
    let endless = Bytes::from_static(&[0x41, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0x80]);
    for other in [
        endless.clone(),
        below(idr(), 40).nal(&SPS, &PpsOptions { id: 5, ..PPS }),
    ] {
        let nals = [
            SPS.nal(),
            PPS.nal(),
            slice(idr()),
            slice(p(1)),
            slice(p(2)),
            other,
            slice(p(3)),
            slice(idr()),
            slice(p(1)),
        ];
        let mut assembler = Assembler::default();
        assert_eq!(shape(&assemble(&mut assembler, &nals)), [3, 1, 1, 1]);
        assert!(assembler.take_error().is_some());
    }
}

#[test]
fn a_picture_without_its_first_slice_is_a_loss() {
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        slice(below(p(1), 100)),
        slice(p(2)),
        slice(idr()),
    ];
    assert_eq!(told(&nals), (2, Some(Error::Loss(Loss::Top))));
}

#[test]
fn a_nal_unit_marked_as_damaged_is_a_loss() {
    let mut marked = slice(p(2)).to_vec();
    marked[0] |= 0x80;
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        AUD,
        slice(p(1)),
        AUD,
        marked.into(),
        AUD,
        slice(p(3)),
        AUD,
        slice(idr()),
    ];
    assert_eq!(told(&nals), (3, Some(Error::Loss(Loss::Marked))));
}

#[test]
fn a_changed_sps_without_a_start_is_a_loss_and_an_unreadable_one_is_dropped() {
    let other = SpsOptions {
        width_mbs: 40,
        ..SPS
    };
    let broken = Bytes::from_static(&[0x67, 77, 0, 31, 0]);
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        other.nal(),
        slice(p(1)),
        SPS.nal(),
        slice(idr()),
        broken.clone(),
        slice(p(1)),
    ];
    let mut assembler = Assembler::default();
    let units = assemble(&mut assembler, &nals);
    assert_eq!(units.len(), 3);
    assert!(units.iter().all(|unit| !unit.nals.contains(&other.nal())));
    assert!(units.iter().all(|unit| !unit.nals.contains(&broken)));
}

#[test]
fn a_pps_that_is_neither_used_nor_repeated_is_no_longer_passed_on() {
    let stray = PpsOptions {
        id: 9,
        qp: 3,
        ..PPS
    };
    let late = PpsOptions {
        id: 4,
        qp: 5,
        ..PPS
    };
    let nals = [
        SPS.nal(),
        PPS.nal(),
        late.nal(),
        slice(idr()),
        stray.nal(),
        slice(p(1)),
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        p(1).nal(&SPS, &late),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    let pps = |unit: &AccessUnit| unit.parameter_sets.pps.clone();
    let told: Vec<_> = units.iter().map(pps).collect();
    let expected = [
        vec![PPS.nal(), late.nal()],
        vec![PPS.nal(), late.nal(), stray.nal()],
        vec![PPS.nal()],
        // A PPS that is sent once and used late is still known.
        vec![PPS.nal(), late.nal()],
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_picture_that_resets_all_references_restarts_counting_and_is_not_a_loss() {
    let sets = [SPS.nal(), PPS.nal()];
    let mmco5 = |frame_num| SliceOptions {
        mmco5: true,
        ..p(frame_num)
    };
    let unused = |frame_num| SliceOptions {
        ref_idc: 0,
        ..p(frame_num)
    };
    let loss = Some(Error::Loss(Loss::Pictures));
    for (what, pictures, out, error) in [
        ("once", &[idr(), p(1), mmco5(2), p(1), p(2)][..], 5, None),
        ("twice", &[idr(), mmco5(1), mmco5(1), p(1)], 4, None),
        (
            "and one that none refers to",
            &[idr(), mmco5(1), unused(1), p(1)],
            4,
            None,
        ),
        (
            "and one is missing",
            &[idr(), p(1), mmco5(2), p(2)],
            3,
            loss.clone(),
        ),
        (
            "and counts on all the same",
            &[idr(), p(1), mmco5(2), p(3)],
            3,
            loss.clone(),
        ),
        (
            "and is missing itself",
            &[idr(), p(1), p(2), p(1), p(2)],
            3,
            loss,
        ),
    ] {
        let pictures: Vec<Bytes> = pictures.iter().map(|one| slice(*one)).collect();
        assert_eq!(
            told(&[&sets[..], &pictures].concat()),
            (out, error),
            "{what}"
        );
    }
}

#[test]
fn pictures_that_are_shown_before_the_start_they_come_behind_lead() {
    let at = |frame_num, order, ref_idc| SliceOptions {
        order: [order, 0],
        ref_idc,
        ..p(frame_num)
    };
    let nals = [
        SPS.nal(),
        PPS.nal(),
        slice(idr()),
        slice(at(1, 6, 2)),
        slice(at(2, 2, 0)),
        slice(at(2, 4, 0)),
        recovery_sei(0),
        slice(at(2, 12, 2)),
        slice(at(3, 8, 2)),
        slice(at(4, 10, 0)),
        slice(at(4, 0, 2)),
        slice(at(5, 14, 0)),
        slice(idr()),
        slice(at(1, 4, 2)),
        slice(at(2, 2, 0)),
    ];
    let units = assemble(&mut Assembler::default(), &nals);
    let orders: Vec<i64> = units.iter().map(|unit| unit.order).collect();
    assert_eq!(orders, [2, 8, 4, 6, 14, 10, 12, 18, 16, 20, 24, 22]);
    let leading: Vec<usize> = (0..units.len()).filter(|nth| units[*nth].leading).collect();
    assert_eq!(leading, [5, 6]);
    let anew: Vec<usize> = (0..units.len())
        .filter(|nth| units[*nth].restarts_order)
        .collect();
    assert_eq!(anew, [0, 9]);
}

#[test]
fn the_order_after_a_loss_goes_on_behind_all_that_came() {
    let mut assembler = Assembler::default();
    let nals = [SPS.nal(), PPS.nal(), slice(idr()), slice(p(1)), slice(p(2))];
    let before = assemble(&mut assembler, &nals);
    assembler.damaged();
    let after = assemble(
        &mut assembler,
        &[recovery_sei(0), slice(p(9)), slice(p(10))],
    );
    assert!(after[0].restarts_order && after[0].order > before[2].order);
    assert!(after[1].order > after[0].order && !after[1].leading);
}
