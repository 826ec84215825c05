//! A limit on what a demuxer takes in for one packet. Demuxers believe lengths that a peer writes; what they read passes
//! here first, so that memory grows with what was allowed only.

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// How much more may be read before the next packet has to come out.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    left: AtomicUsize,
    is_spent: AtomicBool,
}

impl Budget {
    /// So many bytes for what is read while opening, and again for each packet.
    pub fn new(most: usize) -> Budget {
        Budget {
            most,
            left: AtomicUsize::new(most),
            is_spent: AtomicBool::new(false),
        }
    }

    /// A packet came out, or is asked for.
    pub fn renew(&self) {
        self.left.store(self.most, Ordering::Relaxed);
    }

    /// Why nothing more is read, if that is so.
    pub fn explain(&self) -> Option<String> {
        self.is_spent.load(Ordering::Relaxed).then(|| {
            let most = self.most >> 20;
            format!("{most} MiB came without a picture or sound, and more is not believed")
        })
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

/// Bytes that are read within a budget, beyond which reading fails.
#[derive(Debug)]
pub struct Counted<R> {
    inner: R,
    budget: Arc<Budget>,
}

impl<R> Counted<R> {
    /// What is read of `inner` is taken from `budget`.
    pub fn new(inner: R, budget: &Arc<Budget>) -> Counted<R> {
        Counted {
            inner,
            budget: budget.clone(),
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.budget.take(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let read = self.inner.read(&mut buffer[..most])?;
        self.budget.spend(read);
        Ok(read)
    }
}

impl<R: Seek> Seek for Counted<R> {
    /// Nobody is told where the end is: libavformat takes memory for a whole packet at once where it knows that so much is
    /// left, and for 50 MB at a time where it does not (libavformat/utils.c, `append_packet_chunked`).
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
        let mut counted = Counted::new(&[7u8; 100][..], &budget);
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
    fn where_the_end_is_is_not_told() {
        let budget = Arc::new(Budget::new(10));
        let mut counted = Counted::new(io::Cursor::new([7u8; 100]), &budget);
        assert_eq!(counted.seek(SeekFrom::Start(50)).unwrap(), 50);
        assert_eq!(counted.stream_position().unwrap(), 50);
        assert!(counted.seek(SeekFrom::End(0)).is_err());
    }
}
