//! From what a source reads to samples in a feed. No I/O; the clock is the caller's.

mod tracks;

use super::{feed::Feed, ring::Entry, status::Status};
use crate::{
    codec,
    media::{
        h264::{
            self,
            access_unit::{AccessUnit, Assembler},
            annexb::{Piece, Splitter},
            parameter_sets::ParameterSets,
        },
        jpeg,
        sample::{Codec, Sample, Times, Video},
        time::{Moment, Timeline},
    },
    source::{Expected, Sink, Sound, SourceTimes},
};
use bytes::Bytes;
use std::sync::Arc;
use tracks::Tracks;

/// Largest NAL unit that is believed.
const LARGEST_NAL: usize = 16 << 20;

/// Makes samples of one source's packets and publishes them.
pub struct Ingest {
    feed: Arc<Feed>,
    status: Arc<Status>,
    clock: Box<dyn Fn() -> Moment + Send>,
    splitter: Splitter,
    assembler: Assembler,
    timeline: Timeline,
    /// When the first byte of the access unit in the assembler came, and of the NAL unit in the splitter.
    begun: Option<Moment>,
    nal_begun: Option<Moment>,
    tracks: Tracks,
    frame_rate: f32,
    /// It was told that the source counts its pictures wrongly.
    miscounts: bool,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest")
            .field("tracks", &self.tracks)
            .finish_non_exhaustive()
    }
}

impl Ingest {
    /// Publishes to `feed`; `clock` gives the present, in a run that began at `started_at` (Unix microseconds).
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
            splitter: Splitter::new(LARGEST_NAL),
            assembler: Assembler::default(),
            timeline: Timeline::default(),
            begun: None,
            nal_begun: None,
            tracks: Tracks::new(started_at),
            frame_rate: 0.0,
            miscounts: false,
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
                format!("a parameter set is left out: {error}"),
            );
        }
    }

    fn byte_stream(&mut self, bytes: Bytes) {
        self.status.received(bytes.len());
        let now = (self.clock)();
        let mut begun = self.nal_begun.take().unwrap_or(now);
        for piece in self.splitter.push(bytes) {
            match piece {
                Piece::Nal(nal) => self.nal(nal, begun),
                Piece::Damaged(damage) => {
                    self.status.note("damage", damage.to_string());
                    self.damaged();
                }
            }
            begun = now;
        }
        self.nal_begun = self.splitter.has_unfinished().then_some(begun);
        self.look_for_waiting();
    }

    fn silence(&mut self) {
        let now = (self.clock)();
        let begun = self.nal_begun.take().unwrap_or(now);
        if let Some(nal) = self.splitter.flush() {
            self.nal(nal, begun);
        }
        let begun = self.begun.take().unwrap_or(now);
        if let Some(unit) = self.assembler.flush() {
            self.emit(unit, SourceTimes::default(), begun);
        }
        self.look_for_waiting();
    }

    fn access_unit(&mut self, nals: Vec<Bytes>, times: SourceTimes) {
        let now = (self.clock)();
        self.status.received(nals.iter().map(Bytes::len).sum());
        let mut times = times;
        for nal in nals {
            if let Some(unit) = self.assembler.push(nal) {
                self.emit(unit, times, now);
                // A second picture in the packet: the timeline puts it behind the first.
                times.presentation = None;
            }
        }
        if let Some(unit) = self.assembler.flush() {
            self.emit(unit, times, now);
        }
        self.look_for_waiting();
    }

    fn jpeg(&mut self, data: Bytes, times: SourceTimes) {
        let now = (self.clock)();
        self.status.received(data.len());
        let Some((width, height)) = jpeg::size(&data) else {
            self.status
                .note("damage", "a picture that is no JPEG is left out".into());
            return;
        };
        let video = Video {
            codec: Codec::Jpeg,
            codec_string: String::new(),
            config: Bytes::new(),
            width,
            height,
            frame_rate: self.frame_rate,
            keyframe_ms: 0,
        };
        let times = self.place(times, now);
        let entries = self.tracks.picture(Some(video), Sample::jpeg(times, data));
        self.publish(entries);
    }

    fn expect(&mut self, tracks: Expected) {
        self.tracks.expect(tracks);
    }

    fn sound(&mut self, sound: Sound) {
        self.tracks.sound(sound);
    }

    fn sound_frame(&mut self, data: Bytes, times: SourceTimes) {
        self.status.received(data.len());
        let now = (self.clock)();
        let decode = times.decode.or(times.presentation);
        let placed = self.timeline.place_sound(decode, times.duration, now);
        let Some(decode_time) = placed else { return };
        let times = Times {
            decode_time,
            composition_offset: 0,
            duration: times.duration,
            captured_at: now.unix_us,
        };
        let entries = self.tracks.sound_frame(data, times);
        self.publish(entries);
    }

    fn damaged(&mut self) {
        self.assembler.damaged();
        self.begun = None;
    }

    fn note(&mut self, key: &'static str, text: String) {
        self.status.note(key, text);
    }

    fn loops(&mut self) {
        self.timeline.loops();
    }

    fn lost(&mut self, reason: String) {
        let entries = self.tracks.lost(&reason);
        self.publish(entries);
        self.timeline.resumes();
        self.splitter = Splitter::new(LARGEST_NAL);
        self.assembler = Assembler::default();
        self.begun = None;
        self.nal_begun = None;
        self.status.retrying(reason);
    }

    fn codec_counts(&self) -> &Arc<codec::Counts> {
        &self.status.codec
    }
}

impl Ingest {
    /// A NAL unit without times, whose first byte came at `begun`.
    fn nal(&mut self, nal: Bytes, begun: Moment) {
        let dropped = self.assembler.dropped();
        match self.assembler.push(nal) {
            Some(unit) => {
                let first = self.begun.replace(begun).unwrap_or(begun);
                self.emit(unit, SourceTimes::default(), first);
            }
            // The picture before was left out: this begins the next.
            None if self.assembler.dropped() != dropped => self.begun = Some(begun),
            None => {
                self.begun.get_or_insert(begun);
            }
        }
    }

    fn emit(&mut self, unit: AccessUnit, times: SourceTimes, arrived: Moment) {
        let sets = match &unit.parameter_sets {
            Some(sets) => Some(sets),
            // The source may have given JPEGs since the parameter sets came.
            None if !self.tracks.are_of(Codec::H264) => self.assembler.parameter_sets(),
            None => None,
        };
        let video = sets.map(|sets| video(sets, self.frame_rate));
        let times = self.place(times, arrived);
        let sample = Sample::h264(times, unit.start.is_some(), unit.nals);
        let entries = self.tracks.picture(video, sample);
        self.publish(entries);
    }

    fn place(&mut self, times: SourceTimes, arrived: Moment) -> Times {
        let decode = times.decode.or(times.presentation);
        let offset = match (times.presentation, times.decode) {
            (Some(shown), Some(decoded)) => shown.saturating_sub(decoded),
            _ => 0,
        };
        Times {
            decode_time: self.timeline.place(decode, times.duration, arrived),
            composition_offset: i32::try_from(offset).unwrap_or(0),
            duration: times.duration,
            captured_at: arrived.unix_us,
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

    fn look_for_waiting(&mut self) {
        if let Some(error) = self.assembler.take_error() {
            self.status.note("stream", error.to_string());
        }
        if self.assembler.miscounts() && !std::mem::replace(&mut self.miscounts, true) {
            self.status.note(
                "frame_num",
                "the source counts its pictures wrongly (frame_num, in the same manner in every group), so pictures that are \
                 missing are no longer noticed by that"
                    .into(),
            );
        }
        if self.tracks.are_unknown() {
            if self.assembler.dropped() > 0 {
                self.status
                    .waiting_for_keyframe("no parameter sets and keyframe seen yet");
            }
        } else if self.assembler.is_waiting() {
            self.status
                .waiting_for_keyframe("bytes were lost; pictures go on at the next keyframe");
        }
    }
}

/// The video track that parameter sets tell of; `claimed_rate` (0: unknown) goes before the rate in them.
pub(super) fn video(sets: &ParameterSets, claimed_rate: f32) -> Video {
    let picture = &sets.picture;
    Video {
        codec: Codec::H264,
        codec_string: picture.codec.clone(),
        config: sets.decoder_config(),
        width: picture.width,
        height: picture.height,
        frame_rate: if claimed_rate > 0.0 {
            claimed_rate
        } else {
            picture.frame_rate.unwrap_or(0.0)
        },
        keyframe_ms: 0,
    }
}

#[cfg(test)]
mod tests;
