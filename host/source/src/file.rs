//! Files, played in real time and looped on one increasing timeline.

use super::{
    DATA_TIMEOUT, POLL_INTERVAL, SourceContext, SourceError, Stop,
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

/// Number of bytes from which MJPEG is recognised.
const MAX_SNIFFED_BYTES: u64 = 4 << 10;

/// Streams a file until stopped.
pub fn run(path: &Path, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
    let what = config::Source::from(format!("file:{}", path.display())).to_string();
    let mut pace = Pace::default();
    loop {
        // Reopened for each loop, because the file may have been replaced.
        let (file, start) = open(path, context.stop).map_err(|error| SourceError::Open {
            what: what.clone(),
            reason: error.to_string(),
        })?;
        let is_empty = if mjpeg::is_mjpeg(None, &start) {
            let frames = mjpeg::play(&what, file, &mut pace, context)?;
            frames == 0
        } else {
            let mut opened = Input::of_file(&what, path, file, context.stop)?;
            opened.0.trust_durations();
            libav::play_paced(&what, opened, &mut pace, context)?
        };
        if context.stop.is_stopped() {
            return Ok(());
        }
        if is_empty {
            return Err(SourceError::Open {
                what,
                reason: "it contains neither video nor audio".into(),
            });
        }
        context.sink.loops();
        pace.loops();
    }
}

/// Opens the file and reads its first bytes, unless it cannot be rewound. For a named pipe it waits until there is a
/// writer.
fn open(path: &Path, stop: &Stop) -> io::Result<(File, Vec<u8>)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut start = Vec::new();
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) == FileType::Fifo {
        let until = Instant::now() + DATA_TIMEOUT;
        while !readable(&file, POLL_INTERVAL)? {
            if stop.is_stopped() || Instant::now() >= until {
                return Err(io::Error::other("it is a pipe without a writer"));
            }
        }
    }
    if file.metadata()?.is_file() {
        (&mut file)
            .take(MAX_SNIFFED_BYTES)
            .read_to_end(&mut start)?;
        file.rewind()?;
    }
    Ok((file, start))
}
