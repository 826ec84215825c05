//! A viewer that has joined a muxer, as its carrier sees it: one sequence of items.
//!
//! What a viewer gets comes from two places: the outlet's ring, which all viewers of the muxer share, and the queue of
//! effects, which the component has for this viewer alone. [`Delivery::poll_next`] merges them, so that each carrier
//! only writes items. Chunks come in batches, as each look at the ring takes its lock.

use super::{Message, MuxerUser, effects::Effects};
use crate::Effect;
use sluicegate_viewer::{
    Closing, Cursor, Delivery, FromClient, Item, Next, Outlet, TakenChunks, Want,
};
use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

/// A viewer that has joined; it leaves when this is dropped.
#[derive(Debug)]
pub struct Viewing {
    user: MuxerUser,
    viewer: u64,
    /// Its position in the muxer's ring.
    cursor: Cursor,
    /// Effects that the component requests for this viewer.
    effects: Effects,
    /// The muxer still has this viewer: more effects may come.
    attached: bool,
    /// The effects of the join, which come before all chunks, were looked for.
    started: bool,
    /// An [`Item::Close`] was returned.
    closed: bool,
}

impl Viewing {
    pub(super) fn new(user: MuxerUser, viewer: u64, cursor: Cursor, effects: Effects) -> Viewing {
        Viewing {
            user,
            viewer,
            cursor,
            effects,
            attached: true,
            started: false,
            closed: false,
        }
    }

    /// Applies the queued effects; returns whether there were any.
    fn poll_effects(&mut self, context: &mut Context<'_>, items: &mut VecDeque<Item>) -> bool {
        let mut changed = false;
        while self.attached && !self.closed {
            match self.effects.poll_recv(context) {
                Poll::Pending => break,
                Poll::Ready(Some(effect)) => self.apply(effect, items),
                Poll::Ready(None) => {
                    self.attached = false;
                    // A muxer that ends drops its viewers, too, and has last chunks for them.
                    if self.outlet().closed().is_none() {
                        self.close(Closing::Dropped, items);
                    }
                }
            }
            changed = true;
        }
        changed
    }

    fn apply(&mut self, effect: Effect, items: &mut VecDeque<Item>) {
        if self.closed {
            return;
        }
        match effect {
            Effect::Send(content) => items.push_back(Item::Message(content)),
            Effect::Lanes(lanes) => self.cursor.choose(&lanes),
            Effect::StreamHead(lane, bytes) => items.push_back(Item::StreamHead { lane, bytes }),
            Effect::Reply { stream, data, last } => {
                items.push_back(Item::Reply { stream, data, last });
            }
            Effect::Close(reason) => self.close(Closing::Requested(reason), items),
        }
    }

    fn close(&mut self, closing: Closing, items: &mut VecDeque<Item>) {
        if !std::mem::replace(&mut self.closed, true) {
            items.push_back(Item::Close(closing));
        }
    }

    /// The muxer's chunks.
    fn outlet(&self) -> &Outlet {
        &self.user.muxer.outlet
    }
}

impl Delivery for Viewing {
    /// The effects of the join come first, which were queued before this exists; between later messages and chunks there
    /// is no order.
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        want: Want,
        items: &mut VecDeque<Item>,
    ) -> Poll<TakenChunks> {
        let before = items.len();
        if !std::mem::replace(&mut self.started, true) {
            while let Some(effect) = self.effects.take_queued() {
                self.apply(effect, items);
            }
            if items.len() > before {
                return Poll::Ready(TakenChunks::default());
            }
        }
        loop {
            let (mut taken, mut ended) = (None, None);
            let (outlet, cursor) = (&self.user.muxer.outlet, &mut self.cursor);
            let polled = match want {
                _ if self.closed => Poll::Pending,
                Want::All(budget) => outlet.poll_take(context, cursor, budget, items),
                Want::Restarts(budget) => outlet.poll_restart(context, cursor, budget, items),
                Want::Messages => Poll::Pending,
            };
            match polled {
                Poll::Ready(Next::TakenChunks(some)) => taken = Some(some),
                Poll::Ready(Next::Closed(reason)) => ended = Some(reason),
                Poll::Pending => {}
            }
            // Polled even if there were chunks: a slow client always has some.
            let changed = self.poll_effects(context, items);
            if let Some(reason) = ended {
                self.close(Closing::Ended(reason), items);
            }
            if let Some(taken) = taken {
                return Poll::Ready(taken);
            }
            if items.len() > before {
                return Poll::Ready(TakenChunks::default());
            }
            // An effect may have chosen lanes that have chunks.
            if !changed {
                return Poll::Pending;
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.outlet().closed().is_some()
    }

    /// Fails if too much waits for the component, or the muxer has ended.
    fn received(&self, data: FromClient) -> Result<(), String> {
        let viewer = self.viewer;
        let sent = self.user.muxer.send(Message::FromViewer { viewer, data });
        sent.map_err(|refusal| refusal.to_string())
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        self.outlet().forget(&self.cursor);
        // Never refused: see `send`.
        let _ = self.user.muxer.send(Message::Leave {
            viewer: self.viewer,
        });
    }
}
