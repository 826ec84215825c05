//! What the guest answered, so that it is asked once however many ask.

use crate::plugin::{Answer, Response};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Path and query.
pub(super) type Url = (String, String);

/// Answers kept until the next sample.
const MOST: usize = 256;
/// Of those that last for ever, the newest: who plays live asks for the same ones at about the same time.
const MOST_LASTING: usize = 64;
const MOST_BYTES: usize = 16 << 20;

/// Answers that are good until something changes.
#[derive(Debug, Default)]
pub(super) struct Answers(BTreeMap<Url, Answer>);

impl Answers {
    pub(super) fn get(&self, url: &Url) -> Option<Answer> {
        self.0.get(url).cloned()
    }

    pub(super) fn keep(&mut self, url: &Url, answer: &Answer) {
        if self.0.len() < MOST {
            self.0.insert(url.clone(), answer.clone());
        }
    }

    /// Something changed.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Answers that never change, by whichever instance: whoever asks gets them without the muxer's thread.
#[derive(Debug, Default)]
pub(in crate::plugin::muxer) struct Lasting(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The newest last.
    answers: VecDeque<(Url, Arc<Response>)>,
    bytes: usize,
}

impl Lasting {
    pub(in crate::plugin::muxer) fn get(&self, path: &str, query: &str) -> Option<Arc<Response>> {
        let kept = self.lock();
        let of = |(url, _): &&(Url, Arc<Response>)| url.0 == path && url.1 == query;
        let (_, response) = kept.answers.iter().rev().find(of)?;
        Some(response.clone())
    }

    pub(super) fn keep(&self, url: &Url, response: &Arc<Response>) {
        let mut kept = self.lock();
        kept.bytes += response.body.len();
        kept.answers.push_back((url.clone(), response.clone()));
        while kept.answers.len() > MOST_LASTING || kept.bytes > MOST_BYTES {
            let Some((_, oldest)) = kept.answers.pop_front() else {
                break;
            };
            kept.bytes -= oldest.body.len();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn url(name: usize) -> Url {
        (name.to_string(), String::new())
    }

    fn response(size: usize) -> Arc<Response> {
        let body = Bytes::from(vec![0; size]).into();
        Arc::new(Response::new(200, String::new(), Response::FOREVER, body))
    }

    #[test]
    fn what_does_not_last_is_kept_until_something_changes() {
        let mut answers = Answers::default();
        answers.keep(&url(1), &Answer::Pending);
        assert!(answers.get(&url(1)).is_some() && answers.get(&url(2)).is_none());
        answers.forget();
        assert!(answers.get(&url(1)).is_none());
    }

    #[test]
    fn what_lasts_is_kept_within_its_bounds() {
        let lasting = Lasting::default();
        let has = |name: usize| lasting.get(&name.to_string(), "").is_some();
        let held = || {
            let kept = lasting.lock();
            (kept.answers.len(), kept.bytes)
        };
        for name in 1..=MOST_LASTING + 1 {
            lasting.keep(&url(name), &response(10));
        }
        assert!(!has(1) && has(2) && has(MOST_LASTING + 1));
        assert!(lasting.get("2", "other").is_none());
        lasting.keep(&url(1), &response(MOST_BYTES - 10));
        assert_eq!(held(), (2, MOST_BYTES));
        lasting.keep(&url(5), &response(MOST_BYTES + 1));
        assert_eq!(held(), (0, 0));
    }
}
