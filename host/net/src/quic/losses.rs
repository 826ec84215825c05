//! Which losses mean congestion.
//!
//! A radio link loses packets without being full, and CUBIC takes each loss for a full queue: with 3 % it sends less
//! than a camera's video needs, though the path would carry ten times that. A full queue shows in the packets that went
//! through it right behind the lost one, by whose acknowledgements the loss is noticed: they took longer than any
//! before. Where they did not, a loss counts only if many packets are lost, as by a queue that is too short to notice.

use std::time::Duration;

/// Time in queues from which a loss means congestion; and a quarter of the shortest round trip, if that is longer. Less
/// may be the client's, which waits before it acknowledges, or a busy machine's.
const QUEUE: Duration = Duration::from_millis(10);
/// Bytes over which losses are counted, at least; twice as much at most. About 128 packets.
const WINDOW: u64 = 150_000;
/// One of so many bytes may be lost.
const TOLERATED: u64 = 10;

/// The last losses of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    /// Whether the packet that was acknowledged last had to wait in a queue.
    queued: bool,
    /// Before the last `WINDOW` was full, and since then.
    counts: [Counts; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    acknowledged: u64,
    lost: u64,
}

impl Losses {
    /// The client has acknowledged so many bytes after this time; `min` is the shortest until now.
    pub fn acknowledged(&mut self, bytes: u64, round_trip: Duration, min: Duration) {
        self.queued = round_trip.saturating_sub(min) > QUEUE.max(min / 4);
        let [before, now] = &mut self.counts;
        now.acknowledged = now.acknowledged.saturating_add(bytes);
        if now.acknowledged.saturating_add(now.lost) >= WINDOW {
            (*before, *now) = (*now, Counts::default());
        }
    }

    /// So many bytes are lost. Returns whether that is no congestion.
    pub fn lost(&mut self, bytes: u64) -> bool {
        let [before, now] = &mut self.counts;
        now.lost = now.lost.saturating_add(bytes);
        let lost = before.lost.saturating_add(now.lost);
        let acknowledged = before.acknowledged.saturating_add(now.acknowledged);
        let all = lost.saturating_add(acknowledged).max(WINDOW);
        !self.queued && lost <= all / TOLERATED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const PACKET: u64 = 1200;

    /// Acknowledges so many packets after `round_trip` and then loses one, so many times; how many were tolerated.
    fn tolerated(losses: &mut Losses, packets: u64, round_trip: Duration, times: u32) -> u32 {
        let lost = |_: &u32| {
            for _ in 0..packets {
                losses.acknowledged(PACKET, round_trip, MIN);
            }
            losses.lost(PACKET)
        };
        (0..times).filter(lost).count() as u32
    }

    #[test]
    fn losses_without_a_queue_are_tolerated() {
        let mut losses = Losses::default();
        assert_eq!(tolerated(&mut losses, 33, MIN, 1000), 1000);
        let jitter = MIN + Duration::from_millis(12);
        assert_eq!(tolerated(&mut losses, 33, jitter, 1000), 1000);
    }

    #[test]
    fn losses_behind_a_queue_are_congestion() {
        let mut losses = Losses::default();
        let queue = MIN + Duration::from_millis(13);
        assert_eq!(tolerated(&mut losses, 33, queue, 1000), 0);
        assert_eq!(tolerated(&mut losses, 33, MIN, 1000), 1000);
    }

    #[test]
    fn many_losses_are_congestion() {
        let mut losses = Losses::default();
        // The first twelve are few, compared with a whole window.
        assert_eq!(tolerated(&mut losses, 5, MIN, 1000), 12);
        // They are forgotten.
        tolerated(&mut losses, 33, MIN, 20);
        assert_eq!(tolerated(&mut losses, 33, MIN, 1000), 1000);
    }

    #[test]
    fn a_few_losses_at_the_beginning_say_nothing() {
        let mut losses = Losses::default();
        assert!((0..12).all(|_| losses.lost(PACKET)));
        assert!(!losses.lost(PACKET));
    }
}
