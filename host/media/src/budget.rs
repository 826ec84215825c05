//! A shared limit in bytes for messages that wait in queues.
//!
//! Messages differ in size, so a queue that counts entries bounds no memory. A [`Budget`] counts bytes: each waiting
//! message owns a [`Reservation`], which returns its bytes when dropped, wherever that happens. Lock-free and cheap to
//! clone. Used for capture requests, the policy's inbox, messages of muxers to viewers, and decoded frames.

use bytes::Bytes;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A limit in bytes, and the number of bytes currently reserved.
#[derive(Clone, Debug)]
pub struct Budget {
    most: usize,
    held: Arc<AtomicUsize>,
}

/// A reservation of part of a budget. Returned on drop.
#[derive(Debug)]
pub struct Reservation {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    /// Creates a budget of `most` bytes.
    pub fn new(most: usize) -> Budget {
        Budget {
            most,
            held: Arc::default(),
        }
    }

    /// Reserves `bytes`; `None` if fewer are left. A reservation larger than the whole budget succeeds while nothing
    /// else is reserved.
    pub fn take(&self, bytes: usize) -> Option<Reservation> {
        self.take_if(bytes, |held, sum| held == 0 || sum <= self.most)
    }

    /// Reserves `bytes`; `None` if fewer are left, which is always so if `bytes` exceeds the whole budget.
    pub fn reserve_within(&self, bytes: usize) -> Option<Reservation> {
        self.take_if(bytes, |_, sum| sum <= self.most)
    }

    fn take_if(&self, bytes: usize, fits: impl Fn(usize, usize) -> bool) -> Option<Reservation> {
        let more = |held: usize| {
            let sum = held.checked_add(bytes)?;
            fits(held, sum).then_some(sum)
        };
        let taken = self
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Reservation {
            held: self.held.clone(),
            bytes,
        })
    }

    /// Reserves `bytes` even if that exceeds the limit, for data that already exists; later reservations fail instead.
    pub fn reserve_over_limit(&self, bytes: usize) -> Reservation {
        self.held.fetch_add(bytes, Ordering::AcqRel);
        Reservation {
            held: self.held.clone(),
            bytes,
        }
    }

    /// Whether all bytes are reserved.
    pub fn is_full(&self) -> bool {
        self.held() >= self.most
    }

    /// Number of reserved bytes.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Returns the same bytes, reserved until the last clone or slice of them is dropped.
    pub fn count(&self, bytes: Bytes) -> Bytes {
        let held = self.reserve_over_limit(bytes.len());
        Bytes::from_owner(ReservedBytes { bytes, _held: held })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

struct ReservedBytes {
    bytes: Bytes,
    _held: Reservation,
}

impl AsRef<[u8]> for ReservedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_budget_is_released_and_never_exceeded_except_by_a_single_item() {
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
        assert!(
            budget.reserve_within(101).is_none() && budget.reserve_within(usize::MAX).is_none()
        );
        let all = budget.reserve_within(100).unwrap();
        assert!(budget.reserve_within(1).is_none());
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
