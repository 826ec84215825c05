//! What each route does, in words and schemas. A route that lacks its description does not compile.

use super::Schemas;
use crate::api::{
    Target,
    choice::Chosen,
    session::{ClientMessage, Logged, Pong},
    state,
};
use crate::session::ServerMessage;
use serde_json::{Value, json};
use sluicegate_capture::{CaptureResult, Code, Failure, RawRequest};

/// Groups of operations, and what they are for.
pub const TAGS: &[(&str, &str)] = &[
    (
        "live",
        "Pictures and sound. What is below a transport's path is the transport's own.",
    ),
    (
        "capture",
        "Single pictures on request, whether or not anybody watches.",
    ),
    (
        "devices",
        "Streams and attached devices, and what happens to them.",
    ),
    (
        "sessions",
        "Who watches what, and a player's control channel.",
    ),
    (
        "components",
        "The WebAssembly components; for administrators, from the gateway's own machine.",
    ),
    ("gateway", "How the gateway itself is doing."),
    ("pages", "For people."),
];

/// What a route does.
pub struct Operation {
    pub tag: &'static str,
    pub summary: &'static str,
    pub about: &'static str,
    /// Name, what it means, schema.
    pub query: Vec<(&'static str, &'static str, Value)>,
    pub kind: Kind,
    /// Status, when, and the schema where it is not the usual one.
    pub failures: Vec<(u16, &'static str, Option<Value>)>,
}

/// What it answers when all is well.
pub enum Kind {
    /// One of these: media type, schema.
    Whole(Vec<(&'static str, Value)>),
    /// The same, to a body of this schema.
    Request(Value, Vec<(&'static str, Value)>),
    /// Server-sent events whose data are of this schema.
    Events(Value),
    /// A WebSocket whose messages are of this schema.
    Socket(Value),
    /// A WebSocket to who shakes hands, else one of these.
    Either(Vec<(&'static str, Value)>, Value),
}

const NO_STREAM: (u16, &str, Option<Value>) = (404, "There is no stream of that name.", None);

/// What the route to `target` does.
pub fn describe(target: Target, schemas: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    let binary = |kind: &'static str| (kind, json!({ "type": "string", "contentMediaType": kind }));
    let page = |summary, about| Operation {
        tag: "pages",
        summary,
        about,
        query: vec![],
        kind: Kind::Whole(vec![("text/html", text())]),
        failures: vec![],
    };
    let whole = |tag, summary, about, schema: Value| Operation {
        tag,
        summary,
        about,
        query: vec![],
        kind: Kind::Whole(vec![("application/json", schema)]),
        failures: vec![],
    };
    match target {
        Target::Dashboard => page(
            "The dashboard",
            "Every stream on one wall, its viewers and rates.",
        ),
        Target::Watch => Operation {
            query: vec![
                (
                    "transport",
                    "Pins a transport, until the page's settings are changed.",
                    text(),
                ),
                (
                    "client",
                    "A name that `[[clients]]` in the config may match.",
                    text(),
                ),
            ],
            ..page(
                "The player's page",
                "Plays a stream, by the transport that fits.",
            )
        },
        Target::Docs => page(
            "The documentation",
            "How to install, configure and use this version of the gateway.",
        ),
        Target::DocsPage => Operation {
            kind: Kind::Whole(vec![("text/html", text()), binary("*/*")]),
            failures: vec![(404, "There is no such page.", None)],
            ..page(
                "A page of the documentation",
                "`/docs/api` is this description, to be read. Files that a page links to, as examples of the config, are \
                 below `/docs/repo/`.",
            )
        },
        Target::Asset => Operation {
            kind: Kind::Whole(vec![binary("*/*")]),
            failures: vec![(404, "There is no such file.", None)],
            ..page(
                "A file of the pages",
                "Scripts, styles, the player for other sites (`player.js`).",
            )
        },
        Target::Health => whole(
            "gateway",
            "Whether it is alive",
            "Also what time it is there, for clients that measure latency.",
            schemas.of::<state::Health>().to_value(),
        ),
        Target::Ready => {
            let readiness = schemas.of::<state::Readiness>().to_value();
            Operation {
                failures: vec![(503, "It shuts down.", Some(readiness.clone()))],
                ..whole(
                    "gateway",
                    "Whether it takes clients",
                    "For load balancers: not ready from SIGTERM on.",
                    readiness,
                )
            }
        }
        Target::Metrics => Operation {
            kind: Kind::Whole(vec![("text/plain", text())]),
            ..whole(
                "gateway",
                "Figures for Prometheus",
                "Text format 0.0.4.",
                Value::Null,
            )
        },
        Target::OpenApi => whole(
            "gateway",
            "This description",
            "OpenAPI 3.1, with `x-websocket`, `x-events` and `x-role` for what that has no words for.",
            json!({ "type": "object" }),
        ),
        Target::Devices => whole(
            "devices",
            "Every stream and attached device",
            "Streams of the config, and Android devices that were seen since the gateway started. Who asks often says \
             `Cache-Control: max-age=1` and may get what was made for others half a second before.",
            json!({ "type": "array", "items": schemas.of::<state::Device>().to_value() }),
        ),
        Target::Device => Operation {
            failures: vec![NO_STREAM],
            ..whole(
                "devices",
                "One stream",
                "State and reason, tracks, rates, viewers, decoder.",
                schemas.of::<state::Device>().to_value(),
            )
        },
        Target::Events => Operation {
            tag: "devices",
            summary: "What happens, as it happens",
            about: "Server-sent events, each with an id. Who comes back with `Last-Event-ID` gets what it missed, as far as the \
                    last 1,024 events go; more is messages by `missed`.",
            query: vec![(
                "last-event-id",
                "For clients that cannot set the header `Last-Event-ID`.",
                text(),
            )],
            kind: Kind::Events(events()),
            failures: vec![],
        },
        Target::Sessions => whole(
            "sessions",
            "Who watches",
            "Streams in use, players with a control channel, and viewers that are a connection alone.",
            schemas.of::<state::InUse>().to_value(),
        ),
        Target::Session => Operation {
            kind: Kind::Either(
                vec![("application/json", schemas.of::<Logged>().to_value())],
                json!({
                    "client": messages(&[("text", "What a player says.", schemas.of::<ClientMessage>().to_value())]),
                    "server": messages(&[
                        ("text", "What it is told.", schemas.of::<ServerMessage>().to_value()),
                        ("text", "The answer to `ping`.", schemas.of::<Pong>().to_value()),
                    ]),
                    "closes": closes(&[
                        (1000, "Another player attends to the session."),
                        (1007, "A message that is none of those above."),
                        (1008, "More than 20 messages a second, or none for 90 s."),
                    ]),
                }),
            ),
            failures: vec![(
                404,
                "There is no session of that id, or not any more.",
                None,
            )],
            ..whole(
                "sessions",
                "A player's control channel, or the policy's log",
                "The player reports about once a second and is told to move. Who asks by plain GET sees what the policy was \
                 asked about the session and answered. The id is known to its player only.",
                Value::Null,
            )
        },
        Target::Choice => Operation {
            query: vec![
                (
                    "can",
                    "Names of the transports that the client can play, best first, with commas.",
                    text(),
                ),
                ("transport", "Pins a transport.", text()),
                ("rendition", "Pins a rendition.", text()),
                (
                    "client",
                    "A name that `[[clients]]` in the config may match.",
                    text(),
                ),
                (
                    "network",
                    "What the browser knows of its link: `wifi`, `cellular`, …",
                    text(),
                ),
                (
                    "listening",
                    "`true` where the sound is turned on: what carries it is preferred.",
                    text(),
                ),
            ],
            failures: vec![
                (
                    307,
                    "To who does not accept JSON: where it should go.",
                    None,
                ),
                NO_STREAM,
                (406, "The client can play nothing that it may have.", None),
                (
                    429,
                    "Too many sessions of one address that were never attended to.",
                    None,
                ),
                (503, "Too many sessions, or the gateway shuts down.", None),
            ],
            ..whole(
                "live",
                "What this client should play",
                "The choice of the config's rules or the policy, with a session to follow its moves. Who does not accept JSON \
                 is redirected to what it can play.",
                schemas.of::<Chosen<'_>>().to_value(),
            )
        },
        Target::Live => live("A stream by a transport"),
        Target::NalStream => Operation {
            kind: Kind::Socket(json!({
                "client": [],
                "server": messages(&[(
                    "binary",
                    "One access unit of H.264 in Annex B: first SPS and PPS, then the newest group of pictures, then each \
                     picture as it comes.",
                    json!({ "type": "string", "contentMediaType": "video/h264" }),
                )]),
                "closes": live_closes(),
            })),
            ..live("A stream as raw H.264, as its transport nal gives it")
        },
        Target::Frame => Operation {
            tag: "capture",
            summary: "The newest picture of a stream",
            about: "The source and its decoder start if they do not run. Headers tell of the picture: `X-Capture-Id`, \
                    `X-Captured-At`, `X-Age-Ms`, `X-Width`, `X-Height`.",
            query: vec![
                (
                    "width",
                    "Pixels across at most.",
                    json!({ "type": "integer", "minimum": 16, "maximum": 8192 }),
                ),
                (
                    "quality",
                    "Of the JPEG.",
                    json!({ "type": "integer", "minimum": 1, "maximum": 100 }),
                ),
            ],
            kind: Kind::Whole(vec![binary("image/jpeg")]),
            failures: capture_failures(None),
        },
        Target::Capture => Operation {
            tag: "capture",
            summary: "Takes a picture",
            about: "JSON, or the picture itself where `Accept` names `image/jpeg`, `image/png` or `image/webp`; then headers tell \
                    the rest: `X-Capture-Id`, `X-Captured-At`, `X-Age-Ms`, `X-Width`, `X-Height`, and `X-Path` if it was saved. \
                    An empty body means the defaults.",
            query: vec![],
            kind: Kind::Request(
                schemas.of::<RawRequest>().to_value(),
                vec![
                    ("application/json", schemas.of::<CaptureResult>().to_value()),
                    binary("image/jpeg"),
                    binary("image/png"),
                    binary("image/webp"),
                ],
            ),
            failures: capture_failures(Some(schemas.of::<Failure>().to_value())),
        },
        Target::CaptureSocket => {
            let failure = schemas.of::<Failure>().to_value();
            Operation {
                tag: "capture",
                summary: "Takes pictures, again and again",
                about: "The stream's one decoder runs while a client is connected, so that each request costs a picture's \
                        encoding only. Answers come in the order of the requests, each text at once followed by its picture. At \
                        most 4 requests of a client and 16 of a stream wait; more are messages CAPTURE_BUSY.",
                query: vec![],
                kind: Kind::Socket(json!({
                    "client": messages(&[(
                        "text",
                        "A request: `{\"type\":\"capture\",\"format\":\"jpeg\",\"quality\":80,\"save\":true}`.",
                        schemas.of::<RawRequest>().to_value(),
                    )]),
                    "server": messages(&[
                        ("text", "A picture was taken; it is the next message.", schemas.of::<CaptureResult>().to_value()),
                        ("binary", "The picture.", json!({ "type": "string", "contentMediaType": "image/*" })),
                        ("text", "No picture was taken.", failure.clone()),
                    ]),
                    "closes": closes(&[
                        (1001, "The gateway shuts down."),
                        (1003, "A binary message."),
                        (1008, "No answer to a ping for 90 s."),
                    ]),
                    "errors": codes(),
                })),
                failures: vec![
                    (
                        404,
                        "UNKNOWN_DEVICE: there is no stream of that name.",
                        Some(failure.clone()),
                    ),
                    (426, "The request is no WebSocket handshake.", Some(failure)),
                ],
            }
        }
        Target::Plugins => whole(
            "components",
            "The components, and how they do",
            "Name, version, hash, limits, calls, failures, microseconds a call.",
            json!({ "type": "array", "items": schemas.of::<state::Plugin>().to_value() }),
        ),
        Target::Reload => Operation {
            failures: vec![
                (404, "There is no component of that name.", None),
                (409, "Transports are read at the start only.", None),
                (422, "What was read is no good; the one before stays.", None),
            ],
            ..whole(
                "components",
                "Reads a component again",
                "The policy only, named `policy` or by its name. Nobody moves because of it.",
                schemas.of::<state::Plugin>().to_value(),
            )
        },
    }
}

fn live(summary: &'static str) -> Operation {
    let number =
        |least: f64, most: f64| json!({ "type": "number", "minimum": least, "maximum": most });
    Operation {
        tag: "live",
        summary,
        about: "What is sent is the transport's own. Built in are `mjpeg` (`multipart/x-mixed-replace`), `hls` (`hls/index.m3u8` and \
                what that names), `nal` (WebSocket: one access unit of Annex B a message) and `mse` (WebSocket: the MIME type as a \
                text, then fragmented MP4; by plain GET an endless `video/mp4`).",
        query: vec![
            (
                "width",
                "MJPEG: pixels across at most.",
                number(16.0, 8192.0),
            ),
            ("quality", "MJPEG: of the pictures.", number(1.0, 100.0)),
            (
                "fps",
                "MJPEG: pictures a second at most.",
                number(0.1, 60.0),
            ),
            (
                "session",
                "Of the session that this is watched for.",
                json!({ "type": "string" }),
            ),
        ],
        kind: Kind::Either(
            vec![(
                "*/*",
                json!({ "type": "string", "contentMediaType": "*/*" }),
            )],
            json!({ "client": [], "server": [], "closes": live_closes() }),
        ),
        failures: vec![
            (
                400,
                "The transport does not speak this way, or a parameter is out of range.",
                None,
            ),
            (
                404,
                "There is no such stream, rendition, transport or file.",
                None,
            ),
            (
                406,
                "The source's codec cannot be had in the form this transport needs.",
                None,
            ),
            (
                426,
                "The transport speaks WebSocket only, or the client another version of it than 13.",
                None,
            ),
            (
                503,
                "The transport rests after failures, or the gateway shuts down; `Retry-After` says when.",
                None,
            ),
        ],
    }
}

fn live_closes() -> Value {
    closes(&[
        (1000, "The stream's transport was stopped."),
        (1001, "The gateway shuts down."),
        (1009, "A message of more than 64 KiB."),
        (1013, "Too much was asked; come again."),
    ])
}

fn capture_failures(schema: Option<Value>) -> Vec<(u16, &'static str, Option<Value>)> {
    [
        (400, "BAD_REQUEST"),
        (404, "UNKNOWN_DEVICE"),
        (415, "UNSUPPORTED_FORMAT"),
        (500, "DECODE_FAILED"),
        (501, "DECODER_DISABLED"),
        (503, "CAPTURE_BUSY or DEVICE_OFFLINE"),
        (504, "CAPTURE_TIMEOUT"),
        (507, "SAVE_FAILED"),
    ]
    .into_iter()
    .map(|(status, code)| (status, code, schema.clone()))
    .collect()
}

fn codes() -> Value {
    let about = |code| match code {
        Code::CaptureTimeout => "No picture came within `capture.timeout`.",
        Code::CaptureBusy => {
            "16 captures of the stream or 4 of the client wait already; try again."
        }
        Code::BadRequest => "The request cannot be read, or asks for what cannot be.",
        Code::UnsupportedFormat => "No pictures of that format are made here.",
        Code::UnknownDevice => "There is no stream of that name.",
        Code::DeviceOffline => {
            "The device is not there, or its source failed; the message says why."
        }
        Code::DecoderDisabled => "The config has `decoder = false` under `[capture]`.",
        Code::DecodeFailed => {
            "The stream cannot be decoded, and there is no good picture from before."
        }
        Code::SaveFailed => "The picture could not be written to `capture.dir`.",
    };
    let codes = Code::ALL
        .iter()
        .map(|code| json!({ "code": code, "status": code.status(), "description": about(*code) }));
    codes.collect()
}

fn messages(messages: &[(&str, &str, Value)]) -> Value {
    let message = |(name, description, schema): &(&str, &str, Value)| json!({ "name": name, "description": description, "schema": schema });
    messages.iter().map(message).collect()
}

fn closes(closes: &[(u16, &str)]) -> Value {
    closes
        .iter()
        .map(|(code, reason)| json!({ "code": code, "reason": reason }))
        .collect()
}

fn events() -> Value {
    [
        ("hello", "First on every connection: the gateway's version and when it started."),
        ("missed", "Events that are not kept any more: how many."),
        ("stream", "A stream's state changed: `serial`, `state`, `reason`, `since`."),
        ("group-cut", "A group of pictures outgrew the ring."),
        ("viewer-came", "A viewer's connection: `viewer`, `stream`, `rendition`, `transport`."),
        ("viewer-left", "It went: also `seconds`, `bytes`, `jumps`."),
        ("session", "A session moved: `from`, `transport`, `rendition`, `reason`."),
        ("plugin", "A component failed, rests or works again."),
        ("capture", "A capture was saved: `serial`, `capture_id`, `captured_at`, `width`, `height`, `bytes`, `path`."),
    ]
    .iter()
    .map(|(name, description)| json!({ "name": name, "description": description }))
    .collect()
}

/// What a picture's response says of it.
pub fn picture_headers() -> Value {
    let header = |description: &str, kind: &str| json!({ "description": description, "schema": { "type": kind } });
    json!({
        "X-Capture-Id": header("Names the capture.", "string"),
        "X-Captured-At": header("When the picture came from the source: RFC 3339.", "string"),
        "X-Age-Ms": header("How old it was when it was made a file.", "integer"),
        "X-Width": header("Pixels across.", "integer"),
        "X-Height": header("Pixels down.", "integer"),
        "X-Path": header("Where it was saved, below `capture.dir`.", "string"),
    })
}
