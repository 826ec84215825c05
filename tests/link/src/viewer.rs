//! What viewers do on a link: MJPEG, the newest picture only; HLS, part by part with a buffer.

/// The clock of the simulation.
pub const TICK_MS: u64 = 10;
/// Pictures stand still when none came for this long.
const STILL_MS: u64 = 1000;
/// Who makes way shows a picture a second for so long, and then none.
const YIELDED_MS: u64 = 1000;
const YIELDS_MS: u64 = 2000;
/// Where a player starts, and where it gives up what is behind (ms).
const GROUP_MS: u64 = 2000;
const TOO_LATE_MS: u64 = 4000;

/// A transport as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// So many pictures a second.
    Mjpeg { frame_rate: u64 },
    /// Parts of so long; played three of them behind.
    Hls { part_ms: u64 },
}

/// A candidate of the simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    pub transport: &'static str,
    pub rendition: &'static str,
    pub kind: Kind,
    /// Bits a second.
    pub rate: f64,
}

/// One viewer: what it wants sent, and what it shows.
#[derive(Clone, Debug)]
pub struct Viewer {
    pub form: Form,
    began: u64,
    /// What is under way, as (bytes left, made at, media ms in it); and how much of it is in the link's queue.
    under_way: Option<(f64, u64, u64)>,
    pub in_queue: f64,
    /// When something may be asked for again: a request takes its time.
    asks_at: u64,
    /// Where it began to load, and when.
    start: u64,
    loads: u64,
    /// Where the next part begins; media time is the clock.
    next_part: u64,
    /// Media that could be played, up to here; and where it plays.
    have: u64,
    at: Option<u64>,
    /// How far behind live it plays.
    behind: u64,
    pub shown: bool,
    still: u64,
    pub stalled: u64,
    pub pictures: u64,
    pub bytes: f64,
    pub busy: u64,
    /// Age of the newest that came, in excess of what it must be.
    pub late: u64,
}

impl Viewer {
    pub fn new(form: Form, now: u64) -> Viewer {
        Viewer {
            form,
            began: now,
            under_way: None,
            in_queue: 0.0,
            asks_at: now,
            start: now / GROUP_MS * GROUP_MS,
            loads: now,
            next_part: now / GROUP_MS * GROUP_MS,
            have: now / GROUP_MS * GROUP_MS,
            at: None,
            behind: match form.kind {
                Kind::Hls { part_ms } => 3 * part_ms,
                Kind::Mjpeg { .. } => 0,
            },
            shown: false,
            still: 0,
            stalled: 0,
            pictures: 0,
            bytes: 0.0,
            busy: 0,
            late: 0,
        }
    }

    /// Bytes that wait for the link's queue. Who is left for something smaller since `yields` makes way for that.
    pub fn wants(&mut self, now: u64, yields: Option<u64>) -> f64 {
        let makes_way = yields.is_some_and(|since| match self.form.kind {
            Kind::Mjpeg { .. } => now > since + YIELDS_MS || now < self.asks_at + YIELDED_MS,
            Kind::Hls { .. } => true,
        });
        if self.under_way.is_none() && now >= self.asks_at && !makes_way {
            match self.form.kind {
                Kind::Mjpeg { frame_rate } => {
                    let every = 1000 / frame_rate;
                    // The newest; the one after it when it is there.
                    let made = now / every * every;
                    self.under_way = Some((self.form.rate / 8.0 / frame_rate as f64, made, every));
                    self.asks_at = made + every;
                }
                Kind::Hls { part_ms } => {
                    if now > self.next_part + TOO_LATE_MS + GROUP_MS {
                        self.next_part = now / GROUP_MS * GROUP_MS;
                        (self.start, self.have, self.loads) = (self.next_part, self.next_part, now);
                        self.at = None;
                    }
                    if now >= self.next_part + part_ms {
                        let bytes = self.form.rate / 8.0 * part_ms as f64 / 1000.0;
                        self.under_way = Some((bytes, self.next_part, part_ms));
                    }
                }
            }
        }
        self.under_way
            .map_or(0.0, |(bytes, ..)| bytes - self.in_queue)
    }

    /// So many bytes came through; what is complete is there `delay` later.
    pub fn got(&mut self, now: u64, bytes: f64, delay: u64) {
        self.bytes += bytes;
        self.in_queue -= bytes;
        let Some((left, made, length)) = &mut self.under_way else {
            return;
        };
        *left -= bytes;
        if *left > 0.5 {
            return;
        }
        let (made, length) = (*made, *length);
        self.under_way = None;
        self.late = (now + delay).saturating_sub(made + length);
        match self.form.kind {
            Kind::Mjpeg { .. } => {
                self.shown = true;
                self.pictures += 1;
                self.still = 0;
            }
            Kind::Hls { part_ms } => {
                self.next_part = made + part_ms;
                self.have = made + length;
                // The request for the next has to get there, too.
                self.asks_at = now + 2 * delay;
            }
        }
    }

    /// Plays for a tick.
    pub fn play(&mut self, now: u64) {
        if let Kind::Hls { .. } = self.form.kind {
            let at = match self.at {
                // It begins where it should have been when it began to load, as soon as a part of that is there.
                None => {
                    let from = self.start.max(self.loads.saturating_sub(self.behind));
                    (self.have >= from + self.behind / 3).then_some(from)
                }
                Some(at) if at + TICK_MS <= self.have => Some(at + TICK_MS),
                Some(at) => Some(at),
            };
            if let (Some(at), Some(before)) = (at, self.at)
                && at > before
            {
                self.still = 0;
                self.pictures += u64::from(at / 33 > before / 33);
            } else if at.is_some() && self.at.is_none() {
                self.shown = true;
                self.still = 0;
            }
            // It catches up slowly, and jumps when it is far behind.
            self.at = at.map(|at| match now - at {
                behind if behind > self.behind + TOO_LATE_MS => {
                    now.saturating_sub(self.behind).min(self.have)
                }
                behind if behind > self.behind + 50 && at + 2 < self.have => {
                    at + u64::from(now.is_multiple_of(200)) * TICK_MS
                }
                _ => at,
            });
            self.late = 0;
        }
        if self.shown {
            self.still += TICK_MS;
            if self.still > STILL_MS {
                self.stalled += TICK_MS;
            }
        }
    }

    /// What it could still show if nothing came (ms).
    pub fn buffered(&self) -> Option<u64> {
        match self.form.kind {
            Kind::Mjpeg { .. } => None,
            Kind::Hls { .. } => self.at.map(|at| self.have.saturating_sub(at)),
        }
    }

    /// Age of what it would show, if it is an MJPEG whose next picture is long under way.
    pub fn waits(&self, now: u64) -> u64 {
        match (self.form.kind, self.under_way) {
            (Kind::Mjpeg { .. }, Some((_, made, length))) => now.saturating_sub(made + length),
            _ => 0,
        }
    }

    pub fn since(&self, now: u64) -> u64 {
        now - self.began
    }
}
