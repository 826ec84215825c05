//! What a muxer has given out lately, and cursors over it: one ring for all viewers, no queue per viewer.

use super::{
    item::{Chunk, Item, SampleTime},
    piece::{Content, Piece},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Bytes and chunks kept for viewers that are behind; beyond, the oldest go and who needed them jumps.
const MAX_BYTES: usize = 64 << 20;
const MAX_CHUNKS: usize = 16_384;
/// A lane without a chunk for this long has gone quiet, and its start point is no longer kept for new viewers: it would keep
/// the chunks of all other lanes, too. The age of the start point itself does not matter, as groups may last for minutes.
const QUIET: Duration = Duration::from_secs(60);

/// What is sent before the chunks that were made under it.
#[derive(Debug, Default)]
pub struct Header(Vec<Piece>);

impl Header {
    /// A header of these pieces.
    pub fn new(pieces: Vec<Content>) -> Header {
        Header(pieces.into_iter().map(Piece::new).collect())
    }

    /// What it consists of, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Size of its pieces in bytes.
    fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.content().len()).sum()
    }

    /// Whether a viewer that has this one has the other too.
    pub fn same(&self, other: &Header) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|(one, two)| one.content().same(two.content()))
    }
}

/// One chunk in the ring.
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

/// Which viewers get a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Those who wait start with it, the others get it, too.
    Start,
    /// Those who were there before the newest start: it is shown before that, and made from what those lack who began there.
    Leading,
    /// All who have started.
    Ordinary,
}

impl From<bool> for Access {
    /// Whether viewers may start there.
    fn from(start: bool) -> Access {
        if start {
            Access::Start
        } else {
            Access::Ordinary
        }
    }
}

/// The chunks of one muxer.
#[derive(Debug, Default)]
pub struct Outlet {
    ring: Mutex<Ring>,
}

impl Outlet {
    /// Sets how far viewers may fall behind, per lane. Lanes of a swapped plugin replace the old ones.
    pub fn set_lanes(&self, stale: Vec<Duration>) {
        self.lock().set_lanes(stale);
    }

    /// The position behind the newest chunk, for [`Cursor::since`].
    pub fn end(&self) -> u64 {
        self.lock().end()
    }

    /// The header of the chunks that follow.
    pub fn set_header(&self, header: Header) {
        let mut ring = self.lock();
        if !ring.header.same(&header) {
            ring.header = Arc::new(header);
        }
    }

    /// Adds chunks made at `at` for `sample`, and wakes the viewers.
    pub fn publish<A: Into<Access>>(
        &self,
        chunks: impl IntoIterator<Item = (Content, u8, A)>,
        at: Duration,
        sample: Option<SampleTime>,
    ) {
        let published = Instant::now();
        let mut ring = self.lock();
        let before = ring.end();
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
        if ring.end() != before {
            wake_all(ring);
        }
    }

    /// Nothing will follow: viewers end when they have got what is there.
    pub fn close(&self, reason: &str) {
        let mut ring = self.lock();
        ring.closed = Some(reason.into());
        wake_all(ring);
    }

    /// Why nothing will follow.
    pub fn closed(&self) -> Option<Arc<str>> {
        self.lock().closed.clone()
    }

    /// Whether a viewer has come to wait for a start point since the newest one.
    pub fn start_wanted(&self) -> bool {
        self.lock().start_wanted
    }

    /// Bytes held for viewers.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Appends what the viewer gets next to `items`, in order: at least one chunk if there is any, at most about `budget` bytes.
    /// Otherwise the task is woken when there is more, or nothing will follow.
    pub fn poll_take(
        &self,
        context: &mut Context<'_>,
        cursor: &mut Cursor,
        budget: usize,
        items: &mut VecDeque<Item>,
    ) -> Poll<Next> {
        let mut ring = self.lock();
        let taken = ring.take(cursor, budget, items);
        ring.start_wanted |= taken.waits;
        if taken.chunks > 0 {
            return Poll::Ready(Next::Taken(taken));
        }
        if let Some(reason) = &ring.closed {
            return Poll::Ready(Next::Closed(reason.clone()));
        }
        ring.wait(cursor, context.waker());
        Poll::Pending
    }

    /// The viewer has gone: its task is kept for no wake-up.
    pub fn forget(&self, cursor: &Cursor) {
        if let Some(waiting) = self.lock().waiting_of(cursor) {
            *waiting = None;
        }
    }

    #[cfg(test)]
    fn take(&self, cursor: &mut Cursor, budget: usize, items: &mut VecDeque<Item>) -> Taken {
        self.lock().take(cursor, budget, items)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes who waits, without the lock.
fn wake_all(mut ring: MutexGuard<'_, Ring>) {
    let room = ring.waiting.len();
    let wake = std::mem::replace(&mut ring.waiting, Vec::with_capacity(room));
    ring.wakes += 1;
    drop(ring);
    wake.into_iter().flatten().for_each(Waker::wake);
}

/// What a viewer finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Chunks were put out.
    Taken(Taken),
    /// Nothing will follow, for this reason.
    Closed(Arc<str>),
}

/// What was put out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Chunks put out.
    pub chunks: u32,
    /// Bytes put out.
    pub bytes: usize,
    /// Jumps to a newer start point.
    pub jumps: u32,
    /// A lane needs a newer start point than there is.
    pub waits: bool,
    /// When the muxer gave out the oldest of the chunks, of those since the viewer came.
    pub published: Option<Instant>,
}

/// A viewer's place in the ring.
#[derive(Debug)]
pub struct Cursor {
    /// Its place among those who wait, and before which wake-up that was.
    waits: Option<(u64, usize)>,
    lanes: Vec<Place>,
    header: Option<Arc<Header>>,
    since: Instant,
    /// The end of the ring when the viewer came, if that is known.
    came: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Waits for a start point of the lane, since the ring ended at this position; `None`: it has not looked yet.
    Waiting(Option<u64>),
    /// Begins, or begins anew, with the start point at this position.
    Starting(u64),
    /// Has everything of the lane between its start point and this position, but for what leads that.
    Joined(u64),
    /// Has everything of the lane before this position since the start point before the newest.
    At(u64),
    /// Does not get the lane.
    Off,
}

impl Place {
    /// Of the next chunk it gets.
    fn position(self) -> Option<u64> {
        match self {
            Place::Starting(at) | Place::Joined(at) | Place::At(at) => Some(at),
            Place::Waiting(_) | Place::Off => None,
        }
    }

    /// There is nothing for it before `position`.
    fn skip_to(self, position: u64) -> Place {
        match self {
            Place::Starting(at) => Place::Starting(position.max(at)),
            Place::Joined(at) => Place::Joined(position.max(at)),
            Place::At(at) => Place::At(position.max(at)),
            other => other,
        }
    }

    /// Whether it gets a chunk at `position`, and where it is then.
    fn pass(self, position: u64, access: Access) -> (bool, Place) {
        let next = position + 1;
        match (self, access) {
            (Place::Starting(_), _) => (true, Place::Joined(next)),
            (Place::Joined(_), Access::Start) => (true, Place::At(next)),
            (Place::Joined(_), access) => (access != Access::Leading, Place::Joined(next)),
            (Place::At(_), _) => (true, Place::At(next)),
            (other, _) => (false, other),
        }
    }
}

impl Cursor {
    /// A viewer that has got nothing yet.
    #[expect(
        clippy::new_without_default,
        reason = "a cursor knows when it was made"
    )]
    pub fn new() -> Cursor {
        Cursor {
            waits: None,
            lanes: Vec::new(),
            header: None,
            since: Instant::now(),
            came: None,
        }
    }

    /// The same of one that came when the outlet ended at `came` ([`Outlet::end`]). If there was no start point then, it starts
    /// at the first that followed, so that it gets all of a burst.
    pub fn since(came: u64) -> Cursor {
        Cursor {
            came: Some(came),
            ..Cursor::new()
        }
    }

    /// From here on only these lanes.
    pub fn choose(&mut self, lanes: &[u8]) {
        let most = lanes
            .iter()
            .map(|lane| usize::from(*lane) + 1)
            .max()
            .unwrap_or(0);
        if self.lanes.len() < most {
            self.lanes.resize(most, Place::Waiting(self.came));
        }
        for (lane, place) in self.lanes.iter_mut().enumerate() {
            let wanted = lanes.iter().any(|chosen| usize::from(*chosen) == lane);
            *place = match (wanted, *place) {
                (false, _) => Place::Off,
                (true, Place::Off) => Place::Waiting(None),
                (true, place) => place,
            };
        }
    }
}

#[derive(Debug, Default)]
struct Ring {
    slots: VecDeque<Slot>,
    first: u64,
    bytes: usize,
    header: Arc<Header>,
    lanes: Vec<Lane>,
    closed: Option<Arc<str>>,
    start_wanted: bool,
    /// Since the newest wake-up.
    waiting: Vec<Option<Waker>>,
    wakes: u64,
}

#[derive(Debug)]
struct Lane {
    stale: Duration,
    newest_start: Option<u64>,
    /// When its newest chunk was made.
    newest: Duration,
}

impl Ring {
    fn waiting_of(&mut self, cursor: &Cursor) -> Option<&mut Option<Waker>> {
        let (wakes, place) = cursor.waits?;
        if wakes != self.wakes {
            return None;
        }
        self.waiting.get_mut(place)
    }

    fn wait(&mut self, cursor: &mut Cursor, waker: &Waker) {
        match self.waiting_of(cursor) {
            Some(Some(known)) => known.clone_from(waker),
            Some(empty) => *empty = Some(waker.clone()),
            None => {
                cursor.waits = Some((self.wakes, self.waiting.len()));
                self.waiting.push(Some(waker.clone()));
            }
        }
    }

    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn slot(&self, position: u64) -> Option<&Slot> {
        self.slots
            .get(usize::try_from(position.checked_sub(self.first)?).ok()?)
    }

    fn set_lanes(&mut self, stale: Vec<Duration>) {
        let old = std::mem::take(&mut self.lanes);
        let mut old = old.into_iter();
        self.lanes = stale
            .into_iter()
            .map(|stale| {
                let before = old.next();
                Lane {
                    stale,
                    newest_start: before.as_ref().and_then(|lane| lane.newest_start),
                    newest: before.map_or(Duration::ZERO, |lane| lane.newest),
                }
            })
            .collect();
    }

    fn push(&mut self, slot: Slot) {
        let (position, at) = (self.end(), slot.at);
        let Some(state) = self.lanes.get_mut(usize::from(slot.lane)) else {
            return;
        };
        state.newest = at;
        if slot.access == Access::Start {
            state.newest_start = Some(position);
            self.start_wanted = false;
        }
        self.bytes += slot.piece.content().len();
        self.slots.push_back(slot);
        self.evict(at);
    }

    fn evict(&mut self, now: Duration) {
        let stale = self
            .lanes
            .iter()
            .map(|lane| lane.stale)
            .max()
            .unwrap_or_default();
        let pinned = self
            .lanes
            .iter()
            .filter(|lane| now.saturating_sub(lane.newest) < QUIET)
            .filter_map(|lane| lane.newest_start)
            .filter(|start| *start >= self.first)
            .min()
            .unwrap_or(u64::MAX);
        while let Some(front) = self.slots.front() {
            let unneeded = self.first < pinned && now.saturating_sub(front.at) > stale;
            let too_much = self.bytes > MAX_BYTES || self.slots.len() > MAX_CHUNKS;
            if self.slots.len() == 1 || !(unneeded || too_much) {
                return;
            }
            if let Some(gone) = self.slots.pop_front() {
                self.bytes -= gone.piece.content().len();
            }
            self.first += 1;
        }
    }

    fn take(&self, cursor: &mut Cursor, budget: usize, items: &mut VecDeque<Item>) -> Taken {
        let mut taken = Taken::default();
        if cursor.lanes.len() < self.lanes.len() {
            cursor
                .lanes
                .resize(self.lanes.len(), Place::Waiting(cursor.came));
        }
        self.settle(cursor, &mut taken);
        let from = cursor.lanes.iter().filter_map(|place| place.position());
        let Some(mut position) = from.min() else {
            return taken;
        };
        while let Some(slot) = self.slot(position) {
            let place = cursor.lanes.get_mut(usize::from(slot.lane));
            if let Some(place) = place
                && place.position().is_some_and(|at| at <= position)
            {
                if taken.chunks > 0 && taken.bytes >= budget {
                    return taken;
                }
                let restarts = matches!(place, Place::Starting(_));
                let gets;
                (gets, *place) = place.pass(position, slot.access);
                if !gets {
                    position += 1;
                    continue;
                }
                let known = cursor
                    .header
                    .as_ref()
                    .is_some_and(|header| Arc::ptr_eq(header, &slot.header));
                let header = (!known).then(|| slot.header.clone());
                if let Some(header) = &header {
                    taken.bytes += header.len();
                    cursor.header = Some(header.clone());
                }
                taken.bytes += slot.piece.content().len();
                taken.chunks += 1;
                if taken.published.is_none() && slot.published >= cursor.since {
                    taken.published = Some(slot.published);
                }
                items.push_back(Item::Chunk(Chunk {
                    lane: slot.lane,
                    starts_group: slot.access == Access::Start,
                    restarts,
                    sample: slot.sample,
                    header,
                    piece: slot.piece.clone(),
                }));
            }
            position += 1;
        }
        // What was passed over in quiet lanes need not be looked at again.
        let end = self.end();
        for place in &mut cursor.lanes {
            *place = place.skip_to(end);
        }
        taken
    }

    /// Starts lanes that have a start point now, and moves lanes that are too far behind to their newest one.
    fn settle(&self, cursor: &mut Cursor, taken: &mut Taken) {
        for (number, lane) in self.lanes.iter().enumerate() {
            let Some(place) = cursor.lanes.get_mut(number) else {
                continue;
            };
            let start = lane.newest_start.filter(|start| *start >= self.first);
            let at = place.position();
            match (*place, at, start) {
                (Place::Waiting(since), _, Some(newest)) => {
                    let first = since.and_then(|since| self.first_start(number, since));
                    *place = Place::Starting(first.unwrap_or(newest));
                }
                (_, Some(at), Some(start))
                    if start > at
                        && (at < self.first
                            || lane.stale.is_zero()
                            || self.behind(number, at) > lane.stale) =>
                {
                    *place = Place::Starting(start);
                    taken.jumps += 1;
                }
                // What it needed next is gone and there is no start point: it waits for one.
                (_, Some(at), None) if at < self.first => {
                    *place = Place::Waiting(Some(self.end()));
                    taken.jumps += 1;
                    taken.waits = true;
                }
                (Place::Waiting(since), _, None) => {
                    *place = Place::Waiting(since.or(Some(self.end())));
                    taken.waits = true;
                }
                (_, Some(at), _) if !lane.stale.is_zero() => {
                    taken.waits |= self.behind(number, at) > lane.stale;
                }
                _ => {}
            }
        }
    }

    /// Where a viewer starts that has waited since the ring ended at `since`: the lane's first start point from there on, if there
    /// was none before and that one is within the lane's lag bound.
    fn first_start(&self, lane: usize, since: u64) -> Option<u64> {
        let mut starts = (self.first..)
            .zip(&self.slots)
            .filter_map(|(position, slot)| {
                (slot.access == Access::Start && usize::from(slot.lane) == lane).then_some(position)
            });
        let first = starts.next().filter(|first| *first >= since)?;
        let stale = self.lanes.get(lane)?.stale;
        (!stale.is_zero() && self.behind(lane, first) <= stale).then_some(first)
    }

    /// How much older the lane's chunk at or after `at` is than the newest chunk.
    fn behind(&self, lane: usize, at: u64) -> Duration {
        let newest = self.slots.back().map(|slot| slot.at).unwrap_or_default();
        let skip = usize::try_from(at.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let next = self
            .slots
            .iter()
            .skip(skip)
            .find(|slot| usize::from(slot.lane) == lane);
        next.map_or(Duration::ZERO, |slot| newest.saturating_sub(slot.at))
    }
}

#[cfg(test)]
mod tests;
