//! JPEGs of a stream that is not made of them: decoded only while used, newest picture only.

use super::{
    feed::{Feed, Next},
    ring::{Entry, Info},
};
use crate::{
    codec::{self, Decoder, JpegEncoder},
    media::{
        h264,
        sample::{Codec, Format, Sample, Times, Track},
        time::TIMESCALE,
    },
    source::Stop,
    telemetry::Chain,
};
use bytes::Bytes;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// Largest picture and highest rate made for MJPEG viewers, and its quality.
const LARGEST: (u32, u32) = (1280, 720);
const MOST_PER_SECOND: u64 = 10;
const QUALITY: u8 = 75;
/// After this long without another picture the newest one goes out even if one went out just before.
const SETTLED: Duration = Duration::from_millis(40);
/// After this long a silence has begun: the newest picture goes out once more, because browsers paint a part of
/// `multipart/x-mixed-replace` only when the next one begins.
const SILENCE: Duration = Duration::from_millis(250);

/// A feed of JPEGs on the stream's own timeline. The thread ends when the last holder lets go.
#[derive(Debug)]
pub struct JpegFeed {
    feed: Arc<Feed>,
    stop: Stop,
    decoding: Arc<AtomicBool>,
}

impl JpegFeed {
    /// Follows `source` on a thread of its own; pictures are counted in `counts`.
    pub fn start(
        stream: &str,
        source: &Arc<Feed>,
        started_at_us: u64,
        counts: &Arc<codec::Counts>,
    ) -> std::io::Result<Arc<JpegFeed>> {
        let running = Arc::new(JpegFeed {
            feed: Feed::new(started_at_us),
            stop: Stop::default(),
            decoding: Arc::default(),
        });
        let (name, source) = (stream.to_owned(), source.clone());
        let (out, stop, decoding, counts) = (
            running.feed.clone(),
            running.stop.clone(),
            running.decoding.clone(),
            counts.clone(),
        );
        thread::Builder::new()
            .name(format!("jpeg {stream}"))
            .spawn(move || {
                // Made here because a scaler stays on its thread.
                let worker = Worker {
                    stream: name,
                    out,
                    stop,
                    decoding,
                    counts,
                    told: Told::default(),
                    codec: None,
                    jpeg: None,
                    next_due: 0,
                    newest: None,
                    last: None,
                };
                worker.run(&source);
            })?;
        Ok(running)
    }

    /// The JPEGs.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Whether pictures are really decoded; those that come as JPEG are passed on.
    pub fn is_decoding(&self) -> bool {
        self.decoding.load(Ordering::Relaxed)
    }
}

impl Drop for JpegFeed {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// What was logged already: the first of a kind says enough.
#[derive(Default)]
struct Told {
    decode: bool,
    encode: bool,
}

struct Worker {
    stream: String,
    out: Arc<Feed>,
    stop: Stop,
    decoding: Arc<AtomicBool>,
    counts: Arc<codec::Counts>,
    told: Told,
    codec: Option<Decoder>,
    jpeg: Option<JpegEncoder>,
    /// The decode time before which no further JPEG is made.
    next_due: u64,
    /// Times of what was fed last, while no JPEG was made since; by them a decoded picture is placed.
    newest: Option<Times>,
    /// What went out last, until it is repeated.
    last: Option<(Times, Bytes)>,
}

impl Worker {
    fn run(mut self, source: &Arc<Feed>) {
        self.stop.attach();
        let reader = source.reader();
        let (mut position, info) = reader.start(0, 1);
        if let Some(info) = info {
            self.configure(&info);
        }
        while !self.stop.is_stopped() {
            match reader.next(position, 0) {
                Next::Entry(entry, _) => {
                    position += 1;
                    let caught_up = position == reader.end();
                    self.take(entry, caught_up);
                }
                Next::Lost(on, info) => {
                    position = on;
                    if let Some(info) = info {
                        self.configure(&info);
                    }
                }
                // The last picture before a silence goes out too, however early it came.
                Next::Wait if self.newest.is_some() => {
                    thread::park_timeout(SETTLED);
                    if position == reader.end() {
                        self.next_due = 0;
                        self.emit();
                        self.newest = None;
                    }
                }
                Next::Wait if self.last.is_some() => {
                    thread::park_timeout(SILENCE);
                    if position == reader.end() {
                        self.repeat();
                    }
                }
                Next::Wait => thread::park(),
            }
        }
    }

    fn take(&mut self, entry: Entry, caught_up: bool) {
        match entry {
            Entry::Configure(info) => self.configure(&info),
            Entry::Stop(reason) => self.out.publish(Entry::Stop(reason)),
            Entry::Sample(sample) if sample.codec() == Codec::Jpeg => {
                self.out.publish(Entry::Sample(sample))
            }
            Entry::Sample(sample) => {
                self.decode(&sample);
                if caught_up {
                    self.emit();
                }
            }
        }
    }

    fn configure(&mut self, info: &Info) {
        self.decoding
            .store(info.track.codec != Codec::Jpeg, Ordering::Relaxed);
        self.codec = None;
        self.last = None;
        if info.track.codec == Codec::Jpeg {
            self.out.publish(Entry::Configure(Arc::new(info.clone())));
            return;
        }
        match Decoder::h264() {
            Ok(mut decoder) => {
                let sets = h264::avcc::DecoderConfig::parse(&info.track.config)
                    .map(|config| [config.sps, config.pps].concat())
                    .unwrap_or_default();
                // No picture comes of parameter sets alone, which some versions of libavcodec call an error.
                let _ = decoder.decode(&h264::annexb::join(&sets), 0);
                self.codec = Some(decoder.counted(&self.counts));
            }
            Err(error) => tracing::error!(
                stream = self.stream,
                "no decoder for JPEGs: {}",
                Chain(&error)
            ),
        }
        let (width, height) = fit(info.track.width, info.track.height);
        self.out.publish(Entry::Configure(Arc::new(Info {
            started_at: info.started_at,
            epoch: info.epoch,
            track: Track {
                id: info.track.id,
                codec: Codec::Jpeg,
                codec_string: String::new(),
                config: Bytes::new(),
                width,
                height,
                frame_rate: match info.track.frame_rate {
                    rate if rate > 0.0 => rate.min(MOST_PER_SECOND as f32),
                    _ => 0.0,
                },
                keyframe_ms: 0,
            },
        })));
    }

    fn decode(&mut self, sample: &Sample) {
        let (Some(decoder), Some(data)) = (&mut self.codec, sample.packaged(Format::H264AnnexB))
        else {
            return;
        };
        let shown = i64::try_from(sample.decode_time).unwrap_or(i64::MAX)
            + i64::from(sample.composition_offset);
        if let Err(error) = decoder.decode(&data, shown)
            && !std::mem::replace(&mut self.told.decode, true)
        {
            tracing::warn!(
                stream = self.stream,
                "a picture could not be decoded: {}",
                Chain(&error)
            );
        }
        self.newest = Some(sample.times());
    }

    /// Makes a JPEG of the newest decoded picture, unless one was made just before.
    fn emit(&mut self) {
        let (Some(decoder), Some(times)) = (&mut self.codec, self.newest) else {
            return;
        };
        if times.decode_time < self.next_due {
            return;
        }
        let Some(frame) = decoder.newest() else {
            return;
        };
        let encoder = match &mut self.jpeg {
            Some(encoder) => encoder,
            None => match JpegEncoder::new() {
                Ok(encoder) => self.jpeg.insert(encoder.counted(&self.counts)),
                Err(error) => {
                    if !std::mem::replace(&mut self.told.encode, true) {
                        tracing::error!(stream = self.stream, "no JPEG encoder: {}", Chain(&error));
                    }
                    return;
                }
            },
        };
        match encoder.encode(&frame, QUALITY, LARGEST.0, LARGEST.1) {
            Ok(data) => {
                let step = u64::from(TIMESCALE) / MOST_PER_SECOND;
                // Due on a grid, so that 30 a second become 10 and not 7.5; a little early is on time.
                self.next_due = times.decode_time - times.decode_time % step + step - step / 8;
                let times = Times {
                    composition_offset: 0,
                    duration: u32::try_from(step).unwrap_or(0),
                    ..times
                };
                self.newest = None;
                self.last = Some((times, data.clone()));
                self.out
                    .publish(Entry::Sample(Arc::new(Sample::jpeg(times, data))));
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told.encode, true) {
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

impl Worker {
    fn repeat(&mut self) {
        if let Some((times, data)) = self.last.take() {
            let times = Times {
                decode_time: times.decode_time + 1,
                ..times
            };
            self.out
                .publish(Entry::Sample(Arc::new(Sample::jpeg(times, data))));
        }
    }
}

/// The size of the JPEGs of a picture: as it is, or smaller with the same shape.
fn fit(width: u32, height: u32) -> (u32, u32) {
    codec::fit(width, height, LARGEST.0, LARGEST.1)
}
