//! Who waits for an answer: joins, requests, and what viewers send.

use super::{Actor, PATIENCE, answers::Url};
use crate::plugin::{
    Answer, Effect, Response,
    muxer::{JoinRequest, Message, Phase, Refusal, Reply},
};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for an answer.
const MOST_PENDING: usize = 4096;
/// Longest that one waits, however long groups are.
const MOST_PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Viewer {
    request: JoinRequest,
    effects: mpsc::Sender<Effect>,
    /// The guest failed on its join when it was rebuilt: the viewer goes on, the guest hears no more of it.
    unheard: bool,
}

pub(super) struct Request {
    pub(super) reply: oneshot::Sender<Result<Reply, Refusal>>,
    deadline: Instant,
}

pub(super) struct Join {
    viewer: u64,
    request: JoinRequest,
    effects: mpsc::Sender<Effect>,
    pub(super) reply: oneshot::Sender<Result<Vec<Effect>, Refusal>>,
    deadline: Instant,
}

impl Actor {
    /// Sorts new messages; gives the reason if the muxer is to end.
    pub(super) fn read_inbox(&mut self) -> Option<String> {
        let messages = std::mem::take(&mut *self.muxer.lock());
        let now = Instant::now();
        for message in messages {
            match message {
                Message::End(reason) => return Some(reason),
                Message::Request { path, query, reply } => {
                    let deadline = now + self.request_patience();
                    let waiting = self.requests.entry((path, query)).or_default();
                    waiting.push(Request { reply, deadline });
                }
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
                    if self
                        .viewers
                        .remove(&viewer)
                        .is_some_and(|known| !known.unheard)
                    {
                        self.ask(|instance| instance.leave(viewer));
                    }
                }
                Message::FromViewer { viewer, data } => {
                    if let Some(effects) = self.ask(|instance| instance.message(viewer, data)) {
                        self.apply(viewer, effects);
                    }
                }
            }
        }
        None
    }

    /// Answers who is waiting, as far as the guest can.
    pub(super) fn serve(&mut self, now: Instant) {
        self.serve_joins();
        self.serve_requests(now);
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

    /// Answers each URL once for all who ask for it.
    pub(super) fn serve_requests(&mut self, now: Instant) {
        let mut pending = 0;
        for (url, mut waiting) in std::mem::take(&mut self.requests) {
            waiting.retain(|request| !request.reply.is_closed());
            if waiting.is_empty() {
                continue;
            }
            // It is being repaired, perhaps since another's request just now.
            if self.instance.is_none() {
                self.requests.insert(url, waiting);
                continue;
            }
            let answer = match self.answer(&url) {
                Some(Answer::Done(response)) => Ok(Reply::Done(response)),
                Some(Answer::Follow(content_type)) => Ok(Reply::Follow(content_type)),
                Some(Answer::Pending) => {
                    let text = "what was asked for did not come in time; try again";
                    let late = waiting.extract_if(.., |request| {
                        pending += 1;
                        pending > MOST_PENDING || now >= request.deadline
                    });
                    for request in late {
                        let refusal = Refusal::Unavailable(text.to_owned());
                        let _ = request.reply.send(Err(refusal));
                    }
                    self.requests.insert(url, waiting);
                    continue;
                }
                None => Err(self.unwell()),
            };
            for request in waiting {
                let _ = request.reply.send(answer.clone());
            }
        }
    }

    /// How long a request may be answered "later": three target durations, where groups are segments
    /// (draft-pantos-hls-rfc8216bis 6.2.5.2), and these up to twice as long as wished for.
    fn request_patience(&self) -> Duration {
        let group = Duration::from_millis(self.transport.profile.group_ms.into());
        PATIENCE.max(group * 6).min(MOST_PATIENCE)
    }

    /// The guest's answer, asked once per URL between two samples.
    fn answer(&mut self, url: &Url) -> Option<Answer> {
        if let Some(answer) = self.answers.get(url) {
            return Some(answer);
        }
        // Since it was asked for.
        if let Some(response) = self.muxer.lasting.get(&url.0, &url.1) {
            return Some(Answer::Done(response));
        }
        let answer = self.ask(|instance| instance.request(&url.0, &url.1))?;
        match &answer {
            Answer::Done(response) if response.max_age == Response::FOREVER => {
                self.muxer.lasting.keep(url, response);
            }
            _ => self.answers.keep(url, &answer),
        }
        Some(answer)
    }

    pub(super) fn forget_answers(&mut self) {
        self.answers.forget();
    }

    /// Lets go who waited too long, or for what will not come.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.instance.is_some() {
            return;
        }
        let broken = matches!(self.muxer.health.phase(), Phase::Broken(_));
        let unwell = self.unwell();
        for waiting in self.requests.values_mut() {
            let late = waiting.extract_if(.., |request| broken || now >= request.deadline);
            for request in late {
                let _ = request.reply.send(Err(unwell.clone()));
            }
        }
        for join in self
            .joins
            .extract_if(.., |join| broken || now >= join.deadline)
        {
            let _ = join.reply.send(Err(unwell.clone()));
        }
    }

    /// Lets go who waits.
    pub(super) fn refuse_waiting(&mut self, refusal: &impl Fn() -> Refusal) {
        for request in std::mem::take(&mut self.requests).into_values().flatten() {
            let _ = request.reply.send(Err(refusal()));
        }
        for join in self.joins.drain(..) {
            let _ = join.reply.send(Err(refusal()));
        }
    }

    pub(super) fn refuse_all(&mut self, refusal: impl Fn() -> Refusal) {
        self.refuse_waiting(&refusal);
        for (_, viewer) in std::mem::take(&mut self.viewers) {
            let _ = viewer
                .effects
                .try_send(Effect::Close(refusal().to_string()));
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
            .any(|effect| known.effects.try_send(effect).is_err())
        {
            self.viewers.remove(&viewer);
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
