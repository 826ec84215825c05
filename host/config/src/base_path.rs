//! The path below which clients see the gateway: `base-path` under `[server]`, and what a proxy tells.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::text;

/// Longest base path in bytes.
const MAX_LEN: usize = 200;

/// A path such as `/cams`, without a slash behind it; empty at the root. It consists of characters that need no escape
/// in a URL, a header, HTML or JSON (RFC 3986 section 2.3), so that it can be put anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BasePath(String);

impl BasePath {
    /// First segments of the gateway's own paths.
    pub const RESERVED: &[&str] = &[
        "account", "api", "assets", "docs", "halves", "healthz", "live", "login", "logout",
        "metrics", "modules", "readyz", "s", "streams", "watch",
    ];

    /// The path: empty, or begins with a slash and ends without one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the gateway's own paths may begin like this one, so that a path does not tell whether it is below it.
    pub fn is_ambiguous(&self) -> bool {
        let first = self.0.split('/').nth(1);
        first.is_some_and(|first| Self::RESERVED.contains(&first))
    }

    /// Checks that `base-path` is not ambiguous.
    ///
    /// # Errors
    /// The message for the user.
    pub(super) fn check(&self) -> Result<(), String> {
        match self.is_ambiguous() {
            false => Ok(()),
            true => Err(format!(
                "`{self}` begins like paths of the gateway itself; write another, such as \"/cams\""
            )),
        }
    }
}

impl fmt::Display for BasePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BasePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_segment = |segment: &str| {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain)
        };
        let path = text.strip_suffix('/').unwrap_or(text);
        let what = match path.strip_prefix('/') {
            None if path.is_empty() => return Ok(Self::default()),
            None => "does not begin with a slash",
            Some(_) if path.len() > MAX_LEN => "has more than 200 characters",
            Some(rest) if rest.split('/').all(is_segment) => return Ok(Self(path.to_owned())),
            Some(_) => "is not made of names with letters, digits, `-`, `.`, `_` and `~` only",
        };
        let text: String = text.chars().take(MAX_LEN).collect();
        Err(format!(
            "`{}` {what}; write a path such as \"/cams\"",
            text.escape_debug()
        ))
    }
}

impl<'de> Deserialize<'de> for BasePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::parse(deserializer, "a path such as \"/cams\"", str::parse)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_base_path_is_made_of_plain_names() {
        for (text, path) in [
            ("", ""),
            ("/", ""),
            ("/cams", "/cams"),
            ("/cams/", "/cams"),
            ("/a/b-c/d.e~f_g", "/a/b-c/d.e~f_g"),
            ("/api/hassio_ingress/Ab-1_x", "/api/hassio_ingress/Ab-1_x"),
        ] {
            assert_eq!(text.parse::<BasePath>().unwrap().as_str(), path, "{text}");
        }
        for text in [
            "cams",
            "//",
            "//evil.example",
            "/cams//",
            "/a//b",
            "/../etc",
            "/a/..",
            "/./a",
            "/a%2e%2e",
            "/a b",
            "/a\"b",
            "/a'b",
            "/a<b>",
            "/a;b",
            "/a,/b",
            "/a?b",
            "/a#b",
            "/a\\b",
            "/a\nb",
            "/a\0",
            "/\u{fc}",
            "https://evil.example",
            "/x:y",
            "/@",
        ] {
            let why = text.parse::<BasePath>().unwrap_err();
            assert!(why.contains("\"/cams\""), "{text:?}: {why}");
        }
        assert!(format!("/{}", "a".repeat(199)).parse::<BasePath>().is_ok());
        assert!(format!("/{}", "a".repeat(200)).parse::<BasePath>().is_err());
    }

    proptest! {
        /// Whatever is accepted is a path on this host, in every context.
        #[test]
        fn what_is_accepted_needs_no_escape(text in "[ -~]{0,20}|(/[a-z.%]{0,3}){0,5}/?") {
            if let Ok(path) = text.parse::<BasePath>() {
                let path = path.as_str();
                prop_assert!(path.is_empty() || (path.starts_with('/') && !path.ends_with('/')));
                prop_assert!(!path.contains("//") && path.split('/').all(|name| name != ".."));
                prop_assert!(path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte)));
            }
        }
    }
}
