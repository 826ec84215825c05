//! Files and URLs through libavformat.

mod delivery;
mod input;
mod pace;

pub(super) use delivery::Delivery;
pub(super) use input::{Input, Media, Packet, Tracks};
pub(super) use pace::Pace;

use super::{Keyframes, Sink, SourceError, Stop};
use crate::config;
use ffmpeg_next::Dictionary;
use std::path::Path;

/// Streams a file in real time, again and again, on one rising timeline.
pub fn run_file(
    path: &Path,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let what = config::Source::from(format!("file:{}", path.display())).to_string();
    let mut pace = Pace::default();
    loop {
        let (mut input, tracks) =
            Input::open(&what, &path.to_string_lossy(), Dictionary::new(), stop)?;
        input.believe_durations();
        let mut delivery = Delivery::new(&what, tracks, encode, sink)?;
        let mut sent = 0u64;
        while let Some(mut packet) = input.next()? {
            pace.wait(&mut packet.times, stop);
            if stop.is_stopped() {
                return Ok(());
            }
            delivery.deliver(packet, sink, keyframes)?;
            sent += 1;
        }
        if stop.is_stopped() {
            return Ok(());
        }
        delivery.finish(sink, keyframes)?;
        if sent == 0 {
            return Err(SourceError::Open {
                what,
                reason: "it holds neither pictures nor sound".into(),
            });
        }
        sink.loops();
        pace.loops();
    }
}

/// Streams whatever libavformat opens at a URL; RTSP over TCP.
pub fn run_url(
    source: &config::Source,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let what = source.to_string();
    let mut options = Dictionary::new();
    options.set("rtsp_transport", "tcp");
    options.set("analyzeduration", "1500000");
    // Else twenty pictures are waited for, to guess a rate that the SPS tells. What is read while opening is kept, as
    // the first keyframe is in it (`nobuffer` would lose it).
    options.set("fpsprobesize", "0");
    let (mut input, tracks) = Input::open(&what, &source.url(), options, stop)?;
    input.watch_pictures();
    let mut delivery = Delivery::new(&what, tracks, encode, sink)?;
    while let Some(packet) = input.next()? {
        delivery.deliver(packet, sink, keyframes)?;
    }
    if stop.is_stopped() {
        return Ok(());
    }
    delivery.finish(sink, keyframes)?;
    Err(SourceError::Ended(what))
}
