//! Threads that were told to end, waited for together.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Instant,
};
use tokio::{task::spawn_blocking, time::timeout_at};

/// Those that are waited for, with what they are called in the log.
#[derive(Clone, Default)]
pub(super) struct Threads(Arc<Mutex<Left>>);

#[derive(Default)]
struct Left {
    /// Whose end is waited for now.
    current: Option<String>,
    rest: Vec<(String, JoinHandle<()>)>,
}

impl Threads {
    /// Waits for this one, too.
    pub fn add(&self, name: &str, thread: Option<JoinHandle<()>>) {
        let named = thread.map(|thread| (name.to_owned(), thread));
        self.lock().rest.extend(named);
    }

    /// Waits for all of them, on no worker, until the deadline; those that are there still are named in the log, and end with the
    /// process.
    pub async fn join(self, deadline: Instant) {
        let threads = self.clone();
        let joined = spawn_blocking(move || {
            while let Some(thread) = threads.next() {
                // A panic in it is in the log.
                let _ = thread.join();
            }
        });
        if timeout_at(deadline.into(), joined).await.is_err() {
            tracing::warn!(
                "what reads these did not end in time and is left behind: {}",
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

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
