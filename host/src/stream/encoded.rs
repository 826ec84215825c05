//! H.264 made of a stream's pictures: renditions, and streams whose source gives something else.

use super::{
    feed::Feed,
    frames::{Decoded, Event, Follower},
    ingest,
    ring::{Entry, Info},
    status::Status,
};
use crate::{
    codec::{self, Colour, Encoder, Scaler, Settings},
    config,
    media::{
        h264::{access_unit::Assembler, annexb},
        sample::{Codec, Sample, Times},
        time::{Cadence, TIMESCALE},
    },
    source::{Keyframes, Stop},
    telemetry::Chain,
};
use std::{sync::Arc, thread, time::Duration};

/// The keyframe interval of an encoder that makes keyframes where the source does.
const AS_SOURCE: config::Span = config::Span::from_duration(Duration::from_secs(600));
/// The rate that the rate control counts on where the source names none.
const LIKELY_RATE: u32 = 25;

/// How pictures are to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// What the config says of the stream; its size, and its rate if `frame_rate` is there, do not count.
    pub encode: config::Encode,
    /// Pixels at most; the shape stays.
    pub max_width: u32,
    /// Pixels at most; the shape stays.
    pub max_height: u32,
    /// Pictures a second at most; `None`: as the source.
    pub frame_rate: Option<u32>,
    /// From one keyframe to the next at most; `None`: keyframes are where the source has them, and if it has nothing
    /// else, as `encode` says.
    pub keyframe_interval: Option<config::Span>,
}

/// Encodes the pictures of `follower` and publishes them in `out`, until told to stop.
pub(super) fn run(
    follower: &Follower,
    encoding: Encoding,
    out: &Feed,
    status: &Status,
    keyframes: &Keyframes,
    stop: &Stop,
) {
    let mut worker = Worker {
        encoding,
        out,
        status,
        keyframes,
        source: None,
        encoder: None,
        scaler: Scaler::new(),
        assembler: Assembler::default(),
        announced: false,
        cadence: encoding.frame_rate.map(Cadence::new),
    };
    while !stop.is_stopped() {
        match follower.next() {
            Some(Event::Configure(info)) => worker.configure(info),
            Some(Event::Stop(reason)) => {
                worker.announced = false;
                out.publish(Entry::Stop(reason));
            }
            Some(Event::Picture(picture)) => {
                if let Err(error) = worker.encode(&picture) {
                    worker.encoder = None;
                    status.note(
                        "encoder",
                        format!("a picture is left out: {}", Chain(&error)),
                    );
                }
            }
            None => thread::park(),
        }
    }
}

struct Worker<'a> {
    encoding: Encoding,
    out: &'a Feed,
    status: &'a Status,
    keyframes: &'a Keyframes,
    source: Option<Arc<Info>>,
    encoder: Option<(Encoder, Settings)>,
    scaler: Scaler,
    assembler: Assembler,
    /// Viewers know the tracks.
    announced: bool,
    /// Where the rate is limited.
    cadence: Option<Cadence>,
}

impl Worker<'_> {
    fn configure(&mut self, info: Arc<Info>) {
        self.source = Some(info);
        self.encoder = None;
        self.announced = false;
    }

    fn encode(&mut self, picture: &Decoded) -> Result<(), codec::Error> {
        let Some(source) = self.source.clone() else {
            return Ok(());
        };
        // With the source's groups go the renditions', so that a viewer may change between them.
        let starts_group = picture.independent && source.track.codec != Codec::Jpeg;
        let due = self.cadence.as_ref();
        if due.is_some_and(|cadence| !cadence.is_due(picture.time)) && !starts_group {
            return Ok(());
        }
        let settings = self.encoding.settings(&source, picture)?;
        if self
            .encoder
            .as_ref()
            .is_none_or(|(_, old)| *old != settings)
        {
            self.encoder = Some((
                Encoder::new(settings)?.counted(&self.status.codec),
                settings,
            ));
            self.assembler = Assembler::default();
            self.announced = false;
        }
        let Some((encoder, _)) = &mut self.encoder else {
            return Ok(());
        };
        if let Some(cadence) = &mut self.cadence {
            cadence.passed(picture.time);
        }
        let view = self.scaler.convert(
            &picture.frame,
            settings.width,
            settings.height,
            Colour::VIDEO,
        )?;
        let force = self.keyframes.take() || starts_group || !self.announced;
        let time = i64::try_from(picture.time).unwrap_or(i64::MAX);
        for packet in encoder.encode(view, time, force)? {
            for nal in annexb::split(&packet.data) {
                // The picture before ended with its packet.
                let _ = self.assembler.push(nal);
            }
            let Some(unit) = self.assembler.flush() else {
                continue;
            };
            if let Some(sets) = self.assembler.parameter_sets()
                && !self.announced
            {
                let mut track = ingest::track(sets, settings.frame_rate as f32);
                track.id = source.track.id;
                self.out.publish(Entry::Configure(Arc::new(Info {
                    started_at: source.started_at,
                    epoch: source.epoch,
                    track,
                })));
                self.announced = true;
            }
            let times = Times {
                decode_time: u64::try_from(packet.pts).unwrap_or(picture.time),
                composition_offset: 0,
                duration: TIMESCALE / settings.frame_rate,
                captured_at: picture.captured_at,
            };
            self.out.publish(Entry::Sample(Arc::new(Sample::h264(
                times,
                unit.start.is_some(),
                unit.nals,
            ))));
        }
        if let Some(error) = self.assembler.take_error() {
            self.status.note("encoder", error.to_string());
        }
        Ok(())
    }
}

impl Encoding {
    fn settings(&self, source: &Info, picture: &Decoded) -> Result<Settings, codec::Error> {
        let (width, height) = codec::fit(
            picture.frame.width(),
            picture.frame.height(),
            self.max_width,
            self.max_height,
        );
        let native = match source.track.frame_rate {
            rate if rate >= 1.0 => Some((rate.round() as u32).min(240)),
            _ => None,
        };
        let frame_rate = match (self.frame_rate, native) {
            (Some(most), Some(native)) => most.min(native),
            (Some(rate), None) | (None, Some(rate)) => rate,
            (None, None) => LIKELY_RATE,
        };
        let keyframe_interval = match self.keyframe_interval {
            Some(interval) => interval,
            None if source.track.codec == Codec::Jpeg => self.encode.keyframe_interval,
            None => AS_SOURCE,
        };
        Settings::of(&config::Encode {
            width,
            height,
            frame_rate,
            keyframe_interval,
            ..self.encode
        })
    }
}
