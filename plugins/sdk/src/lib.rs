//! Write a Sluicegate transport: a WebAssembly component that says what viewers are told on the wire. For the other kind of
//! component, which decides who gets which transport, see [`policy`].
//!
//! A transport is a type that implements [`Transport`], made into a component by [`export!`]. The host opens one
//! instance for each stream and serves any number of viewers from what it emits, so no call here is made per viewer
//! and sample. Payload stays with the host: a transport holds [`Buffer`]s, joins slices of them with header bytes, and
//! gives the result back.
//!
//! The one rule to keep: what `push` answers depends only on the options, the newest `configure` and the samples since
//! the group began. Then the host can replace an instance at any time and no viewer notices.
//! [`mock::assert_restartable`] tests it.
//!
//! ```
//! use sluicegate_sdk::{Chunk, Lane, NoOptions, Payload, Profile, Sample, StreamInfo, Transport};
//!
//! struct Raw;
//!
//! impl Transport for Raw {
//!     fn open(options: &str) -> Result<(Self, Profile), String> {
//!         sluicegate_sdk::options::<NoOptions>(options)?;
//!         let profile = Profile {
//!             carriers: vec!["websocket".into()],
//!             formats: vec!["h264/annexb".into()],
//!             uplink: None,
//!             lanes: vec![Lane { stale_ms: 1000, datagrams: false }],
//!             group_ms: 0,
//!             history: 1,
//!             repeat_ms: 0,
//!             latency_ms: 80,
//!         };
//!         Ok((Raw, profile))
//!     }
//!
//!     fn configure(&mut self, _: &StreamInfo) -> Vec<Payload> {
//!         vec![]
//!     }
//!
//!     fn push(&mut self, sample: Sample) -> Vec<Chunk> {
//!         vec![Chunk { payload: sample.data.into(), lane: 0, independent: sample.independent, leading: sample.leading }]
//!     }
//! }
//!
//! sluicegate_sdk::export!(Raw);
//! ```
//!
//! Build with `--target wasm32-unknown-unknown`; on any other target `export!` exports nothing and buffers are plain
//! memory, so that unit tests run natively.

#[doc(hidden)]
pub mod bindings;
mod buffer;
mod export;
pub mod h264;
pub mod log;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
mod options;
pub mod policy;
mod types;

#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub use export::__private;

pub use bindings::exports::sluicegate::gateway::transport::{Lane, Profile, Rendition, StreamInfo};
pub use bindings::sluicegate::gateway::media::{Audio, Kind, Track, Video};
pub use buffer::{Buffer, Piece};
pub use options::{Millis, NoOptions, options};
pub use types::{Chunk, Effect, Payload, Reply, Response, Sample};

// For `#[serde(crate = "sluicegate_sdk::serde")]` and `json!`: a transport needs no other dependency.
pub use serde;
pub use serde_json;

/// One transport at work on one stream or rendition: `interface transport` of `wit/gateway.wit`.
///
/// The host calls `open`, then `configure`, then `push` for every sample, one call at a time. A panic or a breached limit
/// ends the instance; a new one is opened, configured and fed the newest groups, and the viewers stay connected.
pub trait Transport: Sized + 'static {
    /// The first call. `options` is the transport's part of the config as JSON; [`options()`] reads it.
    ///
    /// # Errors
    /// What is wrong with the options and what to write: shown by `sluicegate check` and at start.
    fn open(options: &str) -> Result<(Self, Profile), String>;

    /// The first tracks, or a break in the stream. The answer is the header: sent before the next chunk to those who
    /// watch, and to each viewer that starts later.
    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload>;

    /// One access unit or audio frame, in order of arrival.
    fn push(&mut self, sample: Sample) -> Vec<Chunk>;

    /// Nothing comes until the next `configure` or, if `last`, ever: give out what is held back.
    fn stop(&mut self, reason: &str, last: bool) -> Vec<Chunk> {
        let _ = (reason, last);
        vec![]
    }

    /// A GET below this transport's path; `""` is the transport itself. Answered once for all who ask the same between
    /// two samples, so it takes `&self` and must change nothing.
    fn request(&self, path: &str, query: &str) -> Reply {
        let _ = query;
        Reply::not_found(path)
    }

    /// A viewer arrives. The effects come first, then the header, then chunks. Called again after the instance was
    /// replaced; `send`s are dropped then.
    ///
    /// # Errors
    /// Why this viewer is refused; it gets a 400.
    fn join(
        &mut self,
        viewer: u64,
        carrier: &str,
        path: &str,
        query: &str,
    ) -> Result<Vec<Effect>, String> {
        let _ = (viewer, carrier, path, query);
        Ok(vec![])
    }

    /// One WebSocket message, datagram or client stream read to its end.
    fn message(&mut self, viewer: u64, data: Payload) -> Vec<Effect> {
        let _ = (viewer, data);
        vec![]
    }

    /// A viewer has gone.
    fn leave(&mut self, viewer: u64) {
        let _ = viewer;
    }
}
