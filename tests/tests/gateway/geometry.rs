//! Frames with non-square pixels and rotated clips from phones look the same on every transport.
//!
//! The number in a frame is readable only if the frame is upright and not mirrored.

use futures_util::StreamExt;
use serde_json::json;
use sluicegate_media::h264::{nal, parameter_sets::ParameterSets};
use sluicegate_tests::{
    Gateway, Nal,
    capture::post,
    client::{Mjpeg, http_get, jpeg_number},
    media::{NumberReader, encode_pattern},
    mse::Mse,
    within,
};
use std::path::{Path, PathBuf};
use tokio_tungstenite::tungstenite::Message;

/// Upper left part of a matrix that rotates by 90° clockwise, and of one that mirrors.
const CLOCKWISE: [i32; 4] = [0, 1, -1, 0];
const MIRRORED: [i32; 4] = [-1, 0, 0, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pixels_that_are_not_square_are_shown_alike_everywhere() {
    let h264 = ["-vf", "setsar=16/11", "-c:v", "libx264", "-g", "15"];
    let film = encode_pattern("wide.mp4", (640, 360), 0, 90, &h264);
    let told = r#"{"pixelAspect":[16,11],"rotation":0,"mirrored":false}"#;
    let wide = Appearance {
        size: (931, 360),
        // 4:2:0 needs even sides.
        jpeg: (930, 360),
        small: (320, 124),
        moov: ((931, 360), Some((16, 11)), [1, 0, 0, 1]),
        told,
    };
    wide.everywhere(&film).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clip_of_a_phone_is_upright_everywhere() {
    // As phones record: the camera lies on its side, and the container states the rotation.
    let h264 = ["-vf", "transpose=cclock", "-c:v", "libx264", "-g", "15"];
    let film = encode_pattern("phone.mp4", (360, 640), 0, 90, &h264);
    turn(&film, CLOCKWISE);
    let phone = Appearance {
        size: (360, 640),
        jpeg: (360, 640),
        small: (320, 568),
        moov: ((640, 360), None, CLOCKWISE),
        told: r#"{"pixelAspect":[1,1],"rotation":90,"mirrored":false}"#,
    };
    phone.everywhere(&film).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transcoded_video_and_jpegs_are_rotated_by_the_gateway() {
    let turned = ["-vf", "transpose=cclock", "-q:v", "3", "-c:v"];
    let mirrored = ["-vf", "hflip", "-q:v", "3", "-c:v"];
    let film = |name: &str, codec, how: [&'static str; 5]| {
        encode_pattern(name, (360, 640), 0, 90, &[&how[..], &[codec]].concat())
    };
    for (name, codec, how, matrix) in [
        ("phone-mpeg4.mp4", "mpeg4", turned, CLOCKWISE),
        ("phone-jpeg.mov", "mjpeg", turned, CLOCKWISE),
        ("mirror-jpeg.mov", "mjpeg", mirrored, MIRRORED),
    ] {
        let film = film(name, codec, how);
        turn(&film, matrix);
        let gateway = serve(&film).await;
        assert_eq!(gateway.capture_size("film").await, (360, 640), "{name}");
        assert_eq!(gateway.mjpeg_size("film").await, (360, 640), "{name}");
        assert_eq!(gateway.coded("film").await, (360, 640), "{name}");
    }
}

/// Width and height of a track, its pixel aspect ratio, and its matrix.
type Track = ((u16, u16), Option<(u32, u32)>, [i32; 4]);

/// Expected appearance of a film on each transport.
struct Appearance {
    size: (u32, u32),
    jpeg: (usize, usize),
    /// Scaled to a width of at most 320.
    small: (u32, u32),
    /// Track header in MP4.
    moov: Track,
    /// Text message on `nal`.
    told: &'static str,
}

impl Appearance {
    async fn everywhere(&self, film: &Path) {
        let gateway = serve(film).await;
        // Keeps the stream running.
        let mut mse = Mse::connect(gateway.address, "film").await;
        let (_, moov) = mse.header().await;
        let tkhd = &moov.trak[0].tkhd;
        let mp4_atom::Codec::Avc1(entry) = &moov.trak[0].mdia.minf.stbl.stsd.codecs[0] else {
            panic!("no avc1: {moov:?}")
        };
        assert_eq!((entry.visual.width, entry.visual.height), (640, 360));
        let pasp = entry.pasp.as_ref();
        let matrix = &tkhd.matrix;
        assert_eq!(
            (
                (tkhd.width.integer(), tkhd.height.integer()),
                pasp.map(|pasp| (pasp.h_spacing, pasp.v_spacing)),
                [matrix.a, matrix.b, matrix.c, matrix.d].map(|number| number >> 16),
            ),
            self.moov
        );

        let device = gateway.api("/api/devices").await[0].clone();
        let (width, height) = self.size;
        assert_eq!(device["width"], json!(width));
        assert_eq!(device["height"], json!(height));

        assert_eq!(gateway.capture_size("film").await, self.jpeg);
        let (status, head, png) = post(&gateway, "film", "image/png", r#"{"format":"png"}"#).await;
        assert_eq!(status, 200, "{head}");
        // The first chunk of a PNG is the image header.
        let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!((side(16), side(20)), self.jpeg);
        assert_eq!(gateway.mjpeg_size("film").await, self.jpeg);
        let small = (self.small.0 as usize, self.small.1 as usize);
        assert_eq!(gateway.mjpeg_size("film@small").await, small);
        assert_eq!(gateway.coded("film@small").await, self.small);

        let playlist = gateway.playlist().await;
        for (width, height) in [self.size, self.small] {
            let resolution = format!("RESOLUTION={width}x{height}");
            assert!(playlist.contains(&resolution), "{resolution}: {playlist}");
        }

        let mut viewer = Nal::connect(gateway.address, "film").await.unwrap();
        let told = loop {
            let message = within("a text", viewer.socket.next()).await;
            if let Message::Text(text) = message.unwrap().unwrap() {
                break text;
            }
        };
        assert_eq!(told.as_str(), self.told);
    }
}

/// Starts a gateway with the stream `film` and its rendition `small`.
async fn serve(film: &Path) -> TestGateway {
    let film = film.display();
    let config = format!(
        "[capture]\ntimeout = '20s'\n[streams.film]\nsource = \"file:{film}\"\nencode = {{ frame-rate = 30 }}\nrenditions.small = {{ width = 320 }}\n"
    );
    TestGateway(Gateway::with_config(&config).await)
}

/// A gateway whose output is inspected.
struct TestGateway(Gateway);

impl std::ops::Deref for TestGateway {
    type Target = Gateway;

    fn deref(&self) -> &Gateway {
        &self.0
    }
}

impl TestGateway {
    /// Size of a capture, whose number must be readable.
    async fn capture_size(&self, stream: &str) -> (usize, usize) {
        let path = format!("/live/{stream}/frame.jpg");
        let got = within("a frame", http_get(self.address, &path, &[])).await;
        let (status, head, jpeg) = got.unwrap();
        assert_eq!(status, 200, "{head}");
        upright(&jpeg)
    }

    /// Size of the JPEGs of MJPEG, whose numbers must be readable.
    async fn mjpeg_size(&self, stream: &str) -> (usize, usize) {
        let path = format!("/live/{stream}/mjpeg");
        let viewer = within("connect", Mjpeg::open(self.address, &path)).await;
        let jpeg = within("a JPEG", viewer.unwrap().next()).await.unwrap();
        upright(&jpeg)
    }

    /// Coded size of H.264, whose pixels must be square and numbers readable.
    async fn coded(&self, stream: &str) -> (u32, u32) {
        let mut viewer = Nal::connect(self.address, stream).await.unwrap();
        let mut reader = NumberReader::default();
        let mut size = None;
        loop {
            let unit = within("a frame", viewer.next_unit()).await.unwrap();
            if unit.is_idr() {
                let of = |kind| {
                    let units = unit.nals.iter().filter(|unit| nal::unit_type(unit) == kind);
                    units.cloned().collect::<Vec<_>>()
                };
                let sets = ParameterSets::new(&of(nal::SPS), &of(nal::PPS)).unwrap();
                assert!(sets.picture.pixel_aspect.unwrap_or_default() == Default::default());
                size = Some((sets.picture.width, sets.picture.height));
            }
            if !reader.feed(&unit.data).is_empty() {
                return size.unwrap();
            }
        }
    }

    /// Fetches the multivariant playlist, repeatedly until it exists.
    async fn playlist(&self) -> String {
        let path = "/live/film/hls/index.m3u8";
        let got = within("a playlist", http_get(self.address, path, &[])).await;
        let (status, head, body) = got.unwrap();
        assert_eq!(status, 200, "{head}");
        String::from_utf8(body).unwrap()
    }
}

fn upright(jpeg: &[u8]) -> (usize, usize) {
    let head = turbojpeg::read_header(jpeg).unwrap();
    assert!(jpeg_number(jpeg).is_some(), "the frame is not upright");
    (head.width, head.height)
}

/// Writes this matrix into the track header of an MP4 file.
fn turn(film: &PathBuf, [a, b, c, d]: [i32; 4]) {
    let mut bytes = std::fs::read(film).unwrap();
    let at = bytes.windows(4).position(|four| four == b"tkhd").unwrap();
    assert_eq!(bytes[at + 4], 0, "a header of version 0");
    // The matrix follows type, version and flags, times, id and duration, layer and volume (ISO/IEC 14496-12 8.3.2).
    let matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30];
    for (nth, number) in matrix.into_iter().enumerate() {
        bytes[at + 44 + 4 * nth..][..4].copy_from_slice(&number.to_be_bytes());
    }
    std::fs::write(film, bytes).unwrap();
}
