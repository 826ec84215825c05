//! Joins the video of one feed and the audio of another into one feed, if either of them was transcoded.
//!
//! Both come from one source and carry its epochs, so they are matched epoch by epoch: neither is published before the
//! tracks of its epoch are known on both sides. If both have a sample, the earlier one goes first. `transcoders` starts
//! a thread of its own for this.

use super::{
    feed::{Feed, Next, Reader, WakeOn},
    info::Info,
    ring::{Entry, HistorySpan},
    status::Status,
    supervise::{self, Work},
    transcoders::CaughtUp,
};
use sluicegate_media::sample::Sample;
use sluicegate_source::Stop;
use sluicegate_telemetry::Panicked;
use std::{sync::Arc, thread};

/// Joins until it is stopped: publishes the video of `parts.video_side`, from as far back as `past` says, and the audio
/// of `parts.audio_side` from the same time in `out`. Sets `caught_up` once the transcoded parts are current and all of
/// it is published.
///
/// Audio waits in its feed while the video of its epoch is not there yet, and is dropped if the video is of a later
/// one.
pub(super) fn run(
    parts: &Parts,
    past: HistorySpan,
    out: &Feed,
    caught_up: &CaughtUp,
    status: &Status,
    stop: &Stop,
) {
    let mut joiner = Joiner::new(parts, past, out, caught_up);
    supervise::run(&mut joiner, status, stop);
}

/// The feeds to join.
pub(super) struct Parts {
    /// The feed with the video.
    pub video_side: Arc<Feed>,
    /// The feed with the audio.
    pub audio_side: Arc<Feed>,
    /// Progress of those that are transcoded.
    pub derived: Vec<Arc<CaughtUp>>,
}

/// A reader of one of the two feeds.
struct FeedCursor {
    reader: Reader,
    position: u64,
    /// Tracks at `position`.
    info: Option<Arc<Info>>,
}

impl FeedCursor {
    /// The next entry, if there is one; samples that are not `wanted` are skipped.
    fn peek(&mut self, wanted: impl Fn(&Sample) -> bool) -> Option<Entry> {
        loop {
            match self.reader.next(self.position, 0) {
                Next::Entry(Entry::Sample(sample), _) if !wanted(&sample) => self.position += 1,
                Next::Entry(entry, _) => return Some(entry),
                Next::Wait => return None,
                Next::Lost(resume_at, info) => {
                    self.position = resume_at;
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
    caught_up: &'a CaughtUp,
    derived: &'a [Arc<CaughtUp>],
    video: FeedCursor,
    audio: FeedCursor,
    /// Decode time of the first frame; earlier audio is dropped.
    from: Option<u64>,
    announced: Option<Arc<Info>>,
}

impl Work for Joiner<'_> {
    const PART: &'static str = "join";
    const FAULT: &'static str = "join-fault";

    fn step(&mut self) {
        let parts_current = self.derived.iter().all(|part| part.is_reached());
        if !self.take() {
            if parts_current {
                self.caught_up.reached(self.out);
            }
            thread::park();
        }
    }

    /// The only state is the two positions, which are past the entry that it panicked on.
    fn recover(&mut self, _: &Panicked) {}
}

impl<'a> Joiner<'a> {
    fn new(
        parts: &'a Parts,
        past: HistorySpan,
        out: &'a Feed,
        caught_up: &'a CaughtUp,
    ) -> Joiner<'a> {
        let reader = parts.video_side.reader(WakeOn::VideoOnly);
        let (position, info) = reader.start_and_retain(past.group_ms, past.groups, None);
        let video = FeedCursor {
            reader,
            position,
            info,
        };
        // Audio older than the first frame is dropped once that is known: the video may still be catching up.
        let reader = parts.audio_side.reader(WakeOn::All);
        let (position, info) = reader.start_at_oldest();
        let audio = FeedCursor {
            reader,
            position,
            info,
        };
        Joiner {
            out,
            caught_up,
            derived: &parts.derived,
            video,
            audio,
            from: None,
            announced: None,
        }
    }

    /// Takes one entry of either side; returns whether there was one to take.
    fn take(&mut self) -> bool {
        let frame = self.video.peek(|sample| !sample.is_audio());
        let frame = frame.filter(|entry| self.may_take_frame(entry));
        let audio = self.audio.peek(Sample::is_audio);
        let audio = audio.filter(|entry| self.may_take_audio(entry));
        match (frame, audio) {
            // In the past, where both are available, the earlier sample goes first.
            (Some(Entry::Sample(frame)), Some(Entry::Sample(audio)))
                if audio.decode_time < frame.decode_time =>
            {
                self.take_audio(Entry::Sample(audio));
            }
            (Some(frame), _) => self.take_frame(frame),
            (None, Some(audio)) => self.take_audio(audio),
            (None, None) => return false,
        }
        true
    }

    /// A frame waits until it is known whether there is audio in its epoch.
    fn may_take_frame(&self, entry: &Entry) -> bool {
        !matches!(entry, Entry::Sample(_)) || self.audio.epoch() >= self.video.epoch()
    }

    fn may_take_audio(&self, entry: &Entry) -> bool {
        let (video_side, audio_side) = (self.video.epoch(), self.audio.epoch());
        match entry {
            Entry::Configure(info) => audio_side.is_none() || video_side >= Some(info.epoch),
            Entry::Sample(_) => {
                audio_side < video_side
                    || self.announced.as_ref().map(|announced| announced.epoch) >= audio_side
            }
            Entry::Stop(_) => true,
        }
    }

    fn take_frame(&mut self, entry: Entry) {
        self.video.position += 1;
        match entry {
            Entry::Configure(info) => self.video.info = Some(info),
            Entry::Stop(_) => {
                self.announced = None;
                self.out.publish(entry);
            }
            Entry::Sample(sample) => {
                self.from.get_or_insert(sample.decode_time);
                self.announce();
                self.out.publish(Entry::Sample(sample));
            }
        }
    }

    fn take_audio(&mut self, entry: Entry) {
        self.audio.position += 1;
        match entry {
            Entry::Configure(info) => self.audio.info = Some(info),
            // The video's feed has the same stop.
            Entry::Stop(_) => {}
            Entry::Sample(sample) => {
                let announced = self.announced.as_ref().map(|announced| announced.epoch);
                let late = self.from.is_some_and(|from| sample.decode_time < from);
                if announced.is_some() && announced == self.audio.epoch() && !late {
                    self.out.publish(Entry::Sample(sample));
                }
            }
        }
    }

    /// Announces the tracks, if they changed.
    fn announce(&mut self) {
        let Some(video) = &self.video.info else {
            return;
        };
        let audio = self.audio.info.as_ref();
        let audio = audio.filter(|audio| audio.epoch == video.epoch);
        let audio = audio.and_then(|audio| audio.audio.as_ref());
        let same = |announced: &Arc<Info>| {
            announced.epoch == video.epoch
                && announced.video == video.video
                && announced.audio.as_ref() == audio
        };
        if self.announced.as_ref().is_some_and(same) {
            return;
        }
        let info = Arc::new(Info {
            started_at: video.started_at,
            epoch: video.epoch,
            video: video.video.clone(),
            audio: audio.cloned(),
            coding: None,
        });
        self.announced = Some(info.clone());
        self.out.publish(Entry::Configure(info));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::{
        ring::GroupNumbers,
        testing::{times, video},
    };
    use bytes::Bytes;
    use sluicegate_media::{
        aac::Config,
        sample::{Audio, SampleRange},
    };
    use std::time::Duration;

    const NEWEST: HistorySpan = HistorySpan {
        group_ms: 0,
        groups: 1,
    };

    /// Two feeds, and a reader of what is published, as text.
    struct Rig {
        video_side: Arc<Feed>,
        audio_side: Arc<Feed>,
        out: Arc<Feed>,
        position: u64,
    }

    impl Rig {
        fn new() -> Rig {
            let feed = || Feed::new(GroupNumbers::own(0, Duration::ZERO));
            Rig {
                video_side: feed(),
                audio_side: feed(),
                out: feed(),
                position: 0,
            }
        }

        fn parts(&self) -> Parts {
            Parts {
                video_side: self.video_side.clone(),
                audio_side: self.audio_side.clone(),
                derived: Vec::new(),
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
                    Entry::Configure(info) => format!("video {}", info.epoch),
                    Entry::Stop(reason) => format!("stop {reason}"),
                    Entry::Sample(sample) if sample.is_audio() => {
                        format!("s{}", sample.decode_time)
                    }
                    Entry::Sample(sample) => format!("p{}", sample.decode_time),
                });
            }
            words.join(" ")
        }
    }

    fn frame(time: u64, key: bool) -> Entry {
        Entry::Sample(Arc::new(Sample::h264(times(time), key, Vec::new())))
    }

    fn audio(time: u64) -> Entry {
        let sample_range = SampleRange {
            at: time,
            length: 1024,
        };
        Entry::Sample(Arc::new(Sample::aac(
            times(time),
            sample_range,
            Bytes::new(),
        )))
    }

    fn configure_video(epoch: u32) -> Entry {
        Entry::Configure(Arc::new(Info {
            epoch,
            video: Some(video()),
            ..Info::default()
        }))
    }

    fn configure_audio(epoch: u32, there: bool) -> Entry {
        let config = Config::parse(&Bytes::from_static(&[0x11, 0x90])).unwrap();
        Entry::Configure(Arc::new(Info {
            epoch,
            audio: there.then(|| Audio::aac(&config, 2, "und")),
            ..Info::default()
        }))
    }

    #[test]
    fn a_late_reader_gets_both_tracks_from_the_newest_group_in_order_of_time() {
        let mut rig = Rig::new();
        for entry in [
            configure_video(0),
            frame(0, true),
            frame(10, false),
            frame(20, true),
            frame(30, false),
        ] {
            rig.video_side.publish(entry);
        }
        for entry in [
            configure_audio(0, true),
            audio(5),
            audio(15),
            audio(25),
            audio(35),
            audio(45),
        ] {
            rig.audio_side.publish(entry);
        }
        let (parts, out, caught_up) = (rig.parts(), rig.out.clone(), CaughtUp::default());
        let mut joiner = Joiner::new(&parts, NEWEST, &out, &caught_up);
        assert_eq!(rig.published(&mut joiner), "both 0 p20 s25 p30 s35 s45");
        rig.video_side.publish(frame(40, false));
        rig.audio_side.publish(audio(55));
        assert_eq!(rig.published(&mut joiner), "p40 s55");
    }

    #[test]
    fn each_waits_for_the_other_at_a_break() {
        let mut rig = Rig::new();
        let (parts, out, caught_up) = (rig.parts(), rig.out.clone(), CaughtUp::default());
        let mut joiner = Joiner::new(&parts, NEWEST, &out, &caught_up);
        rig.video_side.publish(configure_video(0));
        rig.video_side.publish(frame(10, true));
        assert_eq!(
            rig.published(&mut joiner),
            "",
            "it is unknown whether there is audio"
        );
        rig.audio_side.publish(configure_audio(0, true));
        rig.audio_side.publish(audio(5));
        rig.audio_side.publish(audio(15));
        assert_eq!(rig.published(&mut joiner), "both 0 p10 s15");
        // The audio is ahead of the encoder.
        rig.audio_side.publish(configure_audio(1, false));
        rig.audio_side.publish(configure_audio(2, true));
        rig.audio_side.publish(audio(65));
        rig.video_side.publish(frame(20, false));
        assert_eq!(rig.published(&mut joiner), "p20");
        // The encoder had no frame of the epoch in between.
        rig.video_side.publish(Entry::Stop("gone".into()));
        rig.video_side.publish(configure_video(2));
        rig.video_side.publish(frame(60, true));
        assert_eq!(rig.published(&mut joiner), "stop gone both 2 p60 s65");
        // Now the audio is behind.
        rig.video_side.publish(configure_video(3));
        rig.video_side.publish(frame(80, true));
        rig.audio_side.publish(audio(75));
        assert_eq!(rig.published(&mut joiner), "s75");
        rig.audio_side.publish(configure_audio(3, false));
        assert_eq!(rig.published(&mut joiner), "video 3 p80");
    }
}
