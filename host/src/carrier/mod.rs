//! The native byte movers under the transports.

mod body;
mod drain;
pub mod http;
pub mod websocket;

pub use body::ViewerBody;
pub use drain::Drain;

/// Why a body of a response broke off.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
