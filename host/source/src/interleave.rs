//! Interleaves the packets of a file's two tracks by time. Containers may store seconds of video before the audio that
//! belongs to it, so packets are buffered until both tracks have one, within bounds on time, bytes and packets. Pure;
//! used by `libav::play_paced`.

use std::collections::VecDeque;

/// Largest time span of buffered packets in ticks, as long as the other track has none.
const MAX_APART: i64 = 20 * sluicegate_media::time::TIMESCALE as i64;
/// Largest number of buffered bytes and packets.
const MAX_BYTES: usize = 32 << 20;
const MAX_PACKETS: usize = 16_384;

/// Packets of two tracks, waiting for each other.
#[derive(Debug)]
pub struct Interleave<T> {
    /// Queues of video and of audio.
    queues: [VecDeque<QueuedPacket<T>>; 2],
    /// Which of the two tracks exist.
    exist: [bool; 2],
    bytes: usize,
    is_ended: bool,
}

#[derive(Debug)]
struct QueuedPacket<T> {
    place: i64,
    bytes: usize,
    packet: T,
}

impl<T> Interleave<T> {
    /// For an input with these tracks.
    pub fn new(video: bool, audio: bool) -> Interleave<T> {
        Interleave {
            queues: [VecDeque::new(), VecDeque::new()],
            exist: [video, audio],
            bytes: 0,
            is_ended: false,
        }
    }

    /// Adds the next packet of a track, of `bytes` bytes; `place` is its time on the common timeline, in ticks.
    pub fn push(&mut self, is_audio: bool, place: i64, bytes: usize, packet: T) {
        self.bytes += bytes;
        self.queues[usize::from(is_audio)].push_back(QueuedPacket {
            place,
            bytes,
            packet,
        });
    }

    /// Marks the end: no more packets will be added.
    pub fn end(&mut self) {
        self.is_ended = true;
    }

    /// Whether [`Interleave::pop`] needs more packets first.
    pub fn needs_input(&self) -> bool {
        let mut queues = self.queues.iter().zip(self.exist);
        let is_missing = queues.any(|(queue, exists)| exists && queue.is_empty());
        !self.is_ended && is_missing && !self.is_full()
    }

    /// The next packet and its place; `None` at the end.
    pub fn pop(&mut self) -> Option<(i64, T)> {
        let [video, audio] = &mut self.queues;
        let queue = match (video.front(), audio.front()) {
            (Some(next_video), Some(next_audio)) if next_audio.place < next_video.place => audio,
            (None, _) => audio,
            (Some(_), _) => video,
        };
        let first = queue.pop_front()?;
        self.bytes -= first.bytes;
        Some((first.place, first.packet))
    }

    fn is_full(&self) -> bool {
        let is_long = |queue: &VecDeque<QueuedPacket<T>>| match (queue.front(), queue.back()) {
            (Some(first), Some(last)) => {
                queue.len() >= MAX_PACKETS || last.place.saturating_sub(first.place) > MAX_APART
            }
            _ => false,
        };
        self.bytes >= MAX_BYTES || self.queues.iter().any(is_long)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: i64 = sluicegate_media::time::TIMESCALE as i64;

    /// Feeds video and audio packets in a file's order; returns them in output order, and the largest number that was
    /// buffered.
    fn read(file: &[(bool, i64)], bytes: usize) -> (Vec<(bool, i64)>, usize) {
        let tracks = |is: bool| file.iter().any(|(is_audio, _)| *is_audio == is);
        let mut interleave = Interleave::new(tracks(false), tracks(true));
        let mut packets = file.iter();
        let (mut out, mut most) = (Vec::new(), 0);
        loop {
            while interleave.needs_input() {
                match packets.next() {
                    Some((is_audio, place)) => {
                        interleave.push(*is_audio, *place, bytes, (*is_audio, *place));
                    }
                    None => interleave.end(),
                }
            }
            most = most.max(interleave.queues.iter().map(VecDeque::len).sum());
            match interleave.pop() {
                Some((_, packet)) => out.push(packet),
                None => return (out, most),
            }
        }
    }

    #[test]
    fn badly_interleaved_video_and_audio_come_out_in_the_order_of_their_times() {
        let lump = |is_audio: bool, from: i64| {
            (0..20).map(move |nth| (is_audio, from + nth * SECOND / 10))
        };
        let lumps = (0..5).flat_map(|turn| {
            let from = 2 * turn * SECOND;
            lump(false, from).chain(lump(true, from + 1))
        });
        let file: Vec<(bool, i64)> = lumps.collect();
        let (out, most) = read(&file, 1000);
        let mut sorted = file.clone();
        sorted.sort_by_key(|(_, place)| *place);
        assert_eq!(out, sorted);
        assert!(most <= 41, "{most}");
    }

    #[test]
    fn a_track_that_does_not_come_is_waited_for_within_bounds() {
        let mut file: Vec<(bool, i64)> = (0..2000).map(|nth| (false, nth * SECOND / 10)).collect();
        file.push((true, 0));
        let (out, most) = read(&file, 1000);
        assert_eq!(out.len(), file.len());
        assert!((200..=202).contains(&most), "{most}");
        let (_, most) = read(&file, MAX_BYTES / 4);
        assert!(most <= 5, "{most}");
        let still: Vec<(bool, i64)> = (0..40_000).map(|_| (false, 0)).chain([(true, 0)]).collect();
        assert_eq!(read(&still, 0).1, MAX_PACKETS);
    }

    #[test]
    fn a_track_alone_waits_for_nothing() {
        let file: Vec<(bool, i64)> = (0..100).map(|nth| (true, nth)).collect();
        assert_eq!(read(&file, 10), (file, 1));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_packet_comes_out_once_and_each_track_in_its_order(
            file in prop::collection::vec((any::<bool>(), any::<i64>()), 0..100), bytes in 0usize..20_000_000,
        ) {
            let (out, _) = read(&file, bytes);
            for is_audio in [false, true] {
                let of = |all: &[(bool, i64)]| -> Vec<(bool, i64)> {
                    all.iter().filter(|(is, _)| *is == is_audio).copied().collect()
                };
                prop_assert_eq!(of(&out), of(&file));
            }
        }
    }
}
