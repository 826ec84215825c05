//! The halves of transports that run in browsers: `/api/halves/{stream}` tells a player what there is for a stream,
//! `/halves/{stream}/{transport}` is the document of the sandboxed frame that a half runs in, and `/modules/{name}` its
//! ES module.
//!
//! The frame has an opaque origin, by its Content Security Policy and by the player's `sandbox` attribute, so the
//! module can read nothing of the page or the gateway. What it may use, one transport of one stream, it gets by a
//! ticket (`sluicegate_net::auth`), and the policy lets it connect nowhere else
//! (`docs/decisions/0041-the-half-in-the-browser.md`).

use super::{
    Body, Visitor, component_response, error, full, json, live, media_query, pages, set,
    webtransport,
};
use crate::gateway::Gateway;
use crate::session;
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, header};
use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sluicegate_accounts::{Ticket, TicketError, ticket_in};
use sluicegate_config::{self as config, BasePath};
use sluicegate_net::auth::{self, Media, Role};
use sluicegate_plugin::{BrowserModule, transports::Transport};
use std::{
    sync::{Arc, LazyLock},
    time::SystemTime,
};

/// The script of the frame, which `web/build.mjs` makes of `web/src/half/frame.ts`.
const FRAME_SCRIPT: &str = "frame.js";

/// A transport with a half that runs in the browser, for a stream or one of its renditions.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Half {
    /// Name of the transport.
    transport: String,
    /// Name of the transport for people.
    label: String,
    /// Carriers of the transport, such as "http" and "websocket".
    carriers: Vec<&'static str>,
    /// Path of the transport of this stream with a ticket for it: "/live/porch/mine?ticket=TICKET".
    url: String,
    /// Seconds for which the ticket lets a frame connect.
    ticket_seconds: u64,
    /// Path of the ES module. Its content never changes.
    module: String,
    /// Path of the document of the frame in which the module runs; null if the config trusts the component, whose
    /// module then runs in the page itself.
    frame: Option<String>,
}

/// Lists the transports that have a half in the browser, with tickets for the stream; empty if there are none. `query`
/// may name the session that connections with these tickets belong to.
pub fn list(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    name: &str,
    query: Option<&str>,
) -> Response<Body> {
    let (stream, rendition) = media_query::split(name);
    if let Err(text) = live::stream(gateway, visitor, stream, rendition) {
        return error(true, StatusCode::NOT_FOUND, &text);
    }
    let session = form_urlencoded::parse(query.unwrap_or_default().as_bytes())
        .find(|(name, _)| name == "session")
        .and_then(|(_, id)| gateway.sessions.get(&id));
    let session = session.map_or(0, |session| session.number);
    let now = SystemTime::now();
    let rendition = rendition.unwrap_or_default();
    let half = |transport: &Arc<Transport>| {
        let module = transport.browser.as_ref()?;
        let media = Media {
            stream,
            rendition,
            transport: &transport.name,
        };
        let (accounts, identity) = (&gateway.accounts, &visitor.identity);
        let ticket = accounts.issue_ticket(identity, stream, Role::View, Some(media), session, now);
        let path = path(media);
        Some(Half {
            transport: transport.name.clone(),
            label: transport.label().to_owned(),
            carriers: transport
                .profile
                .carriers
                .iter()
                .map(|carrier| carrier.name())
                .collect(),
            url: format!("{base_path}/live/{path}?ticket={ticket}"),
            ticket_seconds: Ticket::MEDIA_LIFETIME.as_secs(),
            module: module_path(base_path, module),
            frame: (!transport.trusted)
                .then(|| format!("{base_path}/halves/{path}?ticket={ticket}")),
        })
    };
    let halves: Vec<Half> = gateway.transports.all().values().filter_map(half).collect();
    json(StatusCode::OK, &halves)
}

/// Answers with the document of the frame in which the half of a transport runs. It needs a ticket, whoever requests
/// it.
pub fn frame(
    gateway: &Gateway,
    base_path: &BasePath,
    name: &str,
    transport: &str,
    request: &Request<Incoming>,
) -> Response<Body> {
    let (stream, rendition) = media_query::split(name);
    let transports = gateway.transports.all();
    let Some(transport) = transports.get(transport) else {
        let text = config::unknown("transport", transport, transports.keys());
        return error(false, StatusCode::NOT_FOUND, &text);
    };
    let Some(module) = &transport.browser else {
        let text = format!(
            "the transport `{}` has no half in the browser",
            transport.name
        );
        return error(false, StatusCode::NOT_FOUND, &text);
    };
    let media = Media {
        stream,
        rendition: rendition.unwrap_or_default(),
        transport: &transport.name,
    };
    let ticket = ticket_in(request.uri().query()).unwrap_or_default();
    let identity = gateway.accounts.use_ticket(ticket, SystemTime::now());
    let admitted = identity.and_then(|identity| match identity.permits_media(media) {
        true => Ok(()),
        false => Err(TicketError::Invalid),
    });
    if let Err(refused) = admitted {
        return error(false, StatusCode::FORBIDDEN, &refused.to_string());
    }
    let host = auth::requested_host(request.into());
    let policy = policy(base_path, &path(media), module, host.as_deref(), gateway);
    let mut response = full(
        StatusCode::OK,
        "text/html; charset=utf-8",
        DOCUMENT.0.as_str(),
    );
    set(&mut response, header::CONTENT_SECURITY_POLICY, &policy);
    response
}

/// Answers with a module that a transport has now. Whoever knows its hash may have it.
pub fn module(gateway: &Gateway, file: &str, headers: &HeaderMap) -> Response<Body> {
    let transports = gateway.transports.all();
    let mut modules = transports
        .values()
        .filter_map(|known| known.browser.as_ref());
    match modules.find(|module| file == module_file(module)) {
        Some(module) => component_response::respond(&module.response, headers).0,
        None => {
            let text = "no transport has this module now; /api/halves/STREAM lists the modules";
            error(false, StatusCode::NOT_FOUND, text)
        }
    }
}

/// The frame's document, and the hash of its script as in a Content Security Policy.
static DOCUMENT: LazyLock<(String, String)> = LazyLock::new(|| {
    let script = pages::text(FRAME_SCRIPT);
    let hash = BASE64_STANDARD.encode(Sha256::digest(script));
    let document = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Player</title><script type=\"module\">{script}</script></html>\n"
    );
    (document, hash)
});

/// Policy of the frame: an opaque origin; scripts are ours and the module; it connects to this transport of this stream
/// only, and may decode by WebAssembly and in workers of its own. Where a policy cannot name the host, it is `'self'`,
/// and the ticket alone restricts.
fn policy(
    base_path: &BasePath,
    path: &str,
    module: &BrowserModule,
    host: Option<&str>,
    gateway: &Gateway,
) -> String {
    let (script, media) = match host {
        // `http:` also matches `https:`, and `ws:` matches `wss:` (Content Security Policy 3, section 6.7.2.8).
        Some(host) => {
            let mut media = vec![format!("http://{host}"), format!("ws://{host}")];
            media.extend(webtransport::origin(host, gateway));
            let media = media
                .iter()
                .map(|origin| format!("{origin}{base_path}/live/{path}"))
                .map(|url| format!("{url} {url}/"));
            (
                format!("http://{host}{}", module_path(base_path, module)),
                media.collect::<Vec<_>>().join(" "),
            )
        }
        None => ("'self'".into(), "'self'".into()),
    };
    let hash = &DOCUMENT.1;
    let origins: String = gateway
        .config()
        .server
        .origins
        .iter()
        .map(|origin| format!(" {}", origin.as_str()))
        .collect();
    format!(
        "sandbox allow-scripts; default-src 'none'; script-src 'sha256-{hash}' {script} 'wasm-unsafe-eval'; connect-src {media}; worker-src blob:; img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'{origins}"
    )
}

fn module_file(module: &BrowserModule) -> String {
    format!("{}.js", module.hash)
}

fn module_path(base_path: &BasePath, module: &BrowserModule) -> String {
    format!("{base_path}/modules/{}", module_file(module))
}

/// Path of the media below `/live/` and `/halves/`: "porch@mobile/mine".
fn path(media: Media<'_>) -> String {
    let base = session::base(media.stream, media.rendition);
    let stream = base.strip_prefix("/live/").unwrap_or(&base);
    format!("{stream}/{}", config::path_segment(media.transport))
}
