//! [`Viewer`], a client of a transport, and what a transport can do for it.
//!
//! In a component it wraps the host's resource `viewers.viewer`. On any other target it records what is requested, and
//! [`mock`](crate::mock) shows it to unit tests.

use crate::{Buffer, Payload};

#[cfg(target_arch = "wasm32")]
use crate::bindings::sluicegate::gateway::viewers;

/// A client of this transport, from [`Transport::join`](crate::Transport::join) to
/// [`Transport::leave`](crate::Transport::leave). It may be kept meanwhile, or dropped and found again by its id with
/// [`Viewer::find`]. The host does what is requested here when the current call has returned; of a call that traps,
/// nothing is done.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone))]
pub struct Viewer(pub(crate) Inner);

#[cfg(target_arch = "wasm32")]
pub(crate) type Inner = viewers::Viewer;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) type Inner = std::rc::Rc<crate::mock::Connection>;

impl Viewer {
    /// The connected viewer with this id.
    pub fn find(id: u64) -> Option<Viewer> {
        #[cfg(target_arch = "wasm32")]
        return viewers::find(id).map(Viewer);
        #[cfg(not(target_arch = "wasm32"))]
        return crate::mock::find(id);
    }

    /// Unique to the connection.
    pub fn id(&self) -> u64 {
        self.0.id()
    }

    /// One of the profile's carriers: "http", "websocket".
    pub fn carrier(&self) -> String {
        self.0.carrier()
    }

    /// The path below this transport that it connected to; empty for the transport itself.
    pub fn path(&self) -> String {
        self.0.path()
    }

    /// The query as sent.
    pub fn query(&self) -> String {
        self.0.query()
    }

    /// The WebSocket subprotocol that was agreed on, see [`Profile::protocols`](crate::Profile::protocols).
    pub fn protocol(&self) -> Option<String> {
        self.0.protocol()
    }

    /// Whether it may do this: "view", "capture", "talk", "control".
    pub fn may(&self, role: &str) -> bool {
        self.0.may(role)
    }

    /// Sends this to the viewer only.
    pub fn send(&self, content: impl Into<Payload>) {
        let content: Payload = content.into();
        #[cfg(target_arch = "wasm32")]
        let content = content.into();
        self.0.send(content);
    }

    /// Lanes, as indices, that the viewer gets from now on. It gets all lanes until the first such call.
    pub fn choose(&self, lanes: &[u8]) {
        self.0.choose(lanes);
    }

    /// Bytes to send before everything else on each stream that is opened for this viewer and lane from now on, on
    /// carriers that open a stream for each group.
    pub fn stream_head(&self, lane: u8, bytes: &[u8]) {
        self.0.stream_head(lane, bytes);
    }

    /// Sends data on a bidirectional stream that the client has opened; `last` ends the stream.
    pub fn reply(&self, client_stream: u64, data: Buffer, last: bool) {
        self.0.reply(client_stream, data.0, last);
    }

    /// Passes one frame of the viewer's voice or picture, in this format, to the source.
    ///
    /// # Errors
    /// Why the frame was not taken, for people: who is talking, or that the source takes none.
    pub fn talk(&self, format: &str, frame: Buffer) -> Result<(), String> {
        self.0.talk(format, frame.0)
    }

    /// Disconnects the viewer, with this reason.
    pub fn close(&self, reason: &str) {
        self.0.close(reason);
    }
}

/// Requests an independent sample from the source or encoder, at most once a second per muxer.
pub fn request_keyframe() {
    #[cfg(target_arch = "wasm32")]
    viewers::keyframe();
    #[cfg(not(target_arch = "wasm32"))]
    crate::mock::request_keyframe();
}
