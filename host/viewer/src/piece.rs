//! Payloads as viewers get them, and their encodings.
//!
//! A transport emits [`Content`]: bytes or text. What goes on the wire differs by carrier, for example by the head of a
//! WebSocket frame, and is the same for all viewers of that carrier. So a [`Piece`] keeps each encoding after the first
//! viewer needed it; a thousand viewers share one. How content is encoded is the carrier's own code, behind
//! [`Encoding`]: this module knows no carrier. It does no I/O.

use bytes::{Bytes, BytesMut};
use sluicegate_media::buffer::Buffer;
use std::{
    any::TypeId,
    sync::{Arc, OnceLock},
};

/// Content up to this size (bytes) is encoded as one contiguous buffer: copying that much once costs less than one more
/// buffer in every viewer's vectored write.
const CONTIGUOUS: usize = 64 << 10;

/// Payload of a chunk, of a part of a header, or of a message to one viewer.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes.
    Binary(Buffer),
    /// Text, for carriers that distinguish it from bytes.
    Text(Arc<str>),
}

impl Content {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Content::Binary(payload) => payload.len(),
            Content::Text(text) => text.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether both are of the same kind and have the same bytes.
    pub fn same(&self, other: &Content) -> bool {
        match (self, other) {
            (Content::Binary(one), Content::Binary(two)) => one.content_eq(two),
            (Content::Text(one), Content::Text(two)) => one == two,
            _ => false,
        }
    }
}

/// The form that content has on one carrier.
pub trait Encoding: 'static {
    /// The buffers to write, in order; none if the carrier does not carry this kind of content.
    fn encode(content: &Content) -> Vec<Bytes>;
}

/// Content with its encodings, each made once and shared by all viewers.
#[derive(Debug)]
pub struct Piece {
    content: Content,
    encoded: Encoded,
}

/// A list that only grows, one entry per carrier that has asked, so that it is read without a lock.
type Encoded = OnceLock<Box<Entry>>;

#[derive(Debug)]
struct Entry {
    encoding: TypeId,
    buffers: Vec<Bytes>,
    next: Encoded,
}

impl Piece {
    /// A piece without encodings.
    pub fn new(content: Content) -> Piece {
        Piece {
            content,
            encoded: OnceLock::new(),
        }
    }

    /// The content as the transport emitted it.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The content as `E` encodes it.
    pub fn encoded<E: Encoding>(&self) -> &[Bytes] {
        let encoding = TypeId::of::<E>();
        let mut place = &self.encoded;
        loop {
            let entry = place.get_or_init(|| {
                Box::new(Entry {
                    encoding,
                    buffers: E::encode(&self.content),
                    next: OnceLock::new(),
                })
            });
            if entry.encoding == encoding {
                return &entry.buffers;
            }
            place = &entry.next;
        }
    }
}

/// `head` and `payload` as buffers for a vectored write: one contiguous buffer if they are small.
pub fn buffers(head: &[u8], payload: &Buffer) -> Vec<Bytes> {
    let parts = payload.parts();
    if payload.len() <= CONTIGUOUS {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    static PLAIN: AtomicUsize = AtomicUsize::new(0);
    static LINES: AtomicUsize = AtomicUsize::new(0);

    struct Plain;
    struct Lines;

    impl Encoding for Plain {
        fn encode(content: &Content) -> Vec<Bytes> {
            PLAIN.fetch_add(1, Ordering::Relaxed);
            match content {
                Content::Binary(payload) => buffers(&[], payload),
                Content::Text(_) => Vec::new(),
            }
        }
    }

    impl Encoding for Lines {
        fn encode(content: &Content) -> Vec<Bytes> {
            LINES.fetch_add(1, Ordering::Relaxed);
            vec![format!("{}\n", content.len()).into()]
        }
    }

    #[test]
    fn each_encoding_is_made_once_however_many_threads_ask() {
        let piece = Piece::new(Content::Binary(Bytes::from_static(b"abc").into()));
        let barrier = Barrier::new(8);
        thread::scope(|scope| {
            for thread in 0..8 {
                let (piece, barrier) = (&piece, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let (one, two) = match thread % 2 {
                        0 => (piece.encoded::<Plain>(), piece.encoded::<Lines>()),
                        _ => {
                            let lines = piece.encoded::<Lines>();
                            (piece.encoded::<Plain>(), lines)
                        }
                    };
                    assert_eq!(
                        (one, two),
                        (&[Bytes::from("abc")][..], &[Bytes::from("3\n")][..])
                    );
                });
            }
        });
        assert_eq!(
            (PLAIN.load(Ordering::Relaxed), LINES.load(Ordering::Relaxed)),
            (1, 1)
        );
    }

    #[test]
    fn small_content_is_one_buffer_and_large_content_is_not_copied() {
        let of = |size: usize| Buffer::from(Bytes::from(vec![7; size]));
        assert_eq!(buffers(b"head", &of(10)).len(), 1);
        assert!(buffers(&[], &of(0)).is_empty());
        let large = of(CONTIGUOUS + 1);
        let two = buffers(b"head", &large);
        assert_eq!(two.len(), 2);
        assert_eq!(two[1].as_ptr(), large.parts()[0].as_ptr());
    }
}
