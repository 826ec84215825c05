//! Sluicegate: an edge gateway for live video.
//!
//! Media is native, carriers are native, transports are components, policy is a component. The code map and the invariants are
//! in `ARCHITECTURE.md`; the modules are named by its glossary.

pub mod api;
pub mod gateway;
pub mod session;
