//! A bound on the memory of decoded pictures over all streams. A coded picture of a few kilobytes may be a hundred megabytes
//! decoded, and whoever makes something of it keeps it for as long as that takes.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Decoded pictures of all streams together have so many bytes at most.
pub const MOST: usize = 512 << 20;

/// Of this process.
pub static PICTURES: Memory = Memory::new(MOST);

/// So many bytes, of which parts are held.
#[derive(Debug)]
pub struct Memory {
    most: usize,
    held: AtomicUsize,
}

/// A part, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    memory: &'static Memory,
    bytes: usize,
}

impl Memory {
    const fn new(most: usize) -> Memory {
        Memory {
            most,
            held: AtomicUsize::new(0),
        }
    }

    /// Holds so many bytes; none if there are not as many left.
    pub fn hold(&'static self, bytes: usize) -> Option<Hold> {
        let taken = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(bytes).filter(|held| *held <= self.most)
            });
        taken.ok().map(|_| Hold {
            memory: self,
            bytes,
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_and_what_is_let_go_may_be_held_again() {
        static MEMORY: Memory = Memory::new(100);
        let one = MEMORY.hold(60).unwrap();
        assert!(MEMORY.hold(41).is_none());
        assert!(MEMORY.hold(usize::MAX).is_none());
        let other = MEMORY.hold(40).unwrap();
        assert!(MEMORY.hold(1).is_none());
        drop(one);
        assert!(MEMORY.hold(60).is_some());
        drop(other);
        assert_eq!(MEMORY.held.load(Ordering::Relaxed), 0);
    }
}
