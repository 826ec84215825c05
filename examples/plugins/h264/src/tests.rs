//! `cargo test` runs these natively; the mock takes the gateway's place.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use sluicegate_sdk::{
    mock::{self, Muxer},
    serde_json,
};

const AVCC: [u8; 16] = [
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
];
const SETS: [u8; 13] = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0, 0, 0, 1, 0x68, 0xce];

fn info() -> StreamInfo {
    mock::video("h264/annexb", "avc1.42c01e", &AVCC)
}

fn samples() -> Vec<Sample> {
    let frames = [(true, b"I0"), (false, b"p1"), (true, b"I2"), (false, b"p3")];
    mock::samples(
        0,
        frames.map(|(independent, bytes)| (independent, bytes.to_vec())),
    )
}

fn running() -> Muxer<H264> {
    let mut muxer = Muxer::open("").unwrap();
    muxer.configure(&info());
    for sample in samples() {
        muxer.push(sample);
    }
    muxer
}

#[test]
fn viewer_reads_one_annex_b_stream() {
    let got = running().watch(0, ("http", "", ""), |i| i >= 2).unwrap();
    assert_eq!(mock::bytes(&got), [&SETS[..], b"I2p3"].concat());
}

#[test]
fn info_describes_the_stream() {
    let Reply::Done(response) = running().request("info", "") else {
        panic!("an answer")
    };
    let about: serde_json::Value = serde_json::from_slice(&response.body.to_vec()).unwrap();
    assert_eq!(about["codec"], "avc1.42c01e");
    assert_eq!(
        (&about["width"], &about["height"]),
        (&640.into(), &360.into())
    );
}

#[test]
fn info_waits_for_the_stream() {
    let muxer = Muxer::<H264>::open("").unwrap();
    assert_eq!(muxer.request("info", ""), Reply::Pending);
}

#[test]
fn new_instance_goes_on_where_the_old_one_was() {
    mock::assert_restartable::<H264>("", &info(), &samples());
}

#[test]
fn mistake_in_the_config_is_named() {
    let Err(error) = Muxer::<H264>::open(r#"{"stale": "2 parsecs"}"#) else {
        panic!("taken")
    };
    assert_eq!(
        error,
        "option `stale`: `2 parsecs` is not a valid duration; write for example \"200ms\" or \"2s\""
    );
}
