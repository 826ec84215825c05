//! Transport `mjpeg`: `GET /live/{stream}/mjpeg` returns an endless `multipart/x-mixed-replace` with one JPEG per part.
//! A slow viewer always gets the newest frame.
//!
//! # Framing
//!
//! A part is its head, the JPEG, and *the delimiter after it* (RFC 2046, 5.1.1), all in one chunk:
//!
//! ```text
//! Content-Type: image/jpeg CRLF
//! Content-Length: N CRLF
//! X-Timestamp: S.FFFFFF CRLF      capture time in Unix seconds
//! CRLF
//! <N bytes> CRLF
//! --frame CRLF
//! ```
//!
//! - The delimiter is sent with the frame before it, not with the next one, because many clients recognise a part's end
//!   only by the delimiter and would show each frame one too late.
//! - A viewer's first delimiter is sent when it joins, and is not the header that `configure` returns. The header would
//!   also go to connected viewers, whose stream ends in a delimiter; a second one in a row would be an empty part. In
//!   this way every viewer sees well-formed multipart, whichever frame it starts with, whatever it misses, and across
//!   reconfigurations.
//! - Chromium shows a frame only when the head of the next part is complete, so it lags by one frame. Before a silence
//!   it would lag for good. The profile therefore requests that the last frame is repeated, and `stop` repeats it too,
//!   which brings it onto the screen.
//! - The end of the stream is that repetition with the close delimiter `--frame--` in place of the other. On its own,
//!   the close delimiter would follow a delimiter: an empty part again.

use sluicegate_sdk::{
    Buffer, Chunk, Lane, NoOptions, Payload, Profile, Reply, Sample, StreamInfo, Transport, Viewer,
};

const CONTENT_TYPE: &str = "multipart/x-mixed-replace; boundary=frame";
const FIRST_DELIMITER: &str = "--frame\r\n";
const DELIMITER: &str = "\r\n--frame\r\n";
const CLOSE_DELIMITER: &str = "\r\n--frame--\r\n";

/// A muxer that forwards JPEGs.
pub struct Mjpeg {
    /// Id of the video track.
    track: Option<u32>,
    /// The newest frame, for `stop` to repeat.
    newest: Option<JpegFrame>,
}

struct JpegFrame {
    data: Buffer,
    /// Size in bytes.
    size: u32,
    /// Capture time in microseconds since the Unix epoch.
    taken: u64,
}

impl Transport for Mjpeg {
    fn open(options: &str) -> Result<(Self, Profile), String> {
        sluicegate_sdk::options::<NoOptions>(options)?;
        let profile = Profile {
            carriers: vec!["http".into()],
            formats: vec!["jpeg".into()],
            // A viewer that is behind gets the newest frame and none of those before it.
            lanes: vec![Lane::new(0)],
            // Lets Chromium show the last frame before a silence; see the module's description.
            repeat_ms: 250,
            latency_ms: 150,
            label: "MJPEG".into(),
            embeds: vec!["image".into()],
            output: "mjpeg/1".into(),
            ..Profile::default()
        };
        Ok((
            Mjpeg {
                track: None,
                newest: None,
            },
            profile,
        ))
    }

    fn configure(&mut self, info: &StreamInfo) -> Vec<Payload> {
        self.track = info.video().map(|(track, _)| track.id);
        vec![]
    }

    fn push(&mut self, sample: Sample) -> Vec<Chunk> {
        if self.track != Some(sample.track) {
            return vec![];
        }
        let frame = self.newest.insert(JpegFrame {
            data: sample.data,
            size: sample.size,
            taken: sample.captured_at,
        });
        vec![frame.part(DELIMITER)]
    }

    fn stop(&mut self, _reason: &str, last: bool) -> Vec<Chunk> {
        let end = if last { CLOSE_DELIMITER } else { DELIMITER };
        self.newest.iter().map(|frame| frame.part(end)).collect()
    }

    fn request(&self, path: &str, _query: &str) -> Reply {
        match path {
            "" => Reply::Follow(CONTENT_TYPE.into()),
            _ => Reply::not_found(path),
        }
    }

    fn join(&mut self, viewer: Viewer) -> Result<(), String> {
        // `request` lets nobody join below this path.
        viewer.send(Buffer::from(FIRST_DELIMITER.as_bytes()));
        Ok(())
    }
}

impl JpegFrame {
    fn part(&self, delimiter: &str) -> Chunk {
        let JpegFrame { data, size, taken } = self;
        let (seconds, micros) = (taken / 1_000_000, taken % 1_000_000);
        let head = format!(
            "Content-Type: image/jpeg\r\nContent-Length: {size}\r\nX-Timestamp: {seconds}.{micros:06}\r\n\r\n"
        );
        let part = Buffer::new([head.into(), data.slice(0, *size), delimiter.into()]);
        Chunk::new(part, true)
    }
}

sluicegate_sdk::export!(Mjpeg);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;
    use sluicegate_sdk::mock::{self, Muxer};

    fn info() -> StreamInfo {
        mock::video("jpeg", "", &[])
    }

    fn samples(frames: &[&[u8]]) -> Vec<Sample> {
        mock::samples(0, frames.iter().map(|frame| (true, frame.to_vec())))
    }

    fn watch(muxer: &mut Muxer<Mjpeg>, keeps_up: impl Fn(usize) -> bool) -> Vec<u8> {
        mock::bytes(&muxer.watch(0, ("http", "", ""), keeps_up).unwrap())
    }

    /// A strict reader of multipart: returns the frames, and whether the close delimiter was there.
    fn read(stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
        const HEAD: &[u8] = b"Content-Type: image/jpeg\r\nContent-Length: ";
        let mut frames = vec![];
        let mut rest = stream
            .strip_prefix(b"--frame\r\n")
            .expect("the dash-boundary comes first");
        while !rest.is_empty() {
            let part = rest
                .strip_prefix(HEAD)
                .expect("a part starts with its head");
            let digits = part.iter().position(|byte| !byte.is_ascii_digit()).unwrap();
            let length: usize = std::str::from_utf8(&part[..digits])
                .unwrap()
                .parse()
                .unwrap();
            let stamped = part[digits..]
                .strip_prefix(b"\r\nX-Timestamp: ")
                .expect("the time follows");
            let time = stamped.iter().position(|byte| *byte == b'\r').unwrap();
            let body = stamped[time..]
                .strip_prefix(b"\r\n\r\n")
                .expect("the head ends");
            frames.push(body[..length].to_vec());
            let after = body[length..]
                .strip_prefix(b"\r\n--frame")
                .expect("a delimiter follows");
            if after == b"--\r\n" {
                return (frames, true);
            }
            rest = after
                .strip_prefix(b"\r\n")
                .expect("the delimiter's line ends");
        }
        (frames, false)
    }

    #[test]
    fn part_has_its_type_its_length_and_the_delimiter_behind_it() {
        let mut muxer = Muxer::<Mjpeg>::open("{}").unwrap();
        assert!(muxer.configure(&info()).is_empty());
        let chunks: Vec<Chunk> = samples(&[b"JPEG"])
            .into_iter()
            .map(|sample| Sample {
                captured_at: 1_700_000_000_000_042,
                group_started_at: 0,
                ..sample
            })
            .flat_map(|s| muxer.push(s))
            .collect();
        assert!(
            chunks
                .iter()
                .all(|chunk| chunk.independent && chunk.lane == 0)
        );
        assert_eq!(
            mock::chunk_bytes(&chunks),
            b"Content-Type: image/jpeg\r\nContent-Length: 4\r\nX-Timestamp: 1700000000.000042\r\n\r\nJPEG\r\n--frame\r\n"
        );
    }

    #[test]
    fn silence_repeats_the_last_frame_and_the_end_closes_the_stream() {
        let mut muxer = Muxer::<Mjpeg>::open("").unwrap();
        muxer.configure(&info());
        for sample in samples(&[b"a", b"b"]) {
            muxer.push(sample);
        }
        muxer.stop("source lost", false);
        muxer.configure(&info());
        muxer.stop("shutting down", true);
        let frames = [b"a", b"b", b"b", b"b"].map(|frame| frame.to_vec());
        assert_eq!(read(&watch(&mut muxer, |_| true)), (frames.to_vec(), true));
    }

    #[test]
    fn end_without_any_frame_sends_nothing() {
        let mut muxer = Muxer::<Mjpeg>::open("").unwrap();
        muxer.configure(&info());
        assert!(muxer.stop("never came", true).is_empty());
        assert_eq!(watch(&mut muxer, |_| true), FIRST_DELIMITER.as_bytes());
    }

    #[test]
    fn only_the_transport_itself_is_followed() {
        let muxer = Muxer::<Mjpeg>::open("").unwrap();
        assert_eq!(
            muxer.request("", "fps=5"),
            Reply::Follow(CONTENT_TYPE.into())
        );
        let Reply::Done(response) = muxer.request("x", "") else {
            panic!("an answer")
        };
        assert_eq!(response.status, 404);
    }

    #[test]
    fn other_tracks_are_passed_over() {
        let mut muxer = Muxer::<Mjpeg>::open("").unwrap();
        muxer.configure(&info());
        let mut sample = samples(&[b"sound"]).remove(0);
        sample.track = 2;
        assert!(muxer.push(sample).is_empty());
    }

    #[test]
    fn options_are_refused() {
        let Err(error) = Muxer::<Mjpeg>::open(r#"{"fps": 5}"#) else {
            panic!("taken")
        };
        assert_eq!(error, "unknown option `fps`: this component has no options");
    }

    proptest! {
        #[test]
        fn every_viewer_sees_well_formed_multipart(
            frames in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..40), any::<bool>(), any::<bool>()), 1..20),
        ) {
            let mut muxer = Muxer::<Mjpeg>::open("{}").unwrap();
            muxer.configure(&info());
            let bytes = frames.iter().map(|(bytes, ..)| (true, bytes.clone()));
            for (sample, (_, _, break_before)) in mock::samples(0, bytes).into_iter().zip(&frames) {
                if *break_before {
                    muxer.configure(&info());
                }
                muxer.push(sample);
            }
            let seen: Vec<Vec<u8>> =
                frames.iter().filter(|(_, seen, _)| *seen).map(|(bytes, ..)| bytes.clone()).collect();
            let stream = watch(&mut muxer, |i| frames[i].1);
            prop_assert_eq!(read(&stream), (seen, false));
        }

        #[test]
        fn restarts_from_any_frame(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20),
        ) {
            let samples = mock::samples(0, frames.into_iter().map(|bytes| (true, bytes)));
            mock::assert_restartable::<Mjpeg>("{}", &info(), &samples);
        }
    }
}
