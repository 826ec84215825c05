//! Shared parts of the fuzz targets: reading structured input from a fuzzer's bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use std::path::{Path, PathBuf};

/// Root directory of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A fuzzer's bytes, read from the front; zeros when they are used up. [`field`] writes what [`Input::bytes`] reads.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    pub fn long(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub fn quad(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// Reads a length (one byte, or 255 and two bytes) and that many bytes, or as many as there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            255 => usize::from(self.word()),
            short => usize::from(short),
        };
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Like [`Input::bytes`], as text; invalid UTF-8 is replaced.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The remaining bytes.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_at(N.min(self.0.len()));
        self.0 = rest;
        let mut array = [0; N];
        array[..taken.len()].copy_from_slice(taken);
        array
    }
}

/// Bytes preceded by their length.
pub fn field(bytes: &[u8]) -> Vec<u8> {
    match u8::try_from(bytes.len()) {
        Ok(short) if short < 255 => [&[short], bytes].concat(),
        _ => {
            let length = u16::try_from(bytes.len()).unwrap();
            [&[255], &length.to_be_bytes()[..], bytes].concat()
        }
    }
}

/// Splits `stream`: each cut is the length of a piece, and the last piece is the rest.
pub fn pieces(stream: &[u8], cuts: &[u8]) -> Vec<Bytes> {
    let mut rest = stream;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, tail) = rest.split_at(usize::from(*cut).min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = tail;
    }
    pieces.push(Bytes::copy_from_slice(rest));
    pieces
}

/// Bytes as a text with one character each, so that arbitrary bytes pass through a string; `tests/plugins/fuzzed`
/// reverses this.
pub fn as_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}
