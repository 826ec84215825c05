//! Networking: the listeners, TLS, HTTP/1.1, HTTP/2, WebSocket, QUIC and WebTransport, and access rules.
//!
//! [`serve`] and [`quic::serve`] accept connections within the [`ConnectionLimiter`] and call the gateway for each
//! request. The carriers below the transports are here, too: [`ViewerBody`] streams a viewer's chunks as an HTTP body,
//! [`websocket::serve_viewer`] as WebSocket messages, [`webtransport::serve_viewer`] as streams and datagrams. They are
//! handed a `Delivery` and know neither transports nor muxers. [`auth`] decides who may request what, and [`Guards`]
//! ends what was permitted and is not any more. Called by the gateway.

pub mod auth;
mod body;
pub mod client;
mod drain;
mod guard;
mod http;
mod limiter;
mod listener;
mod passed;
pub mod quic;
mod serving;
mod socket;
mod stall;
mod tls;
mod token_bucket;
mod unix;
pub mod websocket;
pub mod webtransport;

pub use body::{GuardedBody, ViewerBody, WholeBody};
pub use drain::Drain;
pub use guard::{Guard, Guards};
pub use limiter::ConnectionLimiter;
pub use listener::{Listener, serve};
pub use passed::{Passed, PassedError};
pub use socket::Socket;
pub use tls::{Tls, TlsError};

/// Error of a response body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
