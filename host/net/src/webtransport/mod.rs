//! WebTransport over HTTP/3 (draft-ietf-webtrans-http3), the server's side, on the crate `wtransport`.
//!
//! A client requests a session by a [`SessionRequest`], which the gateway accepts or refuses; a viewer is then served
//! by [`serve_viewer`]. Each group of each lane is a unidirectional stream, header first, so that a group that comes
//! late holds up no other: `streams` decides what is sent next and what is given up, and does no I/O; `session` gives
//! it to QUIC; `input` reads what the client sends. There is one session for each QUIC connection.

mod input;
mod request;
mod session;
mod streams;

pub use input::Pieces;
pub use request::{Refusal, Session, SessionRequest, head};
pub use session::serve_viewer;
