//! A source that is pushed to: other code, for example a server that receives video, hands it packets.
//!
//! [`channel`] gives both ends. The [`Pusher`] may be used from any thread and never blocks, so it suits code on
//! tokio's threads. The [`PushSource`] is the [`Source`] of a stream: on the stream's own thread it passes the packets
//! on to the sink, in order. Packets wait in a queue bounded in bytes. A full queue means that the stream cannot keep
//! up; the pusher is told, and viewers resume at the next keyframe. While nobody watches the stream, packets are
//! rejected.

use super::{AudioTrack, POLL_INTERVAL, Sink, Source, SourceContext, SourceError, SourceTimes};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
};
use thiserror::Error;

/// What can be pushed.
#[derive(Clone, Debug)]
pub enum Packet {
    /// NAL units of one or more complete access units of H.264.
    AccessUnit(Vec<Bytes>, SourceTimes),
    /// One JPEG.
    Jpeg(Bytes, SourceTimes),
    /// Description of the audio that follows.
    AudioTrack(AudioTrack),
    /// One audio frame, see [`Sink::audio_frame`].
    AudioFrame(Bytes, SourceTimes),
    /// Packets before this one were lost.
    Loss,
}

impl Packet {
    fn bytes(&self) -> usize {
        match self {
            Packet::AccessUnit(nals, _) => nals.iter().map(Bytes::len).sum(),
            Packet::Jpeg(data, _) | Packet::AudioFrame(data, _) => data.len(),
            Packet::AudioTrack(_) | Packet::Loss => 0,
        }
    }

    /// Whether later packets may depend on this one.
    fn is_video(&self) -> bool {
        matches!(self, Packet::AccessUnit(..) | Packet::Loss)
    }

    fn deliver(self, sink: &mut dyn Sink) {
        match self {
            Packet::AccessUnit(nals, times) => sink.access_unit(nals, times),
            Packet::Jpeg(data, times) => sink.jpeg(data, times),
            Packet::AudioTrack(audio) => sink.audio_track(audio),
            Packet::AudioFrame(data, times) => sink.audio_frame(data, times),
            Packet::Loss => sink.damaged(),
        }
    }
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PushError {
    /// The queue is full. What follows is useful from the next keyframe on, so ask the sender for one.
    #[error("the stream cannot keep up with its sender; {0} bytes are waiting")]
    Full(usize),
    /// The stream is idle, because nobody watches it.
    #[error("nobody is watching the stream")]
    Idle,
    /// No stream has this source any more.
    #[error("the stream is gone")]
    Gone,
}

/// Bytes that one packet counts for beyond its own, so that empty packets are bounded too.
const OVERHEAD: usize = 64;

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<Packet>,
    bytes: usize,
    /// The stream runs the source.
    running: bool,
    /// The newest description of the audio, for the next run.
    audio: Option<AudioTrack>,
    /// Video was rejected since the last packet that was taken.
    lost: bool,
    /// Every pusher was dropped.
    ended: bool,
}

/// The two ends of a source called `name`, with a queue of at most `max_bytes`.
pub fn channel(name: &str, max_bytes: usize) -> (Pusher, PushSource) {
    let queue = Arc::new(Queue {
        state: Mutex::default(),
        changed: Condvar::new(),
        max_bytes,
    });
    let pusher = Pusher(Arc::new(PusherInner(Arc::downgrade(&queue))));
    (
        pusher,
        PushSource {
            name: name.to_owned(),
            queue,
        },
    )
}

/// The end that packets are pushed to. The source ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Pusher(Arc<PusherInner>);

#[derive(Debug)]
struct PusherInner(Weak<Queue>);

impl Pusher {
    /// Appends a packet.
    ///
    /// # Errors
    /// The queue is full, or no stream has the source. The packet is dropped then, and viewers resume at the next
    /// keyframe.
    pub fn push(&self, packet: Packet) -> Result<(), PushError> {
        let queue = self.0.0.upgrade().ok_or(PushError::Gone)?;
        let mut state = queue.lock();
        if let Packet::AudioTrack(audio) = &packet {
            state.audio = Some(audio.clone());
        }
        if !state.running {
            return Err(PushError::Idle);
        }
        let bytes = packet.bytes() + OVERHEAD;
        if !state.packets.is_empty() && state.bytes + bytes > queue.max_bytes {
            state.lost |= packet.is_video();
            return Err(PushError::Full(state.bytes));
        }
        if std::mem::take(&mut state.lost) {
            state.bytes += OVERHEAD;
            state.packets.push_back(Packet::Loss);
        }
        state.bytes += bytes;
        state.packets.push_back(packet);
        queue.changed.notify_one();
        Ok(())
    }
}

impl Drop for PusherInner {
    fn drop(&mut self) {
        if let Some(queue) = self.0.upgrade() {
            queue.lock().ended = true;
            queue.changed.notify_one();
        }
    }
}

/// The end that a stream runs.
#[derive(Debug)]
pub struct PushSource {
    name: String,
    queue: Arc<Queue>,
}

/// Marks a queue as idle when it is dropped.
struct Running<'a>(&'a Queue);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.running = false;
        state.packets.clear();
        state.bytes = 0;
        state.lost = false;
    }
}

impl Queue {
    /// Takes packets from now on, until the guard is dropped; with the description of the audio, if there is any.
    fn start(&self) -> (Running<'_>, Option<AudioTrack>) {
        let mut state = self.lock();
        state.running = true;
        (Running(self), state.audio.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The packets that wait, after [`POLL_INTERVAL`] at most; `None` if there are none and none will come.
    fn take(&self) -> Option<VecDeque<Packet>> {
        let mut state = self.lock();
        if state.packets.is_empty() && !state.ended {
            self.changed.wait_for(&mut state, POLL_INTERVAL);
        }
        if state.packets.is_empty() && state.ended {
            return None;
        }
        state.bytes = 0;
        Some(std::mem::take(&mut state.packets))
    }
}

impl Source for PushSource {
    fn run(&self, context: &mut SourceContext<'_>) -> Result<(), SourceError> {
        let (_running, audio) = self.queue.start();
        context.sink.connected();
        if let Some(audio) = audio {
            context.sink.audio_track(audio);
        }
        while !context.stop.is_stopped() {
            let Some(packets) = self.queue.take() else {
                return Err(SourceError::Ended(self.name.clone()));
            };
            for packet in packets {
                packet.deliver(context.sink);
            }
        }
        Ok(())
    }

    fn may_be_silent(&self) -> bool {
        true
    }

    fn is_finite(&self) -> bool {
        true
    }
}

impl fmt::Display for PushSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{Recorder, run};
    use std::thread;

    fn unit(size: usize) -> Packet {
        Packet::AccessUnit(vec![Bytes::from(vec![9; size])], SourceTimes::default())
    }

    /// Runs the source on a thread, and calls `push` as soon as it takes packets.
    fn while_running(source: &PushSource, push: impl FnOnce() + Send) -> Recorder {
        let mut sink = Recorder::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !source.queue.lock().running {
                    thread::yield_now();
                }
                push();
            });
            assert_eq!(
                run(source, &mut sink).unwrap_err().to_string(),
                "whip ended"
            );
        });
        sink
    }

    #[test]
    fn packets_arrive_in_order_and_the_source_ends_with_its_last_pusher() {
        let (pusher, source) = channel("whip", 1 << 20);
        let other = pusher.clone();
        let sink = while_running(&source, move || {
            for size in 1..=100 {
                pusher.push(unit(size)).unwrap();
            }
            drop(pusher);
            other.push(unit(101)).unwrap();
        });
        let sizes: Vec<usize> = sink.units.iter().map(|(nals, _)| nals[0].len()).collect();
        assert_eq!(sizes, (1..=101).collect::<Vec<_>>());
        assert_eq!(sink.losses, 0);
    }

    #[test]
    fn a_full_queue_rejects_and_only_lost_video_is_a_loss() {
        let (pusher, source) = channel("whip", 1000);
        let (_running, _) = source.queue.start();
        let audio = Packet::AudioFrame(Bytes::from(vec![9; 200]), SourceTimes::default());
        pusher.push(unit(800)).unwrap();
        assert_eq!(pusher.push(audio), Err(PushError::Full(864)));
        assert_eq!(source.queue.take().unwrap().len(), 1);
        pusher.push(unit(800)).unwrap();
        assert_eq!(pusher.push(unit(200)), Err(PushError::Full(864)));
        pusher.push(unit(0)).unwrap();
        // Empty ones count too.
        assert!(matches!(pusher.push(unit(10)), Err(PushError::Full(_))));
        let packets: Vec<bool> = source
            .queue
            .take()
            .unwrap()
            .iter()
            .map(|packet| matches!(packet, Packet::Loss))
            .collect();
        assert_eq!(packets, [false, true, false]);
    }

    #[test]
    fn what_is_pushed_while_nobody_watches_is_not_delivered_later() {
        let (pusher, source) = channel("whip", 10);
        assert_eq!(pusher.push(unit(1)), Err(PushError::Idle));
        let running = source.queue.start();
        pusher.push(unit(5000)).unwrap();
        assert!(
            pusher.push(unit(1)).is_err(),
            "one that is larger than the queue goes alone"
        );
        drop(running);
        assert_eq!(pusher.push(unit(1)), Err(PushError::Idle));
        let (_running, _) = source.queue.start();
        assert!(source.queue.lock().packets.is_empty());
        drop(_running);
        drop(source);
        assert_eq!(pusher.push(unit(1)), Err(PushError::Gone));
    }
}
