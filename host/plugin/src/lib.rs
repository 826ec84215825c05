//! WebAssembly components: the transports, which turn samples into wire bytes, and the policy, which chooses what a
//! session plays.
//!
//! A component is loaded and compiled by [`Engine`] (`engine`, `compile`, `cache`), runs as a guest in a wasmtime
//! `Store` of its own with limits on memory, time and output (`sandbox`, `guest`), and is called through a typed
//! wrapper, [`Instance`] or [`policy::PolicyInstance`]. A [`muxer`] runs one transport on one stream, on a thread of
//! its own, for all of its viewers. A guest may fail in any call; the host then replaces the instance and replays
//! recent samples, so viewers do not notice. Called by the gateway's HTTP API; calls `sluicegate_stream` for samples
//! and `sluicegate_viewer` for delivery.

pub mod bindings;
mod browser;
mod cache;
pub mod compile;
mod encode;
mod engine;
mod guest;
mod instance;
mod metadata;
pub mod muxer;
pub mod policy;
pub mod recording;
mod response;
mod sandbox;
pub mod transports;
mod usage;
mod viewer;
mod world;

pub use browser::{BrowserError, BrowserModule};
pub use engine::{Engine, LoadError, Plugin};
pub use guest::{Guest, Held, LimitExceeded, thread_time};
pub use instance::{Answer, Chunk, Embed, Instance, OpenError, Profile, Rendition};
pub use muxer::{Health, Phase};
pub use response::Response;
pub use sandbox::Failure;
pub use usage::{Usage, UsageSnapshot, Usages};
pub use viewer::{Effect, JoinRequest, Requests, ViewerHandle};
pub use world::{Kind, Version, World};

use std::time::Duration;

/// Components that the binary contains, as name and bytes. The host knows none of them by name: whoever builds the
/// binary lists them, and the first policy of its list is the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltIn(pub &'static [(&'static str, &'static [u8])]);

impl BuiltIn {
    /// Their names, in order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    /// The bytes of the component `name`.
    pub fn find(self, name: &str) -> Option<&'static [u8]> {
        let mut all = self.0.iter();
        all.find(|(known, _)| *known == name)
            .map(|(_, bytes)| *bytes)
    }

    /// Their names, separated by commas, for messages.
    fn list(self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }
}

/// Limits of one guest instance; `memory` and `call` come from `limits` of a `[transports.NAME]` or of `[policy]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Total size of all its linear memories and tables, in bytes.
    pub memory: usize,
    /// Processor time of one call. It is measured per thread, so a busy machine does not shorten it.
    pub call: Duration,
    /// Handles of buffers that it may hold at a time.
    pub handles: usize,
    /// Handles of viewers that it may hold at a time.
    pub viewers: usize,
    /// Bytes in all buffers that it may hold at a time.
    pub buffers: usize,
    /// Bytes that one call may hand to the host.
    pub output: usize,
    /// Payloads, chunks and requests for viewers that one call may hand to the host.
    pub items: usize,
    /// Bytes that one call may make the host allocate for lists and strings.
    pub hostcall: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 32 << 20,
            call: Duration::from_millis(20),
            handles: 8192,
            viewers: 65_536,
            buffers: 64 << 20,
            output: 32 << 20,
            items: 1024,
            hostcall: 4 << 20,
        }
    }
}
