//! A WebSocket of messages in both directions, for what is said about viewing rather than viewed.

use super::{
    super::Drain, Close, Event, MessageEncoding, Reader, close_frame, ping_frame, pong_frame,
    read_out,
};
use bytes::Bytes;
use sluicegate_viewer::{Content, Encoding};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

/// Messages that wait for a client that does not read, and bytes of them; behind that many it is neither told more nor listened to.
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 256 << 10;
/// A client that takes nothing for this long is gone.
const STALLED: Duration = Duration::from_secs(60);
/// A client of which nothing is heard for this long is gone: a player reports every second, or every few while its page is
/// hidden; others answer pings.
const SILENCE: Duration = Duration::from_secs(90);
/// After this long without a word from it, a client that need not speak is asked whether it is there.
const PING: Duration = Duration::from_secs(30);
/// How long the farewell may take.
const CLOSING: Duration = Duration::from_secs(3);

/// How much a client may say.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    /// Messages a second that are listened to.
    pub rate: f64,
    /// And at once.
    pub burst: f64,
    /// What is said beyond that ends the talk; else it waits.
    pub strict: bool,
    /// The client may be silent, if it answers pings.
    pub may_be_silent: bool,
}

/// The gateway's end of a talk.
pub trait MessageHandler {
    /// What is expected of the client.
    const RATE_LIMIT: RateLimit;

    /// A text came. The error is told to the client, and the talk ends.
    ///
    /// # Errors
    /// What is wrong with it.
    fn on_text(&mut self, text: &str) -> Result<(), String>;

    /// Whether more may be heard now; asked again after each thing said.
    fn is_ready(&self) -> bool {
        true
    }

    /// What is to be said next; `None` ends the talk.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Content>>;
}

enum Next {
    Heard(usize),
    Say(Option<Content>),
    Drained,
    Passed,
    Wrote(std::io::Result<usize>),
}

/// Talks until the client leaves, has nothing to say for a while, or the gateway drains.
pub async fn serve_messages<S, T>(socket: S, first: Bytes, ends: &mut T, mut drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: MessageHandler,
{
    let mut line = Peer::new(socket, &first, T::RATE_LIMIT);
    let close = loop {
        match line.hear_all(ends) {
            Ok(()) => {}
            Err(close) => break close,
        }
        let open = line.is_listening() && ends.is_ready();
        let mut passed = pin!(tokio::time::sleep_until(line.next_look(open)));
        let next = poll_fn(|context| {
            if let Some(front) = line.waiting.front()
                && let Poll::Ready(wrote) = pin!(line.socket.write(front)).poll(context)
            {
                return Poll::Ready(Next::Wrote(wrote));
            }
            if open {
                let read = pin!(line.socket.read_buf(line.reader.buffer())).poll(context);
                if let Poll::Ready(read) = read {
                    return Poll::Ready(Next::Heard(read.unwrap_or(0)));
                }
            }
            if line.has_room()
                && let Poll::Ready(said) = ends.poll_message(context)
            {
                return Poll::Ready(Next::Say(said));
            }
            if drain.poll(context).is_ready() {
                return Poll::Ready(Next::Drained);
            }
            passed.as_mut().poll(context).map(|()| Next::Passed)
        })
        .await;
        match next {
            Next::Heard(0) | Next::Wrote(Err(_) | Ok(0)) => return,
            Next::Heard(_) => line.heard = Instant::now(),
            Next::Wrote(Ok(wrote)) => {
                line.wrote(wrote);
                if line.waiting.is_empty() && line.socket.flush().await.is_err() {
                    return;
                }
            }
            Next::Say(Some(content)) => line.say(content),
            Next::Say(None) => break Close::new(1000, "another player attends to this session"),
            Next::Drained => break Close::new(1001, "the gateway is shutting down"),
            Next::Passed => match line.look() {
                Ok(()) => {}
                Err(Some(close)) => break close,
                Err(None) => return,
            },
        }
    };
    line.farewell(&close).await;
}

/// The client's end.
struct Peer<S> {
    socket: S,
    reader: Reader,
    manners: RateLimit,
    /// Wire bytes of what is to be said.
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
    /// Messages that may still be listened to, as of `counted`.
    left: f64,
    counted: Instant,
    heard: Instant,
    pinged: Instant,
    progressed: Instant,
}

impl<S> Peer<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    fn new(socket: S, first: &[u8], manners: RateLimit) -> Peer<S> {
        let mut reader = Reader::default();
        reader.buffer().extend_from_slice(first);
        let now = Instant::now();
        Peer {
            socket,
            reader,
            manners,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            left: manners.burst,
            counted: now,
            heard: now,
            pinged: now,
            progressed: now,
        }
    }

    fn hear_all(&mut self, ends: &mut impl MessageHandler) -> Result<(), Close> {
        let now = Instant::now();
        let passed = (now - self.counted).as_secs_f64();
        self.left = (self.left + passed * self.manners.rate).min(self.manners.burst);
        self.counted = now;
        while self.is_listening() && ends.is_ready() {
            let Some(event) = self.reader.next_event()? else {
                break;
            };
            self.left -= 1.0;
            match event {
                Event::Ping(payload) => self.put(pong_frame(&payload)),
                Event::Pong => {}
                Event::Close(close) => {
                    return Err(Close::new(close.map_or(1000, |close| close.code), ""));
                }
                Event::Binary(_) => return Err(Close::new(1003, "only texts are spoken here")),
                Event::Text(text) => ends
                    .on_text(&text)
                    .map_err(|wrong| Close::new(1007, wrong.as_str()))?,
            }
        }
        if self.manners.strict && self.left < 1.0 {
            return Err(Close::new(1008, "too many messages; report once a second"));
        }
        Ok(())
    }

    /// Whether what the client says is of interest now.
    fn is_listening(&self) -> bool {
        self.left >= 1.0 && self.has_room()
    }

    /// Whether more may be said; one thing may be larger than the bound.
    fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
    }

    /// When the clock is to be looked at.
    fn next_look(&self, listening: bool) -> Instant {
        let mut next = self.heard + SILENCE;
        if self.manners.may_be_silent {
            next = next.min(self.heard.max(self.pinged) + PING);
        }
        if !self.waiting.is_empty() {
            next = next.min(self.progressed + STALLED);
        }
        if !listening && self.left < 1.0 {
            let short = (1.0 - self.left) / self.manners.rate;
            next = next.min(self.counted + Duration::from_secs_f64(short));
        }
        next
    }

    /// Time passed. The error ends the talk, with a word if the client may still hear it.
    fn look(&mut self) -> Result<(), Option<Close>> {
        let now = Instant::now();
        if !self.waiting.is_empty() && now - self.progressed >= STALLED {
            return Err(None);
        }
        if now - self.heard >= SILENCE {
            return Err(Some(Close::new(1008, "nothing was heard for too long")));
        }
        if self.manners.may_be_silent && now - self.heard.max(self.pinged) >= PING {
            self.pinged = now;
            self.put(ping_frame());
        }
        Ok(())
    }

    fn say(&mut self, content: Content) {
        for bytes in MessageEncoding::encode(&content) {
            self.put(bytes);
        }
    }

    fn put(&mut self, bytes: Bytes) {
        if self.waiting.is_empty() {
            self.progressed = Instant::now();
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
    }

    fn wrote(&mut self, bytes: usize) {
        self.progressed = Instant::now();
        self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
        if let Some(front) = self.waiting.front_mut() {
            let _ = front.split_to(bytes.min(front.len()));
            if front.is_empty() {
                self.waiting.pop_front();
            }
        }
    }

    async fn farewell(mut self, close: &Close) {
        self.waiting.push_back(close_frame(close));
        let deadline = Instant::now() + CLOSING;
        let said = timeout_at(deadline, async {
            for bytes in &self.waiting {
                self.socket.write_all(bytes).await?;
            }
            self.socket.shutdown().await
        });
        if matches!(said.await, Ok(Ok(()))) {
            read_out(&mut self.socket, deadline).await;
        }
    }
}
