//! The values that pass between host and guest in one call, and their conversion in both directions.
//!
//! On the way in, tracks, samples and messages become the types that wasmtime generates from `wit/gateway.wit`, and the
//! guest gets handles to their bytes. On the way out, headers, chunks, answers and effects become the host's types:
//! their buffers leave the guest's handle table at once, and are counted against the limits of one call (`Budget`).
//! What is out of range ends the call like a trap, so that what comes out of here needs no further check. Called by
//! [`Instance`](super::Instance) only; the types are what the muxer's thread works with.

use crate::{
    Limits, Response,
    bindings::{media, transport},
    guest::{Guest, LimitExceeded, media_type},
};
use bytes::Bytes;
use sluicegate_media::{buffer::Buffer, group::Group, sample::Sample, time::TIMESCALE};
use sluicegate_stream::{Info, Offer, Selection};
use sluicegate_viewer::{Access, Content};
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

/// Action that a component requests for one viewer.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a message to this viewer only.
    Send(Content),
    /// From now on send only these lanes.
    Lanes(Vec<u8>),
    /// Request a keyframe from the source.
    Keyframe,
    /// Close the viewer, with this reason.
    Close(String),
}

/// Result of `join`: effects for the viewer, or the reason why it may not join.
pub type JoinResult = Result<Vec<Effect>, String>;

/// What a guest is configured with: the tracks of `info` that `choice` selects, and the stream's renditions.
pub(super) fn stream_info(
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
    });
    video.into_iter().chain(audio).collect()
}

/// Lends the guest a sample of `group`, whose bytes in the format of its track are `data`.
pub(super) fn lend_sample(
    guest: &mut Guest,
    sample: &Sample,
    group: Group,
    data: Bytes,
) -> wasmtime::Result<media::Sample> {
    let (track, decode_time, duration) = match sample.sample_range() {
        Some(sample_range) => (AUDIO_TRACK, sample_range.at, sample_range.length),
        None => (VIDEO_TRACK, sample.decode_time, sample.duration),
    };
    let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let data = guest.lend(data.into())?;
    Ok(media::Sample {
        track,
        group: group.number,
        decode_time,
        composition_offset: sample.composition_offset,
        duration,
        independent: sample.independent,
        leading: sample.leading,
        captured_at: sample.captured_at,
        group_started_at: group.started_at,
        size,
        data,
    })
}

/// Lends the guest a viewer's message.
pub(super) fn lend_content(
    guest: &mut Guest,
    content: Content,
) -> wasmtime::Result<transport::Payload> {
    Ok(match content {
        Content::Text(text) => transport::Payload::Text(text.to_string()),
        Content::Binary(bytes) => transport::Payload::Binary(guest.lend(bytes)?),
    })
}

/// What one call may still return.
struct Budget {
    limits: Limits,
    bytes: usize,
    items: usize,
}

impl Budget {
    fn new(store: &StoreContextMut<'_, Guest>) -> Budget {
        let limits = store.data().limits();
        Budget {
            limits,
            bytes: limits.output,
            items: limits.items,
        }
    }

    fn spend(&mut self, bytes: usize) -> wasmtime::Result<()> {
        match (self.bytes.checked_sub(bytes), self.items.checked_sub(1)) {
            (Some(bytes), Some(items)) => {
                (self.bytes, self.items) = (bytes, items);
                Ok(())
            }
            _ => Err(LimitExceeded::Output(self.limits.output, self.limits.items).into()),
        }
    }

    fn payload(
        &mut self,
        guest: &mut Guest,
        handle: wasmtime::component::Resource<Buffer>,
    ) -> wasmtime::Result<Buffer> {
        let payload = guest.take(handle)?;
        self.spend(payload.len())?;
        Ok(payload)
    }

    fn content(
        &mut self,
        guest: &mut Guest,
        payload: transport::Payload,
    ) -> wasmtime::Result<Content> {
        match payload {
            transport::Payload::Binary(handle) => self.payload(guest, handle).map(Content::Binary),
            transport::Payload::Text(text) => {
                self.spend(text.len())?;
                Ok(Content::Text(text.into()))
            }
        }
    }
}

/// The header that `configure` returns.
pub(super) fn take_header(
    store: &mut StoreContextMut<'_, Guest>,
    payloads: Vec<transport::Payload>,
) -> wasmtime::Result<Vec<Content>> {
    let mut budget = Budget::new(store);
    payloads
        .into_iter()
        .map(|payload| budget.content(store.data_mut(), payload))
        .collect()
}

/// The answer to a `request`.
pub(super) fn take_answer(
    store: &mut StoreContextMut<'_, Guest>,
    reply: transport::Reply,
) -> wasmtime::Result<Answer> {
    let mut budget = Budget::new(store);
    Ok(match reply {
        transport::Reply::Pending => Answer::Pending,
        transport::Reply::Follow(content_type) => Answer::Follow(media_type(content_type)?),
        transport::Reply::Done(response) => Answer::Done(Arc::new(Response::new(
            response.status,
            media_type(response.content_type)?,
            response.max_age,
            budget.payload(store.data_mut(), response.body)?,
        ))),
    })
}

/// The chunks of a `push` or `stop`, for a transport with so many `lanes`.
pub(super) fn take_chunks(
    store: &mut StoreContextMut<'_, Guest>,
    chunks: Vec<transport::Chunk>,
    lanes: usize,
) -> wasmtime::Result<Vec<Chunk>> {
    let mut budget = Budget::new(store);
    chunks
        .into_iter()
        .map(|chunk| {
            if usize::from(chunk.lane) >= lanes {
                return Err(LimitExceeded::Lane(chunk.lane, lanes).into());
            }
            Ok(Chunk {
                content: budget.content(store.data_mut(), chunk.payload)?,
                lane: chunk.lane,
                independent: chunk.independent,
                leading: chunk.leading,
            })
        })
        .collect()
}

/// The effects of a `join` or `message`.
pub(super) fn take_effects(
    store: &mut StoreContextMut<'_, Guest>,
    effects: Vec<transport::Effect>,
) -> wasmtime::Result<Vec<Effect>> {
    let mut budget = Budget::new(store);
    let mut taken = Vec::new();
    for effect in effects {
        taken.push(match effect {
            transport::Effect::Send(payload) => {
                Effect::Send(budget.content(store.data_mut(), payload)?)
            }
            transport::Effect::Lanes(lanes) => {
                budget.spend(lanes.len())?;
                Effect::Lanes(lanes)
            }
            // This version grants no profile an uplink.
            transport::Effect::Uplink(handle) => {
                budget.payload(store.data_mut(), handle)?;
                continue;
            }
            transport::Effect::Keyframe => Effect::Keyframe,
            transport::Effect::Close(reason) => {
                budget.spend(reason.len())?;
                Effect::Close(reason)
            }
        });
    }
    Ok(taken)
}
