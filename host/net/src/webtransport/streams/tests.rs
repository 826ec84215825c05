//! Tests of the order in which a session sends, and of what it gives up.
#![allow(clippy::unwrap_used)]
use super::*;
use sluicegate_viewer::{LaneRule, Piece};

const RTT: Duration = ms(100);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A lane's chunks, with one header.
struct Lane {
    number: u8,
    rule: LaneRule,
    header: Arc<Header>,
    /// When it was published that has the time 0.
    start: Instant,
}

impl Lane {
    fn new(number: u8, max_lag: u64) -> Lane {
        let header = Content::Binary(Bytes::from_static(b"<h>").into());
        Lane {
            number,
            rule: LaneRule::new(ms(max_lag)),
            header: Arc::new(Header::new(vec![header])),
            start: Instant::now(),
        }
    }

    fn chunk(&self, text: &'static str, at: u64) -> Chunk {
        Chunk {
            lane: self.number,
            rule: self.rule,
            at: ms(at),
            published: Some(self.start + ms(at)),
            starts_group: text.starts_with(char::is_uppercase),
            restarts: false,
            sample: None,
            header: self.header.clone(),
            is_new_header: false,
            piece: Arc::new(Piece::new(Content::Binary(
                Bytes::from_static(text.as_bytes()).into(),
            ))),
        }
    }

    fn restart(&self, text: &'static str, at: u64) -> Chunk {
        Chunk {
            restarts: true,
            ..self.chunk(text, at)
        }
    }
}

fn streams() -> Streams<()> {
    Streams::new(Bytes::from_static(b"~"))
}

/// Takes up to `most` bytes; returns them, with `|` where a stream ends.
fn take(streams: &mut Streams<()>, mut most: usize) -> String {
    let mut text = String::new();
    while most > 0
        && let Some((at, stream)) = streams.next(true)
    {
        if stream.is_to_finish() {
            stream.finished = true;
            text.push('|');
            continue;
        }
        let (first, count) = stream.first_buffers::<2>();
        assert!(count > 0);
        let length = first[0].len().min(most);
        text.push_str(str::from_utf8(&first[0][..length]).unwrap());
        streams.taken(at, length);
        most -= length;
    }
    text
}

fn given_up(streams: &mut Streams<()>) -> usize {
    streams.take_given_up().len()
}

#[test]
fn a_group_is_a_stream_with_the_header_first() {
    let (mut streams, lane) = (streams(), Lane::new(0, 1000));
    streams.add_chunk(&lane.restart("A", 0), RTT);
    streams.add_chunk(&lane.chunk("b", 40), RTT);
    assert_eq!(take(&mut streams, 100), "~<h>Ab");
    assert!(streams.is_idle() && streams.queued() == 0);
    streams.set_head(0, Bytes::from_static(b"[me]"));
    streams.add_chunk(&lane.chunk("c", 80), RTT);
    streams.add_chunk(&lane.chunk("D", 120), RTT);
    assert!(!streams.is_idle());
    // The newer group first.
    assert_eq!(take(&mut streams, 100), "~[me]<h>Dc|");
    // A header that changes within a group.
    let other = Lane::new(0, 1000);
    streams.add_chunk(&other.chunk("e", 160), RTT);
    streams.end();
    assert_eq!(take(&mut streams, 100), "<h>e|");
    assert_eq!(given_up(&mut streams), 0);
    streams.remove_done(|()| true);
    assert!(streams.all.is_empty());
}

#[test]
fn a_chunk_that_was_begun_is_completed_before_a_newer_group() {
    let (mut streams, lane) = (streams(), Lane::new(0, 1000));
    streams.add_chunk(&lane.chunk("Aaa", 0), RTT);
    streams.add_chunk(&lane.chunk("bbb", 40), RTT);
    streams.add_chunk(&lane.chunk("ccc", 80), RTT);
    assert_eq!(take(&mut streams, 8), "~<h>Aaab");
    streams.add_chunk(&lane.chunk("Ddd", 120), RTT);
    assert_eq!(take(&mut streams, 100), "bb~<h>Dddccc|");
}

#[test]
fn lanes_come_in_order_of_importance_and_messages_first() {
    let mut streams = streams();
    let (video, audio) = (Lane::new(1, 1000), Lane::new(0, 1000));
    streams.add_chunk(&video.chunk("V", 0), RTT);
    streams.add_chunk(&audio.chunk("S", 0), RTT);
    assert!(streams.add_message(&Content::Text("not carried".into())));
    assert!(streams.add_message(&Content::Binary(Bytes::from_static(b"hi").into())));
    streams.add_client_stream(7, ());
    streams.add_reply(7, &Bytes::from_static(b"yes").into(), true);
    streams.add_reply(7, &Bytes::from_static(b"late").into(), true);
    streams.add_reply(8, &Bytes::from_static(b"nobody").into(), true);
    assert_eq!(take(&mut streams, 100), "~hi|yes|~<h>S~<h>V");
    assert_eq!(streams.queued(), 0);
}

#[test]
fn messages_count_while_they_wait_themselves() {
    const LENGTH: usize = 1000;
    let (mut streams, lane) = (streams(), Lane::new(0, 600_000));
    let message = || Content::Binary(Bytes::from(vec![b'm'; LENGTH]).into());
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    // The chunk waits all the time.
    for _ in 0..1000 {
        assert!(streams.add_message(&message()) && streams.add_message(&message()));
        assert!(streams.messages().has_room());
        take(&mut streams, LENGTH + 2);
        streams.cancel(streams.all.len() - 1);
        streams.remove_done(|()| true);
    }
    assert!(streams.queued() > 0);
    assert!((0..300).all(|_| streams.add_message(&message())));
    assert!(!streams.messages().has_room());
}

#[test]
fn a_client_stream_ends_when_it_is_reset_or_not_answered_in_time() {
    let (mut streams, now) = (streams(), Instant::now());
    (1..=4).for_each(|id| streams.add_client_stream(id, ()));
    streams.abandon_client_stream(1);
    assert_eq!(given_up(&mut streams), 1);
    // One that was answered, one that is not, and one that the client has not ended.
    streams.add_reply(2, &Bytes::from_static(b"so").into(), false);
    streams.client_finished(2, now);
    streams.client_finished(3, now);
    streams.finish_unanswered(now + ANSWER_TIMEOUT - ms(1));
    assert_eq!(take(&mut streams, 100), "so");
    streams.finish_unanswered(now + ANSWER_TIMEOUT);
    assert_eq!(take(&mut streams, 100), "|");
    streams.remove_done(|()| true);
    let kinds: Vec<_> = streams.all.iter().map(|stream| stream.kind).collect();
    assert_eq!(kinds, [Kind::Reply(2), Kind::Reply(4)]);
}

#[test]
fn what_lags_too_much_is_given_up_when_a_newer_group_begins() {
    let (mut streams, lane) = (streams(), Lane::new(0, 1000));
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    streams.add_chunk(&lane.chunk("b", 400), RTT);
    streams.add_chunk(&lane.chunk("C", 900), RTT);
    // Within a group nothing is given up, as there is nothing to go on with.
    streams.add_chunk(&lane.chunk("d", 2000), RTT);
    assert_eq!(given_up(&mut streams), 0);
    streams.add_chunk(&lane.chunk("E", 2100), RTT);
    // Two streams, but one jump to a newer group.
    assert_eq!((given_up(&mut streams), streams.take_jumps()), (2, 1));
    assert_eq!(take(&mut streams, 100), "~<h>E");
}

#[test]
fn what_quic_has_is_given_up_later_unless_it_is_acknowledged() {
    let (mut streams, lane) = (streams(), Lane::new(0, 0));
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    assert_eq!(take(&mut streams, 100), "~<h>A");
    streams.add_chunk(&lane.chunk("B", 50), RTT);
    assert_eq!(take(&mut streams, 100), "|~<h>B");
    streams.add_chunk(&lane.chunk("C", 100), RTT);
    assert_eq!(given_up(&mut streams), 0);
    assert_eq!(take(&mut streams, 100), "|~<h>C");
    streams.add_chunk(&lane.chunk("D", 101), RTT);
    assert_eq!(given_up(&mut streams), 1);
}

#[test]
fn where_only_the_newest_counts_the_one_that_was_begun_arrives() {
    let (mut streams, lane) = (streams(), Lane::new(0, 0));
    streams.add_chunk(&lane.chunk("Aaa", 0), RTT);
    assert_eq!(take(&mut streams, 5), "~<h>A");
    for (text, at) in [("Bbb", 500), ("Ccc", 1000), ("Ddd", 1500)] {
        streams.add_chunk(&lane.restart(text, at), RTT);
    }
    assert_eq!(given_up(&mut streams), 2);
    assert_eq!(take(&mut streams, 100), "aa|~<h>Ddd");
}

#[test]
fn a_restart_gives_up_what_was_not_sent() {
    let (mut streams, lane) = (streams(), Lane::new(0, 10_000));
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    streams.add_chunk(&lane.chunk("b", 10), RTT);
    assert_eq!(take(&mut streams, 5), "~<h>A");
    streams.add_chunk(&lane.restart("C", 20), RTT);
    assert_eq!((given_up(&mut streams), streams.queued()), (1, 5));
    // The outlet has counted it.
    assert_eq!(streams.take_jumps(), 0);
}

#[test]
fn what_the_client_does_not_want_is_left_out_to_the_end_of_its_group() {
    let (mut streams, lane) = (streams(), Lane::new(0, 1000));
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    streams.cancel(0);
    streams.add_chunk(&lane.chunk("b", 40), RTT);
    assert!(streams.is_idle() && streams.queued() == 0);
    streams.add_chunk(&lane.chunk("C", 80), RTT);
    assert_eq!(take(&mut streams, 100), "~<h>C");
    streams.remove_done(|()| false);
    assert_eq!(streams.all.len(), 1);
}

#[test]
fn what_does_not_fit_into_a_datagram_is_a_stream_of_its_own() {
    let mut lane = Lane::new(0, 1000);
    lane.rule.datagrams = true;
    let mut streams = streams();
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    streams.add_chunk(&lane.chunk("b", 1), RTT);
    assert_eq!(take(&mut streams, 100), "~<h>b|~<h>A|");
}

#[test]
fn a_viewer_waits_since_the_oldest_chunk_of_which_something_is_left() {
    let (mut streams, lane) = (streams(), Lane::new(0, 1000));
    let at = |time| Some(lane.start + ms(time));
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    streams.add_chunk(&lane.chunk("b", 40), RTT);
    assert_eq!(streams.waits_since(), at(0));
    // Something waits all the time, but not the same.
    for time in [80, 120, 160] {
        streams.add_chunk(&lane.chunk("c", time), RTT);
        let length = if time == 80 { "~<h>A".len() } else { 1 };
        assert_eq!(streams.taken(0, length), at(time - 80));
        assert_eq!(streams.waits_since(), at(time - 40));
    }
    // What is given up or not wanted does not wait.
    streams.add_chunk(&lane.restart("D", 9000), RTT);
    assert_eq!(streams.waits_since(), at(9000));
    streams.cancel(0);
    assert_eq!(streams.waits_since(), None);
}

#[test]
fn streams_are_bounded() {
    let (mut streams, lane) = (streams(), Lane::new(0, 600_000));
    for at in 0..1000 {
        streams.add_chunk(&lane.chunk("A", at), RTT);
        assert!(streams.all.len() <= MAX_STREAMS);
    }
    assert_eq!(given_up(&mut streams), 1000 - MAX_STREAMS);
}

#[test]
fn the_open_group_of_a_lane_is_not_given_up_for_others() {
    let (mut streams, video, audio) = (streams(), Lane::new(1, 600_000), Lane::new(0, 600_000));
    streams.add_chunk(&video.chunk("V", 0), RTT);
    for at in 1..500 {
        streams.add_chunk(&audio.chunk("A", at), RTT);
    }
    streams.add_chunk(&video.chunk("v", 500), RTT);
    assert_eq!(streams.all.len(), MAX_STREAMS);
    assert_eq!(given_up(&mut streams), 500 - MAX_STREAMS);
    let last = take(&mut streams, 10_000);
    assert!(last.contains("~<h>Vv") && !last.contains("~<h>v"), "{last}");
}

#[test]
fn messages_that_a_client_does_not_acknowledge_are_bounded() {
    let mut streams = streams();
    let mut add =
        |_: &usize| streams.add_message(&Content::Binary(Bytes::from_static(b"m").into()));
    assert_eq!((0..3000).filter(&mut add).count(), MAX_MESSAGES);
    take(&mut streams, 10_000);
    for stream in &mut streams.all {
        stream.sender = Some(());
    }
    streams.remove_done(|()| false);
    let message = Content::Binary(Bytes::from_static(b"m").into());
    assert!(!streams.add_message(&message));
    streams.remove_done(|()| true);
    assert!(streams.add_message(&message));
}

#[test]
fn a_client_that_permits_no_more_streams_gets_the_rest_of_those_that_are_open() {
    let (mut streams, lane) = (streams(), Lane::new(0, 600_000));
    streams.add_chunk(&lane.chunk("A", 0), RTT);
    streams.add_chunk(&lane.chunk("b", 1), RTT);
    streams.all[0].sender = Some(());
    streams.add_chunk(&lane.chunk("C", 2), RTT);
    streams.add_client_stream(7, ());
    streams.add_reply(7, &Bytes::from_static(b"yes").into(), false);
    let place = |streams: &mut Streams<()>, may_open| streams.next(may_open).map(|(at, _)| at);
    assert_eq!(place(&mut streams, true), Some(2));
    streams.block(2);
    assert_eq!(place(&mut streams, true), Some(1));
    assert_eq!(place(&mut streams, false), Some(0));
    streams.block(0);
    assert_eq!(place(&mut streams, false), None);
    streams.unblock();
    assert_eq!(place(&mut streams, false), Some(2));
}
