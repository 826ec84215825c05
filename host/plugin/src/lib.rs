//! Transports and the policy as WebAssembly components: loading, limits, instances, and the muxer that runs a transport on a
//! stream.

pub mod bindings;
mod cache;
pub mod compile;
mod encode;
mod engine;
mod guest;
mod instance;
mod metadata;
pub mod muxer;
pub mod policy;
mod response;
mod sandbox;
pub mod transports;
mod usage;
mod world;

pub use engine::{Engine, LoadError, Plugin};
pub use guest::{Breach, Guest};
pub use instance::{Answer, Chunk, Effect, Embed, Instance, Joined, OpenError, Profile, Rendition};
pub use muxer::{Health, Phase};
pub use response::Response;
pub use sandbox::Failure;
pub use usage::{Spent, Usage, Usages};
pub use world::{Kind, World};

use std::time::Duration;

/// What one instance may use; `limits` of a `[transports.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all its linear memories and tables together.
    pub memory: usize,
    /// Processor time of one call.
    pub call: Duration,
    /// Buffers and other handles held at a time.
    pub handles: usize,
    /// Bytes in the buffers held at a time.
    pub buffers: usize,
    /// Bytes given out in one call.
    pub output: usize,
    /// Chunks or effects given out in one call.
    pub items: usize,
    /// Bytes that a call may make the host allocate for lists and strings.
    pub hostcall: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 32 << 20,
            call: Duration::from_millis(20),
            handles: 8192,
            buffers: 64 << 20,
            output: 32 << 20,
            items: 1024,
            hostcall: 4 << 20,
        }
    }
}
