//! Cameras, as far as a machine without one allows, and screens: a real X server with a real client.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Nal, Numbered, media::encode_pattern, mjpeg, within, xserver::XServer,
};
use std::time::Duration;

#[tokio::test]
async fn a_camera_that_is_missing_or_none_is_reported_with_advice() {
    let gateway = Gateway::with_config(
        "[streams.gone]\nsource = 'v4l2:/dev/video9999'\n[streams.none]\nsource = 'v4l2:/dev/null'\n",
    )
    .await;
    for (stream, told) in [
        (
            "gone",
            "No such file or directory (os error 2); is the camera plugged in? `sluicegate sources` lists",
        ),
        ("none", "it is not a camera; cameras are /dev/videoN"),
    ] {
        let _viewer = Nal::connect(gateway.address, stream).await.unwrap();
        let says = |device: &Value| {
            device["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains(told))
        };
        let device = gateway
            .api_until(&format!("/api/devices/{stream}"), told, says)
            .await;
        assert_eq!(device["state"], "retrying");
    }
    let listed = std::process::Command::new(Gateway::binary())
        .arg("sources")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("no camera found") || listed.contains("v4l2:/dev/video"),
        "{listed}"
    );
}

#[tokio::test]
async fn a_missing_screen_is_reported_with_advice() {
    let server = XServer::start((640, 480)).await;
    let gateway = Gateway::with_config(&format!(
        "[streams.none]\nsource = 'screen::65000'\n\
         [streams.outside]\nsource = 'screen:{}+600,0?size=320x192'\n",
        server.display
    ))
    .await;
    for (stream, told) in [
        ("none", "is there an X server, and may this user access it?"),
        ("outside", "is the region within the screen?"),
    ] {
        let _viewer = Nal::connect(gateway.address, stream).await.unwrap();
        let says = |device: &Value| {
            device["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains(told))
        };
        gateway
            .api_until(&format!("/api/devices/{stream}"), told, says)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_screen_is_shown_in_its_colours_and_nothing_of_it_stays_behind() {
    let server = XServer::start((640, 480)).await;
    // Pure red in the left half, white in the right.
    let _client = server.show(&[
        "-left", "0", "-top", "0", "-f", "lavfi", "-i",
        "color=red:size=640x480:rate=5,drawbox=x=320:y=0:w=320:h=480:color=white:t=fill,format=rgb24",
    ]);
    let gateway = Gateway::with_config(&format!(
        "[streams.desk]\nsource = 'screen:{}'\nidle = '1s'\n",
        server.display
    ))
    .await;
    let mut viewer = within("connect", mjpeg(gateway.address, "desk"))
        .await
        .unwrap();
    let near = |pixel: &[u8], wanted: [u8; 3]| {
        pixel
            .iter()
            .zip(wanted)
            .all(|(got, want)| got.abs_diff(want) < 12)
    };
    let seen = async {
        loop {
            let jpeg = viewer.next().await.unwrap();
            let image = turbojpeg::decompress(&jpeg, turbojpeg::PixelFormat::RGB).unwrap();
            assert_eq!((image.width, image.height), (640, 480));
            let at = |x: usize, y: usize| &image.pixels[y * image.pitch + x * 3..][..3];
            if near(at(100, 240), [255, 0, 0]) && near(at(540, 240), [255, 255, 255]) {
                return;
            }
        }
    };
    within("red and white", seen).await;
    let device = gateway.api("/api/devices/desk").await;
    assert_eq!(
        (&device["width"], &device["height"], &device["state"]),
        (&640.into(), &480.into(), &"live".into())
    );
    let children = || children_of(gateway.child.id().unwrap());
    assert_eq!(children().len(), 1);
    drop(viewer);
    let idle = |device: &Value| device["state"] == "idle";
    gateway.api_until("/api/devices/desk", "idle", idle).await;
    let gone = async {
        while !children().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the device's process ends", gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn part_of_a_screen_is_shown_frame_by_frame_and_a_dead_server_may_return() {
    let film = encode_pattern(
        "film.mp4",
        (320, 192),
        0,
        3000,
        &["-c:v", "libx264", "-preset", "ultrafast", "-qp", "10"],
    );
    let film = film.to_str().unwrap();
    let server = XServer::start((800, 600)).await;
    let _client = server.show(&["-left", "100", "-top", "200", "-noborder", film]);
    let gateway = Gateway::with_config(&format!(
        "[streams.part]\nsource = 'screen:{}+100,200?size=320x192'\nencode = {{ frame-rate = 10 }}\n",
        server.display
    ))
    .await;
    let mut viewer = Numbered::connect(&gateway, "part").await;
    viewer.count(20).await;
    // The film runs at 30 frames per second, and the screen is sampled ten times per second.
    assert!(
        viewer.numbers.windows(2).all(|two| two[0] <= two[1]),
        "{:?}",
        viewer.numbers
    );
    assert!(
        viewer.numbers[19] >= viewer.numbers[0] + 30,
        "{:?}",
        viewer.numbers
    );
    let display = server.kill().await;
    let lost = |device: &Value| device["state"] == "retrying";
    gateway
        .api_until("/api/devices/part", "the server is gone", lost)
        .await;
    let server = XServer::start_as(&display, (800, 600)).await;
    let _client = server.show(&["-left", "100", "-top", "200", "-noborder", film]);
    let before = viewer.numbers.len();
    viewer.count(before + 10).await;
}

/// Process ids of a process's children.
fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .flatten();
    tasks
        .flat_map(|task| {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children
                .split_whitespace()
                .map(|id| id.parse().unwrap())
                .collect::<Vec<u32>>()
        })
        .collect()
}
