//! What is measured, a file for each question.

pub mod connect;
pub mod fanout;
pub mod latency;
pub mod others;
pub mod profile;
pub mod sandbox;
pub mod start;
pub mod streams;
pub mod viewers;
