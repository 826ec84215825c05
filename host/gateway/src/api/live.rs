//! `/live/{stream}/{transport}/…`: connects HTTP requests and WebSocket handshakes with a transport's muxer.
//!
//! A request either has a complete answer (an HLS playlist), or follows the muxer's chunks as a viewer: over WebSocket,
//! or as an endless HTTP body. The handler finds or starts the muxer, enters the viewer in the registry and hands its
//! cursor to `sluicegate_net`, which writes; a [`Visit`] is what `webtransport` shares of that. No media passes through
//! here. Whatever a component answers is sandboxed in
//! browsers by a Content Security Policy (`docs/decisions/0030-component-answers-are-sandboxed.md`).

use super::{
    Body, Visitor, boxed, component_response, endless, error,
    media_query::{self, MediaQuery},
    set, unbuffered,
};
use crate::gateway::Gateway;
use crate::session::{Measured, Session};
use http_body_util::Either;
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use sluicegate_config as config;
use sluicegate_net::auth::{self, Media, Role};
use sluicegate_net::{
    ViewerBody,
    websocket::{self, Handshake, HandshakeError},
};
use sluicegate_plugin::{
    JoinRequest,
    muxer::{MuxerUser, Refusal, Reply},
    transports::Transport,
};
use sluicegate_stream::Stream;
use sluicegate_telemetry::SocketPair;
use sluicegate_viewer::{Carrier, Registration};
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

/// Policy for documents from a component: they are displayed only. They get an opaque origin, so that they can neither
/// read nor call what the gateway's pages can, and load nothing (Content Security Policy 3, section 6.3.1 `sandbox`).
const SANDBOX_POLICY: &str = "sandbox; default-src 'none'; frame-ancestors 'self'";
/// Policy for documents from a component that the config trusts: they act as the gateway's own pages, so they may do
/// what their viewer may.
const TRUSTED_POLICY: &str = "sandbox allow-scripts allow-same-origin; default-src 'self' 'unsafe-inline' blob: data:; frame-ancestors 'self'";

/// Serves a GET or a WebSocket handshake below a transport's path. Every response, also an error, has the Content
/// Security Policy.
pub async fn serve(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
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
    let mut response = answer(gateway, visitor, stream, transport, rest, request).await;
    set(&mut response, header::CONTENT_SECURITY_POLICY, policy);
    response
}

async fn answer(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    stream: &str,
    transport: &str,
    rest: &str,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let started = Instant::now();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let visit = match Visit::find(gateway, visitor, stream, transport, rest, &query) {
        Ok(visit) => visit,
        Err(refused) => return refused.into(),
    };
    let handshake = match handshake(&request) {
        Ok(handshake) => handshake,
        Err(refused) => return *refused,
    };
    let user = match visit.enter() {
        Ok(user) => user,
        Err(refused) => return refused.into(),
    };
    let ends = request.extensions().get::<SocketPair>().copied();
    let ends = ends.filter(|_| !auth::is_proxied(request.headers()));
    let measured = ends.map(Measured::ByKernel);
    if let Some(mut handshake) = handshake {
        let registration = visit.register(&user);
        visit.add_to_session(&registration, measured);
        // During an exchange the muxer may still use another component than the table has.
        let protocol = handshake.agree(&user.muxer().profile().protocols);
        let joining = visit.join_request(Carrier::WebSocket, protocol);
        let viewing = match user.join(registration.id, joining).await {
            Ok(viewing) => viewing,
            Err(refusal) => return visit.refused(refusal).into(),
        };
        let (meter, drain) = (registration.meter(started), gateway.drain());
        let guard = visitor.guard(gateway);
        let response = handshake.upgrade(&mut request, |socket, first| async move {
            websocket::serve_viewer(socket, first, viewing, meter, drain, guard).await;
            drop(registration);
        });
        return response.map(boxed);
    }
    let content_type = match user.request(rest, &visit.query).await {
        Err(refusal) => return Refused::from(refusal).into(),
        Ok(Reply::Done(response)) => {
            let (mut answer, bytes) = component_response::respond(&response, request.headers());
            if visit.is_private() {
                component_response::make_private(&mut answer);
            }
            // Requests count as a viewer only where the transport has no lanes; elsewhere viewers join the muxer.
            let counts_as_viewer =
                visit.transport.profile.lanes.is_empty() && answer.status().is_success();
            let request_client = counts_as_viewer
                .then(|| component_response::request_client(visitor.address, request.headers()));
            let key = user.muxer().metric_key.clone();
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
    let registration = visit.register(&user);
    visit.add_to_session(&registration, measured);
    let joining = visit.join_request(Carrier::Http, None);
    match user.join(registration.id, joining).await {
        Err(refusal) => visit.refused(refusal).into(),
        Ok(viewing) => {
            let body = ViewerBody::new(viewing, registration, started, visit.media.pace);
            let mut response = Response::new(Either::Left(body));
            set(&mut response, header::CONTENT_TYPE, &content_type);
            unbuffered(&mut response);
            response
        }
    }
}

/// A client at a transport of a stream, on whatever carrier.
pub(super) struct Visit<'a> {
    gateway: &'a Arc<Gateway>,
    visitor: &'a Visitor,
    stream: Arc<Stream>,
    pub(super) transport: Arc<Transport>,
    /// The form of the stream that it requests.
    media: MediaQuery,
    /// Path below the transport.
    path: &'a str,
    /// Query without the gateway's own parameters.
    query: String,
    session: Option<Arc<Session>>,
}

impl<'a> Visit<'a> {
    /// Finds what the client requests. Starts nothing.
    ///
    /// # Errors
    /// There is no such stream or transport, or the query is invalid.
    pub(super) fn find(
        gateway: &'a Arc<Gateway>,
        visitor: &'a Visitor,
        stream: &str,
        transport: &str,
        path: &'a str,
        query: &str,
    ) -> Result<Visit<'a>, Refused> {
        let (query, own) = OwnParameters::split(query);
        let (name, rendition) = media_query::split(stream);
        let not_found = |text| Refused::new(StatusCode::NOT_FOUND, text);
        let stream = self::stream(gateway, visitor, name, rendition).map_err(not_found)?;
        let Some(transport) = gateway.transports.get(transport) else {
            let all = gateway.transports.all();
            return Err(not_found(config::unknown(
                "transport",
                transport,
                all.keys(),
            )));
        };
        let rendition = rendition.unwrap_or_default();
        let media = media_query::read(rendition, &query, &transport.profile.formats)
            .map_err(|text| Refused::new(StatusCode::BAD_REQUEST, text))?;
        let played = Media {
            stream: name,
            rendition,
            transport: &transport.name,
        };
        Ok(Visit {
            session: own.session(gateway, visitor, played),
            gateway,
            visitor,
            stream,
            transport,
            media,
            path,
            query,
        })
    }

    /// Finds or starts the muxer.
    ///
    /// # Errors
    /// It cannot start, or the gateway is shutting down.
    pub(super) fn enter(&self) -> Result<MuxerUser, Refused> {
        if self.gateway.is_draining() {
            let text = "the gateway is shutting down";
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
        let (variant, transport) = (&self.media.variant, &self.transport.name);
        let entered = self.gateway.muxers.enter(&self.stream, variant, transport);
        entered.map_err(Refused::from)
    }

    /// Registers the client as a viewer.
    pub(super) fn register(&self, user: &MuxerUser) -> Registration {
        let key = user.muxer().metric_key.clone();
        self.gateway.viewers.enter(key, self.visitor.address)
    }

    /// Whether the answer is not for everybody, so that no shared cache may serve it to others.
    fn is_private(&self) -> bool {
        let anybody = self.gateway.accounts.anonymous();
        !anybody.permits(Role::View, Some(&self.stream.name))
    }

    /// Adds the viewer's connection to its session, if it has one.
    pub(super) fn add_to_session(&self, registration: &Registration, measured: Option<Measured>) {
        if let Some(session) = &self.session {
            session.add_connection(registration.counter(), measured);
        }
    }

    /// The answer to a client that may not join. A carrier that the transport does not have is a mistake of the author
    /// of a player: a browser hides the answer to a handshake from it, so it is logged, once.
    pub(super) fn refused(&self, refusal: Refusal) -> Refused {
        if let Refusal::Carrier(text) = &refusal
            && self.gateway.refusals.is_new(text)
        {
            tracing::warn!("refused a viewer; further ones for this reason are not logged: {text}");
        }
        refusal.into()
    }

    /// What the client tells when it joins the muxer.
    pub(super) fn join_request(&self, carrier: Carrier, protocol: Option<String>) -> JoinRequest {
        JoinRequest {
            carrier,
            path: self.path.to_owned(),
            query: self.query.clone(),
            protocol,
            roles: self.visitor.roles(&self.stream.name),
        }
    }
}

/// Why a client does not get what it requests.
pub(super) struct Refused {
    /// Status of the answer.
    pub(super) status: StatusCode,
    /// What is wrong and what to do, for people.
    pub(super) text: String,
    /// Whether it may try again in a second.
    may_retry: bool,
}

impl Refused {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Refused {
        Refused {
            status,
            text: text.into(),
            may_retry: false,
        }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        let status = match refusal {
            Refusal::Rejected(_) | Refusal::Carrier(_) => StatusCode::BAD_REQUEST,
            Refusal::Format(_) => StatusCode::NOT_ACCEPTABLE,
            Refusal::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::TooLong => StatusCode::URI_TOO_LONG,
        };
        Refused {
            may_retry: status == StatusCode::SERVICE_UNAVAILABLE,
            ..Refused::new(status, refusal.to_string())
        }
    }
}

impl From<Refused> for Response<Body> {
    fn from(refused: Refused) -> Response<Body> {
        let mut response = error(false, refused.status, &refused.text);
        if refused.may_retry {
            set(&mut response, header::RETRY_AFTER, "1");
        }
        response
    }
}

/// The stream `name`, which must have the rendition if one is given. One that the visitor may not view does not exist.
///
/// # Errors
/// The message for the user: which name is unknown, and which are known.
pub(super) fn stream(
    gateway: &Gateway,
    visitor: &Visitor,
    name: &str,
    rendition: Option<&str>,
) -> Result<Arc<Stream>, String> {
    let stream = gateway.streams.get(name);
    let stream = stream.filter(|_| visitor.sees(name)).ok_or_else(|| {
        let mut names = gateway.streams.names();
        names.retain(|name| visitor.sees(name));
        config::unknown("stream", name, names.iter())
    })?;
    if let Some(rendition) = rendition {
        let known = stream.renditions();
        if !known.iter().any(|known| known == rendition) {
            return Err(config::unknown("rendition", rendition, known.iter()));
        }
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
                // The first one, which admitted the request (`ticket_in`).
                Some(("ticket", ticket)) => {
                    own.ticket.get_or_insert_with(|| ticket.to_owned());
                }
                _ => rest.push(pair),
            }
        }
        (rest.join("&"), own)
    }

    /// The session that the connection belongs to, by its secret id, or by the ticket that was made for it.
    fn session(
        &self,
        gateway: &Gateway,
        visitor: &Visitor,
        media: Media<'_>,
    ) -> Option<Arc<Session>> {
        if let Some(id) = &self.session {
            return gateway.sessions.get(id);
        }
        let ticket = self.ticket.as_deref().or(visitor.ticket())?;
        let identity = gateway.accounts.use_ticket(ticket, SystemTime::now());
        let identity = identity
            .ok()
            .filter(|identity| identity.permits_media(media))?;
        gateway.sessions.numbered(identity.ticket()?.session)
    }
}
