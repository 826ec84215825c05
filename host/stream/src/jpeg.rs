//! JPEGs made of a stream's pictures: the newest one only, at most so many a second.

use super::{
    feed::Feed,
    frames::{Decoded, Event, Follower},
    ring::{Entry, Info},
    status::Status,
    supervise::{self, Work},
};
use bytes::Bytes;
use sluicegate_codec as codec;
use sluicegate_codec::JpegEncoder;
use sluicegate_media::{
    geometry::Geometry,
    sample::{Codec, Sample, Times, Video},
    time::Cadence,
};
use sluicegate_source::Stop;
use sluicegate_telemetry::{Chain, Panicked};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How JPEGs are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JpegSettings {
    /// Pixels at most; the shape stays.
    pub max_width: u32,
    /// Pixels at most; the shape stays.
    pub max_height: u32,
    /// 1 to 100.
    pub quality: u8,
    /// Pictures a second at most, from 1.
    pub max_per_second: u32,
}

impl Default for JpegSettings {
    /// What MJPEG viewers get who ask for nothing else.
    fn default() -> JpegSettings {
        JpegSettings {
            max_width: 1280,
            max_height: 720,
            quality: 75,
            max_per_second: 10,
        }
    }
}

/// Makes JPEGs of the pictures of `follower` and publishes them in `out`, until told to stop.
pub(super) fn run(
    follower: &Follower,
    look: JpegSettings,
    stream: &str,
    out: &Feed,
    status: &Status,
    stop: &Stop,
) {
    let mut worker = Worker {
        follower,
        look,
        stream,
        out,
        counts: &status.codec,
        told: false,
        encoder: None,
        cadence: Cadence::new(look.max_per_second),
        newest: None,
        due: Instant::now(),
    };
    supervise::run(&mut worker, status, stop);
}

struct Worker<'a> {
    follower: &'a Follower,
    look: JpegSettings,
    stream: &'a str,
    out: &'a Feed,
    counts: &'a Arc<codec::Counts>,
    /// A failure was logged: the first says enough.
    told: bool,
    encoder: Option<JpegEncoder>,
    cadence: Cadence,
    /// What came last, while no JPEG was made since, and when it goes out though one went out just before, if nothing else comes: no
    /// sooner than is promised in any second.
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
            Some(Event::Picture(picture)) => {
                self.newest = Some(picture);
                self.due =
                    Instant::now() + Duration::from_secs(1) / self.look.max_per_second.max(1);
                if self.follower.is_caught_up() {
                    self.emit();
                }
            }
            // The last picture before a silence goes out too, however early it came.
            None if self.newest.is_some() => {
                let now = Instant::now();
                if now < self.due {
                    thread::park_timeout(self.due - now);
                } else {
                    self.cadence.reset();
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
        let (width, height) = codec::fit(width, height, self.look.max_width, self.look.max_height);
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
                    rate if rate > 0.0 => rate.min(self.look.max_per_second as f32),
                    _ => 0.0,
                },
                keyframe_ms: 0,
            }),
            audio: None,
            coding: None,
        })));
    }

    /// Makes a JPEG of the newest picture, unless one was made just before.
    fn emit(&mut self) {
        let Some(picture) = self
            .newest
            .take_if(|newest| self.cadence.is_due(newest.time))
        else {
            return;
        };
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => match JpegEncoder::new() {
                Ok(encoder) => self.encoder.insert(encoder.counted(self.counts)),
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        tracing::error!(stream = self.stream, "no JPEG encoder: {}", Chain(&error));
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
        } = self.look;
        match encoder.encode(&picture.frame, quality, max_width, max_height) {
            Ok(data) => {
                self.cadence.passed(picture.time);
                let times = Times {
                    decode_time: picture.time,
                    composition_offset: 0,
                    duration: u32::try_from(self.cadence.step()).unwrap_or(0),
                    captured_at: picture.captured_at,
                };
                let sample = Sample::jpeg(times, data);
                self.out.publish(Entry::Sample(Arc::new(sample)));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    tracing::warn!(
                        stream = self.stream,
                        "a picture could not be made a JPEG: {}",
                        Chain(&error)
                    );
                }
            }
        }
    }
}
