//! Serves one WebSocket viewer: chunks and messages down, messages up, and a clean close at the end.
//!
//! It takes from the viewer's [`Delivery`] only as much as one write needs, so that a slow viewer's data stays in the
//! outlet, where the viewer can jump to a newer start point. Runs as one task per viewer.

use super::{
    super::{
        Drain, Guard,
        serving::{MessageBacklog, WriteTimer, pass_on},
    },
    Close, Event, MessageEncoding, Reader, close_after, close_frame, pong_frame,
};
use bytes::{Buf, Bytes};
use sluicegate_viewer::{Content, Delivery, Encoding, FromClient, Item, Meter, Want};
use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Bytes taken from the outlet per write: enough to be worth a system call, small enough that a slow viewer soon jumps.
const BATCH: usize = 64 << 10;
/// Buffers in one vectored write.
const SLICES: usize = 32;
/// Most pongs that may wait; a client that sends more pings without reading is disconnected.
const MAX_CONTROL: usize = 64;

/// How a connection ends.
enum End {
    /// Send this close frame.
    Close(Close),
    /// The client closed: answer with this close frame.
    Answered(Close),
    /// The connection is lost.
    Gone,
}

/// Serves the viewer until it leaves, the muxer ends, its permission is taken away or the gateway shuts down. `first` is
/// what was already read of the connection.
pub async fn serve_viewer<S>(
    socket: S,
    first: Bytes,
    mut viewer: impl Delivery,
    meter: Meter,
    mut drain: Drain,
    mut guard: Guard,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut wire = Wire {
        socket,
        reader: Reader::default(),
        items: VecDeque::new(),
        queue: VecDeque::new(),
        flushed: true,
        control: 0,
        messages: MessageBacklog::default(),
        timer: WriteTimer::new(),
        meter,
    };
    wire.reader.buffer().extend_from_slice(&first);
    let end = handle_connection(&mut wire, &mut viewer, &mut drain, &mut guard).await;
    // The viewer leaves the muxer before the closing handshake.
    drop(viewer);
    wire.send_close(end).await;
}

/// One poll function instead of `select!`, so that each wake-up polls every source of events once.
async fn handle_connection<S>(
    wire: &mut Wire<S>,
    viewer: &mut impl Delivery,
    drain: &mut Drain,
    guard: &mut Guard,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut unread = true;
    poll_fn(|context| {
        if guard.poll(context).is_ready() {
            return Poll::Ready(End::Close(Close::revoked()));
        }
        loop {
            while unread {
                match wire.reader.next_event() {
                    Ok(None) => unread = false,
                    Ok(Some(event)) => {
                        if let Some(end) = on_event(event, viewer, wire) {
                            return Poll::Ready(end);
                        }
                    }
                    Err(close) => return Poll::Ready(End::Close(close)),
                }
            }
            while !wire.is_idle() {
                match wire.poll_write(context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(End::Gone),
                    Poll::Pending => break,
                }
            }
            let want = match wire.is_idle() {
                true => Some(Want::All(BATCH)),
                false => wire.messages.has_room().then_some(Want::Messages),
            };
            if let Some(want) = want
                && let Poll::Ready(taken) = viewer.poll_next(context, want, &mut wire.items)
            {
                wire.meter.chunks_taken(&taken);
                if let Some(end) = wire.encode() {
                    return Poll::Ready(end);
                }
                continue;
            }
            let read = pin!(wire.socket.read_buf(wire.reader.buffer())).poll(context);
            match read {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(End::Gone),
                Poll::Ready(Ok(_)) => {
                    unread = true;
                    continue;
                }
                Poll::Pending => {}
            }
            if drain.poll(context).is_pending() {
                return Poll::Pending;
            }
            // The muxer ends on shutdown, too, and may have last chunks. If it has not ended, this is the end.
            if wire.is_idle() && !viewer.has_ended() {
                return Poll::Ready(End::Close(Close::shutting_down()));
            }
            if !wire.timer.shorten() {
                return Poll::Pending;
            }
        }
    })
    .await
}

fn on_event<S>(event: Event, viewer: &impl Delivery, wire: &mut Wire<S>) -> Option<End> {
    match event {
        Event::Ping(payload) => {
            wire.control += 1;
            if wire.control > MAX_CONTROL {
                return Some(End::Gone);
            }
            wire.queue.push_back(pong_frame(&payload));
            None
        }
        Event::Pong => None,
        Event::Close(close) => {
            let code = close.map_or(1000, |close| close.code);
            Some(End::Answered(Close::new(code, "")))
        }
        Event::Text(text) => pass_message(Content::Text(text.into()), viewer),
        Event::Binary(data) => pass_message(Content::Binary(data.into()), viewer),
    }
}

fn pass_message(message: Content, viewer: &impl Delivery) -> Option<End> {
    pass_on(FromClient::Message(message), viewer).map(End::Close)
}

/// The socket with its read buffer and send queue.
struct Wire<S> {
    socket: S,
    reader: Reader,
    /// Empty except while items are encoded.
    items: VecDeque<Item>,
    queue: VecDeque<Bytes>,
    /// Whether the socket's own buffer, which TLS has, is flushed.
    flushed: bool,
    /// Pongs queued since the queue was last empty.
    control: usize,
    /// Messages that were put into the queue since it was last empty.
    messages: MessageBacklog,
    timer: WriteTimer,
    meter: Meter,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flushed
    }

    /// Encodes the items and moves them to the queue; returns the end if it is among them.
    fn encode(&mut self) -> Option<End> {
        while let Some(item) = self.items.pop_front() {
            match item {
                Item::Chunk(chunk) => self
                    .queue
                    .extend(chunk.encoded::<MessageEncoding>().cloned()),
                Item::Message(content) => {
                    self.messages.add(content.len());
                    self.queue.extend(MessageEncoding::encode(&content));
                }
                // A WebSocket is one stream, and the client opens none.
                Item::StreamHead { .. } | Item::Reply { .. } => {}
                Item::Close(closing) => return Some(End::Close(closing.into())),
            }
        }
        None
    }

    /// Writes a part of the queue, or flushes. Fails if the socket has accepted nothing for the write timeout.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wrote = if self.queue.is_empty() {
            Pin::new(&mut self.socket)
                .poll_flush(context)
                .map_ok(|()| self.flushed = true)
        } else {
            self.poll_write_some(context)
        };
        if wrote.is_ready() {
            self.timer.progressed();
            return wrote;
        }
        ready!(self.timer.poll_stalled(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_write_some(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.queue.len().min(SLICES);
        for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
        }
        let socket = Pin::new(&mut self.socket);
        let wrote = ready!(socket.poll_write_vectored(context, &slices[..count]))?;
        if wrote == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.flushed = false;
        let mut left = wrote;
        while let Some(front) = self.queue.front_mut() {
            if left < front.len() {
                front.advance(left);
                break;
            }
            left -= front.len();
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            self.control = 0;
            self.messages.clear();
        }
        self.meter
            .wrote(wrote, self.queue.is_empty(), std::time::Instant::now());
        Poll::Ready(Ok(()))
    }

    /// Ends the connection: with a close frame after the rest of the queue, unless it is lost.
    async fn send_close(&mut self, end: End) {
        let close = match end {
            End::Close(close) | End::Answered(close) => close,
            End::Gone => return,
        };
        self.queue.push_back(close_frame(&close));
        close_after(self.write_rest(), close.timeout()).await;
    }

    /// Writes and flushes the queue; returns the socket.
    async fn write_rest(&mut self) -> io::Result<&mut S> {
        while !self.is_idle() {
            poll_fn(|context| self.poll_write(context)).await?;
        }
        Ok(&mut self.socket)
    }
}

#[cfg(test)]
mod tests {
    //! A session over a connection in memory, with a viewer whose items are written down.
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::serving::CLOSE_TIMEOUT;
    use parking_lot::Mutex;
    use sluicegate_telemetry::Events;
    use sluicegate_viewer::{
        Chunk, Closing, Header, LaneRule, MetricKey, Piece, Registration, Registry, TakenChunks,
    };
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };
    use tokio::{
        io::{AsyncWriteExt, duplex},
        sync::watch,
    };

    /// Gives its items one by one; keeps what the client says, up to two messages.
    struct Scripted {
        items: VecDeque<Item>,
        heard: Arc<Mutex<Vec<Content>>>,
    }

    impl Delivery for Scripted {
        fn poll_next(
            &mut self,
            _: &mut Context<'_>,
            want: Want,
            items: &mut VecDeque<Item>,
        ) -> Poll<TakenChunks> {
            match self.items.front() {
                Some(Item::Chunk(_)) if want == Want::Messages => Poll::Pending,
                Some(_) => {
                    items.extend(self.items.pop_front());
                    Poll::Ready(TakenChunks::default())
                }
                None => Poll::Pending,
            }
        }

        fn has_ended(&self) -> bool {
            false
        }

        fn received(&self, data: FromClient) -> Result<(), String> {
            let FromClient::Message(data) = data else {
                panic!("{data:?}");
            };
            let mut heard = self.heard.lock();
            if heard.len() == 2 {
                return Err("too many".into());
            }
            heard.push(data);
            Ok(())
        }
    }

    fn registration() -> Registration {
        let registry = Registry::new(&Arc::<Events>::default());
        let key = MetricKey {
            stream: "porch".into(),
            rendition: String::new(),
            transport: "nal".into(),
        };
        registry.enter(key, ([127, 0, 0, 1], 9).into())
    }

    /// What the client receives until its connection ends, if it sends `sent` at once and the viewer gets `items`; and
    /// what the viewer heard.
    async fn served(items: Vec<Item>, sent: &[u8]) -> (Vec<u8>, Vec<Content>) {
        let heard = Arc::<Mutex<Vec<Content>>>::default();
        let viewer = Scripted {
            items: items.into(),
            heard: heard.clone(),
        };
        let (ours, mut client) = duplex(1 << 16);
        let registration = registration();
        let meter = registration.meter(Instant::now());
        let draining = watch::Sender::new(false);
        client.write_all(sent).await.unwrap();
        let drain = Drain::new(&draining);
        let session = serve_viewer(ours, Bytes::new(), viewer, meter, drain, Guard::never());
        // The client closes its side when it has read all, which ends the session before its timeout.
        let client = async move {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        };
        let began = tokio::time::Instant::now();
        let ((), received) = tokio::join!(session, client);
        assert!(began.elapsed() < CLOSE_TIMEOUT);
        let heard = heard.lock().clone();
        (received, heard)
    }

    fn chunk(header: &[&'static str], text: &'static str, is_new_header: bool) -> Item {
        let content = |text: &'static str| Content::Binary(Bytes::from(text).into());
        Item::Chunk(Chunk {
            lane: 0,
            rule: LaneRule::default(),
            at: Duration::ZERO,
            published: None,
            starts_group: true,
            restarts: false,
            sample: None,
            header: Arc::new(Header::new(header.iter().copied().map(content).collect())),
            is_new_header,
            piece: Arc::new(Piece::new(content(text))),
        })
    }

    /// A frame with a short payload (RFC 6455 5.2), as the server sends it.
    fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[head, length], payload].concat()
    }

    /// A text frame of a client, masked with zeros.
    fn text(text: &str) -> Vec<u8> {
        let length = 0x80 | u8::try_from(text.len()).unwrap();
        [&[0x81, length, 0, 0, 0, 0], text.as_bytes()].concat()
    }

    fn close(code: u16, reason: &str) -> Vec<u8> {
        frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    #[tokio::test]
    async fn items_are_frames_in_order_and_a_header_is_sent_where_it_is_new() {
        let items = vec![
            Item::Message(Content::Text("hello".into())),
            chunk(&["h1", "h2"], "a", true),
            chunk(&["h1", "h2"], "b", false),
            Item::Close(Closing::Ended("over".into())),
        ];
        let (received, _) = served(items, &[]).await;
        let expected = [
            frame(0x81, b"hello"),
            frame(0x82, b"h1"),
            frame(0x82, b"h2"),
            frame(0x82, b"a"),
            frame(0x82, b"b"),
            close(1001, "over"),
        ];
        assert_eq!(received, expected.concat());
    }

    #[tokio::test]
    async fn every_way_to_end_has_its_close_code() {
        for (closing, expected) in [
            (Closing::Requested("bye".into()), close(1000, "bye")),
            (
                Closing::Dropped,
                close(1008, "the transport dropped this viewer"),
            ),
            (Closing::Ended("over".into()), close(1001, "over")),
        ] {
            let (received, _) = served(vec![Item::Close(closing)], &[]).await;
            assert_eq!(received, expected);
        }
    }

    #[tokio::test]
    async fn messages_reach_the_transport_until_it_takes_no_more() {
        let sent = [text("one"), text("two"), text("three")].concat();
        let (received, heard) = served(Vec::new(), &sent).await;
        assert_eq!(received, close(1013, "too many"));
        let heard: Vec<_> = heard
            .iter()
            .map(|content| match content {
                Content::Text(text) => text.to_string(),
                Content::Binary(_) => panic!("{content:?}"),
            })
            .collect();
        assert_eq!(heard, ["one", "two"]);
    }
}
