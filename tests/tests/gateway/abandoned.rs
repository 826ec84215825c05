//! WebTransport sessions whose client vanishes or stops reading, which the gateway gives up. The timeouts are long, so
//! these tests start before others.

use rustix::process::Signal;
use serde_json::Value;
use sluicegate_link::UdpLink;
use sluicegate_tests::{
    Camera, Gateway, PATIENCE, camera,
    webcodecs::Groups,
    webtransport::{Access, Session, narrow_client},
    within,
};
use std::time::{Duration, Instant};
use wtransport::error::ConnectionError;

/// Waits until the API's answer satisfies `good`, for as long as any timeout of the gateway.
async fn until(gateway: &Gateway, path: &str, good: impl Fn(&Value) -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let answer = gateway.api(path).await;
        if good(&answer) {
            return began.elapsed();
        }
        assert!(began.elapsed() < 3 * PATIENCE, "{answer:#}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_on_a_link_that_breaks_is_forgotten() {
    let gateway = Gateway::with_config(
        "[streams.demo]\nsource = \"test-pattern\"\nidle = \"1s\"\n\
         encode = { width = 320, height = 192, keyframe-interval = \"500ms\" }\n",
    )
    .await;
    let access = Access::of(&gateway, "demo").await;
    let link = UdpLink::open(access.address(), 0, 1).unwrap();
    let open = async || {
        let session = Session::via(&access, link.address(), "demo/webcodecs").await;
        Groups::of(session.unwrap())
    };
    let before = gateway.files();
    let mut groups = open().await;
    assert!(groups.next().await.unwrap().whole);
    link.set(|link| link.blocked = true);
    let took = until(&gateway, "/api/sessions", |sessions| {
        sessions["sessions"].as_array().unwrap().is_empty()
    })
    .await;
    println!("forgotten after {took:?}");
    assert!(took < Duration::from_secs(35), "{took:?}");
    until(&gateway, "/api/plugins", |plugins| {
        let muxers = |plugin: &Value| plugin["muxers"].as_array().unwrap().len();
        plugins
            .as_array()
            .unwrap()
            .iter()
            .map(muxers)
            .sum::<usize>()
            == 0
    })
    .await;
    until(&gateway, "/api/devices", |devices| {
        devices[0]["viewers"] == 0
    })
    .await;
    assert!(gateway.files() <= before + 1, "{} files", gateway.files());
    link.set(|link| link.blocked = false);
    assert!(open().await.next().await.unwrap().whole);
    gateway.no_panic();
}

async fn film(camera: &mut Camera) {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        camera.send().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_acknowledges_but_does_not_read_is_disconnected() {
    /// A client's transport takes note of each stream that is reset, so it is stuck only when it has no more streams.
    const STREAMS: u32 = 8;
    let clip = Box::leak(Box::new(camera::clip().with_filler(50_000)));
    let mut camera = Camera::new(clip).await;
    let mut gateway = Gateway::with_config(&camera.config()).await;
    let access = Access::of(&gateway, "cam").await;
    let open = async || {
        let client = narrow_client(&access.hashes, STREAMS, 50_000, 100_000);
        let session = Session::with(&client, access.address(), "cam/webcodecs", &[]).await;
        (session.unwrap(), client)
    };
    let (session, client) = open().await;
    let began = Instant::now();
    let closed = tokio::time::timeout(4 * PATIENCE, session.connection.closed());
    let closed = tokio::select! {
        closed = closed => closed.expect("the session goes on"),
        () = film(&mut camera) => unreachable!(),
    };
    let ConnectionError::ApplicationClosed(close) = closed else {
        panic!("{closed}");
    };
    let reason = String::from_utf8_lossy(close.reason());
    assert_eq!(
        (close.code().into_inner(), &*reason),
        (1008, "the client has stopped reading")
    );
    let took = began.elapsed();
    println!("disconnected after {took:?}");
    assert!(took > Duration::from_secs(60), "{took:?}");
    drop(client);
    // A gateway that shuts down does not wait that long.
    let (session, _client) = open().await;
    let begun = until(&gateway, "/api/sessions", |sessions| {
        sessions["sessions"][0]["bytes"].as_u64() > Some(0)
    });
    tokio::select! {
        _ = begun => {}
        () = film(&mut camera) => unreachable!(),
    }
    let began = Instant::now();
    gateway.signal(Signal::TERM);
    session.closed().await;
    within("the gateway ends", gateway.child.wait())
        .await
        .unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    gateway.no_panic();
}
