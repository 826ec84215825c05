//! The native byte movers under the transports.

mod body;
pub mod http;
pub mod websocket;

pub use body::ViewerBody;
