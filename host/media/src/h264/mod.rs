//! H.264 (ISO/IEC 14496-10) as the gateway needs it: bytes to NAL units to access units, and the parameter sets on the way.
//! Nothing is decoded and no NAL unit is altered; one kind is made, to [`repeat`] a picture. Pure: no I/O, no clock.
//!
//! ```text
//! bytes ──► annexb::Splitter ─┐
//!           avcc::split ──────┴─► NAL units ──► access_unit::Assembler ──► AccessUnit ──► annexb::join, avcc::join
//! ```
//!
//! A NAL unit is a [`bytes::Bytes`] from its header byte to its last byte that is not zero, emulation prevention
//! included, with no start code and no length before it. Every parser here takes hostile bytes: it answers with an
//! error or ignores what it cannot read, and holds no more than its stated bound.

pub mod access_unit;
pub mod annexb;
pub mod avcc;
mod counting;
pub mod nal;
mod order;
pub mod parameter_sets;
pub mod repeat;
mod sei;
mod slice;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
