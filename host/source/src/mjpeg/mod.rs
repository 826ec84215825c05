//! MJPEG from cameras over HTTP and from files. JPEGs are passed on unchanged. [`Reader`] finds them; this module
//! connects it to the HTTP client, or to a file and its pace.

mod reader;

pub use reader::{Damage, MAX_FRAME_BYTES, Reader, ReaderEvent, boundary, is_mjpeg};

use super::{
    DATA_TIMEOUT, Expected, Sink, SourceContext, SourceError, SourceTimes,
    http::{Client, Failure, ResponseHead},
    pace::Pace,
};
use sluicegate_media::{jpeg, time::TIMESCALE};
use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

/// Duration of a frame in a file, for which MJPEG has no field: libavformat's default of 25 frames per second.
const FRAME_DURATION: u32 = TIMESCALE / 25;
/// Size of one read from a file, in bytes.
const CHUNK: usize = 64 << 10;

/// Streams the response `answer` of `client`, of which `start` has been read. If it is a single JPEG, it is requested
/// again at the interval `every`.
pub(super) fn run(
    what: &str,
    client: &mut Client,
    mut answer: ResponseHead,
    start: &[u8],
    every: Duration,
    context: &mut SourceContext<'_>,
) -> Result<(), SourceError> {
    context.sink.expect(Expected::default());
    context.sink.configured(0.0);
    let mut asked = Instant::now();
    let mut usable = Instant::now();
    let mut start = start.to_vec();
    loop {
        let kind = answer.content_type.as_deref();
        let mut reader = Reader::new(kind.and_then(boundary));
        reader.push(&std::mem::take(&mut start));
        let frames = match read(&mut reader, client, &mut usable, context.sink) {
            Ok(frames) => frames,
            Err(failure) => return failure.end(what, true),
        };
        match frames {
            0 => {
                return Err(SourceError::Open {
                    what: what.to_owned(),
                    reason: "its response contains no JPEG".into(),
                });
            }
            1 => {}
            _ => return Err(SourceError::Ended(what.to_owned())),
        }
        context.stop.wait_until(asked + every);
        asked = Instant::now();
        answer = match client.get(None) {
            Ok(answer) => answer,
            Err(failure) => return failure.end(what, true),
        };
    }
}

/// Delivers the JPEGs of one response and returns their number. `usable` is the time of the newest JPEG with a valid
/// size.
fn read(
    reader: &mut Reader,
    client: &mut Client,
    usable: &mut Instant,
    sink: &mut dyn Sink,
) -> Result<usize, Failure> {
    let mut frames = 0;
    loop {
        while let Some(found) = reader.take() {
            if matches!(&found, ReaderEvent::Frame(frame) if jpeg::size(frame).is_some()) {
                *usable = Instant::now();
                client.extend();
            }
            frames += usize::from(deliver(found, SourceTimes::default(), sink));
            if usable.elapsed() > DATA_TIMEOUT {
                return Err(Failure::Silent);
            }
        }
        match client.next() {
            Ok(Some(bytes)) => reader.push(&bytes),
            Ok(None) => break,
            // A single JPEG whose `Content-Length` is too large.
            Err(Failure::Failed(_) | Failure::Silent) if frames == 1 => break,
            Err(failure) => return Err(failure),
        }
    }
    while let Some(found) = reader.finish() {
        frames += usize::from(deliver(found, SourceTimes::default(), sink));
    }
    Ok(frames)
}

/// Plays a file once, at 25 frames per second, and returns the number of frames.
pub(super) fn play(
    what: &str,
    mut file: impl Read,
    pace: &mut Pace,
    context: &mut SourceContext<'_>,
) -> Result<usize, SourceError> {
    context.sink.expect(Expected::default());
    context.sink.configured(0.0);
    let mut reader = Reader::new(None);
    let mut chunk = vec![0; CHUNK];
    let mut frames = 0;
    loop {
        let read = match file.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(|error| SourceError::Read {
                what: what.to_owned(),
                reason: error.to_string(),
            })?,
        };
        reader.push(&chunk[..read]);
        let is_end = read == 0;
        while let Some(found) = if is_end {
            reader.finish()
        } else {
            reader.take()
        } {
            let mut times = SourceTimes {
                duration: FRAME_DURATION,
                ..SourceTimes::default()
            };
            if matches!(found, ReaderEvent::Frame(_)) {
                pace.wait(false, &mut times, context.stop);
            }
            if context.stop.is_stopped() {
                return Ok(frames);
            }
            frames += usize::from(deliver(found, times, context.sink));
        }
        if is_end {
            return Ok(frames);
        }
    }
}

/// Delivers a JPEG or reports damage; returns whether it was a JPEG.
fn deliver(found: ReaderEvent, times: SourceTimes, sink: &mut dyn Sink) -> bool {
    match found {
        ReaderEvent::Frame(frame) => {
            sink.jpeg(jpeg::with_huffman_tables(frame), times);
            true
        }
        ReaderEvent::Damaged(damage) => {
            sink.note("damage", damage.to_string());
            false
        }
    }
}
