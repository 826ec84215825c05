//! Decoding for who wants the newest picture: low delay, one thread, one picture kept.

use ffmpeg::codec::{self, Id, threading};
use ffmpeg::{Dictionary, Rational};
use ffmpeg_next as ffmpeg;

use super::{Counts, Error, Frame, TIME_BASE, init, is_dry};
use std::sync::{Arc, atomic::Ordering};

/// The longest access unit that is taken.
const MAX_BYTES: usize = 64 << 20;
/// The largest picture that is decoded, in pixels: what a stream says of itself is not believed beyond this.
const MAX_PIXELS: &str = "67108864";

/// A video decoder. 1 to 2 ms a picture for H.264 at 1280×720.
pub struct Decoder {
    decoder: codec::decoder::Video,
    newest: Option<Frame>,
    counts: Arc<Counts>,
}

impl Decoder {
    /// For H.264 in Annex B. Parameter sets come with the access units, or before the first as one of their own.
    pub fn h264() -> Result<Self, Error> {
        Self::new(Id::H264)
    }

    /// For JPEGs, one in each access unit.
    pub fn mjpeg() -> Result<Self, Error> {
        Self::new(Id::MJPEG)
    }

    /// For any codec libavcodec has, without anything said outside of the access units.
    pub fn new(id: Id) -> Result<Self, Error> {
        Self::open(id, codec::Context::new())
    }

    /// For what a demuxer found: codec, size, extradata.
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
        // MPEG-1, -2 and -4 would give pictures in the order of decoding.
        if id == Id::H264 {
            context.set_flags(codec::Flags::LOW_DELAY);
        }
        // Frame threads hold back a picture each; slice threads are of no use to most cameras' streams.
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

    /// From here on its pictures and failures are counted there.
    pub fn counted(mut self, counts: &Arc<Counts>) -> Self {
        self.counts = counts.clone();
        self
    }

    /// Decodes one access unit whose picture is shown at `pts` (90 kHz), and keeps the newest picture that comes
    /// out, in the order of showing: with B-frames in the stream that may be an earlier one.
    ///
    /// An error is about this access unit; the next may be given all the same. Damage that did not keep a picture
    /// from coming out is said by [`Frame::is_corrupt`].
    pub fn decode(&mut self, access_unit: &[u8], pts: i64) -> Result<(), Error> {
        let mut newest = None;
        let result = self.decode_each(access_unit, pts, |frame| newest = Some(frame));
        if newest.is_some() {
            self.newest = newest;
        }
        result
    }

    /// As [`Decoder::decode`], but hands every picture that comes out to `take`, for who needs them all.
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

    /// As [`Decoder::decode_each`], of a packet as libav has it, whose times are in 90 kHz if it has any.
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

    /// The newest picture since the last call, if there is one.
    pub fn newest(&mut self) -> Option<Frame> {
        self.newest.take()
    }

    /// Lets out what is held back for reordering, as at the end of a file, and makes ready for another stream's
    /// start. [`Decoder::newest`] then is the last picture.
    pub fn drain(&mut self) -> Result<(), Error> {
        let mut newest = None;
        let result = self.drain_each(|frame| newest = Some(frame));
        if newest.is_some() {
            self.newest = newest;
        }
        result
    }

    /// As [`Decoder::drain`], but hands every picture that comes out to `take`.
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

    /// Forgets all pictures, as after a gap: decoding goes on at the next keyframe.
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
                Err(error) if is_dry(error) => return Ok(()),
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
