//! Parser of `host[:port]` in requests, origins and URLs (RFC 3986 section 3.2, without user information).

use std::net::{IpAddr, Ipv6Addr};

/// A host and an optional port.
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    /// Name or address; an IPv6 address with its brackets.
    pub host: &'a str,
    /// Port; `None` for the default of the scheme.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses all of `text`; `None` if it is anything else, as RFC 9110 section 7.2 requires for `Host`.
    pub fn parse(text: &'a str) -> Option<Authority<'a>> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(inner) => {
                let end = inner.find(']')?;
                inner[..end].parse::<Ipv6Addr>().ok()?;
                text.split_at(end + 2)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (host, rest) = text.split_at(end);
                if !is_registered_name(host) {
                    return None;
                }
                (host, rest)
            }
        };
        let port = match rest.strip_prefix(':') {
            // An empty port means the default (RFC 3986 section 3.2.3).
            Some("") => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok()?)
            }
            None if rest.is_empty() => None,
            _ => return None,
        };
        Some(Authority { host, port })
    }

    /// Whether both are the same host and port; `default_port` is the default port of their scheme.
    pub fn is(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host)
            && self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
    }

    /// The host as an address, if it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.name().parse().ok()
    }

    /// The host; an IPv6 address without its brackets.
    pub fn name(&self) -> &'a str {
        self.host.trim_matches(['[', ']'])
    }

    /// Whether the host is the client's own machine. Such names cannot be bound to another address (RFC 6761 section
    /// 6.3).
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.address().is_some_and(|address| address.is_loopback())
    }
}

/// Whether `host` is a `reg-name` (RFC 3986 section 3.2.2) that is not empty, which http does not allow (RFC 9110
/// section 4.2.1).
fn is_registered_name(host: &str) -> bool {
    let bytes = host.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let good = |(at, byte): (usize, &u8)| match byte {
        b'%' => hex(at + 1) && hex(at + 2),
        byte => byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte),
    };
    !bytes.is_empty() && bytes.iter().enumerate().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_and_a_port_are_an_authority() {
        for (text, expected) in [
            ("cam.example", Some(("cam.example", None))),
            ("cam.example:", Some(("cam.example", None))),
            ("127.0.0.1:8080", Some(("127.0.0.1", Some(8080)))),
            ("[::1]:8080", Some(("[::1]", Some(8080)))),
            ("[::1]", Some(("[::1]", None))),
            ("b%C3%BCcher.example", Some(("b%C3%BCcher.example", None))),
            ("", None),
            (":80", None),
            ("a, evil", None),
            ("a b", None),
            ("127.0.0.1:80/x", None),
            ("127.0.0.1:80x", None),
            ("127.0.0.1:99999", None),
            ("127.0.0.1:+80", None),
            ("me@cam.example", None),
            ("[::1]evil", None),
            ("[::1", None),
            ("[cam]", None),
            ("[]", None),
            ("::1", None),
            ("a%zz", None),
            ("a\"", None),
        ] {
            let found = Authority::parse(text).map(|found| (found.host, found.port));
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn the_usual_port_may_be_left_out() {
        let is = |one, other, default_port| {
            let one = Authority::parse(one).into_iter();
            one.zip(Authority::parse(other))
                .any(|(one, other)| one.is(&other, default_port))
        };
        assert!(is("Cam.example", "cam.EXAMPLE:80", 80));
        assert!(!is("cam.example", "cam.example:80", 443));
        assert!(!is("cam.example:81", "cam.example:80", 80));
    }
}
