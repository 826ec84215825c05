//! Joins threads at shutdown, together and up to one deadline.
//!
//! Every thread is asked to end before any is joined, so one that hangs in a driver delays neither the others nor the
//! end of the process; its name is logged. Used by `run` in [`super`].

use parking_lot::{Mutex, MutexGuard};
use std::{mem, sync::Arc, thread::JoinHandle, time::Instant};
use tokio::{task::spawn_blocking, time::timeout_at};

/// Threads to join, with their names for the log.
#[derive(Clone, Default)]
pub(super) struct Threads(Arc<Mutex<Remaining>>);

#[derive(Default)]
struct Remaining {
    /// Name of the thread that is being joined.
    current: Option<String>,
    rest: Vec<(String, JoinHandle<()>)>,
}

impl Threads {
    /// Adds a thread; `None` adds nothing.
    pub fn add(&self, name: &str, thread: Option<JoinHandle<()>>) {
        let named = thread.map(|thread| (name.to_owned(), thread));
        self.lock().rest.extend(named);
    }

    /// Joins all threads on a blocking thread, until the deadline. Threads that still run then are logged and end with
    /// the process.
    pub async fn join(self, deadline: Instant) {
        let threads = self.clone();
        let joined = spawn_blocking(move || {
            while let Some(thread) = threads.next() {
                // A panic is logged already.
                let _ = thread.join();
            }
        });
        if timeout_at(deadline.into(), joined).await.is_err() {
            tracing::warn!(
                "threads that did not end in time and are abandoned: {}",
                self.running().join(", ")
            );
        }
    }

    fn next(&self) -> Option<JoinHandle<()>> {
        let mut left = self.lock();
        let (name, thread) = left.rest.pop().unzip();
        left.current = name;
        thread
    }

    fn running(&self) -> Vec<String> {
        let mut left = self.lock();
        let rest = mem::take(&mut left.rest).into_iter();
        let running = rest.filter_map(|(name, thread)| (!thread.is_finished()).then_some(name));
        left.current.take().into_iter().chain(running).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Remaining> {
        self.0.lock()
    }
}
