//! The values that pass between host and guest in one call, and their conversion in both directions.
//!
//! On the way in, tracks, samples and messages become the types that wasmtime generates from `wit/gateway.wit`, and the
//! guest gets handles to their bytes. On the way out, headers, chunks and answers become the host's types: their buffers
//! leave the guest's handle table at once, and are counted against the limits of one call. What is out of range ends the
//! call like a trap, so that what comes out of here needs no further check. Called by [`Instance`](super::Instance)
//! only; the types are what the muxer's thread works with.

use crate::{
    Response,
    bindings::{media, transport},
    guest::{Guest, LimitExceeded, media_type},
    recording,
};
use bytes::Bytes;
use sluicegate_media::{group::Group, sample::Sample, time::TIMESCALE};
use sluicegate_stream::{Info, Offer, Selection};
use sluicegate_viewer::{Access, Content, FromClient, SampleTime, Track};
use std::sync::Arc;
use wasmtime::StoreContextMut;

/// Track ids.
const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;

/// A rendition of the stream, as an alternative for viewers.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendition {
    /// Relative URL of the transport for that rendition, ends in "/"; empty for the current rendition.
    pub base: String,
    /// Name, codecs, size and bandwidth.
    pub offer: Offer,
}

impl Rendition {
    fn to_guest(&self) -> transport::Rendition {
        let offer = &self.offer;
        transport::Rendition {
            name: offer.rendition.clone(),
            base: self.base.clone(),
            codecs: offer.codecs.clone(),
            bandwidth: offer.bandwidth,
            width: offer.width,
            height: offer.height,
            frame_rate: offer.frame_rate,
            more: Vec::new(),
        }
    }
}

/// Output of `push` and `stop`.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Payload for the wire.
    pub content: Content,
    /// Index into the profile's lanes.
    pub lane: u8,
    /// A viewer may start here.
    pub independent: bool,
    /// Not for a viewer that started at the newest independent chunk.
    pub leading: bool,
    /// When its content is presented, if that differs from the sample that was pushed.
    pub time: Option<SampleTime>,
}

impl Chunk {
    /// Converts it to the arguments of [`Outlet::publish`](sluicegate_viewer::Outlet::publish).
    pub fn into_parts(self) -> (Content, u8, Access) {
        let access = match (self.independent, self.leading) {
            (true, _) => Access::Start,
            (false, true) => Access::Leading,
            (false, false) => Access::Ordinary,
        };
        (self.content, self.lane, access)
    }
}

/// Result of `request`.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The complete response.
    Done(Arc<Response>),
    /// No answer yet; ask again after the next sample.
    Pending,
    /// Status 200 with this content type; the client becomes a viewer, and its chunks are the body.
    Follow(String),
}

/// What a guest is configured with: the tracks of `info` that `choice` selects, and the stream's renditions.
pub(crate) fn stream_info(
    info: &Info,
    choice: &Selection,
    renditions: &[Rendition],
    longest_group_ms: u32,
) -> transport::StreamInfo {
    transport::StreamInfo {
        started_at: info.started_at,
        epoch: info.epoch,
        tracks: tracks(info, choice),
        renditions: renditions.iter().map(Rendition::to_guest).collect(),
        longest_group_ms,
        more: Vec::new(),
    }
}

/// The tracks that a guest is configured with.
fn tracks(info: &Info, choice: &Selection) -> Vec<media::Track> {
    let video = choice.video.zip(info.video.as_ref());
    let video = video.filter(|(format, video)| format.codec() == video.codec);
    let audio = choice.audio.zip(info.audio.as_ref());
    let audio = audio.filter(|(format, audio)| format.codec() == audio.codec);
    let video = video.map(|(format, video)| media::Track {
        id: VIDEO_TRACK,
        format: format.name().into(),
        codec: video.codec_string.clone(),
        config: video.config.to_vec(),
        timescale: TIMESCALE,
        kind: media::Kind::Video(media::Video {
            width: video.width,
            height: video.height,
            pixel_aspect: (
                video.geometry.pixel_aspect.width(),
                video.geometry.pixel_aspect.height(),
            ),
            rotation: video.geometry.orientation.degrees(),
            mirrored: video.geometry.orientation.is_mirrored(),
            frame_rate: video.frame_rate,
            keyframe_ms: video.keyframe_ms,
        }),
        more: Vec::new(),
    });
    let audio = audio.map(|(format, audio)| media::Track {
        id: AUDIO_TRACK,
        format: format.name().into(),
        codec: audio.codec_string.clone(),
        config: audio.config.to_vec(),
        timescale: audio.timescale,
        kind: media::Kind::Audio(media::Audio {
            sample_rate: audio.sample_rate,
            channels: audio.channels,
            language: audio.language.clone(),
        }),
        more: Vec::new(),
    });
    video.into_iter().chain(audio).collect()
}

/// A sample of `group`, whose bytes in the format of its track are `data`, as a guest gets it.
pub(crate) fn pushed(sample: &Sample, group: Group, data: Bytes) -> recording::Sample {
    let (track, decode_time, duration) = match sample.sample_range() {
        Some(sample_range) => (AUDIO_TRACK, sample_range.at, sample_range.length),
        None => (VIDEO_TRACK, sample.decode_time, sample.duration),
    };
    recording::Sample {
        track,
        group: group.number,
        decode_time,
        composition_offset: sample.composition_offset,
        duration,
        independent: sample.independent,
        leading: sample.leading,
        repeated: sample.repeat > 0,
        captured_at: sample.captured_at,
        group_started_at: group.started_at,
        data: data.into(),
    }
}

/// Lends the guest what a viewer sent.
pub(super) fn lend_message(
    guest: &mut Guest,
    sent: FromClient,
) -> wasmtime::Result<transport::Message> {
    Ok(match sent {
        FromClient::Message(Content::Text(text)) => transport::Message::Text(text.to_string()),
        FromClient::Message(Content::Binary(bytes)) => {
            transport::Message::Binary(guest.lend(bytes)?)
        }
        FromClient::Datagram(bytes) => transport::Message::Datagram(guest.lend(bytes)?),
        FromClient::Stream(stream) => transport::Message::ClientStream(transport::StreamData {
            id: stream.id,
            bidirectional: stream.bidirectional,
            data: guest.lend(stream.data)?,
            last: stream.last,
        }),
    })
}

/// The header that `configure` returns.
pub(super) fn take_header(
    store: &mut StoreContextMut<'_, Guest>,
    payloads: Vec<transport::Payload>,
) -> wasmtime::Result<Vec<Content>> {
    payloads
        .into_iter()
        .map(|payload| store.data_mut().take_content(payload))
        .collect()
}

/// The answer to a `request`.
pub(super) fn take_answer(
    store: &mut StoreContextMut<'_, Guest>,
    reply: transport::Reply,
) -> wasmtime::Result<Answer> {
    Ok(match reply {
        transport::Reply::Pending => Answer::Pending,
        transport::Reply::Follow(content_type) => Answer::Follow(media_type(content_type)?),
        transport::Reply::Done(answered) => {
            let mut response = Response::new(
                answered.status,
                media_type(answered.content_type)?,
                answered.max_age,
                store.data_mut().take_output(answered.body)?,
            );
            let refused = response.add_headers(answered.headers);
            if !refused.is_empty() {
                let names = refused.join(", ");
                store.data_mut().warn(&format!(
                    "headers of a response are left out, as a component may not set them or their values are invalid: {names}"
                ));
            }
            Answer::Done(Arc::new(response))
        }
    })
}

/// Ticks per second of the tracks that a guest is configured with, for the times of chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timescales {
    video: Option<u32>,
    audio: Option<u32>,
}

impl Timescales {
    /// Those of these tracks.
    pub(super) fn of(tracks: &[media::Track]) -> Timescales {
        let of = |id| {
            let mut tracks = tracks.iter();
            let track = tracks.find(|track| track.id == id);
            track.map(|track| track.timescale)
        };
        Timescales {
            video: of(VIDEO_TRACK),
            audio: of(AUDIO_TRACK),
        }
    }

    /// A guest's time in the host's units.
    fn sample_time(self, time: transport::MediaTime) -> wasmtime::Result<SampleTime> {
        let (track, timescale) = match time.track {
            VIDEO_TRACK => (Track::Video, self.video),
            AUDIO_TRACK => (Track::Audio, self.audio),
            _ => (Track::Video, None),
        };
        let timescale = timescale.ok_or(LimitExceeded::Track(time.track))?;
        let ticks = u128::from(time.presentation) * u128::from(TIMESCALE);
        let presentation = ticks / u128::from(timescale.max(1));
        let presentation = u64::try_from(presentation).unwrap_or(u64::MAX);
        Ok(SampleTime {
            track,
            decode: presentation,
            presentation,
        })
    }
}

/// The chunks of a `push` or `stop`, for a transport with so many `lanes`.
pub(super) fn take_chunks(
    store: &mut StoreContextMut<'_, Guest>,
    chunks: Vec<transport::Chunk>,
    lanes: usize,
    timescales: Timescales,
) -> wasmtime::Result<Vec<Chunk>> {
    chunks
        .into_iter()
        .map(|chunk| {
            if usize::from(chunk.lane) >= lanes {
                return Err(LimitExceeded::Lane(chunk.lane, lanes).into());
            }
            let time = chunk.time.map(|time| timescales.sample_time(time));
            Ok(Chunk {
                content: store.data_mut().take_content(chunk.payload)?,
                lane: chunk.lane,
                independent: chunk.independent,
                leading: chunk.leading,
                time: time.transpose()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_of_chunks_are_in_ticks_of_their_tracks() {
        let timescales = Timescales {
            video: Some(90_000),
            audio: Some(48_000),
        };
        let time = |track, presentation| {
            let time = transport::MediaTime {
                track,
                presentation,
            };
            timescales.sample_time(time).map(|time| time.presentation)
        };
        assert_eq!(time(VIDEO_TRACK, 90_001).unwrap(), 90_001);
        assert_eq!(time(AUDIO_TRACK, 24_000).unwrap(), 45_000);
        assert_eq!(time(AUDIO_TRACK, u64::MAX).unwrap(), u64::MAX);
        assert!(time(7, 0).is_err());
        let silent = Timescales {
            audio: None,
            ..timescales
        };
        let sound = transport::MediaTime {
            track: AUDIO_TRACK,
            presentation: 0,
        };
        assert!(silent.sample_time(sound).is_err());
    }
}
