//! A ring that a source writes and muxers follow.

use super::ring::{Bounds, Entry, Info, Numbers, Past, Ring};
use crate::media::{
    group::Group,
    h264::{avcc::DecoderConfig, repeat},
    sample::{Codec, Sample, Times},
    time::ticks,
};
use bytes::Bytes;
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

/// Repeats of H.264 are no closer together than this.
const LEAST_PACE: Duration = Duration::from_millis(100);
/// Who asks for the first time in a long silence does not get all of it.
const MOST_AT_ONCE: u32 = 50;
/// Who fills silences looks no later than this after it is time, if it is awake.
const AWAKE: Duration = Duration::from_millis(300);
/// Nor is a longer gap in the times filled from its beginning.
const MOST_IN_GAP: u32 = 100;

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
    /// The newest picture, if the tracks are still the same.
    newest: Option<Arc<Sample>>,
    /// When it came.
    came: Instant,
    /// It cannot be repeated.
    unrepeatable: bool,
    /// Somebody wants repeats in silences.
    is_filled: bool,
    /// When that is to be looked at next, if it was since the newest picture.
    look: Option<Instant>,
    /// Nothing is repeated before.
    held_until: Option<Instant>,
    /// Decode time of the newest picture of all.
    reached: Option<u64>,
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
                newest: None,
                came: Instant::now(),
                unrepeatable: false,
                is_filled: false,
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

    /// Publishes the newest picture once more if none came for so long and more may come: a JPEG once, H.264 as far apart
    /// as its pictures are, for all of the silence. Says when to ask next, if there is a picture to repeat.
    pub fn repeat(&self, now: Instant, after: Duration) -> Option<Instant> {
        let mut state = self.lock();
        state.is_filled = true;
        let newest = state.newest.clone()?;
        let is_jpeg = newest.codec() == Codec::Jpeg;
        if !state.may_repeat() || (is_jpeg && newest.repeat > 0) {
            return None;
        }
        let pace = match is_jpeg {
            true => after,
            false => pace(state.ring.info()?),
        };
        // Who looks so late was suspended, and the source perhaps with it: what that has to give goes first.
        if state.look.is_some_and(|look| now > look + AWAKE) {
            state.held_until = Some(now + after);
        }
        // Known for a silence, or not yet; a slow source's next picture may be a little late.
        let due = match newest.repeat {
            0 if is_jpeg => state.came + after,
            0 => state.came + after.max(2 * pace),
            _ => state.came + pace,
        };
        let due = state.held_until.map_or(due, |until| due.max(until));
        state.look = Some(due.max(now));
        if now < due {
            return Some(due);
        }
        let passed = ((now - state.came).as_nanos() / pace.as_nanos().max(1)) as u32;
        let again = state.again(&newest, pace, passed, MOST_AT_ONCE)?;
        let came = state.came + pace * passed;
        state.look = Some(came + pace);
        add(state, again, came);
        Some(came + pace)
    }

    /// The calling thread is unparked on every addition that `ear` is for, until the reader is dropped.
    pub fn reader(self: &Arc<Feed>, ear: Ear) -> Reader {
        let id = self.next_reader.fetch_add(1, Ordering::Relaxed);
        let thread = std::thread::current();
        self.lock().readers.insert(id, (thread, ear));
        Reader {
            feed: self.clone(),
            id,
            past: Cell::new(None),
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
        self.feed.lock().ring.hold(self.id, None);
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

impl State {
    fn may_repeat(&self) -> bool {
        !self.unrepeatable && !self.ring.is_full_of_repeats()
    }

    /// What belongs between the newest picture and `entry`, if that is a picture of so much later that repeats fit between: of a source
    /// or an encoder that left pictures out, for who lists them in parts of a promised length.
    fn fill_gap(&mut self, entry: &Entry) -> Option<Vec<Entry>> {
        let Entry::Sample(next) = entry else {
            return None;
        };
        let newest = self.newest.as_ref()?;
        if !self.is_filled || next.is_sound() || newest.codec() == Codec::Jpeg || !self.may_repeat()
        {
            return None;
        }
        let gap = next.decode_time.saturating_sub(newest.decode_time);
        let pace = pace(self.ring.info()?);
        if gap <= 2 * ticks(pace) {
            return None;
        }
        // None where the next picture is.
        let passed = (gap - 1) / ticks(pace).max(1);
        let newest = newest.clone();
        self.again(&newest, pace, u32::try_from(passed).ok()?, MOST_IN_GAP)
    }

    /// The newest picture once more in the last `most` of `passed` places behind it, `pace` apart. `None` where it cannot be repeated.
    fn again(
        &mut self,
        newest: &Arc<Sample>,
        pace: Duration,
        passed: u32,
        most: u32,
    ) -> Option<Vec<Entry>> {
        let mut nals = None;
        if newest.codec() != Codec::Jpeg && newest.repeat == 0 {
            nals = repeat_of(&self.ring);
            if nals.is_none() {
                self.unrepeatable = true;
                return None;
            }
        }
        // Behind what is shown later than it is decoded.
        let recent = self.ring.pictures().take(repeat::LOOKED_AT);
        let shown = recent.map(|picture| picture.shown_at()).max().unwrap_or(0);
        let shown = shown.max(newest.shown_at());
        let (mut last, mut before) = (newest.clone(), Duration::ZERO);
        let places = passed.saturating_sub(most - 1).max(1)..=passed;
        let again = places.map(|nth| {
            let silence = pace * nth - before;
            let decode_time = last.decode_time + ticks(silence).max(1);
            let offset = (shown + u64::from(nth)).saturating_sub(decode_time);
            let times = Times {
                decode_time,
                composition_offset: i32::try_from(offset).unwrap_or(0),
                duration: u32::try_from(ticks(pace)).unwrap_or(0),
                captured_at: last.captured_at + u64::try_from(silence.as_micros()).unwrap_or(0),
            };
            before = pace * nth;
            last = Arc::new(last.again(times, nals.take()));
            Entry::Sample(last.clone())
        });
        Some(again.collect())
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
                    *sample = Arc::new(later);
                }
                all_sound = false;
                state.reached = Some(sample.decode_time);
                state.newest = Some(sample.clone());
                (state.came, state.unrepeatable) = (now, false);
                if sample.repeat == 0 {
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
        .filter(|(_, ear)| !all_sound || *ear == Ear::Open)
        .map(|(thread, _)| thread.clone())
        .collect();
    drop(state);
    for thread in wake {
        thread.unpark();
    }
}

/// How far apart repeats are: as whole pictures make it, so that what is cut by time comes out as before.
fn pace(info: &Info) -> Duration {
    let rate = info.video.as_ref().map_or(0.0, |video| video.frame_rate);
    if !rate.is_finite() || rate < 0.01 {
        return LEAST_PACE;
    }
    let apart = Duration::from_secs_f32(1.0 / rate);
    let pictures = (LEAST_PACE.as_secs_f32() * rate).ceil().max(1.0);
    apart.mul_f32(pictures)
}

/// H.264 that shows again what is shown after the newest picture.
fn repeat_of(ring: &Ring) -> Option<Vec<Bytes>> {
    let config = DecoderConfig::parse(&ring.info()?.video.as_ref()?.config).ok()?;
    let newest = ring.pictures().take(repeat::LOOKED_AT);
    let mut pictures: Vec<&[Bytes]> = newest.filter_map(|picture| picture.nals()).collect();
    pictures.reverse();
    let oldest = ring.pictures().take(repeat::LOOKED_AT).last()?;
    let pps = oldest.sets().map_or(&config.pps, |sets| &sets.pps);
    repeat::repeat(config.sps.first()?, pps, &pictures)
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.feed.lock();
        state.readers.remove(&self.id);
        state.ring.release(self.id);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::{
        media::{
            h264::testing::{PpsOptions, SliceOptions, SpsOptions},
            time::{Moment, TIMESCALE},
        },
        source::{Sink, SourceTimes},
        stream::{Ingest, Status},
    };

    const AFTER: Duration = Duration::from_millis(500);
    const SECOND: u64 = TIMESCALE as u64;

    /// On a clock that shows so many ticks.
    fn ingest(feed: &Arc<Feed>, clock: &Arc<AtomicU64>) -> Ingest {
        let status = Arc::new(Status::new("stream", Arc::default()));
        let clock = clock.clone();
        let now = move || Moment {
            elapsed: Duration::from_micros(clock.load(Ordering::Relaxed) * 100 / 9),
            ..Moment::default()
        };
        Ingest::new(feed.clone(), status, 0, Box::new(now))
    }

    fn samples(feed: &Arc<Feed>) -> Vec<Arc<Sample>> {
        let reader = feed.reader(Ear::Open);
        let entries = (0..reader.end()).map(|at| reader.next(at, 0));
        let samples = entries.filter_map(|next| match next {
            Next::Entry(Entry::Sample(sample), _) => Some(sample),
            _ => None,
        });
        samples.collect()
    }

    /// Decode time, time of showing, and which repeat it is.
    fn places(feed: &Arc<Feed>) -> Vec<(u64, u64, u32)> {
        let places = |sample: &Arc<Sample>| (sample.decode_time, sample.shown_at(), sample.repeat);
        samples(feed).iter().map(places).collect()
    }

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
        let reader = feed.reader(Ear::Open);
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
    fn who_waited_for_the_first_picture_starts_there_however_many_groups_come_at_once() {
        let feed = Feed::new(Numbers::own(0, Duration::from_secs(1)));
        let publish = |nth: u64| {
            let times = Times {
                decode_time: nth * SECOND,
                ..Times::default()
            };
            let picture = Sample::h264(times, nth.is_multiple_of(2), vec![Bytes::new()]);
            feed.publish(Entry::Sample(Arc::new(picture)));
        };
        let watch = feed.reader(Ear::Deaf);
        let since = watch.wait_and_hold(1000, 1);
        assert_eq!(since, Some(0));
        // Far more than is kept without need.
        (0..100).for_each(publish);
        let reader = feed.reader(Ear::Open);
        assert_eq!(reader.start_and_hold(1000, 1, since).0, 0);
        watch.rest();
        publish(100);
        assert!(matches!(
            reader.next(0, 1000),
            Next::Entry(Entry::Sample(_), _)
        ));
        let late = feed.reader(Ear::Open);
        assert_eq!(late.wait_and_hold(1000, 1), None);
        assert_eq!(late.start_and_hold(1000, 1, None).0, 100);
        reader.rest();
        publish(101);
        assert!(matches!(reader.next(0, 1000), Next::Lost(..)));
    }

    #[test]
    fn a_jpeg_is_repeated_once_in_each_silence_while_the_source_is_there() {
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        assert_eq!(feed.repeat(Instant::now() + AFTER, AFTER), None);
        let jpeg = |time| {
            let times = Times {
                decode_time: time,
                ..Times::default()
            };
            feed.publish(Entry::Sample(Arc::new(Sample::jpeg(times, Bytes::new()))));
        };
        jpeg(0);
        let came = feed.lock().came;
        assert_eq!(feed.repeat(came + AFTER / 2, AFTER), Some(came + AFTER));
        feed.repeat(came + AFTER, AFTER);
        assert_eq!(feed.repeat(came + 2 * AFTER, AFTER), None);
        jpeg(SECOND);
        let came = feed.lock().came;
        feed.repeat(came + AFTER, AFTER);
        jpeg(3 * SECOND);
        feed.publish(Entry::Stop("gone".into()));
        assert_eq!(feed.repeat(came + 10 * AFTER, AFTER), None);
        let half = SECOND / 2;
        assert_eq!(
            places(&feed),
            [
                (0, 0, 0),
                (half, half, 1),
                (SECOND, SECOND, 0),
                (SECOND + half, SECOND + half, 1),
                (3 * SECOND, 3 * SECOND, 0)
            ]
        );
    }

    #[test]
    fn h264_is_repeated_as_long_as_a_silence_lasts_and_what_comes_too_early_after_it_is_put_behind()
    {
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let picture = |frame_num: u32| SliceOptions {
            idr: frame_num == 0,
            frame_num,
            slice_type: if frame_num == 0 { 2 } else { 0 },
            order: [2 * frame_num as i32, 0],
            ..SliceOptions::default()
        };
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        let clock = Arc::<AtomicU64>::default();
        let mut ingest = ingest(&feed, &clock);
        // Shown a tenth of a second after it is decoded.
        let mut push = |frame_num: u32, decode: i64| {
            clock.fetch_max(decode as u64, Ordering::Relaxed);
            let times = SourceTimes {
                decode: Some(decode),
                presentation: Some(decode + 9000),
                duration: 0,
            };
            let slice = picture(frame_num).nal(&sps, &pps);
            ingest.access_unit(vec![sps.nal(), pps.nal(), slice], times);
        };
        push(0, 0);
        push(1, 3000);
        let came = feed.lock().came;
        // The whole of it when it is known for a silence, and on from there.
        assert_eq!(
            feed.repeat(came + 4 * LEAST_PACE, AFTER),
            Some(came + AFTER)
        );
        assert_eq!(samples(&feed).len(), 2);
        for nth in 5..=7 {
            let due = feed.repeat(came + nth * LEAST_PACE, AFTER);
            assert_eq!(due, Some(came + (nth + 1) * LEAST_PACE));
        }
        // Held up on its way, and one behind it.
        push(2, 6000);
        push(3, 3000 + 2 * SECOND as i64);
        let tenth = SECOND / 10;
        let mut expected = vec![(0, 9000, 0), (3000, 12_000, 0)];
        // The first is shown right behind the last picture.
        expected.push((3000 + tenth, 12_001, 1));
        expected.extend((2..=7).map(|nth| (3000 + nth * tenth, 3000 + nth * tenth, nth as u32)));
        let (late, last) = (3001 + 7 * tenth, 3000 + 2 * SECOND);
        expected.push((late, late, 0));
        // Another gap, of which the clock of this test says nothing.
        expected.extend((1..=12).map(|nth| (late + nth * tenth, late + nth * tenth, nth as u32)));
        expected.push((last, last + 9000, 0));
        assert_eq!(places(&feed), expected);

        let all = samples(&feed);
        assert!(all[2].nals() == all[4].nals() && !all[2].independent);
        // Who asks late does not get more than can be of use.
        let came = feed.lock().came;
        feed.repeat(came + Duration::from_secs(3600), AFTER);
        assert_eq!(samples(&feed).len(), all.len() + MOST_AT_ONCE as usize);
        let reached = places(&feed).last().unwrap().0;
        assert_eq!(reached, last + 3600 * SECOND);
        let reader = feed.reader(Ear::Open);
        assert!(reader.has_all_pictures(all.len() as u64 + 1));
    }

    #[test]
    fn a_silence_that_was_slept_through_is_none() {
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        let mut ingest = ingest(&feed, &Arc::default());
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let slice = SliceOptions {
            idr: true,
            slice_type: 2,
            ..SliceOptions::default()
        };
        let nals = vec![sps.nal(), pps.nal(), slice.nal(&sps, &pps)];
        ingest.access_unit(nals, SourceTimes::default());
        let came = feed.lock().came;
        assert_eq!(feed.repeat(came, AFTER), Some(came + AFTER));
        // Three seconds later all wake up, and whoever looks first finds nothing.
        let woke = came + Duration::from_secs(3);
        assert_eq!(feed.repeat(woke, AFTER), Some(woke + AFTER));
        let other = woke + Duration::from_millis(1);
        assert_eq!(feed.repeat(other, AFTER), Some(woke + AFTER));
        assert_eq!(samples(&feed).len(), 1);
        // But where nothing comes then, it was one.
        assert!(feed.repeat(woke + AFTER, AFTER).is_some());
        assert_eq!(samples(&feed).len(), 36);
    }

    #[test]
    fn a_gap_in_the_times_is_filled_as_the_silence_would_have_been() {
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        let mut ingest = ingest(&feed, &Arc::default());
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let mut push = |nth: u64, at: u64| {
            let slice = SliceOptions {
                idr: nth == 0,
                slice_type: if nth == 0 { 2 } else { 0 },
                frame_num: nth as u32,
                ..SliceOptions::default()
            };
            let sample = Entry::Sample(Arc::new(Sample::h264(
                Times {
                    decode_time: at,
                    ..Times::default()
                },
                nth == 0,
                vec![slice.nal(&sps, &pps)],
            )));
            match nth {
                0 => ingest.access_unit(
                    vec![sps.nal(), pps.nal(), slice.nal(&sps, &pps)],
                    SourceTimes::default(),
                ),
                _ => feed.publish(sample),
            }
        };
        push(0, 0);
        push(1, 2 * SECOND);
        assert_eq!(samples(&feed).len(), 2, "nobody asked for repeats");
        feed.repeat(Instant::now(), AFTER);
        push(2, 2 * SECOND + SECOND / 2);
        push(3, 4 * SECOND);
        let tenth = SECOND / 10;
        let times: Vec<_> = places(&feed).into_iter().map(|(at, ..)| at).collect();
        let mut expected = vec![0, 2 * SECOND];
        expected.extend((21..=40).map(|nth| nth * tenth));
        assert_eq!(times, expected);
        assert_eq!(places(&feed)[20], (39 * tenth, 39 * tenth, 14));
    }

    #[test]
    fn what_cannot_be_repeated_is_not_tried_again_until_the_next_picture() {
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        let sps = SpsOptions {
            fields: true,
            ..SpsOptions::default()
        };
        let pps = PpsOptions::default();
        let slice = SliceOptions {
            idr: true,
            slice_type: 2,
            ..SliceOptions::default()
        };
        let nals = vec![sps.nal(), pps.nal(), slice.nal(&sps, &pps)];
        ingest(&feed, &Arc::default()).access_unit(nals, SourceTimes::default());
        let came = feed.lock().came;
        assert_eq!(feed.repeat(came, AFTER), Some(came + AFTER));
        for nth in 1..3 {
            assert_eq!(feed.repeat(came + nth * AFTER, AFTER), None);
        }
        assert_eq!(samples(&feed).len(), 1);
    }
}
