//! Requests to a muxer and their answers: the guest is called once per URL however many clients request it, and its
//! thread is woken once.
//!
//! An answer is valid until the next change (a new sample, a new instance) or, if it is immutable, indefinitely within
//! a bounded cache. A request that the guest answers "pending" waits and is asked again after the next change. Clients
//! call `request` on any thread; the muxer's thread calls the rest.

use super::{Refusal, Reply};
use crate::Response;
use parking_lot::{Mutex, MutexGuard};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Path and query of a request.
pub(super) type Url = (String, String);
type Outcome = Result<Reply, Refusal>;

/// Requests that may wait for an answer at a time, and the longest path and query of each in bytes.
const MAX_WAITING: usize = 4096;
pub(super) const MAX_URL_LEN: usize = 4096;
/// Bounds of the answers that are valid until the next change, in number and bytes; also of the URLs that were answered
/// "pending" and that no client waits for any more. An answer that does not fit is requested from the guest again.
const MAX_ANSWERS: usize = 256;
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Bounds of the immutable answers, of which the newest are kept: players at the live edge request the same ones at
/// about the same time.
const MAX_IMMUTABLE: usize = 64;
const MAX_IMMUTABLE_BYTES: usize = 16 << 20;

/// Shared between clients on any thread and the muxer's thread.
#[derive(Debug)]
pub(super) struct RequestCache {
    /// Timeout of a request.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Answers that are valid until the next change.
    answers: BTreeMap<Url, Reply>,
    answer_bytes: usize,
    /// Immutable answers of any instance, the newest last.
    immutable: VecDeque<(Url, Arc<Response>)>,
    immutable_bytes: usize,
    /// Requests that wait, by URL. The URL stays, even without requests, if the guest has answered "pending".
    waiting: BTreeMap<Url, Vec<Request>>,
    /// Number of requests in `waiting`.
    count: usize,
    /// URLs in `waiting` that the guest has not been asked since the last change.
    unsent: Vec<Url>,
    closed: Option<Refusal>,
}

#[derive(Debug)]
struct Request {
    reply: oneshot::Sender<Outcome>,
    deadline: Instant,
}

/// Immediate outcome of [`RequestCache::request`].
#[derive(Debug)]
pub(super) enum RequestOutcome {
    /// The answer, from the cache, or an error.
    Answered(Outcome),
    /// A future answer. If `wake`, the caller must wake the muxer's thread.
    Waits {
        answer: oneshot::Receiver<Outcome>,
        wake: bool,
    },
}

impl RequestCache {
    /// An empty cache with this request timeout.
    pub(super) fn new(patience: Duration) -> RequestCache {
        RequestCache {
            patience,
            state: Mutex::default(),
        }
    }

    pub(super) fn request(&self, path: &str, query: &str, now: Instant) -> RequestOutcome {
        let mut state = self.lock();
        if let Some(refusal) = &state.closed {
            return RequestOutcome::Answered(Err(refusal.clone()));
        }
        if path.len() + query.len() > MAX_URL_LEN {
            return RequestOutcome::Answered(Err(Refusal::TooLong));
        }
        let of = |(url, _): &&(Url, Arc<Response>)| url.0 == path && url.1 == query;
        if let Some((_, response)) = state.immutable.iter().rev().find(of) {
            return RequestOutcome::Answered(Ok(Reply::Done(response.clone())));
        }
        let url = (path.to_owned(), query.to_owned());
        if let Some(reply) = state.answers.get(&url) {
            return RequestOutcome::Answered(Ok(reply.clone()));
        }
        if state.count >= MAX_WAITING {
            let text = "too many requests are waiting for this transport; try again";
            return RequestOutcome::Answered(Err(Refusal::Unavailable(text.to_owned())));
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
                state.unsent.push(url.clone());
                state.waiting.insert(url, vec![request]);
                true
            }
        };
        RequestOutcome::Waits { answer, wake }
    }

    /// Takes the URLs that the guest is to be asked.
    pub(super) fn take_unsent(&self) -> Vec<Url> {
        std::mem::take(&mut self.lock().unsent)
    }

    /// Answers all requests for `url`, and caches the answer until the next change or, if it is immutable,
    /// indefinitely.
    pub(super) fn answer(&self, url: Url, reply: &Reply) {
        let mut state = self.lock();
        let waiting = state.take(&url);
        match reply {
            Reply::Done(response) if response.max_age == Response::IMMUTABLE => {
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
        resolve(waiting, || Ok(reply.clone()));
    }

    /// Fails the pending requests for `url`.
    pub(super) fn refuse(&self, url: &Url, refusal: &Refusal) {
        let mut state = self.lock();
        state.unsent.retain(|unsent| unsent != url);
        let waiting = state.take(url);
        drop(state);
        resolve(waiting, || Err(refusal.clone()));
    }

    /// Fails all pending requests.
    pub(super) fn refuse_all(&self, refusal: &Refusal) {
        let mut state = self.lock();
        state.unsent.clear();
        state.count = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        resolve(waiting.into_values().flatten(), || Err(refusal.clone()));
    }

    /// Fails all pending and all later requests.
    pub(super) fn close(&self, refusal: &Refusal) {
        self.lock().closed = Some(refusal.clone());
        self.refuse_all(refusal);
    }

    /// Records a change: drops the answers that are not immutable, and asks the guest again for what is pending.
    pub(super) fn changed(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        state.answers.clear();
        state.answer_bytes = 0;
        state.waiting.retain(|_, waiting| !waiting.is_empty());
        state.unsent = state.waiting.keys().cloned().collect();
    }

    /// Forgets requests whose client has left, and fails those that have passed their deadline with `refusal`.
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
            state.unsent.retain(|url| waiting.contains_key(url));
        }
        resolve(late, || Err(refusal()));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn take(&mut self, url: &Url) -> Vec<Request> {
        let waiting = self.waiting.remove(url).unwrap_or_default();
        self.count -= waiting.len();
        waiting
    }

    fn keep(&mut self, url: Url, response: &Arc<Response>) {
        self.immutable_bytes += response.bytes();
        self.immutable.push_back((url, response.clone()));
        while self.immutable.len() > MAX_IMMUTABLE || self.immutable_bytes > MAX_IMMUTABLE_BYTES {
            let Some((_, oldest)) = self.immutable.pop_front() else {
                break;
            };
            self.immutable_bytes -= oldest.bytes();
        }
    }
}

fn resolve(waiting: impl IntoIterator<Item = Request>, outcome: impl Fn() -> Outcome) {
    for request in waiting {
        // An error means that the client has left.
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

        fn request(&self, name: &str) -> RequestOutcome {
            self.requests.request(name, "", self.now)
        }

        /// A request that is not in the cache.
        fn wait(&self, name: &str) -> (oneshot::Receiver<Outcome>, bool) {
            match self.request(name) {
                RequestOutcome::Waits { answer, wake } => (answer, wake),
                RequestOutcome::Answered(outcome) => panic!("{outcome:?}"),
            }
        }

        fn is_answered(&self, name: &str) -> bool {
            match self.request(name) {
                RequestOutcome::Answered(outcome) => outcome.is_ok(),
                RequestOutcome::Waits { .. } => false,
            }
        }

        fn answer(&self, name: &str, max_age: u32, size: usize) {
            self.requests.answer(url(name), &reply(max_age, size));
        }

        fn take_unsent(&self) -> Vec<String> {
            let unsent = self.requests.take_unsent().into_iter();
            unsent.map(|(path, _)| path).collect()
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
    fn the_guest_is_called_once_for_all_equal_requests() {
        let rig = Rig::new();
        let (mut first, wakes) = rig.wait("a");
        assert!(wakes);
        assert_eq!(rig.take_unsent(), ["a"]);
        // The guest answered "pending".
        let (mut second, wakes) = rig.wait("a");
        assert!(!wakes && rig.take_unsent().is_empty());
        rig.requests.changed();
        assert_eq!(rig.take_unsent(), ["a"]);
        rig.answer("a", 0, 10);
        for answer in [&mut first, &mut second] {
            assert!(answer.try_recv().unwrap().is_ok());
        }
        assert!(rig.is_answered("a"));
        rig.requests.changed();
        assert!(rig.take_unsent().is_empty() && !rig.is_answered("a"));
    }

    #[test]
    fn immutable_responses_are_kept_within_their_bounds() {
        let rig = Rig::new();
        let held = || {
            let state = rig.requests.lock();
            (state.immutable.len(), state.immutable_bytes)
        };
        for name in 1..=MAX_IMMUTABLE + 1 {
            rig.answer(&name.to_string(), Response::IMMUTABLE, 10);
        }
        rig.requests.changed();
        assert!(!rig.is_answered("1") && rig.is_answered("2") && rig.is_answered("65"));
        assert!(matches!(
            rig.requests.request("2", "other", rig.now),
            RequestOutcome::Waits { .. }
        ));
        rig.answer("1", Response::IMMUTABLE, MAX_IMMUTABLE_BYTES - 10);
        assert_eq!(held(), (2, MAX_IMMUTABLE_BYTES));
        rig.answer("5", Response::IMMUTABLE, MAX_IMMUTABLE_BYTES + 1);
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
    fn a_request_whose_client_left_is_dropped_and_not_sent_to_the_guest() {
        let rig = Rig::new();
        drop(rig.wait("a"));
        assert_eq!(rig.take_unsent(), ["a"]);
        rig.requests.expire(rig.now, gone);
        assert_eq!(rig.requests.lock().count, 0);
        assert!(!rig.wait("a").1, "until something changes");
        rig.requests.expire(rig.now, gone);
        rig.requests.changed();
        assert!(rig.take_unsent().is_empty() && rig.wait("a").1);
        // The URLs are bounded even if a client makes up many.
        for name in 0..=MAX_ANSWERS {
            drop(rig.wait(&name.to_string()));
        }
        rig.requests.expire(rig.now, gone);
        assert!(rig.requests.lock().waiting.is_empty());
    }

    #[test]
    fn requests_that_time_out_or_match_nothing_are_refused() {
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
        assert!(!rig.is_answered("c") && rig.take_unsent().is_empty());
    }

    #[test]
    fn only_so_many_wait() {
        let rig = Rig::new();
        match rig.request(&"x".repeat(MAX_URL_LEN + 1)) {
            RequestOutcome::Answered(outcome) => {
                assert!(text(outcome).contains("more than 4096 bytes"))
            }
            RequestOutcome::Waits { .. } => panic!("it is too long to be kept"),
        }
        let waiting: Vec<_> = (0..MAX_WAITING).map(|_| rig.wait("a")).collect();
        match rig.request("b") {
            RequestOutcome::Answered(outcome) => assert!(text(outcome).contains("too many")),
            RequestOutcome::Waits { .. } => panic!("one too many"),
        }
        drop(waiting);
        rig.requests.expire(rig.now, gone);
        assert!(rig.wait("b").1);
    }
}
