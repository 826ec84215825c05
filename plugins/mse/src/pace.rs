//! Times of one track as Media Source Extensions bear them.
//!
//! A fragment goes out before anybody knows how long its sample lasts, so its duration is what is expected, and the next
//! fragment's decode time is the truth. MSE takes a decode time that is more than two durations behind the last one for a
//! break (Media Source Extensions, 3.5.8, step 1.6), and drops all that is not a keyframe from there on, of every track: one
//! late picture would freeze the screen for the rest of the group. So in the middle of a group decode times are written
//! no further apart than one and a half durations, and the composition offset makes up for it: pictures are shown exactly
//! when they should be, only the decode times lag until they have caught up or the next group begins.
//!
//! Pictures that lead a start go to those only who were there before it, and the others would have a break where they are. So they
//! take no time: they are decoded one tick apart, and what follows them comes as if they were not there.

use sluicegate_sdk::{Kind, Sample, Track};

/// Where nothing tells a duration: pictures a second.
const LIKELY_RATE: u32 = 25;

/// The times of one track within a group.
pub(crate) struct Pace {
    pub id: u32,
    pub video: bool,
    timescale: u32,
    /// From one sample to the next by the track's frame rate; 0: unknown.
    step: u32,
    /// Decode time of the last sample of this group: as it was, as it was written, and the duration that was written.
    last: Option<(u64, u64, u32)>,
    /// Decode time that was written last, of a leading sample, too.
    newest: Option<u64>,
}

impl Pace {
    pub fn new(track: &Track) -> Self {
        let (video, rate) = match &track.kind {
            Kind::Video(video) => (true, video.frame_rate),
            _ => (false, 0.0),
        };
        let step = if rate > 0.0 {
            track.timescale as f32 / rate
        } else {
            0.0
        };
        Pace {
            id: track.id,
            video,
            timescale: track.timescale,
            step: step.round() as u32,
            last: None,
            newest: None,
        }
    }

    /// Ticks in milliseconds.
    pub fn millis(&self, ticks: u64) -> u64 {
        let scale = u64::from(self.timescale);
        (ticks / scale).saturating_mul(1000) + ticks % scale * 1000 / scale
    }

    /// A group begins: nothing from before it may count.
    pub fn begin(&mut self) {
        self.last = None;
        self.newest = None;
    }

    /// Sets the sample's duration to the expected one, and its times so that players go on.
    pub fn set(&mut self, sample: &mut Sample) {
        let at = sample.decode_time;
        let claimed = if sample.duration > 0 {
            sample.duration
        } else {
            self.step
        };
        // Of a source that has become slow the next may be as late again. What leads is in between.
        let led = self.newest != self.last.map(|(_, written, _)| written);
        let distance = self.last.filter(|_| !led && !sample.leading);
        let distance = distance.map_or(0, |(last, ..)| at.saturating_sub(last));
        let distance = distance.min(self.timescale.into()) as u32;
        sample.duration = match claimed.max(distance) {
            0 => (self.timescale / LIKELY_RATE).max(1),
            ticks => ticks,
        };
        // A picture that needs no other may follow a break.
        let bound = self.last.filter(|_| !(self.video && sample.independent));
        if let Some((_, written, duration)) = bound {
            let most = match sample.leading {
                true => 0,
                false => written.saturating_add(u64::from(duration) + u64::from(duration / 2)),
            };
            let most = most.max(self.newest.map_or(0, |newest| newest + 1));
            let behind = at.saturating_sub(most);
            let offset = i64::try_from(behind)
                .ok()
                .and_then(|behind| behind.checked_add(sample.composition_offset.into()));
            // Hours behind, for which an offset has no room: a break it is.
            if let Some(offset) = offset.and_then(|offset| i32::try_from(offset).ok()) {
                sample.decode_time = at - behind;
                sample.composition_offset = offset;
            }
        }
        self.newest = Some(sample.decode_time);
        if !sample.leading || self.last.is_none() {
            self.last = Some((at, sample.decode_time, sample.duration));
        }
    }
}
