//! The ladder: the order in which the policy prefers candidates, from the rung for a good link down to the smallest one
//! for a narrow link.
//!
//! Only one low-latency transport is on it, in its best rendition, because a link that cannot carry that is better
//! served by a transport with a buffer. `session` moves up and down on it. Pure.

use crate::Options;
use sluicegate_sdk::policy::Candidate;

/// Rungs as indices of candidates, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ladder {
    rungs: Vec<u32>,
    /// Number of rungs, from the top, that are meant for a good link.
    near: usize,
}

impl Ladder {
    /// Builds the ladder from the candidates that `avoid` does not exclude: the first available transport of `near`,
    /// then the first available other transport of `far` in all its renditions. If only one transport is available, its
    /// renditions are the rungs.
    pub fn new(
        candidates: &[Candidate],
        options: &Options,
        avoid: impl Fn(&Candidate) -> bool,
    ) -> Ladder {
        let usable: Vec<(u32, &Candidate)> = (0..)
            .zip(candidates)
            .filter(|(_, candidate)| !avoid(candidate))
            .collect();
        let has = |name: &str| usable.iter().any(|(_, known)| known.transport == name);
        let unnamed = usable
            .iter()
            .map(|(_, candidate)| &candidate.transport)
            .filter(|name| !options.near.contains(name) && !options.far.contains(name));
        let near = options.near.iter().chain(unnamed).find(|name| has(name));
        let far = options
            .far
            .iter()
            .find(|name| has(name) && near != Some(name));
        let of = |name: Option<&String>| -> Vec<u32> {
            usable
                .iter()
                .filter(|(_, candidate)| Some(&candidate.transport) == name)
                .map(|(index, _)| *index)
                .collect()
        };
        let (mut rungs, far) = (of(near), of(far));
        if !far.is_empty() {
            rungs.truncate(1);
        }
        let near = rungs.len();
        rungs.extend(far);
        Ladder { rungs, near }
    }

    /// Position of a candidate on the ladder.
    pub fn rank(&self, candidate: u32) -> Option<usize> {
        self.rungs.iter().position(|rung| *rung == candidate)
    }

    /// Candidates from that position on downwards.
    pub fn from(&self, rank: usize) -> &[u32] {
        self.rungs.get(rank..).unwrap_or_default()
    }

    /// Candidates above that position.
    pub fn before(&self, rank: usize) -> &[u32] {
        self.rungs.get(..rank).unwrap_or_default()
    }

    /// Position of the first rung for a narrow link, if there is one.
    pub fn far(&self) -> Option<usize> {
        (self.near < self.rungs.len()).then_some(self.near)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(names: &[&str]) -> Vec<Candidate> {
        let candidate = |name: &&str| {
            let (transport, rendition) = name.split_once('@').unwrap_or((name, ""));
            Candidate {
                transport: transport.into(),
                label: transport.to_uppercase(),
                rendition: rendition.into(),
                bandwidth: 1_000_000,
                latency_ms: 100,
                width: 640,
                height: 360,
                frame_rate: 25.0,
                sound: false,
                more: vec![],
            }
        };
        names.iter().map(candidate).collect()
    }

    fn rungs(names: &[&str], avoid: &str) -> (Vec<String>, Option<usize>) {
        let candidates = candidates(names);
        let ladder = Ladder::new(&candidates, &Options::default(), |candidate| {
            candidate.transport == avoid
        });
        let names = ladder
            .from(0)
            .iter()
            .map(|rung| names[*rung as usize].to_owned());
        (names.collect(), ladder.far())
    }

    #[test]
    fn near_comes_first_and_its_small_forms_only_where_nothing_is_buffered() {
        let all = [
            "hls",
            "hls@mobile",
            "mjpeg",
            "mjpeg@mobile",
            "nal",
            "nal@mobile",
            "webcodecs",
            "webcodecs@mobile",
        ];
        let (names, far) = rungs(&all, "");
        assert_eq!(
            (names.join(" ").as_str(), far),
            ("webcodecs hls hls@mobile", Some(1))
        );
        let (names, far) = rungs(&all, "webcodecs");
        assert_eq!(
            (names.join(" ").as_str(), far),
            ("nal hls hls@mobile", Some(1))
        );
        let (names, far) = rungs(&all[..4], "");
        assert_eq!(
            (names.join(" ").as_str(), far),
            ("mjpeg hls hls@mobile", Some(1))
        );
        let (names, far) = rungs(&["mjpeg", "mjpeg@mobile"], "");
        assert_eq!(
            (names.join(" ").as_str(), far),
            ("mjpeg mjpeg@mobile", None)
        );
        let (names, far) = rungs(&["hls", "hls@mobile"], "");
        assert_eq!((names.join(" ").as_str(), far), ("hls hls@mobile", Some(0)));
        // A transport that is in both lists is used once.
        let (names, far) = rungs(&["mse", "mse@mobile"], "");
        assert_eq!((names.join(" ").as_str(), far), ("mse mse@mobile", None));
        let (names, far) = rungs(&["flv", "hls"], "");
        assert_eq!((names.join(" ").as_str(), far), ("flv hls", Some(1)));
        assert_eq!(rungs(&[], ""), (vec![], None));
    }
}
