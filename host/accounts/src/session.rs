//! Sign-ins and openings of links, as long as they last.

use super::random::Id;
use super::state::{Begun, StoredSession};
use sluicegate_config::Access;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Longest part of a `User-Agent` that is kept, in characters.
const MAX_AGENT: usize = 200;

/// A session in memory, which knows its latest use. Whoever holds it uses it.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub id: Id,
    pub stored: StoredSession,
    /// Unix time in seconds; the one that is stored may be older.
    seen: AtomicU64,
}

impl LiveSession {
    pub(crate) fn new(id: Id, stored: StoredSession) -> LiveSession {
        LiveSession {
            id,
            seen: AtomicU64::new(stored.seen),
            stored,
        }
    }

    pub(crate) fn link(&self) -> Option<Id> {
        match self.stored.begun {
            Begun::Link(id) => Some(id),
            Begun::Password(_) => None,
        }
    }

    pub(crate) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    pub(crate) fn touch(&self, now: u64) {
        self.seen.fetch_max(now, Ordering::Relaxed);
    }

    /// Unix time in seconds at which it ends if it is not used.
    pub(crate) fn until(&self, access: &Access) -> u64 {
        end(access, self.stored.created, self.seen())
    }

    /// Whether somebody besides the tables, which hold it twice, holds it.
    pub(crate) fn is_held(self: &Arc<LiveSession>) -> bool {
        Arc::strong_count(self) > TABLES
    }
}

/// Number of tables in a view that hold a session.
pub(crate) const TABLES: usize = 2;

/// When a session ends that began and was used at these times.
pub(crate) fn end(access: &Access, created: u64, seen: u64) -> u64 {
    let idle = seen.saturating_add(access.session_idle.duration().as_secs());
    let longest = created.saturating_add(access.session_max.duration().as_secs());
    idle.min(longest)
}

/// A `User-Agent` in the form in which it is kept and shown.
pub(crate) fn agent(header: &str) -> String {
    let shown = header.chars().filter(|c| !c.is_control());
    shown.take(MAX_AGENT).collect()
}
