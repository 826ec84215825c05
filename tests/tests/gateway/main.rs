//! The gateway as a process: what it accepts, what it answers, what it survives, and how players handle its streams.
//!
//! All in one program, so that tests that take minutes run beside the rest. Tests start in the order of their names,
//! which is why the longest is called `airing`: started late, it would run on alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod airing;
mod android;
mod android_discovered;
mod audio;
mod bad_input;
mod bad_requests;
mod bounds;
mod bursts;
mod capture;
mod capture_kept;
mod capture_refused;
mod choices;
mod churn;
mod clockless;
mod command_line;
mod components;
mod contained;
mod contract;
mod damage;
mod events;
mod exact;
mod first_light;
mod geometry;
mod glitches;
mod groups;
mod halves;
mod hls;
mod hostile;
mod http2;
mod layout;
mod limits;
mod listening;
mod logs;
mod mse;
mod numbers;
mod panics;
mod passthrough;
mod players;
mod policy;
mod proxies;
mod reconfigure;
mod renditions;
mod reorder;
mod repeat;
mod secrets;
mod shutdown;
mod silence;
mod sources;
mod sources_bounds;
mod sources_devices;
mod sources_encoded;
mod sources_files;
mod sources_lost;
mod sources_mjpeg;
mod swaps;
mod third_party;
mod tls;
mod workers;
