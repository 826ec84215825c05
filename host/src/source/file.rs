//! Files, in real time and again and again, on one rising timeline.

use super::{
    Keyframes, Sink, SourceError, Stop,
    interleave::Interleave,
    libav::{Delivery, Input, Tracks},
    mjpeg,
    pace::Pace,
};
use crate::config;
use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

/// So much of a file tells whether it is MJPEG.
const START: u64 = 4 << 10;

/// Streams a file until told to stop.
pub fn run(
    path: &Path,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<(), SourceError> {
    let what = config::Source::from(format!("file:{}", path.display())).to_string();
    let mut pace = Pace::default();
    loop {
        // Opened anew each time, as it may have been replaced.
        let (file, start) = open(path).map_err(|error| SourceError::Open {
            what: what.clone(),
            reason: error.to_string(),
        })?;
        let is_empty = if mjpeg::is_mjpeg(None, &start) {
            let pictures = mjpeg::play(&what, file, &mut pace, sink, stop)?;
            pictures == 0
        } else {
            let opened = Input::of_file(&what, path, file, stop)?;
            play(&what, opened, &mut pace, encode, sink, stop, keyframes)?
        };
        if stop.is_stopped() {
            return Ok(());
        }
        if is_empty {
            return Err(SourceError::Open {
                what,
                reason: "it holds neither pictures nor sound".into(),
            });
        }
        sink.loops();
        pace.loops();
    }
}

/// The file, and how it begins; what cannot be read twice is not looked at.
fn open(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut file = File::open(path)?;
    let mut start = Vec::new();
    if file.metadata()?.is_file() {
        (&mut file).take(START).read_to_end(&mut start)?;
        file.rewind()?;
    }
    Ok((file, start))
}

/// Plays a file of libavformat's once; says whether there was nothing in it.
fn play(
    what: &str,
    (mut input, tracks): (Input, Tracks),
    pace: &mut Pace,
    encode: &config::Encode,
    sink: &mut dyn Sink,
    stop: &Stop,
    keyframes: &Keyframes,
) -> Result<bool, SourceError> {
    input.believe_durations();
    let mut waiting = Interleave::new(tracks.video.is_some(), tracks.audio.is_some());
    let mut delivery = Delivery::new(what, tracks, encode, sink)?;
    let mut is_empty = true;
    loop {
        while waiting.wants_more() {
            match input.next()? {
                Some(mut packet) => {
                    let place = pace.place(packet.is_sound, &mut packet.times);
                    waiting.push(packet.is_sound, place, packet.packet.size(), packet);
                }
                None => waiting.end(),
            }
        }
        let Some((place, packet)) = waiting.pop() else {
            break;
        };
        pace.wait_for(place, stop);
        if stop.is_stopped() {
            return Ok(is_empty);
        }
        delivery.deliver(packet, sink, keyframes)?;
        is_empty = false;
    }
    delivery.finish(sink, keyframes)?;
    Ok(is_empty)
}
