//! The media model of the gateway: times, timelines, samples, groups, shared buffers, frame geometry, H.264, AAC, JPEG
//! and the test pattern.
//!
//! Everything here is pure. Nothing does I/O or reads a clock: callers pass the time as a [`time::Moment`], so that
//! every state machine can be tested on virtual time. Most other crates of the host, the tests, the benchmarks and the
//! fuzz targets build on this crate; it depends on none of them.

pub mod aac;
pub mod blocks;
pub mod budget;
pub mod buffer;
pub mod clock;
pub mod exif;
pub mod geometry;
pub mod group;
pub mod h264;
pub mod image;
pub mod jpeg;
pub mod offset;
pub mod pattern;
pub mod sample;
pub mod time;
pub mod timeline;
pub mod wall;
