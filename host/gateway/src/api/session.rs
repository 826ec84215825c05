//! `/api/sessions/{id}`: a player's control channel as a WebSocket with JSON messages; by GET, the log of the session's
//! policy calls.
//!
//! From the player: `{"type":"report",…}` about once a second, `{"type":"playing"|"failed","transport","rendition"}`,
//! `{"type":"pin","transport","rendition"}`, `{"type":"auto"}`, `{"type":"ping","id"}`. To the player: `move`,
//! `choices`, `refused` ([`ServerMessage`]) and `{"type":"pong","id","now"}`. Messages are parsed and checked here and
//! passed to [`Sessions`](crate::session::Sessions). One control channel at a time: a new one ends the earlier.

use super::{Body, Visitor, boxed, error, json, live};
use crate::gateway::Gateway;
use crate::session::{LoggedCall, Pin, PlaybackTarget, ServerMessage, Session, SessionView};
use hyper::{Request, Response, StatusCode, body::Incoming};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluicegate_config::BasePath;
use sluicegate_net::websocket::{self, MessageHandler, RateLimit};
use sluicegate_plugin::policy::Report;
use sluicegate_telemetry::unix_ms;
use sluicegate_viewer::Content;
use std::{sync::Arc, time::SystemTime};
use tokio::sync::mpsc;

/// A message from a player to the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ClientMessage {
    /// Measurements, about once a second. Ignored within 250 ms after the last one.
    Report(Box<ClientReport>),
    /// This transport and rendition shows its first frame.
    Playing {
        /// Name of the transport.
        transport: String,
        /// Name of the rendition; empty for the stream itself.
        rendition: String,
    },
    /// This transport and rendition showed no frame in time, or its connection ended.
    Failed {
        /// Name of the transport.
        transport: String,
        /// Name of the rendition; empty for the stream itself.
        rendition: String,
    },
    /// The user selected manually. What is null or absent is left to the policy.
    Pin {
        /// Name of the transport.
        transport: Option<String>,
        /// Name of the rendition; empty for the stream itself.
        rendition: Option<String>,
    },
    /// The user leaves the choice to the policy again.
    Auto,
    /// Answered with `pong`, to measure round trip time and the difference of the clocks.
    Ping {
        /// Any number; the answer repeats it.
        id: u64,
    },
}

/// A player's measurements. Absent numbers are 0 or null, absent booleans false; fractions are cut off.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClientReport {
    /// Round trip time of a ping in milliseconds; null before the first.
    round_trip_ms: Option<f64>,
    /// Bits per second that the link carried while data was in flight; null if there was too little to measure.
    goodput: Option<f64>,
    /// Bits per second received.
    received: f64,
    /// Queueing delay in milliseconds: how much later media arrives than it could.
    queued_ms: f64,
    /// Media in the player's buffer in milliseconds; null if each frame is shown as it arrives.
    buffered_ms: Option<f64>,
    /// Milliseconds without a new frame on the screen.
    stalled_ms: f64,
    /// Frames that were received but not shown in time.
    frames_dropped: f64,
    /// Frames shown per second, 0 to 1000.
    frame_rate: f32,
    /// Network as the browser reports it, such as "wifi", "cellular" or "4g"; at most 32 characters are kept.
    network: Option<String>,
    /// Whether the player is visible.
    visible: bool,
    /// Whether audio is turned on.
    listening: bool,
    /// Width and height in device pixels at which the video is shown; 0 if unknown.
    view_width: f64,
    view_height: f64,
}

/// The field `type` of [`Pong`].
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum PongType {
    /// Always this value.
    Pong,
}

/// The answer to a ping.
#[derive(Serialize, JsonSchema)]
pub struct Pong {
    /// Always "pong".
    r#type: PongType,
    /// The ping's `id`.
    id: u64,
    /// The gateway's clock, Unix milliseconds.
    now: u64,
}

impl From<ClientReport> for Report {
    fn from(report: ClientReport) -> Report {
        // A cast from float saturates at the integer's bounds, and makes 0 of NaN.
        let number = |number: f64| number as u32;
        Report {
            round_trip_ms: report.round_trip_ms.map(number),
            goodput: report.goodput.map(number),
            received: number(report.received),
            queued_ms: number(report.queued_ms),
            buffered_ms: report.buffered_ms.map(number),
            stalled_ms: number(report.stalled_ms),
            frames_dropped: number(report.frames_dropped),
            frame_rate: match report.frame_rate {
                rate if rate.is_finite() => rate.clamp(0.0, 1000.0),
                _ => 0.0,
            },
            network: report
                .network
                .map(|network| network.chars().take(32).collect()),
            visible: report.visible,
            listening: report.listening,
            loss: None,
            view_width: number(report.view_width),
            view_height: number(report.view_height),
            more: Vec::new(),
        }
    }
}

/// A session with the log of its policy calls.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionLog")]
pub struct SessionLog {
    /// State of the session.
    session: SessionView,
    /// Calls of the policy for the session, oldest first; at most the last 128.
    log: Vec<LoggedCall>,
}

/// Opens a session's control channel, or answers an ordinary GET with its log.
pub async fn serve(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    base_path: &BasePath,
    id: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let session = gateway.sessions.get(id);
    let Some(session) = session.filter(|session| visitor.sees(&session.stream.name)) else {
        let text = "unknown or expired session; start one by GET /live/{stream} with Accept: application/json";
        return error(true, StatusCode::NOT_FOUND, text);
    };
    let handshake = match live::handshake(&request) {
        Ok(Some(handshake)) => handshake,
        Ok(None) => {
            let log = gateway.sessions.policy_actor().log(session.number).await;
            return json(
                StatusCode::OK,
                &SessionLog {
                    session: session.view(),
                    log,
                },
            );
        }
        Err(refused) => return *refused,
    };
    let guard = visitor.guard(gateway);
    let (gateway, drain) = (gateway.clone(), gateway.drain());
    let base_path = base_path.clone();
    let response = handshake.upgrade(&mut request, |socket, first| async move {
        let (answers, answered) = mpsc::unbounded_channel();
        let messages = gateway.sessions.open_channel(&session);
        let mut channel = Channel {
            gateway: &gateway,
            base_path: &base_path,
            session: &session,
            answers,
            answered,
            messages,
        };
        websocket::serve_messages(socket, first, &mut channel, drain, guard).await;
        let Channel { messages, .. } = channel;
        gateway.sessions.close_channel(&session, &messages);
    });
    response.map(boxed)
}

/// A player's control channel.
struct Channel<'a> {
    gateway: &'a Gateway,
    base_path: &'a BasePath,
    session: &'a Session,
    /// Answers to pings, from `on_text` to `poll_message`. Bounded by the rate limit.
    answers: mpsc::UnboundedSender<String>,
    answered: mpsc::UnboundedReceiver<String>,
    /// Messages of the session.
    messages: mpsc::UnboundedReceiver<ServerMessage>,
}

impl MessageHandler for Channel<'_> {
    const RATE_LIMIT: RateLimit = RateLimit {
        rate: 20.0,
        burst: 100.0,
        strict: true,
        may_be_silent: false,
    };

    fn on_text(&mut self, text: &str) -> Result<(), String> {
        let message: ClientMessage = serde_json::from_str(text)
            .map_err(|error| format!("not a valid player message: {error}"))?;
        let sessions = &self.gateway.sessions;
        let target = |transport, rendition| PlaybackTarget {
            transport,
            rendition,
        };
        match message {
            ClientMessage::Report(report) => sessions.report(self.session, (*report).into()),
            ClientMessage::Playing {
                transport,
                rendition,
            } => sessions.playing(self.session, target(transport, rendition)),
            ClientMessage::Failed {
                transport,
                rendition,
            } => sessions.failed(self.session, &target(transport, rendition)),
            ClientMessage::Pin {
                transport,
                rendition,
            } => sessions.pin(
                self.session,
                Pin {
                    transport,
                    rendition,
                },
            ),
            ClientMessage::Auto => sessions.pin(self.session, Pin::default()),
            ClientMessage::Ping { id } => {
                let now = unix_ms(SystemTime::now());
                if let Ok(pong) = serde_json::to_string(&Pong {
                    r#type: PongType::Pong,
                    id,
                    now,
                }) {
                    let _ = self.answers.send(pong);
                }
            }
        }
        Ok(())
    }

    fn poll_message(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Content>> {
        use std::task::Poll;
        let text = |text: String| Content::Text(text.into());
        if let Poll::Ready(Some(answer)) = self.answered.poll_recv(context) {
            return Poll::Ready(Some(text(answer)));
        }
        match self.messages.poll_recv(context) {
            // Serializing these structs cannot fail.
            Poll::Ready(Some(message)) => {
                let message = message.below(self.base_path);
                Poll::Ready(serde_json::to_string(&message).ok().map(text))
            }
            // Another control channel took over the session.
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
