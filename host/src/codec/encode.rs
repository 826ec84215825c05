//! H.264 by libx264, for live: no look-ahead, no B-frames, every picture comes out as it goes in.

use std::{
    ops::RangeInclusive,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use ffmpeg::codec::{self, threading};
use ffmpeg::format::Pixel;
use ffmpeg::{Dictionary, Rational, picture};
use ffmpeg_next as ffmpeg;

use super::{Counts, Error, TIME_BASE, init, is_dry};
use crate::{
    config::{Encode, EncoderName},
    media::picture::{Picture, View},
};

/// What an encoder is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pixels across, even.
    pub width: u32,
    /// Pixels down, even.
    pub height: u32,
    /// Pictures a second, 1 to 240. Written into the stream's VUI; the rate control counts on it.
    pub frame_rate: u32,
    /// Bits a second, 16,000 to 200,000,000: the average, and no second holds more.
    pub bitrate: u32,
    /// Milliseconds from one keyframe to the next, 1 to 600,000; rounded to whole pictures.
    pub keyframe_interval_ms: u32,
    /// Which encoder.
    pub encoder: EncoderName,
}

impl Default for Settings {
    /// 1280×720, 15 pictures a second, 1 Mbit/s, a keyframe every 2 s.
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            frame_rate: 15,
            bitrate: 1_000_000,
            keyframe_interval_ms: 2_000,
            encoder: EncoderName::Libx264,
        }
    }
}

impl Settings {
    /// As the config says, with the encoder it names or else the first that works here.
    pub fn of(encode: &Encode) -> Result<Self, Error> {
        let keyframes = encode.keyframe_interval.duration().as_millis();
        Ok(Self {
            width: encode.width,
            height: encode.height,
            frame_rate: encode.frame_rate,
            bitrate: u32::try_from(encode.bitrate.bits_per_second()).unwrap_or(u32::MAX),
            keyframe_interval_ms: u32::try_from(keyframes).unwrap_or(u32::MAX),
            encoder: encode.encoder.unwrap_or(EncoderName::Libx264),
        })
    }
}

/// One coded picture: an access unit in Annex B that starts with an access unit delimiter and, if it is a keyframe,
/// has its parameter sets with it.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The access unit.
    pub data: Bytes,
    /// The time given with the picture, 90 kHz.
    pub pts: i64,
    /// When to decode it, 90 kHz; the same as `pts` since nothing is reordered.
    pub dts: i64,
    /// Whether it is an IDR picture.
    pub key: bool,
}

/// An H.264 encoder, at work on one thread: 4 to 6 ms a picture at 1280×720.
pub struct Encoder {
    encoder: codec::encoder::video::Encoder,
    frame: ffmpeg::frame::Video,
    size: (u32, u32),
    counts: Arc<Counts>,
}

/// Of libx264's presets the fastest that still uses CABAC and the loop filter: at 1 Mbit/s those are seen.
const PRESET: &str = "superfast";

impl Encoder {
    /// Opens an encoder. What goes in means [`super::Colour::VIDEO`], and the stream says so.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        init();
        let Settings {
            width,
            height,
            frame_rate,
            bitrate,
            keyframe_interval_ms,
            encoder,
        } = settings;
        check("frame_rate", frame_rate, 1..=240)?;
        check("bitrate", bitrate, 16_000..=200_000_000)?;
        check("keyframe_interval_ms", keyframe_interval_ms, 1..=600_000)?;
        let _ = Picture::new(width, height)?;

        let codec = codec::encoder::find_by_name(encoder.as_str()).ok_or(Error::Missing {
            what: encoder.as_str(),
        })?;
        let open = |source| Error::Open {
            what: format!(
                "libx264 encoder for {width}x{height} at {frame_rate}/s, {bitrate} bit/s"
            ),
            source,
        };
        let mut context = codec::Context::new_with_codec(codec)
            .encoder()
            .video()
            .map_err(open)?;
        context.set_width(width);
        context.set_height(height);
        context.set_format(Pixel::YUV420P);
        context.set_time_base(Rational(1, TIME_BASE as i32));
        context.set_frame_rate(Some(Rational(frame_rate as i32, 1)));
        context.set_bit_rate(bitrate as usize);
        context.set_max_bit_rate(bitrate as usize);
        context.set_max_b_frames(0);
        context.set_gop(keyframe_distance(frame_rate, keyframe_interval_ms));
        // More threads would mean slices or a picture's delay each.
        context.set_threading(threading::Config {
            kind: threading::Type::None,
            count: 1,
            ..Default::default()
        });
        let buffer = bitrate.to_string();
        let options: Dictionary<'_> = [
            ("preset", PRESET),
            ("tune", "zerolatency"),
            ("profile", "high"),
            ("forced-idr", "1"),
            ("bufsize", buffer.as_str()),
            ("color_range", "tv"),
            ("colorspace", "bt709"),
            ("color_primaries", "bt709"),
            ("color_trc", "bt709"),
            // A constant frame rate, or the VUI would give the tick of `pts` as the time of a field.
            (
                "x264-params",
                "repeat-headers=1:aud=1:scenecut=0:force-cfr=1:sliced-threads=0:bframes=0",
            ),
        ]
        .into_iter()
        .collect();
        let encoder = context.open_as_with(codec, options).map_err(open)?;
        let frame = ffmpeg::frame::Video::new(Pixel::YUV420P, width, height);
        if frame.planes() < 3 {
            return Err(Error::Memory { width, height });
        }
        Ok(Self {
            encoder,
            frame,
            size: (width, height),
            counts: Arc::default(),
        })
    }

    /// From here on its pictures and failures are counted there.
    pub fn counted(mut self, counts: &Arc<Counts>) -> Self {
        self.counts = counts.clone();
        self
    }

    /// Encodes a picture of the settings' size at `pts` (90 kHz, rising) and gives what came out: that picture, at
    /// once. `force_keyframe` makes it an IDR picture, from which the keyframe interval starts anew.
    pub fn encode(
        &mut self,
        picture: View<'_>,
        pts: i64,
        force_keyframe: bool,
    ) -> Result<Vec<Packet>, Error> {
        let made = self.take(picture, pts, force_keyframe);
        match &made {
            Ok(packets) => self
                .counts
                .encoded
                .fetch_add(packets.len() as u64, Ordering::Relaxed),
            Err(_) => self.counts.encode_failures.fetch_add(1, Ordering::Relaxed),
        };
        made
    }

    fn take(
        &mut self,
        picture: View<'_>,
        pts: i64,
        force_keyframe: bool,
    ) -> Result<Vec<Packet>, Error> {
        let found = (picture.width(), picture.height());
        if found != self.size {
            return Err(Error::Size {
                expected: self.size,
                found,
            });
        }
        for plane in 0..3 {
            let stride = self.frame.stride(plane);
            for (from, to) in picture
                .rows(plane)
                .zip(self.frame.data_mut(plane).chunks_mut(stride))
            {
                to[..from.len()].copy_from_slice(from);
            }
        }
        self.frame.set_pts(Some(pts));
        self.frame.set_kind(if force_keyframe {
            picture::Type::I
        } else {
            picture::Type::None
        });
        self.encoder
            .send_frame(&self.frame)
            .map_err(|source| Error::Encode { pts, source })?;
        self.receive(pts)
    }

    /// Ends the stream and gives what the encoder still held, which is nothing if every picture came out at once.
    pub fn finish(mut self) -> Result<Vec<Packet>, Error> {
        let pts = self.frame.pts().unwrap_or(0);
        self.encoder
            .send_eof()
            .map_err(|source| Error::Encode { pts, source })?;
        self.receive(pts)
    }

    fn receive(&mut self, pts: i64) -> Result<Vec<Packet>, Error> {
        let mut packets = Vec::with_capacity(1);
        loop {
            let mut packet = codec::packet::Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(error) if is_dry(error) => return Ok(packets),
                Err(source) => return Err(Error::Encode { pts, source }),
            }
            let pts = packet.pts().unwrap_or(pts);
            packets.push(Packet {
                data: Bytes::copy_from_slice(packet.data().unwrap_or_default()),
                pts,
                dts: packet.dts().unwrap_or(pts),
                key: packet.is_key(),
            });
        }
    }
}

fn keyframe_distance(frame_rate: u32, interval_ms: u32) -> u32 {
    let pictures = (u64::from(frame_rate) * u64::from(interval_ms) + 500) / 1_000;
    u32::try_from(pictures).unwrap_or(u32::MAX).max(1)
}

fn check(setting: &'static str, value: u32, good: RangeInclusive<u32>) -> Result<(), Error> {
    if good.contains(&value) {
        return Ok(());
    }
    Err(Error::Setting {
        setting,
        value: value.into(),
        least: (*good.start()).into(),
        most: (*good.end()).into(),
    })
}
