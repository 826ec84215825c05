//! Turns packets of an input into calls of the sink: H.264, JPEG and AAC unchanged, other video through a
//! [`Transcoder`], other audio unchanged, to be converted later if a transport needs AAC.

use super::{Media, Packet, Tracks};
use crate::{
    AudioTrack, EncodeSettings, Expected, Presentation, Sink, SourceContext, SourceError,
    transcode::Transcoder,
};
use bytes::Bytes;
use ffmpeg_next::codec::{Id, Parameters};
use sluicegate_codec as codec;
use sluicegate_codec::AudioCoding;
use sluicegate_media::{
    aac::{self, Adts},
    h264::{annexb, avcc},
    jpeg,
    sample::{Audio, Codec},
    time::rescale,
};
use sluicegate_telemetry::Chain;

/// Delivers the packets of one input to a sink.
pub struct Delivery {
    what: String,
    coding: Option<Coding>,
    audio_delivery: AudioDelivery,
}

/// State of the audio track.
enum AudioDelivery {
    /// There is no usable audio.
    None,
    /// Each packet is one frame.
    Frames,
    /// AAC frames with ADTS headers: the newest header with the duration of a frame in ticks, if there was one, and the
    /// language.
    Adts(Option<(Adts, i64)>, String),
}

enum Coding {
    Avcc { length_size: u8 },
    AnnexB,
    Jpeg,
    Other(Box<Transcoder>),
}

impl Delivery {
    /// Announces the tracks to the sink. `what` names the source in errors.
    pub fn new(
        what: &str,
        tracks: Tracks,
        encode: &EncodeSettings,
        sink: &mut dyn Sink,
    ) -> Result<Delivery, SourceError> {
        let audio_delivery = match tracks.audio {
            Some((parameters, language)) => AudioDelivery::new(parameters, language, sink),
            None => AudioDelivery::None,
        };
        sink.expect(Expected {
            video: tracks.video.is_some(),
            audio: !matches!(audio_delivery, AudioDelivery::None),
        });
        let mut delivery = Delivery {
            what: what.to_owned(),
            coding: None,
            audio_delivery,
        };
        match tracks.video {
            Some(media) => delivery.open_video(media, encode, sink)?,
            None => sink.configured(0.0),
        }
        Ok(delivery)
    }

    fn open_video(
        &mut self,
        media: Media,
        encode: &EncodeSettings,
        sink: &mut dyn Sink,
    ) -> Result<(), SourceError> {
        let coding = match media.parameters.id() {
            Id::H264 => Coding::AnnexB,
            Id::MJPEG => Coding::Jpeg,
            _ => Coding::Other(Box::new(Transcoder::new(
                &self.what,
                &media,
                encode.get(),
                sink.codec_counts(),
            )?)),
        };
        let rate = match &coding {
            Coding::Other(_) => media.rate.min(encode.get().frame_rate.into()),
            _ => media.rate,
        };
        sink.presentation(match &coding {
            // Upright and with square pixels.
            Coding::Other(_) => Presentation::default(),
            _ => media.presentation,
        });
        sink.configured(rate as f32);
        self.coding = Some(coding);
        self.configure(&codec::extradata(&media.parameters), sink)
    }

    /// Delivers one packet.
    pub fn deliver(
        &mut self,
        packet: Packet,
        context: &mut SourceContext<'_>,
    ) -> Result<(), SourceError> {
        let sink = &mut *context.sink;
        if packet.is_audio {
            self.audio_delivery.deliver_audio(&packet, sink);
            return Ok(());
        }
        if let Some(new_extradata) = &packet.new_extradata {
            self.configure(new_extradata, sink)?;
        }
        match &mut self.coding {
            None => {}
            Some(Coding::Jpeg) => {
                sink.jpeg(jpeg::with_huffman_tables(packet.data()), packet.times);
            }
            Some(Coding::AnnexB) => sink.access_unit(annexb::split(&packet.data()), packet.times),
            Some(Coding::Avcc { length_size }) => match avcc::split(&packet.data(), *length_size) {
                Ok(nals) => sink.access_unit(nals, packet.times),
                Err(error) => {
                    tracing::debug!("{}: dropped a broken packet: {error}", self.what);
                    sink.damaged();
                }
            },
            Some(Coding::Other(transcoder)) => {
                transcoder.packet(&packet, sink, context.keyframes)?
            }
        }
        Ok(())
    }

    /// Delivers the frames that a decoder still holds, at the end of the input.
    pub fn finish(&mut self, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
        match &mut self.coding {
            Some(Coding::Other(transcoder)) => transcoder.finish(context.sink, context.keyframes),
            _ => Ok(()),
        }
    }

    /// Reads the configuration, at the start and when a packet brings a new one.
    fn configure(&mut self, extradata: &Bytes, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let is_h264 = matches!(self.coding, Some(Coding::AnnexB | Coding::Avcc { .. }));
        if !is_h264 || extradata.is_empty() {
            return Ok(());
        }
        if extradata.first() == Some(&1) {
            let config =
                avcc::DecoderConfig::parse(extradata).map_err(|error| SourceError::Read {
                    what: self.what.clone(),
                    reason: error.to_string(),
                })?;
            self.coding = Some(Coding::Avcc {
                length_size: config.length_size,
            });
            sink.parameter_sets(config.sps.into_iter().chain(config.pps).collect());
        } else {
            sink.parameter_sets(annexb::split(extradata));
        }
        Ok(())
    }
}

impl AudioDelivery {
    fn new(parameters: Parameters, language: String, sink: &mut dyn Sink) -> AudioDelivery {
        if parameters.id() == Id::AAC {
            let config = codec::extradata(&parameters);
            if config.is_empty() {
                return AudioDelivery::Adts(None, language);
            }
            if let Some(config) =
                aac::Config::parse(&config).filter(aac::Config::is_widely_supported)
            {
                let coding = AudioCoding::new(parameters);
                let channels = coding.probe().map_or(2, |(_, channels)| channels);
                sink.audio_track(aac_track(&config, channels, &language));
                return AudioDelivery::Frames;
            }
        }
        let coding = AudioCoding::new(parameters);
        match coding.probe() {
            Ok((rate, channels)) if rate > 0 => {
                sink.audio_track(AudioTrack {
                    audio: Audio {
                        codec: Codec::OtherAudio,
                        name: coding.name().to_owned(),
                        codec_string: String::new(),
                        config: Bytes::new(),
                        timescale: rate,
                        sample_rate: rate,
                        channels,
                        language,
                    },
                    length: 0,
                    coding: Some(coding),
                });
                AudioDelivery::Frames
            }
            Ok(_) => {
                sink.note(
                    "audio",
                    "audio is dropped: the source does not state its sample rate".into(),
                );
                AudioDelivery::None
            }
            Err(error) => {
                sink.note("audio", format!("audio is dropped: {}", Chain(&error)));
                AudioDelivery::None
            }
        }
    }

    fn deliver_audio(&mut self, packet: &Packet, sink: &mut dyn Sink) {
        let mut data = packet.data();
        let AudioDelivery::Adts(newest, language) = self else {
            if matches!(self, AudioDelivery::Frames) {
                sink.audio_frame(data, packet.times);
            }
            return;
        };
        let mut times = packet.times;
        while !data.is_empty() {
            let found = Adts::split(&data);
            let Some((adts, frame, rest)) = found else {
                sink.note("audio", "dropped audio that is not AAC in ADTS".into());
                return;
            };
            let length = match *newest {
                Some((known, length)) if known == adts => length,
                _ => {
                    let Some(config) = adts.config() else {
                        sink.note("audio", "dropped AAC of an unknown sample rate".into());
                        return;
                    };
                    sink.audio_track(aac_track(&config, config.channels, language));
                    let rate = i32::try_from(config.sample_rate).unwrap_or(i32::MAX);
                    let length = rescale(config.frame_length.into(), 1, rate);
                    *newest = Some((adts, length));
                    length
                }
            };
            sink.audio_frame(frame, times);
            // The times of a packet are those of its first frame.
            for time in [&mut times.decode, &mut times.presentation] {
                *time = time.map(|time| time.saturating_add(length));
            }
            data = rest;
        }
    }
}

fn aac_track(config: &aac::Config, channels: u8, language: &str) -> AudioTrack {
    AudioTrack {
        audio: Audio::aac(config, channels, language),
        length: config.frame_length,
        coding: None,
    }
}
