//! Bodies of responses: [`WholeBody`] is complete from the start, [`ViewerBody`] streams a viewer's chunks as long as
//! the client reads; [`GuardedBody`] ends any of them when the permission is taken away.
//!
//! `ViewerBody` is the `http` carrier. hyper polls for the next part when the socket has room, so a slow client takes
//! fewer chunks from the outlet and jumps within its lag bound.

use crate::Guard;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sluicegate_media::buffer::Buffer;
use sluicegate_viewer::{Content, Delivery, Encoding, Item, Meter, Registration, Want, buffers};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{self, Sleep, sleep};

/// A complete body, as shared byte slices.
#[derive(Debug, Default)]
pub struct WholeBody {
    parts: VecDeque<Bytes>,
    /// It stands for a body of unknown length, so it reports no length.
    endless: bool,
}

impl WholeBody {
    /// An empty body in place of one of unknown length, for the answer to a HEAD request.
    pub fn endless() -> WholeBody {
        WholeBody {
            endless: true,
            ..WholeBody::default()
        }
    }
}

impl From<Bytes> for WholeBody {
    fn from(bytes: Bytes) -> Self {
        let some = (!bytes.is_empty()).then_some(bytes);
        WholeBody {
            parts: some.into_iter().collect(),
            endless: false,
        }
    }
}

impl From<&Buffer> for WholeBody {
    fn from(buffer: &Buffer) -> Self {
        WholeBody {
            parts: buffer.parts().iter().cloned().collect(),
            endless: false,
        }
    }
}

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.parts.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if self.endless {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.parts.iter().map(|bytes| bytes.len() as u64).sum())
    }
}

/// A body that ends when its [`Guard`] says so.
#[derive(Debug)]
pub struct GuardedBody<B> {
    body: B,
    guard: Option<Guard>,
}

impl<B> GuardedBody<B> {
    /// The body, with a guard unless it is complete from the start.
    pub fn new(body: B, guard: Option<Guard>) -> GuardedBody<B> {
        GuardedBody { body, guard }
    }
}

impl<B: Body + Unpin> Body for GuardedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        if let Some(guard) = &mut self.guard
            && guard.poll(context).is_ready()
        {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Encoding of content for a response body. A body has no messages, so text is left out.
struct BodyEncoding;

impl Encoding for BodyEncoding {
    fn encode(content: &Content) -> Vec<Bytes> {
        match content {
            Content::Binary(payload) => buffers(&[], payload),
            Content::Text(_) => Vec::new(),
        }
    }
}

/// A viewer over plain HTTP. It takes one chunk at a time, so that the newest counts when the socket is slow.
#[derive(Debug)]
pub struct ViewerBody<D> {
    viewer: D,
    meter: Meter,
    /// Registers the viewer for as long as the body exists.
    _place: Registration,
    /// Empty except while items are encoded.
    items: VecDeque<Item>,
    queue: VecDeque<Bytes>,
    pace: Option<Pace>,
    ended: bool,
}

/// Limits the rate of chunks. Between two of them the viewer takes none, so that it gets the newest when the next is
/// due.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    due: Pin<Box<Sleep>>,
}

impl Pace {
    fn new(interval: Duration) -> Pace {
        Pace {
            interval,
            due: Box::pin(sleep(Duration::ZERO)),
        }
    }

    /// Schedules the next chunk: one interval after this one was due, or after now if this one was late by more than
    /// that.
    fn taken(&mut self) {
        let now = time::Instant::now();
        let due = self.due.deadline() + self.interval;
        let due = if due > now { due } else { now + self.interval };
        self.due.as_mut().reset(due);
    }
}

impl<D: Delivery> ViewerBody<D> {
    /// The body for a viewer that has joined. `asked` is when its request arrived; `pace` is the shortest interval
    /// between chunks.
    pub fn new(
        viewer: D,
        place: Registration,
        asked: Instant,
        pace: Option<Duration>,
    ) -> ViewerBody<D> {
        ViewerBody {
            viewer,
            meter: place.meter(asked),
            _place: place,
            items: VecDeque::new(),
            queue: VecDeque::new(),
            pace: pace.map(Pace::new),
            ended: false,
        }
    }

    /// Encodes the items and moves them to the queue.
    fn encode(&mut self) {
        while let Some(item) = self.items.pop_front() {
            match item {
                Item::Chunk(chunk) => self.queue.extend(chunk.encoded::<BodyEncoding>().cloned()),
                Item::Message(content) => self.queue.extend(BodyEncoding::encode(&content)),
                // A body is one stream, and the client opens none.
                Item::StreamHead { .. } | Item::Reply { .. } => {}
                Item::Close(_) => self.ended = true,
            }
        }
    }
}

impl<D: Delivery + Unpin> Body for ViewerBody<D> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        // hyper polls again only when the previous part was written to the socket.
        this.meter.set_stalled_since(None);
        loop {
            if let Some(bytes) = this.queue.pop_front() {
                let now = Instant::now();
                this.meter.wrote(bytes.len(), this.queue.is_empty(), now);
                this.meter.set_stalled_since(Some(now));
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let due = match &mut this.pace {
                Some(pace) => pace.due.as_mut().poll(context).is_ready(),
                None => true,
            };
            let want = if due { Want::All(1) } else { Want::Messages };
            let taken = ready!(this.viewer.poll_next(context, want, &mut this.items));
            if taken.chunks > 0
                && let Some(pace) = &mut this.pace
            {
                pace.taken();
            }
            this.meter.chunks_taken(&taken);
            this.encode();
        }
    }
}
