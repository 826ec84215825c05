//! `auto`: the policy that is built in.
//!
//! The candidates are put on a ladder: at its top what shows pictures soonest, for a good link; below it what has a buffer, in
//! ever smaller renditions, for a narrow or shaky one. A session starts at the top, goes down as soon as what it plays cannot
//! be carried, as far as it must, and up again when the link has carried more than enough for long enough.
//!
//! | goes down when | to |
//! |---|---|
//! | pictures stood still for `stall-limit` within 5 s, or what comes lies in a queue for more than `queue-limit` | the highest rung that needs no more than `up-at` |
//! | it needs more than `down-at` of what the link carries, for `down-after` | the same |
//! | the network is a mobile one | the first buffered rung that fits |
//!
//! It goes up when a higher rung needs no more than `up-at` of what the link has carried for `up-after`; where that cannot be
//! told, because the link never had enough to do, after `probe-after` without trouble. After a move nothing goes up for
//! `dwell`, which doubles with each step up that did not last, up to `dwell-limit`; the link has to be good for so long, too. A move up that makes trouble before its
//! first picture is given up.

mod ladder;
mod link;
mod session;

use sluicegate_sdk::{
    Millis,
    policy::{Candidate, Choice, Client, Event, Policy},
    serde::Deserialize,
};

/// The policy's part of the config.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    crate = "sluicegate_sdk::serde",
    deny_unknown_fields,
    default,
    rename_all = "kebab-case"
)]
struct Options {
    /// Transports for a good link, best first. One that is in neither list comes behind these.
    near: Vec<String>,
    /// Transports for a narrow or a mobile one, best first.
    far: Vec<String>,
    /// Time constants of the two means of what the link carries; the lower one counts.
    fast: Millis,
    slow: Millis,
    /// Down when more than this part of what the link carries is needed, for so long.
    down_at: f64,
    down_after: Millis,
    /// Down when what comes is so late, or pictures stood still for so long within 5 s.
    queue_limit: Millis,
    stall_limit: Millis,
    /// Up when no more than this part is needed, for so long.
    up_at: f64,
    up_after: Millis,
    /// Up by trial after so long without trouble where the link cannot be judged.
    probe_after: Millis,
    /// No way up for so long after a move; doubled by every failure up to the limit.
    dwell: Millis,
    dwell_limit: Millis,
    /// So many at most; moves down because of trouble are not held back.
    moves_per_minute: u32,
    /// Whether a mobile network is enough of a reason.
    cellular_is_far: bool,
}

impl Default for Options {
    fn default() -> Options {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Options {
            near: names(&["nal", "mse", "mjpeg"]),
            far: names(&["hls", "mse"]),
            fast: Millis(3000),
            slow: Millis(9000),
            down_at: 0.85,
            down_after: Millis(3000),
            queue_limit: Millis(1000),
            stall_limit: Millis(1000),
            up_at: 0.6,
            up_after: Millis(15_000),
            probe_after: Millis(60_000),
            dwell: Millis(10_000),
            dwell_limit: Millis(120_000),
            moves_per_minute: 2,
            cellular_is_far: true,
        }
    }
}

impl Options {
    fn read(json: &str) -> Result<Options, String> {
        let options: Options = sluicegate_sdk::options(json)?;
        for (name, value) in [("down-at", options.down_at), ("up-at", options.up_at)] {
            if !(0.05..=1.0).contains(&value) {
                return Err(format!(
                    "option `{name}`: {value} is out of range; write 0.05 to 1"
                ));
            }
        }
        if options.up_at >= options.down_at {
            return Err(format!(
                "option `up-at`: {} must be less than `down-at`, {}, or sessions go up and down",
                options.up_at, options.down_at
            ));
        }
        if options.moves_per_minute == 0 {
            return Err(
                "option `moves-per-minute`: 0 leaves no way back up; write at least 1".into(),
            );
        }
        if options.dwell_limit < options.dwell {
            return Err("option `dwell-limit` is less than `dwell`; write at least as much".into());
        }
        if options.near.is_empty() && options.far.is_empty() {
            return Err(
                "options `near` and `far` are both empty; name a transport, e.g. near = [\"mjpeg\"]"
                    .into(),
            );
        }
        Ok(options)
    }
}

/// One session.
struct Auto(session::Session);

impl Policy for Auto {
    fn open(client: &Client, options: &str) -> Result<Self, String> {
        Ok(Auto(session::Session::new(Options::read(options)?, client)))
    }

    fn choose(&mut self, at: u64, candidates: Vec<Candidate>, playing: Option<u32>) -> Choice {
        self.0.choose(at, candidates, playing)
    }

    fn observe(&mut self, at: u64, event: Event) -> Option<Choice> {
        self.0.observe(at, &event)
    }
}

sluicegate_sdk::export_policy!(Auto);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn options_are_judged() {
        assert!(Options::read("{}").is_ok());
        for (json, message) in [
            (
                r#"{"down-at": 7}"#,
                "option `down-at`: 7 is out of range; write 0.05 to 1",
            ),
            (
                r#"{"up-at": 0.9}"#,
                "option `up-at`: 0.9 must be less than `down-at`, 0.85, or sessions go up and down",
            ),
            (
                r#"{"dwell": "5m"}"#,
                "option `dwell-limit` is less than `dwell`; write at least as much",
            ),
            (
                r#"{"moves-per-minute": 0}"#,
                "option `moves-per-minute`: 0 leaves no way back up; write at least 1",
            ),
            (
                r#"{"up-after": 15}"#,
                "option `up-after`: `15` has no unit: write e.g. \"200ms\" or \"2s\"",
            ),
            (
                r#"{"near": [], "far": []}"#,
                "options `near` and `far` are both empty; name a transport, e.g. near = [\"mjpeg\"]",
            ),
        ] {
            assert_eq!(Options::read(json).unwrap_err(), message);
        }
    }
}
