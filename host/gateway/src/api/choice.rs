//! `GET /live/{stream}`: which transport and rendition this client should play.
//!
//! A player (it accepts JSON) gets a session with the policy's choice; any other client is redirected to the first
//! transport that it can play by its headers (`session/redirect_target.rs`). Rules of the config apply to both. A
//! redirect is relative to this path, and paths in JSON carry the base path, so that both hold behind a reverse proxy.

use super::{Body, Visitor, error, json, live, media_query, set, webtransport::Access};
use crate::gateway::Gateway;
use crate::session::{
    Allowed, ClientRequest, Pin, PlaybackTarget, RedirectTarget, SessionError, SessionRequest,
    base, first, redirect_target, wants_json,
};
use hyper::{HeaderMap, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_config::{self as config, BasePath};
use sluicegate_net::auth::Role;
use sluicegate_plugin::policy::Client;
use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

/// Largest number of names in `?can=`; further ones are ignored.
const MAX_NAMES: usize = 32;
/// Longest name in `?can=` in bytes; longer ones are ignored. Also the characters of `?network=` that are kept.
const MAX_NAME_LEN: usize = 64;

/// What a player should play first.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PlaybackChoice")]
pub struct PlaybackChoice<'a> {
    #[serde(flatten)]
    form: &'a PlaybackTarget,
    /// Path at which to start the transport, such as "/live/porch@mobile/hls/index.m3u8".
    url: String,
    /// Path of the stream in that rendition, such as "/live/porch@mobile"; paths of its transports begin with it.
    base: String,
    /// Reason for the choice, shown to the user.
    reason: &'a str,
    /// Path of the session's control channel, "/api/sessions/ID".
    session: String,
    /// How to open WebTransport sessions; null if the gateway has none.
    webtransport: Option<Access>,
    /// Ticket for the stream in all renditions: below "/live/~TICKET/NAME/", what sends neither cookies nor headers may
    /// view it, such as WebTransport, native players and images. Valid for a minute, and for a minute after each use.
    /// Null if everybody may view the stream.
    ticket: Option<String>,
    /// Whether the stream is the gateway's test pattern, whose frames contain their number and time as a block code.
    pattern: bool,
}

/// Answers a request for a stream that names no transport in its path.
pub async fn choose(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    base_path: &BasePath,
    name: &str,
    query: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let (stream, rendition) = media_query::split(name);
    let request = ClientRequest {
        address: visitor.address.ip(),
        headers,
        query,
        stream,
    };
    let mut response = answer(gateway, visitor, base_path, &request, rendition).await;
    set(
        &mut response,
        header::VARY,
        "Origin, Accept, User-Agent, Sec-Fetch-Dest",
    );
    response
}

async fn answer(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    base_path: &BasePath,
    request: &ClientRequest<'_>,
    rendition: Option<&str>,
) -> Response<Body> {
    let name = request.stream;
    let as_json = wants_json(request);
    let stream = match live::stream(gateway, visitor, name, rendition) {
        Ok(stream) => stream,
        Err(text) => return error(as_json, StatusCode::NOT_FOUND, &text),
    };
    if gateway.is_draining() {
        let text = "the gateway is shutting down";
        return error(as_json, StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let config = gateway.config();
    let rule = first(&config.clients, request);
    let mut allowed = rule.map(Allowed::from).unwrap_or_default();
    let target = (!as_json).then(|| redirect_target(request));
    if target == Some(RedirectTarget::Page) {
        let base = base(name, rendition.unwrap_or_default());
        return redirect(&base.replace("/live/", "../watch/"), request.query);
    }
    let mut can: Vec<String> = match target {
        Some(RedirectTarget::Embed(kinds)) => kinds
            .iter()
            .flat_map(|kind| gateway.transports.names_that_embed(*kind))
            .collect(),
        _ => can(gateway, request),
    };
    // A transport may be suitable in several ways, and a client may repeat itself.
    let mut seen = BTreeSet::new();
    can.retain(|name| seen.insert(name.clone()));
    let mut pin = Pin {
        transport: request.parameter("transport"),
        rendition: request.parameter("rendition"),
    };
    pin.transport
        .take_if(|name| name == "auto" || name.is_empty());
    if let Some(rendition) = rendition {
        pin.rendition = Some(rendition.to_owned());
    }
    if target.is_some()
        && !allowed.force
        && let Some(names) = &allowed.transports
        && !names.iter().any(|name| can.contains(name))
    {
        // The rule allows nothing that this client plays: give it something that it does play.
        allowed.transports = None;
    }
    let policy = gateway.sessions.policy_actor().policy();
    let options = policy.options_with(rule.and_then(|rule| rule.policy.as_ref()));
    let session_request = SessionRequest {
        stream,
        client: Client {
            address: request.address.to_canonical().to_string(),
            user_agent: request.agent().chars().take(500).collect(),
            save_data: request.header("save-data") == Some("on"),
            network: request
                .parameter("network")
                .map(|network| network.chars().take(MAX_NAME_LEN).collect()),
            listening: request.parameter("listening").as_deref() == Some("true"),
            more: Vec::new(),
        },
        can,
        facts: request.into(),
        allowed,
        pin,
        options: options.to_string(),
    };
    if target.is_some() {
        return match gateway.sessions.first_candidate(&session_request).await {
            Ok(form) => {
                let base = base(name, &form.rendition);
                let place = base.strip_prefix("/live/").unwrap_or(&base);
                redirect(
                    &format!("{place}/{}", entry(gateway, &form.transport)),
                    request.query,
                )
            }
            Err(refused) => refusal(as_json, &refused),
        };
    }
    let (session, decision) = match gateway.sessions.begin(session_request).await {
        Ok(begun) => begun,
        Err(refused) => return refusal(as_json, &refused),
    };
    let newest = gateway.config();
    if !Arc::ptr_eq(&config, &newest) {
        // The config was reloaded meanwhile, perhaps before the session was among those that get the new rules.
        let policy = gateway.sessions.policy_actor().policy();
        gateway
            .sessions
            .apply_rules_to(&session, &newest.clients, &policy);
    }
    let base = format!("{base_path}{}", base(name, &decision.target.rendition));
    json(
        StatusCode::OK,
        &PlaybackChoice {
            url: format!("{base}/{}", entry(gateway, &decision.target.transport)),
            base,
            form: &decision.target,
            reason: &decision.reason,
            session: format!("{base_path}/api/sessions/{}", session.id),
            webtransport: Access::of(gateway, request.address, request.headers),
            ticket: ticket(gateway, visitor, name, session.number),
            pattern: session.stream.source().is_test_pattern(),
        },
    )
}

/// A ticket for the connections of a session; `None` if everybody may view the stream.
fn ticket(gateway: &Gateway, visitor: &Visitor, stream: &str, session: u64) -> Option<String> {
    let accounts = &gateway.accounts;
    if accounts.anonymous().permits(Role::View, Some(stream)) {
        return None;
    }
    let (identity, now) = (&visitor.identity, SystemTime::now());
    Some(accounts.issue_ticket(identity, stream, Role::View, None, session, now))
}

/// Path of a transport's entry below the stream.
fn entry(gateway: &Gateway, transport: &str) -> String {
    match gateway.transports.get(transport) {
        Some(transport) => transport.entry(),
        None => config::path_segment(transport),
    }
}

/// Names in `?can=`, best first; all transports if the parameter is absent.
fn can(gateway: &Gateway, request: &ClientRequest<'_>) -> Vec<String> {
    match request.parameter("can") {
        Some(names) => names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty() && name.len() <= MAX_NAME_LEN)
            .take(MAX_NAMES)
            .map(str::to_owned)
            .collect(),
        None => gateway.transports.all().keys().cloned().collect(),
    }
}

fn refusal(as_json: bool, refused: &SessionError) -> Response<Body> {
    let status = match refused {
        SessionError::TooMany => StatusCode::SERVICE_UNAVAILABLE,
        SessionError::Removed => StatusCode::NOT_FOUND,
        SessionError::TooManyUnclaimed => StatusCode::TOO_MANY_REQUESTS,
        SessionError::Nothing { .. } | SessionError::NoSuch(..) => StatusCode::NOT_ACCEPTABLE,
        SessionError::Forced => StatusCode::FORBIDDEN,
    };
    let mut response = error(as_json, status, &refused.to_string());
    if status == StatusCode::SERVICE_UNAVAILABLE {
        set(&mut response, header::RETRY_AFTER, "1");
    }
    response
}

/// Redirects to `place`, relative to the request's path so that it also holds behind proxies, with the same query.
fn redirect(place: &str, query: &str) -> Response<Body> {
    let query = Some(query).filter(|query| !query.is_empty());
    super::redirect(StatusCode::TEMPORARY_REDIRECT, place, query)
}
