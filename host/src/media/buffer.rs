//! Bytes in shared runs: what a guest's `buffer` handle stands for.

use bytes::{Bytes, BytesMut};

/// Neighbouring pieces below this are copied together: a write of many small slices costs more than the copy.
const SMALL: usize = 4096;
/// A buffer of more pieces is copied into one.
const MOST_PARTS: usize = 64;

/// An immutable rope of shared runs of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    parts: Vec<Bytes>,
    len: usize,
}

impl Buffer {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The runs it is made of, in order; none is empty.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The bytes in `offset .. offset + length`, shared; shorter at the end.
    pub fn slice(&self, mut offset: usize, mut length: usize) -> impl Iterator<Item = Bytes> + '_ {
        self.parts.iter().filter_map(move |part| {
            if offset >= part.len() {
                offset -= part.len();
                return None;
            }
            let take = length.min(part.len() - offset);
            let piece = part.slice(offset..offset + take);
            (offset, length) = (0, length - take);
            (take > 0).then_some(piece)
        })
    }

    /// Everything as one run; copies unless it is one already.
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            parts => concat(parts),
        }
    }

    /// Whether both would read the same.
    pub fn same_bytes(&self, other: &Buffer) -> bool {
        self.len == other.len && self.to_bytes() == other.to_bytes()
    }
}

impl From<Bytes> for Buffer {
    fn from(bytes: Bytes) -> Self {
        [bytes].into_iter().collect()
    }
}

impl FromIterator<Bytes> for Buffer {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        let mut buffer = Buffer::default();
        let mut small = BytesMut::new();
        for piece in pieces {
            buffer.len += piece.len();
            if piece.len() < SMALL {
                small.extend_from_slice(&piece);
            } else {
                if !small.is_empty() {
                    buffer.parts.push(small.split().freeze());
                }
                buffer.parts.push(piece);
            }
        }
        if !small.is_empty() {
            buffer.parts.push(small.freeze());
        }
        if buffer.parts.len() > MOST_PARTS {
            buffer.parts = vec![concat(&buffer.parts)];
        }
        buffer
    }
}

fn concat(parts: &[Bytes]) -> Bytes {
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_pieces_read_as_their_concatenation(
            sizes in prop::collection::vec(0usize..9000, 0..80), offset in 0usize..20_000, length in 0usize..20_000) {
            let mut all = Vec::new();
            let buffer: Buffer = sizes.iter().enumerate().map(|(n, size)| {
                let piece = vec![n as u8; *size];
                all.extend_from_slice(&piece);
                Bytes::from(piece)
            }).collect();
            prop_assert_eq!(buffer.len(), all.len());
            prop_assert_eq!(&buffer.to_bytes()[..], &all[..]);
            let from = offset.min(all.len());
            let to = (from + length).min(all.len());
            let slice: Vec<u8> = buffer.slice(offset, length).flatten().collect();
            prop_assert_eq!(&slice[..], &all[from..to]);
        }
    }
}
