//! What a client sends in a session: datagrams, and the streams that it opens.
//!
//! A stream is passed on whole, up to the size of a message, or piece by piece where the transport asks for that. A
//! bidirectional one can be answered. Reading pauses while what was read is not taken, and while others are read that
//! are large.

use crate::serving::{Close, MAX_MESSAGE_BYTES};
use bytes::{Bytes, BytesMut};
use quinn::VarInt;
use sluicegate_viewer::{ClientStreamData, FromClient};
use std::{
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
        let pieces = Pieces::new(id, bidirectional, in_pieces);
        reading.spawn(read(stream, pieces, large.clone(), events.clone()));
    }
}

/// Reads a stream to its end. Of one that the client resets, and of one that is passed on whole and stalls, nothing more
/// is passed on.
async fn read(
    mut stream: RecvStream,
    mut pieces: Pieces,
    large: Arc<Semaphore>,
    events: mpsc::Sender<Event>,
) {
    let mut place = None;
    loop {
        let reading = stream.quic_stream_mut().read_chunk(PIECE, true);
        let chunk = match pieces.whole {
            Some(_) => timeout(READ_TIMEOUT, reading).await.ok(),
            None => Some(reading.await),
        };
        let Some(Ok(chunk)) = chunk else {
            let _ = stream.quic_stream_mut().stop(VarInt::from_u32(0));
            let _ = events.send(Event::Abandoned(pieces.next.id)).await;
            return;
        };
        let arrived = chunk.map(|chunk| chunk.bytes);
        let held = pieces.held() + arrived.as_ref().map_or(0, Bytes::len);
        if held > PIECE && place.is_none() {
            place = large.acquire().await.ok();
        }
        let (event, ended) = match pieces.add(arrived) {
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

    /// Bytes that wait for the end of the stream.
    fn held(&self) -> usize {
        self.whole.as_ref().map_or(0, BytesMut::len)
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
