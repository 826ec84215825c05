//! Texts and schemas of the routes that change streams and the config.

use super::{
    Schemas,
    operations::{Kind, Operation},
};
use crate::api::{
    Target,
    try_source::{TryRequest, TryResult},
};
use crate::gateway::{Reloaded, StreamEntry};
use serde_json::{Value, json};

/// Answer to a change that is not begun.
const BUSY: (u16, &str, Option<Value>) = (
    503,
    "Too many changes wait already, or the gateway is shutting down; nothing has changed. See `Retry-After`.",
    None,
);
/// Answer to a change that rules of the config, or something else in it, does not go with.
const REFUSED: (u16, &str, Option<Value>) = (
    422,
    "The config does not go with this change; nothing has changed.",
    None,
);
const FAILED: (u16, &str, Option<Value>) = (
    500,
    "It cannot be stored, or failed by an internal error.",
    None,
);

/// Describes the route to `target`, which is one of those about streams and the config.
pub fn describe(target: Target, schemas: &mut Schemas) -> Operation {
    let operation = |summary, about, kind, failures| Operation {
        tag: "config",
        summary,
        about,
        query: vec![],
        kind,
        failures,
    };
    let entry = schemas.of::<StreamEntry>().to_value();
    match target {
        Target::Streams => operation(
            "Streams and where they are kept",
            "The streams that the caller administers, with their settings. Sources are without secrets.",
            Kind::Body(vec![(
                "application/json",
                json!({ "type": "array", "items": entry }),
            )]),
            vec![],
        ),
        Target::PutStream => operation(
            "Add or change a stream",
            "Adds a stream, or gives one that was added so other settings, and keeps it in the state file: it is there again \
             after a restart. Streams of the config file are changed there. Viewers stay when a stream changes, and see the \
             new source in their player. The body has the keys of `[streams.NAME]`. Without `source`, that of the stream \
             stays, since its password cannot be read back. Sources are URLs, `test-pattern`, `android:SERIAL`, \
             `annexb:tcp://HOST:PORT` and V4L2 cameras; others reach into the gateway's machine, and can be in the config \
             only.",
            Kind::Request(
                json!({
                    "type": "object",
                    "properties": {
                        "source": { "type": "string", "description": "As under `[streams.NAME]`." },
                        "idle": { "type": "string", "description": "As under `[streams.NAME]`." },
                        "always-on": { "type": "boolean", "description": "As under `[streams.NAME]`." },
                        "every": { "type": "string", "description": "As under `[streams.NAME]`." },
                        "redirects": { "type": "array", "items": { "type": "string" }, "description": "As under `[streams.NAME]`." },
                        "encode": { "type": "object", "description": "As under `[streams.NAME]`." },
                        "renditions": { "type": "object", "description": "As under `[streams.NAME]`." }
                    },
                    "additionalProperties": false
                }),
                vec![("application/json", entry.clone())],
            ),
            vec![
                (201, "The stream is new.", Some(entry)),
                (400, "The name, the body or a key is not valid.", None),
                (
                    412,
                    "There is a stream of that name, and the request has `If-None-Match: *`.",
                    None,
                ),
                (
                    403,
                    "A source of this kind can be in the config only.",
                    None,
                ),
                (
                    409,
                    "The stream is in the config file, or is a discovered device, or there are as many as possible.",
                    None,
                ),
                REFUSED,
                FAILED,
                BUSY,
            ],
        ),
        Target::RemoveStream => operation(
            "Remove a stream",
            "Removes a stream that was added by `PUT`. Its viewers are disconnected with a reason. Answers with what it was.",
            Kind::Body(vec![("application/json", entry)]),
            vec![
                (404, "There is no stream of that name.", None),
                (
                    409,
                    "The stream is in the config file, or is a discovered device.",
                    None,
                ),
                REFUSED,
                FAILED,
                BUSY,
            ],
        ),
        Target::TrySource => operation(
            "Try a source",
            "Connects to a source for a few seconds, at most 15, and describes what it delivers, with a frame of it. The source \
             is in no list, and ends when the client disconnects.",
            Kind::Request(
                schemas.of::<TryRequest>().to_value(),
                vec![("application/json", schemas.of::<TryResult>().to_value())],
            ),
            vec![
                (400, "The body is not valid.", None),
                (403, "The caller may not give a source of this kind.", None),
                (
                    422,
                    "The source cannot be opened, or delivers nothing; the text says what to do.",
                    None,
                ),
                (
                    503,
                    "Other sources are being tried, or the gateway is shutting down; see `Retry-After`.",
                    None,
                ),
            ],
        ),
        _ => operation(
            "Reload the config",
            "Reads the config file again and puts it in force, as the signal SIGHUP does. Only what differs is changed: viewers \
             of everything else notice nothing. With a mistake in the file, nothing is changed. Waits while a component is \
             exchanged.",
            Kind::Body(vec![(
                "application/json",
                schemas.of::<Reloaded>().to_value(),
            )]),
            vec![
                (409, "The gateway runs without a config file.", None),
                (
                    422,
                    "The file cannot be read or has mistakes: a line each, with their places.",
                    None,
                ),
                FAILED,
                BUSY,
            ],
        ),
    }
}
