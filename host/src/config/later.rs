//! The parts of the config that are settled but not built: parsed as agreed, then refused, so that nothing a file
//! asks for is silently left out. A version that brings one deletes its line from [`LATER`].

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Span;
use super::document::{Document, Problem};

/// What this version parses and refuses; `*` stands for any name.
const LATER: &[&[&str]] = &[
    &["transports", "*", "wasi"],
    &["transports", "*", "record"],
    &["policy", "wasi"],
    &["policy", "record"],
    &["capture"],
];

/// Refuses the first part, in the file's order, that this version lacks.
pub(super) fn refuse(document: &Document<'_>) -> Result<(), Problem> {
    match document.first_of(LATER) {
        Some(path) => Err(Problem::key(
            path,
            "is part of the config but not in this version yet; remove it",
        )),
        None => Ok(()),
    }
}

/// `[capture]`: single pictures on request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "kebab-case",
    expecting = "a table"
)]
pub struct Capture {
    /// Where saved pictures go, relative to the config file. Default `captures`.
    pub dir: PathBuf,
    /// JPEG quality, 1 to 100. Default 80.
    pub quality: u8,
    /// How long a request waits for a picture. Default 5 s.
    pub timeout: Span,
    /// Whether decoders may run for captures. Default true.
    pub decoder: bool,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            dir: "captures".into(),
            quality: 80,
            timeout: Span::from_duration(Duration::from_secs(5)),
            decoder: true,
        }
    }
}
