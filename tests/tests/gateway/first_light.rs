//! The demo, as a new user sees it.

use sluicegate_tests::{Gateway, Nal, media::NumberReader, mjpeg, within};

#[tokio::test]
async fn the_demo_plays_on_nal_and_mjpeg_with_rising_numbers() {
    let gateway = Gateway::serve(&[]).await;
    let mut nal = within("connect", Nal::connect(gateway.address, "demo"))
        .await
        .unwrap();
    let mut reader = NumberReader::default();
    let mut numbers = Vec::new();
    while numbers.len() < 30 {
        let message = within("a message", nal.next()).await.unwrap();
        numbers.extend(reader.feed(&message));
    }
    assert!(numbers.windows(2).all(|two| two[1] > two[0]), "{numbers:?}");
    let mut viewer = within("connect", mjpeg(gateway.address, "demo"))
        .await
        .unwrap();
    let mut last = 0;
    for _ in 0..5 {
        let number = within("a frame", viewer.next_number()).await.unwrap();
        assert!(number >= last);
        last = number;
    }
    assert!(last >= *numbers.last().unwrap());
}
