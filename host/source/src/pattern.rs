//! The generated test pattern, painted and encoded in real time.

use super::{SourceContext, SourceError, SourceTimes, backlog::Backlog, pace::MAX_CATCH_UP};
use sluicegate_codec as codec;
use sluicegate_codec::{Encoder, Settings, WorkMeter};
use sluicegate_media::{
    h264::annexb,
    pattern::Painter,
    time::{TIMESCALE, ticks},
};
use sluicegate_telemetry::Chain;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Beyond this delay an encoder that is too slow skips frames.
const SLOW: Duration = Duration::from_millis(500);

/// Paints, encodes and delivers frames at the configured rate.
pub fn run(context: &mut SourceContext<'_>) -> Result<(), SourceError> {
    let fail = |error: codec::Error| SourceError::Read {
        what: "test-pattern".into(),
        reason: Chain(&error).to_string(),
    };
    let encode = context.encode.get();
    let mut encoder = Settings::of(encode)
        .and_then(Encoder::new)
        .map_err(fail)?
        .counted(context.sink.codec_counts());
    let mut painter =
        Painter::new(encode.width, encode.height).map_err(|error| fail(error.into()))?;
    context.sink.configured(encode.frame_rate as f32);
    let (mut backlog, mut work_meter) = (Backlog::default(), WorkMeter::default());
    let start = Instant::now();
    let mut number = 0u64;
    // Keyframes are forced by time, because an encoder counts frames and some may be skipped.
    let interval = ticks(encode.keyframe_interval.duration()).cast_signed();
    let mut keyframe_at = 0;
    while !context.stop.is_stopped() {
        let began = Instant::now();
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let image = painter.paint(number, u64::try_from(unix.as_millis()).unwrap_or(0));
        let at = i64::try_from(number * u64::from(TIMESCALE) / u64::from(encode.frame_rate))
            .unwrap_or(i64::MAX);
        backlog.advance(at);
        let is_key = context.keyframes.take() || at >= keyframe_at + interval;
        if is_key {
            keyframe_at = at;
        }
        for packet in encoder.encode(image, at, is_key).map_err(fail)? {
            context.sink.access_unit(
                annexb::split(&packet.data),
                SourceTimes {
                    decode: Some(packet.dts),
                    presentation: Some(packet.pts),
                    duration: TIMESCALE / encode.frame_rate,
                },
            );
        }
        backlog.add_work(work_meter.count(began.elapsed()));
        number += 1;
        let due = Duration::from_nanos(number * 1_000_000_000 / u64::from(encode.frame_rate));
        // After a suspension or a short overload all frames are made up for: a late frame is better than a gap. An
        // encoder that is too slow skips frame numbers instead of racing.
        let late = start.elapsed().saturating_sub(due);
        if late > MAX_CATCH_UP || (late > SLOW && backlog.is_late()) {
            number += u64::try_from(late.as_nanos()).unwrap_or(0) * u64::from(encode.frame_rate)
                / 1_000_000_000;
        }
        context.stop.wait_until(start + due);
    }
    Ok(())
}
