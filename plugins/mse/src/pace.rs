//! Decode times of one track that Media Source Extensions accept.
//!
//! A fragment is sent before anybody knows how long its sample lasts. Its duration is therefore an estimate, and the
//! next fragment's decode time is authoritative. MSE treats a decode time more than two durations after the last one as
//! a discontinuity (Media Source Extensions, 3.5.8, step 1.6) and drops everything up to the next keyframe, in all
//! tracks: one late frame would freeze the screen for the rest of the group. Within a group, decode times are therefore
//! written at most one and a half durations apart, and the composition offset compensates. Frames are presented exactly
//! when they should be; only decode times lag until they have caught up or the next group begins.
//!
//! Leading frames go only to viewers that were connected before their GOP, and would leave a gap for the others. They
//! therefore take no decode time: they are decoded one tick apart, and what follows is timed as if they did not exist.

use sluicegate_sdk::{Kind, Sample, Track};

/// Frame rate that is assumed if no duration is known.
const LIKELY_RATE: u32 = 25;

/// Timing of one track within a group.
pub(crate) struct Pace {
    pub id: u32,
    pub video: bool,
    timescale: u32,
    /// Ticks from one sample to the next by the track's frame rate; 0: unknown.
    step: u32,
    /// The previous sample of this group: its decode time, the decode time that was written for it, and the duration
    /// that was written.
    last: Option<(u64, u64, u32)>,
    /// Decode time that was written last, including leading samples.
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

    /// Converts ticks to milliseconds.
    pub fn millis(&self, ticks: u64) -> u64 {
        let scale = u64::from(self.timescale);
        (ticks / scale).saturating_mul(1000) + ticks % scale * 1000 / scale
    }

    /// Starts a group; nothing from before may have an influence.
    pub fn begin(&mut self) {
        self.last = None;
        self.newest = None;
    }

    /// Sets the sample's duration to the expected one, and adjusts its times so that players see no discontinuity.
    pub fn set(&mut self, sample: &mut Sample) {
        let at = sample.decode_time;
        let claimed = if sample.duration > 0 {
            sample.duration
        } else {
            self.step
        };
        // If a source has become slow, the next frame may be as late again. Leading samples in between would distort
        // the distance.
        let led = self.newest != self.last.map(|(_, written, _)| written);
        let distance = self.last.filter(|_| !led && !sample.leading);
        let distance = distance.map_or(0, |(last, ..)| at.saturating_sub(last));
        let distance = distance.min(self.timescale.into()) as u32;
        sample.duration = match claimed.max(distance) {
            0 => (self.timescale / LIKELY_RATE).max(1),
            ticks => ticks,
        };
        // An independent video frame may follow a discontinuity.
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
            // After a pause of hours the offset has too few bits. Accept the discontinuity then.
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
