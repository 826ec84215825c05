//! WebSocket (RFC 6455), the server's side.
//!
//! A request becomes a socket by its [`Handshake`], which is the only way in. Viewers are then served by [`run`], and
//! conversations of texts, such as a session's control channel, by [`serve_messages`]. Frames to viewers are not masked, so
//! all viewers of a chunk get the same bytes: head and payload are joined once, by [`MessageEncoding`].

mod frame;
mod handshake;
mod messages;
mod session;

pub use frame::{Close, Event, MessageEncoding, Reader, close_frame, ping_frame, pong_frame};
pub use handshake::{Handshake, HandshakeError};
pub use messages::{MessageHandler, RateLimit, serve_messages};
pub use session::run;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};

/// Bytes that are read at a time of what nobody wants to know.
const SCRAP: usize = 8 << 10;

/// Reads and forgets what a client still sends, up to its end or to `deadline`, after all has been said to it: bytes that
/// lie unread when a socket is closed have the kernel reset the connection, and a reset takes what the client has not read
/// yet, such as why it is closed, from it (RFC 1122 section 4.2.2.13).
async fn read_out<S: AsyncRead + Unpin>(socket: &mut S, deadline: Instant) {
    let mut scrap = [0; SCRAP];
    let _ = timeout_at(deadline, async {
        while matches!(socket.read(&mut scrap).await, Ok(1..)) {}
    })
    .await;
}
