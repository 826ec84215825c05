//! Pictures of one feed and sound of another in one: where either of them had to be made.

use super::{
    feed::{Feed, Next, Reader, WakeOn},
    ring::{Entry, Info, Past},
    status::Status,
    supervise::{self, Work},
    transcoders::Current,
};
use sluicegate_media::sample::Sample;
use sluicegate_source::Stop;
use sluicegate_telemetry::Panicked;
use std::{sync::Arc, thread};

/// Publishes the pictures of `parts.seen`, from as far back as `past` says, and the sound of `parts.heard` from there in `out`, until
/// told to stop; `current` once the parts that are made are and all of it is out.
///
/// Both come from one source and know its epochs. Sound waits in its feed while the pictures of its epoch are not there
/// yet, and is left out where they are of a later one.
pub(super) fn run(
    parts: &Parts,
    past: Past,
    out: &Feed,
    current: &Current,
    status: &Status,
    stop: &Stop,
) {
    let mut joiner = Joiner::new(parts, past, out, current);
    supervise::run(&mut joiner, status, stop);
}

/// What is joined.
pub(super) struct Parts {
    /// Has the pictures.
    pub seen: Arc<Feed>,
    /// Has the sound.
    pub heard: Arc<Feed>,
    /// How far those of them are that are made.
    pub made: Vec<Arc<Current>>,
}

/// One of the two feeds, and the place in it.
struct Side {
    reader: Reader,
    position: u64,
    /// The tracks there.
    info: Option<Arc<Info>>,
}

impl Side {
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
    current: &'a Current,
    made: &'a [Arc<Current>],
    pictures: Side,
    sound: Side,
    /// When the first picture is decoded: sound from before is not for those who see it.
    from: Option<u64>,
    told: Option<Arc<Info>>,
}

impl Work for Joiner<'_> {
    const PART: &'static str = "join";
    const FAULT: &'static str = "join-fault";

    fn step(&mut self) {
        let parts_current = self.made.iter().all(|part| part.is_reached());
        if !self.take() {
            if parts_current {
                self.current.reached(self.out);
            }
            thread::park();
        }
    }

    /// It has nothing but its two places, which are behind what it panicked on.
    fn recover(&mut self, _: &Panicked) {}
}

impl<'a> Joiner<'a> {
    fn new(parts: &'a Parts, past: Past, out: &'a Feed, current: &'a Current) -> Joiner<'a> {
        let reader = parts.seen.reader(WakeOn::VideoOnly);
        let (position, info) = reader.start_and_hold(past.group_ms, past.groups, None);
        let pictures = Side {
            reader,
            position,
            info,
        };
        // What is older than the first picture is left out when that is known: pictures may still be made of the past.
        let reader = parts.heard.reader(WakeOn::All);
        let (position, info) = reader.start_at_oldest();
        let sound = Side {
            reader,
            position,
            info,
        };
        Joiner {
            out,
            current,
            made: &parts.made,
            pictures,
            sound,
            from: None,
            told: None,
        }
    }

    /// Takes one entry of either; says whether there was one to take.
    fn take(&mut self) -> bool {
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::ring::Numbers;
    use bytes::Bytes;
    use sluicegate_media::{
        aac::Config,
        geometry::Geometry,
        sample::{Audio, Beat, Codec, Times, Video},
    };
    use std::time::Duration;

    const NEWEST: Past = Past {
        group_ms: 0,
        groups: 1,
    };

    /// Two feeds, and what comes of them in words.
    struct Rig {
        seen: Arc<Feed>,
        heard: Arc<Feed>,
        out: Arc<Feed>,
        position: u64,
    }

    impl Rig {
        fn new() -> Rig {
            let feed = || Feed::new(Numbers::own(0, Duration::ZERO));
            Rig {
                seen: feed(),
                heard: feed(),
                out: feed(),
                position: 0,
            }
        }

        fn parts(&self) -> Parts {
            Parts {
                seen: self.seen.clone(),
                heard: self.heard.clone(),
                made: Vec::new(),
            }
        }

        fn published(&mut self, joiner: &mut Joiner<'_>) -> String {
            while joiner.take() {}
            let reader = self.out.reader(WakeOn::All);
            let mut words = Vec::new();
            while let Next::Entry(entry, _) = reader.next(self.position, 0) {
                self.position += 1;
                words.push(match entry {
                    Entry::Configure(info) if info.audio.is_some() => {
                        format!("both {}", info.epoch)
                    }
                    Entry::Configure(info) => format!("pictures {}", info.epoch),
                    Entry::Stop(reason) => format!("stop {reason}"),
                    Entry::Sample(sample) if sample.is_sound() => {
                        format!("s{}", sample.decode_time)
                    }
                    Entry::Sample(sample) => format!("p{}", sample.decode_time),
                });
            }
            words.join(" ")
        }
    }

    fn times(decode_time: u64) -> Times {
        Times {
            decode_time,
            ..Times::default()
        }
    }

    fn picture(time: u64, key: bool) -> Entry {
        Entry::Sample(Arc::new(Sample::h264(times(time), key, Vec::new())))
    }

    fn sound(time: u64) -> Entry {
        let beat = Beat {
            at: time,
            length: 1024,
        };
        Entry::Sample(Arc::new(Sample::aac(times(time), beat, Bytes::new())))
    }

    fn pictures_are(epoch: u32) -> Entry {
        Entry::Configure(Arc::new(Info {
            epoch,
            video: Some(Video {
                codec: Codec::H264,
                codec_string: String::new(),
                config: Bytes::new(),
                width: 320,
                height: 192,
                geometry: Geometry::default(),
                frame_rate: 25.0,
                keyframe_ms: 0,
            }),
            ..Info::default()
        }))
    }

    fn sound_is(epoch: u32, there: bool) -> Entry {
        let config = Config::parse(&Bytes::from_static(&[0x11, 0x90])).unwrap();
        Entry::Configure(Arc::new(Info {
            epoch,
            audio: there.then(|| Audio::aac(&config, 2, "und")),
            ..Info::default()
        }))
    }

    #[test]
    fn who_joins_late_gets_both_from_the_newest_group_on_in_the_order_of_time() {
        let mut rig = Rig::new();
        for entry in [
            pictures_are(0),
            picture(0, true),
            picture(10, false),
            picture(20, true),
            picture(30, false),
        ] {
            rig.seen.publish(entry);
        }
        for entry in [
            sound_is(0, true),
            sound(5),
            sound(15),
            sound(25),
            sound(35),
            sound(45),
        ] {
            rig.heard.publish(entry);
        }
        let (parts, out, current) = (rig.parts(), rig.out.clone(), Current::default());
        let mut joiner = Joiner::new(&parts, NEWEST, &out, &current);
        assert_eq!(rig.published(&mut joiner), "both 0 p20 s25 p30 s35 s45");
        rig.seen.publish(picture(40, false));
        rig.heard.publish(sound(55));
        assert_eq!(rig.published(&mut joiner), "p40 s55");
    }

    #[test]
    fn each_waits_for_the_other_at_a_break() {
        let mut rig = Rig::new();
        let (parts, out, current) = (rig.parts(), rig.out.clone(), Current::default());
        let mut joiner = Joiner::new(&parts, NEWEST, &out, &current);
        rig.seen.publish(pictures_are(0));
        rig.seen.publish(picture(10, true));
        assert_eq!(rig.published(&mut joiner), "", "is there sound to it?");
        rig.heard.publish(sound_is(0, true));
        rig.heard.publish(sound(5));
        rig.heard.publish(sound(15));
        assert_eq!(rig.published(&mut joiner), "both 0 p10 s15");
        // The sound is ahead of the encoder.
        rig.heard.publish(sound_is(1, false));
        rig.heard.publish(sound_is(2, true));
        rig.heard.publish(sound(65));
        rig.seen.publish(picture(20, false));
        assert_eq!(rig.published(&mut joiner), "p20");
        // The encoder had no picture of the epoch between.
        rig.seen.publish(Entry::Stop("gone".into()));
        rig.seen.publish(pictures_are(2));
        rig.seen.publish(picture(60, true));
        assert_eq!(rig.published(&mut joiner), "stop gone both 2 p60 s65");
        // And now it is behind.
        rig.seen.publish(pictures_are(3));
        rig.seen.publish(picture(80, true));
        rig.heard.publish(sound(75));
        assert_eq!(rig.published(&mut joiner), "s75");
        rig.heard.publish(sound_is(3, false));
        assert_eq!(rig.published(&mut joiner), "pictures 3 p80");
    }
}
