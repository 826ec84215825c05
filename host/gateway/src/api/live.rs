//! `/live/{stream}/{transport}/…`: connects HTTP requests and WebSocket handshakes with a transport's muxer.
//!
//! A request either has a complete answer (an HLS playlist), or follows the muxer's chunks as a viewer: over WebSocket,
//! or as an endless HTTP body. The handler finds or starts the muxer, enters the viewer in the registry and hands its
//! cursor to `sluicegate_net`, which writes. No media passes through here. Whatever a component answers is sandboxed in
//! browsers by a Content Security Policy (`docs/decisions/0030-component-answers-are-sandboxed.md`).

use super::{Body, boxed, component_response, endless, error, media_query, set};
use crate::gateway::Gateway;
use crate::session::Session;
use http_body_util::Either;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use sluicegate_config as config;
use sluicegate_net::auth::{self, Media};
use sluicegate_net::{
    ViewerBody,
    websocket::{self, Handshake, HandshakeError},
};
use sluicegate_plugin::{
    JoinRequest,
    muxer::{Refusal, Reply},
};
use sluicegate_stream::Stream;
use sluicegate_telemetry::SocketPair;
use sluicegate_viewer::Carrier;
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// What a viewer may do, by the names in `wit/gateway.wit`: there are no accounts yet, so all may do the same.
const ROLES: [&str; 2] = ["view", "capture"];
/// Policy for documents from a component: they are displayed only. They get an opaque origin, so that they can neither
/// read nor call what the gateway's pages can, and load nothing (Content Security Policy 3, section 6.3.1 `sandbox`).
const SANDBOX_POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'self'";
/// Policy for documents from a component that the config trusts: they act as the gateway's own pages. Hazard: once
/// there are accounts that this origin has access to, `allow-same-origin` must go.
const TRUSTED_POLICY: &str = "sandbox allow-scripts allow-same-origin; default-src 'self' 'unsafe-inline' blob: data:; frame-ancestors 'self'";

/// Serves a GET or a WebSocket handshake below a transport's path. Every response, also an error, has the Content
/// Security Policy.
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
    let policy = if trusted {
        TRUSTED_POLICY
    } else {
        SANDBOX_POLICY
    };
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
    let started = Instant::now();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let (query, own) = OwnParameters::split(&query);
    let (name, rendition) = media_query::split(stream);
    let stream = match self::stream(gateway, name, rendition) {
        Ok(stream) => stream,
        Err(text) => return error(false, StatusCode::NOT_FOUND, &text),
    };
    let Some(transport) = gateway.transports.get(transport) else {
        return error(
            false,
            StatusCode::NOT_FOUND,
            &config::unknown("transport", transport, gateway.transports.all().keys()),
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
    let media = match media_query::read(
        rendition.unwrap_or_default(),
        &query,
        &transport.profile.formats,
    ) {
        Ok(media) => media,
        Err(text) => return error(false, StatusCode::BAD_REQUEST, &text),
    };
    let user = match gateway
        .muxers
        .enter(&stream, &media.variant, &transport.name)
    {
        Ok(user) => user,
        Err(refusal) => return refused(&refusal),
    };
    let key = user.muxer().metric_key.clone();
    let registration = gateway.viewers.clone();
    let session = own.session(
        gateway,
        Media {
            stream: name,
            rendition: rendition.unwrap_or_default(),
            transport: &transport.name,
        },
    );
    let ends = request.extensions().get::<SocketPair>().copied();
    let ends = ends.filter(|_| !auth::is_proxied(request.headers()));
    let join = |carrier, protocol| JoinRequest {
        carrier,
        path: rest.to_owned(),
        query: query.clone(),
        protocol,
        roles: ROLES.map(str::to_owned).into(),
    };
    if let Some(mut handshake) = handshake {
        let registration = registration.enter(key, peer);
        session.inspect(|session| session.add_connection(registration.counter(), ends));
        // During an exchange the muxer may still use another component than the table has.
        let protocol = handshake.agree(&user.muxer().profile().protocols);
        let joining = join(Carrier::WebSocket, protocol);
        let viewing = match user.join(registration.id, joining).await {
            Ok(viewing) => viewing,
            Err(refusal) => return refused(&refusal),
        };
        let (meter, drain) = (registration.meter(started), gateway.drain());
        let response = handshake.upgrade(&mut request, |socket, first| async move {
            websocket::serve_viewer(socket, first, viewing, meter, drain).await;
            drop(registration);
        });
        return response.map(boxed);
    }
    let content_type = match user.request(rest, &query).await {
        Err(refusal) => return refused(&refusal),
        Ok(Reply::Done(response)) => {
            let (mut answer, bytes) = component_response::respond(&response, request.headers());
            if own.ticket.is_some() {
                component_response::make_private(&mut answer);
            }
            // Requests count as a viewer only where the transport has no lanes; elsewhere viewers join the muxer.
            let counts_as_viewer =
                transport.profile.lanes.is_empty() && answer.status().is_success();
            let request_client = counts_as_viewer
                .then(|| component_response::request_client(peer, request.headers()));
            gateway
                .viewers
                .answered(key, bytes, request_client, Instant::now());
            return answer;
        }
        Ok(Reply::Follow(content_type)) => content_type,
    };
    if request.method() == hyper::Method::HEAD {
        return endless(StatusCode::OK, &content_type);
    }
    let registration = registration.enter(key, peer);
    session.inspect(|session| session.add_connection(registration.counter(), ends));
    match user.join(registration.id, join(Carrier::Http, None)).await {
        Err(refusal) => refused(&refusal),
        Ok(viewing) => {
            let body = ViewerBody::new(viewing, registration, started, media.pace);
            let mut response = Response::new(Either::Left(body));
            set(&mut response, header::CONTENT_TYPE, &content_type);
            response
        }
    }
}

/// The stream `name`, which must have the rendition if one is given.
///
/// # Errors
/// The message for the user: which name is unknown, and which are known.
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

/// The WebSocket handshake in a request; `None` if the request is not one.
///
/// # Errors
/// The response that refuses an invalid handshake.
pub(super) fn handshake(
    request: &Request<Incoming>,
) -> Result<Option<Handshake>, Box<Response<Body>>> {
    Handshake::of(request).map_err(|wrong| {
        Box::new(match wrong {
            HandshakeError::Version => {
                let text = "only version 13 of WebSocket is supported";
                let mut response = error(false, StatusCode::UPGRADE_REQUIRED, text);
                set(&mut response, header::SEC_WEBSOCKET_VERSION, "13");
                response
            }
            HandshakeError::Invalid(reason) => error(false, StatusCode::BAD_REQUEST, reason),
        })
    })
}

/// The parameters of a query that only the gateway may know.
#[derive(Debug, Default)]
struct OwnParameters {
    session: Option<String>,
    ticket: Option<String>,
}

impl OwnParameters {
    /// Splits a query into the component's part and the gateway's.
    fn split(query: &str) -> (String, OwnParameters) {
        let mut own = OwnParameters::default();
        let mut rest = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("session", id)) => own.session = Some(id.to_owned()),
                // The first one, which admitted the request (`auth::ticket_in`).
                Some(("ticket", ticket)) => {
                    own.ticket.get_or_insert_with(|| ticket.to_owned());
                }
                _ => rest.push(pair),
            }
        }
        (rest.join("&"), own)
    }

    /// The session that the connection belongs to, by its secret id, or by the ticket that was made for it.
    fn session(&self, gateway: &Gateway, media: Media<'_>) -> Option<Arc<Session>> {
        if let Some(id) = &self.session {
            return gateway.sessions.get(id);
        }
        let ticket = self.ticket.as_deref()?;
        let grant = gateway.tickets.check(ticket, media, Instant::now());
        gateway.sessions.numbered(grant.ok()?.session)
    }
}

/// The response that a muxer's refusal becomes.
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
