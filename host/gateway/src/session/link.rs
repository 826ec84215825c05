//! What the sender of the connection that carries a session's video knows of its path (the kernel's `TCP_INFO`, or
//! QUIC), and how that completes a report.
//!
//! A player cannot see queues on the path. The sender can, but its figures count only if the player itself is at the
//! other end of the connection (a proxy's link is not the viewer's), and delivery says something about the link only
//! while there was enough to send. [`Sessions::report`](super::Sessions::report) reads the figures for each report.
//! Pure.

use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_plugin::policy::Report;
use sluicegate_telemetry::{Packets, PathInfo};
use std::time::Duration;

/// Processing time of both machines that a player's round trip contains and the sender's does not. If the player's
/// shortest round trip exceeds twice the sender's by more than this, the path continues behind the connection's peer,
/// which therefore is a proxy.
const PROCESSING_TIME: Duration = Duration::from_millis(15);

/// The connection that carries a session's video, as the gateway measures it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Link {
    /// Smoothed round trip time in milliseconds.
    pub round_trip_ms: f64,
    /// Shortest round trip time in milliseconds, over TCP of about the last five minutes: the path without queues.
    pub shortest_trip_ms: f64,
    /// Bytes that wait at the gateway and were not sent yet.
    pub unsent: u32,
    /// Bytes sent and not yet acknowledged; null over WebTransport.
    pub under_way: Option<u32>,
    /// Delivery rate, bits per second; null unless enough was being sent to measure the link.
    pub delivered: Option<u64>,
    /// Share of the packets since the report before that were lost, from 0 to 1; null over TCP.
    pub loss: Option<f32>,
    /// Counts of packets so far.
    #[serde(skip)]
    packets: Option<Packets>,
    /// Whether the player itself, rather than a proxy, is at the other end.
    pub direct: bool,
}

impl Link {
    /// Describes the connection of a player whose own shortest round trip so far is `player`, if it has measured one.
    /// `before` is what the report before had, if it was about the same connection.
    pub fn new(info: &PathInfo, player: Option<Duration>, before: Option<&Link>) -> Link {
        let before = before.and_then(|link| link.packets).unwrap_or_default();
        let direct = player.is_none_or(|player| player <= 2 * info.min_rtt + PROCESSING_TIME);
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        Link {
            round_trip_ms: ms(info.round_trip),
            shortest_trip_ms: ms(info.min_rtt),
            unsent: info.unsent,
            under_way: info.under_way,
            delivered: info.delivered,
            loss: info.packets.and_then(|packets| packets.loss_since(&before)),
            packets: info.packets,
            direct,
        }
    }

    /// Adds to a report what the player cannot measure: time in queues (the larger of queueing on the path and unsent
    /// bytes at the delivery rate) and, if the player gave none, goodput and loss. Changes nothing if a proxy is in
    /// between.
    pub fn complete(&self, report: &mut Report) {
        if !self.direct {
            return;
        }
        let on_the_way = self.round_trip_ms - self.shortest_trip_ms;
        let here = self.delivered.map_or(0.0, |delivered| {
            f64::from(self.unsent) * 8000.0 / (delivered as f64).max(1.0)
        });
        // A cast from float saturates at the integer's bounds.
        report.queued_ms = report.queued_ms.max(on_the_way.max(here) as u32);
        if report.goodput.is_none() {
            let delivered = self.delivered.map(u32::try_from);
            report.goodput = delivered.map(|delivered| delivered.unwrap_or(u32::MAX));
        }
        report.loss = report.loss.or(self.loss);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: PathInfo = PathInfo {
        round_trip: Duration::from_millis(340),
        min_rtt: Duration::from_millis(40),
        unsent: 100_000,
        under_way: Some(20_000),
        delivered: Some(1_000_000),
        packets: None,
    };

    fn report_with(
        info: &PathInfo,
        player: Option<u64>,
        goodput: Option<u32>,
    ) -> (Option<u32>, u32) {
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
            loss: None,
            view_width: 0,
            view_height: 0,
            more: Vec::new(),
        };
        Link::new(info, player.map(Duration::from_millis), None).complete(&mut report);
        (report.goodput, report.queued_ms)
    }

    #[test]
    fn unsent_and_queued_data_count_as_delay() {
        assert_eq!(report_with(&INFO, Some(60), None), (Some(1_000_000), 800));
        assert_eq!(report_with(&INFO, None, None), (Some(1_000_000), 800));
        // The player's own measurement takes precedence.
        assert_eq!(report_with(&INFO, Some(60), Some(7)), (Some(7), 800));
    }

    #[test]
    fn delivery_counts_only_with_enough_to_send() {
        let little = PathInfo {
            delivered: None,
            ..INFO
        };
        assert_eq!(report_with(&little, Some(60), None), (None, 300));
    }

    #[test]
    fn loss_is_that_since_the_report_before() {
        let after = |sent, lost| PathInfo {
            packets: Some(Packets { sent, lost }),
            ..INFO
        };
        let first = Link::new(&after(100, 50), None, None);
        let second = Link::new(&after(300, 60), None, Some(&first));
        assert_eq!((first.loss, second.loss), (Some(0.5), Some(0.05)));
        assert_eq!(Link::new(&INFO, None, Some(&second)).loss, None);
    }

    #[test]
    fn a_proxys_link_is_not_the_viewers() {
        let beside = PathInfo {
            min_rtt: Duration::from_micros(80),
            ..INFO
        };
        assert_eq!(report_with(&beside, Some(40), None), (None, 10));
        // On the same network a player answers within milliseconds.
        assert_eq!(report_with(&beside, Some(6), None).0, Some(1_000_000));
    }
}
