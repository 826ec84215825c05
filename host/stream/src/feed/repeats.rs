//! The newest picture once more, where pictures are missing: in a silence of the source, and in a gap of the times. Players of
//! segments and parts of a promised length get them in time then.

use super::{Feed, State, add};
use crate::ring::{Entry, Info, Ring};
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

/// Repeats of H.264 are no closer together than this.
const MIN_PACE: Duration = Duration::from_millis(100);
/// Who asks for the first time in a long silence does not get all of it.
const MAX_AT_ONCE: u32 = 50;
/// Who fills silences looks no later than this after it is time, if it is awake; a source that slept, too, has so long to go on.
const AWAKE: Duration = Duration::from_secs(1);
const WAKING: Duration = Duration::from_secs(2);
/// Nor is a longer gap in the times filled from its beginning.
const MAX_IN_GAP: u32 = 100;

/// What is made of a feed may be this far behind it and have a silence with it, in ticks: decoders hold pictures back. What has not
/// been made so long into a silence will not be: it is held back, was damaged or left out.
const LEVEL: u64 = TIMESCALE as u64;
const SETTLED: Duration = Duration::from_secs(3);

impl Feed {
    /// Publishes the newest picture once more if none came for so long and more may come: a JPEG once, H.264 as far apart
    /// as its pictures are, for all of the silence. Says when to ask next, if there is a picture to repeat. An encoder that is slow
    /// makes no silence: what it has yet to give would come behind what it was filled with.
    pub fn repeat(&self, now: Instant, after: Duration) -> Option<Instant> {
        let source = self.silence_of_source(now, after);
        let mut state = self.lock();
        let was_filled = std::mem::replace(&mut state.is_filled, true);
        let newest = state.newest.clone()?;
        let is_jpeg = newest.codec() == Codec::Jpeg;
        if !state.may_repeat() || (is_jpeg && newest.repeat > 0) {
            return None;
        }
        let pace = match is_jpeg {
            true => after,
            false => pace(state.ring.info()?),
        };
        // Who looks so late was suspended, and the source perhaps with it: what that has to give goes first, and this time was no
        // silence of it.
        let look = state.look.or(was_filled.then_some(state.came + after));
        if let Some(look) = look.filter(|look| now > *look + AWAKE) {
            state.held_until = Some(now + after.max(WAKING));
            state.came += now - look;
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
        if !state.is_level_with(source) {
            state.look = Some(now + pace);
            return state.look;
        }
        let passed = ((now - state.came).as_nanos() / pace.as_nanos().max(1)) as u32;
        let again = state.again(&newest, pace, passed, MAX_AT_ONCE)?;
        let came = state.came + pace * passed;
        state.look = Some(came + pace);
        add(state, again, came);
        Some(came + pace)
    }

    /// If no picture came for so long: what has to be made before that is a silence for who makes something of this feed, as the
    /// time up to which pictures are shown.
    fn silence(&self, now: Instant, after: Duration) -> Option<u64> {
        let source = self.silence_of_source(now, after);
        let state = self.lock();
        let (came, shown) = state.pictured;
        let is_silent = state.is_level_with(source) && now >= came + after;
        is_silent.then(|| {
            if now >= came + after + SETTLED {
                0
            } else {
                shown
            }
        })
    }

    /// The same of what this is made of; what is made of nothing has nobody to wait for.
    fn silence_of_source(&self, now: Instant, after: Duration) -> Option<u64> {
        let source = self.source.as_ref();
        source.map_or(Some(0), |source| source.silence(now, after))
    }
}

impl State {
    /// Somebody does not look any more, who had if it is a `filler`: that nobody looks from then on is no sleep.
    pub(super) fn left_by(&mut self, filler: bool) {
        self.fillers -= usize::from(filler);
        if filler && self.fillers == 0 {
            (self.is_filled, self.look) = (false, None);
        }
    }

    /// Whether the source is silent and has nothing left of which something is to be made; `source` as of [`Feed::silence`].
    fn is_level_with(&self, source: Option<u64>) -> bool {
        let (_, reached) = self.pictured;
        source.is_some_and(|shown| shown <= reached + LEVEL)
    }

    fn may_repeat(&self) -> bool {
        !self.unrepeatable && !self.ring.is_full_of_repeats()
    }

    /// What belongs between the newest picture and `entry`, if that is a picture of so much later that repeats fit between: of a source
    /// or an encoder that left pictures out, for who lists them in parts of a promised length.
    pub(super) fn fill_gap(&mut self, entry: &Entry) -> Option<Vec<Entry>> {
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
        self.again(&newest, pace, u32::try_from(passed).ok()?, MAX_IN_GAP)
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

/// How far apart repeats are: as whole pictures make it, so that what is cut by time comes out as before.
fn pace(info: &Info) -> Duration {
    let rate = info.video.as_ref().map_or(0.0, |video| video.frame_rate);
    if !rate.is_finite() || rate < 0.01 {
        return MIN_PACE;
    }
    let apart = Duration::from_secs_f32(1.0 / rate);
    let pictures = (MIN_PACE.as_secs_f32() * rate).ceil().max(1.0);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::{
        Ingest, Status,
        feed::{Next, WakeOn},
        ring::Numbers,
    };
    use sluicegate_media::{
        h264::testing::{PpsOptions, SliceOptions, SpsOptions},
        time::Moment,
    };
    use sluicegate_source::{Sink, SourceTimes};
    use std::sync::atomic::{AtomicU64, Ordering};

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
        let reader = feed.reader(WakeOn::Open);
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
    fn h264_repeats_as_long_as_a_silence_and_early_pictures_after_it_are_delayed() {
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
        assert_eq!(feed.repeat(came + 4 * MIN_PACE, AFTER), Some(came + AFTER));
        assert_eq!(samples(&feed).len(), 2);
        for nth in 5..=7 {
            let due = feed.repeat(came + nth * MIN_PACE, AFTER);
            assert_eq!(due, Some(came + (nth + 1) * MIN_PACE));
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
        feed.lock().is_filled = false;
        let came = feed.lock().came;
        feed.repeat(came + Duration::from_secs(3600), AFTER);
        assert_eq!(samples(&feed).len(), all.len() + MAX_AT_ONCE as usize);
        let reached = places(&feed).last().unwrap().0;
        assert_eq!(reached, last + 3600 * SECOND);
        let reader = feed.reader(WakeOn::Open);
        assert!(reader.has_all_pictures(all.len() as u64 + 1));
    }

    /// An IDR picture behind its parameter sets.
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
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        let mut ingest = ingest(&feed, &Arc::default());
        let nals = keyframe();
        ingest.access_unit(nals, SourceTimes::default());
        let came = feed.lock().came;
        assert_eq!(feed.repeat(came, AFTER), Some(came + AFTER));
        // Perhaps nobody had looked since the last picture.
        feed.lock().look = None;
        // Three seconds later all wake up, and whoever looks first finds nothing.
        let woke = came + Duration::from_secs(3);
        assert_eq!(feed.repeat(woke, AFTER), Some(woke + WAKING));
        let other = woke + Duration::from_millis(1);
        assert_eq!(feed.repeat(other, AFTER), Some(woke + WAKING));
        assert_eq!(samples(&feed).len(), 1);
        // But where nothing comes then, it is one from there on.
        assert!(feed.repeat(woke + WAKING, AFTER).is_some());
        assert_eq!(samples(&feed).len(), 26);
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
    fn a_slow_encoder_is_not_a_silence_and_repeats_join_the_group_they_show_in() {
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        let made = Feed::made_of(&feed, feed.numbers().encoded());
        let joined = Feed::made_of(&made, made.numbers().followed());
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
        let picture = |frame_num: u32, at: u64| {
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
            feed.publish(picture(0, 0));
        }
        // The encoder does not get to this one for a while, though the source is silent.
        feed.publish(picture(1, 2 * SECOND));
        let came = feed.lock().came;
        let repeats = |at: Instant| {
            [&made, &joined].map(|feed| {
                // Who looks for the first time does not take that for a sleep.
                let reader = feed.reader(WakeOn::Open);
                reader.repeat(at, AFTER);
                samples(feed).len()
            })
        };
        assert_eq!(repeats(came + 2 * AFTER), [1, 1]);
        made.publish(picture(1, 2 * SECOND));
        joined.publish(picture(1, 2 * SECOND));
        // And the source goes on, but not the encoder.
        feed.lock().pictured.0 = came + 4 * AFTER;
        assert_eq!(repeats(came + 4 * AFTER), [2, 2]);
        // The source's next group begins, and its start is lost here: what is repeated from there on is of that group.
        feed.publish(picture(0, 2 * SECOND + SECOND / 2));
        feed.lock().pictured.0 = came;
        let all = repeats(came + 3 * AFTER);
        assert!(all[0] > 10 && all[0] == all[1], "{all:?}");
        for feed in [&made, &joined] {
            let reader = feed.reader(WakeOn::Open);
            reader.start(0, 1);
            let mut count = [0, 0];
            for at in 0..reader.end() {
                if let Next::Entry(Entry::Sample(sample), group) = reader.next(at, 0) {
                    let next = sample.shown_at() >= 2 * SECOND + SECOND / 2;
                    assert_eq!(group.number, u64::from(next), "{}", sample.shown_at());
                    count[usize::from(next)] += 1;
                }
            }
            assert!(count[0] > 4 && count[1] > 4, "{count:?}");
        }
    }

    #[test]
    fn what_the_encoder_left_out_is_not_waited_for_for_ever() {
        let feed = Feed::new(Numbers::own(0, Duration::ZERO));
        let made = Feed::made_of(&feed, feed.numbers().encoded());
        let nals = keyframe();
        ingest(&feed, &Arc::default()).access_unit(nals.clone(), SourceTimes::default());
        made.publish(Entry::Configure(feed.info().unwrap()));
        let picture = |at: u64| {
            let times = Times {
                decode_time: at,
                ..Times::default()
            };
            Entry::Sample(Arc::new(Sample::h264(times, true, vec![nals[2].clone()])))
        };
        made.publish(picture(0));
        feed.publish(picture(5 * SECOND));
        let came = feed.lock().came;
        let reader = made.reader(WakeOn::Open);
        reader.repeat(came + SETTLED, AFTER);
        assert_eq!(samples(&made).len(), 1);
        reader.repeat(came + AFTER + SETTLED, AFTER);
        assert!(samples(&made).len() > 10);
        // Who leaves without having looked changes nothing; when the last who looked has left, nobody sleeps.
        made.reader(WakeOn::Open).rest();
        assert!(made.lock().is_filled && made.lock().look.is_some());
        drop(reader);
        assert!(!made.lock().is_filled && made.lock().look.is_none());
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
