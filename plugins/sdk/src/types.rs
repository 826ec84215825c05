//! The records of `wit/gateway.wit` that hold a [`Buffer`].

use crate::Buffer;

/// One access unit or audio frame.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Sample {
    /// [`Track::id`](crate::Track::id).
    pub track: u32,
    /// The number of its group; rises, also over restarts of the gateway.
    pub group: u64,
    /// In the track's timescale, on one timeline for all tracks; rises within a track.
    pub decode_time: u64,
    /// Presentation minus decode time, in the track's timescale.
    pub composition_offset: i32,
    /// Expected, in the track's timescale; 0: unknown. The next decode time is the truth.
    pub duration: u32,
    /// Decodable without what came before.
    pub independent: bool,
    /// Behind an independent sample, shown before it, and perhaps made from what is before that (the B pictures of an open GOP):
    /// who starts there cannot decode it.
    pub leading: bool,
    /// Microseconds since the Unix epoch; may jump.
    pub captured_at: u64,
    /// Microseconds since the Unix epoch at which the first picture of its group is shown: alike in all renditions, as far apart as
    /// the groups are, and following the wall clock slowly where the source's clock drifts.
    pub group_started_at: u64,
    /// Of `data`, in bytes; spares a call to the host.
    pub size: u32,
    /// In one of the formats that the profile asked for.
    pub data: Buffer,
}

/// One message, or the next bytes of a stream.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub enum Payload {
    /// Bytes that the host holds.
    Binary(Buffer),
    /// Only for carriers that have text (WebSocket); others pass over it.
    Text(String),
}

impl From<Buffer> for Payload {
    fn from(buffer: Buffer) -> Self {
        Payload::Binary(buffer)
    }
}

/// What every viewer of a lane gets next.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Chunk {
    /// The bytes or the text.
    pub payload: Payload,
    /// An index into [`Profile::lanes`](crate::Profile::lanes).
    pub lane: u8,
    /// A viewer may start here.
    pub independent: bool,
    /// All in it is leading: a viewer that started at the independent chunk before does not get it.
    pub leading: bool,
}

/// A whole HTTP answer.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The HTTP `Content-Type`.
    pub content_type: String,
    /// Seconds for which caches on its way may keep it; [`Response::FOREVER`]: it never changes under this URL. The gateway
    /// itself asks again after the next `configure`, `push` or `stop`, except for what lasts for ever. Of a 503: seconds after
    /// which the client may try again.
    pub max_age: u32,
    /// The HTTP body.
    pub body: Buffer,
}

impl Response {
    /// The `max_age` of what never changes under its URL.
    pub const FOREVER: u32 = u32::MAX;
}

/// The answer to a GET.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub enum Reply {
    /// This answer.
    Done(Response),
    /// Ask again after the next `configure`, `push` or `stop`; the host limits the wait.
    Pending,
    /// 200 with this content type; then the client joins as a viewer.
    Follow(String),
}

impl Reply {
    /// A short plain text, for people; `status` is the HTTP status.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self::body(
            status,
            "text/plain; charset=utf-8",
            text.into().into_bytes(),
        )
    }

    /// 200 with `json`, which has to be JSON already.
    pub fn json(json: impl Into<String>) -> Self {
        Self::body(200, "application/json", json.into().into_bytes())
    }

    /// 404 that names the path.
    pub fn not_found(path: &str) -> Self {
        Self::text(404, format!("This transport has nothing at \"{path}\".\n"))
    }

    fn body(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        let content_type = content_type.to_owned();
        Reply::Done(Response {
            status,
            content_type,
            max_age: 0,
            body: Buffer::from(body),
        })
    }
}

/// What to do for one viewer.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "wasm32"), derive(Clone, PartialEq, Eq))]
pub enum Effect {
    /// To this viewer only.
    Send(Payload),
    /// Which lanes it gets from here on; all, until told.
    Lanes(Vec<u8>),
    /// One frame from it to the source, in [`Profile::uplink`](crate::Profile::uplink)'s format.
    Uplink(Buffer),
    /// Ask the source for an independent sample soon.
    Keyframe,
    /// End its connection, with this reason.
    Close(String),
}
