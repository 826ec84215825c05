//! Access rules without accounts: which client may request which route, by role, `Host`, `Origin` and Fetch Metadata.
//! Pure.
//!
//! Two attackers matter: a web page of another site in a viewer's browser, and a remote client that looks local because
//! a proxy or tunnel connects from this machine. So the host name must be ours (DNS rebinding), pages of other sites
//! must be listed in `origins`, and an administrator must connect from loopback without any trace of a proxy.
//! `authority` parses hosts, `forwarded` finds the client's address behind proxies, `site` classifies the requesting
//! page, `ticket` admits a sandboxed frame, which has no origin. [`check`] is called by the gateway for each request
//! before its route. Reasons are in decisions 0029 and 0041.

mod authority;
mod forwarded;
mod site;
mod ticket;

pub use authority::Authority;
pub use forwarded::{Caller, Peer, base_path, caller, is_proxied};
pub use ticket::{Grant, Media, TicketError, Tickets, ticket_in};

use hyper::{HeaderMap, Method, Request, Uri, Version, header};
use sluicegate_config::Server;
use std::time::Instant;
use thiserror::Error;

/// Role that a route requires of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// None: the answer is the same for every client, and starts nothing.
    Public,
    /// May watch streams.
    View,
    /// May capture and save images; every client that may watch, until there are accounts.
    Capture,
    /// May change things; only from loopback, until there are accounts.
    Admin,
}

impl Role {
    /// Its name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Role::Public => "public",
            Role::View => "view",
            Role::Capture => "capture",
            Role::Admin => "admin",
        }
    }
}

/// What a request requires of its caller: a role, and what it is to have that role for. All callers have their role for
/// everything, until there are accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission<'a> {
    /// The role.
    pub role: Role,
    /// What the request is about.
    pub scope: Scope<'a>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The gateway itself: its pages, metrics, components.
    Gateway,
    /// Every stream: the answer lists them.
    AllStreams,
    /// The stream of this name, which need not exist.
    Stream(&'a str),
    /// A transport of a stream. A ticket admits to it.
    Media(Media<'a>),
    /// What the path names by a hash of its content, so that whoever can ask for it knows what it is.
    Content,
    /// The session with this id, and so the stream that it plays.
    Session(&'a str),
}

impl std::fmt::Display for Permission<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = self.role.name();
        match self.scope {
            Scope::Gateway | Scope::Content => f.write_str(role),
            Scope::AllStreams => write!(f, "{role} of all streams"),
            Scope::Stream(name) | Scope::Media(Media { stream: name, .. }) => {
                write!(f, "{role} of the stream {}", shortened(name))
            }
            Scope::Session(id) => write!(f, "{role} of the session {}", shortened(id)),
        }
    }
}

/// The parts of a request that identify its caller.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    method: &'a Method,
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    fn from(request: &'a Request<B>) -> Self {
        RequestHead {
            method: request.method(),
            version: request.version(),
            uri: request.uri(),
            headers: request.headers(),
        }
    }
}

/// Reason why a request is refused before its route is handled.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Denied {
    /// No `Host`, more than one, or an invalid one (RFC 9112 section 3.2).
    #[error("{0}; a request must name one host and port in `Host`")]
    BadHost(String),
    /// A host name that the gateway does not have (DNS rebinding).
    #[error("this gateway does not serve the host name `{0}`; add it to `names` under [server]")]
    Host(String),
    /// A page of another site, by its `Origin`.
    #[error("pages of {0} may not use this gateway; add it to `origins` under [server]")]
    Origin(String),
    /// A page of another site, by Fetch Metadata without an `Origin`.
    #[error(
        "a page of another site may not use this gateway; add that site to `origins` under [server], and let its page send CORS requests, as <img crossorigin> does"
    )]
    CrossSite,
    /// A sandboxed frame, by its ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// A page of an allowed origin requests an administrator's route.
    #[error("pages of {0} may watch and capture; administrators use the gateway's own pages")]
    AdminOrigin(String),
    /// An administrator's route, but not from loopback.
    #[error("this is for administrators, who connect from the gateway's own machine")]
    Admin,
    /// An administrator's route under another port than ours, so through a forwarder.
    #[error(
        "this is for administrators, who connect to the gateway itself on its own machine, as to localhost:{0}, without a proxy or another port in between"
    )]
    AdminPort(u16),
    /// An administrator's route by HTTP/1.0, the only trace of a plain proxy.
    #[error(
        "this is for administrators, who connect to the gateway itself by HTTP/1.1 or newer; this came by HTTP/1.0, as through a proxy that adds no `X-Forwarded-For`"
    )]
    AdminProxy,
}

/// Checks `Host`, `Origin`, Fetch Metadata, tickets and permission. Returns the foreign origin for the CORS headers, if
/// the request has an allowed one; "null" for a frame that is admitted by its ticket. `server.listen` must have the
/// actual ports.
///
/// # Errors
/// What is not allowed, and what to change to allow it.
pub fn check(
    server: &Server,
    tickets: &Tickets,
    caller: &Caller,
    needed: Permission<'_>,
    asked: RequestHead<'_>,
    now: Instant,
) -> Result<Option<String>, Denied> {
    let role = needed.role;
    let host = host(asked)?;
    if !is_ours(server, &host) {
        return Err(Denied::Host(shortened(host.host)));
    }
    let admitted = is_admitted(tickets, needed.scope, asked, now)?;
    let foreign = match asked.headers.get(header::ORIGIN) {
        None => None,
        Some(origin) => {
            let origin = origin.to_str().unwrap_or("(unreadable)");
            let mut listed = server.origins.iter();
            let listed = listed.any(|known| known.as_str().eq_ignore_ascii_case(origin));
            if listed || admitted {
                Some(origin.to_owned())
            } else if site::is_own(server, caller, &host, origin)
                // No other page can read the answer without CORS, and pages behind a proxy that hides its own name
                // still work.
                || role == Role::Public
            {
                None
            } else {
                return Err(Denied::Origin(shortened(origin)));
            }
        }
    };
    if foreign.is_none() && !admitted && site::is_foreign(asked.method, asked.headers) {
        return Err(match asked.headers.get(header::ORIGIN) {
            Some(origin) => Denied::Origin(shortened(origin.to_str().unwrap_or("(unreadable)"))),
            None => Denied::CrossSite,
        });
    }
    if role == Role::Admin {
        if let Some(origin) = foreign {
            return Err(Denied::AdminOrigin(shortened(&origin)));
        }
        may_administer(server, caller, &host, asked)?;
    }
    Ok(foreign)
}

/// Whether a request that would be refused as another site's is admitted: it comes from an opaque origin, as sandboxed
/// frames have, or loads a frame's document into another site's page, which has no `Origin`.
///
/// # Errors
/// The request has a ticket that is not valid for it.
fn is_admitted(
    tickets: &Tickets,
    scope: Scope<'_>,
    asked: RequestHead<'_>,
    now: Instant,
) -> Result<bool, Denied> {
    let opaque = match asked.headers.get(header::ORIGIN) {
        Some(origin) => origin == "null",
        None => site::is_frame(asked.headers),
    };
    match (scope, ticket_in(asked.uri)) {
        (Scope::Content, _) => Ok(opaque && asked.headers.contains_key(header::ORIGIN)),
        (Scope::Media(media), Some(ticket)) if opaque => {
            tickets.check(ticket, media, now)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// The host and port that were requested, as text for a Content Security Policy; `None` if a policy cannot name it,
/// such as an IPv6 address.
pub fn requested_host(asked: RequestHead<'_>) -> Option<String> {
    let Authority { host, port } = host(asked).ok()?;
    let nameable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    host.bytes().all(nameable).then(|| format!("{host}{port}"))
}

/// Checks that the caller may be at this machine. What a proxy forwards comes from this machine, too, so any sign of a
/// proxy refuses the request.
fn may_administer(
    server: &Server,
    caller: &Caller,
    host: &Authority<'_>,
    asked: RequestHead<'_>,
) -> Result<(), Denied> {
    if !(caller.local && host.is_loopback()) {
        return Err(Denied::Admin);
    }
    let default_port = if caller.secure { 443 } else { 80 };
    let asked_port = host.port.unwrap_or(default_port);
    let mut ports = server.tcp_addresses().map(|address| address.port());
    let is_own = ports.any(|port| port == asked_port);
    if !is_own || !site::refers_to(host, default_port, asked.headers) {
        let first = server.tcp_addresses().next();
        let port = first.map_or(asked_port, |address| address.port());
        return Err(Denied::AdminPort(port));
    }
    if asked.version < Version::HTTP_11 {
        return Err(Denied::AdminProxy);
    }
    Ok(())
}

/// The requested host: `:authority` of HTTP/2 or of a request in absolute form, which takes precedence over `Host` (RFC
/// 9113 section 8.3.1, RFC 9112 section 3.2.2).
fn host(asked: RequestHead<'_>) -> Result<Authority<'_>, Denied> {
    let bad = |what: &str| Denied::BadHost(what.to_owned());
    let mut hosts = asked.headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(bad("there is more than one `Host`"));
    }
    let read = |text| {
        Authority::parse(text)
            .ok_or_else(|| bad(&format!("`{}` is not a valid host", shortened(text))))
    };
    let written = first.map(|host| read(host.to_str().unwrap_or("(unreadable)")));
    match (asked.uri.authority(), written.transpose()?) {
        // HTTP/1.1 requires `Host` in any form (RFC 9112 section 3.2).
        (Some(_), None) if asked.version == Version::HTTP_11 => Err(bad("there is no `Host`")),
        (Some(authority), _) => read(authority.as_str()),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(bad("there is no `Host`")),
    }
}

fn is_ours(server: &Server, host: &Authority<'_>) -> bool {
    // DNS rebinding needs a name, so an open gateway accepts any address.
    host.is_loopback() || (server.open && host.address().is_some()) || is_named(server, host)
}

/// Whether the host is listed in `names`.
fn is_named(server: &Server, host: &Authority<'_>) -> bool {
    let mut names = server.names.iter();
    names.any(|own| own.as_str().eq_ignore_ascii_case(host.name()))
}

/// Text from a client, shortened for a message.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
