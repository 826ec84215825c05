//! `GET /live/{stream}`: what this client is to play, by the config and the policy. JSON for players, a redirect for others.

use super::{Body, ask, error, full, json, live, set};
use crate::gateway::Gateway;
use crate::session::{
    Allowed, Asker, Form, Opening, Pin, Plain, SessionError, base, first, plain, wants_json,
};
use hyper::{HeaderMap, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_config as config;
use sluicegate_plugin::{policy::Client, transports};
use std::{net::SocketAddr, sync::Arc};

/// Names in `?can=` and characters of one that are looked at.
const MAX_NAMES: usize = 32;
const MAX_NAME_LEN: usize = 64;

/// The answer to a player.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Chosen")]
pub struct Chosen<'a> {
    #[serde(flatten)]
    form: &'a Form,
    /// Path of the transport.
    url: String,
    /// Path of the stream in that rendition; transports lie below it.
    base: String,
    reason: &'a str,
    /// Path of the control channel.
    session: String,
    /// The stream is the gateway's test pattern, whose pictures carry a block code: frame number and time.
    pattern: bool,
}

/// Answers who asks for a stream without saying how.
pub async fn choose(
    gateway: &Arc<Gateway>,
    peer: SocketAddr,
    name: &str,
    query: &str,
    headers: &HeaderMap,
) -> Response<Body> {
    let (stream, rendition) = ask::split(name);
    let asker = Asker {
        address: peer.ip(),
        headers,
        query,
        stream,
    };
    let mut response = answer(gateway, &asker, rendition).await;
    set(
        &mut response,
        header::VARY,
        "Origin, Accept, User-Agent, Sec-Fetch-Dest",
    );
    response
}

async fn answer(
    gateway: &Arc<Gateway>,
    asker: &Asker<'_>,
    rendition: Option<&str>,
) -> Response<Body> {
    let name = asker.stream;
    let as_json = wants_json(asker);
    let stream = match live::stream(gateway, name, rendition) {
        Ok(stream) => stream,
        Err(text) => return error(as_json, StatusCode::NOT_FOUND, &text),
    };
    if gateway.is_draining() {
        let text = "the gateway is shutting down";
        return error(as_json, StatusCode::SERVICE_UNAVAILABLE, text);
    }
    let rule = first(&gateway.config.clients, asker);
    let mut allowed = rule.map(Allowed::from).unwrap_or_default();
    let plainly = (!as_json).then(|| plain(asker));
    if plainly == Some(Plain::Page) {
        let base = base(name, rendition.unwrap_or_default());
        return redirect(&base.replace("/live/", "../watch/"), asker.query);
    }
    let can = match plainly {
        Some(Plain::Embed(kinds)) => kinds
            .iter()
            .flat_map(|kind| transports::that_embed(&gateway.transports, *kind))
            .collect(),
        _ => can(gateway, asker),
    };
    let mut pin = Pin {
        transport: asker.parameter("transport"),
        rendition: asker.parameter("rendition"),
    };
    pin.transport
        .take_if(|name| name == "auto" || name.is_empty());
    if let Some(rendition) = rendition {
        pin.rendition = Some(rendition.to_owned());
    }
    if plainly.is_some()
        && !allowed.force
        && let Some(names) = &allowed.transports
        && !names.iter().any(|name| can.contains(name))
    {
        // Better something that it plays than what the rule meant for others.
        allowed.transports = None;
    }
    let policy = gateway.sessions.policy_actor().policy();
    let options = policy.options_with(rule.and_then(|rule| rule.policy.as_ref()));
    let opening = Opening {
        stream,
        client: Client {
            address: asker.address.to_canonical().to_string(),
            user_agent: asker.agent().chars().take(500).collect(),
            save_data: asker.header("save-data") == Some("on"),
            network: asker
                .parameter("network")
                .map(|network| network.chars().take(MAX_NAME_LEN).collect()),
            listening: asker.parameter("listening").as_deref() == Some("true"),
        },
        can,
        allowed,
        pin,
        options: options.to_string(),
    };
    if plainly.is_some() {
        return match gateway.sessions.advise(&opening).await {
            Ok(form) => {
                let base = base(name, &form.rendition);
                let place = base.strip_prefix("/live/").unwrap_or(&base);
                redirect(
                    &format!("{place}/{}", entry(gateway, &form.transport)),
                    asker.query,
                )
            }
            Err(refused) => refusal(as_json, &refused),
        };
    }
    let (session, decision) = match gateway.sessions.begin(opening).await {
        Ok(begun) => begun,
        Err(refused) => return refusal(as_json, &refused),
    };
    let base = base(name, &decision.form.rendition);
    json(
        StatusCode::OK,
        &Chosen {
            url: format!("{base}/{}", entry(gateway, &decision.form.transport)),
            base,
            form: &decision.form,
            reason: &decision.reason,
            session: format!("/api/sessions/{}", session.id),
            pattern: session.stream.source.is_test_pattern(),
        },
    )
}

/// What the client says that it can play, best first; all there is, if it says nothing.
/// Path of a transport's entry below the stream.
fn entry(gateway: &Gateway, transport: &str) -> String {
    match gateway.transports.get(transport) {
        Some(transport) => transport.entry(),
        None => config::path_segment(transport),
    }
}

fn can(gateway: &Gateway, asker: &Asker<'_>) -> Vec<String> {
    match asker.parameter("can") {
        Some(names) => names
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty() && name.len() <= MAX_NAME_LEN)
            .take(MAX_NAMES)
            .map(str::to_owned)
            .collect(),
        None => gateway.transports.keys().cloned().collect(),
    }
}

fn refusal(as_json: bool, refused: &SessionError) -> Response<Body> {
    let status = match refused {
        SessionError::TooMany => StatusCode::SERVICE_UNAVAILABLE,
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

/// To a place beside this one, with the same query: relative, so that it holds behind proxies too.
fn redirect(place: &str, query: &str) -> Response<Body> {
    let mut response = full(
        StatusCode::TEMPORARY_REDIRECT,
        "text/plain; charset=utf-8",
        format!("{place}\n"),
    );
    let location = match query {
        "" => place.to_owned(),
        query => format!("{place}?{query}"),
    };
    set(&mut response, header::LOCATION, &location);
    response
}
