//! Encoders for generated streams: H.264 with B-frames, as cameras and files have it, and AAC. The gateway's own
//! encoder is for live video and makes no B-frames.

use bytes::Bytes;
use ffmpeg::{
    ChannelLayout, Dictionary, Rational,
    codec::{self, Id},
    format::{Pixel, Sample, sample::Type},
    frame, picture,
};
use ffmpeg_next as ffmpeg;
use sluicegate_media::{image::I420View, time::TIMESCALE};

/// An encoded frame. Times are in ticks of the encoder's time base.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub data: Bytes,
    pub decode: i64,
    pub presentation: i64,
}

/// H.264 with up to two B-frames in a row, closed GOPs and repeated parameter sets, in Annex B. Times are in ticks of
/// 1/90,000 s.
pub(crate) struct VideoEncoder {
    encoder: codec::encoder::video::Encoder,
    frame: frame::Video,
}

impl VideoEncoder {
    pub fn new(size: (u32, u32), frame_rate: u32) -> Result<VideoEncoder, ffmpeg::Error> {
        ffmpeg::init()?;
        let found =
            codec::encoder::find_by_name("libx264").ok_or(ffmpeg::Error::EncoderNotFound)?;
        let mut context = codec::Context::new_with_codec(found).encoder().video()?;
        context.set_width(size.0);
        context.set_height(size.1);
        context.set_format(Pixel::YUV420P);
        context.set_time_base(Rational(1, TIMESCALE as i32));
        context.set_frame_rate(Some(Rational(frame_rate as i32, 1)));
        context.set_max_b_frames(2);
        // Each keyframe is requested.
        context.set_gop(2 * frame_rate);
        let options: Dictionary<'_> = [
            ("preset", "veryfast"),
            ("crf", "28"),
            (
                "x264-params",
                "repeat-headers=1:aud=1:scenecut=0:b-adapt=0:threads=1:rc-lookahead=3",
            ),
        ]
        .into_iter()
        .collect();
        Ok(VideoEncoder {
            encoder: context.open_as_with(found, options)?,
            frame: frame::Video::new(Pixel::YUV420P, size.0, size.1),
        })
    }

    /// Encodes a frame, on request as a keyframe; returns what is complete now.
    pub fn encode(
        &mut self,
        image: I420View<'_>,
        at: i64,
        is_key: bool,
    ) -> Result<Vec<Packet>, ffmpeg::Error> {
        for plane in 0..3 {
            let stride = self.frame.stride(plane);
            let into = self.frame.data_mut(plane).chunks_mut(stride);
            for (from, to) in image.rows(plane).zip(into) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        self.frame.set_pts(Some(at));
        self.frame.set_kind(match is_key {
            true => picture::Type::I,
            false => picture::Type::None,
        });
        self.encoder.send_frame(&self.frame)?;
        receive(|packet| self.encoder.receive_packet(packet))
    }
}

/// Mono AAC-LC. Times are in samples.
pub(crate) struct AudioEncoder {
    encoder: codec::encoder::audio::Encoder,
    at: i64,
}

impl AudioEncoder {
    /// Samples per second, and per frame.
    pub const RATE: u32 = 48_000;
    pub const FRAME: u32 = 1024;
    /// AudioSpecificConfig (ISO/IEC 14496-3 section 1.6): AAC-LC, 48 kHz, one channel.
    pub const CONFIG: &[u8] = &[0x11, 0x88];

    pub fn new() -> Result<AudioEncoder, ffmpeg::Error> {
        ffmpeg::init()?;
        let found = codec::encoder::find(Id::AAC).ok_or(ffmpeg::Error::EncoderNotFound)?;
        let mut context = codec::Context::new_with_codec(found).encoder().audio()?;
        context.set_rate(AudioEncoder::RATE as i32);
        context.set_format(Sample::F32(Type::Planar));
        context.set_channel_layout(ChannelLayout::MONO);
        context.set_bit_rate(64_000);
        context.set_time_base(Rational(1, AudioEncoder::RATE as i32));
        Ok(AudioEncoder {
            encoder: context.open_as(found)?,
            at: 0,
        })
    }

    /// Samples that were given to it.
    pub fn position(&self) -> u64 {
        self.at.unsigned_abs()
    }

    /// Encodes one more frame of a tone; returns what is complete now.
    pub fn encode(&mut self) -> Result<Vec<Packet>, ffmpeg::Error> {
        let length = AudioEncoder::FRAME as usize;
        let mut frame = frame::Audio::new(Sample::F32(Type::Planar), length, ChannelLayout::MONO);
        frame.set_rate(AudioEncoder::RATE);
        frame.set_pts(Some(self.at));
        for (nth, sample) in frame.plane_mut::<f32>(0).iter_mut().enumerate() {
            let seconds = (self.at + nth as i64) as f32 / AudioEncoder::RATE as f32;
            *sample = 0.2 * (seconds * 440.0 * std::f32::consts::TAU).sin();
        }
        self.at += length as i64;
        self.encoder.send_frame(&frame)?;
        receive(|packet| self.encoder.receive_packet(packet))
    }
}

fn receive(
    mut next: impl FnMut(&mut codec::packet::Packet) -> Result<(), ffmpeg::Error>,
) -> Result<Vec<Packet>, ffmpeg::Error> {
    let mut packets = Vec::new();
    loop {
        let mut packet = codec::packet::Packet::empty();
        match next(&mut packet) {
            Ok(()) => {}
            Err(ffmpeg::Error::Eof) => return Ok(packets),
            Err(ffmpeg::Error::Other { errno }) if errno == ffmpeg::error::EAGAIN => {
                return Ok(packets);
            }
            Err(error) => return Err(error),
        }
        packets.push(Packet {
            data: Bytes::copy_from_slice(packet.data().unwrap_or_default()),
            decode: packet.dts().unwrap_or_default(),
            presentation: packet.pts().unwrap_or_default(),
        });
    }
}
