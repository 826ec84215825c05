//! Limits how many bytes a demuxer reads for one packet. Demuxers trust lengths that a peer writes; their reads pass
//! through [`BudgetedReader`], so memory can grow only by the permitted amount. The budget is renewed for each packet.

use parking_lot::Mutex;
use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Number of bytes that may be read before the next packet must come out.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    left: AtomicUsize,
    is_spent: AtomicBool,
    /// Why the newest read failed; libavformat reduces it to an error code.
    failure: Mutex<Option<String>>,
}

impl Budget {
    /// `most` bytes for opening, and again for each packet.
    pub fn new(most: usize) -> Budget {
        Budget::with_opening(most, most)
    }

    /// `opening` bytes for opening, and `most` for each packet.
    pub fn with_opening(opening: usize, most: usize) -> Budget {
        Budget {
            most,
            left: AtomicUsize::new(opening),
            is_spent: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// Renews the budget for the next packet.
    pub fn renew(&self) {
        self.left.store(self.most, Ordering::Relaxed);
    }

    /// Why reading failed, if it did.
    pub fn explain(&self) -> Option<String> {
        if self.is_spent.load(Ordering::Relaxed) {
            let most = self.most >> 20;
            return Some(format!(
                "{most} MiB were read without a video or audio packet, which is the limit"
            ));
        }
        self.failure().clone()
    }

    fn failure(&self) -> parking_lot::MutexGuard<'_, Option<String>> {
        self.failure.lock()
    }

    fn take(&self, wanted: usize) -> usize {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            self.is_spent.store(true, Ordering::Relaxed);
        }
        left.min(wanted)
    }

    fn spend(&self, bytes: usize) {
        let left = self.left.load(Ordering::Relaxed);
        self.left
            .store(left.saturating_sub(bytes), Ordering::Relaxed);
    }
}

/// A reader within a budget, beyond which reading fails.
#[derive(Debug)]
pub struct BudgetedReader<R> {
    inner: R,
    budget: Arc<Budget>,
}

impl<R> BudgetedReader<R> {
    /// Reads of `inner` are charged to `budget`.
    pub fn new(inner: R, budget: &Arc<Budget>) -> BudgetedReader<R> {
        BudgetedReader {
            inner,
            budget: budget.clone(),
        }
    }
}

impl<R: Read> Read for BudgetedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.budget.take(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.inner.read(&mut buffer[..most]);
        match &read {
            // Demuxers continue elsewhere after the end of the file, and find the end there.
            Ok(0) => {}
            Ok(_) => *self.budget.failure() = None,
            // The caller retries an interrupted read.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => *self.budget.failure() = Some(error.to_string()),
        }
        let read = read?;
        self.budget.spend(read);
        Ok(read)
    }
}

impl<R: Seek> Seek for BudgetedReader<R> {
    /// The end is not disclosed. If libavformat knows how much is left, it allocates a whole packet at once, otherwise
    /// at most 50 MB at a time (libavformat/utils.c, `append_packet_chunked`).
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::End(_) => Err(io::ErrorKind::Unsupported.into()),
            to => self.inner.seek(to),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn reading_ends_where_the_budget_does_and_goes_on_when_it_is_renewed() {
        let budget = Arc::new(Budget::new(10));
        let mut counted = BudgetedReader::new(&[7u8; 100][..], &budget);
        let mut buffer = [0; 6];
        assert_eq!(counted.read(&mut buffer).unwrap(), 6);
        assert_eq!(counted.read(&mut buffer).unwrap(), 4);
        assert_eq!(budget.explain(), None);
        budget.renew();
        assert_eq!(counted.read(&mut buffer).unwrap(), 6);
        assert_eq!(counted.read(&mut buffer).unwrap(), 4);
        assert!(counted.read(&mut buffer).is_err());
        assert!(budget.explain().is_some());
    }

    #[test]
    fn why_a_read_failed_is_kept_until_one_succeeds() {
        struct FailingReader(Vec<io::ErrorKind>);
        impl Read for FailingReader {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                self.0.pop().map_or(Ok(1), |kind| Err(kind.into()))
            }
        }
        let budget = Arc::new(Budget::new(10));
        let kinds = vec![io::ErrorKind::Interrupted, io::ErrorKind::BrokenPipe];
        let mut counted = BudgetedReader::new(FailingReader(kinds), &budget);
        let mut explained = || {
            let _ = counted.read(&mut [0]);
            budget.explain()
        };
        assert_eq!(explained().as_deref(), Some("broken pipe"));
        assert_eq!(explained().as_deref(), Some("broken pipe"));
        assert_eq!(explained(), None);
    }

    #[test]
    fn opening_may_take_more_than_a_packet() {
        let budget = Arc::new(Budget::with_opening(20, 5));
        let mut counted = BudgetedReader::new(&[7u8; 100][..], &budget);
        assert_eq!(counted.read(&mut [0; 30]).unwrap(), 20);
        budget.renew();
        assert_eq!(counted.read(&mut [0; 30]).unwrap(), 5);
    }

    #[test]
    fn the_file_size_is_not_revealed() {
        let budget = Arc::new(Budget::new(10));
        let mut counted = BudgetedReader::new(io::Cursor::new([7u8; 100]), &budget);
        assert_eq!(counted.seek(SeekFrom::Start(50)).unwrap(), 50);
        assert_eq!(counted.stream_position().unwrap(), 50);
        assert!(counted.seek(SeekFrom::End(0)).is_err());
    }
}
