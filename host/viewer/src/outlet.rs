//! The recent chunks of a muxer, and cursors over them: one ring for all viewers, no queue per viewer.
//!
//! Each lane has start points (keyframes) and a lag bound. A new viewer starts at the newest start point, and a viewer
//! that has fallen behind the lag bound jumps to it, so slow viewers skip data instead of queueing it. The ring keeps
//! what viewers within their lag bound still need, plus everything since the newest start points. Chunks and headers
//! are shared by reference. The muxer's thread publishes; viewers' tasks take chunks under the same lock and are woken
//! after it is released.

mod cursor;
mod ring;

pub use cursor::Cursor;

use super::{
    item::{Item, SampleTime},
    piece::{Content, Piece},
};
use parking_lot::{Mutex, MutexGuard};
use ring::{Ring, Slot};
use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

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

#[cfg(test)]
mod tests;
