//! The HTTP interface: the table of routes, who may call them, and their handlers.
//!
//! [`respond`] is the one entry for every request: it takes the base path off (`prefix`), finds the route, checks the
//! caller against the route's role (`sluicegate_net::auth`), calls the handler, and adds the headers that every
//! response has. `net::serve` calls it for each request, and [`connect`] for each WebTransport session; handlers read
//! and change the [`Gateway`]. The table also yields the OpenAPI document (`describe`), so a route without a
//! description does not compile (`docs/decisions/0035-openapi-from-routes.md`).

mod account;
mod capture;
mod choice;
mod component_response;
mod describe;
mod events;
mod halves;
mod live;
mod login;
mod media_query;
mod metrics;
mod pages;
mod plugins;
mod prefix;
pub mod recording;
mod routes;
mod session;
mod state;
mod streams;
mod try_source;
mod visitor;
mod webtransport;

pub use describe::openapi;
pub use routes::{Found, Parameters, ROUTES, Route, Subject, Target, find};
pub use webtransport::connect;

use crate::gateway::Gateway;
use crate::session::Session;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use sluicegate_net::auth::{self, Peer, Permission, Scope};
use sluicegate_net::{GuardedBody, ViewerBody, WholeBody};
use sluicegate_plugin::{Embed, muxer::Viewing};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::time::timeout;
use visitor::Visitor;

/// How long reading the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Body of a response: the chunks of a muxer for a viewer, or any other.
pub type Body = Either<ViewerBody<Viewing>, UnsyncBoxBody<Bytes, Infallible>>;

/// Reads the body of a request, of at most this many bytes.
///
/// # Errors
/// The message for the client: it is too long, or has not arrived.
async fn read_body(request: Request<Incoming>, most: usize) -> Result<Bytes, String> {
    let body = Limited::new(request.into_body(), most).collect();
    match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(format!("the body is longer than {most} bytes"))
        }
        Ok(Err(error)) => Err(format!("the body cannot be read: {error}")),
        Err(_) => Err(format!(
            "the body did not arrive within {} s",
            BODY_TIMEOUT.as_secs()
        )),
    }
}

/// Boxes a body that is not a viewer's.
fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    Either::Right(UnsyncBoxBody::new(body))
}

/// Response headers that pages of `origins` may read beyond the safelisted ones (Fetch, CORS protocol).
const EXPOSED_HEADERS: &str =
    "retry-after, x-age-ms, x-capture-id, x-captured-at, x-height, x-path, x-width";
/// Request headers that pages of `origins` may send beyond the safelisted ones.
const ALLOWED_HEADERS: &str = "authorization, content-type, last-event-id";
/// Seconds for which browsers may cache the answer to a preflight.
const PREFLIGHT_MAX_AGE: &str = "600";

/// Answers one request. A body without an end ends when the client may no longer have it.
pub async fn respond(
    gateway: Arc<Gateway>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<GuardedBody<Body>> {
    let (response, visitor) = answer(&gateway, peer, request).await;
    let is_endless = response.body().size_hint().exact().is_none();
    let visitor = visitor.filter(|_| is_endless);
    let guard = visitor.map(|visitor| visitor.guard(&gateway));
    response.map(|body| GuardedBody::new(body, guard))
}

/// Answers one request: finds its route, checks the caller, calls the handler, and adds the headers of every response.
/// Returns also the caller, if it was let in.
async fn answer(
    gateway: &Arc<Gateway>,
    peer: Peer,
    request: Request<Incoming>,
) -> (Response<Body>, Option<Visitor>) {
    let config = gateway.config();
    let mut request = match prefix::enter(&config.server, peer, request) {
        Ok(request) => request,
        Err(redirect) => return (finish(*redirect, None), None),
    };
    auth::take_path_ticket(&mut request);
    let path = request.uri().path();
    let json = path.starts_with("/api/");
    let head = request.method() == Method::HEAD;
    let options = request.method() == Method::OPTIONS;
    let found = match options {
        true => routes::find(&method_asked_for(request.headers()), path),
        false => routes::find(request.method(), path),
    };
    let caller = auth::caller(&config.server, peer, request.headers());
    let session = session_in(gateway, &found);
    let needed = needed(&found, session.as_deref());
    let visitor = match visitor::admit(gateway, &caller, needed, (&request).into()).await {
        Ok(visitor) => visitor,
        Err(refusal) => {
            let base_path = prefix::of(request.extensions());
            let response = refusal.response(json, &base_path, (&request).into());
            return (finish(to_head(head, response), None), None);
        }
    };
    // Pages of other origins may read responses of routes only.
    let cors_origin = visitor.cors_origin.clone();
    let cors_origin = cors_origin.filter(|_| matches!(found, Found::Route(..)));
    let response = match found {
        Found::Route(route, _) if options => allowed(&route.allowed(), cors_origin.is_some()),
        Found::OtherMethod(methods) if options => allowed(&methods, false),
        _ if options && path == "*" => allowed("GET, HEAD, POST, PUT, DELETE, OPTIONS", false),
        Found::Route(route, _) if is_service_worker(route, &request) => {
            let text = "service workers are not allowed below /live/; write the component's page without one";
            error(json, StatusCode::FORBIDDEN, text)
        }
        Found::Route(route, parameters) => {
            route_to(gateway, &visitor, route.target, &parameters, request).await
        }
        Found::OtherMethod(allowed) => {
            let text = format!("this path only supports {allowed}");
            let mut response = error(json, StatusCode::METHOD_NOT_ALLOWED, &text);
            set(&mut response, header::ALLOW, &allowed);
            response
        }
        Found::BadPath(reason) => error(json, StatusCode::BAD_REQUEST, reason),
        Found::Nothing => {
            let text = "no such path; streams are listed at / and in /api/devices, paths in /docs";
            error(json, StatusCode::NOT_FOUND, text)
        }
    };
    let response = finish(to_head(head, response), cors_origin);
    (response, Some(visitor))
}

/// The session that a path names.
fn session_in(gateway: &Gateway, found: &Found) -> Option<Arc<Session>> {
    let Found::Route(route, parameters) = found else {
        return None;
    };
    gateway.sessions.get(route.session(parameters)?)
}

/// What a request requires of its caller, if its path names this session or none.
fn needed<'a>(found: &'a Found, session: Option<&'a Session>) -> Permission<'a> {
    match found {
        Found::Route(route, parameters) => route.permission(
            parameters,
            session.map(|session| session.stream.name.as_str()),
        ),
        _ => Permission {
            role: None,
            scope: Scope::Gateway,
        },
    }
}

/// Whether a request loads the script of a service worker below `/live/`. Such a worker would be a component's script
/// that intercepts requests for the gateway's own paths there. Browsers mark the request (Service Workers, "Update").
fn is_service_worker<B>(route: &Route, request: &Request<B>) -> bool {
    // The matched pattern, not the path as written: `/%6Cive/` is the same path.
    route.pattern.starts_with("/live/") && request.headers().contains_key("service-worker")
}

/// The method that a preflight asks about (Fetch, CORS-preflight fetch).
fn method_asked_for(headers: &HeaderMap) -> Method {
    headers
        .get(header::ACCESS_CONTROL_REQUEST_METHOD)
        .and_then(|method| Method::from_bytes(method.as_bytes()).ok())
        .unwrap_or(Method::GET)
}

/// The answer to OPTIONS (RFC 9110 section 9.3.7), for a page of `origins` also as a preflight.
fn allowed(methods: &str, cors_origin: bool) -> Response<Body> {
    let mut response = Response::new(boxed(WholeBody::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    set(&mut response, header::ALLOW, methods);
    if cors_origin {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE),
        ] {
            set(&mut response, name, value);
        }
    }
    response
}

/// If `head`, turns a response into one to HEAD: with the `Content-Length` of GET (RFC 9110 section 8.6) and no body,
/// so that no viewer is started.
fn to_head(head: bool, mut response: Response<Body>) -> Response<Body> {
    if head {
        let length = response.body().size_hint().exact();
        if let Some(length) = length.filter(|_| response.status() != StatusCode::NOT_MODIFIED) {
            set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        }
        *response.body_mut() = boxed(WholeBody::default());
    }
    response
}

async fn route_to(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    target: Target,
    parameters: &Parameters,
    request: Request<Incoming>,
) -> Response<Body> {
    let name = || parameters.stream().unwrap_or_default();
    let id = || parameters.get("id").unwrap_or_default();
    let base_path = prefix::of(request.extensions());
    match target {
        Target::Dashboard => pages::player("index.html", gateway, &request),
        Target::Watch => pages::player("watch.html", gateway, &request),
        Target::StreamsPage => pages::player("streams.html", gateway, &request),
        Target::TrySource => try_source::serve(gateway, visitor, request).await,
        Target::Docs => pages::documentation("index", request.headers()),
        Target::DocsPage => pages::documentation_below(
            parameters.get("rest").unwrap_or_default(),
            request.headers(),
        ),
        Target::OpenApi => json(StatusCode::OK, &describe::openapi_below(&base_path)),
        Target::Asset => pages::player(
            &format!("assets/{}", parameters.get("name").unwrap_or_default()),
            gateway,
            &request,
        ),
        Target::Health => state::health(),
        Target::Ready => state::ready(gateway),
        Target::Metrics => metrics::metrics(gateway),
        Target::Events => {
            events::follow(gateway, visitor, request.uri().query(), request.headers())
        }
        Target::Devices => state::devices(gateway, visitor, &base_path, request.headers()),
        Target::Device => state::device(gateway, visitor, &base_path, name()),
        Target::Streams => streams::list(gateway, visitor),
        Target::PutStream => streams::put(gateway, visitor, name(), request).await,
        Target::RemoveStream => streams::remove(gateway, visitor, name()).await,
        Target::ReloadConfig => streams::reload_config(gateway, visitor).await,
        Target::Sessions => state::sessions(gateway, visitor),
        Target::Plugins => state::plugins(gateway),
        Target::AddPlugin => plugins::add(gateway, request).await,
        Target::RemovePlugin => {
            plugins::remove(gateway, parameters.get("name").unwrap_or_default()).await
        }
        Target::Recording => {
            let name = parameters.get("name").unwrap_or_default();
            recording::follow(
                gateway,
                visitor,
                name,
                request.method(),
                request.uri().query(),
            )
            .await
        }
        Target::Reload => {
            let name = parameters.get("name").unwrap_or_default();
            plugins::reload(gateway, name, request.uri().query()).await
        }
        Target::Session => session::serve(gateway, visitor, &base_path, id(), request).await,
        Target::Choice => {
            let query = request.uri().query().unwrap_or_default();
            choice::choose(
                gateway,
                visitor,
                &base_path,
                name(),
                query,
                request.headers(),
            )
            .await
        }
        Target::Live => {
            let transport = parameters.get("transport").unwrap_or_default();
            let rest = parameters.get("rest").unwrap_or_default();
            live::serve(gateway, visitor, name(), transport, rest, request).await
        }
        Target::Halves => halves::list(gateway, visitor, &base_path, name(), request.uri().query()),
        Target::HalfFrame => {
            let transport = parameters.get("transport").unwrap_or_default();
            halves::frame(gateway, &base_path, name(), transport, &request)
        }
        Target::HalfModule => {
            let file = parameters.get("name").unwrap_or_default();
            halves::module(gateway, file, request.headers())
        }
        Target::Frame => capture::frame(gateway, visitor, name(), request).await,
        Target::Capture => capture::post(gateway, visitor, name(), request).await,
        Target::CaptureSocket => capture::socket(gateway, visitor, name(), request).await,
        Target::NalStream => {
            let names = gateway.transports.names_that_embed(Embed::AccessUnits);
            match names.first() {
                Some(transport) => {
                    live::serve(gateway, visitor, name(), transport, "", request).await
                }
                None => {
                    let text = "no transport of this gateway sends access units over WebSocket; check [transports]";
                    error(true, StatusCode::NOT_FOUND, text)
                }
            }
        }
        Target::LoginPage => login::page(request.uri().query()),
        Target::Login => login::sign_in(gateway, visitor, &base_path, request).await,
        Target::Logout => login::sign_out(gateway, visitor, &base_path).await,
        Target::OpenLink => {
            let secret = parameters.get("secret").unwrap_or_default();
            login::open_link(gateway, visitor, &base_path, secret, request.headers()).await
        }
        Target::AccountPage => account::page(gateway, visitor, request.uri().query()),
        Target::ChangeAccount => account::change(gateway, visitor, &base_path, request).await,
        Target::Account => account::describe(gateway, visitor),
        Target::EndSession => account::end_session(gateway, visitor, id()).await,
        Target::CreateToken => account::create_token(gateway, visitor, request).await,
        Target::RevokeToken => account::revoke_token(gateway, visitor, id()).await,
        Target::CreateLink => account::create_link(gateway, visitor, &base_path, request).await,
        Target::RevokeLink => account::revoke_link(gateway, visitor, id()).await,
    }
}

/// A response with a complete body.
fn full(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(boxed(WholeBody::from(body.into())));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, content_type);
    response
}

/// A response to HEAD where GET has a body of unknown length.
fn endless(status: StatusCode, content_type: &str) -> Response<Body> {
    let mut response = full(status, content_type, "");
    *response.body_mut() = boxed(WholeBody::endless());
    unbuffered(&mut response);
    response
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => full(status, "application/json", body),
        Err(failed) => error(true, StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

/// An error.
#[derive(serde::Serialize, schemars::JsonSchema)]
#[schemars(rename = "Error")]
struct ErrorBody<'a> {
    /// What went wrong, and what to do; for people.
    error: &'a str,
}

/// An error response: JSON (as below `/api/`) or plain text. `text` says what went wrong and what to do.
fn error(as_json: bool, status: StatusCode, text: &str) -> Response<Body> {
    if as_json {
        return json(status, &ErrorBody { error: text });
    }
    full(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// Redirects to `place` with this query.
fn redirect(status: StatusCode, place: &str, query: Option<&str>) -> Response<Body> {
    let text = format!("{place}\n");
    let mut response = full(status, "text/plain; charset=utf-8", text);
    let location = match query {
        None => place.to_owned(),
        Some(query) => format!("{place}?{query}"),
    };
    set(&mut response, header::LOCATION, &location);
    response
}

/// Tells nginx not to hold an endless body back: what it reads is for whoever watches now.
fn unbuffered(response: &mut Response<Body>) {
    set(response, HeaderName::from_static("x-accel-buffering"), "no");
}

/// Sets a header. A value that is not a valid header value, as a component may return, is left out.
fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Adds the headers that every response has, and those for a page of `origins` if `cors_origin` is its origin.
fn finish(mut response: Response<Body>, cors_origin: Option<String>) -> Response<Body> {
    let embeddable = cors_origin.is_some();
    if let Some(origin) = cors_origin {
        set(&mut response, header::ACCESS_CONTROL_ALLOW_ORIGIN, &origin);
        set(
            &mut response,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            EXPOSED_HEADERS,
        );
    }
    let headers: &mut HeaderMap = response.headers_mut();
    let mut fixed = |name: &'static str, value: &'static str| {
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(HeaderValue::from_static(value));
    };
    fixed("cache-control", "no-store");
    fixed("vary", "Origin");
    fixed("x-content-type-options", "nosniff");
    fixed("referrer-policy", "same-origin");
    fixed(
        "cross-origin-resource-policy",
        if embeddable {
            "cross-origin"
        } else {
            "same-origin"
        },
    );
    response
}
