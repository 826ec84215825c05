//! The byte stream format (ISO/IEC 14496-10 annex B): NAL units separated by start codes.
//!
//! [`Splitter`] cuts a stream that arrives in arbitrary pieces, such as a pipe or socket; [`split`] cuts a packet that
//! contains complete NAL units. Sources use both; [`join`] makes the `h264/annexb` packaging of a sample.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Cuts a byte stream into NAL units (B.1), in whatever chunks it arrives.
///
/// Accepts start codes of three and four bytes. Zero bytes after a NAL unit are not part of it, and bytes before the
/// first start code are dropped. A NAL unit within one chunk shares that chunk's memory; others are copied once.
/// Buffers at most one NAL unit, that is `max_nal` bytes or one chunk. The output does not depend on how the stream is
/// divided into chunks.
#[derive(Debug)]
pub struct Splitter {
    max_nal: usize,
    state: State,
    /// The unfinished NAL unit while it is within one chunk.
    whole: Bytes,
    /// The unfinished NAL unit once it spans several chunks.
    copied: BytesMut,
    /// Number of zero bytes at the end of the input so far. The next non-zero byte decides whether they belong to a
    /// start code, to the NAL unit, or are padding.
    zeros: usize,
}

/// Output of a [`Splitter`], in stream order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A complete NAL unit; never empty.
    Nal(Bytes),
    /// Bytes are missing between the previous NAL unit and the next.
    Damaged(Damage),
}

/// Why bytes of a stream were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A NAL unit exceeds the limit of its [`Splitter`].
    #[error(
        "dropped a NAL unit of more than {limit} bytes; check that the source sends H.264 in Annex B format"
    )]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// [`Splitter::flush`] returned a NAL unit as complete, and then more of it arrived.
    #[error(
        "a NAL unit continued after a pause that was taken for its end; the frame is incomplete"
    )]
    CutShort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first start code.
    Outside,
    Inside,
    /// The NAL unit was returned before its end was seen.
    Flushed,
    /// Dropping the rest of a damaged NAL unit.
    Lost,
}

impl Splitter {
    /// Creates a splitter that drops NAL units of more than `max_nal` bytes.
    pub fn new(max_nal: usize) -> Self {
        Self {
            max_nal,
            state: State::Outside,
            whole: Bytes::new(),
            copied: BytesMut::new(),
            zeros: 0,
        }
    }

    /// Takes the next bytes and returns the NAL units that ended in them. The last NAL unit of a stream is returned by
    /// [`Self::flush`].
    pub fn push(&mut self, chunk: Bytes) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut rest = chunk;
        while !rest.is_empty() {
            let leading = leading_zeros(&rest);
            match rest.get(leading) {
                None => {
                    self.zeros = self.zeros.saturating_add(leading);
                    break;
                }
                Some(1) if self.zeros.saturating_add(leading) >= 2 => {
                    rest.advance(leading + 1);
                    pieces.extend(self.take().map(Piece::Nal));
                    self.state = State::Inside;
                    self.zeros = 0;
                }
                Some(_) => {
                    let end = find_start_code(&rest, leading).unwrap_or(rest.len());
                    let body = rest.split_to(end - trailing_zeros(&rest[..end]));
                    pieces.extend(self.append(body).map(Piece::Damaged));
                }
            }
        }
        pieces
    }

    /// Returns the unfinished NAL unit because the stream ended or paused. If more of it arrives later, that is dropped
    /// and reported as [`Damage::CutShort`].
    pub fn flush(&mut self) -> Option<Bytes> {
        let nal = self.take()?;
        self.state = State::Flushed;
        Some(nal)
    }

    /// Whether [`Self::flush`] would return a NAL unit.
    pub fn has_unfinished(&self) -> bool {
        !self.whole.is_empty() || !self.copied.is_empty()
    }

    /// Appends `body`, which is within a NAL unit and ends in a non-zero byte.
    fn append(&mut self, body: Bytes) -> Option<Damage> {
        let zeros = std::mem::take(&mut self.zeros);
        match self.state {
            State::Outside | State::Lost => None,
            State::Flushed => {
                self.state = State::Lost;
                Some(Damage::CutShort)
            }
            State::Inside => {
                let held = self.whole.len() + self.copied.len();
                let length = held.saturating_add(zeros).saturating_add(body.len());
                if length > self.max_nal {
                    self.take();
                    self.state = State::Lost;
                    return Some(Damage::TooLarge {
                        limit: self.max_nal,
                    });
                }
                if held == 0 && zeros == 0 {
                    self.whole = body;
                } else {
                    self.copied
                        .extend_from_slice(&std::mem::take(&mut self.whole));
                    self.copied.put_bytes(0, zeros);
                    self.copied.extend_from_slice(&body);
                }
                None
            }
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let whole = std::mem::take(&mut self.whole);
        if !whole.is_empty() {
            return Some(whole);
        }
        (!self.copied.is_empty()).then(|| std::mem::take(&mut self.copied).freeze())
    }
}

/// Returns the NAL units of a packet that contains complete ones, sharing its memory. Empty if there is no start code.
pub fn split(packet: &Bytes) -> Vec<Bytes> {
    let mut splitter = Splitter::new(usize::MAX);
    let mut nals: Vec<Bytes> = splitter
        .push(packet.clone())
        .into_iter()
        .filter_map(|piece| match piece {
            Piece::Nal(nal) => Some(nal),
            Piece::Damaged(_) => None,
        })
        .collect();
    nals.extend(splitter.flush());
    nals
}

/// Joins NAL units into a byte stream, each after a start code of four bytes.
pub fn join(nals: &[Bytes]) -> Bytes {
    let mut stream = BytesMut::with_capacity(nals.iter().map(|nal| nal.len() + 4).sum());
    for nal in nals {
        stream.put_u32(1);
        stream.extend_from_slice(nal);
    }
    stream.freeze()
}

/// Offset of the next `00 00 01` at or after `from`.
fn find_start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 2;
    while let Some(&third) = bytes.get(at) {
        // The third byte of a start code is 1. Any other value rules out the two or three positions that contain it.
        match third {
            0 => at += 1,
            1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => return Some(at - 2),
            _ => at += 3,
        }
    }
    None
}

fn leading_zeros(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte == 0).count()
}

fn trailing_zeros(bytes: &[u8]) -> usize {
    bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::testing::{chunks, nal_unit, stream_bytes};
    use super::*;
    use proptest::prelude::*;

    fn nal(bytes: &[u8]) -> Piece {
        Piece::Nal(Bytes::copy_from_slice(bytes))
    }

    fn push(splitter: &mut Splitter, bytes: &[u8]) -> Vec<Piece> {
        splitter.push(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn cuts_at_start_codes_of_both_lengths() {
        let table: [(&[u8], &[&[u8]]); 9] = [
            (&[0, 0, 1, 9, 16], &[&[9, 16]]),
            (
                &[0, 0, 0, 1, 9, 16, 0, 0, 1, 0x67, 1],
                &[&[9, 16], &[0x67, 1]],
            ),
            (
                &[0, 0, 1, 9, 0, 0, 0, 0, 0, 1, 0x67, 0, 0],
                &[&[9], &[0x67]],
            ),
            (&[7, 7, 0, 7, 0, 0, 1, 9], &[&[9]]),
            (&[0, 0, 1, 0, 0, 1, 9], &[&[9]]),
            (&[0, 0, 1, 9, 0, 0, 3, 1], &[&[9, 0, 0, 3, 1]]),
            (&[0, 0, 1, 9, 0, 0, 2, 1], &[&[9, 0, 0, 2, 1]]),
            (&[0, 0, 1, 0, 9], &[&[0, 9]]),
            (&[1, 2, 3], &[]),
        ];
        for (stream, expected) in table {
            assert_eq!(
                split(&Bytes::copy_from_slice(stream)),
                expected,
                "{stream:?}"
            );
        }
    }

    #[test]
    fn a_nal_unit_within_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(&[0, 0, 1, 0x65, 1, 2, 3, 0]);
        let mut splitter = Splitter::new(100);
        assert_eq!(splitter.push(chunk.clone()), []);
        let Some(Piece::Nal(unit)) = push(&mut splitter, &[0, 1, 9]).pop() else {
            panic!("no NAL unit")
        };
        assert_eq!(unit.as_ptr(), chunk[3..].as_ptr());
        assert_eq!(unit, &[0x65, 1, 2, 3][..]);
    }

    #[test]
    fn a_nal_unit_over_the_limit_is_dropped_once_and_the_next_one_comes_out() {
        let mut splitter = Splitter::new(4);
        let mut pieces = push(&mut splitter, &[0, 0, 1, 1, 2, 3]);
        pieces.extend(push(&mut splitter, &[4, 5, 6]));
        pieces.extend(push(
            &mut splitter,
            &[7, 8, 0, 0, 1, 9, 9, 9, 9, 0, 0, 0, 1, 5],
        ));
        assert_eq!(
            pieces,
            [
                Piece::Damaged(Damage::TooLarge { limit: 4 }),
                nal(&[9, 9, 9, 9])
            ]
        );
    }

    #[test]
    fn endless_zero_padding_costs_no_memory_and_is_no_damage() {
        let mut splitter = Splitter::new(4);
        push(&mut splitter, &[0, 0, 1, 9, 16]);
        for _ in 0..100 {
            assert_eq!(push(&mut splitter, &[0; 1000]), []);
        }
        assert_eq!(push(&mut splitter, &[1, 5]), [nal(&[9, 16])]);
    }

    #[test]
    fn a_flush_at_the_real_end_loses_nothing() {
        for tail in [
            &[0, 0, 0, 1, 5, 5][..],
            &[0, 0, 1, 5, 5],
            &[0, 0, 0, 0, 1, 5, 5],
        ] {
            for cut in 0..tail.len() - 2 {
                let mut splitter = Splitter::new(100);
                push(&mut splitter, &[0, 0, 1, 0x65, 1]);
                push(&mut splitter, &tail[..cut]);
                assert!(splitter.has_unfinished() || cut == tail.len() - 2);
                assert_eq!(splitter.flush().unwrap(), &[0x65, 1][..]);
                assert_eq!(splitter.flush(), None);
                assert_eq!(push(&mut splitter, &tail[cut..]), []);
                assert_eq!(splitter.flush().unwrap(), &[5, 5][..]);
            }
        }
    }

    #[test]
    fn a_flush_that_came_too_early_is_reported_and_the_rest_dropped() {
        let mut splitter = Splitter::new(100);
        push(&mut splitter, &[0, 0, 1, 0x65, 1]);
        assert_eq!(splitter.flush().unwrap(), &[0x65, 1][..]);
        assert_eq!(push(&mut splitter, &[0]), []);
        assert_eq!(
            push(&mut splitter, &[2, 3]),
            [Piece::Damaged(Damage::CutShort)]
        );
        assert_eq!(
            push(&mut splitter, &[4, 0, 0, 1, 9, 9, 0, 0, 1]),
            [nal(&[9, 9])]
        );
        assert_eq!(splitter.flush(), None);
    }

    /// Splits a complete stream by a literal reading of B.1.
    fn reference(stream: &[u8]) -> Vec<Vec<u8>> {
        let mut starts: Vec<usize> = Vec::new();
        for at in 0..stream.len().saturating_sub(2) {
            if stream[at..at + 3] == [0, 0, 1] {
                starts.push(at);
            }
        }
        let mut nals = Vec::new();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(stream.len());
            let mut unit = stream[start + 3..end].to_vec();
            while unit.last() == Some(&0) {
                unit.pop();
            }
            if !unit.is_empty() {
                nals.push(unit);
            }
        }
        nals
    }

    proptest! {
        #[test]
        fn split_undoes_join(nals in prop::collection::vec(nal_unit(), 0..8)) {
            prop_assert_eq!(split(&join(&nals)), nals);
        }

        #[test]
        fn agrees_with_the_standard_on_any_bytes(stream in stream_bytes()) {
            prop_assert_eq!(split(&Bytes::from(stream.clone())), reference(&stream));
        }

        #[test]
        fn chunks_change_nothing(stream in stream_bytes(), cuts in prop::collection::vec(0usize..200, 0..12), max in 1usize..40) {
            let mut whole = Splitter::new(max);
            let expected = whole.push(Bytes::from(stream.clone()));
            let mut cut = Splitter::new(max);
            let pieces: Vec<Piece> =
                chunks(&stream, &cuts).into_iter().flat_map(|chunk| cut.push(chunk)).collect();
            prop_assert_eq!(pieces, expected);
            prop_assert_eq!(cut.flush(), whole.flush());
        }
    }
}
