//! Which client may request which route: by `Host`, `Origin` and Fetch Metadata, then by who it is. Pure, except that
//! checking a password takes a while.
//!
//! Two attackers matter besides those who guess passwords: a web page of another site in a viewer's browser, and a
//! remote client that looks local because a proxy or tunnel connects from this machine. So the host name must be ours
//! (DNS rebinding), pages of other sites must be listed in `origins`, and who signs in nowhere is an administrator only
//! on loopback without any trace of a proxy. `authority` parses hosts, `forwarded` finds the client's address behind
//! proxies, `site` classifies the requesting page, `credentials` finds what the client presents, and `permission` is
//! what it needs. For each request, the gateway calls [`check`], then [`identify`], and asks whether its [`Permission`]
//! is granted to that identity. Reasons are in decisions 0029, 0041 and 0044.

mod authority;
mod credentials;
mod forwarded;
mod permission;
mod site;

pub use authority::Authority;
pub use credentials::{PathTicket, cookie_name, identify, take_path_ticket};
pub use forwarded::{Caller, Peer, base_path, caller, is_proxied};
pub use permission::{OwnedPermission, Permission, Scope};
pub use sluicegate_accounts::{Identity, Media, Role};

use hyper::{HeaderMap, Method, Request, Uri, Version, header};
use sluicegate_accounts::ticket_in;
use sluicegate_config::Server;
use thiserror::Error;

/// The parts of a request that identify its caller.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    method: &'a Method,
    version: Version,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    /// The ticket that was in the path, see [`take_path_ticket`].
    ticket: Option<&'a str>,
}

impl<'a, B> From<&'a Request<B>> for RequestHead<'a> {
    fn from(request: &'a Request<B>) -> Self {
        RequestHead {
            method: request.method(),
            version: request.version(),
            uri: request.uri(),
            headers: request.headers(),
            ticket: {
                let ticket = request.extensions().get::<PathTicket>();
                ticket.map(|ticket| ticket.0.as_str())
            },
        }
    }
}

impl<'a> RequestHead<'a> {
    /// Method of the request.
    pub fn method(&self) -> &'a Method {
        self.method
    }

    /// The ticket that it has, in its path or else in its query.
    pub fn ticket(&self) -> Option<&'a str> {
        self.ticket.or(ticket_in(self.uri.query()))
    }

    /// Whether a ticket alone proves who makes it, whatever else it has.
    pub fn is_by_ticket(&self, site: &Site) -> bool {
        self.ticket.is_some() || site.is_opaque
    }

    /// Whether a browser asks for a document to show, and so can be sent to another page.
    pub fn is_visit(&self) -> bool {
        site::is_visit(self.method, self.headers)
    }

    /// Whether this comes from a browser, which would ask its user for a password in a window of its own.
    pub fn is_browser(&self) -> bool {
        site::is_browser(self.headers)
    }

    /// Path and query of the request.
    pub fn path_and_query(&self) -> &'a str {
        let whole = self.uri.path_and_query();
        whole.map_or("/", |whole| whole.as_str())
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
    /// A page of an allowed origin requests more than it may.
    #[error("pages of {0} may watch and capture; everything else is for the gateway's own pages")]
    OwnPages(String),
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

/// Which site's page makes a request that is not refused for that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The foreign origin for the CORS headers, if the request has an allowed one; "null" for a frame that has to prove
    /// by its ticket that it is allowed.
    pub foreign: Option<String>,
    /// Whether it is such a frame, or loads its document: a ticket is all that counts.
    pub is_opaque: bool,
}

/// Checks `Host`, `Origin` and Fetch Metadata. `server.listen` must have the actual ports.
///
/// # Errors
/// What is not allowed, and what to change to allow it.
pub fn check(
    server: &Server,
    caller: &Caller,
    needed: Permission<'_>,
    asked: RequestHead<'_>,
) -> Result<Site, Denied> {
    let host = host(asked)?;
    if !is_ours(server, &host) {
        return Err(Denied::Host(shortened(host.host)));
    }
    let is_public = needed.role.is_none() && !needed.is_for_own_pages();
    let is_opaque = is_opaque(asked);
    let admitted = match needed.scope {
        Scope::Content => is_opaque && asked.headers.contains_key(header::ORIGIN),
        Scope::Media(_) => is_opaque && asked.ticket().is_some(),
        _ => false,
    };
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
                || is_public
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
    match foreign {
        Some(origin) if needed.is_for_own_pages() => Err(Denied::OwnPages(shortened(&origin))),
        foreign => Ok(Site {
            foreign,
            is_opaque: admitted,
        }),
    }
}

/// Whether a request comes from an opaque origin, as sandboxed frames have, or loads a frame's document, perhaps into
/// another site's page, which has no `Origin`.
fn is_opaque(asked: RequestHead<'_>) -> bool {
    match asked.headers.get(header::ORIGIN) {
        Some(origin) => origin == "null",
        None => site::is_frame(asked.headers),
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

/// Checks that the caller may be at this machine, so that it is an administrator without signing in. What a proxy
/// forwards comes from this machine, too, so any sign of a proxy refuses the request.
///
/// # Errors
/// Why it may not.
pub fn may_administer(
    server: &Server,
    caller: &Caller,
    asked: RequestHead<'_>,
) -> Result<(), Denied> {
    let host = host(asked)?;
    if !(caller.local && host.is_loopback()) {
        return Err(Denied::Admin);
    }
    let default_port = if caller.secure { 443 } else { 80 };
    let asked_port = host.port.unwrap_or(default_port);
    let mut ports = server.tcp_addresses().map(|address| address.port());
    let is_own = ports.any(|port| port == asked_port);
    if !is_own || !site::refers_to(&host, default_port, asked.headers) {
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
    // DNS rebinding needs a name, so a gateway that other machines can connect to accepts any address.
    let by_address = (server.open || server.is_reachable()) && host.address().is_some();
    host.is_loopback() || by_address || is_named(server, host)
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
