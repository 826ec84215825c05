//! A ring that a source writes and muxers follow.

use super::ring::{Bounds, Entry, Info, Numbers, Ring};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::Thread,
};

/// One ring, and the threads to wake when something is added.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    next_reader: AtomicU64,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    readers: BTreeMap<u64, (Thread, Ear)>,
}

/// What a reader is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ear {
    /// Everything.
    Open,
    /// Everything but sound.
    Deaf,
}

impl Feed {
    /// An empty feed, whose groups are counted so.
    pub fn new(numbers: Numbers) -> Arc<Feed> {
        Arc::new(Feed {
            state: Mutex::new(State {
                ring: Ring::new(Bounds::default(), numbers),
                readers: BTreeMap::new(),
            }),
            next_reader: AtomicU64::new(1),
        })
    }

    /// Adds an entry and wakes the readers. The lock is not held while they are woken.
    pub fn publish(&self, entry: Entry) {
        let sound = matches!(&entry, Entry::Sample(sample) if sample.is_sound());
        let wake: Vec<Thread> = {
            let mut state = self.lock();
            state.ring.push(entry);
            let readers = state.readers.values();
            readers
                .filter(|(_, ear)| !sound || *ear == Ear::Open)
                .map(|(thread, _)| thread.clone())
                .collect()
        };
        for thread in wake {
            thread.unpark();
        }
    }

    /// The calling thread is unparked on every addition that `ear` is for, until the reader is dropped.
    pub fn reader(self: &Arc<Feed>, ear: Ear) -> Reader {
        let id = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        self.lock().readers.insert(id, (thread, ear));
        Reader {
            feed: self.clone(),
            id,
        }
    }

    /// Whether the newest group is larger than the ring; see [`Ring::is_cut`].
    pub fn is_cut(&self) -> bool {
        self.lock().ring.is_cut()
    }

    /// Bytes of coded pictures held.
    pub fn bytes(&self) -> usize {
        self.lock().ring.bytes()
    }

    /// The newest tracks.
    pub fn info(&self) -> Option<Arc<Info>> {
        self.lock().ring.info().cloned()
    }

    /// How its groups are counted.
    pub fn numbers(&self) -> Numbers {
        self.lock().ring.numbers().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's view of a feed.
#[derive(Debug)]
pub struct Reader {
    feed: Arc<Feed>,
    id: u64,
}

/// What a reader finds at a position.
#[derive(Debug)]
pub enum Next {
    /// The entry there; for a sample with its group number.
    Entry(Entry, u64),
    /// Nothing yet.
    Wait,
    /// It is gone: the reader was too slow. It may go on at this position, whose tracks these are.
    Lost(u64, Option<Arc<Info>>),
}

impl Reader {
    /// Keeps `history` groups of `group_ms` for this reader, and says where it starts: at the oldest of them, else at
    /// what comes next; and the tracks there.
    pub fn start(&self, group_ms: u32, history: u32) -> (u64, Option<Arc<Info>>) {
        let mut state = self.feed.lock();
        state.ring.need(self.id, group_ms, history);
        let end = state.ring.end();
        let start = state.ring.history_start(group_ms, history).unwrap_or(end);
        (start, state.ring.info_at(start))
    }

    /// The entry at `position`.
    pub fn next(&self, position: u64, group_ms: u32) -> Next {
        let state = self.feed.lock();
        if let Some(entry) = state.ring.get(position) {
            let group = match entry {
                Entry::Sample(_) => state.ring.group(group_ms, position).unwrap_or(0),
                _ => 0,
            };
            return Next::Entry(entry.clone(), group);
        }
        if position >= state.ring.end() {
            return Next::Wait;
        }
        let on = state
            .ring
            .newest_start_after(position)
            .unwrap_or(state.ring.end());
        Next::Lost(on, state.ring.info_at(on))
    }

    /// If the sample before `position` is more than `ticks` behind the newest one: the newest independent sample, if
    /// that is at or after `position`.
    pub fn later_start(&self, position: u64, ticks: u64) -> Option<u64> {
        let state = self.feed.lock();
        let reached = state.ring.get(position.checked_sub(1)?)?;
        let newest = state.ring.get(state.ring.end().checked_sub(1)?)?;
        match (reached, newest) {
            (Entry::Sample(reached), Entry::Sample(newest))
                if newest.decode_time > reached.decode_time.saturating_add(ticks) =>
            {
                state.ring.newest_start_after(position)
            }
            _ => None,
        }
    }

    /// The first sound at or after that decode time, else what comes next; and the tracks there.
    pub fn sound_from(&self, decode_time: u64) -> (u64, Option<Arc<Info>>) {
        let state = self.feed.lock();
        let position = state.ring.sound_from(decode_time);
        (position, state.ring.info_at(position))
    }

    /// Whether the newest picture is before `position`.
    pub fn has_all_pictures(&self, position: u64) -> bool {
        let newest = self.feed.lock().ring.newest_picture();
        newest.is_none_or(|newest| newest < position)
    }

    /// The position after the newest entry.
    pub fn end(&self) -> u64 {
        self.feed.lock().ring.end()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.feed.lock();
        state.readers.remove(&self.id);
        state.ring.release(self.id);
    }
}
