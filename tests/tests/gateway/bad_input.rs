//! Every mistake in a config or a source produces a clear error, and the gateway keeps running.

use serde_json::Value;
use sluicegate_tests::{
    Camera, Feeder, Gateway, Nal,
    camera::{self, GROUP},
    command::{check, sluicegate},
    media::encode_pattern,
    scratch, within,
};
use tokio::io::AsyncWriteExt;

/// Small frames, so that the tests need not wait for their encoder.
const DEMO: &str = "[streams.demo]\nsource = \"test-pattern\"\nencode = { width = 320, height = 192, frame-rate = 30 }\n";

#[tokio::test]
async fn a_mistake_in_the_config_is_reported_with_its_file_and_line() {
    for (config, line, parts) in [
        (
            "[streams.demo]\nsorce = \"test-pattern\"\n",
            2,
            &["unknown key `sorce`", "did you mean `source`?"][..],
        ),
        (
            "[streams.demo]\nsource = \"test-pattern\"\nidle = \"2 parsecs\"\n",
            3,
            &["`idle`", "`parsecs` is not known"],
        ),
        (
            "[streams.demo]\nsource = \"test-pattern\"\nencode = { bitrate = \"1MB\" }\n",
            3,
            &["not a bit rate"],
        ),
        (
            "[server]\ntls = \"selfsigned\"\n",
            2,
            &["not a TLS setting", "\"self-signed\""],
        ),
        (
            "[server]\nconnections = 0\n",
            2,
            &["`connections`", "write 1 to 1000000"],
        ),
        (
            "[streams.demo]\nsource = \"test-pattern\"\n[streams.demo.renditions.mobile]\nwidth = 641\n",
            4,
            &["641 is not a valid size"],
        ),
        ("[streams.demo\n", 1, &["this is not TOML"]),
        (
            "[streams.\"a/b\"]\nsource = \"test-pattern\"\n",
            1,
            &["is not a valid stream name"],
        ),
        ("[transports.Nal]\n", 1, &["is not a valid transport name"]),
    ] {
        let checked = check(config).await;
        checked.refused(parts);
        let place = format!("sluice.toml:{line}:");
        assert!(checked.err.contains(&place), "no {place} in {checked:?}");
        assert_eq!(checked.out, "");
    }
}

#[tokio::test]
async fn a_mistake_outside_the_config_is_reported_with_the_name_of_its_part() {
    for (config, parts) in [
        (
            "[streams.cam]\nsource = \"rstp//cam\"\n",
            &[
                "sluice.toml",
                "[streams.cam]: `rstp//cam` is not a source: write test-pattern",
            ][..],
        ),
        (
            "[streams.cam]\nsource = \"android:\"\n",
            &["[streams.cam]: ", "write android: and the device's serial"],
        ),
        (
            "[transports.flv]\n",
            &[
                "[transports.flv] has no `plugin`",
                "built in are: hls, mjpeg, mse, nal, webcodecs",
            ],
        ),
        (
            "[transports.nal]\nstael = \"1s\"\n",
            &["[transports.nal]: nal@", "rejected its options", "`stael`"],
        ),
    ] {
        let config = if config.contains("streams") {
            config.to_owned()
        } else {
            config.to_owned() + DEMO
        };
        let checked = check(&config).await;
        checked.refused(parts);
        for part in parts {
            assert_eq!(
                checked.err.matches(part).count(),
                1,
                "reported twice: {}",
                checked.err
            );
        }
    }
    sluicegate(&["check", "no/such/file.toml"])
        .await
        .refused(&["no/such/file.toml", "No such file"]);
    let empty = check("").await;
    assert_eq!(empty.code, Some(0), "{empty:?}");
    let note = "sluice.toml: note: it has no streams; add one, e.g. [streams.porch]";
    assert!(empty.out.contains(note), "{empty:?}");
    sluicegate(&["serve", "no-such-clip.mp4"])
        .await
        .refused(&["there is no file `no-such-clip.mp4`"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let clash = sluicegate(&["serve", "--listen", &address]).await;
    clash.refused(&[
        &format!("cannot listen on {address}"),
        "choose another with --listen",
    ]);
    assert!(!clash.err.contains("make "), "{clash:?}");
    let good = check(DEMO).await;
    assert_eq!((good.code, good.err.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_of_garbage_reports_that_it_waits_and_plays_when_frames_come() {
    let mut camera = Camera::new(camera::clip()).await;
    let gateway = Gateway::with_config(&(camera.config() + DEMO)).await;
    let mut viewer = within("connect", Nal::connect(gateway.address, "cam"))
        .await
        .unwrap();
    let mut connection = camera.feeder.accept().await;
    // Noise, followed by slices that refer to unknown parameter sets.
    connection.write_all(&noise(200_000)).await.unwrap();
    connection
        .write_all(&units_of_noise(&[0x41, 0x65, 0x06, 0x7f]))
        .await
        .unwrap();
    let waits = |devices: &Value| device(devices, "cam")["state"] == "waiting-for-keyframe";
    let devices = gateway.api_until("/api/devices", "it waits", waits).await;
    assert!(
        !device(&devices, "cam")["reason"]
            .as_str()
            .unwrap()
            .is_empty(),
        "{devices:#}"
    );
    gateway.assert_serves("demo").await;
    // Noise as parameter sets too, some of which may parse; then good frames on the same connection.
    connection
        .write_all(&units_of_noise(&[0x67, 0x68, 0x65, 0x67, 0x41]))
        .await
        .unwrap();
    camera.take_over(connection);
    for frame in 0..2 * GROUP {
        camera.send().await;
        while camera::clip().find(&within("a frame", viewer.next()).await.unwrap()) != Some(frame) {
        }
    }
    let devices = gateway.api("/api/devices").await;
    assert_eq!(device(&devices, "cam")["state"], "live", "{devices:#}");
    gateway.assert_serves("demo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_video_or_not_there_says_so_and_plays_when_it_is() {
    let dir = scratch("files");
    std::fs::write(dir.join("text.mp4"), "This is no film.\n".repeat(1000)).unwrap();
    std::fs::write(dir.join("empty.h264"), "").unwrap();
    let mut config = DEMO.to_owned();
    for (name, file) in [
        ("text", "text.mp4"),
        ("empty", "empty.h264"),
        ("missing", "missing.mp4"),
    ] {
        config += &format!(
            "[streams.{name}]\nsource = \"file:{}\"\n",
            dir.join(file).display()
        );
    }
    let gateway = Gateway::with_config(&config).await;
    let mut viewers = Vec::new();
    for name in ["text", "empty", "missing"] {
        let viewer = within("connect", Nal::connect(gateway.address, name)).await;
        viewers.push(viewer.unwrap());
        let fails = |devices: &Value| device(devices, name)["state"] == "retrying";
        let devices = gateway.api_until("/api/devices", "it fails", fails).await;
        let reason = device(&devices, name)["reason"].as_str().unwrap();
        assert!(
            reason.contains("cannot open file:") && reason.contains(name),
            "{reason}"
        );
        assert!(
            name != "missing" || reason.contains("No such file"),
            "{reason}"
        );
        gateway.logged(reason).await;
        gateway.assert_serves("demo").await;
    }
    // The file appears, and the viewer that waited for it sees it.
    let clip = encode_pattern(
        "clip.mp4",
        (320, 192),
        0,
        30,
        &["-c:v", "libx264", "-preset", "veryfast"],
    );
    std::fs::rename(clip, dir.join("missing.mp4")).unwrap();
    let unit = within("the file that turned up", viewers[2].next_unit())
        .await
        .unwrap();
    assert!(unit.is_idr());
}

#[tokio::test]
async fn a_sender_that_is_no_server_is_retried() {
    // A port on which nothing listens.
    let source = Feeder::bind().await.source();
    let config = format!("[streams.cam]\nsource = \"{source}\"\n{DEMO}");
    let gateway = Gateway::with_config(&config).await;
    let _viewer = within("connect", Nal::connect(gateway.address, "cam"))
        .await
        .unwrap();
    let fails = |devices: &Value| device(devices, "cam")["state"] == "retrying";
    let devices = gateway.api_until("/api/devices", "it fails", fails).await;
    let reason = device(&devices, "cam")["reason"].as_str().unwrap();
    assert!(
        reason.contains(&source) && reason.contains("refused"),
        "{reason}"
    );
    gateway.assert_serves("demo").await;
}

fn device<'a>(devices: &'a Value, serial: &str) -> &'a Value {
    let all = devices.as_array().unwrap();
    all.iter()
        .find(|device| device["serial"] == serial)
        .unwrap()
}

/// NAL units of these types in turn, with meaningless payloads.
fn units_of_noise(kinds: &[u8]) -> Vec<u8> {
    let noise = noise(60_000);
    let unit =
        |(nth, bytes): (usize, &[u8])| [&[0, 0, 1, kinds[nth % kinds.len()]], bytes].concat();
    noise.chunks(300).enumerate().flat_map(unit).collect()
}

/// Reproducible pseudorandom bytes that contain no start code.
fn noise(count: usize) -> Vec<u8> {
    let mut random = 0x2545_f491u32;
    let one = |_| {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        (random >> 8) as u8 | 2
    };
    (0..count).map(one).collect()
}
