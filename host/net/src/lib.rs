//! Networking: the listener, TLS, HTTP/1.1, HTTP/2 and WebSocket, and access rules.
//!
//! [`serve`] accepts connections within the [`ConnectionLimiter`] and calls the gateway for each request. The carriers
//! below the transports are here, too: [`ViewerBody`] streams a viewer's chunks as an HTTP body,
//! [`websocket::serve_viewer`] as WebSocket messages. Both are handed a `Delivery` and know neither transports nor
//! muxers. [`auth`] decides who may request what. Called by the gateway.

pub mod auth;
mod body;
pub mod client;
mod drain;
mod http;
mod limiter;
mod listener;
mod socket;
mod stall;
mod tls;
mod token_bucket;
pub mod websocket;

pub use body::{ViewerBody, WholeBody};
pub use drain::Drain;
pub use limiter::ConnectionLimiter;
pub use listener::{listen, serve};
pub use socket::Socket;
pub use tls::{Tls, TlsError};

/// Error of a response body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
