//! One WebSocket viewer: chunks down, messages up, a clean close at the end.

use super::{super::Drain, Close, Event, Reader, close_frame, pong_frame};
use crate::{
    plugin::{Effect, muxer::Viewing},
    viewer::{Carrier, Content, Meter, Next, Piece},
};
use bytes::{Buf, Bytes};
use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

/// Bytes taken from the ring for one write; enough to be worth a system call, small enough to jump soon when slow.
const BATCH: usize = 64 << 10;
/// Runs of bytes in one vectored write.
const SLICES: usize = 32;
/// A viewer that takes nothing for this long is let go.
const STALLED: Duration = Duration::from_secs(60);
/// How long a closing viewer may take for what is on its way, and for its own close.
const CLOSING: Duration = Duration::from_secs(3);
/// Answers to pings that may wait; a client that sends more without reading is cut off.
const MOST_CONTROL: usize = 64;

/// What ends a session.
enum End {
    /// Tell the client and go.
    Close(Close),
    /// The client closed: answer and go.
    Answered(Close),
    /// The socket is gone.
    Gone,
}

/// Serves the viewer until it leaves, the muxer ends or the gateway drains.
pub async fn run<S>(socket: S, first: Bytes, mut viewing: Viewing, meter: Meter, mut drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut input, output) = tokio::io::split(socket);
    let mut reader = Reader::default();
    reader.buffer().extend_from_slice(&first);
    let mut writer = Writer {
        output,
        queue: VecDeque::new(),
        flushed: true,
        control: 0,
        meter,
    };
    let end = converse(
        &mut input,
        &mut reader,
        &mut writer,
        &mut viewing,
        &mut drain,
    )
    .await;
    // The guest need not hear of the farewell.
    drop(viewing);
    farewell(end, &mut input, &mut reader, &mut writer).await;
}

async fn converse<R, W>(
    input: &mut R,
    reader: &mut Reader,
    writer: &mut Writer<W>,
    viewing: &mut Viewing,
    drain: &mut Drain,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    for effect in std::mem::take(&mut viewing.first) {
        if let Some(end) = apply(effect, viewing, writer) {
            return end;
        }
    }
    let muxer = viewing.muxer().clone();
    let mut progress = Instant::now();
    let mut guided = true;
    let mut fresh = VecDeque::new();
    loop {
        loop {
            match reader.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    if let Some(end) = hear(event, viewing, writer) {
                        return end;
                    }
                }
                Err(close) => return End::Close(close),
            }
        }
        let idle = writer.is_idle();
        if idle {
            progress = Instant::now();
        }
        tokio::select! {
            biased;
            wrote = writer.write(), if !idle => match wrote {
                Ok(()) => progress = Instant::now(),
                Err(_) => return End::Gone,
            },
            read = input.read_buf(reader.buffer()) => match read {
                Ok(0) | Err(_) => return End::Gone,
                Ok(_) => {}
            },
            effect = viewing.effects.recv(), if guided => match effect {
                Some(effect) => if let Some(end) = apply(effect, viewing, writer) { return end; },
                // The muxer ended; its last chunks are still to be sent.
                None if muxer.outlet.closed().is_some() => guided = false,
                None => return End::Close(Close::new(1008, "the transport let go of this viewer")),
            },
            next = poll_fn(|context| muxer.outlet.poll_take(context, &mut viewing.cursor, BATCH, &mut fresh)), if idle => match next {
                Next::Taken(taken) => {
                    writer.meter.took(&taken);
                    std::mem::swap(&mut writer.queue, &mut fresh);
                }
                Next::Closed(reason) => return End::Close(Close::new(1001, &*reason)),
            },
            () = drain.wait(), if idle && muxer.outlet.closed().is_none() => {
                // The muxer ends too and may have last chunks; without one, this is the end.
                return End::Close(Close::new(1001, "the gateway is shutting down"));
            }
            () = tokio::time::sleep_until(progress + STALLED), if !idle => return End::Gone,
        }
    }
}

fn hear<W>(event: Event, viewing: &Viewing, writer: &mut Writer<W>) -> Option<End> {
    match event {
        Event::Ping(payload) => {
            writer.control += 1;
            if writer.control > MOST_CONTROL {
                return Some(End::Gone);
            }
            writer.queue.push_back(pong_frame(&payload));
            None
        }
        Event::Pong => None,
        Event::Close(close) => {
            let code = close.map_or(1000, |close| close.code);
            Some(End::Answered(Close::new(code, "")))
        }
        Event::Text(text) => refused(viewing.message(Content::Text(text.into()))),
        Event::Binary(data) => refused(viewing.message(Content::Binary(data.into()))),
    }
}

fn refused(sent: Result<(), crate::plugin::muxer::Refusal>) -> Option<End> {
    sent.err()
        .map(|refusal| End::Close(Close::new(1013, refusal.to_string())))
}

fn apply<W>(effect: Effect, viewing: &mut Viewing, writer: &mut Writer<W>) -> Option<End> {
    match effect {
        Effect::Send(content) => {
            writer
                .queue
                .extend(Piece::new(content).wire(Carrier::WebSocket).iter().cloned());
            None
        }
        Effect::Lanes(lanes) => {
            viewing.cursor.choose(&lanes);
            None
        }
        // The muxer has kept it.
        Effect::Keyframe => None,
        Effect::Close(reason) => Some(End::Close(Close::new(1000, reason))),
    }
}

/// Writes what is under way and the close frame, and waits a little for the client's (RFC 6455 7.1.1).
async fn farewell<R, W>(end: End, input: &mut R, reader: &mut Reader, writer: &mut Writer<W>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (close, answered) = match end {
        End::Close(close) => (close, false),
        End::Answered(close) => (close, true),
        End::Gone => return,
    };
    writer.queue.push_back(close_frame(&close));
    let deadline = Instant::now() + CLOSING;
    let said = timeout_at(deadline, async {
        while !writer.is_idle() {
            writer.write().await?;
        }
        writer.output.shutdown().await
    });
    if !matches!(said.await, Ok(Ok(()))) || answered {
        return;
    }
    let _ = timeout_at(deadline, async {
        loop {
            match reader.next_event() {
                Ok(Some(Event::Close(_))) | Err(_) => return,
                Ok(Some(_)) => {}
                Ok(None) => {
                    if !matches!(input.read_buf(reader.buffer()).await, Ok(1..)) {
                        return;
                    }
                }
            }
        }
    })
    .await;
}

/// Bytes on their way to the socket. `write` may be dropped at any await without losing its place.
struct Writer<W> {
    output: W,
    queue: VecDeque<Bytes>,
    /// Nothing is left in the socket's own buffer either, which TLS has.
    flushed: bool,
    /// Control frames put into the queue since it was last empty.
    control: usize,
    meter: Meter,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flushed
    }

    async fn write(&mut self) -> io::Result<()> {
        if !self.queue.is_empty() {
            self.write_some().await?;
        }
        if self.queue.is_empty() {
            self.control = 0;
            self.output.flush().await?;
            self.flushed = true;
        }
        Ok(())
    }

    async fn write_some(&mut self) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.queue.len().min(SLICES);
        for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(bytes);
        }
        let wrote = self.output.write_vectored(&slices[..count]).await?;
        if wrote == 0 {
            return Err(io::ErrorKind::WriteZero.into());
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
        self.meter
            .wrote(wrote, self.queue.is_empty(), std::time::Instant::now());
        Ok(())
    }
}
