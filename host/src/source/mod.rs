//! Where pictures come from. Each source runs on a thread of its own and hands what it reads to an [`Ingest`].

mod annexb;
mod extradata;
mod libav;
mod pattern;
mod spec;

pub use spec::{Spec, SpecError};

use crate::{config, stream::Ingest};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};
use thiserror::Error;

/// Why a source stopped by itself.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It cannot be opened.
    #[error("cannot open {what}: {reason}")]
    Open {
        /// The source, without credentials.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// It was open and failed.
    #[error("{what} failed: {reason}")]
    Read {
        /// The source, without credentials.
        what: String,
        /// Why.
        reason: String,
    },
    /// It ended and cannot begin again.
    #[error("{0} ended")]
    Ended(String),
}

/// Tells a source's thread to end.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    inner: Arc<StopState>,
}

#[derive(Debug, Default)]
struct StopState {
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Stop {
    /// Ends the source as soon as it looks.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.inner.thread.get() {
            thread.unpark();
        }
    }

    /// Whether it is to end.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    /// Called on the source's thread before its first wait.
    pub fn attach(&self) {
        let _ = self.inner.thread.set(thread::current());
    }

    /// Waits until `deadline`, or less if told to end.
    pub fn wait_until(&self, deadline: std::time::Instant) {
        while !self.is_stopped() {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            thread::park_timeout(left);
        }
    }

    /// Waits `duration`, or less if told to end.
    pub fn wait(&self, duration: Duration) {
        self.wait_until(std::time::Instant::now() + duration);
    }
}

/// Runs the source until it is told to stop (`Ok`), ends or fails.
///
/// Blocking; call it on a thread of its own. May be called again after a failure.
pub fn run(
    spec: &Spec,
    encode: &config::Encode,
    ingest: &mut Ingest,
    stop: &Stop,
) -> Result<(), SourceError> {
    match spec {
        Spec::TestPattern => pattern::run(encode, ingest, stop),
        Spec::File(path) => libav::run_file(path, ingest, stop),
        Spec::Url(url) => libav::run_url(url, ingest, stop),
        Spec::AnnexbListen(address) => annexb::run_listener(*address, ingest, stop),
        Spec::AnnexbConnect(address) => annexb::run_connection(address, ingest, stop),
        Spec::AnnexbStdin => annexb::run_stdin(ingest, stop),
    }
}
