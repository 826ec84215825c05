//! What a client of WebTransport sends: frames of HTTP/3, a request for a session, streams and datagrams.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use hyper::Version;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Input, pieces};
use sluicegate_net::webtransport::{Pieces, head};
use std::collections::HashMap;
use wtransport::proto::{
    datagram::Datagram,
    frame::{Frame, FrameKind},
    settings::Settings,
    stream_header::StreamHeader,
};

/// Largest stream that is passed on whole.
const MAX_BYTES: usize = 64 << 10;

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    match input.byte() % 3 {
        0 => {
            let (port, page) = (input.word(), input.word());
            let (authority, path) = (input.text(), input.text());
            let mut fields = HashMap::new();
            while !input.is_empty() {
                fields.insert(input.text(), input.text());
            }
            request(&authority, &path, &fields, port, page);
        }
        1 => {
            let (in_pieces, cuts, times) = (input.flag(), input.bytes(), input.byte());
            // More than may arrive, without that much input.
            let stream = input.rest().repeat(usize::from(times) + 1);
            stream_of(&stream, cuts, in_pieces);
        }
        _ => protocol(input.rest()),
    }
});

fn request(authority: &str, path: &str, fields: &HashMap<String, String>, port: u16, page: u16) {
    let Ok(head) = head(authority, path, fields, port, page) else {
        return;
    };
    assert_eq!(head.version(), Version::HTTP_3);
    let named = head.uri().authority().expect("an authority");
    let came = authority
        .parse::<hyper::http::uri::Authority>()
        .expect("it was read");
    assert_eq!(named.host(), came.host());
    assert!(named.port_u16() == came.port_u16() || named.port_u16() == Some(page));
    assert_eq!(
        head.uri()
            .path_and_query()
            .map(|path| path.path().is_empty()),
        Some(false)
    );
    assert!(head.headers().len() <= fields.len());
    assert!(
        head.headers()
            .keys()
            .all(|name| !name.as_str().starts_with(':'))
    );
}

/// Everything arrives in order and once, or is refused because it is too large.
fn stream_of(stream: &[u8], cuts: &[u8], in_pieces: bool) {
    let mut taken = Pieces::new(7, true, in_pieces);
    let arrives = pieces(stream, cuts).into_iter().map(Some).chain([None]);
    let (mut passed, mut ended) = (Vec::new(), false);
    for arrived in arrives {
        match taken.add(arrived) {
            Ok(None) => assert!(!in_pieces),
            Ok(Some(data)) => {
                assert!(!ended && data.id == 7 && data.bidirectional);
                assert!(in_pieces || data.last && data.data.len() <= MAX_BYTES);
                passed.extend_from_slice(&data.data.to_bytes());
                ended = data.last;
            }
            Err(close) => {
                assert_eq!(close.code, 1009);
                assert!(!in_pieces && stream.len() > MAX_BYTES);
                return;
            }
        }
    }
    assert!(ended && passed == stream);
}

/// As the crate does it that reads connections for the gateway. Header blocks are left out: the crate shifts too far on
/// an integer that is too long, which does no harm, but is an overflow in builds that look for them.
fn protocol(bytes: &[u8]) {
    let _ = StreamHeader::read(&mut &*bytes);
    if let Ok(datagram) = Datagram::read(bytes) {
        assert!(datagram.payload().len() <= bytes.len());
    }
    let mut rest = bytes;
    while let Ok(Some(frame)) = Frame::read(&mut rest) {
        if matches!(frame.kind(), FrameKind::Settings) {
            let _ = Settings::with_frame(&frame);
        }
    }
}
