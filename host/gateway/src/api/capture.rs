//! Captures: `WS /api/ws/capture/{serial}`, `POST /api/devices/{serial}/capture`, `GET /live/{stream}/frame.jpg`.

use super::{Body, ask, boxed, endless, full, json, live, set};
use crate::gateway::Gateway;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName},
};
use sluicegate_capture::{Captured, Client, Code, Failure, RawRequest};
use sluicegate_config as config;
use sluicegate_media::budget::Budget;
use sluicegate_net::websocket::{self, MessageHandler, RateLimit};
use sluicegate_stream::Stream;
use sluicegate_viewer::Content;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};

/// Longest body of a POST, and how long it may take.
const MAX_BODY_BYTES: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(10);
/// Answers of one client that may wait for those before them or for a slow socket, and bytes of pictures in them; it is not
/// listened to meanwhile.
const MAX_ANSWERS: usize = 64;
const MAX_HELD_BYTES: usize = 8 << 20;

/// A capture client: requests as texts, each answered by a text and, if there is one, its picture right behind.
pub async fn socket(
    gateway: &Arc<Gateway>,
    serial: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let stream = match stream(gateway, serial) {
        Ok(stream) => stream,
        Err(failure) => return failed(&failure),
    };
    let handshake = match live::handshake(&request) {
        Ok(Some(handshake)) => handshake,
        Ok(None) => {
            let text = "this path speaks WebSocket; for a single picture POST to /api/devices/{serial}/capture";
            let mut response = failed(&gateway.captures.failure(Code::BadRequest, text));
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            set(&mut response, header::UPGRADE, "websocket");
            return response;
        }
        Err(refused) => return *refused,
    };
    let (gateway, drain) = (gateway.clone(), gateway.drain());
    let response = handshake.upgrade(&mut request, |socket, first| async move {
        let mut channel = Channel {
            client: gateway.captures.attend(&stream),
            gateway,
            answers: VecDeque::new(),
            held: Budget::new(MAX_HELD_BYTES),
            picture: None,
        };
        websocket::serve_messages(socket, first, &mut channel, drain).await;
    });
    response.map(boxed)
}

/// One capture over plain HTTP: what is said of it as JSON, or the picture itself where `Accept` names a kind of picture.
pub async fn post(
    gateway: &Arc<Gateway>,
    serial: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let picture = picture_wanted(request.headers());
    let made = async {
        let stream = stream(gateway, serial)?;
        let bad = |text: String| gateway.captures.failure(Code::BadRequest, text);
        let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
        let body = match timeout(PATIENCE, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => {
                return Err(bad(format!(
                    "the body cannot be read, or is longer than {MAX_BODY_BYTES} bytes"
                )));
            }
            Err(_) => return Err(bad("the body did not come in time".into())),
        };
        let mut asked = read(&body).map_err(bad)?;
        if let Some(Some(format)) = picture {
            asked.format.get_or_insert_with(|| format.to_owned());
        }
        make(gateway, &stream, &asked).await
    };
    match made.await {
        Ok(captured) if picture.is_some() => pictured(&captured),
        Ok(captured) => json(StatusCode::OK, &captured.result),
        Err(failure) => failed(&failure),
    }
}

/// The newest picture of a stream or rendition.
pub async fn frame(
    gateway: &Arc<Gateway>,
    name: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let (name, rendition) = ask::split(name);
    let stream = match live::stream(gateway, name, rendition) {
        Ok(stream) => stream,
        Err(text) => return as_text(&gateway.captures.failure(Code::UnknownDevice, text)),
    };
    // Asking whether there is a picture takes none.
    if request.method() == Method::HEAD {
        return endless(StatusCode::OK, "image/jpeg");
    }
    let query = request.uri().query().unwrap_or_default();
    let asked = match ask::still(query) {
        Ok(asked) => asked,
        Err(text) => return as_text(&gateway.captures.failure(Code::BadRequest, text)),
    };
    let rendition = rendition.and_then(|name| stream.rendition(name));
    let width = rendition.and_then(|rendition| rendition.width);
    let asked = RawRequest {
        width: asked.width.or(width),
        ..asked
    };
    match make(gateway, &stream, &asked).await {
        Ok(captured) => pictured(&captured),
        Err(failure) => as_text(&failure),
    }
}

async fn make(
    gateway: &Gateway,
    stream: &Arc<Stream>,
    asked: &RawRequest,
) -> Result<Captured, Failure> {
    let wish = gateway.captures.read(asked)?;
    if gateway.is_draining() {
        let text = "the gateway is shutting down";
        return Err(gateway.captures.failure(Code::CaptureBusy, text));
    }
    let client = gateway.captures.attend(stream);
    client.capture(wish).await
}

fn stream(gateway: &Gateway, serial: &str) -> Result<Arc<Stream>, Failure> {
    gateway.streams.get(serial).ok_or_else(|| {
        let text = config::unknown("stream", serial, gateway.streams.names().iter());
        gateway.captures.failure(Code::UnknownDevice, text)
    })
}

/// Nothing at all means the defaults.
fn read(text: &[u8]) -> Result<RawRequest, String> {
    if text.trim_ascii().is_empty() {
        return Ok(RawRequest::default());
    }
    // A list would be taken for the fields in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(
            "this is no request for a capture: write a JSON object, {} for the defaults".into(),
        );
    }
    serde_json::from_slice(text)
        .map_err(|error| format!("this is no request for a capture: {error}"))
}

/// Whether the picture itself is wanted, and as which format if `Accept` names one of ours.
fn picture_wanted(headers: &HeaderMap) -> Option<Option<&'static str>> {
    let lines = headers.get_all(header::ACCEPT).iter();
    let kinds = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    for kind in kinds {
        match kind.split(';').next().unwrap_or_default().trim() {
            "application/json" => return None,
            "image/jpeg" => return Some(Some("jpeg")),
            "image/png" => return Some(Some("png")),
            "image/webp" => return Some(Some("webp")),
            "image/*" => return Some(None),
            _ => {}
        }
    }
    None
}

fn pictured(captured: &Captured) -> Response<Body> {
    let result = &captured.result;
    let mut response = full(
        StatusCode::OK,
        captured.format.content_type(),
        captured.data.clone(),
    );
    for (name, value) in [
        ("x-capture-id", &result.capture_id),
        ("x-captured-at", &result.captured_at),
        ("x-age-ms", &result.age_ms.to_string()),
        ("x-width", &result.width.to_string()),
        ("x-height", &result.height.to_string()),
    ] {
        set(&mut response, HeaderName::from_static(name), value);
    }
    if let Some(path) = &result.path {
        set(&mut response, HeaderName::from_static("x-path"), path);
    }
    response
}

/// A failure as JSON.
fn failed(failure: &Failure) -> Response<Body> {
    with_status(json(StatusCode::OK, failure), failure.code)
}

/// A failure as text, for who asked for a picture.
fn as_text(failure: &Failure) -> Response<Body> {
    let text = format!("{}\n", failure.message);
    let response = full(StatusCode::OK, "text/plain; charset=utf-8", text);
    with_status(response, failure.code)
}

fn with_status(mut response: Response<Body>, code: Code) -> Response<Body> {
    if let Ok(status) = StatusCode::from_u16(code.status()) {
        *response.status_mut() = status;
    }
    if code == Code::CaptureBusy {
        set(&mut response, header::RETRY_AFTER, "1");
    }
    response
}

/// One client's end of a talk.
struct Channel {
    gateway: Arc<Gateway>,
    client: Client,
    /// In the order of the requests.
    answers: VecDeque<Answer>,
    /// Pictures that were made and not yet handed to the socket.
    held: Budget,
    /// What follows the text that was said last.
    picture: Option<Bytes>,
}

enum Answer {
    There(Failure),
    Coming(JoinHandle<Result<Captured, Failure>>),
}

impl MessageHandler for Channel {
    /// A client may ask as often as it likes: what is too much is told CAPTURE_BUSY, and what is far too much waits.
    const RATE_LIMIT: RateLimit = RateLimit {
        rate: 500.0,
        burst: 1000.0,
        strict: false,
        may_be_silent: true,
    };

    fn on_text(&mut self, text: &str) -> Result<(), String> {
        let captures = &self.gateway.captures;
        let wish = match read(text.as_bytes()) {
            Ok(asked) if asked.r#type.is_none() => {
                let text = "`type` is missing; write {\"type\":\"capture\"}";
                Err(captures.failure(Code::BadRequest, text))
            }
            Ok(asked) => captures.read(&asked),
            Err(text) => Err(captures.failure(Code::BadRequest, text)),
        };
        self.answers.push_back(match wish {
            Ok(wish) => {
                let (made, held) = (self.client.capture(wish), self.held.clone());
                Answer::Coming(tokio::spawn(async move {
                    let captured = made.await?;
                    Ok(Captured {
                        data: held.count(captured.data),
                        ..captured
                    })
                }))
            }
            Err(failure) => Answer::There(failure),
        });
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.answers.len() < MAX_ANSWERS && !self.held.is_full()
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Content>> {
        if let Some(picture) = self.picture.take() {
            return Poll::Ready(Some(Content::Binary(picture.into())));
        }
        let said = match self.answers.front_mut() {
            None => return Poll::Pending,
            Some(Answer::There(failure)) => serde_json::to_string(failure),
            Some(Answer::Coming(coming)) => match Pin::new(coming).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(captured))) => {
                    self.picture = Some(captured.data);
                    serde_json::to_string(&captured.result)
                }
                Poll::Ready(Ok(Err(failure))) => serde_json::to_string(&failure),
                Poll::Ready(Err(error)) => {
                    let text = format!("the capture ended early: {error}");
                    serde_json::to_string(&self.gateway.captures.failure(Code::DecodeFailed, text))
                }
            },
        };
        self.answers.pop_front();
        // What is said are plain structs, which always have a JSON form.
        Poll::Ready(said.ok().map(|text| Content::Text(text.into())))
    }
}
