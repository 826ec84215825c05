//! Parameter sets: what is accepted describes a possible picture.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::Input;
use sluicegate_media::h264::{
    avcc::DecoderConfig,
    parameter_sets::{MAX_SIDE, ParameterSets},
};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    // The header byte is fixed, so that every input gets past it.
    let sps = Bytes::from([&[0x67], input.bytes()].concat());
    let pps = Bytes::from([&[0x68], input.rest()].concat());
    let Ok(sets) = ParameterSets::new(std::slice::from_ref(&sps), std::slice::from_ref(&pps))
    else {
        return;
    };
    let picture = &sets.picture;
    assert!((1..=MAX_SIDE).contains(&picture.width) && (1..=MAX_SIDE).contains(&picture.height));
    assert!(
        picture
            .frame_rate
            .is_none_or(|rate| rate > 0.0 && rate <= 300.0)
    );
    assert!(picture.reorder.is_none_or(|frames| frames <= 16));
    assert!(picture.codec.len() == 11, "{}", picture.codec);
    let config = DecoderConfig::parse(&sets.decoder_config()).expect("its own record");
    assert_eq!((config.sps, config.pps), (vec![sps], vec![pps]));
});
