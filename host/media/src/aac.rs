//! AAC headers: the AudioSpecificConfig of MP4 (ISO/IEC 14496-3 1.6.2.1), and ADTS frames (1.A.3), from which raw
//! frames and a configuration are extracted. Nothing is decoded.

use bytes::Bytes;

/// Sample rates by `samplingFrequencyIndex` (ISO/IEC 14496-3 table 1.18).
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// Value of `samplingFrequencyIndex` after which the rate follows in 24 bits.
const RATE_FOLLOWS: u32 = 15;

/// Contents of an AudioSpecificConfig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `audioObjectType`: 2 is AAC-LC, 5 and 29 are HE-AAC.
    pub object_type: u8,
    /// Coded samples per second. With SBR, twice as many are played.
    pub sample_rate: u32,
    /// Output samples per second.
    pub output_rate: u32,
    /// Number of channels; 0 if it is stated in the stream itself.
    pub channels: u8,
    /// Samples per frame, at `sample_rate`.
    pub frame_length: u32,
    /// The record itself.
    pub bytes: Bytes,
}

impl Config {
    /// Parses the beginning of a record, which is all that is needed. `None` if it is too short or states no sample
    /// rate.
    pub fn parse(bytes: &Bytes) -> Option<Config> {
        let mut bits = Bits { bytes, at: 0 };
        let mut object_type = bits.object_type()?;
        let sample_rate = bits.rate()?;
        let channels = match bits.take(4)? {
            7 => 8,
            11 => 7,
            12 | 14 => 8,
            count @ 0..=6 => count as u8,
            _ => 0,
        };
        let mut output_rate = sample_rate;
        let told = object_type;
        if matches!(object_type, 5 | 29) {
            output_rate = bits.rate()?;
            object_type = bits.object_type()?;
        }
        let short = matches!(object_type, 1..=4 | 6 | 7) && bits.take(1)? == 1;
        (sample_rate > 0 && output_rate > 0).then(|| Config {
            object_type: told,
            sample_rate,
            output_rate,
            channels,
            frame_length: if short { 960 } else { 1024 },
            bytes: bytes.clone(),
        })
    }

    /// Codec string (RFC 6381) such as "mp4a.40.2".
    pub fn codec_string(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }

    /// Whether every AAC player supports it: AAC-LC and HE-AAC.
    pub fn is_widely_supported(&self) -> bool {
        matches!(self.object_type, 2 | 5 | 29)
    }
}

/// Audio format stated in the header of an ADTS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adts {
    object_type: u8,
    rate_index: u8,
    channels: u8,
}

impl Adts {
    /// Splits off the first frame of `data`: its format, its payload without the header, and the rest of `data`. `None`
    /// if there is no complete frame, or one that MP4 cannot represent: several blocks in one frame, or a channel
    /// configuration inside the frame.
    pub fn split(data: &Bytes) -> Option<(Adts, Bytes, Bytes)> {
        let head = data.get(..7)?;
        if head[0] != 0xff || head[1] & 0xf6 != 0xf0 {
            return None;
        }
        let adts = Adts {
            object_type: (head[2] >> 6) + 1,
            rate_index: head[2] >> 2 & 0xf,
            channels: (head[2] & 1) << 2 | head[3] >> 6,
        };
        // A checksum follows the header unless `protection_absent` is set.
        let start = if head[1] & 1 == 1 { 7 } else { 9 };
        let length =
            usize::from(head[3] & 3) << 11 | usize::from(head[4]) << 3 | usize::from(head[5] >> 5);
        let one_block = head[6] & 3 == 0;
        if !one_block || adts.channels == 0 || length <= start || length > data.len() {
            return None;
        }
        Some((adts, data.slice(start..length), data.slice(length..)))
    }

    /// The AudioSpecificConfig of this format.
    pub fn config(&self) -> Option<Config> {
        let word = u16::from(self.object_type) << 11
            | u16::from(self.rate_index) << 7
            | u16::from(self.channels) << 3;
        Config::parse(&Bytes::copy_from_slice(&word.to_be_bytes()))
    }
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for at in self.at..self.at + count {
            let byte = self.bytes.get(at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - at % 8) & 1);
        }
        self.at += count;
        Some(value)
    }

    fn object_type(&mut self) -> Option<u8> {
        match self.take(5)? {
            31 => Some(32 + self.take(6)? as u8),
            object_type => Some(object_type as u8),
        }
    }

    fn rate(&mut self) -> Option<u32> {
        match self.take(4)? {
            RATE_FOLLOWS => self.take(24),
            index => RATES.get(index as usize).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn configs_of_the_field_are_read() {
        for (bytes, object_type, rates, channels, length) in [
            // Written by ffmpeg's encoder; its tail states that there is no SBR.
            (
                &[0x11, 0x90, 0x56, 0xe5, 0][..],
                2,
                (48_000, 48_000),
                2,
                1024,
            ),
            (&[0x12, 0x08], 2, (44_100, 44_100), 1, 1024),
            // HE-AAC: 24 kHz, played as 48 kHz.
            (&[0x2b, 0x11, 0x88, 0x00], 5, (24_000, 48_000), 2, 1024),
            // 960 samples per frame, as in DAB+.
            (&[0x11, 0x94], 2, (48_000, 48_000), 2, 960),
            // A rate that is not in the table: 50,000.
            (
                &[0x17, 0x80, 0x61, 0xa8, 0x08],
                2,
                (50_000, 50_000),
                1,
                1024,
            ),
            // xHE-AAC.
            (&[0xf9, 0x46, 0x40], 42, (48_000, 48_000), 2, 1024),
        ] {
            let config = Config::parse(&Bytes::from_static(bytes)).unwrap();
            assert_eq!(config.object_type, object_type, "{bytes:x?}");
            assert_eq!(
                (config.sample_rate, config.output_rate),
                rates,
                "{bytes:x?}"
            );
            assert_eq!((config.channels, config.frame_length), (channels, length));
            assert_eq!(config.codec_string(), format!("mp4a.40.{object_type}"));
        }
        for broken in [&[][..], &[0x11], &[0x16, 0x90], &[0x17, 0x80, 0, 0, 0x08]] {
            assert_eq!(Config::parse(&Bytes::from_static(broken)), None);
        }
    }

    /// An ADTS frame by the standard: sync word, MPEG-4, LC, 48 kHz, two channels.
    fn adts(payload: &[u8], checksum: bool) -> Vec<u8> {
        let head = if checksum { 9 } else { 7 };
        let length = head + payload.len();
        let mut frame = vec![
            0xff,
            0xf1 - u8::from(checksum),
            1 << 6 | 3 << 2,
            2 << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ];
        frame.resize(head, 0);
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_in_a_packet_come_without_their_headers() {
        let packet = Bytes::from([adts(&[1, 2, 3], false), adts(&[4; 3000], true)].concat());
        let (first, frame, rest) = Adts::split(&packet).unwrap();
        assert_eq!(&frame[..], [1, 2, 3]);
        let (second, frame, rest) = Adts::split(&rest).unwrap();
        assert_eq!((&frame[..], rest.len()), (&[4; 3000][..], 0));
        assert_eq!(first, second);
        let config = first.config().unwrap();
        assert_eq!(&config.bytes[..], [0x11, 0x90]);
        assert_eq!((config.sample_rate, config.channels), (48_000, 2));
        assert!(Adts::split(&rest).is_none());
        assert!(Adts::split(&packet.slice(..9)).is_none(), "cut short");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..40), sync in any::<bool>()) {
            let mut bytes = bytes;
            if sync && bytes.len() > 1 {
                (bytes[0], bytes[1]) = (0xff, 0xf1);
            }
            let bytes = Bytes::from(bytes);
            let _ = Config::parse(&bytes);
            if let Some((adts, frame, rest)) = Adts::split(&bytes) {
                prop_assert!(!frame.is_empty() && frame.len() + rest.len() < bytes.len());
                let _ = adts.config();
            }
        }
    }
}
