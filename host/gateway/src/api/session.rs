//! `/api/sessions/{id}`: a player's control channel as a WebSocket of JSON texts; and, by GET, what the policy was asked about
//! the session and answered.
//!
//! Up: `{"type":"report",…}` about once a second, `{"type":"playing"|"failed","transport","rendition"}`,
//! `{"type":"pin","transport","rendition"}`, `{"type":"auto"}`, `{"type":"ping","id"}`.
//! Down: `move`, `choices`, `refused` ([`ServerMessage`]) and `{"type":"pong","id","now"}`.

use super::{Body, boxed, error, json, live};
use crate::gateway::Gateway;
use crate::session::{Form, LoggedCall, Pin, ServerMessage, Session, SessionView};
use hyper::{Request, Response, StatusCode, body::Incoming};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluicegate_net::websocket::{self, MessageHandler, RateLimit};
use sluicegate_plugin::policy::Report;
use sluicegate_telemetry::unix_ms;
use sluicegate_viewer::Content;
use std::{sync::Arc, time::SystemTime};
use tokio::sync::mpsc;

/// What a player says. Numbers are checked by their types; what is absent is 0.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[schemars(rename = "PlayerSays")]
pub enum ClientMessage {
    Report(Box<ClientReport>),
    Playing {
        transport: String,
        rendition: String,
    },
    Failed {
        transport: String,
        rendition: String,
    },
    Pin {
        transport: Option<String>,
        rendition: Option<String>,
    },
    Auto,
    Ping {
        id: u64,
    },
}

/// A report as it is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "PlayerReport")]
pub struct ClientReport {
    round_trip_ms: Option<f64>,
    goodput: Option<f64>,
    received: f64,
    queued_ms: f64,
    buffered_ms: Option<f64>,
    stalled_ms: f64,
    frames_dropped: f64,
    frame_rate: f32,
    network: Option<String>,
    visible: bool,
    listening: bool,
}

/// What an answer to a ping says it is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum IsPong {
    /// Always.
    Pong,
}

/// The answer to a ping.
#[derive(Serialize, JsonSchema)]
pub struct Pong {
    r#type: IsPong,
    id: u64,
    now: u64,
}

impl From<ClientReport> for Report {
    fn from(said: ClientReport) -> Report {
        // A cast stays within the type's bounds, and makes 0 of what is no number.
        let number = |number: f64| number as u32;
        Report {
            round_trip_ms: said.round_trip_ms.map(number),
            goodput: said.goodput.map(number),
            received: number(said.received),
            queued_ms: number(said.queued_ms),
            buffered_ms: said.buffered_ms.map(number),
            stalled_ms: number(said.stalled_ms),
            frames_dropped: number(said.frames_dropped),
            frame_rate: match said.frame_rate {
                rate if rate.is_finite() => rate.clamp(0.0, 1000.0),
                _ => 0.0,
            },
            network: said
                .network
                .map(|network| network.chars().take(32).collect()),
            visible: said.visible,
            listening: said.listening,
        }
    }
}

/// A session, and what the policy was asked about it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SessionLog")]
pub struct Logged {
    session: SessionView,
    /// Every call of the policy for it, the last 128.
    log: Vec<LoggedCall>,
}

/// Serves a control channel, or the log of a session.
pub async fn serve(
    gateway: &Arc<Gateway>,
    id: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let Some(session) = gateway.sessions.get(id) else {
        let text = "there is no session of that id, or not any more; GET /live/{stream} with Accept: application/json begins one";
        return error(true, StatusCode::NOT_FOUND, text);
    };
    let handshake = match live::handshake(&request) {
        Ok(Some(handshake)) => handshake,
        Ok(None) => {
            let log = gateway.sessions.policy_actor().log(session.number).await;
            return json(
                StatusCode::OK,
                &Logged {
                    session: session.seen(),
                    log,
                },
            );
        }
        Err(refused) => return *refused,
    };
    let (gateway, drain) = (gateway.clone(), gateway.drain());
    let response = handshake.upgrade(&mut request, |socket, first| async move {
        let (answers, answered) = mpsc::unbounded_channel();
        let messages = gateway.sessions.attend(&session);
        let mut channel = Channel {
            gateway: &gateway,
            session: &session,
            answers,
            answered,
            messages,
        };
        websocket::serve_messages(socket, first, &mut channel, drain).await;
        let Channel { messages, .. } = channel;
        gateway.sessions.leave(&session, &messages);
    });
    response.map(boxed)
}

/// One player's end of it.
struct Channel<'a> {
    gateway: &'a Gateway,
    session: &'a Session,
    answers: mpsc::UnboundedSender<String>,
    answered: mpsc::UnboundedReceiver<String>,
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
        let said: ClientMessage = serde_json::from_str(text)
            .map_err(|error| format!("this is no message of a player: {error}"))?;
        let sessions = &self.gateway.sessions;
        let form = |transport, rendition| Form {
            transport,
            rendition,
        };
        match said {
            ClientMessage::Report(report) => sessions.report(self.session, (*report).into()),
            ClientMessage::Playing {
                transport,
                rendition,
            } => sessions.playing(self.session, form(transport, rendition)),
            ClientMessage::Failed {
                transport,
                rendition,
            } => sessions.failed(self.session, &form(transport, rendition)),
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
                    r#type: IsPong::Pong,
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
            // What is told are plain structs, which always have a JSON form.
            Poll::Ready(Some(messages)) => {
                Poll::Ready(serde_json::to_string(&messages).ok().map(text))
            }
            // Another player attends to the session now.
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}
