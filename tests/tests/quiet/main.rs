//! Measurements that are meaningful only on a quiet machine; they run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod accounts_attacked;
mod captures;
mod devices;
mod isolation;
mod latency;
mod load;
mod policy;
mod viewers;

use tokio::sync::{Mutex, MutexGuard};

/// Lock held by the test whose turn it is.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}
