//! What pictures are made of: times, samples, groups, shapes, H.264. Pure: no I/O, no clock.

pub mod aac;
pub mod blocks;
pub mod budget;
pub mod buffer;
pub mod clock;
pub mod exif;
pub mod geometry;
pub mod group;
pub mod h264;
pub mod jpeg;
pub mod offset;
pub mod pattern;
pub mod picture;
pub mod sample;
pub mod time;
pub mod timeline;
pub mod wall;
