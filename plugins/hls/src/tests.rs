#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use sluicegate_sdk::{
    Audio, Kind, Rendition, Track,
    mock::{self, Connection, Muxer},
};

const AVCC: [u8; 16] = [
    1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 3, 0x67, 0x42, 0xc0, 1, 0, 2, 0x68, 0xce,
];
/// Ticks of a frame at 30 frames per second.
const FRAME_TICKS: u64 = 3000;
const RUN: &str = "60a24181e4000";
const FIRST: u64 = 1_700_000_000;

/// A call that the host would make.
#[derive(Clone)]
enum Event {
    Configure(StreamInfo),
    Push(Sample),
    Stop,
}

/// A source, with the host's numbering of groups.
struct Source {
    events: Vec<Event>,
    info: StreamInfo,
    group_ticks: u64,
    group: u64,
    /// Start of the group; `None`: the next independent sample starts one.
    began: Option<u64>,
    at: u64,
}

impl Source {
    fn new(group_ms: u32) -> Source {
        let info = mock::video("h264/avcc", "avc1.42c01e", &AVCC);
        Source {
            events: vec![Event::Configure(info.clone())],
            info,
            group_ticks: u64::from(group_ms) * 90,
            group: FIRST - 1,
            began: None,
            at: 0,
        }
    }

    /// Adds a frame that lasts `ticks`.
    fn frame(&mut self, independent: bool, ticks: u64, bytes: usize) {
        let due = self
            .began
            .is_none_or(|began| self.at >= began + self.group_ticks);
        if independent && due {
            self.group += 1;
            self.began = Some(self.at);
        }
        self.push(1, self.at, independent, bytes);
        self.at += ticks;
    }

    fn push(&mut self, track: u32, decode_time: u64, independent: bool, bytes: usize) {
        let data = Buffer::from(vec![decode_time as u8; bytes]);
        let began = self.began.unwrap_or(0);
        self.events.push(Event::Push(Sample {
            track,
            group: self.group,
            decode_time,
            composition_offset: 0,
            duration: 0,
            independent,
            leading: false,
            repeated: false,
            captured_at: 0,
            group_started_at: self.info.started_at + began * 100 / 9,
            size: data.size(),
            data,
        }));
    }

    /// Adds frames; the first and each `keyframe`th is a keyframe.
    fn frames(&mut self, count: usize, keyframe: usize, ticks: u64) {
        for nth in 0..count {
            self.frame(nth % keyframe == 0, ticks, 100);
        }
    }

    /// The source is lost and returns after `ticks`.
    fn loses(&mut self, ticks: u64) {
        self.events.push(Event::Stop);
        self.at += ticks;
        self.breaks();
    }

    fn breaks(&mut self) {
        self.began = None;
        self.info.epoch += 1;
        self.events.push(Event::Configure(self.info.clone()));
    }
}

fn open(options: &str) -> Muxer<Hls> {
    Muxer::open(options).unwrap()
}

fn feed(muxer: &mut Muxer<Hls>, events: &[Event]) {
    for event in events {
        match event.clone() {
            Event::Configure(info) => drop(muxer.configure(&info)),
            Event::Push(sample) => drop(muxer.push(sample)),
            Event::Stop => drop(muxer.stop("gone", false)),
        }
    }
}

/// A muxer that received frames at 30 frames per second with a keyframe every second.
fn playing(options: &str, frames: usize) -> Muxer<Hls> {
    let mut muxer = open(options);
    let mut source = Source::new(muxer.profile().group_ms);
    source.frames(frames, 30, FRAME_TICKS);
    feed(&mut muxer, &source.events);
    muxer
}

/// Status of the response (0: pending), and its body as text.
fn get(muxer: &Muxer<Hls>, url: &str) -> (u16, String) {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    match muxer.request(path, query) {
        Reply::Done(response) => {
            let body = response.body.to_vec();
            (response.status, String::from_utf8_lossy(&body).into_owned())
        }
        Reply::Pending => (0, String::new()),
        Reply::Follow(_) => panic!("nobody follows HLS"),
    }
}

fn media(muxer: &Muxer<Hls>) -> String {
    let (status, text) = get(muxer, MEDIA);
    assert_eq!(status, 200, "{text}");
    text
}

/// Values of all tags of that name.
fn values<'a>(playlist: &'a str, tag: &str) -> Vec<&'a str> {
    let tag = format!("#{tag}:");
    playlist
        .lines()
        .filter_map(|line| line.strip_prefix(tag.as_str()))
        .collect()
}

fn number(text: &str) -> u64 {
    text.trim_end_matches(',').replace('.', "").parse().unwrap()
}

fn attribute<'a>(attributes: &'a str, name: &str) -> &'a str {
    let found = attributes
        .split(',')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    found.unwrap().trim_matches('"')
}

#[test]
fn a_segment_omits_leading_frames_of_its_first_frame_and_keeps_others() {
    let mut muxer = open(r#"{"segment": "1s"}"#);
    let mut source = Source::new(muxer.profile().group_ms);
    // Keyframes every half second; the second frame after each is a leading one.
    source.frames(4 * 30, 15, FRAME_TICKS);
    let mut frames = 0;
    for event in &mut source.events {
        if let Event::Push(sample) = event {
            sample.leading = frames % 15 == 2;
            frames += 1;
        }
    }
    feed(&mut muxer, &source.events);
    for msn in FIRST..FIRST + 3 {
        let name = format!("{RUN}-{msn}.m4s");
        let Reply::Done(response) = muxer.request(&name, "") else {
            panic!("no segment")
        };
        // Each frame has 100 bytes. One of the two leading frames is omitted.
        let bytes = response.body.to_vec();
        let (mut at, mut payload) = (0, 0);
        while let Some(head) = bytes.get(at..at + 8) {
            let size = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            payload += if &head[4..] == b"mdat" { size - 8 } else { 0 };
            at += size;
        }
        assert_eq!(payload, 29 * 100, "segment {msn}");
    }
    let list = media(&muxer);
    let durations: Vec<u64> = values(&list, "EXTINF").into_iter().map(number).collect();
    assert_eq!(durations[..3], [100_000; 3], "{list}");
    // Players must not start at the keyframe in the middle either: it has a leading frame, too.
    let starts = list.lines().filter(|line| line.contains("INDEPENDENT=YES"));
    let (first, later): (Vec<&str>, Vec<&str>) = starts.partition(|line| line.contains(".0.m4s"));
    assert!(first.len() >= 3 && later.is_empty(), "{list}");
}

#[test]
fn playlist_reads_as_the_specification_wants_it() {
    let muxer = playing(r#"{"segment": "1s", "window": 3}"#, 8 * 30 + 15);
    let run = RUN;
    let mut expected = format!(
        "#EXTM3U\n\
         #EXT-X-VERSION:9\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.00000,HOLD-BACK=6.00000,PART-HOLD-BACK=0.63000\n\
         #EXT-X-PART-INF:PART-TARGET=0.21000\n\
         #EXT-X-MEDIA-SEQUENCE:{}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:0\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-MAP:URI=\"init-{run}-0.mp4\"\n",
        FIRST + 2
    );
    // The option says three, but they are shorter than three target durations.
    for nth in 2..9 {
        let msn = FIRST + nth;
        expected += &format!(
            "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:{:02}.000Z\n",
            20 + nth
        );
        // Parts are listed for the last three target durations.
        let parts = match nth {
            2 => 0,
            8 => 2,
            _ => 5,
        };
        for part in 0..parts {
            let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
            expected += &format!(
                "#EXT-X-PART:DURATION=0.20000,URI=\"{run}-{msn}.{part}.m4s\"{independent}\n"
            );
        }
        if nth < 8 {
            expected += &format!("#EXTINF:1.00000,\n{run}-{msn}.m4s\n");
        }
    }
    expected += &format!(
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{run}-{}.2.m4s\"\n",
        FIRST + 8
    );
    assert_eq!(media(&muxer), expected);
}

#[test]
fn plain_playlist_has_no_trace_of_low_latency() {
    let muxer = playing(r#"{"low-latency": false, "window": 6}"#, 20 * 30);
    let text = media(&muxer);
    for tag in [
        "PART",
        "SERVER-CONTROL",
        "PRELOAD-HINT",
        "RENDITION-REPORT",
        "SKIP",
    ] {
        assert!(!text.contains(tag), "{text}");
    }
    assert_eq!(values(&text, "EXTINF"), ["2.00000,"; 6]);
    assert_eq!(values(&text, "EXT-X-VERSION"), ["6"]);
    let first = number(values(&text, "EXT-X-MEDIA-SEQUENCE")[0]);
    assert_eq!(first, FIRST + 9 - 6);
    // Directives are ignored, so the response is immediate.
    assert_eq!(get(&muxer, "media.m3u8?_HLS_msn=9&_HLS_skip=YES").1, text);
    let (status, whole) = get(&muxer, &format!("{RUN}-{first}.m4s"));
    assert_eq!((status, whole.matches("moof").count()), (200, 2));
}

#[test]
fn multivariant_playlist_lists_renditions_with_what_is_known() {
    let mut muxer = open("");
    assert_eq!(get(&muxer, "index.m3u8").0, 0);
    let mut source = Source::new(muxer.profile().group_ms);
    let own = source.info.renditions[0].clone();
    let Event::Configure(info) = &mut source.events[0] else {
        panic!("the first event")
    };
    info.renditions = vec![
        Rendition {
            codecs: String::new(),
            bandwidth: 0,
            frame_rate: 29.97,
            ..own.clone()
        },
        Rendition {
            name: "mobile".into(),
            base: "../../porch@mobile/hls/".into(),
            codecs: "avc1.42c015".into(),
            bandwidth: 300_000,
            width: 0,
            height: 0,
            frame_rate: 0.0,
            more: vec![],
        },
    ];
    feed(&mut muxer, &source.events);
    // Bit rates are measured on segments.
    assert_eq!(get(&muxer, "index.m3u8").0, 0);

    // 100 bytes per frame, but twice as many in the second segment.
    for second in 0..7 {
        for nth in 0..30 {
            let bytes = if second / 2 == 1 { 200 } else { 100 };
            source.frame(nth == 0, FRAME_TICKS, bytes);
        }
    }
    feed(&mut muxer, &source.events[1..]);
    let (_, text) = get(&muxer, "index.m3u8");
    let boxes = |parts: u64| parts * (24 + 64 + 8) * 8;
    let payload = |bytes: u64| 60 * (bytes + 16) * 8;
    let peak = (payload(200) + boxes(10)) / 2;
    let average = (2 * payload(100) + payload(200) + boxes(30)) / 6;
    assert_eq!(
        text,
        format!(
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={average},\
             CODECS=\"avc1.42c01e\",RESOLUTION=640x360,FRAME-RATE=29.970\nmedia.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=375000,AVERAGE-BANDWIDTH=300000,CODECS=\"avc1.42c015\"\n\
             ../../porch@mobile/hls/media.m3u8\n",
            peak + peak.div_ceil(4)
        )
    );
}

#[test]
fn reports_are_of_the_parts_that_the_other_renditions_have() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    let other = |name: &str, frame_rate| Rendition {
        name: name.into(),
        base: format!("../../porch@{name}/hls/"),
        frame_rate,
        ..source.info.renditions[0].clone()
    };
    // Parts of 0.2 s, 0.25 s and 1 s.
    let others = [other("same", 15.0), other("slow", 8.0), other("still", 1.0)];
    source.info.renditions.extend(others);
    source.events[0] = Event::Configure(source.info.clone());
    let mut reports = |frames| {
        source.frames(frames, 60, FRAME_TICKS);
        feed(&mut muxer, &std::mem::take(&mut source.events));
        let (_, text) = get(&muxer, MEDIA);
        let of = |report| {
            let msn: u64 = attribute(report, "LAST-MSN").parse().unwrap();
            let part: u64 = attribute(report, "LAST-PART").parse().unwrap();
            (msn - FIRST, part)
        };
        let found = values(&text, "EXT-X-RENDITION-REPORT");
        found.into_iter().map(of).collect::<Vec<_>>()
    };
    // The newest frame is held back until the next one.
    assert_eq!(reports(61), [(0, 9), (0, 7), (0, 1)]);
    assert_eq!(reports(60), [(1, 9), (1, 7), (1, 1)]);
}

#[test]
fn keyframes_that_are_too_far_apart_are_reported_and_not_waited_for() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    source.frames(300, 10_000, FRAME_TICKS);
    feed(&mut muxer, &std::mem::take(&mut source.events));
    for url in ["index.m3u8", MEDIA] {
        assert_eq!(get(&muxer, url).0, 0, "{url}");
    }
    source.frame(false, FRAME_TICKS, 10);
    source.frame(false, FRAME_TICKS, 10);
    feed(&mut muxer, &std::mem::take(&mut source.events));
    for url in ["index.m3u8", MEDIA] {
        let (status, text) = get(&muxer, url);
        assert!(status == 503 && text.contains("none for 10 s"), "{text}");
    }
    source.frames(1, 1, FRAME_TICKS);
    feed(&mut muxer, &source.events);
    for url in ["index.m3u8", MEDIA] {
        assert_eq!(get(&muxer, url).0, 200, "{url}");
    }
}

#[test]
fn a_segment_begins_when_it_is_shown_and_ends_where_the_next_is_shown() {
    // With B-frames, frames are presented a tenth of a second after they are decoded, which other renditions cannot
    // know.
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    source.frames(121, 60, FRAME_TICKS);
    for event in &mut source.events {
        if let Event::Push(sample) = event {
            // The first frame of the second segment is even later.
            let more = i32::from(sample.decode_time == 60 * FRAME_TICKS) * 900;
            sample.composition_offset = 9000 + more;
            sample.group_started_at += (9000 + more) as u64 * 100 / 9;
        }
    }
    feed(&mut muxer, &source.events);
    let text = media(&muxer);
    assert_eq!(values(&text, "EXTINF"), ["2.01000,", "1.99000,"]);
    let dates = values(&text, "EXT-X-PROGRAM-DATE-TIME");
    assert_eq!(
        dates[..2],
        ["2023-11-14T22:13:20.100Z", "2023-11-14T22:13:22.110Z"]
    );
    let parts = values(&text, "EXT-X-PART");
    let parts = parts.iter().map(|part| number(attribute(part, "DURATION")));
    assert_eq!(parts.take(10).sum::<u64>(), 201_000);
}

#[test]
fn blocking_reload_waits_for_what_comes_soon_and_refuses_what_does_not() {
    // Segments 0 to 2 are complete with 10 parts each; segment 3 has 4 parts.
    let muxer = playing("", 3 * 60 + 30);
    let of = |msn: u64, part: &str| {
        let url = format!("media.m3u8?_HLS_msn={}{part}", FIRST + msn);
        get(&muxer, &url).0
    };
    for (msn, part, status) in [
        (0, "", 200),
        (2, "", 200),
        (2, "&_HLS_part=9", 200),
        (1, "&_HLS_part=99", 200),
        // A part beyond the last one of a complete segment is the first of the next segment.
        (2, "&_HLS_part=10", 200),
        (3, "&_HLS_part=3", 200),
        (3, "&_HLS_part=4", 0),
        (3, "&_HLS_part=18", 0),
        (3, "&_HLS_part=19", 400),
        (3, "", 0),
        (4, "&_HLS_part=0", 0),
        (4, "&_HLS_part=15", 400),
        (4, "", 0),
        (5, "", 400),
        (5, "&_HLS_part=0", 400),
    ] {
        assert_eq!(of(msn, part), status, "{msn}{part}");
    }
    assert_eq!(get(&muxer, "media.m3u8?_HLS_msn=12").0, 200);
    assert_eq!(get(&muxer, "media.m3u8?_HLS_part=1").0, 400);
    assert_eq!(get(&muxer, "media.m3u8?_HLS_msn=x").0, 400);
}

#[test]
fn a_file_that_comes_is_waited_for_and_one_that_is_gone_is_not_found() {
    let muxer = playing("", 60 * 60 + 30);
    let now = FIRST + 60;
    let of = |name: String| get(&muxer, &name).0;
    let run = RUN;
    for (name, status) in [
        (format!("{run}-{}.m4s", now - 1), 200),
        (format!("{run}-{}.9.m4s", now - 1), 200),
        (format!("{run}-{}.10.m4s", now - 1), 404),
        (format!("{run}-{now}.3.m4s"), 200),
        (format!("{run}-{now}.4.m4s"), 0),
        (format!("{run}-{now}.99.m4s"), 400),
        (format!("{run}-{now}.m4s"), 0),
        (format!("{run}-{}.0.m4s", now + 1), 0),
        (format!("{run}-{}.m4s", now + 2), 400),
        (format!("{run}-{}.m4s", now - 22), 404),
        (format!("{run}-{}.0.m4s", now - 22), 404),
        (format!("{run}-{}.0.m4s", now - 21), 200),
        (format!("init-{run}-0.mp4"), 200),
        (format!("init-{run}-1.mp4"), 404),
        (format!("1{run}-{now}.0.m4s"), 404),
        (format!("{run}-0{now}.0.m4s"), 404),
        ("media.m3u8/".into(), 404),
        (String::new(), 404),
    ] {
        assert_eq!(of(name.clone()), status, "{name}");
    }
}

#[test]
fn a_playlist_comes_with_the_first_segment_and_waits_until_then() {
    let muxer = open("");
    assert_eq!(get(&muxer, MEDIA).0, 0);
    for (frames, status) in [(1, 0), (60, 0), (61, 200)] {
        let muxer = playing("", frames);
        assert_eq!(get(&muxer, MEDIA).0, status, "{frames}");
        assert_eq!(get(&muxer, &format!("{RUN}-{FIRST}.m4s")).0, status);
        assert_eq!(get(&muxer, &format!("init-{RUN}-0.mp4")).0, 200);
    }
}

#[test]
fn immutable_files_say_so_and_playlists_last_as_long_as_caches_may_keep_them() {
    let muxer = playing("", 4 * 60);
    let max_age = |url: &str| {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        match muxer.request(path, query) {
            Reply::Done(response) => (response.content_type, response.max_age),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        max_age(&format!("init-{RUN}-0.mp4")),
        ("video/mp4".into(), Response::FOREVER)
    );
    for name in [format!("{RUN}-{FIRST}.m4s"), format!("{RUN}-{FIRST}.3.m4s")] {
        assert_eq!(
            max_age(&name),
            ("video/iso.segment".into(), Response::FOREVER)
        );
    }
    let blocking = format!("media.m3u8?_HLS_msn={FIRST}&_HLS_part=3");
    for (url, seconds) in [("index.m3u8", 1), (MEDIA, 1), (&blocking, 12)] {
        assert_eq!(max_age(url), (PLAYLIST.into(), seconds));
    }
    assert_eq!(max_age(&format!("{RUN}-{FIRST}.77.m4s")).1, 0);
}

#[test]
fn a_break_is_a_discontinuity_with_its_own_map() {
    let mut muxer = open(r#"{"window": 6}"#);
    let mut source = Source::new(muxer.profile().group_ms);
    source.frames(2 * 60 + 7, 30, FRAME_TICKS);
    source.loses(90_000 * 3);
    // The source returned and was lost again before its first frame.
    source.breaks();
    source.frames(60 + 1, 30, FRAME_TICKS);
    feed(&mut muxer, &source.events);
    let text = media(&muxer);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| {
            ["#EXTINF", "#EXT-X-DISC", "#EXT-X-MAP", "#EXT-X-PROG"]
                .iter()
                .any(|tag| line.starts_with(tag))
        })
        .collect();
    assert_eq!(
        lines,
        [
            "#EXT-X-DISCONTINUITY-SEQUENCE:0",
            "#EXT-X-MAP:URI=\"init-60a24181e4000-0.mp4\"",
            "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z",
            "#EXTINF:2.00000,",
            "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:22.000Z",
            "#EXTINF:2.00000,",
            "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:24.000Z",
            "#EXTINF:0.23333,",
            "#EXT-X-DISCONTINUITY",
            "#EXT-X-DISCONTINUITY",
            "#EXT-X-MAP:URI=\"init-60a24181e4000-2.mp4\"",
            "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:27.233Z",
            "#EXTINF:2.00000,",
        ]
    );
    // When the break is no longer listed, the discontinuity sequence number accounts for it.
    source.frames(6 * 60, 30, FRAME_TICKS);
    let mut later = open(r#"{"window": 6}"#);
    feed(&mut later, &source.events);
    let text = media(&later);
    assert_eq!(values(&text, "EXT-X-DISCONTINUITY-SEQUENCE"), ["2"]);
    assert!(!text.contains("#EXT-X-DISCONTINUITY\n"));
    assert_eq!(values(&text, "EXT-X-MAP").len(), 1);
    assert_eq!(
        get(&later, &format!("init-{RUN}-0.mp4")).0,
        200,
        "still asked for"
    );
}

#[test]
fn the_end_is_announced_and_nothing_is_hinted_behind_it() {
    let mut muxer = playing("", 5 * 60 + 10);
    let far = format!("media.m3u8?_HLS_msn={}", FIRST + 6);
    assert_eq!(get(&muxer, &far).0, 0);
    muxer.stop("drain", true);
    let text = media(&muxer);
    assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    assert!(!text.contains("PRELOAD-HINT"));
    assert_eq!(*values(&text, "EXTINF").last().unwrap(), "0.33333,");
    assert_eq!(get(&muxer, &format!("{far}&_HLS_skip=YES")).1, text);
    assert_eq!(get(&muxer, &format!("{RUN}-{}.0.m4s", FIRST + 6)).0, 404);

    let mut empty = open("");
    empty.configure(&mock::video("h264/avcc", "avc1.42c01e", &AVCC));
    empty.stop("drain", true);
    assert_eq!(get(&empty, MEDIA).0, 404);
    assert_eq!(get(&empty, &format!("{RUN}-{FIRST}.m4s")).0, 404);
}

#[test]
fn a_delta_update_leaves_out_what_is_beyond_the_skip_boundary() {
    let muxer = playing(r#"{"window": 20}"#, 30 * 60 + 10);
    let full = media(&muxer);
    let (_, delta) = get(&muxer, "media.m3u8?_HLS_skip=YES");
    assert_eq!(values(&delta, "EXT-X-SKIP"), ["SKIPPED-SEGMENTS=14"]);
    let (head, tail) = delta
        .split_once("#EXT-X-SKIP:SKIPPED-SEGMENTS=14\n")
        .unwrap();
    assert!(full.starts_with(head) && full.ends_with(tail));
    let skipped = &full[head.len()..full.len() - tail.len()];
    assert_eq!(values(skipped, "EXTINF").len(), 14);
    // The same with the default options.
    let usual = playing("", 30 * 60);
    let (_, delta) = get(&usual, "media.m3u8?_HLS_skip=YES");
    assert_eq!(values(&delta, "EXT-X-SKIP"), ["SKIPPED-SEGMENTS=4"]);
    // No segment is old enough: the complete playlist.
    let short = playing(r#"{"window": 6}"#, 30 * 60);
    assert_eq!(get(&short, "media.m3u8?_HLS_skip=YES").1, media(&short));
}

#[test]
fn keyframes_further_apart_than_promised_raise_the_target_duration_uncut() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    source.frames(3 * 300 + 1, 300, FRAME_TICKS);
    feed(&mut muxer, &source.events);
    let text = media(&muxer);
    assert_eq!(values(&text, "EXT-X-TARGETDURATION"), ["10"]);
    assert_eq!(values(&text, "EXTINF"), ["10.00000,"; 3]);
    assert!(text.contains("HOLD-BACK=30.00000"));
    // If it is known beforehand, it is promised from the start.
    let mut info = mock::video("h264/avcc", "avc1.42c01e", &AVCC);
    if let Kind::Video(video) = &mut info.tracks[0].kind {
        video.keyframe_ms = 10_000;
    }
    source.events[0] = Event::Configure(info);
    let mut muxer = open("");
    for event in &source.events {
        feed(&mut muxer, std::slice::from_ref(event));
        if let (200, text) = get(&muxer, MEDIA) {
            assert_eq!(values(&text, "EXT-X-TARGETDURATION"), ["10"]);
        }
    }
}

#[test]
fn the_target_duration_does_not_fall_when_the_longest_segment_has_gone() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    source.frames(60, 60, FRAME_TICKS);
    source.frames(120, 120, FRAME_TICKS);
    source.frames(60 * 60, 60, FRAME_TICKS);
    let mut targets = vec![];
    for event in &source.events {
        feed(&mut muxer, std::slice::from_ref(event));
        if let (200, text) = get(&muxer, MEDIA) {
            targets.push(values(&text, "EXT-X-TARGETDURATION")[0].to_owned());
        }
    }
    targets.dedup();
    assert_eq!(targets, ["2", "4"]);
}

#[test]
fn no_part_is_longer_than_the_part_target_where_the_frame_rate_changes() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    let tracks = |rate: f32, epoch: u32| {
        let mut info = mock::video("h264/avcc", "avc1.42c01e", &AVCC);
        info.epoch = epoch;
        if let Kind::Video(video) = &mut info.tracks[0].kind {
            video.frame_rate = rate;
        }
        info.renditions[0].frame_rate = rate;
        info
    };
    source.events[0] = Event::Configure(tracks(8.0, 0));
    source.frames(8 * 8, 16, 90_000 / 8);
    source.events.push(Event::Configure(tracks(30.0, 1)));
    source.began = None;
    source.frames(30 * 60, 60, FRAME_TICKS);
    let mut targets = vec![];
    for event in &source.events {
        feed(&mut muxer, std::slice::from_ref(event));
        let (200, text) = get(&muxer, MEDIA) else {
            continue;
        };
        let target: f64 = values(&text, "EXT-X-PART-INF")[0]
            .trim_start_matches("PART-TARGET=")
            .parse()
            .unwrap();
        for part in values(&text, "EXT-X-PART") {
            let duration = part.trim_start_matches("DURATION=").split(',').next();
            let duration: f64 = duration.unwrap().parse().unwrap();
            assert!(duration <= target, "{part} of {target}");
        }
        targets.push(target.to_string());
    }
    targets.dedup();
    assert_eq!(targets.len(), 2, "{targets:?}");
}

#[test]
fn large_segments_shorten_the_window_instead_of_breaking_a_limit() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    let mut lengths = vec![];
    for _ in 0..12 {
        for nth in 0..20 {
            source.frame(nth == 0, 9000, 250_000);
        }
        feed(&mut muxer, &std::mem::take(&mut source.events));
        if let (200, text) = get(&muxer, MEDIA) {
            lengths.push(values(&text, "EXTINF").len());
        }
    }
    assert_eq!(lengths, [1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 4], "5 MB each");
}

#[test]
fn a_group_larger_than_the_memory_becomes_a_gap_and_the_next_one_plays() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    for _ in 0..4 {
        for nth in 0..20 {
            source.frame(nth == 0, 9000, 10_000);
        }
    }
    for nth in 0..60 {
        source.frame(nth == 0, 9000, 1_000_000);
    }
    source.frames(61, 60, FRAME_TICKS);
    feed(&mut muxer, &source.events);
    let text = media(&muxer);
    let gap = format!("#EXT-X-GAP\n#EXTINF:6.00000,\n{RUN}-{}.m4s\n", FIRST + 4);
    assert!(text.contains(&gap), "{text}");
    assert_eq!(get(&muxer, &format!("{RUN}-{}.m4s", FIRST + 4)).0, 404);
    assert_eq!(get(&muxer, &format!("{RUN}-{}.m4s", FIRST + 5)).0, 200);
    assert_eq!(mock::take_logs().len(), 1);
}

#[test]
fn groups_that_the_host_lost_are_gaps_as_long_as_they_were() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    source.frames(7 * 60 + 1, 60, FRAME_TICKS);
    // The end of the third segment, all of the fourth, and the keyframe of the seventh.
    let lost = |sample: &Sample| {
        let nth = sample.decode_time / FRAME_TICKS;
        (150..240).contains(&nth) || nth == 360
    };
    source
        .events
        .retain(|event| !matches!(event, Event::Push(sample) if lost(sample)));
    feed(&mut muxer, &source.events);
    let text = media(&muxer);
    assert_eq!(
        values(&text, "EXTINF"),
        [
            "2.00000,", "2.00000,", "1.00000,", "3.00000,", "2.00000,", "2.00000,", "2.00000,"
        ]
    );
    let gap = format!("#EXT-X-GAP\n#EXTINF:3.00000,\n{RUN}-{}.m4s\n", FIRST + 3);
    assert!(text.contains(&gap), "{text}");
    assert!(text.contains(&format!(
        "#EXT-X-GAP\n#EXTINF:2.00000,\n{RUN}-{}.m4s\n",
        FIRST + 6
    )));
}

fn audio_track(id: u32, timescale: u32) -> Track {
    Track {
        id,
        format: "aac".into(),
        codec: "mp4a.40.2".into(),
        config: vec![0x11, 0x90],
        timescale,
        kind: Kind::Audio(Audio {
            sample_rate: 48_000,
            channels: 2,
            language: "und".into(),
        }),
        more: vec![],
    }
}

/// Decode time, number of samples and total duration of each `traf`: track, start, count, duration.
fn fragments(bytes: &[u8]) -> Vec<(u32, u64, u32, u64)> {
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let find = |name: &[u8; 4], from: usize| {
        (from..bytes.len().saturating_sub(3)).find(|at| bytes[*at..*at + 4] == *name)
    };
    let mut found = vec![];
    let mut at = 0;
    while let Some(tfhd) = find(b"tfhd", at) {
        let tfdt = find(b"tfdt", tfhd).unwrap();
        let trun = find(b"trun", tfdt).unwrap();
        let time = u64::from(word(tfdt + 8)) << 32 | u64::from(word(tfdt + 12));
        let count = word(trun + 8);
        let durations = (0..count as usize).map(|nth| u64::from(word(trun + 16 + nth * 16)));
        found.push((word(tfhd + 8), time, count, durations.sum()));
        at = trun;
    }
    found
}

#[test]
fn audio_goes_along_in_the_fragments_of_the_video_and_nothing_is_left_out() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    source.info.tracks.push(audio_track(2, 48_000));
    source.events[0] = Event::Configure(source.info.clone());
    // Audio before the first video frame belongs to no segment.
    source.push(2, 0, true, 10);
    let mut heard = 0;
    for nth in 0..121 {
        source.frame(nth % 60 == 0, FRAME_TICKS, 100);
        while heard * 1024 * 90_000 / 48_000 < source.at {
            heard += 1;
            source.push(2, heard * 1024, true, 10);
        }
    }
    feed(&mut muxer, &source.events);
    let (mut video, mut audio, mut count) = (0, 1024, 0);
    for msn in FIRST..FIRST + 2 {
        let Reply::Done(response) = muxer.request(&format!("{RUN}-{msn}.m4s"), "") else {
            panic!("a segment")
        };
        let found = fragments(&response.body.to_vec());
        assert_eq!(found.len(), 20, "ten parts of two tracks");
        for (track, start, samples, duration) in found {
            let next = if track == 1 { &mut video } else { &mut audio };
            assert_eq!(start, *next, "track {track}");
            *next += duration;
            count += u64::from(samples);
        }
    }
    assert_eq!(video, 120 * FRAME_TICKS);
    // Up to about 4 s: the newest audio frame is held back until the next one.
    assert!(
        (4 * 48_000 - 1024..4 * 48_000 + 1024).contains(&audio),
        "{audio}"
    );
    assert_eq!(count, 120 + audio / 1024 - 1);
    assert!(
        get(&muxer, "index.m3u8")
            .1
            .contains("CODECS=\"avc1.42c01e,mp4a.40.2\"")
    );
}

#[test]
fn audio_alone_has_segments_and_parts_of_its_own() {
    let mut muxer = open("");
    let mut source = Source::new(muxer.profile().group_ms);
    source.info.tracks = vec![audio_track(1, 90_000)];
    source.info.renditions.truncate(1);
    (
        source.info.renditions[0].width,
        source.info.renditions[0].frame_rate,
    ) = (0, 0.0);
    source.info.renditions[0].codecs = "mp4a.40.2".into();
    source.events[0] = Event::Configure(source.info.clone());
    for _ in 0..500 {
        source.frame(true, 1920, 50);
    }
    feed(&mut muxer, &source.events);
    let text = media(&muxer);
    let target = number(attribute(values(&text, "EXT-X-PART-INF")[0], "PART-TARGET"));
    assert!(values(&text, "EXTINF").len() >= 4);
    for part in values(&text, "EXT-X-PART") {
        let duration = number(attribute(part, "DURATION"));
        assert!(
            duration <= target && part.contains("INDEPENDENT=YES"),
            "{part}"
        );
    }
    let (_, index) = get(&muxer, "index.m3u8");
    assert!(index.contains("CODECS=\"mp4a.40.2\"\n"), "{index}");
}

#[test]
fn tracks_that_no_mp4_can_have_are_reported() {
    let mut muxer = open("");
    let mut info = mock::video("jpeg", "", &[]);
    muxer.configure(&info);
    let (status, text) = get(&muxer, MEDIA);
    assert_eq!(status, 503, "{text}");
    assert_eq!(get(&muxer, "nothing").0, 404);
    mock::take_logs();
    // Other tracks resolve the problem.
    info = StreamInfo {
        epoch: 1,
        ..mock::video("h264/avcc", "avc1.42c01e", &AVCC)
    };
    muxer.configure(&info);
    assert_eq!(get(&muxer, MEDIA).0, 0);
}

#[test]
fn times_beyond_32_and_33_bits_go_on() {
    for wrap in [1u64 << 32, 1 << 33] {
        let mut muxer = open("");
        let mut source = Source::new(muxer.profile().group_ms);
        source.at = wrap - 90_000 * 3;
        source.frames(6 * 30 + 1, 30, FRAME_TICKS);
        feed(&mut muxer, &source.events);
        assert_eq!(values(&media(&muxer), "EXTINF"), ["2.00000,"; 3]);
        let mut next = wrap - 90_000 * 3;
        for msn in FIRST..FIRST + 3 {
            let Reply::Done(response) = muxer.request(&format!("{RUN}-{msn}.m4s"), "") else {
                panic!("a segment")
            };
            for (_, start, _, duration) in fragments(&response.body.to_vec()) {
                assert_eq!(start, next);
                next += duration;
            }
        }
    }
}

/// Every response that a client could get, as one text.
fn everything(muxer: &Muxer<Hls>) -> String {
    let mut all = String::new();
    for url in ["index.m3u8", MEDIA, "media.m3u8?_HLS_skip=YES"] {
        let (status, text) = get(muxer, url);
        all += &format!("{url} {status}\n{text}\n");
    }
    for msn in (FIRST..FIRST + 60).rev() {
        for name in [format!("{RUN}-{msn}.m4s"), format!("{RUN}-{msn}.0.m4s")] {
            let Reply::Done(response) = muxer.request(&name, "") else {
                all += &format!("{name} comes\n");
                continue;
            };
            let bytes = response.body.to_vec();
            let sum = bytes.iter().fold(7u64, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
            });
            all += &format!("{name} {} {} {sum}\n", response.status, bytes.len());
        }
    }
    all
}

/// The events with which the host would start a new instance: `history` groups, and the tracks at their start.
fn history(events: &[Event], history: u64) -> Vec<Event> {
    let newest = events.iter().rev().find_map(|event| match event {
        Event::Push(sample) => Some(sample.group),
        _ => None,
    });
    let first = (newest.unwrap_or(FIRST) + 1).saturating_sub(history);
    let start = events
        .iter()
        .position(|event| matches!(event, Event::Push(sample) if sample.group >= first));
    let start = start.unwrap_or(0);
    let tracks = events[..start]
        .iter()
        .rev()
        .find(|event| matches!(event, Event::Configure(_)));
    let told = tracks.into_iter().chain(&events[start..]).cloned();
    let longest = (longest_group(events) / 90) as u32;
    // A new instance is told the longest group so far.
    let told = told.map(|event| match event {
        Event::Configure(mut info) => {
            info.longest_group_ms = longest;
            Event::Configure(info)
        }
        other => other,
    });
    told.collect()
}

/// Duration of the longest complete group since the newest break, in ticks.
fn longest_group(events: &[Event]) -> u64 {
    let (mut longest, mut newest) = (0, None);
    for event in events {
        let Event::Push(sample) = event else {
            (longest, newest) = (0, None);
            continue;
        };
        match newest {
            Some((group, began)) if sample.group > group => {
                longest = longest.max(sample.decode_time - began);
            }
            Some(_) => continue,
            None => {}
        }
        newest = Some((sample.group, sample.decode_time));
    }
    longest
}

#[derive(Clone, Debug)]
enum Step {
    Frame {
        keyframe: bool,
        ticks: u64,
        bytes: usize,
    },
    Lost(u64),
    Changed,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let frame = (
        prop::bool::weighted(0.1),
        prop_oneof![9 => Just(3000u64), 1 => 1u64..200_000],
        1usize..300,
    )
        .prop_map(|(keyframe, ticks, bytes)| Step::Frame {
            keyframe,
            ticks,
            bytes,
        });
    let step = prop_oneof![
        60 => frame,
        1 => (0u64..900_000).prop_map(Step::Lost),
        1 => Just(Step::Changed),
    ];
    proptest::collection::vec(step, 1..900)
}

fn source_of(steps: Vec<Step>, group_ms: u32) -> Source {
    let mut source = Source::new(group_ms);
    let mut first = true;
    for step in steps {
        match step {
            Step::Frame {
                keyframe,
                ticks,
                bytes,
            } => {
                source.frame(keyframe || first, ticks, bytes);
                first = false;
                continue;
            }
            Step::Lost(ticks) => source.loses(ticks),
            Step::Changed => source.breaks(),
        }
        first = true;
    }
    source
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_new_instance_that_was_fed_the_history_answers_as_the_old_one(steps in steps(), window in 3u32..8, plain: bool) {
        let mode = if plain { r#""low-latency": false"# } else { r#""part": "200ms""# };
        let options = format!(r#"{{"segment": "1s", "window": {window}, {mode}}}"#);
        let mut old = open(&options);
        let events = source_of(steps, old.profile().group_ms).events;
        for (at, event) in events.iter().enumerate() {
            feed(&mut old, std::slice::from_ref(event));
            if at % 97 == 0 || at + 1 == events.len() {
                let mut new = open(&options);
                feed(&mut new, &history(&events[..=at], u64::from(old.profile().history)));
                prop_assert_eq!(everything(&old), everything(&new));
            }
        }
    }

    #[test]
    fn whatever_the_source_does_numbers_only_rise_parts_add_up_and_hints_come_true(steps in steps()) {
        let options = r#"{"segment": "1s", "window": 5}"#;
        let mut muxer = open(options);
        let events = source_of(steps, muxer.profile().group_ms).events;
        let (mut first, mut discontinuity, mut hint) = (0, 0, None::<String>);
        for event in &events {
            feed(&mut muxer, std::slice::from_ref(event));
            let (200, text) = get(&muxer, MEDIA) else { continue };
            let value = |tag| number(values(&text, tag)[0]);
            prop_assert!(value("EXT-X-MEDIA-SEQUENCE") >= first);
            prop_assert!(value("EXT-X-DISCONTINUITY-SEQUENCE") >= discontinuity);
            first = value("EXT-X-MEDIA-SEQUENCE");
            discontinuity = value("EXT-X-DISCONTINUITY-SEQUENCE");
            let target = value("EXT-X-TARGETDURATION") * SECOND;
            let (mut sum, mut msn) = (0, first);
            for line in text.lines() {
                if let Some(part) = line.strip_prefix("#EXT-X-PART:") {
                    sum += number(attribute(part, "DURATION"));
                } else if let Some(duration) = line.strip_prefix("#EXTINF:") {
                    prop_assert!(time::round_to_seconds(number(duration)) <= target);
                    prop_assert!(sum == 0 || sum == number(duration), "{}", text);
                    sum = 0;
                } else if !line.starts_with('#') {
                    prop_assert_eq!(line, format!("{RUN}-{msn}.m4s"));
                    msn += 1;
                }
            }
            if let Some(hinted) = hint.take() {
                let still = text.contains(&format!("PRELOAD-HINT:TYPE=PART,URI=\"{hinted}\""));
                prop_assert!(still || get(&muxer, &hinted).0 == 200, "{} in {}", hinted, text);
            }
            hint = values(&text, "EXT-X-PRELOAD-HINT").first().map(|hint| attribute(hint, "URI").to_owned());
        }
    }

    #[test]
    fn parts_are_as_long_as_the_rule_wants_at_any_steady_rate(rate in 4u32..=120, tremble in 0u64..60) {
        let mut source = rated(rate);
        let ticks = 90_000 / u64::from(rate);
        for nth in 0..rate * 5 {
            let off = if nth % 2 == 0 { ticks + tremble } else { ticks - tremble };
            source.frame(nth % (2 * rate) == 0, off, 10);
        }
        parts_must_be_good(&source);
    }

    #[test]
    fn and_however_uneven_the_source_is_or_how_many_frames_were_left_out(
        steps in prop::collection::vec((1u64..4, 1000u64..3500), 1..600), keyframe in 20usize..80) {
        let mut source = rated(30);
        for (nth, (frames, ticks)) in steps.into_iter().enumerate() {
            // At most half a part, since one more frame may be needed to end a segment.
            source.frame(nth % keyframe == 0, (frames * ticks).min(9000), 10);
        }
        parts_must_be_good(&source);
    }
}

/// A source that announces a frame rate.
fn rated(rate: u32) -> Source {
    let mut source = Source::new(1800);
    if let Kind::Video(video) = &mut source.info.tracks[0].kind {
        video.frame_rate = rate as f32;
    }
    source.events[0] = Event::Configure(source.info.clone());
    source
}

/// No part is longer than the target, or shorter than 85 % of it without a permitted reason (4.4.4.9).
fn parts_must_be_good(source: &Source) {
    let mut muxer = open("");
    feed(&mut muxer, &source.events);
    let (200, text) = get(&muxer, MEDIA) else {
        return;
    };
    let target = number(attribute(values(&text, "EXT-X-PART-INF")[0], "PART-TARGET"));
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        if let Some(part) = pair[0].strip_prefix("#EXT-X-PART:") {
            let duration = number(attribute(part, "DURATION"));
            let free = part.contains("INDEPENDENT") || pair[1].starts_with("#EXTINF");
            assert!(
                duration <= target && (free || duration * 100 >= target * 85),
                "{part} of {target} in {text}"
            );
        }
    }
}

#[test]
fn nothing_is_sent_without_a_request() {
    let frames = (0..200).map(|nth| (nth % 30 == 0, vec![nth as u8; 20]));
    let info = mock::video("h264/avcc", "avc1.42c01e", &AVCC);
    mock::assert_restartable::<Hls>("", &info, &mock::samples(1800, frames));
    let viewer = Connection::new(1, "http", "", "");
    assert!(open("").join(viewer).unwrap().is_empty());
}
