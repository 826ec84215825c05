//! Transcodes any codec that libavcodec decodes to H.264, on the source's own thread and timeline.
//!
//! There is no queue of frames. While encoding is too slow, frames are decoded and dropped; while decoding itself is
//! too slow, packets are dropped up to the next keyframe ([`Backlog`] measures both). `libav::Delivery` calls it for
//! video that is neither H.264 nor MJPEG.

use super::{
    Keyframes, Presentation, Sink, SourceError, SourceTimes,
    backlog::{Backlog, MAX_TIMESTAMP_STEP},
    libav::{Media, Packet},
};
use sluicegate_codec as codec;
use sluicegate_codec::{Colour, Counts, Decoder, Encoder, Frame, Scaler, Settings, WorkMeter, fit};
use sluicegate_config as config;
use sluicegate_media::{
    geometry::Geometry,
    h264::annexb,
    time::{FrameRateLimiter, TIMESCALE, ticks},
};
use sluicegate_telemetry::Chain;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

/// Largest distance between frames in ticks, however far behind processing is: an overload reduces the frame rate but
/// does not stop the video.
const MAX_FRAME_INTERVAL: u64 = TIMESCALE as u64 / 2;

/// Decodes, scales and encodes the video of one track.
pub struct Transcoder {
    what: String,
    settings: Settings,
    counts: Arc<Counts>,
    decoder: Decoder,
    presentation: Presentation,
    scaler: Scaler,
    /// Encoder for frames of `size`.
    encoder: Option<Encoder>,
    size: (u32, u32),
    keyframe_at: i64,
    /// Time of the newest frame that was encoded.
    last_delivered: Option<i64>,
    rate: FrameSelector,
    backlog: Backlog,
    work_meter: WorkMeter,
    /// Packets are being dropped up to a keyframe.
    skipping: bool,
    /// Zero point of arrival times, if those are used as timestamps.
    arrivals: Option<Instant>,
}

impl Transcoder {
    /// A transcoder for the track; its frames are counted in `counts`. The encoder is chosen here and opened with the
    /// first frame, when the size is known.
    pub fn new(
        what: &str,
        media: &Media,
        encode: &config::Encode,
        counts: &Arc<Counts>,
    ) -> Result<Transcoder, SourceError> {
        let fail = |error: codec::Error| SourceError::Open {
            what: what.to_owned(),
            reason: Chain(&error).to_string(),
        };
        let settings = Settings::of(encode).map_err(fail)?;
        Transcoder::with_settings(what, media, settings, counts).map_err(fail)
    }

    fn with_settings(
        what: &str,
        media: &Media,
        settings: Settings,
        counts: &Arc<Counts>,
    ) -> Result<Transcoder, codec::Error> {
        Ok(Transcoder {
            what: what.to_owned(),
            decoder: Decoder::from_parameters(media.parameters.clone())?.counted(counts),
            counts: counts.clone(),
            presentation: media.presentation,
            scaler: Scaler::new(),
            encoder: None,
            size: (0, 0),
            keyframe_at: 0,
            last_delivered: None,
            rate: FrameSelector::new(settings.frame_rate),
            backlog: Backlog::default(),
            work_meter: WorkMeter::default(),
            skipping: false,
            arrivals: (!media.timed).then(Instant::now),
            settings,
        })
    }

    /// Processes one packet and delivers the resulting frames, at most as many per second as configured.
    pub fn packet(
        &mut self,
        packet: &Packet,
        sink: &mut dyn Sink,
        keyframes: &Keyframes,
    ) -> Result<(), SourceError> {
        let began = Instant::now();
        if let Some(at) = packet.times.decode.or(packet.times.presentation) {
            self.backlog.advance(at);
        }
        if packet.packet.is_key() {
            if std::mem::take(&mut self.skipping) {
                self.decoder.reset();
            }
        } else if self.skipping || self.backlog.is_overloaded() {
            self.skipping = true;
            self.note_dropped(sink, "decoding");
            return Ok(());
        }
        let mut frames = Vec::new();
        let presentation = self.presentation;
        let decoded = self.decoder.decode_packet(&packet.packet, |frame| {
            frames.push(with_presentation(frame, presentation));
        });
        if let Err(error) = decoded {
            sink.note("damage", Chain(&error).to_string());
        }
        for frame in frames {
            self.encode_frame(&frame, sink, keyframes)?;
        }
        self.backlog
            .add_work(self.work_meter.count(began.elapsed()));
        Ok(())
    }

    /// Delivers the frames that decoder and encoder still hold.
    pub fn finish(
        &mut self,
        sink: &mut dyn Sink,
        keyframes: &Keyframes,
    ) -> Result<(), SourceError> {
        let mut frames = Vec::new();
        // Damage at the very end does not matter.
        let presentation = self.presentation;
        let _ = self
            .decoder
            .drain_each(|frame| frames.push(with_presentation(frame, presentation)));
        for frame in frames {
            self.encode_frame(&frame, sink, keyframes)?;
        }
        self.end_encoder(sink)
    }

    fn encode_frame(
        &mut self,
        frame: &Frame,
        sink: &mut dyn Sink,
        keyframes: &Keyframes,
    ) -> Result<(), SourceError> {
        if frame.is_corrupt() {
            sink.note("damage", "dropped a damaged frame".into());
            return Ok(());
        }
        let arrival = self
            .arrivals
            .map(|zero| i64::try_from(ticks(zero.elapsed())).unwrap_or(i64::MAX));
        // For files with decode times only, libavcodec sometimes loses the time of the last frame.
        let Some(pts) = arrival.or(frame.pts()).or(self.rate.following()) else {
            sink.note("damage", "dropped a frame without a time stamp".into());
            return Ok(());
        };
        let wanted = self.rate.select(pts);
        if wanted == FrameDecision::No {
            return Ok(());
        }
        // If decoding alone is too slow, the backlog never recovers.
        let recent = |at: i64| at.abs_diff(pts) < MAX_FRAME_INTERVAL;
        if self.backlog.is_late() && self.last_delivered.is_some_and(recent) {
            self.note_dropped(sink, "encoding");
            return Ok(());
        }
        self.last_delivered = Some(pts);
        let (wide, tall) = frame.display_size();
        let size = fit(wide, tall, self.settings.width, self.settings.height);
        if size != self.size || wanted == FrameDecision::Discontinuity {
            self.end_encoder(sink)?;
            self.size = size;
        }
        let what = &self.what;
        let fail = |error: codec::Error| SourceError::Read {
            what: what.clone(),
            reason: Chain(&error).to_string(),
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            empty => {
                self.keyframe_at = pts;
                let (width, height) = size;
                let made = Encoder::new(Settings {
                    width,
                    height,
                    ..self.settings
                });
                empty.insert(made.map_err(fail)?.counted(&self.counts))
            }
        };
        // Keyframes are forced by time, because an encoder counts frames and a source may deliver fewer than
        // configured.
        let interval = i64::from(self.settings.keyframe_interval_ms) * i64::from(TIMESCALE) / 1000;
        let key = keyframes.take() || pts.saturating_sub(self.keyframe_at) >= interval;
        let view = self.scaler.convert(frame, size.0, size.1, Colour::VIDEO);
        let packets = view
            .and_then(|view| encoder.encode(view, pts, key))
            .map_err(fail)?;
        self.deliver(packets, sink);
        Ok(())
    }

    fn note_dropped(&self, sink: &mut dyn Sink, act: &str) {
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        sink.note(
            "behind",
            format!("{act} is slower than the source, so frames are dropped; set a smaller size or frame rate in `encode`"),
        );
    }

    fn end_encoder(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        if let Some(encoder) = self.encoder.take() {
            let packets = encoder.finish().map_err(|error| SourceError::Read {
                what: self.what.clone(),
                reason: Chain(&error).to_string(),
            })?;
            self.deliver(packets, sink);
        }
        Ok(())
    }

    fn deliver(&mut self, packets: Vec<codec::Packet>, sink: &mut dyn Sink) {
        for packet in packets {
            if packet.key {
                self.keyframe_at = packet.pts;
            }
            let times = SourceTimes {
                decode: Some(packet.dts),
                presentation: Some(packet.pts),
                duration: 0,
            };
            sink.access_unit(annexb::split(&packet.data), times);
        }
    }
}

/// The frame with the container's display properties.
fn with_presentation(frame: Frame, presentation: Presentation) -> Frame {
    let coded = frame.geometry();
    frame.with_geometry(Geometry {
        pixel_aspect: presentation.pixel_aspect.unwrap_or(coded.pixel_aspect),
        orientation: presentation.orientation,
    })
}

/// Selects frames: at most a given number per second, with increasing times.
#[derive(Debug)]
struct FrameSelector {
    frame_rate_limiter: FrameRateLimiter,
    zero: i64,
    last: Option<i64>,
    /// Distance between the last two selected frames, in ticks.
    step: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FrameDecision {
    No,
    Yes,
    /// Selected, but its time does not follow the previous one.
    Discontinuity,
}

impl FrameSelector {
    fn new(per_second: u32) -> FrameSelector {
        FrameSelector {
            frame_rate_limiter: FrameRateLimiter::new(per_second),
            zero: 0,
            last: None,
            step: 0,
        }
    }

    /// Expected time of the next frame.
    fn following(&self) -> Option<i64> {
        Some(self.last?.saturating_add(self.step)).filter(|_| self.step > 0)
    }

    fn select(&mut self, at: i64) -> FrameDecision {
        // Small steps back are frames to which libavcodec assigned the times of others.
        let follows = |last: i64| {
            at >= last.saturating_sub(MAX_TIMESTAMP_STEP / 10)
                && at.abs_diff(last) <= MAX_TIMESTAMP_STEP.unsigned_abs()
        };
        let is_discontinuity = self.last.is_none_or(|last| !follows(last));
        if is_discontinuity {
            self.zero = at;
            self.frame_rate_limiter.reset();
        } else if self.last.is_some_and(|last| at <= last) {
            return FrameDecision::No;
        }
        let time = u64::try_from(at.saturating_sub(self.zero)).unwrap_or(0);
        if !self.frame_rate_limiter.is_due(time) {
            return FrameDecision::No;
        }
        self.frame_rate_limiter.passed(time);
        self.step = self
            .last
            .filter(|_| !is_discontinuity)
            .map_or(0, |last| at - last);
        self.last = Some(at);
        if is_discontinuity {
            FrameDecision::Discontinuity
        } else {
            FrameDecision::Yes
        }
    }
}

#[cfg(test)]
mod tests;
