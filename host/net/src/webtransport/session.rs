//! Serves one viewer over a WebTransport session: groups, datagrams and messages down, datagrams and streams up, and a
//! clean end.
//!
//! It takes chunks from the viewer's [`Delivery`] while little of them waits here, and gives them to QUIC in the order
//! of [`Streams`], as much as the path needs. So a slow viewer's data stays in the outlet, where the viewer can jump to
//! a newer start point, and one that never reads holds a bounded number of references to chunks. Runs as one task per
//! viewer.

use super::{
    datagrams::{DatagramLimit, Situation},
    input::{Event, Input},
    request::Session,
    streams::{Kind, Stream, StreamEncoding, Streams},
};
use crate::{
    Drain, Guard,
    limiter::Permit,
    quic::{DATAGRAM_SEND_BUFFER, Path, SEND_WINDOW},
    serving::{CLOSE_TIMEOUT, Close, WriteTimer, pass_on},
};
use bytes::{Bytes, BytesMut};
use quinn::{ConnectionError, VarInt, WriteError};
use sluicegate_viewer::{Chunk, Delivery, FromClient, Item, Meter, Want};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use wtransport::proto::{datagram::Datagram, ids::QStreamId, stream_header::StreamHeader};

/// Bytes taken from the outlet at a time.
const BATCH: usize = 64 << 10;
/// Bytes that may wait here; beyond, chunks stay in the outlet, except where the viewer restarts: a client that does
/// not read one stream may read the next. Beyond the second limit those stay there, too.
const MAX_QUEUED: usize = 256 << 10;
const MAX_QUEUED_BY_RESTARTS: usize = 1 << 20;
/// Buffers given to QUIC at a time.
const BUFFERS: usize = 32;
/// Least and most that QUIC may hold, sent or not, until it is acknowledged, in bytes. Before it has once not taken
/// everything, that is [`SEND_WINDOW`].
const MIN_SEND_WINDOW: u64 = 16 << 10;
const MAX_SEND_WINDOW: u64 = 8 << 20;
/// What QUIC may hold beyond its congestion window, so that it always has something to send: a part of that window, and
/// so many bytes.
const UNSENT_SHARE: u64 = 4;
const UNSENT: u64 = 4 << 10;
/// How much longer than two round trips the last part of a group may need until it is acknowledged.
const ACKNOWLEDGED: Duration = Duration::from_millis(100);

/// Code of a stream that is given up (draft-ietf-webtrans-http3 section 4.4): 0 of the application's codes.
const GIVEN_UP: u64 = 0x52e4_a40f_a8db;

/// Serves the viewer until it leaves, the muxer ends, its permission is taken away or the gateway shuts down. `in_pieces`
/// says that the transport takes data of client streams as it arrives.
pub async fn serve_viewer(
    session: Session,
    mut viewer: impl Delivery,
    meter: Meter,
    in_pieces: bool,
    mut drain: Drain,
    mut guard: Guard,
) {
    let mut wire = Wire::new(session, meter, in_pieces);
    let end = handle_session(&mut wire, &mut viewer, &mut drain, &mut guard).await;
    // The viewer leaves the muxer before the rest is acknowledged.
    drop(viewer);
    wire.close(end).await;
}

/// How a session ends.
enum End {
    /// The client gets what is left, then this close.
    Close(Close),
    /// The client reads nothing, or shall get nothing more.
    CloseNow(Close),
    /// The connection is lost, or was closed by the client.
    Gone,
}

async fn handle_session(
    wire: &mut Wire,
    viewer: &mut impl Delivery,
    drain: &mut Drain,
    guard: &mut Guard,
) -> End {
    poll_fn(|context| {
        if guard.poll(context).is_ready() {
            return Poll::Ready(End::CloseNow(Close::revoked()));
        }
        while let Poll::Ready(event) = wire.input.poll_event(context) {
            let close = match event {
                Event::Sent(sent) => {
                    if let FromClient::Stream(data) = &sent
                        && data.last
                    {
                        wire.streams.client_finished(data.id, Instant::now());
                    }
                    pass_on(sent, viewer)
                }
                Event::Opened(id, sender) => {
                    sender.set_priority(Kind::Reply(id).priority());
                    wire.streams.add_client_stream(id, Sender::Client(sender));
                    None
                }
                Event::Abandoned(id) => {
                    wire.streams.abandon_client_stream(id);
                    wire.reset_given_up();
                    None
                }
                Event::Refused(close) => Some(close),
                Event::Gone => return Poll::Ready(End::Gone),
            };
            if let Some(close) = close {
                return Poll::Ready(End::Close(close));
            }
        }
        loop {
            match wire.poll_write(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Lost)) => return Poll::Ready(End::Gone),
                Poll::Pending => {
                    if wire.timer.poll_stalled(context).is_ready() {
                        let close = Close::new(1008, "the client has stopped reading");
                        return Poll::Ready(End::CloseNow(close));
                    }
                }
            }
            let queued = wire.streams.queued();
            let want = if queued < MAX_QUEUED {
                Want::All(BATCH)
            } else if queued < MAX_QUEUED_BY_RESTARTS {
                Want::Restarts(BATCH)
            } else {
                Want::Messages
            };
            if wire.streams.messages().has_room()
                && let Poll::Ready(taken) = viewer.poll_next(context, want, &mut wire.items)
            {
                wire.meter.count_chunks(&taken);
                if let Some(close) = wire.add_items() {
                    return Poll::Ready(End::Close(close));
                }
                continue;
            }
            if drain.poll(context).is_pending() {
                return Poll::Pending;
            }
            // The muxer ends on shutdown, too, and may have last chunks. If it has not ended, this is the end.
            if wire.streams.is_idle() && !viewer.has_ended() {
                return Poll::Ready(End::Close(Close::shutting_down()));
            }
            if !wire.timer.shorten() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// The connection is lost.
struct Lost;

/// The sending end of a stream.
enum Sender {
    Own(quinn::SendStream),
    /// Of a stream that the client has opened.
    Client(wtransport::SendStream),
}

impl Sender {
    fn quic(&mut self) -> &mut quinn::SendStream {
        match self {
            Sender::Own(stream) => stream,
            Sender::Client(stream) => stream.quic_stream_mut(),
        }
    }

    fn reset(&mut self) {
        // Fails if it is over.
        let _ = VarInt::from_u64(GIVEN_UP).map(|code| self.quic().reset(code));
    }

    /// Whether the client has acknowledged all of it: QUIC does not know the stream any more. To wait for that, even
    /// once, would leave something behind in the connection if the stream is reset.
    fn is_acknowledged(&mut self) -> bool {
        self.quic().priority().is_err()
    }
}

type Opening = Pin<Box<dyn Future<Output = Result<quinn::SendStream, ConnectionError>> + Send>>;

/// The session with what waits to be sent.
struct Wire {
    session: wtransport::Connection,
    path: Arc<Path>,
    input: Input,
    streams: Streams<Sender>,
    datagrams: DatagramLimit,
    /// Bytes before the content of each datagram.
    datagram_header: usize,
    /// Waits until the client permits another stream.
    opening: Option<Opening>,
    /// Empty except while items are added to the streams.
    items: VecDeque<Item>,
    /// What QUIC may hold, in bytes.
    window: u64,
    timer: WriteTimer,
    meter: Meter,
    _permit: Permit,
}

impl Wire {
    fn new(session: Session, meter: Meter, in_pieces: bool) -> Wire {
        let Session {
            connection: session,
            path,
            permit,
        } = session;
        Wire {
            input: Input::new(session.clone(), in_pieces),
            streams: Streams::new(prefix(&session)),
            datagrams: DatagramLimit::default(),
            datagram_header: Datagram::header_size(QStreamId::from_session_id(
                session.session_id(),
            )),
            session,
            path,
            opening: None,
            window: SEND_WINDOW,
            items: VecDeque::new(),
            timer: WriteTimer::new(),
            meter,
            _permit: permit,
        }
    }

    fn quic(&self) -> &quinn::Connection {
        self.session.quic_connection()
    }

    /// Adds the items to the streams, or sends them as datagrams; returns the end if it is among them.
    fn add_items(&mut self) -> Option<Close> {
        self.streams.finish_unanswered(Instant::now());
        self.streams.remove_done(Sender::is_acknowledged);
        while let Some(item) = self.items.pop_front() {
            match item {
                Item::Chunk(chunk) => self.add_chunk(&chunk),
                Item::Message(content) => {
                    if !self.streams.add_message(&content) {
                        let reason = "the client does not acknowledge messages";
                        return Some(Close::new(1008, reason));
                    }
                }
                Item::StreamHead { lane, bytes } => self.streams.set_head(lane, bytes),
                Item::Reply { stream, data, last } => self.streams.add_reply(stream, &data, last),
                Item::Close(closing) => return Some(closing.into()),
            }
        }
        self.reset_given_up();
        None
    }

    fn reset_given_up(&mut self) {
        for mut stream in self.streams.take_given_up() {
            stream.sender.iter_mut().for_each(Sender::reset);
        }
        self.meter.jumped(self.streams.take_jumps());
    }

    fn add_chunk(&mut self, chunk: &Chunk) {
        if chunk.rule.datagrams && self.send_datagram(chunk) {
            return;
        }
        // Something is given up only where a stream begins, and to ask QUIC costs a lock.
        let under_way = match chunk.starts_group || chunk.rule.datagrams {
            true => 2 * self.quic().rtt() + ACKNOWLEDGED,
            false => Duration::ZERO,
        };
        self.streams.add_chunk(chunk, under_way);
    }

    /// Sends the chunk as a datagram, or drops it where the path does not carry it soon. Returns false if it does not
    /// fit into one.
    fn send_datagram(&mut self, chunk: &Chunk) -> bool {
        let length = chunk.piece.content().len();
        let whole = length + self.datagram_header;
        // The client may permit less than the header needs.
        let is_too_large = |most: usize| whole > most;
        if self.quic().max_datagram_size().is_none_or(is_too_large) {
            return false;
        }
        let space = self.quic().datagram_send_buffer_space();
        let path = self.quic().stats().path;
        let situation = Situation {
            now: Instant::now(),
            round_trip: path.rtt,
            window: path.cwnd,
            // QUIC counts each one with its handle.
            waiting: (DATAGRAM_SEND_BUFFER - size_of::<Bytes>()).saturating_sub(space),
            streams_wait: !self.streams.is_idle(),
        };
        if whole > space || !self.datagrams.admits(whole, &situation) {
            self.meter.jumped(1);
            return true;
        }
        let mut bytes = BytesMut::with_capacity(length);
        for part in chunk.piece.encoded::<StreamEncoding>() {
            bytes.extend_from_slice(part);
        }
        let sent = self.session.send_datagram(bytes).is_ok();
        if sent {
            self.meter.completed(length, chunk.published, situation.now);
        }
        sent
    }

    /// Gives to QUIC what it takes. Ready when it has everything.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        self.streams.unblock();
        // Whether the client permits another stream.
        let mut may_open = true;
        let mut is_adapted = false;
        while let Some((at, stream)) = self.streams.next(may_open) {
            if stream.sender.is_none() {
                let opened = poll_open(&mut self.opening, self.session.quic_connection(), context);
                match opened {
                    Poll::Ready(Ok(sender)) => open(stream, sender),
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Lost)),
                    Poll::Pending => {
                        may_open = false;
                        continue;
                    }
                }
            }
            let ends = stream.is_to_finish();
            let (mut buffers, count) = stream.first_buffers::<BUFFERS>();
            let Some(sender) = stream.sender.as_mut().map(Sender::quic) else {
                self.streams.block(at);
                continue;
            };
            if ends {
                // Fails only if the client has stopped it.
                let _ = sender.finish();
                stream.finished = true;
                self.timer.progressed();
                continue;
            }
            let write = pin!(sender.write_chunks(&mut buffers[..count])).poll(context);
            match write {
                Poll::Ready(Ok(written)) => {
                    let completed = self.streams.taken(at, written.bytes);
                    self.timer.progressed();
                    self.meter
                        .completed(written.bytes, completed, Instant::now());
                }
                Poll::Ready(Err(WriteError::Stopped(_) | WriteError::ClosedStream)) => {
                    stream.sender.iter_mut().for_each(Sender::reset);
                    self.streams.cancel(at);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Lost)),
                // Once for all streams, which share the window.
                Poll::Pending if !is_adapted && self.adapt_window() => is_adapted = true,
                Poll::Pending => self.streams.block(at),
            }
        }
        self.path.set_unsent(self.streams.queued());
        self.meter.set_stalled_since(self.streams.waits_since());
        match self.streams.is_idle() {
            true => {
                self.timer.progressed();
                Poll::Ready(Ok(()))
            }
            false => Poll::Pending,
        }
    }

    /// Lets QUIC hold what its congestion window and a little more needs: enough to use the path, and not so much that
    /// newer data waits behind it. Returns whether that is more than before.
    fn adapt_window(&mut self) -> bool {
        let window = send_window(self.quic().stats().path.cwnd);
        let before = std::mem::replace(&mut self.window, window);
        if window != before {
            self.quic().set_send_window(window);
        }
        window > before
    }

    /// Ends the session, unless it is lost.
    async fn close(mut self, end: End) {
        let close = match end {
            End::Close(close) => {
                let _ = timeout(CLOSE_TIMEOUT, self.deliver_rest()).await;
                close
            }
            End::CloseNow(close) => close,
            End::Gone => return,
        };
        let code = VarInt::from_u32(close.code.into());
        self.quic().close(code, close.reason.as_bytes());
    }

    /// Returns when the client has acknowledged everything.
    async fn deliver_rest(&mut self) {
        self.streams.end();
        if poll_fn(|context| self.poll_write(context)).await.is_ok() {
            for sender in self.streams.senders() {
                let _ = sender.quic().stopped().await;
            }
        }
    }
}

/// What QUIC may hold with this congestion window.
fn send_window(congestion: u64) -> u64 {
    let needed = congestion.saturating_add(congestion / UNSENT_SHARE + UNSENT);
    needed.clamp(MIN_SEND_WINDOW, MAX_SEND_WINDOW)
}

/// What comes first on each stream of ours: its type and the session.
fn prefix(session: &wtransport::Connection) -> Bytes {
    let header = StreamHeader::new_webtransport(session.session_id());
    let mut prefix = Vec::new();
    // Fails only where there is no room, and a vector makes some.
    let _ = header.write(&mut prefix);
    prefix.into()
}

fn poll_open(
    opening: &mut Option<Opening>,
    connection: &quinn::Connection,
    context: &mut Context<'_>,
) -> Poll<Result<quinn::SendStream, ConnectionError>> {
    let waiting = opening.get_or_insert_with(|| {
        let connection = connection.clone();
        Box::pin(async move { connection.open_uni().await })
    });
    let opened = ready!(waiting.as_mut().poll(context));
    *opening = None;
    Poll::Ready(opened)
}

/// Lets the stream be sent there, by the importance of its lane.
fn open(stream: &mut Stream<Sender>, sender: quinn::SendStream) {
    // Fails only if the client has stopped it, which the first write finds.
    let _ = sender.set_priority(stream.kind.priority());
    stream.sender = Some(Sender::Own(sender));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quic_holds_little_more_than_is_on_its_way() {
        // 500 kbit/s with a round trip of 100 ms are 6 KB: what QUIC holds there delays newer data by 0.3 s.
        assert_eq!(send_window(6_000), 16 << 10);
        assert_eq!(send_window(40_000), 54_096);
        assert_eq!(send_window(1 << 20), (1 << 20) + (256 << 10) + (4 << 10));
        assert_eq!(send_window(u64::MAX), 8 << 20);
    }
}
