//! Structure of JPEGs (ITU-T T.81 annex B), as far as needed to pass them on without decoding: where one ends, its size
//! in pixels, and the Huffman tables that cameras omit.
//!
//! [`Scan`] finds the end of a JPEG in a byte stream. The MJPEG readers of `host/source` use it, since boundaries and
//! lengths in multipart streams are often wrong; `stream::Ingest` reads the size of each frame. Pure.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// Marker codes (ITU-T T.81 table B.1); each follows a byte 0xff.
mod marker {
    pub const DHT: u8 = 0xc4;
    pub const JPG: u8 = 0xc8;
    pub const DAC: u8 = 0xcc;
    pub const SOI: u8 = 0xd8;
    pub const EOI: u8 = 0xd9;
    pub const SOS: u8 = 0xda;
    pub const DQT: u8 = 0xdb;
    pub const DNL: u8 = 0xdc;
    pub const DRI: u8 = 0xdd;
    pub const EXP: u8 = 0xdf;
    pub const COM: u8 = 0xfe;
}

/// The EOI marker, which ends a JPEG.
pub const EOI: [u8; 2] = [0xff, marker::EOI];

/// Result of a [`Scan`]: where a JPEG ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Not known yet: more bytes are needed.
    Open,
    /// The JPEG ends at this offset, after its EOI marker.
    Complete(usize),
    /// The EOI marker is missing: the SOI marker of another JPEG is at this offset.
    Followed(usize),
    /// Not a JPEG: at this offset, which is never 0, is something that cannot precede the first scan.
    Broken(usize),
}

/// Scans for the end of one JPEG whose bytes arrive in pieces. Segments are skipped by their lengths, so that
/// thumbnails in APPn and COM segments do not end it; in entropy-coded data, markers are searched for. Linear in the
/// number of bytes.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Offset of the next byte to examine.
    at: usize,
    place: Place,
    /// Offset of the first entropy-coded data.
    coded_from: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Before a marker that precedes the first scan.
    Header,
    /// In entropy-coded data (B.1.1.5).
    Coded,
    /// In a segment between scans, whose marker is at this offset. If no marker follows the segment, it was damage in a
    /// scan.
    Between(usize),
}

impl Default for Scan {
    fn default() -> Scan {
        Scan {
            at: 2,
            place: Place::Header,
            coded_from: None,
        }
    }
}

impl Scan {
    /// Offset of the first entropy-coded data, once it is reached.
    pub fn coded_from(&self) -> Option<usize> {
        self.coded_from
    }

    /// Continues the scan. `jpeg` contains the JPEG from its SOI marker to the newest byte, more with each call.
    pub fn advance(&mut self, jpeg: &[u8]) -> Extent {
        loop {
            let step = match self.place {
                Place::Coded => self.coded(jpeg),
                Place::Header | Place::Between(_) => self.segment(jpeg),
            };
            match (step, self.place) {
                (None, _) => {}
                (Some(Extent::Broken(_)), Place::Between(marker)) => {
                    self.place = Place::Coded;
                    self.at = marker + 2;
                }
                (Some(extent), _) => return extent,
            }
        }
    }

    fn coded(&mut self, jpeg: &[u8]) -> Option<Extent> {
        let rest = jpeg.get(self.at..).unwrap_or_default();
        let Some(found) = memchr(0xff, rest) else {
            self.at = self.at.max(jpeg.len());
            return Some(Extent::Open);
        };
        self.at += found;
        let at = self.at;
        match (jpeg.get(at + 1), jpeg.get(at + 2)) {
            (None, _) | (Some(&marker::SOI), None) => return Some(Extent::Open),
            // Fill bytes (B.1.1.2).
            (Some(0xff), _) => self.at += 1,
            (Some(&marker::EOI), _) => return Some(Extent::Complete(at + 2)),
            (Some(&marker::SOI), Some(0xff)) => return Some(Extent::Followed(at)),
            (Some(kind), _) if is_allowed_between_scans(*kind) => self.place = Place::Between(at),
            // A stuffed zero, a restart marker, or damage.
            _ => self.at += 2,
        }
        None
    }

    fn segment(&mut self, jpeg: &[u8]) -> Option<Extent> {
        let at = self.at;
        let Some(first) = jpeg.get(at) else {
            return Some(Extent::Open);
        };
        if *first != 0xff {
            return Some(Extent::Broken(at));
        }
        let Some(kind) = jpeg.get(at + 1) else {
            return Some(Extent::Open);
        };
        match *kind {
            0xff => self.at += 1,
            marker::EOI => return Some(Extent::Complete(at + 2)),
            // TEM and RSTm have no length.
            0x01 | 0xd0..=0xd7 => self.at += 2,
            0xc0..=0xfe if *kind != marker::SOI => {
                let Some([high, low]) = jpeg.get(at + 2..).and_then(<[u8]>::first_chunk) else {
                    return Some(Extent::Open);
                };
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if length < 2 {
                    return Some(Extent::Broken(at));
                }
                if let Place::Between(marker) = &mut self.place {
                    *marker = at;
                }
                self.at += 2 + length;
                if *kind == marker::SOS {
                    self.place = Place::Coded;
                    self.coded_from.get_or_insert(self.at);
                }
            }
            _ => return Some(Extent::Broken(at)),
        }
        None
    }
}

/// Whether a segment of this kind may be between the scans of a JPEG (B.2.1).
fn is_allowed_between_scans(kind: u8) -> bool {
    matches!(
        kind,
        marker::DHT
            | marker::DAC
            | marker::SOS
            | marker::DQT
            | marker::DNL
            | marker::DRI
            | marker::EXP
            | 0xe0..=0xef | marker::COM
    )
}

/// Width and height in pixels from the frame header (B.2.2). `None` if there is no such header before the first scan.
pub fn size(jpeg: &[u8]) -> Option<(u32, u32)> {
    let (at, _) = markers(jpeg).find(|(_, kind)| {
        let other = matches!(*kind, marker::DHT | marker::JPG | marker::DAC);
        matches!(*kind, 0xc0..=0xcf) && !other
    })?;
    let word = |at: usize| {
        let bytes = jpeg.get(at..)?.first_chunk()?;
        Some(u32::from(u16::from_be_bytes(*bytes)))
    };
    let (height, width) = (word(at + 5)?, word(at + 7)?);
    (width > 0 && height > 0).then_some((width, height))
}

/// Adds the standard Huffman tables if the JPEG has none. Motion JPEG may omit them because all its decoders have them;
/// browsers do not.
pub fn with_huffman_tables(jpeg: Bytes) -> Bytes {
    let first = markers(&jpeg).find(|(_, kind)| matches!(*kind, marker::DHT | marker::SOS));
    match first {
        Some((at, marker::SOS)) => {
            let mut whole = BytesMut::with_capacity(jpeg.len() + TABLES.len());
            whole.extend_from_slice(&jpeg[..at]);
            whole.extend_from_slice(&TABLES);
            whole.extend_from_slice(&jpeg[at..]);
            whole.freeze()
        }
        _ => jpeg,
    }
}

/// Kind and content of each complete segment before the first entropy-coded data, including the header of the first
/// scan (ITU-T T.81 B.1.1.4).
pub fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    markers(jpeg).filter_map(|(at, kind)| {
        let length = u16::from_be_bytes(*jpeg.get(at + 2..)?.first_chunk()?);
        Some((kind, jpeg.get(at + 4..at + 2 + usize::from(length))?))
    })
}

/// Offset and kind of each segment before the first entropy-coded data.
fn markers(jpeg: &[u8]) -> impl Iterator<Item = (usize, u8)> {
    let mut next = jpeg.starts_with(&[0xff, marker::SOI]).then_some(2);
    std::iter::from_fn(move || {
        let mut at = next.take()?;
        // Fill bytes (B.1.1.2).
        while jpeg.get(at..)?.starts_with(&[0xff, 0xff]) {
            at += 1;
        }
        let [0xff, kind, high, low] = *jpeg.get(at..)?.first_chunk()? else {
            return None;
        };
        if !matches!(kind, marker::SOI | marker::EOI | marker::SOS) {
            let length = usize::from(u16::from_be_bytes([high, low]));
            next = Some(at + 2 + length.max(2));
        }
        Some((at, kind))
    })
}

/// A DHT segment with the tables of ITU-T T.81 K.3.
#[rustfmt::skip]
const TABLES: [u8; 420] = [
    0xff, 0xc4, 0x01, 0xa2, 0x00, 0x00, 0x01, 0x05, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02,
    0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x01, 0x00, 0x03, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x00, 0x02, 0x01, 0x03, 0x03, 0x02, 0x04, 0x03, 0x05,
    0x05, 0x04, 0x04, 0x00, 0x00, 0x01, 0x7d, 0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22,
    0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17,
    0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a,
    0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
    0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8,
    0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5,
    0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9,
    0xfa, 0x11, 0x00, 0x02, 0x01, 0x02, 0x04, 0x04, 0x03, 0x04, 0x07, 0x05, 0x04, 0x04, 0x00, 0x01, 0x02, 0x77, 0x00, 0x01, 0x02, 0x03, 0x11, 0x04,
    0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33,
    0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66,
    0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94,
    0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
    0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7,
    0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A JPEG made by libjpeg-turbo with the tables of K.3.
    fn whole() -> Bytes {
        let image = turbojpeg::Image {
            pixels: (0..48 * 32 * 3)
                .map(|at| (at * 7 % 251) as u8)
                .collect::<Vec<u8>>(),
            width: 48,
            pitch: 48 * 3,
            height: 32,
            format: turbojpeg::PixelFormat::RGB,
        };
        let jpeg = turbojpeg::compress(image.as_deref(), 80, turbojpeg::Subsamp::Sub2x2).unwrap();
        Bytes::copy_from_slice(&jpeg)
    }

    /// Kind and bytes of each segment before the scan, and the rest.
    fn segments(jpeg: &[u8]) -> (Vec<(u8, &[u8])>, &[u8]) {
        let (mut found, mut at) = (Vec::new(), 2);
        while jpeg[at + 1] != 0xda {
            let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            found.push((jpeg[at + 1], &jpeg[at..end]));
            at = end;
        }
        (found, &jpeg[at..])
    }

    /// Huffman tables by class and number.
    fn tables(jpeg: &[u8]) -> BTreeMap<u8, Vec<u8>> {
        let mut tables = BTreeMap::new();
        for (_, segment) in segments(jpeg)
            .0
            .into_iter()
            .filter(|(kind, _)| *kind == 0xc4)
        {
            let mut rest = &segment[4..];
            while let Some((id, counts)) = rest.split_first() {
                let values: usize = counts[..16].iter().map(|count| usize::from(*count)).sum();
                tables.insert(*id, counts[..16 + values].to_vec());
                rest = &counts[16 + values..];
            }
        }
        tables
    }

    #[test]
    fn a_jpeg_without_tables_gets_those_it_was_made_with_and_a_whole_one_stays() {
        let whole = whole();
        let (before, scan) = segments(&whole);
        let kept = before.iter().filter(|(kind, _)| *kind != 0xc4);
        let bare: Vec<&[u8]> = [&whole[..2]]
            .into_iter()
            .chain(kept.map(|(_, segment)| *segment))
            .chain([scan])
            .collect();
        let bare = Bytes::from(bare.concat());
        assert!(tables(&bare).is_empty());
        let mended = with_huffman_tables(bare);
        assert_eq!(tables(&mended), tables(&whole));
        assert_eq!(tables(&whole).len(), 4);
        let pixels = |jpeg: &[u8]| {
            turbojpeg::decompress(jpeg, turbojpeg::PixelFormat::RGB)
                .unwrap()
                .pixels
        };
        assert_eq!(pixels(&mended), pixels(&whole));
        assert_eq!(with_huffman_tables(whole.clone()).as_ptr(), whole.as_ptr());
    }

    /// A JPEG with a complete thumbnail in an APP1 segment and a truncated one in a COM segment.
    fn with_thumbnails() -> Vec<u8> {
        let whole = whole();
        let segment = |kind: u8, body: &[u8]| {
            let length = u16::try_from(body.len() + 2).unwrap().to_be_bytes();
            [&[0xff, kind], &length[..], body].concat()
        };
        let (app, com) = (segment(0xe1, &whole), segment(marker::COM, &whole[..200]));
        [&whole[..2], &app, &com, &whole[2..]].concat()
    }

    #[test]
    fn a_jpeg_ends_behind_its_own_end_and_not_behind_that_of_a_thumbnail() {
        let jpeg = with_thumbnails();
        let more = [&jpeg[..], b"\0\0 more"].concat();
        assert_eq!(Scan::default().advance(&more), Extent::Complete(jpeg.len()));
        // In any division into pieces.
        let mut scan = Scan::default();
        for end in 2..jpeg.len() {
            assert_eq!(scan.advance(&jpeg[..end]), Extent::Open, "{end}");
        }
        assert_eq!(scan.advance(&jpeg), Extent::Complete(jpeg.len()));
        assert_eq!(size(&jpeg), Some((48, 32)));
    }

    #[test]
    fn a_jpeg_without_an_end_reaches_to_the_next_one() {
        let whole = whole();
        let open = &whole[..whole.len() - 2];
        let two = [open, &whole].concat();
        assert_eq!(Scan::default().advance(&two), Extent::Followed(open.len()));
        assert_eq!(Scan::default().advance(open), Extent::Open);
    }

    #[test]
    fn damage_in_a_scan_does_not_hide_the_end_and_a_bad_header_is_reported() {
        let mut jpeg = whole().to_vec();
        let scan = markers(&jpeg).find(|(_, kind)| *kind == marker::SOS);
        let middle = (scan.unwrap().0 + jpeg.len()) / 2;
        // A comment of 40 bytes that is not followed by a marker.
        jpeg[middle..middle + 4].copy_from_slice(&[0xff, marker::COM, 0, 40]);
        let extent = Scan::default().advance(&jpeg);
        assert_eq!(extent, Extent::Complete(jpeg.len()));
        let extent = Scan::default().advance(b"\xff\xd8\xff\xe0\0\x02no");
        assert_eq!(extent, Extent::Broken(6));
    }

    proptest! {
        #[test]
        fn an_extent_lies_within_the_bytes_and_does_not_depend_on_how_they_come(
            bytes in proptest::collection::vec(prop_oneof![Just(0xffu8), Just(0xd8), Just(0xd9), Just(0xda), Just(0), Just(4), any::<u8>()], 0..80),
        ) {
            let jpeg = [&[0xff, 0xd8, 0xff], &bytes[..]].concat();
            let at_once = Scan::default().advance(&jpeg);
            let mut scan = Scan::default();
            let mut extent = Extent::Open;
            for end in 2..=jpeg.len() {
                extent = scan.advance(&jpeg[..end]);
                if extent != Extent::Open {
                    break;
                }
            }
            prop_assert_eq!(extent, at_once);
            if let Extent::Complete(at) | Extent::Followed(at) | Extent::Broken(at) = extent {
                prop_assert!((2..=jpeg.len()).contains(&at));
            }
        }

        #[test]
        fn whatever_comes_nothing_is_lost(bytes in proptest::collection::vec(prop_oneof![Just(0xffu8), Just(0xd8), Just(0xda), any::<u8>()], 0..64)) {
            let out = with_huffman_tables(Bytes::from(bytes.clone()));
            prop_assert!(out.len() == bytes.len() || out.len() == bytes.len() + TABLES.len());
        }
    }
}
