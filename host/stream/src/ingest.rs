//! [`Ingest`] is the [`Sink`] of a source: it turns what the source reads into samples in a feed. No I/O, and the clock
//! is an argument.
//!
//! Bytes are split into NAL units, these are assembled into access units (`media::h264`), and each gets its place on
//! the stream's one rising timeline (`media::timeline`, `media::offset`), whatever the source's time stamps do. A frame
//! is stamped with the arrival of its first byte, not of its last. The submodules decide what viewers learn of it:
//! `tracks` when tracks are announced, `in_band` which parameter sets a frame carries, and `presentation_order` when a
//! frame without a presentation time is presented. [`Stream`](super::Stream) owns an ingest per run and calls it on the
//! source's thread.

mod in_band;
mod presentation_order;
mod tracks;

use super::{feed::Feed, ring::Entry, status::Status};
use bytes::Bytes;
use in_band::InBand;
use presentation_order::PresentationOrder;
use sluicegate_codec as codec;
use sluicegate_media::{
    exif,
    geometry::{Geometry, Orientation, PixelAspect},
    h264::{
        self,
        access_unit::{AccessUnit, Assembler},
        annexb::{Piece, Splitter},
    },
    jpeg,
    offset::{Offset, Offsets},
    sample::{Codec, Sample, Times, Video},
    time::{Moment, TIMESCALE},
    timeline::Timeline,
    wall::WallClock,
};
use sluicegate_source::{AudioTrack, Expected, Presentation, Sink, SourceTimes};
use std::sync::Arc;
use tracks::Tracks;

/// Largest NAL unit that is accepted; a larger one counts as damage.
const MAX_NAL_BYTES: usize = 16 << 20;

/// Converts the packets of one source into samples and publishes them.
pub struct Ingest {
    feed: Arc<Feed>,
    status: Arc<Status>,
    clock: Box<dyn Fn() -> Moment + Send>,
    splitter: Splitter,
    assembler: Assembler,
    timeline: Timeline,
    offsets: Offsets,
    wall: WallClock,
    /// Arrival of the first byte of the access unit in the assembler, and of the NAL unit in the splitter.
    arrived_at: Option<Moment>,
    nal_arrived_at: Option<Moment>,
    /// Times and arrival of the packet in which the access unit in the assembler began, if that is an earlier packet.
    packet: Option<(SourceTimes, Moment)>,
    tracks: Tracks,
    in_band: InBand,
    order: PresentationOrder,
    frame_rate: f32,
    presentation: Presentation,
    /// Whether `presentation` changed and viewers do not know yet.
    presentation_changed: bool,
    /// Whether the wrong `frame_num` of the source was reported.
    ignores_frame_num: bool,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest")
            .field("tracks", &self.tracks)
            .finish_non_exhaustive()
    }
}

impl Ingest {
    /// Publishes to `feed` and reports to `status`; `clock` returns the present in a run that began at `started_at`
    /// (Unix microseconds).
    pub fn new(
        feed: Arc<Feed>,
        status: Arc<Status>,
        started_at: u64,
        clock: Box<dyn Fn() -> Moment + Send>,
    ) -> Ingest {
        Ingest {
            feed,
            status,
            clock,
            splitter: Splitter::new(MAX_NAL_BYTES),
            assembler: Assembler::default(),
            timeline: Timeline::default(),
            offsets: Offsets::default(),
            wall: WallClock::default(),
            arrived_at: None,
            nal_arrived_at: None,
            packet: None,
            tracks: Tracks::new(started_at),
            in_band: InBand::default(),
            order: PresentationOrder::default(),
            frame_rate: 0.0,
            presentation: Presentation::default(),
            presentation_changed: false,
            ignores_frame_num: false,
        }
    }
}

impl Sink for Ingest {
    fn listening(&mut self, reason: String) {
        self.status.listening(reason);
    }

    fn connected(&mut self) {
        self.status.connected();
    }

    fn configured(&mut self, frame_rate: f32) {
        self.frame_rate = if frame_rate.is_finite() && (0.0..=1000.0).contains(&frame_rate) {
            frame_rate
        } else {
            0.0
        };
        self.connected();
    }

    fn presentation(&mut self, presentation: Presentation) {
        self.presentation_changed |= presentation != self.presentation;
        self.presentation = presentation;
    }

    fn parameter_sets(&mut self, nals: Vec<Bytes>) {
        let of_type = |kind: u8| -> Vec<Bytes> {
            nals.iter()
                .filter(|nal| h264::nal::unit_type(nal) == kind)
                .cloned()
                .collect()
        };
        let (sps, pps) = (of_type(h264::nal::SPS), of_type(h264::nal::PPS));
        if let Err(error) = self.assembler.set_parameter_sets(&sps, &pps) {
            self.status.note(
                "parameter sets",
                format!("an invalid parameter set is ignored: {error}"),
            );
        }
    }

    fn byte_stream(&mut self, bytes: Bytes) {
        self.status.received(bytes.len());
        let now = (self.clock)();
        let mut arrived_at = self.nal_arrived_at.take().unwrap_or(now);
        for piece in self.splitter.push(bytes) {
            match piece {
                Piece::Nal(nal) => self.nal(nal, arrived_at),
                Piece::Damaged(damage) => {
                    self.status.note("damage", damage.to_string());
                    self.damaged();
                }
            }
            arrived_at = now;
        }
        self.nal_arrived_at = self.splitter.has_unfinished().then_some(arrived_at);
        self.report_waiting();
    }

    fn silence(&mut self) {
        let now = (self.clock)();
        let arrived_at = self.nal_arrived_at.take().unwrap_or(now);
        if let Some(nal) = self.splitter.flush() {
            self.nal(nal, arrived_at);
        }
        if let Some(unit) = self.assembler.flush() {
            let arrived_at = self.arrived_at.take().unwrap_or(now);
            self.emit(unit, SourceTimes::default(), arrived_at);
        } else if !self.assembler.has_begun() {
            self.arrived_at = None;
        }
        self.report_waiting();
    }

    fn access_unit(&mut self, nals: Vec<Bytes>, times: SourceTimes) {
        let now = (self.clock)();
        self.status.received(nals.iter().map(Bytes::len).sum());
        let mut times = times;
        for nal in nals {
            let dropped = self.assembler.dropped();
            let Some(unit) = self.assembler.push(nal) else {
                if self.assembler.dropped() != dropped {
                    self.packet = None;
                }
                continue;
            };
            match self.packet.take() {
                // The field that waited has no second one.
                Some((times, arrived)) => self.emit(unit, times, arrived),
                None => {
                    self.emit(unit, times, now);
                    // A second frame in the packet: the timeline places it after the first.
                    times.presentation = times.presentation.and(times.decode);
                }
            }
        }
        if let Some(unit) = self.assembler.flush() {
            let (times, arrived) = match self.packet.take() {
                // The two fields came in two packets.
                Some((first, arrived)) => {
                    let duration = first.duration.saturating_add(times.duration);
                    (SourceTimes { duration, ..first }, arrived)
                }
                None => (times, now),
            };
            self.emit(unit, times, arrived);
        } else if self.assembler.has_begun() {
            self.packet.get_or_insert((times, now));
        } else {
            self.packet = None;
        }
        self.report_waiting();
    }

    fn jpeg(&mut self, data: Bytes, times: SourceTimes) {
        let now = (self.clock)();
        self.status.received(data.len());
        let Some((width, height)) = jpeg::size(&data) else {
            self.status
                .note("damage", "an invalid JPEG is dropped".into());
            return;
        };
        let (pixel_aspect, orientation) = exif::presentation(&data);
        let mut geometry = self.geometry(pixel_aspect);
        if geometry.orientation == Orientation::UPRIGHT {
            geometry.orientation = orientation;
        }
        let video = Video {
            codec: Codec::Jpeg,
            codec_string: String::new(),
            config: Bytes::new(),
            width,
            height,
            geometry,
            frame_rate: self.frame_rate,
            keyframe_ms: 0,
        };
        let times = self.place(times, Some(0), now);
        let entries = self
            .tracks
            .video_frame(Some(video), Sample::jpeg(times, data));
        self.publish(entries);
    }

    fn expect(&mut self, tracks: Expected) {
        self.tracks.expect(tracks);
    }

    fn audio_track(&mut self, track: AudioTrack) {
        self.tracks.audio_track(track);
    }

    fn audio_frame(&mut self, data: Bytes, times: SourceTimes) {
        self.status.received(data.len());
        let now = (self.clock)();
        let decode = times.decode.or(times.presentation);
        let placed = self.timeline.place_audio(decode, times.duration, now);
        self.report_timeline();
        let Some(decode_time) = placed else { return };
        let times = Times {
            decode_time,
            composition_offset: 0,
            duration: times.duration,
            captured_at: self.wall.date(decode_time, now),
        };
        let entries = self.tracks.audio_frame(data, times);
        self.publish(entries);
    }

    fn damaged(&mut self) {
        self.assembler.damaged();
        self.arrived_at = None;
        self.packet = None;
    }

    fn note(&mut self, key: &'static str, text: String) {
        self.status.note(key, text);
    }

    fn loops(&mut self) {
        self.end();
        self.timeline.loops();
        self.offsets = Offsets::default();
    }

    fn lost(&mut self, reason: String) {
        self.end();
        let entries = self.tracks.lost(&reason);
        self.publish(entries);
        self.timeline.resumes();
        self.offsets = Offsets::default();
        self.order.reset();
        self.splitter = Splitter::new(MAX_NAL_BYTES);
        self.assembler = Assembler::default();
        self.arrived_at = None;
        self.nal_arrived_at = None;
        self.presentation = Presentation::default();
        self.presentation_changed = false;
        self.status.retrying(reason);
    }

    fn codec_counts(&self) -> &Arc<codec::Counts> {
        &self.status.codec
    }
}

impl Ingest {
    /// Takes a NAL unit without times, whose first byte arrived at `arrived_at`.
    fn nal(&mut self, nal: Bytes, arrived_at: Moment) {
        let dropped = self.assembler.dropped();
        match self.assembler.push(nal) {
            Some(unit) => {
                let first = self.arrived_at.replace(arrived_at).unwrap_or(arrived_at);
                self.emit(unit, SourceTimes::default(), first);
            }
            // The access unit before was dropped; this NAL unit begins the next.
            None if self.assembler.dropped() != dropped => self.arrived_at = Some(arrived_at),
            None => {
                self.arrived_at.get_or_insert(arrived_at);
            }
        }
    }

    /// Ends the access unit in progress: a field that waits for its second is emitted alone.
    fn end(&mut self) {
        if let Some(unit) = self.assembler.end() {
            let now = (self.clock)();
            let alone = (
                SourceTimes::default(),
                self.arrived_at.take().unwrap_or(now),
            );
            let (times, arrived) = self.packet.take().unwrap_or(alone);
            self.emit(unit, times, arrived);
        }
    }

    fn emit(&mut self, unit: AccessUnit, times: SourceTimes, arrived: Moment) {
        let sets = &unit.parameter_sets;
        // Since the parameter sets arrived, the source may have sent JPEGs or been lost.
        let changes = !self.tracks.has_video_codec(Codec::H264)
            || !self.in_band.is_configured_for(sets)
            // The same coded pictures are presented differently.
            || (self.presentation_changed && unit.start.is_some());
        if changes {
            self.offsets = Offsets::default();
        }
        let geometry = self.geometry(sets.picture.pixel_aspect);
        let video = changes.then(|| {
            let video = sets.video(self.frame_rate);
            Video {
                codec_string: self.in_band.configure(sets, video.codec_string),
                geometry,
                ..video
            }
        });
        self.presentation_changed &= video.is_none();
        let times = self.place_frame(&unit, times, arrived);
        let (independent, sets) = (unit.start.is_some(), unit.parameter_sets.clone());
        let leading = unit.leading;
        let nals = self.in_band.complete(unit);
        let mut sample = Sample::h264_with(times, independent, nals, sets);
        sample.leading = leading;
        let entries = self.tracks.video_frame(video, sample);
        self.publish(entries);
    }

    /// Like [`Ingest::place`]; if the source gives no presentation time, or its times are not trusted, picture order
    /// counts determine it.
    fn place_frame(&mut self, unit: &AccessUnit, times: SourceTimes, arrived: Moment) -> Times {
        let picture = &unit.parameter_sets.picture;
        let placed = self.place(times, picture.reorder, arrived);
        if times.presentation.is_some() && self.timeline.is_trusted() {
            self.order.reset();
            return placed;
        }
        let told = picture.frame_rate;
        let rate = if self.frame_rate > 0.0 {
            Some(self.frame_rate)
        } else {
            told
        };
        let frame = match (placed.duration, rate) {
            (0, Some(rate)) => (TIMESCALE as f32 / rate) as u32,
            (duration, _) => duration,
        };
        Times {
            composition_offset: self.order.offset(unit, placed.decode_time, frame),
            ..placed
        }
    }

    /// Times of a frame in a stream with a reordering depth of `reorder`, if that is known.
    fn place(&mut self, times: SourceTimes, reorder: Option<u8>, arrived: Moment) -> Times {
        let decode = times.decode.or(times.presentation);
        let decode_time = self.timeline.place(decode, times.duration, arrived);
        self.report_timeline();
        let step = self.timeline.step();
        let (offset, duration) = match self.timeline.is_trusted() {
            true => {
                let shown = times.presentation.zip(times.decode);
                let told = shown.map(|(shown, decoded)| shown.saturating_sub(decoded));
                (self.offsets.place(told, reorder, step), times.duration)
            }
            false => (Offset::default(), u32::try_from(step).unwrap_or(0)),
        };
        if offset.replaced {
            self.status.note(
                "presentation times",
                "a presentation time is too far from its decode time for any decoder; it is replaced by one that fits the \
                 frames before it"
                    .into(),
            );
        }
        Times {
            decode_time,
            composition_offset: offset.ticks,
            duration,
            captured_at: self.wall.date(decode_time, arrived),
        }
    }

    fn report_timeline(&mut self) {
        if let Some(clock_event) = self.timeline.take_clock_event() {
            self.status.note(clock_event.key(), clock_event.to_string());
        }
    }

    /// How frames are presented, where `coded` is the pixel aspect in the coded picture. The container's takes
    /// precedence.
    fn geometry(&self, coded: Option<PixelAspect>) -> Geometry {
        let Presentation {
            pixel_aspect,
            orientation,
        } = self.presentation;
        Geometry {
            pixel_aspect: pixel_aspect.or(coded).unwrap_or_default(),
            orientation,
        }
    }

    fn publish(&mut self, entries: tracks::Entries) {
        for entry in entries {
            match &entry {
                Entry::Sample(sample) => self.status.live(sample),
                Entry::Configure(info) => self.status.tracks(info),
                Entry::Stop(_) => {}
            }
            let is_sample = matches!(entry, Entry::Sample(_));
            self.feed.publish(entry);
            if is_sample {
                self.status.cut(self.feed.is_cut());
            }
        }
    }

    fn report_waiting(&mut self) {
        if let Some(error) = self.assembler.take_error() {
            self.status.note("stream", error.to_string());
        }
        if self.assembler.ignores_frame_num()
            && !std::mem::replace(&mut self.ignores_frame_num, true)
        {
            self.status.note(
                "frame_num",
                "the source numbers its frames wrongly (frame_num, in the same way in every group), so frame_num is no longer \
                 used to detect lost frames"
                    .into(),
            );
        }
        if self.tracks.none_announced() {
            if self.assembler.dropped() > 0 {
                self.status
                    .waiting_for_keyframe("no keyframe with parameter sets received yet");
            }
        } else if self.assembler.is_waiting() {
            self.status
                .waiting_for_keyframe("data was lost; video resumes at the next keyframe");
        }
    }
}

#[cfg(test)]
mod tests;
