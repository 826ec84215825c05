//! Third-party programs as clients: ffprobe, ffmpeg and curl.

use sluicegate_media::blocks;
use sluicegate_tests::{Gateway, within};
use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{io::AsyncReadExt, process::Command};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ffprobe_and_ffmpeg_play_mjpeg() {
    let gateway = Gateway::serve(&[]).await;
    let url = format!("http://{}/live/demo/mjpeg", gateway.address);
    let probed = output(
        "ffprobe",
        &[
            "-v",
            "error",
            "-f",
            "mpjpeg",
            "-show_entries",
            "stream=codec_name,width,height",
            "-of",
            "csv=p=0",
            &url,
        ],
    )
    .await;
    let probed = String::from_utf8(probed).unwrap();
    let device = &gateway.api("/api/devices").await[0];
    let (width, height) = (
        device["width"].as_u64().unwrap(),
        device["height"].as_u64().unwrap(),
    );
    assert_eq!(probed.trim(), format!("mjpeg,{width},{height}"));

    let (width, height) = (width as usize, height as usize);
    // Every frame as received, neither duplicated nor dropped to keep a constant rate.
    let grey = output(
        "ffmpeg",
        &[
            "-v",
            "error",
            "-nostdin",
            "-f",
            "mpjpeg",
            "-i",
            &url,
            "-frames:v",
            "5",
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "gray",
            "-",
        ],
    )
    .await;
    assert_eq!(grey.len(), 5 * width * height);
    let numbers: Vec<u32> = grey
        .chunks(width * height)
        .map(|frame| {
            blocks::read(frame, width, width, height, blocks::Row::Number)
                .expect("a number in each frame")
        })
        .collect();
    // A frame is repeated when a silence starts, which a busy machine also causes.
    let once: BTreeSet<&u32> = numbers.iter().collect();
    assert!(numbers.is_sorted() && once.len() >= 3, "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_the_head_and_the_parts_of_mjpeg() {
    let gateway = Gateway::serve(&[]).await;
    let url = format!("http://{}/live/demo/mjpeg", gateway.address);
    let head = String::from_utf8(output("curl", &["-s", "--head", &url]).await).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let content_type = |head: &str| {
        head.to_lowercase()
            .contains("content-type: multipart/x-mixed-replace; boundary=frame\r\n")
    };
    assert!(content_type(&head), "{head}");

    let mut curl = Command::new("curl")
        .args(["-sN", "--include", &url])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdout = curl.stdout.take().unwrap();
    let mut got = Vec::new();
    let part = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: ";
    let starts = |got: &[u8]| -> Vec<usize> {
        (0..got.len())
            .filter(|at| got[*at..].starts_with(part))
            .collect()
    };
    while starts(&got).len() < 3 {
        assert!(
            within("three parts", stdout.read_buf(&mut got))
                .await
                .unwrap()
                > 0,
            "curl ended"
        );
    }
    assert!(content_type(&String::from_utf8_lossy(&got)));
    let starts = starts(&got);
    for two in starts.windows(2) {
        let piece = &got[two[0] + part.len()..two[1]];
        let end = piece
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = std::str::from_utf8(&piece[..end]).unwrap();
        let (length, taken) = head.split_once("\r\nX-Timestamp: ").unwrap();
        let length: usize = length.parse().unwrap();
        let taken: f64 = taken.parse().unwrap();
        let age = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64()
            - taken;
        assert!((0.0..20.0).contains(&age), "{age} s old");
        let jpeg = &piece[end + 4..end + 4 + length];
        assert!(jpeg.starts_with(&[0xff, 0xd8]) && jpeg.ends_with(&[0xff, 0xd9]));
        assert_eq!(&piece[end + 4 + length..], b"\r\n");
    }
    drop(curl);
}

/// Standard output of a program, which must succeed.
async fn output(program: &str, arguments: &[&str]) -> Vec<u8> {
    let run = Command::new(program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let done = within(program, run).await.unwrap();
    assert!(
        done.status.success(),
        "{program} {arguments:?}: {}",
        done.status
    );
    done.stdout
}
