//! What the gateway says of itself: `/healthz`, `/readyz`, `/api/…`. All rates are bits a second.

use super::{Body, error, full, json};
use crate::gateway::Gateway;
use crate::session::SessionView;
use bytes::Bytes;
use hyper::{HeaderMap, Response, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_codec as codec;
use sluicegate_config as config;
use sluicegate_media::sample::Codec;
use sluicegate_plugin as plugin;
use sluicegate_plugin::{
    Guest, World,
    bindings::{PolicyPluginPre, TransportPluginPre},
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

/// `/api/sessions`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InUse {
    streams: Vec<StreamUse>,
    sessions: Vec<Watcher>,
}

/// `/healthz`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Health {
    /// "ok".
    status: &'static str,
    /// Unix milliseconds.
    now: u64,
}

/// `/readyz`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Readiness {
    /// "ready" or "draining".
    status: &'static str,
}

/// A stream, as `/api/devices` lists it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Device {
    /// The stream's name.
    serial: String,
    /// Base of its transports' paths.
    url: String,
    /// Its page.
    watch: String,
    state: State,
    reason: String,
    /// Unix milliseconds.
    since: u64,
    /// Without secrets.
    source: String,
    /// Whether it runs without users.
    always_on: bool,
    /// Of an Android device, as it tells it.
    model: Option<String>,
    /// Square pixels of the picture as it is seen, upright.
    width: Option<u32>,
    /// Square pixels.
    height: Option<u32>,
    codec: Option<String>,
    /// Null where the source has no sound, or it was not heard yet.
    audio: Option<Audio>,
    frame_rate: f32,
    bits_in: u64,
    bits_out: u64,
    viewers: usize,
    /// Where there are any.
    watching: Vec<Watching>,
    decoder: &'static str,
    /// Who may ask for captures of it now.
    captures: CaptureUse,
    /// What was made of its pictures since the gateway started.
    made: Made,
    renditions: Vec<String>,
    /// What encodes for streams that name no encoder of their own; null until something was to be encoded.
    encoder: Option<&'static codec::EncoderChoice>,
    transports: Vec<String>,
    notes: Vec<String>,
}

/// The sound of a source.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Audio {
    /// "aac", "pcm_alaw": in libav's words.
    codec: String,
    /// Samples a second.
    rate: u32,
    channels: u8,
    /// BCP 47.
    language: String,
}

/// Viewers of one form of a stream by one transport.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Watching {
    /// Empty: the stream itself.
    rendition: String,
    transport: String,
    viewers: usize,
}

/// Who captures a stream.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CaptureUse {
    clients: usize,
}

/// Counts of pictures.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Made {
    decoded: u64,
    failed: u64,
    dropped: u64,
    jpegs: u64,
    encoded: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct StreamUse {
    serial: String,
    viewers: usize,
    bits_in: u64,
    bits_out: u64,
    decoder: &'static str,
}

/// Somebody who watches.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Watcher {
    /// With a player that has a control channel.
    Session(Box<SessionView>),
    /// By a connection alone.
    Viewer(Viewer),
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Viewer {
    id: String,
    stream: String,
    transport: String,
    rendition: String,
    /// Unix milliseconds.
    since: u64,
    reason: &'static str,
    bytes: u64,
    jumps: u64,
}

/// An entry of `/api/plugins`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Plugin {
    /// "transport" or "policy".
    kind: &'static str,
    /// The transport's, or the policy's.
    name: String,
    /// name@version of the component.
    component: String,
    built_in: bool,
    /// SHA-256.
    hash: String,
    size: usize,
    limits: Limits,
    calls: u64,
    pushes: u64,
    failures: u64,
    instances: u64,
    us_per_call: f64,
    /// How it is doing: of the policy, which has no muxers.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The instances at work.
    muxers: Vec<Muxer>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Limits {
    memory: usize,
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

#[derive(Debug, Serialize, JsonSchema)]
pub struct Muxer {
    /// With its form: "porch@mobile", "porch?width=640".
    stream: String,
    serial: String,
    rendition: String,
    state: &'static str,
    reason: String,
    failures: u64,
    calls: u64,
    us_per_call: f64,
    overruns: u64,
    buffered_bytes: usize,
}

/// Alive, and the time, for clients that measure latency.
pub fn health() -> Response<Body> {
    let now = unix_ms(SystemTime::now());
    json(StatusCode::OK, &Health { status: "ok", now })
}

/// Ready to serve, until it drains.
pub fn ready(gateway: &Gateway) -> Response<Body> {
    let (code, status) = match gateway.is_draining() {
        true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        false => (StatusCode::OK, "ready"),
    };
    json(code, &Readiness { status })
}

/// Every configured stream. Who takes an answer that is a second old (RFC 9111 5.2.1.1: `Cache-Control: max-age=1`) shares one
/// with others, as dashboards do, which ask every second.
pub fn devices(gateway: &Gateway, headers: &HeaderMap) -> Response<Body> {
    let answer = gateway
        .devices
        .get(Instant::now(), is_patient(headers), || {
            serde_json::to_vec(&all_devices(gateway)).map(Bytes::from)
        });
    match answer {
        Ok(answer) => full(StatusCode::OK, "application/json", answer),
        Err(failed) => error(true, StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

/// Whether the client takes an answer that is a second old.
fn is_patient(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CACHE_CONTROL).iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    directives.any(|directive| {
        let age = directive.trim().strip_prefix("max-age=");
        age.and_then(|age| age.parse().ok()) >= Some(1u32)
    })
}

fn all_devices(gateway: &Gateway) -> Vec<Device> {
    let mut watched = watched(gateway);
    let streams = gateway.streams.list();
    let all = streams.iter().map(|stream| {
        let watching = watched.remove(&stream.name).unwrap_or_default();
        describe(gateway, stream, watching)
    });
    all.collect()
}

/// One stream.
pub fn device(gateway: &Gateway, serial: &str) -> Response<Body> {
    match gateway.streams.get(serial) {
        Some(stream) => {
            let watching = watched(gateway).remove(&stream.name).unwrap_or_default();
            json(StatusCode::OK, &describe(gateway, &stream, watching))
        }
        None => error(
            true,
            StatusCode::NOT_FOUND,
            "there is no stream of that name; /api/devices lists them",
        ),
    }
}

/// Streams in use and who watches.
pub fn sessions(gateway: &Gateway) -> Response<Body> {
    let watched = watched(gateway);
    let streams: Vec<StreamUse> = gateway
        .streams
        .list()
        .iter()
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
    let attended = gateway.sessions.list();
    let mut viewers = gateway.viewers.list();
    // Held, so that no other counter takes the place of one.
    let carriers: Vec<Arc<Counter>> = attended.iter().flat_map(|one| one.carriers()).collect();
    let carriers: HashSet<*const Counter> = carriers.iter().map(Arc::as_ptr).collect();
    viewers.retain(|viewer| !carriers.contains(&Arc::as_ptr(&viewer.counter)));
    let viewers = viewers.into_iter().map(|viewer| {
        Watcher::Viewer(Viewer {
            id: viewer.id,
            stream: viewer.way.stream,
            transport: viewer.way.transport,
            rendition: viewer.way.rendition,
            since: unix_ms(viewer.since),
            reason: "asked for",
            bytes: viewer.counter.bytes.load(Ordering::Relaxed),
            jumps: viewer.counter.jumps.load(Ordering::Relaxed),
        })
    });
    let sessions = attended
        .iter()
        .map(|session| Watcher::Session(Box::new(session.seen())));
    let sessions = sessions.chain(viewers).collect();
    json(StatusCode::OK, &InUse { streams, sessions })
}

/// The components and how they do.
pub fn plugins(gateway: &Gateway) -> Response<Body> {
    let muxers = gateway.muxers.list();
    let mut plugins: Vec<Plugin> = gateway
        .transports
        .values()
        .map(|transport| {
            let spent = transport.usage.total();
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
                muxers: muxers
                    .iter()
                    .filter(|muxer| muxer.transport == transport.name)
                    .map(|muxer| {
                        let phase = muxer.health.phase();
                        let (state, reason) = phase.name_and_reason();
                        let spent = muxer.usage.read();
                        Muxer {
                            stream: muxer.stream.clone(),
                            serial: muxer.way.stream.clone(),
                            rendition: muxer.way.rendition.clone(),
                            state,
                            reason: reason.to_owned(),
                            failures: muxer.health.failures(),
                            calls: spent.calls,
                            us_per_call: spent.us_per_call(),
                            overruns: spent.overruns,
                            buffered_bytes: muxer.outlet.bytes(),
                        }
                    })
                    .collect(),
            }
        })
        .collect();
    plugins.push(policy(gateway));
    json(StatusCode::OK, &plugins)
}

/// The entry of the policy.
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
        muxers: Vec::new(),
    }
}

fn describe(gateway: &Gateway, stream: &Arc<Stream>, watching: Vec<Watching>) -> Device {
    let report = stream.report();
    let path = config::path_segment(&stream.name);
    let video = report.video.as_ref();
    let size = video.map(sluicegate_media::sample::Video::display_size);
    Device {
        serial: stream.name.clone(),
        url: format!("/live/{path}"),
        watch: format!("/watch/{path}"),
        state: report.state,
        reason: report.reason,
        since: report.since,
        source: stream.source.to_string(),
        always_on: stream.always_on(),
        model: stream
            .source
            .android_serial()
            .and_then(|serial| gateway.fleet.model(serial)),
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        codec: video.map(|video| match video.codec {
            Codec::Jpeg => "jpeg".to_owned(),
            _ => video.codec_string.clone(),
        }),
        audio: report.audio.map(|audio| Audio {
            codec: audio.name,
            rate: audio.sample_rate,
            channels: audio.channels,
            language: audio.language,
        }),
        frame_rate: report.frame_rate,
        bits_in: report.bits_per_second,
        bits_out: gateway.bits_out(&stream.name),
        viewers: count(&watching),
        watching,
        decoder: decoder(stream),
        captures: CaptureUse {
            clients: gateway.captures.clients(&stream.name),
        },
        made: made(stream.codec()),
        renditions: stream.renditions().cloned().collect(),
        encoder: codec::encoders(),
        transports: gateway.transports.keys().cloned().collect(),
        notes: report.notes,
    }
}

fn made(counts: &codec::Counts) -> Made {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Made {
        decoded: count(&counts.decoded),
        failed: count(&counts.decode_failures),
        dropped: count(&counts.dropped),
        jpegs: count(&counts.jpegs),
        encoded: count(&counts.encoded),
    }
}

/// Who watches each stream, by rendition and transport.
fn watched(gateway: &Gateway) -> BTreeMap<String, Vec<Watching>> {
    let mut watched: BTreeMap<String, Vec<Watching>> = BTreeMap::new();
    for (way, totals) in gateway.viewers.totals() {
        if totals.viewers > 0 {
            watched.entry(way.stream).or_default().push(Watching {
                rendition: way.rendition,
                transport: way.transport,
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
