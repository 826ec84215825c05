//! End to end, from test pattern through H.264 and decoder to JPEG, and the guarantees of each part.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use bytes::Bytes;
use ffmpeg::codec::Id;
use sluicegate_config::EncoderName;
use sluicegate_media::blocks::{self, Row};
use sluicegate_media::image::{I420Image, I420View};
use sluicegate_media::pattern::Painter;

const SMALL: Settings = Settings {
    width: 320,
    height: 180,
    frame_rate: 30,
    bitrate: 500_000,
    keyframe_interval_ms: 1_000,
    encoder: EncoderName::Libx264,
    fallback: false,
};

fn ticks(frame: u64) -> i64 {
    frame as i64 * i64::from(TIME_BASE) / 30
}

/// Wall-clock time that the pattern shows for a frame, in ms.
fn moment(frame: u64) -> u64 {
    1_700_000_000_000 + frame * 1_000 / 30
}

fn number(view: I420View<'_>) -> Option<u32> {
    blocks::read(
        view.plane(0),
        view.stride(0),
        view.width() as usize,
        view.height() as usize,
        Row::Number,
    )
}

fn encode(settings: Settings, frames: u64, key: impl Fn(u64) -> bool) -> Vec<Packet> {
    let mut painter = Painter::new(settings.width, settings.height).unwrap();
    let mut encoder = Encoder::new(settings).unwrap();
    let mut packets = Vec::new();
    for frame in 0..frames {
        let came = encoder
            .encode(
                painter.paint(frame, moment(frame)),
                ticks(frame),
                key(frame),
            )
            .unwrap();
        assert_eq!(came.len(), 1, "frame {frame} did not come out at once");
        packets.extend(came);
    }
    assert!(encoder.finish().unwrap().is_empty());
    packets
}

/// Types of an access unit's NAL units.
fn nal_types(annexb: &[u8]) -> Vec<u8> {
    annexb
        .windows(4)
        .filter(|bytes| bytes[..3] == [0, 0, 1])
        .map(|bytes| bytes[3] & 31)
        .collect()
}

#[test]
fn every_frame_comes_out_at_once_as_one_access_unit() {
    let packets = encode(SMALL, 65, |_| false);
    for (frame, packet) in packets.iter().enumerate() {
        assert_eq!(
            (packet.pts, packet.dts),
            (ticks(frame as u64), ticks(frame as u64))
        );
        assert_eq!(packet.key, frame % 30 == 0, "frame {frame}");
        let types = nal_types(&packet.data);
        assert_eq!(
            types[0], 9,
            "frame {frame} starts with an access unit delimiter"
        );
        let slices: Vec<u8> = types
            .iter()
            .copied()
            .filter(|kind| (1..=5).contains(kind))
            .collect();
        assert_eq!(
            slices,
            [if packet.key { 5 } else { 1 }],
            "frame {frame}: {types:?}"
        );
        assert_eq!(
            types.contains(&7) && types.contains(&8),
            packet.key,
            "frame {frame}: {types:?}"
        );
    }
}

#[test]
fn a_forced_keyframe_is_an_idr_frame_and_restarts_the_interval() {
    let keys: Vec<usize> = encode(SMALL, 60, |frame| frame == 7)
        .iter()
        .enumerate()
        .filter(|(_, packet)| packet.key)
        .map(|(at, _)| at)
        .collect();
    assert_eq!(keys, [0, 7, 37]);
}

#[test]
fn no_second_holds_more_than_the_bitrate() {
    // Noise, which an encoder cannot compress well.
    let mut encoder = Encoder::new(SMALL).unwrap();
    let mut image = I420Image::new(SMALL.width, SMALL.height).unwrap();
    let mut noise = 0x9E37_79B9u32;
    let mut sizes = Vec::new();
    for frame in 0..90 {
        for sample in image.planes_mut().into_iter().flatten() {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            *sample = 112 + (noise >> 27) as u8;
        }
        let packets = encoder.encode(image.view(), ticks(frame), false).unwrap();
        sizes.push(
            packets
                .iter()
                .map(|packet| packet.data.len() * 8)
                .sum::<usize>(),
        );
    }
    // The buffer holds one second, so a second carries at most its inflow plus the buffer's content; after the start,
    // half of that.
    for (start, second) in sizes.windows(30).enumerate().skip(30) {
        let bits: usize = second.iter().sum();
        assert!(
            bits < 1_000_000,
            "{bits} bits in the second from frame {start}"
        );
    }
    let bits: usize = sizes.iter().sum();
    assert!(bits < 3 * 500_000 + 500_000, "{bits} bits in three seconds");
}

#[test]
fn the_numbers_survive_encoding_and_decoding() {
    let mut decoder = Decoder::h264().unwrap();
    for (frame, packet) in encode(SMALL, 40, |_| false).iter().enumerate() {
        decoder.decode(&packet.data, packet.pts).unwrap();
        let image = decoder
            .newest()
            .expect("a frame for each access unit, at once");
        assert_eq!(number(image.view().unwrap()), Some(frame as u32));
        assert_eq!(
            (image.pts(), image.is_key(), image.is_corrupt()),
            (Some(packet.pts), packet.key, false)
        );
        assert_eq!(image.colour(), Colour::VIDEO);
        assert!(decoder.newest().is_none());
    }
}

#[test]
fn a_decoder_that_joins_late_waits_for_the_keyframe() {
    let packets = encode(SMALL, 40, |_| false);
    let mut decoder = Decoder::h264().unwrap();
    for packet in &packets[10..30] {
        // Without a reference frame: rejected or decoded to nothing, never displayed.
        let _ = decoder.decode(&packet.data, packet.pts);
        assert!(decoder.newest().is_none_or(|image| image.is_corrupt()));
    }
    for (frame, packet) in packets.iter().enumerate().skip(30) {
        decoder.decode(&packet.data, packet.pts).unwrap();
        assert_eq!(
            number(decoder.newest().unwrap().view().unwrap()),
            Some(frame as u32)
        );
    }
}

#[test]
fn damage_is_reported_and_the_next_keyframe_heals_it() {
    let mut packets = encode(SMALL, 40, |_| false);
    let mut damaged = packets[5].data.to_vec();
    let tail = damaged.len() / 3;
    damaged[tail..].fill(0xA5);
    packets[5].data = damaged.into();
    packets[6].data = Bytes::from_static(&[0, 0, 0, 1, 0x67, 0xFF, 0xFF]);
    packets[7].data = Bytes::from_static(b"not H.264 at all");
    let mut decoder = Decoder::h264().unwrap();
    let mut reported = 0;
    for packet in &packets[..30] {
        let failed = decoder.decode(&packet.data, packet.pts).is_err();
        let corrupt = decoder.newest().is_some_and(|image| image.is_corrupt());
        reported += usize::from(failed || corrupt);
    }
    assert!(reported >= 2, "{reported} reported");
    for (frame, packet) in packets.iter().enumerate().skip(30) {
        decoder.decode(&packet.data, packet.pts).unwrap();
        let image = decoder.newest().unwrap();
        assert!(!image.is_corrupt());
        assert_eq!(number(image.view().unwrap()), Some(frame as u32));
    }
}

#[test]
fn access_units_of_no_or_too_many_bytes_are_refused_and_harm_nothing() {
    let packets = encode(SMALL, 2, |_| false);
    let mut decoder = Decoder::h264().unwrap();
    assert!(matches!(
        decoder.decode(&[], 0),
        Err(Error::Length { bytes: 0, .. })
    ));
    let giant = vec![0; (64 << 20) + 1];
    assert!(matches!(
        decoder.decode(&giant, 0),
        Err(Error::Length { .. })
    ));
    decoder.decode(&packets[0].data, 0).unwrap();
    assert!(decoder.newest().is_some());
    decoder.reset();
    decoder.decode(&packets[0].data, 0).unwrap();
    decoder.drain().unwrap();
    assert!(decoder.newest().is_some());
    decoder.decode(&packets[0].data, 0).unwrap();
    assert!(decoder.newest().is_some(), "goes on after the end");
}

#[test]
fn b_frames_come_out_in_presentation_order() {
    let mut painter = Painter::new(320, 180).unwrap();
    let codec = ffmpeg::codec::encoder::find_by_name("libx264").unwrap();
    let mut context = ffmpeg::codec::Context::new_with_codec(codec)
        .encoder()
        .video()
        .unwrap();
    context.set_width(320);
    context.set_height(180);
    context.set_format(ffmpeg::format::Pixel::YUV420P);
    context.set_time_base(ffmpeg::Rational(1, 90_000));
    context.set_frame_rate(Some(ffmpeg::Rational(30, 1)));
    let options: ffmpeg::Dictionary<'_> = [
        ("preset", "veryfast"),
        ("x264-params", "bframes=3:b-adapt=0:b-pyramid=2:keyint=20"),
    ]
    .into_iter()
    .collect();
    let mut encoder = context.open_as_with(codec, options).unwrap();
    let mut coded = Vec::new();
    let receive = |encoder: &mut ffmpeg::codec::encoder::video::Encoder,
                   coded: &mut Vec<(Vec<u8>, i64)>| {
        let mut packet = ffmpeg::codec::packet::Packet::empty();
        while encoder.receive_packet(&mut packet).is_ok() {
            coded.push((packet.data().unwrap().to_vec(), packet.pts().unwrap()));
        }
    };
    for frame in 0..50 {
        let view = painter.paint(frame, moment(frame));
        let mut video = ffmpeg::frame::Video::new(ffmpeg::format::Pixel::YUV420P, 320, 180);
        for plane in 0..3 {
            let stride = video.stride(plane);
            for (from, to) in view
                .rows(plane)
                .zip(video.data_mut(plane).chunks_mut(stride))
            {
                to[..from.len()].copy_from_slice(from);
            }
        }
        video.set_pts(Some(ticks(frame)));
        encoder.send_frame(&video).unwrap();
        receive(&mut encoder, &mut coded);
    }
    encoder.send_eof().unwrap();
    receive(&mut encoder, &mut coded);
    assert!(
        coded.windows(2).any(|pair| pair[1].1 < pair[0].1),
        "the stream has B-frames"
    );

    let mut decoder = Decoder::h264().unwrap();
    let mut shown = Vec::new();
    for (data, pts) in &coded {
        decoder
            .decode_each(data, *pts, |image| {
                shown.push((image.pts().unwrap(), number(image.view().unwrap())))
            })
            .unwrap();
    }
    decoder.drain().unwrap();
    let last = decoder.newest().unwrap();
    assert_eq!(number(last.view().unwrap()), Some(49));
    for (frame, (pts, number)) in shown.iter().enumerate() {
        assert_eq!((*pts, *number), (ticks(frame as u64), Some(frame as u32)));
    }
    assert!(shown.len() >= 46, "{} of 50 before the end", shown.len());
}

/// Luma plane of a JPEG, with width and height.
fn luma(jpeg: &[u8]) -> (Vec<u8>, usize, usize) {
    let image = turbojpeg::decompress_to_yuv(jpeg).unwrap();
    assert_eq!(image.subsamp, turbojpeg::Subsamp::Sub2x2);
    let stride = image.width.next_multiple_of(image.align);
    (
        image.pixels[..stride * image.height].to_vec(),
        stride,
        image.height,
    )
}

#[test]
fn the_numbers_survive_as_far_as_a_jpeg_of_320_pixels() {
    let settings = Settings {
        width: 1280,
        height: 720,
        frame_rate: 30,
        bitrate: 1_500_000,
        keyframe_interval_ms: 1_000,
        encoder: EncoderName::Libx264,
        fallback: false,
    };
    let mut decoder = Decoder::h264().unwrap();
    let mut jpegs = JpegEncoder::new().unwrap();
    for (frame, packet) in encode(settings, 12, |_| false).iter().enumerate() {
        decoder.decode(&packet.data, packet.pts).unwrap();
        let image = decoder.newest().unwrap();
        for (quality, limit, size) in [
            (80, u32::MAX, (1280, 720)),
            (40, 320, (320, 180)),
            (1, 640, (640, 360)),
        ] {
            let jpeg = jpegs.encode(&image, quality, limit, u32::MAX).unwrap();
            let (luma, width, height) = luma(&jpeg);
            assert_eq!((width, height), size);
            let read = |row| blocks::read(&luma, width, width, height, row);
            assert_eq!(
                read(Row::Number),
                Some(frame as u32),
                "{width} pixels, quality {quality}"
            );
            assert_eq!(
                read(Row::Clock),
                Some((moment(frame as u64) % (1 << 24)) as u32)
            );
        }
    }
}

#[test]
fn white_video_is_white_in_the_jpeg_and_the_jpeg_is_baseline_jfif() {
    let mut white = I420Image::new(320, 180).unwrap();
    for (plane, level) in white.planes_mut().into_iter().zip([235, 128, 128]) {
        plane.fill(level);
    }
    let mut encoder = Encoder::new(SMALL).unwrap();
    let packets = encoder.encode(white.view(), 0, false).unwrap();
    let mut decoder = Decoder::h264().unwrap();
    decoder.decode(&packets[0].data, 0).unwrap();
    let jpeg = JpegEncoder::new()
        .unwrap()
        .encode(&decoder.newest().unwrap(), 80, u32::MAX, u32::MAX)
        .unwrap();
    assert!(luma(&jpeg).0.iter().all(|level| *level >= 252));
    let rgb = turbojpeg::decompress(&jpeg, turbojpeg::PixelFormat::RGB).unwrap();
    assert!(rgb.pixels.iter().all(|level| *level >= 252));
    assert_eq!(jpeg[..4], [0xFF, 0xD8, 0xFF, 0xE0]);
    assert_eq!(jpeg[6..11], *b"JFIF\0");
    let frame_header = jpeg
        .windows(2)
        .find(|pair| pair[0] == 0xFF && (0xC0..=0xC2).contains(&pair[1]))
        .unwrap();
    assert_eq!(frame_header[1], 0xC0, "baseline");
}

#[test]
fn motion_jpeg_goes_to_h264() {
    let mut painter = Painter::new(320, 180).unwrap();
    let (mut to_h264, mut from_h264) = (Encoder::new(SMALL).unwrap(), Decoder::h264().unwrap());
    let (mut to_jpeg, mut from_jpeg) = (JpegEncoder::new().unwrap(), Decoder::mjpeg().unwrap());
    let mut scaler = Scaler::new();
    let mut pass = |view: I420View<'_>, pts| {
        from_h264
            .decode(&to_h264.encode(view, pts, false).unwrap()[0].data, pts)
            .unwrap();
        from_h264.newest().unwrap()
    };
    let jpeg = to_jpeg
        .encode(
            &pass(painter.paint(41, moment(41)), 0),
            90,
            u32::MAX,
            u32::MAX,
        )
        .unwrap();
    from_jpeg.decode(&jpeg, 3_000).unwrap();
    let image = from_jpeg.newest().unwrap();
    assert_eq!(image.colour(), Colour::JPEG);
    let again = pass(
        scaler.convert(&image, 320, 180, Colour::VIDEO).unwrap(),
        3_000,
    );
    let view = again.view().unwrap();
    assert_eq!(number(view), Some(41));
    assert!(
        view.plane(0)[..100]
            .iter()
            .zip(painter.paint(41, moment(41)).plane(0))
            .all(|(a, b)| a.abs_diff(*b) < 8)
    );
}

#[test]
fn settings_nobody_can_encode_with_are_refused_by_name() {
    let refused = |settings| Encoder::new(settings).err().unwrap().to_string();
    assert!(
        refused(Settings {
            frame_rate: 0,
            ..SMALL
        })
        .contains("frame_rate 0")
    );
    assert!(
        refused(Settings {
            bitrate: 1,
            ..SMALL
        })
        .contains("bitrate 1")
    );
    assert!(
        refused(Settings {
            keyframe_interval_ms: 0,
            ..SMALL
        })
        .contains("keyframe_interval_ms 0")
    );
    assert!(
        refused(Settings {
            width: 321,
            ..SMALL
        })
        .contains("321x180")
    );
    let mut encoder = Encoder::new(SMALL).unwrap();
    let image = I420Image::new(640, 360).unwrap();
    assert!(matches!(
        encoder.encode(image.view(), 0, false),
        Err(Error::Size {
            expected: (320, 180),
            found: (640, 360)
        })
    ));
}

#[test]
fn a_stream_that_claims_a_giant_frame_gets_no_memory_for_it() {
    let mut decoder = Decoder::mjpeg().unwrap();
    let mut white = I420Image::new(320, 180).unwrap();
    white.planes_mut()[0].fill(235);
    let mut encoder = Encoder::new(SMALL).unwrap();
    let mut h264 = Decoder::h264().unwrap();
    h264.decode(&encoder.encode(white.view(), 0, false).unwrap()[0].data, 0)
        .unwrap();
    let mut jpeg = JpegEncoder::new()
        .unwrap()
        .encode(&h264.newest().unwrap(), 80, 64, 64)
        .unwrap()
        .to_vec();
    decoder.decode(&jpeg, 0).unwrap();
    assert!(decoder.newest().is_some());
    // Height and width in the frame header: 9,000 by 9,000.
    let header = jpeg
        .windows(2)
        .position(|pair| pair == [0xFF, 0xC0])
        .unwrap();
    jpeg[header + 5..header + 9].copy_from_slice(&[0x23, 0x28, 0x23, 0x28]);
    jpeg.resize(1 << 20, 0);
    assert!(decoder.decode(&jpeg, 0).is_err());
    assert!(decoder.newest().is_none());
}

#[test]
fn codecs_and_frames_move_between_threads() {
    fn moves<T: Send>() {}
    moves::<Decoder>();
    moves::<Encoder>();
    moves::<Frame>();
    moves::<Packet>();
    fn shared<T: Sync>() {}
    shared::<Frame>();
}

#[test]
fn a_codec_that_is_not_there_is_named() {
    let missing = Decoder::new(Id::None).err().unwrap();
    assert!(matches!(missing, Error::Missing { .. }), "{missing}");
}
