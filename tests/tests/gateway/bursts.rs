//! A viewer that waited for a source before its first byte receives everything from the first frame on, however many
//! groups arrive at once, as when a file is written to a socket or a server sends its backlog.

use sluicegate_tests::{
    Feeder, Gateway,
    camera::{COUNT, Watcher, clip},
    media::with_start_codes,
    mp4::Part,
    mse::{File, Mse},
    within,
};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_waiting_before_the_first_byte_gets_every_frame_of_a_burst() {
    let clip = clip();
    let feeders = [
        Feeder::bind().await,
        Feeder::bind().await,
        Feeder::bind().await,
    ];
    let sources = feeders.iter().zip(["nal", "mse", "file"]);
    let config: String = sources
        .map(|(feeder, name)| format!("[streams.{name}]\nsource = \"{}\"\n", feeder.source()))
        .collect();
    let gateway = Gateway::with_config(&config).await;
    let mut nal = Watcher::open(gateway.address, "/live/nal/nal", clip).await;
    let mut mse = Mse::connect(gateway.address, "mse").await;
    // The response starts when the tracks are known; this request makes the gateway connect to the source.
    let file = tokio::spawn(File::open(gateway.address, "file"));

    // Twelve groups in one write, followed by the start of another frame, which completes the last one.
    let mut all = with_start_codes(&clip.frames.concat(), |_| 4);
    all.extend_from_slice(&with_start_codes(&clip.frames[0][..1], |_| 4));
    all.extend_from_slice(&[0, 0, 0, 1]);
    let mut sources = Vec::new();
    for feeder in &feeders {
        let mut source = feeder.accept().await;
        within("the gateway reads", source.write_all(&all))
            .await
            .unwrap();
        sources.push(source);
    }

    for expected in 0..COUNT {
        let what = format!("frame {expected} over nal");
        let (place, _) = within(&what, nal.next()).await;
        assert_eq!(place, expected);
    }
    mse.header().await;
    let mut samples = 0;
    while samples < COUNT {
        samples += mse.fragment().await.samples.len();
    }
    let mut file = within("the file begins", file).await.unwrap();
    let mut samples = 0;
    while samples < COUNT {
        if let Part::Fragment(fragment) = within("a fragment", file.next()).await {
            samples += fragment.samples.len();
        }
    }
}
