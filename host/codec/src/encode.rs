//! H.264 for live: no look-ahead, no B-frames; by libx264 every picture comes out as it goes in, hardware may be one behind.

use std::{
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use ffmpeg::codec::{self, threading};
use ffmpeg::format::Pixel;
use ffmpeg::{Dictionary, Rational, picture};
use ffmpeg_next as ffmpeg;

use super::frame::fill_plane;
use super::headers::Headers;
use super::{Counts, Error, TIME_BASE, extradata, init, is_dry, probe};
use sluicegate_config::{Encode, EncoderName};
use sluicegate_media::{
    h264::{annexb, nal, parameter_sets::ParameterSets},
    picture::{Picture, View},
};
use sluicegate_telemetry::Chain;

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
    /// Whether libx264 stands in where `encoder` refuses these settings; graphics cards encode so many streams and no more.
    pub stand_in: bool,
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
            stand_in: false,
        }
    }
}

impl Settings {
    /// As the config says, with the encoder it names or else the first that works here; finding that out takes a moment the
    /// first time, and seconds where a driver hangs. Not for a thread that serves sockets.
    ///
    /// # Errors
    /// [`Error::Pinned`] if the encoder that is named does not work here, [`Error::NoEncoder`] if none does.
    pub fn of(encode: &Encode) -> Result<Self, Error> {
        let keyframes = encode.keyframe_interval.duration().as_millis();
        Ok(Self {
            width: encode.width,
            height: encode.height,
            frame_rate: encode.frame_rate,
            bitrate: u32::try_from(encode.bitrate.bits_per_second()).unwrap_or(u32::MAX),
            keyframe_interval_ms: u32::try_from(keyframes).unwrap_or(u32::MAX),
            encoder: probe::choose(encode.encoder)?,
            stand_in: encode.encoder.is_none(),
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

/// An H.264 encoder. libx264 works on the calling thread: 4 to 6 ms a picture at 1280×720.
pub struct Encoder {
    encoder: codec::encoder::video::Encoder,
    frame: ffmpeg::frame::Video,
    headers: Headers,
    layout: Layout,
    size: (u32, u32),
    counts: Arc<Counts>,
}

/// How an encoder takes pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Y, U and V apart.
    Planar,
    /// Y, then U and V in turns.
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

/// What an encoder takes, and its own options for low delay, a full IDR picture on request and no more bits than asked for.
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
                "it takes pictures in GPU memory only, which is not supported in this version"
            } else {
                "there is no /dev/dri/renderD128"
            };
            return Err(Error::Unusable {
                name,
                reason: reason.into(),
            });
        }
        // It has no options but its numbers of buffers, and sends its headers once: see `Headers`.
        EncoderName::H264V4l2m2m => (Layout::Planar, &[]),
        EncoderName::Libx264 => (
            Layout::Planar,
            &[
                // Of the presets the fastest that still uses CABAC and the loop filter: at 1 Mbit/s those are seen.
                ("preset", "superfast"),
                ("tune", "zerolatency"),
                ("profile", "high"),
                ("forced-idr", "1"),
                // A constant frame rate, or the VUI would give the tick of `pts` as the time of a field.
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
    /// Opens an encoder. What goes in means [`super::Colour::VIDEO`], and the stream says so.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let opened = driver(settings.encoder).and_then(|driver| Self::open(settings, driver));
        match opened {
            Err(error @ (Error::Open { .. } | Error::Unusable { .. }))
                if settings.stand_in && settings.encoder != EncoderName::Libx264 =>
            {
                tracing::warn!("{}; libx264 stands in", Chain(&error));
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
            stand_in: _,
        } = settings;
        check("frame_rate", frame_rate, 1..=240)?;
        check("bitrate", bitrate, 16_000..=200_000_000)?;
        check("keyframe_interval_ms", keyframe_interval_ms, 1..=600_000)?;
        let _ = Picture::new(width, height)?;

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
        // More threads would mean slices or a picture's delay each.
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

    /// From here on its pictures and failures are counted there.
    pub fn counted(mut self, counts: &Arc<Counts>) -> Self {
        self.counts = counts.clone();
        self
    }

    /// Encodes a picture of the settings' size at `pts` (90 kHz, rising) and gives what came out: by libx264 that picture, at
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
        self.fill(picture);
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

    fn fill(&mut self, picture: View<'_>) {
        let whole = match self.layout {
            Layout::Planar => 3,
            Layout::SemiPlanar => 1,
        };
        for plane in 0..whole {
            fill_plane(&mut self.frame, plane, &picture);
        }
        if self.layout == Layout::SemiPlanar {
            let stride = self.frame.stride(1);
            let into = self.frame.data_mut(1).chunks_mut(stride);
            for ((blue, red), to) in picture.rows(1).zip(picture.rows(2)).zip(into) {
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
                Err(error) if is_dry(error) => return Ok(packets),
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

/// What encoders with some settings make, or that they make nothing; configs have a few.
static KNOWN: Mutex<Vec<(Settings, Option<String>)>> = Mutex::new(Vec::new());
/// Of them so many are kept.
const MAX_KNOWN: usize = 64;

fn known() -> MutexGuard<'static, Vec<(Settings, Option<String>)>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether something can be encoded so here; `None`: [`codec_string`] has not found out yet. Never waits.
pub fn can_encode(encode: &Encode) -> Option<bool> {
    if !probe::finds(encode.encoder)? {
        return Some(false);
    }
    // Nothing is tried out here, as that is known.
    let Ok(settings) = Settings::of(encode) else {
        return Some(false);
    };
    let known = known();
    let found = known.iter().find(|(of, _)| *of == settings)?;
    Some(found.1.is_some())
}

/// RFC 6381, of what an encoder with these settings makes: found out by encoding, 10 to 30 ms, and kept.
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
    let picture = Picture::new(settings.width, settings.height)?;
    let mut encoder = Encoder::new(settings)?;
    let mut packets = encoder.encode(picture.view(), 0, true)?;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::Decoder;
    use sluicegate_media::pattern::Painter;

    /// libx264 takes both layouts, which hardware does not.
    #[test]
    fn pictures_come_out_the_same_in_whichever_layout_they_go_in() {
        let pictures = [Layout::Planar, Layout::SemiPlanar].map(|layout| {
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
        assert!(pictures[0] == pictures[1]);
        assert!(
            pictures[0][1].iter().any(|blue| *blue != 128),
            "it has colours"
        );
    }

    #[test]
    fn who_refuses_the_settings_is_stood_in_for_if_that_is_allowed() {
        let settings = Settings {
            encoder: EncoderName::H264Vaapi,
            ..Settings::default()
        };
        assert!(Encoder::new(settings).is_err());
        let mut encoder = Encoder::new(Settings {
            stand_in: true,
            ..settings
        })
        .unwrap();
        let mut painter = Painter::new(1280, 720).unwrap();
        assert!(encoder.encode(painter.paint(0, 0), 0, false).unwrap()[0].key);
    }
}
