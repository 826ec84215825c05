//! Which tracks a stream has at a time, as its viewers are told. Pure.
//!
//! Tracks are told anew only where a picture stands alone, as a player that is told of others begins anew there. Sound is told of
//! once it is heard, as players wait for what they are told of: so the first pictures of a source that says it has sound are held
//! back until the sound comes, for a second at most. Sound that stops is left out from the next keyframe on.

use crate::{
    media::{
        sample::{Audio, Beat, Sample, Times, Video},
        time::{Metronome, TIMESCALE},
    },
    source::{Expected, Sound},
    stream::ring::{Entry, Info},
};
use bytes::Bytes;
use std::{collections::VecDeque, sync::Arc};

/// Pictures wait for the first sound until they are this far apart, so many, or so large.
const HOLD: u64 = TIMESCALE as u64;
const MOST_HELD: usize = 256;
const MOST_HELD_BYTES: usize = 16 << 20;
/// Sound that is this far behind the pictures has stopped.
const QUIET: u64 = 2 * TIMESCALE as u64;

/// What is to be published.
pub type Entries = Vec<Entry>;

/// The tracks of one run.
#[derive(Debug)]
pub struct Tracks {
    started_at: u64,
    epoch: u32,
    expected: Expected,
    /// What viewers know; none before the first, and while nothing comes.
    told: Option<Arc<Info>>,
    /// Something was told before.
    began: bool,
    video: Option<Video>,
    hearing: Option<Hearing>,
    /// When the newest sound was, since the source came.
    heard: Option<u64>,
    /// Pictures that wait for the first sound, with the video track where it changes.
    held: VecDeque<(Option<Video>, Sample)>,
    held_bytes: usize,
}

/// The sound as the source gives it now.
#[derive(Debug)]
struct Hearing {
    sound: Sound,
    metronome: Metronome,
}

impl Tracks {
    /// Of a run that began at `started_at` (Unix microseconds).
    pub fn new(started_at: u64) -> Tracks {
        Tracks {
            started_at,
            epoch: 0,
            expected: Expected::default(),
            told: None,
            began: false,
            video: None,
            hearing: None,
            heard: None,
            held: VecDeque::new(),
            held_bytes: 0,
        }
    }

    /// Whether viewers know of no tracks.
    pub fn are_unknown(&self) -> bool {
        self.told.is_none() && self.held.is_empty()
    }

    /// The source says which tracks it has.
    pub fn expect(&mut self, expected: Expected) {
        self.expected = expected;
    }

    /// The source says what its sound is.
    pub fn sound(&mut self, sound: Sound) {
        let known = self.hearing.as_mut().map(|hearing| &mut hearing.sound);
        match known {
            // A file that begins again.
            Some(known) if known.audio == sound.audio && known.length == sound.length => {
                *known = sound;
            }
            _ => {
                self.hearing = Some(Hearing {
                    metronome: Metronome::new(sound.audio.timescale),
                    sound,
                });
            }
        }
    }

    /// A picture; `video` where the track is told with it.
    pub fn picture(&mut self, video: Option<Video>, sample: Sample) -> Entries {
        let waits = self.told.is_none() && self.expected.sound && self.heard.is_none();
        if !waits {
            return self.place_picture(video, sample);
        }
        let first = self
            .held
            .front()
            .map_or(sample.decode_time, |held| held.1.decode_time);
        let enough = sample.decode_time.saturating_sub(first) >= HOLD;
        self.held_bytes += sample.size();
        self.held.push_back((video, sample));
        if enough || self.held.len() >= MOST_HELD || self.held_bytes >= MOST_HELD_BYTES {
            return self.let_go();
        }
        Entries::new()
    }

    /// A frame of sound.
    pub fn sound_frame(&mut self, data: Bytes, times: Times) -> Entries {
        let Some(hearing) = &mut self.hearing else {
            return Entries::new();
        };
        let Sound {
            audio,
            length,
            coding,
        } = &hearing.sound;
        let sample = if coding.is_some() {
            Sample::other_sound(times, data)
        } else {
            let Some(at) = hearing.metronome.place(times.decode_time, *length) else {
                return Entries::new();
            };
            let start = hearing.metronome.ticks(at);
            let end = hearing.metronome.ticks(at + u64::from(*length));
            let times = Times {
                decode_time: start,
                duration: u32::try_from(end - start).unwrap_or(0),
                ..times
            };
            let beat = Beat {
                at,
                length: *length,
            };
            Sample::aac(times, beat, data)
        };
        let audio = audio.clone();
        self.heard = Some(sample.decode_time);
        let mut entries = self.let_go();
        if !self.expected.pictures {
            self.tell(Some(audio.clone()), &mut entries);
        }
        let known = self.told.as_ref().and_then(|told| told.audio.as_ref());
        if known == Some(&audio) {
            entries.push(Entry::Sample(Arc::new(sample)));
        }
        entries
    }

    /// The source is gone.
    pub fn lost(&mut self, reason: &str) -> Entries {
        let mut entries = self.let_go();
        if self.told.take().is_some() {
            entries.push(Entry::Stop(reason.into()));
        }
        self.hearing = None;
        self.heard = None;
        self.expected = Expected::default();
        entries
    }

    fn let_go(&mut self) -> Entries {
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        held.into_iter()
            .flat_map(|(video, sample)| self.place_picture(video, sample))
            .collect()
    }

    fn place_picture(&mut self, video: Option<Video>, sample: Sample) -> Entries {
        let mut entries = Entries::new();
        let changes = video.is_some();
        if changes {
            self.video = video;
        }
        if changes || sample.independent {
            let lately = |heard: u64| heard.saturating_add(QUIET) >= sample.decode_time;
            let hearing = self.hearing.as_ref();
            let audio = hearing
                .filter(|_| self.heard.is_some_and(lately))
                .map(|hearing| hearing.sound.audio.clone());
            self.tell(audio, &mut entries);
        }
        entries.push(Entry::Sample(Arc::new(sample)));
        entries
    }

    /// A break, if the tracks are others or the source was away.
    fn tell(&mut self, audio: Option<Audio>, entries: &mut Entries) {
        let video = self.video.as_ref().filter(|_| self.expected.pictures);
        let known = self.told.as_ref();
        if known.is_some_and(|told| told.video.as_ref() == video && told.audio == audio) {
            return;
        }
        if std::mem::replace(&mut self.began, true) {
            self.epoch += 1;
        }
        let coding = self.hearing.as_ref().filter(|_| audio.is_some());
        let info = Arc::new(Info {
            started_at: self.started_at,
            epoch: self.epoch,
            video: video.cloned(),
            coding: coding.and_then(|hearing| hearing.sound.coding.clone()),
            audio,
        });
        self.told = Some(info.clone());
        entries.push(Entry::Configure(info));
    }
}
