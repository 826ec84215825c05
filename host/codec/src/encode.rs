//! H.264 encoding for live streams: no look-ahead and no B-frames. libx264 outputs each frame immediately; hardware
//! encoders may be one frame behind.
//!
//! One [`Encoder`] hides the differences between the encoders: their input layout, their options for low delay, and the
//! parameter sets that some of them leave out (`headers`). `probe` chooses which encoder is used.

use parking_lot::{Mutex, MutexGuard};
use std::{
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use ffmpeg::codec::{self, threading};
use ffmpeg::format::Pixel;
use ffmpeg::{Dictionary, Rational, picture};
use ffmpeg_next as ffmpeg;

use super::frame::fill_plane;
use super::headers::Headers;
use super::{Counts, Error, TIME_BASE, extradata, init, needs_input, probe};
use sluicegate_config::{Encode, EncoderName};
use sluicegate_media::{
    h264::{annexb, nal, parameter_sets::ParameterSets},
    image::{I420Image, I420View},
};
use sluicegate_telemetry::Chain;

/// Settings of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames per second, 1 to 240. Written into the stream's VUI and used by the rate control.
    pub frame_rate: u32,
    /// Bits per second, 16,000 to 200,000,000: the average, and the cap for any second.
    pub bitrate: u32,
    /// Milliseconds between keyframes, 1 to 600,000; rounded to whole frames.
    pub keyframe_interval_ms: u32,
    /// The encoder to use.
    pub encoder: EncoderName,
    /// Whether to fall back to libx264 if `encoder` rejects the settings; graphics cards limit the number of
    /// simultaneous streams.
    pub fallback: bool,
}

impl Default for Settings {
    /// 1280×720, 15 frames per second, 1 Mbit/s, a keyframe every 2 s.
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            frame_rate: 15,
            bitrate: 1_000_000,
            keyframe_interval_ms: 2_000,
            encoder: EncoderName::Libx264,
            fallback: false,
        }
    }
}

impl Settings {
    /// Settings for a config's `encode`, with the encoder that it names or else the first that works on this machine.
    /// Probing takes a moment the first time, and seconds if a driver hangs, so do not call this on a thread that
    /// serves sockets.
    ///
    /// # Errors
    /// [`Error::Pinned`] if the named encoder does not work on this machine, [`Error::NoEncoder`] if none does.
    pub fn of(encode: &Encode) -> Result<Self, Error> {
        Ok(Self::with(encode, probe::choose(encode.encoder)?))
    }

    /// Settings for this encoder.
    fn with(encode: &Encode, encoder: EncoderName) -> Self {
        let keyframes = encode.keyframe_interval.duration().as_millis();
        Self {
            width: encode.width,
            height: encode.height,
            frame_rate: encode.frame_rate,
            bitrate: u32::try_from(encode.bitrate.bits_per_second()).unwrap_or(u32::MAX),
            keyframe_interval_ms: u32::try_from(keyframes).unwrap_or(u32::MAX),
            encoder,
            fallback: encode.encoder.is_none(),
        }
    }
}

/// One coded frame: an access unit in Annex B that starts with an access unit delimiter and, if it is a keyframe,
/// contains its parameter sets.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The access unit.
    pub data: Bytes,
    /// Presentation time given with the frame, 90 kHz.
    pub pts: i64,
    /// Decode time, 90 kHz; equal to `pts`, since nothing is reordered.
    pub dts: i64,
    /// Whether it is an IDR frame.
    pub key: bool,
}

/// An H.264 encoder. libx264 works on the calling thread and takes 4 to 6 ms per frame at 1280×720.
pub struct Encoder {
    encoder: codec::encoder::video::Encoder,
    frame: ffmpeg::frame::Video,
    headers: Headers,
    layout: Layout,
    size: (u32, u32),
    counts: Arc<Counts>,
}

/// Input layout of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Y, U and V in separate planes (I420).
    Planar,
    /// Y, then U and V interleaved (NV12).
    SemiPlanar,
}

impl Layout {
    fn format(self) -> Pixel {
        match self {
            Self::Planar => Pixel::YUV420P,
            Self::SemiPlanar => Pixel::NV12,
        }
    }

    fn planes(self) -> usize {
        match self {
            Self::Planar => 3,
            Self::SemiPlanar => 2,
        }
    }
}

/// Input layout of an encoder, and its options for low delay, a full IDR frame on request and a hard cap on the bit
/// rate.
struct Driver {
    layout: Layout,
    options: &'static [(&'static str, &'static str)],
}

fn driver(name: EncoderName) -> Result<Driver, Error> {
    let (layout, options): (_, &[_]) = match name {
        EncoderName::H264Amf => (
            Layout::Planar,
            &[
                ("usage", "ultralowlatency"),
                ("profile", "high"),
                ("rc", "cbr"),
                ("forced_idr", "1"),
                ("header_insertion_mode", "idr"),
                ("aud", "1"),
            ],
        ),
        EncoderName::H264Nvenc => (
            Layout::Planar,
            &[
                ("preset", "p3"),
                ("tune", "ull"),
                ("profile", "high"),
                ("rc", "cbr"),
                ("zerolatency", "1"),
                ("delay", "0"),
                ("forced-idr", "1"),
                ("no-scenecut", "1"),
                ("aud", "1"),
            ],
        ),
        EncoderName::H264Qsv => (
            Layout::SemiPlanar,
            &[
                ("preset", "veryfast"),
                ("profile", "high"),
                ("async_depth", "1"),
                ("look_ahead", "0"),
                ("low_delay_brc", "1"),
                ("forced_idr", "1"),
                ("aud", "1"),
            ],
        ),
        EncoderName::H264Vaapi => {
            let reason = if Path::new("/dev/dri/renderD128").exists() {
                "it takes frames in GPU memory only, which is not supported in this version"
            } else {
                "there is no /dev/dri/renderD128"
            };
            return Err(Error::Unusable {
                name,
                reason: reason.into(),
            });
        }
        // It has no options except its numbers of buffers, and sends its parameter sets once: see `Headers`.
        EncoderName::H264V4l2m2m => (Layout::Planar, &[]),
        EncoderName::Libx264 => (
            Layout::Planar,
            &[
                // The fastest preset that still uses CABAC and the loop filter, whose effect is visible at 1 Mbit/s.
                ("preset", "superfast"),
                ("tune", "zerolatency"),
                ("profile", "high"),
                ("forced-idr", "1"),
                // A constant frame rate; otherwise the VUI would contain the tick of `pts` as the duration of a field.
                (
                    "x264-params",
                    "repeat-headers=1:aud=1:scenecut=0:force-cfr=1:sliced-threads=0:bframes=0",
                ),
            ],
        ),
    };
    Ok(Driver { layout, options })
}

impl Encoder {
    /// Opens an encoder. Its input is in [`super::Colour::VIDEO`], which is also signalled in the stream.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let opened = driver(settings.encoder).and_then(|driver| Self::open(settings, driver));
        match opened {
            Err(error @ (Error::Open { .. } | Error::Unusable { .. }))
                if settings.fallback && settings.encoder != EncoderName::Libx264 =>
            {
                tracing::warn!("{}; using libx264 instead", Chain(&error));
                Self::new(Settings {
                    encoder: EncoderName::Libx264,
                    ..settings
                })
            }
            opened => opened,
        }
    }

    fn open(settings: Settings, driver: Driver) -> Result<Self, Error> {
        init();
        let Settings {
            width,
            height,
            frame_rate,
            bitrate,
            keyframe_interval_ms,
            encoder: name,
            fallback: _,
        } = settings;
        check("frame_rate", frame_rate, 1..=240)?;
        check("bitrate", bitrate, 16_000..=200_000_000)?;
        check("keyframe_interval_ms", keyframe_interval_ms, 1..=600_000)?;
        let _ = I420Image::new(width, height)?;

        let codec = codec::encoder::find_by_name(name.as_str()).ok_or(Error::Missing {
            what: name.as_str(),
        })?;
        let open = |source| Error::Open {
            what: format!("{name} encoder for {width}x{height} at {frame_rate}/s, {bitrate} bit/s"),
            source,
        };
        let format = driver.layout.format();
        let mut context = codec::Context::new_with_codec(codec)
            .encoder()
            .video()
            .map_err(open)?;
        context.set_width(width);
        context.set_height(height);
        context.set_format(format);
        context.set_time_base(Rational(1, TIME_BASE as i32));
        context.set_frame_rate(Some(Rational(frame_rate as i32, 1)));
        context.set_bit_rate(bitrate as usize);
        context.set_max_bit_rate(bitrate as usize);
        context.set_max_b_frames(0);
        context.set_gop(keyframe_distance(frame_rate, keyframe_interval_ms));
        // More threads would mean slices, or a delay of one frame each.
        context.set_threading(threading::Config {
            kind: threading::Type::None,
            count: 1,
            ..Default::default()
        });
        let buffer = bitrate.to_string();
        let common = [
            ("bufsize", buffer.as_str()),
            ("color_range", "tv"),
            ("colorspace", "bt709"),
            ("color_primaries", "bt709"),
            ("color_trc", "bt709"),
        ];
        let options: Dictionary<'_> = common
            .into_iter()
            .chain(driver.options.iter().copied())
            .collect();
        let encoder = context.open_as_with(codec, options).map_err(open)?;
        let headers = Headers::new(&extradata::of(&codec::Parameters::from(&encoder)));
        let frame = ffmpeg::frame::Video::new(format, width, height);
        if frame.planes() < driver.layout.planes() {
            return Err(Error::Memory { width, height });
        }
        Ok(Self {
            encoder,
            frame,
            headers,
            layout: driver.layout,
            size: (width, height),
            counts: Arc::default(),
        })
    }

    /// Counts its frames and failures in `counts` from now on.
    pub fn counted(mut self, counts: &Arc<Counts>) -> Self {
        self.counts = counts.clone();
        self
    }

    /// Encodes a frame of the settings' size at `pts` (90 kHz, increasing) and returns the packets that came out;
    /// libx264 returns the frame's packet immediately. `force_keyframe` makes it an IDR frame, which restarts the
    /// keyframe interval.
    pub fn encode(
        &mut self,
        image: I420View<'_>,
        pts: i64,
        force_keyframe: bool,
    ) -> Result<Vec<Packet>, Error> {
        let made = self.take(image, pts, force_keyframe);
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
        image: I420View<'_>,
        pts: i64,
        force_keyframe: bool,
    ) -> Result<Vec<Packet>, Error> {
        let found = (image.width(), image.height());
        if found != self.size {
            return Err(Error::Size {
                expected: self.size,
                found,
            });
        }
        self.fill(image);
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

    /// Ends the stream and returns the packets that the encoder still had buffered; none if every frame came out
    /// immediately.
    pub fn finish(mut self) -> Result<Vec<Packet>, Error> {
        let pts = self.frame.pts().unwrap_or(0);
        self.encoder
            .send_eof()
            .map_err(|source| Error::Encode { pts, source })?;
        self.receive(pts)
    }

    fn fill(&mut self, image: I420View<'_>) {
        let whole = match self.layout {
            Layout::Planar => 3,
            Layout::SemiPlanar => 1,
        };
        for plane in 0..whole {
            fill_plane(&mut self.frame, plane, &image);
        }
        if self.layout == Layout::SemiPlanar {
            let stride = self.frame.stride(1);
            let into = self.frame.data_mut(1).chunks_mut(stride);
            for ((blue, red), to) in image.rows(1).zip(image.rows(2)).zip(into) {
                for ((blue, red), pair) in blue.iter().zip(red).zip(to.chunks_exact_mut(2)) {
                    pair.copy_from_slice(&[*blue, *red]);
                }
            }
        }
    }

    fn receive(&mut self, pts: i64) -> Result<Vec<Packet>, Error> {
        let mut packets = Vec::with_capacity(1);
        loop {
            let mut packet = codec::packet::Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(error) if needs_input(error) => return Ok(packets),
                Err(source) => return Err(Error::Encode { pts, source }),
            }
            let pts = packet.pts().unwrap_or(pts);
            let coded = Bytes::copy_from_slice(packet.data().unwrap_or_default());
            let (data, key) = self.headers.complete(coded);
            packets.push(Packet {
                data,
                pts,
                dts: pts,
                key,
            });
        }
    }
}

/// Codec strings (RFC 6381) by settings, `None` if the encoder failed with them. A config has a few different settings.
static KNOWN: Mutex<Vec<(Settings, Option<String>)>> = Mutex::new(Vec::new());
/// Largest number of entries in `KNOWN`.
const MAX_KNOWN: usize = 64;

fn known() -> MutexGuard<'static, Vec<(Settings, Option<String>)>> {
    KNOWN.lock()
}

/// Whether these settings can be encoded on this machine; `None` if [`codec_string`] has not found out yet. Never
/// blocks.
pub fn is_encodable(encode: &Encode) -> Option<bool> {
    let Some(encoder) = probe::chosen(encode.encoder)? else {
        return Some(false);
    };
    let settings = Settings::with(encode, encoder);
    let known = known();
    let found = known.iter().find(|(of, _)| *of == settings)?;
    Some(found.1.is_some())
}

/// The codec string (RFC 6381) of an encoder with these settings. Found by encoding a frame, which takes 10 to 30 ms,
/// and cached.
pub fn codec_string(settings: Settings) -> Result<String, Error> {
    let found = known().iter().find(|(of, _)| *of == settings).cloned();
    if let Some((_, Some(codec))) = found {
        return Ok(codec);
    }
    let codec = find_codec_string(settings);
    let mut known = known();
    known.retain(|(of, _)| *of != settings);
    known.truncate(MAX_KNOWN - 1);
    known.insert(0, (settings, codec.as_ref().ok().cloned()));
    codec
}

fn find_codec_string(settings: Settings) -> Result<String, Error> {
    let image = I420Image::new(settings.width, settings.height)?;
    let mut encoder = Encoder::new(settings)?;
    let mut packets = encoder.encode(image.view(), 0, true)?;
    packets.extend(encoder.finish()?);
    let nals: Vec<Bytes> = packets
        .iter()
        .flat_map(|packet| annexb::split(&packet.data))
        .collect();
    let of = |kind| {
        let kind = move |unit: &&Bytes| nal::unit_type(unit) == kind;
        nals.iter().filter(kind).cloned().collect::<Vec<_>>()
    };
    let sets =
        ParameterSets::new(&of(nal::SPS), &of(nal::PPS)).map_err(|error| Error::Unusable {
            name: settings.encoder,
            reason: format!("its parameter sets cannot be read: {error}"),
        })?;
    Ok(sets.picture.codec.clone())
}

fn keyframe_distance(frame_rate: u32, interval_ms: u32) -> u32 {
    let frames = (u64::from(frame_rate) * u64::from(interval_ms) + 500) / 1_000;
    u32::try_from(frames).unwrap_or(u32::MAX).max(1)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::Decoder;
    use sluicegate_media::pattern::Painter;

    /// libx264 takes both layouts, which hardware encoders do not.
    #[test]
    fn frames_come_out_the_same_from_either_pixel_layout() {
        let frames = [Layout::Planar, Layout::SemiPlanar].map(|layout| {
            let driver = Driver {
                layout,
                ..driver(EncoderName::Libx264).unwrap()
            };
            let mut encoder = Encoder::open(Settings::default(), driver).unwrap();
            let mut painter = Painter::new(1280, 720).unwrap();
            let packets = encoder.encode(painter.paint(7, 0), 0, false).unwrap();
            let mut decoder = Decoder::h264().unwrap();
            decoder.decode(&packets[0].data, 0).unwrap();
            let frame = decoder.newest().unwrap();
            let view = frame.view().unwrap();
            [0, 1, 2].map(|plane| view.rows(plane).flatten().copied().collect::<Vec<u8>>())
        });
        assert!(frames[0] == frames[1]);
        assert!(
            frames[0][1].iter().any(|blue| *blue != 128),
            "it has colours"
        );
    }

    #[test]
    fn an_encoder_that_refuses_the_settings_is_replaced_if_allowed() {
        let settings = Settings {
            encoder: EncoderName::H264Vaapi,
            ..Settings::default()
        };
        assert!(Encoder::new(settings).is_err());
        let mut encoder = Encoder::new(Settings {
            fallback: true,
            ..settings
        })
        .unwrap();
        let mut painter = Painter::new(1280, 720).unwrap();
        assert!(encoder.encode(painter.paint(0, 0), 0, false).unwrap()[0].key);
    }
}
