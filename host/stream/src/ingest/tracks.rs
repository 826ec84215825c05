//! Which tracks a stream has at a time, as announced to its viewers. Pure.
//!
//! A player that gets a new track list restarts, so tracks change only at an independent frame. A player also waits for
//! every track that was announced, so audio is announced when it arrives: the first frames of a source that declares
//! audio are held back until the audio arrives, for a second at most. Audio that stops is removed at the next keyframe.
//! `ingest` passes every sample through [`Tracks`] and publishes the entries that it returns.

use crate::{info::Info, ring::Entry};
use bytes::Bytes;
use sluicegate_media::{
    sample::{Audio, Codec, Sample, Times, Video},
    time::{AudioGrid, TIMESCALE},
};
use sluicegate_source::{AudioTrack, Expected};
use std::{collections::VecDeque, sync::Arc};

/// Frames are held back for the first audio until they span `MAX_AUDIO_WAIT` ticks, or reach this number or size.
const MAX_AUDIO_WAIT: u64 = TIMESCALE as u64;
const MAX_HELD: usize = 256;
const MAX_HELD_BYTES: usize = 16 << 20;
/// Audio that is this far behind the video has stopped, in ticks.
const AUDIO_TIMEOUT: u64 = 2 * TIMESCALE as u64;

/// Entries to publish, in order.
pub type Entries = Vec<Entry>;

/// The tracks of one run.
#[derive(Debug)]
pub struct Tracks {
    started_at: u64,
    epoch: u32,
    expected: Expected,
    /// The tracks that viewers know; none before the first, and while the source is lost.
    announced: Option<Arc<Info>>,
    /// Whether tracks were announced in this run.
    began: bool,
    video: Option<Video>,
    audio: Option<AudioTrack>,
    /// Timing of all audio of the run, across changes of its format.
    audio_grid: AudioGrid,
    /// Time of the newest audio, since the source was opened.
    last_audio: Option<u64>,
    /// Frames that wait for the first audio, each with the video track if that changes with it.
    pending: VecDeque<(Option<Video>, Sample)>,
    held_bytes: usize,
}

impl Tracks {
    /// Creates the tracks of a run that began at `started_at` (Unix microseconds).
    pub fn new(started_at: u64) -> Tracks {
        Tracks {
            started_at,
            epoch: 0,
            expected: Expected::default(),
            announced: None,
            began: false,
            video: None,
            audio: None,
            audio_grid: AudioGrid::default(),
            last_audio: None,
            pending: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// Whether viewers know no tracks, and no frames wait.
    pub fn none_announced(&self) -> bool {
        self.announced.is_none() && self.pending.is_empty()
    }

    /// Whether the newest frames are coded as `codec`.
    pub fn has_video_codec(&self, codec: Codec) -> bool {
        let video = self.video.as_ref();
        !self.none_announced() && video.is_some_and(|video| video.codec == codec)
    }

    /// Sets which tracks the source declares.
    pub fn expect(&mut self, expected: Expected) {
        self.expected = expected;
    }

    /// Sets the format of the audio from here on.
    pub fn audio_track(&mut self, track: AudioTrack) {
        self.audio_grid.set_rate(match track.coding {
            None => track.audio.timescale,
            Some(_) => TIMESCALE,
        });
        self.audio = Some(track);
    }

    /// Takes a frame; `video` is the track if it changes with this frame.
    pub fn video_frame(&mut self, video: Option<Video>, sample: Sample) -> Entries {
        let waits = self.announced.is_none() && self.expected.audio && self.last_audio.is_none();
        if !waits {
            return self.place_video_frame(video, sample);
        }
        let first = self
            .pending
            .front()
            .map_or(sample.decode_time, |pending| pending.1.decode_time);
        let enough = sample.decode_time.saturating_sub(first) >= MAX_AUDIO_WAIT;
        self.held_bytes += sample.size();
        self.pending.push_back((video, sample));
        if enough || self.pending.len() >= MAX_HELD || self.held_bytes >= MAX_HELD_BYTES {
            return self.release_pending();
        }
        Entries::new()
    }

    /// Takes one frame (AAC) or packet (another codec) of audio.
    pub fn audio_frame(&mut self, data: Bytes, times: Times) -> Entries {
        let Some(track) = &self.audio else {
            return Entries::new();
        };
        let sample = if track.coding.is_some() {
            Sample::other_audio(self.audio_grid.place_packet(times), data)
        } else {
            let Some((times, sample_range)) = self.audio_grid.place(times, track.length) else {
                return Entries::new();
            };
            Sample::aac(times, sample_range, data)
        };
        let audio = track.audio.clone();
        self.last_audio = Some(sample.decode_time);
        let mut entries = self.release_pending();
        // With video, the audio is announced at the next keyframe.
        if self.video.is_none() && !self.expected.video {
            self.announce(Some(audio.clone()), &mut entries);
        }
        let known = self
            .announced
            .as_ref()
            .and_then(|announced| announced.audio.as_ref());
        if known == Some(&audio) {
            entries.push(Entry::Sample(Arc::new(sample)));
        }
        entries
    }

    /// Ends the tracks because the source is lost.
    pub fn lost(&mut self, reason: &str) -> Entries {
        let mut entries = self.release_pending();
        if self.announced.take().is_some() {
            entries.push(Entry::Stop(reason.into()));
        }
        self.video = None;
        self.audio = None;
        self.last_audio = None;
        self.expected = Expected::default();
        entries
    }

    fn release_pending(&mut self) -> Entries {
        self.held_bytes = 0;
        let pending = std::mem::take(&mut self.pending);
        pending
            .into_iter()
            .flat_map(|(video, sample)| self.place_video_frame(video, sample))
            .collect()
    }

    fn place_video_frame(&mut self, video: Option<Video>, sample: Sample) -> Entries {
        let mut entries = Entries::new();
        let changes = video.is_some();
        if changes {
            self.video = video;
        }
        if changes || sample.independent {
            let lately =
                |last_audio: u64| last_audio.saturating_add(AUDIO_TIMEOUT) >= sample.decode_time;
            let track = self.audio.as_ref();
            let audio = track
                .filter(|_| self.last_audio.is_some_and(lately))
                .map(|track| track.audio.clone());
            self.announce(audio, &mut entries);
        }
        entries.push(Entry::Sample(Arc::new(sample)));
        entries
    }

    /// Announces the tracks, if they changed or the source was lost.
    fn announce(&mut self, audio: Option<Audio>, entries: &mut Entries) {
        let video = self.video.as_ref();
        let known = self.announced.as_ref();
        if known
            .is_some_and(|announced| announced.video.as_ref() == video && announced.audio == audio)
        {
            return;
        }
        if std::mem::replace(&mut self.began, true) {
            self.epoch += 1;
        }
        let track = self.audio.as_ref().filter(|_| audio.is_some());
        let info = Arc::new(Info {
            started_at: self.started_at,
            epoch: self.epoch,
            video: video.cloned(),
            coding: track.and_then(|track| track.coding.clone()),
            audio,
        });
        self.announced = Some(info.clone());
        entries.push(Entry::Configure(info));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::testing::{times, video};
    use sluicegate_media::aac::Config;

    /// Ticks of a video frame at 25 per second; every tenth is a keyframe. Audio has 48,000 samples per second, 1024 in
    /// a frame.
    const VIDEO_FRAME: u64 = 3600;
    const AUDIO_FRAME: u64 = 1920;
    const GROUP: u64 = 10 * VIDEO_FRAME;
    const SECOND: u64 = TIMESCALE as u64;

    /// A source, and what its viewers learn of it.
    struct Rig {
        tracks: Tracks,
        /// The announcements as text, each with the time of its first sample.
        announced: Vec<String>,
        /// Number of video frames and of audio frames published.
        sent: (usize, usize),
        samples: Vec<Arc<Sample>>,
    }

    impl Rig {
        fn new(with_video: bool, with_audio: bool) -> Rig {
            let mut tracks = Tracks::new(0);
            tracks.expect(Expected {
                video: with_video,
                audio: with_audio,
            });
            Rig {
                tracks,
                announced: Vec::new(),
                sent: (0, 0),
                samples: Vec::new(),
            }
        }

        fn describe_audio(&mut self, config: &'static [u8]) {
            let config = Config::parse(&Bytes::from_static(config)).unwrap();
            self.tracks.audio_track(AudioTrack {
                audio: Audio::aac(&config, 2, "und"),
                length: config.frame_length,
                coding: None,
            });
        }

        /// Sends video and audio in turns, whichever are enabled, for this span of time.
        fn run(&mut self, from: u64, to: u64, with_video: bool, with_audio: bool) {
            for time in from..to {
                if with_video && time.is_multiple_of(VIDEO_FRAME) {
                    let key = time.is_multiple_of(GROUP);
                    let sample = Sample::h264(times(time), key, vec![Bytes::from_static(b"pic")]);
                    let entries = self.tracks.video_frame(key.then(video), sample);
                    self.keep(entries);
                }
                if with_audio && time.is_multiple_of(AUDIO_FRAME) {
                    let entries = self
                        .tracks
                        .audio_frame(Bytes::from_static(b"tone"), times(time));
                    self.keep(entries);
                }
            }
        }

        fn keep(&mut self, entries: Entries) {
            for entry in entries {
                match entry {
                    Entry::Configure(info) => {
                        let name = match (&info.video, &info.audio) {
                            (Some(_), Some(_)) => "both",
                            (Some(_), None) => "video",
                            (None, _) => "audio",
                        };
                        self.announced.push(format!("{} {name}", info.epoch));
                    }
                    Entry::Stop(reason) => self.announced.push(format!("stop: {reason}")),
                    Entry::Sample(sample) => {
                        if let Some(last) = self.announced.last_mut()
                            && !last.contains(" at ")
                        {
                            *last += &format!(" at {}", sample.decode_time / 90);
                        }
                        match sample.is_audio() {
                            true => self.sent.1 += 1,
                            false => self.sent.0 += 1,
                        }
                        self.samples.push(sample);
                    }
                }
            }
        }
    }

    const LC: &[u8] = &[0x11, 0x90];

    #[test]
    fn the_first_frames_wait_for_audio_that_is_to_come_and_none_is_lost() {
        let mut rig = Rig::new(true, true);
        rig.run(0, SECOND / 2, true, false);
        assert_eq!((rig.announced.len(), rig.sent), (0, (0, 0)));
        rig.describe_audio(LC);
        rig.run(SECOND / 2, SECOND, true, true);
        assert_eq!(rig.announced, ["0 both at 0"]);
        assert_eq!(rig.sent.0, 25);
        let audio_times: Vec<u64> = rig
            .samples
            .iter()
            .filter_map(|sample| Some(sample.sample_range()?.at))
            .collect();
        assert!(
            audio_times.windows(2).all(|two| two[1] - two[0] == 1024),
            "{audio_times:?}"
        );
    }

    #[test]
    fn absent_audio_is_not_announced_and_late_audio_starts_at_the_next_keyframe() {
        let mut rig = Rig::new(true, true);
        rig.describe_audio(LC);
        rig.run(0, SECOND - 1, true, false);
        assert_eq!(rig.announced.len(), 0);
        rig.run(SECOND - 1, 3 * SECOND, true, false);
        assert_eq!(rig.announced, ["0 video at 0"]);
        assert_eq!(rig.sent, (75, 0));
        // A group is 400 ms.
        rig.run(3 * SECOND, 4 * SECOND, true, true);
        assert_eq!(rig.announced[1..], ["1 both at 3200"]);
        let first = rig.samples.iter().find(|sample| sample.is_audio()).unwrap();
        assert!((3200 * 90..3240 * 90).contains(&first.decode_time));
    }

    #[test]
    fn audio_that_stops_is_dropped_after_two_seconds_and_announced_on_return() {
        let mut rig = Rig::new(true, true);
        rig.describe_audio(LC);
        rig.run(0, SECOND, true, true);
        rig.run(SECOND, 5 * SECOND, true, false);
        rig.run(5 * SECOND, 6 * SECOND, true, true);
        assert_eq!(
            rig.announced,
            ["0 both at 0", "1 video at 3200", "2 both at 5200"]
        );
        assert_eq!(rig.sent.0, 150);
    }

    #[test]
    fn audio_alone_is_announced_at_once_and_again_when_it_changes() {
        let mut rig = Rig::new(false, true);
        rig.describe_audio(LC);
        rig.run(0, SECOND, false, true);
        // Mono.
        rig.describe_audio(&[0x11, 0x88]);
        rig.run(SECOND, 2 * SECOND, false, true);
        assert_eq!(rig.announced, ["0 audio at 0", "1 audio at 1002"]);
        assert!(rig.samples.iter().all(|sample| sample.independent));
    }

    #[test]
    fn other_audio_beside_video_begins_with_a_keyframe() {
        let mut rig = Rig::new(true, true);
        rig.describe_audio(LC);
        rig.run(0, SECOND, true, true);
        let before = rig.sent.1;
        rig.describe_audio(&[0x11, 0x88]);
        rig.run(SECOND, SECOND + 2000, true, true);
        assert_eq!(rig.sent.1, before, "viewers do not know it yet");
        rig.run(SECOND + 2000, 2 * SECOND, true, true);
        assert_eq!(rig.announced, ["0 both at 0", "1 both at 1200"]);
    }

    #[test]
    fn audio_times_rise_whatever_the_codec_changes_to() {
        let mut rig = Rig::new(false, true);
        // 48,000 and 44,100 samples per second; each begins a little before the other has ended.
        for (turn, config) in [LC, &[0x12, 0x10], LC].into_iter().enumerate() {
            rig.describe_audio(config);
            let from = turn as u64 * SECOND;
            rig.run(from - 2000 * turn.min(1) as u64, from + SECOND, false, true);
            if turn == 1 {
                let entries = rig.tracks.lost("gone");
                rig.keep(entries);
                rig.tracks.expect(Expected {
                    video: false,
                    audio: true,
                });
            }
        }
        assert_eq!(rig.announced.len(), 4, "{:?}", rig.announced);
        let ends = |sample: &Sample| sample.decode_time + u64::from(sample.duration);
        let mut pairs = rig.samples.windows(2);
        assert!(pairs.all(|two| ends(&two[0]) <= two[1].decode_time));
    }

    #[test]
    fn expected_tracks_revoke_no_frames_that_came() {
        let mut rig = Rig::new(true, true);
        rig.run(0, SECOND / 2, true, false);
        rig.tracks.expect(Expected {
            video: false,
            audio: true,
        });
        rig.describe_audio(LC);
        rig.run(SECOND / 2, SECOND, true, true);
        rig.tracks.expect(Expected::default());
        rig.run(SECOND, 2 * SECOND, true, true);
        assert_eq!(
            (&rig.announced[..], rig.sent.0),
            (&["0 both at 0".into()][..], 50)
        );
    }

    #[test]
    fn audio_before_the_first_keyframe_is_left_out() {
        let mut rig = Rig::new(true, true);
        rig.describe_audio(LC);
        rig.run(1, GROUP, false, true);
        assert_eq!((rig.announced.len(), rig.sent), (0, (0, 0)));
        rig.run(GROUP, SECOND, true, true);
        assert_eq!(rig.announced, ["0 both at 400"]);
    }

    #[test]
    fn a_lost_source_releases_what_it_held_and_starts_afresh() {
        let mut rig = Rig::new(true, true);
        rig.run(0, SECOND / 2, true, false);
        let entries = rig.tracks.lost("gone");
        rig.keep(entries);
        assert_eq!(rig.announced, ["0 video at 0", "stop: gone"]);
        assert_eq!(rig.sent.0, 13);
        let entries = rig.tracks.lost("still gone");
        rig.keep(entries);
        // It returns with other tracks.
        rig.tracks.expect(Expected {
            video: true,
            audio: true,
        });
        rig.describe_audio(LC);
        rig.run(4 * SECOND, 5 * SECOND, true, true);
        assert_eq!(rig.announced[2..], ["1 both at 4000"]);
    }
}
