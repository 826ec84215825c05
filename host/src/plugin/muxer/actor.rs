//! The thread of a muxer: follows a feed, asks the guest, fills the outlet, and repairs the guest when it breaks.

use super::{Ground, JoinRequest, Message, Muxer, Muxers, Phase, Refusal, Reply};
use crate::{
    media::sample::Format,
    plugin::{Answer, Effect, Failure, Instance, OpenError, Profile, transports::Transport},
    stream::{Entry, Feed, Info, Made, Next, Reader, Stream, Variant},
    viewer::{Content, Header, Way},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};

/// How long a request may be answered "later", and a client may wait for a guest that is not up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that may wait for an answer, and answers kept until the next sample.
const MOST_PENDING: usize = 1024;
const MOST_ANSWERS: usize = 256;
/// Samples taken before requests are looked at again.
const BATCH: usize = 64;
/// A viewer waits this long for a start point before a keyframe is asked for; from one request to the next.
const KEYFRAME_WAIT: Duration = Duration::from_millis(100);
const KEYFRAME_PAUSE: Duration = Duration::from_secs(1);
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
    viewers: BTreeMap<u64, Viewer>,
    requests: Vec<Request>,
    joins: Vec<Join>,
    /// Of this stretch between two samples, by path and query.
    answers: BTreeMap<(String, String), Answer>,
    keyframe: KeyframeWish,
}

/// The event `plugin`: a guest failed, rests or works again.
#[derive(serde::Serialize)]
struct Changed<'a> {
    #[serde(flatten)]
    way: &'a Way,
    /// name@version.
    plugin: String,
    state: &'static str,
    reason: &'a str,
}

/// The feed that fits the transport, and the place in it.
struct Source {
    reader: Reader,
    format: Format,
    /// The next entry that viewers have not seen the outcome of.
    position: u64,
    /// The tracks at `position`.
    info: Option<Arc<Info>>,
    /// Samples are passed over until an independent one.
    wants_start: bool,
    /// Samples on which the guest failed.
    left_out: BTreeSet<u64>,
    /// Keeps what is made for it coming.
    made: Option<Arc<Made>>,
}

/// That whoever encodes makes a keyframe.
#[derive(Default)]
struct KeyframeWish {
    wanted: bool,
    /// Since when a viewer has been waiting for a start point.
    waited_since: Option<Instant>,
    asked: Option<Instant>,
}

struct Viewer {
    request: JoinRequest,
    effects: mpsc::Sender<Effect>,
    /// The guest failed on its join when it was rebuilt: the viewer goes on, the guest hears no more of it.
    unheard: bool,
}

struct Request {
    path: String,
    query: String,
    reply: oneshot::Sender<Result<Reply, Refusal>>,
    deadline: Instant,
}

struct Join {
    viewer: u64,
    request: JoinRequest,
    effects: mpsc::Sender<Effect>,
    reply: oneshot::Sender<Result<Vec<Effect>, Refusal>>,
    deadline: Instant,
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
            viewers: BTreeMap::new(),
            requests: Vec::new(),
            joins: Vec::new(),
            answers: BTreeMap::new(),
            keyframe: KeyframeWish::default(),
        }
    }

    /// Works until the muxer is idle or told to end.
    pub(super) fn run(mut self) {
        let mut ground = Ground {
            user: self.stream.enter(),
        };
        // Wakes this thread when the source's tracks become known.
        let watch = ground.user.feed().reader();
        loop {
            if let Some(reason) = self.read_inbox() {
                self.end(&reason);
                self.muxers.remove(&self.muxer);
                return;
            }
            let now = Instant::now();
            self.bring_up(now);
            let more = self.follow(&ground);
            self.serve(now);
            self.expire(now);
            self.ask_for_keyframe(&ground, now);
            if let Some(since) = self.muxers.retire(&self.muxer, self.stream.idle()) {
                ground.user.unused_since(since);
                self.end("nobody is watching");
                drop(watch);
                return;
            }
            if !more && self.muxer.lock().is_empty() {
                thread::park_timeout(self.next_look(now));
            }
        }
    }

    /// Sorts new messages; gives the reason if the muxer is to end.
    fn read_inbox(&mut self) -> Option<String> {
        let messages = std::mem::take(&mut *self.muxer.lock());
        let deadline = Instant::now() + PATIENCE;
        for message in messages {
            match message {
                Message::End(reason) => return Some(reason),
                Message::Request { path, query, reply } => {
                    self.requests.push(Request {
                        path,
                        query,
                        reply,
                        deadline,
                    });
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
                        deadline,
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
            Err(error @ OpenError::Refused { .. }) => return self.unfit(error.to_string(), "open"),
        };
        if self.profile.as_ref() != Some(&profile) {
            self.muxer.outlet.set_lanes(profile.lanes.clone());
            // Another plugin may want another feed.
            self.source = None;
            self.profile = Some(profile);
        }
        self.instance = Some(instance);
        if self.replay() && self.rejoin() && self.muxer.health.recovered() {
            self.tell();
        }
    }

    /// Feeds a new instance what the old one knew; what it gives out was given out before.
    fn replay(&mut self) -> bool {
        let (Some(source), Some(profile)) = (&self.source, &self.profile) else {
            return true;
        };
        let (end, group_ms) = (source.position, profile.group_ms);
        let (mut position, mut info) = source.reader.start(group_ms, profile.history);
        if position >= end {
            (position, info) = (end, source.info.clone());
        }
        // The header counts once, at the end: who watches has got those in between.
        let mut header = None;
        if let Some(info) = info {
            header = self.configure(&info);
            if header.is_none() {
                return false;
            }
        }
        while position < end {
            let Some(source) = &self.source else {
                return true;
            };
            let worked = match source.reader.next(position, group_ms) {
                Next::Entry(Entry::Sample(_), _) if source.left_out.contains(&position) => true,
                Next::Entry(Entry::Sample(sample), group) => {
                    let pushed = self.ask(|instance| instance.push(&sample, group)).is_some();
                    if !pushed && let Some(source) = &mut self.source {
                        source.left_out.insert(position);
                    }
                    pushed
                }
                Next::Entry(Entry::Configure(info), _) => {
                    header = self.configure(&info);
                    header.is_some()
                }
                Next::Entry(Entry::Stop(reason), _) => {
                    self.ask(|instance| instance.stop(&reason, false)).is_some()
                }
                Next::Wait | Next::Lost(..) => break,
            };
            if !worked {
                return false;
            }
            position += 1;
        }
        if let Some(header) = header {
            self.muxer.outlet.set_header(header);
        }
        true
    }

    /// Tells a new instance of the viewers that are there; they have their sends and lanes already.
    fn rejoin(&mut self) -> bool {
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

    /// Pushes what is new; says whether there is more.
    fn follow(&mut self, ground: &Ground) -> bool {
        if self.instance.is_none() || !self.choose_source(ground) {
            return false;
        }
        let group_ms = self.profile.as_ref().map_or(0, |profile| profile.group_ms);
        for _ in 0..BATCH {
            let Some(source) = &mut self.source else {
                return true;
            };
            let position = source.position;
            let chunks = match source.reader.next(position, group_ms) {
                Next::Wait => return false,
                Next::Lost(on, info) => {
                    self.muxer.usage.overruns.fetch_add(1, Ordering::Relaxed);
                    source.position = on;
                    source.wants_start = true;
                    source.info = info.clone();
                    if info.is_some_and(|info| !self.announce(&info)) {
                        return false;
                    }
                    continue;
                }
                Next::Entry(Entry::Configure(info), _) => {
                    source.position += 1;
                    source.info = Some(info.clone());
                    if info.track.codec != source.format.codec() {
                        // Found again by `choose_source`.
                        self.source = None;
                        return true;
                    }
                    if !self.announce(&info) {
                        return false;
                    }
                    continue;
                }
                Next::Entry(Entry::Stop(reason), _) => {
                    source.position += 1;
                    self.ask(|instance| instance.stop(&reason, false))
                }
                Next::Entry(Entry::Sample(sample), group) => {
                    source.position += 1;
                    if source.wants_start && !sample.independent {
                        continue;
                    }
                    source.wants_start = false;
                    let pushed = self.ask(|instance| instance.push(&sample, group));
                    if pushed.is_none()
                        && let Some(source) = &mut self.source
                    {
                        source.left_out.insert(position);
                        source
                            .left_out
                            .retain(|left_out| left_out + (1 << 16) > position);
                    }
                    pushed
                }
            };
            self.forget_answers();
            let Some(chunks) = chunks else { return false };
            let at = self.began.elapsed();
            self.muxer.outlet.publish(
                chunks
                    .into_iter()
                    .map(|chunk| (chunk.content, chunk.lane, chunk.independent)),
                at,
            );
        }
        true
    }

    /// Finds the feed whose format the transport takes. False while the source's tracks are unknown or do not fit.
    fn choose_source(&mut self, ground: &Ground) -> bool {
        if self.source.is_some() {
            return true;
        }
        let (Some(profile), Some(info)) = (&self.profile, ground.user.feed().info()) else {
            return false;
        };
        let profile = profile.clone();
        let codec = info.track.codec;
        let chosen = self.stream.choose(&self.variant, codec, &profile.formats);
        let Some((format, recipe)) = chosen else {
            let (stream, transport) = (&self.muxer.stream, &self.transport.name);
            let text =
                format!("transport `{transport}` takes nothing that `{stream}` can be made into");
            self.refuse_all(|| Refusal::Format(text.clone()));
            return false;
        };
        let made = match recipe.map(|recipe| ground.user.make(recipe)).transpose() {
            Ok(made) => made,
            Err(error) => {
                self.refuse_all(|| Refusal::Unavailable(error.to_string()));
                return false;
            }
        };
        let feed = made.as_ref().map_or(ground.user.feed(), |made| made.feed());
        self.attach(&feed.clone(), format, made, &profile)
    }

    fn attach(
        &mut self,
        feed: &Arc<Feed>,
        format: Format,
        made: Option<Arc<Made>>,
        profile: &Profile,
    ) -> bool {
        let reader = feed.reader();
        let (position, info) = reader.start(profile.group_ms, profile.history);
        self.source = Some(Source {
            reader,
            format,
            position,
            info: info.clone(),
            wants_start: true,
            left_out: BTreeSet::new(),
            made,
        });
        info.is_none_or(|info| self.announce(&info))
    }

    /// Asks whoever encodes, if somebody waits for it and the last request was not just before.
    fn ask_for_keyframe(&mut self, ground: &Ground, now: Instant) {
        let Some(source) = &self.source else { return };
        let wish = &mut self.keyframe;
        // What has not begun begins with one.
        if source.reader.end() == 0 || !self.muxer.outlet.start_wanted() {
            wish.waited_since = None;
        } else if now >= *wish.waited_since.get_or_insert(now) + KEYFRAME_WAIT {
            wish.wanted = true;
        }
        if !wish.wanted || wish.asked.is_some_and(|asked| now < asked + KEYFRAME_PAUSE) {
            return;
        }
        match &source.made {
            Some(made) => made.keyframes().ask(),
            None => ground.user.keyframes().ask(),
        }
        (wish.wanted, wish.asked) = (false, Some(now));
    }

    /// Tells the guest of the tracks, and the viewers of the header that follows from them.
    fn announce(&mut self, info: &Info) -> bool {
        let header = self.configure(info);
        let known = header.is_some();
        if let Some(header) = header {
            self.muxer.outlet.set_header(header);
        }
        known
    }

    fn configure(&mut self, info: &Info) -> Option<Header> {
        let format = self.source.as_ref().map(|source| source.format)?;
        self.forget_answers();
        self.ask(|instance| instance.configure(info, format))
            .map(Header::new)
    }

    /// Answers who is waiting, as far as the guest can.
    fn serve(&mut self, now: Instant) {
        if self.instance.is_none() {
            return;
        }
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
        for request in std::mem::take(&mut self.requests) {
            if request.reply.is_closed() {
                continue;
            }
            match self.answer(&request.path, &request.query) {
                Some(Answer::Done(response)) => {
                    let _ = request.reply.send(Ok(Reply::Done(Arc::new(response))));
                }
                Some(Answer::Follow(content_type)) => {
                    let _ = request.reply.send(Ok(Reply::Follow(content_type)));
                }
                Some(Answer::Pending)
                    if self.requests.len() < MOST_PENDING && now < request.deadline =>
                {
                    self.requests.push(request);
                }
                Some(Answer::Pending) => {
                    let text = "what was asked for did not come in time; try again".to_owned();
                    let _ = request.reply.send(Err(Refusal::Unavailable(text)));
                }
                None => {
                    let _ = request.reply.send(Err(self.unwell()));
                }
            }
        }
    }

    /// The guest's answer, asked once per URL between two samples.
    fn answer(&mut self, path: &str, query: &str) -> Option<Answer> {
        let key = (path.to_owned(), query.to_owned());
        if let Some(answer) = self.answers.get(&key) {
            return Some(answer.clone());
        }
        let answer = self.ask(|instance| instance.request(path, query))?;
        if self.answers.len() < MOST_ANSWERS {
            self.answers.insert(key, answer.clone());
        }
        Some(answer)
    }

    fn forget_answers(&mut self) {
        self.answers
            .retain(|_, answer| matches!(answer, Answer::Done(response) if response.immutable));
    }

    /// Lets go who waited too long, or for what will not come.
    fn expire(&mut self, now: Instant) {
        if self.instance.is_some() {
            return;
        }
        let broken = matches!(self.muxer.health.phase(), Phase::Broken(_));
        let unwell = self.unwell();
        for request in self
            .requests
            .extract_if(.., |request| broken || now >= request.deadline)
        {
            let _ = request.reply.send(Err(unwell.clone()));
        }
        for join in self
            .joins
            .extract_if(.., |join| broken || now >= join.deadline)
        {
            let _ = join.reply.send(Err(unwell.clone()));
        }
    }

    fn refuse_all(&mut self, refusal: impl Fn() -> Refusal) {
        for request in self.requests.drain(..) {
            let _ = request.reply.send(Err(refusal()));
        }
        for join in self.joins.drain(..) {
            let _ = join.reply.send(Err(refusal()));
        }
        for (_, viewer) in std::mem::take(&mut self.viewers) {
            let _ = viewer
                .effects
                .try_send(Effect::Close(refusal().to_string()));
        }
    }

    fn unwell(&self) -> Refusal {
        let reason = match self.muxer.health.phase() {
            Phase::Running => "it failed".to_owned(),
            Phase::BackingOff(reason) | Phase::Broken(reason) => reason,
        };
        Refusal::Unavailable(format!(
            "the transport is being repaired; try again. {reason}"
        ))
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
        self.answers.clear();
        self.unfit(failure.to_string(), failure.call);
    }

    /// There is no working instance, for this reason.
    fn unfit(&self, reason: String, call: &str) {
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

    fn apply(&mut self, viewer: u64, mut effects: Vec<Effect>) {
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
    fn keep_keyframes(&mut self, effects: &mut Vec<Effect>) {
        effects.retain(|effect| {
            let keyframe = matches!(effect, Effect::Keyframe);
            self.keyframe.wanted |= keyframe;
            !keyframe
        });
    }

    fn end(&mut self, reason: &str) {
        if let Some(chunks) = self.ask(|instance| instance.stop(reason, true)) {
            let at = self.began.elapsed();
            self.muxer.outlet.publish(
                chunks
                    .into_iter()
                    .map(|chunk| (chunk.content, chunk.lane, chunk.independent)),
                at,
            );
        }
        self.muxer.outlet.close(reason);
        let stopped =
            || Refusal::Unavailable(format!("the transport was stopped: {reason}; try again"));
        for message in std::mem::take(&mut *self.muxer.lock()) {
            match message {
                Message::Request { reply, .. } => drop(reply.send(Err(stopped()))),
                Message::Join { reply, .. } => drop(reply.send(Err(stopped()))),
                Message::FromViewer {
                    data: Content::Binary(_) | Content::Text(_),
                    ..
                }
                | Message::Leave { .. }
                | Message::End(_) => {}
            }
        }
        self.requests
            .drain(..)
            .for_each(|request| drop(request.reply.send(Err(stopped()))));
        self.joins
            .drain(..)
            .for_each(|join| drop(join.reply.send(Err(stopped()))));
    }

    fn next_look(&self, now: Instant) -> Duration {
        match (self.instance.is_none(), self.muxer.health.retry_at()) {
            (true, Some(at)) => at.saturating_duration_since(now).min(LOOK),
            _ => LOOK,
        }
    }
}
