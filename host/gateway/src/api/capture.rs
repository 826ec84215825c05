//! Captures over HTTP: `WS /api/ws/capture/{serial}`, `POST /api/devices/{serial}/capture`, `GET
//! /live/{stream}/frame.jpg`.
//!
//! Each handler turns its request into a `RawRequest`, registers a client with the stream's capture worker and awaits
//! the image; only reading the request and writing the answer differ. A client exists as long as its connection or
//! request, and keeps the stream's decoder running. Capturing itself is `sluicegate_capture`.

use super::{Body, Visitor, boxed, endless, full, json, live, media_query, read_body, set};
use crate::gateway::Gateway;
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderName},
};
use sluicegate_capture::{Captured, Client, Code, Failure, RawRequest};
use sluicegate_media::budget::Budget;
use sluicegate_net::websocket::{self, MessageHandler, RateLimit};
use sluicegate_stream::Stream;
use sluicegate_viewer::Content;
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::task::JoinHandle;

/// Longest body of a POST.
const MAX_BODY_BYTES: usize = 4096;
/// Largest number of one client's unsent answers, which wait for earlier answers or for a slow socket. At the limit,
/// reading from the client pauses.
const MAX_ANSWERS: usize = 64;
/// Size in bytes of the images in a client's unsent answers at which reading from it pauses.
const MAX_HELD_BYTES: usize = 8 << 20;

/// Serves a capture client over WebSocket: each text is a request, each answer a text, directly followed by the image
/// if there is one.
pub async fn socket(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    serial: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let stream = match stream(gateway, visitor, serial) {
        Ok(stream) => stream,
        Err(failure) => return json_failure(&failure),
    };
    let handshake = match live::handshake(&request) {
        Ok(Some(handshake)) => handshake,
        Ok(None) => {
            let text = "this path is for WebSocket; for a single image POST to /api/devices/{serial}/capture";
            let mut response = json_failure(&gateway.captures.failure(Code::BadRequest, text));
            *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
            set(&mut response, header::UPGRADE, "websocket");
            return response;
        }
        Err(refused) => return *refused,
    };
    let guard = visitor.guard(gateway);
    let (gateway, drain) = (gateway.clone(), gateway.drain());
    let response = handshake.upgrade(&mut request, |socket, first| async move {
        let mut channel = Channel {
            client: gateway.captures.register_client(&stream),
            gateway,
            answers: VecDeque::new(),
            image_budget: Budget::new(MAX_HELD_BYTES),
            image: None,
        };
        websocket::serve_messages(socket, first, &mut channel, drain, guard).await;
    });
    response.map(boxed)
}

/// Takes one capture: answers with JSON about it, or with the image itself if `Accept` names an image type.
pub async fn post(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    serial: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let image = accepted_image_format(request.headers());
    let capture = async {
        let stream = stream(gateway, visitor, serial)?;
        let bad = |text: String| gateway.captures.failure(Code::BadRequest, text);
        let body = read_body(request, MAX_BODY_BYTES).await.map_err(bad)?;
        let mut raw = read(&body).map_err(bad)?;
        if let Some(Some(format)) = image {
            raw.format.get_or_insert_with(|| format.to_owned());
        }
        take_capture(gateway, &stream, &raw).await
    };
    match capture.await {
        Ok(captured) if image.is_some() => image_response(&captured),
        Ok(captured) => json(StatusCode::OK, &captured.result),
        Err(failure) => json_failure(&failure),
    }
}

/// Answers with the newest frame of a stream as JPEG, at a rendition's width if one is named.
pub async fn frame(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    name: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let (name, rendition) = media_query::split(name);
    let stream = match live::stream(gateway, visitor, name, rendition) {
        Ok(stream) => stream,
        Err(text) => return text_failure(&gateway.captures.failure(Code::UnknownDevice, text)),
    };
    // HEAD captures nothing.
    if request.method() == Method::HEAD {
        return endless(StatusCode::OK, "image/jpeg");
    }
    let query = request.uri().query().unwrap_or_default();
    let raw = match media_query::still(query) {
        Ok(raw) => raw,
        Err(text) => return text_failure(&gateway.captures.failure(Code::BadRequest, text)),
    };
    let rendition = rendition.and_then(|name| stream.rendition(name));
    let width = rendition.and_then(|rendition| rendition.width);
    let raw = RawRequest {
        width: raw.width.or(width),
        ..raw
    };
    match take_capture(gateway, &stream, &raw).await {
        Ok(captured) => image_response(&captured),
        Err(failure) => text_failure(&failure),
    }
}

/// Takes one capture as a client of its own.
async fn take_capture(
    gateway: &Gateway,
    stream: &Arc<Stream>,
    raw: &RawRequest,
) -> Result<Captured, Failure> {
    let request = gateway.captures.read(raw)?;
    if gateway.is_draining() {
        let text = "the gateway is shutting down";
        return Err(gateway.captures.failure(Code::CaptureBusy, text));
    }
    let client = gateway.captures.register_client(stream);
    client.capture(request).await
}

fn stream(gateway: &Gateway, visitor: &Visitor, serial: &str) -> Result<Arc<Stream>, Failure> {
    live::stream(gateway, visitor, serial, None)
        .map_err(|text| gateway.captures.failure(Code::UnknownDevice, text))
}

/// Parses a request; an empty text means the defaults.
fn read(text: &[u8]) -> Result<RawRequest, String> {
    if text.trim_ascii().is_empty() {
        return Ok(RawRequest::default());
    }
    // serde would read a JSON array as the fields in their order.
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err("not a valid capture request: write a JSON object, {} for the defaults".into());
    }
    serde_json::from_slice(text).map_err(|error| format!("not a valid capture request: {error}"))
}

/// The first type in `Accept` that is JSON or an image: `None` for JSON or if there is neither, `Some(None)` for an
/// image of any format, `Some(Some(format))` for one of the formats that captures have.
fn accepted_image_format(headers: &HeaderMap) -> Option<Option<&'static str>> {
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

/// The image with the headers that describe it.
fn image_response(captured: &Captured) -> Response<Body> {
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
fn json_failure(failure: &Failure) -> Response<Body> {
    with_status(json(StatusCode::OK, failure), failure.code)
}

/// A failure as plain text, for `frame.jpg`.
fn text_failure(failure: &Failure) -> Response<Body> {
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

/// The connection of one capture client.
struct Channel {
    gateway: Arc<Gateway>,
    client: Client,
    /// Unsent answers, in the order of the requests.
    answers: VecDeque<Answer>,
    /// Bytes of images that were encoded and not yet handed to the socket.
    image_budget: Budget,
    /// The image that follows the text that was sent last.
    image: Option<Bytes>,
}

/// An unsent answer: a request that was refused at once, or a capture in progress.
enum Answer {
    Refused(Failure),
    InProgress(JoinHandle<Result<Captured, Failure>>),
}

impl MessageHandler for Channel {
    /// High, since too many requests are answered with CAPTURE_BUSY. Beyond the limit, reading pauses.
    const RATE_LIMIT: RateLimit = RateLimit {
        rate: 500.0,
        burst: 1000.0,
        strict: false,
        may_be_silent: true,
    };

    fn on_text(&mut self, text: &str) -> Result<(), String> {
        let captures = &self.gateway.captures;
        let request = match read(text.as_bytes()) {
            Ok(raw) if raw.r#type.is_none() => {
                let text = "`type` is missing; write {\"type\":\"capture\"}";
                Err(captures.failure(Code::BadRequest, text))
            }
            Ok(raw) => captures.read(&raw),
            Err(text) => Err(captures.failure(Code::BadRequest, text)),
        };
        self.answers.push_back(match request {
            Ok(request) => {
                let (capture, image_budget) =
                    (self.client.capture(request), self.image_budget.clone());
                Answer::InProgress(tokio::spawn(async move {
                    let captured = capture.await?;
                    Ok(Captured {
                        data: image_budget.count(captured.data),
                        ..captured
                    })
                }))
            }
            Err(failure) => Answer::Refused(failure),
        });
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.answers.len() < MAX_ANSWERS && !self.image_budget.is_full()
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Content>> {
        if let Some(image) = self.image.take() {
            return Poll::Ready(Some(Content::Binary(image.into())));
        }
        let encoded = match self.answers.front_mut() {
            None => return Poll::Pending,
            Some(Answer::Refused(failure)) => serde_json::to_string(failure),
            Some(Answer::InProgress(coming)) => match Pin::new(coming).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Ok(captured))) => {
                    self.image = Some(captured.data);
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
        // Serializing these structs cannot fail.
        Poll::Ready(encoded.ok().map(|text| Content::Text(text.into())))
    }
}
