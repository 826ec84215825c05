//! The native byte movers under the transports.

pub mod auth;
mod body;
mod drain;
mod http;
mod limiter;
mod listener;
mod socket;
mod tls;
pub mod websocket;

pub use body::{ViewerBody, WholeBody};
pub use drain::Drain;
pub use limiter::ConnectionLimiter;
pub use listener::{listen, serve};
pub use socket::Socket;
pub use tls::{Tls, TlsError};

/// Why a body of a response broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
