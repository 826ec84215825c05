//! Captures: one still image of a stream on request, whether or not anyone watches, and without delaying those who do.
//!
//! Each stream that is captured has a worker: a thread that holds the stream's one shared decoder while there are
//! clients, and `idle` longer. It serves one request at a time from the newest decoded frame. Saving is done on
//! blocking threads, so that a slow or full disk affects only that request.
//!
//! The handlers in `host/gateway/src/api/capture.rs` call [`Captures`]. `request` has the wire format and the errors,
//! `worker` the threads, and `store` the files.

mod request;
pub mod store;
mod worker;

pub use request::{CaptureRequest, Code, ErrorType, Failure, QUALITY, RawRequest, WIDTH};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_codec::StillFormat;
use sluicegate_config as config;
use sluicegate_media::budget::Budget;
use sluicegate_stream::{State, Stream};
use sluicegate_telemetry::{Events, contain};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use store::{JournalEntry, Store, rfc3339};
use tokio::task::spawn_blocking;
use worker::{CaptureWorker, EncodedCapture};

/// Limit of waiting captures per client.
pub const MAX_PER_CLIENT: usize = 4;
/// Limit on encoded images that wait for clients to receive them, over all clients, in bytes.
const MAX_HELD_BYTES: usize = 256 << 20;
/// Limit on one encoded image, in bytes.
const MAX_IMAGE_BYTES: usize = 32 << 20;
/// Longest time between two checks for saved images that are too old or too many.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Divisor of `keep-bytes`: the check is done at once when a twentieth of it has been saved since the last one.
const SWEEP_DIVISOR: u64 = 20;

/// The capture workers of all streams, and the store for saved images.
#[derive(Debug)]
pub struct Captures {
    config: config::Capture,
    store: Store,
    events: Arc<Events>,
    workers: Mutex<BTreeMap<String, Arc<CaptureWorker>>>,
    held: Budget,
    saved_since_sweep: AtomicU64,
    swept: Mutex<Option<Instant>>,
    sweeping: AtomicBool,
}

/// A client that may request captures of one stream. The stream's decoder runs while it has any.
#[derive(Debug)]
pub struct Client {
    captures: Arc<Captures>,
    worker: Arc<CaptureWorker>,
    waiting: Arc<AtomicUsize>,
}

/// A capture that succeeded.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Description of the image.
    pub result: CaptureResult,
    /// Format of the image.
    pub format: StillFormat,
    /// The encoded image.
    pub data: Bytes,
}

/// Value of `type` in a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum ResultType {
    /// "capture_result": the capture succeeded.
    #[default]
    CaptureResult,
}

/// Description of a capture that succeeded.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CaptureResult {
    /// Always "capture_result".
    pub r#type: ResultType,
    /// Identifier of the capture.
    pub capture_id: String,
    /// Name of the stream.
    pub serial: String,
    /// When the frame arrived from the source: RFC 3339, UTC, with milliseconds.
    pub captured_at: String,
    /// Age of the frame when it was encoded, in milliseconds. The newest frame of a still source may be old.
    pub age_ms: u64,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Path of the saved file, relative to `capture.dir`; null if it was not saved.
    pub path: Option<String>,
    /// Size of the image in bytes.
    pub bytes: usize,
}

impl Captures {
    /// Creates captures without workers. Saved captures are published to `events`.
    pub fn new(config: &config::Capture, events: &Arc<Events>) -> Arc<Captures> {
        Arc::new(Captures {
            store: Store::new(config),
            config: config.clone(),
            events: events.clone(),
            workers: Mutex::default(),
            held: Budget::new(MAX_HELD_BYTES),
            saved_since_sweep: AtomicU64::new(0),
            swept: Mutex::default(),
            sweeping: AtomicBool::new(false),
        })
    }

    /// Registers a client for captures of `stream`, which starts its source and decoder.
    pub fn register_client(self: &Arc<Captures>, stream: &Arc<Stream>) -> Client {
        let worker = self.worker(stream);
        worker.enter();
        if self.config.decoder {
            // An error is reported by the first request.
            let _ = worker.open();
        }
        Client {
            captures: self.clone(),
            worker,
            waiting: Arc::default(),
        }
    }

    /// Checks a request, and completes it with defaults from the config.
    ///
    /// # Errors
    /// The request is invalid, or libav has no encoder for its format.
    pub fn read(&self, asked: &RawRequest) -> Result<CaptureRequest, Failure> {
        CaptureRequest::read(asked, self.config.quality)
            .and_then(|request| match request.format.is_supported() {
                true => Ok(request),
                false => {
                    let name = request.format.name();
                    let text =
                        format!("libav was built without an encoder for {name}; request jpeg");
                    Err((Code::UnsupportedFormat, text))
                }
            })
            .map_err(|(code, message)| self.failure(code, message))
    }

    /// A failure of a capture that did not reach a worker.
    pub fn failure(&self, code: Code, message: impl Into<String>) -> Failure {
        Failure {
            r#type: ErrorType::Error,
            code,
            message: message.into(),
            capture_id: Captures::id(),
        }
    }

    /// Per captured stream: name, current clients, captures that succeeded, captures that failed.
    pub fn list(&self) -> Vec<(String, usize, u64, u64)> {
        let workers = self.lock();
        let list = workers.iter().map(|(name, worker)| {
            let (made, failed) = worker.outcomes();
            (name.clone(), worker.clients(), made, failed)
        });
        list.collect()
    }

    /// Number of current clients of the stream's captures.
    pub fn clients(&self, stream: &str) -> usize {
        self.lock().get(stream).map_or(0, |worker| worker.clients())
    }

    /// Ends the worker of a stream that no longer exists, for this reason.
    pub fn forget(&self, stream: &str, reason: &'static str) {
        if let Some(worker) = self.lock().remove(stream) {
            worker.close(reason);
        }
    }

    /// Called periodically: deletes saved images that are too old or too many. It may take a while, so it runs on a
    /// blocking thread.
    pub fn tidy(self: &Arc<Captures>, now: Instant) {
        let mut swept = self.swept.lock();
        let due = swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL);
        let much = self.config.keep_bytes.bytes() / SWEEP_DIVISOR;
        let many = self.saved_since_sweep.load(Ordering::Relaxed) > much;
        if !(due || many) || self.sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        *swept = Some(now);
        self.saved_since_sweep.store(0, Ordering::Relaxed);
        let captures = self.clone();
        spawn_blocking(move || {
            match contain(|| captures.store.sweep(SystemTime::now())) {
                Ok(0) => {}
                Ok(gone) => {
                    tracing::info!(
                        "deleted {gone} saved captures beyond the limits of `keep` and `keep-bytes`"
                    );
                }
                Err(panicked) => tracing::error!("deleting old captures {panicked}"),
            }
            captures.sweeping.store(false, Ordering::Release);
        });
    }

    /// Ends all workers. Waiting requests fail.
    pub fn shut_down(&self) {
        let workers: Vec<_> = self.lock().values().cloned().collect();
        workers
            .iter()
            .for_each(|worker| worker.close("the gateway is shutting down"));
    }

    fn worker(&self, stream: &Arc<Stream>) -> Arc<CaptureWorker> {
        let mut workers = self.lock();
        if stream.is_removed() {
            // Nobody else gets it.
            let worker = CaptureWorker::new(stream.clone());
            worker.close("the stream was removed");
            return worker;
        }
        let worker = workers
            .entry(stream.name.clone())
            .or_insert_with(|| CaptureWorker::new(stream.clone()));
        worker.clone()
    }

    /// A new capture id: sixteen hex digits.
    fn id() -> String {
        format!("{:016x}", fastrand::u64(..))
    }

    /// Saves an image, and publishes the event `capture`.
    fn save(
        &self,
        result: &mut CaptureResult,
        taken: &EncodedCapture,
        format: StillFormat,
    ) -> io::Result<()> {
        let (serial, id) = (result.serial.as_str(), result.capture_id.as_str());
        let data = &taken.image.data;
        let ending = format.ending();
        let path = self
            .store
            .save(serial, taken.captured_at, id, ending, data)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
        let line = JournalEntry {
            time: &rfc3339(now),
            serial,
            capture_id: id,
            path: &path,
            bytes: data.len(),
            width: result.width,
            height: result.height,
            captured_at: &result.captured_at,
        };
        // The image is saved all the same.
        if let Err(error) = self.store.append_journal(&line) {
            tracing::warn!("cannot write the capture journal: {error}");
        }
        self.events.publish("capture", Some(serial), &line);
        self.saved_since_sweep
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        result.path = Some(path);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<CaptureWorker>>> {
        self.workers.lock()
    }
}

impl Client {
    /// Captures the newest frame, waiting for one for at most `capture.timeout`. The request is queued by the call
    /// itself and not by the first poll, so that several requests of a client are served in order.
    ///
    /// # Errors
    /// The capture failed; the code says why.
    pub fn capture(
        &self,
        request: CaptureRequest,
    ) -> impl Future<Output = Result<Captured, Failure>> + Send + use<> {
        let (captures, worker) = (self.captures.clone(), self.worker.clone());
        let id = Captures::id();
        let asked = self.enqueue(request);
        let made = async move {
            let failure = |(code, message)| Failure {
                r#type: ErrorType::Error,
                code,
                message,
                capture_id: id.clone(),
            };
            let taken = match asked {
                Ok((answer, waits)) => {
                    let taken = answer.await;
                    drop(waits);
                    taken.unwrap_or_else(|_| Err(worker::gone()))
                }
                Err(refused) => Err(refused),
            };
            let (serial, taken) = taken.map_err(failure)?;
            let mut result = CaptureResult {
                r#type: ResultType::CaptureResult,
                capture_id: id.clone(),
                serial,
                captured_at: rfc3339(taken.captured_at),
                age_ms: taken.age_ms,
                width: taken.image.width,
                height: taken.image.height,
                path: None,
                bytes: taken.image.data.len(),
            };
            let data = captures.held.count(taken.image.data.clone());
            if request.save {
                let saved = spawn_blocking(move || {
                    let saved = captures.save(&mut result, &taken, request.format);
                    saved.map(|()| result)
                });
                let failed = |error: String| {
                    let text =
                        format!("the image was not saved: {error}; check `dir` under [capture]");
                    failure((Code::SaveFailed, text))
                };
                result = match saved.await {
                    Ok(Ok(result)) => result,
                    Ok(Err(error)) => return Err(failed(error.to_string())),
                    Err(error) => return Err(failed(error.to_string())),
                };
            }
            Ok(Captured {
                result,
                format: request.format,
                data,
            })
        };
        async move {
            let made = made.await;
            worker.answered(made.is_ok());
            made
        }
    }

    /// Queues a request with the worker.
    fn enqueue(
        &self,
        request: CaptureRequest,
    ) -> Result<(worker::Answer, ClientSlot), (Code, String)> {
        let Captures { config, .. } = &*self.captures;
        if !config.decoder {
            let text = "captures are disabled; set decoder = true under [capture]";
            return Err((Code::DecoderDisabled, text.into()));
        }
        let report = self.worker.stream().report();
        if matches!(
            report.state,
            State::Offline | State::Unauthorized | State::Failed
        ) {
            let text = format!("{}: {}", report.state.name(), report.reason);
            return Err((Code::DeviceOffline, text));
        }
        if self.captures.held.is_full() {
            let text = format!(
                "{} MiB of captures are waiting for slow clients; try again later",
                MAX_HELD_BYTES >> 20
            );
            return Err((Code::CaptureBusy, text));
        }
        let waits = ClientSlot::new(&self.waiting).ok_or_else(|| {
            let text = format!(
                "{MAX_PER_CLIENT} captures of this client are already waiting; try again when one is done"
            );
            (Code::CaptureBusy, text)
        })?;
        let deadline = Instant::now() + config.timeout.duration();
        self.worker
            .enqueue(request, deadline)
            .map(|answer| (answer, waits))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.leave();
    }
}

/// One of a client's slots for waiting captures.
struct ClientSlot(Arc<AtomicUsize>);

impl ClientSlot {
    fn new(waiting: &Arc<AtomicUsize>) -> Option<ClientSlot> {
        let more = |waiting: usize| (waiting < MAX_PER_CLIENT).then_some(waiting + 1);
        let added = waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        added.is_ok().then(|| ClientSlot(waiting.clone()))
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
