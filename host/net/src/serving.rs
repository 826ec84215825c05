//! What carriers that keep a connection for each viewer have in common: how it ends, and how long and how much may wait
//! for a client that does not read.

use crate::stall::{DRAIN_WRITE_TIMEOUT, WRITE_TIMEOUT};
use sluicegate_viewer::{Closing, Delivery, FromClient};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Largest message of a client, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Timeout of a connection's end: for the data that waits, our close, and the client's.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// The same where the permission was taken away: the client shall have its end within a second.
pub(crate) const REVOKED_TIMEOUT: Duration = Duration::from_millis(500);
/// Status code of a close after the permission was taken away, of those for applications (RFC 6455 section 7.4.2).
const REVOKED: u16 = 4401;
/// Messages to one viewer alone that may wait for its connection, in bytes, with this much more for each. Beyond that
/// they wait in the muxer's queue, which drops a viewer that lets it overflow.
const MAX_MESSAGE_BACKLOG: usize = 256 << 10;
const MESSAGE_OVERHEAD: usize = 64;

/// Code and reason with which a connection ends: those of a close frame of a WebSocket (RFC 6455 7.4.1), and the same
/// of a WebTransport session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Status code.
    pub code: u16,
    /// Reason for the user.
    pub reason: String,
}

impl Close {
    /// A close with this code and reason.
    pub fn new(code: u16, reason: impl Into<String>) -> Close {
        Close {
            code,
            reason: reason.into(),
        }
    }

    /// The gateway shuts down.
    pub(crate) fn shutting_down() -> Close {
        Close::new(1001, "the gateway is shutting down")
    }

    /// The permission was taken away.
    pub(crate) fn revoked() -> Close {
        Close::new(
            REVOKED,
            "you were signed out, or your permission was taken away",
        )
    }

    /// How long the end may take, for the data that waits and both sides' closes.
    pub(crate) fn timeout(&self) -> Duration {
        match self.code {
            REVOKED => REVOKED_TIMEOUT,
            _ => CLOSE_TIMEOUT,
        }
    }

    /// A message of a client has more than [`MAX_MESSAGE_BYTES`].
    pub(crate) fn too_large() -> Close {
        Close::new(
            1009,
            format!("a message of more than {MAX_MESSAGE_BYTES} bytes"),
        )
    }
}

impl From<Closing> for Close {
    fn from(closing: Closing) -> Close {
        match closing {
            Closing::Requested(reason) => Close::new(1000, reason),
            Closing::Dropped => Close::new(1008, "the transport dropped this viewer"),
            Closing::Ended(reason) => Close::new(1001, &*reason),
        }
    }
}

/// Passes on what a client sent. If that is refused, the connection ends so, unless the viewer's end is on its way.
pub(crate) fn pass_on(sent: FromClient, viewer: &impl Delivery) -> Option<Close> {
    let reason = viewer.received(sent).err()?;
    (!viewer.has_ended()).then(|| Close::new(1013, reason))
}

/// Messages to one viewer alone that wait for its connection.
#[derive(Debug, Default)]
pub(crate) struct MessageBacklog(usize);

impl MessageBacklog {
    /// Counts a message of so many bytes.
    pub fn add(&mut self, bytes: usize) {
        self.0 += MESSAGE_OVERHEAD + bytes;
    }

    /// Nothing waits any more.
    pub fn clear(&mut self) {
        self.0 = 0;
    }

    /// Whether another message may be taken.
    pub fn has_room(&self) -> bool {
        self.0 < MAX_MESSAGE_BACKLOG
    }
}

/// Timer of a client that accepts no data.
#[derive(Debug)]
pub(crate) struct WriteTimer {
    limit: Duration,
    /// Runs while data waits and none was accepted.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl WriteTimer {
    pub fn new() -> WriteTimer {
        WriteTimer {
            limit: WRITE_TIMEOUT,
            stalled: None,
        }
    }

    /// The client accepted data, or none waits.
    pub fn progressed(&mut self) {
        self.stalled = None;
    }

    /// Data waits: ready if the client has accepted none for the limit, [`WRITE_TIMEOUT`].
    pub fn poll_stalled(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        stalled.as_mut().poll(context)
    }

    /// From now on the limit is [`DRAIN_WRITE_TIMEOUT`], since the gateway shuts down; returns whether that is new.
    pub fn shorten(&mut self) -> bool {
        if self.limit == DRAIN_WRITE_TIMEOUT {
            return false;
        }
        self.limit = DRAIN_WRITE_TIMEOUT;
        if let Some(stalled) = &mut self.stalled {
            let due = stalled.deadline().min(Instant::now() + DRAIN_WRITE_TIMEOUT);
            stalled.as_mut().reset(due);
        }
        true
    }
}
