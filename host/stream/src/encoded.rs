//! The H.264 transcoder of a stream: encodes decoded frames for a rendition, or for a source that delivers another
//! codec.
//!
//! A keyframe is made wherever the source has one, so that groups are equal in all renditions and viewers can switch
//! between them. The input comes from `catchup`: the past first, then the shared decoder. If settings change or the
//! encoder fails, a new encoder is opened and the tracks are announced again. `transcoders` runs it on a thread per
//! recipe.

use super::{
    catchup::EncoderInput,
    feed::Feed,
    frames::{Decoded, Event},
    info::Info,
    recipe::H264Settings,
    ring::{Entry, GroupNumbers},
    status::Status,
    supervise::{self, Work},
    transcoders::CaughtUp,
};
use sluicegate_codec as codec;
use sluicegate_codec::{Colour, Encoder, Scaler, Settings};
use sluicegate_media::{
    h264::{access_unit::Assembler, annexb},
    sample::{Sample, Times, Video},
    time::{FrameRateLimiter, TIMESCALE},
};
use sluicegate_source::{Keyframes, Stop};
use sluicegate_telemetry::{Chain, Panicked};
use std::{sync::Arc, thread};

/// Encodes `input` and publishes the samples in `out` until it is stopped. Sets `caught_up` once the past is encoded.
pub(super) fn run(
    input: EncoderInput,
    encoding: H264Settings,
    out: &Feed,
    status: &Status,
    keyframes: &Keyframes,
    caught_up: &CaughtUp,
    stop: &Stop,
) {
    let mut worker = Worker {
        input,
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
    input: EncoderInput,
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
        let next = self.input.next();
        if next.is_none() || self.input.is_live() {
            self.caught_up.reached(self.out);
        }
        match next {
            Some(Event::Configure(info)) => self.configure(info),
            Some(Event::Stop(reason)) => {
                self.announced = false;
                self.out.publish(Entry::Stop(reason));
            }
            Some(Event::Frame(decoded)) => {
                if let Err(error) = self.encode(&decoded) {
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
        self.input.abandon_past();
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

    fn encode(&mut self, decoded: &Decoded) -> Result<(), codec::Error> {
        let Some(source) = self.source.clone() else {
            return Ok(());
        };
        let Some(video) = &source.video else {
            return Ok(());
        };
        // Renditions have their groups where the source has them, so that a viewer can switch between them.
        let keyframe = self.numbers.keyframe(decoded.time);
        let starts_group = keyframe != self.keyframe;
        let due = self.frame_rate_limiter.as_ref();
        if due.is_some_and(|frame_rate_limiter| !frame_rate_limiter.is_due(decoded.time))
            && !starts_group
        {
            return Ok(());
        }
        let settings = self
            .encoding
            .settings(video, decoded.frame.display_size())?;
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
            frame_rate_limiter.passed(decoded.time);
        }
        let view = self.scaler.convert(
            &decoded.frame,
            settings.width,
            settings.height,
            Colour::VIDEO,
        )?;
        let force = self.keyframes.take() || starts_group || !self.announced;
        self.keyframe = keyframe;
        let time = i64::try_from(decoded.time).unwrap_or(i64::MAX);
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
                        ..sets.video(settings.frame_rate as f32)
                    }),
                    audio: None,
                    coding: None,
                })));
                self.announced = true;
            }
            let times = Times {
                decode_time: u64::try_from(packet.pts).unwrap_or(decoded.time),
                composition_offset: 0,
                duration: TIMESCALE / settings.frame_rate,
                captured_at: decoded.captured_at,
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
