//! What a carrier needs of the viewer that it serves.
//!
//! [`Delivery`] is the seam between carriers, which know sockets, and muxers, which know components: neither depends on
//! the other. `sluicegate_plugin` implements it for a viewer that has joined a muxer; `sluicegate_net` writes what it
//! gives.

use super::{Content, Item, TakenChunks};
use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

/// What a carrier takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Messages to this viewer alone: the client is not ready for chunks, and will get the newest ones when it is.
    Messages,
    /// Messages and chunks: at least one chunk if there is any, and about this many bytes at most.
    All(usize),
}

/// One viewer's items, and the way back for its messages. The viewer leaves when this is dropped.
pub trait Delivery: Send + 'static {
    /// Appends the viewer's next items to `items`. Ready if there were any, with the number of chunks; otherwise the
    /// task is woken when there are. Nothing follows an [`Item::Close`].
    fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        want: Want,
        items: &mut VecDeque<Item>,
    ) -> Poll<TakenChunks>;

    /// Whether no chunks will be added, so that an [`Item::Close`] follows those that are left.
    fn has_ended(&self) -> bool;

    /// Passes a message of the client to the transport.
    ///
    /// # Errors
    /// The transport takes no message now, for this reason, which the client may be told.
    fn message(&self, data: Content) -> Result<(), String>;
}
