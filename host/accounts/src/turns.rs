//! Which passwords are being verified: the same one once at a time.

use super::verified::Tag;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tokio::sync::OwnedMutexGuard;

/// Names and passwords that are being verified.
#[derive(Default)]
pub(crate) struct Turns {
    running: Mutex<HashMap<Tag, Arc<tokio::sync::Mutex<()>>>>,
}

/// The turn of a verification. Others of the same name and password wait for it, and find its result.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    tag: Tag,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held.take();
        let mut running = self.turns.running.lock();
        // Nobody else waits for it, or will.
        if running
            .get(&self.tag)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            running.remove(&self.tag);
        }
    }
}

impl Turns {
    /// Waits until nobody else verifies the same name and password: a program that opens thirty cameras at once sends
    /// them thirty times.
    pub(crate) async fn turn(&self, tag: Tag) -> Turn<'_> {
        // First, so that it tidies up if its task ends while it waits.
        let mut turn = Turn {
            turns: self,
            tag,
            held: None,
        };
        let running = self.running.lock().entry(tag).or_default().clone();
        turn.held = Some(running.lock_owned().await);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_password_is_verified_once_at_a_time() {
        let turns = Turns::default();
        let (tag, another) = ([1; 32], [2; 32]);
        let first = turns.turn(tag).await;
        let other = turns.turn(another).await;
        let mut second = std::pin::pin!(turns.turn(tag));
        assert!(waits(second.as_mut()).await);
        {
            let mut third = std::pin::pin!(turns.turn(tag));
            assert!(waits(third.as_mut()).await);
        }
        drop((first, other));
        drop(second.await);
        let first = turns.turn(tag).await;
        {
            let mut given_up = std::pin::pin!(turns.turn(tag));
            assert!(waits(given_up.as_mut()).await);
            drop(first);
        }
        assert!(turns.running.lock().is_empty());
    }

    /// Whether a future waits.
    async fn waits(future: std::pin::Pin<&mut impl Future>) -> bool {
        let mut future = Some(future);
        std::future::poll_fn(|context| {
            let polled = future
                .take()
                .map(|future| future.poll(context).is_pending());
            std::task::Poll::Ready(polled.unwrap_or_default())
        })
        .await
    }
}
