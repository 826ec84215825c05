//! `POST /api/try`: runs a source for a few seconds and says what it delivers, or what is wrong with it.
//!
//! A trial is a stream that is in no list: it has events, captures and a lease of its own, and nobody else can find it.
//! [`Trial`] holds all of it, so dropping it, as when the client disconnects, ends the source. At most [`MAX_TRIALS`]
//! run at once, those included whose source has not ended yet. What failed is put into words by [`failed`].

mod advice;

use super::{Body, Visitor, error, json, read_body, set, state};
use crate::gateway::{Gateway, MAX_TRIALS, ONLY_ADMINISTRATORS};
use advice::failed;
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluicegate_capture::{Captures, RawRequest};
use sluicegate_config::{self as config, Fetch, HostName, Span};
use sluicegate_media::{
    sample::{self, Codec},
    time::TIMESCALE,
};
use sluicegate_net::{Guard, auth::Role};
use sluicegate_source::{ConfiguredSource, Spec};
use sluicegate_stream::{Entry, Feed, Next, Reader, Report, State, Stream, StreamLease, WakeOn};
use std::{future::poll_fn, sync::Arc, thread, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

/// Largest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;
/// Longest duration of a trial.
const LONGEST: Duration = Duration::from_secs(15);
/// How long the source may take until its first byte of media.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// How long it is measured, from its first frame on.
const MEASURED: Duration = Duration::from_secs(2);
/// How often the state of the source is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Largest width of the preview, in pixels.
const PREVIEW_WIDTH: u32 = 320;
/// Name of the stream, in logs and names of threads.
const NAME: &str = "try";
/// Seconds after which a client that was one too many may ask again.
const RETRY_AFTER: &str = "5";

/// What is to be tried.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TryRequest {
    /// The source: a URL that the gateway connects to, such as `rtsp://HOST/PATH`, `test-pattern`,
    /// `annexb:tcp://HOST:PORT`, `android:SERIAL` or `v4l2:/dev/video0`. Others may be given only in the config file.
    source: String,
    /// Interval at which a URL that returns a single JPEG is requested again, such as "1s".
    #[schemars(with = "Option<String>")]
    every: Option<Span>,
    /// Other hosts that the URL may redirect to.
    #[schemars(with = "Option<Vec<String>>")]
    redirects: Option<Vec<HostName>>,
}

/// What a source delivers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TryResult {
    /// All of it in a sentence, for people.
    text: String,
    /// The video; null if the source has none.
    video: Option<TriedVideo>,
    /// The audio; null if the source has none.
    audio: Option<state::Audio>,
    /// Problems of the source that do not stop it, for people.
    notes: Vec<String>,
    /// Bits of video and audio per second of the video.
    bits_per_second: u64,
    /// A frame of at most 320 pixels in width as a `data:` URL; null if none could be decoded in time.
    preview: Option<String>,
}

/// The video of a source.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TriedVideo {
    /// "jpeg" or an RFC 6381 codec string such as "avc1.64001f".
    codec: String,
    /// Width of the upright frame in square pixels.
    width: u32,
    /// Height of the upright frame in square pixels.
    height: u32,
    /// Frames per second by their times; null if there were too few.
    frame_rate: Option<f64>,
}

/// Tries the source that the body names.
pub async fn serve(
    gateway: &Arc<Gateway>,
    visitor: &Visitor,
    request: Request<Incoming>,
) -> Response<Body> {
    let wrong = |status, text: &str| error(true, status, text);
    let body = match read_body(request, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(text) => return wrong(StatusCode::BAD_REQUEST, &text),
    };
    let (spec, settings) = match read(gateway, visitor, &body) {
        Ok(read) => read,
        Err((status, text)) => return wrong(status, &text),
    };
    let Ok(permit) = gateway.trials.clone().try_acquire_owned() else {
        let text = format!("{MAX_TRIALS} sources are being tried already; try again in a moment");
        let mut response = wrong(StatusCode::SERVICE_UNAVAILABLE, &text);
        set(&mut response, header::RETRY_AFTER, RETRY_AFTER);
        return response;
    };
    let (mut drain, mut guard) = (gateway.drain(), visitor.guard(gateway));
    let trial = Trial::start(gateway, spec, &settings, permit);
    tokio::select! {
        result = trial.run() => match result {
            Ok(result) => json(StatusCode::OK, &result),
            Err(text) => wrong(StatusCode::UNPROCESSABLE_ENTITY, &text),
        },
        () = drain.wait() => wrong(StatusCode::SERVICE_UNAVAILABLE, "the gateway is shutting down"),
        () = revoked(&mut guard) => {
            wrong(StatusCode::FORBIDDEN, "the permission to try sources was taken away")
        }
    }
}

async fn revoked(guard: &mut Guard) {
    poll_fn(|context| guard.poll(context)).await;
}

/// Reads a request. An error has the status of the answer.
fn read(
    gateway: &Gateway,
    visitor: &Visitor,
    body: &[u8],
) -> Result<(Spec, config::Stream), (StatusCode, String)> {
    const EXAMPLE: &str = "{\"source\": \"rtsp://camera.local/stream1\"}";
    let invalid = |reason: &str| {
        let reason = config::mask(reason);
        let text = format!("the body must be a JSON object such as {EXAMPLE}: {reason}");
        (StatusCode::BAD_REQUEST, text)
    };
    // serde would read a JSON array as the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("it does not begin with a brace"));
    }
    let asked: TryRequest =
        serde_json::from_slice(body).map_err(|reason| invalid(&reason.to_string()))?;
    let refused = |text: String| (StatusCode::UNPROCESSABLE_ENTITY, text);
    let defaults = config::Stream::default();
    let every = asked.every.unwrap_or(defaults.every);
    let (least, most) = Fetch::RANGE;
    if !(least..=most).contains(&every) {
        let text = format!("`every` is {every}, and must be from {least} to {most}");
        return Err(refused(text));
    }
    let source = asked.source.trim();
    let spec = Spec::parse(source, &gateway.config().dir);
    let spec = spec.map_err(|error| refused(error.to_string()))?;
    let forbidden = |text: String| (StatusCode::FORBIDDEN, text);
    spec.allowed_remotely()
        .map_err(|error| forbidden(error.to_string()))?;
    if spec.is_device() && !visitor.identity.permits(Role::Admin, None) {
        return Err(forbidden(ONLY_ADMINISTRATORS.into()));
    }
    let settings = config::Stream {
        source: source.into(),
        every,
        redirects: asked.redirects.unwrap_or_default(),
        ..defaults
    };
    Ok((spec, settings))
}

/// A source that is being tried. Dropping it ends it.
struct Trial {
    stream: Arc<Stream>,
    feed: Arc<Feed>,
    captures: Arc<Captures>,
    /// Kept until the source has ended.
    held: Option<(StreamLease, OwnedSemaphorePermit)>,
    began: Instant,
}

impl Trial {
    fn start(
        gateway: &Gateway,
        spec: Spec,
        settings: &config::Stream,
        permit: OwnedSemaphorePermit,
    ) -> Trial {
        // Nobody is to see events of a stream that is in no list.
        let events = Arc::default();
        let source = Arc::new(ConfiguredSource::new(spec, &gateway.fleet));
        let stream = Stream::new(NAME, source, settings, &events);
        let lease = stream.enter();
        Trial {
            stream,
            feed: lease.feed().clone(),
            captures: Captures::new(&gateway.config().capture, &events),
            held: Some((lease, permit)),
            began: Instant::now(),
        }
    }

    /// Waits until the source has delivered for [`MEASURED`], and describes it.
    ///
    /// # Errors
    /// What is wrong, for people.
    async fn run(&self) -> Result<TryResult, String> {
        let mut meter = Meter::new(&self.feed);
        let mut preview = None;
        let mut live_since = None;
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let report = loop {
            looks.tick().await;
            meter.read();
            let report = self.stream.report();
            match (report.state, live_since) {
                (State::Retrying | State::Failed, _) => {
                    return Err(failed(&report.reason, &self.stream.source().to_string()));
                }
                (State::Live | State::Silent, None) => live_since = Some(Instant::now()),
                (_, Some(since)) if since.elapsed() >= MEASURED => break report,
                (_, None) => self.check_patience(&report)?,
                _ => {}
            }
            if live_since.is_some() && preview.is_none() && report.video.is_some() {
                preview = Some(self.capture());
            }
        };
        let preview = match preview {
            Some(preview) => timeout_at(self.began + LONGEST, preview)
                .await
                .ok()
                .flatten(),
            None => None,
        };
        Ok(self.describe(report, &meter, preview))
    }

    /// Whether to wait longer for the first frame.
    fn check_patience(&self, report: &Report) -> Result<(), String> {
        let passed = self.began.elapsed();
        if self.stream.totals().bytes == 0 {
            return match passed < FIRST_BYTE {
                true => Ok(()),
                false => Err(format!(
                    "no video or audio within {} s ({}); check that the camera is on and sends to this URL",
                    FIRST_BYTE.as_secs(),
                    report.reason
                )),
            };
        }
        match passed < LONGEST - MEASURED {
            true => Ok(()),
            false => Err(format!(
                "data arrives, but no frame that can be shown within {} s ({}); let the camera send keyframes more \
                 often, and check that its codec is H.264, H.265 or MJPEG",
                passed.as_secs(),
                report.reason
            )),
        }
    }

    /// Requests a frame; the future has its `data:` URL.
    fn capture(&self) -> impl Future<Output = Option<String>> + Send + use<> {
        let asked = self.captures.read(&RawRequest {
            width: Some(PREVIEW_WIDTH),
            ..RawRequest::default()
        });
        let client = self.captures.register_client(&self.stream);
        let captured = asked.map(|request| client.capture(request));
        async move {
            let captured = captured.ok()?.await.ok()?;
            drop(client);
            let kind = captured.format.content_type();
            let data = BASE64_STANDARD.encode(&captured.data);
            Some(format!("data:{kind};base64,{data}"))
        }
    }

    fn describe(&self, report: Report, meter: &Meter, preview: Option<String>) -> TryResult {
        let frame_rate = meter.frame_rate();
        let text = summary(report.video.as_ref(), report.audio.as_ref(), frame_rate);
        let notes = report.notes.iter();
        TryResult {
            text,
            video: report.video.as_ref().map(|video| {
                let (width, height) = video.display_size();
                TriedVideo {
                    codec: state::codec_string(video),
                    width,
                    height,
                    frame_rate,
                }
            }),
            audio: report.audio.map(state::Audio::from),
            notes: notes.map(|note| self.stream.source().scrub(note)).collect(),
            bits_per_second: meter.bits_per_second().unwrap_or(report.bits_per_second),
            preview,
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.captures.shut_down();
        let (source, held) = (self.stream.remove(), self.held.take());
        // Another trial may begin only when the source of this one has ended, which takes a moment.
        let _ = thread::Builder::new()
            .name(format!("end {NAME}"))
            .spawn(move || {
                if let Some(source) = source {
                    let _ = source.join();
                }
                drop(held);
            });
    }
}

/// Measures rates by the times of the samples, so that it does not matter how they arrive.
struct Meter {
    reader: Reader,
    position: u64,
    /// Decode times of the first and the newest frame of video.
    span: Option<(u64, u64)>,
    frames: u32,
    /// Bytes of all samples since the first frame, which is the one that ends the span left out.
    bytes: usize,
    newest_bytes: usize,
}

impl Meter {
    fn new(feed: &Arc<Feed>) -> Meter {
        let reader = feed.reader(WakeOn::All);
        let (position, _) = reader.start_at_oldest();
        Meter {
            reader,
            position,
            span: None,
            frames: 0,
            bytes: 0,
            newest_bytes: 0,
        }
    }

    /// Counts what has arrived.
    fn read(&mut self) {
        loop {
            match self.reader.next(self.position, 0) {
                Next::Wait => return,
                Next::Lost(position, _) => {
                    self.position = position;
                    self.reset();
                }
                Next::Entry(entry, _) => {
                    self.position += 1;
                    match entry {
                        Entry::Sample(sample) => self.count(&sample),
                        Entry::Configure(_) | Entry::Stop(_) => self.reset(),
                    }
                }
            }
        }
    }

    fn count(&mut self, sample: &sample::Sample) {
        let is_frame = !sample.is_audio() && sample.repeat == 0;
        if is_frame {
            let first = self.span.map_or(sample.decode_time, |(first, _)| first);
            self.span = Some((first, sample.decode_time));
            self.frames += 1;
            self.bytes += std::mem::take(&mut self.newest_bytes);
        }
        if self.span.is_some() {
            self.newest_bytes += sample.size();
        }
    }

    fn reset(&mut self) {
        self.span = None;
        self.frames = 0;
        self.bytes = 0;
        self.newest_bytes = 0;
    }

    /// Seconds from the first to the newest frame.
    fn seconds(&self) -> Option<f64> {
        let (first, newest) = self.span?;
        let ticks = newest.checked_sub(first).filter(|ticks| *ticks > 0)?;
        Some(ticks as f64 / f64::from(TIMESCALE))
    }

    /// Frames per second, with two decimals.
    fn frame_rate(&self) -> Option<f64> {
        let rate = f64::from(self.frames.checked_sub(1)?) / self.seconds()?;
        Some((rate * 100.0).round() / 100.0)
    }

    fn bits_per_second(&self) -> Option<u64> {
        Some((self.bytes as f64 * 8.0 / self.seconds()?) as u64)
    }
}

/// A sentence about the tracks of a source.
fn summary(
    video: Option<&sample::Video>,
    audio: Option<&sample::Audio>,
    frame_rate: Option<f64>,
) -> String {
    let mut parts = vec!["connected".to_owned()];
    match video {
        Some(video) => {
            let codec = match video.codec {
                Codec::Jpeg => "MJPEG",
                _ => "H.264",
            };
            let (width, height) = video.display_size();
            parts.push(format!("{codec} {width}×{height}"));
            parts.extend(frame_rate.map(|rate| format!("{}/s", shortened(rate))));
        }
        None => parts.push("no video".to_owned()),
    }
    parts.push(match audio {
        Some(audio) => {
            let rate = f64::from(audio.sample_rate) / 1000.0;
            format!("{} {} kHz", audio_name(&audio.name), shortened(rate))
        }
        None => "no audio".to_owned(),
    });
    parts.join(", ")
}

/// A number with at most one decimal.
fn shortened(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// The usual name of an audio codec that libav names so.
fn audio_name(name: &str) -> String {
    match name {
        "pcm_alaw" => "G.711 A-law".into(),
        "pcm_mulaw" => "G.711 µ-law".into(),
        "opus" => "Opus".into(),
        "adpcm_g722" => "G.722".into(),
        "adpcm_g726" | "adpcm_g726le" => "G.726".into(),
        other => other.to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_without_tracks_is_described_as_such() {
        assert_eq!(summary(None, None, None), "connected, no video, no audio");
        assert_eq!(audio_name("aac"), "AAC");
        assert_eq!(shortened(24.98).to_string(), "25");
        assert_eq!(shortened(44.1).to_string(), "44.1");
    }
}
