//! A slow viewer affects only itself: others miss nothing, it jumps to the next point at which decoding can start, and
//! it costs the gateway no more memory than the rings' bounds.

use serde_json::Value;
use sluicegate_tests::{
    Camera, Gateway, Raw, Watcher,
    camera::{self, COUNT, GROUP},
    client::{is_header, jpeg_number},
    media::cut,
    mjpeg, within,
};
use std::time::{Duration, Instant};

/// Receive buffer in bytes of a viewer that reads nothing.
const SMALL: u32 = 16 << 10;
/// How far a viewer of `nal` may fall behind.
const MAX_LAG: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nal_viewer_that_stops_reading_jumps_to_a_keyframe_others_miss_nothing() {
    let _turn = crate::alone().await;
    let clip = Box::leak(Box::new(camera::clip().with_filler(256 << 10)));
    let mut camera = Camera::new(clip).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let path = "/live/cam/nal";
    let mut slow = Raw::with_buffer(gateway.address, Some(SMALL)).await;
    let head = slow.upgrade(gateway.address, path).await.unwrap();
    assert_eq!(head.status, 101, "{}", head.text);
    let mut first = Watcher::open(gateway.address, path, clip).await;
    let mut second = Watcher::open(gateway.address, path, clip).await;

    // At least 100 MiB, and three times as long as a viewer may fall behind.
    let began = Instant::now();
    let (mut shown, mut early) = (0, 0);
    while shown < 400 || began.elapsed() < 3 * MAX_LAG {
        let sent = camera.show_at_once(&mut first).await;
        assert_eq!(
            within("the other viewer", second.next()).await.0,
            sent % COUNT
        );
        shown += 1;
        if shown == 200 {
            early = gateway.memory();
        }
    }
    let late = gateway.memory();
    // The stream's ring has 32 MiB, the transport's at most 64.
    assert!(late < early + (96 << 20), "{early} bytes, then {late}");
    assert!(late < 400 << 20, "{late} bytes");

    // The viewer first gets what was in transit, then jumps, and from there on nothing is missing.
    let mut places = Vec::new();
    while places.last() != Some(&camera.newest()) {
        let (opcode, message) = within("a frame", slow.frame()).await.unwrap();
        assert_eq!(opcode, 2);
        if !is_header(&cut(&message)) {
            places.push(clip.place(&message));
        }
    }
    let jumps: Vec<_> = places
        .windows(2)
        .filter(|two| two[1] != (two[0] + 1) % COUNT)
        .collect();
    assert_eq!(jumps.len(), 1, "{places:?}");
    assert_eq!(
        jumps[0][1] % GROUP,
        0,
        "a jump to a frame that needs others: {places:?}"
    );
    assert!(
        places.len() < shown / 4,
        "{} of {shown} frames were kept for it",
        places.len()
    );

    // It keeps up from here.
    for _ in 0..GROUP {
        let sent = camera.show_at_once(&mut first).await;
        let (_, message) = within("a frame", slow.frame()).await.unwrap();
        assert_eq!(clip.place(&message), sent % COUNT);
    }
    assert_eq!(jumps_of(&gateway, "nal").await, [1, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mjpeg_viewer_that_stops_reading_gets_the_newest_frame_later() {
    let _turn = crate::alone().await;
    let mut camera = Camera::new(camera::clip()).await;
    let gateway = Gateway::with_config(&camera.config()).await;
    let mut nal = Watcher::open(gateway.address, "/live/cam/nal", camera::clip()).await;
    camera.show(&mut nal).await;
    let mut slow = Raw::with_buffer(gateway.address, Some(SMALL)).await;
    let request = format!(
        "GET /live/cam/mjpeg HTTP/1.0\r\nHost: {}\r\n\r\n",
        gateway.address
    );
    slow.write(request).await;
    let head = slow.head().await.unwrap();
    assert_eq!(head.status, 200, "{}", head.text);
    let mut other = within("connect", mjpeg(gateway.address, "cam"))
        .await
        .unwrap();

    // Readers receive each frame until the stalled viewer has been left behind; then a hundred more.
    let mut left = None;
    while left.is_none_or(|more| more > 0) {
        let sent = camera.show(&mut nal).await;
        let number = u32::try_from(sent % COUNT).unwrap();
        while within("the other viewer", other.next_number())
            .await
            .unwrap()
            != number
        {}
        if let Some(more) = &mut left {
            *more -= 1;
        } else if jumps_of(&gateway, "mjpeg")
            .await
            .iter()
            .any(|jumps| *jumps > 0)
            || sent > 60
        {
            left = Some(100);
        }
    }

    let newest = u32::try_from(camera.newest()).unwrap();
    let mut numbers = vec![next_number(&mut slow).await];
    while *numbers.last().unwrap() != newest {
        numbers.push(next_number(&mut slow).await);
    }
    // The frames in transit, then the newest.
    let last = *numbers.last_chunk::<2>().unwrap();
    assert!(last[0] + 1 != last[1], "{numbers:?}");
    let before = &numbers[..numbers.len() - 1];
    assert!(
        before.len() < 60 && before.windows(2).all(|two| two[0] < two[1]),
        "{numbers:?}"
    );
    let jumps = jumps_of(&gateway, "mjpeg").await;
    assert!(jumps[0] > 0, "{jumps:?}");
}

/// Number in the next part of an MJPEG body that is not chunked.
async fn next_number(raw: &mut Raw) -> u32 {
    let jpeg = within("a frame", raw.part()).await.unwrap();
    jpeg_number(&jpeg).expect("a frame without a number")
}

/// Jumps of every viewer of this transport, in order of arrival.
async fn jumps_of(gateway: &Gateway, transport: &str) -> Vec<u64> {
    let sessions = gateway.api("/api/sessions").await;
    let all = sessions["sessions"].as_array().unwrap().iter();
    all.filter(|session: &&Value| session["transport"] == transport)
        .map(|session| session["jumps"].as_u64().unwrap())
        .collect()
}
