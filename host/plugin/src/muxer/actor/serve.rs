//! Who waits for an answer: joins, requests, and what viewers send.

use super::{Actor, PATIENCE, Source};
use crate::{
    Answer, Effect,
    muxer::{JoinRequest, Message, Phase, Refusal, Reply, effects},
};
use std::time::Instant;
use tokio::sync::oneshot;

pub(super) struct Viewer {
    request: JoinRequest,
    effects: effects::Sender,
    /// The guest failed on its join when it was rebuilt: the viewer goes on, the guest hears no more of it.
    unheard: bool,
}

pub(super) struct Join {
    viewer: u64,
    request: JoinRequest,
    effects: effects::Sender,
    pub(super) reply: oneshot::Sender<Result<Vec<Effect>, Refusal>>,
    deadline: Instant,
}

impl Actor {
    /// Sorts new messages; gives the reason if the muxer is to end.
    pub(super) fn read_inbox(&mut self) -> Option<String> {
        let messages = self.muxer.lock().take();
        let now = Instant::now();
        for message in messages {
            match message {
                Message::End(reason) => return Some(reason),
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
                        deadline: now + PATIENCE,
                    });
                }
                Message::Leave { viewer } => {
                    self.joins.retain(|join| join.viewer != viewer);
                    self.let_go(viewer);
                }
                Message::FromViewer { viewer, data } => {
                    let known = self.viewers.get(&viewer);
                    if known.is_none_or(|known| known.unheard) {
                        continue;
                    }
                    if let Some(effects) = self.ask(|instance| instance.message(viewer, data)) {
                        self.apply(viewer, effects);
                    }
                }
            }
        }
        None
    }

    /// Answers who is waiting, as far as the guest can.
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
                    "transport `{}` does not go over {}, only over {}",
                    self.transport.name,
                    join.request.carrier.name(),
                    names.join(" or ")
                ))));
                continue;
            }
            let request = &join.request;
            let asked = self.ask(|instance| {
                instance.join(join.viewer, request.carrier, &request.path, &request.query)
            });
            let answer = match asked {
                Some(Ok(mut effects)) => {
                    self.keep_keyframes(&mut effects);
                    self.viewers.insert(
                        join.viewer,
                        Viewer {
                            request: join.request,
                            effects: join.effects,
                            unheard: false,
                        },
                    );
                    Ok(effects)
                }
                Some(Err(refusal)) => Err(Refusal::Rejected(refusal)),
                None => Err(self.unwell()),
            };
            let _ = join.reply.send(answer);
        }
    }

    /// Asks the guest what it has not been asked since something changed.
    pub(super) fn serve_requests(&mut self) {
        if self.instance.is_none() || self.is_behind() {
            return;
        }
        for url in self.muxer.requests.unasked() {
            let reply = match self.ask(|instance| instance.request(&url.0, &url.1)) {
                Some(Answer::Done(response)) => Reply::Done(response),
                Some(Answer::Follow(content_type)) => Reply::Follow(content_type),
                Some(Answer::Pending) => continue,
                None => {
                    self.muxer.requests.refuse(&url, &self.unwell());
                    // It is being repaired; the rest waits for that.
                    return;
                }
            };
            self.muxer.requests.answer(url, &reply);
        }
    }

    /// Whether answers would be of the past: who answers requests only is asked when it has got everything that there is.
    fn is_behind(&self) -> bool {
        let asked_only = self.transport.profile.lanes.is_empty();
        asked_only && self.source.as_ref().is_some_and(Source::is_behind)
    }

    /// Lets go who waited too long, or for what will not come.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.instance.is_some() {
            return self.muxer.requests.expire(now, || {
                let text = "what was asked for did not come in time; try again";
                Refusal::Unavailable(text.to_owned())
            });
        }
        let broken = matches!(self.muxer.health.phase(), Phase::Broken(_));
        let unwell = self.unwell();
        match broken {
            true => self.muxer.requests.refuse_all(&unwell),
            false => self.muxer.requests.expire(now, || unwell.clone()),
        }
        for join in self
            .joins
            .extract_if(.., |join| broken || now >= join.deadline)
        {
            let _ = join.reply.send(Err(unwell.clone()));
        }
    }

    pub(super) fn refuse_joins(&mut self, refusal: &Refusal) {
        for join in self.joins.drain(..) {
            let _ = join.reply.send(Err(refusal.clone()));
        }
    }

    /// Lets go who waits and who watches.
    pub(super) fn refuse_all(&mut self, refusal: &Refusal) {
        self.muxer.requests.refuse_all(refusal);
        self.refuse_joins(refusal);
        for (viewer, known) in std::mem::take(&mut self.viewers) {
            known.effects.send(Effect::Close(refusal.to_string()));
            self.left(viewer, &known);
        }
    }

    pub(super) fn unwell(&self) -> Refusal {
        let reason = match self.muxer.health.phase() {
            Phase::Running => "it failed".to_owned(),
            Phase::BackingOff(reason) | Phase::Broken(reason) => reason,
        };
        Refusal::Unavailable(format!(
            "the transport is being repaired; try again. {reason}"
        ))
    }

    /// Tells a new instance of the viewers that are there; they have their sends and lanes already.
    pub(super) fn rejoin(&mut self) -> bool {
        let known: Vec<(u64, JoinRequest)> = self
            .viewers
            .iter()
            .filter(|(_, known)| !known.unheard)
            .map(|(viewer, known)| (*viewer, known.request.clone()))
            .collect();
        for (viewer, request) in known {
            let joined = self.ask(|instance| {
                instance.join(viewer, request.carrier, &request.path, &request.query)
            });
            if joined.is_none() {
                if let Some(known) = self.viewers.get_mut(&viewer) {
                    known.unheard = true;
                }
                return false;
            }
        }
        true
    }

    pub(super) fn apply(&mut self, viewer: u64, mut effects: Vec<Effect>) {
        self.keep_keyframes(&mut effects);
        let Some(known) = self.viewers.get(&viewer) else {
            return;
        };
        // A full queue drops the sender, which closes the viewer.
        if effects
            .into_iter()
            .any(|effect| !known.effects.send(effect))
        {
            self.let_go(viewer);
        }
    }

    /// Forgets a viewer, whoever of the two left the other; without its sender it is closed. What it says from here on is not
    /// heard any more.
    fn let_go(&mut self, viewer: u64) {
        if let Some(known) = self.viewers.remove(&viewer) {
            self.left(viewer, &known);
        }
    }

    /// Tells the guest, if it knows of the viewer.
    fn left(&mut self, viewer: u64, known: &Viewer) {
        if !known.unheard {
            self.ask(|instance| instance.leave(viewer));
        }
    }

    /// Takes out the wish for a keyframe, which is no viewer's to fulfil.
    pub(super) fn keep_keyframes(&mut self, effects: &mut Vec<Effect>) {
        effects.retain(|effect| {
            let keyframe = matches!(effect, Effect::Keyframe);
            self.keyframe.wanted |= keyframe;
            !keyframe
        });
    }
}
