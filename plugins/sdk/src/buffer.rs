//! [`Buffer`], the handle through which a transport works with payload.
//!
//! In a component it wraps the host's resource `media.buffer`, so payload stays in the host's memory and slices are
//! joined there. On any other target it is plain memory, which lets unit tests run natively with the same code.

#[cfg(target_arch = "wasm32")]
use crate::bindings::sluicegate::gateway::media;

/// An immutable sequence of bytes in the host's memory. While the handle exists, the size counts against the instance's
/// limit of 64 MiB; dropping the handle frees it.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Buffer(pub(crate) Inner);

#[cfg(target_arch = "wasm32")]
pub(crate) type Inner = media::Buffer;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Inner = std::rc::Rc<[u8]>;

/// Part of a new buffer.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes of the guest's own, copied to the host once.
    Bytes(Vec<u8>),
    /// Range of an existing buffer. The host shares its memory if the range is large.
    Slice {
        /// Buffer that the range is taken from.
        source: &'a Buffer,
        /// Start of the range in bytes.
        offset: u32,
        /// Length of the range in bytes. A range that reaches beyond the source's end traps when the new buffer is
        /// made.
        length: u32,
    },
}

impl Buffer {
    /// Concatenates pieces, in order, into a new buffer.
    pub fn new<'a>(pieces: impl IntoIterator<Item = Piece<'a>>) -> Self {
        Buffer(join(pieces))
    }

    /// A range of this buffer, in bytes, as a piece of another buffer. If it is out of range, creating the other buffer
    /// traps.
    pub fn slice(&self, offset: u32, length: u32) -> Piece<'_> {
        Piece::Slice {
            source: self,
            offset,
            length,
        }
    }

    /// A second handle to the same bytes. The host copies them only if they are few.
    pub fn share(&self) -> Self {
        Buffer::new([self.into()])
    }

    /// Size in bytes. In a component this is a call to the host; [`Sample::size`](crate::Sample::size) has the size of
    /// a sample's data without one.
    pub fn size(&self) -> u32 {
        #[cfg(target_arch = "wasm32")]
        return self.0.size();
        #[cfg(not(target_arch = "wasm32"))]
        return u32::try_from(self.0.len()).unwrap_or(u32::MAX);
    }

    /// Copies up to `length` bytes, starting at `offset`, into the guest's memory. Returns fewer bytes, or none, where
    /// the buffer ends before.
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

    /// Copies the whole buffer into the guest's memory.
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

impl<const N: usize> From<[u8; N]> for Piece<'_> {
    fn from(bytes: [u8; N]) -> Self {
        Piece::Bytes(bytes.into())
    }
}

impl<const N: usize> From<&[u8; N]> for Piece<'_> {
    fn from(bytes: &[u8; N]) -> Self {
        Piece::Bytes(bytes.into())
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
    fn arrays_are_pieces() {
        let head = [0, 0, 0, 1, 9, 0xf0];
        let source = Buffer::from(b"unit".as_slice());
        let joined = Buffer::new([head.into(), source.slice(0, 4), b"!".into()]);
        assert_eq!(joined.to_vec(), b"\0\0\0\x01\x09\xf0unit!");
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
