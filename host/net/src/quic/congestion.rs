//! Congestion control: the controllers of QUIC, with what they are not told of and do not tell.
//!
//! Each is wrapped. The wrapper measures the rate at which the path delivers (`rate`), and passes on those losses only
//! that congestion may have caused (`losses`), if the config says so. `transport_config` uses it.

use super::losses::Losses;
use super::rate::DeliveryRate;
use quinn::congestion::{BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;
use sluicegate_config::Congestion;
use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

/// From then on a path without acknowledgements is silent. That is more than any queue on a path that works.
const SILENCE: Duration = Duration::from_millis(500);

/// Makes the controllers of connections.
pub(super) struct Factory {
    controllers: Arc<dyn ControllerFactory + Send + Sync>,
    tolerant: bool,
}

impl Factory {
    pub fn new(congestion: Congestion) -> Factory {
        Factory {
            controllers: match congestion {
                Congestion::LossTolerant | Congestion::Cubic => Arc::new(CubicConfig::default()),
                Congestion::Bbr => Arc::new(BbrConfig::default()),
            },
            tolerant: congestion == Congestion::LossTolerant,
        }
    }
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(MeasuringController {
            controller: self.controllers.clone().build(now, current_mtu),
            rate: DeliveryRate::default(),
            waits_since: None,
            losses: self.tolerant.then(Losses::default),
        })
    }
}

/// A controller with a wrapper.
pub(super) struct MeasuringController {
    controller: Box<dyn Controller>,
    rate: DeliveryRate,
    /// Since when packets are under way, and none of them was acknowledged.
    waits_since: Option<Instant>,
    /// What says which losses the controller is told of; `None` if it is told of all.
    losses: Option<Losses>,
}

impl MeasuringController {
    /// Best delivery rate of the last round trips, in bits per second; `None` if there was too little to send.
    pub fn delivered(&self, now: Instant) -> Option<u64> {
        self.rate.best(now)
    }

    /// Whether the client has acknowledged nothing for long, though something was sent.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.waits_since
            .is_some_and(|since| now.saturating_duration_since(since) > SILENCE)
    }
}

impl Controller for MeasuringController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.waits_since.get_or_insert(now);
        self.controller.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.rate.acknowledged(now, bytes, !app_limited, rtt.get());
        if let Some(losses) = &mut self.losses {
            losses.acknowledged(bytes, now.saturating_duration_since(sent), rtt.min());
        }
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.rate.end(now);
        self.waits_since = (in_flight > 0).then_some(now);
        self.controller
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        // An event without lost bytes is the mark of a router (ECN).
        let is_loss = lost_bytes > 0 && !is_persistent_congestion;
        let is_tolerated = self
            .losses
            .as_mut()
            .is_some_and(|losses| losses.lost(lost_bytes));
        if !(is_loss && is_tolerated) {
            self.controller
                .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.controller.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(MeasuringController {
            controller: self.controller.clone_box(),
            rate: self.rate,
            waits_since: self.waits_since,
            losses: self.losses,
        })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
