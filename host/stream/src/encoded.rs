//! The H.264 transcoder of a stream: encodes decoded frames for a rendition, or for a source that delivers
//! another codec.
//!
//! A keyframe is made wherever the source has one, so that groups are equal in all renditions and viewers can
//! switch between them. The input comes from `catchup`: the past first, then the shared decoder. If settings
//! change or the encoder fails, a new encoder is opened and the tracks are announced again. `transcoders`
//! runs it on a thread per recipe.

use super::{
    catchup::Pictures,
    feed::Feed,
    frames::{Decoded, Event},
    ingest,
    ring::{Entry, GroupNumbers, Info},
    status::Status,
    supervise::{self, Work},
    transcoders::CaughtUp,
};
use sluicegate_codec as codec;
use sluicegate_codec::{Colour, Encoder, Scaler, Settings};
use sluicegate_config as config;
use sluicegate_media::{
    h264::{access_unit::Assembler, annexb},
    sample::{Codec, Sample, Times, Video},
    time::{FrameRateLimiter, TIMESCALE},
};
use sluicegate_source::{Keyframes, Stop};
use sluicegate_telemetry::{Chain, Panicked};
use std::{sync::Arc, thread, time::Duration};

/// Keyframe interval of an encoder that makes keyframes only where the source does.
const AS_SOURCE: config::Span = config::Span::from_duration(Duration::from_secs(600));
/// Frame rate assumed for rate control if the source declares none.
const ASSUMED_FRAME_RATE: u32 = 25;

/// Settings of an H.264 transcoder, as limits that depend on the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct H264Settings {
    /// Encoder settings of the stream's config. Its size is not used, nor its rate if `frame_rate` is set.
    pub encode: config::Encode,
    /// Maximum width in pixels; the aspect ratio is kept.
    pub max_width: u32,
    /// Maximum height in pixels; the aspect ratio is kept.
    pub max_height: u32,
    /// Maximum frames per second; `None` for the rate of the source.
    pub frame_rate: Option<u32>,
    /// Longest time between keyframes. Independently of it, there are keyframes where the source has them, or
    /// in each keyframe interval of `encode` if the source has only keyframes.
    pub keyframe_interval: Option<config::Span>,
}

/// Encodes `pictures` and publishes the samples in `out` until it is stopped. Sets `caught_up` once the past is
/// encoded.
pub(super) fn run(
    pictures: Pictures,
    encoding: H264Settings,
    out: &Feed,
    status: &Status,
    keyframes: &Keyframes,
    caught_up: &CaughtUp,
    stop: &Stop,
) {
    let mut worker = Worker {
        pictures,
        encoding,
        caught_up,
        out,
        status,
        keyframes,
        source: None,
        numbers: out.numbers(),
        keyframe: None,
        encoder: None,
        scaler: Scaler::new(),
        assembler: Assembler::default(),
        announced: false,
        frame_rate_limiter: encoding.frame_rate.map(FrameRateLimiter::new),
    };
    supervise::run(&mut worker, status, stop);
}

struct Worker<'a> {
    pictures: Pictures,
    encoding: H264Settings,
    caught_up: &'a CaughtUp,
    out: &'a Feed,
    status: &'a Status,
    keyframes: &'a Keyframes,
    source: Option<Arc<Info>>,
    numbers: GroupNumbers,
    /// Keyframe of the source that the newest frame belonged to.
    keyframe: Option<u64>,
    encoder: Option<(Encoder, Settings)>,
    scaler: Scaler,
    assembler: Assembler,
    /// Whether viewers know the tracks.
    announced: bool,
    /// Limits the frame rate.
    frame_rate_limiter: Option<FrameRateLimiter>,
}

impl Work for Worker<'_> {
    const PART: &'static str = "encode";
    const FAULT: &'static str = "encode-fault";

    fn step(&mut self) {
        let next = self.pictures.next();
        if next.is_none() || self.pictures.is_live() {
            self.caught_up.reached(self.out);
        }
        match next {
            Some(Event::Configure(info)) => self.configure(info),
            Some(Event::Stop(reason)) => {
                self.announced = false;
                self.out.publish(Entry::Stop(reason));
            }
            Some(Event::Picture(picture)) => {
                if let Err(error) = self.encode(&picture) {
                    self.encoder = None;
                    self.status.note(
                        "encoder",
                        format!(
                            "a frame could not be encoded and is dropped: {}",
                            Chain(&error)
                        ),
                    );
                }
            }
            None => thread::park(),
        }
    }

    fn recover(&mut self, _: &Panicked) {
        self.pictures.abandon_past();
        self.encoder = None;
        self.scaler = Scaler::new();
        self.announced = false;
    }
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
        let Some(video) = &source.video else {
            return Ok(());
        };
        // Renditions have their groups where the source has them, so that a viewer can switch between them.
        let keyframe = self.numbers.keyframe(picture.time);
        let starts_group = keyframe != self.keyframe;
        let due = self.frame_rate_limiter.as_ref();
        if due.is_some_and(|frame_rate_limiter| !frame_rate_limiter.is_due(picture.time))
            && !starts_group
        {
            return Ok(());
        }
        let settings = self
            .encoding
            .settings(video, picture.frame.display_size())?;
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
        if let Some(frame_rate_limiter) = &mut self.frame_rate_limiter {
            frame_rate_limiter.passed(picture.time);
        }
        let view = self.scaler.convert(
            &picture.frame,
            settings.width,
            settings.height,
            Colour::VIDEO,
        )?;
        let force = self.keyframes.take() || starts_group || !self.announced;
        self.keyframe = keyframe;
        let time = i64::try_from(picture.time).unwrap_or(i64::MAX);
        for packet in encoder.encode(view, time, force)? {
            for nal in annexb::split(&packet.data) {
                // Each access unit ends with its packet, so nothing comes out here.
                let _ = self.assembler.push(nal);
            }
            let Some(unit) = self.assembler.flush() else {
                continue;
            };
            if let Some(sets) = self.assembler.parameter_sets()
                && !self.announced
            {
                self.out.publish(Entry::Configure(Arc::new(Info {
                    started_at: source.started_at,
                    epoch: source.epoch,
                    video: Some(Video {
                        keyframe_ms: self.encoding.keyframe_ms(video),
                        ..ingest::video(sets, settings.frame_rate as f32)
                    }),
                    audio: None,
                    coding: None,
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

impl H264Settings {
    /// Encoder settings for frames of `video` with this display size. May block, see [`Settings::of`].
    pub(super) fn settings(
        &self,
        video: &Video,
        size: (u32, u32),
    ) -> Result<Settings, codec::Error> {
        Settings::of(&self.wanted(video, size))
    }

    /// Like [`H264Settings::settings`], without selecting an encoder.
    pub(super) fn wanted(&self, video: &Video, size: (u32, u32)) -> config::Encode {
        let (width, height) = codec::fit(size.0, size.1, self.max_width, self.max_height);
        let native = match video.frame_rate {
            rate if rate >= 1.0 => Some((rate.round() as u32).min(240)),
            _ => None,
        };
        let frame_rate = match (self.frame_rate, native) {
            (Some(most), Some(native)) => most.min(native),
            (Some(rate), None) | (None, Some(rate)) => rate,
            (None, None) => ASSUMED_FRAME_RATE,
        };
        config::Encode {
            width,
            height,
            frame_rate,
            keyframe_interval: self.keyframe_interval.unwrap_or(AS_SOURCE),
            ..self.encode
        }
    }

    /// Longest distance between keyframes in milliseconds; 0 if it is the source's.
    fn keyframe_ms(&self, video: &Video) -> u32 {
        let cell = (video.codec == Codec::Jpeg).then_some(self.encode.keyframe_interval);
        let both = self.keyframe_interval.into_iter().chain(cell);
        let least = both.map(|interval| interval.duration().as_millis()).min();
        least.map_or(0, |ms| u32::try_from(ms).unwrap_or(u32::MAX))
    }
}
