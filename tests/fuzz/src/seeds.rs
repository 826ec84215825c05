//! Writes a small seed corpus for each target, built from files in the repository: `seeds FOLDER`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sluicegate_codec::{Decoder, Encoder, JpegEncoder, Settings};
use sluicegate_fuzz::{field, root};
use sluicegate_media::{h264::annexb, pattern::Painter};
use std::{
    fs,
    path::{Path, PathBuf},
};
use wtransport::proto::{headers::Headers, settings};

fn main() {
    let top = PathBuf::from(std::env::args_os().nth(1).expect("seeds FOLDER"));
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let dir = top.join(target);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
    };

    let seeds = sluicegate_accounts::fuzzing::seeds().unwrap();
    for (seed, kind) in seeds.iter().zip(0..) {
        write("accounts", &kind.to_string(), &[&[kind][..], seed].concat());
    }

    let streams = [encode((64, 48)), encode((320, 192))];
    for (stream, nth) in streams.iter().zip(0..) {
        let nals = annexb::split(&stream.clone().into());
        let most = (u16::MAX - 1).to_be_bytes();
        let cuts = field(&[100, 3, 1, 1, 2, 200]);
        write(
            "annexb",
            &format!("{nth}"),
            &[&most[..], &cuts, stream].concat(),
        );
        write(
            "access_unit",
            &format!("{nth}"),
            &[&field(&[])[..], stream].concat(),
        );
        write(
            "access_unit",
            &format!("flush-{nth}"),
            &[&field(&[90, 10])[..], stream].concat(),
        );
        let of = |kind: u8| nals.iter().find(|nal| nal[0] & 0x1f == kind).unwrap();
        let (sps, pps) = (of(7), of(8));
        write(
            "sps",
            &format!("{nth}"),
            &[&field(&sps[1..])[..], &pps[1..]].concat(),
        );
        let record = [
            &[1, sps[1], sps[2], sps[3], 0xff, 0xe1, 0, sps.len() as u8][..],
            sps,
            &[1, 0, pps.len() as u8],
            pps,
        ];
        let record = record.concat();
        write(
            "avcc",
            &format!("record-{nth}"),
            &[&[4], &record[..]].concat(),
        );
        let sample = nals
            .iter()
            .map(|nal| [&(nal.len() as u32).to_be_bytes()[..], nal].concat());
        let sample: Vec<u8> = sample.flatten().collect();
        write(
            "avcc",
            &format!("sample-{nth}"),
            &[&[4], &sample[..sample.len().min(4000)]].concat(),
        );

        // A byte stream with a silence; and packets with separate parameter sets, some of them damaged or lost.
        let bytes = stream
            .chunks(700)
            .flat_map(|chunk| [&[0][..], &field(chunk)].concat());
        write(
            "ingest",
            &format!("bytes-{nth}"),
            &bytes.chain([3]).collect::<Vec<u8>>(),
        );
        let mut packets = [&[7][..], &field(sps), &field(pps), &[8, 0x41, 0xf0, 0, 0]].concat();
        for (nal, number) in nals
            .iter()
            .filter(|nal| nal[0] & 0x1f == 5 || nal[0] & 0x1f == 1)
            .zip(0u64..)
        {
            packets.extend(
                [
                    &[4, 1][..],
                    &field(nal),
                    &[1],
                    &(number * 3000).to_be_bytes(),
                    &[0, 0, 0, 0, 0],
                ]
                .concat(),
            );
            if number == 3 {
                packets.extend([9, 11, 0, 33, 10, 0]);
            }
        }
        write("ingest", &format!("packets-{nth}"), &packets);
        write(
            "transport",
            &format!("nal-{nth}"),
            &transport(1, "{\"stale\": \"250ms\"}", "h264/annexb", &record, sps),
        );
        write(
            "transport",
            &format!("mse-{nth}"),
            &transport(2, "{\"fragment\": \"50ms\"}", "h264/avcc", &record, sps),
        );
        write(
            "transport",
            &format!("mjpeg-{nth}"),
            &transport(0, "{}", "jpeg", &[], b"\xff\xd8\xff\xd9"),
        );
    }

    for file in files("examples/config", "toml") {
        write("config", &name(&file), &fs::read(&file).unwrap());
    }
    for source in [
        "rtsp://user:secret@camera.local/stream1",
        "annexb:listen:[::1]:9000",
        "annexb:tcp://cam:1",
        "file:a.mp4",
        "android:R58M1234",
        "test-pattern",
    ] {
        write(
            "config",
            &format!("source-{}", source.len()),
            source.as_bytes(),
        );
    }
    for (path, nth) in [
        "/live/back%20yard/mjpeg/a/b",
        "/api/ws/stream/emulator-5554",
        "/watch/porch",
        "/assets/x.js",
    ]
    .iter()
    .zip(0..)
    {
        let headers = [
            field(b"localhost:8080"),
            vec![1],
            field(b"https://pets.example"),
            vec![2],
            field(b"Upgrade"),
            vec![3],
            field(b"websocket"),
            vec![4],
            field(b"dGhlIHNhbXBsZSBub25jZQ=="),
            vec![5],
            field(b"13"),
        ];
        write(
            "path",
            &format!("{nth}"),
            &[
                &[0, nth & 1, 0][..],
                &field(path.as_bytes()),
                &headers.concat(),
            ]
            .concat(),
        );
    }
    let frames: [&[u8]; 6] = [
        &[
            0x81,
            0x85,
            1,
            2,
            3,
            4,
            b'h' ^ 1,
            b'e' ^ 2,
            b'l' ^ 3,
            b'l' ^ 4,
            b'o' ^ 1,
        ],
        &[0x01, 0x81, 0, 0, 0, 0, b'a'],
        &[0x80, 0x81, 0, 0, 0, 0, b'b'],
        &[0x89, 0x80, 0, 0, 0, 0],
        &[0x82, 0xfe, 0, 0x7e, 9, 9, 9, 9],
        &[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8],
    ];
    for (nth, frame) in frames.iter().chain([&&frames.concat()[..]]).enumerate() {
        write(
            "websocket",
            &format!("{nth}"),
            &[&field(&[3, 1, 4, 1, 5])[..], frame].concat(),
        );
    }

    // Requests for sessions, streams, and the frames of HTTP/3 with which a client begins.
    let asked = [&b"127.0.0.1:8443"[..], b"/live/demo/webcodecs?session=a"];
    let origin = [&b"origin"[..], b"http://127.0.0.1:8080"];
    let parts = [asked, origin].concat().into_iter().flat_map(field);
    let ports = [0x20, 0xfb, 0x1f, 0x90];
    let request = [&[0][..], &ports, &parts.collect::<Vec<u8>>()].concat();
    write("webtransport", "request", &request);
    for (in_pieces, times) in [(0, 0), (1, 200), (0, 255)] {
        let stream = [&[1, in_pieces][..], &field(&[3, 1, 4]), &[times], &[7; 300]].concat();
        write(
            "webtransport",
            &format!("stream-{in_pieces}-{times}"),
            &stream,
        );
    }
    let settings = settings::Settings::builder()
        .enable_connect_protocol()
        .enable_webtransport()
        .enable_h3_datagrams()
        .build();
    let fields: Headers = [
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":protocol", "webtransport"),
        (":authority", "127.0.0.1:8080"),
        (":path", "/live/demo/webcodecs"),
        ("origin", "http://127.0.0.1:8080"),
    ]
    .into_iter()
    .collect();
    for (name, frame) in [
        ("settings", settings.generate_frame()),
        ("connect", fields.generate_frame()),
    ] {
        let mut bytes = vec![2];
        frame.write(&mut bytes).unwrap();
        write("webtransport", name, &bytes);
    }

    // Output of MJPEG cameras, valid and invalid.
    let image = jpeg(&streams[0]);
    let part = |length: usize| {
        format!("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n")
    };
    let (right, wrong) = (part(image.len()), part(9));
    let sent: [&[&[u8]]; 4] = [
        &[right.as_bytes(), &image, b"\r\n", right.as_bytes(), &image],
        &[
            wrong.as_bytes(),
            &image,
            b"\r\n--cam--\r\n",
            wrong.as_bytes(),
            &image,
        ],
        &[&image, &image],
        &[
            right.as_bytes(),
            &image[..image.len() - 2],
            b"\r\n--cam\r\n\r\n",
            &image,
        ],
    ];
    for (stream, nth) in sent.into_iter().zip(0..) {
        let cuts = field(&[90, 3, 1, 200]);
        write(
            "mjpeg",
            &format!("{nth}"),
            &[&field(b"cam")[..], &[255, 255], &cuts, &stream.concat()].concat(),
        );
    }

    // Two picture sizes as written by scrcpy 3 and 4, shell output and adb's list.
    let packet = |flags: u64, data: &[u8]| {
        let size = (data.len() as u32).to_be_bytes();
        [&flags.to_be_bytes()[..], &size, data].concat()
    };
    let size = [720u32.to_be_bytes(), 1280u32.to_be_bytes()].concat();
    let session = [&0x8000_0000u32.to_be_bytes()[..], &size].concat();
    let (sets, picture) = (&streams[0][..20], &streams[0][20..200]);
    let old = [
        &b"h264"[..],
        &size,
        &packet(1 << 63, sets),
        &packet(1 << 62 | 40, picture),
        &packet(73, picture),
    ];
    let new = [
        &b"h264"[..],
        &session,
        &packet(1 << 62, sets),
        &packet(1 << 61 | 40, picture),
        &session,
        &packet(73, picture),
    ];
    let said: [&[u8]; 3] = [
        b"\x01\x07\0\0\0sdk=34\n\x02\x04\0\0\0oops\x03\x01\0\0\0\x01",
        b"R58M device usb:1-2 product:x model:A_B transport_id:3\nmy phone unauthorized\n",
        b"[server] ERROR: The server version (3.3.1) does not match the client (3.3.4)\n",
    ];
    let all = [(0u8, old.concat()), (1, new.concat())];
    let said = said.iter().map(|said| (0, said.to_vec()));
    for ((version, stream), nth) in all.into_iter().chain(said).zip(0..) {
        let cuts = field(&[3, 9, 1, 30]);
        write(
            "scrcpy",
            &format!("{nth}"),
            &[&[version], &cuts[..], &stream].concat(),
        );
    }

    for file in files("target/plugins", "wasm") {
        write("component", &name(&file), &fs::read(&file).unwrap());
    }
    write("component", "empty", b"\0asm\x0d\0\x01\0");
    write("component", "module", b"\0asm\x01\0\0\0");

    // Scripts with an effect; see tests/plugins/fuzzed. Three acts: a buffer of five bytes, one joined from it and more
    // bytes, a log line. Then the answer.
    let acts: [&[u8]; 6] = [
        &[
            3, 0, 5, 1, 2, 3, 4, 5, 1, 2, 0, 2, 9, 9, 1, 0, 1, 0, 0, 0, 3, 0, 0, 0, 5, 5, 2,
        ],
        &[2, 8, 240, 60, 7, 12],
        &[3, 2, 1, 0, 0, 0, 9, 0, 0, 0, 0, 3, 0, 4, 0],
        &[1, 6, 4],
        &[1, 9, 0, 16, 0, 0],
        &[0],
    ];
    let answers: [&[u8]; 6] = [
        &[2, 1, 0, 1, 0, 0, 3, b'a', b'b', 1, 1],
        &[1, 2, 2, 0, 3, 1, 2, 3, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        &[2, 200, 0, 2, 1, 0],
        &[1, 0, 5, 4, 1, 2],
        &[4, 0, 0, 0, 1, 2, 0, 1, 3, 4, 0],
        &[240, 70, 1, 0, 0, 1],
    ];
    for (act, one) in acts.iter().zip(0..) {
        for (answer, two) in answers.iter().zip(0..) {
            let script = field(&[*act, answer].concat());
            let calls = (0..10u8).flat_map(|call| [&[call, call & 1][..], &script].concat());
            let calls: Vec<u8> = calls.collect();
            write(
                "guest",
                &format!("{one}-{two}"),
                &[&field(&[0, 0])[..], &calls, &calls].concat(),
            );
        }
    }
}

fn transport(which: u8, options: &str, format: &str, record: &[u8], picture: &[u8]) -> Vec<u8> {
    let track = [
        &[0, 1, 1][..],
        &field(format.as_bytes()),
        &field(b"avc1.64001f"),
        &field(record),
        &[0, 1, 0x5f, 0x90, 2],
        &[0; 28],
    ]
    .concat();
    let sample = [&[1][..], &field(picture), &[1], &[0; 24], &[1], &[0; 8]].concat();
    let rest = [
        &[4][..],
        &field(b""),
        &field(b"a=b"),
        &[5, 1, 0, 0],
        &[0; 8],
        &[6, 1],
        &field(b"hi"),
        &[0; 8],
        &[3, 4],
        b"gone\x01",
    ]
    .concat();
    [
        &[which][..],
        &field(options.as_bytes()),
        &track,
        &sample,
        &sample,
        &rest,
    ]
    .concat()
}

/// A picture of the stream as JPEG.
fn jpeg(stream: &[u8]) -> Vec<u8> {
    let mut decoder = Decoder::h264().unwrap();
    decoder.decode(stream, 0).unwrap();
    decoder.drain().unwrap();
    let frame = decoder.newest().unwrap();
    let mut encoder = JpegEncoder::new().unwrap();
    let jpeg = encoder.encode(&frame, 50, u32::MAX, u32::MAX).unwrap();
    jpeg.to_vec()
}

/// Two groups of a moving picture in Annex B.
fn encode((width, height): (u32, u32)) -> Vec<u8> {
    let settings = Settings {
        width,
        height,
        frame_rate: 30,
        bitrate: 200_000,
        keyframe_interval_ms: 100,
        ..Settings::default()
    };
    let mut encoder = Encoder::new(settings).unwrap();
    let mut painter = Painter::new(width, height).unwrap();
    let mut stream = Vec::new();
    for number in 0..6u64 {
        let picture = painter.paint(number, number * 33);
        for packet in encoder
            .encode(picture, number as i64 * 3000, false)
            .unwrap()
        {
            stream.extend_from_slice(&packet.data);
        }
    }
    stream
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_stem().unwrap().to_string_lossy().into_owned()
}
