//! What QUIC knows of the path to a viewer, as the kernel does of a TCP connection.

use super::congestion::MeasuringController;
use quinn::Connection;
use sluicegate_telemetry::{Packets, PathInfo};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

/// The path of a connection. Its session notes what only the session knows.
#[derive(Debug)]
pub struct Path {
    connection: Connection,
    /// Bytes that wait in the session.
    unsent: AtomicUsize,
}

impl Path {
    pub(crate) fn new(connection: Connection) -> Path {
        Path {
            connection,
            unsent: AtomicUsize::new(0),
        }
    }

    pub(crate) fn set_unsent(&self, bytes: usize) {
        self.unsent.store(bytes, Ordering::Relaxed);
    }

    /// The figures now. `None` if the path is silent: UDP may be blocked there, which says nothing about what TCP could
    /// carry, and the player goes on over a WebSocket then.
    pub fn info(&self) -> Option<PathInfo> {
        let now = Instant::now();
        let path = self.connection.stats().path;
        let controller = self.connection.congestion_state().into_any();
        let measured = controller.downcast::<MeasuringController>().ok();
        if measured
            .as_ref()
            .is_some_and(|measured| measured.is_silent(now))
        {
            return None;
        }
        Some(PathInfo {
            round_trip: path.rtt,
            min_rtt: path.min_rtt.min(path.rtt),
            unsent: u32::try_from(self.unsent.load(Ordering::Relaxed)).unwrap_or(u32::MAX),
            under_way: None,
            delivered: measured.and_then(|controller| controller.delivered(now)),
            packets: Some(Packets {
                sent: path.sent_packets,
                lost: path.lost_packets,
            }),
        })
    }
}
