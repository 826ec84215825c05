//! Sources that start and end a thousand times leave no resources behind. A program of its own, because it counts
//! everything that the process holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;
use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_source::{
    AudioTrack, ConfiguredSource, EncodeSettings, Expected, Fleet, Keyframes, Sink, Source as _,
    SourceContext, SourceError, SourceTimes, Spec, Stop,
};
use sluicegate_tests::{
    Gateway,
    media::{encode_pattern, nals_of, with_start_codes},
};
use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    sync::Arc,
    thread,
};

const FLAPS: usize = 1000;
const SIZE: (u32, u32) = (320, 192);

/// A sink that stops the source at its first picture.
#[derive(Default)]
struct First {
    stop: Stop,
    frames: usize,
    times: Vec<SourceTimes>,
    counts: Arc<codec::Counts>,
}

impl Sink for First {
    fn listening(&mut self, _: String) {}
    fn connected(&mut self) {}
    fn presentation(&mut self, _: sluicegate_source::Presentation) {}
    fn configured(&mut self, _: f32) {}
    fn parameter_sets(&mut self, _: Vec<Bytes>) {}
    fn byte_stream(&mut self, _: Bytes) {
        self.frames += 1;
    }
    fn silence(&mut self) {}
    fn access_unit(&mut self, _: Vec<Bytes>, times: SourceTimes) {
        self.frames += 1;
        self.times.push(times);
        self.stop.stop();
    }
    fn jpeg(&mut self, _: Bytes, times: SourceTimes) {
        self.frames += 1;
        self.times.push(times);
        self.stop.stop();
    }
    fn expect(&mut self, _: Expected) {}
    fn audio_track(&mut self, _: AudioTrack) {}
    fn audio_frame(&mut self, _: Bytes, _: SourceTimes) {}
    fn damaged(&mut self) {}
    fn note(&mut self, _: &'static str, _: String) {}
    fn loops(&mut self) {}
    fn lost(&mut self, _: String) {}
    fn codec_counts(&self) -> &Arc<codec::Counts> {
        &self.counts
    }
}

/// Runs a source until its first picture or its end.
fn run(spec: &Spec) -> (First, Result<(), SourceError>) {
    let mut sink = First::default();
    let stop = sink.stop.clone();
    stop.attach();
    let source = ConfiguredSource::new(spec.clone(), &Fleet::new(&None));
    let ended = source.run(&mut SourceContext {
        sink: &mut sink,
        stop: &stop,
        keyframes: &Keyframes::default(),
        encode: &EncodeSettings::default(),
        fetch: &config::Fetch::default(),
    });
    (sink, ended)
}

/// Number of descriptors, threads and children of this process.
fn resources() -> (usize, usize, usize) {
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/self/{what}"))
            .unwrap()
            .count()
    };
    let children = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .map(|task| {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children.split_whitespace().count()
        });
    (count("fd"), count("task"), children.sum())
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A server that sends the same bytes to every client and closes the connection.
fn server(answer: Vec<u8>, after_request: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            if after_request {
                let _ = client.read(&mut [0; 2000]);
            }
            let _ = client.write_all(&answer);
        }
    });
    address
}

/// A single test, because it counts what the whole process holds.
#[test]
fn a_thousand_flaps_of_each_kind_leave_no_descriptor_thread_or_process() {
    sluicegate_source::set_devices_program(Gateway::binary().with_file_name("sluicegate-devices"));
    let h264 = encode_pattern("film.mp4", SIZE, 0, 5, &["-c:v", "libx264"]);
    let hevc = encode_pattern(
        "hevc.mp4",
        SIZE,
        0,
        5,
        &["-c:v", "libx265", "-x265-params", "log-level=none"],
    );
    let jpeg = encode_pattern("one.jpg", SIZE, 0, 1, &["-frames:v", "1"]);
    let jpeg = std::fs::read(jpeg).unwrap();
    let film = encode_pattern("film.h264", SIZE, 0, 1, &["-c:v", "libx264"]);
    let picture = with_start_codes(&nals_of(&film), |_| 4);
    let part = format!(
        "--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n",
        jpeg.len()
    );
    let part = [part.as_bytes(), &jpeg, b"\r\n"].concat();
    let head =
        &b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=cam\r\n\r\n"[..];
    let http = server([head, &part, &part, &part].concat(), true);
    let closes = server(Vec::new(), false);
    let annexb = server(picture, false);
    let parse = |text: String| Spec::parse(&text, Path::new("")).unwrap();
    let file = |path: &Path| Spec::File(path.to_owned());
    // Source, number of runs, and frames per run.
    for (spec, times, frames) in [
        (parse(format!("annexb:tcp://{annexb}")), FLAPS, 1),
        (file(&h264), FLAPS, 1),
        (file(Path::new("/nowhere.mp4")), FLAPS, 0),
        (file(Path::new("/etc/hostname")), FLAPS, 0),
        (parse(format!("http://{http}/video")), FLAPS, 1),
        (parse(format!("http://{closes}/video")), FLAPS, 0),
        (parse(format!("rtsp://{closes}/video")), FLAPS, 0),
        (file(&hevc), 200, 1),
        (parse("lavfi:testsrc=size=320x192:rate=10".into()), 30, 1),
        (parse("lavfi:nonsense".into()), 30, 0),
    ] {
        let flap = || {
            let (sink, ended) = run(&spec);
            assert_eq!(sink.frames.min(1), frames, "{spec}: {ended:?}");
            // Devices and files have time stamps of their own; JPEGs over HTTP are stamped on arrival.
            for times in &sink.times {
                assert_eq!(
                    times.decode.is_none(),
                    spec.to_string().starts_with("http"),
                    "{spec}"
                );
            }
        };
        for _ in 0..10 {
            flap();
        }
        let (before, memory) = (resources(), resident());
        for _ in 0..times {
            flap();
        }
        assert_eq!(resources(), before, "{spec}");
        let grown = resident().saturating_sub(memory);
        assert!(
            grown < 8 << 10,
            "{spec}: {grown} KiB more after {times} flaps"
        );
    }
}
