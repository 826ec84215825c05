//! Pictures of one feed and sound of another in one: where either of them had to be made.

use super::{
    feed::{Ear, Feed, Next, Reader},
    ring::{Entry, Info},
};
use crate::{media::sample::Sample, source::Stop};
use std::{sync::Arc, thread};

/// Publishes the pictures of `seen`, from the newest group on, and the sound of `heard` from there in `out`, until told to stop.
///
/// Both come from one source and know its epochs. Sound waits in its feed while the pictures of its epoch are not there
/// yet, and is left out where they are of a later one.
pub(super) fn run(seen: &Arc<Feed>, heard: &Arc<Feed>, out: &Feed, stop: &Stop) {
    let pictures = Side::new(seen.reader(Ear::Deaf));
    let mut sound = Side::new(heard.reader(Ear::Open));
    let from = match pictures.reader.next(pictures.position, 0) {
        Next::Entry(Entry::Sample(first), _) => Some(first.decode_time),
        _ => None,
    };
    if let Some(from) = from {
        (sound.position, sound.info) = sound.reader.sound_from(from);
    }
    let mut joiner = Joiner {
        out,
        pictures,
        sound,
        from,
        told: None,
    };
    while !stop.is_stopped() {
        if !joiner.step() {
            thread::park();
        }
    }
}

/// One of the two feeds, and the place in it.
struct Side {
    reader: Reader,
    position: u64,
    /// The tracks there.
    info: Option<Arc<Info>>,
}

impl Side {
    fn new(reader: Reader) -> Side {
        let (position, info) = reader.start(0, 1);
        Side {
            reader,
            position,
            info,
        }
    }

    /// What is next, if it is there.
    fn peek(&mut self, wanted: impl Fn(&Sample) -> bool) -> Option<Entry> {
        loop {
            match self.reader.next(self.position, 0) {
                Next::Entry(Entry::Sample(sample), _) if !wanted(&sample) => self.position += 1,
                Next::Entry(entry, _) => return Some(entry),
                Next::Wait => return None,
                Next::Lost(on, info) => {
                    self.position = on;
                    self.info = info.or(self.info.take());
                }
            }
        }
    }

    fn epoch(&self) -> Option<u32> {
        self.info.as_ref().map(|info| info.epoch)
    }
}

struct Joiner<'a> {
    out: &'a Feed,
    pictures: Side,
    sound: Side,
    /// When the first picture is decoded: sound from before is not for those who see it.
    from: Option<u64>,
    told: Option<Arc<Info>>,
}

impl Joiner<'_> {
    /// Takes one entry of either; says whether there was one to take.
    fn step(&mut self) -> bool {
        let picture = self.pictures.peek(|sample| !sample.is_sound());
        let picture = picture.filter(|entry| self.may_take_picture(entry));
        let sound = self.sound.peek(Sample::is_sound);
        let sound = sound.filter(|entry| self.may_take_sound(entry));
        match (picture, sound) {
            // Of a past that is there already, what is earlier goes first.
            (Some(Entry::Sample(picture)), Some(Entry::Sample(sound)))
                if sound.decode_time < picture.decode_time =>
            {
                self.take_sound(Entry::Sample(sound));
            }
            (Some(picture), _) => self.take_picture(picture),
            (None, Some(sound)) => self.take_sound(sound),
            (None, None) => return false,
        }
        true
    }

    /// A picture waits until it is known whether there is sound to it.
    fn may_take_picture(&self, entry: &Entry) -> bool {
        !matches!(entry, Entry::Sample(_)) || self.sound.epoch() >= self.pictures.epoch()
    }

    fn may_take_sound(&self, entry: &Entry) -> bool {
        let (seen, heard) = (self.pictures.epoch(), self.sound.epoch());
        match entry {
            Entry::Configure(info) => heard.is_none() || seen >= Some(info.epoch),
            Entry::Sample(_) => heard < seen || self.told.as_ref().map(|told| told.epoch) >= heard,
            Entry::Stop(_) => true,
        }
    }

    fn take_picture(&mut self, entry: Entry) {
        self.pictures.position += 1;
        match entry {
            Entry::Configure(info) => self.pictures.info = Some(info),
            Entry::Stop(_) => {
                self.told = None;
                self.out.publish(entry);
            }
            Entry::Sample(sample) => {
                self.from.get_or_insert(sample.decode_time);
                self.tell();
                self.out.publish(Entry::Sample(sample));
            }
        }
    }

    fn take_sound(&mut self, entry: Entry) {
        self.sound.position += 1;
        match entry {
            Entry::Configure(info) => self.sound.info = Some(info),
            // The pictures' feed says so too.
            Entry::Stop(_) => {}
            Entry::Sample(sample) => {
                let told = self.told.as_ref().map(|told| told.epoch);
                let late = self.from.is_some_and(|from| sample.decode_time < from);
                if told.is_some() && told == self.sound.epoch() && !late {
                    self.out.publish(Entry::Sample(sample));
                }
            }
        }
    }

    /// Tells of the tracks, if they are others.
    fn tell(&mut self) {
        let Some(pictures) = &self.pictures.info else {
            return;
        };
        let sound = self.sound.info.as_ref();
        let sound = sound.filter(|sound| sound.epoch == pictures.epoch);
        let audio = sound.and_then(|sound| sound.audio.as_ref());
        let same = |told: &Arc<Info>| {
            told.epoch == pictures.epoch
                && told.video == pictures.video
                && told.audio.as_ref() == audio
        };
        if self.told.as_ref().is_some_and(same) {
            return;
        }
        let info = Arc::new(Info {
            started_at: pictures.started_at,
            epoch: pictures.epoch,
            video: pictures.video.clone(),
            audio: audio.cloned(),
            coding: None,
        });
        self.told = Some(info.clone());
        self.out.publish(Entry::Configure(info));
    }
}
