//! WebSocket (RFC 6455), the server's side.
//!
//! A request becomes a socket by its [`Handshake`], which is the only way in. Viewers are then served by
//! [`serve_viewer`], and text conversations, such as a session's control channel, by [`serve_messages`]. WebSocket
//! frames to viewers are not masked, so all viewers of a chunk get the same bytes: head and payload are joined once, by
//! [`MessageEncoding`].

mod frame;
mod handshake;
mod messages;
mod session;

pub use crate::serving::Close;
pub use frame::{Event, MessageEncoding, Reader, close_frame, ping_frame, pong_frame};
pub use handshake::{Handshake, HandshakeError};
pub use messages::{MessageHandler, RateLimit, serve_messages};
pub use session::serve_viewer;

use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

/// Bytes of ignored input that are read at a time.
const DISCARD_BUFFER: usize = 8 << 10;

/// Ends a connection in order (RFC 6455 7.1.1), within `timeout`. `rest` writes what still waits, the close
/// frame last, and returns the socket. Then our side is shut down, and the client has the rest of the time to close its
/// own.
async fn close_after<'a, S>(rest: impl Future<Output = io::Result<&'a mut S>>, timeout: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + 'a,
{
    let deadline = Instant::now() + timeout;
    let shut_down = timeout_at(deadline, async {
        let socket = rest.await?;
        socket.shutdown().await?;
        Ok::<_, io::Error>(socket)
    });
    if let Ok(Ok(socket)) = shut_down.await {
        discard_input(socket, deadline).await;
    }
}

/// Reads and discards what a client still sends, until its end or `deadline`, after our side is shut down. Unread bytes
/// at close make the kernel send a reset, which discards what the client has not read yet, such as the reason of the
/// close (RFC 1122 section 4.2.2.13).
async fn discard_input<S: AsyncRead + Unpin>(socket: &mut S, deadline: Instant) {
    let mut scrap = [0; DISCARD_BUFFER];
    let _ = timeout_at(deadline, async {
        while matches!(socket.read(&mut scrap).await, Ok(1..)) {}
    })
    .await;
}
