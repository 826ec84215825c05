//! Compares a candidate with the instance in use, while both get the same calls. Pure: the caller passes outputs and
//! times.
//!
//! A candidate must not fail, must have start points in each lane and group where the one in use has them, and must emit
//! between half as much and twice as much, in at most twice the time. If both say that their output is the same, it must be byte for byte.
//! Times are processor times and their medians count, so that a busy machine condemns nobody.

use crate::{Answer, Chunk, Profile};
use sluicegate_viewer::Content;
use std::{collections::BTreeMap, time::Duration};

/// A trial is long enough after this many samples and the start of a group.
const MIN_SAMPLES: usize = 30;
/// Times that are kept of each side; they suffice for a median.
const MAX_TIMES: usize = 512;
/// A candidate may take this much longer for a sample than twice the time of the one in use: less is not worth a
/// refusal, and cannot be told from noise.
const TIME_TOLERANCE: Duration = Duration::from_micros(25);
/// A candidate that takes this long for so many samples in a row is refused at once: it runs on the thread that serves
/// viewers.
const MAX_TIME: Duration = Duration::from_millis(8);
const MAX_SLOW: usize = 5;
/// Bytes by which outputs may differ in any case, such as other headers in small chunks.
const BYTES_TOLERANCE: usize = 4 << 10;

/// Output and cost of one side.
#[derive(Debug, Default)]
struct Side {
    chunks: usize,
    /// For each lane: groups in which viewers can start, and the number of the newest of them.
    starts: BTreeMap<u8, (usize, usize)>,
    bytes: usize,
    times: Vec<Duration>,
}

impl Side {
    /// Adds what it emitted for a sample of the group with this number.
    fn add(&mut self, chunks: &[Chunk], took: Duration, group: usize) {
        self.chunks += chunks.len();
        for chunk in chunks.iter().filter(|chunk| chunk.independent) {
            let (groups, newest) = self.starts.entry(chunk.lane).or_insert((0, usize::MAX));
            *groups += usize::from(*newest != group);
            *newest = group;
        }
        self.bytes += chunks
            .iter()
            .map(|chunk| chunk.content.len())
            .sum::<usize>();
        if self.times.len() < MAX_TIMES {
            self.times.push(took);
        }
    }

    /// Number of groups in which viewers can start in the lane.
    fn starts(&self, lane: u8) -> usize {
        self.starts.get(&lane).map_or(0, |(groups, _)| *groups)
    }

    fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }
}

/// The comparison of one trial.
#[derive(Debug)]
pub(super) struct Judge {
    /// What both say their output is, if they say the same.
    output: Option<String>,
    samples: usize,
    groups: usize,
    /// Samples in a row for which the candidate took far too long.
    slow: usize,
    answers: usize,
    used: Side,
    candidate: Side,
}

impl Judge {
    /// For a candidate in the place of an instance with the profile `used`.
    pub(super) fn new(used: &Profile, candidate: &Profile) -> Judge {
        let is_same = !used.output.is_empty() && used.output == candidate.output;
        Judge {
            output: is_same.then(|| used.output.clone()),
            samples: 0,
            groups: 0,
            slow: 0,
            answers: 0,
            used: Side::default(),
            candidate: Side::default(),
        }
    }

    /// Compares what both returned from `configure`.
    ///
    /// # Errors
    /// Why the candidate is refused.
    pub(super) fn compare_headers(
        &self,
        used: &[Content],
        candidate: &[Content],
    ) -> Result<(), String> {
        let mut both = used.iter().zip(candidate);
        let is_same = used.len() == candidate.len() && both.all(|(one, other)| one.same(other));
        match &self.output {
            Some(output) if !is_same => Err(format!(
                "its header differs from that of the component in use, although both say that their output is \
                 `{output}`"
            )),
            _ => Ok(()),
        }
    }

    /// Takes the outputs and processor times of both for a sample, which may repeat the one before, and may start a
    /// group.
    ///
    /// # Errors
    /// Why the candidate is refused.
    pub(super) fn compare(
        &mut self,
        is_repeat: bool,
        starts_group: bool,
        used: (&[Chunk], Duration),
        candidate: (&[Chunk], Duration),
    ) -> Result<(), String> {
        self.samples += usize::from(!is_repeat);
        self.groups += usize::from(starts_group);
        self.used.add(used.0, used.1, self.groups);
        self.candidate.add(candidate.0, candidate.1, self.groups);
        self.slow = match candidate.1 > MAX_TIME {
            true => self.slow + 1,
            false => 0,
        };
        if self.slow >= MAX_SLOW {
            let (slow, usual) = (candidate.1, used.1);
            return Err(format!(
                "it delays viewers: it takes {slow:?} for a sample, and the component in use {usual:?}"
            ));
        }
        match &self.output {
            Some(output) if !same_chunks(used.0, candidate.0) => Err(format!(
                "its output differs from that of the component in use, although both say that it is `{output}`"
            )),
            _ => Ok(()),
        }
    }

    /// Takes the answers of both to a request for `path`.
    ///
    /// # Errors
    /// Why the candidate is refused.
    pub(super) fn compare_answers(
        &mut self,
        path: &str,
        used: &Answer,
        candidate: &Answer,
    ) -> Result<(), String> {
        self.answers += 1;
        let is_same = match (used, candidate) {
            (Answer::Done(used), Answer::Done(candidate)) => {
                let is_alike = (used.status, &used.content_type)
                    == (candidate.status, &candidate.content_type);
                let is_equal = || {
                    (used.max_age, &used.headers) == (candidate.max_age, &candidate.headers)
                        && used.body.content_eq(&candidate.body)
                };
                is_alike && (self.output.is_none() || is_equal())
            }
            (Answer::Pending, Answer::Pending) => true,
            (Answer::Follow(used), Answer::Follow(candidate)) => used == candidate,
            _ => false,
        };
        match is_same {
            true => Ok(()),
            false => Err(format!(
                "it answers a request for \"{path}\" with {}, and the component in use with {}",
                shown(candidate),
                shown(used)
            )),
        }
    }

    /// Whether there was no sample yet.
    pub(super) fn is_idle(&self) -> bool {
        self.samples == 0
    }

    /// Whether what was compared suffices for a verdict.
    pub(super) fn has_enough(&self) -> bool {
        self.samples >= MIN_SAMPLES && self.groups > 0
    }

    /// The verdict on what was compared.
    ///
    /// # Errors
    /// Why the candidate is refused.
    pub(super) fn verdict(&self) -> Result<(), String> {
        let (used, candidate) = (&self.used, &self.candidate);
        for (lane, (usual, _)) in &used.starts {
            let starts = candidate.starts(*lane);
            // What is emitted late may be in the next group.
            if starts == 0 || starts + 1 < *usual {
                return Err(format!(
                    "viewers could not start: in {} samples it emitted {} chunks, with start points of lane {lane} in \
                     {starts} groups, and the component in use in {usual}",
                    self.samples, candidate.chunks
                ));
            }
        }
        let is_twice = |more: usize, less: usize| more >= 2 * less && more > less + BYTES_TOLERANCE;
        // Anything is better than nothing.
        let is_other =
            is_twice(candidate.bytes, used.bytes) || is_twice(used.bytes, candidate.bytes);
        if used.bytes > 0 && is_other {
            return Err(format!(
                "in {} samples it emitted {} bytes, and the component in use {}; between half and twice as much is \
                 accepted, unless the reload is forced",
                self.samples, candidate.bytes, used.bytes
            ));
        }
        let (slow, usual) = (candidate.median(), used.median());
        if slow > 2 * usual + TIME_TOLERANCE {
            return Err(format!(
                "it takes {slow:?} for a sample, and the component in use {usual:?}; at most twice the time is \
                 accepted, unless the reload is forced"
            ));
        }
        Ok(())
    }

    /// What was compared, for the log.
    pub(super) fn summary(&self) -> String {
        format!(
            "{} samples with {} and {} bytes in {:?} and {:?} each, {} answers",
            self.samples,
            self.used.bytes,
            self.candidate.bytes,
            self.used.median(),
            self.candidate.median(),
            self.answers
        )
    }
}

fn same_chunks(one: &[Chunk], other: &[Chunk]) -> bool {
    let same = |(one, other): (&Chunk, &Chunk)| {
        let stated = |chunk: &Chunk| (chunk.lane, chunk.independent, chunk.leading, chunk.time);
        stated(one) == stated(other) && one.content.same(&other.content)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

fn shown(answer: &Answer) -> String {
    match answer {
        Answer::Done(response) => format!(
            "{} and {} bytes of {:?}",
            response.status,
            response.body.len(),
            response.content_type
        ),
        Answer::Pending => "\"pending\"".into(),
        Answer::Follow(content_type) => format!("a stream of {content_type:?}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Response;
    use bytes::Bytes;
    use std::sync::Arc;

    const USUAL: Duration = Duration::from_micros(10);

    fn profile(output: &str) -> Profile {
        Profile {
            output: output.into(),
            ..Profile::for_tests()
        }
    }

    fn chunk(size: usize, independent: bool) -> Chunk {
        Chunk {
            content: Content::Binary(Bytes::from(vec![7; size]).into()),
            lane: 0,
            independent,
            leading: false,
            time: None,
        }
    }

    /// The verdict on a candidate that emits and takes this for each of sixty samples.
    fn verdict(emits: &[Chunk], takes: Duration) -> Result<(), String> {
        let mut judge = Judge::new(&profile("a/1"), &profile("a/2"));
        let used = [chunk(1000, true)];
        for nth in 0..60 {
            assert_eq!(judge.has_enough(), nth > 30, "{nth}");
            judge.compare(false, nth == 30, (&used, USUAL), (emits, takes))?;
        }
        judge.verdict()
    }

    #[test]
    fn a_candidate_is_refused_for_what_viewers_would_notice() {
        assert_eq!(verdict(&[chunk(1000, true)], USUAL), Ok(()));
        assert_eq!(verdict(&[chunk(1900, true)], 2 * USUAL), Ok(()));
        for (emits, takes, reason) in [
            (vec![], USUAL, "viewers could not start"),
            (vec![chunk(1000, false)], USUAL, "viewers could not start"),
            (vec![chunk(300, true)], USUAL, "emitted 18000 bytes"),
            (vec![chunk(1000, true); 2], USUAL, "emitted 120000 bytes"),
            (vec![chunk(1000, true)], 10 * USUAL, "it takes 100µs"),
            (vec![chunk(1000, true)], 2 * MAX_TIME, "it delays viewers"),
        ] {
            let refused = verdict(&emits, takes).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }

    #[test]
    fn each_lane_and_group_needs_its_start_points() {
        /// Both emit a chunk for each sample, in this lane and with this independence.
        fn verdict(
            used: impl Fn(usize) -> (u8, bool),
            candidate: impl Fn(usize) -> (u8, bool),
        ) -> Result<(), String> {
            let mut judge = Judge::new(&profile(""), &profile(""));
            let emitted = |(lane, independent)| {
                let chunk = chunk(1000, independent);
                [Chunk { lane, ..chunk }]
            };
            for nth in 0..60 {
                judge.compare(
                    false,
                    nth % 10 == 0,
                    (&emitted(used(nth)), USUAL),
                    (&emitted(candidate(nth)), USUAL),
                )?;
            }
            judge.verdict()
        }
        let usual = |nth: usize| ((nth % 2) as u8, nth % 10 < 2);
        assert_eq!(verdict(usual, usual), Ok(()));
        let more = |nth: usize| ((nth % 2) as u8, true);
        assert_eq!(
            (verdict(usual, more), verdict(more, usual)),
            (Ok(()), Ok(()))
        );
        // As if only sound had start points, or only one picture in sixty.
        let sound = |nth: usize| ((nth % 2) as u8, nth % 2 == 1);
        let once = |nth: usize| ((nth % 2) as u8, nth < 2);
        for candidate in [verdict(usual, sound), verdict(usual, once)] {
            assert!(candidate.unwrap_err().contains("start points of lane 0"));
        }
    }

    #[test]
    fn what_emits_nothing_is_no_measure() {
        let mut judge = Judge::new(&profile("a/1"), &profile("a/2"));
        judge
            .compare(false, true, (&[], USUAL), (&[chunk(100_000, true)], USUAL))
            .unwrap();
        assert_eq!(judge.verdict(), Ok(()));
    }

    #[test]
    fn a_few_slow_samples_condemn_nobody() {
        let mut judge = Judge::new(&profile(""), &profile(""));
        let chunks = [chunk(1000, true)];
        for nth in 0..100 {
            let takes = if nth % 3 == 0 { 50 * USUAL } else { USUAL };
            judge
                .compare(false, nth % 10 == 0, (&chunks, USUAL), (&chunks, takes))
                .unwrap();
        }
        assert_eq!(judge.verdict(), Ok(()));
    }

    #[test]
    fn what_is_said_to_be_the_same_must_be() {
        let mut judge = Judge::new(&profile("a/1"), &profile("a/1"));
        let same = ([chunk(5, true)], USUAL);
        judge
            .compare(false, true, (&same.0, USUAL), (&same.0, USUAL))
            .unwrap();
        for other in [vec![], vec![chunk(5, false)], vec![chunk(6, true)]] {
            let differs = judge.compare(false, false, (&same.0, USUAL), (&other, USUAL));
            assert!(differs.unwrap_err().contains("`a/1`"));
        }
        let answer = |status, body: &'static str| {
            let body = Bytes::from_static(body.as_bytes()).into();
            Answer::Done(Arc::new(Response::new(
                status,
                "text/plain".into(),
                0,
                body,
            )))
        };
        let ok = judge.compare_answers("x", &answer(200, "a"), &answer(200, "a"));
        assert_eq!(ok, Ok(()));
        for other in [answer(200, "b"), answer(404, "a"), Answer::Pending] {
            let differs = judge.compare_answers("x", &answer(200, "a"), &other);
            assert!(differs.unwrap_err().contains("\"x\""));
        }
        let mut others = Judge::new(&profile("a/1"), &profile("a/2"));
        let ok = others.compare_answers("x", &answer(200, "a"), &answer(200, "b"));
        assert_eq!(ok, Ok(()));
    }
}
