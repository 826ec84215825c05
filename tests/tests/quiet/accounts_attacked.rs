//! Somebody tries passwords from many addresses: viewers notice nothing, and whoever knows a password gets in.

use sluicegate_tests::{
    Camera, Gateway, Nal, Raw, Watcher,
    accounts::{HOST, PASSWORD, cookie_in, user_at_full_cost},
    camera::{self, COUNT},
    within,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// Addresses from which passwords are tried, each once.
const ATTACKERS: u8 = 100;
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two frames, and frames before the attack.
const FRAME: Duration = Duration::from_millis(40);
const QUIET: usize = 50;
/// By how much frames may be later at the median while passwords are tried, on a machine that is busy otherwise.
const LATER: Duration = Duration::from_millis(40);
/// Time for a sign-in with the right password.
const SIGN_IN: Duration = Duration::from_secs(5);
/// Where a user signs in who has done so before, and one who has not.
const KNOWN: Ipv4Addr = Ipv4Addr::new(127, 0, 8, 1);
const NEW: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 1);

/// Sends the form from an address of its own; returns status and head.
async fn sign_in(to: SocketAddr, from: Ipv4Addr, name: &str, password: &str) -> (u16, String) {
    let form = format!("name={name}&password={}", password.replace(' ', "+"));
    let mut raw = Raw::from(from, to).await;
    raw.write(format!(
        "POST /login HTTP/1.1\r\n{}: {}\r\nContent-Length: {}\r\n\r\n{form}",
        HOST.0,
        HOST.1,
        form.len()
    ))
    .await;
    let (head, _) = within("the form", raw.response()).await.unwrap();
    (head.status, head.text)
}

async fn viewer(gateway: &Gateway, cookie: &str) -> Watcher {
    let path = "/live/cam/nal";
    let url = format!("ws://{}{path}", gateway.address);
    let mut request = url.into_client_request().unwrap();
    request
        .headers_mut()
        .insert("Cookie", cookie.parse().unwrap());
    let tcp = TcpStream::connect(gateway.address).await.unwrap();
    let opened = within(path, tokio_tungstenite::client_async(request, tcp)).await;
    let (socket, _) = opened.unwrap();
    Watcher::new(Nal { socket }, path.into(), camera::clip())
}

/// Shows a frame to all viewers, who must have missed none; returns how long that took.
async fn show(camera: &mut Camera, viewers: &mut [Watcher; 2]) -> Duration {
    let [first, second] = viewers;
    let began = Instant::now();
    let sent = camera.show_at_once(first).await;
    let (place, _) = within("the second viewer's frame", second.next()).await;
    assert_eq!(place, sent % COUNT, "a gap");
    began.elapsed()
}

fn median(delays: &[Duration]) -> Duration {
    let mut delays = delays.to_vec();
    delays.sort();
    delays[delays.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_tried_from_everywhere_cost_viewers_nothing_and_lock_nobody_out() {
    let _alone = super::alone().await;
    let mut camera = Camera::new(camera::clip()).await;
    let config = format!(
        "[server]\nnames = [\"cam.example\"]\n{}{}{}",
        camera.config(),
        user_at_full_cost("eva", "view = [\"*\"]"),
        user_at_full_cost("kim", "view = [\"*\"]"),
    );
    let gateway = Gateway::with_config(&config).await;
    let (status, head) = sign_in(gateway.address, KNOWN, "eva", PASSWORD).await;
    assert_eq!(status, 303, "{head}");
    let cookie = cookie_in(&head);
    let mut viewers = [
        viewer(&gateway, &cookie).await,
        viewer(&gateway, &cookie).await,
    ];

    let mut frames = interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet = Vec::new();
    while quiet.len() < QUIET {
        frames.tick().await;
        quiet.push(show(&mut camera, &mut viewers).await);
    }

    let attack = async {
        let mut attempts = interval(PAUSE);
        let mut all = JoinSet::new();
        let (mut answers, mut right) = (Vec::new(), Vec::new());
        let address = gateway.address;
        for nth in 1..=ATTACKERS {
            attempts.tick().await;
            // Every fourth time the name of somebody who exists.
            let name = match nth % 4 {
                0 => "eva".to_owned(),
                _ => format!("user{nth}"),
            };
            all.spawn(async move {
                let from = Ipv4Addr::new(127, 0, 7, nth);
                let password = format!("guess {nth}");
                sign_in(address, from, &name, &password).await.0
            });
            if nth == ATTACKERS / 2 || nth == ATTACKERS {
                for (from, name) in [(KNOWN, "eva"), (NEW, "kim")] {
                    let began = Instant::now();
                    // Whoever finds the queue full is told to come again.
                    let status = loop {
                        match sign_in(address, from, name, PASSWORD).await.0 {
                            503 if began.elapsed() < SIGN_IN => {}
                            status => break status,
                        }
                    };
                    right.push((name, status, began.elapsed()));
                }
            }
        }
        while let Some(answer) = all.join_next().await {
            answers.push(answer.unwrap());
        }
        (answers, right)
    };
    let mut attack = std::pin::pin!(attack);
    let mut during = Vec::new();
    let (answers, right) = loop {
        tokio::select! {
            biased;
            ended = &mut attack => break ended,
            _ = frames.tick() => during.push(show(&mut camera, &mut viewers).await),
        }
    };
    for (name, status, took) in right {
        assert_eq!(status, 303, "{name}");
        assert!(took < SIGN_IN, "{name}: {took:?}");
    }
    assert_eq!(answers.len(), usize::from(ATTACKERS));
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    // Wrong, tried too often, or too many at a time.
    let refused = [401, 429, 503].map(count);
    assert_eq!(refused.iter().sum::<usize>(), answers.len(), "{answers:?}");
    assert!(refused[0] >= 20, "few were verified: {answers:?}");
    assert!(during.len() > QUIET, "{}", during.len());
    let before = median(&quiet);
    let (all, late) = (median(&during), median(&during[during.len() - QUIET..]));
    for delay in [all, late] {
        assert!(
            delay < before + LATER,
            "{before:?} before, {all:?} and at last {late:?} during the attack"
        );
    }
}
