//! `/live/{stream}/{transport}/…`: requests and viewers of a transport.

use super::{Body, ask, boxed, endless, error, set, whole};
use crate::gateway::Gateway;
use http_body_util::Either;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use sluicegate_config as config;
use sluicegate_net::auth;
use sluicegate_net::{
    ViewerBody,
    websocket::{self, Handshake, HandshakeError},
};
use sluicegate_plugin::muxer::{Refusal, Reply};
use sluicegate_stream::Stream;
use sluicegate_telemetry::Ends;
use sluicegate_viewer::Carrier;
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// What a document that a component answers may do: be seen. It gets an origin of its own, so that it can neither read nor
/// call what the gateway's pages can, and loads nothing (Content Security Policy 3, 6.3.1 `sandbox`).
const CONTAINED: &str = "sandbox; default-src 'none'; frame-ancestors 'self'";
/// The same where the config trusts the component: its pages are the gateway's own. They must lose `allow-same-origin` as
/// soon as being of this origin carries anybody's account.
const TRUSTED: &str = "sandbox allow-scripts allow-same-origin; default-src 'self' 'unsafe-inline' blob: data:; frame-ancestors 'self'";

/// Serves a GET or a WebSocket handshake below a transport's path. Whatever comes of it, a browser that shows it as a
/// document is told to contain it.
pub async fn serve(
    gateway: &Arc<Gateway>,
    peer: SocketAddr,
    stream: &str,
    transport: &str,
    rest: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    let trusted = gateway.transports.get(transport);
    let trusted = trusted.is_some_and(|transport| transport.trusted);
    let policy = if trusted { TRUSTED } else { CONTAINED };
    let mut response = answer(gateway, peer, stream, transport, rest, request).await;
    set(&mut response, header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn answer(
    gateway: &Arc<Gateway>,
    peer: SocketAddr,
    stream: &str,
    transport: &str,
    rest: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let came = Instant::now();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (query, session) = without_session(&query);
    let (name, rendition) = ask::split(stream);
    let stream = match self::stream(gateway, name, rendition) {
        Ok(stream) => stream,
        Err(text) => return error(false, StatusCode::NOT_FOUND, &text),
    };
    let Some(transport) = gateway.transports.get(transport) else {
        return error(
            false,
            StatusCode::NOT_FOUND,
            &config::unknown("transport", transport, gateway.transports.keys()),
        );
    };
    let handshake = match handshake(&request) {
        Ok(handshake) => handshake,
        Err(refused) => return *refused,
    };
    if gateway.is_draining() {
        return error(
            false,
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway is shutting down",
        );
    }
    let asked = match ask::read(
        rendition.unwrap_or_default(),
        &query,
        &transport.profile.formats,
    ) {
        Ok(asked) => asked,
        Err(text) => return error(false, StatusCode::BAD_REQUEST, &text),
    };
    let user = match gateway.muxers.enter(&stream, &asked.variant, transport) {
        Ok(user) => user,
        Err(refusal) => return refused(&refusal),
    };
    let way = user.muxer().way.clone();
    let place = gateway.viewers.clone();
    let session = session.and_then(|id| gateway.sessions.get(&id));
    let ends = request.extensions().get::<Ends>().copied();
    let ends = ends.filter(|_| !auth::is_proxied(request.headers()));
    if let Some(handshake) = handshake {
        let place = place.enter(way, peer);
        session.inspect(|session| session.carried_by(place.counter(), ends));
        let joined = user.join(place.id, Carrier::WEBSOCKET, rest, &query).await;
        let viewing = match joined {
            Ok(viewing) => viewing,
            Err(refusal) => return refused(&refusal),
        };
        let (meter, drain) = (place.meter(came), gateway.drain());
        let response = handshake.upgrade(&mut request, |socket, first| async move {
            websocket::run(socket, first, viewing, meter, drain).await;
            drop(place);
        });
        return response.map(boxed);
    }
    let content_type = match user.request(rest, &query).await {
        Err(refusal) => return refused(&refusal),
        Ok(Reply::Done(response)) => {
            let (answer, bytes) = whole::respond(&response, request.headers());
            // Elsewhere who watches has joined, and a request is no viewer.
            let asks = transport.profile.lanes.is_empty() && answer.status().is_success();
            let asker = asks.then(|| whole::asker(peer, request.headers()));
            gateway.viewers.answered(way, bytes, asker, Instant::now());
            return answer;
        }
        Ok(Reply::Follow(content_type)) => content_type,
    };
    if request.method() == hyper::Method::HEAD {
        return endless(StatusCode::OK, &content_type);
    }
    let place = place.enter(way, peer);
    session.inspect(|session| session.carried_by(place.counter(), ends));
    match user.join(place.id, Carrier::HTTP, rest, &query).await {
        Err(refusal) => refused(&refusal),
        Ok(viewing) => {
            let body = ViewerBody::new(viewing, place, came, asked.pace);
            let mut response = Response::new(Either::Left(body));
            set(&mut response, header::CONTENT_TYPE, &content_type);
            response
        }
    }
}

/// The stream of that name, if it has that rendition; else what is wrong.
pub(super) fn stream(
    gateway: &Gateway,
    name: &str,
    rendition: Option<&str>,
) -> Result<Arc<Stream>, String> {
    let stream = gateway
        .streams
        .get(name)
        .ok_or_else(|| config::unknown("stream", name, gateway.streams.names().iter()))?;
    if let Some(rendition) = rendition
        && !stream.renditions().any(|known| known == rendition)
    {
        return Err(config::unknown("rendition", rendition, stream.renditions()));
    }
    Ok(stream)
}

/// The WebSocket handshake that a request is, `None` of another request, or the refusal of an invalid one.
pub(super) fn handshake(
    request: &Request<Incoming>,
) -> Result<Option<Handshake>, Box<Response<Body>>> {
    Handshake::of(request).map_err(|wrong| {
        Box::new(match wrong {
            HandshakeError::Version => {
                let text = "this gateway speaks version 13 of WebSocket";
                let mut response = error(false, StatusCode::UPGRADE_REQUIRED, text);
                set(&mut response, header::SEC_WEBSOCKET_VERSION, "13");
                response
            }
            HandshakeError::Invalid(reason) => error(false, StatusCode::BAD_REQUEST, reason),
        })
    })
}

/// The query without `session=`, which is for the gateway and no component's business, and its value.
fn without_session(query: &str) -> (String, Option<String>) {
    let mut session = None;
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.strip_prefix("session=") {
            Some(id) => session = Some(id.to_owned()),
            None => rest.push(pair),
        }
    }
    (rest.join("&"), session)
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = match refusal {
        Refusal::Rejected(_) | Refusal::Carrier(_) => StatusCode::BAD_REQUEST,
        Refusal::Format(_) => StatusCode::NOT_ACCEPTABLE,
        Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::TooLong => StatusCode::URI_TOO_LONG,
    };
    let mut response = error(false, status, &refusal.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut response, header::RETRY_AFTER, "1");
    }
    response
}
