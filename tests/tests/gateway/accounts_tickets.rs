//! What a ticket is worth to whoever has stolen it: nothing for another stream, nothing after its time, and nothing
//! after what it was issued under has ended.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, PATIENCE, Raw,
    accounts::{ask, sign_in, socket, ticket, user},
    within,
};
use std::time::{Duration, Instant};

/// The shortest life of a ticket that a config may name, in seconds.
const LIFE: u64 = 10;
/// How long something may go on after its permission was taken away.
const SOON: Duration = Duration::from_secs(1);

/// Somebody may view two streams.
async fn gateway() -> Gateway {
    let streams = ["porch", "garden"].map(|name| {
        format!(
            "[streams.{name}]\nsource = \"test-pattern\"\nencode = {{ width = 320, height = 192 }}\n"
        )
    });
    let config = format!(
        "[server]\nnames = [\"cam.example\"]\n[access]\nticket = \"{LIFE}s\"\n{}{}",
        streams.concat(),
        user("eva", "view = [\"*\"]"),
    );
    Gateway::with_config(&config).await
}

/// Status of a request over HTTP that shows the stream to the bearer of a ticket.
async fn http(gateway: &Gateway, ticket: &str, path: &str) -> u16 {
    let path = format!("/live/~{ticket}/{path}");
    ask(gateway, "GET", &path, &[]).await.0
}

/// Requests a WebSocket with the ticket; returns it with the status of the answer.
async fn websocket(gateway: &Gateway, ticket: &str, path: &str) -> (Raw, u16) {
    let mut raw = Raw::connect(gateway.address).await;
    let path = format!("/live/~{ticket}/{path}");
    raw.write(socket(gateway, &path, &[])).await;
    let head = within(&path, raw.head()).await.unwrap();
    (raw, head.status)
}

/// Unix time in seconds, as the gateway tells it.
async fn clock(gateway: &Gateway) -> u64 {
    let (_, _, health) = ask(gateway, "GET", "/healthz", &[]).await;
    let health: Value = serde_json::from_str(&health).unwrap();
    health["now"].as_u64().unwrap() / 1_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_worth_nothing_for_another_stream() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, "eva").await;
    let porch = ticket(&gateway, "porch", ("Cookie", &cookie)).await;
    for transport in ["frame.jpg", "hls/index.m3u8", "nal", "mse"] {
        let other = format!("garden/{transport}");
        assert_eq!(http(&gateway, &porch, &other).await, 403, "{other}");
    }
    assert_eq!(websocket(&gateway, &porch, "garden/nal").await.1, 403);
    // Nor may it be exchanged for one, or for anything else that its issuer may do.
    assert_eq!(http(&gateway, &porch, "garden").await, 403);
    for path in ["/api/devices", "/api/devices/porch", "/api/account"] {
        for query in [format!("{path}?ticket={porch}"), path.to_owned()] {
            let (status, ..) = ask(&gateway, "GET", &query, &[]).await;
            assert_eq!(status, 401, "{query}");
        }
        let bearer = format!("Bearer {porch}");
        let cookie = format!("sluicegate={porch}");
        for header in [("Authorization", &bearer), ("Cookie", &cookie)] {
            let header = (header.0, header.1.as_str());
            let (status, ..) = ask(&gateway, "GET", path, &[header]).await;
            assert_eq!(status, 401, "{header:?}");
        }
    }
    assert_eq!(http(&gateway, &porch, "porch/frame.jpg").await, 200);
    assert_eq!(websocket(&gateway, &porch, "porch/nal").await.1, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_worth_nothing_after_its_time_unless_it_was_used() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, "eva").await;
    let eva = ("Cookie", cookie.as_str());
    let [used, for_http, for_websocket] = [
        ticket(&gateway, "porch", eva).await,
        ticket(&gateway, "porch", eva).await,
        ticket(&gateway, "porch", eva).await,
    ];
    let opened = ticket(&gateway, "porch", eva).await;
    let (mut viewer, status) = websocket(&gateway, &opened, "porch/nal").await;
    assert_eq!(status, 101);
    let issued = clock(&gateway).await;
    // A player that fetches something now and then keeps its ticket, and whoever watches goes on.
    let began = Instant::now();
    while clock(&gateway).await <= issued + LIFE + 1 {
        assert_eq!(http(&gateway, &used, "porch/frame.jpg").await, 200);
        within("a frame", viewer.frame()).await.unwrap();
        assert!(
            began.elapsed() < PATIENCE,
            "the gateway's clock stands still"
        );
    }
    assert_eq!(http(&gateway, &used, "porch/frame.jpg").await, 200);
    assert_eq!(http(&gateway, &for_http, "porch/frame.jpg").await, 401);
    assert_eq!(
        websocket(&gateway, &for_websocket, "porch/nal").await.1,
        401
    );
    // It stays so, and over the other carrier, too.
    assert_eq!(
        http(&gateway, &for_websocket, "porch/hls/index.m3u8").await,
        401
    );
    assert_eq!(websocket(&gateway, &for_http, "porch/nal").await.1, 401);
    within("a frame", viewer.frame()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_worth_nothing_after_what_it_was_issued_under() {
    let gateway = gateway().await;
    let cookie = sign_in(&gateway, "eva").await;
    let eva = ("Cookie", cookie.as_str());
    let stolen = ticket(&gateway, "porch", eva).await;
    let again = sign_in(&gateway, "eva").await;
    let other = ticket(&gateway, "porch", ("Cookie", &again)).await;
    let (mut thief, status) = websocket(&gateway, &stolen, "porch/nal").await;
    assert_eq!(status, 101);
    let mut body = Raw::connect(gateway.address).await;
    body.write(format!(
        "GET /live/~{stolen}/porch/mjpeg HTTP/1.0\r\nHost: cam.example\r\n\r\n"
    ))
    .await;
    let head = within("MJPEG", body.head()).await.unwrap();
    assert_eq!(head.status, 200, "{}", head.text);
    within("a frame", body.part()).await.unwrap();
    within("a frame", thief.frame()).await.unwrap();

    let began = Instant::now();
    assert_eq!(ask(&gateway, "POST", "/logout", &[eva]).await.0, 303);
    let (closed, ended) = tokio::join!(thief.closed(), body.end());
    let took = began.elapsed();
    assert_eq!(closed.unwrap().0, 4401);
    ended.unwrap();
    assert!(took < SOON, "{took:?}");
    for transport in ["frame.jpg", "mjpeg", "hls/index.m3u8"] {
        let path = format!("porch/{transport}");
        assert_eq!(http(&gateway, &stolen, &path).await, 401, "{path}");
    }
    assert_eq!(websocket(&gateway, &stolen, "porch/nal").await.1, 401);
    // Another sign-in of the same user has its own.
    assert_eq!(http(&gateway, &other, "porch/frame.jpg").await, 200);
    assert_eq!(websocket(&gateway, &other, "porch/nal").await.1, 101);
}
