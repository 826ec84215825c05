//! Bodies of responses: whole ones, and one that goes on as long as somebody watches.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sluicegate_media::buffer::Buffer;
use sluicegate_plugin::{Effect, muxer::Viewing};
use sluicegate_viewer::{Carrier, Meter, Next, Piece, Place};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
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

/// A viewer over plain HTTP: chunks as they come, one at a time, so that the newest counts when the socket is slow.
#[derive(Debug)]
pub struct ViewerBody {
    viewing: Viewing,
    meter: Meter,
    /// Kept for as long as it watches.
    _place: Place,
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
        mut viewing: Viewing,
        place: Place,
        asked: Instant,
        pace: Option<Duration>,
    ) -> ViewerBody {
        let first = std::mem::take(&mut viewing.first);
        let mut body = ViewerBody {
            viewing,
            meter: place.meter(asked),
            _place: place,
            queue: VecDeque::new(),
            pace: pace.map(Pace::new),
            ended: false,
        };
        for effect in first {
            body.apply(effect);
        }
        body
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Send(content) => self
                .queue
                .extend(Piece::new(content).wire(Carrier::Http).iter().cloned()),
            Effect::Lanes(lanes) => self.viewing.cursor.choose(&lanes),
            // The muxer has kept it.
            Effect::Keyframe => {}
            Effect::Close(_) => self.ended = true,
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
            match this.viewing.effects.poll_recv(context) {
                Poll::Ready(Some(effect)) => {
                    this.apply(effect);
                    continue;
                }
                Poll::Ready(None) => this.ended = this.viewing.outlet().closed().is_none(),
                Poll::Pending => {}
            }
            if let Some(pace) = &mut this.pace
                && !this.ended
                && pace.due.as_mut().poll(context).is_pending()
            {
                return Poll::Pending;
            }
            let muxer = this.viewing.muxer().clone();
            match muxer
                .outlet
                .poll_take(context, &mut this.viewing.cursor, 1, &mut this.queue)
            {
                Poll::Pending if this.ended => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Next::Closed(_)) => this.ended = true,
                Poll::Ready(Next::Taken(taken)) => {
                    if let Some(pace) = &mut this.pace {
                        pace.taken();
                    }
                    this.meter.took(&taken);
                }
            }
        }
    }
}
