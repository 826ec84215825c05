//! What waits in a WebTransport session: what a client sends, answers, messages and datagrams.

use serde_json::json;
use sluicegate_tests::{
    Camera, Control, Gateway, camera,
    webtransport::{Access, Session, client_with, narrow_client, read_exact, tell},
    within,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\n\
    encode = { width = 64, height = 64, frame-rate = 10, bitrate = \"64k\" }\n";

/// Transport `lanes` with these further options.
fn lanes(options: &str) -> String {
    let plugin = Gateway::component("lanes");
    format!("[transports.lanes]\nplugin = {plugin:?}\n{options}\n")
}

/// That, and a stream of small frames.
async fn demo(options: &str) -> Gateway {
    Gateway::with_config(&format!("{DEMO}{}", lanes(options))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_a_client_never_ends_are_held_in_part_and_not_for_long() {
    const STREAMS: usize = 12;
    const LENGTH: usize = 60_000;
    let gateway = demo("").await;
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let mut writing = JoinSet::new();
    for _ in 0..STREAMS {
        let opening = session.connection.open_uni().await.unwrap();
        let mut stream = within("a stream", opening).await.unwrap();
        let taken = taken.clone();
        writing.spawn(async move {
            for _ in 0..LENGTH / 1000 {
                stream.write_all(&[7; 1000]).await.unwrap();
                taken.fetch_add(1000, Ordering::Relaxed);
            }
            stream.quic_stream_mut().stopped().await
        });
    }
    let stopped = within("a stream is stopped", writing.join_next()).await;
    assert!(matches!(stopped, Some(Ok(Ok(Some(_))))), "{stopped:?}");
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken < STREAMS * LENGTH / 2, "{taken} bytes");
    // Now they end, and there is room for others.
    writing.shutdown().await;
    within("a stream", tell(&session, &[7; 64 << 10]))
        .await
        .unwrap();
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_open_streams_again_and_again_and_reset_them() {
    let gateway = demo("partial-streams = true").await;
    let session = Session::open(&gateway, "demo/lanes").await.unwrap();
    for _ in 0..40 {
        let opening = within("a stream", session.connection.open_bi()).await;
        let opening = within("a stream", opening.unwrap()).await;
        let (mut sender, mut receiver) = opening.unwrap();
        sender.write_all(b"question").await.unwrap();
        read_exact(&mut receiver, 1).await.unwrap();
        let _ = sender.reset(0u32.into());
        receiver.stop(0u32.into());
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_permits_no_datagrams_of_any_use_gets_streams() {
    let mut camera = Camera::new(camera::clip()).await;
    let gateway = Gateway::with_config(&format!("{}{}", camera.config(), lanes(""))).await;
    let access = Access::of(&gateway, "cam").await;
    // None at all, and with room for no more than the head of a frame and of a datagram.
    for most in [None, Some(1), Some(9), Some(11)] {
        let client = client_with(&access.hashes, |transport| {
            transport.datagram_receive_buffer_size(most);
        });
        let session = Session::with(&client, access.address(), "cam/lanes", &[]);
        let session = session.await.unwrap();
        let fill = async {
            loop {
                camera.send().await;
            }
        };
        let note = async {
            loop {
                let mut stream = session.stream().await.unwrap();
                // Groups may be reset.
                let begin = read_exact(&mut stream, 9).await;
                if begin.is_ok_and(|begin| begin == b"headnote ") {
                    return;
                }
            }
        };
        tokio::select! {
            () = fill => unreachable!(),
            () = note => {}
        }
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_blocked_since_what_waits_and_not_since_something_waited() {
    const LONG: Duration = Duration::from_secs(5);
    let clip = Box::leak(Box::new(camera::clip().with_filler(50_000)));
    let mut camera = Camera::new(clip).await;
    let config = format!("{}{}", camera.config(), lanes("stale = \"100ms\""));
    let gateway = Gateway::with_config(&config).await;
    let access = Access::of(&gateway, "cam").await;
    let (mut control, chosen) = Control::open(&gateway, "cam", "can=lanes").await;
    let id = control.path.rsplit('/').next().unwrap();
    // Room for one frame of a stream, and nobody reads any of them: a part of the newest group always waits.
    let client = narrow_client(&access.hashes, 100, 60_000, 1_000_000_000);
    let path = format!("cam/lanes?session={id}");
    let session = Session::with(&client, access.address(), &path, &[]).await;
    let session = session.unwrap();
    let began = Instant::now();
    let fill = async {
        loop {
            camera.send().await;
        }
    };
    let collect = async {
        let mut unread = Vec::new();
        loop {
            unread.push(session.stream().await.unwrap());
        }
    };
    let report = async {
        control.playing(&chosen).await;
        // As often as a player reports.
        let mut pace = tokio::time::interval(Duration::from_secs(1));
        loop {
            pace.tick().await;
            control.report(json!({ "round_trip_ms": 5 })).await;
            let sessions = gateway.api("/api/sessions").await;
            let shown = &sessions["sessions"][0];
            if began.elapsed() > LONG && shown["report"].is_object() {
                return shown["report"]["queued_ms"].as_u64().unwrap();
            }
        }
    };
    let queued = tokio::select! {
        () = fill => unreachable!(),
        () = collect => unreachable!(),
        queued = report => Duration::from_millis(queued),
    };
    assert!(queued < LONG / 2, "{queued:?}");
    gateway.no_panic();
}
