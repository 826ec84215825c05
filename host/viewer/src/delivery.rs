//! What a carrier needs of the viewer that it serves.
//!
//! [`Delivery`] is the seam between carriers, which know sockets, and muxers, which know components: neither depends on
//! the other. `sluicegate_plugin` implements it for a viewer that has joined a muxer; `sluicegate_net` writes what it
//! gives.

use super::{Content, Item, TakenChunks};
use sluicegate_media::buffer::Buffer;
use std::{
    collections::VecDeque,
    task::{Context, Poll},
};

/// What a carrier takes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Messages to this viewer alone: the client is not ready for chunks, and will get the newest ones when it is.
    Messages,
    /// Messages, and chunks as with `All` of lanes that restart at a newer start point, because the viewer is too far
    /// behind: the client is not ready for others.
    Restarts(usize),
    /// Messages and chunks: at least one chunk if there is any, and about this many bytes at most.
    All(usize),
}

/// Something that a client sent; `transport.message` in `wit/gateway.wit`.
#[derive(Clone, Debug)]
pub enum FromClient {
    /// A message, on carriers that have messages.
    Message(Content),
    /// A datagram.
    Datagram(Buffer),
    /// Data of a stream that the client has opened.
    Stream(ClientStreamData),
}

/// Data of a stream that a client has opened: all of it, or the next piece.
#[derive(Clone, Debug)]
pub struct ClientStreamData {
    /// The stream's number among those of this viewer.
    pub id: u64,
    /// Whether it can be answered, by an [`Item::Reply`].
    pub bidirectional: bool,
    /// The data.
    pub data: Buffer,
    /// Whether nothing follows.
    pub last: bool,
}

impl FromClient {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        match self {
            FromClient::Message(content) => content.len(),
            FromClient::Datagram(data) | FromClient::Stream(ClientStreamData { data, .. }) => {
                data.len()
            }
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One viewer's items, and the way back for what its client sends. The viewer leaves when this is dropped.
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

    /// Passes what the client sent to the transport.
    ///
    /// # Errors
    /// The transport takes nothing now, for this reason, which the client may be told.
    fn received(&self, data: FromClient) -> Result<(), String>;
}
