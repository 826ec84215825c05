//! The parts of the config that are settled but not built: parsed as agreed, then refused, so that nothing a file
//! asks for is silently left out. A version that brings one deletes its line from [`LATER`].

use super::document::{Document, Problem};

/// What this version parses and refuses; `*` stands for any name.
const LATER: &[&[&str]] = &[
    &["transports", "*", "wasi"],
    &["transports", "*", "record"],
    &["policy", "wasi"],
    &["policy", "record"],
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
