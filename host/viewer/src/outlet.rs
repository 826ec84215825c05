//! The recent chunks of a muxer, and cursors over them: one ring for all viewers, no queue per viewer.
//!
//! Each lane has start points (keyframes) and a lag bound. A new viewer starts at the newest start point, and a viewer
//! that has fallen behind the lag bound jumps to it, so slow viewers skip data instead of queueing it. The ring keeps
//! what viewers within their lag bound still need, plus everything since the newest start points. Chunks and headers
//! are shared by reference. The muxer's thread publishes; viewers' tasks take chunks under the same lock and are woken
//! after it is released.

use super::{
    item::{Chunk, Item, SampleTime},
    piece::{Content, Piece},
};
use parking_lot::{Mutex, MutexGuard};
use sluicegate_telemetry::{Sequence, Size};
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
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

/// What a viewer needs before the chunks that were published under this header.
#[derive(Debug, Default)]
pub struct Header(Vec<Piece>);

impl Header {
    /// A header that consists of these pieces.
    pub fn new(pieces: Vec<Content>) -> Header {
        Header(pieces.into_iter().map(Piece::new).collect())
    }

    /// Its pieces, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Total size of its pieces in bytes.
    fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.content().len()).sum()
    }

    /// Whether both have the same content, so that a viewer with one does not need the other.
    pub fn same(&self, other: &Header) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|(one, two)| one.content().same(two.content()))
    }
}

/// How the chunks of a lane are delivered; `transport.lane` in `wit/gateway.wit`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneRule {
    /// Lag bound. Zero: only the newest group counts, however short the lag.
    pub max_lag: Duration,
    /// Chunks that fit go as datagrams, on carriers that have them.
    pub datagrams: bool,
}

impl LaneRule {
    /// A lane with this lag bound, without datagrams.
    pub fn new(max_lag: Duration) -> LaneRule {
        LaneRule {
            max_lag,
            datagrams: false,
        }
    }

    /// Whether what lags so much is skipped once there is a newer start point.
    pub fn is_stale(&self, lag: Duration) -> bool {
        self.max_lag.is_zero() || lag > self.max_lag
    }
}

/// A chunk in the ring.
#[derive(Debug)]
struct Slot {
    piece: Arc<Piece>,
    lane: u8,
    access: Access,
    header: Arc<Header>,
    sample: Option<SampleTime>,
    at: Duration,
    published: Instant,
}

impl Size for Slot {
    fn size(&self) -> usize {
        self.piece.content().len()
    }
}

/// Which viewers get a chunk, by where they started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// All viewers; waiting ones start here.
    Start,
    /// Viewers that started before the newest start point. It is presented before that start point and refers to frames
    /// that a viewer who starts there lacks.
    Leading,
    /// All viewers that have started.
    Ordinary,
}

impl From<bool> for Access {
    /// `true`: viewers may start there.
    fn from(start: bool) -> Access {
        if start {
            Access::Start
        } else {
            Access::Ordinary
        }
    }
}

/// The ring of one muxer's chunks.
#[derive(Debug, Default)]
pub struct Outlet {
    ring: Mutex<Ring>,
}

impl Outlet {
    /// Sets the rule of each lane. If a component is replaced, its lanes take the place of the old ones with the same
    /// index.
    pub fn set_lanes(&self, rules: Vec<LaneRule>) {
        self.lock().set_lanes(rules);
    }

    /// Position after the newest chunk, for [`Cursor::since`].
    pub fn end(&self) -> u64 {
        self.lock().slots.end()
    }

    /// Sets the header of the chunks that follow.
    pub fn set_header(&self, header: Header) {
        let mut ring = self.lock();
        if !ring.header.same(&header) {
            ring.header = Arc::new(header);
        }
    }

    /// The header of the chunks that follow.
    pub fn header(&self) -> Vec<Content> {
        let ring = self.lock();
        let pieces = ring.header.pieces().iter();
        pieces.map(|piece| piece.content().clone()).collect()
    }

    /// Appends chunks and wakes the viewers. `at` is the time since the muxer started, which lag is measured by;
    /// `sample` is what the chunks were made from.
    pub fn publish<A: Into<Access>>(
        &self,
        chunks: impl IntoIterator<Item = (Content, u8, A)>,
        at: Duration,
        sample: Option<SampleTime>,
    ) {
        let published = Instant::now();
        let mut ring = self.lock();
        let before = ring.slots.end();
        for (content, lane, access) in chunks {
            let header = ring.header.clone();
            ring.push(Slot {
                piece: Arc::new(Piece::new(content)),
                lane,
                access: access.into(),
                header,
                sample,
                at,
                published,
            });
        }
        if ring.slots.end() != before {
            wake_all(ring);
        }
    }

    /// Ends the outlet: viewers get the chunks that are left, then `reason`.
    pub fn close(&self, reason: &str) {
        let mut ring = self.lock();
        ring.closed = Some(reason.into());
        wake_all(ring);
    }

    /// Reason of [`Outlet::close`]; `None` while the outlet is open.
    pub fn closed(&self) -> Option<Arc<str>> {
        self.lock().closed.clone()
    }

    /// Whether a viewer has begun to wait for a start point since the newest one was published.
    pub fn start_wanted(&self) -> bool {
        self.lock().start_wanted
    }

    /// Bytes of all chunks in the ring.
    pub fn bytes(&self) -> usize {
        self.lock().slots.bytes()
    }

    /// Appends the viewer's next chunks to `items`, in order: at least one if there is any, and about `budget` bytes at
    /// most. If there is none, the task is woken when chunks are published or the outlet is closed.
    pub fn poll_take(
        &self,
        context: &mut Context<'_>,
        cursor: &mut Cursor,
        budget: usize,
        items: &mut VecDeque<Item>,
    ) -> Poll<Next> {
        self.poll(context, cursor, budget, items, false)
    }

    /// Like [`Outlet::poll_take`], but appends only chunks of lanes that start or restart.
    pub fn poll_restart(
        &self,
        context: &mut Context<'_>,
        cursor: &mut Cursor,
        budget: usize,
        items: &mut VecDeque<Item>,
    ) -> Poll<Next> {
        self.poll(context, cursor, budget, items, true)
    }

    fn poll(
        &self,
        context: &mut Context<'_>,
        cursor: &mut Cursor,
        budget: usize,
        items: &mut VecDeque<Item>,
        only_restarts: bool,
    ) -> Poll<Next> {
        let mut ring = self.lock();
        let mut taken = ring.place(cursor);
        if only_restarts {
            let restarts: Vec<bool> = cursor.lanes.iter().map(|place| place.restarts()).collect();
            ring.take(cursor, budget, items, &mut taken, |lane| {
                restarts.get(lane).is_some_and(|restarts| *restarts)
            });
        } else {
            ring.take(cursor, budget, items, &mut taken, |_| true);
        }
        ring.start_wanted |= taken.waits;
        if taken.chunks > 0 {
            return Poll::Ready(Next::TakenChunks(taken));
        }
        if let Some(reason) = ring.closed.as_ref().filter(|_| !only_restarts) {
            return Poll::Ready(Next::Closed(reason.clone()));
        }
        ring.wait(cursor, context.waker());
        Poll::Pending
    }

    /// Drops the waker of a viewer that has left.
    pub fn forget(&self, cursor: &Cursor) {
        if let Some(waiting) = self.lock().waker_slot(cursor) {
            *waiting = None;
        }
    }

    #[cfg(test)]
    fn take(&self, cursor: &mut Cursor, budget: usize, items: &mut VecDeque<Item>) -> TakenChunks {
        let ring = self.lock();
        let mut taken = ring.place(cursor);
        ring.take(cursor, budget, items, &mut taken, |_| true);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock()
    }
}

/// Releases the lock and wakes all waiting viewers.
fn wake_all(mut ring: MutexGuard<'_, Ring>) {
    let room = ring.waiting.len();
    let wake = std::mem::replace(&mut ring.waiting, Vec::with_capacity(room));
    ring.wakes += 1;
    drop(ring);
    wake.into_iter().flatten().for_each(Waker::wake);
}

/// Result of [`Outlet::poll_take`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Chunks were appended.
    TakenChunks(TakenChunks),
    /// The outlet is closed, for this reason, and the viewer has got everything.
    Closed(Arc<str>),
}

/// Statistics of one [`Outlet::poll_take`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenChunks {
    /// Number of chunks.
    pub chunks: u32,
    /// Bytes of chunks and headers.
    pub bytes: usize,
    /// Number of jumps to a newer start point.
    pub jumps: u32,
    /// Whether a lane waits for a start point newer than any in the ring.
    pub waits: bool,
    /// When the oldest of these chunks was published; chunks from before the viewer arrived do not count.
    pub published: Option<Instant>,
}

/// A viewer's position in the ring, per lane.
#[derive(Debug)]
pub struct Cursor {
    /// Count of wake-ups when it began to wait, and its index in [`Ring::waiting`].
    waits: Option<(u64, usize)>,
    /// Its lanes that the ring had, or that were named by [`Cursor::choose`].
    lanes: Vec<LanePosition>,
    /// Whether lanes were chosen: it gets no others.
    has_chosen: bool,
    header: Option<Arc<Header>>,
    since: Instant,
    /// End of the ring when the viewer arrived, if known.
    arrived_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LanePosition {
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
    fn position(self) -> Option<u64> {
        match self {
            LanePosition::Starting(at) | LanePosition::Joined(at) | LanePosition::At(at) => {
                Some(at)
            }
            LanePosition::Waiting(_) | LanePosition::Off => None,
        }
    }

    /// Whether the lane starts or restarts with a chunk that was not taken yet.
    fn restarts(self) -> bool {
        matches!(self, LanePosition::Starting(_))
    }

    /// Skips to `position`, because the lane has nothing before it.
    fn skip_to(self, position: u64) -> LanePosition {
        match self {
            LanePosition::Starting(at) => LanePosition::Starting(position.max(at)),
            LanePosition::Joined(at) => LanePosition::Joined(position.max(at)),
            LanePosition::At(at) => LanePosition::At(position.max(at)),
            other => other,
        }
    }

    /// Whether the viewer gets the chunk at `position`, and its place after it.
    fn after_chunk(self, position: u64, access: Access) -> (bool, LanePosition) {
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

    /// A cursor of a viewer that arrived when the outlet ended at `arrived_at` ([`Outlet::end`]). If there was no start
    /// point then, it starts at the first one that followed, within the lag bound, so that it gets all of the first
    /// burst.
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

#[derive(Debug, Default)]
struct Ring {
    slots: Sequence<Slot>,
    header: Arc<Header>,
    lanes: Vec<Lane>,
    closed: Option<Arc<str>>,
    start_wanted: bool,
    /// Wakers of the viewers that wait, since the newest wake-up.
    waiting: Vec<Option<Waker>>,
    wakes: u64,
}

#[derive(Debug)]
struct Lane {
    rule: LaneRule,
    newest_start: Option<u64>,
    /// Time of its newest chunk.
    newest: Duration,
}

impl Ring {
    fn waker_slot(&mut self, cursor: &Cursor) -> Option<&mut Option<Waker>> {
        let (wakes, place) = cursor.waits?;
        if wakes != self.wakes {
            return None;
        }
        self.waiting.get_mut(place)
    }

    fn wait(&mut self, cursor: &mut Cursor, waker: &Waker) {
        match self.waker_slot(cursor) {
            Some(Some(known)) => known.clone_from(waker),
            Some(empty) => *empty = Some(waker.clone()),
            None => {
                cursor.waits = Some((self.wakes, self.waiting.len()));
                self.waiting.push(Some(waker.clone()));
            }
        }
    }

    fn set_lanes(&mut self, rules: Vec<LaneRule>) {
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

    fn push(&mut self, slot: Slot) {
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
    fn place(&self, cursor: &mut Cursor) -> TakenChunks {
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
    fn take(
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

#[cfg(test)]
mod tests;
