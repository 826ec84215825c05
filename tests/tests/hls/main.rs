//! HLS as it is served, in one program: what takes minutes goes on beside the rest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

// The longest first: tests begin in the order of their names.
mod changes;
mod players;
mod rules;
mod served;
