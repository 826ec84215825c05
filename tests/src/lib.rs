//! Shared parts of the end-to-end tests: a gateway as a process, media encoded by ffmpeg from the test pattern, fake
//! sources and devices, and clients.
//!
//! Every wait has a condition and a deadline; no test sleeps as synchronisation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod accounts;
pub mod android;
pub mod awake;
pub mod bits;
pub mod camera;
pub mod capture;
pub mod client;
pub mod clockless;
pub mod command;
pub mod config_file;
pub mod damage;
pub mod exact;
pub mod exchange;
pub mod feeder;
pub mod gateway;
pub mod hls;
pub mod http2;
pub mod measure;
pub mod media;
pub mod metrics;
pub mod mjpeg;
pub mod mp4;
pub mod mse;
pub mod numbered;
pub mod proxy;
pub mod rare;
pub mod raw;
pub mod session;
pub mod tls;
pub mod web;
pub mod webcodecs;
pub mod webtransport;
pub mod xserver;

pub use awake::AwakeClock;
pub use camera::{Camera, Watcher};
pub use capture::CaptureClient;
pub use client::{Nal, http_get, mjpeg};
pub use feeder::Feeder;
pub use gateway::{Gateway, scratch};
pub use metrics::Metrics;
pub use numbered::{Numbered, Rtsp};
pub use raw::Raw;
pub use session::{Control, choose};

use sluicegate_media::sample::{Codec, Format};
use sluicegate_plugin::Profile;
use std::{future::Future, time::Duration};

/// Time that anything may take on a busy machine before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Fails the test with `what` if `future` takes longer than [`PATIENCE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("timed out after {PATIENCE:?}: {what}"))
}

/// The format in which a transport with this profile gets samples of a codec; `None` if it takes none.
pub fn format_for(profile: &Profile, codec: Codec) -> Option<Format> {
    let mut formats = profile.formats.iter().copied();
    formats.find(|format| format.codec() == codec)
}
