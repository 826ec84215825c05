//! The client behind proxies, by `Forwarded` (RFC 7239) and the older `X-Forwarded-For`; and the path below which it sees
//! the gateway, by `X-Forwarded-Prefix` and Home Assistant's `X-Ingress-Path`.
//!
//! A header is whatever the client wrote, except for what a trusted proxy appended. So the hops are read from the
//! right, as long as each is a trusted proxy: the last hop is what the proxy at the other end of the connection saw.
//! What cannot be read ends the search, and never makes a client local.

use hyper::HeaderMap;
use sluicegate_config::{BasePath, Server};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The peer of a connection: the client, or a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Address and port; [`Peer::UNIX`] over a Unix socket.
    pub address: SocketAddr,
    /// Whether the connection uses TLS.
    pub tls: bool,
}

impl Peer {
    /// Stands for the address of whoever connects over a Unix socket: no address, and no connection over TCP or UDP comes
    /// from it.
    pub const UNIX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

    /// Whether the connection came over a Unix socket. That is a proxy: it says nothing about where the client is, so
    /// nobody is local because of it.
    pub fn is_unix(self) -> bool {
        self.address == Peer::UNIX
    }

    /// Whether the peer is a proxy that is believed what it tells of the client.
    fn is_trusted(self, server: &Server) -> bool {
        match self.is_unix() {
            true => server.trusts_unix(),
            false => server.trusts(self.address.ip()),
        }
    }
}

/// The client that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Address of the client; its port is 0 if a proxy reported it. If the client is unknown, the nearest known hop.
    pub address: SocketAddr,
    /// Whether the client is known to use TLS, to the gateway or to a trusted proxy.
    pub secure: bool,
    /// Whether it connects from this machine without any trace of a proxy. Behind a proxy or tunnel on this machine
    /// every client would seem to be local.
    pub local: bool,
    /// Whether the peer of the connection is one of `trusted-proxies`.
    pub by_trusted_proxy: bool,
}

/// Headers that proxies add. A loopback connection with one of them comes from a proxy.
const PROXY_HEADERS: [&str; 8] = [
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    PREFIX_HEADERS[0],
    PREFIX_HEADERS[1],
    "x-real-ip",
    "via",
];

/// Headers with the path below which a client sees what the proxy forwards.
const PREFIX_HEADERS: [&str; 2] = ["x-forwarded-prefix", "x-ingress-path"];

/// The path below which the client of this request sees the gateway: as a trusted proxy tells it, or else as configured.
/// What a proxy tells counts only if it is one path: with several, one may be the client's own.
pub fn base_path(server: &Server, peer: Peer, headers: &HeaderMap) -> BasePath {
    let own = || server.base_path.clone();
    if !peer.is_trusted(server) {
        return own();
    }
    let told = PREFIX_HEADERS
        .iter()
        .flat_map(|name| headers.get_all(*name));
    let mut told = told.map(|value| value.to_str().ok()?.parse::<BasePath>().ok());
    match told.next() {
        Some(Some(path)) if told.all(|other| other.as_ref() == Some(&path)) => path,
        _ => own(),
    }
}

/// Whether the headers have a trace of a proxy, in which case the peer is the proxy and not the client.
pub fn is_proxied(headers: &HeaderMap) -> bool {
    PROXY_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// The client of a request on this connection with these headers.
pub fn caller(server: &Server, peer: Peer, headers: &HeaderMap) -> Caller {
    let own = peer.address.ip().to_canonical();
    let proxied = is_proxied(headers);
    let direct = Caller {
        address: SocketAddr::new(own, peer.address.port()),
        secure: peer.tls,
        local: own.is_loopback() && !proxied,
        by_trusted_proxy: peer.is_trusted(server),
    };
    if !direct.by_trusted_proxy {
        return direct;
    }
    let trusted = |address| server.trusts(address);
    let unknown = Caller {
        secure: false,
        ..direct
    };
    let new = forwarded(headers).map(|hops| nearest(own, &hops, trusted));
    let old = x_forwarded(headers).map(|hops| nearest(own, &hops, trusted));
    let found = match (new, old) {
        (Some(new), Some(old)) if new.address == old.address && new.known == old.known => Found {
            secure: new.secure || old.secure,
            ..new
        },
        // The proxy wrote one and forwarded the other from the client, and which is unknown.
        (Some(_), Some(_)) => return unknown,
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) if proxied => return unknown,
        (None, None) => return direct,
    };
    Caller {
        address: SocketAddr::new(found.address, 0),
        secure: found.secure,
        local: false,
        by_trusted_proxy: true,
    }
}

/// Whether a value of `X-Forwarded-Proto` or `proto=` means TLS. Traefik writes `wss` for a WebSocket.
fn is_secure(scheme: &str) -> bool {
    ["https", "wss"]
        .iter()
        .any(|secure| scheme.eq_ignore_ascii_case(secure))
}

/// One hop: the address that it reports, if readable, and whether it was reached by TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hop {
    address: Option<IpAddr>,
    secure: bool,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    address: IpAddr,
    secure: bool,
    /// False if this is only the nearest known hop, and the client is unknown.
    known: bool,
}

/// The client: the first hop from the right that is not a trusted proxy, or else the leftmost.
fn nearest(proxy: IpAddr, hops: &[Hop], trusted: impl Fn(IpAddr) -> bool) -> Found {
    let mut found = Found {
        address: proxy,
        secure: false,
        known: false,
    };
    for hop in hops.iter().rev() {
        let Some(address) = hop.address else {
            return Found {
                secure: hop.secure,
                known: false,
                ..found
            };
        };
        found = Found {
            address,
            secure: hop.secure,
            known: true,
        };
        if !trusted(address) {
            break;
        }
    }
    found
}

/// The hops in all `Forwarded` headers (RFC 7239 section 4). A malformed header counts as one unreadable hop.
fn forwarded(headers: &HeaderMap) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    for value in headers.get_all("forwarded") {
        match value.to_str().ok().and_then(elements) {
            Some(more) => hops.extend(more),
            None => hops.push(Hop::default()),
        }
    }
    (!hops.is_empty()).then_some(hops)
}

/// Parses the elements of one header, such as `for=192.0.2.43;proto=https, for="[2001:db8::17]:4711"`; `None` if
/// malformed.
fn elements(text: &str) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    // `None`: the element is empty so far. Lists may have empty elements (RFC 9110 section 5.6.1).
    let mut element: Option<Hop> = None;
    let mut rest = text.trim_matches(BLANK);
    loop {
        if !rest.is_empty() && !rest.starts_with([',', ';']) {
            let (name, value, behind) = pair(rest)?;
            let hop = element.get_or_insert_default();
            match name.to_ascii_lowercase().as_str() {
                // Twice in one element, which section 4 forbids: which one the proxy wrote is unknown.
                "for" if hop.address.is_some() => return None,
                "for" => hop.address = node(&value),
                "proto" => hop.secure = is_secure(&value),
                _ => {}
            }
            rest = behind;
        }
        let end = rest.chars().next();
        rest = rest.get(1..).unwrap_or_default().trim_start_matches(BLANK);
        match end {
            Some(';') => {}
            Some(',') => hops.extend(element.take()),
            None => {
                hops.extend(element);
                return Some(hops);
            }
            Some(_) => return None,
        }
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// Parses `name=token` or `name="quoted"` and the blanks behind it; returns name, value and the rest.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    if name.is_empty() || !name.chars().all(is_token) {
        return None;
    }
    let (value, behind) = match rest.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => {
            let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
            let (token, behind) = rest.split_at(end);
            if token.is_empty() {
                return None;
            }
            (token.to_owned(), behind)
        }
    };
    Some((name, value, behind.trim_start_matches(BLANK)))
}

/// Parses a quoted string after its opening quote (RFC 9110 section 5.6.4); returns the value and the rest.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(c),
        }
    }
    None
}

/// Characters of a token (RFC 9110 section 5.6.2), and `:[]`, which proxies write without quotes though they should
/// not.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:[]".contains(c)
}

/// The hops in all `X-Forwarded-For` headers, with the schemes from `X-Forwarded-Proto`.
fn x_forwarded(headers: &HeaderMap) -> Option<Vec<Hop>> {
    let list = |name| {
        let mut values = Vec::new();
        for value in headers.get_all(name) {
            // A value that is not text counts as an unreadable hop.
            values.extend(value.to_str().unwrap_or("?").split(',').map(str::trim));
        }
        values
    };
    let protocols = list("x-forwarded-proto");
    let nodes = list("x-forwarded-for");
    let matched = protocols.len() == nodes.len();
    let hops: Vec<Hop> = nodes
        .iter()
        .enumerate()
        .map(|(place, text)| {
            let protocol = if matched {
                protocols.get(place)
            } else {
                protocols.last()
            };
            Hop {
                address: node(text),
                secure: protocol.is_some_and(|protocol| is_secure(protocol)),
            }
        })
        .collect();
    (!hops.is_empty()).then_some(hops)
}

/// Parses an address with or without a port, IPv6 with or without brackets; `None` for `unknown`, `_hidden` and
/// anything else.
fn node(text: &str) -> Option<IpAddr> {
    let address = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']')?;
            if !port.is_empty() && !is_port(port.strip_prefix(':')?) {
                return None;
            }
            IpAddr::V6(address.parse().ok()?)
        }
        None => match text.parse() {
            Ok(address) => address,
            Err(_) => {
                let (address, port) = text.split_once(':')?;
                IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?)
            }
        },
    };
    Some(address.to_canonical())
}

/// Whether `text` is a port: a number, or an obfuscated name (RFC 7239 section 6).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => {
            !hidden.is_empty()
                && hidden
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        }
        None => (1..=5).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use sluicegate_config::Config;
    use std::path::Path;

    fn server(proxies: &str) -> Server {
        let text = format!("[server]\ntrusted-proxies = [{proxies}]");
        Config::parse(&text, Path::new("t.toml")).unwrap().server
    }

    fn ask(proxies: &str, peer: &str, pairs: &[(&'static str, &str)]) -> Caller {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let peer = Peer {
            address: SocketAddr::new(peer.parse().unwrap(), 5),
            tls: false,
        };
        caller(&server(proxies), peer, &headers)
    }

    /// The client according to one header; asserts its address.
    fn found_at(address: &str, peer: &str, header: (&'static str, &str)) -> Caller {
        let found = ask(PROXIES, peer, &[header]);
        assert_eq!(found.address.ip().to_string(), address, "{header:?}");
        found
    }

    const PROXIES: &str = "\"10.0.0.0/8\", \"127.0.0.1\"";

    #[test]
    fn a_trusted_proxy_is_believed_from_the_right() {
        for (name, value, address) in [
            ("forwarded", "for=192.0.2.43", "192.0.2.43"),
            (
                "forwarded",
                "For=\"192.0.2.43:47011\";by=10.1.1.1",
                "192.0.2.43",
            ),
            (
                "forwarded",
                "for=\"[2001:db8:cafe::17]:4711\"",
                "2001:db8:cafe::17",
            ),
            ("forwarded", "for=\"[2001:db8::1]:_x-1\"", "2001:db8::1"),
            ("forwarded", "for=[2001:db8::1]", "2001:db8::1"),
            (
                "forwarded",
                "for=127.0.0.1, for=192.0.2.1, for=10.0.0.9",
                "192.0.2.1",
            ),
            ("forwarded", "for=10.0.0.8 , ,for=10.0.0.9;;", "10.0.0.8"),
            (
                "forwarded",
                " for=\"192.0.2.\\43\" ;proto=http",
                "192.0.2.43",
            ),
            ("forwarded", "for=\"[::ffff:192.0.2.1]\"", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.43", "192.0.2.43"),
            (
                "x-forwarded-for",
                "127.0.0.1, 192.0.2.1, 10.0.0.9",
                "192.0.2.1",
            ),
            ("x-forwarded-for", "10.0.0.7,10.0.0.8", "10.0.0.7"),
            ("x-forwarded-for", "2001:db8::1", "2001:db8::1"),
            ("x-forwarded-for", "[2001:db8::1]:443", "2001:db8::1"),
            ("x-forwarded-for", "192.0.2.1:443", "192.0.2.1"),
        ] {
            let found = found_at(address, "10.0.0.1", (name, value));
            assert!(!found.local, "{value}");
        }
        let headers = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "10.0.0.2"),
        ];
        let found = ask(PROXIES, "::ffff:10.0.0.1", &headers);
        assert_eq!(found.address.ip().to_string(), "192.0.2.1");
    }

    #[test]
    fn what_cannot_be_read_is_nobody_local() {
        for (name, value, address) in [
            ("forwarded", "for=_hidden", "127.0.0.1"),
            ("forwarded", "for=unknown", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1, for=_hidden", "127.0.0.1"),
            (
                "forwarded",
                "for=127.0.0.1, for=unknown, for=10.0.0.9",
                "10.0.0.9",
            ),
            ("forwarded", "for=127.0.0.1;for=127.0.0.1", "127.0.0.1"),
            ("forwarded", "for=\"127.0.0.1", "127.0.0.1"),
            ("forwarded", "for=127.0.0.1 x", "127.0.0.1"),
            ("forwarded", "for = 127.0.0.1", "127.0.0.1"),
            ("forwarded", "for=", "127.0.0.1"),
            ("forwarded", "", "127.0.0.1"),
            ("forwarded", "by=10.0.0.1;proto=http", "127.0.0.1"),
            ("forwarded", "for=\"127.0.0.1:99x\"", "127.0.0.1"),
            ("forwarded", "for=\"[127.0.0.1]\"", "127.0.0.1"),
            ("forwarded", "for=\"[::1\"", "127.0.0.1"),
            ("forwarded", "for=\"[::1]x\"", "127.0.0.1"),
            ("forwarded", "for=\"[fe80::1%eth0]\"", "127.0.0.1"),
            ("x-forwarded-for", "", "127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1, unknown", "127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1,", "127.0.0.1"),
            ("x-forwarded-for", "127.1", "127.0.0.1"),
            ("x-forwarded-for", "localhost", "127.0.0.1"),
            ("x-real-ip", "127.0.0.1", "127.0.0.1"),
        ] {
            let found = found_at(address, "127.0.0.1", (name, value));
            assert!(!found.local, "{name}: {value}");
        }
    }

    #[test]
    fn nobody_else_is_believed_and_no_stranger_becomes_local() {
        let claims = [
            ("forwarded", "for=127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1"),
        ];
        for claim in claims {
            let found = ask(PROXIES, "192.0.2.1", &[claim]);
            assert_eq!(found.address.to_string(), "192.0.2.1:5");
            assert!(!found.local);
            // A proxy on this machine that is not trusted.
            assert!(!ask("", "127.0.0.1", &[claim]).local);
            assert!(!ask("", "::1", &[claim]).local);
        }
        for trace in PROXY_HEADERS {
            assert!(!ask("", "127.0.0.1", &[(trace, "x")]).local, "{trace}");
        }
        assert!(ask("", "127.0.0.1", &[]).local);
        assert!(ask("", "::ffff:127.0.0.1", &[]).local);
        assert!(ask(PROXIES, "127.0.0.1", &[]).local);
        // Nor is a client on the trusted proxy's own machine: behind a tunnel that ends there, every client seems to
        // be.
        assert!(!ask(PROXIES, "127.0.0.1", &[claims[0]]).local);
        assert!(!ask(PROXIES, "127.0.0.1", &claims).local);
    }

    #[test]
    fn two_headers_that_disagree_are_one_of_them_forged() {
        let headers = [
            ("forwarded", "for=127.0.0.1"),
            ("x-forwarded-for", "192.0.2.1"),
        ];
        let found = ask(PROXIES, "127.0.0.1", &headers);
        assert_eq!(found.address.to_string(), "127.0.0.1:5");
        assert!(!found.local);
    }

    #[test]
    fn the_scheme_is_the_client_hops() {
        for (headers, secure) in [
            (&[("forwarded", "for=192.0.2.1;proto=https")][..], true),
            (
                &[(
                    "forwarded",
                    "for=192.0.2.1;proto=http, for=10.0.0.1;proto=https",
                )],
                false,
            ),
            (&[("forwarded", "for=192.0.2.1")], false),
            (
                &[
                    ("x-forwarded-for", "192.0.2.1"),
                    ("x-forwarded-proto", "HTTPS"),
                ],
                true,
            ),
            (
                &[
                    ("x-forwarded-for", "192.0.2.1"),
                    ("x-forwarded-proto", "wss"),
                ],
                true,
            ),
            (
                &[
                    ("x-forwarded-for", "192.0.2.1"),
                    ("x-forwarded-proto", "ws"),
                ],
                false,
            ),
            (
                &[
                    ("x-forwarded-for", "192.0.2.1, 10.0.0.1"),
                    ("x-forwarded-proto", "https"),
                ],
                true,
            ),
            (
                &[
                    ("x-forwarded-for", "192.0.2.1, 10.0.0.1"),
                    ("x-forwarded-proto", "http, https"),
                ],
                false,
            ),
        ] {
            assert_eq!(
                ask(PROXIES, "10.0.0.1", headers).secure,
                secure,
                "{headers:?}"
            );
            assert!(!ask(PROXIES, "192.0.2.9", headers).secure, "{headers:?}");
        }
    }

    #[test]
    fn a_unix_socket_is_a_proxy_that_has_to_be_trusted_and_nobody_behind_it_is_local() {
        let peer = |tls| Peer {
            address: Peer::UNIX,
            tls,
        };
        let ask = |proxies: &str, pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            caller(&server(proxies), peer(false), &headers)
        };
        let claim = [("x-forwarded-for", "127.0.0.1")];
        // Networks are not meant by "unix", not even all of them, and the other way round.
        for proxies in ["", "\"127.0.0.1\"", "\"0.0.0.0/0\", \"::/0\""] {
            for pairs in [
                &[][..],
                &claim,
                &[("forwarded", "for=192.0.2.1;proto=https")],
            ] {
                let found = ask(proxies, pairs);
                assert_eq!(found.address, Peer::UNIX, "{proxies} {pairs:?}");
                assert!(!found.local && !found.secure, "{proxies} {pairs:?}");
            }
        }
        let found = ask(
            "\"unix\"",
            &[
                ("x-forwarded-for", "192.0.2.7"),
                ("x-forwarded-proto", "https"),
            ],
        );
        assert_eq!(found.address.to_string(), "192.0.2.7:0");
        assert!(found.secure && !found.local);
        for pairs in [&[][..], &claim, &[("x-forwarded-for", "unknown")]] {
            assert!(!ask("\"unix\"", pairs).local, "{pairs:?}");
        }
        // A client that calls itself so is no socket: hops before it are not believed.
        let forged = ask("\"unix\"", &[("x-forwarded-for", "192.0.2.9, 0.0.0.0")]);
        assert_eq!(forged.address.ip().to_string(), "0.0.0.0");
        let over_tcp = self::ask("\"unix\"", "127.0.0.1", &[("x-forwarded-for", "192.0.2.9")]);
        assert_eq!(over_tcp.address.to_string(), "127.0.0.1:5");
    }

    #[test]
    fn a_trusted_proxy_alone_tells_one_base_path() {
        let told = |peer: &str, pairs: &[(&'static str, &str)]| {
            let text = format!("[server]\nbase-path = \"/own\"\ntrusted-proxies = [{PROXIES}]");
            let server = Config::parse(&text, Path::new("t.toml")).unwrap().server;
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            let peer = Peer {
                address: SocketAddr::new(peer.parse().unwrap(), 5),
                tls: false,
            };
            base_path(&server, peer, &headers).to_string()
        };
        let prefix = |text| [("x-forwarded-prefix", text)];
        assert_eq!(told("10.0.0.1", &prefix("/cams")), "/cams");
        assert_eq!(told("10.0.0.1", &prefix("/cams/")), "/cams");
        assert_eq!(told("10.0.0.1", &prefix("/")), "");
        let ingress = [("x-ingress-path", "/api/hassio_ingress/x-_1")];
        assert_eq!(told("127.0.0.1", &ingress), "/api/hassio_ingress/x-_1");
        let twice = [("x-ingress-path", "/a"), ("x-forwarded-prefix", "/a")];
        assert_eq!(told("127.0.0.1", &twice), "/a");
        // Nobody else, nothing that is no plain path, and not several.
        assert_eq!(told("192.0.2.1", &prefix("/cams")), "/own");
        assert_eq!(told("0.0.0.0", &prefix("/cams")), "/own");
        for text in [
            "//evil.example",
            "/../x",
            "/a/../b",
            "/a, /b",
            "/a,/b",
            "https://evil.example",
            "/a\"><script>",
            "/a'",
            "/a;b",
            "/a%0d%0ab",
            "/a\tb",
            "cams",
            "\\evil",
            "/\\evil",
        ] {
            assert_eq!(told("10.0.0.1", &prefix(text)), "/own", "{text}");
        }
        let several = [("x-forwarded-prefix", "/a"), ("x-forwarded-prefix", "/b")];
        assert_eq!(told("10.0.0.1", &several), "/own");
        let disagree = [("x-ingress-path", "/a"), ("x-forwarded-prefix", "/b")];
        assert_eq!(told("10.0.0.1", &disagree), "/own");
        let half = [("x-forwarded-prefix", "/a"), ("x-forwarded-prefix", "//a")];
        assert_eq!(told("10.0.0.1", &half), "/own");
    }

    proptest! {
        /// Whatever a client puts in front, the hop that the proxy appends decides.
        #[test]
        fn nothing_in_front_changes_whom_the_proxy_saw(text in "[ -~]{0,60}", old in any::<bool>()) {
            let (name, hop) = match old {
                true => ("x-forwarded-for", "192.0.2.77"),
                false => ("forwarded", "for=192.0.2.77"),
            };
            for headers in [vec![(name, format!("{text}, {hop}"))], vec![(name, text.clone()), (name, hop.into())]] {
                let pairs: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let found = ask(PROXIES, "127.0.0.1", &pairs);
                prop_assert!(!found.local);
                // An unclosed quote may swallow the hop; the client is unknown then.
                let address = found.address.ip().to_string();
                prop_assert!(address == "192.0.2.77" || (!old && text.contains('"') && address == "127.0.0.1")
                    || (!old && headers.len() == 1 && address == "127.0.0.1"), "{}", address);
            }
        }

        #[test]
        fn what_is_written_as_an_address_is_read(address in any::<IpAddr>(), port in any::<u16>()) {
            let bracketed = SocketAddr::new(address, port).to_string();
            prop_assert_eq!(node(&bracketed), Some(address.to_canonical()));
            prop_assert_eq!(node(&address.to_string()), Some(address.to_canonical()));
            let quoted = format!("for=\"{bracketed}\";proto=https");
            let expected = vec![Hop { address: Some(address.to_canonical()), secure: true }];
            prop_assert_eq!(elements(&quoted), Some(expected));
        }
    }
}
