//! A viewer that reads the numbers shown in frames, and a real RTSP server for it to watch.

use crate::{Gateway, Nal, media::NumberReader, within};
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A viewer of `nal` that records the numbers of all frames so far.
pub struct Numbered {
    pub viewer: Nal,
    pub reader: NumberReader,
    pub numbers: Vec<u32>,
}

impl Numbered {
    /// Connects to a stream.
    pub async fn connect(gateway: &Gateway, stream: &str) -> Numbered {
        let viewer = within("connect", Nal::connect(gateway.address, stream))
            .await
            .unwrap();
        Numbered {
            viewer,
            reader: NumberReader::default(),
            numbers: Vec::new(),
        }
    }

    /// Watches until it has seen this number or a later one of the same film.
    pub async fn until(&mut self, number: u32) {
        let film = number / 1000;
        let seen = |last: &u32| *last >= number && *last / 1000 == film;
        while !self.numbers.last().is_some_and(seen) {
            let what = format!("number {number} after {:?}", self.numbers.last());
            let message = within(&what, self.viewer.next()).await.unwrap();
            self.numbers.extend(self.reader.feed(&message));
        }
    }

    /// Watches until it has seen this many numbers.
    pub async fn count(&mut self, count: usize) {
        while self.numbers.len() < count {
            let what = format!("{count} numbers, having {}", self.numbers.len());
            let message = within(&what, self.viewer.next()).await.unwrap();
            self.numbers.extend(self.reader.feed(&message));
        }
    }
}

/// A GStreamer RTSP server that plays a film in real time, from the beginning for each client.
pub struct Rtsp {
    pub port: u16,
    pub child: Child,
}

impl Rtsp {
    /// Serves an mp4 with H.264 or HEVC on the given port, or on one chosen by the system.
    pub async fn serve(film: &Path, port: Option<u16>) -> Rtsp {
        // Debian's GStreamer bindings exist only for the system's own Python.
        let mut child = Command::new("/usr/bin/python3")
            .arg(Gateway::root().join("tests/fixtures/rtsp_server.py"))
            .arg(film)
            .args(port.map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the RTSP server starts", lines.next_line()).await;
        let line = line.unwrap().expect("the RTSP server ended");
        Rtsp {
            port: line.parse().unwrap(),
            child,
        }
    }

    /// URL of the server as a source.
    pub fn source(&self) -> String {
        format!("rtsp://127.0.0.1:{}/stream", self.port)
    }

    /// Kills the server, as in a power cut.
    pub async fn kill(mut self) {
        within("the RTSP server ends", self.child.kill())
            .await
            .unwrap();
    }
}
