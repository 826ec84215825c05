//! One session: what plays, when it moves, and where.
//!
//! `report` is the heart: it updates the link's estimate, learns what the playing candidate needs, looks for problems,
//! and then moves down, up or not at all. The rules and their figures come from a simulator (`tests/link`); `crate`
//! describes them. Pure: times are milliseconds that come with the calls.

use crate::{
    Options,
    ladder::Ladder,
    link::{Link, most, rate},
};
use sluicegate_sdk::policy::{Candidate, Choice, Client, Event, Report};
use std::collections::BTreeMap;

/// A candidate is not judged in its first moments, in milliseconds: the burst at its start inflates the measurements.
const WARM_UP_MS: u64 = 3000;
/// Reports further apart than this, in milliseconds, say nothing about the time between them.
const MAX_REPORT_GAP_MS: u64 = 5000;
/// A move up that lasts this long, in milliseconds, was right; `dwell` is reset then.
const MOVE_UP_PROVEN_MS: u64 = 60_000;
/// For how long a candidate that showed no frame is avoided, in milliseconds: at first, doubled each time, and at most.
const AVOID_BACKOFF_MS: (u64, u64) = (30_000, 600_000);
/// How long the queueing delay must be too high, and the device drop frames, before it counts, in milliseconds.
const MIN_QUEUEING_MS: u64 = 1000;
const MIN_DROPPING_MS: u64 = 5000;
/// Period over which moves are counted, in milliseconds.
const MOVE_WINDOW_MS: u64 = 60_000;
/// Assumed capacity of a mobile network without measurements, in bits per second.
const DEFAULT_MOBILE_BITRATE: f64 = 1_500_000.0;

/// Transport and rendition: identifies a candidate across changes of the list.
type Key = (String, String);

fn key(candidate: &Candidate) -> Key {
    (candidate.transport.clone(), candidate.rendition.clone())
}

/// Name of a candidate for people: "HLS", "HLS (mobile)".
fn name(candidate: &Candidate) -> String {
    match candidate.rendition.as_str() {
        "" => candidate.label.clone(),
        rendition => format!("{} ({rendition})", candidate.label),
    }
}

/// A move in progress.
#[derive(Clone, Debug)]
struct Move {
    to: u32,
    up: bool,
}

/// A candidate that showed no frame.
#[derive(Clone, Copy, Debug)]
struct Avoided {
    until: u64,
    times: u32,
}

/// State of a session; see the module's description.
pub struct Session {
    options: Options,
    save_data: bool,
    network: Option<String>,
    /// The viewer has turned audio on.
    listening: bool,
    candidates: Vec<Candidate>,
    ladder: Ladder,
    /// Index of the candidate that is on the screen.
    playing: Option<u32>,
    moving: Option<Move>,
    link: Link,
    /// Recent peak bit rate of each candidate, in bits per second.
    peak_bitrate: BTreeMap<Key, f64>,
    /// The same, by index into `candidates`.
    learned: Vec<Option<f64>>,
    avoided: BTreeMap<Key, Avoided>,
    /// Time of the newest report.
    last: Option<u64>,
    /// Since when the candidate has been on the screen.
    playing_since: u64,
    /// Times of the moves within the last minute.
    moved_at: Vec<u64>,
    dwell: u64,
    /// Time of the last move up, until it has proven right.
    moved_up_at: Option<u64>,
    /// Since when the candidate has needed more than `down-at` of the link.
    insufficient_since: Option<u64>,
    /// By candidate: since when the link has carried enough for it.
    sufficient_since: BTreeMap<u32, u64>,
    /// Since when there have been no problems.
    no_problem_since: u64,
}

impl Session {
    /// A session for that client that plays nothing yet.
    pub fn new(options: Options, client: &Client) -> Session {
        Session {
            dwell: options.dwell.0.into(),
            options,
            save_data: client.save_data,
            network: client.network.clone(),
            listening: client.listening,
            candidates: Vec::new(),
            ladder: Ladder::default(),
            playing: None,
            moving: None,
            link: Link::default(),
            peak_bitrate: BTreeMap::new(),
            learned: Vec::new(),
            avoided: BTreeMap::new(),
            last: None,
            playing_since: 0,
            moved_at: Vec::new(),
            moved_up_at: None,
            insufficient_since: None,
            sufficient_since: BTreeMap::new(),
            no_problem_since: 0,
        }
    }

    /// Takes a new list of candidates and chooses among them. Keeps what plays.
    pub fn choose(&mut self, at: u64, candidates: Vec<Candidate>, playing: Option<u32>) -> Choice {
        self.candidates = candidates;
        let learned = |candidate| self.peak_bitrate.get(&key(candidate)).copied();
        self.learned = self.candidates.iter().map(learned).collect();
        self.moving = None;
        self.sufficient_since.clear();
        self.rebuild_ladder(at);
        self.playing = playing;
        if let Some(playing) = playing {
            self.playing_since = at;
            return self.choice(playing, "it is already playing".into());
        }
        let (chosen, reason) = self.start(at);
        self.choice(chosen, reason.into())
    }

    /// Candidate for a session that plays nothing yet, and the reason.
    fn start(&self, at: u64) -> (u32, &'static str) {
        let (rank, reason) = match (self.is_mobile(), self.save_data, self.ladder.far()) {
            (true, _, Some(far)) => (far, "the network is mobile"),
            (_, true, Some(far)) => (far, "the browser asks for reduced data usage"),
            _ if self.audio_wanted_at(0) => (0, "it carries the sound and has the lowest latency"),
            _ => (0, "it has the lowest latency"),
        };
        let capacity = self.link.capacity_now(at).unwrap_or(DEFAULT_MOBILE_BITRATE);
        let rungs = self.ladder.from(rank);
        let fitting = match rank {
            0 => rungs.first(),
            _ => rungs.iter().find(|rung| self.fits(**rung, capacity)),
        };
        (fitting.or(rungs.last()).copied().unwrap_or(0), reason)
    }

    /// Whether the viewer has turned audio on and the rung at that position carries it.
    fn audio_wanted_at(&self, rank: usize) -> bool {
        let rung = self.ladder.from(rank).first();
        self.listening && rung.is_some_and(|rung| self.carries_audio(*rung))
    }

    fn carries_audio(&self, index: u32) -> bool {
        let candidate = self.candidates.get(index as usize);
        candidate.is_some_and(|candidate| candidate.sound)
    }

    /// Handles an event; returns where to move, if anywhere.
    pub fn observe(&mut self, at: u64, event: &Event) -> Option<Choice> {
        match event {
            Event::Report(report) => self.report(at, report),
            Event::Playing(index) => {
                self.on_playing(at, *index);
                None
            }
            Event::Failed(index) => self.failed(at, *index),
            Event::Other(_) => None,
        }
    }

    fn on_playing(&mut self, at: u64, index: u32) {
        let up = matches!(&self.moving, Some(moving) if moving.to == index && moving.up);
        self.moved_up_at = if up { Some(at) } else { self.moved_up_at };
        if self.playing.is_some_and(|playing| playing != index) {
            self.moved_at.retain(|moved| moved + MOVE_WINDOW_MS > at);
            self.moved_at.push(at);
        }
        self.moving = None;
        self.playing = Some(index);
        self.playing_since = at;
        self.no_problem_since = at;
        self.insufficient_since = None;
        self.sufficient_since.clear();
        self.link.clear_problems();
    }

    fn failed(&mut self, at: u64, index: u32) -> Option<Choice> {
        let failed = self.candidates.get(index as usize)?;
        let (failed, shown) = (key(failed), name(failed));
        let down = self.moving.as_ref().is_some_and(|moving| !moving.up);
        if let Some(playing) = self.playing.filter(|playing| down && *playing != index) {
            // On a link that is too narrow for what plays, a late first frame is to be expected. Try again at the
            // lowest rung.
            let capacity = self.link.capacity_now(at);
            if capacity.is_some_and(|capacity| !self.fits(playing, capacity)) {
                self.moving = None;
                let lowest = *self.ladder.from(0).last()?;
                return self.move_to(at, lowest, format!("{shown} showed no frame in time"));
            }
        }
        let times = self.avoided.get(&failed).map_or(0, |known| known.times);
        let wait = (AVOID_BACKOFF_MS.0 << times.min(8)).min(AVOID_BACKOFF_MS.1);
        let avoided = Avoided {
            until: at + wait,
            times: times + 1,
        };
        self.avoided.insert(failed, avoided);
        self.rebuild_ladder(at);
        let moving = self.moving.take();
        if moving.as_ref().is_some_and(|moving| moving.up) {
            self.move_up_failed();
        }
        // Keep what plays, unless it failed itself or was being left because of problems.
        let down = moving.is_some_and(|moving| !moving.up);
        if self.playing.is_some_and(|playing| playing != index) && !down {
            return None;
        }
        if self.playing == Some(index) {
            self.playing = None;
        }
        let capacity = self.link.capacity_now(at);
        let rungs = self.ladder.from(0);
        let fitting = rungs.iter().find(|rung| match capacity {
            Some(capacity) => self.fits(**rung, capacity),
            None => true,
        });
        let next = *fitting.or(rungs.last())?;
        // If nothing else is allowed, leave recovery to the player.
        if self.playing == Some(next) || next == index {
            return None;
        }
        self.move_to(at, next, format!("{shown} showed no frame"))
    }

    fn report(&mut self, at: u64, report: &Report) -> Option<Choice> {
        let passed = self.last.map_or(1000, |last| at.saturating_sub(last));
        self.last = Some(at);
        self.network.clone_from(&report.network);
        if !report.visible || passed > MAX_REPORT_GAP_MS {
            self.pause(at);
            return None;
        }
        if self
            .avoided
            .values()
            .any(|avoided| at >= avoided.until && at - avoided.until <= passed)
        {
            self.rebuild_ladder(at);
        }
        if report.listening != self.listening {
            self.listening = report.listening;
            self.rebuild_ladder(at);
        }
        let playing = self.playing?;
        if self.moving.is_none() && !self.carries_audio(playing) && self.audio_wanted_at(0) {
            let (to, _) = self.start(at);
            let reason = format!("sound is on, and {} carries none", self.name(playing));
            return self.move_to(at, to, reason);
        }
        let silent = report.received == 0 && report.stalled_ms == 0 && report.queued_ms == 0;
        if silent {
            // The source is idle, which says nothing about the link.
            return None;
        }
        let nominal = self.candidates.get(playing as usize)?.frame_rate;
        let needs = (0..)
            .take(self.candidates.len())
            .map(|index| self.needs(index));
        let most = needs.fold(0.0, f64::max);
        let limited = self
            .link
            .note(at, passed, report, (nominal, most), &self.options);
        let warm = at >= self.playing_since + WARM_UP_MS;
        // Received bytes are unknown where the browser plays HLS natively.
        if !limited && warm && report.received > 0 {
            self.learn(at, playing, report.received.into(), passed);
        }
        if self
            .moved_up_at
            .is_some_and(|rose| at >= rose + MOVE_UP_PROVEN_MS)
        {
            self.moved_up_at = None;
            self.dwell = self.options.dwell.0.into();
        }
        let pulled = report.buffered_ms.is_some();
        let trouble = self.problem(at, playing, limited, pulled, warm);
        if limited || trouble.is_some() {
            self.no_problem_since = at;
        }
        match (&self.moving, trouble) {
            (Some(moving), Some(trouble)) if moving.up => {
                self.moving = None;
                self.move_up_failed();
                self.link.clear_problems();
                Some(self.choice(
                    playing,
                    format!("the link does not carry both streams: {trouble}"),
                ))
            }
            (Some(_), _) => None,
            (None, Some(trouble)) => self.move_down(at, playing, trouble),
            (None, None) => self
                .leave_for_mobile(at, playing)
                .or_else(|| self.move_up(at, playing, limited)),
        }
    }

    /// Learns what the candidate needs: what it received while it played without problems. If the link could not carry
    /// more, it may need more than that.
    fn learn(&mut self, at: u64, playing: u32, received: f64, passed: u64) -> Option<()> {
        let of = self.candidates.get(playing as usize)?;
        let learned = self.learned.get_mut(playing as usize)?;
        let capacity = self.link.capacity_now(at);
        let easy = capacity.is_none_or(|capacity| received <= self.options.down_at * capacity);
        let needs = match (easy, *learned) {
            (true, known) => most(known, received, passed),
            (false, Some(known)) => known.max(received),
            (false, None) => return None,
        };
        *learned = Some(needs);
        self.peak_bitrate.insert(key(of), needs);
        Some(())
    }

    /// The player was hidden, or did not report for a while: forget what was measured about problems.
    fn pause(&mut self, at: u64) {
        self.link.clear_problems();
        self.insufficient_since = None;
        self.sufficient_since.clear();
        self.no_problem_since = at;
        self.playing_since = self.playing_since.max(at.saturating_sub(WARM_UP_MS / 2));
    }

    /// The problem with what plays, as a phrase for people.
    fn problem(
        &mut self,
        at: u64,
        playing: u32,
        limited: bool,
        pulled: bool,
        warm: bool,
    ) -> Option<String> {
        let needs = self.needs(playing);
        let capacity = self.link.capacity_now(at);
        // Media that is pushed and arrives in time is evidently carried, even if the link was not seen to carry more.
        let short = (limited || (pulled && self.is_known(playing)))
            && capacity.is_some_and(|capacity| needs > self.options.down_at * capacity);
        self.insufficient_since = short.then(|| self.insufficient_since.unwrap_or(at));
        let stalled = self.link.stalled();
        if stalled >= self.options.stall_limit.0.into() {
            return Some(format!("playback stalled for {}", seconds(stalled)));
        }
        if !warm {
            return None;
        }
        if self
            .link
            .queued(at)
            .is_some_and(|queued| queued >= MIN_QUEUEING_MS)
        {
            let limit = seconds(self.options.queue_limit.0.into());
            return Some(format!("frames arrived more than {limit} late"));
        }
        if self.link.dropping(at) >= MIN_DROPPING_MS {
            return Some("this device drops many of the frames it receives".into());
        }
        let for_long = |since| at.saturating_sub(since) >= u64::from(self.options.down_after.0);
        match (self.insufficient_since.is_some_and(for_long), capacity) {
            (true, Some(capacity)) => Some(format!(
                "the link carries about {}, {} needs {}",
                rate(capacity),
                self.name(playing),
                rate(needs)
            )),
            _ => None,
        }
    }

    fn move_down(&mut self, at: u64, playing: u32, trouble: String) -> Option<Choice> {
        if self.moved_up_at.take().is_some() {
            self.move_up_failed();
        }
        let rank = self.ladder.rank(playing);
        let below = self.ladder.from(rank.map_or(0, |rank| rank + 1));
        let fitting = match self.link.capacity_now(at) {
            // Leave headroom, since the new candidate starts while the old one still uses the link.
            Some(capacity) => below
                .iter()
                .find(|rung| self.needs(**rung) <= self.options.up_at * capacity),
            None => below.first(),
        };
        let to = *fitting.or(below.last())?;
        self.link.clear_problems();
        self.move_to(at, to, trouble)
    }

    /// Leaves a candidate meant for a good link if the network is a mobile one.
    fn leave_for_mobile(&mut self, at: u64, playing: u32) -> Option<Choice> {
        let far = self.ladder.far()?;
        if !self.is_mobile() || self.ladder.rank(playing)? >= far {
            return None;
        }
        let capacity = self.link.capacity_now(at).unwrap_or(DEFAULT_MOBILE_BITRATE);
        let rungs = self.ladder.from(far);
        let fitting = rungs.iter().find(|rung| self.fits(**rung, capacity));
        let to = *fitting.or(rungs.last())?;
        self.move_to(at, to, "the network is mobile now".into())
    }

    fn move_up(&mut self, at: u64, playing: u32, limited: bool) -> Option<Choice> {
        let rank = self.ladder.rank(playing);
        let allowed = match (self.is_mobile(), self.ladder.far()) {
            (true, Some(far)) => far,
            _ => 0,
        };
        let above: Vec<u32> = match rank {
            Some(rank) => {
                let above = self.ladder.before(rank);
                above.get(allowed..).unwrap_or_default().to_vec()
            }
            // What plays is not on the ladder: it was chosen before the ladder changed.
            None => self.ladder.from(allowed).to_vec(),
        };
        let capacity = self.link.capacity(at);
        for rung in &above {
            let enough =
                capacity.is_some_and(|capacity| self.needs(*rung) <= self.options.up_at * capacity);
            if enough && !limited {
                self.sufficient_since.entry(*rung).or_insert(at);
            } else {
                self.sufficient_since.remove(rung);
            }
        }
        let last = self.moved_at.last();
        let waited = last.is_none_or(|moved| at >= moved + self.dwell);
        let lately = self
            .moved_at
            .iter()
            .filter(|moved| **moved + MOVE_WINDOW_MS > at);
        let too_many_moves = lately.count() >= self.options.moves_per_minute as usize;
        if !waited || limited || too_many_moves {
            return None;
        }
        let long = u64::from(self.options.up_after.0).max(self.dwell);
        // Wait for a rung that the newest measurement would carry, rather than move to an intermediate one first.
        let newest = self.link.newest(at);
        let soon = |rung: &u32| {
            newest.is_some_and(|newest| self.needs(*rung) <= self.options.up_at * newest)
        };
        let best = above
            .iter()
            .find(|rung| self.sufficient_since.contains_key(*rung) || soon(rung));
        if let (Some(rung), Some(capacity)) = (best, capacity) {
            let since = self.sufficient_since.get(rung).copied();
            if since.is_none_or(|since| at.saturating_sub(since) < long) {
                return None;
            }
            let reason = format!(
                "the link has carried {} for {}",
                rate(capacity),
                seconds(long)
            );
            return self.move_to(at, *rung, reason);
        }
        // The link cannot be judged, but nothing indicates a problem.
        let quiet = at.saturating_sub(self.no_problem_since);
        let trial = u64::from(self.options.probe_after.0).max(self.dwell);
        if capacity.is_none() && quiet >= trial {
            let next = *above.last()?;
            return self.move_to(
                at,
                next,
                format!("there were no problems for {}", seconds(trial)),
            );
        }
        None
    }

    fn move_to(&mut self, at: u64, to: u32, reason: String) -> Option<Choice> {
        let up = match (
            self.playing.and_then(|from| self.ladder.rank(from)),
            self.ladder.rank(to),
        ) {
            (Some(from), Some(to)) => to < from,
            _ => false,
        };
        self.moving = Some(Move { to, up });
        self.insufficient_since = None;
        self.sufficient_since.clear();
        self.no_problem_since = at;
        Some(self.choice(to, reason))
    }

    /// A move up turned out to be wrong: double `dwell`.
    fn move_up_failed(&mut self) {
        self.moved_up_at = None;
        self.dwell = (self.dwell * 2).min(self.options.dwell_limit.0.into());
    }

    fn rebuild_ladder(&mut self, at: u64) {
        let avoided = &self.avoided;
        let avoid = |candidate: &Candidate| {
            let known = avoided.get(&key(candidate));
            known.is_some_and(|known| at < known.until)
        };
        // With audio on, only candidates with audio are used, as long as one of them works.
        let has_audio = |candidate: &Candidate| candidate.sound && !avoid(candidate);
        let only_with_audio = self.listening && self.candidates.iter().any(has_audio);
        self.ladder = Ladder::new(&self.candidates, &self.options, |candidate| {
            avoid(candidate) || (only_with_audio && !candidate.sound)
        });
        if self.ladder.from(0).is_empty() {
            // A candidate that failed is better than none.
            self.ladder = Ladder::new(&self.candidates, &self.options, |_| false);
        }
    }

    fn is_mobile(&self) -> bool {
        let network = self.network.as_deref().unwrap_or_default();
        self.options.cellular_is_far && matches!(network, "cellular" | "slow-2g" | "2g" | "3g")
    }

    fn is_known(&self, index: u32) -> bool {
        matches!(self.learned.get(index as usize), Some(Some(_)))
    }

    /// Bit rate that a candidate needs, in bits per second: as learned, or as announced.
    fn needs(&self, index: u32) -> f64 {
        self.candidates
            .get(index as usize)
            .map_or(0.0, |candidate| {
                let learned = self.learned.get(index as usize).copied().flatten();
                learned.unwrap_or(candidate.bandwidth.into())
            })
    }

    fn fits(&self, index: u32, capacity: f64) -> bool {
        self.needs(index) <= self.options.down_at * capacity
    }

    fn name(&self, index: u32) -> String {
        self.candidates
            .get(index as usize)
            .map(name)
            .unwrap_or_default()
    }

    fn choice(&self, candidate: u32, reason: String) -> Choice {
        Choice { candidate, reason }
    }
}

/// Formats milliseconds as seconds: "1.4 s".
fn seconds(ms: u64) -> String {
    match (ms / 1000, ms % 1000 / 100) {
        (whole, 0) => format!("{whole} s"),
        (whole, tenths) => format!("{whole}.{tenths} s"),
    }
}

#[cfg(test)]
mod tests;
