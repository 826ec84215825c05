//! WebSocket frames (RFC 6455 5): encodes the server's, parses the client's. Pure: bytes in, events out.

use crate::serving::{Close, MAX_MESSAGE_BYTES};
use bytes::{Buf, Bytes, BytesMut};
use sluicegate_viewer::{Content, Encoding, buffers};

/// The close frame for a violation of the protocol.
fn violation(reason: &str) -> Close {
    Close::new(1002, reason)
}

/// A message or control frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A complete text message.
    Text(String),
    /// A complete binary message.
    Binary(Bytes),
    /// A ping, to be answered with a pong of the same payload.
    Ping(Bytes),
    /// A pong, whether or not a ping was sent.
    Pong,
    /// A close frame.
    Close(Option<Close>),
}

/// Opcodes (RFC 6455 11.8).
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// Content as a WebSocket message: one unmasked, unfragmented frame.
#[derive(Debug)]
pub struct MessageEncoding;

impl Encoding for MessageEncoding {
    fn encode(content: &Content) -> Vec<Bytes> {
        match content {
            Content::Binary(payload) => buffers(&frame_head(BINARY, payload.len()), payload),
            Content::Text(text) => {
                let bytes = Bytes::copy_from_slice(text.as_bytes());
                buffers(&frame_head(TEXT, bytes.len()), &bytes.into())
            }
        }
    }
}

/// The head of an unmasked, unfragmented frame (RFC 6455 5.2).
fn frame_head(opcode: u8, length: usize) -> Vec<u8> {
    let mut head = vec![0x80 | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => head.push(short),
        (_, Ok(medium)) => {
            head.push(126);
            head.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

/// A pong frame with the payload of the ping.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    [frame_head(10, payload.len()).as_slice(), payload]
        .concat()
        .into()
}

/// A ping frame without payload.
pub fn ping_frame() -> Bytes {
    frame_head(9, 0).into()
}

/// A close frame; the reason is cut to the 123 bytes that fit.
pub fn close_frame(close: &Close) -> Bytes {
    let mut end = close.reason.len().min(123);
    while !close.reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = &close.reason.as_bytes()[..end];
    [
        frame_head(8, 2 + reason.len()).as_slice(),
        &close.code.to_be_bytes(),
        reason,
    ]
    .concat()
    .into()
}

/// Parser of a client's frames. Buffers at most one message of 64 KiB and one frame.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// The fragments so far of a message, and whether it is text.
    message: Option<(bool, BytesMut)>,
}

impl Reader {
    /// Buffer to read the next bytes into.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next event; `None` until more bytes come.
    ///
    /// # Errors
    /// The close frame to answer with, if the client violates the protocol or a message is too large.
    pub fn next_event(&mut self) -> Result<Option<Event>, Close> {
        loop {
            let Some((head, length, mask)) = self.head()? else {
                return Ok(None);
            };
            let opcode = head & 0x0f;
            let last = head & 0x80 != 0;
            let header = self.header_length();
            if self.buffer.len() < header + length {
                return Ok(None);
            }
            self.buffer.advance(header);
            let mut payload = self.buffer.split_to(length);
            for (at, byte) in payload.iter_mut().enumerate() {
                *byte ^= mask[at % 4];
            }
            match (opcode, &mut self.message) {
                (0, None) => return Err(violation("a continuation frame without a message")),
                (0, Some((_, message))) => message.extend_from_slice(&payload),
                (1 | 2, None) => self.message = Some((opcode == 1, payload)),
                (1 | 2, Some(_)) => {
                    return Err(violation("a new message inside a fragmented one"));
                }
                (8, _) => return closing(&payload).map(|close| Some(Event::Close(close))),
                (9, _) => return Ok(Some(Event::Ping(payload.freeze()))),
                (10, _) => return Ok(Some(Event::Pong)),
                _ => return Err(violation("an unknown opcode")),
            }
            if last && let Some((text, message)) = self.message.take() {
                return if text {
                    String::from_utf8(message.to_vec())
                        .map(|text| Some(Event::Text(text)))
                        .map_err(|_| Close::new(1007, "text that is not UTF-8"))
                } else {
                    Ok(Some(Event::Binary(message.freeze())))
                };
            }
        }
    }

    /// First byte, payload length and mask of the next frame, all validated before anything is allocated for it.
    fn head(&self) -> Result<Option<(u8, usize, [u8; 4])>, Close> {
        let [head, length, ..] = self.buffer[..] else {
            return Ok(None);
        };
        if head & 0x70 != 0 {
            return Err(violation(
                "reserved bits are set, but no extension was agreed on",
            ));
        }
        if length & 0x80 == 0 {
            return Err(violation("frames of a client must be masked"));
        }
        let control = head & 0x08 != 0;
        if control && (head & 0x80 == 0 || length & 0x7f > 125) {
            return Err(violation(
                "a control frame that is fragmented or longer than 125 bytes",
            ));
        }
        let header = self.header_length();
        if self.buffer.len() < header {
            return Ok(None);
        }
        let length = match length & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.buffer[2], self.buffer[3]])),
            127 => self.buffer[2..10]
                .iter()
                .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        let held = self
            .message
            .as_ref()
            .filter(|_| !control)
            .map_or(0, |(_, message)| message.len());
        let length = usize::try_from(length)
            .ok()
            .filter(|length| length.saturating_add(held) <= MAX_MESSAGE_BYTES);
        let Some(length) = length else {
            return Err(Close::too_large());
        };
        let mask = [
            self.buffer[header - 4],
            self.buffer[header - 3],
            self.buffer[header - 2],
            self.buffer[header - 1],
        ];
        Ok(Some((head, length, mask)))
    }

    fn header_length(&self) -> usize {
        match self.buffer.get(1).map_or(0, |length| length & 0x7f) {
            126 => 8,
            127 => 14,
            _ => 6,
        }
    }
}

fn closing(payload: &[u8]) -> Result<Option<Close>, Close> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(None)
        } else {
            Err(violation("a close code of one byte"))
        };
    };
    let code = u16::from_be_bytes(*code);
    let good = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    match (good, std::str::from_utf8(reason)) {
        (true, Ok(reason)) => Ok(Some(Close::new(code, reason))),
        (false, _) => Err(violation("a close code that must not be sent")),
        (_, Err(_)) => Err(Close::new(1007, "a close reason that is not UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn text_and_bytes_become_frames() {
        let header = Content::Binary(Bytes::from_static(b"<h>").into());
        let frames = [header, Content::Text("hi".into())]
            .map(|content| MessageEncoding::encode(&content).concat());
        assert_eq!(
            frames,
            [
                [&[0x82, 3][..], b"<h>"].concat(),
                [&[0x81, 2][..], b"hi"].concat()
            ]
        );
    }

    use proptest::prelude::*;

    fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = frame_head(0, payload.len());
        frame[0] = head;
        frame[1] |= 0x80;
        let mask = [7, 1, 2, 3];
        frame.extend_from_slice(&mask);
        frame.extend(
            payload
                .iter()
                .enumerate()
                .map(|(at, byte)| byte ^ mask[at % 4]),
        );
        frame
    }

    fn read(bytes: &[u8]) -> Result<Vec<Event>, Close> {
        let mut reader = Reader::default();
        reader.buffer().extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = reader.next_event()? {
            events.push(event);
        }
        Ok(events)
    }

    #[test]
    fn fragments_are_joined_around_control_frames() {
        let bytes = [
            masked(0x01, b"he"),
            masked(0x89, b"?"),
            masked(0x80, b"llo"),
            masked(0x88, &1000u16.to_be_bytes()),
        ]
        .concat();
        let events = read(&bytes).unwrap();
        assert_eq!(
            events,
            [
                Event::Ping(Bytes::from_static(b"?")),
                Event::Text("hello".into()),
                Event::Close(Some(Close::new(1000, ""))),
            ]
        );
    }

    #[test]
    fn each_breach_of_the_protocol_has_its_code() {
        for (bytes, code) in [
            (vec![0x82, 0x01, 0x00], 1002),
            (masked(0xc2, b""), 1002),
            (masked(0x83, b""), 1002),
            (masked(0x80, b"x"), 1002),
            ([masked(0x01, b"x"), masked(0x81, b"y")].concat(), 1002),
            (masked(0x09, b"x"), 1002),
            (masked(0x88, b"x"), 1002),
            (masked(0x88, &1005u16.to_be_bytes()), 1002),
            (masked(0x81, b"\xff"), 1007),
            (masked(0x82, &vec![0; MAX_MESSAGE_BYTES + 1]), 1009),
            (
                [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat(),
                1009,
            ),
        ] {
            assert_eq!(
                read(&bytes).unwrap_err().code,
                code,
                "{:?}",
                &bytes[..bytes.len().min(12)]
            );
        }
    }

    #[test]
    fn a_long_reason_is_shortened_to_a_legal_close_frame() {
        let frame = close_frame(&Close::new(1001, "ü".repeat(100)));
        assert_eq!(usize::from(frame[1]), frame.len() - 2);
        assert!(frame.len() <= 127 && std::str::from_utf8(&frame[4..]).is_ok());
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8), step in 1usize..50) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| masked(0x82, payload)).collect();
            let (mut reader, mut got) = (Reader::default(), Vec::new());
            for chunk in bytes.chunks(step) {
                reader.buffer().extend_from_slice(chunk);
                while let Some(event) = reader.next_event().unwrap() { got.push(event); }
            }
            let sent: Vec<Event> = payloads.into_iter().map(|payload| Event::Binary(payload.into())).collect();
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
