//! Where the captures of one stream are made: one at a time, on a thread of its own, of the newest good picture.

use super::{CaptureRequest, Code, MAX_PICTURE_BYTES};
use sluicegate_codec::{Pictured, StillEncoder};
use sluicegate_source::Keyframes;
use sluicegate_stream::{Decoded, DecoderState, Feed, Frames, State, Stream, StreamLease};
use sluicegate_telemetry::{Chain, Panicked, contain, provoke};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::oneshot;

/// Captures of one stream that may wait.
const MAX_WAITING: usize = 16;
/// A picture that is waited for longer than this may need a keyframe to be asked for; again after each second.
const ASK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// The newest picture is waited for this long where the one before is there: a keyframe may take a decoder longer.
const PROMPT: Duration = Duration::from_millis(5);
/// And this long where only an older one is.
const CATCH_UP: Duration = Duration::from_millis(250);
/// Less urgent than whatever delivers, as long as there is any of that.
const NICE: i32 = 5;

/// A picture, and when it was taken.
#[derive(Clone, Debug)]
pub(super) struct Shot {
    pub picture: Pictured,
    /// Unix microseconds.
    pub captured_at: u64,
    /// When it was made a file.
    pub age_ms: u64,
}

/// Name of the stream, and the picture.
type Outcome = Result<(String, Shot), (Code, String)>;
/// Comes with the picture.
pub(super) type Answer = oneshot::Receiver<Outcome>;

/// The queue of one stream's captures.
#[derive(Debug)]
pub(super) struct CaptureWorker {
    stream: Arc<Stream>,
    /// Pictures that were given, and requests that got none.
    made: AtomicU64,
    failed: AtomicU64,
    inner: Mutex<Inner>,
    /// Something in there changed.
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    clients: usize,
    unused_since: Instant,
    waiting: VecDeque<Job>,
    /// The thread is there.
    open: bool,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    request: CaptureRequest,
    deadline: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// Nobody is served any more.
pub(super) fn closed() -> (Code, String) {
    (Code::CaptureBusy, "the gateway is shutting down".into())
}

impl CaptureWorker {
    pub fn new(stream: Arc<Stream>) -> Arc<CaptureWorker> {
        Arc::new(CaptureWorker {
            stream,
            made: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                clients: 0,
                unused_since: Instant::now(),
                waiting: VecDeque::new(),
                open: false,
                closed: false,
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

    /// Pictures that were given so far, and requests that got none.
    pub fn outcomes(&self) -> (u64, u64) {
        (
            self.made.load(Ordering::Relaxed),
            self.failed.load(Ordering::Relaxed),
        )
    }

    /// A request was answered.
    pub fn answered(&self, well: bool) {
        let counter = if well { &self.made } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A client comes.
    pub fn enter(&self) {
        self.lock().clients += 1;
    }

    /// A client goes.
    pub fn leave(&self) {
        let mut inner = self.lock();
        inner.clients -= 1;
        inner.unused_since = Instant::now();
        drop(inner);
        self.changed.notify_all();
    }

    /// Nobody is served any more.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        for job in inner.waiting.drain(..) {
            let _ = job.answer.send(Err(closed()));
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Opens the booth, so that the decoder is at work when the first request comes.
    pub fn open(self: &Arc<CaptureWorker>) -> Result<(), (Code, String)> {
        self.open_in(&mut self.lock())
    }

    /// Queues a request.
    pub fn ask(
        self: &Arc<CaptureWorker>,
        request: CaptureRequest,
        deadline: Instant,
    ) -> Result<Answer, (Code, String)> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(closed());
        }
        // Who has gone wants nothing any more.
        inner.waiting.retain(|job| !job.answer.is_closed());
        if inner.waiting.len() >= MAX_WAITING {
            let text = format!("{MAX_WAITING} captures of this stream wait already; try again");
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
        if inner.open || inner.closed {
            return Ok(());
        }
        let worker = self.clone();
        let spawned = thread::Builder::new()
            .name(format!("capture {}", self.stream.name))
            .spawn(move || {
                if let Err(panicked) = contain(|| worker.run()) {
                    worker.give_up(&panicked);
                }
            });
        match spawned {
            Ok(_) => {
                inner.open = true;
                Ok(())
            }
            Err(error) => {
                let text = format!("no thread for captures: {error}; try again");
                Err((Code::CaptureBusy, text))
            }
        }
    }

    /// The thread is at its end: who waits for it is told, and who asks next opens the booth again.
    fn give_up(&self, panicked: &Panicked) {
        let failed = self.failed(panicked);
        let mut inner = self.lock();
        inner.open = false;
        for job in inner.waiting.drain(..) {
            let _ = job.answer.send(Err(failed.clone()));
        }
    }

    fn failed(&self, panicked: &Panicked) -> (Code, String) {
        tracing::error!(stream = self.stream.name, "the capture thread {panicked}");
        let text = "the gateway failed at this capture, its log says where; try again";
        (Code::DecodeFailed, text.into())
    }

    fn run(&self) {
        // Without the right to, it is as urgent as the others.
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        let mut user = self.stream.enter();
        let mut camera = Capturer::new(&self.stream, &user);
        while let Some(job) = self.next(&mut user) {
            if job.answer.is_closed() {
                continue;
            }
            let taken = contain(|| {
                provoke("capture");
                if camera.is_err() {
                    camera = Capturer::new(&self.stream, &user);
                }
                match &mut camera {
                    Ok(camera) => camera.take(&job, || self.lock().closed),
                    Err(error) => Err(error.clone()),
                }
            });
            let taken = taken.unwrap_or_else(|panicked| {
                let failed = self.failed(&panicked);
                // What it left behind is not used again.
                camera = Err(failed.clone());
                Err(failed)
            });
            let named = taken.map(|taken| (self.stream.name.clone(), taken));
            // Nobody may wait any more.
            let _ = job.answer.send(named);
        }
    }

    /// The next request; `None` when the thread is to end: nobody came for the idle time, or the booth is closed.
    fn next(&self, user: &mut StreamLease) -> Option<Job> {
        let mut inner = self.lock();
        loop {
            if let Some(job) = inner.waiting.pop_front() {
                return Some(job);
            }
            let unused = inner.unused_since;
            let idle = (inner.clients == 0)
                .then(|| (unused + self.stream.idle()).saturating_duration_since(Instant::now()));
            if inner.closed || idle.is_some_and(|left| left.is_zero()) {
                inner.open = false;
                // The source's idle time counts from there, too.
                user.unused_since(unused);
                return None;
            }
            inner = match idle {
                Some(left) => {
                    let (inner, _) = self
                        .changed
                        .wait_timeout(inner, left)
                        .unwrap_or_else(PoisonError::into_inner);
                    inner
                }
                None => self
                    .changed
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What takes the pictures while the booth is open.
struct Capturer {
    stream: Arc<Stream>,
    feed: Arc<Feed>,
    keyframes: Keyframes,
    frames: Arc<Frames>,
    encoder: StillEncoder,
    /// What was made last, for who asks for the same: time of the picture, the wish, the picture.
    last: Option<(CaptureRequest, Arc<Decoded>, Pictured)>,
}

impl Capturer {
    fn new(stream: &Arc<Stream>, user: &StreamLease) -> Result<Capturer, (Code, String)> {
        let frames = user.frames().map_err(|error| {
            let text = format!("no thread for decoding: {error}; try again");
            (Code::CaptureBusy, text)
        })?;
        let encoder = StillEncoder::new(stream.codec()).map_err(|error| {
            let text = format!("no encoder for pictures: {}", Chain(&error));
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

    fn take(&mut self, job: &Job, is_closed: impl Fn() -> bool) -> Result<Shot, (Code, String)> {
        let seen = self.see(job, is_closed)?;
        let request = CaptureRequest {
            save: false,
            ..job.request
        };
        let made = match &self.last {
            Some((as_before, picture, made))
                if *as_before == request && Arc::ptr_eq(picture, &seen) =>
            {
                made.clone()
            }
            _ => {
                let CaptureRequest {
                    format,
                    quality,
                    max_width,
                    ..
                } = request;
                let made = self.encoder.encode(&seen.frame, format, quality, max_width);
                let made = made.map_err(|error| (Code::DecodeFailed, Chain(&error).to_string()))?;
                if made.data.len() > MAX_PICTURE_BYTES {
                    let text = format!(
                        "the picture has {} bytes, and at most {MAX_PICTURE_BYTES} are given; ask for a smaller width, or for jpeg",
                        made.data.len()
                    );
                    return Err((Code::DecodeFailed, text));
                }
                self.last = Some((request, seen.clone(), made.clone()));
                made
            }
        };
        let taken = SystemTime::UNIX_EPOCH + Duration::from_micros(seen.captured_at);
        let age = SystemTime::now().duration_since(taken).unwrap_or_default();
        Ok(Shot {
            picture: made,
            captured_at: seen.captured_at,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// The newest good picture, waited for if there is none.
    fn see(&self, job: &Job, is_closed: impl Fn() -> bool) -> Result<Arc<Decoded>, (Code, String)> {
        let began = Instant::now();
        let deadline = job.deadline;
        let newest = self.feed.newest_picture();
        // Everything before it was decoded, or it, too.
        let reached = |state: &DecoderState, beyond: u64| {
            state.good.is_some() && newest.is_none_or(|newest| state.reached >= newest + beyond)
        };
        let until = |wait: Duration| (began + wait).min(deadline);
        let mut state = self.frames.look(until(PROMPT), |state| reached(state, 1));
        if !reached(&state, 0) {
            state = self.frames.look(until(CATCH_UP), |state| reached(state, 0));
        }
        let mut ask = began + ASK.0;
        loop {
            if let Some(good) = state.good {
                return Ok(good);
            }
            let now = Instant::now();
            if is_closed() {
                return Err(closed());
            }
            if now >= deadline {
                // Where the newest is not reached in time, one that is older is better than none; it says how old it is.
                return match state.old.take() {
                    Some(old) => Ok(old),
                    None => Err(self.missed(state)),
                };
            }
            if now >= ask {
                self.keyframes.ask();
                ask = now + ASK.1;
            }
            let until = deadline.min(ask).min(now + ASK.0);
            state = self.frames.look(until, |state| state.good.is_some());
        }
    }

    /// Why there is no picture.
    fn missed(&self, decoder: DecoderState) -> (Code, String) {
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
        if let Some(trouble) = decoder.trouble {
            return (
                Code::DecodeFailed,
                format!("{trouble}; the next keyframe may mend it"),
            );
        }
        if report.video.is_none() && report.audio.is_some() {
            return (Code::DecodeFailed, "this stream has sound only".into());
        }
        let text = format!(
            "no picture came in time (the stream is {}: {}); try again, or give it longer by `timeout` under [capture]",
            state.name(),
            report.reason
        );
        (Code::CaptureTimeout, text)
    }
}
