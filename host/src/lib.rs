//! Sluicegate: an edge gateway for live video.
//!
//! Media is native, carriers are native, transports are components, policy is a component. The code map and the invariants are
//! in `ARCHITECTURE.md`; the modules are named by its glossary.

pub mod api;
pub mod auth;
pub mod capture;
pub mod carrier;
pub mod codec;
pub mod config;
pub mod gateway;
pub mod media;
pub mod plugin;
pub mod session;
pub mod source;
pub mod stream;
pub mod telemetry;
pub mod viewer;
