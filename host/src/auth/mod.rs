//! Who may ask what: roles, Host and Origin, and who it is behind a proxy. Pure.

mod forwarded;

pub use forwarded::{Caller, Peer, caller, is_proxied};

use crate::config::Server;
use hyper::{HeaderMap, Uri, header};
use std::net::IpAddr;
use thiserror::Error;

/// What a route asks of who calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing.
    Public,
    /// May watch.
    View,
    /// May have pictures taken and kept; until there are accounts, whoever may watch.
    Capture,
    /// May change things; loopback only until there are accounts.
    Admin,
}

/// Why a request is refused before its route is looked at.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Denied {
    /// No `Host`, or one that is not ours (DNS rebinding).
    #[error(
        "this gateway does not answer to the host name `{0}`; add it to `names` under [server]"
    )]
    Host(String),
    /// A page of another site.
    #[error("pages of {0} may not use this gateway; add it to `origins` under [server]")]
    Origin(String),
    /// Not from here.
    #[error("this is for administrators, who connect from the gateway's own machine")]
    Admin,
}

/// Checks Host, Origin and role; gives the foreign origin to name in CORS headers, if there is one.
pub fn check(
    server: &Server,
    caller: &Caller,
    role: Role,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Option<String>, Denied> {
    let host = host(uri, headers);
    if !is_ours(server, host) {
        return Err(Denied::Host(host.chars().take(100).collect()));
    }
    let mut foreign = None;
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("(unreadable)");
        let own = origin.split_once("://").is_some_and(|(scheme, authority)| {
            // Where it is not known to be TLS, a proxy that nobody told us about may have ended it.
            authority.eq_ignore_ascii_case(host) && (scheme == "https" || !caller.secure)
        });
        if server
            .origins
            .iter()
            .any(|allowed| allowed.as_str().eq_ignore_ascii_case(origin))
        {
            foreign = Some(origin.to_owned());
        } else if !own {
            return Err(Denied::Origin(origin.chars().take(100).collect()));
        }
    }
    if role == Role::Admin && !(caller.local && is_loopback(name_of(host))) {
        return Err(Denied::Admin);
    }
    Ok(foreign)
}

/// The host asked for: `:authority` of HTTP/2 and of a request in absolute form, before which `Host` does not count
/// (RFC 9113 section 8.3.1, RFC 9112 section 3.2.2).
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> &'a str {
    match uri.authority() {
        Some(authority) => authority.as_str(),
        None => headers
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default(),
    }
}

fn is_ours(server: &Server, host: &str) -> bool {
    let name = name_of(host);
    if name.is_empty() {
        return false;
    }
    // An address cannot be rebound, so an open gateway answers to any of its own.
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    is_loopback(name)
        || (address && server.open)
        || server
            .names
            .iter()
            .any(|own| own.as_str().eq_ignore_ascii_case(name))
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The name in a `Host` header, without the port.
fn name_of(host: &str) -> &str {
    if host.starts_with('[') {
        return host.find(']').map_or("", |end| &host[..=end]);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn server(text: &str) -> Server {
        Config::parse(
            &format!("[server]\n{text}\n[streams.a]\nsource = \"test-pattern\""),
            Path::new("t.toml"),
        )
        .unwrap()
        .server
    }

    fn ask(
        server: &Server,
        peer: &str,
        role: Role,
        host: &str,
        origin: Option<&str>,
    ) -> Result<Option<String>, Denied> {
        let peer = Peer {
            address: peer.parse().unwrap(),
            tls: false,
        };
        ask_by(server, peer, role, host, origin)
    }

    fn ask_by(
        server: &Server,
        peer: Peer,
        role: Role,
        host: &str,
        origin: Option<&str>,
    ) -> Result<Option<String>, Denied> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let caller = caller(server, peer, &headers);
        check(server, &caller, role, &Uri::from_static("/"), &headers)
    }

    #[test]
    fn over_tls_a_page_is_our_own_only_if_it_came_by_tls() {
        let server = server("");
        for (tls, origin, own) in [
            (true, "https://localhost:8080", true),
            (true, "http://localhost:8080", false),
            (false, "http://localhost:8080", true),
            // Behind a proxy that ends TLS and that nobody named.
            (false, "https://localhost:8080", true),
        ] {
            let address = "127.0.0.1:5".parse().unwrap();
            let asked = ask_by(
                &server,
                Peer { address, tls },
                Role::View,
                "localhost:8080",
                Some(origin),
            );
            assert_eq!(asked.is_ok(), own, "{tls} {origin}");
        }
    }

    #[test]
    fn the_authority_counts_before_the_host_header() {
        let server = server("");
        let address = "127.0.0.1:5".parse().unwrap();
        let mut headers = HeaderMap::new();
        for (uri, host, good) in [
            ("https://localhost:8080/x", "evil.example", true),
            ("http://evil.example/x", "localhost:8080", false),
            ("https://me@localhost:8080/x", "localhost:8080", false),
            ("/x", "localhost:8080", true),
        ] {
            headers.insert(header::HOST, host.parse().unwrap());
            let caller = caller(
                &server,
                Peer {
                    address,
                    tls: false,
                },
                &headers,
            );
            let uri = uri.parse().unwrap();
            let checked = check(&server, &caller, Role::Admin, &uri, &headers);
            assert_eq!(checked.is_ok(), good, "{uri} {host}");
        }
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
            "",
            "[::1",
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
        assert_eq!(
            ask(&open, "127.0.0.1:5", Role::Admin, "localhost", None),
            Ok(None)
        );
        assert_eq!(
            ask(&open, "192.168.1.9:5", Role::Admin, "localhost", None),
            Err(Denied::Admin)
        );
        assert_eq!(
            ask(&open, "127.0.0.1:5", Role::Admin, "192.168.1.2", None),
            Err(Denied::Admin)
        );
    }
}
