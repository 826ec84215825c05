//! Ends what runs for a client within a second after its permission was taken away: viewers, control channels, event
//! streams, endless answers.
//!
//! This is the one place that does it. Whoever serves a client for longer holds a [`Guard`] and polls it beside
//! everything else. [`Guards`] has all of them and asks the accounts again for each, whenever something was revoked,
//! has expired or was changed there. A guard costs its connection one atomic read for each wake-up.

use crate::auth::{Identity, OwnedPermission};
use parking_lot::Mutex;
use sluicegate_accounts::Accounts;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::SystemTime,
};
use tokio::time::{MissedTickBehavior, interval};

/// How often in its lifetime the ticket of what runs is used.
const TICKET_USES: u32 = 3;

/// All guards of a gateway.
#[derive(Clone)]
pub struct Guards(Arc<All>);

struct All {
    accounts: Accounts,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    newest: u64,
    guarded: HashMap<u64, Arc<Guarded>>,
}

/// What runs, and for whom.
struct Guarded {
    identity: Identity,
    needed: OwnedPermission,
    /// The ticket that it was begun with. It stays valid meanwhile, so that the client may connect again.
    ticket: Option<Box<str>>,
    signal: Arc<Signal>,
}

/// From [`Guards`] to a [`Guard`].
#[derive(Debug, Default)]
struct Signal {
    revoked: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Signal {
    fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        if let Some(task) = self.task.lock().take() {
            task.wake();
        }
    }
}

impl Guards {
    /// Guards of what runs with permissions that these accounts decide about.
    pub fn new(accounts: Accounts) -> Guards {
        Guards(Arc::new(All {
            accounts,
            running: Mutex::default(),
        }))
    }

    /// A guard for what is to run as long as this identity has this permission. `ticket` is the one that it was proved
    /// by, if it was.
    pub fn guard(
        &self,
        identity: &Identity,
        needed: &OwnedPermission,
        ticket: Option<&str>,
    ) -> Guard {
        let signal = Arc::<Signal>::default();
        let guarded = Arc::new(Guarded {
            identity: identity.clone(),
            needed: needed.clone(),
            ticket: ticket.map(Box::from),
            signal: signal.clone(),
        });
        let id = {
            let mut running = self.0.running.lock();
            running.newest += 1;
            let id = running.newest;
            running.guarded.insert(id, guarded.clone());
            id
        };
        // It may have been revoked since the request was admitted. What is revoked from now on, `check` finds.
        if !guarded.is_current(&self.0.accounts, SystemTime::now()) {
            signal.revoke();
        }
        Guard {
            place: Some((self.clone(), id)),
            signal,
            task: None,
        }
    }

    /// Revokes what is no longer permitted, after each change of the accounts, and keeps tickets of what runs valid.
    /// Never returns.
    pub async fn watch(self) {
        let mut changes = self.0.accounts.changes();
        let mut due = interval(self.0.accounts.ticket_lifetime() / TICKET_USES);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => self.check(),
                    Err(_) => return,
                },
                _ = due.tick() => self.use_tickets(),
            }
        }
    }

    /// Revokes what is no longer permitted.
    fn check(&self) {
        let now = SystemTime::now();
        let accounts = &self.0.accounts;
        let revoked: Vec<_> = {
            let running = self.0.running.lock();
            let all = running.guarded.values();
            all.filter(|guarded| !guarded.is_current(accounts, now))
                .map(|guarded| guarded.signal.clone())
                .collect()
        };
        // Not under the lock: what is woken may drop its guard.
        for signal in revoked {
            signal.revoke();
        }
    }

    fn use_tickets(&self) {
        let now = SystemTime::now();
        let running = self.0.running.lock();
        for ticket in running
            .guarded
            .values()
            .filter_map(|guarded| guarded.ticket.as_deref())
        {
            // One that was revoked meanwhile is found by `check`.
            let _ = self.0.accounts.use_ticket(ticket, now);
        }
    }
}

impl fmt::Debug for Guards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guards")
    }
}

impl Guarded {
    fn is_current(&self, accounts: &Accounts, now: SystemTime) -> bool {
        let current = accounts.renew(&self.identity, now);
        let permission = self.needed.permission();
        current.is_some_and(|identity| permission.is_granted_to(&identity))
    }
}

/// Held by what runs for a client. Polled by one task at a time.
pub struct Guard {
    /// `None` for what is never revoked.
    place: Option<(Guards, u64)>,
    signal: Arc<Signal>,
    /// Of the task that will be woken.
    task: Option<Waker>,
}

impl Guard {
    /// For what is never revoked.
    pub fn never() -> Guard {
        Guard {
            place: None,
            signal: Arc::default(),
            task: None,
        }
    }

    /// Ready once the permission was taken away, and from then on. Takes no lock if the same task polls again.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_known = |task: &Waker| task.will_wake(context.waker());
        if !self.task.as_ref().is_some_and(is_known) {
            let task = context.waker().clone();
            *self.signal.task.lock() = Some(task.clone());
            self.task = Some(task);
        }
        match self.signal.revoked.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((guards, id)) = &self.place {
            let removed = guards.0.running.lock().guarded.remove(id);
            // Dropped after the lock.
            drop(removed);
        }
    }
}
