//! Gives up calls of libavformat that block for too long or take too much memory.
//!
//! libavformat reads from the network by itself, without a limit that can be set from outside, except that it asks a
//! callback now and then whether to go on. A [`Deadline`] is what that callback consults: it says no when a source is
//! stopped, silent, or makes the process grow without delivering a packet. `Input` has one and extends it with each
//! packet; bytes that pass through our own streams are bounded by `budget` besides.

use super::input::MAX_PACKET_BYTES;
use crate::{DATA_TIMEOUT, POLL_INTERVAL, Stop};
use ffmpeg_next as ffmpeg;
use sluicegate_telemetry as telemetry;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Largest growth of the process's memory between two packets of inputs that libavformat reads itself, in bytes: a few
/// of the largest packets.
const MAX_MEMORY: u64 = 4 * MAX_PACKET_BYTES as u64;

/// Decides when a blocking call of libavformat is interrupted: no data for too long, or too much memory for one packet.
/// What libavformat reads itself is not counted, so the growth of the whole process is used, whatever causes it.
pub(super) struct Deadline {
    start: Instant,
    at_ms: AtomicU64,
    /// Resident memory in bytes when the newest packet arrived; 0 if not measured since.
    memory: AtomicU64,
    exceeds_memory: AtomicBool,
}

impl Deadline {
    /// The first data must arrive within [`DATA_TIMEOUT`].
    pub(super) fn new() -> Deadline {
        let deadline = Deadline {
            start: Instant::now(),
            at_ms: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            exceeds_memory: AtomicBool::new(false),
        };
        deadline.extend();
        deadline
    }

    /// Data arrived: the time and the measure of memory begin anew.
    pub(super) fn extend(&self) {
        let at = self.start.elapsed() + DATA_TIMEOUT;
        self.at_ms.store(
            u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
        self.memory.store(0, Ordering::Relaxed);
    }

    /// The interrupt callback: returns true when a blocking call must be given up.
    pub(super) fn watch(
        self: &Arc<Deadline>,
        stop: &Stop,
    ) -> impl FnMut() -> bool + Send + 'static {
        let (deadline, stop) = (self.clone(), stop.clone());
        let mut looked = Instant::now();
        move || {
            if looked.elapsed() >= POLL_INTERVAL / 4 {
                looked = Instant::now();
                deadline.check_memory();
            }
            stop.is_stopped() || deadline.is_over()
        }
    }

    fn check_memory(&self) {
        let Some(now) = telemetry::resident_memory() else {
            return;
        };
        let before = match self.memory.load(Ordering::Relaxed) {
            0 => {
                self.memory.store(now, Ordering::Relaxed);
                now
            }
            before => before,
        };
        if now > before + MAX_MEMORY {
            self.exceeds_memory.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a call was given up, or has to be.
    pub(super) fn is_over(&self) -> bool {
        self.timed_out() || self.exceeds_memory.load(Ordering::Relaxed)
    }

    /// Whether no data arrived for too long.
    pub(super) fn timed_out(&self) -> bool {
        self.start.elapsed().as_millis() >= u128::from(self.at_ms.load(Ordering::Relaxed))
    }

    /// Why a call failed with `error`, for the user.
    pub(super) fn explain(&self, error: &ffmpeg::Error) -> String {
        if self.exceeds_memory.load(Ordering::Relaxed) {
            let most = MAX_MEMORY >> 20;
            format!("memory grew by {most} MiB without a video or audio packet, which is the limit")
        } else if self.timed_out() {
            format!("no data for {} s", DATA_TIMEOUT.as_secs())
        } else {
            error.to_string()
        }
    }
}
