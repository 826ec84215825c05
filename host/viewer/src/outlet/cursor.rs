//! A viewer's position in the ring: for each lane, what it has and what it gets next.

use super::{Access, Header};
use std::{sync::Arc, time::Instant};

/// A viewer's position in the ring, per lane.
#[derive(Debug)]
pub struct Cursor {
    /// Count of wake-ups when it began to wait, and its index in [`Ring::waiting`].
    pub(super) waits: Option<(u64, usize)>,
    /// Its lanes that the ring had, or that were named by [`Cursor::choose`].
    pub(super) lanes: Vec<LanePosition>,
    /// Whether lanes were chosen: it gets no others.
    pub(super) has_chosen: bool,
    pub(super) header: Option<Arc<Header>>,
    pub(super) since: Instant,
    /// End of the ring when the viewer arrived, if known.
    pub(super) arrived_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LanePosition {
    /// Waits for a start point of the lane since the ring ended at this position; `None`: the ring was not looked at
    /// yet.
    Waiting(Option<u64>),
    /// Starts or restarts at the start point at this position.
    Starting(u64),
    /// Has everything of the lane from its start point up to this position, except the chunks that lead that start
    /// point.
    Joined(u64),
    /// Has everything of the lane up to this position, including a start point older than the newest one, so it gets
    /// leading chunks.
    At(u64),
    /// The viewer does not get this lane.
    Off,
}

impl LanePosition {
    /// Position of the next chunk to consider.
    pub fn position(self) -> Option<u64> {
        match self {
            LanePosition::Starting(at) | LanePosition::Joined(at) | LanePosition::At(at) => {
                Some(at)
            }
            LanePosition::Waiting(_) | LanePosition::Off => None,
        }
    }

    /// Whether the lane starts or restarts with a chunk that was not taken yet.
    pub fn restarts(self) -> bool {
        matches!(self, LanePosition::Starting(_))
    }

    /// Skips to `position`, because the lane has nothing before it.
    pub fn skip_to(self, position: u64) -> LanePosition {
        match self {
            LanePosition::Starting(at) => LanePosition::Starting(position.max(at)),
            LanePosition::Joined(at) => LanePosition::Joined(position.max(at)),
            LanePosition::At(at) => LanePosition::At(position.max(at)),
            other => other,
        }
    }

    /// Whether the viewer gets the chunk at `position`, and its place after it.
    pub fn after_chunk(self, position: u64, access: Access) -> (bool, LanePosition) {
        let next = position + 1;
        match (self, access) {
            (LanePosition::Starting(_), _) => (true, LanePosition::Joined(next)),
            (LanePosition::Joined(_), Access::Start) => (true, LanePosition::At(next)),
            (LanePosition::Joined(_), access) => {
                (access != Access::Leading, LanePosition::Joined(next))
            }
            (LanePosition::At(_), _) => (true, LanePosition::At(next)),
            (other, _) => (false, other),
        }
    }
}

impl Cursor {
    /// A cursor of a viewer that has got nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "a cursor knows when it was made"
    )]
    pub fn new() -> Cursor {
        Cursor {
            waits: None,
            lanes: Vec::new(),
            has_chosen: false,
            header: None,
            since: Instant::now(),
            arrived_at: None,
        }
    }

    /// A cursor of a viewer that arrived when the outlet ended at `arrived_at` ([`end`](super::Outlet::end)). If there was
    /// no start point then, it starts at the first one that followed, within the lag bound, so that it gets all of the
    /// first burst.
    pub fn since(arrived_at: u64) -> Cursor {
        Cursor {
            arrived_at: Some(arrived_at),
            ..Cursor::new()
        }
    }

    /// From now on the viewer gets only these lanes.
    pub fn choose(&mut self, lanes: &[u8]) {
        self.has_chosen = true;
        let most = lanes
            .iter()
            .map(|lane| usize::from(*lane) + 1)
            .max()
            .unwrap_or(0);
        if self.lanes.len() < most {
            self.lanes
                .resize(most, LanePosition::Waiting(self.arrived_at));
        }
        for (lane, place) in self.lanes.iter_mut().enumerate() {
            let wanted = lanes.iter().any(|chosen| usize::from(*chosen) == lane);
            *place = match (wanted, *place) {
                (false, _) => LanePosition::Off,
                (true, LanePosition::Off) => LanePosition::Waiting(None),
                (true, place) => place,
            };
        }
    }
}
