//! Whatever a source says, the feed keeps its promises: times rise, samples follow their configuration, nothing follows a
//! stop but a configuration, and what follows a loss begins where decoding may begin.
#![no_main]
#![allow(clippy::expect_used, clippy::panic, missing_docs)]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluicegate::{
    media::time::Moment,
    source::{Sink, SourceTimes},
    stream::{Entry, Feed, Ingest, Next, Status},
};
use sluicegate_fuzz::Input;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let feed = Feed::new(0);
    let reader = feed.reader();
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
    let (mut position, mut last, mut open, mut begun) = (0, None, false, false);
    while !input.is_empty() {
        let act = input.byte() % 12;
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
                    assert!(open, "a sample before its configuration");
                    let repeat = sample.repeat > 0;
                    assert!(
                        begun || repeat || sample.independent,
                        "what follows a loss needs what was lost"
                    );
                    assert!(
                        last.is_none_or(|last| sample.decode_time > last),
                        "time stands still"
                    );
                    (last, begun) = (Some(sample.decode_time), begun || !repeat);
                    position += 1;
                }
                Next::Entry(Entry::Configure(info), _) => {
                    assert!(info.track.width > 0 && info.track.height > 0);
                    assert!(info.track.frame_rate.is_finite());
                    open = true;
                    position += 1;
                }
                Next::Entry(Entry::Stop(_), _) => {
                    assert!(open, "a stop of nothing");
                    (open, begun) = (false, false);
                    position += 1;
                }
                Next::Lost(on, info) => {
                    assert!(on > position);
                    (position, open, begun) = (on, info.is_some(), true);
                }
                Next::Wait => break,
            }
        }
        // A loss that nothing in the feed tells of.
        begun &= act != 9;
    }
});

fn times(input: &mut Input<'_>) -> SourceTimes {
    let mut time = || input.flag().then(|| input.quad().cast_signed());
    SourceTimes {
        decode: time(),
        presentation: time(),
        duration: input.long(),
    }
}
