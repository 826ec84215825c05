//! Data from a WebSocket client: the same events however the bytes are split, and nothing larger than the limit.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Input, pieces};
use sluicegate_net::websocket::{Close, Event, Reader, close_frame, pong_frame};

/// Largest message, and the head of its frame.
const MAX_BYTES: usize = 64 << 10;

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let (cuts, stream) = (input.bytes(), input.rest());
    let whole = read(&[stream.to_vec().into()]);
    let cut = read(&pieces(stream, cuts));
    assert_eq!(cut, whole);
});

fn read(pieces: &[bytes::Bytes]) -> (Vec<Event>, Option<Close>) {
    let mut reader = Reader::default();
    let mut events = Vec::new();
    for piece in pieces {
        reader.buffer().extend_from_slice(piece);
        loop {
            match reader.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    match &event {
                        Event::Text(text) => assert!(text.len() <= MAX_BYTES),
                        Event::Binary(data) => assert!(data.len() <= MAX_BYTES),
                        Event::Ping(payload) => {
                            assert!(payload.len() <= 125 && pong_frame(payload).len() <= 127);
                        }
                        Event::Close(close) => {
                            close.iter().for_each(answerable);
                        }
                        Event::Pong => {}
                    }
                    events.push(event);
                }
                Err(close) => {
                    answerable(&close);
                    return (events, Some(close));
                }
            }
        }
    }
    (events, None)
}

fn answerable(close: &Close) {
    assert!((1000..5000).contains(&close.code), "{close:?}");
    assert!(close_frame(close).len() <= 127);
}
