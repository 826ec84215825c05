//! For tests: an encoded source and its decoded frames, and a video track and sample times where no real frames are
//! needed.

use super::{
    catchup::EncoderInput,
    feed::Feed,
    frames::{Decoded, Event, Frames},
    ingest::Ingest,
    ring::{GroupNumbers, HistorySpan},
    status::Status,
};
use bytes::Bytes;
use sluicegate_codec::{Encoder, Settings};
use sluicegate_media::{
    geometry::Geometry,
    h264::annexb,
    pattern::Painter,
    sample::{Codec, Times, Video},
    time::Moment,
};
use sluicegate_source::{Sink, SourceTimes};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// An H.264 track of 320×192 at 25 frames per second, without a configuration.
pub fn video() -> Video {
    Video {
        codec: Codec::H264,
        codec_string: String::new(),
        config: Bytes::new(),
        width: 320,
        height: 192,
        geometry: Geometry::default(),
        frame_rate: 25.0,
        keyframe_ms: 0,
    }
}

/// Times of a sample with this decode time in ticks.
pub fn times(decode_time: u64) -> Times {
    Times {
        decode_time,
        ..Times::default()
    }
}

/// Duration of a frame at 30 per second, in ticks.
pub const FRAME_TICKS: u64 = 3000;

/// A source of small frames, with a keyframe each second.
pub struct Source {
    pub feed: Arc<Feed>,
    pub status: Arc<Status>,
    ingest: Ingest,
    encoder: Encoder,
    painter: Painter,
    next: u64,
}

impl Source {
    pub fn new() -> Source {
        let feed = Feed::new(GroupNumbers::own(0, Duration::from_secs(1)));
        let status = Arc::new(Status::new("stream", Arc::default()));
        let settings = Settings {
            width: 96,
            height: 64,
            frame_rate: 30,
            bitrate: 100_000,
            keyframe_interval_ms: 1000,
            ..Settings::default()
        };
        Source {
            ingest: Ingest::new(feed.clone(), status.clone(), 0, Box::new(Moment::default)),
            encoder: Encoder::new(settings).unwrap(),
            painter: Painter::new(96, 64).unwrap(),
            feed,
            status,
            next: 0,
        }
    }

    /// Publishes the next `count` frames.
    pub fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let time = (self.next * FRAME_TICKS).cast_signed();
            let view = self.painter.paint(self.next, self.next * 1000 / 30);
            for packet in self.encoder.encode(view, time, false).unwrap() {
                let times = SourceTimes {
                    decode: Some(packet.dts),
                    presentation: Some(packet.pts),
                    duration: 0,
                };
                self.ingest.access_unit(annexb::split(&packet.data), times);
            }
            self.next += 1;
        }
    }

    /// The input of an encoder that begins now, as far back as `past` says.
    pub fn input(&self, past: HistorySpan) -> EncoderInput {
        let frames = Frames::start("stream", &self.feed, self.status.clone()).unwrap();
        let numbers = self.feed.numbers().encoded();
        EncoderInput::new(&self.feed, frames, &numbers, past, &self.status)
    }
}

/// The next frame.
///
/// # Panics
/// There is none within 30 s.
pub fn next_frame(input: &mut EncoderInput) -> Arc<Decoded> {
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        match input.next() {
            Some(Event::Frame(decoded)) => return decoded,
            Some(_) => {}
            None => thread::park_timeout(Duration::from_millis(100)),
        }
    }
    panic!("no frame within 30 s");
}

/// The first `count` decoded frames of a source.
pub fn decoded(count: u64) -> Vec<Arc<Decoded>> {
    let mut source = Source::new();
    source.publish(count);
    let mut input = source.input(HistorySpan {
        group_ms: 500,
        groups: 16,
    });
    (0..count).map(|_| next_frame(&mut input)).collect()
}
