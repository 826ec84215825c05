//! The body of a response that goes on as long as somebody watches.

use crate::{
    plugin::{Effect, muxer::Viewing},
    viewer::{Carrier, Meter, Next, Piece, Place},
};
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

/// A viewer over plain HTTP: chunks as they come, one at a time, so that the newest counts when the socket is slow.
#[derive(Debug)]
pub struct ViewerBody {
    viewing: Viewing,
    meter: Meter,
    /// Kept for as long as it watches.
    _place: Place,
    queue: VecDeque<Bytes>,
    ended: bool,
}

impl ViewerBody {
    /// The body for a viewer that has joined, and whose request came at `asked`.
    pub fn new(mut viewing: Viewing, place: Place, asked: Instant) -> ViewerBody {
        let first = std::mem::take(&mut viewing.first);
        let mut body = ViewerBody {
            viewing,
            meter: place.meter(asked),
            _place: place,
            queue: VecDeque::new(),
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
            // No source of this version can be asked for one.
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
        loop {
            if let Some(bytes) = this.queue.pop_front() {
                this.meter
                    .wrote(bytes.len(), this.queue.is_empty(), Instant::now());
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
            let muxer = this.viewing.muxer().clone();
            match muxer
                .outlet
                .poll_take(context, &mut this.viewing.cursor, 1, &mut this.queue)
            {
                Poll::Pending if this.ended => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Next::Closed(_)) => this.ended = true,
                Poll::Ready(Next::Taken(taken)) => this.meter.took(&taken),
            }
        }
    }
}
