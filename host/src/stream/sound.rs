//! A stream's sound as AAC, for transports that take nothing else: once for the stream, while anybody wants it.

use super::{
    feed::{Ear, Feed, Next},
    made::Current,
    ring::{Entry, Info, Past},
    status::Status,
};
use crate::{
    codec::SoundConverter,
    media::{
        sample::{Audio, Sample, Times},
        time::Metronome,
    },
    source::Stop,
    telemetry::Chain,
};
use std::{sync::Arc, thread};

/// Converts the sound of `source`, from as far back as `past` says, and publishes it in `out`, until told to stop; `current` once
/// nothing of the past is left. Each break there is one here.
pub(super) fn run(
    source: &Arc<Feed>,
    out: &Feed,
    past: Past,
    status: &Status,
    current: &Current,
    stop: &Stop,
) {
    let reader = source.reader(Ear::Open);
    let (mut position, info) = reader.start_and_hold(past.group_ms, past.groups);
    let mut worker = Worker {
        out,
        status,
        converter: None,
        metronome: Metronome::default(),
    };
    if let Some(info) = info {
        worker.configure(&info);
    }
    while !stop.is_stopped() {
        match reader.next(position, 0) {
            Next::Entry(entry, _) => {
                position += 1;
                match entry {
                    Entry::Configure(info) => worker.configure(&info),
                    Entry::Stop(reason) => out.publish(Entry::Stop(reason)),
                    Entry::Sample(sample) => worker.convert(&sample),
                }
            }
            Next::Lost(on, info) => {
                position = on;
                if let Some(info) = info {
                    worker.configure(&info);
                }
            }
            Next::Wait => {
                current.reached(out);
                thread::park();
            }
        }
    }
}

struct Worker<'a> {
    out: &'a Feed,
    status: &'a Status,
    converter: Option<SoundConverter>,
    metronome: Metronome,
}

impl Worker<'_> {
    /// Also where there is no sound: who joins it to pictures waits for this.
    fn configure(&mut self, info: &Info) {
        self.converter = None;
        let audio = match &info.coding {
            None => info.audio.clone(),
            Some(coding) => match SoundConverter::new(coding) {
                Ok(converter) => {
                    let told = info.audio.as_ref().map_or("und", |audio| &audio.language);
                    let audio = Audio::aac(converter.config(), 2, told);
                    self.converter = Some(converter);
                    Some(audio)
                }
                Err(error) => {
                    let text = format!("the sound cannot be made AAC: {}", Chain(&error));
                    self.status.note("sound", text);
                    None
                }
            },
        };
        if let Some(audio) = &audio {
            self.metronome.set_rate(audio.timescale);
        }
        self.out.publish(Entry::Configure(Arc::new(Info {
            started_at: info.started_at,
            epoch: info.epoch,
            video: None,
            audio,
            coding: None,
        })));
    }

    fn convert(&mut self, sample: &Arc<Sample>) {
        if let Some(beat) = sample.beat() {
            self.metronome.passed(beat);
            return self.out.publish(Entry::Sample(sample.clone()));
        }
        let (Some(converter), Some(data)) = (&mut self.converter, sample.sound()) else {
            return;
        };
        let time = i64::try_from(sample.decode_time).unwrap_or(i64::MAX);
        let frames = match converter.convert(data, time) {
            Ok(frames) => frames,
            Err(error) => {
                let text = format!("some sound is left out: {}", Chain(&error));
                return self.status.note("sound", text);
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
            let Some((times, beat)) = self.metronome.place(times, length) else {
                continue;
            };
            let frame = Sample::aac(times, beat, frame.data);
            self.out.publish(Entry::Sample(Arc::new(frame)));
        }
    }
}
