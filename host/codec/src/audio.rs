//! Converts audio of any codec to AAC-LC: decode, resample to 48 kHz and at most two channels, encode.
//!
//! Output times are a count of samples and follow the source's times only when those differ by more than two frames, so
//! that jitter leaves no gaps. Used by `stream` when a transport needs AAC and the source delivers something else.

use parking_lot::Mutex;
use std::sync::Arc;

use bytes::Bytes;
use ffmpeg::codec::{self, Id, Parameters};
use ffmpeg::format::{Sample as Layout, sample::Type};
use ffmpeg::software::resampling;
use ffmpeg::{ChannelLayout, Rational, frame};
use ffmpeg_next as ffmpeg;

use super::{Error, TIME_BASE, extradata, init, needs_input};
use sluicegate_media::{aac, time::rescale};

/// Codec string (RFC 6381) of the output: AAC-LC.
pub const AAC_LC_CODEC: &str = "mp4a.40.2";
/// Sample rate of the output in Hz: one that every browser and phone plays without resampling.
const RATE: u32 = 48_000;
/// Samples in an AAC-LC frame.
const FRAME: usize = 1024;
/// Bits per second for one channel and for two.
const BIT_RATES: [usize; 2] = [64_000, 128_000];
/// Largest difference, in samples (two frames), between the source's times and the sample count before the source's
/// times are taken over.
const TOLERANCE: i64 = 2 * FRAME as i64;
const PLANAR: Layout = Layout::F32(Type::Planar);
/// Longest packet that is accepted in bytes, and the most samples that one may decode to.
const MAX_BYTES: usize = 1 << 20;
const MAX_SAMPLES: usize = 1 << 18;

/// Coding of a source's audio, as needed to open a decoder.
#[derive(Clone)]
pub struct AudioCoding {
    parameters: Arc<Mutex<Parameters>>,
    name: &'static str,
}

impl AudioCoding {
    /// For an audio track of a demuxer.
    pub fn new(parameters: Parameters) -> AudioCoding {
        AudioCoding {
            name: parameters.id().name(),
            parameters: Arc::new(Mutex::new(parameters)),
        }
    }

    /// libav's name of the codec, such as "pcm_alaw" or "opus".
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Sample rate in Hz and number of channels; an error if the audio cannot be decoded.
    pub fn probe(&self) -> Result<(u32, u8), Error> {
        let decoder = self.decoder()?;
        Ok((
            decoder.rate(),
            u8::try_from(decoder.channels()).unwrap_or(u8::MAX),
        ))
    }

    fn decoder(&self) -> Result<codec::decoder::Audio, Error> {
        init();
        let parameters = self.parameters.lock().clone();
        let id = parameters.id();
        let found = codec::decoder::find(id).ok_or(Error::Missing { what: id.name() })?;
        let opened = codec::Context::from_parameters(parameters).and_then(|context| {
            let mut decoder = context.decoder();
            decoder.set_packet_time_base(Rational(1, TIME_BASE as i32));
            decoder.open_as(found)?.audio()
        });
        opened.map_err(cannot_open(format!("{} decoder", self.name)))
    }
}

impl std::fmt::Debug for AudioCoding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SoundCoding").field(&self.name).finish()
    }
}

/// A raw AAC frame, without ADTS header.
#[derive(Clone, Debug)]
pub struct AacFrame {
    /// The frame's bytes.
    pub data: Bytes,
    /// Decode time, 90 kHz. The first frames precede the audio they were made from: a decoder needs them as preroll.
    pub time: i64,
}

/// Converts audio to AAC-LC. Takes about 0.3 ms per frame, which is 21 ms of audio.
pub struct AacConverter {
    decoder: codec::decoder::Audio,
    /// From the decoder's format to the encoder's.
    resampler: Option<resampling::Context>,
    encoder: codec::encoder::audio::Encoder,
    config: aac::Config,
    layout: ChannelLayout,
    /// Decoded samples that do not fill a frame yet, per channel.
    buffered: Vec<Vec<f32>>,
    /// Time of the first sample in `buffered`, in samples.
    at: Option<i64>,
}

impl AacConverter {
    /// A converter for the described audio. Mono stays mono, everything else becomes stereo.
    pub fn new(coding: &AudioCoding) -> Result<AacConverter, Error> {
        let decoder = coding.decoder()?;
        let channels = usize::from(decoder.channels()).clamp(1, 2);
        let layout = ChannelLayout::default(channels as i32);
        let found = codec::encoder::find(Id::AAC).ok_or(Error::Missing { what: "aac" })?;
        let fail = cannot_open(format!("AAC encoder for {channels} channels"));
        let mut encoder = codec::Context::new_with_codec(found)
            .encoder()
            .audio()
            .map_err(&fail)?;
        encoder.set_rate(RATE as i32);
        encoder.set_format(PLANAR);
        encoder.set_channel_layout(layout);
        encoder.set_bit_rate(BIT_RATES[channels - 1]);
        encoder.set_time_base(Rational(1, RATE as i32));
        let encoder = encoder.open_as(found).map_err(&fail)?;
        let config = aac::Config::parse(&extradata::of(&Parameters::from(&encoder)));
        Ok(AacConverter {
            decoder,
            resampler: None,
            encoder,
            config: config.ok_or_else(|| fail(ffmpeg::Error::InvalidData))?,
            layout,
            buffered: vec![Vec::new(); channels],
            at: None,
        })
    }

    /// Configuration of the AAC frames.
    pub fn config(&self) -> &aac::Config {
        &self.config
    }

    /// Converts one packet, whose time is in 90 kHz, and returns the frames that it completes.
    ///
    /// An error concerns this packet only; conversion may continue with the next.
    pub fn convert(&mut self, packet: &[u8], time: i64) -> Result<Vec<AacFrame>, Error> {
        if packet.is_empty() || packet.len() > MAX_BYTES {
            return Err(Error::Length {
                bytes: packet.len(),
                most: MAX_BYTES,
            });
        }
        let fail = |source| Error::Audio { time, source };
        let mut sent = codec::packet::Packet::copy(packet);
        sent.set_pts(Some(time));
        sent.set_dts(Some(time));
        self.decoder.send_packet(&sent).map_err(fail)?;
        let mut frames = Vec::new();
        loop {
            let mut decoded = frame::Audio::empty();
            match self.decoder.receive_frame(&mut decoded) {
                Ok(()) => {}
                Err(error) if needs_input(error) => return Ok(frames),
                Err(error) => return Err(fail(error)),
            }
            let at = decoded.timestamp().or(decoded.pts()).unwrap_or(time);
            self.resample(&mut decoded, at).map_err(fail)?;
            self.encode(&mut frames).map_err(fail)?;
        }
    }

    /// Resamples decoded audio and appends it to `buffered`.
    fn resample(&mut self, frame: &mut frame::Audio, time: i64) -> Result<(), ffmpeg::Error> {
        if frame.samples() == 0 || frame.samples() > MAX_SAMPLES || frame.rate() == 0 {
            return Err(ffmpeg::Error::InvalidData);
        }
        if frame.channel_layout().is_empty() {
            frame.set_channel_layout(ChannelLayout::default(i32::from(frame.channels())));
        }
        let (format, layout, rate) = (frame.format(), frame.channel_layout(), frame.rate());
        let fits = |resampler: &resampling::Context| {
            let input = resampler.input();
            (input.format, input.channel_layout, input.rate) == (format, layout, rate)
        };
        let delayed = self.resampler.as_ref().and_then(resampling::Context::delay);
        let resampler = match self.resampler.take().filter(fits) {
            Some(resampler) => resampler,
            None => resampling::Context::get(format, layout, rate, PLANAR, self.layout, RATE)?,
        };
        let resampler = self.resampler.insert(resampler);

        let source_time = i128::from(time) * i128::from(RATE) / i128::from(TIME_BASE);
        let source_time = i64::try_from(source_time).unwrap_or(0);
        let waiting = delayed.map_or(0, |delay| delay.output) + self.buffered[0].len() as i64;
        let next = self.at.map(|at| at.saturating_add(waiting));
        if next.is_none_or(|next| next.abs_diff(source_time) > TOLERANCE.unsigned_abs()) {
            // Packets were lost or repeated: the samples held belong to what came before the gap.
            self.buffered.iter_mut().for_each(Vec::clear);
            self.at = Some(source_time);
        }
        let room = frame.samples() as u64 * u64::from(RATE) / u64::from(rate) + FRAME as u64;
        let mut out = frame::Audio::new(PLANAR, room as usize, self.layout);
        resampler.run(frame, &mut out)?;
        for (channel, buffered) in self.buffered.iter_mut().enumerate() {
            buffered.extend_from_slice(out.plane::<f32>(channel));
        }
        Ok(())
    }

    /// Encodes the complete frames in `buffered`.
    fn encode(&mut self, frames: &mut Vec<AacFrame>) -> Result<(), ffmpeg::Error> {
        while self.buffered[0].len() >= FRAME {
            let at = self.at.unwrap_or(0);
            let mut input = frame::Audio::new(PLANAR, FRAME, self.layout);
            input.set_rate(RATE);
            input.set_pts(Some(at));
            for (channel, buffered) in self.buffered.iter_mut().enumerate() {
                input
                    .plane_mut::<f32>(channel)
                    .copy_from_slice(&buffered[..FRAME]);
                buffered.drain(..FRAME);
            }
            self.at = Some(at.saturating_add(FRAME as i64));
            self.encoder.send_frame(&input)?;
            loop {
                let mut packet = codec::packet::Packet::empty();
                match self.encoder.receive_packet(&mut packet) {
                    Ok(()) => {}
                    Err(error) if needs_input(error) => break,
                    Err(error) => return Err(error),
                }
                frames.push(AacFrame {
                    time: rescale(packet.pts().unwrap_or(at), 1, RATE as i32),
                    data: Bytes::copy_from_slice(packet.data().unwrap_or_default()),
                });
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for AacConverter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoundConverter")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn cannot_open(what: String) -> impl Fn(ffmpeg::Error) -> Error {
    move |source| Error::Open {
        what: what.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
