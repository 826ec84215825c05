//! The shutdown signal, as every connection waits for it.
//!
//! A connection polls the signal each time its task wakes. Polling tokio's `watch` takes a lock that all connections
//! share, so [`Drain`] keeps one pending wait and polls it again only if the task's waker has changed or the signal was
//! given.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::sync::watch;

/// A receiver of the shutdown signal.
pub struct Drain {
    draining: watch::Receiver<bool>,
    waiting: Option<PendingWait>,
}

/// A pending wait, and the waker of the task that it will wake.
struct PendingWait {
    task: Waker,
    word: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Drain {
    /// A receiver that is ready once `draining` is true.
    pub fn new(draining: &watch::Sender<bool>) -> Drain {
        Drain {
            draining: draining.subscribe(),
            waiting: None,
        }
    }

    /// Waits until the gateway shuts down.
    pub async fn wait(&mut self) {
        poll_fn(|context| self.poll(context)).await;
    }

    /// Ready when the gateway shuts down, and from then on. Cheap if the same task polls again, since it takes no lock
    /// then.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let known = self
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.task.will_wake(context.waker()));
        if known && matches!(self.draining.has_changed(), Ok(false)) {
            return Poll::Pending;
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let mut draining = self.draining.clone();
            PendingWait {
                task: context.waker().clone(),
                word: Box::pin(async move {
                    // An error means that the sender was dropped, which also means shutdown.
                    let _ = draining.wait_for(|draining| *draining).await;
                }),
            }
        });
        waiting.task.clone_from(context.waker());
        let word = waiting.word.as_mut().poll(context);
        if word.is_ready() {
            self.waiting = None;
        }
        word
    }
}

impl Clone for Drain {
    fn clone(&self) -> Drain {
        Drain {
            draining: self.draining.clone(),
            waiting: None,
        }
    }
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drain")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_task_that_polled_last_is_woken_and_the_signal_stays() {
        let draining = watch::Sender::new(false);
        let mut drain = Drain::new(&draining);
        let (first, second) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        for woken in [&first, &first, &second, &second] {
            let waker = Waker::from(woken.clone());
            assert!(drain.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        draining.send_replace(true);
        let woken = |woken: &Woken| woken.0.load(Ordering::SeqCst);
        assert_eq!((woken(&first), woken(&second)), (0, 1));
        for _ in 0..2 {
            let waker = Waker::from(second.clone());
            assert!(drain.poll(&mut Context::from_waker(&waker)).is_ready());
        }
        assert!(
            drain
                .clone()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        );
    }
}
