//! Output of an MJPEG camera: the same frames however the bytes are split, each a JPEG within the limit.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Input, pieces};
use sluicegate_media::jpeg;
use sluicegate_source::mjpeg::{Reader, ReaderEvent, boundary, is_mjpeg};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let name = input.text();
    let limit = usize::from(input.word()).max(1);
    let cuts = input.bytes();
    let stream = input.rest();
    let reader = || Reader::new(Some(&name)).with_limit(limit);
    let expected = read(reader(), &[stream]);
    let cut = pieces(stream, cuts);
    let cut: Vec<&[u8]> = cut.iter().map(|piece| &piece[..]).collect();
    assert_eq!(read(reader(), &cut), expected);
    let mut bytes = 0;
    for found in expected {
        if let ReaderEvent::Frame(frame) = found {
            assert!(frame.starts_with(&[0xff, 0xd8, 0xff]) && frame.ends_with(&jpeg::EOI));
            assert!(frame.len() <= limit + jpeg::EOI.len());
            bytes += frame.len() - jpeg::EOI.len();
            let _ = jpeg::size(&frame);
            let whole = jpeg::with_huffman_tables(frame.clone());
            assert!(whole.len() >= frame.len());
        }
    }
    // No byte belongs to two frames.
    assert!(bytes <= stream.len());

    let text = String::from_utf8_lossy(stream);
    let _ = (
        boundary(&text),
        is_mjpeg(Some(&text), stream),
        is_mjpeg(None, stream),
    );
});

fn read(mut reader: Reader, pieces: &[&[u8]]) -> Vec<ReaderEvent> {
    let mut found = Vec::new();
    for piece in pieces {
        reader.push(piece);
        found.extend(std::iter::from_fn(|| reader.take()));
    }
    found.extend(std::iter::from_fn(|| reader.finish()));
    found
}
