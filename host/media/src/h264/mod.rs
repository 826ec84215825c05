//! H.264 (ISO/IEC 14496-10) as far as the gateway needs it: from bytes to NAL units to access units, and the parameter
//! sets on the way. No picture is decoded and no NAL unit is altered. Only one kind is created: the P picture of
//! [`repeat`].
//!
//! ```text
//! bytes ──► annexb::Splitter ─┐
//!           avcc::split ──────┴─► NAL units ──► access_unit::Assembler ──► AccessUnit ──► annexb::join, avcc::join
//! ```
//!
//! A NAL unit is a [`bytes::Bytes`] from its header byte to its last byte that is not zero, with emulation prevention
//! bytes and without a start code or length. Every parser accepts hostile input: it returns an error for what it cannot
//! read or skips it, and buffers no more than its stated limit. `stream::Ingest` is the main caller; it does all I/O
//! and timing.

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
