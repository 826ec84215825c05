//! What the guest answered, so that it is asked once however many ask.

use crate::plugin::{Answer, Response};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Path and query.
pub(super) type Url = (String, String);

/// Answers kept until the next sample.
const MOST: usize = 256;
/// Of those that last for ever, the newest: who plays live asks for the same ones at about the same time.
const MOST_LASTING: usize = 64;
const MOST_BYTES: usize = 16 << 20;

#[derive(Debug, Default)]
pub(super) struct Answers {
    now: BTreeMap<Url, Answer>,
    lasting: VecDeque<(Url, Arc<Response>)>,
    bytes: usize,
}

impl Answers {
    pub(super) fn get(&self, url: &Url) -> Option<Answer> {
        let lasting = || self.lasting.iter().find(|(known, _)| known == url);
        self.now
            .get(url)
            .cloned()
            .or_else(|| lasting().map(|(_, response)| Answer::Done(response.clone())))
    }

    pub(super) fn keep(&mut self, url: &Url, answer: &Answer) {
        match answer {
            Answer::Done(response) if response.max_age == Response::FOREVER => {
                self.bytes += response.body.len();
                self.lasting.push_back((url.clone(), response.clone()));
                while self.lasting.len() > MOST_LASTING || self.bytes > MOST_BYTES {
                    let Some((_, oldest)) = self.lasting.pop_front() else {
                        break;
                    };
                    self.bytes -= oldest.body.len();
                }
            }
            _ if self.now.len() < MOST => drop(self.now.insert(url.clone(), answer.clone())),
            _ => {}
        }
    }

    /// Something changed: what does not last is asked for again.
    pub(super) fn forget(&mut self) {
        self.now.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn url(name: usize) -> Url {
        (name.to_string(), String::new())
    }

    fn answer(max_age: u32, size: usize) -> Answer {
        let body = Bytes::from(vec![0; size]).into();
        Answer::Done(Arc::new(Response::new(200, String::new(), max_age, body)))
    }

    #[test]
    fn what_lasts_outlives_samples_within_its_bounds() {
        let mut answers = Answers::default();
        answers.keep(&url(1), &answer(Response::FOREVER, 10));
        answers.keep(&url(2), &answer(5, 10));
        answers.keep(&url(3), &Answer::Pending);
        assert!((1..=3).all(|name| answers.get(&url(name)).is_some()));
        answers.forget();
        assert!(answers.get(&url(1)).is_some());
        assert!(answers.get(&url(2)).is_none() && answers.get(&url(3)).is_none());

        for name in 10..10 + MOST_LASTING {
            answers.keep(&url(name), &answer(Response::FOREVER, 10));
        }
        assert!(answers.get(&url(1)).is_none() && answers.get(&url(10)).is_some());
        answers.keep(&url(4), &answer(Response::FOREVER, MOST_BYTES - 10));
        assert_eq!((answers.lasting.len(), answers.bytes), (2, MOST_BYTES));
        answers.keep(&url(5), &answer(Response::FOREVER, MOST_BYTES + 1));
        assert_eq!((answers.lasting.len(), answers.bytes), (0, 0));
    }
}
