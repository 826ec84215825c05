//! The client side of a muxer's thread: joins, requests, messages of viewers, and what to answer while there is no
//! instance.
//!
//! Joins and requests wait while the guest is being repaired, until their timeout, and fail at once if the circuit
//! breaker is open. Viewers stay connected during a repair; a new instance gets their joins again.

use super::{Actor, End, JOIN_TIMEOUT, Source, exchange::Then};
use crate::{
    Answer, Effect, JoinRequest, Requests,
    muxer::{Message, Phase, Refusal, Reply, effects},
};
use std::{sync::Arc, time::Instant};
use tokio::sync::oneshot;

pub(super) struct Viewer {
    request: Arc<JoinRequest>,
    effects: effects::Sender,
    /// A new instance failed on this viewer's join. The viewer keeps getting chunks, but the guest gets no more calls
    /// for it.
    detached: bool,
}

pub(super) struct Join {
    viewer: u64,
    request: Arc<JoinRequest>,
    effects: effects::Sender,
    pub(super) reply: oneshot::Sender<Result<(), Refusal>>,
    deadline: Instant,
}

impl Actor {
    /// Handles new messages; returns the reason if the muxer is told to end.
    pub(super) fn read_inbox(&mut self) -> Option<End> {
        let now = Instant::now();
        // One at a time: a panic must not lose those that follow. Those that come meanwhile have to wait.
        let waiting = self.muxer.lock().messages.len();
        for _ in 0..waiting {
            let message = self.muxer.lock().pop()?;
            match message {
                Message::End(end) => return Some(end),
                Message::Try { transport, verdict } => {
                    self.prepare(transport, Then::Compare(verdict));
                }
                Message::Prepared(prepared) => self.prepared(*prepared),
                Message::SwitchTo { transport, keep } => self.switch_to(transport, keep),
                Message::Abandon(transport) => self.abandon(&transport),
                Message::Record(recorder) => self.record(recorder),
                Message::Join {
                    viewer,
                    request,
                    effects,
                    reply,
                } => {
                    self.joins.push(Join {
                        viewer,
                        request,
                        effects,
                        reply,
                        deadline: now + JOIN_TIMEOUT,
                    });
                }
                Message::Leave { viewer } => {
                    self.joins.retain(|join| join.viewer != viewer);
                    self.remove_viewer(viewer);
                }
                Message::FromViewer { viewer, data } => {
                    let known = self.viewers.get(&viewer);
                    if known.is_none_or(|known| known.detached) {
                        continue;
                    }
                    self.call_guest(|instance| instance.received(viewer, data));
                }
            }
        }
        None
    }

    /// Answers joins and requests, if there is an instance.
    pub(super) fn serve(&mut self) {
        self.serve_joins();
        self.serve_requests();
    }

    fn serve_joins(&mut self) {
        for join in std::mem::take(&mut self.joins) {
            if self.instance.is_none() {
                self.joins.push(join);
                continue;
            }
            let carriers = self
                .profile
                .as_ref()
                .map(|profile| profile.carriers.clone())
                .unwrap_or_default();
            if !carriers.contains(&join.request.carrier) {
                let names: Vec<&str> = carriers.iter().map(|carrier| carrier.name()).collect();
                let _ = join.reply.send(Err(Refusal::Carrier(format!(
                    "transport `{}` is not available over {}, only over {}",
                    self.transport.name,
                    join.request.carrier.name(),
                    names.join(" or ")
                ))));
                continue;
            }
            // Known before the call, which may request something for it.
            let known = Viewer {
                request: join.request.clone(),
                effects: join.effects,
                detached: false,
            };
            self.viewers.insert(join.viewer, known);
            let result = self.call_guest(|instance| instance.join(join.viewer, &join.request));
            let result = match result {
                // A component that was on probation failed, and its predecessor has taken over.
                None if self.instance.is_some() => {
                    self.call_guest(|instance| instance.join(join.viewer, &join.request))
                }
                result => result,
            };
            let answer = match result {
                Some(Ok(())) => {
                    self.mirror_join(join.viewer, &join.request);
                    Ok(())
                }
                Some(Err(refusal)) => {
                    if let Some(instance) = &mut self.instance {
                        instance.forget(join.viewer);
                    }
                    Err(Refusal::Rejected(refusal))
                }
                None => Err(self.repairing()),
            };
            if answer.is_err() {
                self.viewers.remove(&join.viewer);
                self.dropped.retain(|dropped| *dropped != join.viewer);
            }
            let _ = join.reply.send(answer);
        }
    }

    /// Calls the guest for requests that it has not seen since the last change.
    pub(super) fn serve_requests(&mut self) {
        if self.instance.is_none() || self.is_behind() {
            return;
        }
        for url in self.muxer.requests.take_unsent() {
            let answer = self.call_guest(|instance| instance.request(&url.0, &url.1));
            if let Some(answer) = &answer {
                self.compare_answer(&url.0, &url.1, answer);
            }
            let reply = match answer {
                Some(Answer::Done(response)) => Reply::Done(response),
                Some(Answer::Follow(content_type)) => Reply::Follow(content_type),
                Some(Answer::Pending) => continue,
                // The predecessor has taken over, and is asked everything again.
                None if self.instance.is_some() => return self.serve_requests(),
                None => {
                    self.muxer.requests.refuse(&url, &self.repairing());
                    // The other requests wait for the new instance.
                    return;
                }
            };
            self.muxer.requests.answer(url, &reply);
        }
    }

    /// Whether answers would be outdated. A transport without lanes, which only answers requests, is called once it has
    /// all samples.
    pub(super) fn is_behind(&self) -> bool {
        let has_no_lanes = self.transport.profile.lanes.is_empty();
        has_no_lanes && self.source.as_ref().is_some_and(Source::is_behind)
    }

    /// Fails joins and requests that have waited too long, or all of them if the circuit breaker is open.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.instance.is_some() {
            return self.muxer.requests.expire(now, || {
                let text = "the transport did not respond in time; try again";
                Refusal::Unavailable(text.to_owned())
            });
        }
        let broken = matches!(self.muxer.health.phase(), Phase::Broken(_));
        let repairing = self.repairing();
        match broken {
            true => self.muxer.requests.refuse_all(&repairing),
            false => self.muxer.requests.expire(now, || repairing.clone()),
        }
        for join in self
            .joins
            .extract_if(.., |join| broken || now >= join.deadline)
        {
            let _ = join.reply.send(Err(repairing.clone()));
        }
    }

    pub(super) fn refuse_joins(&mut self, refusal: &Refusal) {
        for join in self.joins.drain(..) {
            let _ = join.reply.send(Err(refusal.clone()));
        }
    }

    /// Fails all joins and requests, and closes all viewers.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        self.muxer.requests.refuse_all(refusal);
        self.refuse_joins(refusal);
        for (viewer, known) in std::mem::take(&mut self.viewers) {
            known.effects.send(Effect::Close(refusal.to_string()));
            self.left(viewer, &known);
        }
    }

    pub(super) fn repairing(&self) -> Refusal {
        let reason = match self.muxer.health.phase() {
            Phase::Running => "it failed".to_owned(),
            Phase::BackingOff(reason) | Phase::Broken(reason) => reason,
        };
        Refusal::Unavailable(format!("the transport is restarting; try again. {reason}"))
    }

    /// Joins the connected viewers to a new instance. What it requests for them is discarded: the viewers have their
    /// messages, lanes and stream heads from the previous one. Returns false if the instance failed.
    pub(super) fn rejoin(&mut self) -> bool {
        for (viewer, request) in self.known_viewers() {
            let joined = self.try_guest(|instance| instance.join(viewer, &request));
            if joined.is_none() {
                // If a predecessor has taken over again, that knows the viewer.
                if self.instance.is_none()
                    && let Some(known) = self.viewers.get_mut(&viewer)
                {
                    known.detached = true;
                }
                return false;
            }
        }
        true
    }

    /// The connected viewers that the guest knows, as they joined.
    pub(super) fn known_viewers(&self) -> Vec<(u64, Arc<JoinRequest>)> {
        self.viewers
            .iter()
            .filter(|(_, known)| !known.detached)
            .map(|(viewer, known)| (*viewer, known.request.clone()))
            .collect()
    }

    /// Carries out what the guest requested in a call. A viewer whose queue is full is dropped, which closes it; the
    /// guest is told later, as that is a call itself.
    pub(super) fn apply(&mut self, requests: Requests) {
        self.keyframe.wanted |= requests.keyframe;
        for (viewer, effect) in requests.effects {
            let full = |known: &Viewer| !known.effects.send(effect);
            if self.viewers.get(&viewer).is_some_and(full)
                && let Some(known) = self.viewers.remove(&viewer)
                && !known.detached
            {
                self.dropped.push(viewer);
            }
        }
    }

    /// Tells the guest which viewers were dropped because they did not keep up.
    pub(super) fn tell_dropped(&mut self) {
        while let Some(viewer) = self.dropped.pop() {
            self.leave(viewer);
        }
    }

    /// Removes a viewer that has left. Its later messages are ignored.
    fn remove_viewer(&mut self, viewer: u64) {
        if let Some(known) = self.viewers.remove(&viewer) {
            self.left(viewer, &known);
        }
    }

    /// Tells the guest that the viewer has left, if the guest knows it.
    fn left(&mut self, viewer: u64, known: &Viewer) {
        if !known.detached {
            self.leave(viewer);
        }
    }

    fn leave(&mut self, viewer: u64) {
        self.mirror_leave(viewer);
        self.call_guest(|instance| instance.leave(viewer));
    }
}
