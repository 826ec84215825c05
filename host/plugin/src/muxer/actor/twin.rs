//! Two instances of a muxer during an exchange of its component: the one in use, and its [`Twin`].
//!
//! The twin gets the calls by which a guest follows its stream, by [`Actor::mirror`], and a predecessor also those of
//! viewers that join and leave. Viewers join a candidate only when it takes over. Which output goes to viewers is
//! decided for each sample in [`Actor::push`]. What a twin is there for, and for how long, is up to `exchange`.

use super::{
    Actor,
    exchange::{Stage, Swap},
    follow::{Setting, Step, configure},
    judge::Judge,
};
use crate::{
    Answer, Chunk, Failure, Instance, JoinRequest, Profile, guest::thread_time,
    instance::MAX_LANES, muxer::Muxer, transports::Transport,
};
use sluicegate_telemetry::contain;
use sluicegate_viewer::{Content, Header};
use std::{sync::Arc, time::Duration};

/// A second instance beside the one in use.
pub(super) struct Twin {
    pub(super) transport: Arc<Transport>,
    instance: Instance,
    pub(super) profile: Profile,
    /// What its `configure` returned last.
    pub(super) header: Vec<Content>,
    /// Bytes that it has emitted in each lane.
    emitted: [u64; MAX_LANES],
}

impl Twin {
    /// Opens an instance of the transport's component.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn open(transport: &Arc<Transport>, muxer: &Muxer) -> Result<Twin, String> {
        let (plugin, options) = (&transport.plugin, &transport.options);
        let opened = Instance::open(plugin, &muxer.stream, options, muxer.usage.clone());
        let (instance, profile) = opened.map_err(|error| error.to_string())?;
        Ok(Twin {
            transport: transport.clone(),
            instance,
            profile,
            header: Vec::new(),
            emitted: [0; MAX_LANES],
        })
    }

    /// Makes a call. That it fails, and also that the host panics, concerns the twin alone, not the instance in use.
    fn call<R>(
        &mut self,
        call: impl FnOnce(&mut Instance) -> Result<R, Failure>,
    ) -> Result<R, String> {
        match contain(|| call(&mut self.instance)) {
            Ok(result) => result.map_err(|failure| failure.to_string()),
            Err(panicked) => Err(format!("the host {panicked}")),
        }
    }

    /// Makes one of the calls by which a guest follows its stream.
    ///
    /// # Errors
    /// Why it is given up.
    pub(super) fn take(
        &mut self,
        step: &Step,
        setting: Option<&Setting>,
    ) -> Result<Vec<Chunk>, String> {
        match step {
            Step::Configure(info) => {
                if let Some(setting) = setting {
                    self.header = self.call(|instance| configure(instance, info, setting))?;
                }
                Ok(Vec::new())
            }
            Step::Push(sample, group, _) => {
                let chunks = self.call(|instance| instance.push(sample, *group))?;
                for chunk in &chunks {
                    if let Some(emitted) = self.emitted.get_mut(usize::from(chunk.lane)) {
                        *emitted += chunk.content.len() as u64;
                    }
                }
                Ok(chunks)
            }
            Step::Stop(reason) => self.call(|instance| instance.stop(reason, false)),
        }
    }

    /// Whether viewers see something from one of these chunks on. Of several lanes, the one that carries most has the
    /// picture.
    pub(super) fn can_start(&self, chunks: &[Chunk]) -> bool {
        let lanes = 0..self.emitted.len();
        let main = lanes.rev().max_by_key(|lane| self.emitted.get(*lane));
        let is_start = |chunk: &Chunk| chunk.independent && Some(usize::from(chunk.lane)) == main;
        chunks.iter().any(is_start)
    }
}

impl Actor {
    /// Makes a call to the twin, too, if there is one. Returns what it emits and the processor time that it took.
    pub(super) fn mirror(&mut self, step: &Step) -> Option<(Vec<Chunk>, Duration)> {
        let setting = match step {
            Step::Configure(_) => self.setting(),
            _ => None,
        };
        let twin = match self.swap.as_mut()? {
            Swap::Preparing(preparation) => {
                if !preparation.backlog.add(step, setting) {
                    self.refuse("it does not catch up with the stream".into());
                }
                return None;
            }
            Swap::Beside { twin, .. } => twin,
        };
        let began = thread_time();
        match twin.take(step, setting.as_ref()) {
            Ok(chunks) => Some((chunks, thread_time().saturating_sub(began))),
            Err(reason) => {
                self.refuse(reason);
                None
            }
        }
    }

    /// Compares what both instances returned from `configure`, during a trial.
    pub(super) fn compare_headers(&mut self) {
        if let Some(Swap::Beside {
            twin,
            stage: Stage::Trial { judge, .. },
        }) = &self.swap
            && let Err(reason) = judge.compare_headers(&self.muxer.outlet.header(), &twin.header)
        {
            self.refuse(reason);
        }
    }

    /// Compares the answers of both instances to a request, during a trial.
    pub(super) fn compare_answer(&mut self, path: &str, query: &str, ours: &Answer) {
        let Some(Swap::Beside {
            twin,
            stage: Stage::Trial { judge, .. },
        }) = &mut self.swap
        else {
            return;
        };
        let theirs = twin.call(|instance| instance.request(path, query));
        let compared = theirs.and_then(|theirs| judge.compare_answers(path, ours, &theirs));
        if let Err(reason) = compared {
            self.refuse(reason);
        }
    }

    /// Compares the answers to a request for the entry of a transport that only answers requests.
    pub(super) fn compare_entry(
        &mut self,
        twin: &mut Twin,
        judge: &mut Judge,
    ) -> Result<(), String> {
        let entry = self.transport.profile.entry.clone();
        let has_lanes = !self.transport.profile.lanes.is_empty();
        if has_lanes || twin.profile.entry != entry || self.is_behind() {
            return Ok(());
        }
        let Some(ours) = self.try_guest(|instance| instance.request(&entry, "")) else {
            return Ok(());
        };
        let theirs = twin.call(|instance| instance.request(&entry, ""))?;
        judge.compare_answers(&entry, &ours, &theirs)
    }

    /// Tells the predecessor that a viewer has joined.
    pub(super) fn mirror_join(&mut self, viewer: u64, request: &Arc<JoinRequest>) {
        self.call_predecessor(|instance| instance.join(viewer, request));
    }

    /// Tells the predecessor that a viewer has left.
    pub(super) fn mirror_leave(&mut self, viewer: u64) {
        self.call_predecessor(|instance| instance.leave(viewer));
    }

    /// Makes a call to the predecessor, if there is one that is ready.
    fn call_predecessor<R>(&mut self, call: impl FnOnce(&mut Instance) -> Result<R, Failure>) {
        if let Some(Swap::Beside {
            twin,
            stage: Stage::Watched { .. },
        }) = &mut self.swap
            && let Err(reason) = twin.call(call)
        {
            self.refuse(reason);
        }
    }

    /// Puts the twin into the place of the instance in use; returns that, if it works.
    pub(super) fn put_in_place(&mut self, twin: Twin) -> Option<Twin> {
        let Twin {
            transport,
            instance,
            profile,
            header,
            ..
        } = twin;
        let before = self.muxer.outlet.header();
        if self
            .profile
            .as_ref()
            .is_none_or(|used| used.lanes != profile.lanes)
        {
            self.muxer.outlet.set_lanes(profile.lanes.clone());
        }
        self.muxer.outlet.set_header(Header::new(header));
        self.muxer.requests.changed();
        if self.muxer.health.recovered() {
            self.publish_phase();
        }
        let transport = self.set_transport(transport);
        let profile = self.profile.replace(profile)?;
        let mut predecessor = self.instance.replace(instance)?;
        predecessor.end_recording("another component has taken over");
        Some(Twin {
            transport,
            instance: predecessor,
            profile,
            header: before,
            emitted: [0; MAX_LANES],
        })
    }
}
