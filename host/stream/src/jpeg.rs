//! The JPEG transcoder of a stream: encodes the newest decoded frame, limited to a rate.
//!
//! It never queues: a frame that arrives while one is encoded replaces the one waiting. The last frame before a silence
//! is always encoded, even if the rate limit delays it, so that viewers are not left with an older one. `transcoders`
//! runs it on a thread per recipe.

use super::{
    feed::Feed,
    frames::{Decoded, Event, Follower},
    info::Info,
    recipe::JpegSettings,
    ring::Entry,
    status::Status,
    supervise::{self, Work},
};
use bytes::Bytes;
use sluicegate_codec as codec;
use sluicegate_codec::JpegEncoder;
use sluicegate_media::{
    geometry::Geometry,
    sample::{Codec, Sample, Times, Video},
    time::FrameRateLimiter,
};
use sluicegate_source::Stop;
use sluicegate_telemetry::{Chain, Panicked};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// Encodes the frames of `follower` and publishes the JPEGs in `out` until it is stopped.
pub(super) fn run(
    follower: &Follower,
    jpeg_settings: JpegSettings,
    stream: &str,
    out: &Feed,
    status: &Status,
    stop: &Stop,
) {
    let mut worker = Worker {
        follower,
        jpeg_settings,
        stream,
        out,
        counts: &status.codec,
        failure_logged: false,
        encoder: None,
        frame_rate_limiter: FrameRateLimiter::new(jpeg_settings.max_per_second),
        newest: None,
        due: Instant::now(),
    };
    supervise::run(&mut worker, status, stop);
}

struct Worker<'a> {
    follower: &'a Follower,
    jpeg_settings: JpegSettings,
    stream: &'a str,
    out: &'a Feed,
    counts: &'a Arc<codec::Counts>,
    /// Whether a failure was logged; further ones are not.
    failure_logged: bool,
    encoder: Option<JpegEncoder>,
    frame_rate_limiter: FrameRateLimiter,
    /// The newest frame that was not encoded, and when it is encoded regardless of the cadence if no other follows:
    /// late enough that the rate limit holds in any second.
    newest: Option<Arc<Decoded>>,
    due: Instant,
}

impl Work for Worker<'_> {
    const PART: &'static str = "jpeg";
    const FAULT: &'static str = "jpeg-fault";

    fn step(&mut self) {
        match self.follower.next() {
            Some(Event::Configure(info)) => self.configure(&info),
            Some(Event::Stop(reason)) => {
                self.newest = None;
                self.out.publish(Entry::Stop(reason));
            }
            Some(Event::Frame(decoded)) => {
                self.newest = Some(decoded);
                self.due = Instant::now()
                    + Duration::from_secs(1) / self.jpeg_settings.max_per_second.max(1);
                if self.follower.is_caught_up() {
                    self.emit();
                }
            }
            // The last frame before a silence is encoded too, however soon it followed the one before.
            None if self.newest.is_some() => {
                let now = Instant::now();
                if now < self.due {
                    thread::park_timeout(self.due - now);
                } else {
                    self.frame_rate_limiter.reset();
                    self.emit();
                    self.newest = None;
                }
            }
            None => thread::park(),
        }
    }

    fn recover(&mut self, _: &Panicked) {
        self.encoder = None;
        self.newest = None;
    }
}

impl Worker<'_> {
    fn configure(&mut self, info: &Info) {
        self.newest = None;
        let Some(video) = &info.video else { return };
        let (width, height) = video.display_size();
        let (width, height) = codec::fit(
            width,
            height,
            self.jpeg_settings.max_width,
            self.jpeg_settings.max_height,
        );
        self.out.publish(Entry::Configure(Arc::new(Info {
            started_at: info.started_at,
            epoch: info.epoch,
            video: Some(Video {
                codec: Codec::Jpeg,
                codec_string: String::new(),
                config: Bytes::new(),
                width,
                height,
                geometry: Geometry::default(),
                frame_rate: match video.frame_rate {
                    rate if rate > 0.0 => rate.min(self.jpeg_settings.max_per_second as f32),
                    _ => 0.0,
                },
                keyframe_ms: 0,
            }),
            audio: None,
            coding: None,
        })));
    }

    /// Encodes the newest frame, unless the rate limit forbids it for now.
    fn emit(&mut self) {
        let Some(decoded) = self
            .newest
            .take_if(|newest| self.frame_rate_limiter.is_due(newest.time))
        else {
            return;
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => match JpegEncoder::new() {
                Ok(encoder) => self.encoder.insert(encoder.counted(self.counts)),
                Err(error) => {
                    if !std::mem::replace(&mut self.failure_logged, true) {
                        tracing::error!(
                            stream = self.stream,
                            "cannot create a JPEG encoder: {}",
                            Chain(&error)
                        );
                    }
                    return;
                }
            },
        };
        let JpegSettings {
            max_width,
            max_height,
            quality,
            ..
        } = self.jpeg_settings;
        match encoder.encode(&decoded.frame, quality, max_width, max_height) {
            Ok(data) => {
                self.frame_rate_limiter.passed(decoded.time);
                let times = Times {
                    decode_time: decoded.time,
                    composition_offset: 0,
                    duration: u32::try_from(self.frame_rate_limiter.step()).unwrap_or(0),
                    captured_at: decoded.captured_at,
                };
                let sample = Sample::jpeg(times, data);
                self.out.publish(Entry::Sample(Arc::new(sample)));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failure_logged, true) {
                    tracing::warn!(
                        stream = self.stream,
                        "a frame could not be encoded as JPEG: {}",
                        Chain(&error)
                    );
                }
            }
        }
    }
}
