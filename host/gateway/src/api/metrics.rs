//! `/metrics`: all metrics in the Prometheus text format.
//!
//! Nothing is collected here: counters live in the streams, viewers and muxers, and each table below names a metric and
//! how it is read. Units are seconds and bytes. Labels never contain what viewers choose, so their number is bounded
//! (`docs/decisions/0026-metrics-and-events.md`); users' documentation is `docs/reference/metrics.md`.

use super::{Body, full};
use crate::gateway::Gateway;
use hyper::{Response, StatusCode};
use sluicegate_plugin::{UsageSnapshot, muxer::Phase};
use sluicegate_stream::{State, Stream};
use sluicegate_telemetry::{
    exposition::{CONTENT_TYPE, Exposition, Kind},
    process,
};
use sluicegate_viewer::{Delays, MetricKey, Totals};
use std::{collections::BTreeMap, sync::atomic::Ordering};

/// A metric with one sample for each `T`: name, kind, help, and how it is read.
type Metric<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

const STREAM: &[Metric<Stream>] = &[
    (
        "sluicegate_stream_received_bytes_total",
        Kind::Counter,
        "Bytes of video received from the source.",
        |stream| stream.totals().bytes,
    ),
    (
        "sluicegate_stream_samples_total",
        Kind::Counter,
        "Video samples passed from the source to transports.",
        |stream| stream.totals().samples,
    ),
    (
        "sluicegate_stream_source_failures_total",
        Kind::Counter,
        "Times the source failed or ended.",
        |stream| stream.totals().failures,
    ),
    (
        "sluicegate_stream_source_restarts_total",
        Kind::Counter,
        "Times the source worked again after a failure.",
        |stream| stream.totals().restarts,
    ),
    (
        "sluicegate_stream_cut_groups_total",
        Kind::Counter,
        "Groups that were cut because they outgrew the ring.",
        |stream| stream.totals().cut_groups,
    ),
    (
        "sluicegate_stream_ring_bytes",
        Kind::Gauge,
        "Bytes of samples in the stream's rings.",
        |stream| stream.ring_bytes() as u64,
    ),
    (
        "sluicegate_decoded_frames_total",
        Kind::Counter,
        "Frames decoded.",
        |stream| stream.codec().decoded.load(Ordering::Relaxed),
    ),
    (
        "sluicegate_decode_failures_total",
        Kind::Counter,
        "Access units that could not be decoded.",
        |stream| stream.codec().decode_failures.load(Ordering::Relaxed),
    ),
    (
        "sluicegate_dropped_frames_total",
        Kind::Counter,
        "Decoded frames and access units skipped because the machine was too slow.",
        |stream| stream.codec().dropped.load(Ordering::Relaxed),
    ),
    (
        "sluicegate_encoded_frames_total",
        Kind::Counter,
        "Frames encoded as video.",
        |stream| stream.codec().encoded.load(Ordering::Relaxed),
    ),
    (
        "sluicegate_encode_failures_total",
        Kind::Counter,
        "Frames that could not be encoded as video.",
        |stream| stream.codec().encode_failures.load(Ordering::Relaxed),
    ),
    (
        "sluicegate_jpegs_total",
        Kind::Counter,
        "JPEG images encoded.",
        |stream| stream.codec().jpegs.load(Ordering::Relaxed),
    ),
    (
        "sluicegate_jpeg_failures_total",
        Kind::Counter,
        "Frames that could not be encoded as JPEG.",
        |stream| stream.codec().jpeg_failures.load(Ordering::Relaxed),
    ),
];

const VIEWERS: &[Metric<Totals>] = &[
    (
        "sluicegate_viewers",
        Kind::Gauge,
        "Viewers connected.",
        |totals| totals.viewers as u64,
    ),
    (
        "sluicegate_viewers_total",
        Kind::Counter,
        "Viewers that connected.",
        |totals| totals.total_viewers,
    ),
    (
        "sluicegate_sent_bytes_total",
        Kind::Counter,
        "Bytes passed to viewers' sockets, with WebSocket frame headers, without HTTP headers.",
        |totals| totals.bytes,
    ),
    (
        "sluicegate_sent_chunks_total",
        Kind::Counter,
        "Chunks passed to viewers' sockets.",
        |totals| totals.chunks,
    ),
    (
        "sluicegate_viewer_jumps_total",
        Kind::Counter,
        "Times a slow viewer jumped to a newer start point.",
        |totals| totals.jumps,
    ),
    (
        "sluicegate_answers_total",
        Kind::Counter,
        "Requests that a transport answered with a complete response.",
        |totals| totals.answers,
    ),
];

const GUEST: &[Metric<UsageSnapshot>] = &[
    (
        "sluicegate_guest_calls_total",
        Kind::Counter,
        "Calls into a transport's component.",
        |spent| spent.calls,
    ),
    (
        "sluicegate_guest_pushes_total",
        Kind::Counter,
        "Calls that pushed a sample into a transport's component.",
        |spent| spent.pushes,
    ),
    (
        "sluicegate_guest_failures_total",
        Kind::Counter,
        "Traps, timeouts and exceeded limits.",
        |spent| spent.failures,
    ),
    (
        "sluicegate_guest_instances_total",
        Kind::Counter,
        "Instances created; all but the first of a muxer are restarts.",
        |spent| spent.instances,
    ),
    (
        "sluicegate_muxer_overruns_total",
        Kind::Counter,
        "Times a muxer was too slow for its stream and skipped samples.",
        |spent| spent.overruns,
    ),
];

/// Answers with the current value of every metric.
pub fn metrics(gateway: &Gateway) -> Response<Body> {
    let mut text = Exposition::default();
    build_info(gateway, &mut text);
    streams(gateway, &mut text);
    captures(gateway, &mut text);
    viewers(gateway, &mut text);
    muxers(gateway, &mut text);
    process(&mut text);
    full(StatusCode::OK, CONTENT_TYPE, text.into_text())
}

fn build_info(gateway: &Gateway, text: &mut Exposition) {
    let version = env!("CARGO_PKG_VERSION");
    text.family("sluicegate_build_info", Kind::Gauge, "Always 1.")
        .sample(&[("version", version)], 1);
    let mut plugins = text.family(
        "sluicegate_plugin_info",
        Kind::Gauge,
        "Always 1; labels name the component of each transport.",
    );
    for transport in gateway.transports.all().values() {
        let labels = [
            ("transport", transport.name.as_str()),
            ("plugin", &transport.plugin.to_string()),
            ("hash", &transport.plugin.hash),
        ];
        plugins.sample(&labels, 1);
    }
    text.family(
        "sluicegate_draining",
        Kind::Gauge,
        "1 while the gateway shuts down.",
    )
    .sample(&[], u8::from(gateway.is_draining()));
}

fn streams(gateway: &Gateway, text: &mut Exposition) {
    let mut states = text.family(
        "sluicegate_stream_state",
        Kind::Gauge,
        "1 for the stream's current state, 0 for the others.",
    );
    let all = gateway.streams.list();
    for stream in &all {
        let now = stream.report().state;
        for state in State::ALL {
            let labels = [("stream", stream.name.as_str()), ("state", state.name())];
            states.sample(&labels, u8::from(state == now));
        }
    }
    for (family, kind, help, read) in STREAM {
        let mut family = text.family(family, *kind, help);
        for stream in &all {
            family.sample(&[("stream", stream.name.as_str())], read(stream));
        }
    }
}

fn captures(gateway: &Gateway, text: &mut Exposition) {
    let all = gateway.captures.list();
    type Read = fn(&(String, usize, u64, u64)) -> u64;
    let figures: [(_, _, _, Read); 3] = [
        (
            "sluicegate_capture_clients",
            Kind::Gauge,
            "Capture clients; while there are any, the stream is decoded.",
            |(_, clients, _, _)| *clients as u64,
        ),
        (
            "sluicegate_captures_total",
            Kind::Counter,
            "Captures that succeeded.",
            |(_, _, succeeded, _)| *succeeded,
        ),
        (
            "sluicegate_capture_failures_total",
            Kind::Counter,
            "Captures that failed.",
            |(_, _, _, failed)| *failed,
        ),
    ];
    for (name, kind, help, read) in figures {
        let mut family = text.family(name, kind, help);
        for one in &all {
            family.sample(&[("stream", one.0.as_str())], read(one));
        }
    }
}

fn viewers(gateway: &Gateway, text: &mut Exposition) {
    let totals = gateway.viewers.totals();
    for (family, kind, help, read) in VIEWERS {
        let mut family = text.family(family, *kind, help);
        for (key, totals) in &totals {
            family.sample(&labels(key), read(totals));
        }
    }
    let delays = gateway.viewers.delays();
    let histograms: [(_, _, fn(&Delays) -> _); 2] = [
        (
            "sluicegate_first_byte_seconds",
            "Time from a viewer's request to the first bytes passed to its socket.",
            |delays| delays.first_byte.read(),
        ),
        (
            "sluicegate_delivery_seconds",
            "Time from a muxer's output of a chunk to passing it to a viewer's socket; one value per write, for its oldest chunk.",
            |delays| delays.delivery.read(),
        ),
    ];
    for (family, help, read) in histograms {
        let mut family = text.family(family, Kind::Histogram, help);
        for (transport, delays) in &delays {
            family.histogram(&[("transport", transport)], &read(delays));
        }
    }
}

fn muxers(gateway: &Gateway, text: &mut Exposition) {
    let spent: Vec<(MetricKey, UsageSnapshot)> = gateway
        .transports
        .all()
        .values()
        .flat_map(|transport| transport.usage.by_key())
        .collect();
    let mut seconds = text.family(
        "sluicegate_guest_seconds_total",
        Kind::Counter,
        "Time spent in calls into a transport's component.",
    );
    for (key, spent) in &spent {
        seconds.sample(&labels(key), spent.nanos as f64 / 1e9);
    }
    for (family, kind, help, read) in GUEST {
        let mut family = text.family(family, *kind, help);
        for (key, spent) in &spent {
            family.sample(&labels(key), read(spent));
        }
    }
    // JPEGs of different sizes are several muxers with one key, which are summed: viewers choose the sizes, so these
    // must not become labels.
    let mut running: BTreeMap<MetricKey, ([usize; Phase::NAMES.len()], usize, usize)> =
        BTreeMap::new();
    for muxer in gateway.muxers.list() {
        let (phases, bytes, held) = running.entry(muxer.metric_key.clone()).or_default();
        let phase = muxer.health.phase();
        for (count, name) in phases.iter_mut().zip(Phase::NAMES) {
            *count += usize::from(name == phase.name_and_reason().0);
        }
        *bytes += muxer.outlet.bytes();
        *held += muxer.held.load(Ordering::Relaxed);
    }
    let mut states = text.family(
        "sluicegate_muxers",
        Kind::Gauge,
        "Running muxers by the state of their component.",
    );
    for (key, (phases, ..)) in &running {
        for (count, state) in phases.iter().zip(Phase::NAMES) {
            states.sample(&[&labels(key)[..], &[("state", state)]].concat(), count);
        }
    }
    let mut held = text.family(
        "sluicegate_outlet_bytes",
        Kind::Gauge,
        "Bytes of chunks that muxers keep for their viewers.",
    );
    for (key, (_, bytes, _)) in &running {
        held.sample(&labels(key), bytes);
    }
    let mut held = text.family(
        "sluicegate_guest_buffer_bytes",
        Kind::Gauge,
        "Bytes that transports' components keep in buffers, such as the window of HLS.",
    );
    for (key, (.., bytes)) in &running {
        held.sample(&labels(key), bytes);
    }
}

/// Labels of a key; an empty rendition is the stream itself.
fn labels(key: &MetricKey) -> [(&str, &str); 3] {
    [
        ("stream", &key.stream),
        ("rendition", &key.rendition),
        ("transport", &key.transport),
    ]
}

fn process(text: &mut Exposition) {
    let process = process::read();
    let mut figure = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            text.family(name, kind, help).sample(&[], value);
        }
    };
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    figure(
        "sluicegate_process_cpu_seconds_total",
        Kind::Counter,
        "CPU time of all threads.",
        process.cpu_seconds,
    );
    figure(
        "sluicegate_process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory.",
        whole(process.resident),
    );
    figure(
        "sluicegate_process_virtual_memory_bytes",
        Kind::Gauge,
        "Virtual memory.",
        whole(process.virtual_memory),
    );
    figure(
        "sluicegate_process_open_fds",
        Kind::Gauge,
        "Open file descriptors.",
        whole(process.open_files),
    );
    figure(
        "sluicegate_process_max_fds",
        Kind::Gauge,
        "Limit of open file descriptors.",
        whole(process.max_files),
    );
    figure(
        "sluicegate_process_threads",
        Kind::Gauge,
        "Threads.",
        whole(process.threads),
    );
    figure(
        "sluicegate_process_start_time_seconds",
        Kind::Gauge,
        "Start time of the process, Unix time.",
        process.started,
    );
}
