//! State of the gateway as JSON: `/healthz`, `/readyz`, `/api/devices`, `/api/sessions`, `/api/plugins`.
//!
//! Each handler takes a snapshot of the streams, viewers, sessions and muxers and serializes it; nothing is cached
//! except the list of devices, which many dashboards poll. The types derive `JsonSchema`, so their doc comments are the
//! descriptions in `/api/openapi.json`. All rates are bits per second. Called by `route_to` in [`super`].

use super::{Body, Visitor, error, full, json, live, media_query};
use crate::gateway::{Gateway, JsonList};
use crate::session::SessionView;
use hyper::{HeaderMap, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_codec as codec;
use sluicegate_config::{self as config, BasePath};
use sluicegate_media::sample::{self, Codec};
use sluicegate_plugin as plugin;
use sluicegate_plugin::{
    Guest, World,
    bindings::{PolicyPluginPre, TransportPluginPre},
    muxer,
    transports::Transport,
};
use sluicegate_stream::{State, Stream};
use sluicegate_telemetry::unix_ms;
use sluicegate_viewer::Counter;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

/// Response of `/api/sessions`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SessionList {
    /// Every stream with its viewers and rates.
    streams: Vec<StreamUse>,
    /// Players with a control channel, in order of arrival, then viewers without a session.
    sessions: Vec<Watcher>,
}

/// Response of `/healthz`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Health {
    /// Always "ok".
    status: &'static str,
    /// The gateway's clock, Unix milliseconds.
    now: u64,
}

/// Response of `/readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Readiness {
    /// "ready", or "draining" during shutdown.
    status: &'static str,
}

/// A stream, as `/api/devices` lists it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Device {
    /// Name of the stream; for a discovered Android device its serial number.
    serial: String,
    /// Base path of the stream's transports, `/live/NAME`.
    url: String,
    /// Path of the player page, `/watch/NAME`.
    watch: String,
    /// State of the source.
    state: State,
    /// Why the stream is in this state, for people; may be empty.
    reason: String,
    /// When the stream entered this state, Unix milliseconds.
    since: u64,
    /// The source as configured, without user names, passwords and other secrets.
    source: String,
    /// Whether the source runs without viewers.
    always_on: bool,
    /// Model of an Android device, as the device reports it; null for other sources.
    model: Option<String>,
    /// Width of the upright frame in square pixels; null before it is known.
    width: Option<u32>,
    /// Height of the upright frame in square pixels; null before it is known.
    height: Option<u32>,
    /// Codec of the video, "jpeg" or an RFC 6381 codec string such as "avc1.64001f"; null before it is known.
    codec: Option<String>,
    /// Audio track of the source; null if it has none or none was received yet.
    audio: Option<Audio>,
    /// Measured frames per second of the source.
    frame_rate: f32,
    /// Bits per second received from the source.
    bits_in: u64,
    /// Bits per second sent to viewers, averaged over 2 seconds.
    bits_out: u64,
    /// Number of viewers, over all renditions and transports.
    viewers: usize,
    /// Viewers by rendition and transport; combinations without viewers are left out.
    watching: Vec<Watching>,
    /// "running" while the stream is being decoded, else "stopped".
    decoder: &'static str,
    /// Use of the capture interface.
    captures: CaptureUse,
    /// Counts of decoded and encoded frames since the gateway started.
    made: FrameCounts,
    /// Names of the renditions that are configured for the stream.
    renditions: Vec<String>,
    /// Encoder of streams that configure none of their own; null until an encoder was needed.
    encoder: Option<codec::EncoderChoice>,
    /// Names of all transports of the gateway.
    transports: Vec<String>,
    /// Problems of the source that do not stop it, for people.
    notes: Vec<String>,
}

/// Audio track of a source.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Audio {
    /// Name of the codec in libavcodec, such as "aac" or "pcm_alaw".
    codec: String,
    /// Sample rate, samples per second.
    rate: u32,
    /// Number of channels.
    channels: u8,
    /// Language as a BCP 47 tag.
    language: String,
}

/// Viewers of one rendition of a stream on one transport.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Watching {
    /// Name of the rendition; empty for the stream itself.
    rendition: String,
    /// Name of the transport.
    transport: String,
    /// Number of viewers.
    viewers: usize,
}

/// Use of a stream's capture interface.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CaptureUse {
    /// Capture clients: WebSocket connections, and HTTP requests in progress.
    clients: usize,
}

/// Counts of frames since the gateway started.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FrameCounts {
    /// Frames decoded.
    decoded: u64,
    /// Access units that could not be decoded.
    failed: u64,
    /// Decoded frames and access units left out because the machine was too slow.
    dropped: u64,
    /// JPEG images encoded.
    jpegs: u64,
    /// Frames encoded as video.
    encoded: u64,
}

/// Load of one stream.
#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamUse {
    /// Name of the stream.
    serial: String,
    /// Number of viewers, over all renditions and transports.
    viewers: usize,
    /// Bits per second received from the source.
    bits_in: u64,
    /// Bits per second sent to viewers, averaged over 2 seconds.
    bits_out: u64,
    /// "running" while the stream is being decoded, else "stopped".
    decoder: &'static str,
}

/// A player with a control channel, or a viewer that is a connection only.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Watcher {
    /// A player with a control channel.
    Session(Box<SessionView>),
    /// A connection that belongs to no session.
    Viewer(Viewer),
}

/// A viewer without a session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Viewer {
    /// Identifies the viewer, as in the events `viewer-came` and `viewer-left`.
    id: String,
    /// Name of the stream.
    stream: String,
    /// Name of the transport.
    transport: String,
    /// Name of the rendition; empty for the stream itself.
    rendition: String,
    /// When the viewer connected, Unix milliseconds.
    since: u64,
    /// Why this transport and rendition: always "requested in the URL".
    reason: &'static str,
    /// Bytes sent to the viewer.
    bytes: u64,
    /// How often the viewer fell behind and jumped to a newer start point.
    jumps: u64,
}

/// A component, as `/api/plugins` lists it. Counts are since the gateway started.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plugin {
    /// "transport" or "policy".
    kind: &'static str,
    /// Name of the transport or policy in the config.
    name: String,
    /// The component's own name and version, as NAME@VERSION.
    component: String,
    /// Whether the component is part of the gateway's binary.
    built_in: bool,
    /// SHA-256 of the component, in hexadecimal.
    hash: String,
    /// Size of the component in bytes.
    size: usize,
    /// Limits of each instance.
    limits: Limits,
    /// Calls into the component.
    calls: u64,
    /// Calls that pushed a sample; 0 for the policy.
    pushes: u64,
    /// Traps, timeouts and exceeded limits.
    failures: u64,
    /// Instances created.
    instances: u64,
    /// Mean duration of a call in microseconds.
    us_per_call: f64,
    /// State of the policy: "running", "backing-off" or "broken". Absent for transports, whose muxers have one each.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Why the policy is in this state; empty while it runs. Absent for transports.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The newest exchange of the transport's component; null if there was none.
    swap: Option<muxer::SwapState>,
    /// Running muxers of the transport; empty for the policy.
    muxers: Vec<Muxer>,
}

/// Limits of one instance of a component.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Limits {
    /// Linear memory in bytes.
    memory: usize,
    /// Duration of a call in milliseconds.
    call_ms: u64,
}

impl From<plugin::Limits> for Limits {
    fn from(limits: plugin::Limits) -> Limits {
        Limits {
            memory: limits.memory,
            call_ms: u64::try_from(limits.call.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A muxer: one transport at work on one form of a stream. Counts are since the muxer started.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Muxer {
    /// Stream with rendition or JPEG parameters, such as "porch@mobile" or "porch?width=640".
    stream: String,
    /// Component that it uses, as NAME@VERSION; while the transport is exchanged, muxers switch over one by one.
    component: String,
    /// SHA-256 of that component, in hexadecimal: it tells two builds of one version apart.
    hash: String,
    /// Name of the stream.
    serial: String,
    /// Name of the rendition; empty for the stream itself.
    rendition: String,
    /// "running"; "backing-off" between a failure and the next instance; "broken" while the circuit breaker is open.
    state: &'static str,
    /// Why the muxer is in this state; empty while it runs.
    reason: String,
    /// Traps, timeouts and exceeded limits.
    failures: u64,
    /// Calls into the component.
    calls: u64,
    /// Mean duration of a call in microseconds.
    us_per_call: f64,
    /// How often the muxer was too slow for the stream and skipped samples.
    overruns: u64,
    /// Bytes of chunks that are kept for viewers.
    buffered_bytes: usize,
}

/// Answers `/healthz` with the gateway's time, which clients use to measure latency.
pub fn health() -> Response<Body> {
    let now = unix_ms(SystemTime::now());
    json(StatusCode::OK, &Health { status: "ok", now })
}

/// Answers `/readyz`: 200, or 503 during shutdown.
pub fn ready(gateway: &Gateway) -> Response<Body> {
    let (code, status) = match gateway.is_draining() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false => (StatusCode::OK, "ready"),
    };
    json(code, &Readiness { status })
}

/// Lists all streams that the visitor may view. A client that accepts an answer of one second's age (`Cache-Control:
/// max-age=1`, RFC 9111 section 5.2.1.1) may share one with other clients: dashboards poll every second.
pub fn devices(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    headers: &HeaderMap,
) -> Response<Body> {
    let (now, shared) = (Instant::now(), accepts_shared(headers));
    let answer = gateway.devices.get(now, shared, base_path, || {
        JsonList::new(all_devices(gateway, base_path).into_iter())
    });
    match answer {
        Ok(list) => {
            let visible = list.visible(|stream| visitor.sees(stream));
            full(StatusCode::OK, "application/json", visible)
        }
        Err(failed) => error(true, StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

/// Whether the request's `Cache-Control` accepts an answer that is a second old.
fn accepts_shared(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    directives.any(|directive| {
        let age = directive.trim().strip_prefix("max-age=");
        age.and_then(|age| age.parse().ok()) >= Some(1u32)
    })
}

fn all_devices(gateway: &Gateway, base_path: &BasePath) -> Vec<(String, Device)> {
    let mut watched = watched(gateway);
    let streams = gateway.streams.list();
    let all = streams.iter().map(|stream| {
        let watching = watched.remove(&stream.name).unwrap_or_default();
        let device = describe(gateway, base_path, stream, watching);
        (stream.name.clone(), device)
    });
    all.collect()
}

/// Describes one stream; 404 if no stream has the name `serial`.
pub fn device(
    gateway: &Gateway,
    visitor: &Visitor,
    base_path: &BasePath,
    serial: &str,
) -> Response<Body> {
    let (name, rendition) = media_query::split(serial);
    match live::stream(gateway, visitor, name, rendition) {
        Ok(stream) => {
            let watching = watched(gateway).remove(&stream.name).unwrap_or_default();
            let described = describe(gateway, base_path, &stream, watching);
            json(StatusCode::OK, &described)
        }
        Err(text) => error(true, StatusCode::NOT_FOUND, &text),
    }
}

/// Lists the streams that the visitor may view with their load, then their sessions, then their viewers that belong to
/// no session.
pub fn sessions(gateway: &Gateway, visitor: &Visitor) -> Response<Body> {
    let watched = watched(gateway);
    let streams: Vec<StreamUse> = gateway
        .streams
        .list()
        .iter()
        .filter(|stream| visitor.sees(&stream.name))
        .map(|stream| StreamUse {
            serial: stream.name.clone(),
            viewers: watched
                .get(&stream.name)
                .map_or(0, |watching| count(watching)),
            bits_in: stream.report().bits_per_second,
            bits_out: gateway.bits_out(&stream.name),
            decoder: decoder(stream),
        })
        .collect();
    let mut attended = gateway.sessions.list();
    attended.retain(|session| visitor.sees(&session.stream.name));
    let mut viewers = gateway.viewers.list();
    // Keeps the counters alive while their addresses are compared, so that no new counter reuses one of the addresses.
    let open_counters: Vec<Arc<Counter>> = attended
        .iter()
        .flat_map(|one| one.open_counters())
        .collect();
    let open_counters: HashSet<*const Counter> = open_counters.iter().map(Arc::as_ptr).collect();
    viewers.retain(|viewer| {
        visitor.sees(&viewer.metric_key.stream)
            && !open_counters.contains(&Arc::as_ptr(&viewer.counter))
    });
    let viewers = viewers.into_iter().map(|viewer| {
        Watcher::Viewer(Viewer {
            id: viewer.id,
            stream: viewer.metric_key.stream,
            transport: viewer.metric_key.transport,
            rendition: viewer.metric_key.rendition,
            since: unix_ms(viewer.since),
            reason: "requested in the URL",
            bytes: viewer.counter.bytes.load(Ordering::Relaxed),
            jumps: viewer.counter.jumps.load(Ordering::Relaxed),
        })
    });
    let sessions = attended
        .iter()
        .map(|session| Watcher::Session(Box::new(session.view())));
    let sessions = sessions.chain(viewers).collect();
    json(StatusCode::OK, &SessionList { streams, sessions })
}

/// Lists the components with their usage: transports, then the policy.
pub fn plugins(gateway: &Gateway) -> Response<Body> {
    let transports = gateway.transports.all();
    let transports = transports.values();
    let mut plugins: Vec<Plugin> = transports.map(|known| transport(gateway, known)).collect();
    plugins.push(policy(gateway));
    json(StatusCode::OK, &plugins)
}

/// Describes a transport, with the muxers that run it, as an entry of `/api/plugins`.
pub fn transport(gateway: &Gateway, transport: &Transport) -> Plugin {
    let spent = transport.usage.total();
    let muxers = gateway.muxers.list();
    let muxers = muxers
        .iter()
        .filter(|muxer| muxer.transport == transport.name);
    Plugin {
        kind: TransportPluginPre::<Guest>::KIND.name,
        name: transport.name.clone(),
        component: transport.plugin.to_string(),
        built_in: transport.built_in,
        hash: transport.plugin.hash.clone(),
        size: transport.plugin.size,
        limits: Limits::from(transport.plugin.limits),
        calls: spent.calls,
        pushes: spent.pushes,
        failures: spent.failures,
        instances: spent.instances,
        us_per_call: spent.us_per_call(),
        state: None,
        reason: None,
        swap: gateway.transports.swap_state(&transport.name),
        muxers: muxers.map(|muxer| Muxer::from(muxer.as_ref())).collect(),
    }
}

impl From<&muxer::Muxer> for Muxer {
    fn from(muxer: &muxer::Muxer) -> Muxer {
        let phase = muxer.health.phase();
        let (state, reason) = phase.name_and_reason();
        let spent = muxer.usage.read();
        let plugin = muxer.component();
        Muxer {
            stream: muxer.stream.clone(),
            component: plugin.to_string(),
            hash: plugin.hash.clone(),
            serial: muxer.metric_key.stream.clone(),
            rendition: muxer.metric_key.rendition.clone(),
            state,
            reason: reason.to_owned(),
            failures: muxer.health.failures(),
            calls: spent.calls,
            us_per_call: spent.us_per_call(),
            overruns: spent.overruns,
            buffered_bytes: muxer.outlet.bytes(),
        }
    }
}

/// Describes the policy in force, as an entry of `/api/plugins`.
pub fn policy(gateway: &Gateway) -> Plugin {
    let policy_actor = gateway.sessions.policy_actor();
    let policy = policy_actor.policy();
    let phase = policy_actor.phase();
    let (state, reason) = phase.name_and_reason();
    let spent = policy.usage.read();
    Plugin {
        kind: PolicyPluginPre::<Guest>::KIND.name,
        name: policy.name.clone(),
        component: policy.plugin.to_string(),
        built_in: policy.built_in,
        hash: policy.plugin.hash.clone(),
        size: policy.plugin.size,
        limits: Limits::from(policy.plugin.limits),
        calls: spent.calls,
        pushes: 0,
        failures: spent.failures,
        instances: spent.instances,
        us_per_call: spent.us_per_call(),
        state: Some(state),
        reason: Some(reason.to_owned()),
        swap: None,
        muxers: Vec::new(),
    }
}

fn describe(
    gateway: &Gateway,
    base_path: &BasePath,
    stream: &Arc<Stream>,
    watching: Vec<Watching>,
) -> Device {
    let report = stream.report();
    let path = config::path_segment(&stream.name);
    let source = stream.source();
    let video = report.video.as_ref();
    let size = video.map(sample::Video::display_size);
    Device {
        serial: stream.name.clone(),
        url: format!("{base_path}/live/{path}"),
        watch: format!("{base_path}/watch/{path}"),
        state: report.state,
        reason: report.reason,
        since: report.since,
        source: source.to_string(),
        always_on: stream.always_on(),
        model: source
            .android_serial()
            .and_then(|serial| gateway.fleet.model(serial)),
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        codec: video.map(codec_string),
        audio: report.audio.map(Audio::from),
        frame_rate: report.frame_rate,
        bits_in: report.bits_per_second,
        bits_out: gateway.bits_out(&stream.name),
        viewers: count(&watching),
        watching,
        decoder: decoder(stream),
        captures: CaptureUse {
            clients: gateway.captures.clients(&stream.name),
        },
        made: frame_counts(stream.codec()),
        renditions: stream.renditions(),
        encoder: codec::encoders(),
        transports: gateway.transports.all().keys().cloned().collect(),
        notes: report.notes,
    }
}

/// Codec of a video: "jpeg" or a codec string.
pub fn codec_string(video: &sample::Video) -> String {
    match video.codec {
        Codec::Jpeg => "jpeg".to_owned(),
        _ => video.codec_string.clone(),
    }
}

impl From<sample::Audio> for Audio {
    fn from(audio: sample::Audio) -> Audio {
        Audio {
            codec: audio.name,
            rate: audio.sample_rate,
            channels: audio.channels,
            language: audio.language,
        }
    }
}

fn frame_counts(counts: &codec::Counts) -> FrameCounts {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    FrameCounts {
        decoded: count(&counts.decoded),
        failed: count(&counts.decode_failures),
        dropped: count(&counts.dropped),
        jpegs: count(&counts.jpegs),
        encoded: count(&counts.encoded),
    }
}

/// Viewers of each stream by rendition and transport; the key is the stream's name.
fn watched(gateway: &Gateway) -> BTreeMap<String, Vec<Watching>> {
    let mut watched: BTreeMap<String, Vec<Watching>> = BTreeMap::new();
    for (key, totals) in gateway.viewers.totals() {
        if totals.viewers > 0 {
            watched.entry(key.stream).or_default().push(Watching {
                rendition: key.rendition,
                transport: key.transport,
                viewers: totals.viewers,
            });
        }
    }
    watched
}

fn count(watching: &[Watching]) -> usize {
    watching.iter().map(|watching| watching.viewers).sum()
}

fn decoder(stream: &Arc<Stream>) -> &'static str {
    if stream.is_decoding() {
        "running"
    } else {
        "stopped"
    }
}
