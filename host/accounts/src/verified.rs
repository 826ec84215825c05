//! Names and passwords that were verified a short time ago, right and wrong ones, so that a client that sends them with
//! each request costs a verification every five minutes.
//!
//! They are kept as keyed hashes, whose key is random and never leaves the process. A wrong one is kept, too: a machine
//! with an old password repeats the same one, which is no guessing.

use parking_lot::Mutex;
use ring::hmac;
use std::collections::HashMap;

/// Largest number of verified passwords that are remembered.
pub(crate) const MAX_ENTRIES: usize = 1_024;
/// Seconds that an entry is valid.
const LIFETIME: u64 = 300;

/// The table. Times are Unix times in seconds.
pub(crate) struct Verified {
    key: hmac::Key,
    known: Mutex<HashMap<Tag, Entry>>,
}

/// Keyed hash of a name and a password.
pub(crate) type Tag = [u8; 32];

struct Entry {
    /// Fingerprint of the user's password hash at that time; `None` if there was none.
    fingerprint: Option<u64>,
    good: bool,
    at: u64,
}

impl Entry {
    fn is_fresh(&self, now: u64) -> bool {
        // Also after the clock was set back.
        now.abs_diff(self.at) <= LIFETIME
    }
}

impl Verified {
    pub(crate) fn new(key: &[u8; 32]) -> Verified {
        Verified {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            known: Mutex::default(),
        }
    }

    pub(crate) fn tag(&self, name: &str, password: &str) -> Tag {
        super::ticket::tag(&self.key, &[name.as_bytes(), password.as_bytes()])
    }

    /// Whether the password was right, if it was verified since the user changed last.
    pub(crate) fn get(&self, tag: &Tag, fingerprint: Option<u64>, now: u64) -> Option<bool> {
        let known = self.known.lock();
        let entry = known.get(tag)?;
        (entry.fingerprint == fingerprint && entry.is_fresh(now)).then_some(entry.good)
    }

    pub(crate) fn put(&self, tag: Tag, fingerprint: Option<u64>, good: bool, now: u64) {
        let mut known = self.known.lock();
        if known.len() >= MAX_ENTRIES && !known.contains_key(&tag) {
            known.retain(|_, entry| entry.is_fresh(now));
        }
        if known.len() >= MAX_ENTRIES && !known.contains_key(&tag) {
            // Wrong ones go first, since anybody can make them.
            let worst = known.iter().min_by_key(|(_, entry)| (entry.good, entry.at));
            if let Some(worst) = worst.map(|(tag, _)| *tag) {
                known.remove(&worst);
            }
        }
        let at = now;
        known.insert(
            tag,
            Entry {
                fingerprint,
                good,
                at,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_for_one_name_and_password_until_the_user_changes_or_five_minutes() {
        let verified = Verified::new(&[7; 32]);
        let tag = verified.tag("eva", "secret");
        assert_eq!(verified.get(&tag, Some(1), 1_000), None);
        verified.put(tag, Some(1), true, 1_000);
        assert_eq!(verified.get(&tag, Some(1), 1_300), Some(true));
        assert_eq!(verified.get(&tag, Some(1), 1_301), None);
        assert_eq!(verified.get(&tag, Some(1), 100), None);
        assert_eq!(verified.get(&tag, Some(2), 1_000), None);
        assert_eq!(verified.get(&tag, None, 1_000), None);
        for (name, password) in [("ev", "asecret"), ("eva", "Secret"), ("evas", "ecret")] {
            let other = verified.tag(name, password);
            assert_eq!(verified.get(&other, Some(1), 1_000), None);
        }
    }

    #[test]
    fn the_table_is_bounded_and_keeps_right_ones() {
        let verified = Verified::new(&[7; 32]);
        let good = verified.tag("eva", "secret");
        verified.put(good, Some(1), true, 1_000);
        for nth in 0..2 * MAX_ENTRIES {
            let tag = verified.tag("eva", &nth.to_string());
            verified.put(tag, Some(1), false, 1_001);
        }
        assert_eq!(verified.known.lock().len(), MAX_ENTRIES);
        assert_eq!(verified.get(&good, Some(1), 1_001), Some(true));
    }
}
