//! The states that a stream can be in, as users see them.

/// State of a stream, by its name in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
#[schemars(rename = "StreamState", rename_all = "kebab-case")]
pub enum State {
    /// The device is not attached, or does not answer.
    Offline,
    /// The device has not authorized this computer.
    Unauthorized,
    /// The source does not run, because nobody uses the stream.
    Idle,
    /// The source is being opened.
    Starting,
    /// Samples arrive.
    Live,
    /// Data arrives, but nothing decodable yet.
    WaitingForKeyframe,
    /// The source is open and sends nothing.
    Silent,
    /// The source failed; another attempt follows.
    Retrying,
    /// The source ended for good.
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [State; 9] = [
        State::Offline,
        State::Unauthorized,
        State::Idle,
        State::Starting,
        State::Live,
        State::WaitingForKeyframe,
        State::Silent,
        State::Retrying,
        State::Failed,
    ];

    /// Name of the state in the API.
    pub fn name(self) -> &'static str {
        match self {
            State::Offline => "offline",
            State::Unauthorized => "unauthorized",
            State::Idle => "idle",
            State::Starting => "starting",
            State::Live => "live",
            State::WaitingForKeyframe => "waiting-for-keyframe",
            State::Silent => "silent",
            State::Retrying => "retrying",
            State::Failed => "failed",
        }
    }
}

impl serde::Serialize for State {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
