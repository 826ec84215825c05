//! What QUIC knows of the path to a viewer, as the kernel does of a TCP connection.

use parking_lot::Mutex;
use quinn::Connection;
use sluicegate_telemetry::{Packets, PathInfo};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// How long a sender counts as limited by the path after the path last accepted less than there was.
const LIMITED: Duration = Duration::from_secs(1);

/// The path of a connection. Its session notes what only the session knows.
#[derive(Debug)]
pub struct Path {
    connection: Connection,
    /// Bytes that wait in the session.
    unsent: AtomicUsize,
    /// When the path last accepted less than there was.
    limited: Mutex<Option<Instant>>,
}

impl Path {
    pub(crate) fn new(connection: Connection) -> Path {
        Path {
            connection,
            unsent: AtomicUsize::new(0),
            limited: Mutex::new(None),
        }
    }

    pub(crate) fn set_unsent(&self, bytes: usize) {
        self.unsent.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_limiting(&self, now: Instant) {
        *self.limited.lock() = Some(now);
    }

    /// The figures now. The delivery rate is what the congestion window permits, if that limits the sender.
    pub fn info(&self) -> PathInfo {
        let path = self.connection.stats().path;
        let limited = *self.limited.lock();
        let is_limited = limited.is_some_and(|at| at.elapsed() < LIMITED);
        let rate = path.cwnd as f64 * 8.0 / path.rtt.as_secs_f64().max(1e-6);
        PathInfo {
            round_trip: path.rtt,
            min_rtt: path.min_rtt.min(path.rtt),
            unsent: u32::try_from(self.unsent.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            under_way: None,
            // A cast from float saturates at the integer's bounds.
            delivered: is_limited.then_some(rate as u64),
            packets: Some(Packets {
                sent: path.sent_packets,
                lost: path.lost_packets,
            }),
        }
    }
}
