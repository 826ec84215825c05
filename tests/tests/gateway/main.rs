//! The gateway as a process: what it takes, what it answers, what it survives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod android;
mod android_discovered;
mod bad_input;
mod bad_requests;
mod capture;
mod choices;
mod churn;
mod components;
mod contract;
mod damage;
mod events;
mod first_light;
mod groups;
mod hostile;
mod http2;
mod layout;
mod limits;
mod logs;
mod numbers;
mod passthrough;
mod policy;
mod reconfigure;
mod renditions;
mod repeat;
mod shutdown;
mod silence;
mod sources;
mod sources_devices;
mod sources_encoded;
mod sources_lost;
mod third_party;
mod tls;
