//! Generated streams in the formats that a transport takes.
//!
//! The test pattern is encoded with its times, faster than it would play, and goes through the gateway's own ingest and
//! ring, so that samples, tracks and groups are what a muxer gets of a source in that format. What the gateway would
//! transcode is encoded as it would come out.

use crate::{
    encode::{AudioEncoder, VideoEncoder},
    script::Script,
};
use bytes::Bytes;
use parking_lot::Mutex;
use sluicegate_codec::{self as codec, Decoder, Encoder, JpegEncoder, Settings};
use sluicegate_media::{
    aac,
    h264::annexb,
    image::I420View,
    pattern::Painter,
    sample::{Audio, Codec, Format},
    time::{Moment, TIMESCALE},
};
use sluicegate_plugin::{Profile, Rendition, recording::Call};
use sluicegate_source::{AudioTrack, Expected, Sink, SourceTimes};
use sluicegate_stream::{
    Entry, Feed, GroupNumbers, Info, Ingest, Next, Offer, Reader, Selection, Status, WakeOn,
};
use std::{sync::Arc, time::Duration};
use thiserror::Error;

/// Size and rate of the video. Small, because a component only moves it.
const SIZE: (u32, u32) = (320, 180);
const FRAME_RATE: u32 = 25;
/// Distance of keyframes.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(1);
/// Number of the frame that is missing, the last one before the second keyframe. Otherwise groups of one length would have
/// the same number of frames each, and a counter of a component that goes on from group to group, but starts again after
/// as many frames, would not be noticed.
const LOST: u64 = FRAME_RATE as u64 - 1;
/// When the stream begins, in Unix microseconds: 2026-01-01.
const STARTED_AT: u64 = 1_767_225_600_000_000;
/// Groups besides those of `profile.history`, and the shortest film in seconds.
const MORE_GROUPS: u64 = 4;
const MIN_SECONDS: u64 = 6;

/// Reason why there is no film.
#[derive(Debug, Error)]
pub enum FilmError {
    /// A codec failed.
    #[error("cannot encode a stream for the test: {0}")]
    Codec(#[from] codec::Error),
    /// An encoder of libav is missing or failed.
    #[error("cannot encode a stream for the test: {0}; is libav built with libx264?")]
    Libav(#[from] ffmpeg_next::Error),
}

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Film {
    /// Format of the video, if the transport takes any.
    pub video: Option<Format>,
    /// Format of the audio, if the transport takes any.
    pub audio: Option<Format>,
    /// Whether the video has B-frames.
    pub reordered: bool,
}

impl Film {
    /// The streams on which a transport with this profile is tested: one in the first format of each kind, with audio if
    /// it takes any, and one with B-frames unless it wants none.
    pub fn all(profile: &Profile) -> Vec<Film> {
        let first = |is_audio: bool| {
            let mut formats = profile.formats.iter();
            formats
                .find(|format| format.is_audio() == is_audio)
                .copied()
        };
        let plain = Film {
            video: first(false),
            audio: first(true),
            reordered: false,
        };
        let may_reorder = |format: Format| format.codec() == Codec::H264 && !format.is_in_order();
        let reordered = plain.video.is_some_and(may_reorder).then_some(Film {
            reordered: true,
            ..plain
        });
        [plain].into_iter().chain(reordered).collect()
    }

    /// What it is, for people.
    fn label(self) -> String {
        let video = self.video.map(|format| {
            let (width, height) = SIZE;
            let with = if self.reordered { " with B-frames" } else { "" };
            format!(
                "{}{with}, {width}×{height} at {FRAME_RATE}/s",
                format.name()
            )
        });
        let audio = self.audio.map(|format| format.name().to_owned());
        let tracks: Vec<String> = video.into_iter().chain(audio).collect();
        tracks.join(" and ")
    }

    /// Generates it for a transport with this profile.
    ///
    /// # Errors
    /// An encoder is missing or failed.
    pub fn make(self, profile: &Profile) -> Result<Script, FilmError> {
        let groups = u64::from(profile.history) + MORE_GROUPS;
        self.generate(profile, groups, MIN_SECONDS)
    }

    /// Generates its first group, the start of the second one, and the end of the stream.
    ///
    /// # Errors
    /// See [`Film::make`].
    pub fn beginning(self, profile: &Profile) -> Result<Script, FilmError> {
        let mut script = self.generate(profile, 1, 1)?;
        let second = script.group_starts().get(1).copied();
        script
            .calls
            .truncate(second.map_or(usize::MAX, |at| at + 1));
        script.calls.push(Call::Stop {
            reason: "the test ends".into(),
            last: true,
        });
        Ok(script)
    }

    /// Generates so many groups that are complete, and at least so many seconds.
    fn generate(self, profile: &Profile, groups: u64, least: u64) -> Result<Script, FilmError> {
        let group = u64::from(profile.group_ms).max(KEYFRAME_INTERVAL.as_millis() as u64);
        let group = group.next_multiple_of(KEYFRAME_INTERVAL.as_millis() as u64);
        // One more group, because the last one has no end.
        let seconds = (groups * group / 1000).max(least) + group / 1000;
        let mut camera = Camera::new(self, profile);
        let mut frames = Frames::new(self)?;
        let mut audio = match self.audio {
            Some(_) => Some(AudioEncoder::new()?),
            None => None,
        };
        let mut painter = match Painter::new(SIZE.0, SIZE.1) {
            Ok(painter) => painter,
            Err(error) => return Err(codec::Error::from(error).into()),
        };
        camera.ingest.expect(Expected {
            video: self.video.is_some(),
            audio: self.audio.is_some(),
        });
        if self.audio.is_some() {
            camera.ingest.audio_track(audio_track());
        }
        for nth in 0..seconds * u64::from(FRAME_RATE) {
            let at = nth * u64::from(TIMESCALE / FRAME_RATE);
            camera.set_clock(at);
            if self.video.is_some() && nth != LOST {
                let image = painter.paint(nth, STARTED_AT / 1000 + at / 90);
                let is_key = nth.is_multiple_of(FRAME_RATE.into());
                frames.encode(image, at as i64, is_key, &mut camera.ingest)?;
            }
            if let Some(audio) = &mut audio {
                let until = at * u64::from(AudioEncoder::RATE) / u64::from(TIMESCALE);
                audio.encode_until(until, &mut camera.ingest)?;
            }
            camera.read();
        }
        Ok(Script {
            label: self.label(),
            calls: camera.calls,
        })
    }
}

impl AudioEncoder {
    /// Encodes up to this time, in samples.
    fn encode_until(&mut self, until: u64, sink: &mut dyn Sink) -> Result<(), FilmError> {
        while self.position() < until {
            for packet in self.encode()? {
                let ticks = packet.decode * i64::from(TIMESCALE) / i64::from(AudioEncoder::RATE);
                let times = SourceTimes {
                    decode: Some(ticks),
                    presentation: Some(ticks),
                    duration: AudioEncoder::FRAME * TIMESCALE / AudioEncoder::RATE,
                };
                sink.audio_frame(packet.data, times);
            }
        }
        Ok(())
    }
}

fn audio_track() -> AudioTrack {
    let config = aac::Config {
        object_type: 2,
        sample_rate: AudioEncoder::RATE,
        output_rate: AudioEncoder::RATE,
        channels: 1,
        frame_length: AudioEncoder::FRAME,
        bytes: Bytes::from_static(AudioEncoder::CONFIG),
    };
    AudioTrack {
        audio: Audio::aac(&config, 1, "und"),
        length: AudioEncoder::FRAME,
        coding: None,
    }
}

/// The way of the encoded frames through ingest and ring, and the calls that come out.
struct Camera {
    ingest: Ingest,
    clock: Arc<Mutex<Moment>>,
    reader: Reader,
    position: u64,
    selection: Selection,
    group_ms: u32,
    calls: Vec<Call>,
}

impl Camera {
    fn new(film: Film, profile: &Profile) -> Camera {
        let feed = Feed::new(GroupNumbers::own(STARTED_AT, KEYFRAME_INTERVAL));
        let reader = feed.reader(WakeOn::All);
        let (position, _) = reader.start(profile.group_ms, profile.history);
        let clock = Arc::new(Mutex::new(Moment {
            unix_us: STARTED_AT,
            elapsed: Duration::ZERO,
        }));
        let now = clock.clone();
        let status = Arc::new(Status::new("test", Arc::default()));
        Camera {
            ingest: Ingest::new(feed, status, STARTED_AT, Box::new(move || *now.lock())),
            clock,
            reader,
            position,
            selection: Selection {
                video: film.video,
                audio: film.audio,
                recipe: None,
            },
            group_ms: profile.group_ms,
            calls: Vec::new(),
        }
    }

    fn set_clock(&self, ticks: u64) {
        let elapsed = Duration::from_micros(ticks * 100 / 9);
        *self.clock.lock() = Moment {
            unix_us: STARTED_AT + elapsed.as_micros() as u64,
            elapsed,
        };
    }

    /// Turns what has come into the ring into calls.
    fn read(&mut self) {
        while let Next::Entry(entry, group) = self.reader.next(self.position, self.group_ms) {
            self.position += 1;
            match entry {
                Entry::Configure(info) => {
                    let longest = self.reader.longest_group(self.group_ms) * 1000;
                    let longest = longest / u64::from(TIMESCALE);
                    let renditions = [rendition(&info)];
                    self.calls.push(Call::configure(
                        &info,
                        &self.selection,
                        &renditions,
                        u32::try_from(longest).unwrap_or(u32::MAX),
                    ));
                }
                Entry::Sample(sample) => {
                    self.calls
                        .extend(Call::push(&sample, group, &self.selection));
                }
                Entry::Stop(_) => {}
            }
        }
    }
}

/// The stream itself as its only rendition.
fn rendition(info: &Info) -> Rendition {
    let codecs = [
        info.video.as_ref().map(|video| video.codec_string.clone()),
        info.audio.as_ref().map(|audio| audio.codec_string.clone()),
    ];
    let codecs: Vec<String> = codecs.into_iter().flatten().collect();
    Rendition {
        base: String::new(),
        offer: Offer {
            codecs: codecs.join(","),
            bandwidth: 1_000_000,
            width: SIZE.0,
            height: SIZE.1,
            frame_rate: FRAME_RATE as f32,
            has_audio: info.audio.is_some(),
            ..Offer::unknown("")
        },
    }
}

/// The encoder of a film's video.
enum Frames {
    None,
    H264(Box<Encoder>),
    Reordered(Box<VideoEncoder>),
    /// By way of H.264, whose decoder makes frames.
    Jpeg(Box<(Encoder, Decoder, JpegEncoder)>),
}

impl Frames {
    fn new(film: Film) -> Result<Frames, FilmError> {
        let plain = || {
            Encoder::new(Settings {
                width: SIZE.0,
                height: SIZE.1,
                frame_rate: FRAME_RATE,
                bitrate: 500_000,
                // Each keyframe is requested.
                keyframe_interval_ms: 2 * KEYFRAME_INTERVAL.as_millis() as u32,
                ..Settings::default()
            })
        };
        Ok(match film.video.map(Format::codec) {
            Some(Codec::Jpeg) => {
                Frames::Jpeg(Box::new((plain()?, Decoder::h264()?, JpegEncoder::new()?)))
            }
            Some(Codec::H264) if film.reordered => {
                Frames::Reordered(Box::new(VideoEncoder::new(SIZE, FRAME_RATE)?))
            }
            Some(Codec::H264) => Frames::H264(Box::new(plain()?)),
            _ => Frames::None,
        })
    }

    fn encode(
        &mut self,
        image: I420View<'_>,
        at: i64,
        is_key: bool,
        sink: &mut dyn Sink,
    ) -> Result<(), FilmError> {
        let times = |decode, presentation| SourceTimes {
            decode: Some(decode),
            presentation: Some(presentation),
            duration: TIMESCALE / FRAME_RATE,
        };
        match self {
            Frames::None => {}
            Frames::H264(encoder) => {
                for packet in encoder.encode(image, at, is_key)? {
                    sink.access_unit(annexb::split(&packet.data), times(packet.dts, packet.pts));
                }
            }
            Frames::Reordered(encoder) => {
                for packet in encoder.encode(image, at, is_key)? {
                    let times = times(packet.decode, packet.presentation);
                    sink.access_unit(annexb::split(&packet.data), times);
                }
            }
            Frames::Jpeg(codecs) => {
                let (encoder, decoder, jpegs) = codecs.as_mut();
                for packet in encoder.encode(image, at, false)? {
                    decoder.decode(&packet.data, packet.pts)?;
                    if let Some(frame) = decoder.newest() {
                        let jpeg = jpegs.encode(&frame, 75, SIZE.0, SIZE.1)?;
                        sink.jpeg(jpeg, times(packet.dts, packet.pts));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn profile(group_ms: u32) -> Profile {
        Profile {
            partial_streams: false,
            carriers: Vec::new(),
            protocols: Vec::new(),
            formats: Vec::new(),
            lanes: Vec::new(),
            group_ms,
            history: 1,
            repeat: None,
            latency_ms: 0,
            entry: String::new(),
            label: String::new(),
            embeds: Vec::new(),
            output: String::new(),
            ignored: Vec::new(),
        }
    }

    #[test]
    fn no_counter_is_in_step_with_all_groups() {
        for (format, reordered) in [
            (Format::H264AnnexB, false),
            (Format::H264AnnexB, true),
            (Format::Jpeg, false),
        ] {
            for group_ms in [0, 1000, 2000, 3000, 4000, 6000, 10_000] {
                let film = Film {
                    video: Some(format),
                    audio: None,
                    reordered,
                };
                let script = film.make(&profile(group_ms)).unwrap();
                let starts = script.group_starts();
                assert!(starts.len() >= 5, "{film:?} {group_ms}: {starts:?}");
                let first = starts[0];
                // The greatest common divisor of all distances from the first group.
                let step = starts.iter().fold(0, |mut step, at| {
                    let mut other = at - first;
                    while other > 0 {
                        (step, other) = (other, step % other);
                    }
                    step
                });
                assert_eq!(step, 1, "{film:?} {group_ms}: {starts:?}");
            }
        }
    }

    #[test]
    fn the_beginning_is_one_group() {
        let film = Film {
            video: Some(Format::H264AnnexB),
            audio: None,
            reordered: false,
        };
        let script = film.beginning(&profile(2000)).unwrap();
        assert_eq!(script.group_starts(), [1, 50]);
        assert_eq!(script.calls.len(), 52);
    }
}
