//! Bytes that lie somewhere and wait, against a bound: how queues of messages of any size are bounded.

use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A bound in bytes, and what is held against it.
#[derive(Clone, Debug)]
pub struct Budget {
    most: usize,
    held: Arc<AtomicUsize>,
}

/// A part of a budget, given back when dropped.
#[derive(Debug)]
pub struct Held {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    /// Of so many bytes.
    pub fn new(most: usize) -> Budget {
        Budget {
            most,
            held: Arc::default(),
        }
    }

    /// Takes so much; `None` where that is more than is left. What is larger than the whole is let in alone.
    pub fn take(&self, bytes: usize) -> Option<Held> {
        self.take_if(bytes, |held, sum| held == 0 || sum <= self.most)
    }

    /// The same, but what is larger than the whole is never let in.
    pub fn take_within(&self, bytes: usize) -> Option<Held> {
        self.take_if(bytes, |_, sum| sum <= self.most)
    }

    fn take_if(&self, bytes: usize, fits: impl Fn(usize, usize) -> bool) -> Option<Held> {
        let more = |held: usize| {
            let sum = held.checked_add(bytes)?;
            fits(held, sum).then_some(sum)
        };
        let taken = self
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Held {
            held: self.held.clone(),
            bytes,
        })
    }

    /// Takes so much whatever is left, for what is there already: the next is refused.
    pub fn hold(&self, bytes: usize) -> Held {
        self.held.fetch_add(bytes, Ordering::AcqRel);
        Held {
            held: self.held.clone(),
            bytes,
        }
    }

    /// Whether nothing is left.
    pub fn is_full(&self) -> bool {
        self.held() >= self.most
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// The same bytes, held until the last who has them lets go.
    pub fn count(&self, bytes: Bytes) -> Bytes {
        let held = self.hold(bytes.len());
        Bytes::from_owner(Counted { bytes, _held: held })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_held_is_given_back_and_never_more_than_the_bound_or_one_thing() {
        let budget = Budget::new(100);
        let first = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        let second = budget.take(40).unwrap();
        assert!(budget.is_full());
        drop((first, second));
        let large = budget.take(1000).unwrap();
        assert!(budget.take(0).is_none());
        drop(large);
        assert_eq!(budget.held(), 0);
        assert!(budget.take_within(101).is_none() && budget.take_within(usize::MAX).is_none());
        let all = budget.take_within(100).unwrap();
        assert!(budget.take_within(1).is_none());
        drop(all);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn bytes_are_held_until_the_last_slice_of_them_goes() {
        let budget = Budget::new(10);
        let counted = budget.count(Bytes::from_static(b"0123456789ab"));
        let slice = counted.slice(3..4);
        drop(counted);
        assert!(budget.is_full() && budget.held() == 12);
        assert_eq!(&slice[..], b"3");
        drop(slice);
        assert_eq!(budget.held(), 0);
    }
}
