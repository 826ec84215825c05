//! From packets to what a sink takes: H.264 and JPEG as they are, everything else by way of a [`Transcoder`].

use super::{Media, Packet};
use crate::{
    codec, config,
    media::{
        h264::{annexb, avcc},
        jpeg,
    },
    source::{Keyframes, Sink, SourceError, transcode::Transcoder},
};
use bytes::Bytes;
use ffmpeg_next::codec::Id;

/// Hands the packets of one input to a sink.
pub struct Delivery {
    what: String,
    coding: Coding,
}

enum Coding {
    Avcc { length_size: u8 },
    AnnexB,
    Jpeg,
    Other(Box<Transcoder>),
}

impl Delivery {
    /// Tells the sink what is to come. `what` names the source in errors.
    pub fn new(
        what: &str,
        media: Media,
        encode: &config::Encode,
        sink: &mut dyn Sink,
    ) -> Result<Delivery, SourceError> {
        let coding = match media.parameters.id() {
            Id::H264 => Coding::AnnexB,
            Id::MJPEG => Coding::Jpeg,
            _ => Coding::Other(Box::new(Transcoder::new(
                what,
                &media,
                encode,
                sink.codec_counts(),
            )?)),
        };
        let rate = match &coding {
            Coding::Other(_) => media.rate.min(encode.frame_rate.into()),
            _ => media.rate,
        };
        sink.configured(rate as f32);
        let mut delivery = Delivery {
            what: what.to_owned(),
            coding,
        };
        delivery.configure(&codec::extradata(&media.parameters), sink)?;
        Ok(delivery)
    }

    /// Hands on one packet.
    pub fn deliver(
        &mut self,
        packet: Packet,
        sink: &mut dyn Sink,
        keyframes: &Keyframes,
    ) -> Result<(), SourceError> {
        if let Some(renewed) = &packet.renewed {
            self.configure(renewed, sink)?;
        }
        match &mut self.coding {
            Coding::Jpeg => sink.jpeg(jpeg::with_huffman_tables(packet.data()), packet.times),
            Coding::AnnexB => sink.access_unit(annexb::split(&packet.data()), packet.times),
            Coding::Avcc { length_size } => match avcc::split(&packet.data(), *length_size) {
                Ok(nals) => sink.access_unit(nals, packet.times),
                Err(error) => {
                    tracing::debug!("{}: a broken packet is left out: {error}", self.what);
                    sink.damaged();
                }
            },
            Coding::Other(transcoder) => transcoder.packet(&packet, sink, keyframes)?,
        }
        Ok(())
    }

    /// Hands on what a decoder holds back, at the end of the input.
    pub fn finish(
        &mut self,
        sink: &mut dyn Sink,
        keyframes: &Keyframes,
    ) -> Result<(), SourceError> {
        match &mut self.coding {
            Coding::Other(transcoder) => transcoder.finish(sink, keyframes),
            _ => Ok(()),
        }
    }

    /// Reads the configuration: at the start, and where a packet brings a new one.
    fn configure(&mut self, extradata: &Bytes, sink: &mut dyn Sink) -> Result<(), SourceError> {
        if !matches!(self.coding, Coding::AnnexB | Coding::Avcc { .. }) || extradata.is_empty() {
            return Ok(());
        }
        if extradata.first() == Some(&1) {
            let config =
                avcc::DecoderConfig::parse(extradata).map_err(|error| SourceError::Read {
                    what: self.what.clone(),
                    reason: error.to_string(),
                })?;
            self.coding = Coding::Avcc {
                length_size: config.length_size,
            };
            sink.parameter_sets(config.sps.into_iter().chain(config.pps).collect());
        } else {
            sink.parameter_sets(annexb::split(extradata));
        }
        Ok(())
    }
}
