//! Tests of the outlet: where viewers start, when they jump, and in which order they get chunks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::{cursor::LanePosition, *};
use bytes::Bytes;
use proptest::prelude::*;

fn content(text: &str) -> Content {
    Content::Binary(Bytes::copy_from_slice(text.as_bytes()).into())
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Text of the headers and chunks, concatenated.
fn text(items: VecDeque<Item>) -> String {
    let mut all = Vec::new();
    for item in items {
        let Item::Chunk(chunk) = item else { continue };
        let header = chunk.is_new_header.then(|| chunk.header.pieces());
        for piece in header.into_iter().flatten().chain([&*chunk.piece]) {
            let Content::Binary(payload) = piece.content() else {
                continue;
            };
            payload
                .parts()
                .iter()
                .for_each(|part| all.extend_from_slice(part));
        }
    }
    String::from_utf8(all).unwrap()
}

fn read(outlet: &Outlet, cursor: &mut Cursor) -> (String, u32) {
    let mut out = VecDeque::new();
    let taken = outlet.take(cursor, usize::MAX, &mut out);
    (text(out), taken.jumps)
}

fn outlet(max_lag: u64) -> Outlet {
    let outlet = Outlet::default();
    outlet.set_lanes(vec![LaneRule::new(ms(max_lag))]);
    outlet.set_header(Header::new(vec![content("<h>")]));
    outlet
}

#[test]
fn a_late_viewer_gets_the_header_and_the_newest_start() {
    let outlet = outlet(1000);
    outlet.publish(
        [
            (content("a"), 0, true),
            (content("b"), 0, false),
            (content("C"), 0, true),
            (content("d"), 0, false),
        ],
        ms(0),
        None,
    );
    let mut cursor = Cursor::new();
    assert_eq!(read(&outlet, &mut cursor), ("<h>Cd".into(), 0));
    outlet.publish([(content("e"), 0, false)], ms(10), None);
    assert_eq!(read(&outlet, &mut cursor), ("e".into(), 0));
    assert_eq!(read(&outlet, &mut cursor), (String::new(), 0));
}

#[test]
fn a_new_viewer_skips_leading_chunks_and_earlier_viewers_get_all() {
    let outlet = outlet(1000);
    let (mut before, mut there) = (Cursor::new(), Cursor::new());
    let publish = |chunks: &[(&str, Access)], at| {
        let chunks = chunks
            .iter()
            .map(|(text, access)| (content(text), 0, *access));
        outlet.publish(chunks, ms(at), None);
    };
    use Access::{Leading, Ordinary, Start};
    publish(&[("A", Start), ("b", Ordinary)], 0);
    assert_eq!(read(&outlet, &mut before).0, "<h>Ab");
    publish(&[("C", Start)], 10);
    assert_eq!(read(&outlet, &mut there).0, "<h>C");
    publish(&[("d", Leading), ("e", Leading)], 20);
    // It gets no leading chunk and keeps its place.
    assert_eq!(read(&outlet, &mut there).0, "");
    publish(&[("f", Ordinary)], 30);
    let mut late = Cursor::new();
    assert_eq!(read(&outlet, &mut before).0, "Cdef");
    assert_eq!(read(&outlet, &mut there).0, "f");
    assert_eq!(read(&outlet, &mut late).0, "<h>Cf");
    publish(&[("G", Start), ("h", Leading), ("i", Ordinary)], 40);
    for cursor in [&mut before, &mut there, &mut late] {
        assert_eq!(read(&outlet, cursor).0, "Ghi");
    }
    // A viewer that jumps starts there, without leading chunks.
    publish(&[("x", Ordinary)], 50);
    publish(&[("J", Start), ("k", Leading), ("l", Ordinary)], 2000);
    assert_eq!(read(&outlet, &mut there), ("Jl".into(), 1));
}

#[test]
fn a_viewer_too_far_behind_jumps_forward_and_is_counted() {
    let outlet = outlet(1000);
    let mut cursor = Cursor::new();
    outlet.publish([(content("a"), 0, true)], ms(0), None);
    assert_eq!(read(&outlet, &mut cursor).0, "<h>a");
    outlet.publish([(content("b"), 0, false)], ms(100), None);
    outlet.publish([(content("C"), 0, true)], ms(900), None);
    outlet.publish([(content("d"), 0, false)], ms(1200), None);
    assert_eq!(read(&outlet, &mut cursor), ("Cd".into(), 1));
}

#[test]
fn a_viewer_a_little_behind_gets_everything() {
    let outlet = outlet(1000);
    let mut cursor = Cursor::new();
    outlet.publish([(content("a"), 0, true)], ms(0), None);
    outlet.publish([(content("B"), 0, true)], ms(900), None);
    let mut early = Cursor::new();
    early.lanes = vec![LanePosition::At(0)];
    assert_eq!(read(&outlet, &mut early), ("<h>aB".into(), 0));
    assert_eq!(read(&outlet, &mut cursor).0, "<h>B");
}

#[test]
fn a_viewer_that_waited_for_the_first_chunk_gets_all_of_a_burst() {
    let outlet = outlet(1000);
    let mut cursor = Cursor::since(outlet.end());
    let mut looked = Cursor::new();
    assert_eq!(read(&outlet, &mut looked), (String::new(), 0));
    let burst = [("a", true), ("b", false), ("C", true), ("d", false)];
    let burst = burst.map(|(text, start)| (content(text), 0, start));
    outlet.publish(burst, ms(0), None);
    assert_eq!(read(&outlet, &mut cursor), ("<h>abCd".into(), 0));
    assert_eq!(read(&outlet, &mut looked), ("<h>abCd".into(), 0));
    // A viewer that arrives now did not wait.
    let mut late = Cursor::since(outlet.end());
    outlet.publish([(content("E"), 0, true)], ms(500), None);
    assert_eq!(read(&outlet, &mut late), ("<h>E".into(), 0));
}

#[test]
fn of_a_burst_beyond_the_lag_bound_a_viewer_that_waited_gets_the_newest_group() {
    for (max_lag, last, expected) in [(1000, 1001, "<h>Cd"), (0, 1, "<h>Cd")] {
        let outlet = outlet(max_lag);
        let mut cursor = Cursor::since(outlet.end());
        outlet.publish([(content("a"), 0, true)], ms(0), None);
        let newest = [(content("C"), 0, true), (content("d"), 0, false)];
        outlet.publish(newest, ms(last), None);
        assert_eq!(read(&outlet, &mut cursor), (expected.into(), 0));
    }
}

#[test]
fn a_late_viewer_starts_minutes_into_a_group_as_long_as_its_lane_goes_on() {
    let outlet = outlet(1000);
    outlet.publish([(content("A"), 0, true)], ms(0), None);
    for second in 1..=300 {
        outlet.publish([(content("p"), 0, false)], ms(second * 1000), None);
    }
    let (text, jumps) = read(&outlet, &mut Cursor::new());
    assert_eq!((text, jumps), (format!("<h>A{}", "p".repeat(300)), 0));
    // A still source is silent for an hour; its next chunk refers to the frames before.
    outlet.publish([(content("q"), 0, false)], ms(4_000_000), None);
    let (text, _) = read(&outlet, &mut Cursor::new());
    assert!(text.starts_with("<h>A") && text.ends_with("pq"), "{text}");
}

#[test]
fn a_lane_that_went_quiet_keeps_no_chunks_of_the_others() {
    let outlet = Outlet::default();
    outlet.set_lanes(vec![LaneRule::new(ms(1000)); 2]);
    outlet.publish([(content("x"), 1, true)], ms(0), None);
    for second in 1..=120 {
        outlet.publish([(content("a"), 0, true)], ms(second * 1000), None);
    }
    assert!(outlet.bytes() < 5, "{}", outlet.bytes());
}

#[test]
fn with_a_lag_bound_of_zero_only_the_newest_counts() {
    let outlet = outlet(0);
    let mut cursor = Cursor::new();
    outlet.publish([(content("a"), 0, true)], ms(0), None);
    read(&outlet, &mut cursor);
    outlet.publish(
        [(content("b"), 0, true), (content("c"), 0, true)],
        ms(1),
        None,
    );
    assert_eq!(read(&outlet, &mut cursor), ("c".into(), 1));
}

#[test]
fn a_changed_header_comes_before_the_next_chunk_and_an_equal_one_does_not() {
    let outlet = outlet(1000);
    let mut cursor = Cursor::new();
    outlet.publish([(content("a"), 0, true)], ms(0), None);
    read(&outlet, &mut cursor);
    outlet.set_header(Header::new(vec![content("<h>")]));
    outlet.publish([(content("b"), 0, true)], ms(1), None);
    assert_eq!(read(&outlet, &mut cursor).0, "b");
    outlet.set_header(Header::new(vec![content("<new>")]));
    outlet.publish([(content("c"), 0, true)], ms(2), None);
    assert_eq!(read(&outlet, &mut cursor).0, "<new>c");
}

#[test]
fn a_viewer_of_one_lane_gets_no_other() {
    let outlet = Outlet::default();
    outlet.set_lanes(vec![LaneRule::new(ms(1000)); 2]);
    let mut cursor = Cursor::new();
    cursor.choose(&[1]);
    outlet.publish(
        [
            (content("a"), 0, true),
            (content("x"), 1, true),
            (content("b"), 0, false),
            (content("y"), 1, false),
        ],
        ms(0),
        None,
    );
    assert_eq!(read(&outlet, &mut cursor).0, "xy");
}

#[test]
fn a_viewer_that_has_chosen_before_it_starts_gets_no_other_lane() {
    for (chosen, expected) in [(&[0][..], "ab"), (&[1], "xy"), (&[], "")] {
        let outlet = Outlet::default();
        outlet.set_lanes(vec![LaneRule::new(ms(1000)); 2]);
        let mut cursor = Cursor::new();
        cursor.choose(chosen);
        let chunks = [
            ("a", 0, true),
            ("x", 1, true),
            ("b", 0, false),
            ("y", 1, false),
        ];
        let chunks = chunks.map(|(text, lane, start)| (content(text), lane, start));
        outlet.publish(chunks, ms(0), None);
        assert_eq!(read(&outlet, &mut cursor).0, expected);
    }
}

#[test]
fn a_waiting_viewer_is_woken_once_and_a_gone_one_is_released() {
    struct Task(std::sync::atomic::AtomicU32);
    impl std::task::Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let outlet = outlet(1000);
    let tasks: Vec<Arc<Task>> = (0..3).map(|_| Arc::new(Task(0.into()))).collect();
    let mut cursors: Vec<Cursor> = tasks.iter().map(|_| Cursor::new()).collect();
    for _ in 0..2 {
        for (task, cursor) in tasks.iter().zip(&mut cursors) {
            let waker = Waker::from(task.clone());
            let next = outlet.poll_take(
                &mut Context::from_waker(&waker),
                cursor,
                1,
                &mut VecDeque::new(),
            );
            assert!(next.is_pending());
        }
    }
    outlet.forget(&cursors[1]);
    assert_eq!(Arc::strong_count(&tasks[1]), 1);
    outlet.publish([(content("a"), 0, true)], ms(0), None);
    outlet.publish([(content("b"), 0, true)], ms(1), None);
    // This cursor waited for an earlier wake-up, so nothing changes.
    outlet.forget(&cursors[0]);
    let woken: Vec<u32> = tasks
        .iter()
        .map(|task| task.0.load(std::sync::atomic::Ordering::SeqCst))
        .collect();
    assert_eq!(woken, [1, 0, 1]);
}

proptest! {
    /// However slowly a viewer reads, it gets chunks once and in order, and continues at a start point after a jump.
    #[test]
    fn delivery_is_in_order_and_jumps_land_on_start_points(
        events in prop::collection::vec((0u64..400, any::<bool>(), prop::option::of(0usize..40)), 1..300)) {
        let outlet = Outlet::default();
        outlet.set_lanes(vec![LaneRule::new(ms(1000))]);
        let mut cursor = Cursor::new();
        let (mut now, mut number, mut last) = (0u64, 0u32, None::<u32>);
        let mut starts = Vec::new();
        for (step, independent, read) in events {
            now += step;
            if independent { starts.push(number); }
            outlet.publish([(Content::Binary(Bytes::copy_from_slice(&number.to_be_bytes()).into()), 0, independent)], ms(now), None);
            number += 1;
            let Some(budget) = read else { continue };
            let mut out = VecDeque::new();
            let taken = outlet.take(&mut cursor, budget, &mut out);
            for (nth, item) in out.into_iter().enumerate() {
                let Item::Chunk(chunk) = item else { unreachable!() };
                let Content::Binary(payload) = chunk.piece.content() else { unreachable!() };
                let got = u32::from_be_bytes(payload.parts()[0][..].try_into().unwrap());
                prop_assert_eq!(chunk.starts_group, starts.contains(&got));
                prop_assert_eq!(chunk.restarts, last.is_none_or(|last| got != last + 1));
                let goes_on = last.is_some_and(|last| got == last + 1);
                prop_assert!(goes_on || starts.contains(&got));
                prop_assert!(goes_on || last.is_none() || (nth == 0 && taken.jumps == 1));
                prop_assert!(last.is_none_or(|last| got > last));
                last = Some(got);
            }
        }
    }
}

#[test]
fn a_viewer_that_is_not_ready_gets_only_restarts() {
    let outlet = outlet(1000);
    let mut cursor = Cursor::new();
    let restart = |cursor: &mut Cursor| {
        let (mut items, mut nobody) = (VecDeque::new(), Context::from_waker(Waker::noop()));
        match outlet.poll_restart(&mut nobody, cursor, usize::MAX, &mut items) {
            Poll::Ready(Next::TakenChunks(_)) => text(items),
            Poll::Ready(Next::Closed(reason)) => reason.to_string(),
            Poll::Pending => String::new(),
        }
    };
    outlet.publish([(content("A"), 0, true)], ms(0), None);
    assert_eq!(restart(&mut cursor), "<h>A");
    outlet.publish(
        [(content("b"), 0, false), (content("C"), 0, true)],
        ms(900),
        None,
    );
    assert_eq!(restart(&mut cursor), "");
    outlet.publish([(content("d"), 0, false)], ms(2000), None);
    assert_eq!(restart(&mut cursor), "Cd");
    outlet.publish([(content("e"), 0, false)], ms(2100), None);
    outlet.close("over");
    assert_eq!(restart(&mut cursor), "");
    assert_eq!(read(&outlet, &mut cursor), ("e".into(), 0));
}

#[test]
fn a_lane_that_restarts_brings_nothing_of_the_others() {
    let outlet = Outlet::default();
    outlet.set_lanes(vec![LaneRule::new(ms(1000)), LaneRule::new(ms(100))]);
    let mut cursor = Cursor::new();
    let both = |number: &str, start| {
        let [first, second] = ["v", "n"].map(|lane| content(&format!("{lane}{number} ")));
        [(first, 0, start), (second, 1, start)]
    };
    outlet.publish(both("1", true), ms(0), None);
    assert_eq!(read(&outlet, &mut cursor).0, "v1 n1 ");
    outlet.publish(both("2", false), ms(200), None);
    outlet.publish(both("3", true), ms(400), None);
    let (mut items, mut nobody) = (VecDeque::new(), Context::from_waker(Waker::noop()));
    let taken = outlet.poll_restart(&mut nobody, &mut cursor, usize::MAX, &mut items);
    assert!(matches!(taken, Poll::Ready(Next::TakenChunks(_))));
    assert_eq!(text(items), "n3 ");
    // They are still there.
    assert_eq!(read(&outlet, &mut cursor).0, "v2 v3 ");
}
