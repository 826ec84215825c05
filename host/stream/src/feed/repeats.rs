//! Repeats of the newest frame where frames are missing: in a silence of the source, and in a gap of the times.
//!
//! Players of HLS need parts of a promised length in time, and browsers paint a JPEG only when the next part begins. A
//! repeat is an ordinary entry of the feed, published once for all who follow it: a JPEG once per silence, H.264 as a
//! P-frame of skipped macroblocks (`media::h264::repeat`) for as long as the silence lasts. Muxers whose profile has
//! `repeat-ms` call [`Reader::repeat`](super::Reader::repeat); nothing here has a thread or a timer.
//!
//! What looks like a silence need not be one. After a suspend of the machine the source gets time to resume, and a
//! derived feed is silent only when its source is, as a slow encoder would otherwise find repeats in the place of its
//! frames.

use super::{Feed, State, add};
use crate::{
    info::Info,
    ring::{Entry, Ring},
};
use bytes::Bytes;
use sluicegate_media::{
    h264::{avcc::DecoderConfig, repeat},
    sample::{Codec, Sample, Times},
    time::{TIMESCALE, ticks},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Shortest distance between repeats of H.264.
const MIN_REPEAT_INTERVAL: Duration = Duration::from_millis(100);
/// Most repeats published at once: the first request during a long silence does not fill all of it.
const MAX_AT_ONCE: u32 = 50;
/// A check that comes more than `SUSPEND_THRESHOLD` late means that the machine was suspended, since a reader that
/// fills silences checks sooner otherwise. The source, which was suspended too, then has `RESUME_GRACE` to resume.
const SUSPEND_THRESHOLD: Duration = Duration::from_secs(1);
const RESUME_GRACE: Duration = Duration::from_secs(2);
/// Most repeats that fill a gap in the times: a longer gap is not filled from its beginning.
const MAX_IN_GAP: u32 = 100;

/// A derived feed may be `MAX_DERIVED_LAG` ticks behind its source and still share its silence, since decoders hold
/// frames back. What has not been made after `SETTLE_TIME` of silence will not come: it is held back, was damaged or
/// dropped.
const MAX_DERIVED_LAG: u64 = TIMESCALE as u64;
const SETTLE_TIME: Duration = Duration::from_secs(3);

impl Feed {
    /// Publishes repeats of the newest frame if none arrived for `after` and more may come: a JPEG once, H.264 at the
    /// pace of its frames for the whole silence. Returns when to call again, if there is a frame to repeat. A slow
    /// encoder is no silence: frames that it has yet to make would come after the repeats that replaced them.
    pub fn repeat(&self, now: Instant, after: Duration) -> Option<Instant> {
        let source = self.silence_of_source(now, after);
        let mut state = self.lock();
        let was_filled = std::mem::replace(&mut state.repeats_requested, true);
        let newest = state.newest.clone()?;
        let is_jpeg = newest.codec() == Codec::Jpeg;
        if !state.may_repeat() || (is_jpeg && newest.repeat > 0) {
            return None;
        }
        let pace = match is_jpeg {
            true => after,
            false => pace(state.ring.info()?),
        };
        // A check this late means that the process was suspended, and perhaps the source with it. The source's backlog
        // goes first, and the time suspended does not count as its silence.
        let next_check = state
            .next_check
            .or(was_filled.then_some(state.arrived + after));
        if let Some(next_check) =
            next_check.filter(|next_check| now > *next_check + SUSPEND_THRESHOLD)
        {
            state.no_repeats_before = Some(now + after.max(RESUME_GRACE));
            state.arrived += now - next_check;
        }
        // The first repeat waits longer than the later ones, as the next frame of a slow source may be a little late.
        let due = match newest.repeat {
            0 if is_jpeg => state.arrived + after,
            0 => state.arrived + after.max(2 * pace),
            _ => state.arrived + pace,
        };
        let due = state.no_repeats_before.map_or(due, |until| due.max(until));
        state.next_check = Some(due.max(now));
        if now < due {
            return Some(due);
        }
        if !state.shares_silence(source) {
            state.next_check = Some(now + pace);
            return state.next_check;
        }
        let passed = ((now - state.arrived).as_nanos() / pace.as_nanos().max(1)) as u32;
        let again = state.again(&newest, pace, passed, MAX_AT_ONCE)?;
        let arrived = state.arrived + pace * passed;
        state.next_check = Some(arrived + pace);
        add(state, again, arrived);
        Some(arrived + pace)
    }

    /// If no frame arrived for `after`, returns the presentation time up to which a feed derived from this one must
    /// have its frames before it counts as silent, too: 0 once it need not wait for any.
    fn silence(&self, now: Instant, after: Duration) -> Option<u64> {
        let source = self.silence_of_source(now, after);
        let state = self.lock();
        let (arrived, shown) = state.last_frame;
        let is_silent = state.shares_silence(source) && now >= arrived + after;
        is_silent.then(|| {
            if now >= arrived + after + SETTLE_TIME {
                0
            } else {
                shown
            }
        })
    }

    /// Result of [`Feed::silence`] for the source of this feed; a feed without one waits for nothing.
    fn silence_of_source(&self, now: Instant, after: Duration) -> Option<u64> {
        let source = self.source.as_ref();
        source.map_or(Some(0), |source| source.silence(now, after))
    }
}

impl State {
    /// A reader leaves or rests. After the last `filler`, the time without checks is no suspend.
    pub(super) fn reader_left(&mut self, filler: bool) {
        self.repeat_readers -= usize::from(filler);
        if filler && self.repeat_readers == 0 {
            (self.repeats_requested, self.next_check) = (false, None);
        }
    }

    /// Whether the source is silent and nothing of it remains to be made. `source` is a result of [`Feed::silence`].
    fn shares_silence(&self, source: Option<u64>) -> bool {
        let (_, reached) = self.last_frame;
        source.is_some_and(|shown| shown <= reached + MAX_DERIVED_LAG)
    }

    fn may_repeat(&self) -> bool {
        !self.unrepeatable && !self.ring.is_full_of_repeats()
    }

    /// Repeats that belong between the newest frame and `entry`, if that is a frame so much later that they fit
    /// between: the source or an encoder dropped frames, and transports list them in parts of a promised length.
    pub(super) fn fill_gap(&mut self, entry: &Entry) -> Option<Vec<Entry>> {
        let Entry::Sample(next) = entry else {
            return None;
        };
        let newest = self.newest.as_ref()?;
        if !self.repeats_requested
            || next.is_audio()
            || newest.codec() == Codec::Jpeg
            || !self.may_repeat()
        {
            return None;
        }
        let gap = next.decode_time.saturating_sub(newest.decode_time);
        let pace = pace(self.ring.info()?);
        if gap <= 2 * ticks(pace) {
            return None;
        }
        // No repeat at the time of the next frame.
        let passed = (gap - 1) / ticks(pace).max(1);
        let newest = newest.clone();
        self.again(&newest, pace, u32::try_from(passed).ok()?, MAX_IN_GAP)
    }

    /// Repeats of the newest frame at the last `most` of the `passed` places after it, which are `pace` apart. `None`
    /// if it cannot be repeated.
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
        // A repeat must be presented after reordered (B) frames.
        let recent = self.ring.frames().take(repeat::MAX_LOOKBACK);
        let shown = recent
            .map(|frame| frame.presentation_time())
            .max()
            .unwrap_or(0);
        let shown = shown.max(newest.presentation_time());
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

/// Distance between repeats: a multiple of the frame duration, so that parts that are cut by time keep their length.
fn pace(info: &Info) -> Duration {
    let rate = info.video.as_ref().map_or(0.0, |video| video.frame_rate);
    if !rate.is_finite() || rate < 0.01 {
        return MIN_REPEAT_INTERVAL;
    }
    let apart = Duration::from_secs_f32(1.0 / rate);
    let frames = (MIN_REPEAT_INTERVAL.as_secs_f32() * rate).ceil().max(1.0);
    apart.mul_f32(frames)
}

/// H.264 that shows again the frame that is presented last.
fn repeat_of(ring: &Ring) -> Option<Vec<Bytes>> {
    let config = DecoderConfig::parse(&ring.info()?.video.as_ref()?.config).ok()?;
    let newest = ring.frames().take(repeat::MAX_LOOKBACK);
    let mut frames: Vec<&[Bytes]> = newest.filter_map(|frame| frame.nals()).collect();
    frames.reverse();
    let oldest = ring.frames().take(repeat::MAX_LOOKBACK).last()?;
    let pps = oldest.sets().map_or(&config.pps, |sets| &sets.pps);
    repeat::repeat(config.sps.first()?, pps, &frames)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::{
        Ingest, Status,
        feed::{Next, WakeOn},
        ring::GroupNumbers,
    };
    use sluicegate_media::{
        h264::testing::{PpsOptions, SliceOptions, SpsOptions},
        time::Moment,
    };
    use sluicegate_source::{Sink, SourceTimes};
    use std::sync::atomic::{AtomicU64, Ordering};

    const AFTER: Duration = Duration::from_millis(500);
    const SECOND: u64 = TIMESCALE as u64;

    /// An ingest whose clock shows as many ticks as `clock`.
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
        let reader = feed.reader(WakeOn::All);
        let entries = (0..reader.end()).map(|at| reader.next(at, 0));
        let samples = entries.filter_map(|next| match next {
            Next::Entry(Entry::Sample(sample), _) => Some(sample),
            _ => None,
        });
        samples.collect()
    }

    /// Decode time, presentation time and number of the repeat.
    fn places(feed: &Arc<Feed>) -> Vec<(u64, u64, u32)> {
        let places = |sample: &Arc<Sample>| {
            (
                sample.decode_time,
                sample.presentation_time(),
                sample.repeat,
            )
        };
        samples(feed).iter().map(places).collect()
    }

    #[test]
    fn a_jpeg_is_repeated_once_in_each_silence_while_the_source_is_there() {
        let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
        assert_eq!(feed.repeat(Instant::now() + AFTER, AFTER), None);
        let jpeg = |time| {
            let times = Times {
                decode_time: time,
                ..Times::default()
            };
            feed.publish(Entry::Sample(Arc::new(Sample::jpeg(times, Bytes::new()))));
        };
        jpeg(0);
        let arrived = feed.lock().arrived;
        assert_eq!(
            feed.repeat(arrived + AFTER / 2, AFTER),
            Some(arrived + AFTER)
        );
        feed.repeat(arrived + AFTER, AFTER);
        assert_eq!(feed.repeat(arrived + 2 * AFTER, AFTER), None);
        jpeg(SECOND);
        let arrived = feed.lock().arrived;
        feed.repeat(arrived + AFTER, AFTER);
        jpeg(3 * SECOND);
        feed.publish(Entry::Stop("gone".into()));
        assert_eq!(feed.repeat(arrived + 10 * AFTER, AFTER), None);
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
    fn h264_repeats_as_long_as_a_silence_and_early_frames_after_it_are_delayed() {
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let frame = |frame_num: u32| SliceOptions {
            idr: frame_num == 0,
            frame_num,
            slice_type: if frame_num == 0 { 2 } else { 0 },
            order: [2 * frame_num as i32, 0],
            ..SliceOptions::default()
        };
        let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
        let clock = Arc::<AtomicU64>::default();
        let mut ingest = ingest(&feed, &clock);
        // Presented a tenth of a second after it is decoded.
        let mut push = |frame_num: u32, decode: i64| {
            clock.fetch_max(decode as u64, Ordering::Relaxed);
            let times = SourceTimes {
                decode: Some(decode),
                presentation: Some(decode + 9000),
                duration: 0,
            };
            let slice = frame(frame_num).nal(&sps, &pps);
            ingest.access_unit(vec![sps.nal(), pps.nal(), slice], times);
        };
        push(0, 0);
        push(1, 3000);
        let arrived = feed.lock().arrived;
        // All of the silence is filled once it is known, and the rest as it lasts.
        assert_eq!(
            feed.repeat(arrived + 4 * MIN_REPEAT_INTERVAL, AFTER),
            Some(arrived + AFTER)
        );
        assert_eq!(samples(&feed).len(), 2);
        for nth in 5..=7 {
            let due = feed.repeat(arrived + nth * MIN_REPEAT_INTERVAL, AFTER);
            assert_eq!(due, Some(arrived + (nth + 1) * MIN_REPEAT_INTERVAL));
        }
        // One frame that was delayed on its way, and one after it.
        push(2, 6000);
        push(3, 3000 + 2 * SECOND as i64);
        let tenth = SECOND / 10;
        let mut expected = vec![(0, 9000, 0), (3000, 12_000, 0)];
        // The first is presented right after the last frame.
        expected.push((3000 + tenth, 12_001, 1));
        expected.extend((2..=7).map(|nth| (3000 + nth * tenth, 3000 + nth * tenth, nth as u32)));
        let (late, last) = (3001 + 7 * tenth, 3000 + 2 * SECOND);
        expected.push((late, late, 0));
        // Another gap in the times, during which the clock of this test does not advance.
        expected.extend((1..=12).map(|nth| (late + nth * tenth, late + nth * tenth, nth as u32)));
        expected.push((last, last + 9000, 0));
        assert_eq!(places(&feed), expected);

        let all = samples(&feed);
        assert!(all[2].nals() == all[4].nals() && !all[2].independent);
        // A late call does not publish more than is useful.
        feed.lock().repeats_requested = false;
        let arrived = feed.lock().arrived;
        feed.repeat(arrived + Duration::from_secs(3600), AFTER);
        assert_eq!(samples(&feed).len(), all.len() + MAX_AT_ONCE as usize);
        let reached = places(&feed).last().unwrap().0;
        assert_eq!(reached, last + 3600 * SECOND);
        let reader = feed.reader(WakeOn::All);
        assert!(reader.has_all_frames(all.len() as u64 + 1));
    }

    /// An IDR frame after its parameter sets.
    fn keyframe() -> Vec<Bytes> {
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let slice = SliceOptions {
            idr: true,
            slice_type: 2,
            ..SliceOptions::default()
        };
        vec![sps.nal(), pps.nal(), slice.nal(&sps, &pps)]
    }

    #[test]
    fn a_silence_that_was_slept_through_is_none() {
        let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
        let mut ingest = ingest(&feed, &Arc::default());
        let nals = keyframe();
        ingest.access_unit(nals, SourceTimes::default());
        let arrived = feed.lock().arrived;
        assert_eq!(feed.repeat(arrived, AFTER), Some(arrived + AFTER));
        // As if nobody had checked since the last frame.
        feed.lock().next_check = None;
        // Three seconds later everything resumes, and the first to check finds no frame.
        let woke = arrived + Duration::from_secs(3);
        assert_eq!(feed.repeat(woke, AFTER), Some(woke + RESUME_GRACE));
        let other = woke + Duration::from_millis(1);
        assert_eq!(feed.repeat(other, AFTER), Some(woke + RESUME_GRACE));
        assert_eq!(samples(&feed).len(), 1);
        // If no frame comes then either, it is a silence from there on.
        assert!(feed.repeat(woke + RESUME_GRACE, AFTER).is_some());
        assert_eq!(samples(&feed).len(), 26);
    }

    #[test]
    fn a_gap_in_the_times_is_filled_as_the_silence_would_have_been() {
        let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
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
    fn a_slow_encoder_is_not_a_silence_and_repeats_join_the_group_they_show_in() {
        let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
        let made = Feed::derived_from(&feed, feed.numbers().encoded());
        let joined = Feed::derived_from(&made, made.numbers().followed());
        let (sps, pps) = (SpsOptions::default(), PpsOptions::default());
        let slice = |frame_num: u32| {
            let slice = SliceOptions {
                idr: frame_num == 0,
                slice_type: if frame_num == 0 { 2 } else { 0 },
                frame_num,
                ..SliceOptions::default()
            };
            slice.nal(&sps, &pps)
        };
        let frame = |frame_num: u32, at: u64| {
            let times = Times {
                decode_time: at,
                ..Times::default()
            };
            let nals = vec![slice(frame_num)];
            Entry::Sample(Arc::new(Sample::h264(times, frame_num == 0, nals)))
        };
        let first = vec![sps.nal(), pps.nal(), slice(0)];
        ingest(&feed, &Arc::default()).access_unit(first, SourceTimes::default());
        let info = feed.info().unwrap();
        for feed in [&made, &joined] {
            feed.publish(Entry::Configure(info.clone()));
            feed.publish(frame(0, 0));
        }
        // The encoder does not get to this frame for a while, though the source is silent.
        feed.publish(frame(1, 2 * SECOND));
        let arrived = feed.lock().arrived;
        let repeats = |at: Instant| {
            [&made, &joined].map(|feed| {
                // On its first check, a reader does not take the time before for a suspend.
                let reader = feed.reader(WakeOn::All);
                reader.repeat(at, AFTER);
                samples(feed).len()
            })
        };
        assert_eq!(repeats(arrived + 2 * AFTER), [1, 1]);
        made.publish(frame(1, 2 * SECOND));
        joined.publish(frame(1, 2 * SECOND));
        // The source continues, but the encoder does not.
        feed.lock().last_frame.0 = arrived + 4 * AFTER;
        assert_eq!(repeats(arrived + 4 * AFTER), [2, 2]);
        // The next group of the source begins, and its start is lost here: repeats from there on belong to that group.
        feed.publish(frame(0, 2 * SECOND + SECOND / 2));
        feed.lock().last_frame.0 = arrived;
        let all = repeats(arrived + 3 * AFTER);
        assert!(all[0] > 10 && all[0] == all[1], "{all:?}");
        for feed in [&made, &joined] {
            let reader = feed.reader(WakeOn::All);
            reader.start(0, 1);
            let mut count = [0, 0];
            for at in 0..reader.end() {
                if let Next::Entry(Entry::Sample(sample), group) = reader.next(at, 0) {
                    let next = sample.presentation_time() >= 2 * SECOND + SECOND / 2;
                    assert_eq!(
                        group.number,
                        u64::from(next),
                        "{}",
                        sample.presentation_time()
                    );
                    count[usize::from(next)] += 1;
                }
            }
            assert!(count[0] > 4 && count[1] > 4, "{count:?}");
        }
    }

    #[test]
    fn what_the_encoder_left_out_is_not_waited_for_for_ever() {
        let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
        let made = Feed::derived_from(&feed, feed.numbers().encoded());
        let nals = keyframe();
        ingest(&feed, &Arc::default()).access_unit(nals.clone(), SourceTimes::default());
        made.publish(Entry::Configure(feed.info().unwrap()));
        let frame = |at: u64| {
            let times = Times {
                decode_time: at,
                ..Times::default()
            };
            Entry::Sample(Arc::new(Sample::h264(times, true, vec![nals[2].clone()])))
        };
        made.publish(frame(0));
        feed.publish(frame(5 * SECOND));
        let arrived = feed.lock().arrived;
        let reader = made.reader(WakeOn::All);
        reader.repeat(arrived + SETTLE_TIME, AFTER);
        assert_eq!(samples(&made).len(), 1);
        reader.repeat(arrived + AFTER + SETTLE_TIME, AFTER);
        assert!(samples(&made).len() > 10);
        // A reader that never checked changes nothing by leaving. When the last one that did has left, no suspend is
        // assumed.
        made.reader(WakeOn::All).release_history();
        assert!(made.lock().repeats_requested && made.lock().next_check.is_some());
        drop(reader);
        assert!(!made.lock().repeats_requested && made.lock().next_check.is_none());
    }

    #[test]
    fn a_frame_that_cannot_be_repeated_is_not_tried_again_until_the_next() {
        let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
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
        let arrived = feed.lock().arrived;
        assert_eq!(feed.repeat(arrived, AFTER), Some(arrived + AFTER));
        for nth in 1..3 {
            assert_eq!(feed.repeat(arrived + nth * AFTER, AFTER), None);
        }
        assert_eq!(samples(&feed).len(), 1);
    }
}
