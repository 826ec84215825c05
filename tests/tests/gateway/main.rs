//! The gateway as a process: what it takes, what it answers, what it survives, and what players make of its streams.
//!
//! One program, so that what takes minutes goes on beside the rest. Tests begin in the order of their names, so that is called
//! `airing`: begun late, it would go on alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod airing;
mod android;
mod android_discovered;
mod bad_input;
mod bad_requests;
mod capture;
mod capture_kept;
mod capture_refused;
mod choices;
mod churn;
mod components;
mod contract;
mod damage;
mod events;
mod first_light;
mod groups;
mod hls;
mod hostile;
mod http2;
mod layout;
mod limits;
mod listening;
mod logs;
mod mse;
mod numbers;
mod passthrough;
mod players;
mod policy;
mod reconfigure;
mod renditions;
mod reorder;
mod repeat;
mod shutdown;
mod silence;
mod sound;
mod sources;
mod sources_devices;
mod sources_encoded;
mod sources_lost;
mod third_party;
mod tls;
