//! What a client sends in a session: datagrams, and the streams that it opens.
//!
//! A stream is passed on whole, up to the size of a message, or piece by piece where the transport asks for that. A
//! bidirectional one can be answered. Reading pauses while what was read is not taken.

use crate::serving::{Close, MAX_MESSAGE_BYTES};
use bytes::BytesMut;
use quinn::VarInt;
use sluicegate_viewer::{ClientStreamData, FromClient};
use std::task::{Context, Poll};
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

/// Reads what the client sends, until it is dropped.
pub(super) struct Input {
    events: mpsc::Receiver<Event>,
    /// A task of its own, so that the session's, which wakes for every frame, does not ask the connection each time.
    _receives: JoinSet<()>,
}

impl Input {
    /// Reads from this session; `in_pieces` says that data of streams is passed on as it arrives.
    pub(super) fn new(connection: Connection, in_pieces: bool) -> Input {
        let (sender, events) = mpsc::channel(WAITING);
        let mut receives = JoinSet::new();
        receives.spawn(receive(connection, in_pieces, sender));
        Input {
            events,
            _receives: receives,
        }
    }

    pub(super) fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        let event = self.events.poll_recv(context);
        event.map(|event| event.unwrap_or(Event::Gone))
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
        let start = ClientStreamData {
            id,
            bidirectional,
            data: BytesMut::new().freeze().into(),
            last: false,
        };
        reading.spawn(read(stream, start, in_pieces, events.clone()));
    }
}

/// Reads a stream to its end. Of one that the client resets, nothing more is passed on.
async fn read(
    mut stream: RecvStream,
    mut next: ClientStreamData,
    in_pieces: bool,
    events: mpsc::Sender<Event>,
) {
    let mut whole = BytesMut::new();
    loop {
        let Ok(chunk) = stream.quic_stream_mut().read_chunk(PIECE, true).await else {
            return;
        };
        next.last = chunk.is_none();
        let data = chunk.map(|chunk| chunk.bytes).unwrap_or_default();
        if in_pieces {
            next.data = data.into();
        } else if whole.len() + data.len() > MAX_MESSAGE_BYTES {
            let _ = stream.quic_stream_mut().stop(VarInt::from_u32(0));
            let _ = events.send(Event::Refused(Close::too_large())).await;
            return;
        } else {
            whole.extend_from_slice(&data);
            if !next.last {
                continue;
            }
            next.data = whole.split().freeze().into();
        }
        let sent = FromClient::Stream(next.clone());
        if events.send(Event::Sent(sent)).await.is_err() || next.last {
            return;
        }
    }
}
