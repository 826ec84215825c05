//! The way of a recording from the muxer's thread to its reader: a queue bounded in bytes.

use super::{End, Line, Record};
use sluicegate_media::budget::{Budget, Reservation};
use std::{
    future::poll_fn,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use tokio::sync::{mpsc, oneshot};

/// Bytes that may wait for the reader. When more would, the recording ends.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Bytes of a line besides its payloads, about.
const LINE: usize = 512;

type Ended = Arc<OnceLock<String>>;

/// Both ends of a recording.
pub fn channel() -> (Recorder, Recording) {
    let (lines, waiting) = mpsc::unbounded_channel();
    let (accept, accepted) = oneshot::channel();
    let ended = Ended::default();
    let recorder = Recorder {
        lines,
        budget: Budget::new(MAX_WAITING_BYTES),
        accept: Some(accept),
        ended: ended.clone(),
    };
    let recording = Recording {
        lines: Some(waiting),
        accepted,
        ended,
    };
    (recorder, recording)
}

/// Sending end, held by the instance that is recorded.
#[derive(Debug)]
pub struct Recorder {
    lines: mpsc::UnboundedSender<(Line, Reservation)>,
    budget: Budget,
    accept: Option<oneshot::Sender<()>>,
    ended: Ended,
}

impl Recorder {
    /// Tells the reader that the recording will begin, now or with the next instance.
    pub(crate) fn accept(&mut self) {
        if let Some(accept) = self.accept.take() {
            // The reader may have gone.
            let _ = accept.send(());
        }
    }

    /// Ends the recording, for this reason.
    pub(crate) fn end(self, reason: impl Into<String>) {
        // Only the first reason counts.
        let _ = self.ended.set(reason.into());
    }

    /// Adds a line from before the recording; returns false if the recording has ended. What it holds is held by the
    /// stream, too, and bounded there.
    pub(crate) fn begin(&self, line: Line) -> bool {
        self.add(line, 0)
    }

    /// Adds a call; returns false if the recording has ended.
    pub(crate) fn record(&self, record: Record) -> bool {
        let bytes = LINE + record.bytes();
        self.add(Line::Record(Box::new(record)), bytes)
    }

    fn add(&self, line: Line, bytes: usize) -> bool {
        let Some(held) = self.budget.reserve_within(bytes) else {
            let _ = self.ended.set("the reader was too slow".into());
            return false;
        };
        self.lines.send((line, held)).is_ok()
    }

    /// Whether the reader has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.lines.is_closed()
    }
}

/// Receiving end. It ends with an [`End`].
#[derive(Debug)]
pub struct Recording {
    lines: Option<mpsc::UnboundedReceiver<(Line, Reservation)>>,
    accepted: oneshot::Receiver<()>,
    ended: Ended,
}

impl Recording {
    /// Waits for the muxer's thread to accept the recording, which is before there is a line.
    ///
    /// # Errors
    /// The reason for which it refuses.
    pub async fn accepted(&mut self) -> Result<(), String> {
        let accepted = (&mut self.accepted).await;
        accepted.map_err(|_| self.end_reason())
    }

    fn end_reason(&self) -> String {
        let end = self.ended.get();
        end.map_or("the muxer has ended", String::as_str).to_owned()
    }

    /// The next line; `None` after the [`End`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Line>> {
        let Some(lines) = &mut self.lines else {
            return Poll::Ready(None);
        };
        if let Some((line, _)) = ready!(lines.poll_recv(context)) {
            return Poll::Ready(Some(line));
        }
        self.lines = None;
        let end = self.end_reason();
        Poll::Ready(Some(Line::End(End { end })))
    }

    /// See [`Recording::poll_next`].
    pub async fn next(&mut self) -> Option<Line> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Ends it without what still waits. Returns the [`End`] with this reason, or `None` if it has ended.
    pub fn stop(&mut self, reason: &str) -> Option<Line> {
        let end = reason.to_owned();
        self.lines.take().map(|_| Line::End(End { end }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::recording::{Call, Effected, Payload};
    use bytes::Bytes;

    fn call(bytes: usize) -> Record {
        let message = Payload::Base64(Bytes::from(vec![7; bytes]).into());
        Record::past(Call::Received { viewer: 1, message })
    }

    #[tokio::test]
    async fn a_recording_ends_instead_of_growing() {
        let (recorder, mut recording) = channel();
        // The past is bounded where it comes from.
        let past = Line::Record(Box::new(call(MAX_WAITING_BYTES)));
        assert!(recorder.begin(past));
        assert!(recorder.record(call(MAX_WAITING_BYTES - LINE)));
        assert!(!recorder.record(call(1)));
        drop(recorder);
        for _ in 0..2 {
            assert!(matches!(recording.next().await, Some(Line::Record(_))));
        }
        let end = recording.next().await.unwrap();
        assert_eq!(end.to_text(), "{\"end\":\"the reader was too slow\"}\n");
        assert_eq!(recording.next().await, None);
    }

    #[tokio::test]
    async fn a_recording_is_accepted_or_refused_before_its_first_line() {
        let (mut recorder, mut recording) = channel();
        recorder.accept();
        assert_eq!(recording.accepted().await, Ok(()));
        let (recorder, mut recording) = channel();
        recorder.end("not now");
        assert_eq!(recording.accepted().await, Err("not now".into()));
        let (recorder, mut recording) = channel();
        drop(recorder);
        let gone = recording.accepted().await;
        assert_eq!(gone, Err("the muxer has ended".into()));
    }

    #[tokio::test]
    async fn the_first_reason_is_the_reason() {
        let (recorder, mut recording) = channel();
        recorder.end("first");
        assert_eq!(
            recording.next().await,
            Some(Line::End(End {
                end: "first".into()
            }))
        );
        let (recorder, mut recording) = channel();
        assert!(recorder.record(call(10)));
        assert!(recording.stop("enough").is_some() && recorder.is_closed());
        assert!(!recorder.record(call(10)));
        assert_eq!(recording.next().await, None);
    }

    #[tokio::test]
    async fn what_is_sent_to_viewers_counts() {
        let (recorder, _recording) = channel();
        let sent = Effected::Send(Payload::Base64(Bytes::from(vec![7; 1 << 20]).into()));
        let record = Record {
            requested: vec![(1, sent); 40],
            ..call(0)
        };
        assert!(recorder.record(record.clone()));
        assert!(!recorder.record(record));
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        let line = Line::Record(Box::new(call(3)));
        let text = String::from_utf8(line.to_text().to_vec()).unwrap();
        assert_eq!(
            text,
            "{\"call\":{\"received\":{\"viewer\":1,\"message\":{\"base64\":\"BwcH\"}}},\"answer\":null}\n"
        );
        assert_eq!(Line::parse(&text).unwrap(), line);
        for wrong in ["", "{}", "[]", "{\"call\":{\"dance\":1}}"] {
            assert!(Line::parse(wrong).is_err(), "{wrong}");
        }
    }
}
