//! A checker of HLS: it takes playlists and returns the rules they break. It is written from
//! draft-pantos-hls-rfc8216bis, independently of the code it judges, and pure except for `player`, which polls as a
//! player does.
//!
//! Numbers in parentheses are sections of the draft. Rules that come from Apple's or other common players, or from
//! promises of this gateway, say so.

mod parse;
pub mod player;
mod rules;
mod session;

pub use parse::{Map, Part, Playlist, Report, Segment, Time, Variant, multivariant, parse};
pub use session::{Session, agree};

use std::fmt;

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the rule.
    pub rule: &'static str,
    /// Line in the playlist from 1; 0 if the playlist as a whole is wrong.
    pub line: usize,
    /// Description of the mistake.
    pub what: String,
}

impl Violation {
    fn new(rule: &'static str, line: usize, what: impl Into<String>) -> Violation {
        Violation {
            rule,
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {}): {}", self.rule, self.line, self.what)
    }
}

/// Checks a single media playlist.
pub fn check(text: &str) -> Vec<Violation> {
    let (playlist, mut violations) = parse(text);
    violations.extend(rules::check(&playlist));
    violations
}

/// Checks a multivariant playlist.
pub fn check_multivariant(text: &str) -> Vec<Violation> {
    let (variants, mut violations) = multivariant(text);
    violations.extend(rules::check_variants(&variants));
    violations
}

/// Fails the test with all violations and the playlist in which they were found.
pub fn assert_no_violations(what: &str, text: &str, violations: &[Violation]) {
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{what}: {list:#?}\n{text}");
}
