//! The benchmarks, one file for each question.

pub mod bandwidth;
pub mod captures;
pub mod congestion;
pub mod connect;
pub mod devices;
pub mod exchange;
pub mod fanout;
pub mod hls;
pub mod latency;
pub mod loss;
pub mod moves;
pub mod others;
pub mod page;
pub mod policy;
pub mod profile;
pub mod sandbox;
pub mod start;
pub mod streams;
pub mod viewers;
pub mod webtransport;
