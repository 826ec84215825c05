//! What the system knows of the connections that bring a session its pictures, beside what its player reports.

use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_plugin::policy::Report;
use sluicegate_telemetry::TcpInfo;
use std::time::Duration;

/// A player's round trip is longer than the system's by what both machines need to answer; by more than this, and twice as
/// long, it goes on behind who is at the other end of the connection.
const ANSWERING: Duration = Duration::from_millis(15);

/// A connection, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Link {
    /// Milliseconds; and without queues.
    pub round_trip_ms: f64,
    pub shortest_trip_ms: f64,
    /// Bytes that lie at the gateway, and on the way.
    pub unsent: u32,
    pub under_way: u32,
    /// Bits a second, where there was enough to send to tell.
    pub delivered: Option<u64>,
    /// Whether the player is at its other end, rather than a proxy.
    pub direct: bool,
}

impl Link {
    /// The connection of a player whose shortest round trip so far is that.
    pub fn new(info: &TcpInfo, player: Option<Duration>) -> Link {
        let direct = player.is_none_or(|player| player <= 2 * info.min_rtt + ANSWERING);
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        Link {
            round_trip_ms: ms(info.round_trip),
            shortest_trip_ms: ms(info.min_rtt),
            unsent: info.unsent,
            under_way: info.under_way,
            delivered: info.delivered,
            direct,
        }
    }

    /// Adds to a report what the player cannot know. A proxy's link is not the viewer's, and what a sender with little to send
    /// delivers says nothing.
    pub fn inform(&self, report: &mut Report) {
        if !self.direct {
            return;
        }
        let on_the_way = self.round_trip_ms - self.shortest_trip_ms;
        let here = self.delivered.map_or(0.0, |delivered| {
            f64::from(self.unsent) * 8000.0 / (delivered as f64).max(1.0)
        });
        // A cast stays within the type's bounds.
        report.queued_ms = report.queued_ms.max(on_the_way.max(here) as u32);
        if report.goodput.is_none() {
            let delivered = self.delivered.map(u32::try_from);
            report.goodput = delivered.map(|delivered| delivered.unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: TcpInfo = TcpInfo {
        round_trip: Duration::from_millis(340),
        min_rtt: Duration::from_millis(40),
        unsent: 100_000,
        under_way: 20_000,
        delivered: Some(1_000_000),
    };

    fn messages(info: &TcpInfo, player: Option<u64>, goodput: Option<u32>) -> (Option<u32>, u32) {
        let mut report = Report {
            round_trip_ms: None,
            goodput,
            received: 0,
            queued_ms: 10,
            buffered_ms: None,
            stalled_ms: 0,
            frames_dropped: 0,
            frame_rate: 10.0,
            network: None,
            visible: true,
            listening: false,
        };
        Link::new(info, player.map(Duration::from_millis)).inform(&mut report);
        (report.goodput, report.queued_ms)
    }

    #[test]
    fn what_lies_here_and_on_the_way_is_late() {
        assert_eq!(messages(&INFO, Some(60), None), (Some(1_000_000), 800));
        assert_eq!(messages(&INFO, None, None), (Some(1_000_000), 800));
        // What the player measured itself goes before.
        assert_eq!(messages(&INFO, Some(60), Some(7)), (Some(7), 800));
    }

    #[test]
    fn who_has_little_to_send_says_nothing_of_the_link() {
        let little = TcpInfo {
            delivered: None,
            ..INFO
        };
        assert_eq!(messages(&little, Some(60), None), (None, 300));
    }

    #[test]
    fn a_proxys_link_is_not_the_viewers() {
        let beside = TcpInfo {
            min_rtt: Duration::from_micros(80),
            ..INFO
        };
        assert_eq!(messages(&beside, Some(40), None), (None, 10));
        // On the same network a player answers within milliseconds.
        assert_eq!(messages(&beside, Some(6), None).0, Some(1_000_000));
    }
}
