//! Tests of the MJPEG reader with the variants that cameras send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;

/// A JPEG of random pixels, which `seed` makes unique.
fn jpeg(seed: usize) -> Vec<u8> {
    let image = turbojpeg::Image {
        pixels: (0..48 * 32 * 3)
            .map(|at| (at * (7 + seed) % 251) as u8)
            .collect::<Vec<u8>>(),
        width: 48,
        pitch: 48 * 3,
        height: 32,
        format: turbojpeg::PixelFormat::RGB,
    };
    turbojpeg::compress(image.as_deref(), 80, turbojpeg::Subsamp::Sub2x2)
        .unwrap()
        .to_vec()
}

fn jpegs() -> Vec<Vec<u8>> {
    (0..4).map(jpeg).collect()
}

fn without_eoi(jpeg: &[u8]) -> &[u8] {
    &jpeg[..jpeg.len() - 2]
}

/// All output for a stream in these pieces, including its end.
fn read<'a>(mut reader: Reader, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<ReaderEvent> {
    let mut found = Vec::new();
    for piece in pieces {
        reader.push(piece);
        found.extend(std::iter::from_fn(|| reader.take()));
    }
    found.extend(std::iter::from_fn(|| reader.finish()));
    found
}

/// The JPEGs, after checking that they do not depend on how the stream is split.
fn frames(boundary: Option<&str>, stream: &[u8]) -> Vec<Vec<u8>> {
    let at_once = read(Reader::new(boundary), [stream]);
    for size in [1, 7, 1000] {
        let pieces = read(Reader::new(boundary), stream.chunks(size));
        assert_eq!(pieces, at_once, "in pieces of {size}");
    }
    at_once
        .into_iter()
        .map(|found| match found {
            ReaderEvent::Frame(frame) => frame.to_vec(),
            ReaderEvent::Damaged(damage) => panic!("{damage}"),
        })
        .collect()
}

fn parts(part: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    jpegs().iter().flat_map(|jpeg| part(jpeg)).collect()
}

#[test]
fn jpegs_are_found_whatever_surrounds_them() {
    let head = |jpeg: &[u8], length: usize| {
        let head = format!("--cam\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), jpeg, b"\r\n"].concat()
    };
    let ways: [(&str, Option<&str>, Vec<u8>); 17] = [
        ("right", Some("cam"), parts(|jpeg| head(jpeg, jpeg.len()))),
        ("too short", Some("cam"), parts(|jpeg| head(jpeg, jpeg.len() - 500))),
        ("too long", Some("cam"), parts(|jpeg| head(jpeg, jpeg.len() + 2000))),
        ("two gigabytes", Some("cam"), parts(|jpeg| head(jpeg, 2_000_000_000))),
        ("another boundary", Some("other"), parts(|jpeg| head(jpeg, jpeg.len() + 2000))),
        ("no boundary told", None, parts(|jpeg| head(jpeg, jpeg.len() + 2000))),
        (
            "no length",
            Some("--cam"),
            parts(|jpeg| [b"--cam\nContent-type:image/jpg\n\n", jpeg, b"\n"].concat()),
        ),
        (
            "boundary behind",
            Some("cam"),
            parts(|jpeg| [b"Content-Type: image/jpeg\r\n\r\n", jpeg, b"\r\n--cam\r\n"].concat()),
        ),
        (
            "closed after each",
            Some("cam"),
            parts(|jpeg| [&head(jpeg, jpeg.len())[..], b"--cam--\r\n"].concat()),
        ),
        (
            "blank lines",
            Some("cam"),
            parts(|jpeg| [b"\r\n\r\n--cam\r\nContent-Type: image/jpeg\r\n\r\n\r\n\r\n", jpeg, b"\r\n"].concat()),
        ),
        ("bare", None, parts(<[u8]>::to_vec)),
        ("bare, padded", None, parts(|jpeg| [jpeg, &[0; 64]].concat())),
        (
            "junk behind",
            Some("cam"),
            parts(|jpeg| head(&[jpeg, b"serial 17 \xff\xd8 \xff\xd9"].concat(), jpeg.len() + 20)),
        ),
        (
            "text between",
            Some("cam"),
            parts(|jpeg| {
                let text = b"--cam\r\nContent-Type: text/plain\r\n\r\n\xff\xd8\xff\xe0 is how a JPEG begins\r\n";
                [&text[..], &head(jpeg, jpeg.len())].concat()
            }),
        ),
        (
            "long lines",
            Some("cam"),
            parts(|jpeg| [&[b'x'; 9000], &b"\r\n"[..], &head(jpeg, jpeg.len())].concat()),
        ),
        (
            "no dashes",
            Some("boundarydonotcross"),
            parts(|jpeg| [b"boundarydonotcross\r\nContent-Type: image/jpeg\r\n\r\n", jpeg, b"\r\n"].concat()),
        ),
        (
            "as written by curl -i",
            None,
            [
                &b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=\"cam\"\r\n\r\n"[..],
                &parts(|jpeg| head(jpeg, jpeg.len())),
            ]
            .concat(),
        ),
    ];
    for (what, boundary, stream) in ways {
        assert!(frames(boundary, &stream) == jpegs(), "{what}");
    }
}

#[test]
fn jpegs_without_an_end_marker_get_one_and_keep_all_their_bytes() {
    let part = |length: Option<usize>, jpeg: &[u8]| {
        let length = length.map_or(String::new(), |length| {
            format!("Content-Length: {length}\r\n")
        });
        let head = format!("--cam\r\nContent-Type: image/jpeg\r\n{length}\r\n");
        [head.as_bytes(), without_eoi(jpeg), b"\r\n"].concat()
    };
    let open = |jpeg: &[u8]| jpeg.len() - 2;
    let ways: [(&str, Option<&str>, Vec<u8>); 7] = [
        (
            "right",
            Some("cam"),
            parts(|jpeg| part(Some(open(jpeg)), jpeg)),
        ),
        ("no length", Some("cam"), parts(|jpeg| part(None, jpeg))),
        (
            "too short",
            Some("cam"),
            parts(|jpeg| part(Some(open(jpeg) - 300), jpeg)),
        ),
        (
            "too long",
            Some("cam"),
            parts(|jpeg| part(Some(open(jpeg) + 2000), jpeg)),
        ),
        ("no boundary told", None, parts(|jpeg| part(None, jpeg))),
        ("bare", None, parts(|jpeg| without_eoi(jpeg).to_vec())),
        (
            "no boundary at all",
            None,
            parts(|jpeg| [b"\r\nContent-Type: image/jpeg\r\n\r\n", without_eoi(jpeg)].concat()),
        ),
    ];
    for (what, boundary, stream) in ways {
        assert!(frames(boundary, &stream) == jpegs(), "{what}");
    }
}

#[test]
fn a_jpeg_is_returned_at_its_last_byte_even_without_eoi_if_lengths_were_right() {
    let jpegs = jpegs();
    let head = |jpeg: &[u8]| format!("--cam\r\nContent-Length: {}\r\n\r\n", jpeg.len());
    let mut reader = Reader::new(Some("cam"));
    for jpeg in &jpegs {
        reader.push(head(jpeg).as_bytes());
        reader.push(without_eoi(jpeg));
        assert_eq!(reader.take(), None);
        reader.push(&jpeg::EOI);
        assert_eq!(reader.take(), Some(ReaderEvent::Frame(jpeg.clone().into())));
        reader.push(b"\r\n");
    }
    for (nth, jpeg) in jpegs.iter().enumerate() {
        let open = without_eoi(jpeg);
        reader.push(head(open).as_bytes());
        reader.push(open);
        if nth == 0 {
            // The boundary after it shows the end.
            assert_eq!(reader.take(), None);
            reader.push(b"\r\n--cam\r\n");
        }
        assert_eq!(reader.take(), Some(ReaderEvent::Frame(jpeg.clone().into())));
        assert_eq!(reader.take(), None);
        reader.push(b"\r\n");
    }
}

#[test]
fn oversized_parts_are_dropped_before_buffering_and_the_next_frame_follows() {
    let jpeg = jpeg(0);
    let limit = jpeg.len() + 100;
    let mut reader = Reader::new(Some("cam")).with_limit(limit);
    reader.push(b"--cam\r\nContent-Length: 2000000000\r\n\r\n");
    reader.push(without_eoi(&jpeg));
    let mut damaged = 0;
    for _ in 0..100 {
        reader.push(&[0x55; 1000]);
        let found: Vec<ReaderEvent> = std::iter::from_fn(|| reader.take()).collect();
        damaged += found.len();
        assert!(
            found
                .iter()
                .all(|found| *found == ReaderEvent::Damaged(Damage::TooLarge(limit)))
        );
        assert!(reader.buffer.len() <= limit.max(MAX_LINE_LEN) + DELIMITER + 1000);
    }
    assert_eq!(damaged, 1);
    reader.push(&[b"\r\n--cam\r\n\r\n", &jpeg[..]].concat());
    assert_eq!(reader.take(), Some(ReaderEvent::Frame(jpeg.into())));
}

#[test]
fn a_damaged_header_costs_its_frame_only() {
    let (mut broken, whole) = (jpeg(0), jpeg(1));
    // Length of the first segment.
    broken[5] += 1;
    let stream = [&broken[..], b"\r\n--cam\r\n\r\n", &whole].concat();
    let found = read(Reader::new(Some("cam")), stream.chunks(5));
    let expected = [
        ReaderEvent::Damaged(Damage::Header),
        ReaderEvent::Frame(whole.into()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn mjpeg_is_recognised_by_its_type_or_its_first_bytes() {
    for (kind, start, is) in [
        (Some("multipart/x-mixed-replace;boundary=x"), &b""[..], true),
        (Some("image/jpeg;size=1234"), b"", true),
        (Some("IMAGE/JPG"), b"", true),
        (Some("application/octet-stream"), &SOI, true),
        (None, b"\r\n--x\r\nContent-Type: image/jpeg\r\n\r\n", true),
        (
            None,
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\n",
            true,
        ),
        (Some("video/mp2t"), b"\x47\x40", false),
        (Some("text/html"), b"<html>", false),
        (None, b"--x\r\nContent-Type: text/plain\r\n", false),
        (None, b"", false),
    ] {
        assert_eq!(is_mjpeg(kind, start), is, "{kind:?} {start:?}");
    }
    for (kind, found) in [
        (
            "multipart/x-mixed-replace; boundary=--myboundary",
            Some("--myboundary"),
        ),
        (
            "multipart/x-mixed-replace;BOUNDARY = \"a b\" ; x=y",
            Some("a b"),
        ),
        ("multipart/x-mixed-replace", None),
        ("multipart/x-mixed-replace; boundary=", None),
    ] {
        assert_eq!(boundary(kind), found);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_the_same_is_found_however_it_is_cut(
        words in prop::collection::vec(0usize..16, 0..60), cut in 1usize..40, limit in 20usize..400,
    ) {
        let jpeg = jpeg(3);
        let piece = |word: &usize| -> &[u8] {
            match word {
                0 => &jpeg,
                1 => &jpeg[..300],
                2 => &jpeg[jpeg.len() - 30..],
                3 => b"\r\n--cam\r\n",
                4 => b"Content-Length: 40\r\n",
                5 => b"Content-Type: image/jpeg\r\n\r\n",
                6 => b"Content-Type: text/plain\r\n\r\n",
                7 => &[0xff, 0xd8, 0xff, 0xda, 0, 2, 1, 2, 3],
                8 => &jpeg::EOI,
                9 => b"--cam--",
                10 => b"\n----------",
                11 => &[0xff, 0xfe, 0, 9],
                12 => b"Content-Length: 300\r\n\r\n",
                13 => b"\n--more\r\nContent-",
                14 => &[0xff],
                _ => b"x",
            }
        };
        let stream: Vec<u8> = words.iter().flat_map(|word| piece(word).to_vec()).collect();
        let reader = || Reader::new(Some("cam")).with_limit(limit);
        let at_once = read(reader(), [&stream[..]]);
        prop_assert_eq!(&read(reader(), stream.chunks(cut)), &at_once);
        for found in at_once {
            if let ReaderEvent::Frame(frame) = found {
                prop_assert!(frame.starts_with(&SOI) && frame.ends_with(&jpeg::EOI));
                prop_assert!(frame.len() <= limit + 2);
            }
        }
    }
}
