//! Config keys that are specified but not implemented. They are parsed as specified and then refused, so that no
//! setting is silently ignored. A version that implements one removes it from [`UNSUPPORTED`].

use super::document::{Document, Problem};

/// Keys that this version parses and refuses; `*` stands for any name.
const UNSUPPORTED: &[&[&str]] = &[
    &["transports", "*", "wasi"],
    &["transports", "*", "record"],
    &["policy", "wasi"],
    &["policy", "record"],
];

/// Refuses the first such key in the file's order.
pub(super) fn refuse(document: &Document<'_>) -> Result<(), Problem> {
    match document.first_of(UNSUPPORTED) {
        Some(path) => Err(Problem::key(
            path,
            "is not supported in this version yet; remove it",
        )),
        None => Ok(()),
    }
}
