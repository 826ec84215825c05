//! WebTransport sessions at `/live/{stream}/{transport}/…`, and what a page needs to know to open one.
//!
//! A request for a session passes the same gate as an HTTP request to the same path (`visitor`) and
//! reaches the muxer in the same way (`live`). What differs is the answer: it has only a status, of which `wtransport`
//! knows three, so the reason is in the log at debug level.

use super::{
    Visitor,
    live::{Refused, Visit},
    needed, prefix,
    routes::{self, Found, Parameters, Target},
    session_in, visitor,
};
use crate::gateway::Gateway;
use crate::session::Measured;
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{HeaderMap, Method, Request, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_net::auth::{self, Peer};
use sluicegate_net::webtransport::{self, Refusal, SessionRequest};
use sluicegate_viewer::Carrier;
use std::{net::IpAddr, sync::Arc, time::Instant};

/// How a page opens WebTransport sessions: at the path of a transport, with `https`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebTransport")]
pub struct Access {
    /// UDP port, if it is not that of the gateway's pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// SHA-256 of the certificate in use and of the one that follows it, in base64, for `serverCertificateHashes`.
    /// Empty if the certificate is that of the gateway's pages, and has to be verified in the same way.
    hashes: Vec<String>,
}

impl Access {
    /// That of this gateway; `None` if it has no WebTransport, and for requests of this client through a proxy or a
    /// Unix socket, since its UDP port is not that of the page's host and port.
    pub fn of(gateway: &Gateway, client: IpAddr, headers: &HeaderMap) -> Option<Access> {
        let own = gateway.webtransport.as_ref();
        let is_direct = !auth::is_proxied(headers) && client != Peer::UNIX.ip();
        let own = own.filter(|_| is_direct)?;
        let hashes = own.certificates.hashes();
        Some(Access {
            port: own.port,
            hashes: hashes.iter().map(|hash| STANDARD.encode(hash)).collect(),
        })
    }
}

/// Where sessions are opened, if that is another port than the one of `host`, as text for a Content Security Policy.
pub fn origin(host: &str, gateway: &Gateway) -> Option<String> {
    let port = gateway.webtransport.as_ref()?.port?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    Some(format!("https://{name}:{port}"))
}

/// Serves a session from its request to its end.
pub async fn connect(gateway: Arc<Gateway>, peer: Peer, request: SessionRequest) {
    let started = Instant::now();
    // A session has no redirect; the base path alone is not found.
    let head = request.head().clone();
    let mut head = prefix::enter(&gateway.config().server, peer, head.clone()).unwrap_or(head);
    auth::take_path_ticket(&mut head);
    let admitted = match admit(&gateway, peer, &head).await {
        Ok(admitted) => admitted,
        Err(refused) => return refuse(request, peer, &refused).await,
    };
    let (visitor, parameters) = admitted;
    let parameter = |name| parameters.get(name).unwrap_or_default();
    let query = head.uri().query().unwrap_or_default();
    let (stream, transport) = (parameter("stream"), parameter("transport"));
    let visit = match Visit::find(
        &gateway,
        &visitor,
        stream,
        transport,
        parameter("rest"),
        query,
    ) {
        Ok(visit) => visit,
        Err(refused) => return refuse(request, peer, &refused).await,
    };
    let user = match visit.enter() {
        Ok(user) => user,
        Err(refused) => return refuse(request, peer, &refused).await,
    };
    let registration = visit.register(&user);
    let joining = visit.join_request(Carrier::WebTransport, None);
    let viewing = match user.join(registration.id, joining).await {
        Ok(viewing) => viewing,
        Err(refusal) => return refuse(request, peer, &visit.refused(refusal)).await,
    };
    let Some(session) = request.accept().await else {
        return;
    };
    let is_direct = !auth::is_proxied(head.headers());
    let measured = is_direct.then(|| Measured::ByQuic(Arc::downgrade(session.path())));
    visit.add_to_session(&registration, measured);
    let in_pieces = visit.transport.profile.partial_streams;
    let (meter, drain) = (registration.meter(started), gateway.drain());
    let guard = visitor.guard(&gateway);
    webtransport::serve_viewer(session, viewing, meter, in_pieces, drain, guard).await;
}

/// Checks the caller; returns it, and the parameters of the path to a transport.
async fn admit(
    gateway: &Gateway,
    peer: Peer,
    head: &Request<()>,
) -> Result<(Visitor, Parameters), Refused> {
    let no_transport = || {
        let text = "WebTransport sessions are below /live/STREAM/TRANSPORT only";
        Refused::new(StatusCode::NOT_FOUND, text)
    };
    let found = routes::find(&Method::GET, head.uri().path());
    let session = session_in(gateway, &found);
    let caller = auth::caller(&gateway.config().server, peer, head.headers());
    let needed = needed(&found, session.as_deref());
    let visitor = visitor::admit(gateway, &caller, needed, head.into())
        .await
        .map_err(|refusal| Refused::new(refusal.status(), refusal.text()))?;
    match found {
        Found::Route(route, parameters) if route.target == Target::Live => {
            Ok((visitor, parameters))
        }
        _ => Err(no_transport()),
    }
}

async fn refuse(request: SessionRequest, peer: Peer, refused: &Refused) {
    let Refused { status, text, .. } = refused;
    tracing::debug!(peer = %peer.address, %status, "refused a WebTransport session: {text}");
    request.refuse(refusal(*status)).await;
}

/// The status nearest to this one of those that a session can be refused with.
fn refusal(status: StatusCode) -> Refusal {
    match status {
        StatusCode::NOT_FOUND => Refusal::NotFound,
        StatusCode::SERVICE_UNAVAILABLE => Refusal::TooManyRequests,
        _ => Refusal::Forbidden,
    }
}
