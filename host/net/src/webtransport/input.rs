//! What a client sends in a session: datagrams, and the streams that it opens.
//!
//! A stream is passed on whole, up to the size of a message, or piece by piece where the transport asks for that. A
//! bidirectional one can be answered. Reading pauses while what was read is not taken, and while others are read that
//! are large.

use crate::serving::{Close, MAX_MESSAGE_BYTES};
use bytes::BytesMut;
use quinn::VarInt;
use sluicegate_viewer::{ClientStreamData, FromClient};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use wtransport::{Connection, RecvStream, SendStream};

/// Events that wait to be taken.
const WAITING: usize = 4;
/// Largest piece of a stream that is read at a time, in bytes.
const PIECE: usize = 4 << 10;
/// Streams of which more than a piece is held, since they are passed on whole. The others wait in QUIC.
const MAX_LARGE_STREAMS: usize = 2;
/// A stream that is passed on whole and brings nothing for this long is stopped.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that happened on the client's side.
#[derive(Debug)]
pub(super) enum Event {
    /// It sent this.
    Sent(FromClient),
    /// It opened the bidirectional stream of this number, which can be answered here.
    Opened(u64, SendStream),
    /// Nothing more of the stream of this number is passed on: it was reset, or stopped here.
    Abandoned(u64),
    /// The session has to end so.
    Refused(Close),
    /// The connection is lost or closed.
    Gone,
}

/// Reads what the client sends, while it is polled.
pub(super) struct Input {
    receive: Pin<Box<dyn Future<Output = ()> + Send>>,
    events: mpsc::Receiver<Event>,
}

impl Input {
    /// Reads from this session; `in_pieces` says that data of streams is passed on as it arrives.
    pub(super) fn new(connection: Connection, in_pieces: bool) -> Input {
        let (sender, events) = mpsc::channel(WAITING);
        Input {
            receive: Box::pin(receive(connection, in_pieces, sender)),
            events,
        }
    }

    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        if let Poll::Ready(event) = self.events.poll_recv(context) {
            return Poll::Ready(event.unwrap_or(Event::Gone));
        }
        if self.receive.as_mut().poll(context).is_ready() {
            return Poll::Ready(Event::Gone);
        }
        // It may have made an event, for which it did not wake this task.
        let made = self.events.poll_recv(context);
        made.map(|event| event.unwrap_or(Event::Gone))
    }
}

/// Ends when the connection does. The number of streams that are read at a time is bounded by the limit of QUIC.
async fn receive(connection: Connection, in_pieces: bool, events: mpsc::Sender<Event>) {
    let mut reading = JoinSet::new();
    let large = Arc::new(Semaphore::new(MAX_LARGE_STREAMS));
    loop {
        let (id, bidirectional, stream) = tokio::select! {
            _ = connection.closed() => return,
            datagram = connection.receive_datagram() => {
                let Ok(datagram) = datagram else { return };
                let sent = FromClient::Datagram(datagram.payload().into());
                let _ = events.send(Event::Sent(sent)).await;
                continue;
            }
            stream = connection.accept_uni() => {
                let Ok(stream) = stream else { return };
                (stream.id().into_u64(), false, stream)
            }
            streams = connection.accept_bi() => {
                let Ok((sender, stream)) = streams else { return };
                let id = stream.id().into_u64();
                let _ = events.send(Event::Opened(id, sender)).await;
                (id, true, stream)
            }
            Some(_) = reading.join_next() => continue,
        };
        let start = ClientStreamData {
            id,
            bidirectional,
            data: BytesMut::new().freeze().into(),
            last: false,
        };
        let events = events.clone();
        match in_pieces {
            true => reading.spawn(read_pieces(stream, start, events)),
            false => reading.spawn(read_whole(stream, start, large.clone(), events)),
        };
    }
}

/// Passes on a stream piece by piece.
async fn read_pieces(
    mut stream: RecvStream,
    mut next: ClientStreamData,
    events: mpsc::Sender<Event>,
) {
    while !next.last {
        let Ok(chunk) = stream.quic_stream_mut().read_chunk(PIECE, true).await else {
            let _ = events.send(Event::Abandoned(next.id)).await;
            return;
        };
        next.last = chunk.is_none();
        next.data = chunk.map(|chunk| chunk.bytes).unwrap_or_default().into();
        let sent = FromClient::Stream(next.clone());
        if events.send(Event::Sent(sent)).await.is_err() {
            return;
        }
    }
}

/// Passes on a stream when it has ended.
async fn read_whole(
    mut stream: RecvStream,
    mut next: ClientStreamData,
    large: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
) {
    let (mut whole, mut place) = (BytesMut::new(), None);
    loop {
        let reading = stream.quic_stream_mut().read_chunk(PIECE, true);
        let Ok(Ok(chunk)) = timeout(READ_TIMEOUT, reading).await else {
            let _ = stream.quic_stream_mut().stop(VarInt::from_u32(0));
            let _ = events.send(Event::Abandoned(next.id)).await;
            return;
        };
        let Some(chunk) = chunk else { break };
        let length = whole.len() + chunk.bytes.len();
        if length > MAX_MESSAGE_BYTES {
            let _ = stream.quic_stream_mut().stop(VarInt::from_u32(0));
            let _ = events.send(Event::Refused(Close::too_large())).await;
            return;
        }
        if length > PIECE && place.is_none() {
            place = large.acquire().await.ok();
        }
        whole.extend_from_slice(&chunk.bytes);
    }
    next.last = true;
    next.data = whole.freeze().into();
    let _ = events.send(Event::Sent(FromClient::Stream(next))).await;
}
