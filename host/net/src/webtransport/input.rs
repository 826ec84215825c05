//! What a client sends in a session: datagrams, and the streams that it opens.
//!
//! A stream is passed on whole, up to the size of a message, or piece by piece where the transport asks for that. A
//! bidirectional one can be answered. Reading pauses while what was read is not taken.

use crate::serving::{Close, MAX_MESSAGE_BYTES};
use bytes::{Bytes, BytesMut};
use quinn::VarInt;
use sluicegate_viewer::{ClientStreamData, FromClient};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{sync::mpsc, task::JoinSet};
use wtransport::{Connection, RecvStream, SendStream};

/// Events that wait to be taken.
const WAITING: usize = 4;
/// Largest piece of a stream that is read at a time, in bytes.
const PIECE: usize = 16 << 10;

/// Something that happened on the client's side.
#[derive(Debug)]
pub(super) enum Event {
    /// It sent this.
    Sent(FromClient),
    /// It opened the bidirectional stream of this number, which can be answered here.
    Opened(u64, SendStream),
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
        let pieces = Pieces::new(id, bidirectional, in_pieces);
        reading.spawn(read(stream, pieces, events.clone()));
    }
}

/// Reads a stream to its end. Of one that the client resets, nothing more is passed on.
async fn read(mut stream: RecvStream, mut pieces: Pieces, events: mpsc::Sender<Event>) {
    loop {
        let Ok(chunk) = stream.quic_stream_mut().read_chunk(PIECE, true).await else {
            return;
        };
        let (event, ended) = match pieces.add(chunk.map(|chunk| chunk.bytes)) {
            Ok(None) => continue,
            Ok(Some(data)) => {
                let ended = data.last;
                (Event::Sent(FromClient::Stream(data)), ended)
            }
            Err(close) => {
                let _ = stream.quic_stream_mut().stop(VarInt::from_u32(0));
                (Event::Refused(close), true)
            }
        };
        if events.send(event).await.is_err() || ended {
            return;
        }
    }
}

/// Makes what is passed on of what arrives on a client's stream. Pure.
#[derive(Debug)]
pub struct Pieces {
    next: ClientStreamData,
    /// What has arrived, where the stream is passed on whole.
    whole: Option<BytesMut>,
}

impl Pieces {
    /// Nothing has arrived yet of the stream with this number; `in_pieces` says that its data is passed on as it
    /// arrives.
    pub fn new(id: u64, bidirectional: bool, in_pieces: bool) -> Pieces {
        Pieces {
            next: ClientStreamData {
                id,
                bidirectional,
                data: Bytes::new().into(),
                last: false,
            },
            whole: (!in_pieces).then(BytesMut::new),
        }
    }

    /// Adds what has arrived, `None` at the end; returns what is to be passed on now.
    ///
    /// # Errors
    /// A stream that is passed on whole has more than a message may have.
    pub fn add(&mut self, arrived: Option<Bytes>) -> Result<Option<ClientStreamData>, Close> {
        self.next.last = arrived.is_none();
        let arrived = arrived.unwrap_or_default();
        let Some(whole) = &mut self.whole else {
            self.next.data = arrived.into();
            return Ok(Some(self.next.clone()));
        };
        if whole.len() + arrived.len() > MAX_MESSAGE_BYTES {
            return Err(Close::too_large());
        }
        whole.extend_from_slice(&arrived);
        if !self.next.last {
            return Ok(None);
        }
        self.next.data = whole.split().freeze().into();
        Ok(Some(self.next.clone()))
    }
}
