//! A source that falls silent but stays connected: transports that ask for it get the last frame again, so that players
//! have something to play, and later frames continue from there.

use sluicegate_tests::{
    Gateway, Nal,
    camera::{self, Camera, GROUP},
    client::{Mjpeg, is_header},
    damage::StrictDecoder,
    media::{NumberReader, cut},
    within,
};
use std::time::{Duration, Instant};

const REPEAT: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_silence_the_last_frame_is_repeated_and_later_ones_continue_from_it() {
    let mut camera = Camera::new(camera::clip()).await;
    let plugin = Gateway::component("hostile");
    // Behaves like `nal` otherwise, and traps when a viewer sends a message.
    let config = format!(
        "{}[transports.again]\nplugin = \"{}\"\nrepeat = {}\nin = \"received\"\ndo = \"trap\"\n",
        camera.config(),
        plugin.display(),
        REPEAT.as_millis()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut again = Viewer::open(&gateway, "again").await;
    let mut plain = Viewer::open(&gateway, "nal").await;
    let mut jpegs = within("connect", Mjpeg::open(gateway.address, "/live/cam/mjpeg"))
        .await
        .unwrap();
    for number in 0..5 {
        camera.send().await;
        for viewer in [&mut again, &mut plain] {
            assert_eq!(viewer.next().await, number);
        }
    }

    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(again.next().await, 4, "the last frame");
    }
    assert!(began.elapsed() >= 3 * REPEAT / 2, "{:?}", began.elapsed());
    // MJPEG sends the last frame as soon as it is known to be the last, and once more.
    while within("the last frame", jpegs.next_number()).await.unwrap() != 4 {}
    within("a repeat", jpegs.next_number()).await.unwrap();
    // A new instance receives the repeats, too.
    again.viewer.say("trap".into()).await.unwrap();
    for _ in 0..4 {
        assert_eq!(again.next().await, 4, "after a trap");
    }
    // A new viewer gets the group, including the repeats of its last frame.
    let mut late = Viewer::open(&gateway, "again").await;
    for number in 0..5 {
        assert_eq!(late.next().await, number);
    }
    assert_eq!(late.next().await, 4);
    let small = Mjpeg::open(gateway.address, "/live/cam/mjpeg?width=160");
    let mut small = within("connect", small).await.unwrap();
    within("a small frame", small.next()).await.unwrap();

    // The next frame refers to the one before the silence, and no viewer missed that.
    for number in 5..2 * GROUP {
        camera.send().await;
        for viewer in [&mut again, &mut late] {
            // One more repeat may have been in transit.
            let mut next = viewer.next().await;
            while next == number - 1 {
                next = viewer.next().await;
            }
            assert_eq!(next, number);
        }
        assert_eq!(plain.next().await, number, "nothing came in between");
    }
    let next = within("a JPEG", jpegs.next_number()).await.unwrap();
    assert!(next > 4, "{next}: a JPEG is repeated once only");
    for viewer in [again, late, plain] {
        assert_eq!(viewer.judge.errors, 0);
    }
    let plugins = gateway.api("/api/plugins").await;
    let plugins = plugins.as_array().unwrap().iter();
    for plugin in plugins {
        let failures = if plugin["name"] == "again" { 1 } else { 0 };
        assert_eq!(plugin["failures"], failures, "{plugin:#}");
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_repeated_of_a_source_that_is_gone() {
    let mut camera = Camera::new(camera::clip()).await;
    let plugin = Gateway::component("hostile");
    let config = format!(
        "{}[transports.again]\nplugin = \"{}\"\nrepeat = 100\n",
        camera.config(),
        plugin.display()
    );
    let gateway = Gateway::with_config(&config).await;
    let mut again = Viewer::open(&gateway, "again").await;
    for number in 0..5 {
        camera.send().await;
        assert_eq!(again.next().await, number);
    }
    assert_eq!(again.next().await, 4);
    camera.hang_up();
    within("the source is lost", async {
        while gateway.api("/api/devices").await[0]["state"] != "retrying" {}
    })
    .await;
    // Earlier repeats are in transit; then comes the next group.
    let sent = camera.send().await;
    let mut repeats = 0;
    loop {
        match again.next().await {
            4 => repeats += 1,
            number => {
                assert_eq!(number, sent);
                break;
            }
        }
    }
    assert!(repeats <= 4, "{repeats} of a source that is gone");
    gateway.no_panic();
}

/// A viewer of raw H.264 that reads the numbers in the frames.
struct Viewer {
    viewer: Nal,
    reader: NumberReader,
    judge: StrictDecoder,
    /// Parameter sets received in a message of their own.
    ahead: Vec<u8>,
}

impl Viewer {
    async fn open(gateway: &Gateway, transport: &str) -> Viewer {
        let path = format!("/live/cam/{transport}");
        let viewer = within("connect", Nal::open(gateway.address, &path)).await;
        Viewer {
            viewer: viewer.unwrap(),
            reader: NumberReader::default(),
            judge: StrictDecoder::default(),
            ahead: Vec::new(),
        }
    }

    /// Number in the next frame.
    async fn next(&mut self) -> usize {
        loop {
            let message = within("a frame", self.viewer.next()).await.unwrap();
            self.ahead.extend_from_slice(&message);
            if is_header(&cut(&message)) {
                continue;
            }
            let unit = std::mem::take(&mut self.ahead);
            self.judge.feed(&unit);
            let numbers = self.reader.feed(&unit);
            assert_eq!(numbers.len(), 1, "each message shows one frame");
            return numbers[0] as usize;
        }
    }
}
