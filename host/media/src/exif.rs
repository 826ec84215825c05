//! How a JPEG asks to be displayed: the pixel aspect ratio from its JFIF header and the orientation from Exif. Pure.
//!
//! `stream::Ingest` reads it from every frame of an MJPEG source. Cut or broken headers count as absent, since cameras
//! write many of them.

use super::{
    geometry::{Orientation, PixelAspect},
    jpeg,
};

/// Returns the pixel aspect ratio and orientation that a JPEG's header states; `None` and upright if it states none or
/// is broken.
pub fn presentation(image: &[u8]) -> (Option<PixelAspect>, Orientation) {
    let mut told = (None, None);
    for (kind, content) in jpeg::segments(image) {
        match kind {
            // APP0, APP1.
            0xe0 => told.0 = told.0.or_else(|| jfif(content)),
            0xe1 => told.1 = told.1.or_else(|| exif(content)),
            // The frame header or the scan: no application segment follows (ITU-T T.81 B.2.1).
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf | 0xda => break,
            _ => {}
        }
    }
    (told.0, told.1.unwrap_or_default())
}

/// JFIF 1.02: densities without a unit are the pixel aspect ratio. Densities with a unit are mostly made up.
fn jfif(content: &[u8]) -> Option<PixelAspect> {
    let rest = content.strip_prefix(b"JFIF\0")?;
    let [_, _, units, x_high, x_low, y_high, y_low] = *rest.first_chunk()?;
    let number = |high, low| u32::from(u16::from_be_bytes([high, low]));
    match units {
        0 => PixelAspect::new(number(x_high, x_low), number(y_high, y_low)),
        _ => None,
    }
}

/// Exif 2.32 (CIPA DC-008) 4.6.4: the Orientation tag in the first directory.
fn exif(content: &[u8]) -> Option<Orientation> {
    const ORIENTATION: u16 = 0x0112;
    const SHORT: u16 = 3;
    let tiff = content.strip_prefix(b"Exif\0\0")?;
    let big = match tiff.get(..2)? {
        b"MM" => true,
        b"II" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(match big {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        })
    };
    let long = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(match big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    };
    let directory = usize::try_from(long(4)?).ok()?;
    let entries = usize::from(short(directory)?);
    let first = directory.checked_add(2)?;
    let at = (0..entries)
        .map(|nth| first.saturating_add(12 * nth))
        .find(|at| short(*at) == Some(ORIENTATION) && short(at.saturating_add(2)) == Some(SHORT))?;
    let (degrees, mirrored) = match short(at.checked_add(8)?)? {
        1 => (0, false),
        2 => (0, true),
        3 => (180, false),
        4 => (180, true),
        5 => (270, true),
        6 => (90, false),
        7 => (90, true),
        8 => (270, false),
        _ => return None,
    };
    Some(Orientation::new(degrees, mirrored))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn with(segments: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut jpeg = vec![0xff, 0xd8];
        for (kind, content) in segments {
            let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
            jpeg.extend([0xff, 0xff, *kind]);
            jpeg.extend(length);
            jpeg.extend(content);
        }
        jpeg.extend([0xff, 0xda, 0, 2, 1, 2, 3]);
        jpeg
    }

    fn jfif(units: u8, x: u8, y: u8) -> (u8, Vec<u8>) {
        let head = [&b"JFIF\0\x01\x02"[..], &[units, 0, x, 0, y, 0, 0]];
        (0xe0, head.concat())
    }

    fn exif(orientation: u8, big: bool) -> (u8, Vec<u8>) {
        let tiff: &[u8] = match big {
            true => &[
                b'M',
                b'M',
                0,
                42,
                0,
                0,
                0,
                8,
                0,
                2, // an entry of another tag
                1,
                0,
                0,
                3,
                0,
                0,
                0,
                1,
                0,
                9,
                0,
                0, // and ours
                1,
                0x12,
                0,
                3,
                0,
                0,
                0,
                1,
                0,
                orientation,
                0,
                0,
            ],
            false => &[
                b'I',
                b'I',
                42,
                0,
                8,
                0,
                0,
                0,
                1,
                0, //
                0x12,
                1,
                3,
                0,
                1,
                0,
                0,
                0,
                orientation,
                0,
                0,
                0,
            ],
        };
        (0xe1, [b"Exif\0\0", tiff].concat())
    }

    #[test]
    fn the_header_has_pixel_aspect_and_orientation() {
        let upright = Orientation::UPRIGHT;
        for (segments, aspect, orientation) in [
            (vec![], None, upright),
            (vec![jfif(0, 16, 11)], PixelAspect::new(16, 11), upright),
            (vec![jfif(0, 1, 1)], PixelAspect::new(1, 1), upright),
            (vec![jfif(1, 72, 96)], None, upright),
            (
                vec![jfif(0, 1, 2), exif(6, true)],
                PixelAspect::new(1, 2),
                Orientation::new(90, false),
            ),
            (vec![exif(8, false)], None, Orientation::new(270, false)),
            (vec![exif(5, false)], None, Orientation::new(270, true)),
            (vec![exif(0, false)], None, upright),
            // Other APP1 segments may precede Exif.
            (
                vec![
                    (0xe1, b"http://ns.adobe.com/xap/1.0/\0".to_vec()),
                    exif(3, true),
                ],
                None,
                Orientation::new(180, false),
            ),
            (
                vec![(0xc0, vec![8, 0, 1, 0, 1, 1, 1, 17, 0]), exif(3, true)],
                None,
                upright,
            ),
        ] {
            assert_eq!(presentation(&with(&segments)), (aspect, orientation));
        }
    }

    proptest! {
        #[test]
        fn anything_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..80) {
            presentation(&bytes);
            let (_, mut content) = exif(6, true);
            content.truncate(cut);
            content.extend(&bytes);
            presentation(&with(&[(0xe1, content)]));
        }
    }
}
