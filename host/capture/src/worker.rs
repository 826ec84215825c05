//! The capture thread of one stream, and its queue.
//!
//! The thread starts with the first client and ends `idle` after the last. It holds a lease of the stream and its
//! shared decoder, serves one request at a time, and encodes the newest undamaged frame; the same request for the same
//! frame is encoded once. If the decoder has no such frame, it requests keyframes until the deadline. A panic fails the
//! request that it happened in, and the next one gets a new encoder.

use super::{CaptureRequest, Code, MAX_IMAGE_BYTES};
use parking_lot::{Condvar, Mutex, MutexGuard};
use sluicegate_codec::{EncodedStill, StillImageEncoder};
use sluicegate_source::Keyframes;
use sluicegate_stream::{Decoded, DecoderState, Feed, Frames, State, Stream, StreamLease};
use sluicegate_telemetry::{Chain, Panicked, contain, panic_point};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::oneshot;

/// Limit of waiting captures per stream.
const MAX_WAITING: usize = 16;
/// How long a capture waits for a frame before a keyframe is requested, and the interval of further requests.
const KEYFRAME_REQUEST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long to wait for the newest frame if the one before is available: decoding a keyframe may take longer.
const NEWEST_WAIT: Duration = Duration::from_millis(5);
/// The same if only an older frame is available.
const CATCH_UP_WAIT: Duration = Duration::from_millis(250);
/// Lower priority than the threads that deliver to viewers.
const NICE: i32 = 5;

/// An encoded image and its times.
#[derive(Clone, Debug)]
pub(super) struct EncodedCapture {
    pub image: EncodedStill,
    /// When the frame arrived, in Unix microseconds.
    pub captured_at: u64,
    /// Age of the frame when it was encoded, in milliseconds.
    pub age_ms: u64,
}

/// The stream's name and the image, or why there is no image.
type Outcome = Result<(String, EncodedCapture), (Code, String)>;
/// Receives the outcome of a request.
pub(super) type Answer = oneshot::Receiver<Outcome>;

/// The capture worker of one stream: its queue and, while open, its thread.
#[derive(Debug)]
pub(super) struct CaptureWorker {
    stream: Arc<Stream>,
    /// Captures that succeeded and failed.
    succeeded: AtomicU64,
    failed: AtomicU64,
    inner: Mutex<Inner>,
    /// Notified when `inner` changes.
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    clients: usize,
    unused_since: Instant,
    waiting: VecDeque<Job>,
    /// Whether the thread runs.
    open: bool,
    /// Why the worker has ended.
    closed: Option<&'static str>,
}

#[derive(Debug)]
struct Job {
    request: CaptureRequest,
    deadline: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// The error of a request whose worker ended without an answer.
pub(super) fn gone() -> (Code, String) {
    closed("the gateway is shutting down")
}

/// The error of all requests after [`CaptureWorker::close`] with this reason.
fn closed(reason: &str) -> (Code, String) {
    (Code::CaptureBusy, reason.into())
}

impl CaptureWorker {
    pub fn new(stream: Arc<Stream>) -> Arc<CaptureWorker> {
        Arc::new(CaptureWorker {
            stream,
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                clients: 0,
                unused_since: Instant::now(),
                waiting: VecDeque::new(),
                open: false,
                closed: None,
            }),
            changed: Condvar::new(),
        })
    }

    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub fn clients(&self) -> usize {
        self.lock().clients
    }

    /// Captures that succeeded and failed so far.
    pub fn outcomes(&self) -> (u64, u64) {
        (
            self.succeeded.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }

    /// Counts the outcome of a request.
    pub fn answered(&self, well: bool) {
        let counter = if well { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Registers a client.
    pub fn enter(&self) {
        self.lock().clients += 1;
    }

    /// Unregisters a client.
    pub fn leave(&self) {
        let mut inner = self.lock();
        inner.clients -= 1;
        inner.unused_since = Instant::now();
        drop(inner);
        self.changed.notify_all();
    }

    /// Ends the worker: waiting and later requests fail with this reason.
    pub fn close(&self, reason: &'static str) {
        let mut inner = self.lock();
        inner.closed = Some(reason);
        for job in inner.waiting.drain(..) {
            let _ = job.answer.send(Err(closed(reason)));
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Starts the thread if it does not run, so that the decoder is ready when the first request comes.
    pub fn open(self: &Arc<CaptureWorker>) -> Result<(), (Code, String)> {
        self.open_in(&mut self.lock())
    }

    /// Queues a request.
    pub fn enqueue(
        self: &Arc<CaptureWorker>,
        request: CaptureRequest,
        deadline: Instant,
    ) -> Result<Answer, (Code, String)> {
        let mut inner = self.lock();
        if let Some(reason) = inner.closed {
            return Err(closed(reason));
        }
        // Clients that disconnected do not count.
        inner.waiting.retain(|job| !job.answer.is_closed());
        if inner.waiting.len() >= MAX_WAITING {
            let text =
                format!("{MAX_WAITING} captures of this stream are already waiting; try again");
            return Err((Code::CaptureBusy, text));
        }
        self.open_in(&mut inner)?;
        let (answer, answered) = oneshot::channel();
        inner.waiting.push_back(Job {
            request,
            deadline,
            answer,
        });
        drop(inner);
        self.changed.notify_all();
        Ok(answered)
    }

    fn open_in(self: &Arc<CaptureWorker>, inner: &mut Inner) -> Result<(), (Code, String)> {
        if inner.open || inner.closed.is_some() {
            return Ok(());
        }
        let worker = self.clone();
        let spawned = thread::Builder::new()
            .name(format!("capture {}", self.stream.name))
            .spawn(move || {
                if let Err(panicked) = contain(|| worker.run()) {
                    worker.fail_waiting(&panicked);
                }
            });
        match spawned {
            Ok(_) => {
                inner.open = true;
                Ok(())
            }
            Err(error) => {
                let text = format!("cannot start the capture thread: {error}; try again");
                Err((Code::CaptureBusy, text))
            }
        }
    }

    /// Fails all waiting requests after the thread panicked. The next request starts a new one.
    fn fail_waiting(&self, panicked: &Panicked) {
        let failed = self.failed(panicked);
        let mut inner = self.lock();
        inner.open = false;
        for job in inner.waiting.drain(..) {
            let _ = job.answer.send(Err(failed.clone()));
        }
    }

    fn failed(&self, panicked: &Panicked) -> (Code, String) {
        tracing::error!(stream = self.stream.name, "the capture thread {panicked}");
        let text = "internal error during this capture; check the gateway's log and try again";
        (Code::DecodeFailed, text.into())
    }

    fn run(&self) {
        // Without permission the priority stays as it is.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        let mut user = self.stream.enter();
        let mut capturer = Capturer::new(&self.stream, &user);
        while let Some(job) = self.next(&mut user) {
            if job.answer.is_closed() {
                continue;
            }
            let taken = contain(|| {
                panic_point("capture");
                if capturer.is_err() {
                    capturer = Capturer::new(&self.stream, &user);
                }
                match &mut capturer {
                    Ok(capturer) => capturer.take(&job, || self.lock().closed),
                    Err(error) => Err(error.clone()),
                }
            });
            let taken = taken.unwrap_or_else(|panicked| {
                let failed = self.failed(&panicked);
                // Its state may be inconsistent and is not used again.
                capturer = Err(failed.clone());
                Err(failed)
            });
            let named = taken.map(|taken| (self.stream.name.clone(), taken));
            // The client may have disconnected.
            let _ = job.answer.send(named);
        }
    }

    /// The next request; `None` when the thread has to end, because it was idle or the worker is closed.
    fn next(&self, user: &mut StreamLease) -> Option<Job> {
        let mut inner = self.lock();
        loop {
            if let Some(job) = inner.waiting.pop_front() {
                return Some(job);
            }
            let unused = inner.unused_since;
            let idle = (inner.clients == 0)
                .then(|| (unused + self.stream.idle()).saturating_duration_since(Instant::now()));
            if inner.closed.is_some() || idle.is_some_and(|left| left.is_zero()) {
                inner.open = false;
                // The stream's idle time counts from then, too.
                user.unused_since(unused);
                return None;
            }
            match idle {
                Some(left) => drop(self.changed.wait_for(&mut inner, left)),
                None => self.changed.wait(&mut inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }
}

/// What the thread takes captures with: the shared decoder and an encoder.
struct Capturer {
    stream: Arc<Stream>,
    feed: Arc<Feed>,
    keyframes: Keyframes,
    frames: Arc<Frames>,
    encoder: StillImageEncoder,
    /// The last capture, in case the same is requested again: request, frame and image.
    last: Option<(CaptureRequest, Arc<Decoded>, EncodedStill)>,
}

impl Capturer {
    fn new(stream: &Arc<Stream>, user: &StreamLease) -> Result<Capturer, (Code, String)> {
        let frames = user.frames().map_err(|error| {
            let text = format!("cannot start the decoder thread: {error}; try again");
            (Code::CaptureBusy, text)
        })?;
        let encoder = StillImageEncoder::new(stream.codec()).map_err(|error| {
            let text = format!("cannot create an image encoder: {}", Chain(&error));
            (Code::DecodeFailed, text)
        })?;
        Ok(Capturer {
            stream: stream.clone(),
            feed: user.feed().clone(),
            keyframes: user.keyframes().clone(),
            frames,
            encoder,
            last: None,
        })
    }

    fn take(
        &mut self,
        job: &Job,
        is_closed: impl Fn() -> Option<&'static str>,
    ) -> Result<EncodedCapture, (Code, String)> {
        let seen = self.wait_for_frame(job, is_closed)?;
        let request = CaptureRequest {
            save: false,
            ..job.request
        };
        let encoded = match &self.last {
            Some((last_request, last_frame, encoded))
                if *last_request == request && Arc::ptr_eq(last_frame, &seen) =>
            {
                encoded.clone()
            }
            _ => {
                let CaptureRequest {
                    format,
                    quality,
                    max_width,
                    ..
                } = request;
                let encoded = self.encoder.encode(&seen.frame, format, quality, max_width);
                let encoded =
                    encoded.map_err(|error| (Code::DecodeFailed, Chain(&error).to_string()))?;
                if encoded.data.len() > MAX_IMAGE_BYTES {
                    let text = format!(
                        "the image has {} bytes, and the limit is {MAX_IMAGE_BYTES}; request a smaller width, or jpeg",
                        encoded.data.len()
                    );
                    return Err((Code::DecodeFailed, text));
                }
                self.last = Some((request, seen.clone(), encoded.clone()));
                encoded
            }
        };
        let taken = SystemTime::UNIX_EPOCH + Duration::from_micros(seen.captured_at);
        let age = SystemTime::now().duration_since(taken).unwrap_or_default();
        Ok(EncodedCapture {
            image: encoded,
            captured_at: seen.captured_at,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The newest undamaged frame; waits for one if there is none.
    fn wait_for_frame(
        &self,
        job: &Job,
        is_closed: impl Fn() -> Option<&'static str>,
    ) -> Result<Arc<Decoded>, (Code, String)> {
        let began = Instant::now();
        let deadline = job.deadline;
        let newest = self.feed.newest_frame();
        // `beyond` 0: all frames before the newest are decoded; 1: the newest, too.
        let reached = |state: &DecoderState, beyond: u64| {
            state.good.is_some() && newest.is_none_or(|newest| state.reached >= newest + beyond)
        };
        let until = |wait: Duration| (began + wait).min(deadline);
        let mut state = self
            .frames
            .wait_for(until(NEWEST_WAIT), |state| reached(state, 1));
        if !reached(&state, 0) {
            state = self
                .frames
                .wait_for(until(CATCH_UP_WAIT), |state| reached(state, 0));
        }
        let mut request_at = began + KEYFRAME_REQUEST.0;
        loop {
            if let Some(good) = state.good {
                return Ok(good);
            }
            let now = Instant::now();
            if let Some(reason) = is_closed() {
                return Err(closed(reason));
            }
            if now >= deadline {
                // An older frame is better than none; the result states its age.
                return match state.old.take() {
                    Some(old) => Ok(old),
                    None => Err(self.no_frame_error(state)),
                };
            }
            if now >= request_at {
                self.keyframes.request();
                request_at = now + KEYFRAME_REQUEST.1;
            }
            let until = deadline.min(request_at).min(now + KEYFRAME_REQUEST.0);
            state = self.frames.wait_for(until, |state| state.good.is_some());
        }
    }

    /// Why there is no frame.
    fn no_frame_error(&self, decoder: DecoderState) -> (Code, String) {
        let report = self.stream.report();
        let state = report.state;
        if matches!(
            state,
            State::Retrying | State::Failed | State::Offline | State::Unauthorized
        ) {
            return (
                Code::DeviceOffline,
                format!("{}: {}", state.name(), report.reason),
            );
        }
        if let Some(damage_reason) = decoder.damage_reason {
            return (
                Code::DecodeFailed,
                format!("{damage_reason}; try again after the next keyframe"),
            );
        }
        if report.video.is_none() && report.audio.is_some() {
            return (Code::DecodeFailed, "this stream has no video".into());
        }
        let text = format!(
            "no frame was available in time (the stream is {}: {}); try again, or raise `timeout` under [capture]",
            state.name(),
            report.reason
        );
        (Code::CaptureTimeout, text)
    }
}
