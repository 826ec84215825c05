//! The generated picture, encoded as it is made.

use super::{Keyframes, Sink, SourceError, SourceTimes, Stop};
use crate::{
    codec::{Encoder, Settings},
    config,
    media::{h264::annexb, pattern::Painter, time::TIMESCALE},
    telemetry::Chain,
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Paints, encodes and delivers pictures at the configured rate.
pub fn run(
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let fail = |error: crate::codec::Error| SourceError::Read {
        what: "test-pattern".into(),
        reason: Chain(&error).to_string(),
    };
    let mut encoder = Settings::of(encode)
        .and_then(Encoder::new)
        .map_err(fail)?
        .counted(sink.codec_counts());
    let mut painter =
        Painter::new(encode.width, encode.height).map_err(|error| fail(error.into()))?;
    sink.configured(encode.frame_rate as f32);
    let start = Instant::now();
    let mut number = 0u64;
    while !stop.is_stopped() {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let picture = painter.paint(number, u64::try_from(unix.as_millis()).unwrap_or(0));
        let at = i64::try_from(number * u64::from(TIMESCALE) / u64::from(encode.frame_rate))
            .unwrap_or(i64::MAX);
        for packet in encoder
            .encode(picture, at, keyframes.take())
            .map_err(fail)?
        {
            sink.access_unit(
                annexb::split(&packet.data),
                SourceTimes {
                    decode: Some(packet.dts),
                    presentation: Some(packet.pts),
                    duration: TIMESCALE / encode.frame_rate,
                },
            );
        }
        number += 1;
        let due = Duration::from_nanos(number * 1_000_000_000 / u64::from(encode.frame_rate));
        // A machine that was too busy skips numbers instead of racing to catch up.
        let late = start.elapsed().saturating_sub(due);
        if late > Duration::from_millis(500) {
            number += u64::try_from(late.as_nanos()).unwrap_or(0) * u64::from(encode.frame_rate)
                / 1_000_000_000;
        }
        stop.wait_until(start + due);
    }
    Ok(())
}
