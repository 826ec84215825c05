//! Sluicegate, an edge gateway for live video: the crate that puts the others together.
//!
//! [`gateway`] starts the parts, supervises them and shuts them down; [`session`] chooses transport and rendition for
//! each player and moves it later; [`api`] is the HTTP interface over both. Media and carriers are native code,
//! transports and the policy are WebAssembly components. The code map and the invariants are in `ARCHITECTURE.md`,
//! whose glossary names the modules.

pub mod api;
pub mod gateway;
pub mod session;
