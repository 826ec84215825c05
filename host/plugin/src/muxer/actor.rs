//! The thread of a muxer: follows a feed, asks the guest, fills the outlet, and repairs the guest when it breaks.

mod follow;
mod serve;

use super::{Message, Muxer, Muxers, Refusal};
use crate::{Chunk, Failure, Instance, OpenError, Profile, transports::Transport};
use follow::{KeyframeWish, Reached, Source};
use serve::{Join, Viewer};
use sluicegate_stream::{Stream, StreamLease, Variant, WakeOn};
use sluicegate_telemetry::{Panicked, contain, provoke};
use sluicegate_viewer::{MetricKey, STAYS};
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a client that joins waits for a guest that is not up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often an otherwise idle muxer looks at its clock.
const LOOK: Duration = Duration::from_millis(500);

/// The state of a muxer's thread.
pub(super) struct Actor {
    muxer: Arc<Muxer>,
    muxers: Arc<Muxers>,
    stream: Arc<Stream>,
    variant: Variant,
    transport: Arc<Transport>,
    began: Instant,
    instance: Option<Instance>,
    profile: Option<Profile>,
    source: Option<Source>,
    reached: Reached,
    viewers: BTreeMap<u64, Viewer>,
    joins: Vec<Join>,
    keyframe: KeyframeWish,
    /// Where the stream's feed ended when this muxer came, if it had no start point then and none was taken since.
    waited_since: Option<u64>,
}

/// The event `plugin`: a guest failed, rests or works again.
#[derive(serde::Serialize)]
struct Changed<'a> {
    #[serde(flatten)]
    way: &'a MetricKey,
    /// name@version.
    plugin: String,
    state: &'static str,
    reason: &'a str,
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
            source: None,
            reached: Reached::default(),
            viewers: BTreeMap::new(),
            joins: Vec::new(),
            keyframe: KeyframeWish::default(),
            waited_since: None,
        }
    }

    /// Works until the muxer is idle or told to end. A panic counts as a failure of the guest: it is made anew and fed again, and
    /// where that is of no use the muxer ends, so that its viewers learn of it.
    pub(super) fn run(mut self) {
        let mut lease = self.stream.enter();
        // Wakes this thread when the source's tracks become known.
        let watch = lease.feed().reader(WakeOn::VideoOnly);
        let profile = &self.transport.profile;
        self.waited_since = watch.wait_and_hold(profile.group_ms, profile.history);
        let mut holds = self.waited_since.is_some();
        loop {
            let turned = contain(|| {
                provoke("mux");
                self.turn(&mut lease)
            });
            match turned {
                Ok(true) => {}
                Ok(false) => return,
                Err(panicked) => {
                    if self.panicked(&panicked) {
                        self.end(&format!("the host {panicked}"));
                        return self.muxers.remove(&self.muxer);
                    }
                    thread::park_timeout(self.next_look(None, Instant::now()));
                }
            }
            if holds && self.waited_since.is_none() {
                // The source's own reader holds it now.
                watch.rest();
                holds = false;
            }
        }
    }

    /// Does what there is to do and waits for more; false at the end.
    fn turn(&mut self, lease: &mut StreamLease) -> bool {
        if let Some(reason) = self.read_inbox() {
            self.end(&reason);
            self.muxers.remove(&self.muxer);
            return false;
        }
        let now = Instant::now();
        self.bring_up(now);
        let more = self.follow(lease);
        self.serve();
        self.expire(now);
        let held = self.instance.as_ref().map_or(0, Instance::held);
        self.muxer.held.store(held, Ordering::Relaxed);
        self.ask_for_keyframe(lease, now);
        if let Some(since) = self.muxers.retire(&self.muxer, self.idle()) {
            lease.unused_since(since);
            self.end("nobody is watching");
            return false;
        }
        if !more && self.muxer.lock().messages.is_empty() {
            let repeat = self.fill_silence(now);
            thread::park_timeout(self.next_look(repeat, now));
        }
        true
    }

    /// The host's side failed, perhaps halfway through a call of the guest. Says whether that was too often.
    fn panicked(&mut self, panicked: &Panicked) -> bool {
        self.instance = None;
        if let Some(source) = &mut self.source {
            source.leave_out_pushed();
            source.rest();
        }
        self.muxer.requests.changed();
        self.unfit(format!("the host {panicked}"), "(host)")
    }

    /// How long it stays behind its last user. Who only asks now and then is there between two requests, too.
    fn idle(&self) -> Duration {
        match self.transport.profile.lanes.is_empty() {
            true => self.stream.idle() + STAYS,
            false => self.stream.idle(),
        }
    }

    /// Makes an instance if there is none and one may be made, and brings it to where the last one was.
    fn bring_up(&mut self, now: Instant) {
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
            Err(error @ OpenError::Refused { .. }) => {
                self.unfit(error.to_string(), "open");
                return;
            }
        };
        if self.profile.as_ref() != Some(&profile) {
            self.muxer.outlet.set_lanes(profile.lanes.clone());
            // Another plugin may want another feed.
            self.source = None;
            self.reached = Reached::default();
            self.profile = Some(profile);
        }
        self.instance = Some(instance);
        if self.replay() && self.rejoin() && self.muxer.health.recovered() {
            self.tell();
        }
    }

    /// Calls the guest; a failure ends the instance, is logged once, and gives `None`.
    fn ask<R>(&mut self, call: impl FnOnce(&mut Instance) -> Result<R, Failure>) -> Option<R> {
        match call(self.instance.as_mut()?) {
            Ok(answer) => Some(answer),
            Err(failure) => {
                self.fail(&failure);
                None
            }
        }
    }

    fn fail(&mut self, failure: &Failure) {
        self.instance = None;
        if let Some(source) = &self.source {
            source.rest();
        }
        self.muxer.requests.changed();
        self.unfit(failure.to_string(), failure.call);
    }

    /// There is no working instance, for this reason. Says whether that was too often.
    fn unfit(&self, reason: String, call: &str) -> bool {
        let broken = self.muxer.health.failed(Instant::now(), reason.clone());
        let outcome = if broken {
            "that was too often, the transport rests on this stream"
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
        self.tell();
        broken
    }

    /// Tells how the guest is doing.
    fn tell(&self) {
        let phase = self.muxer.health.phase();
        let (state, reason) = phase.name_and_reason();
        let changed = Changed {
            way: &self.muxer.way,
            plugin: self.transport.plugin.to_string(),
            state,
            reason,
        };
        self.muxers.events.publish("plugin", &changed);
    }

    fn end(&mut self, reason: &str) {
        if let Some(chunks) = self.ask(|instance| instance.stop(reason, true)) {
            let at = self.began.elapsed();
            self.muxer
                .outlet
                .publish(chunks.into_iter().map(Chunk::into_parts), at, None);
            // Who waits for the next picture is told that there is none.
            self.muxer.requests.changed();
            self.serve_requests();
        }
        self.muxer.outlet.close(reason);
        let text = format!("the transport was stopped: {reason}; try again");
        let stopped = Refusal::Unavailable(text);
        self.muxer.requests.close(&stopped);
        for message in self.muxer.lock().close() {
            if let Message::Join { reply, .. } = message {
                let _ = reply.send(Err(stopped.clone()));
            }
        }
        self.refuse_joins(&stopped);
    }

    fn next_look(&self, repeat: Option<Instant>, now: Instant) -> Duration {
        let next = match self.instance {
            Some(_) => repeat,
            None => self.muxer.health.retry_at(),
        };
        next.map_or(LOOK, |at| at.saturating_duration_since(now).min(LOOK))
    }
}
