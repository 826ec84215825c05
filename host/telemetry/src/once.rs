//! Deduplication of log lines that any number of clients or frames may cause, and of which the first is enough.

use parking_lot::Mutex;
use std::collections::BTreeSet;

/// The lines logged so far: at most [`LogOnce::MAX_LINES`] different ones, compared by their first
/// [`LogOnce::MAX_LINE_LEN`] bytes.
#[derive(Debug, Default)]
pub struct LogOnce(Mutex<BTreeSet<String>>);

impl LogOnce {
    /// Largest number of different lines. After that, every line counts as logged, so that the memory is bounded.
    pub const MAX_LINES: usize = 64;
    /// Number of bytes by which lines are compared.
    pub const MAX_LINE_LEN: usize = 512;

    /// Returns true the first time it is called with this text.
    pub fn is_new(&self, text: &str) -> bool {
        let end = text.floor_char_boundary(Self::MAX_LINE_LEN);
        let mut said = self.0.lock();
        said.len() < Self::MAX_LINES && said.insert(text[..end].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_new_once_and_lines_without_end_are_not_kept() {
        let once = LogOnce::default();
        assert!(once.is_new("a"));
        assert!(!once.is_new("a"));
        let new = (0..1000).filter(|nth| once.is_new(&format!("{nth} {}", "ä".repeat(2000))));
        assert_eq!(new.count(), LogOnce::MAX_LINES - 1);
        assert!(!once.is_new("b"));
    }
}
