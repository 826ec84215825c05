//! [`Buffer`]: a handle in a component, plain memory in a native test.

#[cfg(target_arch = "wasm32")]
use crate::bindings::sluicegate::gateway::media;

/// An immutable run of bytes that the host holds. While it is held it counts against the instance's limit; dropping it
/// frees it.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Buffer(pub(crate) Inner);

#[cfg(target_arch = "wasm32")]
pub(crate) type Inner = media::Buffer;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Inner = std::rc::Rc<[u8]>;

/// A part of a new buffer.
#[derive(Debug)]
pub enum Piece<'a> {
    /// These bytes: copied to the host once.
    Bytes(Vec<u8>),
    /// A part of another buffer: shared where it is large.
    Slice {
        /// Where from.
        source: &'a Buffer,
        /// In bytes.
        offset: u32,
        /// In bytes; `offset + length` beyond the source's end is a trap.
        length: u32,
    },
}

impl Buffer {
    /// One buffer out of pieces, in their order.
    pub fn new<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Self {
        Buffer(join(pieces))
    }

    /// A part of this buffer as a piece of another. Out of range: a trap when the other is made.
    pub fn slice(&self, offset: u32, length: u32) -> Piece<'_> {
        Piece::Slice {
            source: self,
            offset,
            length,
        }
    }

    /// A second handle on the same bytes, which are not copied where they are many.
    pub fn share(&self) -> Self {
        Buffer::new([self.into()])
    }

    /// In bytes. One call to the host; samples carry theirs.
    pub fn size(&self) -> u32 {
        #[cfg(target_arch = "wasm32")]
        return self.0.size();
        #[cfg(not(target_arch = "wasm32"))]
        return u32::try_from(self.0.len()).unwrap_or(u32::MAX);
    }

    /// Copies out up to `length` bytes from `offset`; fewer, or none, at the end.
    pub fn read(&self, offset: u32, length: u32) -> Vec<u8> {
        #[cfg(target_arch = "wasm32")]
        return self.0.read(offset, length);
        #[cfg(not(target_arch = "wasm32"))]
        return {
            let start = (offset as usize).min(self.0.len());
            let end = start.saturating_add(length as usize).min(self.0.len());
            self.0[start..end].to_vec()
        };
    }

    /// Copies all of it out.
    pub fn to_vec(&self) -> Vec<u8> {
        self.read(0, u32::MAX)
    }
}

#[cfg(target_arch = "wasm32")]
fn join<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Inner {
    let pieces = pieces.into_iter().map(|piece| match piece {
        Piece::Bytes(bytes) => media::Piece::Bytes(bytes),
        Piece::Slice {
            source,
            offset,
            length,
        } => media::Piece::Slice(media::Slice {
            source: &source.0,
            offset,
            length,
        }),
    });
    media::Buffer::new(&pieces.collect::<Vec<_>>())
}

#[cfg(not(target_arch = "wasm32"))]
fn join<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Inner {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Bytes(piece) => bytes.extend(piece),
            Piece::Slice {
                source,
                offset,
                length,
            } => {
                let (offset, length) = (offset as usize, length as usize);
                bytes.extend_from_slice(&source.0[offset..offset + length]);
            }
        }
    }
    bytes.into()
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer::new([Piece::Bytes(bytes)])
    }
}

impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<Vec<u8>> for Piece<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Piece::Bytes(bytes)
    }
}

impl From<&[u8]> for Piece<'_> {
    fn from(bytes: &[u8]) -> Self {
        Piece::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Piece<'_> {
    fn from(text: &str) -> Self {
        Piece::Bytes(text.into())
    }
}

impl From<String> for Piece<'_> {
    fn from(text: String) -> Self {
        Piece::Bytes(text.into_bytes())
    }
}

impl<'a> From<&'a Buffer> for Piece<'a> {
    fn from(buffer: &'a Buffer) -> Self {
        buffer.slice(0, buffer.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_bytes_and_slices_in_order() {
        let source = Buffer::from(b"0123456789".as_slice());
        let joined = Buffer::new([
            "<".into(),
            source.slice(2, 3),
            ">".into(),
            source.slice(10, 0),
        ]);
        assert_eq!(joined.to_vec(), b"<234>");
        assert_eq!(joined.size(), 5);
    }

    #[test]
    fn read_stops_at_the_end() {
        let buffer = Buffer::from(b"abc".as_slice());
        assert_eq!(buffer.read(1, 100), b"bc");
        assert_eq!(buffer.read(3, 1), b"");
        assert_eq!(buffer.read(u32::MAX, u32::MAX), b"");
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn slice_out_of_range_ends_the_instance() {
        let source = Buffer::from(b"abc".as_slice());
        Buffer::new([source.slice(2, 2)]);
    }

    #[test]
    fn shared_handle_has_the_same_bytes() {
        let buffer = Buffer::from(b"abc".as_slice());
        assert_eq!(buffer.share(), buffer);
    }
}
