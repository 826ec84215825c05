//! Tests of the shared decoder as a whole: a decoder that is slower than its source still delivers frames.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::{GroupNumbers, Ingest};
use bytes::Bytes;
use sluicegate_codec::{Encoder, Settings};
use sluicegate_media::{
    h264::annexb,
    pattern::Painter,
    time::{Moment, TIMESCALE},
};
use sluicegate_source::{Sink, SourceTimes};
use std::sync::atomic::Ordering;

const GROUP: u64 = 30;
const ROUNDS: u64 = 20;
/// One frame at 30 per second, in ticks.
const STEP: i64 = TIMESCALE as i64 / 30;
const PATIENCE: Duration = Duration::from_secs(30);

/// Access units with their times, in groups of a second.
fn film(count: u64) -> Vec<(Vec<Bytes>, SourceTimes)> {
    let settings = Settings {
        width: 320,
        height: 192,
        frame_rate: 30,
        bitrate: 300_000,
        keyframe_interval_ms: 1000,
        ..Settings::default()
    };
    let mut encoder = Encoder::new(settings).unwrap();
    let mut painter = Painter::new(settings.width, settings.height).unwrap();
    let frames = (0..count).flat_map(|number| {
        let at = number as i64 * STEP;
        let made = encoder.encode(painter.paint(number, 0), at, false).unwrap();
        made.into_iter().map(|packet| {
            let times = SourceTimes {
                decode: Some(packet.dts),
                presentation: Some(packet.pts),
                duration: 0,
            };
            (annexb::split(&packet.data), times)
        })
    });
    frames.collect()
}

#[test]
fn a_decoder_slower_than_its_source_delivers_fewer_frames_not_none() {
    let status = Arc::new(Status::new("cam", Arc::default()));
    let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
    let clock = Box::new(Moment::default);
    let mut ingest = Ingest::new(feed.clone(), status.clone(), 0, clock);
    let film = film((1 + 2 * ROUNDS) * GROUP);
    let mut rest = film.into_iter();
    let mut publish = |count: u64| {
        for (nals, times) in rest.by_ref().take(count as usize) {
            ingest.access_unit(nals, times);
        }
    };
    publish(GROUP);
    let frames = Frames::start_with("cam", &feed, status.clone(), Duration::ZERO).unwrap();
    let follower = frames.follow(usize::MAX);
    let mut reached = 0;
    for _ in 0..ROUNDS {
        // Two seconds of frames arrive while it decodes one, or a few.
        let state = frames.wait_for(Instant::now() + PATIENCE, |state| state.reached > reached);
        assert!(state.reached > reached, "it does nothing");
        reached = state.reached;
        publish(2 * GROUP);
    }
    let end = feed.newest_frame().unwrap() + 1;
    let state = frames.wait_for(Instant::now() + PATIENCE, |state| state.reached >= end);
    assert_eq!(state.reached, end);
    assert!(state.good.is_some());

    let frames =
        std::iter::from_fn(|| follower.next()).filter(|event| matches!(event, Event::Frame(_)));
    let (shown, counts) = (frames.count() as u64, &status.codec);
    let decoded = counts.decoded.load(Ordering::Relaxed);
    // Of the first group only the newest is delivered, or what was decoded after half a second.
    assert!(
        shown + GROUP >= decoded && shown >= ROUNDS,
        "{shown} of {decoded} frames were shown"
    );
    assert!(counts.dropped.load(Ordering::Relaxed) > 0);
    let notes = status.report(false).notes;
    assert!(
        notes
            .iter()
            .any(|note| note.starts_with("decoding is slower than the source")),
        "{notes:?}"
    );
}
