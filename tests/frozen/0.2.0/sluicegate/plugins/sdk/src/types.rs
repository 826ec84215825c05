//! Records of `wit/gateway.wit` that contain a [`Buffer`], in a form that also exists natively. `export` converts
//! between these and the generated ones.

use crate::{Buffer, MediaTime};

/// One access unit of video, or one audio frame.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Sample {
    /// Id of its track ([`Track::id`](crate::Track::id)).
    pub track: u32,
    /// Number of its group. Rises, also across restarts of the gateway.
    pub group: u64,
    /// Decode time in ticks of the track's timescale, on one timeline for all tracks. Rises within a track.
    pub decode_time: u64,
    /// Presentation time minus decode time, in ticks of the track's timescale.
    pub composition_offset: i32,
    /// Expected duration in ticks of the track's timescale; 0: unknown. The next sample's decode time is authoritative.
    pub duration: u32,
    /// Decodable without any earlier sample.
    pub independent: bool,
    /// Follows an independent sample, is presented before it, and may refer to samples before it (the leading B-frames
    /// of an open GOP). A decoder that starts at the independent sample cannot decode it.
    pub leading: bool,
    /// Shows again what the frame before shows, because the source is silent.
    pub repeated: bool,
    /// Capture time in microseconds since the Unix epoch. May jump.
    pub captured_at: u64,
    /// Presentation time of the first frame of its group, in microseconds since the Unix epoch. Equal in all
    /// renditions. Differences between groups equal their durations, except that it follows the wall clock slowly where
    /// the source's clock drifts.
    pub group_started_at: u64,
    /// Size of `data` in bytes; saves a call to the host.
    pub size: u32,
    /// Payload in one of the formats that the profile lists.
    pub data: Buffer,
}

/// Content of one message, or the next bytes of a stream.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub enum Payload {
    /// Bytes in the host's memory.
    Binary(Buffer),
    /// Text, for carriers that have text messages (WebSocket). Other carriers skip it.
    Text(String),
}

impl From<Buffer> for Payload {
    fn from(buffer: Buffer) -> Self {
        Payload::Binary(buffer)
    }
}

/// Output for every viewer of a lane.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Chunk {
    /// Content of the chunk.
    pub payload: Payload,
    /// Index into [`Profile::lanes`](crate::Profile::lanes).
    pub lane: u8,
    /// A viewer may start with this chunk.
    pub independent: bool,
    /// Contains leading samples only. Viewers that started at the newest independent chunk do not get it.
    pub leading: bool,
    /// When what it contains is presented, for carriers that need to know. `None`: as the sample that was pushed.
    pub time: Option<MediaTime>,
}

/// A complete HTTP response.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Response {
    /// HTTP status, from 200 to 599.
    pub status: u16,
    /// Value of `Content-Type`.
    pub content_type: String,
    /// Seconds for which HTTP caches may keep the response. [`Response::FOREVER`]: the content at this URL never
    /// changes. The gateway itself calls `request` again after the next `configure`, `push` or `stop`, except for
    /// responses that last for ever. With status 503: seconds after which the client should retry.
    pub max_age: u32,
    /// Further headers, as name and value. The host sends "accept-patch", "content-disposition", "content-language",
    /// "etag", "last-modified", "link" and "location", and leaves out all others.
    pub headers: Vec<(String, String)>,
    /// Body of the response.
    pub body: Buffer,
}

impl Response {
    /// `max_age` of content that never changes under its URL.
    pub const FOREVER: u32 = u32::MAX;
}

/// Answer to a GET.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub enum Reply {
    /// Respond with this.
    Done(Response),
    /// Not available yet. The host calls again after the next `configure`, `push` or `stop`, and limits the total wait.
    Pending,
    /// Respond 200 with this content type, then join the client as a viewer.
    Follow(String),
}

impl Reply {
    /// A short plain-text response for people, with HTTP status `status`.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::body(
            status,
            "text/plain; charset=utf-8",
            text.into().into_bytes(),
        )
    }

    /// Status 200 with `json`, which must be valid JSON.
    pub fn json(json: impl Into<String>) -> Self {
        Self::body(200, "application/json", json.into().into_bytes())
    }

    /// Status 404 with a text that names the path.
    pub fn not_found(path: &str) -> Self {
        Self::text(404, format!("This transport has nothing at \"{path}\".\n"))
    }

    fn body(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Reply::Done(Response::new(status, content_type, 0, body))
    }
}

/// Something that a viewer sent.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub enum Message {
    /// A WebSocket message of text.
    Text(String),
    /// A WebSocket message of bytes.
    Binary(Buffer),
    /// A datagram.
    Datagram(Buffer),
    /// Data of a stream that the client has opened.
    ClientStream(ClientStream),
}

/// Data of a stream that the client has opened.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct ClientStream {
    /// Identifies the stream among those of this viewer.
    pub id: u64,
    /// Whether [`Viewer::reply`](crate::Viewer::reply) can answer on it.
    pub bidirectional: bool,
    /// All of it or, with [`Profile::partial_streams`](crate::Profile::partial_streams), the next piece.
    pub data: Buffer,
    /// Nothing follows.
    pub last: bool,
}
