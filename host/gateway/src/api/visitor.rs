//! Who makes a request, and whether they may: the gate before every handler, on every carrier.
//!
//! [`admit`] checks the page that the request comes from, identifies the caller, and asks whether it has what the route
//! needs (`sluicegate_net::auth`). Handlers get the [`Visitor`]. They find streams only by [`Visitor::sees`], so a
//! stream that the caller may not view is answered as one that does not exist.

use super::{Body, error, full, set};
use crate::gateway::Gateway;
use form_urlencoded::byte_serialize;
use hyper::{Method, Response, StatusCode, header};
use sluicegate_accounts::{Identity, Proof, Refused, Role, TicketError};
use sluicegate_config::{self as config, BasePath};
use sluicegate_net::Guard;
use sluicegate_net::auth::{self, Caller, Denied, OwnedPermission, Permission, RequestHead, Scope};
use std::{net::SocketAddr, time::SystemTime};

/// What a client is asked for that shows no window of its own for name and password.
const CHALLENGE: &str = "Basic realm=\"sluicegate\", charset=\"UTF-8\"";
const SIGN_IN: &str = "sign in at /login, or send a name and password (`Authorization: Basic`) or a token (`Authorization: Bearer`)";

const OTHER_TICKET: &str = "this ticket is not for this stream, rendition and transport; get one where this came from, for a half from /api/halves/STREAM";

/// A caller that was let in.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Address of the client.
    pub address: SocketAddr,
    /// Whether the client uses TLS.
    pub secure: bool,
    /// The user it is, how that was proved, and what it may do.
    pub identity: Identity,
    /// The foreign origin for the CORS headers, if the request has an allowed one.
    pub cors_origin: Option<String>,
    /// What it was let in for.
    needed: OwnedPermission,
    /// The ticket that proves who it is.
    ticket: Option<String>,
    /// It asks for a stream that it may not view, and gets the answer for one that does not exist.
    is_blind: bool,
}

impl Visitor {
    /// Whether the stream exists for this visitor.
    pub fn sees(&self, stream: &str) -> bool {
        !self.is_blind && sees(&self.identity, stream)
    }

    /// The ticket that proves who it is.
    pub fn ticket(&self) -> Option<&str> {
        self.ticket.as_deref()
    }

    /// A guard for what goes on after the request was answered: it ends that when the visitor may no longer have it.
    pub fn guard(&self, gateway: &Gateway) -> Guard {
        let guards = &gateway.guards;
        guards.guard(&self.identity, &self.needed, self.ticket())
    }

    /// The roles that it has over a stream which it sees, by the names in `wit/gateway.wit`.
    pub fn roles(&self, stream: &str) -> Vec<String> {
        let others = Role::ALL.into_iter().filter(|role| *role != Role::View);
        let others = others.filter(|role| self.identity.permits(*role, Some(stream)));
        let all = std::iter::once(Role::View).chain(others);
        all.map(|role| role.name().to_owned()).collect()
    }
}

/// Whether it may view the stream, or a part of it.
fn sees(identity: &Identity, stream: &str) -> bool {
    let ticket = identity.ticket();
    identity.permits(Role::View, Some(stream))
        || ticket.is_some_and(|ticket| ticket.stream == stream)
}

/// Why a caller is not let in.
#[derive(Debug)]
pub enum Refusal {
    /// By the page that it comes from, or by where it is.
    Denied(Denied),
    /// What it presents proves nothing.
    Unproved(Refused),
    /// Its ticket, which alone counts, is not valid.
    Ticket(TicketError),
    /// It has to prove who it is.
    SignIn,
    /// It is somebody who may not.
    Forbidden(String),
    /// It is somebody for whom the stream that it wants to change does not exist.
    NoStream(String),
}

impl Refusal {
    /// Status of the answer, unless that is a redirect to the page for signing in.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Denied(Denied::BadHost(_)) => StatusCode::BAD_REQUEST,
            Refusal::Denied(Denied::Host(_)) => StatusCode::MISDIRECTED_REQUEST,
            Refusal::Denied(_) | Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::NoStream(_) => StatusCode::NOT_FOUND,
            Refusal::SignIn
            | Refusal::Ticket(_)
            | Refusal::Unproved(Refused::Unknown | Refused::Expired) => StatusCode::UNAUTHORIZED,
            Refusal::Unproved(Refused::Throttled { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Unproved(Refused::Busy { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Unproved(Refused::Unstored) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What is wrong and what to do, for people.
    pub fn text(&self) -> String {
        match self {
            Refusal::Denied(denied) => denied.to_string(),
            Refusal::Unproved(refused) => refused.to_string(),
            Refusal::Ticket(refused) => refused.to_string(),
            Refusal::SignIn => SIGN_IN.to_owned(),
            Refusal::Forbidden(text) | Refusal::NoStream(text) => text.clone(),
        }
    }

    /// The answer: a browser that asks for a page is sent to the one for signing in.
    pub fn response(
        &self,
        as_json: bool,
        base_path: &BasePath,
        asked: RequestHead<'_>,
    ) -> Response<Body> {
        let status = self.status();
        if status == StatusCode::UNAUTHORIZED && asked.is_visit() {
            return see_login(base_path, asked.path_and_query());
        }
        let mut response = error(as_json, status, &self.text());
        if status == StatusCode::UNAUTHORIZED && !asked.is_browser() {
            set(&mut response, header::WWW_AUTHENTICATE, CHALLENGE);
        }
        if let Refusal::Unproved(refused) = self {
            set_retry_after(&mut response, refused);
        }
        response
    }

    /// Logs the first of each kind.
    fn log(&self, gateway: &Gateway, address: SocketAddr, needed: Permission<'_>) {
        let kind = match self {
            Refusal::Denied(denied) => format!("{:?}", std::mem::discriminant(denied)),
            // Everybody who has not signed in yet.
            Refusal::SignIn => return,
            Refusal::Ticket(_) => "ticket".to_owned(),
            Refusal::Unproved(refused) => format!("{:?}", std::mem::discriminant(refused)),
            Refusal::Forbidden(_) => "forbidden".to_owned(),
            Refusal::NoStream(_) => "no-stream".to_owned(),
        };
        let client = address.ip();
        // Keyed by the kind of refusal, not by text that the client controls, so the set stays small.
        let key = format!("{kind} {}", client.is_loopback());
        if gateway.refusals.is_new(&key) {
            let text = self.text();
            tracing::warn!(%client, %needed, "refused a request; further ones of this kind are not logged: {text}");
        }
    }
}

/// Tells the client when to try again, if it should.
pub fn set_retry_after(response: &mut Response<Body>, refused: &Refused) {
    if let Refused::Throttled { retry_after } | Refused::Busy { retry_after } = refused {
        let seconds = retry_after.as_secs_f64().ceil().max(1.0);
        set(response, header::RETRY_AFTER, &seconds.to_string());
    }
}

/// Sends a browser to the page for signing in, and from there to this path.
fn see_login(base_path: &BasePath, path: &str) -> Response<Body> {
    let next: String = byte_serialize(format!("{base_path}{path}").as_bytes()).collect();
    see_other(&format!("{base_path}/login?next={next}"))
}

/// Sends a browser to another page.
pub fn see_other(place: &str) -> Response<Body> {
    let mut response = full(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", "");
    set(&mut response, header::LOCATION, place);
    response
}

/// Lets a caller in who may have what it asks for.
///
/// # Errors
/// The page that it comes from, its credentials, or its rights do not permit what it asks for.
pub async fn admit(
    gateway: &Gateway,
    caller: &Caller,
    needed: Permission<'_>,
    asked: RequestHead<'_>,
) -> Result<Visitor, Refusal> {
    let admitted = check(gateway, caller, needed, asked).await;
    admitted.inspect_err(|refusal| refusal.log(gateway, caller.address, needed))
}

async fn check(
    gateway: &Gateway,
    caller: &Caller,
    needed: Permission<'_>,
    asked: RequestHead<'_>,
) -> Result<Visitor, Refusal> {
    let config = gateway.config();
    let (server, accounts) = (&config.server, &gateway.accounts);
    let site = auth::check(server, caller, needed, asked).map_err(Refusal::Denied)?;
    let visitor = |identity, ticket, is_blind| Visitor {
        address: caller.address,
        secure: caller.secure,
        identity,
        cors_origin: site.foreign.clone(),
        needed: needed.owned(),
        ticket,
        is_blind,
    };
    let is_for_everybody =
        needed.role.is_none() && !matches!(needed.scope, Scope::Account | Scope::SignIn);
    // A preflight has no credentials (Fetch, CORS-preflight fetch), and what it is told is the same for everybody.
    if is_for_everybody || asked.method() == Method::OPTIONS {
        return Ok(visitor(accounts.anonymous(), None, false));
    }
    let now = SystemTime::now();
    let identified = auth::identify(server, accounts, caller, &site, needed, asked, now).await;
    let identity = match identified {
        // Whoever signs in need not have proved anything.
        Err(_) if needed.scope == Scope::SignIn => accounts.anonymous(),
        Err(refused) => {
            return Err(match refused {
                Refused::Unknown if asked.is_by_ticket(&site) => {
                    Refusal::Ticket(TicketError::Invalid)
                }
                Refused::Expired if asked.is_by_ticket(&site) => {
                    Refusal::Ticket(TicketError::Expired)
                }
                refused => Refusal::Unproved(refused),
            });
        }
        Ok(identity) => identity,
    };
    let ticket = match identity.proof() {
        Proof::Ticket => asked.ticket().map(str::to_owned),
        _ => None,
    };
    if needed.is_granted_to(&identity) {
        return Ok(visitor(identity, ticket, false));
    }
    if identity.proof() == Proof::Nothing {
        let must_be_local = needed.role == Some(Role::Admin) && !accounts.has_passwords();
        return Err(match auth::may_administer(server, caller, asked) {
            Err(denied) if must_be_local => Refusal::Denied(denied),
            _ => Refusal::SignIn,
        });
    }
    // Says nothing about whether what it asks for exists.
    if identity.proof() == Proof::Ticket {
        return Err(Refusal::Forbidden(OTHER_TICKET.to_owned()));
    }
    match needed.scope {
        Scope::Stream(name) | Scope::Media(auth::Media { stream: name, .. })
            if !sees(&identity, name) =>
        {
            // Who only looks is answered by the handler, which finds no stream. Handlers that change something need not
            // find one.
            if matches!(needed.role, Some(Role::View | Role::Capture)) {
                return Ok(visitor(identity, ticket, true));
            }
            let mut names = gateway.streams.names();
            names.retain(|name| sees(&identity, name));
            let text = config::unknown("stream", name, names.iter());
            Err(Refusal::NoStream(text))
        }
        _ => {
            let user = identity.user();
            let text = format!("{user} may not do this: it needs the role {needed}");
            Err(Refusal::Forbidden(text))
        }
    }
}
