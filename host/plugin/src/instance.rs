//! An instance of a transport component: a typed wrapper over the guest's exports.
//!
//! Arguments are converted to the types of `wit/gateway.wit`, and results back. Buffers that the guest returns leave
//! its handle table at once, and are counted against the limits of one call. Everything that a guest can get wrong in a
//! profile, chunk or effect is rejected here, so callers can trust the result. After a [`Failure`] the instance must
//! not be used again. Called by the muxer's thread; calls `Sandbox`, which enforces time and memory.

use super::{
    Plugin, Response, Usage,
    bindings::{TransportPlugin, media, transport},
    guest::{Guest, LimitExceeded, media_type},
    sandbox::{Failure, Sandbox},
};
use sluicegate_media::{
    buffer::Buffer,
    group::Group,
    sample::{Codec, Format, Sample},
    time::TIMESCALE,
};
use sluicegate_stream::{Info, Offer, Selection};
use sluicegate_viewer::{Access, Carrier, Content};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use thiserror::Error;
use wasmtime::StoreContextMut;

/// Upper limits of a profile: no group is worth waiting for longer than a minute, and no viewer is ten minutes behind.
const MAX_GROUP_MS: u32 = 60_000;
const MAX_HISTORY: u32 = 64;
const MAX_LANES: usize = 16;
/// Bytes of `profile.entry`, and characters of `profile.label`.
const MAX_ENTRY_LEN: usize = 256;
const MAX_LABEL_LEN: usize = 64;
/// Entries of `profile.embeds`.
const MAX_EMBEDS: usize = 16;
const MAX_STALE_MS: u32 = 600_000;
const MAX_REPEAT_MS: u32 = 600_000;
const MAX_LATENCY_MS: u32 = 600_000;
/// Shortest interval at which a silent source's last frame is repeated; a shorter `repeat-ms` is raised to it.
const MIN_REPEAT_INTERVAL: Duration = Duration::from_millis(100);
/// Track ids.
const VIDEO_TRACK: u32 = 1;
const AUDIO_TRACK: u32 = 2;

/// Reason why an instance cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The component rejects its options, or its profile is invalid.
    #[error("{plugin} refuses its options: {message}")]
    Refused {
        /// Component, as name@version.
        plugin: String,
        /// Message of the component, or what is wrong with its profile.
        message: String,
    },
    /// The component failed in `open`.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What a transport declares when it is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Carriers that it supports, of those that the host knows; at least one.
    pub carriers: Vec<Carrier>,
    /// Formats that it takes, of those that the host knows, in order of preference; at least one.
    pub formats: Vec<Format>,
    /// Lag bound of each lane: how far a viewer may fall behind. Empty for a transport that only answers requests.
    pub lanes: Vec<Duration>,
    /// Shortest group, in milliseconds; `profile.group-ms` in `wit/gateway.wit`.
    pub group_ms: u32,
    /// Past groups that a new instance gets; `profile.history`.
    pub history: u32,
    /// How long a source must be silent before its last frame is repeated; `None`: never. `profile.repeat-ms`.
    pub repeat: Option<Duration>,
    /// Latency that the transport adds, in milliseconds; `profile.latency-ms`.
    pub latency_ms: u32,
    /// See `profile.entry`.
    pub entry: String,
    /// See `profile.label`; empty if the component has none.
    pub label: String,
    /// See `profile.embeds`.
    pub embeds: Vec<Embed>,
    /// What the component's profile has and this gateway ignores, for the user.
    pub ignored: Vec<String>,
}

/// What a client without a player of ours can use a transport's entry as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embed {
    /// Picture of an `<img>`.
    Image,
    /// HLS playlist.
    Playlist,
    /// Media file without an end.
    File,
    /// WebSocket with one access unit of H.264 (Annex B) in each message.
    AccessUnits,
}

impl Embed {
    const ALL: [Embed; 4] = [
        Embed::Image,
        Embed::Playlist,
        Embed::File,
        Embed::AccessUnits,
    ];

    /// Its name in the WIT.
    pub fn name(self) -> &'static str {
        match self {
            Embed::Image => "image",
            Embed::Playlist => "playlist",
            Embed::File => "file",
            Embed::AccessUnits => "access-units",
        }
    }

    fn from_name(name: &str) -> Option<Embed> {
        Embed::ALL.into_iter().find(|embed| embed.name() == name)
    }
}

impl Profile {
    /// Whether the transport does not get this sample, because it is a repeated frame and the transport wants none.
    pub fn skips(&self, sample: &Sample) -> bool {
        sample.repeat > 0 && self.repeat.is_none()
    }

    /// The format in which samples of this codec are passed to the transport; `None` if it does not take the codec.
    pub fn format_for(&self, codec: Codec) -> Option<Format> {
        self.formats
            .iter()
            .copied()
            .find(|format| format.codec() == codec)
    }
}

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

/// A running instance of a transport.
pub struct Instance {
    sandbox: Sandbox,
    guest: TransportPlugin,
    choice: Option<Selection>,
    /// Number of lanes in its profile.
    lanes: usize,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Instance({:?})", self.sandbox)
    }
}

impl Instance {
    /// Instantiates the component and opens it. `options` is JSON; `stream` is for messages.
    ///
    /// # Errors
    ///
    /// [`OpenError::Refused`] if the options or the profile are invalid, [`OpenError::Failed`] if the guest traps or
    /// exceeds a limit.
    pub fn open(
        plugin: &Arc<Plugin>,
        stream: &str,
        options: &str,
        usage: Arc<Usage>,
    ) -> Result<(Instance, Profile), OpenError> {
        let engine = plugin.pre.engine();
        let (sandbox, guest) = Sandbox::new(plugin, engine, stream, usage, |store| {
            plugin.pre.instantiate(store)
        })?;
        let mut instance = Instance {
            sandbox,
            guest,
            choice: None,
            lanes: 0,
        };
        let opened = instance.call("open", |store, guest| guest.call_open(store, options))?;
        let refuse = |message: String| OpenError::Refused {
            plugin: plugin.to_string(),
            message,
        };
        let profile = profile(opened.map_err(refuse)?).map_err(refuse)?;
        instance.lanes = profile.lanes.len();
        Ok((instance, profile))
    }

    /// Bytes in the buffers that the guest holds.
    pub fn held(&self) -> usize {
        self.sandbox.held()
    }

    /// Announces the first tracks or a discontinuity; later samples are packaged as `choice` says. Returns the header.
    pub fn configure(
        &mut self,
        info: &Info,
        choice: impl Into<Selection>,
        renditions: &[Rendition],
        longest_group_ms: u32,
    ) -> Result<Vec<Content>, Failure> {
        let choice = choice.into();
        let info = transport::StreamInfo {
            started_at: info.started_at,
            epoch: info.epoch,
            tracks: tracks(info, &choice),
            renditions: renditions.iter().map(Rendition::to_guest).collect(),
            longest_group_ms,
        };
        self.choice = Some(choice);
        self.call("configure", |mut store, guest| {
            let payloads = guest.call_configure(&mut store, &info)?;
            let mut budget = Budget::new(&store);
            payloads
                .into_iter()
                .map(|payload| budget.content(store.data_mut(), payload))
                .collect()
        })
    }

    /// Pushes one sample of `group` and returns the chunks. A sample in another format than configured is ignored.
    pub fn push(&mut self, sample: &Sample, group: Group) -> Result<Vec<Chunk>, Failure> {
        let format = self.choice.and_then(|choice| choice.format(sample.codec()));
        let Some(data) = format.and_then(|format| sample.packaged(format)) else {
            return Ok(Vec::new());
        };
        let (track, decode_time, duration) = match sample.sample_range() {
            Some(sample_range) => (AUDIO_TRACK, sample_range.at, sample_range.length),
            None => (VIDEO_TRACK, sample.decode_time, sample.duration),
        };
        self.sandbox.usage().pushes.fetch_add(1, Ordering::Relaxed);
        let lanes = self.lanes;
        self.call("push", |mut store, guest| {
            let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
            let data = store.data_mut().lend(data.into())?;
            let sample = media::Sample {
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
            };
            let chunks = guest.call_push(&mut store, sample)?;
            take_chunks(&mut store, chunks, lanes)
        })
    }

    /// Announces that no samples follow until the next `configure` or, if `last`, at all. Returns the last chunks.
    pub fn stop(&mut self, reason: &str, last: bool) -> Result<Vec<Chunk>, Failure> {
        let lanes = self.lanes;
        self.call("stop", |mut store, guest| {
            let chunks = guest.call_stop(&mut store, reason, last)?;
            take_chunks(&mut store, chunks, lanes)
        })
    }

    /// Answers a GET below the transport's path.
    pub fn request(&mut self, path: &str, query: &str) -> Result<Answer, Failure> {
        self.call("request", |mut store, guest| {
            let reply = guest.call_request(&mut store, path, query)?;
            let mut budget = Budget::new(&store);
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
        })
    }

    /// Adds a viewer. The inner result is the component's decision.
    pub fn join(
        &mut self,
        viewer: u64,
        carrier: Carrier,
        path: &str,
        query: &str,
    ) -> Result<JoinResult, Failure> {
        self.call("join", |mut store, guest| {
            match guest.call_join(&mut store, viewer, carrier.name(), path, query)? {
                Ok(effects) => take_effects(&mut store, effects).map(Ok),
                Err(refusal) => Ok(Err(refusal)),
            }
        })
    }

    /// Passes a message from a viewer.
    pub fn message(&mut self, viewer: u64, data: Content) -> Result<Vec<Effect>, Failure> {
        self.call("message", |mut store, guest| {
            let payload = match data {
                Content::Text(text) => transport::Payload::Text(text.to_string()),
                Content::Binary(bytes) => transport::Payload::Binary(store.data_mut().lend(bytes)?),
            };
            let effects = guest.call_message(&mut store, viewer, &payload)?;
            take_effects(&mut store, effects)
        })
    }

    /// Removes a viewer.
    pub fn leave(&mut self, viewer: u64) -> Result<(), Failure> {
        self.call("leave", |mut store, guest| {
            guest.call_leave(&mut store, viewer)
        })
    }

    fn call<R>(
        &mut self,
        name: &'static str,
        call: impl FnOnce(StoreContextMut<'_, Guest>, &transport::Guest) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        let guest = self.guest.sluicegate_gateway_transport();
        self.sandbox.call(name, |store| call(store, guest))
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

fn profile(raw: transport::Profile) -> Result<Profile, String> {
    let carriers: Vec<Carrier> = raw
        .carriers
        .iter()
        .filter_map(|name| Carrier::from_name(name))
        .collect();
    let formats: Vec<Format> = raw
        .formats
        .iter()
        .filter_map(|name| Format::from_name(name))
        .collect();
    if carriers.is_empty() {
        return Err(format!(
            "its profile names no carrier of this gateway: {}; available are http and websocket",
            named(&raw.carriers)
        ));
    }
    if formats.is_empty() {
        return Err(format!(
            "its profile names no format of this gateway: {}; available are h264/annexb, h264/avcc, jpeg and aac",
            named(&raw.formats)
        ));
    }
    if raw.lanes.len() > MAX_LANES {
        return Err(format!(
            "its profile has {} lanes; at most {MAX_LANES} are allowed",
            raw.lanes.len()
        ));
    }
    let stale_ms = raw.lanes.iter().map(|lane| lane.stale_ms).max();
    for (what, value, good) in [
        ("group-ms", raw.group_ms, 0..=MAX_GROUP_MS),
        ("history", raw.history, 1..=MAX_HISTORY),
        ("repeat-ms", raw.repeat_ms, 0..=MAX_REPEAT_MS),
        ("latency-ms", raw.latency_ms, 0..=MAX_LATENCY_MS),
        (
            "stale-ms of a lane",
            stale_ms.unwrap_or(0),
            0..=MAX_STALE_MS,
        ),
    ] {
        if !good.contains(&value) {
            return Err(format!(
                "its profile has {value} for {what}; {} to {} are allowed",
                good.start(),
                good.end()
            ));
        }
    }
    check_entry(&raw.entry)?;
    if raw.label.chars().count() > MAX_LABEL_LEN || raw.label.contains(char::is_control) {
        return Err(format!(
            "its profile has an invalid label; at most {MAX_LABEL_LEN} characters are possible, none of them control characters"
        ));
    }
    if raw.embeds.len() > MAX_EMBEDS {
        return Err(format!(
            "its profile has {} embeds; at most {MAX_EMBEDS} are possible",
            raw.embeds.len()
        ));
    }
    Ok(Profile {
        ignored: ignored(&raw),
        entry: raw.entry,
        label: raw.label,
        embeds: raw
            .embeds
            .iter()
            .filter_map(|name| Embed::from_name(name))
            .collect(),
        carriers,
        formats,
        lanes: raw
            .lanes
            .iter()
            .map(|lane| Duration::from_millis(lane.stale_ms.into()))
            .collect(),
        group_ms: raw.group_ms,
        history: raw.history,
        repeat: (raw.repeat_ms > 0)
            .then(|| MIN_REPEAT_INTERVAL.max(Duration::from_millis(raw.repeat_ms.into()))),
        latency_ms: raw.latency_ms,
    })
}

/// Checks `profile.entry`, which becomes part of URLs.
fn check_entry(entry: &str) -> Result<(), String> {
    let is_valid = entry.len() <= MAX_ENTRY_LEN
        && !entry.starts_with('/')
        && !entry
            .split('/')
            .any(|segment| matches!(segment, "." | ".."))
        && !entry.contains(|c: char| c.is_control() || "?#%\\".contains(c));
    match is_valid {
        true => Ok(()),
        false => Err(format!(
            "its profile has an invalid entry {}; it is a relative path such as index.m3u8, of at most {MAX_ENTRY_LEN} bytes",
            named(&[entry.to_owned()])
        )),
    }
}

/// What of a profile this gateway does not know, or does not support yet.
fn ignored(raw: &transport::Profile) -> Vec<String> {
    let unknown = |what: &str, names: &[String], is_known: &dyn Fn(&str) -> bool| {
        let names: Vec<String> = names
            .iter()
            .filter(|name| !is_known(name))
            .cloned()
            .collect();
        (!names.is_empty()).then(|| format!("{what} {}", named(&names)))
    };
    let uplink = raw
        .uplink
        .as_ref()
        .map(|format| format!("uplink {}", named(std::slice::from_ref(format))));
    let datagrams = raw.lanes.iter().any(|lane| lane.datagrams);
    [
        unknown("carriers", &raw.carriers, &|name| {
            Carrier::from_name(name).is_some()
        }),
        unknown("formats", &raw.formats, &|name| {
            Format::from_name(name).is_some()
        }),
        unknown("embeds", &raw.embeds, &|name| {
            Embed::from_name(name).is_some()
        }),
        uplink,
        datagrams.then(|| "datagrams of lanes".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The first of a guest's names, shortened for a message: a guest can return thousands of names with megabytes.
fn named(names: &[String]) -> String {
    let short = names.iter().take(8).map(|name| {
        let name: String = name.chars().take(64).collect();
        format!("{name:?}")
    });
    format!("[{}]", short.collect::<Vec<_>>().join(", "))
}

/// What one call may still return.
struct Budget {
    limits: super::Limits,
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

fn take_chunks(
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

fn take_effects(
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw() -> transport::Profile {
        transport::Profile {
            carriers: vec!["http".into()],
            formats: vec!["jpeg".into()],
            uplink: None,
            lanes: vec![transport::Lane {
                stale_ms: 1000,
                datagrams: false,
            }],
            group_ms: 2000,
            history: 1,
            repeat_ms: 0,
            latency_ms: 0,
            entry: String::new(),
            label: String::new(),
            embeds: vec![],
        }
    }

    #[test]
    fn what_no_transport_can_mean_is_refused_by_its_name() {
        assert!(profile(raw()).is_ok());
        type Change = fn(&mut transport::Profile);
        let changes: [(&str, Change); 13] = [
            ("group-ms", |raw| raw.group_ms = u32::MAX),
            ("history", |raw| raw.history = 65),
            ("history", |raw| raw.history = 0),
            ("repeat-ms", |raw| raw.repeat_ms = u32::MAX),
            ("latency-ms", |raw| raw.latency_ms = u32::MAX),
            ("stale-ms", |raw| raw.lanes[0].stale_ms = u32::MAX),
            ("17 lanes", |raw| raw.lanes = vec![raw.lanes[0]; 17]),
            ("17 embeds", |raw| raw.embeds = vec!["file".into(); 17]),
            ("label", |raw| raw.label = "x".repeat(65)),
            ("label", |raw| raw.label = "H\nLS".into()),
            ("entry", |raw| raw.entry = "/etc".into()),
            ("entry", |raw| raw.entry = "a/../../b".into()),
            ("entry", |raw| raw.entry = "a?b".into()),
        ];
        for (part, change) in changes {
            let mut changed = raw();
            change(&mut changed);
            let refusal = profile(changed).unwrap_err();
            assert!(refusal.contains(part), "{part}: {refusal}");
        }
        let mut long = raw();
        long.carriers = vec!["x".repeat(1 << 20); 100];
        assert!(profile(long).unwrap_err().len() < 1000);
    }

    #[test]
    fn what_this_host_ignores_of_a_profile_is_listed() {
        let mut asks = raw();
        asks.carriers.push("webtransport".into());
        asks.formats.push("opus".into());
        asks.embeds = vec!["hologram".into(), "file".into()];
        asks.uplink = Some("opus".into());
        asks.lanes[0].datagrams = true;
        let profile = profile(asks).unwrap();
        assert_eq!(profile.embeds, [Embed::File]);
        let expected = [
            "carriers [\"webtransport\"]",
            "formats [\"opus\"]",
            "embeds [\"hologram\"]",
            "uplink [\"opus\"]",
            "datagrams of lanes",
        ];
        assert_eq!(profile.ignored, expected);
    }
}
