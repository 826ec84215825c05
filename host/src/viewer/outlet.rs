//! What a muxer has given out lately, and cursors over it: one ring for all viewers, no queue per viewer.

use super::wire::{Carrier, Content, Piece};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Bytes and chunks kept for viewers that are behind; beyond, the oldest go and who needed them jumps.
const MOST_BYTES: usize = 64 << 20;
const MOST_CHUNKS: usize = 16_384;
/// A start point older than this beside the newest chunk is not kept for new viewers of a lane that went quiet.
const OLD_START: Duration = Duration::from_secs(60);

/// What is sent before the chunks that were made under it.
#[derive(Debug, Default)]
pub struct Header(Vec<Piece>);

impl Header {
    /// A header of these pieces.
    pub fn new(pieces: Vec<Content>) -> Header {
        Header(pieces.into_iter().map(Piece::new).collect())
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

    /// The header of the chunks that follow.
    pub fn set_header(&self, header: Header) {
        let mut ring = self.lock();
        if !ring.header.same(&header) {
            ring.header = Arc::new(header);
        }
    }

    /// Adds chunks made at `at` and wakes the viewers.
    pub fn publish<A: Into<Access>>(
        &self,
        chunks: impl IntoIterator<Item = (Content, u8, A)>,
        at: Duration,
    ) {
        let published = Instant::now();
        let mut ring = self.lock();
        let before = ring.end();
        for (content, lane, access) in chunks {
            ring.push(content, lane, access.into(), at, published);
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

    /// What the viewer gets next, in order: at least one chunk if there is any, at most about `budget` bytes.
    /// Otherwise the task is woken when there is more, or nothing will follow.
    pub fn poll_take(
        &self,
        context: &mut Context<'_>,
        cursor: &mut Cursor,
        budget: usize,
        out: &mut VecDeque<Bytes>,
    ) -> Poll<Next> {
        let mut ring = self.lock();
        let taken = ring.take(cursor, budget, out);
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
    fn take(&self, cursor: &mut Cursor, budget: usize, out: &mut VecDeque<Bytes>) -> Taken {
        self.lock().take(cursor, budget, out)
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
    carrier: Carrier,
    lanes: Vec<Place>,
    header: Option<Arc<Header>>,
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Waits for the lane's first start point.
    Waiting,
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
            Place::Waiting | Place::Off => None,
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
    pub fn new(carrier: Carrier) -> Cursor {
        Cursor {
            waits: None,
            carrier,
            lanes: Vec::new(),
            header: None,
            since: Instant::now(),
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
            self.lanes.resize(most, Place::Waiting);
        }
        for (lane, place) in self.lanes.iter_mut().enumerate() {
            let wanted = lanes.iter().any(|chosen| usize::from(*chosen) == lane);
            *place = match (wanted, *place) {
                (false, _) => Place::Off,
                (true, Place::Off) => Place::Waiting,
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
        let mut starts = old.into_iter().map(|lane| lane.newest_start);
        self.lanes = stale
            .into_iter()
            .map(|stale| Lane {
                stale,
                newest_start: starts.next().flatten(),
            })
            .collect();
    }

    fn push(
        &mut self,
        content: Content,
        lane: u8,
        access: Access,
        at: Duration,
        published: Instant,
    ) {
        let position = self.end();
        let Some(state) = self.lanes.get_mut(usize::from(lane)) else {
            return;
        };
        if access == Access::Start {
            state.newest_start = Some(position);
            self.start_wanted = false;
        }
        self.bytes += content.len();
        self.slots.push_back(Slot {
            piece: Arc::new(Piece::new(content)),
            lane,
            access,
            header: self.header.clone(),
            at,
            published,
        });
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
            .filter_map(|lane| lane.newest_start)
            .filter(|start| {
                self.slot(*start)
                    .is_some_and(|slot| now.saturating_sub(slot.at) < OLD_START)
            })
            .min()
            .unwrap_or(u64::MAX);
        while let Some(front) = self.slots.front() {
            let unneeded = self.first < pinned && now.saturating_sub(front.at) > stale;
            let too_much = self.bytes > MOST_BYTES || self.slots.len() > MOST_CHUNKS;
            if self.slots.len() == 1 || !(unneeded || too_much) {
                return;
            }
            if let Some(gone) = self.slots.pop_front() {
                self.bytes -= gone.piece.content().len();
            }
            self.first += 1;
        }
    }

    fn take(&self, cursor: &mut Cursor, budget: usize, out: &mut VecDeque<Bytes>) -> Taken {
        let mut taken = Taken::default();
        if cursor.lanes.len() < self.lanes.len() {
            cursor.lanes.resize(self.lanes.len(), Place::Waiting);
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
                if !known {
                    for piece in &slot.header.0 {
                        put(piece, cursor.carrier, out, &mut taken);
                    }
                    cursor.header = Some(slot.header.clone());
                }
                put(&slot.piece, cursor.carrier, out, &mut taken);
                taken.chunks += 1;
                if taken.published.is_none() && slot.published >= cursor.since {
                    taken.published = Some(slot.published);
                }
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
                (Place::Waiting, _, Some(start)) => *place = Place::Starting(start),
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
                    *place = Place::Waiting;
                    taken.jumps += 1;
                    taken.waits = true;
                }
                (Place::Waiting, _, None) => taken.waits = true,
                (_, Some(at), _) if !lane.stale.is_zero() => {
                    taken.waits |= self.behind(number, at) > lane.stale;
                }
                _ => {}
            }
        }
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

fn put(piece: &Piece, carrier: Carrier, out: &mut VecDeque<Bytes>, taken: &mut Taken) {
    for bytes in piece.wire(carrier) {
        taken.bytes += bytes.len();
        out.push_back(bytes.clone());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn content(text: &str) -> Content {
        Content::Binary(Bytes::copy_from_slice(text.as_bytes()).into())
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn read(outlet: &Outlet, cursor: &mut Cursor) -> (String, u32) {
        let mut out = VecDeque::new();
        let taken = outlet.take(cursor, usize::MAX, &mut out);
        let text: Vec<u8> = out.into_iter().flatten().collect();
        (String::from_utf8(text).unwrap(), taken.jumps)
    }

    fn outlet(stale: u64) -> Outlet {
        let outlet = Outlet::default();
        outlet.set_lanes(vec![ms(stale)]);
        outlet.set_header(Header::new(vec![content("<h>")]));
        outlet
    }

    #[test]
    fn a_late_viewer_gets_the_header_and_the_newest_start() {
        let outlet = outlet(1000);
        outlet.publish(
            [
                (content("a"), 0, true),
                (content("b"), 0, false),
                (content("C"), 0, true),
                (content("d"), 0, false),
            ],
            ms(0),
        );
        let mut cursor = Cursor::new(Carrier::Http);
        assert_eq!(read(&outlet, &mut cursor), ("<h>Cd".into(), 0));
        outlet.publish([(content("e"), 0, false)], ms(10));
        assert_eq!(read(&outlet, &mut cursor), ("e".into(), 0));
        assert_eq!(read(&outlet, &mut cursor), (String::new(), 0));
    }

    #[test]
    fn who_starts_gets_nothing_that_leads_the_start_and_who_was_there_before_gets_all() {
        let outlet = outlet(1000);
        let (mut before, mut there) = (Cursor::new(Carrier::Http), Cursor::new(Carrier::Http));
        let publish = |chunks: &[(&str, Access)], at| {
            let chunks = chunks
                .iter()
                .map(|(text, access)| (content(text), 0, *access));
            outlet.publish(chunks, ms(at));
        };
        use Access::{Leading, Ordinary, Start};
        publish(&[("A", Start), ("b", Ordinary)], 0);
        assert_eq!(read(&outlet, &mut before).0, "<h>Ab");
        publish(&[("C", Start)], 10);
        assert_eq!(read(&outlet, &mut there).0, "<h>C");
        publish(&[("d", Leading), ("e", Leading)], 20);
        // Nothing for it: it waits, and is where it has to be.
        assert_eq!(read(&outlet, &mut there).0, "");
        publish(&[("f", Ordinary)], 30);
        let mut late = Cursor::new(Carrier::Http);
        assert_eq!(read(&outlet, &mut before).0, "Cdef");
        assert_eq!(read(&outlet, &mut there).0, "f");
        assert_eq!(read(&outlet, &mut late).0, "<h>Cf");
        publish(&[("G", Start), ("h", Leading), ("i", Ordinary)], 40);
        for cursor in [&mut before, &mut there, &mut late] {
            assert_eq!(read(&outlet, cursor).0, "Ghi");
        }
        // Who jumps starts there.
        publish(&[("x", Ordinary)], 50);
        publish(&[("J", Start), ("k", Leading), ("l", Ordinary)], 2000);
        assert_eq!(read(&outlet, &mut there), ("Jl".into(), 1));
    }

    #[test]
    fn a_viewer_too_far_behind_jumps_forward_and_is_counted() {
        let outlet = outlet(1000);
        let mut cursor = Cursor::new(Carrier::Http);
        outlet.publish([(content("a"), 0, true)], ms(0));
        assert_eq!(read(&outlet, &mut cursor).0, "<h>a");
        outlet.publish([(content("b"), 0, false)], ms(100));
        outlet.publish([(content("C"), 0, true)], ms(900));
        outlet.publish([(content("d"), 0, false)], ms(1200));
        assert_eq!(read(&outlet, &mut cursor), ("Cd".into(), 1));
    }

    #[test]
    fn a_viewer_a_little_behind_gets_everything() {
        let outlet = outlet(1000);
        let mut cursor = Cursor::new(Carrier::Http);
        outlet.publish([(content("a"), 0, true)], ms(0));
        outlet.publish([(content("B"), 0, true)], ms(900));
        let mut early = Cursor::new(Carrier::Http);
        early.lanes = vec![Place::At(0)];
        assert_eq!(read(&outlet, &mut early), ("<h>aB".into(), 0));
        assert_eq!(read(&outlet, &mut cursor).0, "<h>B");
    }

    #[test]
    fn with_a_lag_bound_of_zero_only_the_newest_counts() {
        let outlet = outlet(0);
        let mut cursor = Cursor::new(Carrier::Http);
        outlet.publish([(content("a"), 0, true)], ms(0));
        read(&outlet, &mut cursor);
        outlet.publish([(content("b"), 0, true), (content("c"), 0, true)], ms(1));
        assert_eq!(read(&outlet, &mut cursor), ("c".into(), 1));
    }

    #[test]
    fn a_changed_header_comes_before_the_next_chunk_and_an_equal_one_does_not() {
        let outlet = outlet(1000);
        let mut cursor = Cursor::new(Carrier::Http);
        outlet.publish([(content("a"), 0, true)], ms(0));
        read(&outlet, &mut cursor);
        outlet.set_header(Header::new(vec![content("<h>")]));
        outlet.publish([(content("b"), 0, true)], ms(1));
        assert_eq!(read(&outlet, &mut cursor).0, "b");
        outlet.set_header(Header::new(vec![content("<new>")]));
        outlet.publish([(content("c"), 0, true)], ms(2));
        assert_eq!(read(&outlet, &mut cursor).0, "<new>c");
    }

    #[test]
    fn a_websocket_gets_text_and_frame_headers_http_passes_text_over() {
        let outlet = outlet(1000);
        outlet.publish([(Content::Text("hi".into()), 0, true)], ms(0));
        assert_eq!(read(&outlet, &mut Cursor::new(Carrier::Http)).0, "<h>");
        let mut out = VecDeque::new();
        outlet.take(&mut Cursor::new(Carrier::WebSocket), usize::MAX, &mut out);
        let bytes: Vec<u8> = out.into_iter().flatten().collect();
        assert_eq!(bytes, [&[0x82, 3][..], b"<h>", &[0x81, 2], b"hi"].concat());
    }

    #[test]
    fn a_viewer_of_one_lane_gets_no_other() {
        let outlet = Outlet::default();
        outlet.set_lanes(vec![ms(1000), ms(1000)]);
        let mut cursor = Cursor::new(Carrier::Http);
        cursor.choose(&[1]);
        outlet.publish(
            [
                (content("a"), 0, true),
                (content("x"), 1, true),
                (content("b"), 0, false),
                (content("y"), 1, false),
            ],
            ms(0),
        );
        assert_eq!(read(&outlet, &mut cursor).0, "xy");
    }

    #[test]
    fn who_waits_is_woken_once_and_who_has_gone_is_held_no_longer() {
        struct Task(std::sync::atomic::AtomicU32);
        impl std::task::Wake for Task {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let outlet = outlet(1000);
        let tasks: Vec<Arc<Task>> = (0..3).map(|_| Arc::new(Task(0.into()))).collect();
        let mut cursors: Vec<Cursor> = tasks.iter().map(|_| Cursor::new(Carrier::Http)).collect();
        for _ in 0..2 {
            for (task, cursor) in tasks.iter().zip(&mut cursors) {
                let waker = Waker::from(task.clone());
                let next = outlet.poll_take(
                    &mut Context::from_waker(&waker),
                    cursor,
                    1,
                    &mut VecDeque::new(),
                );
                assert!(next.is_pending());
            }
        }
        outlet.forget(&cursors[1]);
        assert_eq!(Arc::strong_count(&tasks[1]), 1);
        outlet.publish([(content("a"), 0, true)], ms(0));
        outlet.publish([(content("b"), 0, true)], ms(1));
        // Of the wake-up before the last.
        outlet.forget(&cursors[0]);
        let woken: Vec<u32> = tasks
            .iter()
            .map(|task| task.0.load(std::sync::atomic::Ordering::SeqCst))
            .collect();
        assert_eq!(woken, [1, 0, 1]);
    }

    proptest! {
        /// However slowly a viewer reads: chunks come once, in order, and after a jump at an independent one.
        #[test]
        fn delivery_is_in_order_and_jumps_land_on_start_points(
            events in prop::collection::vec((0u64..400, any::<bool>(), prop::option::of(0usize..40)), 1..300)) {
            let outlet = Outlet::default();
            outlet.set_lanes(vec![ms(1000)]);
            let mut cursor = Cursor::new(Carrier::Http);
            let (mut now, mut number, mut last) = (0u64, 0u32, None::<u32>);
            let mut starts = Vec::new();
            for (step, independent, read) in events {
                now += step;
                if independent { starts.push(number); }
                outlet.publish([(Content::Binary(Bytes::copy_from_slice(&number.to_be_bytes()).into()), 0, independent)], ms(now));
                number += 1;
                let Some(budget) = read else { continue };
                let mut out = VecDeque::new();
                let taken = outlet.take(&mut cursor, budget, &mut out);
                let all: Vec<u8> = out.into_iter().flatten().collect();
                for (nth, bytes) in all.chunks(4).enumerate() {
                    let got = u32::from_be_bytes(bytes.try_into().unwrap());
                    let goes_on = last.is_some_and(|last| got == last + 1);
                    prop_assert!(goes_on || starts.contains(&got));
                    prop_assert!(goes_on || last.is_none() || (nth == 0 && taken.jumps == 1));
                    prop_assert!(last.is_none_or(|last| got > last));
                    last = Some(got);
                }
            }
        }
    }
}
