//! Queue of a component's effects for one viewer, from the muxer's thread to the viewer's task; bounded in number and
//! in bytes.
//!
//! The muxer never waits for a viewer: if an effect does not fit, it drops its sender, and the viewer is closed. Used
//! by `actor/serve.rs` and [`Viewing`](super::Viewing).

use crate::Effect;
use sluicegate_media::budget::{Budget, Reservation};
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Effects other than messages up to this size (bytes) are not counted against the byte limit, only against the number:
/// a viewer has at most 256 lanes, and a close reason at most 123 bytes (RFC 6455 5.5).
const SMALL_EFFECT_BYTES: usize = 256;

/// A queue of at most `most` effects with at most `bytes` bytes in total; a single larger effect is accepted if the
/// queue is empty.
pub(super) fn channel(most: usize, bytes: usize) -> (Sender, Effects) {
    let (sender, effects) = mpsc::channel(most);
    let budget = Budget::new(bytes);
    (Sender { sender, budget }, Effects(effects))
}

/// Sending end, held by the muxer.
#[derive(Debug)]
pub(super) struct Sender {
    sender: mpsc::Sender<(Effect, Reservation)>,
    budget: Budget,
}

impl Sender {
    /// Queues the effect; returns false if it does not fit or the viewer is gone.
    pub fn send(&self, effect: Effect) -> bool {
        let bytes = effect.bytes();
        let held = match &effect {
            Effect::Send(_) | Effect::Reply { .. } => self.budget.take(bytes),
            // Not delayed by a large message in the queue; the number of effects bounds them.
            _ if bytes <= SMALL_EFFECT_BYTES => Some(self.budget.reserve_over_limit(0)),
            _ => self.budget.take(bytes),
        };
        held.is_some_and(|held| self.sender.try_send((effect, held)).is_ok())
    }
}

/// Receiving end, held by the viewer's task.
#[derive(Debug)]
pub struct Effects(mpsc::Receiver<(Effect, Reservation)>);

impl Effects {
    /// The next effect, if one is queued. Unlike [`Effects::poll_recv`] it never leaves one for later.
    pub fn take_queued(&mut self) -> Option<Effect> {
        self.0.try_recv().ok().map(|(effect, _)| effect)
    }

    /// The next effect; `None` once the muxer has dropped the viewer.
    pub fn poll_recv(&mut self, context: &mut Context<'_>) -> Poll<Option<Effect>> {
        let next = self.0.poll_recv(context);
        next.map(|next| next.map(|(effect, _)| effect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sluicegate_viewer::Content;
    use std::task::Waker;

    #[test]
    fn effects_are_bounded_in_number_and_in_bytes() {
        let send = |bytes| Effect::Send(Content::Binary(Bytes::from(vec![0; bytes]).into()));
        let (sender, mut effects) = channel(4, 100);
        assert!(sender.send(send(60)) && sender.send(send(40)) && !sender.send(send(1)));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            assert!(matches!(
                effects.poll_recv(&mut context),
                Poll::Ready(Some(Effect::Send(_)))
            ));
        }
        assert!(sender.send(send(1000)), "one that is larger goes alone");
        assert!(!sender.send(send(1)));
        for _ in 0..3 {
            assert!(sender.send(Effect::Lanes(vec![1])), "what is small passes");
        }
        assert!(!sender.send(Effect::Lanes(vec![1])), "not too many");
        assert!(matches!(
            effects.poll_recv(&mut context),
            Poll::Ready(Some(_))
        ));
        assert!(sender.send(Effect::Lanes(vec![])));
        assert!(!sender.send(Effect::Lanes(vec![])));
        drop(effects);
        assert!(!sender.send(Effect::Lanes(vec![])));
    }
}
