//! `auto`, the built-in policy: low latency on a good link, buffered and smaller on a narrow one.
//!
//! The candidates form a ladder: at the top the transport with the lowest latency, for a good link; below it a buffered
//! transport in ever smaller renditions, for a narrow or unsteady link. A session starts at the top. It moves down as
//! soon as the link cannot carry what plays, as far as necessary, and up again when the link has carried more than
//! enough for long enough.
//!
//! It moves down
//! - if playback stalled for `stall-limit` within 5 s, or the queueing delay exceeds `queue-limit`: to the highest rung
//!   that needs at most `up-at` of what the link carries;
//! - if the candidate needs more than `down-at` of what the link carries, for `down-after`: to the same rung;
//! - if the network is a mobile one: to the first buffered rung that fits.
//!
//! It moves up when a higher rung has needed at most `up-at` of what the link carries for `up-after`. If the link
//! cannot be judged, because it never had enough to transfer, it tries after `probe-after` without problems. After a
//! move, nothing moves up for `dwell`, and the link must be good for at least as long. `dwell` doubles with each move
//! up that did not last, up to `dwell-limit`. A move up that causes problems before its first frame is cancelled.
//!
//! `ladder` has the order, `link` estimates the link from reports, `session` decides. All of it is pure: times come
//! with the calls.

mod ladder;
mod link;
mod session;

use sluicegate_sdk::{
    Millis,
    policy::{Candidate, Choice, Client, Event, Policy},
    serde::Deserialize,
};

/// Options from the policy's section of the config.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    crate = "sluicegate_sdk::serde",
    deny_unknown_fields,
    default,
    rename_all = "kebab-case"
)]
struct Options {
    /// Transports for a good link, best first. A transport that is in neither list comes after these.
    near: Vec<String>,
    /// Transports for a narrow or mobile link, best first.
    far: Vec<String>,
    /// Time constants of the two averages of the link's capacity. The lower average counts.
    fast: Millis,
    slow: Millis,
    /// Move down if the candidate needs more than this fraction of what the link carries, for this long.
    down_at: f64,
    down_after: Millis,
    /// Move down at this queueing delay, or if playback stalled for this long within 5 s.
    queue_limit: Millis,
    stall_limit: Millis,
    /// Move up if the candidate needs at most this fraction of what the link carries, for this long.
    up_at: f64,
    up_after: Millis,
    /// Move up on trial after this long without problems, if the link cannot be judged.
    probe_after: Millis,
    /// No move up for this long after a move. Each failed move up doubles it, up to the limit.
    dwell: Millis,
    dwell_limit: Millis,
    /// Highest number of moves within a minute. Moves down because of problems are not limited.
    moves_per_minute: u32,
    /// Whether a mobile network alone is a reason to use the transports in `far`.
    cellular_is_far: bool,
}

/// Defaults of `near` and `far`.
const NEAR: [&str; 4] = ["webcodecs", "nal", "mse", "mjpeg"];
const FAR: [&str; 2] = ["hls", "mse"];

impl Default for Options {
    fn default() -> Options {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Options {
            near: names(&NEAR),
            far: names(&FAR),
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
                "option `up-at`: {} must be less than `down-at`, {}, or sessions oscillate",
                options.up_at, options.down_at
            ));
        }
        if options.moves_per_minute == 0 {
            return Err(
                "option `moves-per-minute`: 0 would prevent every move up; write at least 1".into(),
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

    /// Checks that `near` and `far` name transports of the gateway. Those of the default are accepted everywhere.
    fn check_names(&self, transports: &[String]) -> Result<(), String> {
        for (option, names) in [("near", &self.near), ("far", &self.far)] {
            let is_default = |name: &String| NEAR.iter().chain(&FAR).any(|known| name == known);
            let unknown = names
                .iter()
                .find(|name| !transports.contains(name) && !is_default(name));
            if let Some(unknown) = unknown {
                let known = transports.join(", ");
                return Err(format!(
                    "option `{option}`: there is no transport `{unknown}`; there are {known}"
                ));
            }
        }
        Ok(())
    }
}

/// One session, as the SDK's trait wants it.
struct Auto(session::Session);

impl Policy for Auto {
    fn open(client: &Client, options: &str) -> Result<Self, String> {
        Ok(Auto(session::Session::new(Options::read(options)?, client)))
    }

    fn validate(options: &str, transports: &[String]) -> Result<(), String> {
        Options::read(options)?.check_names(transports)
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
    fn transports_that_do_not_exist_are_named() {
        let check = |json| Auto::validate(json, &["hls".into(), "own".into()]);
        assert_eq!(check("{}"), Ok(()));
        assert_eq!(check(r#"{"near": ["own"], "far": ["hls"]}"#), Ok(()));
        assert_eq!(
            check(r#"{"near": ["own", "hsl"]}"#),
            Err("option `near`: there is no transport `hsl`; there are hls, own".into())
        );
    }

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
                "option `up-at`: 0.9 must be less than `down-at`, 0.85, or sessions oscillate",
            ),
            (
                r#"{"dwell": "5m"}"#,
                "option `dwell-limit` is less than `dwell`; write at least as much",
            ),
            (
                r#"{"moves-per-minute": 0}"#,
                "option `moves-per-minute`: 0 would prevent every move up; write at least 1",
            ),
            (
                r#"{"up-after": 15}"#,
                "option `up-after`: `15` has no unit; write for example \"200ms\" or \"2s\"",
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
