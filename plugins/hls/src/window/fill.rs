//! Fills the window: samples become parts, parts become segments, and the oldest segments go. Pure.
//!
//! `Hls` calls it with tracks, samples and stops, in the order of the stream. Playlists promise lengths, and instances
//! of other renditions, or after a restart, must cut in the same places without knowing of each other. So parts end on
//! a grid that begins with their segment, nothing depends on samples before that, and what was lost is listed as a gap.
//! Limits of bytes and parts hold for whatever a source sends. What was made is read in [`super`].

use super::{Epoch, Part, Segment, Window};
use crate::{
    options::Targets,
    time::{self, MILLISECOND, SECOND, Time},
};
use sluicegate_sdk::{Kind, Sample, StreamInfo, fmp4, h264, log};

/// Most bytes to keep. The host grants 64 MiB of buffers, and as much as is kept may be needed again while a segment is
/// joined for a client.
const MAX_BYTES: usize = 28 << 20;
/// Most parts to keep. The host grants 8,192 handles.
const MAX_PARTS: usize = 6000;

impl Window {
    /// Takes new tracks, or the same tracks after a loss. Ends the open segment.
    ///
    /// # Errors
    /// Reason why there can be no segments of these tracks.
    pub fn configure(&mut self, info: &StreamInfo) -> Result<(), String> {
        self.ended = false;
        if self
            .epochs
            .back()
            .is_some_and(|epoch| epoch.number == info.epoch)
        {
            return Ok(());
        }
        self.end_segment();
        let mut tracks = info.tracks.clone();
        tracks.retain(|track| match fmp4::check(track) {
            Ok(()) => true,
            Err(error) => {
                log::warn(format!("{error}; the track is omitted"));
                false
            }
        });
        let video = tracks
            .iter()
            .find(|track| matches!(track.kind, Kind::Video(_)));
        let Some(primary) = video.or(tracks.first()).map(|track| track.id) else {
            return Err("no track of this stream can be written as fragmented MP4".into());
        };
        self.epochs.push_back(Epoch {
            number: info.epoch,
            init: fmp4::init(&tracks)
                .map_err(|error| error.to_string())?
                .into(),
            targets: Targets::new(&self.settings, info),
            codecs: fmp4::codecs(&tracks),
            longest: Time::from(info.longest_group_ms) * MILLISECOND,
            primary,
            has_leading: false,
            tracks: tracks
                .iter()
                .map(|track| (track.id, track.timescale))
                .collect(),
        });
        Ok(())
    }

    /// Takes the next sample.
    pub fn push(&mut self, sample: Sample) {
        let Some(epoch) = self.epochs.back() else {
            return;
        };
        if sample.track == epoch.primary {
            self.push_primary(sample);
        } else if self.open.is_some() && epoch.timescale(sample.track).is_some() {
            // Before a segment is open, there is no place for it.
            let before = self.take_newest(sample.track, Some(sample.decode_time));
            self.part_samples.extend(before);
            self.newest.push(sample);
        }
    }

    /// No sample follows until the next `configure` or, if `last`, ever.
    pub fn stop(&mut self, last: bool) {
        self.end_segment();
        self.ended |= last;
    }

    fn push_primary(&mut self, sample: Sample) {
        let newest = self.open.as_ref().or(self.complete.back());
        let begins = match (&self.open, newest.map(|segment| segment.msn)) {
            (Some(_), Some(newest)) => sample.group > newest,
            (None, Some(newest)) if sample.group <= newest => return,
            _ => true,
        };
        // The sample that started this group was dropped, and no segment starts without it: hold back the frame before.
        if begins && !sample.independent {
            return;
        }
        // Omit leading frames at the start of a segment. Players may start with any segment, and decoders in browsers
        // fail if one begins with frames that refer to the segment before.
        if sample.leading {
            if let Some(epoch) = self.epochs.back_mut() {
                epoch.has_leading = true;
            }
            if self.after_segment_start {
                return;
            }
        }
        self.after_segment_start = begins || (self.after_segment_start && !sample.independent);
        let follows = newest.is_none_or(|newest| sample.group <= newest.msn + 1);
        let until = follows.then_some(sample.decode_time);
        let before = self.take_newest(sample.track, until);
        if !begins {
            if let Some(before) = before {
                self.append_to_part(before);
            }
            self.newest.push(sample);
            return;
        }
        let presentation_time = self
            .epochs
            .back()
            .map_or(0, |epoch| epoch.presentation_time(&sample));
        if let Some(before) = before {
            self.append_last_to_part(before, Some(presentation_time).filter(|_| follows));
        }
        if let (Some(open), Some(epoch), true) = (&self.open, self.epochs.back_mut(), follows) {
            epoch.longest = epoch.longest.max(open.duration());
        }
        self.close_segment();
        self.open_segment(&sample, presentation_time);
        self.newest.push(sample);
    }

    /// Takes the newest sample of a track out, with its duration: until the next sample or, if none follows, as
    /// expected.
    fn take_newest(&mut self, track: u32, until: Option<u64>) -> Option<Sample> {
        let place = self
            .newest
            .iter()
            .position(|newest| newest.track == track)?;
        let mut sample = self.newest.swap_remove(place);
        let known = until.and_then(|until| until.checked_sub(sample.decode_time));
        if let Some(known) = known {
            sample.duration = u32::try_from(known).unwrap_or(u32::MAX);
        } else if sample.duration == 0 {
            let timescale = self.epochs.back().and_then(|epoch| epoch.timescale(track));
            sample.duration = match self.step {
                0 => timescale.unwrap_or(0) / 25,
                step => step,
            };
        }
        Some(sample)
    }

    /// Adds a sample of the primary track to the part in progress, and ends the part if the next sample is in another
    /// cell of the grid. In this way parts have the right length for any frame distances, except for a frame that is
    /// longer than a part.
    fn append_to_part(&mut self, sample: Sample) {
        let (Some(epoch), Some(open)) = (self.epochs.back(), &self.open) else {
            return;
        };
        let grid = epoch.targets.grid;
        let ended = open.time(epoch.end(&sample));
        let (cell, before) = (
            open.completed_cells(ended, grid),
            open.completed_cells(self.part_start, grid),
        );
        let line = open.began + cell * grid;
        self.step = sample.duration;
        if cell > before + 1 {
            self.end_part_before_long_frame();
        }
        self.part_samples.push(sample);
        if cell > before {
            let is_near = ended <= line + Targets::slack(grid);
            self.end_part(if is_near { ended } else { line });
        }
    }

    /// The same for the last sample of a segment. `until` is when the next segment starts, if one follows.
    fn append_last_to_part(&mut self, sample: Sample, until: Option<Time>) {
        let (Some(epoch), Some(open)) = (self.epochs.back(), &self.open) else {
            return;
        };
        let most = epoch.targets.part;
        let ended = until.unwrap_or(open.time(epoch.end(&sample)));
        // Presentation times that go back would make the duration negative.
        let ended = ended.max(self.part_start);
        if ended - self.part_start > most {
            self.end_part_before_long_frame();
        }
        self.part_samples.push(sample);
        self.end_part(ended.max(self.part_start));
    }

    /// Ends the part in progress before a frame that is longer than the rest of its cell; that frame starts the next
    /// part, on the grid.
    fn end_part_before_long_frame(&mut self) {
        let (Some(epoch), Some(open)) = (self.epochs.back(), &self.open) else {
            return;
        };
        let (primary, grid) = (epoch.primary, epoch.targets.grid);
        let line = open.began + (open.completed_cells(self.part_start, grid) + 1) * grid;
        if self
            .part_samples
            .iter()
            .any(|part_samples| part_samples.track == primary)
        {
            self.end_part(line);
        }
    }

    fn end_part(&mut self, ended: Time) {
        let mut samples = std::mem::take(&mut self.part_samples);
        let duration = ended.saturating_sub(self.part_start);
        self.part_start = ended;
        let (Some(open), Some(epoch)) = (&mut self.open, self.epochs.back()) else {
            return;
        };
        open.ended = ended;
        if self.over_limits {
            return;
        }
        // The primary track comes first, whatever arrived first.
        samples.sort_by_key(|sample| sample.track != epoch.primary);
        // If the stream has leading frames, nobody may start or seek to an independent frame in the middle of a
        // segment, since its leading frames are kept there.
        let mut is_start = open.parts.is_empty();
        let primary = samples
            .iter_mut()
            .filter(|sample| sample.track == epoch.primary);
        for sample in primary {
            if epoch.has_leading && sample.independent && !is_start {
                sample.independent = false;
                if let Some(data) = h264::without_recovery_point(&sample.data) {
                    (sample.size, sample.data) = (data.size(), data);
                }
            }
            is_start = false;
        }
        let independent = samples
            .iter()
            .any(|sample| sample.track == epoch.primary && sample.independent);
        // Wraps after years, which does no harm.
        let number = ((open.msn as u32) << 10).wrapping_add(open.parts.len() as u32);
        match fmp4::fragment(Vec::new(), number, &samples) {
            Ok(bytes) => {
                open.bytes += bytes.size() as usize;
                open.parts.push(Part {
                    duration,
                    independent,
                    bytes,
                });
            }
            Err(error) => log::error(format!(
                "a part of segment {} is dropped: {error}",
                open.msn
            )),
        }
        self.keep_within_bounds();
    }

    fn close_segment(&mut self) {
        self.over_limits = false;
        self.complete.extend(self.open.take());
        self.keep_within_bounds();
    }

    /// Opens the segment of this sample, whose presentation time is `now`.
    fn open_segment(&mut self, sample: &Sample, now: Time) {
        let Some(epoch) = self.epochs.back() else {
            return;
        };
        let (msn, decoded, epoch) = (sample.group, epoch.time(sample), epoch.number);
        self.insert_gaps(msn, epoch, now);
        self.part_start = now;
        // Must not depend on anything that an instance starting here would not know.
        self.step = 0;
        let mut open = Segment::new(msn, epoch, now, sample.group_started_at);
        open.offset = now.cast_signed().saturating_sub(decoded.cast_signed());
        self.open = Some(open);
    }

    /// Lists groups that the host could not deliver as gaps, which together last as long as they did.
    fn insert_gaps(&mut self, msn: u64, epoch: u32, now: Time) {
        let Some(last) = self.complete.back() else {
            return;
        };
        let (before, number, ended) = (last.msn, last.epoch, last.ended);
        let (began, date) = (last.began, last.date);
        let date = |at: Time| date + at.saturating_sub(began) * 1_000_000 / SECOND;
        let missing = msn.saturating_sub(before + 1);
        if missing > self.settings.held() as u64 {
            self.complete.clear();
            return;
        }
        for nth in 0..missing {
            // Across a break, their duration is unknown.
            let length = match number == epoch {
                true => now.saturating_sub(ended) / missing,
                false => self.settings.segment,
            };
            let from = ended + nth * length;
            let mut gap = Segment::new(before + 1 + nth, number, from, date(from));
            gap.ended = match nth + 1 == missing && number == epoch {
                true => now.max(gap.began),
                false => gap.began + length,
            };
            self.complete.push_back(gap);
        }
        self.keep_within_bounds();
    }

    /// Drops the oldest segments if there are too many or they are too large. What is kept must be the same for an
    /// instance that was fed only the newest groups.
    fn keep_within_bounds(&mut self) {
        let of_open = |part: fn(&Segment) -> usize| self.open.as_ref().map_or(0, part);
        let (mut bytes, mut parts) = (of_open(|open| open.bytes), of_open(|open| open.parts.len()));
        if bytes > MAX_BYTES || parts > MAX_PARTS {
            if let Some(open) = &mut self.open {
                log::warn(format!(
                    "segment {} is dropped and listed as a gap: no keyframe after {} MiB",
                    open.msn,
                    open.bytes >> 20
                ));
                (open.parts, open.bytes) = (Vec::new(), 0);
                self.over_limits = true;
            }
            (bytes, parts) = (0, 0);
        }
        let fits = |segment: &&Segment| {
            bytes += segment.bytes;
            parts += segment.parts.len();
            bytes <= MAX_BYTES && parts <= MAX_PARTS
        };
        let most = self.settings.held();
        let keep = self
            .complete
            .iter()
            .rev()
            .take(most)
            .take_while(fits)
            .count();
        self.complete.drain(..self.complete.len() - keep);
        let oldest = self.complete.front().or(self.open.as_ref());
        let oldest = oldest.map(|segment| segment.epoch);
        while self.epochs.len() > 1 && oldest.is_none_or(|oldest| self.epochs[0].number < oldest) {
            self.epochs.pop_front();
        }
    }

    /// Ends the open segment, with the expected durations of the newest samples.
    fn end_segment(&mut self) {
        let Some(epoch) = self.epochs.back() else {
            return;
        };
        let primary = epoch.primary;
        let others: Vec<u32> = self.newest.iter().map(|newest| newest.track).collect();
        for track in others.into_iter().filter(|track| *track != primary) {
            let newest = self.take_newest(track, None);
            self.part_samples.extend(newest);
        }
        if let Some(newest) = self.take_newest(primary, None) {
            self.append_last_to_part(newest, None);
        }
        self.close_segment();
        self.part_samples.clear();
        self.newest.clear();
        self.step = 0;
    }
}

impl Epoch {
    fn timescale(&self, track: u32) -> Option<u32> {
        let known = self.tracks.iter().find(|(id, _)| *id == track);
        known.map(|(_, timescale)| *timescale)
    }

    fn time(&self, sample: &Sample) -> Time {
        time::from_ticks(
            sample.decode_time,
            self.timescale(sample.track).unwrap_or(1),
        )
    }

    fn presentation_time(&self, sample: &Sample) -> Time {
        let offset = sample.composition_offset.into();
        let presentation_time = sample.decode_time.saturating_add_signed(offset);
        time::from_ticks(presentation_time, self.timescale(sample.track).unwrap_or(1))
    }

    fn end(&self, sample: &Sample) -> Time {
        let ended = sample.decode_time.saturating_add(sample.duration.into());
        time::from_ticks(ended, self.timescale(sample.track).unwrap_or(1))
    }
}
