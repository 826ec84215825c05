//! Where a camera is by HTTP or RTSP, and whether it may send the gateway elsewhere. Pure.

use crate::config::HostName;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::{fmt, net::IpAddr};

/// What people write into paths and queries although it has to be escaped there (RFC 3986 3.3).
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// How a camera is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP over TCP.
    Http,
    /// HTTP over TLS.
    Https,
    /// RTSP over TCP.
    Rtsp,
    /// RTSP over TLS.
    Rtsps,
}

impl Scheme {
    fn parse(text: &str) -> Option<Scheme> {
        let all = [Scheme::Http, Scheme::Https, Scheme::Rtsp, Scheme::Rtsps];
        all.into_iter()
            .find(|scheme| scheme.name().eq_ignore_ascii_case(text))
    }

    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Rtsp => "rtsp",
            Scheme::Rtsps => "rtsps",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
            Scheme::Rtsp => 554,
            Scheme::Rtsps => 322,
        }
    }

    /// By TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Rtsps)
    }

    /// Whether it is HTTP, plain or not.
    pub fn is_http(self) -> bool {
        matches!(self, Scheme::Http | Scheme::Https)
    }
}

/// A URL of such a scheme in parts.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Name or address, in lower case, an IPv6 address without brackets.
    pub host: String,
    /// From the URL, or the scheme's own.
    pub port: u16,
    /// Path and query as they go into a request: never empty, no fragment.
    pub path: String,
    /// User name and password.
    pub login: Option<(String, String)>,
}

/// Host and port only: the rest may hold secrets.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

impl Url {
    /// Reads a URL; none if it is of another scheme or names no host.
    pub fn parse(text: &str) -> Option<Url> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = Scheme::parse(scheme)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = split_port(place)?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Some(Url {
            scheme,
            host: host.to_ascii_lowercase(),
            port: port.unwrap_or(scheme.port()),
            path: request_path(path),
            login: login.map(|login| {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (decoded(user), decoded(password))
            }),
        })
    }

    /// Host and port as in a `Host` header (RFC 9110 7.2).
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            port if port == self.scheme.port() => host,
            port => format!("{host}:{port}"),
        }
    }

    /// As text, with its login.
    pub fn text(&self) -> String {
        const LOGIN: &AsciiSet = percent_encoding::NON_ALPHANUMERIC;
        let scheme = self.scheme.name();
        let login = self
            .login
            .as_ref()
            .map_or(String::new(), |(user, password)| {
                let escaped = |text| utf8_percent_encode(text, LOGIN);
                format!("{}:{}@", escaped(user), escaped(password))
            });
        format!("{scheme}://{login}{}{}", self.authority(), self.path)
    }

    /// As text, without its login.
    pub fn bare_text(&self) -> String {
        let bare = Url {
            login: None,
            ..self.clone()
        };
        bare.text()
    }

    /// Where this URL redirects to with `location`, if that may be followed: to the same host or one of `named`, by the same
    /// kind of protocol, and not from TLS to none. `from`, the URL of the config, says which host is the same.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn redirect(
        &self,
        location: Option<&str>,
        from: &Url,
        named: &[HostName],
    ) -> Result<Url, String> {
        let next = location.and_then(|location| self.resolve(location));
        let next = next.filter(|next| next.scheme.is_http() == from.scheme.is_http());
        let next = next.ok_or("it redirects without saying where to, or to another protocol")?;
        may_redirect(&from.host, &next.host, named)?;
        if from.scheme.is_secure() && !next.scheme.is_secure() {
            return Err(
                "it redirects from TLS to a plain connection, which is not followed".into(),
            );
        }
        Ok(next)
    }

    /// What a `Location` header means that came from here (RFC 9110 10.2.2). Its login is its own.
    pub fn resolve(&self, location: &str) -> Option<Url> {
        let location = location.trim();
        if location.contains("://") {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.scheme.name()));
        }
        let path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let own = self.path.split('?').next().unwrap_or_default();
            let folder = own.rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{location}")
        };
        Some(Url {
            path: request_path(&path),
            login: None,
            ..self.clone()
        })
    }
}

/// Whether a source at `host` may send the gateway on to `other`: to itself, and to hosts that the config names.
///
/// # Errors
/// Why not, and what to do.
pub fn may_redirect(host: &str, other: &str, named: &[HostName]) -> Result<(), String> {
    let is = |host: &str| host.eq_ignore_ascii_case(other);
    if is(host) || named.iter().any(|named| is(named.as_str())) {
        return Ok(());
    }
    Err(format!(
        "it redirects to another host, {}, which is not followed; allow it with redirects = [\"{}\"] under the stream",
        other.escape_debug(),
        other.escape_debug()
    ))
}

/// Host and port of `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`.
pub fn split_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<IpAddr>().ok()?;
            (host, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let is_host = |c: char| c.is_alphanumeric() || "-_.:%".contains(c);
    if host.is_empty() || !host.chars().all(is_host) {
        return None;
    }
    match port {
        None | Some("") => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok().filter(|port| *port > 0)?))),
    }
}

fn request_path(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let slash = if text.starts_with('/') { "" } else { "/" };
    format!("{slash}{}", utf8_percent_encode(text, ESCAPED))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        for (text, authority, path, login) in [
            ("http://cam", "cam", "/", None),
            ("HTTP://Cam:8081/a b?c=d#e", "cam:8081", "/a%20b?c=d", None),
            ("http://cam:80?x", "cam", "/?x", None),
            ("https://[::1]:443/x", "[::1]", "/x", None),
            ("http://u:p%40s:s@cam/", "cam", "/", Some(("u", "p@s:s"))),
            ("http://u@v:p@cam/", "cam", "/", Some(("u@v", "p"))),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(
                (url.authority().as_str(), url.path.as_str()),
                (authority, path)
            );
            let found = url
                .login
                .as_ref()
                .map(|(user, word)| (user.as_str(), word.as_str()));
            assert_eq!(found, login, "{text}");
            assert_eq!(Url::parse(&url.text()), Some(url));
        }
        let rtsp = Url::parse("rtsp://u:p@cam/1?x").unwrap();
        assert_eq!((rtsp.port, rtsp.authority().as_str()), (554, "cam"));
        assert_eq!(rtsp.bare_text(), "rtsp://cam/1?x");
        for text in [
            "rtmp://cam/",
            "http://",
            "http:///x",
            "http://a b/",
            "http://a:0/",
            "http://[x]/",
        ] {
            assert_eq!(Url::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_location_is_meant_from_where_it_came() {
        let url = Url::parse("https://u:p@cam:444/a/b?c").unwrap();
        for (location, text) in [
            ("http://other/x", "http://other/x"),
            ("//other/x", "https://other/x"),
            ("/x?y", "https://cam:444/x?y"),
            ("x", "https://cam:444/a/x"),
            ("?q", "https://cam:444/a/?q"),
        ] {
            assert_eq!(url.resolve(location).unwrap().text(), text);
        }
        assert_eq!(url.resolve("ftp://other/"), None);
    }

    #[test]
    fn other_hosts_are_followed_where_they_are_named() {
        let named = ["cdn.example".parse().unwrap()];
        assert_eq!(may_redirect("cam", "CAM", &[]), Ok(()));
        assert_eq!(may_redirect("cam", "cdn.example", &named), Ok(()));
        let url = Url::parse("https://cam/a").unwrap();
        let to = |location| url.redirect(Some(location), &url, &named);
        assert_eq!(to("/b").unwrap().path, "/b");
        assert_eq!(to("https://cdn.example/x").unwrap().host, "cdn.example");
        for refused in [
            "http://cam/b",
            "https://other/",
            "rtsp://cam/",
            "ftp://cam/",
        ] {
            assert!(to(refused).is_err(), "{refused}");
        }
        assert!(url.redirect(None, &url, &named).is_err());
        let error = may_redirect("cam", "192.168.0.1", &named).unwrap_err();
        assert!(error.contains("redirects = [\"192.168.0.1\"]"), "{error}");
        assert!(may_redirect("cam", "cdn.example.evil", &named).is_err());
    }
}
