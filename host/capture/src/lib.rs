//! One picture, now: of any stream, whether or not anybody watches, and without delaying who does.
//!
//! Each stream that is captured has a booth: a thread of its own that holds the stream's one decoder while there are clients
//! and for the idle time after the last, and makes one picture at a time out of the newest that was decoded. Saving is done
//! elsewhere, so that a slow disk holds up nobody but who asked for it.

mod request;
pub mod store;
mod worker;

pub use request::{CaptureRequest, Code, Failure, IsError, QUALITY, RawRequest, WIDTH};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use sluicegate_codec::Still;
use sluicegate_config as config;
use sluicegate_media::budget::Budget;
use sluicegate_stream::{State, Stream};
use sluicegate_telemetry::{Events, contain};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use store::{Line, Store, rfc3339};
use tokio::task::spawn_blocking;
use worker::{CaptureWorker, Shot};

/// Captures of one client that may wait.
pub const MAX_PER_CLIENT: usize = 4;
/// Bytes of pictures that were made and lie here until slow clients have taken them, over all clients.
const MAX_HELD_BYTES: usize = 256 << 20;
/// Bytes of one picture.
const MAX_PICTURE_BYTES: usize = 32 << 20;
/// How often what is too old or too much is looked for, at least.
const SWEEP: Duration = Duration::from_secs(60);
/// Saved bytes after which it is looked for at once: a part of what may be kept.
const SWEEP_PART: u64 = 20;

/// Every booth, and where pictures are kept.
#[derive(Debug)]
pub struct Captures {
    config: config::Capture,
    store: Store,
    events: Arc<Events>,
    workers: Mutex<BTreeMap<String, Arc<CaptureWorker>>>,
    held: Budget,
    dice: RandomState,
    next: AtomicU64,
    saved_since_sweep: AtomicU64,
    swept: Mutex<Option<Instant>>,
    sweeping: AtomicBool,
}

/// One who may ask for captures of a stream; its decoder runs while there is any.
#[derive(Debug)]
pub struct Client {
    captures: Arc<Captures>,
    worker: Arc<CaptureWorker>,
    waiting: Arc<AtomicUsize>,
}

/// A capture that was made.
#[derive(Clone, Debug)]
pub struct Captured {
    /// What is said of it.
    pub result: CaptureResult,
    /// As what it was made.
    pub format: Still,
    /// The picture.
    pub data: Bytes,
}

/// What a result says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum IsResult {
    /// Always.
    #[default]
    CaptureResult,
}

/// What is said of a capture.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CaptureResult {
    /// "capture_result".
    pub r#type: IsResult,
    /// Names the capture.
    pub capture_id: String,
    /// Name of the stream.
    pub serial: String,
    /// When the picture came from the source: RFC 3339, UTC, milliseconds.
    pub captured_at: String,
    /// How old the picture was when it was made a file, milliseconds. A still source's newest picture may be old.
    pub age_ms: u64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Where it was saved, below `capture.dir`; null if it was not.
    pub path: Option<String>,
    /// Length of the picture.
    pub bytes: usize,
}

impl Captures {
    /// No booth yet.
    pub fn new(config: &config::Capture, events: &Arc<Events>) -> Arc<Captures> {
        Arc::new(Captures {
            store: Store::new(config),
            config: config.clone(),
            events: events.clone(),
            workers: Mutex::default(),
            held: Budget::new(MAX_HELD_BYTES),
            dice: RandomState::new(),
            next: AtomicU64::new(0),
            saved_since_sweep: AtomicU64::new(0),
            swept: Mutex::default(),
            sweeping: AtomicBool::new(false),
        })
    }

    /// Begins to take captures of `stream`: its source and decoder start.
    pub fn attend(self: &Arc<Captures>, stream: &Arc<Stream>) -> Client {
        let worker = self.worker(stream);
        worker.enter();
        if self.config.decoder {
            // What keeps it from opening is told to who asks for a picture.
            let _ = worker.open();
        }
        Client {
            captures: self.clone(),
            worker,
            waiting: Arc::default(),
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self, asked: &RawRequest) -> Result<CaptureRequest, Failure> {
        CaptureRequest::read(asked, self.config.quality)
            .and_then(|request| match request.format.is_made() {
                true => Ok(request),
                false => {
                    let name = request.format.name();
                    let text = format!("libav here makes no {name}; ask for jpeg");
                    Err((Code::UnsupportedFormat, text))
                }
            })
            .map_err(|(code, message)| self.failure(code, message))
    }

    /// A failure of a capture that did not get as far as a booth.
    pub fn failure(&self, code: Code, message: impl Into<String>) -> Failure {
        Failure {
            r#type: IsError::Error,
            code,
            message: message.into(),
            capture_id: self.id(),
        }
    }

    /// Streams that were captured: name, clients now, pictures given so far, requests that got none.
    pub fn list(&self) -> Vec<(String, usize, u64, u64)> {
        let workers = self.lock();
        let list = workers.iter().map(|(name, worker)| {
            let (made, failed) = worker.outcomes();
            (name.clone(), worker.clients(), made, failed)
        });
        list.collect()
    }

    /// Clients of a stream's captures.
    pub fn clients(&self, stream: &str) -> usize {
        self.lock().get(stream).map_or(0, |worker| worker.clients())
    }

    /// There is no stream of that name any more.
    pub fn forget(&self, stream: &str) {
        if let Some(worker) = self.lock().remove(stream) {
            worker.close();
        }
    }

    /// Called now and then: deletes saved pictures that are too old or too many. Elsewhere, as it may take a while.
    pub fn tidy(self: &Arc<Captures>, now: Instant) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP);
        let much = self.config.keep_bytes.bytes() / SWEEP_PART;
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
                        "{gone} saved captures were too old or too many and are deleted"
                    );
                }
                Err(panicked) => tracing::error!("deleting old captures {panicked}"),
            }
            captures.sweeping.store(false, Ordering::Release);
        });
    }

    /// Ends every booth: who waits is told so.
    pub fn shut_down(&self) {
        let workers: Vec<_> = self.lock().values().cloned().collect();
        workers.iter().for_each(|worker| worker.close());
    }

    fn worker(&self, stream: &Arc<Stream>) -> Arc<CaptureWorker> {
        let mut workers = self.lock();
        let worker = workers
            .entry(stream.name.clone())
            .or_insert_with(|| CaptureWorker::new(stream.clone()));
        worker.clone()
    }

    /// Sixteen hex digits that no other capture has.
    fn id(&self) -> String {
        let nth = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}", self.dice.hash_one(nth))
    }

    /// Keeps a picture, and tells of it.
    fn save(&self, result: &mut CaptureResult, taken: &Shot, format: Still) -> io::Result<()> {
        let (serial, id) = (result.serial.as_str(), result.capture_id.as_str());
        let data = &taken.picture.data;
        let ending = format.ending();
        let path = self
            .store
            .save(serial, taken.captured_at, id, ending, data)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| u64::try_from(now.as_micros()).unwrap_or(u64::MAX));
        let line = Line {
            time: &rfc3339(now),
            serial,
            capture_id: id,
            path: &path,
            bytes: data.len(),
            width: result.width,
            height: result.height,
            captured_at: &result.captured_at,
        };
        // The picture is there; that the journal lacks it is for the log.
        if let Err(error) = self.store.note(&line) {
            tracing::warn!("the journal of captures cannot be written: {error}");
        }
        self.events.publish("capture", &line);
        self.saved_since_sweep
            .fetch_add(data.len() as u64, Ordering::Relaxed);
        result.path = Some(path);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<CaptureWorker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Makes a capture of the newest picture; waits for one at most `capture.timeout`. Asked from the moment of the call, so
    /// that several of a client come in the order in which they were asked for.
    ///
    /// # Errors
    /// Why there is none.
    pub fn capture(
        &self,
        request: CaptureRequest,
    ) -> impl Future<Output = Result<Captured, Failure>> + Send + use<> {
        let (captures, worker) = (self.captures.clone(), self.worker.clone());
        let id = captures.id();
        let asked = self.ask(request);
        let made = async move {
            let failure = |(code, message)| Failure {
                r#type: IsError::Error,
                code,
                message,
                capture_id: id.clone(),
            };
            let taken = match asked {
                Ok((answer, waits)) => {
                    let taken = answer.await;
                    drop(waits);
                    taken.unwrap_or_else(|_| Err(worker::closed()))
                }
                Err(refused) => Err(refused),
            };
            let (serial, taken) = taken.map_err(failure)?;
            let mut result = CaptureResult {
                r#type: IsResult::CaptureResult,
                capture_id: id.clone(),
                serial,
                captured_at: rfc3339(taken.captured_at),
                age_ms: taken.age_ms,
                width: taken.picture.width,
                height: taken.picture.height,
                path: None,
                bytes: taken.picture.data.len(),
            };
            let data = captures.held.count(taken.picture.data.clone());
            if request.save {
                let saved = spawn_blocking(move || {
                    let saved = captures.save(&mut result, &taken, request.format);
                    saved.map(|()| result)
                });
                let failed = |error: String| {
                    let text = format!(
                        "the picture was not saved: {error}; look at `dir` under [capture]"
                    );
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

    /// Puts a request into the booth's queue.
    fn ask(&self, request: CaptureRequest) -> Result<(worker::Answer, ClientSlot), (Code, String)> {
        let Captures { config, .. } = &*self.captures;
        if !config.decoder {
            let text =
                "no pictures are decoded for captures here; set decoder = true under [capture]";
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
                "captures of {} MiB wait for clients that are slow to take them; try again",
                MAX_HELD_BYTES >> 20
            );
            return Err((Code::CaptureBusy, text));
        }
        let waits = ClientSlot::new(&self.waiting).ok_or_else(|| {
            let text = format!(
                "{MAX_PER_CLIENT} captures of this client wait already; ask again when one has come"
            );
            (Code::CaptureBusy, text)
        })?;
        let deadline = Instant::now() + config.timeout.duration();
        self.worker
            .ask(request, deadline)
            .map(|answer| (answer, waits))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.worker.leave();
    }
}

/// One of a client's places.
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
