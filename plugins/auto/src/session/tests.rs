#![allow(clippy::unwrap_used)]
use super::*;

fn candidate(transport: &str, bandwidth: u32, frame_rate: f32) -> Candidate {
    Candidate {
        transport: transport.into(),
        label: transport.to_uppercase(),
        rendition: String::new(),
        bandwidth,
        latency_ms: 0,
        width: 640,
        height: 360,
        frame_rate,
        sound: matches!(transport, "mse" | "hls"),
        more: vec![],
    }
}

/// A session that plays MJPEG.
fn watching() -> Session {
    let client = Client {
        address: "192.0.2.7".into(),
        user_agent: String::new(),
        save_data: false,
        network: None,
        listening: false,
        more: vec![],
    };
    let mut session = Session::new(Options::default(), &client);
    let candidates = vec![
        candidate("hls", 800_000, 30.0),
        candidate("mjpeg", 2_304_000, 10.0),
    ];
    assert_eq!(session.choose(0, candidates, None).candidate, 1);
    assert!(session.observe(0, &Event::Playing(1)).is_none());
    session
}

fn report(received: u32, goodput: Option<u32>) -> Report {
    Report {
        round_trip_ms: Some(4),
        goodput,
        received,
        queued_ms: 3,
        buffered_ms: None,
        stalled_ms: 0,
        frames_dropped: 0,
        frame_rate: 10.0,
        network: Some("4g".into()),
        visible: true,
        listening: false,
        loss: None,
        view_width: 0,
        view_height: 0,
        more: vec![],
    }
}

fn all() -> Vec<Candidate> {
    vec![
        candidate("nal", 800_000, 30.0),
        candidate("mse", 864_000, 30.0),
        candidate("hls", 864_000, 30.0),
        candidate("mjpeg", 2_304_000, 10.0),
    ]
}

fn on(network: Option<&str>, listening: bool) -> Session {
    let client = Client {
        address: "192.0.2.7".into(),
        user_agent: String::new(),
        save_data: false,
        network: network.map(str::to_owned),
        listening,
        more: vec![],
    };
    Session::new(Options::default(), &client)
}

#[test]
fn unmuted_players_get_a_transport_with_audio_muted_ones_the_lowest_latency() {
    for (network, listening, chosen, reason) in [
        (None, false, 0, "it has the lowest latency"),
        (
            None,
            true,
            1,
            "it carries the sound and has the lowest latency",
        ),
        (Some("cellular"), true, 2, "the network is mobile"),
    ] {
        let choice = on(network, listening).choose(0, all(), None);
        assert_eq!((choice.candidate, choice.reason.as_str()), (chosen, reason));
    }
    // For a stream without audio there is no preference.
    let silent = all()
        .into_iter()
        .map(|candidate| Candidate {
            sound: false,
            ..candidate
        })
        .collect();
    assert_eq!(on(None, true).choose(0, silent, None).candidate, 0);
}

#[test]
fn unmuting_moves_to_a_transport_with_audio_and_muting_back_on_a_good_link() {
    let mut session = on(None, false);
    session.choose(0, all(), None);
    let _ = session.observe(0, &Event::Playing(0));
    let told = |listening, second: u64| {
        let report = Report {
            listening,
            frame_rate: 30.0,
            ..report(800_000, Some(20_000_000))
        };
        (second * 1000, Event::Report(report))
    };
    let (at, quiet) = told(false, 1);
    assert!(session.observe(at, &quiet).is_none());
    let (at, loud) = told(true, 2);
    let choice = session.observe(at, &loud).unwrap();
    assert_eq!(
        (choice.candidate, choice.reason.as_str()),
        (1, "sound is on, and NAL carries none")
    );
    let _ = session.observe(2500, &Event::Playing(1));
    // It stays there, however good the link is.
    for second in 3..90 {
        let (at, loud) = told(true, second);
        let choice = session.observe(at, &loud);
        assert!(choice.is_none(), "{second}: {choice:?}");
    }
    let back = (90..150).find_map(|second| {
        let (at, quiet) = told(false, second);
        session.observe(at, &quiet)
    });
    assert_eq!(back.map(|choice| choice.candidate), Some(0));
}

#[test]
fn a_transport_with_audio_that_shows_nothing_is_not_insisted_on() {
    let mut session = on(None, true);
    assert_eq!(session.choose(0, all(), None).candidate, 1);
    let failed = |session: &mut Session, index| {
        let choice = session.observe(100, &Event::Failed(index));
        choice.map(|choice| choice.candidate)
    };
    assert_eq!(failed(&mut session, 1), Some(2));
    // No candidate with audio is left, so one with video only.
    assert_eq!(failed(&mut session, 2), Some(0));
    let _ = session.observe(200, &Event::Playing(0));
    let loud = Report {
        listening: true,
        ..report(800_000, None)
    };
    assert!(session.observe(1200, &Event::Report(loud)).is_none());
}

/// A player that fails with each of them ends at what every browser can show, and does not return to what failed.
#[test]
fn what_fails_before_anything_plays_is_gone_through_to_its_end() {
    let mut session = on(None, false);
    assert_eq!(session.choose(0, all(), None).candidate, 0);
    let failed = |session: &mut Session, index| {
        let choice = session.observe(100, &Event::Failed(index));
        choice.map(|choice| choice.candidate)
    };
    assert_eq!(failed(&mut session, 0), Some(1));
    assert_eq!(failed(&mut session, 1), Some(3));
    let _ = session.observe(200, &Event::Playing(3));
    assert_eq!(failed(&mut session, 0), None);
}

#[test]
fn the_only_one_that_there_is_is_not_chosen_again_because_it_failed() {
    let mut session = on(None, false);
    session.choose(0, vec![candidate("mse", 864_000, 30.0)], None);
    assert!(session.observe(100, &Event::Failed(0)).is_none());
}

/// As reported by a browser on an unlimited link: what is received is the encoder's pace, and sometimes goodput is
/// measured wrongly.
#[test]
fn a_link_that_has_little_to_do_is_not_left() {
    let mut session = watching();
    for second in 1..300u64 {
        let came = 1_850_000 + 290_000 * (second % 3) as u32;
        let goodput = (second % 40 == 1).then_some(233_836);
        let told = Event::Report(report(came, goodput));
        let choice = session.observe(second * 1000, &told);
        assert!(choice.is_none(), "{second}: {choice:?}");
    }
    // The link is left once frames are missing.
    let narrow = Report {
        frame_rate: 5.0,
        ..report(1_000_000, Some(1_100_000))
    };
    let choice = (300..305)
        .find_map(|second| session.observe(second * 1000, &Event::Report(narrow.clone())))
        .unwrap();
    assert_eq!(choice.candidate, 0);
    assert_eq!(
        choice.reason,
        "the link carries about 1.1 Mbit/s, MJPEG needs 2.4 Mbit/s"
    );
}

/// If a browser plays HLS natively, its bytes are unknown. That is not the same as none.
#[test]
fn an_unmeasured_bitrate_is_that_of_the_candidate() {
    let mut session = watching();
    let _ = session.observe(1000, &Event::Playing(0));
    for second in 2..20 {
        let uncounted = Report {
            buffered_ms: Some(4000),
            frame_rate: 30.0,
            ..report(0, None)
        };
        let choice = session.observe(second * 1000, &Event::Report(uncounted));
        assert!(choice.is_none(), "{second}: {choice:?}");
    }
    assert!((session.needs(0) - 800_000.0).abs() < 1.0);
}
