//! Android devices that the config names as streams, through a real adb server.

use rustix::process::Signal;
use serde_json::Value;
use sluicegate_tests::{
    Gateway, Raw,
    android::{Adb, Device, Film, FilmViewer, ReceivedFrame, Wire, jar},
    camera::COUNT,
    command::{check, config_file},
    within,
};
use std::{path::Path, time::Duration};
use tokio::task::JoinSet;

/// Config with `[android]` and one stream per device: `a`, `b`, ….
fn config(adb: &Adb, jar: &Path, more: &str, devices: &[&Device]) -> String {
    let mut text = format!(
        "[android]\nadb = '{}'\nserver = '{}'\ndiscover = false\n{more}\n",
        adb.address(),
        jar.display()
    );
    for (name, device) in ('a'..).zip(devices) {
        text += &format!(
            "[streams.{name}]\nsource = 'android:{}'\nidle = '300ms'\n",
            device.serial
        );
    }
    text
}

/// A device, its adb server, and a gateway that shows the device as `a`.
async fn one(version: &str, more: &str) -> (Adb, Device, Gateway) {
    let (adb, device) = tokio::join!(Adb::start(), Device::new());
    adb.connect(&[&device]).await;
    let config = config(&adb, &jar(version), more, &[&device]);
    let gateway = Gateway::with_config(&config).await;
    (adb, device, gateway)
}

/// Waits until `/api/devices/a` has this state with a reason that contains `words`; returns the entry.
async fn until_state(gateway: &Gateway, state: &str, words: &str) -> Value {
    let good = |device: &Value| {
        device["state"] == state
            && device["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains(words))
    };
    let what = format!("{state}: …{words}…");
    gateway.api_until("/api/devices/a", &what, good).await
}

/// Shows this number of frames; the viewer must receive each of them in order. Returns their places.
async fn play(device: &Device, viewer: &mut FilmViewer, count: usize, turned: bool) -> Vec<usize> {
    let mut places = Vec::new();
    for _ in 0..count {
        let place = device.show().await;
        assert_eq!(viewer.next().await, ReceivedFrame { turned, place });
        places.push(place);
    }
    places
}

fn assert_no_complaints(device: &Device) {
    device.change(|state| assert_eq!(state.complaints, Vec::<String>::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scrcpy_version_plays_with_and_without_times_and_over_rotations() {
    let adb = std::sync::Arc::new(Adb::start().await);
    let mut all = JoinSet::new();
    for (wire, metadata) in Wire::all()
        .iter()
        .flat_map(|wire| [(wire, true), (wire, false)])
    {
        let adb = adb.clone();
        all.spawn(async move {
            let device = Device::new().await;
            adb.connect(&[&device]).await;
            let more = format!("metadata = {metadata}");
            let config = config(&adb, &jar(&wire.version), &more, &[&device]);
            let gateway = Gateway::with_config(&config).await;
            let mut viewer = FilmViewer::open(&gateway, "a").await;
            let places = play(&device, &mut viewer, 12, false).await;
            assert_eq!(places, (0..12).collect::<Vec<_>>(), "{}", wire.version);
            for turned in [true, false] {
                device.turn().await;
                play(&device, &mut viewer, 3, turned).await;
                let (width, height) = Film::get(turned).size;
                let is_turned =
                    |device: &Value| device["width"] == width && device["height"] == height;
                gateway
                    .api_until("/api/devices/a", "the new size", is_turned)
                    .await;
            }
            assert_eq!(
                gateway.api("/api/devices/a").await["notes"],
                serde_json::json!([])
            );
            let started = device.change(|state| state.started.clone());
            assert_eq!(started.len(), 1);
            for option in [
                " max_size=1280 ",
                " max_fps=30 ",
                " video_bit_rate=4000000 ",
                "=i-frame-interval=2 ",
            ] {
                assert!(
                    started[0].contains(option),
                    "{option} is not in {started:?}"
                );
            }
            assert_no_complaints(&device);
            drop(viewer);
            device.is_clean().await;
            gateway.no_panic();
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_screen_is_woken_where_that_is_wanted() {
    for version in ["2.0", "2.7", "3.3.4"] {
        for (more, wakes) in [("", 0), ("wake = true", 1)] {
            let (_adb, device, gateway) = one(version, more).await;
            let mut viewer = FilmViewer::open(&gateway, "a").await;
            play(&device, &mut viewer, 3, false).await;
            assert_eq!(
                device.change(|state| state.wakes),
                wakes,
                "{version} {more}"
            );
            assert_no_complaints(&device);
            drop(viewer);
            device.is_clean().await;
            gateway.no_panic();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_of_an_unplugged_device_stay_and_resume_when_it_is_back() {
    let (adb, device, gateway) = one("3.3.4", "").await;
    let idle = until_state(&gateway, "idle", "nobody is watching").await;
    let mut viewer = FilmViewer::open(&gateway, "a").await;
    play(&device, &mut viewer, 5, false).await;
    until_state(&gateway, "live", "receiving video").await;

    adb.disconnect(&device).await;
    let away = until_state(&gateway, "offline", "plug it in").await;
    assert_eq!(away["viewers"], 1);
    assert!(away["since"].as_u64() > idle["since"].as_u64(), "{away:#}");
    device.is_clean().await;

    adb.connect(&[&device]).await;
    play(&device, &mut viewer, 5, false).await;
    assert_eq!(until_state(&gateway, "live", "").await["viewers"], 1);

    // The link breaks, and the adb server keeps listing the device as offline.
    device.unplug();
    adb.lists(&device.serial, "offline").await;
    until_state(&gateway, "offline", "adb reconnect").await;
    adb.disconnect(&device).await;
    device.plug_in().await;
    adb.connect(&[&device]).await;
    play(&device, &mut viewer, 5, false).await;
    drop(viewer);
    device.is_clean().await;
    until_state(&gateway, "idle", "").await;

    // The device is also reported as away while nobody watches.
    adb.disconnect(&device).await;
    until_state(&gateway, "offline", "plug it in").await;
    adb.connect(&[&device]).await;
    until_state(&gateway, "idle", "").await;
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_has_not_allowed_the_computer_says_so_and_plays_once_it_has() {
    let (adb, device) = tokio::join!(Adb::start(), Device::new());
    device.change(|state| state.locked = true);
    let connecting = format!("host:connect:{}", device.serial);
    let asked = adb.ask(&connecting);
    let config = config(&adb, &jar("3.3.4"), "", &[&device]);
    let rest = async {
        adb.lists(&device.serial, "unauthorized").await;
        let gateway = Gateway::with_config(&config).await;
        until_state(&gateway, "unauthorized", "confirm USB debugging").await;
        let mut viewer = FilmViewer::open(&gateway, "a").await;
        let asked = until_state(&gateway, "unauthorized", "").await;
        assert_eq!(asked["viewers"], 1);
        device.allow();
        play(&device, &mut viewer, 3, false).await;
        until_state(&gateway, "live", "").await;
        assert_eq!(device.change(|state| state.started.len()), 1);
    };
    // The adb server answers when the device authorizes it or when it gives up waiting.
    tokio::join!(asked, rest);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adb_server_may_come_late_and_go_and_come_again() {
    let (mut adb, device) = tokio::join!(Adb::down(), Device::new());
    let config = config(&adb, &jar("3.3.4"), "", &[&device]);
    let gateway = Gateway::with_config(&config).await;
    let mut viewer = FilmViewer::open(&gateway, "a").await;
    until_state(&gateway, "offline", "start it with `adb start-server`").await;
    adb.up().await;
    until_state(&gateway, "offline", "plug it in").await;
    adb.connect(&[&device]).await;
    play(&device, &mut viewer, 3, false).await;
    for _ in 0..2 {
        adb.kill().await;
        until_state(&gateway, "offline", "start it with `adb start-server`").await;
        device.is_clean().await;
        adb.up().await;
        adb.connect(&[&device]).await;
        play(&device, &mut viewer, 3, false).await;
        assert_eq!(until_state(&gateway, "live", "").await["viewers"], 1);
    }
    assert_no_complaints(&device);
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrcpy_that_dies_or_does_not_begin_says_why_and_is_tried_again() {
    let (_adb, device, gateway) = one("3.3.4", "").await;
    let mut viewer = FilmViewer::open(&gateway, "a").await;
    play(&device, &mut viewer, 3, false).await;
    for (words, reason) in [
        (
            "[server] ERROR: out of ideas\n\tat x\n",
            "scrcpy ended: out of ideas",
        ),
        (
            "[server] ERROR: Could not create default video encoder for h264\n",
            "the device's encoder failed: Could not create",
        ),
    ] {
        device.change(|state| state.fails = Some(words.into()));
        device.crash(words).await;
        let failed = until_state(&gateway, "retrying", reason).await;
        assert!(
            failed["reason"]
                .as_str()
                .unwrap()
                .contains(&format!("android:{}", device.serial))
        );
        device.change(|state| state.fails = None);
        play(&device, &mut viewer, 3, false).await;
        until_state(&gateway, "live", "").await;
    }
    assert_no_complaints(&device);
    drop(viewer);
    device.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_config_or_the_device_are_reported_with_advice() {
    let adb = Adb::start().await;
    let device = Device::new().await;
    adb.connect(&[&device]).await;
    let no_jar = jar("3.3.4").with_file_name("scrcpy-server-v3.3.3");
    std::fs::write(&no_jar, "no server at all").unwrap();
    let renamed = jar("3.3.4").with_file_name("scrcpy-server-v3.1");
    std::fs::copy(jar("3.3.4"), &renamed).unwrap();
    let server = |path: &Path| format!("server = '{}'\n", path.display());
    for (settings, reason) in [
        (
            String::new(),
            "[android] needs `server`, the scrcpy-server to run on devices: download",
        ),
        (
            server(&renamed),
            "is scrcpy 3.3.4, not 3.1: write version = \"3.3.4\"",
        ),
        (server(&no_jar), "is not a scrcpy-server"),
    ] {
        let config = format!(
            "[android]\nadb = '{}'\n{settings}\n[streams.a]\nsource = 'android:{}'\n",
            adb.address(),
            device.serial
        );
        let gateway = Gateway::with_config(&config).await;
        let _viewer = FilmViewer::open(&gateway, "a").await;
        until_state(&gateway, "retrying", reason).await;
    }
    device.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_android_plays_through_its_old_shell_and_a_too_old_one_is_reported() {
    let (adb, device) = tokio::join!(Adb::start(), Device::new());
    device.change(|state| state.is_old = true);
    adb.connect(&[&device]).await;
    let gateway = Gateway::with_config(&config(&adb, &jar("2.7"), "", &[&device])).await;
    let mut viewer = FilmViewer::open(&gateway, "a").await;
    play(&device, &mut viewer, 3, false).await;
    device.change(|state| {
        state.sdk = 19;
        state.fails = Some("CANNOT LINK EXECUTABLE\n".into());
    });
    device.crash("").await;
    until_state(&gateway, "retrying", "its Android has API level 19").await;
    drop(viewer);
    device.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_that_waits_for_a_keyframe_requests_one_of_the_device_not_often() {
    let adb = Adb::start().await;
    let device = Device::new().await;
    adb.connect(&[&device]).await;
    let config = config(
        &adb,
        &jar("3.3.4"),
        "[transports.nal]\nstale = '250ms'",
        &[&device],
    );
    let gateway = Gateway::with_config(&config).await;
    let mut viewer = FilmViewer::open(&gateway, "a").await;
    play(&device, &mut viewer, 2, false).await;
    // The viewer reads nothing until more has been sent than its connection buffers; there is no keyframe in it.
    let mut slow = Raw::with_buffer(gateway.address, Some(16 << 10)).await;
    let head = slow.upgrade(gateway.address, "/live/a/nal").await.unwrap();
    assert_eq!(head.status, 101, "{}", head.text);
    device.change(|state| (state.filler, state.is_deaf) = (400_000, true));
    play(&device, &mut viewer, 40, false).await;
    device.change(|state| state.filler = 0);
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..10 {
        pace.tick().await;
        play(&device, &mut viewer, 1, false).await;
    }
    // When it reads again, the gateway notices that it is late.
    let reading = tokio::spawn(async move {
        let mut keyframes = 0;
        loop {
            let (_, payload) = slow.frame().await.unwrap();
            let nals = sluicegate_tests::media::cut(&payload);
            keyframes += usize::from(Film::find(&nals).is_some_and(|seen| seen.place == 0));
            if keyframes == 2 {
                return slow;
            }
        }
    });
    // The device ignores the first keyframe request and follows the second.
    let mut heeded = false;
    for nth in 1..=2 {
        while device.change(|state| state.resets.len()) < nth {
            pace.tick().await;
            let place = play(&device, &mut viewer, 1, false).await[0];
            assert!(place < COUNT - 1, "no more frames without a keyframe");
            heeded |= place == 0;
        }
        device.change(|state| state.is_deaf = false);
    }
    let resets = device.change(|state| state.resets.clone());
    let apart = resets[1] - resets[0];
    assert!(apart >= Duration::from_millis(1900), "{apart:?}");
    while !heeded {
        heeded = play(&device, &mut viewer, 1, false).await == [0];
    }
    within("the keyframe arrives", reading).await.unwrap();
    assert_no_complaints(&device);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_on_the_device_after_idle_sigterm_and_sigkill() {
    let (adb, device) = tokio::join!(Adb::start(), Device::new());
    adb.connect(&[&device]).await;
    let file = config_file(&config(&adb, &jar("4.1"), "", &[&device]));
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.to_str().unwrap(),
    ];
    let start = || async {
        Gateway::start(&arguments, std::process::Stdio::null())
            .await
            .0
    };
    let mut gateway = start().await;
    for (nth, end) in [None, Some(Signal::TERM), Some(Signal::KILL), None]
        .into_iter()
        .enumerate()
    {
        let mut viewer = FilmViewer::open(&gateway, "a").await;
        play(&device, &mut viewer, 3, false).await;
        device.change(|state| {
            let services: Vec<_> = state
                .streams
                .values()
                .map(|service| service.split(':').next().unwrap().to_owned())
                .collect();
            assert_eq!(services, ["shell,v2,raw", "localabstract", "localabstract"]);
            assert_eq!(
                (
                    state.processes.len(),
                    state.files.len(),
                    state.started.len()
                ),
                (1, 0, nth + 1)
            );
        });
        match end {
            // Then the viewer leaves; the gateway keeps running.
            None => drop(viewer),
            Some(signal) => {
                gateway.signal(signal);
                drop(viewer);
                within("the gateway ends", gateway.child.wait())
                    .await
                    .unwrap();
            }
        }
        device.is_clean().await;
        assert_eq!(adb.ask("host:list-forward").await, "");
        if end.is_some() {
            gateway = start().await;
        }
    }
    // The gateway is stopped while the server is starting.
    let viewer = FilmViewer::open(&gateway, "a").await;
    device
        .until("the server is pushed", |state| {
            (!state.files.is_empty()).then_some(())
        })
        .await;
    gateway.signal(Signal::TERM);
    drop(viewer);
    within("the gateway ends", gateway.child.wait())
        .await
        .unwrap();
    device.is_clean().await;
    assert_no_complaints(&device);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_devices_play_to_four_viewers_each_at_once() {
    let adb = Adb::start().await;
    let mut devices = Vec::new();
    for _ in 0..8 {
        devices.push(Device::new().await);
    }
    let all: Vec<&Device> = devices.iter().collect();
    adb.connect(&all).await;
    let gateway = Gateway::with_config(&config(&adb, &jar("3.3.4"), "", &all)).await;
    let mut viewers = Vec::new();
    for name in 'a'..='h' {
        let mut four = Vec::new();
        for _ in 0..4 {
            four.push(FilmViewer::open(&gateway, &name.to_string()).await);
        }
        viewers.push(four);
    }
    let mut playing = JoinSet::new();
    for (device, mut four) in devices.into_iter().zip(viewers) {
        playing.spawn(async move {
            for _ in 0..40 {
                let place = device.show().await;
                for viewer in &mut four {
                    assert_eq!(
                        viewer.next().await,
                        ReceivedFrame {
                            turned: false,
                            place
                        }
                    );
                }
            }
            assert_eq!(device.change(|state| state.started.len()), 1);
            (device, four)
        });
    }
    let played = playing.join_all().await;
    let devices = gateway.api("/api/devices").await;
    for device in devices.as_array().unwrap() {
        assert_eq!(
            (&device["state"], &device["viewers"]),
            (&"live".into(), &4.into()),
            "{device:#}"
        );
    }
    for (device, four) in played {
        drop(four);
        device.is_clean().await;
    }
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_serial_may_have_odd_characters_and_a_device_settings_of_its_own() {
    let adb = Adb::start().await;
    let device = Device::at("[::1%1]").await;
    adb.connect(&[&device]).await;
    let more = format!(
        "[android.devices.'{}']\nmax-size = 640\nbitrate = '500k'\nkeyframe-interval = '1500ms'\nframe-rate = 5\n",
        device.serial
    );
    let config = config(&adb, &jar("3.3.4"), &more, &[]);
    let source = format!("android:{}", device.serial);
    let file = config_file(&config);
    let arguments = [
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--config",
        file.to_str().unwrap(),
        &source,
    ];
    let gateway = Gateway::start(&arguments, std::process::Stdio::null())
        .await
        .0;
    let devices = gateway.api("/api/devices").await;
    let name = devices[0]["serial"].as_str().unwrap();
    assert_eq!(name, device.serial.replace('%', "=25"));
    let path = sluicegate_config::path_segment(name);
    let mut viewer = FilmViewer::open(&gateway, &path).await;
    play(&device, &mut viewer, 3, false).await;
    let started = device.change(|state| state.started.concat());
    let own = " max_size=640 max_fps=5 video_bit_rate=500000 video_codec_options=i-frame-interval:float=1.5 ";
    assert!(started.contains(own), "{started}");
}

#[tokio::test]
async fn check_finds_a_server_that_cannot_be_read() {
    for (text, parts) in [
        (
            "server = 'nowhere/scrcpy-server-v3.3.4'",
            &[
                "sluice.toml:2:10: `server` in [android]",
                "cannot be read",
                "releases",
            ][..],
        ),
        (
            "server = 'scrcpy-server'",
            &["sluice.toml:2:10:", "add e.g. version"],
        ),
    ] {
        check(&format!("[android]\n{text}\n")).await.refused(parts);
    }
}
