//! A queue whose entries keep their numbers, and which knows its size in bytes. Pure.
//!
//! Several parts of the gateway have one bounded ring with one writer and any number of readers that are cursors over
//! it: the samples of a stream, the chunks of a muxer, the events. Each has its own rule of what to evict; what they
//! share is here. Positions only rise and are never used twice, so a cursor is a number, and a cursor that is behind
//! [`Sequence::first`] has missed something.

use std::collections::{VecDeque, vec_deque};

/// The size of an entry.
pub trait Size {
    /// Size in bytes; must not change while the entry is in a sequence.
    fn size(&self) -> usize;
}

/// Entries at consecutive positions: those before [`Sequence::first`] are gone, the next one gets [`Sequence::end`].
///
/// All methods are O(1).
#[derive(Debug)]
pub struct Sequence<T> {
    entries: VecDeque<T>,
    first: u64,
    bytes: usize,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Sequence::starting_at(0)
    }
}

impl<T> Sequence<T> {
    /// An empty sequence whose first entry will have this position.
    pub fn starting_at(first: u64) -> Sequence<T> {
        Sequence {
            entries: VecDeque::new(),
            first,
            bytes: 0,
        }
    }

    /// Position of the oldest entry; where the next one goes if there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Position after the newest entry.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Total size of the entries in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry at `position`; `None` if it is gone or does not exist yet.
    pub fn get(&self, position: u64) -> Option<&T> {
        let index = position.checked_sub(self.first)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    /// The oldest entry.
    pub fn front(&self) -> Option<&T> {
        self.entries.front()
    }

    /// The newest entry.
    pub fn back(&self) -> Option<&T> {
        self.entries.back()
    }

    /// The entries, oldest first.
    pub fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.entries.iter()
    }

    /// The entries before `position`, oldest first.
    pub fn before(&self, position: u64) -> vec_deque::Iter<'_, T> {
        self.entries.range(..self.index(position))
    }

    /// The entries with their positions, oldest first.
    pub fn positions(&self) -> impl Iterator<Item = (u64, &T)> {
        (self.first..).zip(&self.entries)
    }

    /// The entries from `position` on, oldest first.
    pub fn since(&self, position: u64) -> vec_deque::Iter<'_, T> {
        self.entries.range(self.index(position)..)
    }

    /// Index of the entry at `position`, or of the nearest place for one.
    fn index(&self, position: u64) -> usize {
        let index = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        index.min(self.entries.len())
    }
}

impl<T: Size> Sequence<T> {
    /// Appends an entry; returns its position.
    pub fn push(&mut self, entry: T) -> u64 {
        let position = self.end();
        self.bytes += entry.size();
        self.entries.push_back(entry);
        position
    }

    /// Removes the oldest entry.
    pub fn pop(&mut self) -> Option<T> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.size();
        self.first += 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    impl Size for &str {
        fn size(&self) -> usize {
            self.len()
        }
    }

    #[test]
    fn entries_keep_their_positions_and_positions_are_not_used_twice() {
        let mut sequence = Sequence::starting_at(7);
        assert_eq!((sequence.first(), sequence.end()), (7, 7));
        assert_eq!((sequence.push("a"), sequence.push("bc")), (7, 8));
        assert_eq!((sequence.bytes(), sequence.len()), (3, 2));
        assert_eq!(sequence.pop(), Some("a"));
        assert_eq!((sequence.get(7), sequence.get(8)), (None, Some(&"bc")));
        assert_eq!((sequence.get(9), sequence.bytes()), (None, 2));
        assert_eq!((sequence.pop(), sequence.pop()), (Some("bc"), None));
        assert_eq!((sequence.first(), sequence.push("d")), (9, 9));
    }

    #[test]
    fn ranges_are_cut_to_what_there_is() {
        let mut sequence = Sequence::default();
        for entry in ["a", "b", "c", "d"] {
            sequence.push(entry);
        }
        sequence.pop();
        let text = |iter: vec_deque::Iter<'_, &'static str>| iter.copied().collect::<String>();
        for (position, before, since) in [
            (0, "", "bcd"),
            (1, "", "bcd"),
            (2, "b", "cd"),
            (4, "bcd", ""),
            (9, "bcd", ""),
        ] {
            assert_eq!(text(sequence.before(position)), before, "{position}");
            assert_eq!(text(sequence.since(position)), since, "{position}");
        }
        assert_eq!(text(sequence.iter()), "bcd");
        let positions: Vec<_> = sequence.positions().collect();
        assert_eq!(positions, [(1, &"b"), (2, &"c"), (3, &"d")]);
        assert_eq!(
            (sequence.front(), sequence.back()),
            (Some(&"b"), Some(&"d"))
        );
    }
}
