//! MJPEG from cameras over HTTP and from files: pictures pass as they are. [`Reader`] finds them, and this drives it.

mod reader;

pub use reader::{Damage, Found, MAX_PICTURE_BYTES, Reader, boundary, is_mjpeg};

use super::{
    Expected, SILENCE, Sink, SourceError, SourceTimes, Stop,
    http::{Answer, Client, Failure},
    pace::Pace,
};
use sluicegate_media::{jpeg, time::TIMESCALE};
use std::{
    io::{self, Read},
    time::{Duration, Instant},
};

/// How long a picture of a file is shown, which says nothing of that: as long as libavformat takes for it.
const SHOWN: u32 = TIMESCALE / 25;
/// So much of a file is read at once.
const CHUNK: usize = 64 << 10;

/// Streams what `client` got as `answer`, of which `start` was read. Where that is one picture, it is asked for again,
/// `every` so often.
pub(super) fn run(
    what: &str,
    client: &mut Client,
    mut answer: Answer,
    start: &[u8],
    every: Duration,
    sink: &mut dyn Sink,
    stop: &Stop,
) -> Result<(), SourceError> {
    sink.expect(Expected::default());
    sink.configured(0.0);
    let mut asked = Instant::now();
    let mut usable = Instant::now();
    let mut start = start.to_vec();
    loop {
        let kind = answer.content_type.as_deref();
        let mut reader = Reader::new(kind.and_then(boundary));
        reader.push(&std::mem::take(&mut start));
        let pictures = match read(&mut reader, client, &mut usable, sink) {
            Ok(pictures) => pictures,
            Err(failure) => return failure.end(what, true),
        };
        match pictures {
            0 => {
                return Err(SourceError::Open {
                    what: what.to_owned(),
                    reason: "there is no JPEG in what it answers".into(),
                });
            }
            1 => {}
            _ => return Err(SourceError::Ended(what.to_owned())),
        }
        stop.wait_until(asked + every);
        asked = Instant::now();
        answer = match client.get(None) {
            Ok(answer) => answer,
            Err(failure) => return failure.end(what, true),
        };
    }
}

/// Hands on the pictures of one response; says how many there were. `usable`: when the newest came of which something can be made.
fn read(
    reader: &mut Reader,
    client: &mut Client,
    usable: &mut Instant,
    sink: &mut dyn Sink,
) -> Result<usize, Failure> {
    let mut pictures = 0;
    loop {
        while let Some(found) = reader.take() {
            if matches!(&found, Found::Picture(picture) if jpeg::size(picture).is_some()) {
                *usable = Instant::now();
                client.extend();
            }
            pictures += usize::from(hand_on(found, SourceTimes::default(), sink));
            if usable.elapsed() > SILENCE {
                return Err(Failure::Silent);
            }
        }
        match client.next() {
            Ok(Some(bytes)) => reader.push(&bytes),
            Ok(None) => break,
            // A `Content-Length` that is too long, of a response that is one picture.
            Err(Failure::Failed(_) | Failure::Silent) if pictures == 1 => break,
            Err(failure) => return Err(failure),
        }
    }
    while let Some(found) = reader.finish() {
        pictures += usize::from(hand_on(found, SourceTimes::default(), sink));
    }
    Ok(pictures)
}

/// Plays a file once, at 25 pictures a second; says how many there were.
pub(super) fn play(
    what: &str,
    mut file: impl Read,
    pace: &mut Pace,
    sink: &mut dyn Sink,
    stop: &Stop,
) -> Result<usize, SourceError> {
    sink.expect(Expected::default());
    sink.configured(0.0);
    let mut reader = Reader::new(None);
    let mut chunk = vec![0; CHUNK];
    let mut pictures = 0;
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
                duration: SHOWN,
                ..SourceTimes::default()
            };
            if matches!(found, Found::Picture(_)) {
                pace.wait(false, &mut times, stop);
            }
            if stop.is_stopped() {
                return Ok(pictures);
            }
            pictures += usize::from(hand_on(found, times, sink));
        }
        if is_end {
            return Ok(pictures);
        }
    }
}

/// Whether it was a picture.
fn hand_on(found: Found, times: SourceTimes, sink: &mut dyn Sink) -> bool {
    match found {
        Found::Picture(picture) => {
            sink.jpeg(jpeg::with_huffman_tables(picture), times);
            true
        }
        Found::Damaged(damage) => {
            sink.note("damage", damage.to_string());
            false
        }
    }
}
