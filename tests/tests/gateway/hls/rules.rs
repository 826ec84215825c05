//! Tests of the HLS checker itself: good playlists pass, and every rule reports its violation.

use sluicegate_tests::hls::{
    Session, Violation, agree, assert_no_violations, check, check_multivariant, parse,
};
use std::time::Duration;

const GOOD: &str = r#"#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=3.0
#EXT-X-PART-INF:PART-TARGET=1.0
#EXT-X-MEDIA-SEQUENCE:10
#EXT-X-DISCONTINUITY-SEQUENCE:4
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI="init-0.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00.000Z
#EXTINF:2.00000,
10.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:02.000Z
#EXTINF:2.00000,
11.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init-1.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:09.000Z
#EXT-X-PART:DURATION=0.90000,URI="12.0.m4s",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.90000,URI="12.1.m4s"
#EXT-X-PART:DURATION=0.20000,URI="12.2.m4s"
#EXTINF:2.00000,
12.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:11.000Z
#EXT-X-PART:DURATION=1.00000,URI="13.0.m4s",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="13.1.m4s"
#EXT-X-RENDITION-REPORT:URI="../low/media.m3u8",LAST-MSN=13,LAST-PART=0
"#;

/// Rule, text to replace, and its replacement.
const BROKEN: [(&str, &str, &str); 52] = [
    ("extm3u-first", "#EXTM3U\n", "#EXT-M3U\n"),
    ("no-byte-order-mark", "#EXTM3U", "\u{feff}#EXTM3U"),
    ("no-control-characters", "10.m4s", "1\u{1}0.m4s"),
    ("no-white-space", "10.m4s", "10.m4s "),
    (
        "tag-once",
        "#EXT-X-VERSION:9\n",
        "#EXT-X-VERSION:9\n#EXT-X-VERSION:9\n",
    ),
    ("version", "#EXT-X-VERSION:9\n", "#EXT-X-VERSION:5\n"),
    ("version", "#EXT-X-VERSION:9\n", ""),
    ("version", "VERSION:9", "VERSION:6\n#EXT-X-GAP"),
    ("target-duration", "#EXT-X-TARGETDURATION:2\n", ""),
    ("decimal-integer", "DURATION:2\n", "DURATION:2.0\n"),
    (
        "segment-within-target",
        "#EXTINF:2.00000,\n11",
        "#EXTINF:2.50000,\n11",
    ),
    ("media-sequence", "#EXT-X-MEDIA-SEQUENCE:10\n", ""),
    (
        "tag-before-segments",
        "10.m4s\n",
        "10.m4s\n#EXT-X-DISCONTINUITY-SEQUENCE:4\n",
    ),
    (
        "discontinuity-sequence",
        "#EXT-X-DISCONTINUITY-SEQUENCE:4\n",
        "",
    ),
    (
        "no-playlist-type",
        "#EXT-X-VERSION:9\n",
        "#EXT-X-VERSION:9\n#EXT-X-PLAYLIST-TYPE:EVENT\n",
    ),
    (
        "multivariant-tag-in-media",
        "10.m4s\n",
        "10.m4s\n#EXT-X-STREAM-INF:BANDWIDTH=1\n",
    ),
    ("segment-has-extinf", "#EXTINF:2.00000,\n10", "10"),
    (
        "extinf-ends-in-a-comma",
        "#EXTINF:2.00000,\n10",
        "#EXTINF:2.00000\n10",
    ),
    (
        "decimal-floating-point",
        "#EXTINF:2.00000,\n10",
        "#EXTINF:two,\n10",
    ),
    (
        "five-decimals",
        "#EXTINF:2.00000,\n10",
        "#EXTINF:2.000000,\n10",
    ),
    ("uri-once", "11.m4s", "10.m4s"),
    ("relative-uri", "\n10.m4s", "\n/live/porch/hls/10.m4s"),
    ("relative-uri", "\n10.m4s", "\nhttps://cdn.example/10.m4s"),
    ("relative-uri", "../low/media.m3u8", "/low/media.m3u8"),
    ("map", "#EXT-X-MAP:URI=\"init-0.mp4\"\n", ""),
    (
        "map-has-a-uri",
        "MAP:URI=\"init-0.mp4\"",
        "MAP:BYTERANGE=\"1@0\"",
    ),
    (
        "attribute-list",
        "INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.90000,URI=\"12.1.m4s\"",
        "INDEPENDENT=YES,",
    ),
    (
        "attribute-list",
        "PART,URI=\"13.1.m4s\"",
        "PART,URI=\"13.1.m4s\",TYPE=PART",
    ),
    ("flag-is-yes", "INDEPENDENT=YES", "INDEPENDENT=NO"),
    (
        "part-has-uri-and-duration",
        "DURATION=1.00000,URI=",
        "DURATION=1.00000,URL=",
    ),
    ("part-inf", "#EXT-X-PART-INF:PART-TARGET=1.0\n", ""),
    ("part-target", "INF:PART-TARGET=1.0", "INF:TARGET=1.0"),
    ("part-within-target", "DURATION=1.00000", "DURATION=1.00001"),
    (
        "part-of-85-percent",
        "DURATION=0.90000,URI=\"12.1.m4s\"",
        "DURATION=0.80000,URI=\"12.1.m4s\"",
    ),
    (
        "parts-make-the-segment",
        "DURATION=0.20000",
        "DURATION=0.30000",
    ),
    (
        "segment-begins-independent",
        "URI=\"13.0.m4s\",INDEPENDENT=YES",
        "URI=\"13.0.m4s\"",
    ),
    (
        "tag-before-parts",
        "URI=\"12.1.m4s\"\n",
        "URI=\"12.1.m4s\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:09.900Z\n",
    ),
    ("date-time", "2026-11-21T10:00:00.000Z", "2026-11-21 10:00"),
    ("dates-rise", "T10:00:02.000Z", "T10:00:01.900Z"),
    ("dates-join", "T10:00:02.000Z", "T10:00:02.500Z"),
    (
        "dates-everywhere",
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:02.000Z\n",
        "",
    ),
    ("can-skip-until", "UNTIL=12.0", "UNTIL=11.9"),
    ("hold-back", "HOLD-BACK=6.0", "HOLD-BACK=5.9"),
    ("part-hold-back", "PART-HOLD-BACK=3.0", "PART-HOLD-BACK=2.9"),
    ("part-hold-back", ",PART-HOLD-BACK=3.0", ""),
    ("can-block-reload", "CAN-BLOCK-RELOAD=YES,", ""),
    (
        "hint",
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"13.1.m4s\"\n",
        "",
    ),
    ("hint-type", "TYPE=PART", "TYPE=SEGMENT"),
    (
        "hint-is-new",
        "PART,URI=\"13.1.m4s\"",
        "PART,URI=\"13.0.m4s\"",
    ),
    (
        "hint-once",
        "#EXT-X-REND",
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"13.2.m4s\"\n#EXT-X-REND",
    ),
    (
        "no-hint-at-the-end",
        "#EXT-X-REND",
        "#EXT-X-ENDLIST\n#EXT-X-REND",
    ),
    ("report-is-whole", ",LAST-PART=0", ""),
];

/// Violations that need more than one replacement.
fn more_broken() -> Vec<(&'static str, String)> {
    let skip = "#EXT-X-SKIP:SKIPPED-SEGMENTS=2\n";
    let with_skip = GOOD.replace("#EXT-X-MAP:URI=\"init-0.mp4\"\n", skip);
    let old: String = (0..20)
        .map(|nth| format!("#EXT-X-PART:DURATION=1.00000,URI=\"9.{nth}.m4s\",INDEPENDENT=YES\n"))
        .collect();
    vec![
        (
            "not-empty",
            GOOD.split("#EXT-X-MAP").next().unwrap().to_owned(),
        ),
        (
            "unknown-tag",
            GOOD.replace("#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-INDEPENDENT"),
        ),
        (
            "skip-says-how-many",
            with_skip.replace("SKIPPED-SEGMENTS", "SEGMENTS"),
        ),
        (
            "skip-is-announced",
            with_skip.replace("CAN-SKIP-UNTIL=12.0,", ""),
        ),
        ("version", with_skip.replace("VERSION:9", "VERSION:8")),
        (
            "old-parts",
            GOOD.replace("DURATION:2\n", "DURATION:20\n")
                .replace("TARGETDURATION:20", "TARGETDURATION:2")
                .replace(
                    "#EXTINF:2.00000,\n10",
                    &format!("{old}#EXTINF:20.00000,\n10"),
                ),
        ),
    ]
}

fn rules(violations: &[Violation]) -> Vec<&'static str> {
    violations.iter().map(|violation| violation.rule).collect()
}

#[test]
fn a_good_playlist_passes() {
    assert_no_violations("good", GOOD, &check(GOOD));
    let ended = GOOD.replace(
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"13.1.m4s\"\n",
        "#EXT-X-ENDLIST\n",
    );
    assert_no_violations("ended", &ended, &check(&ended));
    let delta = GOOD.replace(
        "#EXT-X-MAP:URI=\"init-0.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00.000Z\n#EXTINF:2.00000,\n10.m4s\n",
        "#EXT-X-SKIP:SKIPPED-SEGMENTS=1\n",
    );
    assert_no_violations("delta", &delta, &check(&delta));
}

#[test]
fn each_broken_rule_is_named() {
    let table = BROKEN.iter().map(|(rule, from, to)| {
        assert!(GOOD.contains(from), "{rule}: {from:?} is not there");
        (*rule, GOOD.replacen(from, to, 1))
    });
    let mut count = 0;
    for (rule, broken) in table.chain(more_broken()) {
        assert_ne!(broken, GOOD, "{rule}");
        let found = check(&broken);
        assert!(
            rules(&found).contains(&rule),
            "{rule}: {found:#?}\n{broken}"
        );
        count += 1;
    }
    assert!(count >= 25);
}

const INDEX: &str = r#"#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-STREAM-INF:BANDWIDTH=2000000,AVERAGE-BANDWIDTH=1500000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.970
media.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=500000,CODECS="avc1.42c01e"
../../porch@mobile/hls/media.m3u8
"#;

#[test]
fn each_broken_rule_of_a_multivariant_playlist_is_named() {
    assert_no_violations("good", INDEX, &check_multivariant(INDEX));
    for (rule, from, to) in [
        ("bandwidth", "BANDWIDTH=500000,", ""),
        ("bandwidth", "BANDWIDTH=500000", "BANDWIDTH=much"),
        (
            "average-below-peak",
            "AVERAGE-BANDWIDTH=1500000",
            "AVERAGE-BANDWIDTH=2500000",
        ),
        ("codecs", ",CODECS=\"avc1.42c01e\"", ""),
        ("codecs", "64001f,mp4a", "64001f, mp4a"),
        ("resolution", "1280x720", "720p"),
        ("frame-rate", "29.970", "29.97"),
        (
            "uri-after-stream-inf",
            "media.m3u8\n#EXT-X-STR",
            "#EXT-X-STR",
        ),
        (
            "stream-inf-before-uri",
            "media.m3u8\n",
            "media.m3u8\nmedia.m3u8\n",
        ),
        (
            "media-tag-in-multivariant",
            "#EXT-X-INDEPENDENT-SEGMENTS",
            "#EXT-X-TARGETDURATION:2",
        ),
        ("relative-uri", "\nmedia.m3u8", "\nhttp://a/media.m3u8"),
        (
            "attribute-list",
            "CODECS=\"avc1.42c01e\"",
            "CODECS=\"avc1.42c01e",
        ),
    ] {
        let broken = INDEX.replacen(from, to, 1);
        assert_ne!(broken, INDEX, "{rule}");
        let found = check_multivariant(&broken);
        assert!(
            rules(&found).contains(&rule),
            "{rule}: {found:#?}\n{broken}"
        );
    }
}

/// The good playlist two seconds later.
fn later() -> String {
    GOOD.replace("SEQUENCE:10", "SEQUENCE:11")
        .replace(
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:00.000Z\n#EXTINF:2.00000,\n10.m4s\n",
            "",
        )
        .replace(
            "URI=\"13.0.m4s\",INDEPENDENT=YES\n",
            "URI=\"13.0.m4s\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=1.00000,URI=\"13.1.m4s\"\n#EXTINF:2.00000,\n13.m4s\n",
        )
        .replace("HINT:TYPE=PART,URI=\"13.1.m4s\"", "HINT:TYPE=PART,URI=\"14.0.m4s\"")
}

fn after(now: &str) -> Vec<Violation> {
    let mut session = Session::default();
    let start = session.full(GOOD, Duration::ZERO, None);
    assert!(start.is_empty(), "{start:#?}");
    session.full(now, Duration::from_secs(2), None)
}

#[test]
fn a_playlist_that_goes_on_passes() {
    assert_no_violations("later", &later(), &after(&later()));
    assert_no_violations("the same", GOOD, &after(GOOD));
}

#[test]
fn each_broken_rule_over_time_is_named() {
    for (rule, from, to) in [
        (
            "target-duration-unchanged",
            "TARGETDURATION:2",
            "TARGETDURATION:3",
        ),
        (
            "part-target-unchanged",
            "PART-TARGET=1.0",
            "PART-TARGET=1.01",
        ),
        ("server-control-unchanged", "HOLD-BACK=6.0", "HOLD-BACK=7.0"),
        ("sequence-rises", "MEDIA-SEQUENCE:11", "MEDIA-SEQUENCE:9"),
        (
            "discontinuity-sequence-rises",
            "CONTINUITY-SEQUENCE:4",
            "CONTINUITY-SEQUENCE:3",
        ),
        (
            "segment-unchanged",
            "CONTINUITY-SEQUENCE:4",
            "CONTINUITY-SEQUENCE:5",
        ),
        (
            "segment-unchanged",
            "#EXTINF:2.00000,\n11",
            "#EXTINF:1.90000,\n11",
        ),
        ("segment-unchanged", "init-1.mp4", "init-2.mp4"),
        ("segment-unchanged", "\n12.m4s", "\nx12.m4s"),
        (
            "part-unchanged",
            "DURATION=1.00000,URI=\"13.0",
            "DURATION=0.90000,URI=\"13.0",
        ),
        ("part-unchanged", "12.1.m4s", "12.1x.m4s"),
        ("hint-comes-true", "13.1.m4s", "13.x.m4s"),
        ("segments-stay", "MEDIA-SEQUENCE:11", "MEDIA-SEQUENCE:9"),
    ] {
        let broken = later().replacen(from, to, 1);
        assert_ne!(broken, later(), "{rule}");
        let found = after(&broken);
        assert!(
            rules(&found).contains(&rule),
            "{rule}: {found:#?}\n{broken}"
        );
    }
}

#[test]
fn what_is_lost_late_or_goes_on_behind_the_end_is_named() {
    let found = after(&GOOD.replace(
        "#EXT-X-PART:DURATION=1.00000,URI=\"13.0.m4s\",INDEPENDENT=YES\n",
        "",
    ));
    assert!(rules(&found).contains(&"parts-go-on"), "{found:#?}");

    // Only four seconds are left, less than three target durations of two seconds.
    let short = later().replace("SEQUENCE:11", "SEQUENCE:12").replace(
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:02.000Z\n#EXTINF:2.00000,\n11.m4s\n",
        "",
    );
    assert!(rules(&after(&short)).contains(&"three-targets-left"));

    let mut session = Session::default();
    session.full(GOOD, Duration::ZERO, None);
    let late = session.full(GOOD, Duration::from_secs(4), None);
    assert_eq!(rules(&late), ["new-segment-in-time"]);

    let mut session = Session::default();
    let asked = |msn, part| Session::default().full(GOOD, Duration::ZERO, Some((msn, part)));
    assert!(asked(13, Some(0)).is_empty() && asked(12, None).is_empty());
    assert_eq!(rules(&asked(13, Some(1))), ["waited-for"]);
    assert_eq!(rules(&asked(13, None)), ["waited-for"]);
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"13.1.m4s\"\n";
    session.full(
        &GOOD.replace(hint, "#EXT-X-ENDLIST\n"),
        Duration::ZERO,
        None,
    );
    let found = session.full(GOOD, Duration::ZERO, None);
    assert_eq!(rules(&found), ["the-end-is-final"]);
}

#[test]
fn a_delta_update_must_leave_enough_and_say_the_same() {
    // Eight segments of two seconds.
    let list = |skip: usize, changed: &str| {
        let head = GOOD.split("#EXT-X-MAP").next().unwrap();
        let mut text = match skip {
            0 => format!("{head}#EXT-X-MAP:URI=\"init-0.mp4\"\n"),
            _ => format!("{head}#EXT-X-SKIP:SKIPPED-SEGMENTS={skip}\n"),
        };
        for nth in skip..8 {
            text += &format!(
                "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T10:00:{:02}.000Z\n#EXTINF:2.00000,\n{}{changed}.m4s\n",
                nth * 2,
                10 + nth
            );
        }
        text + "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"18.0.m4s\"\n"
    };
    let found = |delta: &str| {
        let mut session = Session::default();
        let full = list(0, "");
        assert_no_violations("full", &full, &session.full(&full, Duration::ZERO, None));
        session.delta(delta, Duration::ZERO, None)
    };
    assert_no_violations("delta", "", &found(&list(2, "")));
    assert_no_violations("nothing to skip", "", &found(&list(0, "")));
    assert!(rules(&found(&list(3, ""))).contains(&"skip-boundary"));
    assert!(rules(&found(&list(2, "x"))).contains(&"segment-unchanged"));
    let mut session = Session::default();
    let unknown = session.delta(&list(2, ""), Duration::ZERO, None);
    assert!(rules(&unknown).contains(&"skipped-is-known"));
    let unasked = Session::default().full(&list(2, ""), Duration::ZERO, None);
    assert!(rules(&unasked).contains(&"skip-only-if-asked"));
}

#[test]
fn renditions_that_disagree_are_named() {
    let (one, _) = parse(GOOD);
    let with = |from: &str, to: &str| {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD);
        rules(&agree(&one, &parse(&text).0))
    };
    assert!(agree(&one, &one).is_empty());
    assert_eq!(
        with("TARGETDURATION:2", "TARGETDURATION:3"),
        ["same-target"]
    );
    assert_eq!(
        with("HOLD-BACK=6.0", "HOLD-BACK=7.0"),
        ["same-server-control"]
    );
    assert_eq!(
        with("SEQUENCE:4", "SEQUENCE:5"),
        ["same-discontinuities"; 3]
    );
    assert_eq!(with("T10:00:02.000Z", "T10:00:02.100Z"), ["same-dates"]);
    let far = with("MEDIA-SEQUENCE:10", "MEDIA-SEQUENCE:90");
    assert_eq!(far, ["same-numbers", "report-is-true"]);
}
