//! Samples with length prefixes and decoder configuration records: parsed or refused, and what was parsed is written
//! back identically.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::Input;
use sluicegate_media::h264::{avcc, parameter_sets::ParameterSets};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let (size, bytes) = (input.byte(), input.rest());
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(nals) = avcc::split(&bytes, size % 6) {
        assert!(nals.iter().map(Bytes::len).sum::<usize>() <= bytes.len());
        assert_eq!(avcc::split(&avcc::join(&nals), 4).as_ref(), Ok(&nals));
    }
    if let Ok(config) = avcc::DecoderConfig::parse(&bytes)
        && let Ok(sets) = ParameterSets::new(&config.sps, &config.pps)
    {
        let again = avcc::DecoderConfig::parse(&sets.decoder_config());
        let again = again.expect("its own record");
        assert_eq!((again.sps, again.pps), (config.sps, config.pps));
    }
});
