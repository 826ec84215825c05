//! What is said of a session: to its player, to who follows events, to who asks for the list.

use super::{Form, Pin, link::Link};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_config as config;
use sluicegate_plugin::policy::{Candidate, Report};

/// What a session tells its player.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[schemars(rename = "ToldPlayer")]
pub enum ServerMessage {
    /// Go there, make before break.
    Move {
        /// Where.
        #[serde(flatten)]
        form: Form,
        /// Path of the stream in that rendition.
        base: String,
        /// A phrase for people.
        reason: String,
        /// How long to wait for the first picture.
        timeout_ms: u64,
        /// What plays needs more than what is to come, and should leave the link to it.
        makes_way: bool,
    },
    /// What there is to choose, and what is chosen.
    Choices {
        /// Best first.
        choices: Vec<FormChoice>,
        /// By the person.
        pin: Pin,
        /// The config leaves no choice.
        forced: bool,
        /// The stream has sound, whatever carries it.
        sound: bool,
    },
    /// A pin or a message that cannot be followed.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// One form of the stream, as the player offers it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FormChoice")]
pub struct FormChoice {
    #[serde(flatten)]
    form: Form,
    width: u32,
    height: u32,
    bandwidth: u32,
    /// It carries the stream's sound.
    sound: bool,
}

/// One move, for those who ask.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Moved {
    /// Unix milliseconds.
    pub at: u64,
    /// What played before.
    pub from: Form,
    /// What plays now.
    pub to: Form,
    /// A phrase for people.
    pub reason: String,
}

/// The event `session`.
#[derive(Serialize)]
pub(super) struct MovedEvent<'a> {
    pub(super) session: u64,
    pub(super) stream: &'a str,
    pub(super) from: &'a Form,
    #[serde(flatten)]
    pub(super) to: &'a Form,
    pub(super) reason: &'a str,
}

/// A session as those see it who ask.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct SessionView {
    /// Its number.
    pub id: String,
    /// Name of the stream.
    pub stream: String,
    /// What plays, or is to play.
    #[serde(flatten)]
    pub form: Form,
    /// Unix milliseconds.
    pub since: u64,
    /// Why that.
    pub reason: String,
    /// What a person chose.
    pub pin: Pin,
    /// Since the session began.
    pub moves: u64,
    /// The newest.
    pub last_move: Option<Moved>,
    /// What its player said last, with what the gateway knows.
    pub report: Option<Report>,
    /// The connection that brings it pictures, as the system knows it.
    pub link: Option<Link>,
    /// Bytes handed to the sockets that bring it pictures now.
    pub bytes: u64,
    /// Jumps to a newer start point on them.
    pub jumps: u64,
}

impl From<&Candidate> for FormChoice {
    fn from(candidate: &Candidate) -> FormChoice {
        FormChoice {
            form: candidate.into(),
            width: candidate.width,
            height: candidate.height,
            bandwidth: candidate.bandwidth,
            sound: candidate.sound,
        }
    }
}

/// Path of a stream in a rendition.
pub fn base(stream: &str, rendition: &str) -> String {
    let stream = config::path_segment(stream);
    match rendition {
        "" => format!("/live/{stream}"),
        rendition => format!("/live/{stream}@{}", config::path_segment(rendition)),
    }
}
