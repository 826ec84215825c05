//! NAL units of any kind in any order: access units contain each once and in order, stay within the bounds, and begin
//! at a start.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::Input;
use sluicegate_media::h264::{
    access_unit::{AccessUnit, Assembler, Limits},
    annexb,
};

const LIMITS: Limits = Limits {
    bytes: 4096,
    nals: 32,
};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let (acts, stream) = (input.bytes(), input.rest());
    let mut assembler = Assembler::new(LIMITS);
    let mut left = Vec::new();
    let check = |unit: AccessUnit, running: &mut bool, left: &mut Vec<Bytes>| {
        assert!(
            !unit.nals.is_empty() && unit.nals.len() <= LIMITS.nals && unit.size() <= LIMITS.bytes
        );
        assert!(
            *running || unit.start.is_some(),
            "continues without a start"
        );
        *running = true;
        // In order of arrival and each once: skip the NAL units that were dropped before it.
        for nal in &unit.nals {
            let at = left
                .iter()
                .position(|pushed: &Bytes| pushed.as_ptr() == nal.as_ptr());
            drop(left.drain(..=at.expect("a NAL unit that was not pushed, or a repeated one")));
        }
    };
    let mut running = false;
    let mut acts = acts.iter().cycle();
    for nal in annexb::split(&Bytes::copy_from_slice(stream)) {
        left.push(nal.clone());
        let dropped = assembler.dropped();
        if let Some(unit) = assembler.push(nal) {
            // What was completed ended before this NAL unit, whatever happens to it.
            check(unit, &mut running, &mut left);
        }
        running &= assembler.dropped() == dropped && !assembler.is_waiting();
        match acts.next() {
            Some(0..=40) => {
                if let Some(unit) = assembler.flush() {
                    check(unit, &mut running, &mut left);
                }
                running &= !assembler.is_waiting();
            }
            Some(41..=43) => {
                assembler.damaged();
                running = false;
            }
            _ => {}
        }
        let _ = assembler.take_error();
    }
    if let Some(unit) = assembler.flush() {
        check(unit, &mut running, &mut left);
    }
});
