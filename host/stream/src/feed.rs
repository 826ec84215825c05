//! A ring that a source writes and muxers follow.

mod repeats;

use super::ring::{Bounds, Entry, Info, Numbers, Past, Ring};
use sluicegate_media::{group::Group, sample::Sample};
use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

/// One ring, and the threads to wake when something is added.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    next_reader: AtomicU64,
    /// Whose pictures these are, made into something else.
    source: Option<Arc<Feed>>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    readers: BTreeMap<u64, (Thread, WakeOn)>,
    /// The newest picture, if the tracks are still the same.
    newest: Option<Arc<Sample>>,
    /// When it came.
    came: Instant,
    /// When the newest one came that is no repeat, and when it is shown.
    pictured: (Instant, u64),
    /// It cannot be repeated.
    unrepeatable: bool,
    /// Somebody has asked for repeats in silences since that many began to.
    is_filled: bool,
    fillers: usize,
    /// When that is to be looked at next, if it was since the newest picture.
    look: Option<Instant>,
    /// Nothing is repeated before.
    held_until: Option<Instant>,
    /// Decode time of the newest picture of all.
    reached: Option<u64>,
}

/// What a reader is woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeOn {
    /// Everything.
    Open,
    /// Everything but sound.
    Deaf,
}

impl Feed {
    /// An empty feed, whose groups are counted so.
    pub fn new(numbers: Numbers) -> Arc<Feed> {
        Feed::of(None, numbers)
    }

    /// The same for what is made of the pictures of `source`: in a silence of the source it has one, too.
    pub fn made_of(source: &Arc<Feed>, numbers: Numbers) -> Arc<Feed> {
        Feed::of(Some(source.clone()), numbers)
    }

    fn of(source: Option<Arc<Feed>>, numbers: Numbers) -> Arc<Feed> {
        Arc::new(Feed {
            source,
            state: Mutex::new(State {
                ring: Ring::new(Bounds::default(), numbers),
                readers: BTreeMap::new(),
                newest: None,
                came: Instant::now(),
                pictured: (Instant::now(), 0),
                unrepeatable: false,
                is_filled: false,
                fillers: 0,
                look: None,
                held_until: None,
                reached: None,
            }),
            next_reader: AtomicU64::new(1),
        })
    }

    /// Adds an entry and wakes the readers. The lock is not held while they are woken.
    pub fn publish(&self, entry: Entry) {
        let mut state = self.lock();
        let again = state.fill_gap(&entry);
        let again = again.into_iter().flatten();
        add(state, again.chain([entry]), Instant::now());
    }

    /// Wakes the readers though nothing was added: what they wait for may be no entry.
    pub fn wake(&self) {
        let readers = self.lock();
        let threads: Vec<Thread> = readers
            .readers
            .values()
            .map(|(thread, _)| thread.clone())
            .collect();
        drop(readers);
        threads.iter().for_each(Thread::unpark);
    }

    /// The calling thread is unparked on every addition that `wake_on` is for, until the reader is dropped.
    pub fn reader(self: &Arc<Feed>, wake_on: WakeOn) -> Reader {
        let id = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        self.lock().readers.insert(id, (thread, wake_on));
        Reader {
            feed: self.clone(),
            id,
            past: Cell::new(None),
            fills: Cell::new(false),
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

    /// Position of the newest picture that is held.
    pub fn newest_picture(&self) -> Option<u64> {
        self.lock().ring.newest_picture()
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
    /// Where the past ended when it started, while it is on its way through that.
    past: Cell<Option<u64>>,
    /// It asks for repeats.
    fills: Cell<bool>,
}

/// What a reader finds at a position.
#[derive(Debug)]
pub enum Next {
    /// The entry there; for a sample with its group.
    Entry(Entry, Group),
    /// Nothing yet.
    Wait,
    /// It is gone: the reader was too slow. It may go on at this position, whose tracks these are.
    Lost(u64, Option<Arc<Info>>),
}

impl Reader {
    /// Keeps `history` groups of `group_ms` for this reader, and says where it starts: at the oldest of them, else at
    /// what comes next; and the tracks there.
    pub fn start(&self, group_ms: u32, history: u32) -> (u64, Option<Arc<Info>>) {
        self.start_in(&mut self.feed.lock().ring, group_ms, history, None)
    }

    /// The same for who needs all of them, however long it takes: what it has not read of them stays until it has, but for the
    /// bounds of the ring, or until it rests. Who has waited for the first start point since a position of
    /// [`Reader::wait_and_hold`] starts there, however many groups followed at once.
    pub fn start_and_hold(
        &self,
        group_ms: u32,
        history: u32,
        waited_since: Option<u64>,
    ) -> (u64, Option<Arc<Info>>) {
        let ring = &mut self.feed.lock().ring;
        let (start, info) = self.start_in(ring, group_ms, history, waited_since);
        self.hold(ring, start, ring.end());
        (start, info)
    }

    /// Where what is made of this feed begins (see [`Ring::past_start`]), and the tracks there. What it has not read from there
    /// on stays, as in [`Reader::start_and_hold`].
    pub fn start_in_past(&self, numbers: &Numbers, past: Past) -> Option<(u64, Option<Arc<Info>>)> {
        let ring = &mut self.feed.lock().ring;
        let start = ring.past_start(numbers, past)?;
        ring.need(self.id, past.group_ms, 1);
        self.hold(ring, start, ring.end());
        Some((start, ring.info_at(start)))
    }

    /// The oldest entry, and the tracks there; what is held of the past then stays until it was read.
    pub fn start_at_oldest(&self) -> (u64, Option<Arc<Info>>) {
        let ring = &mut self.feed.lock().ring;
        ring.need(self.id, 0, 1);
        let start = ring.first();
        self.hold(ring, start, ring.end());
        (start, ring.info_at(start))
    }

    /// Whether a group of that `group_ms` begins with the sample at `position`.
    pub fn opens_group(&self, group_ms: u32, position: u64) -> bool {
        self.feed.lock().ring.opens_group(group_ms, position)
    }

    /// If there is nowhere to start yet: the position that is waited from. What follows stays, but for the bounds of the ring,
    /// until this reader starts or rests.
    pub fn wait_and_hold(&self, group_ms: u32, history: u32) -> Option<u64> {
        let ring = &mut self.feed.lock().ring;
        if ring.first_start().is_some() {
            return None;
        }
        ring.need(self.id, group_ms, history);
        ring.hold(self.id, Some(ring.end()));
        Some(ring.end())
    }

    /// Does not go on from where it was: nothing of the past needs to stay for that.
    pub fn rest(&self) {
        self.past.set(None);
        let mut state = self.feed.lock();
        state.ring.hold(self.id, None);
        state.left_by(self.fills.take());
    }

    /// The entry at `position`.
    pub fn next(&self, position: u64, group_ms: u32) -> Next {
        let mut state = self.feed.lock();
        if let Some(past) = self.past.get() {
            self.hold(&mut state.ring, position, past);
        }
        if let Some(entry) = state.ring.get(position) {
            let group = match entry {
                Entry::Sample(_) => state.ring.group(group_ms, position).unwrap_or_default(),
                _ => Group::default(),
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
        let newest = state.ring.get(state.ring.newest_picture()?)?;
        match (reached, newest) {
            (Entry::Sample(reached), Entry::Sample(newest))
                if newest.decode_time > reached.decode_time.saturating_add(ticks) =>
            {
                state.ring.newest_start_after(position)
            }
            _ => None,
        }
    }

    /// See [`Feed::repeat`].
    pub fn repeat(&self, now: Instant, after: Duration) -> Option<Instant> {
        if !self.fills.replace(true) {
            self.feed.lock().fillers += 1;
        }
        self.feed.repeat(now, after)
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

    /// See [`Numbers::longest`].
    pub fn longest_group(&self, group_ms: u32) -> u64 {
        self.feed.lock().ring.numbers().longest(group_ms)
    }

    fn start_in(
        &self,
        ring: &mut Ring,
        group_ms: u32,
        history: u32,
        waited_since: Option<u64>,
    ) -> (u64, Option<Arc<Info>>) {
        ring.need(self.id, group_ms, history);
        let first = ring.first_start();
        let first = first.filter(|first| waited_since.is_some_and(|since| *first >= since));
        let start = first.or_else(|| ring.history_start(group_ms, history));
        let start = start.unwrap_or(ring.end());
        (start, ring.info_at(start))
    }

    /// Keeps what is from `position` to `past`, if there is anything.
    fn hold(&self, ring: &mut Ring, position: u64, past: u64) {
        let unread = (position < past).then_some(position);
        ring.hold(self.id, unread);
        self.past.set(unread.and(Some(past)));
    }
}

/// Wakes the readers when the lock is no longer held. `now`: when the last of them came.
fn add(mut state: MutexGuard<'_, State>, entries: impl IntoIterator<Item = Entry>, now: Instant) {
    let mut all_sound = true;
    for mut entry in entries {
        match &mut entry {
            Entry::Sample(sample) if sample.is_sound() => {}
            Entry::Sample(sample) => {
                // The source's time may be behind what a silence of it was filled with.
                let ahead = |reached: &u64| sample.decode_time <= *reached;
                if let Some(reached) = state.reached.filter(ahead) {
                    let mut later = Sample::clone(sample);
                    later.put_behind(reached);
                    if state.ring.numbers().is_own() {
                        // By that it is counted.
                        later.known_by = None;
                    }
                    *sample = Arc::new(later);
                }
                all_sound = false;
                state.reached = Some(sample.decode_time);
                state.newest = Some(sample.clone());
                (state.came, state.unrepeatable) = (now, false);
                if sample.repeat == 0 {
                    state.pictured = (now, sample.shown_at());
                    (state.look, state.held_until) = (None, None);
                }
            }
            Entry::Configure(_) | Entry::Stop(_) => {
                all_sound = false;
                state.newest = None;
                (state.look, state.held_until) = (None, None);
            }
        }
        state.ring.push(entry);
    }
    let readers = state.readers.values();
    let wake: Vec<Thread> = readers
        .filter(|(_, wake_on)| !all_sound || *wake_on == WakeOn::Open)
        .map(|(thread, _)| thread.clone())
        .collect();
    drop(state);
    for thread in wake {
        thread.unpark();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.feed.lock();
        state.readers.remove(&self.id);
        state.ring.release(self.id);
        state.left_by(self.fills.take());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use bytes::Bytes;
    use sluicegate_media::{sample::Times, time::TIMESCALE};

    const SECOND: u64 = TIMESCALE as u64;

    #[test]
    fn groups_that_begin_meanwhile_take_nothing_from_who_reads_the_past() {
        const GROUP: u64 = 60;
        let feed = Feed::new(Numbers::own(0, Duration::from_secs(1)));
        let publish = |nth: u64| {
            let times = Times {
                decode_time: nth * SECOND / 30,
                ..Times::default()
            };
            let picture = Sample::h264(times, nth.is_multiple_of(GROUP), vec![Bytes::new()]);
            feed.publish(Entry::Sample(Arc::new(picture)));
        };
        let reads_all = |reader: &Reader, from: u64, to: u64| {
            (from..to).all(|at| matches!(reader.next(at, 1000), Next::Entry(Entry::Sample(_), _)))
        };
        let gone = |position| feed.lock().ring.get(position).is_none();

        // Twenty groups of two seconds, sixteen of which stay.
        let reader = feed.reader(WakeOn::Open);
        reader.start_and_hold(1000, 16, None);
        (0..20 * GROUP).for_each(publish);
        let (start, _) = reader.start_and_hold(1000, 16, None);
        assert_eq!(start, 4 * GROUP);
        assert!(gone(start - 1));
        let reached = start + 10;
        assert!(reads_all(&reader, start, reached));
        (20 * GROUP..25 * GROUP).for_each(publish);
        assert!(gone(reached - 2) && reads_all(&reader, reached, 25 * GROUP));
        // As much as before, when it has got there.
        publish(25 * GROUP);
        assert!(gone(10 * GROUP - 1) && !gone(10 * GROUP));

        // Nor is anything kept for who does not go on.
        let (start, _) = reader.start_and_hold(1000, 16, None);
        assert_eq!(start, 10 * GROUP);
        reader.rest();
        (25 * GROUP + 1..=26 * GROUP).for_each(publish);
        assert!(
            gone(start)
                && matches!(reader.next(start, 1000), Next::Lost(on, _) if on == 26 * GROUP)
        );
    }

    #[test]
    fn a_reader_that_waits_for_the_first_picture_starts_there_after_any_backlog() {
        let feed = Feed::new(Numbers::own(0, Duration::from_secs(1)));
        let publish = |nth: u64| {
            let times = Times {
                decode_time: nth * SECOND,
                ..Times::default()
            };
            let picture = Sample::h264(times, nth.is_multiple_of(2), vec![Bytes::new()]);
            feed.publish(Entry::Sample(Arc::new(picture)));
        };
        let watch = feed.reader(WakeOn::Deaf);
        let since = watch.wait_and_hold(1000, 1);
        assert_eq!(since, Some(0));
        // Far more than is kept without need.
        (0..100).for_each(publish);
        let reader = feed.reader(WakeOn::Open);
        assert_eq!(reader.start_and_hold(1000, 1, since).0, 0);
        watch.rest();
        publish(100);
        assert!(matches!(
            reader.next(0, 1000),
            Next::Entry(Entry::Sample(_), _)
        ));
        let late = feed.reader(WakeOn::Open);
        assert_eq!(late.wait_and_hold(1000, 1), None);
        assert_eq!(late.start_and_hold(1000, 1, None).0, 100);
        reader.rest();
        publish(101);
        assert!(matches!(reader.next(0, 1000), Next::Lost(..)));
    }
}
