//! What players make of the gateway's streams: HLS, MSE, sound. What takes minutes goes on beside the rest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod hls;
mod mse;
mod players;
mod sound;
