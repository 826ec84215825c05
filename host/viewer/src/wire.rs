//! Chunks as they go on the wire, made once for all viewers of a carrier. Pure.

use bytes::{Bytes, BytesMut};
use sluicegate_media::buffer::Buffer;
use std::sync::{Arc, OnceLock};

/// Chunks up to this size are written as one run of bytes; copying that much once costs less than two runs per viewer.
const FLAT: usize = 64 << 10;
/// Opcodes of WebSocket (RFC 6455 11.8).
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// What is in a chunk or a header.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes.
    Binary(Buffer),
    /// Text, for carriers that have it.
    Text(Arc<str>),
}

impl Content {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        match self {
            Content::Binary(payload) => payload.len(),
            Content::Text(text) => text.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both read the same.
    pub fn same(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Binary(one), Content::Binary(two)) => one.same_bytes(two),
            (Content::Text(one), Content::Text(two)) => one == two,
            _ => false,
        }
    }
}

/// Content with its wire form, made once per carrier.
#[derive(Debug)]
pub struct Piece {
    content: Content,
    http: OnceLock<Vec<Bytes>>,
    websocket: OnceLock<Vec<Bytes>>,
}

impl Piece {
    /// A piece whose wire form is made when first asked for.
    pub fn new(content: Content) -> Piece {
        Piece {
            content,
            http: OnceLock::new(),
            websocket: OnceLock::new(),
        }
    }

    /// What is in it.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The bytes on that carrier; nothing for text where there is no text.
    pub fn wire(&self, carrier: Carrier) -> &[Bytes] {
        match carrier {
            Carrier::Http => self.http.get_or_init(|| match &self.content {
                Content::Binary(payload) => flat(&[], payload),
                Content::Text(_) => Vec::new(),
            }),
            Carrier::WebSocket => self.websocket.get_or_init(|| match &self.content {
                Content::Binary(payload) => flat(&frame_head(BINARY, payload.len()), payload),
                Content::Text(text) => {
                    let bytes = Bytes::copy_from_slice(text.as_bytes());
                    flat(&frame_head(TEXT, bytes.len()), &bytes.into())
                }
            }),
        }
    }
}

fn flat(head: &[u8], payload: &Buffer) -> Vec<Bytes> {
    let parts = payload.parts();
    if payload.len() <= FLAT {
        if let ([], [one]) = (head, parts) {
            return vec![one.clone()];
        }
        let mut all = BytesMut::with_capacity(head.len() + payload.len());
        all.extend_from_slice(head);
        parts.iter().for_each(|part| all.extend_from_slice(part));
        return if all.is_empty() {
            Vec::new()
        } else {
            vec![all.freeze()]
        };
    }
    let head = (!head.is_empty()).then(|| Bytes::copy_from_slice(head));
    head.into_iter().chain(parts.iter().cloned()).collect()
}

/// How bytes get to a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// The body of an HTTP response.
    Http,
    /// Messages of a WebSocket.
    WebSocket,
}

impl Carrier {
    /// Its name in the WIT.
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Http => "http",
            Carrier::WebSocket => "websocket",
        }
    }
}

/// The head of an unmasked, unfragmented WebSocket frame (RFC 6455 5.2).
pub fn frame_head(opcode: u8, length: usize) -> Vec<u8> {
    let mut header = vec![0x80 | opcode];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => header.push(short),
        (_, Ok(medium)) => {
            header.push(126);
            header.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header
}
