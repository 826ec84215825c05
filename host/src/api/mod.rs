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
pub use events::EventBody;
pub use routes::{Found, Parameters, ROUTES, Route, Target, find};

use crate::{
    auth::{self, Peer},
    carrier::{ViewerBody, WholeBody},
    gateway::Gateway,
};
use bytes::Bytes;
use http_body_util::Either;
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use std::{net::SocketAddr, sync::Arc};

/// What goes back: a whole body, or one that goes on.
pub type Body = Either<WholeBody, Either<ViewerBody, EventBody>>;

/// Answers one request.
pub async fn respond(
    gateway: Arc<Gateway>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let json = request.uri().path().starts_with("/api/");
    let head = request.method() == hyper::Method::HEAD;
    let (route, parameters) = match routes::find(request.method(), request.uri().path()) {
        Found::Route(route, parameters) => (route, parameters),
        Found::OtherMethod(allowed) => {
            let mut response = error(
                json,
                StatusCode::METHOD_NOT_ALLOWED,
                &format!("this path answers {allowed}"),
            );
            set(&mut response, header::ALLOW, allowed);
            return finish(response, None);
        }
        Found::BadPath(reason) => {
            return finish(error(json, StatusCode::BAD_REQUEST, reason), None);
        }
        Found::Nothing => {
            let text = "there is nothing here; streams are listed at / and in /api/devices";
            return finish(error(json, StatusCode::NOT_FOUND, text), None);
        }
    };
    let server = &gateway.config.server;
    let caller = auth::caller(server, peer, request.headers());
    let checked = auth::check(
        server,
        &caller,
        route.role,
        request.uri(),
        request.headers(),
    );
    let foreign = match checked {
        Ok(foreign) => foreign,
        Err(denied) => {
            let status = match denied {
                auth::Denied::Host(_) => StatusCode::MISDIRECTED_REQUEST,
                auth::Denied::Origin(_) | auth::Denied::Admin => StatusCode::FORBIDDEN,
            };
            return finish(error(json, status, &denied.to_string()), None);
        }
    };
    let mut response = route_to(&gateway, caller.address, route.target, &parameters, request).await;
    if head {
        if let Some(length) = response.body().size_hint().exact()
            && response.status().is_success()
        {
            set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        }
        // The body of a viewer must not run for who only asks for the head.
        *response.body_mut() = Either::Left(WholeBody::default());
    }
    finish(response, foreign)
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
        Target::Docs => pages::page("docs.html", request.headers()),
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
        Target::CaptureSocket => capture::talk(gateway, name(), request).await,
        Target::NalStream => live::serve(gateway, peer, name(), "nal", "", request).await,
    }
}

/// A whole response.
fn full(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Either::Left(body.into().into()));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, content_type);
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
