//! Whatever a source sends, the feed keeps its guarantees: times rise, samples follow their configuration, only a
//! configuration follows a stop, and after a loss the feed continues where decoding may start.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::Input;
use sluicegate_media::{
    sample::{Audio, Codec},
    time::Moment,
};
use sluicegate_source::{AudioTrack, Expected, Sink, SourceTimes};
use sluicegate_stream::{Entry, Feed, GroupNumbers, Info, Ingest, Next, Status, WakeOn};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let feed = Feed::new(GroupNumbers::own(0, Duration::ZERO));
    let reader = feed.reader(WakeOn::All);
    let now = Arc::new(AtomicU64::new(0));
    let clock = now.clone();
    let clock = move || Moment {
        unix_us: clock.load(Ordering::Relaxed) * 1000,
        elapsed: Duration::from_millis(clock.load(Ordering::Relaxed)),
    };
    let mut ingest = Ingest::new(
        feed.clone(),
        Arc::new(Status::new("stream", Arc::default())),
        0,
        Box::new(clock),
    );
    let (mut position, mut last, mut begun) = (0, [None; 2], false);
    let mut open: Option<Arc<Info>> = None;
    while !input.is_empty() {
        let act = input.byte() % 15;
        match act {
            0..=2 => ingest.byte_stream(Bytes::copy_from_slice(input.bytes())),
            3 => ingest.silence(),
            4 | 5 => {
                let count = input.byte() % 4;
                let nals = (0..count).map(|_| Bytes::copy_from_slice(input.bytes()));
                let nals = nals.filter(|nal| !nal.is_empty()).collect();
                ingest.access_unit(nals, times(&mut input));
            }
            6 => ingest.jpeg(Bytes::copy_from_slice(input.bytes()), times(&mut input)),
            7 => {
                let sets = (0..2).map(|_| Bytes::copy_from_slice(input.bytes()));
                ingest.parameter_sets(sets.collect());
            }
            8 => ingest.configured(f32::from_bits(input.long())),
            9 => ingest.damaged(),
            10 if input.flag() => ingest.loops(),
            10 => ingest.lost("gone".into()),
            11 => ingest.expect(Expected {
                video: input.flag(),
                audio: input.flag(),
            }),
            12 => ingest.audio_track(audio_track(&mut input)),
            13 => ingest.audio_frame(Bytes::copy_from_slice(input.bytes()), times(&mut input)),
            _ => {
                now.fetch_add(input.word().into(), Ordering::Relaxed);
                if input.flag() {
                    let silence = Duration::from_millis(500);
                    let _ = feed.repeat(Instant::now() + 2 * silence, silence);
                }
            }
        }
        loop {
            match reader.next(position, 0) {
                Next::Entry(Entry::Sample(sample), _) => {
                    let info = open.as_ref().expect("a sample before its configuration");
                    let is_audio = sample.is_audio();
                    if is_audio {
                        assert!(
                            info.audio.is_some(),
                            "audio without an audio track in the configuration"
                        );
                    } else {
                        assert!(
                            info.video.is_some(),
                            "pictures without a video track in the configuration"
                        );
                        let repeat = sample.repeat > 0;
                        assert!(
                            begun || repeat || sample.independent,
                            "the sample after a loss depends on lost ones"
                        );
                        begun |= !repeat;
                    }
                    let last = last[usize::from(is_audio)].replace(sample.decode_time);
                    assert!(
                        last.is_none_or(|last| sample.decode_time > last),
                        "time stands still"
                    );
                    position += 1;
                }
                Next::Entry(Entry::Configure(info), _) => {
                    assert!(info.video.is_some() || info.audio.is_some());
                    if let Some(video) = &info.video {
                        assert!(video.width > 0 && video.height > 0);
                        assert!(video.frame_rate.is_finite());
                    }
                    open = Some(info);
                    position += 1;
                }
                Next::Entry(Entry::Stop(_), _) => {
                    assert!(open.is_some(), "a stop without a configuration before it");
                    (open, begun) = (None, false);
                    position += 1;
                }
                Next::Lost(on, info) => {
                    assert!(on > position);
                    (position, open, begun) = (on, info, true);
                }
                Next::Wait => break,
            }
        }
        // A loss that the feed does not report.
        begun &= act != 9;
    }
});

/// AAC audio.
fn audio_track(input: &mut Input<'_>) -> AudioTrack {
    AudioTrack {
        audio: Audio {
            codec: Codec::Aac,
            name: "aac".into(),
            codec_string: "mp4a.40.2".into(),
            config: Bytes::from_static(&[0x11, 0x90]),
            timescale: 1 + input.long() % 192_000,
            sample_rate: 48_000,
            channels: input.byte(),
            language: "und".into(),
        },
        length: 1024,
        coding: None,
    }
}

fn times(input: &mut Input<'_>) -> SourceTimes {
    let mut time = || input.flag().then(|| input.quad().cast_signed());
    SourceTimes {
        decode: time(),
        presentation: time(),
        duration: input.long(),
    }
}
