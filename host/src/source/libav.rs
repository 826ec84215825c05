//! Files and URLs through libavformat.

use super::{Sink, SourceError, SourceTimes, Stop, spec::Spec};
use crate::media::{h264, time::rescale};
use bytes::Bytes;
use ffmpeg_next::{self as ffmpeg, Dictionary, codec, format, media, packet};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A network source that says nothing this long is taken for lost.
const SILENCE: Duration = Duration::from_secs(10);
/// A gap in a file's times that is not waited for.
const LEAP: Duration = Duration::from_secs(30);
/// Largest packet that is believed.
const LARGEST_PACKET: usize = 64 << 20;

/// Streams a file in real time, again and again, on one rising timeline.
pub fn run_file(path: &Path, sink: &mut dyn Sink, stop: &Stop) -> Result<(), SourceError> {
    let what = format!("file:{}", path.display());
    let mut pace = Pace::default();
    loop {
        let mut input = Input::open(&what, &path.to_string_lossy(), Dictionary::new(), stop)?;
        let mut sent = 0u64;
        while let Some(packet) = input.next(sink)? {
            if stop.is_stopped() {
                return Ok(());
            }
            pace.wait(
                packet.times.decode.or(packet.times.presentation),
                packet.times.duration,
                stop,
            );
            packet.deliver(sink);
            sent += 1;
        }
        if stop.is_stopped() {
            return Ok(());
        }
        if sent == 0 {
            return Err(SourceError::Open {
                what,
                reason: "it holds no picture".into(),
            });
        }
        sink.loops();
        pace.loops();
    }
}

/// Streams whatever libavformat opens at `url`; RTSP over TCP.
pub fn run_url(url: &str, sink: &mut dyn Sink, stop: &Stop) -> Result<(), SourceError> {
    let what = Spec::Url(url.into()).to_string();
    let mut options = Dictionary::new();
    options.set("rtsp_transport", "tcp");
    options.set("analyzeduration", "1500000");
    // Else twenty pictures are waited for, to guess a rate that the SPS tells. What is read while opening is kept, as
    // the first keyframe is in it (`nobuffer` would lose it).
    options.set("fpsprobesize", "0");
    let mut input = Input::open(&what, url, options, stop)?;
    while let Some(packet) = input.next(sink)? {
        packet.deliver(sink);
    }
    if stop.is_stopped() {
        Ok(())
    } else {
        Err(SourceError::Ended(what))
    }
}

/// Keeps a file at the speed it was made for.
#[derive(Default)]
struct Pace {
    /// When the packet of that time is due.
    anchor: Option<(Instant, i64)>,
    last: i64,
    step: i64,
    /// When the next packet is due, whatever its time: the file has begun again.
    restart: Option<Instant>,
}

impl Pace {
    fn wait(&mut self, ticks: Option<i64>, duration: u32, stop: &Stop) {
        let ticks = ticks.unwrap_or(self.last + self.step);
        let now = Instant::now();
        if let Some(restart) = self.restart.take() {
            self.anchor = Some((restart, ticks));
        }
        let (start, zero) = *self.anchor.get_or_insert((now, ticks));
        if duration > 0 {
            self.step = i64::from(duration);
        } else if ticks > self.last {
            self.step = ticks - self.last;
        }
        self.last = ticks;
        let due = start + after(ticks - zero);
        // A leap in the file's times is not waited for.
        if due > now + LEAP {
            self.anchor = Some((now, ticks));
        } else {
            stop.wait_until(due);
        }
    }

    /// The file begins again: its first packet follows the last one's duration.
    fn loops(&mut self) {
        self.restart = self
            .anchor
            .map(|(start, zero)| start + after(self.last + self.step - zero));
    }
}

/// Ticks as a duration; none if negative.
fn after(ticks: i64) -> Duration {
    let ticks = u64::try_from(ticks).unwrap_or(0);
    Duration::from_micros(ticks.saturating_mul(100) / 9)
}

struct Input {
    what: String,
    context: format::context::Input,
    index: usize,
    time_base: ffmpeg::Rational,
    coding: Coding,
    deadline: Arc<Deadline>,
}

/// How packets are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Coding {
    Avcc { length_size: u8 },
    AnnexB,
    Jpeg,
}

struct Packet {
    body: Body,
    times: SourceTimes,
}

enum Body {
    Nals(Vec<Bytes>),
    Jpeg(Bytes),
}

impl Packet {
    fn deliver(self, sink: &mut dyn Sink) {
        match self.body {
            Body::Nals(nals) => sink.access_unit(nals, self.times),
            Body::Jpeg(data) => sink.jpeg(data, self.times),
        }
    }
}

impl Input {
    fn open(what: &str, url: &str, options: Dictionary, stop: &Stop) -> Result<Input, SourceError> {
        let fail = |reason: String| SourceError::Open {
            what: what.to_owned(),
            reason,
        };
        crate::codec::init();
        let deadline = Arc::new(Deadline::new());
        let (watch, stopped) = (deadline.clone(), stop.clone());
        let context = format::input_with_interrupt_and_dictionary(
            url,
            move || stopped.is_stopped() || watch.passed(),
            options,
        )
        .map_err(|error| fail(deadline.explain(&error)))?;
        let stream = context
            .streams()
            .best(media::Type::Video)
            .ok_or_else(|| fail("it has no video track".into()))?;
        let parameters = stream.parameters();
        let mut input = Input {
            what: what.to_owned(),
            index: stream.index(),
            time_base: stream.time_base(),
            coding: Coding::AnnexB,
            deadline,
            context,
        };
        input.coding = match parameters.id() {
            codec::Id::H264 => Coding::AnnexB,
            codec::Id::MJPEG => Coding::Jpeg,
            other => {
                return Err(fail(format!(
                    "its video is {other:?}; this version takes H.264 and MJPEG"
                )));
            }
        };
        Ok(input)
    }

    /// Reads the configuration again: at the start, and where a packet brings a new one.
    fn configure(&mut self, extradata: &Bytes, sink: &mut dyn Sink) -> Result<(), SourceError> {
        if self.coding == Coding::Jpeg || extradata.is_empty() {
            return Ok(());
        }
        if extradata.first() == Some(&1) {
            let config = h264::avcc::DecoderConfig::parse(extradata)
                .map_err(|error| self.failed(error.to_string()))?;
            self.coding = Coding::Avcc {
                length_size: config.length_size,
            };
            sink.parameter_sets(config.sps.into_iter().chain(config.pps).collect());
        } else {
            sink.parameter_sets(h264::annexb::split(extradata));
        }
        Ok(())
    }

    fn failed(&self, reason: String) -> SourceError {
        SourceError::Read {
            what: self.what.clone(),
            reason,
        }
    }

    /// The next packet of the video track; `None` at the end or when told to stop.
    fn next(&mut self, sink: &mut dyn Sink) -> Result<Option<Packet>, SourceError> {
        if !sink.is_configured() {
            let config = self.context.stream(self.index).map(|stream| {
                (
                    crate::codec::extradata(&stream.parameters()),
                    stream.avg_frame_rate(),
                )
            });
            if let Some((extradata, rate)) = config {
                sink.configured(f64::from(rate) as f32);
                self.configure(&extradata, sink)?;
            }
        }
        loop {
            self.deadline.extend();
            let mut packet = packet::Packet::empty();
            match packet.read(&mut self.context) {
                Ok(()) => {}
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Exit) if !self.deadline.passed() => {
                    return Ok(None);
                }
                Err(error) => return Err(self.failed(self.deadline.explain(&error))),
            }
            if packet.stream() != self.index {
                continue;
            }
            let Some(data) = packet.data().filter(|data| !data.is_empty()) else {
                continue;
            };
            if data.len() > LARGEST_PACKET {
                return Err(self.failed(format!(
                    "a packet of {} bytes is more than is believed",
                    data.len()
                )));
            }
            let data = Bytes::copy_from_slice(data);
            let renewed = packet
                .side_data()
                .find(|side| side.kind() == packet::side_data::Type::NewExtraData)
                .map(|side| Bytes::copy_from_slice(side.data()));
            if let Some(extradata) = renewed {
                self.configure(&extradata, sink)?;
            }
            let base = (self.time_base.numerator(), self.time_base.denominator());
            let ticks = |value: i64| rescale(value, base.0, base.1);
            let times = SourceTimes {
                decode: packet.dts().map(ticks),
                presentation: packet.pts().map(ticks),
                duration: u32::try_from(ticks(packet.duration())).unwrap_or(0),
            };
            let body = match self.coding {
                Coding::Jpeg => Body::Jpeg(data),
                Coding::AnnexB => Body::Nals(h264::annexb::split(&data)),
                Coding::Avcc { length_size } => match h264::avcc::split(&data, length_size) {
                    Ok(nals) => Body::Nals(nals),
                    Err(error) => {
                        tracing::debug!("{}: a broken packet is left out: {error}", self.what);
                        sink.damaged();
                        continue;
                    }
                },
            };
            return Ok(Some(Packet { body, times }));
        }
    }
}

/// When a blocking call in libavformat is given up.
struct Deadline {
    start: Instant,
    at_ms: AtomicU64,
}

impl Deadline {
    fn new() -> Deadline {
        let deadline = Deadline {
            start: Instant::now(),
            at_ms: AtomicU64::new(0),
        };
        deadline.extend();
        deadline
    }

    fn extend(&self) {
        let at = self.start.elapsed() + SILENCE;
        self.at_ms.store(
            u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    fn passed(&self) -> bool {
        self.start.elapsed().as_millis() >= u128::from(self.at_ms.load(Ordering::Relaxed))
    }

    fn explain(&self, error: &ffmpeg::Error) -> String {
        if self.passed() {
            format!("nothing came for {} s", SILENCE.as_secs())
        } else {
            error.to_string()
        }
    }
}
