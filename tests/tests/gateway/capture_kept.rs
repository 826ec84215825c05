//! Saved captures are complete or absent, on a full disk and when the gateway is killed, too.

use crate::capture::DEMO;
use serde_json::{Value, json};
use sluicegate_capture::store::Store;
use sluicegate_config as config;
use sluicegate_tests::{CaptureClient, Gateway, capture::post, http_get, scratch};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// A directory for captures, and the config that names it.
fn kept(name: &str) -> (std::path::PathBuf, String) {
    let dir = scratch("captures").join(name);
    let _ = std::fs::remove_dir_all(&dir);
    let config = format!("[capture]\ndir = {dir:?}\n");
    (dir, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_capture_is_complete_at_its_path_and_in_the_journal() {
    let (dir, config) = kept("whole");
    let gateway = Gateway::with_config(&(config + DEMO)).await;
    let mut shots = CaptureClient::of(&gateway, "demo").await;
    let (said, jpeg) = shots.take(json!({ "save": true })).await.unwrap();
    let path = said["path"].as_str().unwrap();
    assert!(
        path.starts_with("demo/2") && path.ends_with(".jpg"),
        "{said}"
    );
    assert!(
        path.contains(said["capture_id"].as_str().unwrap()),
        "{said}"
    );
    assert_eq!(std::fs::read(dir.join(path)).unwrap(), jpeg);
    let (_, head, png) = post(&gateway, "demo", "image/png", "{\"save\":true}").await;
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("x-path: "))
        .unwrap();
    assert_eq!(std::fs::read(dir.join(line)).unwrap(), png);
    let journal = std::fs::read_to_string(dir.join("captures.jsonl")).unwrap();
    let lines: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{journal}");
    for field in [
        "serial",
        "capture_id",
        "path",
        "bytes",
        "width",
        "height",
        "captured_at",
    ] {
        assert_eq!(lines[0][field], said[field], "{journal}");
    }
    assert!(
        lines[0]["time"].as_str() >= lines[0]["captured_at"].as_str(),
        "{journal}"
    );
    // The directory contains nothing else.
    let names: Vec<_> = std::fs::read_dir(dir.join("demo"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_cannot_be_written_fails_that_capture_and_nothing_else() {
    let (dir, config) = kept("file-in-the-way");
    std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
    std::fs::write(&dir, "no folder").unwrap();
    let gateway = Gateway::with_config(&(config + DEMO)).await;
    let mut shots = CaptureClient::of(&gateway, "demo").await;
    shots.ask(json!({ "save": true })).await;
    shots.ask(json!({})).await;
    let failure = shots.answer().await.unwrap_err();
    assert_eq!(failure["code"], "SAVE_FAILED");
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("check `dir` under [capture]"),
        "{failure}"
    );
    shots.answer().await.unwrap();
    let (status, _, _) = post(&gateway, "demo", "image/jpeg", "{\"save\":true}").await;
    assert_eq!(status, 507);
    std::fs::remove_file(&dir).unwrap();
    shots.take(json!({ "save": true })).await.unwrap();
}

/// Arguments for a process with a mount namespace of its own.
const UNSHARE_ARGUMENTS: [&str; 2] = ["--map-root-user", "--mount"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_fails_those_who_save_and_nobody_else() {
    // Some systems allow only root to create mount namespaces.
    let may = Command::new("unshare")
        .args(UNSHARE_ARGUMENTS)
        .arg("true")
        .status();
    if !may.is_ok_and(|status| status.success()) {
        println!("not tried: `unshare` may not mount here");
        return;
    }
    let (dir, config) = kept("full");
    std::fs::create_dir_all(&dir).unwrap();
    // A file system that only this process sees.
    let mount = format!("mount -t tmpfs -o size=64k tmpfs {}", dir.display());
    let alone = format!(
        "exec unshare {} sh -c '{mount}; exec \"$0\" \"$@\"' \"$0\" \"$@\"",
        UNSHARE_ARGUMENTS.join(" ")
    );
    let gateway = Gateway::with_config_after(&alone, &(config + DEMO)).await;
    let mut shots = CaptureClient::of(&gateway, "demo").await;
    let mut saved = 0;
    let failure = loop {
        match shots.take(json!({ "save": true, "quality": 95 })).await {
            Ok(_) => saved += 1,
            Err(failure) => break failure,
        }
        assert!(saved < 20, "64 KiB hold no end of images");
    };
    assert_eq!(failure["code"], "SAVE_FAILED");
    assert!(
        failure["message"]
            .as_str()
            .unwrap()
            .contains("No space left"),
        "{failure}"
    );
    let seen = format!(
        "/proc/{}/root{}",
        gateway.pid().as_raw_nonzero(),
        dir.display()
    );
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(format!("{seen}/{folder}")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let kept = names("demo");
    assert_eq!(kept.len(), saved, "what did not fit is gone: {kept:?}");
    // A capture that needs little space, and one that needs none.
    shots.take(json!({})).await.unwrap();
    let (status, _, _) = http_get(gateway.address, "/live/demo/frame.jpg", &[])
        .await
        .unwrap();
    assert_eq!(status, 200);
    gateway.no_panic();
}

/// Helper process of the next test: saves captures until it is killed. Does nothing when run by hand.
#[test]
fn saves_until_it_is_killed() {
    let Some(dir) = std::env::var_os("SLUICEGATE_TEST_SAVES") else {
        return;
    };
    let store = store(Path::new(&dir));
    println!("saving");
    for nth in 0_u64.. {
        let id = format!("{nth:x}");
        store
            .save(
                "cam",
                1_769_430_896_000_000 + nth * 1000,
                &id,
                "jpg",
                &image(nth),
            )
            .unwrap();
    }
}

fn store(dir: &Path) -> Store {
    Store::new(&config::Capture {
        dir: dir.to_owned(),
        ..config::Capture::default()
    })
}

/// Bytes that show where they end.
fn image(nth: u64) -> Vec<u8> {
    let mut bytes = vec![nth as u8; 100_000 + (nth as usize % 7) * 10_000];
    bytes.extend_from_slice(b"END");
    bytes
}

#[test]
fn a_gateway_killed_while_saving_leaves_no_partial_image_under_its_name() {
    let (dir, _) = kept("killed");
    let (mut whole, mut unfinished) = (0, 0);
    for point in 0..100 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "capture_kept::saves_until_it_is_killed",
                "--nocapture",
            ])
            .env("SLUICEGATE_TEST_SAVES", &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let began = lines.any(|line| line.unwrap().contains("saving"));
        assert!(began, "it ended by itself");
        // Each kill is a little later than the previous one. The delay is the quantity under test, not synchronisation.
        std::thread::sleep(Duration::from_micros(point * 100));
        child.kill().unwrap();
        child.wait().unwrap();
        for entry in std::fs::read_dir(dir.join("cam")).into_iter().flatten() {
            let file = entry.unwrap().path();
            if file.extension().is_some_and(|ending| ending == "part") {
                unfinished += 1;
            } else {
                let bytes = std::fs::read(&file).unwrap();
                assert_eq!(
                    bytes,
                    image(u64::from(bytes[0])),
                    "{file:?}: {} bytes",
                    bytes.len()
                );
                whole += 1;
            }
            std::fs::remove_file(file).unwrap();
        }
    }
    // The process was killed while it was writing.
    assert!(whole > 0 && unfinished > 20, "{whole} {unfinished}");
}
