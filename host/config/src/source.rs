//! A stream's source as the user writes it, and how its secrets are kept out of logs, messages and pages.
//!
//! Camera URLs carry passwords, tokens and keys almost anywhere. [`Source`] therefore shows only scheme and host by
//! default; the whole text needs an explicit call. Because people write passwords with `/`, `?`, `#` or `@` unescaped,
//! the URL parser here is more lenient than RFC 3986 and marks what it cannot decide as doubtful. The `source` crate
//! opens what [`Source::url`] returns; `error` uses [`mask`] for excerpts of the config file.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Deserializer};

use super::text;

/// A source as it was written. User name, password, token or key may be anywhere in a URL but in scheme and host, so
/// `Display` and `Debug` show only these two, and of a file its name. Secrets leave the process only through
/// [`Source::expose`] and [`Source::url`].
#[derive(Clone, PartialEq, Eq)]
pub struct Source(String);

/// Replaces omitted text in what is shown.
const ELLIPSIS: &str = "…";
/// Prefixes of sources that are not URLs; these are shown in full unless they contain something that looks like a URL.
const LOCAL: [&str; 5] = ["file:", "v4l2:", "screen:", "annexb:", "android:"];
/// Largest number of characters shown of any other text.
const MAX_SHOWN_CHARS: usize = 64;

impl Source {
    /// The whole source, with its secrets.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The URL in valid form, for the code that opens it: `/`, `?` and `#` in user name or password are percent-encoded
    /// (RFC 3986 section 3.2.1). Text that is not a URL is returned unchanged.
    pub fn url(&self) -> Cow<'_, str> {
        let Some(Url {
            scheme,
            user: Some(user),
            authority,
            rest,
            ..
        }) = Url::read(&self.0)
        else {
            return Cow::Borrowed(&self.0);
        };
        let user = user
            .replace('/', "%2F")
            .replace('?', "%3F")
            .replace('#', "%23");
        Cow::Owned(format!("{scheme}://{user}@{authority}{rest}"))
    }

    /// The host of a URL, without its port; an IPv6 address has its brackets.
    pub fn host(&self) -> Option<&str> {
        let url = Url::read(&self.0).filter(|url| !url.is_ambiguous)?;
        host_and_port(url.authority).map(|(host, _)| host)
    }

    /// Removes this source's secrets from a text about it, such as an error message of a library.
    pub fn scrub(&self, said: &str) -> String {
        if let Some(graph) = self.0.strip_prefix("lavfi:") {
            return scrub_values(graph, said);
        }
        let Some(url) = Url::read(&self.0) else {
            return said.to_owned();
        };
        let opened = self.url();
        let user = url.user.unwrap_or_default();
        let encoded = Url::read(&opened).and_then(|url| url.user);
        let password = user.split_once(':').map(|(_, password)| password);
        let secrets = [Some(url.rest), Some(user), encoded, password];
        let secrets = secrets.into_iter().flatten();
        secrets
            // Shorter strings are not secrets and occur in every sentence.
            .filter(|secret| secret.len() > 2)
            .fold(said.to_owned(), |said, secret| {
                said.replace(secret, ELLIPSIS)
            })
    }
}

/// Removes from a text about a filter graph, such as `movie=rtsp\://…:loop=0`, every word that follows the name of the
/// graph's first filter.
fn scrub_values(graph: &str, said: &str) -> String {
    let (_, values) = graph.split_once('=').unwrap_or_default();
    let secrets: Vec<&str> = words(values).filter(|word| word.len() > 1).collect();
    let mut scrubbed = String::with_capacity(said.len());
    let mut rest = said;
    while let Some(word) = words(rest).next() {
        let at = word.as_ptr() as usize - rest.as_ptr() as usize;
        scrubbed.push_str(&rest[..at]);
        scrubbed.push_str(match secrets.contains(&word) {
            true => ELLIPSIS,
            false => word,
        });
        rest = &rest[at + word.len()..];
    }
    scrubbed + rest
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Source {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str();
        if let Some(graph) = text.strip_prefix("lavfi:") {
            let name = words(graph).next().filter(|name| graph.starts_with(*name));
            let name = name.unwrap_or_default();
            let more = if name == graph { "" } else { ELLIPSIS };
            return write!(f, "lavfi:{name}{more}");
        }
        if let Some(local) = LOCAL.iter().find(|local| text.starts_with(*local)) {
            let rest = &text[local.len()..];
            let is_plain = match *local {
                "annexb:" => !rest.contains('@'),
                _ => !rest.contains("://"),
            };
            return match is_plain {
                // Its folders tell more of the machine than viewers need to know.
                true if *local == "file:" => {
                    let name = rest.rsplit('/').next().unwrap_or(rest);
                    write!(f, "{local}{name}")
                }
                true => f.write_str(text),
                false => write!(f, "{local}{ELLIPSIS}"),
            };
        }
        if let Some(url) = Url::read(text) {
            let Url {
                scheme,
                authority,
                rest,
                is_ambiguous,
                ..
            } = url;
            return match (is_ambiguous, rest) {
                (true, _) => write!(f, "{scheme}://{ELLIPSIS}"),
                (false, "" | "/") => write!(f, "{scheme}://{authority}{rest}"),
                (false, _) => write!(f, "{scheme}://{authority}/{ELLIPSIS}"),
            };
        }
        // Not recognised; perhaps a URL with a mistake in it.
        if text.contains([':', '@', '=', '?', '&', '#', ';']) {
            let scheme = words(text).next().unwrap_or_default();
            return match scheme.len() <= 6 && text[scheme.len()..].starts_with(':') {
                true => write!(f, "{scheme}:{ELLIPSIS}"),
                false => f.write_str(ELLIPSIS),
            };
        }
        let most = text.char_indices().nth(MAX_SHOWN_CHARS).map(|(end, _)| end);
        // A missing colon: `rtsp//camera/key`
        let path = text.split_once("//").and_then(|(scheme, rest)| {
            let host = rest.find('/')?;
            Some(scheme.len() + 2 + host)
        });
        match path.into_iter().chain(most).min() {
            Some(end) => write!(f, "{}{ELLIPSIS}", &text[..end]),
            None => f.write_str(text),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer, "a source such as \"test-pattern\"", |text| {
            Ok(Self::from(text))
        })
    }
}

/// Start of the URLs in our own messages, and the URL used in their examples.
const ADVICE: &str = "https://github.com/";
const EXAMPLE: &str = "rtsp://camera.local/stream1";

/// Replaces possible secrets in a line of a config file, or in a message about it, by stars: one for each character, so
/// that columns stay the same.
pub fn mask(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut in_graph = false;
    for piece in line.split_inclusive(|c: char| c.is_whitespace() || "'\"`".contains(c)) {
        let token = piece.trim_end_matches(|c: char| c.is_whitespace() || "'\"`".contains(c));
        let (token, behind) = piece.split_at(token.len());
        let url = token.find("://").map(|colon| {
            let scheme = |c: &char| c.is_ascii_alphanumeric() || "+-.".contains(*c);
            let length = token[..colon].chars().rev().take_while(scheme).count();
            token.split_at(colon - length)
        });
        let stars = |text: &str| "*".repeat(text.chars().count());
        if token.starts_with(ADVICE) || token == EXAMPLE {
            masked.push_str(token);
        } else if in_graph {
            masked.push_str(&stars(token));
        } else if let Some(graph) = token.find("lavfi:") {
            let (before, graph) = token.split_at(graph + "lavfi:".len());
            masked.push_str(before);
            masked.push_str(&stars(graph));
            in_graph = true;
        } else if let Some((before, text)) = url {
            masked.push_str(before);
            match Url::read(text).filter(|url| !url.is_ambiguous) {
                Some(url) => {
                    masked.push_str(url.scheme);
                    masked.push_str("://");
                    if let Some(user) = url.user {
                        masked.push_str(&stars(user));
                        masked.push('@');
                    }
                    masked.push_str(url.authority);
                    masked.push_str(&stars(url.rest));
                }
                None => masked.push_str(&stars(text)),
            }
        } else if let Some(at) = token.rfind('@') {
            masked.push_str(&stars(&token[..at]));
            masked.push_str(&token[at..]);
        } else {
            masked.push_str(token);
        }
        masked.push_str(behind);
        in_graph &= behind.chars().all(char::is_whitespace);
    }
    masked
}

/// A URL split into its parts.
#[derive(Clone, Copy, Debug)]
struct Url<'a> {
    scheme: &'a str,
    /// User name and password, as written.
    user: Option<&'a str>,
    /// Host and port.
    authority: &'a str,
    /// Path, query and fragment.
    rest: &'a str,
    /// Set if `authority` may contain a part of the user's credentials.
    is_ambiguous: bool,
}

impl<'a> Url<'a> {
    /// Splits a URL; `None` if `text` is not a URL.
    ///
    /// By RFC 3986 the authority ends at the first `/`, `?` or `#`. If what remains is not host and port, the password
    /// contains such a character unescaped, and the authority is taken after the last `@` that a host follows.
    fn read(text: &'a str) -> Option<Url<'a>> {
        let (scheme, after) = text.split_once("://")?;
        if !is_scheme(scheme) {
            return None;
        }
        let end = end_of_authority(after);
        let (user, authority) = match after[..end].rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, &after[..end]),
        };
        let strict = Url {
            scheme,
            user,
            authority,
            rest: &after[end..],
            is_ambiguous: false,
        };
        let loose = Url::parse_lenient(scheme, after);
        let Some((_, port)) = host_and_port(authority) else {
            return Some(loose.unwrap_or(Url {
                is_ambiguous: true,
                ..strict
            }));
        };
        // A fragment is never used with video, so the `#` belongs to a password.
        if let Some(loose) = loose.filter(|_| strict.rest.starts_with('#')) {
            return Some(loose);
        }
        // `user:p@ss/word@192.168.0.5/` would otherwise have the host `ss`.
        let another = strict.rest.contains('@') && !strict.rest.contains("://");
        if let Some(loose) = loose.filter(|_| another && user.is_some())
            && !is_unambiguous_host(authority)
            && is_unambiguous_host(loose.authority)
        {
            return Some(loose);
        }
        Some(Url {
            // `user:12/34@camera/` would otherwise have the host `user` and the port 12.
            is_ambiguous: another && user.is_none() && port.is_some(),
            ..strict
        })
    }

    /// Splits at the last `@` that a host follows and that is not in a query.
    fn parse_lenient(scheme: &'a str, after: &'a str) -> Option<Url<'a>> {
        let mut found: Option<Url<'a>> = None;
        for (at, _) in after.match_indices('@') {
            let (user, behind) = (&after[..at], &after[at + 1..]);
            let end = end_of_authority(behind);
            let (authority, rest) = behind.split_at(end);
            let is_host = host_and_port(authority).is_some_and(|(host, _)| !host.is_empty());
            if !is_host || !user.contains(':') {
                continue;
            }
            let in_its_query = found.is_some_and(|found| {
                let between = &found.rest[..found.rest.len() - behind.len() - 1];
                let (_, query) = between.split_once('?').unwrap_or_default();
                query.contains('=')
                    || between.contains("://")
                    || (is_unambiguous_host(found.authority) && !is_unambiguous_host(authority))
            });
            if !in_its_query {
                found = Some(Url {
                    scheme,
                    user: Some(user),
                    authority,
                    rest,
                    is_ambiguous: false,
                });
            }
        }
        found
    }
}

fn end_of_authority(text: &str) -> usize {
    text.find(['/', '?', '#']).unwrap_or(text.len())
}

/// Splits an authority into host and port; `None` if it is not valid. The host may be empty, as in `udp://@:5000`. An
/// IPv6 address has its brackets and may have a zone in them (RFC 6874).
pub fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']')?;
            let address = inner[..end].split('%').next().unwrap_or_default();
            address.parse::<Ipv6Addr>().ok()?;
            authority.split_at(end + 2)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            let good = |c: char| c.is_alphanumeric() || "-_.".contains(c);
            if !host.chars().all(good) {
                return None;
            }
            (host, port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, None)),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, Some(port.parse().ok()?)))
        }
        _ => None,
    }
}

/// Whether the authority is an IP address, `localhost`, or has a port: forms that a word in a password hardly has.
fn is_unambiguous_host(authority: &str) -> bool {
    host_and_port(authority).is_some_and(|(host, port)| {
        host.starts_with('[')
            || host.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || (port.is_some() && !host.is_empty())
    })
}

/// Whether `scheme` is a valid URL scheme (RFC 3986 section 3.1).
pub fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// Splits into runs of letters, digits and `_`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_password_may_have_any_character_as_it_is() {
        for (written, opened, host) in [
            ("rtsp://cam/1", "rtsp://cam/1", "cam"),
            ("rtsp://u:p@cam:554/1", "rtsp://u:p@cam:554/1", "cam"),
            ("rtsp://u:p%2Fw@cam/1", "rtsp://u:p%2Fw@cam/1", "cam"),
            ("rtsp://u:p/w@cam/1", "rtsp://u:p%2Fw@cam/1", "cam"),
            ("rtsp://u:p?w@cam/1", "rtsp://u:p%3Fw@cam/1", "cam"),
            ("rtsp://u:p#w@cam/1", "rtsp://u:p%23w@cam/1", "cam"),
            ("rtsp://u:p@w@cam/1", "rtsp://u:p@w@cam/1", "cam"),
            (
                "rtsp://u:p/a?b#c@d@cam:554/1?x=2",
                "rtsp://u:p%2Fa%3Fb%23c@d@cam:554/1?x=2",
                "cam",
            ),
            (
                "rtsp://u:p/w@cam/1?mail=a@b",
                "rtsp://u:p%2Fw@cam/1?mail=a@b",
                "cam",
            ),
            (
                "rtsp://u:@/w@10.0.0.5/1",
                "rtsp://u:@%2Fw@10.0.0.5/1",
                "10.0.0.5",
            ),
            (
                "rtsp://u:p@ss/word@10.0.0.5:554/1",
                "rtsp://u:p@ss%2Fword@10.0.0.5:554/1",
                "10.0.0.5",
            ),
            (
                "rtsp://u:p/w@[fd00::5]:554/1",
                "rtsp://u:p%2Fw@[fd00::5]:554/1",
                "[fd00::5]",
            ),
            ("rtsp://u:99999/w@cam", "rtsp://u:99999%2Fw@cam", "cam"),
            ("rtsp://u:12#4@cam/1", "rtsp://u:12%234@cam/1", "cam"),
            // By RFC 3986, text that looks like a password here is a path or a query.
            ("http://cam/snap@2x.jpg", "http://cam/snap@2x.jpg", "cam"),
            (
                "http://u:p@cam/snap@2x.jpg",
                "http://u:p@cam/snap@2x.jpg",
                "cam",
            ),
            (
                "http://u:p@relay/?src=rtsp://u:p@10.0.0.5/1",
                "http://u:p@relay/?src=rtsp://u:p@10.0.0.5/1",
                "relay",
            ),
            (
                "udp://@239.0.0.1:1234",
                "udp://@239.0.0.1:1234",
                "239.0.0.1",
            ),
            ("srt://:9000?mode=listener", "srt://:9000?mode=listener", ""),
        ] {
            let source = Source::from(written);
            assert_eq!(source.url(), opened, "{written}");
            assert_eq!(source.host(), Some(host), "{written}");
        }
    }

    #[test]
    fn what_is_shown_is_the_kind_and_the_host() {
        for (written, shown) in [
            ("test-pattern", "test-pattern"),
            ("file:clips/a.mp4", "file:a.mp4"),
            ("file:/home/me/clips/a.mp4", "file:a.mp4"),
            ("v4l2:/dev/video0", "v4l2:/dev/video0"),
            ("annexb:tcp://box:99", "annexb:tcp://box:99"),
            ("android:[::1%2]:5555", "android:[::1%2]:5555"),
            ("rtsp://cam", "rtsp://cam"),
            ("rtsp://cam/", "rtsp://cam/"),
            ("rtsp://u:secret@cam:554/live", "rtsp://cam:554/…"),
            ("rtsp://cam/user=u_password=secret", "rtsp://cam/…"),
            ("rtsp://u:12/34@cam/1", "rtsp://…"),
            ("rtsp://u:se%cret", "rtsp://…"),
            ("lavfi:testsrc", "lavfi:testsrc"),
            ("lavfi:movie=rtsp\\://u\\:secret@cam", "lavfi:movie…"),
            ("lavfi:[secret]", "lavfi:…"),
            ("file:http://u:secret@cam/", "file:…"),
            ("annexb:tcp://u:secret@cam:1", "annexb:…"),
            ("rtsp:/u:secret@cam", "rtsp:…"),
            ("rtsp//u:secret@cam", "…"),
            ("rtsp//cam", "rtsp//cam"),
            ("rtsp//cam/secret", "rtsp//cam…"),
            ("rtsp:/cam/secret", "rtsp:…"),
            ("secret@cam", "…"),
            ("camera", "camera"),
        ] {
            let source = Source::from(written);
            assert_eq!(source.to_string(), shown, "{written}");
            assert_eq!(format!("{source:?}"), format!("Source({shown})"));
        }
    }

    #[test]
    fn a_line_of_a_config_keeps_its_columns_and_no_secret() {
        for (line, masked) in [
            (
                "source = 'rtsp://u:p/w@cam:5/x' # ö",
                "source = 'rtsp://*****@cam:5**' # ö",
            ),
            (
                "source = \"rtsp://u:p'w@cam\"",
                "source = \"**********'*@cam\"",
            ),
            ("source = 'rtsp:/u:pw@cam'", "source = '**********@cam'"),
            ("source = 'rtsp://u:p", "source = '**********"),
            (
                "a = { source = 'lavfi:movie=a b' }",
                "a = { source = 'lavfi:******* *' }",
            ),
            ("names = ['cam.example']", "names = ['cam.example']"),
            (
                "write e.g. source = \"rtsp://camera.local/stream1\"",
                "write e.g. source = \"rtsp://camera.local/stream1\"",
            ),
            (
                "\"rtsp://camera.local/stream1?key\"",
                "\"rtsp://camera.local************\"",
            ),
        ] {
            assert_eq!(mask(line), masked);
            assert_eq!(mask(line).chars().count(), line.chars().count());
        }
    }

    #[test]
    fn error_messages_of_libraries_keep_no_secret() {
        let graph = Source::from("lavfi:movie=filename=rtsp\\\\://u\\\\:hunter2@cam/1:loop=0");
        let said = graph.scrub("Failed to avformat_open_input 'rtsp://u:hunter2@cam/1'");
        assert_eq!(said, "Failed to avformat_open_input '…://u:…@…/1'");
        let graph = Source::from("lavfi:testsrcc=size=bogus");
        let said = graph.scrub("No such filter: 'testsrcc'");
        assert_eq!(said, "No such filter: 'testsrcc'");
        assert!(!graph.scrub("value \"bogus\" is no size").contains("bogus"));
    }
}
