//! How the gateway reports on itself: logs, the event ring, histograms, the Prometheus text format, process and TCP
//! figures, the containment of panics, and the delays after failures. [`Sequence`] is what all of the gateway's rings
//! are built on.
//!
//! This crate depends on no other crate of the gateway, so that all of them may use it. It decides nothing: counters
//! and events are kept where things happen, and `host/gateway` serves them.

mod backoff;
pub mod events;
pub mod exposition;
mod histogram;
mod logs;
mod once;
mod panics;
mod path_info;
pub mod process;
mod rate_limit;
mod sequence;
mod tcp_info;
#[cfg(debug_assertions)]
pub mod workers;

pub use backoff::Backoff;
pub use events::Events;
pub use histogram::{Histogram, Reading};
pub use logs::{Chain, LogFormat, init};
pub use once::LogOnce;
pub use panics::{Panicked, contain, panic_point};
pub use path_info::{Packets, PathInfo};
pub use process::resident_memory;
pub use rate_limit::LogRateLimit;
pub use sequence::{Sequence, Size};
pub use tcp_info::{SocketPair, TcpProbe};

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 for earlier times.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |passed| {
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
    })
}
