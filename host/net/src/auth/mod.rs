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
pub use forwarded::{Caller, Peer, caller, is_proxied};
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
/// actual port.
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
    let port = server.listen.port();
    let default_port = if caller.secure { 443 } else { 80 };
    if host.port.unwrap_or(default_port) != port
        || !site::refers_to(host, default_port, asked.headers)
    {
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use sluicegate_config::Config;
    use std::path::Path;

    fn server(text: &str) -> Server {
        Config::parse(
            &format!("[server]\n{text}\n[streams.a]\nsource = \"test-pattern\""),
            Path::new("t.toml"),
        )
        .unwrap()
        .server
    }

    /// A request to `host` with these headers.
    fn request(host: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/").header(header::HOST, host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn judge(
        server: &Server,
        peer: Peer,
        role: Role,
        request: &Request<()>,
    ) -> Result<Option<String>, Denied> {
        let caller = caller(server, peer, request.headers());
        let scope = Scope::Gateway;
        let now = Instant::now();
        let tickets = Tickets::new(now).unwrap();
        let needed = Permission { role, scope };
        check(server, &tickets, &caller, needed, request.into(), now)
    }

    fn plain(address: &str) -> Peer {
        Peer {
            address: address.parse().unwrap(),
            tls: false,
        }
    }

    fn ask(
        server: &Server,
        peer: &str,
        role: Role,
        host: &str,
        origin: Option<&str>,
    ) -> Result<Option<String>, Denied> {
        let headers: Vec<_> = origin
            .map(|origin| ("origin", origin))
            .into_iter()
            .collect();
        judge(server, plain(peer), role, &request(host, &headers))
    }

    #[test]
    fn a_page_is_our_own_only_by_our_scheme_host_and_port() {
        let server = server("names = [\"cam.example\"]");
        for (tls, host, origin, own) in [
            (true, "localhost:8080", "https://localhost:8080", true),
            (true, "localhost:8080", "http://localhost:8080", false),
            (true, "cam.example", "https://cam.example:443", true),
            (true, "cam.example", "https://cam.example:80", false),
            (false, "localhost:8080", "http://localhost:8080", true),
            (false, "LOCALHOST:8080", "http://localhost:8080", true),
            // This port does not speak TLS, so the page is another site's.
            (false, "localhost:8080", "https://localhost:8080", false),
            (false, "127.0.0.1:8080", "https://127.0.0.1:8080", false),
            (false, "localhost:8080", "http://localhost:8081", false),
            (false, "localhost:8080", "http://localhost", false),
            (false, "localhost:8080", "ftp://localhost:8080", false),
            (false, "localhost:8080", "localhost:8080", false),
            (false, "localhost:8080", "http://localhost:8080/", false),
            (false, "cam.example:80", "http://cam.example", true),
            // Behind a proxy that terminates TLS and is not configured.
            (false, "cam.example", "https://cam.example", true),
            (false, "cam.example:8080", "https://cam.example", false),
        ] {
            let peer = Peer {
                tls,
                ..plain("127.0.0.1:5")
            };
            let asked = request(host, &[("origin", origin)]);
            let judged = judge(&server, peer, Role::View, &asked);
            assert_eq!(judged.is_ok(), own, "{tls} {host} {origin}: {judged:?}");
        }
    }

    #[test]
    fn the_authority_counts_before_the_host_header() {
        let server = server("");
        for (uri, host, good) in [
            ("https://localhost:8080/x", "evil.example", true),
            ("http://evil.example/x", "localhost:8080", false),
            ("https://me@localhost:8080/x", "localhost:8080", false),
            ("/x", "localhost:8080", true),
        ] {
            let mut asked = request(host, &[]);
            *asked.uri_mut() = uri.parse().unwrap();
            let judged = judge(&server, plain("127.0.0.1:5"), Role::Admin, &asked);
            assert_eq!(judged.is_ok(), good, "{uri} {host}: {judged:?}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let server = server("");
        let judge = |asked: &Request<()>| judge(&server, plain("127.0.0.1:5"), Role::View, asked);
        for host in [
            "",
            "a, evil",
            "127.0.0.1:8080/x",
            "[::1]evil",
            "me@localhost",
            "localhost:x",
        ] {
            let judged = judge(&request(host, &[]));
            assert!(
                matches!(judged, Err(Denied::BadHost(_))),
                "{host:?}: {judged:?}"
            );
        }
        let two = judge(&request("localhost", &[("host", "localhost")]));
        assert!(matches!(two, Err(Denied::BadHost(_))), "{two:?}");
        let mut none = request("localhost", &[]);
        none.headers_mut().clear();
        assert!(matches!(judge(&none), Err(Denied::BadHost(_))));
        *none.uri_mut() = Uri::from_static("http://localhost/");
        assert!(matches!(judge(&none), Err(Denied::BadHost(_))));
        // HTTP/2 needs only the authority.
        *none.version_mut() = Version::HTTP_2;
        assert_eq!(judge(&none), Ok(None));
    }

    #[test]
    fn requests_of_other_sites_are_refused() {
        let server = server("origins = [\"https://pets.example\"]");
        let said = |site, mode, dest| {
            vec![
                ("sec-fetch-site", site),
                ("sec-fetch-mode", mode),
                ("sec-fetch-dest", dest),
            ]
        };
        let listed = ("origin", "https://pets.example");
        for (headers, good) in [
            (said("same-origin", "no-cors", "image"), true),
            (said("same-origin", "cors", "empty"), true),
            (said("none", "navigate", "document"), true),
            // A link to the gateway.
            (said("cross-site", "navigate", "document"), true),
            (said("cross-site", "no-cors", "image"), false),
            (said("same-site", "no-cors", "image"), false),
            (said("cross-site", "no-cors", "video"), false),
            (said("cross-site", "navigate", "iframe"), false),
            (said("cross-site", "navigate", "object"), false),
            (said("cross-site", "no-cors", "empty"), false),
            (said("nonsense", "no-cors", "image"), false),
            (
                [
                    said("cross-site", "navigate", "document"),
                    vec![("sec-purpose", "prefetch")],
                ]
                .concat(),
                false,
            ),
            (
                [said("cross-site", "cors", "image"), vec![listed]].concat(),
                true,
            ),
            (vec![], true),
        ] {
            for role in [Role::Public, Role::View, Role::Capture] {
                let asked = request("localhost:8080", &headers);
                let judged = judge(&server, plain("127.0.0.1:5"), role, &asked);
                assert_eq!(judged.is_ok(), good, "{headers:?}: {judged:?}");
            }
        }
        let mut form = request(
            "localhost:8080",
            &said("cross-site", "navigate", "document"),
        );
        *form.method_mut() = Method::POST;
        assert!(judge(&server, plain("127.0.0.1:5"), Role::View, &form).is_err());
    }

    #[test]
    fn what_is_the_same_for_everybody_needs_no_origin_of_ours() {
        let server = server("");
        let origin = ("origin", "http://proxy.example");
        let ask = |role, more: &[_]| {
            let asked = request("127.0.0.1:8080", &[&[origin], more].concat());
            judge(&server, plain("127.0.0.1:5"), role, &asked)
        };
        let own = [("sec-fetch-site", "same-origin")];
        let other = [("sec-fetch-site", "cross-site")];
        assert_eq!(ask(Role::Public, &[]), Ok(None));
        assert_eq!(ask(Role::Public, &own), Ok(None));
        assert!(matches!(ask(Role::Public, &other), Err(Denied::Origin(_))));
        assert!(matches!(ask(Role::View, &own), Err(Denied::Origin(_))));
    }

    #[test]
    fn only_own_names_are_answered_to() {
        let closed = server("names = [\"cam.home.example\"]");
        for host in [
            "127.0.0.1:8080",
            "localhost",
            "[::1]:8080",
            "LOCALHOST:1",
            "cam.home.example:8080",
        ] {
            assert_eq!(
                ask(&closed, "127.0.0.1:5", Role::View, host, None),
                Ok(None),
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "192.168.1.2",
            "localhost.evil.example",
            "localhost.",
        ] {
            assert!(
                matches!(
                    ask(&closed, "127.0.0.1:5", Role::View, host, None),
                    Err(Denied::Host(_))
                ),
                "{host}"
            );
        }
        let open = server("listen = \"0.0.0.0:8080\"\nopen = true");
        assert_eq!(
            ask(&open, "192.168.1.9:5", Role::View, "192.168.1.2:8080", None),
            Ok(None)
        );
        assert!(ask(&open, "192.168.1.9:5", Role::View, "evil.example", None).is_err());
    }

    #[test]
    fn foreign_pages_need_to_be_listed_and_are_named_exactly() {
        let server = server("origins = [\"https://pets.example\"]");
        let ask = |origin| {
            ask(
                &server,
                "127.0.0.1:5",
                Role::View,
                "localhost:8080",
                Some(origin),
            )
        };
        assert_eq!(ask("http://localhost:8080"), Ok(None));
        assert_eq!(
            ask("https://pets.example"),
            Ok(Some("https://pets.example".into()))
        );
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:9999",
            "https://pets.example.evil.example",
        ] {
            assert!(matches!(ask(origin), Err(Denied::Origin(_))), "{origin}");
        }
    }

    #[test]
    fn administrators_come_from_loopback() {
        let open = server("listen = \"0.0.0.0:8080\"\nopen = true");
        let ask = |peer, host| ask(&open, peer, Role::Admin, host, None);
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(ask("127.0.0.1:5", host), Ok(None), "{host}");
        }
        assert_eq!(ask("192.168.1.9:5", "localhost:8080"), Err(Denied::Admin));
        assert_eq!(ask("127.0.0.1:5", "192.168.1.2:8080"), Err(Denied::Admin));
        // As forwarded by a proxy or a tunnel.
        for host in ["localhost", "localhost:80", "localhost:9000"] {
            let refused = Err(Denied::AdminPort(8080));
            assert_eq!(ask("127.0.0.1:5", host), refused, "{host}");
        }
    }

    #[test]
    fn whatever_shows_a_proxy_or_another_site_makes_nobody_an_administrator() {
        let server = server("origins = [\"https://pets.example\"]");
        let ask = |headers: &[_]| {
            let asked = request("localhost:8080", headers);
            judge(&server, plain("127.0.0.1:5"), Role::Admin, &asked)
        };
        assert_eq!(ask(&[("referer", "http://localhost:8080/docs")]), Ok(None));
        for referer in ["https://cam.example/", "http://localhost/", "?"] {
            let refused = ask(&[("referer", referer)]);
            assert_eq!(refused, Err(Denied::AdminPort(8080)), "{referer}");
        }
        assert_eq!(
            ask(&[("origin", "https://pets.example")]),
            Err(Denied::AdminOrigin("https://pets.example".into()))
        );
        let mut old = request("localhost:8080", &[]);
        *old.version_mut() = Version::HTTP_10;
        let refused = judge(&server, plain("127.0.0.1:5"), Role::Admin, &old);
        assert_eq!(refused, Err(Denied::AdminProxy));
    }

    #[test]
    fn a_frame_without_origin_is_admitted_by_its_ticket_only() {
        let server = server("");
        let now = Instant::now();
        let tickets = Tickets::new(now).unwrap();
        let media = |stream| Media {
            stream,
            rendition: "",
            transport: "canvas",
        };
        let ticket = tickets.issue(media("porch"), Grant { session: 0 }, now);
        let ask = |scope, headers: &[(&str, &str)], query: &str| {
            let mut asked = request("localhost:8080", headers);
            *asked.uri_mut() = format!("/x?{query}").parse().unwrap();
            let caller = caller(&server, plain("127.0.0.1:5"), asked.headers());
            let role = Role::View;
            let needed = Permission { role, scope };
            check(&server, &tickets, &caller, needed, (&asked).into(), now)
        };
        let with_ticket = format!("a=b&ticket={ticket}");
        let porch = Scope::Media(media("porch"));
        let opaque = [("origin", "null"), ("sec-fetch-site", "cross-site")];
        let null = Ok(Some("null".to_owned()));
        assert_eq!(ask(porch, &opaque, &with_ticket), null);
        assert!(matches!(ask(porch, &opaque, ""), Err(Denied::Origin(_))));
        let refused = Err(Denied::Ticket(TicketError::Invalid));
        let garden = Scope::Media(media("garden"));
        assert_eq!(ask(garden, &opaque, &with_ticket), refused);
        // A ticket is for media only.
        for scope in [Scope::Gateway, Scope::AllStreams, Scope::Stream("porch")] {
            let judged = ask(scope, &opaque, &with_ticket);
            assert!(matches!(judged, Err(Denied::Origin(_))), "{scope:?}");
        }
        // It makes no other site's page an allowed one.
        let evil = [("origin", "https://evil.example")];
        let judged = ask(porch, &evil, &with_ticket);
        assert!(matches!(judged, Err(Denied::Origin(_))), "{judged:?}");
        // The document of a frame in a page of `origins`.
        let frame = |dest| {
            [
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("sec-fetch-dest", dest),
            ]
        };
        assert_eq!(ask(porch, &frame("iframe"), &with_ticket), Ok(None));
        assert_eq!(ask(porch, &frame("iframe"), ""), Err(Denied::CrossSite));
        let judged = ask(porch, &frame("object"), &with_ticket);
        assert_eq!(judged, Err(Denied::CrossSite));
        // What is named by its content.
        assert_eq!(ask(Scope::Content, &opaque, ""), null);
        assert!(ask(Scope::Content, &evil, "").is_err());
    }

    #[test]
    fn a_host_is_named_in_a_policy_if_it_can_be() {
        let named = |host| requested_host((&request(host, &[])).into());
        assert_eq!(named("localhost:8080"), Some("localhost:8080".into()));
        assert_eq!(named("cam.example"), Some("cam.example".into()));
        for host in ["[::1]:8080", "a;script-src", "a'self'", "a,b", ""] {
            assert_eq!(named(host), None, "{host}");
        }
    }
}
