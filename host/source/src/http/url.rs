//! HTTP and RTSP URLs, and the rules for redirects and logins. Pure.
//!
//! The security decisions of fetching are all in [`Redirects`]: which host may be contacted, and which origin gets the
//! login.

use super::Failure;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use sluicegate_config::{HostName, host_and_port, is_scheme};
use std::{fmt, net::IpAddr};

/// Largest number of redirects followed in a row.
const MAX_REDIRECTS: usize = 5;

/// Characters that people write in paths and queries although they must be escaped there (RFC 3986 3.3).
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

/// Scheme of a camera's URL.
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
    /// Parses the name of a scheme; `None` if it is not one of these.
    pub fn parse(text: &str) -> Option<Scheme> {
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

    /// Whether it uses TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Rtsps)
    }

    /// Whether it is HTTP, with or without TLS.
    pub fn is_http(self) -> bool {
        matches!(self, Scheme::Http | Scheme::Https)
    }
}

/// A parsed URL of such a scheme.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// Scheme of the URL.
    pub scheme: Scheme,
    /// A name in lower case, or an address in its canonical form (RFC 5952); an IPv6 address has no brackets, and
    /// perhaps a zone.
    pub host: String,
    /// Port of the URL, otherwise the scheme's default.
    pub port: u16,
    /// Path and query as sent in a request: never empty, without fragment.
    pub path: String,
    /// User name and password, decoded.
    pub login: Option<(String, String)>,
}

/// Host and port only, because the rest may contain secrets.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority())
    }
}

impl Url {
    /// Parses a URL; `None` if it has another scheme or no valid host.
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
            host,
            port: port.unwrap_or(scheme.port()),
            path: request_path(path),
            login: login.map(|login| {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                (decoded(user), decoded(password))
            }),
        })
    }

    /// Host and port for a `Host` header (RFC 9110 7.2).
    pub fn authority(&self) -> String {
        // A zone has a meaning on this machine only (RFC 6874 4).
        self.authority_of(self.host.split('%').next().unwrap_or_default())
    }

    fn authority_of(&self, host: &str) -> String {
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        match self.port {
            port if port == self.scheme.port() => host,
            port => format!("{host}:{port}"),
        }
    }

    /// Whether both have the same scheme, host and port (RFC 6454 4).
    pub fn is_same_origin(&self, other: &Url) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
    }

    /// Whether a login that was written for this URL may be sent to `other`: to the same origin, and from HTTP to HTTPS
    /// if both use their default ports. Another port of the same host may belong to anybody.
    fn may_get_login(&self, other: &Url) -> bool {
        let is_step_up = self.host == other.host
            && (self.scheme, self.port) == (Scheme::Http, Scheme::Http.port())
            && (other.scheme, other.port) == (Scheme::Https, Scheme::Https.port());
        self.is_same_origin(other) || is_step_up
    }

    /// The URL as text, with its login.
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
        format!(
            "{scheme}://{login}{}{}",
            self.authority_of(&self.host),
            self.path
        )
    }

    /// The URL as text, without its login.
    pub fn text_without_login(&self) -> String {
        let bare = Url {
            login: None,
            ..self.clone()
        };
        bare.text()
    }

    /// Resolves a reference from this URL, such as a `Location` header (RFC 3986 5.2). The result has only the login
    /// that the reference contains.
    pub fn resolve(&self, reference: &str) -> Option<Url> {
        let reference = reference.trim();
        let scheme = reference.find([':', '/', '?', '#']);
        let scheme = scheme.map(|end| (&reference[..end], reference[end..].starts_with(':')));
        if scheme.is_some_and(|(scheme, is_told)| is_told && is_scheme(scheme)) {
            return Url::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.scheme.name()));
        }
        let reference = reference.split('#').next().unwrap_or_default();
        let (path, query) = path_and_query(reference);
        let (own_path, own_query) = path_and_query(&self.path);
        let (path, query) = match path {
            "" => (own_path.to_owned(), query.or(own_query)),
            path if path.starts_with('/') => (remove_dot_segments(path), query),
            path => {
                let folder = own_path.rsplit_once('/').map_or("", |(folder, _)| folder);
                (remove_dot_segments(&format!("{folder}/{path}")), query)
            }
        };
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        Some(Url {
            path: request_path(&(path + &query)),
            login: None,
            ..self.clone()
        })
    }
}

/// Rules for redirects of a source: only to the host of the configured URL and to hosts that the config names, never
/// from TLS to a plain connection, and only a few times in a row.
#[derive(Clone, Debug)]
pub struct Redirects {
    /// The configured URL.
    pub from: Url,
    named: Vec<HostName>,
    left: usize,
}

impl Redirects {
    /// Rules for the configured URL and the hosts that the config names.
    pub fn new(from: Url, named: &[HostName]) -> Redirects {
        Redirects {
            from,
            named: named.to_vec(),
            left: MAX_REDIRECTS,
        }
    }

    /// The target of a redirect with this `Location` in a response from `at`, with the config's login if it may be sent
    /// there.
    ///
    /// # Errors
    /// Why the redirect is not followed, and what to do.
    pub fn follow(&mut self, at: &Url, location: Option<&str>) -> Result<Url, Failure> {
        if self.left == 0 {
            let reason = "it redirects too many times; write the final URL";
            return Err(Failure::Failed(reason.into()));
        }
        self.left -= 1;
        let next = location.and_then(|location| at.resolve(location));
        let next = next.ok_or("it redirects without a location, or to another protocol");
        let next = next.map_err(|reason| Failure::Failed(reason.into()))?;
        self.admit(next).map_err(Failure::Failed)
    }

    /// Checks a URL that the source leads to, and sets its login: the config's or none, whatever the source's URL
    /// contains.
    ///
    /// # Errors
    /// Why the URL is not permitted, and what to do.
    pub fn admit(&self, next: Url) -> Result<Url, String> {
        let from = &self.from;
        if next.scheme.is_http() != from.scheme.is_http() {
            return Err("it redirects or refers to another protocol, which is not followed".into());
        }
        if from.host != next.host && !self.named.iter().any(|named| named.as_str() == next.host) {
            let host = next.host.escape_debug();
            return Err(format!(
                "it redirects or refers to another host, {host}, which is not followed; allow it with redirects = [\"{host}\"] under the stream",
            ));
        }
        if from.scheme.is_secure() && !next.scheme.is_secure() {
            return Err(
                "it redirects or refers from TLS to a plain connection, which is not followed"
                    .into(),
            );
        }
        let login = from.login.clone().filter(|_| from.may_get_login(&next));
        Ok(Url { login, ..next })
    }
}

/// Splits `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT`; the host is in the form of [`Url::host`].
fn split_port(place: &str) -> Option<(String, Option<u16>)> {
    // An empty port means the default one (RFC 3986 3.2.3).
    let (host, port) = host_and_port(place.strip_suffix(':').unwrap_or(place))?;
    if host.is_empty() || port == Some(0) {
        return None;
    }
    let host = host.trim_matches(['[', ']']);
    let (address, zone) = match host.split_once('%') {
        // `%25` is an escaped `%` (RFC 6874 2).
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (host, None),
    };
    let spelled = match address.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => address.to_ascii_lowercase(),
    };
    let host = match zone {
        Some(zone) => format!("{spelled}%{zone}"),
        None => spelled,
    };
    Some((host, port))
}

fn path_and_query(text: &str) -> (&str, Option<&str>) {
    match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    }
}

/// An absolute path without `.` and `..` (RFC 3986 5.2.4).
fn remove_dot_segments(path: &str) -> String {
    let mut kept = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
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
            ("http://cam:/x", "cam", "/x", None),
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
        assert_eq!(rtsp.text_without_login(), "rtsp://cam/1?x");
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
            ("?q", "https://cam:444/a/b?q"),
            ("", "https://cam:444/a/b?c"),
            ("#f", "https://cam:444/a/b?c"),
            ("x?to=http://other/", "https://cam:444/a/x?to=http://other/"),
            ("/x:y://z", "https://cam:444/x:y://z"),
            ("./x/../y/.", "https://cam:444/a/y/"),
            ("../../../x/..", "https://cam:444/"),
            ("HTTP://other", "http://other/"),
        ] {
            assert_eq!(url.resolve(location).unwrap().text(), text);
        }
        for of_another_kind in ["ftp://other/", "mailto:me", "http:x"] {
            assert_eq!(url.resolve(of_another_kind), None);
        }
    }

    #[test]
    fn other_hosts_are_followed_where_they_are_named() {
        let named = ["cdn.example", "fd00:0::7"].map(|name| name.parse().unwrap());
        let url = Url::parse("https://cam/a").unwrap();
        let to = |location| Redirects::new(url.clone(), &named).follow(&url, Some(location));
        assert_eq!(to("/b").unwrap().path, "/b");
        assert_eq!(to("https://CAM/b").unwrap().path, "/b");
        assert_eq!(to("https://cdn.example/x").unwrap().host, "cdn.example");
        assert_eq!(to("https://[fd00::0:7]/x").unwrap().host, "fd00::7");
        for refused in [
            "http://cam/b",
            "https://other/",
            "https://cdn.example.evil/",
            "rtsp://cam/",
            "ftp://cam/",
        ] {
            assert!(to(refused).is_err(), "{refused}");
        }
        let mut redirects = Redirects::new(url.clone(), &named);
        assert!(redirects.follow(&url, None).is_err());
        let error = to("https://192.168.0.1/").unwrap_err().to_string();
        assert!(error.contains("redirects = [\"192.168.0.1\"]"), "{error}");
        let mut redirects = Redirects::new(url.clone(), &named);
        for _ in 0..MAX_REDIRECTS {
            redirects.follow(&url, Some("/b")).unwrap();
        }
        assert!(redirects.follow(&url, Some("/b")).is_err());
    }

    #[test]
    fn a_login_goes_to_the_origin_that_it_is_written_for_and_up_to_tls() {
        let named = ["cdn".parse().unwrap()];
        for (from, to, goes) in [
            ("http://u:p@cam/a", "/b", true),
            ("http://u:p@cam/a", "http://x:y@cam/b", true),
            ("http://u:p@cam/a", "http://cam:80/b", true),
            ("http://u:p@cam/a", "https://cam/b", true),
            ("http://u:p@cam/a", "http://cam:8080/b", false),
            ("http://u:p@cam/a", "https://cam:8443/b", false),
            ("http://u:p@cam:8080/a", "https://cam/b", false),
            ("http://u:p@cam/a", "http://cdn/b", false),
            ("http://u:p@cam/a", "http://x:y@cdn/b", false),
            ("rtsp://u:p@cam/a", "rtsp://cam:8554/b", false),
        ] {
            let from = Url::parse(from).unwrap();
            let next = Redirects::new(from.clone(), &named).follow(&from, Some(to));
            let login = next.unwrap().login;
            assert_eq!(login, from.login.clone().filter(|_| goes), "{to}");
        }
    }

    #[test]
    fn a_zone_stays_with_the_gateway() {
        for text in [
            "http://[fe80:0::1%eth0]:81/x",
            "http://[FE80::1%25eth0]:81/x",
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url.host, "fe80::1%eth0");
            assert_eq!(url.authority(), "[fe80::1]:81");
            assert_eq!(url.text(), "http://[fe80::1%eth0]:81/x");
        }
    }
}
