//! A [`Feed`]: a ring that one thread writes and muxers, decoders and transcoders follow.
//!
//! The writer appends under the lock and unparks the followers after releasing it. A [`Reader`] is one thread's
//! registration: it is woken for new entries, and tells the ring how much of the past to keep. It pulls by position, so
//! a slow reader blocks nobody: it gets [`Next::Lost`] with the position to resume at. `ingest` and the transcoders
//! write feeds; the muxers of `host/plugin` and the transcoders read them. The submodule `repeats` fills silences.

mod repeats;

use super::{
    info::Info,
    ring::{Bounds, Entry, GroupNumbers, HistorySpan, Ring},
};
use parking_lot::{Mutex, MutexGuard};
use sluicegate_media::{group::Group, sample::Sample};
use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::Thread,
    time::{Duration, Instant},
};

/// A ring, and the threads to wake when something is added.
#[derive(Debug)]
pub struct Feed {
    state: Mutex<State>,
    next_reader: AtomicU64,
    /// The feed whose frames this one is made from, if it is derived.
    source: Option<Arc<Feed>>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    readers: BTreeMap<u64, (Thread, WakeOn)>,
    /// The newest frame or repeat, if no discontinuity followed it.
    newest: Option<Arc<Sample>>,
    /// When `newest` arrived.
    arrived: Instant,
    /// When the newest frame that is not a repeat arrived, and its presentation time.
    last_frame: (Instant, u64),
    /// `newest` cannot be repeated.
    unrepeatable: bool,
    /// Whether repeats have been requested since `repeat_readers`, the number of readers that request them, was zero.
    repeats_requested: bool,
    repeat_readers: usize,
    /// When to check for a silence next, if that was done since the newest frame.
    next_check: Option<Instant>,
    /// No repeats before this time.
    no_repeats_before: Option<Instant>,
    /// Decode time of the newest frame or repeat, across discontinuities.
    reached: Option<u64>,
}

/// Which additions wake a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WakeOn {
    /// All of them.
    All,
    /// All but audio.
    VideoOnly,
}

impl Feed {
    /// Creates an empty feed, whose groups are numbered by `numbers`.
    pub fn new(numbers: GroupNumbers) -> Arc<Feed> {
        Feed::of(None, numbers)
    }

    /// Creates an empty feed for what is made from the frames of `source`. It counts as silent only while `source` is.
    pub fn derived_from(source: &Arc<Feed>, numbers: GroupNumbers) -> Arc<Feed> {
        Feed::of(Some(source.clone()), numbers)
    }

    fn of(source: Option<Arc<Feed>>, numbers: GroupNumbers) -> Arc<Feed> {
        Arc::new(Feed {
            source,
            state: Mutex::new(State {
                ring: Ring::new(Bounds::default(), numbers),
                readers: BTreeMap::new(),
                newest: None,
                arrived: Instant::now(),
                last_frame: (Instant::now(), 0),
                unrepeatable: false,
                repeats_requested: false,
                repeat_readers: 0,
                next_check: None,
                no_repeats_before: None,
                reached: None,
            }),
            next_reader: AtomicU64::new(1),
        })
    }

    /// Appends an entry and wakes the readers after the lock is released. A gap in time before the entry is filled with
    /// repeats, if those are in use.
    pub fn publish(&self, entry: Entry) {
        let mut state = self.lock();
        let again = state.fill_gap(&entry);
        let again = again.into_iter().flatten();
        add(state, again.chain([entry]), Instant::now());
    }

    /// Wakes all readers although nothing was added, for those that wait for something other than an entry.
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

    /// Registers the calling thread: it is unparked for every addition that `wake_on` selects, until the reader is
    /// dropped.
    pub fn reader(self: &Arc<Feed>, wake_on: WakeOn) -> Reader {
        let id = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        self.lock().readers.insert(id, (thread, wake_on));
        Reader {
            feed: self.clone(),
            id,
            past: Cell::new(None),
            requests_repeats: Cell::new(false),
        }
    }

    /// Whether the newest group is larger than the ring; see [`Ring::is_cut`].
    pub fn is_cut(&self) -> bool {
        self.lock().ring.is_cut()
    }

    /// Bytes of coded media in the ring.
    pub fn bytes(&self) -> usize {
        self.lock().ring.bytes()
    }

    /// Position of the newest frame that is not a repeat.
    pub fn newest_frame(&self) -> Option<u64> {
        self.lock().ring.newest_frame()
    }

    /// The newest tracks.
    pub fn info(&self) -> Option<Arc<Info>> {
        self.lock().ring.info().cloned()
    }

    /// How the groups of this feed are numbered.
    pub fn numbers(&self) -> GroupNumbers {
        self.lock().ring.numbers().clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// One thread's registration with a feed.
#[derive(Debug)]
pub struct Reader {
    feed: Arc<Feed>,
    id: u64,
    /// End of the past when it started, until it has read up to there.
    past: Cell<Option<u64>>,
    /// Whether it has requested repeats.
    requests_repeats: Cell<bool>,
}

/// Result of [`Reader::next`].
#[derive(Debug)]
pub enum Next {
    /// The entry at the position, with its group if it is a sample.
    Entry(Entry, Group),
    /// There is none yet.
    Wait,
    /// The entry was evicted, because the reader was too slow. It may resume at this position, which has these tracks.
    Lost(u64, Option<Arc<Info>>),
}

impl Reader {
    /// Keeps `history` groups of `group_ms` for this reader. Returns the position to start at, which is the start of
    /// the oldest of those groups or else the end of the feed, and the tracks there.
    pub fn start(&self, group_ms: u32, history: u32) -> (u64, Option<Arc<Info>>) {
        self.start_in(&mut self.feed.lock().ring, group_ms, history, None)
    }

    /// Like [`Reader::start`], for a reader that needs all of those groups, however long it takes: what it has not read
    /// of them is retained until it has or calls [`Reader::release_history`], within the limits of the ring. A reader
    /// that waited for the first start point since `waited_since`, a result of [`Reader::wait_and_retain`], starts
    /// there, no matter how many groups followed at once.
    pub fn start_and_retain(
        &self,
        group_ms: u32,
        history: u32,
        waited_since: Option<u64>,
    ) -> (u64, Option<Arc<Info>>) {
        let ring = &mut self.feed.lock().ring;
        let (start, info) = self.start_in(ring, group_ms, history, waited_since);
        self.retain(ring, start, ring.end());
        (start, info)
    }

    /// Where something made from this feed begins (see [`Ring::past_start`]), and the tracks there. What it has not
    /// read from there on is retained, as in [`Reader::start_and_retain`].
    pub fn start_in_past(
        &self,
        numbers: &GroupNumbers,
        past: HistorySpan,
    ) -> Option<(u64, Option<Arc<Info>>)> {
        let ring = &mut self.feed.lock().ring;
        let start = ring.past_start(numbers, past)?;
        ring.need(self.id, past.group_ms, 1);
        self.retain(ring, start, ring.end());
        Some((start, ring.info_at(start)))
    }

    /// The oldest entry, and the tracks there. The past is retained until it was read.
    pub fn start_at_oldest(&self) -> (u64, Option<Arc<Info>>) {
        let ring = &mut self.feed.lock().ring;
        ring.need(self.id, 0, 1);
        let start = ring.first();
        self.retain(ring, start, ring.end());
        (start, ring.info_at(start))
    }

    /// Whether a group of `group_ms` begins with the sample at `position`.
    pub fn opens_group(&self, group_ms: u32, position: u64) -> bool {
        self.feed.lock().ring.opens_group(group_ms, position)
    }

    /// If there is no start point yet, returns the position from which this reader waits for one. What follows is
    /// retained, within the limits of the ring, until this reader starts or rests.
    pub fn wait_and_retain(&self, group_ms: u32, history: u32) -> Option<u64> {
        let ring = &mut self.feed.lock().ring;
        if ring.first_start().is_some() {
            return None;
        }
        ring.need(self.id, group_ms, history);
        ring.retain(self.id, Some(ring.end()));
        Some(ring.end())
    }

    /// Declares that the reader will not continue from its position: nothing of the past is retained for it.
    pub fn release_history(&self) {
        self.past.set(None);
        let mut state = self.feed.lock();
        state.ring.retain(self.id, None);
        state.reader_left(self.requests_repeats.take());
    }

    /// The entry at `position`, with its group at `group_ms`.
    pub fn next(&self, position: u64, group_ms: u32) -> Next {
        let mut state = self.feed.lock();
        if let Some(past) = self.past.get() {
            self.retain(&mut state.ring, position, past);
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
        let resume_at = state
            .ring
            .newest_start_after(position)
            .unwrap_or(state.ring.end());
        Next::Lost(resume_at, state.ring.info_at(resume_at))
    }

    /// Where to jump if the reader is late: if the sample before `position` is more than `ticks` behind the newest
    /// frame, the newest independent sample that is at or after `position`.
    pub fn later_start(&self, position: u64, ticks: u64) -> Option<u64> {
        let state = self.feed.lock();
        let reached = state.ring.get(position.checked_sub(1)?)?;
        let newest = state.ring.get(state.ring.newest_frame()?)?;
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
        if !self.requests_repeats.replace(true) {
            self.feed.lock().repeat_readers += 1;
        }
        self.feed.repeat(now, after)
    }

    /// Whether `position` is beyond the newest frame.
    pub fn has_all_frames(&self, position: u64) -> bool {
        let newest = self.feed.lock().ring.newest_frame();
        newest.is_none_or(|newest| newest < position)
    }

    /// Position after the newest entry.
    pub fn end(&self) -> u64 {
        self.feed.lock().ring.end()
    }

    /// See [`GroupNumbers::longest`].
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

    /// Retains the entries from `position` to `past`, if there are any.
    fn retain(&self, ring: &mut Ring, position: u64, past: u64) {
        let unread = (position < past).then_some(position);
        ring.retain(self.id, unread);
        self.past.set(unread.and(Some(past)));
    }
}

/// Appends `entries` and wakes the readers after the lock is released. `now` is when the last of them arrived.
fn add(mut state: MutexGuard<'_, State>, entries: impl IntoIterator<Item = Entry>, now: Instant) {
    let mut all_audio = true;
    for mut entry in entries {
        match &mut entry {
            Entry::Sample(sample) if sample.is_audio() => {}
            Entry::Sample(sample) => {
                // The source's time may be earlier than the repeats that filled its silence.
                let ahead = |reached: &u64| sample.decode_time <= *reached;
                if let Some(reached) = state.reached.filter(ahead) {
                    let mut later = Sample::clone(sample);
                    later.place_after(reached);
                    if state.ring.numbers().is_own() {
                        // The group index is keyed by the new time.
                        later.group_time = None;
                    }
                    *sample = Arc::new(later);
                }
                all_audio = false;
                state.reached = Some(sample.decode_time);
                state.newest = Some(sample.clone());
                (state.arrived, state.unrepeatable) = (now, false);
                if sample.repeat == 0 {
                    state.last_frame = (now, sample.presentation_time());
                    (state.next_check, state.no_repeats_before) = (None, None);
                }
            }
            Entry::Configure(_) | Entry::Stop(_) => {
                all_audio = false;
                state.newest = None;
                (state.next_check, state.no_repeats_before) = (None, None);
            }
        }
        state.ring.push(entry);
    }
    let readers = state.readers.values();
    let wake: Vec<Thread> = readers
        .filter(|(_, wake_on)| !all_audio || *wake_on == WakeOn::All)
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
        state.reader_left(self.requests_repeats.take());
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
    fn groups_that_begin_meanwhile_take_nothing_from_readers_of_the_past() {
        const GROUP: u64 = 60;
        let feed = Feed::new(GroupNumbers::own(0, Duration::from_secs(1)));
        let publish = |nth: u64| {
            let times = Times {
                decode_time: nth * SECOND / 30,
                ..Times::default()
            };
            let frame = Sample::h264(times, nth.is_multiple_of(GROUP), vec![Bytes::new()]);
            feed.publish(Entry::Sample(Arc::new(frame)));
        };
        let reads_all = |reader: &Reader, from: u64, to: u64| {
            (from..to).all(|at| matches!(reader.next(at, 1000), Next::Entry(Entry::Sample(_), _)))
        };
        let gone = |position| feed.lock().ring.get(position).is_none();

        // Twenty groups of two seconds; sixteen are kept.
        let reader = feed.reader(WakeOn::All);
        reader.start_and_retain(1000, 16, None);
        (0..20 * GROUP).for_each(publish);
        let (start, _) = reader.start_and_retain(1000, 16, None);
        assert_eq!(start, 4 * GROUP);
        assert!(gone(start - 1));
        let reached = start + 10;
        assert!(reads_all(&reader, start, reached));
        (20 * GROUP..25 * GROUP).for_each(publish);
        assert!(gone(reached - 2) && reads_all(&reader, reached, 25 * GROUP));
        // Once it has caught up, as much is kept as before.
        publish(25 * GROUP);
        assert!(gone(10 * GROUP - 1) && !gone(10 * GROUP));

        // Nothing is kept for a reader that rests.
        let (start, _) = reader.start_and_retain(1000, 16, None);
        assert_eq!(start, 10 * GROUP);
        reader.release_history();
        (25 * GROUP + 1..=26 * GROUP).for_each(publish);
        assert!(
            gone(start)
                && matches!(reader.next(start, 1000), Next::Lost(resume_at, _) if resume_at == 26 * GROUP)
        );
    }

    #[test]
    fn a_reader_that_waits_for_the_first_frame_starts_there_after_any_backlog() {
        let feed = Feed::new(GroupNumbers::own(0, Duration::from_secs(1)));
        let publish = |nth: u64| {
            let times = Times {
                decode_time: nth * SECOND,
                ..Times::default()
            };
            let frame = Sample::h264(times, nth.is_multiple_of(2), vec![Bytes::new()]);
            feed.publish(Entry::Sample(Arc::new(frame)));
        };
        let watch = feed.reader(WakeOn::VideoOnly);
        let since = watch.wait_and_retain(1000, 1);
        assert_eq!(since, Some(0));
        // Far more than would be kept without the reader.
        (0..100).for_each(publish);
        let reader = feed.reader(WakeOn::All);
        assert_eq!(reader.start_and_retain(1000, 1, since).0, 0);
        watch.release_history();
        publish(100);
        assert!(matches!(
            reader.next(0, 1000),
            Next::Entry(Entry::Sample(_), _)
        ));
        let late = feed.reader(WakeOn::All);
        assert_eq!(late.wait_and_retain(1000, 1), None);
        assert_eq!(late.start_and_retain(1000, 1, None).0, 100);
        reader.release_history();
        publish(101);
        assert!(matches!(reader.next(0, 1000), Next::Lost(..)));
    }
}
