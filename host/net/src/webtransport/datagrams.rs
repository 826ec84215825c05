//! Which datagrams are sent and which are dropped.
//!
//! QUIC sends datagrams before all streams, in order, however old they are. So those that the path does not carry soon
//! are dropped here, and they get a part of the path only while streams wait.

use std::time::{Duration, Instant};

/// Parts of the congestion window: what may wait in QUIC, and what is sent in a round trip while streams wait.
const WAITING_SHARE: u64 = 4;
const SENT_SHARE: u64 = 2;

/// What QUIC knows when a datagram is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub now: Instant,
    pub round_trip: Duration,
    /// Congestion window in bytes.
    pub window: u64,
    /// Bytes of datagrams that wait in QUIC.
    pub waiting: usize,
    /// Whether streams wait for the path.
    pub streams_wait: bool,
}

/// Decides on the datagrams of one session.
#[derive(Debug, Default)]
pub(super) struct DatagramLimit {
    /// When the round trip began in which what is sent is counted, and its bytes.
    began: Option<Instant>,
    sent: u64,
}

impl DatagramLimit {
    /// Whether to send one of this length. One is sent in any case where none waits and none was sent.
    pub fn admits(&mut self, length: usize, situation: &Situation) -> bool {
        let Situation {
            now,
            round_trip,
            window,
            ..
        } = *situation;
        let is_current = |began: Instant| now.saturating_duration_since(began) < round_trip;
        if !self.began.is_some_and(is_current) {
            (self.began, self.sent) = (Some(now), 0);
        }
        let (waiting, length) = (situation.waiting as u64, length as u64);
        let waits_too_much = waiting > 0 && waiting + length > window / WAITING_SHARE;
        let has_its_part = self.sent > 0 && self.sent + length > window / SENT_SHARE;
        let admits = !(waits_too_much || situation.streams_wait && has_its_part);
        self.sent += if admits { length } else { 0 };
        admits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 100 datagrams of 1,000 bytes are admitted that come at once.
    fn admitted(window: u64, is_sent_at_once: bool, streams_wait: bool) -> usize {
        let (mut limit, mut waiting) = (DatagramLimit::default(), 0);
        let now = Instant::now();
        let admit = |_: &i32| {
            let situation = Situation {
                now,
                round_trip: Duration::from_millis(50),
                window,
                waiting,
                streams_wait,
            };
            let admits = limit.admits(1000, &situation);
            if admits && !is_sent_at_once {
                waiting += 1000;
            }
            admits
        };
        (0..100).filter(admit).count()
    }

    #[test]
    fn what_the_path_does_not_carry_soon_is_dropped() {
        assert_eq!(admitted(20_000, false, false), 5);
        assert_eq!(admitted(2_400, false, false), 1);
        assert_eq!(admitted(20_000, true, false), 100);
    }

    #[test]
    fn streams_keep_half_of_the_path() {
        assert_eq!(admitted(20_000, true, true), 10);
        assert_eq!(admitted(1_200, true, true), 1);
        let mut limit = DatagramLimit::default();
        let mut situation = Situation {
            now: Instant::now(),
            round_trip: Duration::from_millis(50),
            window: 2_000,
            waiting: 0,
            streams_wait: true,
        };
        assert!(limit.admits(1_000, &situation));
        assert!(!limit.admits(1_000, &situation));
        situation.now += situation.round_trip;
        assert!(limit.admits(1_000, &situation));
    }
}
