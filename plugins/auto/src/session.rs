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
const LONGEST_GAP: u64 = 5000;
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
        self.start(at)
    }

    fn start(&mut self, at: u64) -> Choice {
        let (place, reason) = match (self.is_mobile(), self.save_data, self.ladder.far()) {
            (true, _, Some(far)) => (far, "the network is a mobile one"),
            (_, true, Some(far)) => (far, "the browser asks for few bytes"),
            _ => (0, "it shows pictures soonest"),
        };
        let carries = self.link.carries_now(at).unwrap_or(MOBILE);
        let rungs = self.ladder.from(place);
        let fitting = match place {
            0 => rungs.first(),
            _ => rungs.iter().find(|rung| self.fits(**rung, carries)),
        };
        let chosen = fitting.or(rungs.last()).copied().unwrap_or(0);
        self.choice(chosen, reason.into())
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
        if self.moving.as_ref().is_some_and(|moving| !moving.up) && self.playing != Some(index) {
            // On a link that is too narrow for what plays, that is no wonder; it is tried again, as low as can be.
            let carries = self.link.carries_now(at);
            let playing = self.playing?;
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
        if self.playing == Some(next) {
            return None;
        }
        self.go(at, next, format!("{shown} gave no picture"))
    }

    fn report(&mut self, at: u64, report: &Report) -> Option<Choice> {
        let passed = self.last.map_or(1000, |last| at.saturating_sub(last));
        self.last = Some(at);
        self.network.clone_from(&report.network);
        if !report.visible || passed > LONGEST_GAP {
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
        let playing = self.playing?;
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
        self.ladder = Ladder::new(&self.candidates, &self.options, avoid);
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn form(transport: &str, bandwidth: u32, frame_rate: f32) -> Candidate {
        Candidate {
            transport: transport.into(),
            rendition: String::new(),
            bandwidth,
            latency_ms: 0,
            width: 640,
            height: 360,
            frame_rate,
        }
    }

    /// On MJPEG, which shows pictures.
    fn watching() -> Session {
        let client = Client {
            address: "192.0.2.7".into(),
            user_agent: String::new(),
            save_data: false,
            network: None,
        };
        let mut session = Session::new(Options::default(), &client);
        let forms = vec![form("hls", 800_000, 30.0), form("mjpeg", 2_304_000, 10.0)];
        assert_eq!(session.choose(0, forms, None).candidate, 1);
        assert!(session.observe(0, &Event::Playing(1)).is_none());
        session
    }

    fn report(received: u32, goodput: Option<u32>) -> Report {
        Report {
            round_trip_ms: Some(4),
            goodput,
            received,
            queued_ms: 3,
            buffered_ms: None,
            stalled_ms: 0,
            frames_dropped: 0,
            frame_rate: 10.0,
            network: Some("4g".into()),
            visible: true,
        }
    }

    /// As a browser told it on a link without any limit: the encoder's pace is what came, once in a while measured badly.
    #[test]
    fn a_link_that_has_little_to_do_is_not_left() {
        let mut session = watching();
        for second in 1..300u64 {
            let came = 1_850_000 + 290_000 * (second % 3) as u32;
            let goodput = (second % 40 == 1).then_some(233_836);
            let told = Event::Report(report(came, goodput));
            let choice = session.observe(second * 1000, &told);
            assert!(choice.is_none(), "{second}: {choice:?}");
        }
        // And is, once pictures are missing.
        let narrow = Report {
            frame_rate: 5.0,
            ..report(1_000_000, Some(1_100_000))
        };
        let choice = (300..305)
            .find_map(|second| session.observe(second * 1000, &Event::Report(narrow.clone())))
            .unwrap();
        assert_eq!(choice.candidate, 0);
        assert_eq!(
            choice.reason,
            "the link carries about 1.1 Mbit/s, MJPEG needs 2.4 Mbit/s"
        );
    }

    /// Where a browser plays HLS itself, nobody knows its bytes; that is not the same as none.
    #[test]
    fn what_is_not_counted_needs_what_was_said() {
        let mut session = watching();
        let _ = session.observe(1000, &Event::Playing(0));
        for second in 2..20 {
            let uncounted = Report {
                buffered_ms: Some(4000),
                frame_rate: 30.0,
                ..report(0, None)
            };
            let choice = session.observe(second * 1000, &Event::Report(uncounted));
            assert!(choice.is_none(), "{second}: {choice:?}");
        }
        assert!((session.needs(0) - 800_000.0).abs() < 1.0);
    }
}
