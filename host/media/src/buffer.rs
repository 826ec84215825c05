//! Ropes of shared byte slices: the host side of a guest's `buffer` handle.
//!
//! A guest composes output from its own bytes and slices of samples without copying the payload. A slice keeps the
//! whole allocation it was cut from alive, so small slices of large allocations are copied: the memory behind a
//! [`Buffer`] is at most twice its length. Used by the guest bindings in `host/plugin`, which count buffers against a
//! guest's memory limit, and by the writers in `host/net` and `host/viewer`.

use bytes::{Bytes, BytesMut};

/// Adjacent pieces shorter than this are copied together, because writing many small slices costs more than the copy.
const SMALL: usize = 4096;
/// A buffer of more parts than this is copied into a single one.
const MAX_PARTS: usize = 64;
/// A slice is shared if it is at least 1/`MIN_SHARE` of the allocation that it keeps alive, and copied otherwise. So
/// the memory in use is at most twice what is accounted for.
const MIN_SHARE: usize = 2;

/// An immutable rope of shared runs of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer {
    parts: Vec<Bytes>,
    /// Size of the allocation that each part keeps alive: the length of the bytes that it was sliced from.
    kept: Vec<usize>,
    len: usize,
}

/// One contiguous piece of bytes, possibly a slice of a larger allocation.
#[derive(Clone, Debug)]
pub struct Run {
    bytes: Bytes,
    kept: usize,
}

impl From<Bytes> for Run {
    fn from(bytes: Bytes) -> Self {
        let kept = bytes.len();
        Run { bytes, kept }
    }
}

impl std::ops::Deref for Run {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Buffer {
    /// Total number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The contiguous parts in order; none is empty.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The bytes in `offset .. offset + length`, shared; fewer where the buffer ends earlier.
    pub fn slice(&self, mut offset: usize, mut length: usize) -> impl Iterator<Item = Run> + '_ {
        let parts = self.parts.iter().zip(&self.kept);
        parts.filter_map(move |(part, kept)| {
            if offset >= part.len() {
                offset -= part.len();
                return None;
            }
            let take = length.min(part.len() - offset);
            let piece = Run {
                bytes: part.slice(offset..offset + take),
                kept: *kept,
            };
            (offset, length) = (0, length - take);
            (take > 0).then_some(piece)
        })
    }

    /// All bytes as one slice. Copies unless the buffer has a single part.
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            parts => concat(parts),
        }
    }

    /// Whether both buffers have the same content, however it is divided into parts.
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
        pieces.into_iter().map(Run::from).collect()
    }
}

impl FromIterator<Run> for Buffer {
    fn from_iter<I: IntoIterator<Item = Run>>(pieces: I) -> Self {
        let mut buffer = Buffer::default();
        let mut small = BytesMut::new();
        for piece in pieces {
            if piece.len() < SMALL || piece.len() < piece.kept / MIN_SHARE {
                small.extend_from_slice(&piece);
            } else {
                buffer.push(small.split().freeze().into());
                buffer.push(piece);
            }
        }
        buffer.push(small.freeze().into());
        if buffer.parts.len() > MAX_PARTS {
            buffer = concat(&buffer.parts).into();
        }
        buffer
    }
}

impl Buffer {
    fn push(&mut self, run: Run) {
        if !run.is_empty() {
            self.len += run.len();
            self.parts.push(run.bytes);
            self.kept.push(run.kept);
        }
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
            let slice: Vec<u8> = buffer.slice(offset, length).flat_map(|run| run.to_vec()).collect();
            prop_assert_eq!(&slice[..], &all[from..to]);
        }

        /// However often a buffer is sliced, the memory it keeps alive is at most twice its length.
        #[test]
        fn a_slice_keeps_little_more_than_itself(cuts in prop::collection::vec(1usize..=10, 1..12)) {
            let mut buffer = Buffer::from(Bytes::from(vec![7; 1 << 20]));
            for tenths in cuts {
                buffer = buffer.slice(0, buffer.len() * tenths / 10).collect();
                let kept: usize = buffer.kept.iter().sum();
                prop_assert!(kept <= MIN_SHARE * buffer.len() + MIN_SHARE, "{kept} for {}", buffer.len());
            }
        }
    }
}
