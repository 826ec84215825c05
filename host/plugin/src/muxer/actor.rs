//! The thread of a muxer: it follows a feed, calls the guest with each sample, and publishes the chunks to the outlet.
//!
//! One turn of the loop reads the inbox, opens an instance if there is none (`ensure_instance`), pushes new samples
//! (`follow`), answers joins and requests (`serve`), and then parks until the feed or the inbox wakes it. If a guest
//! call fails, the instance is dropped; after a backoff a new one gets the recent samples again (`replay`, output
//! discarded) and the viewers (`rejoin`), so viewers notice at most a gap. A panic of the host is treated like a failed
//! call.

mod exchange;
mod follow;
mod judge;
mod push;
mod record;
mod serve;
mod twin;

pub(super) use exchange::Prepared;

use super::{End, Muxer, Muxers, Refusal};
use crate::{
    Chunk, Failure, Instance, OpenError, Profile, recording::Recorder, transports::Transport,
};
use exchange::Swap;
use follow::{KeyframeRequest, Progress, Source};
use push::HeldLanes;
use serve::{Join, Viewer};
use sluicegate_stream::{Stream, StreamLease, Variant, WakeOn};
use sluicegate_telemetry::{Panicked, contain, panic_point};
use sluicegate_viewer::{MetricKey, REQUEST_CLIENT_TIMEOUT, SampleTime};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a join waits for a working instance.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that the thread parks, so that timeouts and idleness are noticed.
const MAX_PARK: Duration = Duration::from_millis(500);

/// State of a muxer's thread.
pub(super) struct Actor {
    muxer: Arc<Muxer>,
    muxers: Arc<Muxers>,
    stream: Arc<Stream>,
    variant: Variant,
    /// The transport with the component in use; see [`Actor::set_transport`].
    transport: Arc<Transport>,
    began: Instant,
    instance: Option<Instance>,
    profile: Option<Profile>,
    /// An exchange of the component that is in progress.
    swap: Option<Swap>,
    /// Number of the newest candidate that was prepared.
    preparations: u64,
    held: HeldLanes,
    /// Group of the newest sample that was pushed.
    pushed_group: Option<u64>,
    source: Option<Source>,
    progress: Progress,
    viewers: BTreeMap<u64, Viewer>,
    /// Viewers that were dropped and that the guest still knows.
    dropped: Vec<u64>,
    joins: Vec<Join>,
    keyframe: KeyframeRequest,
    /// A recording that waits for an instance.
    recorder: Option<Recorder>,
    /// End of the stream's feed when this muxer started, if the feed had no start point then; taken when a feed is
    /// chosen. The guest starts at the first start point after it, and so gets all of the first burst.
    waited_since: Option<u64>,
}

/// Payload of the event `plugin`: the [`Phase`](super::Phase) of a guest has changed.
#[derive(serde::Serialize)]
struct PhaseChanged<'a> {
    #[serde(flatten)]
    metric_key: &'a MetricKey,
    /// Component, as name@version.
    plugin: String,
    state: &'static str,
    reason: &'a str,
}

impl Drop for Actor {
    /// A panic that ends the thread: closes the outlet before the viewers' queues of effects go, so that viewers learn
    /// that the transport failed, not that it dropped them.
    fn drop(&mut self) {
        if thread::panicking() {
            self.muxer.outlet.close("the transport failed");
            self.end_swap();
        }
    }
}

impl Actor {
    pub(super) fn new(
        muxer: Arc<Muxer>,
        muxers: Arc<Muxers>,
        stream: Arc<Stream>,
        variant: Variant,
        transport: Arc<Transport>,
    ) -> Actor {
        Actor {
            muxer,
            muxers,
            stream,
            variant,
            transport,
            began: Instant::now(),
            instance: None,
            profile: None,
            swap: None,
            preparations: 0,
            held: HeldLanes::default(),
            pushed_group: None,
            source: None,
            progress: Progress::default(),
            viewers: BTreeMap::new(),
            dropped: Vec::new(),
            joins: Vec::new(),
            keyframe: KeyframeRequest::default(),
            recorder: None,
            waited_since: None,
        }
    }

    /// Runs until the muxer is idle or is told to end. A panic counts as a failure of the guest: the instance is
    /// replaced and samples are replayed. When the circuit breaker opens by a panic, the muxer ends, which closes its
    /// viewers.
    pub(super) fn run(mut self) {
        let mut lease = self.stream.enter();
        // Wakes this thread when the tracks of the source become known.
        let watch = lease.feed().reader(WakeOn::VideoOnly);
        let profile = &self.transport.profile;
        self.waited_since = watch.wait_and_retain(profile.group_ms, profile.history);
        let mut holds = self.waited_since.is_some();
        loop {
            let turned = contain(|| {
                panic_point("mux");
                self.turn(&mut lease)
            });
            match turned {
                Ok(true) => {}
                Ok(false) => return,
                Err(panicked) => {
                    if self.panicked(&panicked) {
                        self.finish(&format!("the host {panicked}"));
                        return self.muxers.remove(&self.muxer);
                    }
                    thread::park_timeout(self.park_duration(None, Instant::now()));
                }
            }
            if holds && self.waited_since.is_none() {
                // The reader in `source` retains the history from here on.
                watch.release_history();
                holds = false;
            }
        }
    }

    /// One turn: handles what is pending, then parks if nothing is left. Returns false when the muxer has ended.
    fn turn(&mut self, lease: &mut StreamLease) -> bool {
        if let Some(end) = self.read_inbox() {
            match end {
                End::Finished(reason) => self.finish(&reason),
                End::Replaced(reason) => self.close(reason),
            }
            self.muxers.remove(&self.muxer);
            return false;
        }
        let now = Instant::now();
        self.ensure_instance(now);
        self.begin_recording();
        let more = self.follow(lease);
        self.serve();
        self.tell_dropped();
        self.review_swap(now);
        self.expire(now);
        let held = self.instance.as_ref().map_or(0, Instance::held);
        self.muxer.held.store(held, Ordering::Relaxed);
        self.request_keyframe(lease, now);
        if let Some(since) = self.muxers.retire(&self.muxer, self.idle()) {
            lease.unused_since(since);
            self.finish("nobody is watching");
            return false;
        }
        if !more && self.muxer.lock().messages.is_empty() {
            let repeat = self.fill_silence(now);
            thread::park_timeout(self.park_duration(repeat, now));
        }
        true
    }

    /// Handles a panic of the host's side, perhaps in the middle of a guest call: drops the instance and skips the
    /// sample that was being pushed. Returns true if this opened the circuit breaker.
    fn panicked(&mut self, panicked: &Panicked) -> bool {
        let reason = format!("the host {panicked}");
        if self.fall_back(&reason) {
            if let Some(source) = &mut self.source {
                source.pushed(false);
            }
            return false;
        }
        self.refuse(reason);
        self.instance = None;
        self.dropped.clear();
        if let Some(source) = &mut self.source {
            source.pushed(false);
            source.release_history();
        }
        self.muxer.requests.changed();
        self.record_failure(format!("the host {panicked}"), "(host)")
    }

    /// How long the muxer runs after its last user has left. Clients that only send requests (HLS) are absent between
    /// two requests, so for them [`REQUEST_CLIENT_TIMEOUT`] is added.
    fn idle(&self) -> Duration {
        match self.transport.profile.lanes.is_empty() {
            true => self.stream.idle() + REQUEST_CLIENT_TIMEOUT,
            false => self.stream.idle(),
        }
    }

    /// Opens an instance if there is none and the backoff has passed, and brings it to the state of the previous one.
    fn ensure_instance(&mut self, now: Instant) {
        if self.instance.is_none() {
            self.take_over_lost();
        }
        if self.instance.is_some() || self.muxer.health.retry_at().is_some_and(|at| now < at) {
            return;
        }
        let opened = Instance::open(
            &self.transport.plugin,
            &self.muxer.stream,
            &self.transport.options,
            self.muxer.usage.clone(),
        );
        let (instance, profile) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Failed(failure)) => return self.fail(&failure),
            Err(error @ (OpenError::Refused { .. } | OpenError::Profile { .. })) => {
                self.record_failure(error.to_string(), "open");
                return;
            }
        };
        if self.profile.as_ref() != Some(&profile) {
            self.muxer.outlet.set_lanes(profile.lanes.clone());
            // `open` may answer otherwise than before, and the component may need another feed.
            let continues = |used: &Profile| profile.can_follow(used);
            if !self.profile.as_ref().is_some_and(continues) {
                self.source = None;
                self.progress = Progress::default();
            }
            self.profile = Some(profile);
        }
        self.instance = Some(instance);
        if self.replay() && self.rejoin() && self.muxer.health.recovered() {
            self.publish_phase();
        }
    }

    /// Says which component is in use from now on, to this thread and to others; returns the one before.
    fn set_transport(&mut self, transport: Arc<Transport>) -> Arc<Transport> {
        *self.muxer.used.lock() = transport.clone();
        std::mem::replace(&mut self.transport, transport)
    }

    /// Calls the guest, as [`Actor::try_guest`], and carries out what it requests for viewers.
    fn call_guest<R>(
        &mut self,
        call: impl FnOnce(&mut Instance) -> Result<R, Failure>,
    ) -> Option<R> {
        let answer = self.try_guest(call)?;
        if let Some(instance) = &mut self.instance {
            let requests = instance.take_requests();
            self.apply(requests);
        }
        Some(answer)
    }

    /// Calls the guest. On failure drops the instance, logs once and returns `None`. What the guest requests for
    /// viewers is not carried out.
    fn try_guest<R>(
        &mut self,
        call: impl FnOnce(&mut Instance) -> Result<R, Failure>,
    ) -> Option<R> {
        match call(self.instance.as_mut()?) {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.fail(&failure);
                None
            }
        }
    }

    fn fail(&mut self, failure: &Failure) {
        if self.fall_back(&failure.to_string()) {
            return;
        }
        self.instance = None;
        self.dropped.clear();
        if let Some(source) = &self.source {
            source.release_history();
        }
        self.muxer.requests.changed();
        self.record_failure(failure.to_string(), failure.call);
    }

    /// Records and logs a failure. Returns true if it opened the circuit breaker.
    fn record_failure(&self, reason: String, call: &str) -> bool {
        let broken = self.muxer.health.failed(Instant::now(), reason.clone());
        let outcome = if broken {
            "circuit breaker open, next attempt in 30 s"
        } else {
            "a new instance takes over"
        };
        tracing::error!(
            stream = self.muxer.stream,
            transport = self.transport.name,
            plugin = %self.transport.plugin,
            call,
            "{reason}; {outcome}"
        );
        self.publish_phase();
        broken
    }

    /// Publishes the guest's phase as an event.
    fn publish_phase(&self) {
        let phase = self.muxer.health.phase();
        let (state, reason) = phase.name_and_reason();
        let changed = PhaseChanged {
            metric_key: &self.muxer.metric_key,
            plugin: self.transport.plugin.to_string(),
            state,
            reason,
        };
        let stream = Some(self.muxer.metric_key.stream.as_str());
        self.muxers.events.publish("plugin", stream, &changed);
    }

    /// Ends the muxer after the guest's last chunks and answers.
    fn finish(&mut self, reason: &str) {
        if let Some(chunks) = self.call_guest(|instance| instance.stop(reason, true)) {
            self.publish(chunks, None);
            // Pending requests get the guest's final answers, such as a playlist with its end marker.
            self.muxer.requests.changed();
            self.serve_requests();
        }
        self.close(reason);
    }

    /// Ends the muxer: viewers get the chunks that are in the outlet, pending requests and joins are refused.
    fn close(&mut self, reason: &str) {
        self.muxer.outlet.close(reason);
        let text = format!("the transport was stopped: {reason}; try again");
        let stopped = Refusal::Unavailable(text);
        self.muxer.requests.close(&stopped);
        let waiting = self.muxer.lock().close();
        for message in waiting {
            message.discard(&stopped);
        }
        self.refuse_joins(&stopped);
        self.end_swap();
    }

    /// Publishes chunks that were made from `sample`.
    fn publish(&self, chunks: Vec<Chunk>, sample: Option<SampleTime>) {
        let (outlet, at) = (&self.muxer.outlet, self.began.elapsed());
        if chunks.iter().all(|chunk| chunk.time.is_none()) {
            return outlet.publish(chunks.into_iter().map(Chunk::into_parts), at, sample);
        }
        for chunk in chunks {
            let sample = chunk.time.or(sample);
            outlet.publish([chunk.into_parts()], at, sample);
        }
    }

    fn park_duration(&self, repeat: Option<Instant>, now: Instant) -> Duration {
        let next = match self.instance {
            Some(_) => repeat,
            None => self.muxer.health.retry_at(),
        };
        next.map_or(MAX_PARK, |at| {
            at.saturating_duration_since(now).min(MAX_PARK)
        })
    }
}
