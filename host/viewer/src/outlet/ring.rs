//! The chunks of all lanes in one sequence, where viewers start and jump in it, and who waits for more.

use super::{
    Access, Header, LaneRule, TakenChunks,
    cursor::{Cursor, LanePosition},
};
use crate::item::{Chunk, Item, SampleTime};
use crate::piece::Piece;
use sluicegate_telemetry::{Sequence, Size};
use std::{
    collections::VecDeque,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

/// Upper limits of the ring, in bytes and chunks, whatever viewers need. Beyond them the oldest chunks are dropped, and
/// viewers that needed them jump.
const MAX_BYTES: usize = 64 << 20;
const MAX_CHUNKS: usize = 16_384;
/// A lane without a chunk for this long is quiet, and its start point is no longer kept for new viewers: it would keep
/// the chunks of all other lanes, too. The age of the start point itself does not matter, since groups may last for
/// minutes.
const QUIET: Duration = Duration::from_secs(60);

/// A chunk in the ring.
#[derive(Debug)]
pub struct Slot {
    pub piece: Arc<Piece>,
    pub lane: u8,
    pub access: Access,
    pub header: Arc<Header>,
    pub sample: Option<SampleTime>,
    pub at: Duration,
    pub published: Instant,
}

impl Size for Slot {
    fn size(&self) -> usize {
        self.piece.content().len()
    }
}

/// The ring behind an outlet's lock.
#[derive(Debug, Default)]
pub struct Ring {
    pub slots: Sequence<Slot>,
    pub header: Arc<Header>,
    lanes: Vec<Lane>,
    pub closed: Option<Arc<str>>,
    pub start_wanted: bool,
    /// Wakers of the viewers that wait, since the newest wake-up.
    pub waiting: Vec<Option<Waker>>,
    pub wakes: u64,
}

/// What the ring knows of a lane.
#[derive(Debug)]
struct Lane {
    rule: LaneRule,
    newest_start: Option<u64>,
    /// Time of its newest chunk.
    newest: Duration,
}

impl Ring {
    pub fn waker_slot(&mut self, cursor: &Cursor) -> Option<&mut Option<Waker>> {
        let (wakes, place) = cursor.waits?;
        if wakes != self.wakes {
            return None;
        }
        self.waiting.get_mut(place)
    }

    pub fn wait(&mut self, cursor: &mut Cursor, waker: &Waker) {
        match self.waker_slot(cursor) {
            Some(Some(known)) => known.clone_from(waker),
            Some(empty) => *empty = Some(waker.clone()),
            None => {
                cursor.waits = Some((self.wakes, self.waiting.len()));
                self.waiting.push(Some(waker.clone()));
            }
        }
    }

    pub fn set_lanes(&mut self, rules: Vec<LaneRule>) {
        let old = std::mem::take(&mut self.lanes);
        let mut old = old.into_iter();
        self.lanes = rules
            .into_iter()
            .map(|rule| {
                let before = old.next();
                Lane {
                    rule,
                    newest_start: before.as_ref().and_then(|lane| lane.newest_start),
                    newest: before.map_or(Duration::ZERO, |lane| lane.newest),
                }
            })
            .collect();
    }

    pub fn push(&mut self, slot: Slot) {
        let (position, at) = (self.slots.end(), slot.at);
        let Some(state) = self.lanes.get_mut(usize::from(slot.lane)) else {
            return;
        };
        state.newest = at;
        if slot.access == Access::Start {
            state.newest_start = Some(position);
            self.start_wanted = false;
        }
        self.slots.push(slot);
        self.evict(at);
    }

    fn evict(&mut self, now: Duration) {
        let max_lag = self
            .lanes
            .iter()
            .map(|lane| lane.rule.max_lag)
            .max()
            .unwrap_or_default();
        let pinned = self
            .lanes
            .iter()
            .filter(|lane| now.saturating_sub(lane.newest) < QUIET)
            .filter_map(|lane| lane.newest_start)
            .filter(|start| *start >= self.slots.first())
            .min()
            .unwrap_or(u64::MAX);
        while let Some(front) = self.slots.front() {
            let unneeded = self.slots.first() < pinned && now.saturating_sub(front.at) > max_lag;
            let too_much = self.slots.bytes() > MAX_BYTES || self.slots.len() > MAX_CHUNKS;
            if self.slots.len() == 1 || !(unneeded || too_much) {
                return;
            }
            self.slots.pop();
        }
    }

    /// Places a cursor where its viewer goes on.
    pub fn place(&self, cursor: &mut Cursor) -> TakenChunks {
        let mut taken = TakenChunks::default();
        if cursor.lanes.len() < self.lanes.len() {
            let place = match cursor.has_chosen {
                true => LanePosition::Off,
                false => LanePosition::Waiting(cursor.arrived_at),
            };
            cursor.lanes.resize(self.lanes.len(), place);
        }
        self.start_or_jump(cursor, &mut taken);
        taken
    }

    /// Takes chunks of the lanes for which `takes` is true.
    pub fn take(
        &self,
        cursor: &mut Cursor,
        budget: usize,
        items: &mut VecDeque<Item>,
        taken: &mut TakenChunks,
        takes: impl Fn(usize) -> bool,
    ) {
        let lanes = cursor.lanes.iter().enumerate();
        let from = lanes.filter_map(|(lane, place)| place.position().filter(|_| takes(lane)));
        let Some(mut position) = from.min() else {
            return;
        };
        while let Some(slot) = self.slots.get(position) {
            let lane = usize::from(slot.lane);
            let place = cursor.lanes.get_mut(lane).filter(|_| takes(lane));
            if let Some(place) = place
                && place.position().is_some_and(|at| at <= position)
            {
                if taken.chunks > 0 && taken.bytes >= budget {
                    return;
                }
                let restarts = place.restarts();
                let gets;
                (gets, *place) = place.after_chunk(position, slot.access);
                if !gets {
                    position += 1;
                    continue;
                }
                let is_new_header = cursor
                    .header
                    .as_ref()
                    .is_none_or(|header| !Arc::ptr_eq(header, &slot.header));
                if is_new_header {
                    taken.bytes += slot.header.len();
                    cursor.header = Some(slot.header.clone());
                }
                taken.bytes += slot.piece.content().len();
                taken.chunks += 1;
                let published = (slot.published >= cursor.since).then_some(slot.published);
                taken.published = taken.published.or(published);
                let lane = self.lanes.get(lane);
                items.push_back(Item::Chunk(Chunk {
                    lane: slot.lane,
                    rule: lane.map(|lane| lane.rule).unwrap_or_default(),
                    at: slot.at,
                    published,
                    starts_group: slot.access == Access::Start,
                    restarts,
                    sample: slot.sample,
                    header: slot.header.clone(),
                    is_new_header,
                    piece: slot.piece.clone(),
                }));
            }
            position += 1;
        }
        // Chunks of other lanes need not be looked at again.
        let end = self.slots.end();
        for (lane, place) in cursor.lanes.iter_mut().enumerate() {
            if takes(lane) {
                *place = place.skip_to(end);
            }
        }
    }

    /// Starts waiting lanes that have a start point now, and moves lanes beyond their lag bound to the newest one.
    fn start_or_jump(&self, cursor: &mut Cursor, taken: &mut TakenChunks) {
        for (number, lane) in self.lanes.iter().enumerate() {
            let Some(place) = cursor.lanes.get_mut(number) else {
                continue;
            };
            let start = lane
                .newest_start
                .filter(|start| *start >= self.slots.first());
            let at = place.position();
            match (*place, at, start) {
                (LanePosition::Waiting(since), _, Some(newest)) => {
                    let first = since.and_then(|since| self.first_start(number, since));
                    *place = LanePosition::Starting(first.unwrap_or(newest));
                }
                (_, Some(at), Some(start))
                    if start > at
                        && (at < self.slots.first()
                            || lane.rule.is_stale(self.behind(number, at))) =>
                {
                    *place = LanePosition::Starting(start);
                    taken.jumps += 1;
                }
                // Its next chunk was dropped and there is no start point, so it waits for one.
                (_, Some(at), None) if at < self.slots.first() => {
                    *place = LanePosition::Waiting(Some(self.slots.end()));
                    taken.jumps += 1;
                    taken.waits = true;
                }
                (LanePosition::Waiting(since), _, None) => {
                    *place = LanePosition::Waiting(since.or(Some(self.slots.end())));
                    taken.waits = true;
                }
                (_, Some(at), _) if !lane.rule.max_lag.is_zero() => {
                    taken.waits |= self.behind(number, at) > lane.rule.max_lag;
                }
                _ => {}
            }
        }
    }

    /// Start point of a viewer that has waited since the ring ended at `since`: the lane's first one from there on, if
    /// there was none before and it is within the lag bound.
    fn first_start(&self, lane: usize, since: u64) -> Option<u64> {
        let mut starts = self.slots.positions().filter_map(|(position, slot)| {
            (slot.access == Access::Start && usize::from(slot.lane) == lane).then_some(position)
        });
        let first = starts.next().filter(|first| *first >= since)?;
        let rule = self.lanes.get(lane)?.rule;
        (!rule.is_stale(self.behind(lane, first))).then_some(first)
    }

    /// Lag: how much older the lane's first chunk at or after `at` is than the newest chunk.
    fn behind(&self, lane: usize, at: u64) -> Duration {
        let newest = self.slots.back().map(|slot| slot.at).unwrap_or_default();
        let mut since = self.slots.since(at);
        let next = since.find(|slot| usize::from(slot.lane) == lane);
        next.map_or(Duration::ZERO, |slot| newest.saturating_sub(slot.at))
    }
}
