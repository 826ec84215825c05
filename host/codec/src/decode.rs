//! Video decoding with low delay, on the calling thread.
//!
//! Two kinds of callers exist: those that want only the newest frame ([`Decoder::decode`], which keeps one frame) and
//! those that need every frame ([`Decoder::decode_each`]).

use ffmpeg::codec::{self, Id, threading};
use ffmpeg::{Dictionary, Rational};
use ffmpeg_next as ffmpeg;

use super::{Counts, Error, Frame, TIME_BASE, init, needs_input};
use std::sync::{Arc, atomic::Ordering};

/// Longest access unit that is accepted, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Largest frame that is decoded, in pixels: larger sizes claimed by a stream are rejected before memory is allocated.
const MAX_PIXELS: &str = "67108864";

/// A video decoder. Takes 1 to 2 ms per frame for H.264 at 1280×720.
pub struct Decoder {
    decoder: codec::decoder::Video,
    newest: Option<Frame>,
    counts: Arc<Counts>,
}

impl Decoder {
    /// A decoder for H.264 in Annex B. Parameter sets come with the access units, or before the first as an access unit
    /// of their own.
    pub fn h264() -> Result<Self, Error> {
        Self::new(Id::H264)
    }

    /// A decoder for MJPEG, one JPEG in each access unit.
    pub fn mjpeg() -> Result<Self, Error> {
        Self::new(Id::MJPEG)
    }

    /// A decoder for any codec of libavcodec, without out-of-band configuration.
    pub fn new(id: Id) -> Result<Self, Error> {
        Self::open(id, codec::Context::new())
    }

    /// A decoder for a track of a demuxer, with its codec, size and extradata.
    pub fn from_parameters(parameters: codec::Parameters) -> Result<Self, Error> {
        init();
        let id = parameters.id();
        let context = codec::Context::from_parameters(parameters)
            .map_err(|source| cannot_open(id, source))?;
        Self::open(id, context)
    }

    fn open(id: Id, mut context: codec::Context) -> Result<Self, Error> {
        init();
        let codec = codec::decoder::find(id).ok_or(Error::Missing { what: id.name() })?;
        // With this flag, MPEG-1, -2 and -4 would output frames in decode order.
        if id == Id::H264 {
            context.set_flags(codec::Flags::LOW_DELAY);
        }
        // Frame threads delay the output by one frame each; slice threads do not help with most cameras' streams.
        context.set_threading(threading::Config {
            kind: threading::Type::None,
            count: 1,
            ..Default::default()
        });
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(Rational(1, TIME_BASE as i32));
        let options: Dictionary<'_> = [("max_pixels", MAX_PIXELS)].into_iter().collect();
        let opened = decoder
            .open_as_with(codec, options)
            .and_then(|opened| opened.video());
        Ok(Self {
            decoder: opened.map_err(|source| cannot_open(id, source))?,
            newest: None,
            counts: Arc::default(),
        })
    }

    /// Counts its frames and failures in `counts` from now on.
    pub fn counted(mut self, counts: &Arc<Counts>) -> Self {
        self.counts = counts.clone();
        self
    }

    /// Decodes one access unit with presentation time `pts` (90 kHz), and keeps the newest frame that comes out, in
    /// presentation order: with B-frames in the stream this may be an earlier one.
    ///
    /// An error concerns this access unit only; decoding may continue with the next. Damage that did not prevent a
    /// frame from coming out is reported by [`Frame::is_corrupt`].
    pub fn decode(&mut self, access_unit: &[u8], pts: i64) -> Result<(), Error> {
        let mut newest = None;
        let result = self.decode_each(access_unit, pts, |frame| newest = Some(frame));
        if newest.is_some() {
            self.newest = newest;
        }
        result
    }

    /// As [`Decoder::decode`], but passes every frame that comes out to `take`.
    pub fn decode_each(
        &mut self,
        access_unit: &[u8],
        pts: i64,
        take: impl FnMut(Frame),
    ) -> Result<(), Error> {
        let bytes = access_unit.len();
        if bytes == 0 || bytes > MAX_BYTES {
            return Err(Error::Length {
                bytes,
                most: MAX_BYTES,
            });
        }
        let mut packet = codec::packet::Packet::copy(access_unit);
        packet.set_pts(Some(pts));
        self.decode_packet(&packet, take)
    }

    /// As [`Decoder::decode_each`], for a packet of libav; its times, if any, are in 90 kHz.
    pub fn decode_packet(
        &mut self,
        packet: &codec::packet::Packet,
        take: impl FnMut(Frame),
    ) -> Result<(), Error> {
        let sent = self.decoder.send_packet(packet);
        let received = self.receive(take);
        sent.and(received).map_err(|source| {
            self.counts.decode_failures.fetch_add(1, Ordering::Relaxed);
            Error::Decode {
                pts: packet.pts().or(packet.dts()).unwrap_or(0),
                bytes: packet.size(),
                source,
            }
        })
    }

    /// Takes the newest frame since the last call, if there is one.
    pub fn newest(&mut self) -> Option<Frame> {
        self.newest.take()
    }

    /// Flushes the frames held back for reordering, as at the end of a file; the decoder may then start with another
    /// stream. [`Decoder::newest`] returns the last frame afterwards.
    pub fn drain(&mut self) -> Result<(), Error> {
        let mut newest = None;
        let result = self.drain_each(|frame| newest = Some(frame));
        if newest.is_some() {
            self.newest = newest;
        }
        result
    }

    /// As [`Decoder::drain`], but passes every frame that comes out to `take`.
    pub fn drain_each(&mut self, take: impl FnMut(Frame)) -> Result<(), Error> {
        let sent = self.decoder.send_eof();
        let received = self.receive(take);
        self.decoder.flush();
        sent.and(received).map_err(|source| Error::Decode {
            pts: 0,
            bytes: 0,
            source,
        })
    }

    /// Discards all frames, as after a gap: decoding continues at the next keyframe.
    pub fn reset(&mut self) {
        self.decoder.flush();
        self.newest = None;
    }

    fn receive(&mut self, mut take: impl FnMut(Frame)) -> Result<(), ffmpeg::Error> {
        loop {
            let mut video = ffmpeg::frame::Video::empty();
            match self.decoder.receive_frame(&mut video) {
                Ok(()) => {
                    self.counts.decoded.fetch_add(1, Ordering::Relaxed);
                    take(Frame::from(video));
                }
                Err(error) if needs_input(error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

fn cannot_open(id: Id, source: ffmpeg::Error) -> Error {
    Error::Open {
        what: format!("{} decoder", id.name()),
        source,
    }
}
