//! Data from a device's sockets: scrcpy's video by version, output of a shell, adb's list. The same events however the
//! bytes are split.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sluicegate_config::check_stream_name;
use sluicegate_fuzz::{Input, pieces};
use sluicegate_source::android::{
    parse_list,
    scrcpy::{Event, MAX_PACKET_BYTES, Parser, Wire, WireError},
    shell::Output,
    stream_name,
};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let wire = [Wire::Sized, Wire::Sessions][usize::from(input.flag())];
    let cuts = input.bytes();
    let stream = input.rest();
    let expected = events(Parser::new(wire), &[stream]);
    let cut = pieces(stream, cuts);
    let cut: Vec<&[u8]> = cut.iter().map(|piece| &piece[..]).collect();
    assert_eq!(events(Parser::new(wire), &cut), expected);
    for event in &expected.0 {
        if let Event::Config(data) | Event::Frame { data, .. } = event {
            assert!(!data.is_empty() && data.len() <= MAX_PACKET_BYTES);
        }
    }

    let version = "3.3.4".parse().expect("a version");
    for packets in [false, true] {
        let (mut whole, mut pieces) = (Output::new(packets), Output::new(packets));
        whole.push(stream);
        for piece in &cut {
            pieces.push(piece);
        }
        assert_eq!(whole.has_ended(), pieces.has_ended());
        assert!(whole.explain_exit(&version).len() < 2000);
    }

    for attached in parse_list(&String::from_utf8_lossy(stream)) {
        if let Some(name) = stream_name(&attached.serial) {
            assert_eq!(check_stream_name(&name), Ok(()));
        }
    }
});

/// The events, and the error that ended them.
fn events(mut parser: Parser, pieces: &[&[u8]]) -> (Vec<Event>, Option<WireError>) {
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.take() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}
