//! Bodies of responses: whole ones, and one that goes on as long as somebody watches.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sluicegate_media::buffer::Buffer;
use sluicegate_plugin::muxer::{Viewing, Want};
use sluicegate_viewer::{Content, Encoding, Item, Meter, Place, buffers};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::time::{self, Sleep, sleep};

/// A body that is all there, in shared runs of bytes.
#[derive(Debug, Default)]
pub struct WholeBody {
    parts: VecDeque<Bytes>,
    /// It stands for one that goes on: there is no length to tell.
    endless: bool,
}

impl WholeBody {
    /// Nothing, in the place of a body whose length nobody knows.
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

/// Content as a part of a response body. A body has no messages, so text has no place in it.
struct BodyEncoding;

impl Encoding for BodyEncoding {
    fn encode(content: &Content) -> Vec<Bytes> {
        match content {
            Content::Binary(payload) => buffers(&[], payload),
            Content::Text(_) => Vec::new(),
        }
    }
}

/// A viewer over plain HTTP: chunks as they come, one at a time, so that the newest counts when the socket is slow.
#[derive(Debug)]
pub struct ViewerBody {
    viewing: Viewing,
    meter: Meter,
    /// Kept for as long as it watches.
    _place: Place,
    /// Empty but while they are encoded.
    items: VecDeque<Item>,
    queue: VecDeque<Bytes>,
    pace: Option<Pace>,
    ended: bool,
}

/// Chunks at most this often; between them the viewer takes nothing, so that it then gets the newest.
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

    /// A chunk was taken: the next is due an interval after this one was, or after now if this one was late.
    fn taken(&mut self) {
        let now = time::Instant::now();
        let due = self.due.deadline() + self.interval;
        let due = if due > now { due } else { now + self.interval };
        self.due.as_mut().reset(due);
    }
}

impl ViewerBody {
    /// The body for a viewer that has joined, whose request came at `asked`, and who wants chunks no more often than
    /// every `pace`.
    pub fn new(
        viewing: Viewing,
        place: Place,
        asked: Instant,
        pace: Option<Duration>,
    ) -> ViewerBody {
        ViewerBody {
            viewing,
            meter: place.meter(asked),
            _place: place,
            items: VecDeque::new(),
            queue: VecDeque::new(),
            pace: pace.map(Pace::new),
            ended: false,
        }
    }

    /// Puts the items into the queue.
    fn encode(&mut self) {
        while let Some(item) = self.items.pop_front() {
            match item {
                Item::Chunk(chunk) => {
                    let header = chunk.header.iter().flat_map(|header| header.pieces());
                    for piece in header.chain([&*chunk.piece]) {
                        self.queue
                            .extend(piece.encoded::<BodyEncoding>().iter().cloned());
                    }
                }
                Item::Message(content) => self.queue.extend(BodyEncoding::encode(&content)),
                Item::Close(_) => self.ended = true,
            }
        }
    }
}

impl Body for ViewerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        // Who asks has got rid of what it had.
        this.meter.stuck(None);
        loop {
            if let Some(bytes) = this.queue.pop_front() {
                let now = Instant::now();
                this.meter.wrote(bytes.len(), this.queue.is_empty(), now);
                this.meter.stuck(Some(now));
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let due = match &mut this.pace {
                Some(pace) => pace.due.as_mut().poll(context).is_ready(),
                None => true,
            };
            let want = if due { Want::Chunks(1) } else { Want::Messages };
            let taken = ready!(this.viewing.poll_next(context, want, &mut this.items));
            if taken.chunks > 0
                && let Some(pace) = &mut this.pace
            {
                pace.taken();
            }
            this.meter.took(&taken);
            this.encode();
        }
    }
}
