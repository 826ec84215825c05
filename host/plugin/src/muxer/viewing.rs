//! A viewer that has joined a muxer, as its carrier sees it: one sequence of items.
//!
//! What a viewer gets comes from two places: the outlet's ring, which all viewers of the muxer share, and the queue of
//! effects, which the component has for this viewer alone. [`Viewing::poll_next`] merges them, so that each carrier
//! only writes items. Chunks come in batches, as each look at the ring takes its lock.

use super::{Message, Muxer, MuxerUser, Refusal, effects::Effects};
use crate::Effect;
use sluicegate_viewer::{Closing, Content, Cursor, Item, Next, Outlet, Taken};
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
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
    /// Effects of the component's answer to the join.
    joined: Vec<Effect>,
}

/// What a carrier takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Messages to this viewer alone: the client is not ready for chunks, and will get the newest ones when it is.
    Messages,
    /// Messages and chunks: at least one chunk if there is any, and about this many bytes at most.
    Chunks(usize),
}

impl Viewing {
    pub(super) fn new(user: MuxerUser, viewer: u64, cursor: Cursor, effects: Effects) -> Viewing {
        Viewing {
            user,
            viewer,
            cursor,
            effects,
            attached: true,
            joined: Vec::new(),
        }
    }

    /// Records the effects of the component's answer to the join.
    pub(super) fn joined(&mut self, effects: Vec<Effect>) {
        self.joined = effects;
    }

    /// Appends the viewer's next items to `items`. Ready if there were any, with the number of chunks; otherwise the
    /// task is woken when there are. Chunks from before a message come before it. Nothing follows an [`Item::Close`].
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        want: Want,
        items: &mut VecDeque<Item>,
    ) -> Poll<Taken> {
        let before = items.len();
        for effect in std::mem::take(&mut self.joined) {
            self.apply(effect, items);
        }
        if items.len() > before {
            return Poll::Ready(Taken::default());
        }
        loop {
            if let Want::Chunks(budget) = want {
                let muxer = &self.user.muxer;
                match muxer
                    .outlet
                    .poll_take(context, &mut self.cursor, budget, items)
                {
                    Poll::Ready(Next::Taken(taken)) => return Poll::Ready(taken),
                    Poll::Ready(Next::Closed(reason)) => {
                        items.push_back(Item::Close(Closing::Ended(reason)));
                        return Poll::Ready(Taken::default());
                    }
                    Poll::Pending => {}
                }
            }
            if !self.attached {
                return Poll::Pending;
            }
            match ready!(self.effects.poll_recv(context)) {
                Some(effect) => self.apply(effect, items),
                None => {
                    self.attached = false;
                    // A muxer that ends drops its viewers, too, and may have last chunks for them.
                    if self.outlet().closed().is_none() {
                        items.push_back(Item::Close(Closing::Dropped));
                    }
                }
            }
            if items.len() > before {
                return Poll::Ready(Taken::default());
            }
        }
    }

    fn apply(&mut self, effect: Effect, items: &mut VecDeque<Item>) {
        match effect {
            Effect::Send(content) => items.push_back(Item::Message(content)),
            Effect::Lanes(lanes) => self.cursor.choose(&lanes),
            // The muxer requests keyframes from the source itself.
            Effect::Keyframe => {}
            Effect::Close(reason) => items.push_back(Item::Close(Closing::Requested(reason))),
        }
    }

    /// The muxer's chunks.
    pub fn outlet(&self) -> &Outlet {
        &self.user.muxer.outlet
    }

    /// The muxer.
    pub fn muxer(&self) -> &Arc<Muxer> {
        &self.user.muxer
    }

    /// Passes a message of the client to the component.
    ///
    /// # Errors
    /// Too many messages wait for the component, or the muxer has ended.
    pub fn message(&self, data: Content) -> Result<(), Refusal> {
        self.user.muxer.send(Message::FromViewer {
            viewer: self.viewer,
            data,
        })
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
