//! `/api/events`: the gateway's events as server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! The events are kept in one ring (`sluicegate_telemetry::events`) as the text that is sent, so a client is only a
//! position in it: a slow one costs no memory and is told how many events it missed.

use super::{Body, Visitor, boxed, set, unbuffered};
use crate::gateway::Gateway;
use bytes::Bytes;
use hyper::{HeaderMap, Response, body::Frame, header};
use sluicegate_accounts::{Accounts, Identity};
use sluicegate_net::Drain;
use sluicegate_net::auth::Role;
use sluicegate_telemetry::events::{About, Reader};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, Sleep};

/// A connection without events gets a comment this often, so that proxies keep it open and a dead client is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A comment (a line that begins with a colon), which clients ignore.
const COMMENT: &[u8] = b": still here\n\n";

/// Streams the events from now on, or those after the one named by `Last-Event-ID` or `?last-event-id=`: those about
/// streams that the visitor may view, about the gateway if it may view all, and about the config if it administers the
/// gateway.
pub fn follow(
    gateway: &Gateway,
    visitor: &Visitor,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Response<Body> {
    let from_query = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "last-event-id")
        .map(|(_, value)| value.into_owned());
    // A client that reconnects sends the header, which is newer than the parameter in its URL.
    let last = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().unwrap_or_default()),
        None => from_query.as_deref(),
    };
    let (accounts, identity) = (gateway.accounts.clone(), visitor.identity.clone());
    let shows = Shows { accounts, identity };
    let body = EventBody::new(gateway.events.reader(last), shows, gateway.drain());
    let mut response = Response::new(boxed(body));
    set(&mut response, header::CONTENT_TYPE, "text/event-stream");
    unbuffered(&mut response);
    response
}

/// Which events a client may get, at the moment of each event.
struct Shows {
    accounts: Accounts,
    identity: Identity,
}

impl Shows {
    fn admits(&self, about: About<'_>) -> bool {
        let (role, stream) = match about {
            About::Stream(stream) => (Role::View, Some(stream)),
            About::Gateway => (Role::View, None),
            About::Config => (Role::Admin, None),
        };
        self.accounts
            .is_current(&self.identity, role, stream, SystemTime::now())
    }
}

/// A body that streams events until the gateway shuts down.
struct EventBody {
    reader: Reader,
    shows: Shows,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
    keep_alive: Pin<Box<Sleep>>,
}

impl EventBody {
    fn new(reader: Reader, shows: Shows, mut drain: Drain) -> EventBody {
        EventBody {
            reader,
            shows,
            drained: Box::pin(async move { drain.wait().await }),
            keep_alive: Box::pin(tokio::time::sleep(KEEP_ALIVE)),
        }
    }
}

impl hyper::body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.drained.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let text = match this.reader.poll(context, |about| this.shows.admits(about)) {
            Poll::Ready(text) => text,
            Poll::Pending if this.keep_alive.as_mut().poll(context).is_ready() => {
                Bytes::from_static(COMMENT)
            }
            Poll::Pending => return Poll::Pending,
        };
        this.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
        Poll::Ready(Some(Ok(Frame::data(text))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;
    use sluicegate_config::Config;
    use sluicegate_telemetry::Events;
    use std::sync::Arc;
    use tokio::sync::watch;

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_gets_a_comment_and_ends_when_the_gateway_drains() {
        let events = Arc::<Events>::default();
        let draining = watch::Sender::new(false);
        let accounts = Accounts::open(&Config::default(), None).unwrap();
        let identity = accounts.anonymous();
        let shows = Shows { accounts, identity };
        let mut body = EventBody::new(events.reader(None), shows, Drain::new(&draining));
        let hello = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(hello.starts_with(b"retry: "));
        let began = Instant::now();
        for nth in 1..4 {
            let comment = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(comment, COMMENT);
            assert_eq!(began.elapsed().as_secs(), nth * KEEP_ALIVE.as_secs());
        }
        draining.send_replace(true);
        assert!(body.frame().await.is_none());
    }
}
