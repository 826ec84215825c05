//! Texts and schemas of each route for the OpenAPI document.
//!
//! [`describe`] matches on every [`Target`], so a route without a description does not compile. The texts are for users
//! and appear in `/docs/api`.

use super::Schemas;
use crate::api::{
    Target, account,
    choice::PlaybackChoice,
    halves::Half,
    recording::{DEFAULT_BYTES, DEFAULT_SECONDS, MAX_BYTES, MAX_SECONDS},
    session::{ClientMessage, Pong, SessionLog},
    state,
};
use crate::session::ServerMessage;
use serde_json::{Value, json};
use sluicegate_capture::{CaptureResult, Code, Failure, RawRequest};

/// Groups of operations with their descriptions.
pub const TAGS: &[(&str, &str)] = &[
    (
        "live",
        "Watching a stream. Everything below a transport's path is defined by the transport.",
    ),
    (
        "capture",
        "Still images on request, whether or not the stream has viewers.",
    ),
    (
        "devices",
        "Streams and attached devices: their state, and events about them.",
    ),
    (
        "sessions",
        "Players and viewers, and a player's control channel.",
    ),
    (
        "config",
        "The streams that there are, and the config. For administrators.",
    ),
    (
        "components",
        "The WebAssembly components. For administrators of the gateway.",
    ),
    (
        "account",
        "Signing in, and one's own sign-ins, API tokens and share links.",
    ),
    ("gateway", "State of the gateway itself."),
    ("pages", "Web pages."),
];

/// Close code after the permission was taken away.
const REVOKED: (u16, &str) = (
    4401,
    "The caller was signed out, or its permission was taken away.",
);

/// Answer to a change of components while the gateway shuts down.
const ENDING: (u16, &str, Option<Value>) = (
    503,
    "The gateway is shutting down; nothing has changed.",
    None,
);

/// Description of a route.
pub struct Operation {
    /// Name of the group in [`TAGS`].
    pub tag: &'static str,
    /// Title.
    pub summary: &'static str,
    /// Description, Markdown.
    pub about: &'static str,
    /// Query parameters: name, description, schema.
    pub query: Vec<(&'static str, &'static str, Value)>,
    /// Form of the successful answer.
    pub kind: Kind,
    /// Other answers: status, description, and the schema if it is not that of the usual error.
    pub failures: Vec<(u16, &'static str, Option<Value>)>,
}

/// Form of a successful answer.
pub enum Kind {
    /// A response of one of these media types, each with its schema.
    Body(Vec<(&'static str, Value)>),
    /// The same, to a request with a JSON body of this schema.
    Request(Value, Vec<(&'static str, Value)>),
    /// Server-sent events of these kinds.
    Events(Value),
    /// A WebSocket with these messages.
    Socket(Value),
    /// A WebSocket with these messages after a handshake, else a response of one of these media types.
    BodyOrSocket(Vec<(&'static str, Value)>, Value),
}

const NO_STREAM: (u16, &str, Option<Value>) = (404, "There is no stream of that name.", None);

/// Describes the route to `target`; schemas that it uses are added to `schemas`.
pub fn describe(target: Target, schemas: &mut Schemas) -> Operation {
    let text = || json!({ "type": "string" });
    let binary = |kind: &'static str| (kind, json!({ "type": "string", "contentMediaType": kind }));
    let page = |summary, about| Operation {
        tag: "pages",
        summary,
        about,
        query: vec![],
        kind: Kind::Body(vec![("text/html", text())]),
        failures: vec![],
    };
    let json_response = |tag, summary, about, schema: Value| Operation {
        tag,
        summary,
        about,
        query: vec![],
        kind: Kind::Body(vec![("application/json", schema)]),
        failures: vec![],
    };
    match target {
        Target::LoginPage
        | Target::Login
        | Target::Logout
        | Target::OpenLink
        | Target::AccountPage
        | Target::ChangeAccount
        | Target::Account
        | Target::EndSession
        | Target::CreateToken
        | Target::RevokeToken
        | Target::CreateLink
        | Target::RevokeLink => of_account(target, schemas),
        Target::Streams
        | Target::PutStream
        | Target::RemoveStream
        | Target::TrySource
        | Target::ReloadConfig => super::config::describe(target, schemas),
        Target::Dashboard => page(
            "Dashboard",
            "A page with all streams, their viewers and rates.",
        ),
        Target::StreamsPage => page(
            "Streams page",
            "A page to add, change and remove streams, and to try a source first.",
        ),
        Target::Watch => Operation {
            query: vec![
                (
                    "transport",
                    "Pins a transport until the page's settings are changed. Default: the gateway chooses.",
                    text(),
                ),
                (
                    "client",
                    "Name of the client, for `match.client` of a rule in `[[clients]]`.",
                    text(),
                ),
            ],
            ..page(
                "Player page",
                "A page that plays a stream by the transport and rendition that the gateway chooses.",
            )
        },
        Target::Docs => page(
            "Documentation",
            "How to install, configure and use this version of the gateway.",
        ),
        Target::DocsPage => Operation {
            kind: Kind::Body(vec![("text/html", text()), binary("*/*")]),
            failures: vec![(404, "There is no such page.", None)],
            ..page(
                "Page of the documentation",
                "`/docs/api` shows this description. Files that pages link to, such as example configs, are below \
                 `/docs/repo/`.",
            )
        },
        Target::Asset => Operation {
            kind: Kind::Body(vec![binary("*/*")]),
            failures: vec![(404, "There is no such file.", None)],
            ..page(
                "File of a page",
                "Scripts and styles, and the player element for other sites (`player.js`).",
            )
        },
        Target::Health => json_response(
            "gateway",
            "Liveness",
            "Answers as long as the gateway runs, with its clock, which clients use to measure latency.",
            schemas.of::<state::Health>().to_value(),
        ),
        Target::Ready => {
            let readiness = schemas.of::<state::Readiness>().to_value();
            Operation {
                failures: vec![(503, "The gateway shuts down.", Some(readiness.clone()))],
                ..json_response(
                    "gateway",
                    "Readiness",
                    "For load balancers: 200 until the shutdown begins, 503 from then on.",
                    readiness,
                )
            }
        }
        Target::Metrics => Operation {
            kind: Kind::Body(vec![("text/plain", text())]),
            ..json_response(
                "gateway",
                "Metrics for Prometheus",
                "All metrics in the Prometheus text format 0.0.4.",
                Value::Null,
            )
        },
        Target::OpenApi => json_response(
            "gateway",
            "This description",
            "OpenAPI 3.1, with extensions: `x-websocket` describes a WebSocket's messages, `x-events` server-sent events, \
             `x-role` who may call an operation.",
            json!({ "type": "object" }),
        ),
        Target::Devices => json_response(
            "devices",
            "All streams and attached devices",
            "Streams of the config, and Android devices that were attached since the gateway started. Clients that poll should \
             send `Cache-Control: max-age=1`; they may get an answer that was made for another client up to half a second \
             before.",
            json!({ "type": "array", "items": schemas.of::<state::Device>().to_value() }),
        ),
        Target::Device => Operation {
            failures: vec![NO_STREAM],
            ..json_response(
                "devices",
                "One stream",
                "State with its reason, tracks, rates, viewers and decoder of a stream.",
                schemas.of::<state::Device>().to_value(),
            )
        },
        Target::Events => Operation {
            tag: "devices",
            summary: "Events",
            about: "Server-sent events, each with an id. A client that reconnects with `Last-Event-ID` gets the events since \
                    then, up to the last 1,024; the event `missed` counts those that are no longer kept.",
            query: vec![(
                "last-event-id",
                "Id of the last event received, for clients that cannot set the header `Last-Event-ID`. Default: only new \
                 events are sent.",
                text(),
            )],
            kind: Kind::Events(events()),
            failures: vec![],
        },
        Target::Sessions => json_response(
            "sessions",
            "Sessions and viewers",
            "All streams with their load, players with a control channel, and viewers without a session.",
            schemas.of::<state::SessionList>().to_value(),
        ),
        Target::Session => Operation {
            kind: Kind::BodyOrSocket(
                vec![("application/json", schemas.of::<SessionLog>().to_value())],
                json!({
                    "client": messages(&[("text", "A message from the player.", schemas.of::<ClientMessage>().to_value())]),
                    "server": messages(&[
                        ("text", "A message to the player.", schemas.of::<ServerMessage>().to_value()),
                        ("text", "Answer to `ping`.", schemas.of::<Pong>().to_value()),
                    ]),
                    "closes": closes(&[
                        (1000, "Another control channel took over the session."),
                        (1007, "The message is none of those above."),
                        (1008, "More than 20 messages a second, or none for 90 s."),
                        REVOKED,
                    ]),
                }),
            ),
            failures: vec![(404, "The session is unknown or expired.", None)],
            ..json_response(
                "sessions",
                "Control channel of a player, or its policy log",
                "Over WebSocket, the player reports its measurements about once a second, and the gateway tells it when to \
                 move to another transport or rendition. An ordinary GET returns the session and its last policy calls. The \
                 id is secret; only the player that started the session by `/live/{stream}` knows it.",
                Value::Null,
            )
        },
        Target::Choice => Operation {
            query: vec![
                (
                    "can",
                    "Names of the transports that the client can play, best first, separated by commas. Default: all.",
                    text(),
                ),
                (
                    "transport",
                    "Pins a transport. Default, and for `auto`: the gateway chooses.",
                    text(),
                ),
                (
                    "rendition",
                    "Pins a rendition. Default: the gateway chooses.",
                    text(),
                ),
                (
                    "client",
                    "Name of the client, for `match.client` of a rule in `[[clients]]`.",
                    text(),
                ),
                (
                    "network",
                    "Network as the browser reports it: `wifi`, `cellular` and so on.",
                    text(),
                ),
                (
                    "listening",
                    "`true` if sound is turned on; transports with audio are then preferred. Default: `false`.",
                    text(),
                ),
            ],
            failures: vec![
                (
                    307,
                    "The client does not accept JSON: `Location` is what it can play.",
                    None,
                ),
                NO_STREAM,
                (
                    406,
                    "The client can play nothing that the config allows and the stream offers.",
                    None,
                ),
                (
                    429,
                    "256 sessions of this address never opened their control channel.",
                    None,
                ),
                (503, "Too many sessions, or the gateway shuts down.", None),
            ],
            ..json_response(
                "live",
                "Choice of transport and rendition",
                "A client that accepts JSON gets the choice of the config's rules or the policy, and a session whose control \
                 channel announces later moves. Other clients are redirected to what they can play.",
                schemas.of::<PlaybackChoice<'_>>().to_value(),
            )
        },
        Target::Live => live("Stream over a transport"),
        Target::NalStream => Operation {
            kind: Kind::Socket(json!({
                "client": [],
                "server": messages(&[(
                    "binary",
                    "One H.264 access unit in Annex B. The first message has SPS and PPS; then come the newest group and each \
                     further frame.",
                    json!({ "type": "string", "contentMediaType": "video/h264" }),
                )]),
                "closes": live_closes(),
            })),
            ..live("Stream as raw H.264, over the transport nal")
        },
        Target::Halves => Operation {
            query: vec![(
                "session",
                "Id of the session that connections with these tickets belong to.",
                text(),
            )],
            failures: vec![(404, "There is no such stream or rendition.", None)],
            ..json_response(
                "live",
                "Transports that bring a player",
                "The transports whose component has a half that runs in the browser, each with a ticket for this stream or \
                 rendition. The list is the same for all streams; it is empty if there are none.",
                json!({ "type": "array", "items": schemas.of::<Half>().to_value() }),
            )
        },
        Target::HalfFrame => Operation {
            query: vec![("ticket", "Ticket from `/api/halves/{stream}`.", text())],
            failures: vec![
                (
                    403,
                    "The ticket is missing, for something else, or expired.",
                    None,
                ),
                (
                    404,
                    "The transport does not exist, or has no half in the browser.",
                    None,
                ),
            ],
            ..page(
                "Frame of a half in the browser",
                "The document in which the player element runs the module of a transport, in a sandbox with an opaque origin.",
            )
        },
        Target::HalfModule => Operation {
            kind: Kind::Body(vec![binary("text/javascript")]),
            failures: vec![(404, "No transport has this module now.", None)],
            ..page(
                "Module of a half in the browser",
                "An ES module of a component, under the SHA-256 of its content. Frames with an opaque origin may load it.",
            )
        },
        Target::Frame => Operation {
            tag: "capture",
            summary: "Newest frame of a stream",
            about: "The newest frame as JPEG. The source and its decoder start if they do not run. The headers \
                    `X-Capture-Id`, `X-Captured-At`, `X-Age-Ms`, `X-Width` and `X-Height` describe the image.",
            query: vec![
                (
                    "width",
                    "Maximum width in pixels. Default: that of the stream or rendition.",
                    json!({ "type": "integer", "minimum": 16, "maximum": 8192 }),
                ),
                (
                    "quality",
                    "JPEG quality. Default: `quality` of `[capture]`.",
                    json!({ "type": "integer", "minimum": 1, "maximum": 100 }),
                ),
            ],
            kind: Kind::Body(vec![binary("image/jpeg")]),
            failures: capture_failures(None),
        },
        Target::Capture => Operation {
            tag: "capture",
            summary: "Take a capture",
            about: "The answer is JSON, or the image itself if `Accept` names `image/jpeg`, `image/png` or `image/webp`; the \
                    headers `X-Capture-Id`, `X-Captured-At`, `X-Age-Ms`, `X-Width`, `X-Height` and, if it was saved, `X-Path` \
                    then describe it. An empty body means the defaults.",
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
                summary: "Take captures repeatedly",
                about: "The stream's decoder runs as long as a client is connected, so each request only costs encoding one \
                        image. Answers come in the order of the requests, each text directly followed by its image. At \
                        most 4 requests of a client and 16 of a stream wait; further ones are answered with CAPTURE_BUSY.",
                query: vec![],
                kind: Kind::Socket(json!({
                    "client": messages(&[(
                        "text",
                        "A request: `{\"type\":\"capture\",\"format\":\"jpeg\",\"quality\":80,\"save\":true}`.",
                        schemas.of::<RawRequest>().to_value(),
                    )]),
                    "server": messages(&[
                        ("text", "The capture succeeded; the next message is its image.", schemas.of::<CaptureResult>().to_value()),
                        ("binary", "The image.", json!({ "type": "string", "contentMediaType": "image/*" })),
                        ("text", "The capture failed.", failure.clone()),
                    ]),
                    "closes": closes(&[
                        (1001, "The gateway shuts down."),
                        REVOKED,
                        (1003, "The client sent a binary message."),
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
                    (
                        426,
                        "The request is not a WebSocket handshake.",
                        Some(failure),
                    ),
                ],
            }
        }
        Target::Plugins => json_response(
            "components",
            "Components",
            "Transports and the policy, with version, hash, limits, calls, failures and state.",
            json!({ "type": "array", "items": schemas.of::<state::Plugin>().to_value() }),
        ),
        Target::AddPlugin => {
            let answer = schemas.of::<state::Plugin>().to_value();
            let keys = json!({
                "type": "object",
                "required": ["name", "plugin"],
                "properties": {
                    "name": { "type": "string", "description": "Name of the new transport, for paths." },
                    "plugin": {
                        "type": "string",
                        "description": "Path of the component's file on the gateway's machine; a relative one starts at the config file's folder."
                    },
                    "trusted": { "type": "boolean", "description": "As under `[transports.NAME]`." },
                    "watch": { "type": "boolean", "description": "As under `[transports.NAME]`." },
                    "limits": { "type": "object", "description": "As under `[transports.NAME]`." }
                },
                "additionalProperties": true
            });
            Operation {
                kind: Kind::Request(keys, vec![("application/json", answer.clone())]),
                failures: vec![
                    (400, "The body is not valid.", None),
                    (
                        409,
                        "The name is taken, or another component is being loaded or compared.",
                        None,
                    ),
                    (422, "The component cannot be used.", None),
                    ENDING,
                ],
                ..json_response(
                    "components",
                    "Add a transport",
                    "Adds a transport until the gateway ends. The keys are those of `[transports.NAME]`, and `name`; \
                     further keys are options of the component.",
                    answer,
                )
            }
        }
        Target::RemovePlugin => Operation {
            failures: vec![
                (404, "There is no transport of that name.", None),
                (
                    409,
                    "The transport is part of the binary, or another component is being loaded or compared.",
                    None,
                ),
                ENDING,
            ],
            ..json_response(
                "components",
                "Remove a transport",
                "Removes a transport until the gateway ends. Its viewers are disconnected with a reason, and sessions move \
                 to another one. Answers with the entry that it had.",
                schemas.of::<state::Plugin>().to_value(),
            )
        },
        Target::Recording => Operation {
            tag: "components",
            summary: "Record a component's calls",
            about: "What the transport's component is called with on one stream and what it returns, as it happens: one \
                    JSON object per line. `sluicegate plugin record` writes it to a file, and `sluicegate plugin replay` \
                    repeats it. It contains the media, and paths and queries of viewers.",
            query: vec![
                (
                    "stream",
                    "Stream, with `@` and the rendition if there is one. Default: the only one that the transport runs on.",
                    text(),
                ),
                (
                    "seconds",
                    "Length of the recording.",
                    json!({ "type": "integer", "minimum": 1, "maximum": MAX_SECONDS, "default": DEFAULT_SECONDS }),
                ),
                (
                    "bytes",
                    "Size after which it ends.",
                    json!({ "type": "integer", "minimum": 1, "maximum": MAX_BYTES, "default": DEFAULT_BYTES }),
                ),
            ],
            kind: Kind::Body(vec![("application/x-ndjson", text())]),
            failures: vec![
                (
                    400,
                    "The query has another key, or a number out of range.",
                    None,
                ),
                (
                    404,
                    "There is no such transport or stream, or nobody watches the stream by it.",
                    None,
                ),
                (
                    409,
                    "It is being recorded already, or its last viewer has just left.",
                    None,
                ),
                (503, "The transport is just being stopped.", None),
            ],
        },
        Target::Reload => Operation {
            query: vec![(
                "force",
                "Take a transport that has changed into use without a comparison. Its viewers are disconnected and come \
                 back.",
                json!({ "type": "boolean", "default": false }),
            )],
            failures: vec![
                (400, "The query has something else than `force`.", None),
                (404, "There is no component of that name.", None),
                (
                    409,
                    "The transport is part of the binary, or another component is being loaded or compared.",
                    None,
                ),
                (
                    422,
                    "The new component is invalid, or does worse than the one in use, which stays.",
                    None,
                ),
                ENDING,
            ],
            ..json_response(
                "components",
                "Reload a component",
                "Reads the component of a transport or of the policy again. `name` is the transport's name, `policy` or the \
                 policy's own name. A transport that has changed is first compared with the one in use, on all streams \
                 that are watched; then it takes over without disconnecting viewers. After a change of the policy, \
                 sessions keep playing what they play.",
                schemas.of::<state::Plugin>().to_value(),
            )
        },
    }
}

/// Describes the routes of accounts.
fn of_account(target: Target, schemas: &mut Schemas) -> Operation {
    let see = |text| (303, text, None);
    let account = |schemas: &mut Schemas| schemas.of::<account::Account>().to_value();
    let operation = |summary, about, kind, failures| Operation {
        tag: "account",
        summary,
        about,
        query: vec![],
        kind,
        failures,
    };
    let html = || Kind::Body(vec![("text/html", json!({ "type": "string" }))]);
    let text = || Kind::Body(vec![("text/plain", json!({ "type": "string" }))]);
    let kept = |schema: Value| Kind::Body(vec![("application/json", schema)]);
    let made = |body: Value, schema: Value| Kind::Request(body, vec![("application/json", schema)]);
    let not_stored = [
        (500, "The change cannot be stored; the log says why.", None),
        (
            503,
            "Too many changes wait to be stored; `Retry-After` says when to retry.",
            None,
        ),
    ];
    let refused = || {
        let refused = [
            (400, "The body is not valid.", None),
            (409, "There are too many of them.", None),
        ];
        refused
            .into_iter()
            .chain(not_stored.clone())
            .collect::<Vec<_>>()
    };
    let gone = || {
        let gone = [(
            404,
            "There is none with this id, or it is somebody else's.",
            None,
        )];
        gone.into_iter()
            .chain(not_stored.clone())
            .collect::<Vec<_>>()
    };
    match target {
        Target::LoginPage => Operation {
            query: vec![(
                "next",
                "Path that is shown after signing in. Default: `/`.",
                json!({ "type": "string" }),
            )],
            ..operation(
                "Page for signing in",
                "A form that works without script. It posts `name`, `password` and `next`.",
                html(),
                vec![],
            )
        },
        Target::Login => operation(
            "Sign in",
            "Takes the form's fields `name`, `password` and `next` (`application/x-www-form-urlencoded`), sets the cookie of \
             a sign-in, and leads to `next`.",
            html(),
            vec![
                see("The caller has signed in."),
                (400, "The body cannot be read.", None),
                (
                    401,
                    "There is no such name, or the password is wrong.",
                    None,
                ),
                (
                    429,
                    "Too many wrong passwords; `Retry-After` says when to retry.",
                    None,
                ),
                (500, "The sign-in cannot be stored; the log says why.", None),
                (
                    503,
                    "Too many passwords wait to be checked; `Retry-After` says when to retry.",
                    None,
                ),
            ],
        ),
        Target::Logout => operation(
            "Sign out",
            "Ends the sign-in, removes the cookie, and leads to the page for signing in.",
            text(),
            vec![see("The caller has signed out.")],
        ),
        Target::OpenLink => operation(
            "Open a share link",
            "Sets a cookie that permits what the link does, and leads to the stream's page.",
            text(),
            vec![
                see("The link is valid."),
                (404, "The link is not valid, or not any more.", None),
                (
                    429,
                    "Too many wrong links; `Retry-After` says when to retry.",
                    None,
                ),
                (500, "The session cannot be stored; the log says why.", None),
                (
                    503,
                    "Too many changes wait to be stored; `Retry-After` says when to retry.",
                    None,
                ),
            ],
        ),
        Target::AccountPage => Operation {
            query: vec![(
                "stream",
                "Stream that the form for a share link begins with.",
                json!({ "type": "string" }),
            )],
            ..operation(
                "Page of the account",
                "Sign-ins, API tokens and share links, with forms that work without script.",
                html(),
                vec![],
            )
        },
        Target::ChangeAccount => operation(
            "Change the account",
            "What the forms of the page post: `action` and its fields (`application/x-www-form-urlencoded`). Programs use \
             `/api/account`.",
            html(),
            vec![
                see("It is done; the page shows what there is now."),
                (400, "A field is missing or not valid.", None),
                (
                    404,
                    "There is none with this id, or no stream of that name.",
                    None,
                ),
                (409, "There are too many of them.", None),
                (500, "The change cannot be stored; the log says why.", None),
                (
                    503,
                    "Too many changes wait to be stored; `Retry-After` says when to retry.",
                    None,
                ),
            ],
        ),
        Target::Account => {
            let schema = account(schemas);
            operation(
                "Account",
                "Who the caller is, with its sign-ins, API tokens and share links; an administrator of the gateway gets \
                 those of all users. No secret is in it.",
                kept(schema),
                vec![],
            )
        }
        Target::EndSession => {
            let schema = account(schemas);
            operation(
                "End a sign-in",
                "Whatever was opened with it ends within a second. Answers with what there is then.",
                kept(schema),
                gone(),
            )
        }
        Target::CreateToken => {
            let body = schemas.of::<account::NewToken>().to_value();
            let schema = schemas.of::<account::MadeToken>().to_value();
            operation(
                "Create an API token",
                "A token acts for its user, within its own rights. Its secret is in this answer only.",
                made(body, schema),
                refused(),
            )
        }
        Target::RevokeToken => {
            let schema = account(schemas);
            operation(
                "Revoke an API token",
                "Whatever was opened with it ends within a second. Answers with what there is then.",
                kept(schema),
                gone(),
            )
        }
        Target::CreateLink => {
            let body = schemas.of::<account::NewLink>().to_value();
            let schema = schemas.of::<account::MadeLink>().to_value();
            let mut failures = refused();
            failures.push(NO_STREAM);
            operation(
                "Create a share link",
                "Whoever has the link may watch the stream, until a time. Its path is in this answer only.",
                made(body, schema),
                failures,
            )
        }
        _ => {
            let schema = account(schemas);
            operation(
                "Revoke a share link",
                "Whoever opened it is signed out within a second. Answers with what there is then.",
                kept(schema),
                gone(),
            )
        }
    }
}

/// Describes the paths of transports, which differ in their summary only.
fn live(summary: &'static str) -> Operation {
    let number =
        |least: f64, most: f64| json!({ "type": "number", "minimum": least, "maximum": most });
    Operation {
        tag: "live",
        summary,
        about: "The transport defines what is sent. Built-in transports are `mjpeg` (`multipart/x-mixed-replace`), `hls` \
                (`hls/index.m3u8` and the URLs in it), `nal` (WebSocket: one Annex B access unit per message) and `mse` \
                (WebSocket: the MIME type as a text, then fragmented MP4; by ordinary GET an endless `video/mp4`).",
        query: vec![
            (
                "width",
                "MJPEG: maximum width in pixels, rounded up to the next step. Default: at most 1280×720.",
                number(16.0, 8192.0),
            ),
            (
                "quality",
                "MJPEG: JPEG quality, rounded to a multiple of 10. Default: 75.",
                number(1.0, 100.0),
            ),
            (
                "fps",
                "MJPEG: maximum frames per second. Default: the transport's maximum.",
                number(0.1, 60.0),
            ),
            (
                "session",
                "Id of the session that the connection belongs to.",
                json!({ "type": "string" }),
            ),
            (
                "ticket",
                "Ticket from `/api/halves/{stream}`, for a frame with an opaque origin (`Origin: null`): 403 unless it is \
                 for this stream, rendition and transport and has not expired.",
                json!({ "type": "string" }),
            ),
        ],
        kind: Kind::BodyOrSocket(
            vec![(
                "*/*",
                json!({ "type": "string", "contentMediaType": "*/*" }),
            )],
            json!({ "client": [], "server": [], "closes": live_closes() }),
        ),
        failures: vec![
            (
                400,
                "The transport does not use this carrier (HTTP or WebSocket), or a parameter is out of range.",
                None,
            ),
            (
                404,
                "There is no such stream, rendition, transport or file.",
                None,
            ),
            (
                406,
                "The source's codec cannot be converted to what the transport needs.",
                None,
            ),
            (
                426,
                "The transport is available over WebSocket only, or the client uses another version of it than 13.",
                None,
            ),
            (
                503,
                "The transport's circuit breaker is open, all JPEG sizes are in use, or the gateway shuts down; \
                 `Retry-After` says when to retry.",
                None,
            ),
        ],
    }
}

fn live_closes() -> Value {
    closes(&[
        (1000, "The transport was stopped."),
        (1001, "The gateway shuts down."),
        REVOKED,
        (1009, "The client sent a message of more than 64 KiB."),
        (1013, "The client sent too many messages; try again later."),
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
        Code::CaptureTimeout => "No image within `timeout` of `[capture]`.",
        Code::CaptureBusy => {
            "16 requests of the stream or 4 of the client wait already; try again later."
        }
        Code::BadRequest => "The request is malformed or out of range.",
        Code::UnsupportedFormat => "This format is not available.",
        Code::UnknownDevice => "There is no stream of that name.",
        Code::DeviceOffline => {
            "The device is not attached or its source failed; the message says why."
        }
        Code::DecoderDisabled => "The config has `decoder = false` under `[capture]`.",
        Code::DecodeFailed => "The stream cannot be decoded and no earlier good image exists.",
        Code::SaveFailed => "The image could not be written to `dir` of `[capture]`.",
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
        ("hello", "First on every connection: `version`, `run`, `started`."),
        ("missed", "Number of events that are no longer kept."),
        ("stream", "A stream changed state: `serial`, `state`, `reason`, `since`."),
        ("group-cut", "A group outgrew the ring and was cut."),
        ("viewer-came", "A viewer connected: `viewer`, `stream`, `rendition`, `transport`."),
        ("viewer-left", "A viewer disconnected: as `viewer-came`, and `seconds`, `bytes`, `jumps`."),
        ("session", "A session moved: `session`, `stream`, `from`, `transport`, `rendition`, `reason`."),
        ("swap", "The component of a transport is exchanged: `transport`, `component`, `state`, `reason`."),
        ("config", "The config was read again, for administrators: `by`, `result`, `error`, and what has changed."),
        ("plugin", "A component failed, its circuit breaker opened, or it works again."),
        ("capture", "A capture was saved: `serial`, `capture_id`, `captured_at`, `width`, `height`, `bytes`, `path`."),
    ]
    .iter()
    .map(|(name, description)| json!({ "name": name, "description": description }))
    .collect()
}

/// Headers that describe a captured image.
pub fn image_headers() -> Value {
    let header = |description: &str, kind: &str| json!({ "description": description, "schema": { "type": kind } });
    json!({
        "X-Capture-Id": header("Identifies the capture.", "string"),
        "X-Captured-At": header("When the frame arrived from the source, RFC 3339.", "string"),
        "X-Age-Ms": header("Age of the frame when it was encoded, milliseconds.", "integer"),
        "X-Width": header("Width in pixels.", "integer"),
        "X-Height": header("Height in pixels.", "integer"),
        "X-Path": header("Path of the saved image, relative to `dir` of `[capture]`.", "string"),
    })
}
