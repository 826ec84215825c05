//! `GET /api/plugins/{name}/recording`: what the muxer of a transport on one stream calls its component with, and what
//! that returns, as it happens.
//!
//! The lines are queued by the muxer's thread and become text here (`sluicegate_plugin::recording`). A recording ends
//! after the time or size that was asked for, or when the muxer or the gateway ends, with a line that says why.

use super::{Body, Visitor, boxed, endless, error, live, media_query, set};
use crate::gateway::Gateway;
use bytes::Bytes;
use hyper::{Method, Response, StatusCode, body::Frame, header};
use sluicegate_config as config;
use sluicegate_net::Drain;
use sluicegate_plugin::{muxer::Muxer, recording::Recording};
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// Longest recording, in seconds.
pub const MAX_SECONDS: u64 = 3600;
/// Its length if the query has none.
pub const DEFAULT_SECONDS: u64 = 10;
/// Largest recording, in bytes.
pub const MAX_BYTES: u64 = 1 << 30;
/// Size at which it ends if the query has none.
pub const DEFAULT_BYTES: u64 = 64 << 20;
/// Media type of a recording: lines of JSON.
const MEDIA_TYPE: &str = "application/x-ndjson";

/// What the query asks for.
struct Wanted {
    stream: Option<String>,
    seconds: u64,
    bytes: u64,
}

impl Wanted {
    fn parse(query: Option<&str>) -> Result<Wanted, String> {
        let mut wanted = Wanted {
            stream: None,
            seconds: DEFAULT_SECONDS,
            bytes: DEFAULT_BYTES,
        };
        let number = |key: &str, value: &str, most: u64| {
            let number: Option<u64> = value.parse().ok();
            let number = number.filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| format!("`{key}` must be a number from 1 to {most}"))
        };
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match &*key {
                "stream" => wanted.stream = Some(value.into_owned()),
                "seconds" => wanted.seconds = number(&key, &value, MAX_SECONDS)?,
                "bytes" => wanted.bytes = number(&key, &value, MAX_BYTES)?,
                other => {
                    return Err(format!(
                        "`{other}` is not known here; there are `stream`, `seconds` and `bytes`"
                    ));
                }
            }
        }
        Ok(wanted)
    }
}

/// Records the muxer of the transport `name` on the stream that the query names, or on the only one that it runs on.
pub async fn follow(
    gateway: &Gateway,
    visitor: &Visitor,
    name: &str,
    method: &Method,
    query: Option<&str>,
) -> Response<Body> {
    let wanted = match Wanted::parse(query) {
        Ok(wanted) => wanted,
        Err(text) => return error(true, StatusCode::BAD_REQUEST, &text),
    };
    if gateway.transports.get(name).is_none() {
        let transports = gateway.transports.all();
        let text = config::unknown("transport", name, transports.keys());
        return error(true, StatusCode::NOT_FOUND, &text);
    }
    let running = gateway.muxers.list();
    let muxer = match find(&running, name, wanted.stream.as_deref()) {
        Ok(muxer) => muxer,
        Err(text) => {
            let wrong = wanted.stream.as_deref().and_then(|stream| {
                let (stream, _) = stream.split_once('?').unwrap_or((stream, ""));
                let (stream, rendition) = media_query::split(stream);
                live::stream(gateway, visitor, stream, rendition).err()
            });
            return error(true, StatusCode::NOT_FOUND, &wrong.unwrap_or(text));
        }
    };
    // HEAD records nothing.
    if method == Method::HEAD {
        return endless(StatusCode::OK, MEDIA_TYPE);
    }
    let mut recording = match muxer.record() {
        Ok(recording) => recording,
        Err(refusal) => {
            return error(true, StatusCode::SERVICE_UNAVAILABLE, &refusal.to_string());
        }
    };
    let mut drain = gateway.drain();
    let accepted = tokio::select! {
        biased;
        accepted = recording.accepted() => accepted,
        () = drain.wait() => {
            let text = "the gateway is shutting down";
            return error(true, StatusCode::SERVICE_UNAVAILABLE, text);
        }
    };
    if let Err(reason) = accepted {
        return error(true, StatusCode::CONFLICT, &reason);
    }
    let mut response = Response::new(boxed(Lines {
        recording,
        has_begun: false,
        left: wanted.bytes,
        deadline: Box::pin(sleep(Duration::from_secs(wanted.seconds))),
        drain,
        wanted,
    }));
    set(&mut response, header::CONTENT_TYPE, MEDIA_TYPE);
    response
}

/// The muxer to record.
///
/// # Errors
/// There is none, or it is not clear which.
fn find<'a>(
    running: &'a [Arc<Muxer>],
    transport: &str,
    stream: Option<&str>,
) -> Result<&'a Arc<Muxer>, String> {
    let of = running.iter().filter(|muxer| muxer.transport == transport);
    let of: Vec<&Arc<Muxer>> = of.collect();
    let streams: Vec<&String> = of.iter().map(|muxer| &muxer.stream).collect();
    match (stream, &of[..]) {
        (_, []) => Err(format!(
            "nobody watches a stream by the transport `{transport}` now, and only what runs can be recorded; start a \
             player first"
        )),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!(
            "the transport `{transport}` runs on several streams; say which by `stream`: {}",
            listed(&streams)
        )),
        (Some(stream), _) => {
            let mut of = of.iter();
            let found = of.find(|muxer| muxer.stream == stream);
            found.copied().ok_or_else(|| {
                format!(
                    "nobody watches `{stream}` by the transport `{transport}` now; it runs on {}",
                    listed(&streams)
                )
            })
        }
    }
}

/// Up to twenty names, for a message.
fn listed(names: &[&String]) -> String {
    let names: Vec<&str> = names.iter().map(|name| name.as_str()).take(20).collect();
    names.join(", ")
}

/// A body of lines.
struct Lines {
    recording: Recording,
    /// Whether there was an instance to record.
    has_begun: bool,
    wanted: Wanted,
    /// Bytes that may still be sent.
    left: u64,
    deadline: Pin<Box<Sleep>>,
    drain: Drain,
}

impl Lines {
    /// Why it ends now, if it does.
    fn is_over(&mut self, context: &mut Context<'_>) -> Option<String> {
        if self.drain.poll(context).is_ready() {
            return Some("the gateway is shutting down".into());
        }
        if self.left == 0 {
            return Some(format!("{} bytes were recorded", self.wanted.bytes));
        }
        let is_late = self.deadline.as_mut().poll(context).is_ready();
        is_late.then(|| match self.has_begun {
            true => format!("{} s were recorded", self.wanted.seconds),
            false => format!(
                "there was nothing to record for {} s: the component is being restarted, or the source delivers \
                 nothing; the log says why",
                self.wanted.seconds
            ),
        })
    }
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.is_over(context) {
            Some(reason) => match self.recording.stop(&reason) {
                // What waits is not sent.
                Some(end) => Some(end),
                None => return Poll::Ready(None),
            },
            None => ready!(self.recording.poll_next(context)),
        };
        self.has_begun = true;
        Poll::Ready(next.map(|line| {
            let text = line.to_text();
            self.left = self.left.saturating_sub(text.len() as u64);
            Ok(Frame::data(text))
        }))
    }
}
