//! Android devices that the config does not name: each becomes a stream named by its serial.

use serde_json::Value;
use sluicegate_tests::{
    Gateway, Raw,
    android::{Adb, Device, FilmViewer, ReceivedFrame, jar},
    http_get, within,
};

async fn gateway(adb: &Adb, more: &str) -> Gateway {
    let server = jar("3.3.4");
    let config = format!(
        "[android]\nadb = '{}'\nserver = '{}'\nidle = '300ms'\n{more}\n",
        adb.address(),
        server.display()
    );
    Gateway::with_config(&config).await
}

/// Waits until `/api/devices` lists exactly these names and states, in any order.
async fn lists(gateway: &Gateway, wanted: &[(&str, &str)]) -> Value {
    let good = |devices: &Value| {
        let mut listed: Vec<(&str, &str)> = devices
            .as_array()
            .unwrap()
            .iter()
            .map(|device| {
                let text = |key: &str| device[key].as_str().unwrap_or_default();
                (text("serial"), text("state"))
            })
            .collect();
        let mut wanted = wanted.to_vec();
        listed.sort_unstable();
        wanted.sort_unstable();
        listed == wanted
    };
    let what = format!("{wanted:?}");
    gateway.api_until("/api/devices", &what, good).await
}

async fn play(device: &Device, viewer: &mut FilmViewer) {
    for _ in 0..3 {
        let place = device.show().await;
        let turned = false;
        assert_eq!(viewer.next().await, ReceivedFrame { turned, place });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attached_device_is_a_stream_by_its_serial_that_starts_on_demand() {
    let (adb, device) = tokio::join!(Adb::start(), Device::new());
    let gateway = gateway(&adb, "").await;
    lists(&gateway, &[]).await;
    adb.connect(&[&device]).await;
    let devices = lists(&gateway, &[(&device.serial, "idle")]).await;
    assert_eq!(devices[0]["source"], format!("android:{}", device.serial));
    assert_eq!(device.change(|state| state.started.len()), 0);

    let mut viewer = FilmViewer::open(&gateway, &device.serial).await;
    play(&device, &mut viewer).await;
    lists(&gateway, &[(&device.serial, "live")]).await;
    let other = Device::new().await;
    adb.connect(&[&other]).await;
    lists(
        &gateway,
        &[(&device.serial, "live"), (&other.serial, "idle")],
    )
    .await;

    // A device that disappears stays listed with a reason, and its viewer stays connected.
    adb.disconnect(&device).await;
    let away = lists(
        &gateway,
        &[(&device.serial, "offline"), (&other.serial, "idle")],
    )
    .await;
    let away = away
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["serial"] == device.serial.as_str())
        .unwrap();
    assert!(
        away["reason"].as_str().unwrap().contains("plug it in"),
        "{away:#}"
    );
    assert_eq!(away["viewers"], 1);
    adb.connect(&[&device]).await;
    play(&device, &mut viewer).await;
    drop(viewer);
    device.is_clean().await;
    gateway.no_panic();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allow_and_deny_choose_which_are_streams_and_a_named_one_is_not_there_twice() {
    let adb = Adb::start().await;
    let mut devices = Vec::new();
    for _ in 0..3 {
        devices.push(Device::new().await);
    }
    let [one, two, three] = &devices[..] else {
        unreachable!()
    };
    let more = format!(
        "allow = ['127.*']\ndeny = ['{}']\n[streams.till]\nsource = 'android:{}'\n",
        two.serial, three.serial
    );
    let gateway = gateway(&adb, &more).await;
    lists(&gateway, &[("till", "offline")]).await;
    adb.connect(&[one, two, three]).await;
    lists(&gateway, &[("till", "idle"), (&one.serial, "idle")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_away_makes_room_for_another_unless_somebody_waits_for_it() {
    let (adb, one, two) = tokio::join!(Adb::start(), Device::new(), Device::new());
    let gateway = gateway(&adb, "max-devices = 1\n").await;
    adb.connect(&[&one]).await;
    lists(&gateway, &[(&one.serial, "idle")]).await;
    let mut viewer = FilmViewer::open(&gateway, &one.serial).await;
    play(&one, &mut viewer).await;
    adb.disconnect(&one).await;
    lists(&gateway, &[(&one.serial, "offline")]).await;
    adb.connect(&[&two]).await;
    gateway.logged("raise `max-devices`").await;
    lists(&gateway, &[(&one.serial, "offline")]).await;
    let (figures, calls) = (
        figures_of(&gateway, &one.serial).await,
        calls_of_nal(&gateway).await,
    );
    assert!(figures > 0 && calls > 0);

    // With its last viewer the stream disappears; only the totals of its transport keep its share.
    drop(viewer);
    lists(&gateway, &[(&two.serial, "idle")]).await;
    assert_eq!(figures_of(&gateway, &one.serial).await, 0);
    assert!(calls_of_nal(&gateway).await >= calls);
    let mut viewer = FilmViewer::open(&gateway, &two.serial).await;
    play(&two, &mut viewer).await;
    gateway.no_panic();
}

/// Number of lines in `/metrics` that name the stream.
async fn figures_of(gateway: &Gateway, stream: &str) -> usize {
    let (_, _, body) = http_get(gateway.address, "/metrics", &[]).await.unwrap();
    let text = String::from_utf8(body).unwrap();
    text.lines().filter(|line| line.contains(stream)).count()
}

/// Number of guest calls of the transport so far, for all streams.
async fn calls_of_nal(gateway: &Gateway) -> u64 {
    let plugins = gateway.api("/api/plugins").await;
    let mut plugins = plugins.as_array().unwrap().iter();
    let nal = plugins.find(|plugin| plugin["name"] == "nal").unwrap();
    nal["calls"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serials_that_differ_are_streams_that_differ_and_each_is_found_by_its_path() {
    let adb = Adb::start().await;
    let (plain, odd) = (Device::at("[::1]").await, Device::at("[::1%1]").await);
    let gateway = gateway(&adb, "").await;
    adb.connect(&[&plain, &odd]).await;
    let odd_name = odd.serial.replace('%', "=25");
    lists(&gateway, &[(&plain.serial, "idle"), (&odd_name, "idle")]).await;
    for (device, name) in [(&plain, &plain.serial), (&odd, &odd_name)] {
        let path = sluicegate_config::path_segment(name);
        let mut viewer = FilmViewer::open(&gateway, &path).await;
        play(device, &mut viewer).await;
        let one = gateway.api(&format!("/api/devices/{path}")).await;
        assert_eq!(
            (&one["serial"], &one["state"]),
            (&name.as_str().into(), &"live".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_devices_are_events() {
    let (adb, device) = tokio::join!(Adb::start(), Device::new());
    let gateway = gateway(&adb, "").await;
    let mut events = Raw::connect(gateway.address).await;
    let head = format!(
        "GET /api/events HTTP/1.0\r\nHost: {}\r\n\r\n",
        gateway.address
    );
    events.write(head).await;
    events.head().await.unwrap();
    device.change(|state| state.locked = true);
    let connecting = format!("host:connect:{}", device.serial);
    let told = async {
        for state in ["unauthorized", "idle", "offline"] {
            let wanted = [device.serial.clone(), format!("\"state\":\"{state}\"")];
            loop {
                let text = String::from_utf8_lossy(&events.buffer).into_owned();
                let mut lines = text.lines();
                if lines.any(|line| wanted.iter().all(|part| line.contains(part))) {
                    break;
                }
                let read =
                    tokio::io::AsyncReadExt::read_buf(&mut events.socket, &mut events.buffer);
                assert_ne!(within(state, read).await.unwrap(), 0);
            }
            match state {
                "unauthorized" => device.allow(),
                "idle" => adb.disconnect(&device).await,
                _ => {}
            }
        }
    };
    tokio::join!(adb.ask(&connecting), told);
}
