//! Recordings of an instance: what it was called with and what it returned, as text with one JSON object per line.
//!
//! The first line is an [`Opening`], each further one a [`Record`] of one call in the terms of `wit/gateway.wit`, and
//! the last one an [`End`] with the reason. Payload is Base64. A recording begins where a new instance of the same
//! component would: with the newest `configure` and the groups of `profile.history`, whose answers are not known, and
//! the viewers that are connected. By the rule that makes replacement possible, the answers that follow can be repeated
//! from there: [`Instance::make`](crate::Instance::make) makes a recorded call again. The muxer's thread only queues
//! what it records; if the reader is too slow, the recording ends and the viewers notice nothing.

mod channel;
mod media;

pub use channel::{Recorder, Recording, channel};
pub use media::{Audio, Kind, Sample, StreamInfo, Track, Video};

use crate::{Effect, JoinRequest, Rendition, Requests, instance, response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sluicegate_media::{buffer::Buffer, group::Group};
use sluicegate_stream::{Info, Selection};
use sluicegate_viewer::{Carrier, Content, FromClient};
use std::sync::Arc;

/// Version of the format.
pub const FORMAT: u32 = 1;

/// First line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// [`FORMAT`].
    pub recording: u32,
    /// Version of `wit/gateway.wit` that the gateway had.
    pub interface: String,
    /// The component as name@version.
    pub component: String,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// Name of the transport.
    pub transport: String,
    /// Name of the stream, with its rendition.
    pub stream: String,
    /// What `open` got.
    pub options: String,
}

/// A call of an instance after `open`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Call {
    Configure(StreamInfo),
    Push(Sample),
    Stop {
        reason: String,
        #[serde(rename = "final")]
        last: bool,
    },
    Request {
        path: String,
        query: String,
    },
    Join(Viewer),
    Received {
        viewer: u64,
        message: Payload,
    },
    /// `received` of a datagram.
    Datagram {
        viewer: u64,
        data: Blob,
    },
    /// `received` of data of a stream that the client has opened.
    ClientStream {
        viewer: u64,
        id: u64,
        bidirectional: bool,
        data: Blob,
        last: bool,
    },
    Leave {
        viewer: u64,
    },
}

impl Call {
    /// `configure` with the tracks of `info` that `choice` selects.
    pub fn configure(
        info: &Info,
        choice: &Selection,
        renditions: &[Rendition],
        longest_group_ms: u32,
    ) -> Call {
        let info = instance::stream_info(info, choice, renditions, longest_group_ms);
        Call::Configure((&info).into())
    }

    /// `push` of a sample of `group`; `None` if it is in another format than `choice` has.
    pub fn push(
        sample: &sluicegate_media::sample::Sample,
        group: Group,
        choice: &Selection,
    ) -> Option<Call> {
        let data = sample.packaged(choice.format(sample.codec())?)?;
        Some(Call::Push(instance::pushed(sample, group, data)))
    }

    /// `received` of what a client sent.
    pub(crate) fn received(viewer: u64, sent: &FromClient) -> Call {
        match sent {
            FromClient::Message(content) => Call::Received {
                viewer,
                message: Payload::of(content),
            },
            FromClient::Datagram(data) => Call::Datagram {
                viewer,
                data: Blob(data.clone()),
            },
            FromClient::Stream(stream) => Call::ClientStream {
                viewer,
                id: stream.id,
                bidirectional: stream.bidirectional,
                data: Blob(stream.data.clone()),
                last: stream.last,
            },
        }
    }

    /// Name of the function.
    pub fn name(&self) -> &'static str {
        match self {
            Call::Configure(_) => "configure",
            Call::Push(_) => "push",
            Call::Stop { .. } => "stop",
            Call::Request { .. } => "request",
            Call::Join(_) => "join",
            Call::Received { .. } | Call::Datagram { .. } | Call::ClientStream { .. } => "received",
            Call::Leave { .. } => "leave",
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Call::Push(sample) => sample.data.len(),
            Call::Received { message, .. } => message.len(),
            Call::Datagram { data, .. } | Call::ClientStream { data, .. } => data.len(),
            Call::Request { path, query } => path.len() + query.len(),
            Call::Join(viewer) => viewer.path.len() + viewer.query.len(),
            _ => 0,
        }
    }
}

/// A viewer, as `join` gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// Its id.
    pub viewer: u64,
    /// Name of its carrier.
    pub carrier: String,
    /// Path below the transport.
    pub path: String,
    /// The query.
    pub query: String,
    /// Subprotocol that was agreed on.
    pub protocol: Option<String>,
    /// What it may do.
    pub roles: Vec<String>,
}

impl Viewer {
    pub(crate) fn of(viewer: u64, request: &JoinRequest) -> Viewer {
        Viewer {
            viewer,
            carrier: request.carrier.name().to_owned(),
            path: request.path.clone(),
            query: request.query.clone(),
            protocol: request.protocol.clone(),
            roles: request.roles.clone(),
        }
    }

    /// The request, on HTTP if this gateway does not have the viewer's carrier.
    pub(crate) fn request(&self) -> Arc<JoinRequest> {
        Arc::new(JoinRequest {
            carrier: Carrier::from_name(&self.carrier).unwrap_or(Carrier::Http),
            path: self.path.clone(),
            query: self.query.clone(),
            protocol: self.protocol.clone(),
            roles: self.roles.clone(),
        })
    }
}

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The header from `configure`.
    Header(Vec<Payload>),
    /// From `push` or `stop`.
    Chunks(Vec<Chunk>),
    /// From `request`.
    Response(Response),
    /// From `request`: not yet.
    Pending,
    /// From `request`: a body of this media type follows.
    Follow(String),
    /// The viewer was refused in `join`, for this reason.
    Refused(String),
    /// Nothing, as `received` and `leave` do, and `join` of a viewer that is accepted.
    Done,
    /// The call trapped or exceeded a limit.
    Failed(String),
}

impl Answer {
    pub(crate) fn header(header: &[Content]) -> Answer {
        Answer::Header(header.iter().map(Payload::of).collect())
    }

    pub(crate) fn chunks(chunks: &[instance::Chunk]) -> Answer {
        Answer::Chunks(chunks.iter().map(Chunk::of).collect())
    }

    pub(crate) fn reply(reply: &instance::Answer) -> Answer {
        match reply {
            instance::Answer::Done(response) => Answer::Response(Response::of(response)),
            instance::Answer::Pending => Answer::Pending,
            instance::Answer::Follow(content_type) => Answer::Follow(content_type.clone()),
        }
    }

    pub(crate) fn joined(joined: &Result<(), String>) -> Answer {
        match joined {
            Ok(()) => Answer::Done,
            Err(reason) => Answer::Refused(reason.clone()),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Answer::Header(header) => header.iter().map(Payload::len).sum(),
            Answer::Chunks(chunks) => chunks.iter().map(|chunk| chunk.payload.len()).sum(),
            Answer::Response(response) => response.body.len(),
            _ => 0,
        }
    }
}

/// A chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The lane.
    pub lane: u8,
    /// Whether viewers may start here.
    pub independent: bool,
    /// Whether viewers that start at the newest independent chunk do without it.
    pub leading: bool,
    /// Presentation time in ticks of 1/90,000 s, if the component stated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presentation: Option<u64>,
    /// Its content.
    pub payload: Payload,
}

impl Chunk {
    fn of(chunk: &instance::Chunk) -> Chunk {
        Chunk {
            lane: chunk.lane,
            independent: chunk.independent,
            leading: chunk.leading,
            presentation: chunk.time.map(|time| time.presentation),
            payload: Payload::of(&chunk.content),
        }
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub content_type: String,
    /// For caches, in seconds.
    pub max_age: u32,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Blob,
}

impl Response {
    fn of(response: &response::Response) -> Response {
        let headers = response.headers.iter();
        Response {
            status: response.status,
            content_type: response.content_type.clone(),
            max_age: response.max_age,
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            body: Blob(response.body.clone()),
        }
    }
}

/// Something that the component requested of a viewer in a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Effected {
    Send(Payload),
    Choose(Vec<u8>),
    StreamHead {
        lane: u8,
        bytes: Blob,
    },
    Reply {
        client_stream: u64,
        data: Blob,
        last: bool,
    },
    Close(String),
}

impl Effected {
    fn of(effect: &Effect) -> Effected {
        match effect {
            Effect::Send(content) => Effected::Send(Payload::of(content)),
            Effect::Lanes(lanes) => Effected::Choose(lanes.clone()),
            Effect::StreamHead(lane, bytes) => Effected::StreamHead {
                lane: *lane,
                bytes: Blob(bytes.clone().into()),
            },
            Effect::Reply { stream, data, last } => Effected::Reply {
                client_stream: *stream,
                data: Blob(data.clone()),
                last: *last,
            },
            Effect::Close(reason) => Effected::Close(reason.clone()),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Effected::Send(content) => content.len(),
            Effected::Choose(lanes) => lanes.len(),
            Effected::StreamHead { bytes, .. } => bytes.len(),
            Effected::Reply { data, .. } => data.len(),
            Effected::Close(reason) => reason.len(),
        }
    }
}

/// A line: one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The call.
    pub call: Call,
    /// What it returned; `None` for calls from before the recording.
    pub answer: Option<Answer>,
    /// What the component requested of viewers, by their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<(u64, Effected)>,
    /// Whether it requested a keyframe.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keyframe: bool,
}

impl Record {
    /// A call from before the recording.
    pub(crate) fn past(call: Call) -> Record {
        Record {
            call,
            answer: None,
            requested: Vec::new(),
            keyframe: false,
        }
    }

    pub(crate) fn new(call: Call, answer: Answer, requests: &Requests) -> Record {
        let requested = requests.effects.iter();
        Record {
            call,
            answer: Some(answer),
            requested: requested
                .map(|(viewer, effect)| (*viewer, Effected::of(effect)))
                .collect(),
            keyframe: requests.keyframe,
        }
    }

    /// Bytes of its payloads.
    fn bytes(&self) -> usize {
        let answer = self.answer.as_ref().map_or(0, Answer::bytes);
        let requested = self.requested.iter();
        let requested: usize = requested.map(|(_, effected)| effected.bytes()).sum();
        self.call.bytes() + answer + requested
    }
}

/// Last line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Why it ended.
    pub end: String,
}

/// A line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs)]
pub enum Line {
    Opening(Opening),
    Record(Box<Record>),
    End(End),
}

impl Line {
    /// Reads one line.
    ///
    /// # Errors
    /// It is not JSON, or not a line of a recording.
    pub fn parse(text: &str) -> Result<Line, serde_json::Error> {
        /// What the line is, by the key that only lines of its kind have.
        #[derive(Deserialize)]
        struct Keys {
            recording: Option<serde::de::IgnoredAny>,
            call: Option<serde::de::IgnoredAny>,
            end: Option<serde::de::IgnoredAny>,
        }
        let keys: Keys = serde_json::from_str(text)?;
        Ok(match keys {
            Keys {
                recording: Some(_), ..
            } => Line::Opening(serde_json::from_str(text)?),
            Keys { end: Some(_), .. } => Line::End(serde_json::from_str(text)?),
            Keys { call: Some(_), .. } => Line::Record(serde_json::from_str(text)?),
            Keys { .. } => {
                return Err(serde_json::Error::custom(
                    "it has none of the keys `recording`, `call` and `end`",
                ));
            }
        })
    }

    /// The line as text, with the line feed at its end.
    pub fn to_text(&self) -> Bytes {
        // None of the types has a map with other keys than strings, which is what can fail.
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text.into()
    }
}

/// Content of a message or chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// Text.
    Text(Arc<str>),
    /// Bytes.
    Base64(Blob),
}

impl Payload {
    pub(crate) fn of(content: &Content) -> Payload {
        match content {
            Content::Text(text) => Payload::Text(text.clone()),
            Content::Binary(bytes) => Payload::Base64(Blob(bytes.clone())),
        }
    }

    pub(crate) fn content(&self) -> Content {
        match self {
            Payload::Text(text) => Content::Text(text.clone()),
            Payload::Base64(bytes) => Content::Binary(bytes.0.clone()),
        }
    }

    /// Its bytes; text as UTF-8.
    pub fn bytes(&self) -> Bytes {
        match self {
            Payload::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Payload::Base64(bytes) => bytes.0.to_bytes(),
        }
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::Text(text) => text.len(),
            Payload::Base64(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Bytes, which are Base64 with padding in JSON (RFC 4648 section 4).
#[derive(Clone, Debug, Default)]
pub struct Blob(pub Buffer);

impl Blob {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Blob {
    fn from(bytes: Bytes) -> Blob {
        Blob(bytes.into())
    }
}

impl PartialEq for Blob {
    fn eq(&self, other: &Blob) -> bool {
        self.0.content_eq(&other.0)
    }
}

impl Eq for Blob {}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        BASE64_STANDARD
            .encode(self.0.to_bytes())
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
        Ok(Bytes::from(bytes).into())
    }
}
