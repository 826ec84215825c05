//! A WebSocket of texts in both directions, for what is said about viewing rather than viewed.

use super::{super::Drain, Close, Event, Reader, close_frame, pong_frame};
use crate::viewer::{Carrier, Content, Piece};
use bytes::Bytes;
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

/// Texts that wait for a client that does not read; one more ends the talk.
const MOST_WAITING: usize = 256;
/// Messages a second, and at once, that are listened to; more end the talk.
const RATE: f64 = 20.0;
const BURST: f64 = 100.0;
/// A client that says nothing for this long is gone: it reports every second, or every few while its page is hidden.
const SILENCE: Duration = Duration::from_secs(90);
/// How long the farewell may take.
const CLOSING: Duration = Duration::from_secs(3);

/// The gateway's end of a talk.
pub trait Talk {
    /// A text came. The error is told to the client, and the talk ends.
    ///
    /// # Errors
    /// What is wrong with it.
    fn hear(&mut self, text: &str) -> Result<(), String>;

    /// What is to be said next; `None` ends the talk.
    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<Option<String>>;
}

enum Next {
    Heard(usize),
    Say(Option<String>),
    Drained,
    Silent,
    Wrote(std::io::Result<usize>),
}

/// Talks until the client leaves, has nothing to say for a while, or the gateway drains.
pub async fn talk<S>(mut socket: S, first: Bytes, ends: &mut impl Talk, mut drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut reader = Reader::default();
    reader.buffer().extend_from_slice(&first);
    let mut waiting: VecDeque<Bytes> = VecDeque::new();
    let mut left = BURST;
    let mut heard = Instant::now();
    let close = loop {
        match hear_all(&mut reader, ends, &mut waiting, &mut left) {
            Ok(()) => {}
            Err(close) => break close,
        }
        if waiting.len() > MOST_WAITING {
            return;
        }
        let silent = pin!(tokio::time::sleep_until(heard + SILENCE));
        let mut silent = silent;
        let next = poll_fn(|context| {
            if let Some(front) = waiting.front()
                && let Poll::Ready(wrote) = pin!(socket.write(front)).poll(context)
            {
                return Poll::Ready(Next::Wrote(wrote));
            }
            if let Poll::Ready(read) = pin!(socket.read_buf(reader.buffer())).poll(context) {
                return Poll::Ready(Next::Heard(read.unwrap_or(0)));
            }
            if let Poll::Ready(said) = ends.poll_say(context) {
                return Poll::Ready(Next::Say(said));
            }
            if drain.poll(context).is_ready() {
                return Poll::Ready(Next::Drained);
            }
            silent.as_mut().poll(context).map(|()| Next::Silent)
        })
        .await;
        match next {
            Next::Heard(0) | Next::Wrote(Err(_) | Ok(0)) => return,
            Next::Heard(_) => {
                let passed = heard.elapsed().as_secs_f64();
                left = (left + passed * RATE).min(BURST);
                heard = Instant::now();
            }
            Next::Wrote(Ok(wrote)) => {
                if let Some(front) = waiting.front_mut() {
                    let _ = front.split_to(wrote.min(front.len()));
                    if front.is_empty() {
                        waiting.pop_front();
                    }
                }
                if waiting.is_empty() && socket.flush().await.is_err() {
                    return;
                }
            }
            Next::Say(Some(text)) => {
                let piece = Piece::new(Content::Text(text.into()));
                waiting.extend(piece.wire(Carrier::WebSocket).iter().cloned());
            }
            Next::Say(None) => break Close::new(1000, "another player attends to this session"),
            Next::Drained => break Close::new(1001, "the gateway is shutting down"),
            Next::Silent => break Close::new(1008, "nothing was heard for too long"),
        }
    };
    let deadline = Instant::now() + CLOSING;
    let _ = timeout_at(deadline, async {
        waiting.push_back(close_frame(&close));
        for bytes in &waiting {
            socket.write_all(bytes).await?;
        }
        socket.shutdown().await
    })
    .await;
}

fn hear_all(
    reader: &mut Reader,
    ends: &mut impl Talk,
    waiting: &mut VecDeque<Bytes>,
    left: &mut f64,
) -> Result<(), Close> {
    while let Some(event) = reader.next_event()? {
        *left -= 1.0;
        if *left < 0.0 {
            return Err(Close::new(1008, "too many messages; report once a second"));
        }
        match event {
            Event::Ping(payload) => waiting.push_back(pong_frame(&payload)),
            Event::Pong => {}
            Event::Close(close) => {
                return Err(Close::new(close.map_or(1000, |close| close.code), ""));
            }
            Event::Binary(_) => return Err(Close::new(1003, "only texts are spoken here")),
            Event::Text(text) => ends
                .hear(&text)
                .map_err(|wrong| Close::new(1007, wrong.as_str()))?,
        }
    }
    Ok(())
}
