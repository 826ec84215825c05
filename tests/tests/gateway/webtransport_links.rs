//! WebTransport on links that lose, delay and reorder packets, that are too slow, or that change: what arrives is right
//! and soon enough, and never stands still.

use bytes::Bytes;
use rustix::process::Signal;
use sluicegate_link::{Conditions, UdpLink};
use sluicegate_media::h264::{avcc, nal};
use sluicegate_tests::{
    Camera, Gateway, Watcher,
    camera::{self, COUNT, GROUP},
    webcodecs::{Group, Groups, Twin},
    webtransport::{Access, Session},
    within,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::MissedTickBehavior,
};

/// 30 frames per second in groups of half a second, 200 kbit/s.
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\n\
    encode = { width = 320, height = 192, frame-rate = 30, keyframe-interval = \"500ms\", bitrate = \"200k\" }\n";
/// Longest time without a frame.
const STANDSTILL: Duration = Duration::from_millis(1500);

/// A session of `{stream}/webcodecs` over a link of its own under these conditions.
async fn over(gateway: &Gateway, stream: &str, conditions: Conditions) -> (UdpLink, Groups) {
    let access = Access::of(gateway, stream).await;
    let link = UdpLink::open(access.address(), 0, 1).unwrap();
    link.set(|link| *link = conditions);
    let path = format!("{stream}/webcodecs");
    let session = Session::via(&access, link.address(), &path).await;
    (link, Groups::of(session.unwrap()))
}

fn longest_pause(mut arrivals: Vec<Instant>) -> Duration {
    arrivals.sort_unstable();
    let pauses = arrivals.windows(2).map(|pair| pair[1] - pair[0]);
    pauses.max().unwrap()
}

/// The NAL units without those that `avcc` has in the catalogue.
fn without_sets<'a>(nals: impl IntoIterator<Item = &'a Bytes>) -> Vec<&'a Bytes> {
    let is_set = |unit: &Bytes| matches!(nal::unit_type(unit), nal::SPS | nal::PPS | nal::AUD);
    nals.into_iter().filter(|unit| !is_set(unit)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_those_of_the_source_on_both_carriers() {
    const GROUPS: usize = 4;
    let clip = camera::clip();
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut nal = Watcher::open(gateway.address, "/live/cam/nal", clip).await;
    let twin = Twin::open(&gateway, "cam").await;
    let mut groups = Groups::of(Session::open(&gateway, "cam/webcodecs").await.unwrap());
    // Each frame needs its time, so that no two groups are short enough to become one.
    for _ in 0..=GROUPS * GROUP {
        camera.show(&mut nal).await;
    }
    let mut sent = clip.frames.iter();
    for _ in 0..GROUPS {
        let group = groups.next().await.unwrap();
        assert!(group.whole && group.frames.len() == GROUP);
        twin.assert_same(&group).await;
        for (place, (_, frame)) in group.frames.iter().enumerate() {
            let nals = avcc::split(&frame.data, 4).unwrap();
            assert_eq!(without_sets(&nals), without_sets(sent.next().unwrap()));
            assert_eq!(frame.independent, place == 0);
        }
    }
}

/// A client by aioquic, which writes a line for each stream.
fn aioquic(gateway: &Gateway, path: &str) -> Child {
    let root = Gateway::root();
    Command::new("python3")
        .arg(root.join("tests/fixtures/webtransport.py"))
        .args([&gateway.address.port().to_string(), path])
        .env("PYTHONPATH", root.join("target/python"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_library_of_http3_gets_the_same_groups() {
    let gateway = Gateway::with_config(DEMO).await;
    let twin = Twin::open(&gateway, "demo").await;
    let mut client = aioquic(&gateway, "/live/demo/webcodecs");
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut newest = None;
    for _ in 0..6 {
        let line = within("a group", lines.next_line()).await.unwrap();
        let line = line.expect("aioquic plays on");
        let byte = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16);
        let bytes: Result<Vec<u8>, _> = line.as_bytes().chunks(2).map(byte).collect();
        let group = Group::whole(bytes.unwrap());
        assert!(newest < Some(group.number), "{newest:?} {}", group.number);
        newest = Some(group.number);
        twin.assert_same(&group).await;
    }
    let refused = aioquic(&gateway, "/live/none/webcodecs");
    let refused = within("the refusal", refused.wait_with_output()).await;
    let said = String::from_utf8(refused.unwrap().stderr).unwrap();
    assert!(said.contains("refused with 404"), "{said}");
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_over_a_bad_link_is_right_and_does_not_stand_still() {
    const GROUPS: u64 = 12;
    let gateway = &Gateway::with_config(DEMO).await;
    let twin = &Twin::open(gateway, "demo").await;
    let watch = async |what: &str, conditions: Conditions| {
        let (link, mut groups) = over(gateway, "demo", conditions).await;
        let (mut numbers, mut arrivals) = (Vec::<u64>::new(), Vec::new());
        let mut first: Option<u64> = None;
        while numbers.last() < first.map(|first| first + GROUPS).as_ref() || first.is_none() {
            let group = groups.next().await.unwrap();
            twin.assert_same(&group).await;
            arrivals.extend(group.frames.iter().map(|(at, _)| *at));
            if group.whole {
                first.get_or_insert(group.number);
                numbers.push(group.number);
            }
        }
        let (longest, counts) = (longest_pause(arrivals), link.counts());
        println!("{what}: groups {numbers:?}, a frame at least every {longest:?}, {counts:?}");
        assert!(longest < STANDSTILL, "{what}: {longest:?}");
        assert_eq!(counts.down.dropped > 0, conditions.loss > 0.0, "{what}");
        numbers.sort_unstable();
        assert!(
            numbers.windows(2).all(|pair| pair[0] < pair[1]),
            "{what}: {numbers:?}"
        );
        numbers.len() as u64
    };
    let link = Conditions {
        delay: Duration::from_millis(20),
        ..Conditions::default()
    };
    let lossy = |loss| Conditions { loss, ..link };
    let reordering = Conditions {
        reordered: 0.2,
        held: Duration::from_millis(30),
        ..link
    };
    let (some, many, overtaken) = tokio::join!(
        watch("2 % loss", lossy(0.02)),
        watch("10 % loss", lossy(0.1)),
        watch("reordering", reordering),
    );
    assert!(some > GROUPS - 2 && many > GROUPS / 2, "{some} {many}");
    assert_eq!(overtaken, GROUPS + 1);
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_link_that_is_too_slow_the_age_stays_bounded() {
    /// 25 frames of about 50 KB each second are 10 Mbit/s.
    const FILLER: usize = 49_000;
    const FRAME_TIME: Duration = Duration::from_millis(40);
    const HALF: u64 = 5_000_000;
    const FRAMES: usize = 2 * COUNT;
    let clip = Box::leak(Box::new(camera::clip().with_filler(FILLER)));
    let mut camera = Camera::new(clip).await;
    // How far a viewer may be behind before it jumps; what waits below that comes on top: in the session, in QUIC and
    // in the queue of the link.
    let stale = "[transports.webcodecs]\nstale = \"500ms\"\n";
    let gateway = Gateway::with_config(&format!("{}{stale}", camera.config())).await;
    let twin = Twin::open(&gateway, "cam").await;
    let conditions = Conditions {
        delay: Duration::from_millis(20),
        rate: Some(HALF),
        ..Conditions::default()
    };
    let (_link, mut groups) = over(&gateway, "cam", conditions).await;
    let (mut sent, mut ticks) = (Vec::new(), tokio::time::interval(FRAME_TIME));
    // On a busy machine, too, a frame takes its time.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..FRAMES {
        ticks.tick().await;
        sent.push(Instant::now());
        camera.send().await;
    }
    let stopped = Instant::now();
    // Ends the streams.
    gateway.signal(Signal::TERM);
    let (mut ages, mut arrivals) = (BTreeMap::new(), Vec::new());
    let (mut whole, mut parts) = (BTreeSet::new(), 0);
    while let Some(group) = groups.next().await {
        // The last one has not ended.
        if twin.newest() > Some(group.number) {
            twin.assert_same(&group).await;
            match group.whole {
                true => assert!(whole.insert(group.number), "it comes twice"),
                false => parts += 1,
            }
        }
        for (frame, (at, _)) in (twin.frames_before(group.number)..).zip(&group.frames) {
            if *at < stopped {
                ages.insert(frame, at.duration_since(sent[frame]));
                arrivals.push(*at);
            }
        }
    }
    let longest = longest_pause(arrivals);
    let [first, second, third] = [0, 1, 2].map(|third| {
        let frames = third * FRAMES / 3..(third + 1) * FRAMES / 3;
        let age = ages.range(frames).map(|(_, age)| *age).max();
        age.expect("frames in each third")
    });
    println!(
        "groups {whole:?}, {parts} in part, at most {first:?}, {second:?}, {third:?} old, a frame at least every \
         {longest:?}"
    );
    assert!(longest < STANDSTILL, "{longest:?}");
    assert!(
        second.max(third) < Duration::from_millis(1500),
        "{second:?} {third:?}"
    );
    assert!(
        third < second + Duration::from_millis(300),
        "{second:?} {third:?}"
    );
    // A client sees by the numbers what it did not get.
    let all = whole.last().unwrap() - whole.first().unwrap() + 1;
    assert!(all > whole.len() as u64, "nothing was given up");
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_when_the_address_of_its_client_changes() {
    let gateway = Gateway::with_config(DEMO).await;
    let twin = Twin::open(&gateway, "demo").await;
    let conditions = Conditions {
        delay: Duration::from_millis(10),
        ..Conditions::default()
    };
    let (link, mut groups) = over(&gateway, "demo", conditions).await;
    let mut number = None;
    for _ in 0..3 {
        for _ in 0..2 {
            let group = groups.next().await.unwrap();
            assert!(group.whole);
            twin.assert_same(&group).await;
            assert!(number.is_none_or(|before| group.number == before + 1));
            number = Some(group.number);
        }
        link.rebind().unwrap();
        groups.poke().await;
    }
    assert!(groups.next().await.unwrap().whole);
    let sessions = gateway.api("/api/sessions").await;
    assert_eq!(
        sessions["sessions"].as_array().unwrap().len(),
        2,
        "{sessions:#}"
    );
    gateway.no_panic();
}
