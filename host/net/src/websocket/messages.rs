//! A WebSocket of text messages in both directions, for control channels: sessions, captures.
//!
//! [`serve_messages`] drives a [`MessageHandler`]: it reads within a rate limit, queues what the handler sends up to a
//! bound, and answers pings. Backpressure goes both ways: if the client does not read, its messages are not read
//! either. Timeouts end connections that are silent or stalled.

use super::{
    super::{Drain, Guard, stall::WRITE_TIMEOUT, token_bucket::TokenBucket},
    Close, Event, MessageEncoding, Reader, close_after, close_frame, ping_frame, pong_frame,
};
use bytes::{Buf, Bytes};
use sluicegate_viewer::{Content, Encoding};
use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

/// Capacity of the send queue of a client, in messages and bytes. When it is full, the handler is not polled and
/// reading pauses.
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 256 << 10;
/// A client that sends nothing for this long is disconnected. A player reports every second, or every few while its
/// page is hidden; other clients answer pings.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
/// A client that may be silent is pinged after this long without a message.
const PING: Duration = Duration::from_secs(30);

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// Messages per second.
    pub rate: f64,
    /// Messages in a burst, the capacity of the token bucket.
    pub burst: f64,
    /// Whether exceeding the rate closes the connection; otherwise reading pauses.
    pub strict: bool,
    /// Whether the client may be silent as long as it answers pings.
    pub may_be_silent: bool,
}

/// The gateway's side of a conversation.
pub trait MessageHandler {
    /// What the client may send.
    const RATE_LIMIT: RateLimit;

    /// Handles a text message. The error is sent to the client as the reason of the close.
    ///
    /// # Errors
    /// What is wrong with the message.
    fn on_text(&mut self, text: &str) -> Result<(), String>;

    /// Whether the handler accepts another message now; checked again after each event.
    fn is_ready(&self) -> bool {
        true
    }

    /// The next message to send; `None` closes the connection.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Content>>;
}

enum Next {
    Received(usize),
    Send(Option<Content>),
    Drained,
    Revoked,
    TimedOut,
    Wrote(io::Result<()>),
}

/// Serves the conversation until the client leaves or is silent for too long, the handler ends it, its permission is
/// taken away, or the gateway shuts down. `first` is what was already read of the connection.
pub async fn serve_messages<S, T>(
    socket: S,
    first: Bytes,
    handler: &mut T,
    mut drain: Drain,
    mut guard: Guard,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    T: MessageHandler,
{
    let mut peer = Peer::new(socket, &first, T::RATE_LIMIT);
    let close = loop {
        match peer.handle_events(handler) {
            Ok(()) => {}
            Err(close) => break close,
        }
        let open = peer.is_listening() && handler.is_ready();
        let mut passed = pin!(tokio::time::sleep_until(peer.next_timeout(open)));
        let next = poll_fn(|context| {
            if guard.poll(context).is_ready() {
                return Poll::Ready(Next::Revoked);
            }
            if let Poll::Ready(wrote) = peer.poll_write(context) {
                return Poll::Ready(Next::Wrote(wrote));
            }
            if open {
                let read = pin!(peer.socket.read_buf(peer.reader.buffer())).poll(context);
                if let Poll::Ready(read) = read {
                    return Poll::Ready(Next::Received(read.unwrap_or(0)));
                }
            }
            if peer.has_room()
                && let Poll::Ready(said) = handler.poll_message(context)
            {
                return Poll::Ready(Next::Send(said));
            }
            if drain.poll(context).is_ready() {
                return Poll::Ready(Next::Drained);
            }
            passed.as_mut().poll(context).map(|()| Next::TimedOut)
        })
        .await;
        match next {
            Next::Received(0) | Next::Wrote(Err(_)) => return,
            Next::Received(_) => peer.last_received = Instant::now(),
            Next::Wrote(Ok(())) => {}
            Next::Send(Some(content)) => peer.send(content),
            Next::Send(None) => {
                break Close::new(
                    1000,
                    "another player has taken over this session, or it has ended",
                );
            }
            Next::Drained => break Close::new(1001, "the gateway is shutting down"),
            Next::Revoked => break Close::revoked(),
            Next::TimedOut => match peer.check_timeouts() {
                Ok(()) => {}
                Err(Some(close)) => break close,
                Err(None) => return,
            },
        }
    };
    peer.send_close(&close).await;
}

/// The client's side: socket, send queue, rate limit and timeouts.
struct Peer<S> {
    socket: S,
    reader: Reader,
    rate_limit: RateLimit,
    /// Encoded frames that wait to be sent.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Whether the socket's own buffer, which TLS has, is flushed.
    flushed: bool,
    /// Messages that the client may send, as of the last refill.
    allowed: TokenBucket,
    last_received: Instant,
    pinged: Instant,
    progressed: Instant,
}

impl<S> Peer<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn new(socket: S, first: &[u8], rate_limit: RateLimit) -> Peer<S> {
        let mut reader = Reader::default();
        reader.buffer().extend_from_slice(first);
        let now = Instant::now();
        Peer {
            socket,
            reader,
            rate_limit,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            flushed: true,
            allowed: TokenBucket::new(rate_limit.rate, rate_limit.burst, now),
            last_received: now,
            pinged: now,
            progressed: now,
        }
    }

    fn handle_events(&mut self, handler: &mut impl MessageHandler) -> Result<(), Close> {
        self.allowed.refill(Instant::now());
        while self.is_listening() && handler.is_ready() {
            let Some(event) = self.reader.next_event()? else {
                break;
            };
            self.allowed.take(1.0);
            match event {
                Event::Ping(payload) => self.put(pong_frame(&payload)),
                Event::Pong => {}
                Event::Close(close) => {
                    return Err(Close::new(close.map_or(1000, |close| close.code), ""));
                }
                Event::Binary(_) => {
                    return Err(Close::new(1003, "only text messages are accepted here"));
                }
                Event::Text(text) => handler
                    .on_text(&text)
                    .map_err(|wrong| Close::new(1007, wrong.as_str()))?,
            }
        }
        if self.rate_limit.strict && self.allowed.left() < 1.0 {
            return Err(Close::new(1008, "too many messages; report once a second"));
        }
        Ok(())
    }

    /// Whether to read from the client now.
    fn is_listening(&self) -> bool {
        self.allowed.left() >= 1.0 && self.has_room()
    }

    /// Whether the send queue accepts another message; a single one may exceed the bound.
    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// When the next timeout is to be checked.
    fn next_timeout(&self, listening: bool) -> Instant {
        let mut next = self.last_received + READ_TIMEOUT;
        if self.rate_limit.may_be_silent {
            next = next.min(self.last_received.max(self.pinged) + PING);
        }
        if !self.is_idle() {
            next = next.min(self.progressed + WRITE_TIMEOUT);
        }
        if !listening && self.allowed.left() < 1.0 {
            next = next.min(self.allowed.has_at(1.0));
        }
        next
    }

    /// Checks the timeouts. An error ends the connection, with a close frame if the client may still read it.
    fn check_timeouts(&mut self) -> Result<(), Option<Close>> {
        let now = Instant::now();
        if !self.is_idle() && now - self.progressed >= WRITE_TIMEOUT {
            return Err(None);
        }
        if now - self.last_received >= READ_TIMEOUT {
            return Err(Some(Close::new(
                1008,
                "no message was received for too long",
            )));
        }
        if self.rate_limit.may_be_silent && now - self.last_received.max(self.pinged) >= PING {
            self.pinged = now;
            self.put(ping_frame());
        }
        Ok(())
    }

    fn send(&mut self, content: Content) {
        for bytes in MessageEncoding::encode(&content) {
            self.put(bytes);
        }
    }

    fn put(&mut self, bytes: Bytes) {
        if self.is_idle() {
            self.progressed = Instant::now();
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.flushed
    }

    /// Writes a part of the send queue, or flushes. Pending also if there is nothing to do.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = Pin::new(&mut self.socket);
        if let Some(front) = self.waiting.front_mut() {
            let wrote = ready!(socket.poll_write(context, front))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            front.advance(wrote);
            if front.is_empty() {
                self.waiting.pop_front();
            }
            self.waiting_bytes = self.waiting_bytes.saturating_sub(wrote);
            self.flushed = false;
        } else if self.flushed {
            return Poll::Pending;
        } else {
            ready!(socket.poll_flush(context))?;
            self.flushed = true;
        }
        self.progressed = Instant::now();
        Poll::Ready(Ok(()))
    }

    async fn send_close(mut self, close: &Close) {
        self.waiting.push_back(close_frame(close));
        close_after(self.write_rest(), close.timeout()).await;
    }

    /// Writes the send queue; returns the socket.
    async fn write_rest(&mut self) -> io::Result<&mut S> {
        for bytes in &self.waiting {
            self.socket.write_all(bytes).await?;
        }
        Ok(&mut self.socket)
    }
}
