//! Tests of the shared decoder: a slow decoder and a slow follower lose frames, but not group starts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::{super::testing, *};
use crate::{Ingest, Numbers};
use bytes::Bytes;
use sluicegate_codec::{Encoder, Settings};
use sluicegate_media::{h264::annexb, pattern::Painter, time::Moment};
use sluicegate_source::{Sink, SourceTimes};

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
    let pictures = (0..count).flat_map(|number| {
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
    pictures.collect()
}

#[test]
fn a_decoder_slower_than_its_source_shows_fewer_pictures_not_none() {
    let status = Arc::new(Status::new("cam", Arc::default()));
    let feed = Feed::new(Numbers::own(0, Duration::ZERO));
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
        let state = frames.look(Instant::now() + PATIENCE, |state| state.reached > reached);
        assert!(state.reached > reached, "it does nothing");
        reached = state.reached;
        publish(2 * GROUP);
    }
    let end = feed.newest_picture().unwrap() + 1;
    let state = frames.look(Instant::now() + PATIENCE, |state| state.reached >= end);
    assert_eq!(state.reached, end);
    assert!(state.good.is_some());

    let pictures =
        std::iter::from_fn(|| follower.next()).filter(|event| matches!(event, Event::Picture(_)));
    let (shown, counts) = (pictures.count() as u64, &status.codec);
    let decoded = counts.decoded.load(Ordering::Relaxed);
    // Of the first group only the newest is delivered, or what was decoded after half a second.
    assert!(
        shown + GROUP >= decoded && shown >= ROUNDS,
        "{shown} of {decoded} pictures were shown"
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

fn waiting(mailbox: &Mailbox) -> Vec<u64> {
    let events = mailbox.events.iter();
    let times = events.filter_map(|event| match event {
        Event::Picture(picture) => Some(picture.time / testing::PICTURE),
        _ => None,
    });
    times.collect()
}

#[test]
fn who_is_slow_loses_pictures_but_the_starts_of_groups_last() {
    let pictures = testing::decoded(100);
    let mut mailbox = Mailbox {
        thread: thread::current(),
        events: VecDeque::new(),
        most: 4,
        is_live: false,
        taken: 0,
    };
    let mut lost = 0;
    for picture in &pictures {
        lost += usize::from(mailbox.push(Event::Picture(picture.clone())));
    }
    // Every thirtieth frame is a keyframe.
    assert_eq!(waiting(&mailbox), [0, 30, 60, 90]);
    let last = pictures
        .iter()
        .rfind(|picture| picture.begins)
        .unwrap()
        .time;
    assert!(mailbox.has_only_groups(last + WORTH_WAITING));
    // If every frame begins a group, there is nothing to wait for.
    assert!(!mailbox.has_only_groups(last + WORTH_WAITING - 1));
    assert_eq!(lost, 96);
    mailbox.events.pop_front();
    for picture in &pictures[97..] {
        mailbox.push(Event::Picture(picture.clone()));
    }
    assert_eq!(waiting(&mailbox), [30, 60, 90, 99]);

    // A follower of the newest frame gets that one.
    mailbox.most = 1;
    mailbox.events.clear();
    for picture in &pictures {
        assert!(!mailbox.push(Event::Picture(picture.clone())));
    }
    assert_eq!(waiting(&mailbox), [99]);
    assert!(!mailbox.has_only_groups(last + WORTH_WAITING));
}
