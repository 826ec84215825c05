//! One session: what plays, where it moves, and when.

use crate::{
    Options,
    ladder::Ladder,
    link::{Link, most, rate},
};
use sluicegate_sdk::policy::{Candidate, Choice, Client, Event, Report};
use std::collections::BTreeMap;

/// What plays is not judged in its first moments (ms): what was there when it began comes at once.
const WARM_UP: u64 = 3000;
/// Reports further apart than this (ms) say nothing of the time between.
const MAX_GAP: u64 = 5000;
/// A step up that lasts for so long (ms) was right.
const PROVEN: u64 = 60_000;
/// What gave no picture is left alone for so long (ms), doubled each time up to so much.
const AVOIDED: (u64, u64) = (30_000, 600_000);
/// Too much has to lie in queues for so long (ms), and the device to drop pictures for so long.
const QUEUED_FOR: u64 = 1000;
const DROPPED_FOR: u64 = 5000;
/// Over which moves are counted (ms).
const MINUTE: u64 = 60_000;
/// On a mobile network nothing is known of, so much (bits a second) is hoped for.
const MOBILE: f64 = 1_500_000.0;

/// Names a candidate over changes of the list.
type Key = (String, String);

fn key(candidate: &Candidate) -> Key {
    (candidate.transport.clone(), candidate.rendition.clone())
}

/// "HLS", "HLS (mobile)".
fn name(candidate: &Candidate) -> String {
    let transport = match candidate.transport.as_str() {
        name @ ("hls" | "mjpeg" | "mse") => name.to_uppercase(),
        name => name.to_owned(),
    };
    match candidate.rendition.as_str() {
        "" => transport,
        rendition => format!("{transport} ({rendition})"),
    }
}

/// On the way to another candidate.
#[derive(Clone, Debug)]
struct Move {
    to: u32,
    up: bool,
}

/// What gave no picture.
#[derive(Clone, Copy, Debug)]
struct Avoided {
    until: u64,
    times: u32,
}

/// See [`crate`].
pub struct Session {
    options: Options,
    save_data: bool,
    network: Option<String>,
    /// Somebody has turned the sound on.
    listening: bool,
    candidates: Vec<Candidate>,
    ladder: Ladder,
    /// What is on the screen.
    playing: Option<u32>,
    moving: Option<Move>,
    link: Link,
    /// The most that was needed lately, bits a second.
    needed: BTreeMap<Key, f64>,
    /// The same by index, for the candidates that there are.
    seen: Vec<Option<f64>>,
    avoided: BTreeMap<Key, Avoided>,
    /// When the last report came.
    last: Option<u64>,
    /// Since when it is on the screen.
    settled_at: u64,
    /// When moves of the last time were done.
    moved_at: Vec<u64>,
    dwell: u64,
    /// When it went up, until that is proven right.
    rose_at: Option<u64>,
    /// Since when more is needed than should be.
    short_since: Option<u64>,
    /// Since when the link has carried enough for a candidate.
    good_since: BTreeMap<u32, u64>,
    /// Since when there has been no trouble.
    quiet_since: u64,
}

impl Session {
    /// Of that client.
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
            needed: BTreeMap::new(),
            seen: Vec::new(),
            avoided: BTreeMap::new(),
            last: None,
            settled_at: 0,
            moved_at: Vec::new(),
            rose_at: None,
            short_since: None,
            good_since: BTreeMap::new(),
            quiet_since: 0,
        }
    }

    /// What to play of these.
    pub fn choose(&mut self, at: u64, candidates: Vec<Candidate>, playing: Option<u32>) -> Choice {
        self.candidates = candidates;
        let seen = |candidate| self.needed.get(&key(candidate)).copied();
        self.seen = self.candidates.iter().map(seen).collect();
        self.moving = None;
        self.good_since.clear();
        self.build(at);
        self.playing = playing;
        if let Some(playing) = playing {
            self.settled_at = at;
            return self.choice(playing, "it plays already".into());
        }
        let (chosen, reason) = self.start(at);
        self.choice(chosen, reason.into())
    }

    /// What fits a session that plays nothing yet, and why.
    fn start(&self, at: u64) -> (u32, &'static str) {
        let (place, reason) = match (self.is_mobile(), self.save_data, self.ladder.far()) {
            (true, _, Some(far)) => (far, "the network is a mobile one"),
            (_, true, Some(far)) => (far, "the browser asks for few bytes"),
            _ if self.listens(0) => (0, "it carries the sound, and shows pictures soonest"),
            _ => (0, "it shows pictures soonest"),
        };
        let carries = self.link.carries_now(at).unwrap_or(MOBILE);
        let rungs = self.ladder.from(place);
        let fitting = match place {
            0 => rungs.first(),
            _ => rungs.iter().find(|rung| self.fits(**rung, carries)),
        };
        (fitting.or(rungs.last()).copied().unwrap_or(0), reason)
    }

    /// Whether somebody listens, and the rung at that place carries sound.
    fn listens(&self, place: usize) -> bool {
        let rung = self.ladder.from(place).first();
        self.listening && rung.is_some_and(|rung| self.carries_sound(*rung))
    }

    fn carries_sound(&self, index: u32) -> bool {
        let candidate = self.candidates.get(index as usize);
        candidate.is_some_and(|candidate| candidate.sound)
    }

    /// Something happened.
    pub fn observe(&mut self, at: u64, event: &Event) -> Option<Choice> {
        match event {
            Event::Report(report) => self.report(at, report),
            Event::Playing(index) => {
                self.shows(at, *index);
                None
            }
            Event::Failed(index) => self.failed(at, *index),
        }
    }

    fn shows(&mut self, at: u64, index: u32) {
        let up = matches!(&self.moving, Some(moving) if moving.to == index && moving.up);
        self.rose_at = if up { Some(at) } else { self.rose_at };
        if self.playing.is_some_and(|playing| playing != index) {
            self.moved_at.retain(|moved| moved + MINUTE > at);
            self.moved_at.push(at);
        }
        self.moving = None;
        self.playing = Some(index);
        self.settled_at = at;
        self.quiet_since = at;
        self.short_since = None;
        self.good_since.clear();
        self.link.calm();
    }

    fn failed(&mut self, at: u64, index: u32) -> Option<Choice> {
        let failed = self.candidates.get(index as usize)?;
        let (failed, shown) = (key(failed), name(failed));
        let down = self.moving.as_ref().is_some_and(|moving| !moving.up);
        if let Some(playing) = self.playing.filter(|playing| down && *playing != index) {
            // On a link that is too narrow for what plays, that is no wonder; it is tried again, as low as can be.
            let carries = self.link.carries_now(at);
            if carries.is_some_and(|carries| !self.fits(playing, carries)) {
                self.moving = None;
                let lowest = *self.ladder.from(0).last()?;
                return self.go(at, lowest, format!("{shown} gave no picture in time"));
            }
        }
        let times = self.avoided.get(&failed).map_or(0, |known| known.times);
        let wait = (AVOIDED.0 << times.min(8)).min(AVOIDED.1);
        let avoided = Avoided {
            until: at + wait,
            times: times + 1,
        };
        self.avoided.insert(failed, avoided);
        self.build(at);
        let moving = self.moving.take();
        if moving.as_ref().is_some_and(|moving| moving.up) {
            self.fell();
        }
        // What plays goes on playing, if it is not that which failed, and was not about to be left for good reason.
        let down = moving.is_some_and(|moving| !moving.up);
        if self.playing.is_some_and(|playing| playing != index) && !down {
            return None;
        }
        if self.playing == Some(index) {
            self.playing = None;
        }
        let carries = self.link.carries_now(at);
        let rungs = self.ladder.from(0);
        let fitting = rungs.iter().find(|rung| match carries {
            Some(carries) => self.fits(**rung, carries),
            None => true,
        });
        let next = *fitting.or(rungs.last())?;
        // Where nothing else may be played, the player is left to help itself.
        if self.playing == Some(next) || next == index {
            return None;
        }
        self.go(at, next, format!("{shown} gave no picture"))
    }

    fn report(&mut self, at: u64, report: &Report) -> Option<Choice> {
        let passed = self.last.map_or(1000, |last| at.saturating_sub(last));
        self.last = Some(at);
        self.network.clone_from(&report.network);
        if !report.visible || passed > MAX_GAP {
            self.pause(at);
            return None;
        }
        if self
            .avoided
            .values()
            .any(|avoided| at >= avoided.until && at - avoided.until <= passed)
        {
            self.build(at);
        }
        if report.listening != self.listening {
            self.listening = report.listening;
            self.build(at);
        }
        let playing = self.playing?;
        if self.moving.is_none() && !self.carries_sound(playing) && self.listens(0) {
            let (to, _) = self.start(at);
            let reason = format!(
                "somebody listens, and {} carries no sound",
                self.name(playing)
            );
            return self.go(at, to, reason);
        }
        let silent = report.received == 0 && report.stalled_ms == 0 && report.queued_ms == 0;
        if silent {
            // The source is still; that says nothing of the link.
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
        let warm = at >= self.settled_at + WARM_UP;
        // What came is not told of everything: where the browser plays HLS itself, its bytes are its own.
        if !limited && warm && report.received > 0 {
            self.learn(at, playing, report.received.into(), passed);
        }
        if self.rose_at.is_some_and(|rose| at >= rose + PROVEN) {
            self.rose_at = None;
            self.dwell = self.options.dwell.0.into();
        }
        let pulled = report.buffered_ms.is_some();
        let trouble = self.trouble(at, playing, limited, pulled, warm);
        if limited || trouble.is_some() {
            self.quiet_since = at;
        }
        match (&self.moving, trouble) {
            (Some(moving), Some(trouble)) if moving.up => {
                self.moving = None;
                self.fell();
                self.link.calm();
                Some(self.choice(playing, format!("the link does not carry both: {trouble}")))
            }
            (Some(_), _) => None,
            (None, Some(trouble)) => self.down(at, playing, trouble),
            (None, None) => self
                .leave_near(at, playing)
                .or_else(|| self.up(at, playing, limited)),
        }
    }

    /// What plays without trouble needs what came. It may need more if the link could not carry more.
    fn learn(&mut self, at: u64, playing: u32, received: f64, passed: u64) -> Option<()> {
        let of = self.candidates.get(playing as usize)?;
        let seen = self.seen.get_mut(playing as usize)?;
        let carries = self.link.carries_now(at);
        let easy = carries.is_none_or(|carries| received <= self.options.down_at * carries);
        let needs = match (easy, *seen) {
            (true, known) => most(known, received, passed),
            (false, Some(known)) => known.max(received),
            (false, None) => return None,
        };
        *seen = Some(needs);
        self.needed.insert(key(of), needs);
        Some(())
    }

    /// Nothing was to be seen for a while.
    fn pause(&mut self, at: u64) {
        self.link.calm();
        self.short_since = None;
        self.good_since.clear();
        self.quiet_since = at;
        self.settled_at = self.settled_at.max(at.saturating_sub(WARM_UP / 2));
    }

    /// What is wrong with what plays, in words.
    fn trouble(
        &mut self,
        at: u64,
        playing: u32,
        limited: bool,
        pulled: bool,
        warm: bool,
    ) -> Option<String> {
        let needs = self.needs(playing);
        let carries = self.link.carries_now(at);
        // What is pushed, and comes in time, is carried, however little more the link is seen to carry.
        let short = (limited || (pulled && self.is_known(playing)))
            && carries.is_some_and(|carries| needs > self.options.down_at * carries);
        self.short_since = short.then(|| self.short_since.unwrap_or(at));
        let stalled = self.link.stalled();
        if stalled >= self.options.stall_limit.0.into() {
            return Some(format!("pictures stood still for {}", seconds(stalled)));
        }
        if !warm {
            return None;
        }
        if self
            .link
            .queued(at)
            .is_some_and(|queued| queued >= QUEUED_FOR)
        {
            let limit = seconds(self.options.queue_limit.0.into());
            return Some(format!("pictures came more than {limit} late"));
        }
        if self.link.dropping(at) >= DROPPED_FOR {
            return Some("this device shows less than it gets".into());
        }
        let for_long = |since| at.saturating_sub(since) >= u64::from(self.options.down_after.0);
        match (self.short_since.is_some_and(for_long), carries) {
            (true, Some(carries)) => Some(format!(
                "the link carries about {}, {} needs {}",
                rate(carries),
                self.name(playing),
                rate(needs)
            )),
            _ => None,
        }
    }

    fn down(&mut self, at: u64, playing: u32, trouble: String) -> Option<Choice> {
        if self.rose_at.take().is_some() {
            self.fell();
        }
        let place = self.ladder.place(playing);
        let below = self.ladder.from(place.map_or(0, |place| place + 1));
        let fitting = match self.link.carries_now(at) {
            // With room to spare: it starts while there is still something of the other on the link.
            Some(carries) => below
                .iter()
                .find(|rung| self.needs(**rung) <= self.options.up_at * carries),
            None => below.first(),
        };
        let to = *fitting.or(below.last())?;
        self.link.calm();
        self.go(at, to, trouble)
    }

    /// A mobile network is no place for what is meant for a good one.
    fn leave_near(&mut self, at: u64, playing: u32) -> Option<Choice> {
        let far = self.ladder.far()?;
        if !self.is_mobile() || self.ladder.place(playing)? >= far {
            return None;
        }
        let carries = self.link.carries_now(at).unwrap_or(MOBILE);
        let rungs = self.ladder.from(far);
        let fitting = rungs.iter().find(|rung| self.fits(**rung, carries));
        let to = *fitting.or(rungs.last())?;
        self.go(at, to, "the network is a mobile one now".into())
    }

    fn up(&mut self, at: u64, playing: u32, limited: bool) -> Option<Choice> {
        let place = self.ladder.place(playing);
        let allowed = match (self.is_mobile(), self.ladder.far()) {
            (true, Some(far)) => far,
            _ => 0,
        };
        let above: Vec<u32> = match place {
            Some(place) => {
                let above = self.ladder.before(place);
                above.get(allowed..).unwrap_or_default().to_vec()
            }
            // What plays is no rung: somebody had chosen it before.
            None => self.ladder.from(allowed).to_vec(),
        };
        let carries = self.link.carries(at);
        for rung in &above {
            let enough =
                carries.is_some_and(|carries| self.needs(*rung) <= self.options.up_at * carries);
            if enough && !limited {
                self.good_since.entry(*rung).or_insert(at);
            } else {
                self.good_since.remove(rung);
            }
        }
        let last = self.moved_at.last();
        let waited = last.is_none_or(|moved| at >= moved + self.dwell);
        let lately = self.moved_at.iter().filter(|moved| **moved + MINUTE > at);
        let restless = lately.count() >= self.options.moves_per_minute as usize;
        if !waited || limited || restless {
            return None;
        }
        let long = u64::from(self.options.up_after.0).max(self.dwell);
        // One that is about to be good enough for long is worth waiting for: that spares a move.
        let newest = self.link.newest(at);
        let soon = |rung: &u32| {
            newest.is_some_and(|newest| self.needs(*rung) <= self.options.up_at * newest)
        };
        let best = above
            .iter()
            .find(|rung| self.good_since.contains_key(*rung) || soon(rung));
        if let (Some(rung), Some(carries)) = (best, carries) {
            let since = self.good_since.get(rung).copied();
            if since.is_none_or(|since| at.saturating_sub(since) < long) {
                return None;
            }
            let reason = format!(
                "the link has carried {} for {}",
                rate(carries),
                seconds(long)
            );
            return self.go(at, *rung, reason);
        }
        // Unknown, but nothing speaks against it.
        let quiet = at.saturating_sub(self.quiet_since);
        let trial = u64::from(self.options.probe_after.0).max(self.dwell);
        if carries.is_none() && quiet >= trial {
            let next = *above.last()?;
            return self.go(
                at,
                next,
                format!("there was no trouble for {}", seconds(trial)),
            );
        }
        None
    }

    fn go(&mut self, at: u64, to: u32, reason: String) -> Option<Choice> {
        let up = match (
            self.playing.and_then(|from| self.ladder.place(from)),
            self.ladder.place(to),
        ) {
            (Some(from), Some(to)) => to < from,
            _ => false,
        };
        self.moving = Some(Move { to, up });
        self.short_since = None;
        self.good_since.clear();
        self.quiet_since = at;
        Some(self.choice(to, reason))
    }

    /// A step up was wrong.
    fn fell(&mut self) {
        self.rose_at = None;
        self.dwell = (self.dwell * 2).min(self.options.dwell_limit.0.into());
    }

    fn build(&mut self, at: u64) {
        let avoided = &self.avoided;
        let avoid = |candidate: &Candidate| {
            let known = avoided.get(&key(candidate));
            known.is_some_and(|known| at < known.until)
        };
        // Who listens is given what carries sound, as long as there is some that works.
        let heard = |candidate: &Candidate| candidate.sound && !avoid(candidate);
        let only_heard = self.listening && self.candidates.iter().any(heard);
        self.ladder = Ladder::new(&self.candidates, &self.options, |candidate| {
            avoid(candidate) || (only_heard && !candidate.sound)
        });
        if self.ladder.from(0).is_empty() {
            // Better one that failed than none.
            self.ladder = Ladder::new(&self.candidates, &self.options, |_| false);
        }
    }

    fn is_mobile(&self) -> bool {
        let network = self.network.as_deref().unwrap_or_default();
        self.options.cellular_is_far && matches!(network, "cellular" | "slow-2g" | "2g" | "3g")
    }

    fn is_known(&self, index: u32) -> bool {
        matches!(self.seen.get(index as usize), Some(Some(_)))
    }

    /// What a candidate needs, bits a second: as was seen, else as was said.
    fn needs(&self, index: u32) -> f64 {
        self.candidates
            .get(index as usize)
            .map_or(0.0, |candidate| {
                let seen = self.seen.get(index as usize).copied().flatten();
                seen.unwrap_or(candidate.bandwidth.into())
            })
    }

    fn fits(&self, index: u32, carries: f64) -> bool {
        self.needs(index) <= self.options.down_at * carries
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

/// "1.4 s".
fn seconds(ms: u64) -> String {
    match (ms / 1000, ms % 1000 / 100) {
        (whole, 0) => format!("{whole} s"),
        (whole, tenths) => format!("{whole}.{tenths} s"),
    }
}

#[cfg(test)]
mod tests;
