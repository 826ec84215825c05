//! A judge of HLS, written from draft-pantos-hls-rfc8216bis and apart from what it judges: playlists in, broken rules out. Pure,
//! but for `player`, which polls as a player does.
//!
//! Numbers in brackets are the draft's sections. Where Apple's or common players want more than the draft, or this gateway
//! promises more, the rule says so.

mod parse;
pub mod player;
mod rules;
mod session;

pub use parse::{Map, Part, Playlist, Report, Segment, Time, Variant, multivariant, parse};
pub use session::{Session, agree};

use std::fmt;

/// A rule that a playlist breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub rule: &'static str,
    /// From 1; 0: the whole.
    pub line: usize,
    /// What is wrong.
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

/// What is wrong with a media playlist by itself.
pub fn check(text: &str) -> Vec<Violation> {
    let (playlist, mut violations) = parse(text);
    violations.extend(rules::check(&playlist));
    violations
}

/// What is wrong with a multivariant playlist.
pub fn check_multivariant(text: &str) -> Vec<Violation> {
    let (variants, mut violations) = multivariant(text);
    violations.extend(rules::check_variants(&variants));
    violations
}

/// Fails the test with what was found, and the playlist it was found in.
pub fn must_be_clean(what: &str, text: &str, violations: &[Violation]) {
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{what}: {list:#?}\n{text}");
}
