//! A viewer as its transport sees it: what it told when it joined, the handles that a guest has of it, and what the
//! guest requests for it.
//!
//! A guest calls methods of `viewers.viewer` during one of its own calls. [`Guest`](super::Guest) collects them as
//! [`Requests`], and the muxer's thread carries them out once the call has returned.

use bytes::Bytes;
use sluicegate_media::buffer::Buffer;
use sluicegate_viewer::{Carrier, Content};
use std::sync::Arc;

/// What a viewer told when it joined. Kept, because a new instance gets it again.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// How it is connected.
    pub carrier: Carrier,
    /// Percent-decoded path below the transport.
    pub path: String,
    /// Query without the gateway's own parameters.
    pub query: String,
    /// Subprotocol that was agreed on.
    pub protocol: Option<String>,
    /// What it may do, by the names in `wit/gateway.wit`.
    pub roles: Vec<String>,
}

impl JoinRequest {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let protocol = self.protocol.as_ref().map_or(0, String::len);
        let roles: usize = self.roles.iter().map(String::len).sum();
        self.path.len() + self.query.len() + protocol + roles
    }
}

/// A guest's handle of a viewer.
#[derive(Clone, Debug)]
pub struct ViewerHandle {
    /// Its id.
    pub id: u64,
    /// What it told.
    pub request: Arc<JoinRequest>,
}

/// Something that a guest requests for one viewer.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a message to this viewer only.
    Send(Content),
    /// From now on send only these lanes.
    Lanes(Vec<u8>),
    /// Send these bytes first on each stream that is opened for this viewer and lane.
    StreamHead(u8, Bytes),
    /// Send data on a stream that the client has opened.
    Reply {
        /// Which stream.
        stream: u64,
        /// What to send.
        data: Buffer,
        /// Whether that ends the stream.
        last: bool,
    },
    /// Close the viewer, with this reason.
    Close(String),
}

impl Effect {
    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        match self {
            Effect::Send(content) => content.len(),
            Effect::Lanes(lanes) => lanes.len(),
            Effect::StreamHead(_, bytes) => bytes.len(),
            Effect::Reply { data, .. } => data.len(),
            Effect::Close(reason) => reason.len(),
        }
    }
}

/// What a guest requested in one call, in order.
#[derive(Debug, Default)]
pub struct Requests {
    /// Effects, each with the id of its viewer.
    pub effects: Vec<(u64, Effect)>,
    /// It wants an independent sample soon.
    pub keyframe: bool,
}
