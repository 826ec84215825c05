//! What the sender of a connection knows of the path to its peer, whatever the protocol.

use std::time::Duration;

/// The path of a connection to a viewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// Smoothed round-trip time; zero before the first measurement.
    pub round_trip: Duration,
    /// Shortest round-trip time: over TCP of the last five minutes (or as set by `tcp_min_rtt_wlen`), over QUIC of the
    /// connection.
    pub min_rtt: Duration,
    /// Bytes that wait at the gateway and were not sent yet.
    pub unsent: u32,
    /// Bytes that were sent and not acknowledged yet, without retransmissions; `None` if that is not known (QUIC).
    pub under_way: Option<u32>,
    /// Delivery rate in bits per second, the best of the last round trips. `None` before the first measurement, and if
    /// the sender had too little to send for the rate to be the network's.
    pub delivered: Option<u64>,
    /// Packets so far; `None` if they are not counted (TCP).
    pub packets: Option<Packets>,
}

/// Counts of packets since a connection began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// Sent, including those that were lost.
    pub sent: u64,
    /// Lost, as the sender found.
    pub lost: u64,
}

impl Packets {
    /// Share of the packets since `before` that were lost, from 0 to 1; `None` if there were none.
    pub fn loss_since(&self, before: &Packets) -> Option<f32> {
        let sent = self.sent.saturating_sub(before.sent);
        let lost = self.lost.saturating_sub(before.lost);
        // Losses are found later than packets are sent, so there may be more of them for a while.
        (sent > 0).then(|| (lost as f32 / sent as f32).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_the_share_of_the_packets_in_between() {
        let packets = |sent, lost| Packets { sent, lost };
        let before = packets(100, 10);
        assert_eq!(packets(100, 10).loss_since(&before), None);
        assert_eq!(packets(200, 15).loss_since(&before), Some(0.05));
        assert_eq!(packets(101, 20).loss_since(&before), Some(1.0));
    }
}
