//! Detects clients that have stopped reading.
//!
//! A response waits for its client in two places: at the socket, and over HTTP/2 also at the window of its stream,
//! which a client can leave closed while it goes on answering pings (RFC 9113 section 5.2). Whoever writes notes in a
//! [`Stall`] whether the client accepts data, and whoever owns the connection or the stream waits for the stall to last
//! too long.

use crate::Drain;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A client that accepts no data for this long is disconnected.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same while the gateway shuts down.
pub(crate) const DRAIN_WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// Since when a client has accepted no data, if it does not.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    since: Mutex<Option<Instant>>,
}

impl Stall {
    /// The client accepted data, or there is none for it.
    pub fn end(&self) {
        *self.since.lock() = None;
    }

    /// Data waits for the client. The stall began with the first of these calls since the last [`Stall::end`].
    pub fn begin(&self) {
        self.since.lock().get_or_insert_with(Instant::now);
    }

    /// Returns once the client has accepted nothing for `limit`.
    pub async fn lasts(&self, limit: Duration) {
        loop {
            let since = *self.since.lock();
            let due = since.unwrap_or_else(Instant::now) + limit;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }

    /// Returns once the client has accepted nothing for [`WRITE_TIMEOUT`], or for [`DRAIN_WRITE_TIMEOUT`] while the
    /// gateway shuts down.
    pub async fn lasts_too_long(&self, drain: &mut Drain) {
        tokio::select! {
            () = self.lasts(WRITE_TIMEOUT) => {}
            () = async { drain.wait().await; self.lasts(DRAIN_WRITE_TIMEOUT).await } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{sync::watch, time::sleep};

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_timed_from_its_own_beginning() {
        let stall = Stall::default();
        let began = Instant::now();
        let client = async {
            sleep(Duration::from_secs(50)).await;
            stall.begin();
            sleep(Duration::from_secs(50)).await;
            stall.end();
            sleep(Duration::from_secs(7)).await;
            stall.begin();
            sleep(Duration::from_secs(1)).await;
            stall.begin();
            std::future::pending::<()>().await;
        };
        let mut drain = Drain::new(&watch::Sender::new(false));
        tokio::select! {
            () = client => {}
            () = stall.lasts(WRITE_TIMEOUT) => {}
        }
        assert_eq!(began.elapsed().as_secs(), 107 + WRITE_TIMEOUT.as_secs());
        // A sender that was dropped also means shutdown.
        stall.lasts_too_long(&mut drain).await;
        assert_eq!(began.elapsed().as_secs(), 107 + WRITE_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_may_last_less_long_while_the_gateway_shuts_down() {
        let stall = Stall::default();
        let began = Instant::now();
        stall.begin();
        let draining = watch::Sender::new(false);
        let shutdown = async {
            sleep(Duration::from_secs(1)).await;
            draining.send_replace(true);
            std::future::pending::<()>().await;
        };
        let mut drain = Drain::new(&draining);
        tokio::select! {
            () = shutdown => {}
            () = stall.lasts_too_long(&mut drain) => {}
        }
        assert_eq!(began.elapsed(), DRAIN_WRITE_TIMEOUT);
    }
}
