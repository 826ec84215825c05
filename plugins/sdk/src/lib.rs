//! SDK for Sluicegate transports: WebAssembly components that define what viewers receive on the wire. For the other
//! kind of component, which chooses a transport for each session, see [`policy`].
//!
//! A transport is a type that implements [`Transport`], exported as a component by [`export!`]. The host opens one
//! instance per stream and serves any number of viewers from its output, so no call is made per viewer and sample.
//! Payload stays with the host: a transport holds [`Buffer`]s, joins slices of them with header bytes, and returns the
//! result.
//!
//! The one rule: what `push` returns depends only on the options, the newest `configure` and the samples since the
//! group began. Then the host can replace an instance at any time without viewers noticing.
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
//!             lanes: vec![Lane::new(1000)],
//!             latency_ms: 80,
//!             label: "Raw".into(),
//!             embeds: vec!["access-units".into()],
//!             ..Profile::default()
//!         };
//!         Ok((Raw, profile))
//!     }
//!
//!     fn configure(&mut self, _: &StreamInfo) -> Vec<Payload> {
//!         vec![]
//!     }
//!
//!     fn push(&mut self, sample: Sample) -> Vec<Chunk> {
//!         vec![sample.into()]
//!     }
//! }
//!
//! sluicegate_sdk::export!(Raw);
//! ```
//!
//! Build with `--target wasm32-unknown-unknown`. On any other target `export!` exports nothing and buffers are plain
//! memory, so that unit tests run natively.

#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod browser;
mod buffer;
mod export;
#[cfg(feature = "fmp4")]
pub mod fmp4;
pub mod h264;
pub mod log;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
mod options;
pub mod policy;
mod shorthand;
mod types;
mod viewer;

#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub use export::__private;

pub use bindings::exports::sluicegate::gateway::transport::{
    Lane, MediaTime, Profile, Rendition, StreamInfo,
};
pub use bindings::sluicegate::gateway::media::{Audio, Kind, Track, Video};
pub use buffer::{Buffer, Piece};
pub use options::{Millis, NoOptions, options};
pub use types::{Chunk, ClientStream, Message, Payload, Reply, Response, Sample};
pub use viewer::{Viewer, request_keyframe};

// Re-exported for `#[serde(crate = "sluicegate_sdk::serde")]` and `json!`, so that a transport needs no other
// dependency.
pub use serde;
pub use serde_json;

/// A transport on one stream or rendition: `interface transport` of `wit/gateway.wit`, which documents units, limits
/// and the order of calls in full.
///
/// The host calls `open`, then `configure`, then `push` for every sample, one call at a time. A panic or an exceeded
/// limit ends the instance. A new one is then opened, configured and given the newest groups; viewers stay connected.
pub trait Transport: Sized + 'static {
    /// First call. `options` is the transport's section of the config as JSON; [`options()`] parses it.
    ///
    /// # Errors
    /// States what is wrong with the options and what to write instead; shown by `sluicegate check` and at start.
    fn open(options: &str) -> Result<(Self, Profile), String>;

    /// Announces the first tracks, or a break in the stream. Returns the header, which is sent to connected viewers
    /// before the next chunk and to each new viewer before its first.
    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload>;

    /// Delivers one access unit or audio frame, in order of arrival. Returns the chunks that are complete now.
    fn push(&mut self, sample: Sample) -> Vec<Chunk>;

    /// Announces that no sample follows until the next `configure` or, if `last`, ever. Returns what was held back.
    fn stop(&mut self, reason: &str, last: bool) -> Vec<Chunk> {
        let _ = (reason, last);
        vec![]
    }

    /// Answers a GET below this transport's path; `path` is `""` for the transport itself. Called once for all clients
    /// that request the same URL between two samples, so it takes `&self` and must not change any state.
    fn request(&self, path: &str, query: &str) -> Reply {
        let _ = query;
        Reply::not_found(path)
    }

    /// Announces a viewer. It receives what is sent to it in this call, then the header, then chunks. Called again in an
    /// instance that replaces a failed one; what it sends and chooses is ignored then. By default every viewer at the
    /// transport itself is accepted, and none below it.
    ///
    /// # Errors
    /// Reason why this viewer is refused. It gets status 400 with that text.
    fn join(&mut self, viewer: Viewer) -> Result<(), String> {
        match viewer.path().as_str() {
            "" => Ok(()),
            path => Err(format!("this transport has nothing at \"{path}\"")),
        }
    }

    /// Delivers something that a viewer sent.
    fn received(&mut self, viewer: &Viewer, message: Message) {
        let _ = (viewer, message);
    }

    /// Announces that a viewer is disconnected.
    fn leave(&mut self, viewer: u64) {
        let _ = viewer;
    }
}
