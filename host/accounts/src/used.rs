//! Tickets that are used for longer than their first time.

use super::ticket::Seal;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Most tickets that are kept alive.
pub(crate) const MAX_TICKETS: usize = 16_384;

/// Until when tickets are valid, as Unix times in seconds.
#[derive(Default)]
pub(crate) struct UsedTickets {
    until: Mutex<HashMap<Seal, u64>>,
}

impl UsedTickets {
    /// Whether a ticket is kept alive now.
    pub(crate) fn has(&self, seal: &Seal, now: u64) -> bool {
        self.until
            .lock()
            .get(seal)
            .is_some_and(|until| *until >= now)
    }

    /// Keeps a ticket alive. If there is no room, it ends in its first time, and players get another one.
    pub(crate) fn keep(&self, seal: Seal, until: u64, now: u64) {
        let mut all = self.until.lock();
        if all.len() >= MAX_TICKETS && !all.contains_key(&seal) {
            all.retain(|_, until| *until >= now);
            if all.len() >= MAX_TICKETS {
                return;
            }
        }
        all.insert(seal, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(nth: usize) -> Seal {
        let mut seal = Seal::default();
        seal[..8].copy_from_slice(&nth.to_be_bytes());
        seal
    }

    #[test]
    fn a_ticket_lives_as_long_as_it_is_used_and_the_table_is_bounded() {
        let used = UsedTickets::default();
        assert!(!used.has(&seal(0), 1_000));
        for nth in 0..MAX_TICKETS {
            used.keep(seal(nth), 1_060, 1_000);
        }
        assert!(used.has(&seal(0), 1_060));
        assert!(!used.has(&seal(0), 1_061));
        used.keep(seal(MAX_TICKETS), 1_070, 1_010);
        assert!(!used.has(&seal(MAX_TICKETS), 1_010));
        used.keep(seal(1), 1_070, 1_010);
        assert!(used.has(&seal(1), 1_070));
        // Those that are over make room.
        used.keep(seal(MAX_TICKETS), 1_121, 1_061);
        assert!(used.has(&seal(MAX_TICKETS), 1_061));
        assert_eq!(used.until.lock().len(), 2);
    }
}
