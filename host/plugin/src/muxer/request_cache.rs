//! Where requests are put and answers lie, so that the guest is asked once however many ask, and its thread woken once.

use super::{Refusal, Reply};
use crate::Response;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Path and query.
pub(super) type Url = (String, String);
type Outcome = Result<Reply, Refusal>;

/// Requests that may wait for an answer, and the bytes of the path and query of each.
const MAX_WAITING: usize = 4096;
pub(super) const MAX_URL_LEN: usize = 4096;
/// Answers kept until something changes, and URLs that nobody waits for any more and that were answered "later"; and bytes of those
/// answers. What does not fit is asked for again.
const MAX_ANSWERS: usize = 256;
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Of answers that last for ever, the newest: who plays live asks for the same ones at about the same time.
const MAX_LASTING: usize = 64;
const MAX_LASTING_BYTES: usize = 16 << 20;

/// Between those who ask, whatever thread they are on, and the muxer's thread.
#[derive(Debug)]
pub(super) struct RequestCache {
    /// A request may wait this long.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until something changes.
    answers: BTreeMap<Url, Reply>,
    answer_bytes: usize,
    /// By whichever instance; the newest last.
    lasting: VecDeque<(Url, Arc<Response>)>,
    lasting_bytes: usize,
    /// Those of an answered URL wait for the next change.
    waiting: BTreeMap<Url, Vec<Request>>,
    /// How many there are in `waiting`.
    count: usize,
    /// What of that the guest is to be asked.
    unasked: Vec<Url>,
    closed: Option<Refusal>,
}

#[derive(Debug)]
struct Request {
    reply: oneshot::Sender<Outcome>,
    deadline: Instant,
}

/// What who asks is given at once.
#[derive(Debug)]
pub(super) enum AskOutcome {
    /// The answer.
    Answered(Outcome),
    /// One that is to come; the muxer's thread is to be woken, if the guest has yet to be asked.
    Waits {
        answer: oneshot::Receiver<Outcome>,
        wake: bool,
    },
}

impl RequestCache {
    /// For requests that may wait so long.
    pub(super) fn new(patience: Duration) -> RequestCache {
        RequestCache {
            patience,
            state: Mutex::default(),
        }
    }

    pub(super) fn ask(&self, path: &str, query: &str, now: Instant) -> AskOutcome {
        let mut state = self.lock();
        if let Some(refusal) = &state.closed {
            return AskOutcome::Answered(Err(refusal.clone()));
        }
        if path.len() + query.len() > MAX_URL_LEN {
            return AskOutcome::Answered(Err(Refusal::TooLong));
        }
        let of = |(url, _): &&(Url, Arc<Response>)| url.0 == path && url.1 == query;
        if let Some((_, response)) = state.lasting.iter().rev().find(of) {
            return AskOutcome::Answered(Ok(Reply::Done(response.clone())));
        }
        let url = (path.to_owned(), query.to_owned());
        if let Some(reply) = state.answers.get(&url) {
            return AskOutcome::Answered(Ok(reply.clone()));
        }
        if state.count >= MAX_WAITING {
            let text = "too many requests wait here for what is to come; try again";
            return AskOutcome::Answered(Err(Refusal::Unavailable(text.to_owned())));
        }
        let (reply, answer) = oneshot::channel();
        let request = Request {
            reply,
            deadline: now + self.patience,
        };
        state.count += 1;
        let wake = match state.waiting.get_mut(&url) {
            Some(others) => {
                others.push(request);
                false
            }
            None => {
                state.unasked.push(url.clone());
                state.waiting.insert(url, vec![request]);
                true
            }
        };
        AskOutcome::Waits { answer, wake }
    }

    /// What the guest is to be asked, once.
    pub(super) fn unasked(&self) -> Vec<Url> {
        std::mem::take(&mut self.lock().unasked)
    }

    /// The answer for all who ask for this until something changes, or, where it lasts, for ever.
    pub(super) fn answer(&self, url: Url, reply: &Reply) {
        let mut state = self.lock();
        let waiting = state.take(&url);
        match reply {
            Reply::Done(response) if response.max_age == Response::FOREVER => {
                state.keep(url, response);
            }
            _ => {
                let bytes = state.answer_bytes + reply.bytes();
                if state.answers.len() < MAX_ANSWERS && bytes <= MAX_ANSWER_BYTES {
                    state.answer_bytes = bytes;
                    state.answers.insert(url, reply.clone());
                }
            }
        }
        drop(state);
        tell(waiting, || Ok(reply.clone()));
    }

    /// There is none for those who wait for this.
    pub(super) fn refuse(&self, url: &Url, refusal: &Refusal) {
        let mut state = self.lock();
        state.unasked.retain(|unasked| unasked != url);
        let waiting = state.take(url);
        drop(state);
        tell(waiting, || Err(refusal.clone()));
    }

    /// There is none for anybody who waits.
    pub(super) fn refuse_all(&self, refusal: &Refusal) {
        let mut state = self.lock();
        state.unasked.clear();
        state.count = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        tell(waiting.into_values().flatten(), || Err(refusal.clone()));
    }

    /// There is none for anybody any more.
    pub(super) fn close(&self, refusal: &Refusal) {
        self.lock().closed = Some(refusal.clone());
        self.refuse_all(refusal);
    }

    /// Something changed: the guest is to be asked anew.
    pub(super) fn changed(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.answers.clear();
        state.answer_bytes = 0;
        state.waiting.retain(|_, waiting| !waiting.is_empty());
        state.unasked = state.waiting.keys().cloned().collect();
    }

    /// Lets go who has left, and who has waited too long, for this reason.
    pub(super) fn expire(&self, now: Instant, refusal: impl Fn() -> Refusal) {
        let mut late = Vec::new();
        let mut state = self.lock();
        let state = &mut *state;
        let mut count = 0;
        for waiting in state.waiting.values_mut() {
            waiting.retain(|request| !request.reply.is_closed());
            late.extend(waiting.extract_if(.., |request| now >= request.deadline));
            count += waiting.len();
        }
        state.count = count;
        if state.waiting.len() > MAX_ANSWERS {
            state.waiting.retain(|_, waiting| !waiting.is_empty());
            let waiting = &state.waiting;
            state.unasked.retain(|url| waiting.contains_key(url));
        }
        tell(late, || Err(refusal()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, url: &Url) -> Vec<Request> {
        let waiting = self.waiting.remove(url).unwrap_or_default();
        self.count -= waiting.len();
        waiting
    }

    fn keep(&mut self, url: Url, response: &Arc<Response>) {
        self.lasting_bytes += response.bytes();
        self.lasting.push_back((url, response.clone()));
        while self.lasting.len() > MAX_LASTING || self.lasting_bytes > MAX_LASTING_BYTES {
            let Some((_, oldest)) = self.lasting.pop_front() else {
                break;
            };
            self.lasting_bytes -= oldest.bytes();
        }
    }
}

fn tell(waiting: impl IntoIterator<Item = Request>, outcome: impl Fn() -> Outcome) {
    for request in waiting {
        // Who has left needs none.
        let _ = request.reply.send(outcome());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use bytes::Bytes;

    const PATIENCE: Duration = Duration::from_secs(10);

    struct Rig {
        requests: RequestCache,
        now: Instant,
    }

    impl Rig {
        fn new() -> Rig {
            Rig {
                requests: RequestCache::new(PATIENCE),
                now: Instant::now(),
            }
        }

        fn ask(&self, name: &str) -> AskOutcome {
            self.requests.ask(name, "", self.now)
        }

        /// Asks for what is not there.
        fn wait(&self, name: &str) -> (oneshot::Receiver<Outcome>, bool) {
            match self.ask(name) {
                AskOutcome::Waits { answer, wake } => (answer, wake),
                AskOutcome::Answered(outcome) => panic!("{outcome:?}"),
            }
        }

        fn is_answered(&self, name: &str) -> bool {
            match self.ask(name) {
                AskOutcome::Answered(outcome) => outcome.is_ok(),
                AskOutcome::Waits { .. } => false,
            }
        }

        fn answer(&self, name: &str, max_age: u32, size: usize) {
            self.requests.answer(url(name), &reply(max_age, size));
        }

        fn unasked(&self) -> Vec<String> {
            let unasked = self.requests.unasked().into_iter();
            unasked.map(|(path, _)| path).collect()
        }
    }

    fn url(name: &str) -> Url {
        (name.to_owned(), String::new())
    }

    fn reply(max_age: u32, size: usize) -> Reply {
        let body = Bytes::from(vec![0; size]).into();
        Reply::Done(Arc::new(Response::new(200, String::new(), max_age, body)))
    }

    fn gone() -> Refusal {
        Refusal::Unavailable("gone".into())
    }

    fn text(outcome: Outcome) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn the_guest_is_asked_once_for_all_who_ask() {
        let rig = Rig::new();
        let (mut first, wakes) = rig.wait("a");
        assert!(wakes);
        assert_eq!(rig.unasked(), ["a"]);
        // It said "later".
        let (mut second, wakes) = rig.wait("a");
        assert!(!wakes && rig.unasked().is_empty());
        rig.requests.changed();
        assert_eq!(rig.unasked(), ["a"]);
        rig.answer("a", 0, 10);
        for answer in [&mut first, &mut second] {
            assert!(answer.try_recv().unwrap().is_ok());
        }
        assert!(rig.is_answered("a"));
        rig.requests.changed();
        assert!(rig.unasked().is_empty() && !rig.is_answered("a"));
    }

    #[test]
    fn what_lasts_is_kept_within_its_bounds() {
        let rig = Rig::new();
        let held = || {
            let state = rig.requests.lock();
            (state.lasting.len(), state.lasting_bytes)
        };
        for name in 1..=MAX_LASTING + 1 {
            rig.answer(&name.to_string(), Response::FOREVER, 10);
        }
        rig.requests.changed();
        assert!(!rig.is_answered("1") && rig.is_answered("2") && rig.is_answered("65"));
        assert!(matches!(
            rig.requests.ask("2", "other", rig.now),
            AskOutcome::Waits { .. }
        ));
        rig.answer("1", Response::FOREVER, MAX_LASTING_BYTES - 10);
        assert_eq!(held(), (2, MAX_LASTING_BYTES));
        rig.answer("5", Response::FOREVER, MAX_LASTING_BYTES + 1);
        assert_eq!(held(), (0, 0));
    }

    #[test]
    fn what_is_kept_until_the_next_sample_is_bounded_in_bytes() {
        let rig = Rig::new();
        let size = MAX_ANSWER_BYTES / 4;
        for name in 1..=5 {
            rig.answer(&name.to_string(), 0, size);
        }
        assert!(rig.is_answered("4") && !rig.is_answered("5"));
        assert_eq!(rig.requests.lock().answer_bytes, MAX_ANSWER_BYTES);
        rig.requests.changed();
        rig.answer("6", 0, MAX_ANSWER_BYTES + 1);
        assert!(!rig.is_answered("6") && rig.requests.lock().answer_bytes == 0);
        rig.answer("7", 0, size);
        assert!(rig.is_answered("7"));
    }

    #[test]
    fn who_left_is_forgotten_and_the_guest_is_asked_no_more_for_that() {
        let rig = Rig::new();
        drop(rig.wait("a"));
        assert_eq!(rig.unasked(), ["a"]);
        rig.requests.expire(rig.now, gone);
        assert_eq!(rig.requests.lock().count, 0);
        assert!(!rig.wait("a").1, "until something changes");
        rig.requests.expire(rig.now, gone);
        rig.requests.changed();
        assert!(rig.unasked().is_empty() && rig.wait("a").1);
        // However many URLs somebody makes up.
        for name in 0..=MAX_ANSWERS {
            drop(rig.wait(&name.to_string()));
        }
        rig.requests.expire(rig.now, gone);
        assert!(rig.requests.lock().waiting.is_empty());
    }

    #[test]
    fn who_waits_too_long_or_for_nothing_is_told() {
        let mut rig = Rig::new();
        let (mut early, _) = rig.wait("a");
        rig.now += PATIENCE;
        let (mut late, _) = rig.wait("b");
        rig.requests.expire(rig.now, gone);
        assert_eq!(text(early.try_recv().unwrap()), "gone");
        assert!(late.try_recv().is_err());
        rig.requests.refuse(&url("b"), &gone());
        assert_eq!(text(late.try_recv().unwrap()), "gone");
        let (mut last, _) = rig.wait("c");
        rig.requests.close(&gone());
        assert_eq!(text(last.try_recv().unwrap()), "gone");
        assert!(!rig.is_answered("c") && rig.unasked().is_empty());
    }

    #[test]
    fn only_so_many_wait() {
        let rig = Rig::new();
        match rig.ask(&"x".repeat(MAX_URL_LEN + 1)) {
            AskOutcome::Answered(outcome) => {
                assert!(text(outcome).contains("more than 4096 bytes"))
            }
            AskOutcome::Waits { .. } => panic!("it is too long to be kept"),
        }
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| rig.wait("a")).collect();
        match rig.ask("b") {
            AskOutcome::Answered(outcome) => assert!(text(outcome).contains("too many")),
            AskOutcome::Waits { .. } => panic!("one too many"),
        }
        drop(waiting);
        rig.requests.expire(rig.now, gone);
        assert!(rig.wait("b").1);
    }
}
