//! Lines of the log that many may cause and one is enough of.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// What was said already: [`Once::MAX_LINES`] different lines, each of [`Once::MAX_LINE_LEN`] bytes at most.
#[derive(Debug, Default)]
pub struct Once(Mutex<BTreeSet<String>>);

impl Once {
    /// Different lines that are kept apart; whatever else comes counts as said.
    pub const MAX_LINES: usize = 64;
    /// Bytes of a line that tell it from others.
    pub const MAX_LINE_LEN: usize = 512;

    /// Whether this was not said before. True for the same text once.
    pub fn is_new(&self, text: &str) -> bool {
        let end = text.floor_char_boundary(Self::MAX_LINE_LEN);
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < Self::MAX_LINES && said.insert(text[..end].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_new_once_and_lines_without_end_are_not_kept() {
        let once = Once::default();
        assert!(once.is_new("a"));
        assert!(!once.is_new("a"));
        let new = (0..1000).filter(|nth| once.is_new(&format!("{nth} {}", "ä".repeat(2000))));
        assert_eq!(new.count(), Once::MAX_LINES - 1);
        assert!(!once.is_new("b"));
    }
}
