//! Messages about a session, as JSON: to its player on the control channel, to readers of `/api/events`, and to clients
//! of `/api/sessions`. Also the paths that they contain.
//!
//! The types derive `JsonSchema`, so their doc comments are the descriptions in `/api/openapi.json`. Built by
//! [`Sessions`](super::Sessions) and [`Session`](super::Session), sent by `api/session.rs` and `api/state.rs`.

use super::{Pin, PlaybackTarget, link::Link};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_config::{self as config, BasePath};
use sluicegate_plugin::policy::{Candidate, Report};

/// A message from the gateway to a player.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ServerMessage {
    /// Switch to this transport and rendition. The player starts it beside what plays and swaps with its first frame.
    Move {
        /// Transport and rendition to play.
        #[serde(flatten)]
        target: PlaybackTarget,
        /// Path of the stream in that rendition, such as "/live/porch@mobile".
        base: String,
        /// Reason for the move, shown to the user.
        reason: String,
        /// How long to wait for the first frame before the move counts as failed, in milliseconds.
        timeout_ms: u64,
        /// Whether what plays now needs more bandwidth than the new target and should yield the link to it.
        makes_way: bool,
    },
    /// The transports and renditions that the user may choose. Sent when the control channel opens, and on changes.
    Choices {
        /// Forms of the stream that the client can play, best first.
        choices: Vec<TargetChoice>,
        /// What the user has pinned.
        pin: Pin,
        /// Whether the config decides for this client, so that pins are refused.
        forced: bool,
        /// Whether the stream has audio, even if what plays does not carry it.
        sound: bool,
    },
    /// The player's last message cannot be followed.
    Refused {
        /// Why, and what to do; shown to the user.
        reason: String,
    },
}

impl ServerMessage {
    /// The message for a player that sees the gateway below this path.
    pub fn below(mut self, base_path: &BasePath) -> ServerMessage {
        if let ServerMessage::Move { base, .. } = &mut self {
            base.insert_str(0, base_path.as_str());
        }
        self
    }
}

/// A transport and rendition that the user may choose.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TargetChoice {
    #[serde(flatten)]
    target: PlaybackTarget,
    /// Width in pixels; 0 before it is known.
    width: u32,
    /// Height in pixels; 0 before it is known.
    height: u32,
    /// Expected bandwidth, bits per second; 0 before it is known.
    bandwidth: u32,
    /// Whether it carries the stream's audio.
    sound: bool,
}

/// One move of a session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Moved {
    /// When the first frame of the new target was shown, Unix milliseconds.
    pub at: u64,
    /// Transport and rendition that played before.
    pub from: PlaybackTarget,
    /// Transport and rendition that plays since.
    pub to: PlaybackTarget,
    /// Reason for the move, shown to the user.
    pub reason: String,
}

/// Data of the event `session`.
#[derive(Serialize)]
pub(super) struct MovedEvent<'a> {
    pub(super) session: u64,
    pub(super) stream: &'a str,
    pub(super) from: &'a PlaybackTarget,
    #[serde(flatten)]
    pub(super) to: &'a PlaybackTarget,
    pub(super) reason: &'a str,
}

/// A player's session.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct SessionView {
    /// Number of the session, as in events. It is not the secret id of the control channel.
    pub id: String,
    /// Name of the stream.
    pub stream: String,
    /// Transport and rendition that plays; before the first frame, the one that was chosen.
    #[serde(flatten)]
    pub target: PlaybackTarget,
    /// When it began to play, Unix milliseconds; before the first frame, when the session began.
    pub since: u64,
    /// Why it plays, shown to the user.
    pub reason: String,
    /// What the user has pinned.
    pub pin: Pin,
    /// Number of moves since the session began.
    pub moves: u64,
    /// The newest move; null before the first.
    pub last_move: Option<Moved>,
    /// The player's newest report, completed with the gateway's measurements; null before the first.
    pub report: Option<Report>,
    /// The kernel's view of the connection that carries the video; null if it cannot be asked, or a proxy announced
    /// itself in the request.
    pub link: Option<Link>,
    /// Bytes sent on the connections that are open now.
    pub bytes: u64,
    /// Jumps to a newer start point on the connections that are open now.
    pub jumps: u64,
}

impl From<&Candidate> for TargetChoice {
    fn from(candidate: &Candidate) -> TargetChoice {
        TargetChoice {
            target: candidate.into(),
            width: candidate.width,
            height: candidate.height,
            bandwidth: candidate.bandwidth,
            sound: candidate.sound,
        }
    }
}

/// Path of a stream in a rendition, percent-encoded: `/live/porch` or `/live/porch@mobile`.
pub fn base(stream: &str, rendition: &str) -> String {
    let stream = config::path_segment(stream);
    match rendition {
        "" => format!("/live/{stream}"),
        rendition => format!("/live/{stream}@{}", config::path_segment(rendition)),
    }
}
