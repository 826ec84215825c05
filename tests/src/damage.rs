//! Streams that are damaged on purpose, reproducibly by seed, and a strict decoder that judges what the gateway lets
//! through. Used by the tests of damage, and by those of repeated frames, where any decoding error is a failure.

use bytes::Bytes;
use ffmpeg_next::{self as ffmpeg, Dictionary, codec, frame};
use sluicegate_media::h264::nal;

/// Pseudorandom numbers (xorshift64*), reproducible by seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number from 0 up to but not including `below`.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.roll(256) as u8).collect()
    }
}

/// Kinds of damage to a group of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    FlippedInSlice,
    FlippedInHeader,
    Cut,
    Noise,
    LostStartCode,
    LostBytes,
    NonsensePps,
    Doubled,
    LostUnit,
    LostFrames,
    SwappedFrames,
    SwappedUnits,
    OtherSps,
    NonsenseSps,
    EndlessNumber,
    Marked,
}

impl Damage {
    pub const ALL: [Damage; 16] = [
        Damage::FlippedInSlice,
        Damage::FlippedInHeader,
        Damage::Cut,
        Damage::Noise,
        Damage::LostStartCode,
        Damage::LostBytes,
        Damage::NonsensePps,
        Damage::Doubled,
        Damage::LostUnit,
        Damage::LostFrames,
        Damage::SwappedFrames,
        Damage::SwappedUnits,
        Damage::OtherSps,
        Damage::NonsenseSps,
        Damage::EndlessNumber,
        Damage::Marked,
    ];

    /// Whether the damage is detectable without decoding in a stream with one slice per frame. If so, nothing
    /// undecodable may come out, not even before the next keyframe.
    pub fn shows(self) -> bool {
        matches!(
            self,
            Damage::LostUnit
                | Damage::LostFrames
                | Damage::SwappedFrames
                | Damage::OtherSps
                | Damage::NonsenseSps
                | Damage::EndlessNumber
                | Damage::Marked
        )
    }

    /// Bytes of a group of pictures with this damage. `other` is the SPS of another stream.
    pub fn apply(self, group: &[Vec<Bytes>], other: &Bytes, random: &mut Random) -> Vec<u8> {
        let mut group: Vec<Vec<Vec<u8>>> = group
            .iter()
            .map(|frame| frame.iter().map(|unit| unit.to_vec()).collect())
            .collect();
        // Not in the last frame, so that the effect on later ones is visible.
        let at = random.roll(group.len() - 1);
        let slices: Vec<usize> = (0..group[at].len())
            .filter(|place| matches!(nal::unit_type(&group[at][*place]), nal::SLICE | nal::IDR))
            .collect();
        let unit = slices[random.roll(slices.len())];
        let frame = &mut group[at];
        match self {
            Damage::FlippedInSlice => {
                // After the header, unless the NAL unit is hardly longer than that.
                let header = 12.min(frame[unit].len() - 1);
                for _ in 0..=random.roll(8) {
                    let byte = header + random.roll(frame[unit].len() - header);
                    frame[unit][byte] ^= 1 << random.roll(8);
                }
            }
            Damage::FlippedInHeader => {
                let any = random.roll(frame.len());
                let most = frame[any].len().min(10);
                frame[any][random.roll(most)] ^= 1 << random.roll(8);
            }
            Damage::Cut => {
                let length = 1 + random.roll(frame[unit].len() - 1);
                frame[unit].truncate(length);
            }
            Damage::Noise => {
                let mut noise = vec![random.roll(128) as u8];
                let count = random.roll(300);
                noise.extend(random.bytes(count));
                let place = random.roll(frame.len() + 1);
                frame.insert(place, noise);
            }
            Damage::LostStartCode | Damage::LostBytes => {
                let mut stream = stream_of(&group);
                let codes: Vec<usize> = (4..stream.len() - 2)
                    .filter(|at| stream[*at..*at + 3] == [0, 0, 1])
                    .collect();
                let code = codes[random.roll(codes.len())];
                let (from, to) = match self {
                    Damage::LostStartCode => (code - 1, code + 3),
                    _ => (
                        code - random.roll(code.min(200)),
                        code + 3 + random.roll(50),
                    ),
                };
                drop(stream.drain(from..to.min(stream.len())));
                return stream;
            }
            Damage::NonsensePps => {
                let count = 1 + random.roll(20);
                frame.insert(0, [vec![0x68], random.bytes(count)].concat());
            }
            Damage::Doubled => {
                let double = frame[unit].clone();
                frame.insert(unit, double);
            }
            Damage::LostUnit => drop(frame.remove(unit)),
            Damage::LostFrames => {
                let count = 1 + random.roll(group.len() - 1 - at);
                drop(group.drain(at..at + count));
            }
            Damage::SwappedFrames => group.swap(at, at + 1),
            Damage::SwappedUnits => {
                let other = random.roll(frame.len());
                frame.swap(unit, other);
            }
            Damage::OtherSps => {
                // Not before a keyframe, which has its own parameter sets.
                let at = 1 + random.roll(group.len() - 1);
                group[at].insert(0, other.to_vec());
            }
            Damage::NonsenseSps => {
                // `profile_idc`, constraints and level are kept, and a size of more than 16384 pixels a side is
                // impossible.
                let mut sps = other[..4].to_vec();
                sps.extend([0xff, 0xfe, 0, 0, 3, 0, 0, 3, 1]);
                frame.insert(0, sps);
            }
            Damage::EndlessNumber => {
                // `first_mb_in_slice` with more leading zeros than a valid number can have.
                let head = frame[unit][0];
                frame[unit] = vec![head, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0, 0, 3, 0x80];
            }
            Damage::Marked => frame[unit][0] |= 0x80,
        }
        stream_of(&group)
    }
}

/// Frames of a camera that counts in steps of two: `frame_num` (`bits` bits wide) is doubled in each slice. For streams
/// with one slice per frame.
pub fn miscounted(frame: &[Bytes], bits: u32) -> Vec<Bytes> {
    let slice = |unit: &Bytes| {
        let mut bytes = unit.to_vec();
        let bit = |bytes: &[u8], at: usize| bytes[1 + at / 8] >> (7 - at % 8) & 1;
        // Skip first_mb_in_slice, slice_type and pic_parameter_set_id, each an Exp-Golomb code.
        let mut at = 0;
        for _ in 0..3 {
            let zeros = (at..).take_while(|at| bit(&bytes, *at) == 0).count();
            at += 2 * zeros + 1;
        }
        let places = at..at + bits as usize;
        let number = places
            .clone()
            .fold(0_u32, |number, at| number << 1 | u32::from(bit(&bytes, at)));
        for (nth, at) in places.rev().enumerate() {
            let place = 7 - at % 8;
            bytes[1 + at / 8] &= !(1 << place);
            bytes[1 + at / 8] |= (((2 * number) >> nth & 1) as u8) << place;
        }
        Bytes::from(bytes)
    };
    let units = frame.iter().map(|unit| match nal::unit_type(unit) {
        nal::SLICE | nal::IDR => slice(unit),
        _ => unit.clone(),
    });
    units.collect()
}

fn stream_of(frames: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let units = frames.iter().flatten();
    units
        .flat_map(|unit| [&[0, 0, 0, 1], unit.as_slice()].concat())
        .collect()
}

/// libavcodec's H.264 decoder, configured to report an error instead of concealing damage.
pub struct StrictDecoder {
    decoder: codec::decoder::Video,
    /// Number of access units that the decoder rejected.
    pub errors: usize,
}

impl Default for StrictDecoder {
    fn default() -> StrictDecoder {
        ffmpeg::init().unwrap();
        let codec = codec::decoder::find(codec::Id::H264).unwrap();
        let mut context = codec::Context::new();
        context.set_flags(codec::Flags::LOW_DELAY);
        let options: Dictionary<'_> = [("err_detect", "explode"), ("threads", "1")]
            .into_iter()
            .collect();
        let opened = context.decoder().open_as_with(codec, options);
        StrictDecoder {
            decoder: opened.and_then(|opened| opened.video()).unwrap(),
            errors: 0,
        }
    }
}

impl StrictDecoder {
    /// Decodes an access unit in Annex B; returns the number of frames output.
    pub fn feed(&mut self, access_unit: &[u8]) -> usize {
        self.show(access_unit, 0).len()
    }

    /// Decodes an access unit in Annex B; returns the frames output, each with the number of the access unit it came
    /// from.
    pub fn show(&mut self, access_unit: &[u8], number: i64) -> Vec<(i64, frame::Video)> {
        let mut packet = codec::packet::Packet::copy(access_unit);
        packet.set_pts(Some(number));
        self.errors += usize::from(self.decoder.send_packet(&packet).is_err());
        self.shown()
    }

    /// Flushes the decoder and returns the frames it still held.
    pub fn rest(&mut self) -> Vec<(i64, frame::Video)> {
        self.errors += usize::from(self.decoder.send_eof().is_err());
        self.shown()
    }

    fn shown(&mut self) -> Vec<(i64, frame::Video)> {
        let mut shown = Vec::new();
        loop {
            let mut frame = frame::Video::empty();
            if self.decoder.receive_frame(&mut frame).is_err() {
                return shown;
            }
            self.errors += usize::from(frame.is_corrupt());
            shown.push((frame.pts().unwrap_or(-1), frame));
        }
    }
}
