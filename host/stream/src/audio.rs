//! The audio transcoder of a stream: converts any audio to AAC for transports that take nothing else.
//!
//! Audio that is AAC already passes unchanged. AAC frames are timed in samples, so that each follows the previous one
//! exactly. `transcoders` runs it once per stream on a thread of its own, while it is used.

use super::{
    feed::{Feed, Next, Reader, WakeOn},
    info::Info,
    ring::{Entry, HistorySpan},
    status::Status,
    supervise::{self, Work},
    transcoders::CaughtUp,
};
use sluicegate_codec::AacConverter;
use sluicegate_media::{
    sample::{Audio, Sample, Times},
    time::AudioGrid,
};
use sluicegate_source::Stop;
use sluicegate_telemetry::{Chain, Panicked};
use std::{sync::Arc, thread};

/// Converts the audio of `source`, from as far back as `past` says, and publishes it in `out` until it is stopped. Sets
/// `caught_up` once the past is converted. Every discontinuity of `source` is one in `out`.
pub(super) fn run(
    source: &Arc<Feed>,
    out: &Feed,
    past: HistorySpan,
    status: &Status,
    caught_up: &CaughtUp,
    stop: &Stop,
) {
    let mut worker = Worker {
        reader: source.reader(WakeOn::All),
        position: 0,
        past,
        out,
        caught_up,
        status,
        info: None,
        converter: None,
        audio_grid: AudioGrid::default(),
    };
    supervise::run(&mut worker, status, stop);
}

struct Worker<'a> {
    reader: Reader,
    /// Position of the next entry.
    position: u64,
    past: HistorySpan,
    out: &'a Feed,
    caught_up: &'a CaughtUp,
    status: &'a Status,
    /// Tracks at `position`.
    info: Option<Arc<Info>>,
    converter: Option<AacConverter>,
    audio_grid: AudioGrid,
}

impl Work for Worker<'_> {
    const PART: &'static str = "audio";
    const FAULT: &'static str = "audio-fault";

    fn begin(&mut self) {
        let HistorySpan { group_ms, groups } = self.past;
        let (position, info) = self.reader.start_and_retain(group_ms, groups, None);
        self.position = position;
        if let Some(info) = info {
            self.configure(info);
        }
    }

    fn step(&mut self) {
        match self.reader.next(self.position, 0) {
            Next::Entry(entry, _) => {
                self.position += 1;
                match entry {
                    Entry::Configure(info) => self.configure(info),
                    Entry::Stop(reason) => self.out.publish(Entry::Stop(reason)),
                    Entry::Sample(sample) => self.convert(&sample),
                }
            }
            Next::Lost(resume_at, info) => {
                self.position = resume_at;
                if let Some(info) = info {
                    self.configure(info);
                }
            }
            Next::Wait => {
                self.caught_up.reached(self.out);
                thread::park();
            }
        }
    }

    /// Continues with a new converter; the track was announced already.
    fn recover(&mut self, _: &Panicked) {
        if let Some(info) = self.info.clone() {
            self.open(&info);
        }
    }
}

impl Worker<'_> {
    /// Announces the track, also if there is no audio, since `joined` waits for it.
    fn configure(&mut self, info: Arc<Info>) {
        self.info = Some(info.clone());
        let audio = self.open(&info);
        if let Some(audio) = &audio {
            self.audio_grid.set_rate(audio.timescale);
        }
        self.out.publish(Entry::Configure(Arc::new(Info {
            started_at: info.started_at,
            epoch: info.epoch,
            video: None,
            audio,
            coding: None,
        })));
    }

    /// Creates a converter if one is needed, and returns the resulting track.
    fn open(&mut self, info: &Info) -> Option<Audio> {
        self.converter = None;
        let Some(coding) = &info.coding else {
            return info.audio.clone();
        };
        match AacConverter::new(coding) {
            Ok(converter) => {
                let told = info.audio.as_ref().map_or("und", |audio| &audio.language);
                let audio = Audio::aac(converter.config(), 2, told);
                self.converter = Some(converter);
                Some(audio)
            }
            Err(error) => {
                let text = format!("the audio cannot be converted to AAC: {}", Chain(&error));
                self.status.note("audio", text);
                None
            }
        }
    }

    fn convert(&mut self, sample: &Arc<Sample>) {
        if let Some(sample_range) = sample.sample_range() {
            self.audio_grid.passed(sample_range);
            return self.out.publish(Entry::Sample(sample.clone()));
        }
        let (Some(converter), Some(data)) = (&mut self.converter, sample.audio_data()) else {
            return;
        };
        let time = i64::try_from(sample.decode_time).unwrap_or(i64::MAX);
        let frames = match converter.convert(data, time) {
            Ok(frames) => frames,
            Err(error) => {
                let text = format!(
                    "audio could not be converted to AAC and is dropped: {}",
                    Chain(&error)
                );
                return self.status.note("audio", text);
            }
        };
        let length = converter.config().frame_length;
        for frame in frames {
            let time = u64::try_from(frame.time).unwrap_or(0);
            let times = Times {
                decode_time: time,
                captured_at: sample.captured_at,
                ..Times::default()
            };
            let Some((times, sample_range)) = self.audio_grid.place(times, length) else {
                continue;
            };
            let frame = Sample::aac(times, sample_range, frame.data);
            self.out.publish(Entry::Sample(Arc::new(frame)));
        }
    }
}
