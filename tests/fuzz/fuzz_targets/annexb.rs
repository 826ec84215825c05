//! A byte stream gives the same NAL units however it is split, and the output survives being joined and split again.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Input, pieces};
use sluicegate_media::h264::annexb::{self, Piece, Splitter};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let most = 1 + usize::from(input.word());
    let (cuts, stream) = (input.bytes(), input.rest());
    let mut whole = Splitter::new(most);
    let mut expected = whole.push(Bytes::copy_from_slice(stream));
    expected.extend(whole.flush().map(Piece::Nal));

    let mut cut = Splitter::new(most);
    let mut found = Vec::new();
    for piece in pieces(stream, cuts) {
        found.extend(cut.push(piece));
    }
    found.extend(cut.flush().map(Piece::Nal));
    assert_eq!(found, expected);

    let nals: Vec<Bytes> = found
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Nal(nal) => Some(nal),
            Piece::Damaged(_) => None,
        })
        .collect();
    for nal in &nals {
        assert!(!nal.is_empty() && nal.len() <= most && nal.last() != Some(&0));
    }
    assert_eq!(annexb::split(&annexb::join(&nals)), nals);

    // A silence in between loses only what is reported as lost.
    let mut interrupted = Splitter::new(most);
    for piece in pieces(stream, cuts) {
        for piece in interrupted.push(piece) {
            if let Piece::Nal(nal) = piece {
                assert!(!nal.is_empty() && nal.len() <= most);
            }
        }
        if let Some(nal) = interrupted.flush() {
            assert!(!nal.is_empty() && nal.len() <= most);
        }
        assert!(!interrupted.has_unfinished());
    }
});
