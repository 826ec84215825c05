//! The wire contract: routes, their roles, and what they answer.

mod ask;
mod capture;
mod choice;
mod describe;
mod events;
mod live;
mod metrics;
mod pages;
mod reload;
mod routes;
mod session;
mod state;
mod whole;

pub use describe::openapi;
pub use routes::{Found, Parameters, ROUTES, Route, Target, find};

use crate::gateway::Gateway;
use bytes::Bytes;
use http_body_util::{Either, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use sluicegate_net::auth::{self, Denied, Peer, Role};
use sluicegate_net::{ViewerBody, WholeBody};
use sluicegate_plugin::{Embed, transports};
use std::{convert::Infallible, net::SocketAddr, sync::Arc};

/// What goes back: a whole body, or one that goes on.
pub type Body = Either<ViewerBody, UnsyncBoxBody<Bytes, Infallible>>;

/// Any other body than a viewer's.
fn boxed<B>(body: B) -> Body
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    Either::Right(UnsyncBoxBody::new(body))
}

/// What pages of `origins` may read beyond what every page may, and what they may send (Fetch, CORS protocol).
const EXPOSED: &str =
    "retry-after, x-age-ms, x-capture-id, x-captured-at, x-height, x-path, x-width";
const SENDABLE: &str = "content-type, last-event-id";
/// Seconds for which browsers need not ask again.
const PREFLIGHT_LASTS: &str = "600";

/// Answers one request: finds its route, checks who asks, and adds what every response has.
pub async fn respond(
    gateway: Arc<Gateway>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let path = request.uri().path();
    let json = path.starts_with("/api/");
    let head = request.method() == Method::HEAD;
    let options = request.method() == Method::OPTIONS;
    let found = match options {
        true => routes::find(&method_asked_for(request.headers()), path),
        false => routes::find(request.method(), path),
    };
    let server = &gateway.config.server;
    let caller = auth::caller(server, peer, request.headers());
    let role = match &found {
        Found::Route(route, _) => route.role,
        _ => Role::Public,
    };
    let foreign = match auth::check(server, &caller, role, (&request).into()) {
        // What is not there is of no use to anybody's page.
        Ok(foreign) => foreign.filter(|_| matches!(found, Found::Route(..))),
        Err(denied) => {
            let text = denied.to_string();
            let client = caller.address.ip();
            // Whatever the client made up is not what tells them apart.
            let kind = std::mem::discriminant(&denied);
            if gateway
                .refusals
                .is_new(&format!("{kind:?} {}", client.is_loopback()))
            {
                tracing::warn!(%client, "a request was refused, and others like it are without a word: {text}");
            }
            return finish(to_head(head, error(json, status(&denied), &text)), None);
        }
    };
    let response = match found {
        Found::Route(route, _) if options => allowed(route.allowed(), foreign.is_some()),
        Found::OtherMethod(methods) if options => allowed(methods, false),
        _ if options && path == "*" => allowed("GET, HEAD, POST, OPTIONS", false),
        Found::Route(route, _) if is_service_worker(route, &request) => {
            let text =
                "nothing below /live/ may be a service worker; a component's pages do without one";
            error(json, StatusCode::FORBIDDEN, text)
        }
        Found::Route(route, parameters) => {
            route_to(&gateway, caller.address, route.target, &parameters, request).await
        }
        Found::OtherMethod(allowed) => {
            let text = format!("this path answers {allowed}");
            let mut response = error(json, StatusCode::METHOD_NOT_ALLOWED, &text);
            set(&mut response, header::ALLOW, allowed);
            response
        }
        Found::BadPath(reason) => error(json, StatusCode::BAD_REQUEST, reason),
        Found::Nothing => {
            let text = "there is nothing here; streams are listed at / and in /api/devices";
            error(json, StatusCode::NOT_FOUND, text)
        }
    };
    finish(to_head(head, response), foreign)
}

fn status(denied: &Denied) -> StatusCode {
    match denied {
        Denied::BadHost(_) => StatusCode::BAD_REQUEST,
        Denied::Host(_) => StatusCode::MISDIRECTED_REQUEST,
        _ => StatusCode::FORBIDDEN,
    }
}

/// A service worker below /live/ would be a component's script that answers for the gateway's own pages there. Browsers
/// mark the request for its script (Service Workers, "Update").
fn is_service_worker<B>(route: &Route, request: &Request<B>) -> bool {
    // As matched, not as written: `/%6Cive/` is the same path.
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
fn allowed(methods: &str, foreign: bool) -> Response<Body> {
    let mut response = Response::new(boxed(WholeBody::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    set(&mut response, header::ALLOW, methods);
    if foreign {
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, SENDABLE),
            (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_LASTS),
        ] {
            set(&mut response, name, value);
        }
    }
    response
}

/// The response as it is to HEAD, if `head`: with the length that GET would tell (RFC 9110 section 8.6) and no body. A
/// viewer must not begin for who only asks for the head.
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
    peer: SocketAddr,
    target: Target,
    parameters: &Parameters,
    request: Request<Incoming>,
) -> Response<Body> {
    let name = || {
        parameters
            .get("stream")
            .or(parameters.get("serial"))
            .unwrap_or_default()
    };
    match target {
        Target::Dashboard => pages::page("index.html", request.headers()),
        Target::Watch => pages::page("watch.html", request.headers()),
        Target::Docs => pages::documentation("", request.headers()),
        Target::DocsPage => pages::documentation(
            parameters.get("rest").unwrap_or_default(),
            request.headers(),
        ),
        Target::OpenApi => json(StatusCode::OK, describe::openapi()),
        Target::Asset => pages::page(
            &format!("assets/{}", parameters.get("name").unwrap_or_default()),
            request.headers(),
        ),
        Target::Health => state::health(),
        Target::Ready => state::ready(gateway),
        Target::Metrics => metrics::metrics(gateway),
        Target::Events => events::follow(gateway, request.uri().query(), request.headers()),
        Target::Devices => state::devices(gateway, request.headers()),
        Target::Device => state::device(gateway, name()),
        Target::Sessions => state::sessions(gateway),
        Target::Plugins => state::plugins(gateway),
        Target::Reload => {
            let name = parameters.get("name").unwrap_or_default();
            reload::reload(gateway, name).await
        }
        Target::Session => {
            let id = parameters.get("id").unwrap_or_default();
            session::serve(gateway, id, request).await
        }
        Target::Choice => {
            let query = request.uri().query().unwrap_or_default();
            choice::choose(gateway, peer, name(), query, request.headers()).await
        }
        Target::Live => {
            let transport = parameters.get("transport").unwrap_or_default();
            let rest = parameters.get("rest").unwrap_or_default();
            live::serve(gateway, peer, name(), transport, rest, request).await
        }
        Target::Frame => capture::frame(gateway, name(), request).await,
        Target::Capture => capture::post(gateway, name(), request).await,
        Target::CaptureSocket => capture::socket(gateway, name(), request).await,
        Target::NalStream => {
            let names = transports::that_embed(&gateway.transports, Embed::AccessUnits);
            match names.first() {
                Some(transport) => live::serve(gateway, peer, name(), transport, "", request).await,
                None => {
                    let text = "no transport of this gateway sends access units over WebSocket; check [transports]";
                    error(true, StatusCode::NOT_FOUND, text)
                }
            }
        }
    }
}

/// A response whose body is all there.
fn full(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(boxed(WholeBody::from(body.into())));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, content_type);
    response
}

/// The head of a response of a length that nobody knows yet.
fn endless(status: StatusCode, content_type: &str) -> Response<Body> {
    let mut response = full(status, content_type, "");
    *response.body_mut() = boxed(WholeBody::endless());
    response
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(body) => full(status, "application/json", body),
        Err(failed) => error(true, StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

/// What went wrong and what to do.
#[derive(serde::Serialize, schemars::JsonSchema)]
#[schemars(rename = "Error")]
struct Wrong<'a> {
    error: &'a str,
}

/// What went wrong and what to do, as JSON below `/api/`, else as text.
fn error(as_json: bool, status: StatusCode, text: &str) -> Response<Body> {
    if as_json {
        return json(status, &Wrong { error: text });
    }
    full(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

/// A header whose value may come from elsewhere; one that is no header value is left out.
fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn finish(mut response: Response<Body>, foreign: Option<String>) -> Response<Body> {
    let embeddable = foreign.is_some();
    if let Some(origin) = foreign {
        set(&mut response, header::ACCESS_CONTROL_ALLOW_ORIGIN, &origin);
        set(
            &mut response,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            EXPOSED,
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
