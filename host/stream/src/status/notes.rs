//! Problems of a stream worth knowing, each kind once with a count.

use std::collections::BTreeMap;

/// Notes by key.
#[derive(Debug, Default)]
pub struct Notes(BTreeMap<&'static str, Note>);

#[derive(Debug)]
struct Note {
    text: String,
    count: u64,
}

impl Notes {
    /// Records a note with its newest text; returns whether it is the first of its `key`.
    pub fn record(&mut self, key: &'static str, text: String) -> bool {
        let count = self.0.get(key).map_or(0, |note| note.count) + 1;
        self.0.insert(key, Note { text, count });
        count == 1
    }

    /// Whether there is a note of that key.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Removes the note of that key.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// All notes for users, with how often each was recorded.
    pub fn texts(&self) -> Vec<String> {
        let shown = |Note { text, count }: &Note| match count {
            1 => text.clone(),
            count => format!("{text} ({count} times)"),
        };
        self.0.values().map(shown).collect()
    }
}
