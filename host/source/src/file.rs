//! Files, in real time and again and again, on one rising timeline.

use super::{
    Keyframes, LOOK, SILENCE, Sink, SourceError, Stop,
    libav::{self, Input},
    mjpeg,
    pace::Pace,
    readable,
};
use rustix::fs::{FileType, Mode, OFlags};
use sluicegate_config as config;
use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
    time::Instant,
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
        let (file, start) = open(path, stop).map_err(|error| SourceError::Open {
            what: what.clone(),
            reason: error.to_string(),
        })?;
        let is_empty = if mjpeg::is_mjpeg(None, &start) {
            let pictures = mjpeg::play(&what, file, &mut pace, sink, stop)?;
            pictures == 0
        } else {
            let mut opened = Input::of_file(&what, path, file, stop)?;
            opened.0.believe_durations();
            libav::play_in_time(&what, opened, &mut pace, encode, sink, stop, keyframes)?
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

/// The file, and how it begins; what cannot be read twice is not looked at. A named pipe is waited for until somebody writes.
fn open(path: &Path, stop: &Stop) -> io::Result<(File, Vec<u8>)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut start = Vec::new();
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Fifo {
        let until = Instant::now() + SILENCE;
        while !readable(&file, LOOK)? {
            if stop.is_stopped() || Instant::now() >= until {
                return Err(io::Error::other("it is a pipe that nobody writes to"));
            }
        }
    }
    if file.metadata()?.is_file() {
        (&mut file).take(START).read_to_end(&mut start)?;
        file.rewind()?;
    }
    Ok((file, start))
}
