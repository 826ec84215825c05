//! Viewers on a link: MJPEG always fetches the newest frame only; HLS fetches part by part with a buffer.

/// Time step of the simulation.
pub const TICK_MS: u64 = 10;
/// Playback counts as standing still after this time without a new frame.
const STALL_AFTER_MS: u64 = 1000;
/// A transport that makes way sends one frame per second (`YIELDED_INTERVAL_MS`) for this time (`YIELDS_MS`), and then
/// none.
const YIELDED_INTERVAL_MS: u64 = 1000;
const YIELDS_MS: u64 = 2000;
/// Players start at multiples of this (`GROUP_MS`), and give up what is further behind than that (`MAX_LAG_MS`).
const GROUP_MS: u64 = 2000;
const MAX_LAG_MS: u64 = 4000;

/// A transport by its behaviour on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Frames per second.
    Mjpeg { frame_rate: u64 },
    /// Duration of a part; playback is three parts behind live.
    Hls { part_ms: u64 },
}

/// A candidate of the simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkCandidate {
    pub transport: &'static str,
    pub rendition: &'static str,
    pub kind: Kind,
    /// Rate in bits per second.
    pub rate: f64,
}

/// One viewer: the data it requests, and what it shows.
#[derive(Clone, Debug)]
pub struct Viewer {
    pub form: LinkCandidate,
    began: u64,
    /// Data in transit as (bytes left, time made, media ms in it), and how much of it is in the link's queue.
    in_transit: Option<(f64, u64, u64)>,
    pub in_queue: f64,
    /// Earliest time of the next request: a request takes its time, too.
    next_request_at: u64,
    /// Media time at which loading started, and when that was.
    start: u64,
    loading_since: u64,
    /// Start of the next part; media time equals the clock.
    next_part: u64,
    /// End of the media that can be played, and the playback position.
    loaded_until: u64,
    at: Option<u64>,
    /// Distance of playback behind live.
    live_offset: u64,
    pub shown: bool,
    still: u64,
    pub stalled: u64,
    pub frames: u64,
    pub bytes: f64,
    pub busy: u64,
    /// Age of the newest data on arrival, beyond the unavoidable.
    pub late: u64,
}

impl Viewer {
    pub fn new(form: LinkCandidate, now: u64) -> Viewer {
        Viewer {
            form,
            began: now,
            in_transit: None,
            in_queue: 0.0,
            next_request_at: now,
            start: now / GROUP_MS * GROUP_MS,
            loading_since: now,
            next_part: now / GROUP_MS * GROUP_MS,
            loaded_until: now / GROUP_MS * GROUP_MS,
            at: None,
            live_offset: match form.kind {
                Kind::Hls { part_ms } => 3 * part_ms,
                Kind::Mjpeg { .. } => 0,
            },
            shown: false,
            still: 0,
            stalled: 0,
            frames: 0,
            bytes: 0.0,
            busy: 0,
            late: 0,
        }
    }

    /// Bytes waiting to enter the link's queue. `yields` is the time since which the viewer makes way for something
    /// smaller.
    pub fn pending_bytes(&mut self, now: u64, yields: Option<u64>) -> f64 {
        let makes_way = yields.is_some_and(|since| match self.form.kind {
            Kind::Mjpeg { .. } => {
                now > since + YIELDS_MS || now < self.next_request_at + YIELDED_INTERVAL_MS
            }
            Kind::Hls { .. } => true,
        });
        if self.in_transit.is_none() && now >= self.next_request_at && !makes_way {
            match self.form.kind {
                Kind::Mjpeg { frame_rate } => {
                    let every = 1000 / frame_rate;
                    // The newest frame, which is followed by the next one when that exists.
                    let made = now / every * every;
                    self.in_transit = Some((self.form.rate / 8.0 / frame_rate as f64, made, every));
                    self.next_request_at = made + every;
                }
                Kind::Hls { part_ms } => {
                    if now > self.next_part + MAX_LAG_MS + GROUP_MS {
                        self.next_part = now / GROUP_MS * GROUP_MS;
                        (self.start, self.loaded_until, self.loading_since) =
                            (self.next_part, self.next_part, now);
                        self.at = None;
                    }
                    if now >= self.next_part + part_ms {
                        let bytes = self.form.rate / 8.0 * part_ms as f64 / 1000.0;
                        self.in_transit = Some((bytes, self.next_part, part_ms));
                    }
                }
            }
        }
        self.in_transit
            .map_or(0.0, |(bytes, ..)| bytes - self.in_queue)
    }

    /// Takes `bytes` that passed the link; completed data arrives `delay` later.
    pub fn deliver(&mut self, now: u64, bytes: f64, delay: u64) {
        self.bytes += bytes;
        self.in_queue -= bytes;
        let Some((left, made, length)) = &mut self.in_transit else {
            return;
        };
        *left -= bytes;
        if *left > 0.5 {
            return;
        }
        let (made, length) = (*made, *length);
        self.in_transit = None;
        self.late = (now + delay).saturating_sub(made + length);
        match self.form.kind {
            Kind::Mjpeg { .. } => {
                self.shown = true;
                self.frames += 1;
                self.still = 0;
            }
            Kind::Hls { part_ms } => {
                self.next_part = made + part_ms;
                self.loaded_until = made + length;
                // The request for the next part takes a one-way delay, too.
                self.next_request_at = now + 2 * delay;
            }
        }
    }

    /// Advances playback by a tick.
    pub fn play(&mut self, now: u64) {
        if let Kind::Hls { .. } = self.form.kind {
            let at = match self.at {
                // Playback starts where it should have been when loading began, as soon as a part from there is
                // available.
                None => {
                    let from = self
                        .start
                        .max(self.loading_since.saturating_sub(self.live_offset));
                    (self.loaded_until >= from + self.live_offset / 3).then_some(from)
                }
                Some(at) if at + TICK_MS <= self.loaded_until => Some(at + TICK_MS),
                Some(at) => Some(at),
            };
            if let (Some(at), Some(before)) = (at, self.at)
                && at > before
            {
                self.still = 0;
                self.frames += u64::from(at / 33 > before / 33);
            } else if at.is_some() && self.at.is_none() {
                self.shown = true;
                self.still = 0;
            }
            // Playback catches up slowly, and jumps when it is far behind.
            self.at = at.map(|at| match now - at {
                live_offset if live_offset > self.live_offset + MAX_LAG_MS => {
                    now.saturating_sub(self.live_offset).min(self.loaded_until)
                }
                live_offset
                    if live_offset > self.live_offset + 50 && at + 2 < self.loaded_until =>
                {
                    at + u64::from(now.is_multiple_of(200)) * TICK_MS
                }
                _ => at,
            });
            self.late = 0;
        }
        if self.shown {
            self.still += TICK_MS;
            if self.still > STALL_AFTER_MS {
                self.stalled += TICK_MS;
            }
        }
    }

    /// Time in milliseconds for which playback could continue without further data.
    pub fn buffered(&self) -> Option<u64> {
        match self.form.kind {
            Kind::Mjpeg { .. } => None,
            Kind::Hls { .. } => self.at.map(|at| self.loaded_until.saturating_sub(at)),
        }
    }

    /// For MJPEG, age of the frame in transit once it is overdue; otherwise zero.
    pub fn overdue(&self, now: u64) -> u64 {
        match (self.form.kind, self.in_transit) {
            (Kind::Mjpeg { .. }, Some((_, made, length))) => now.saturating_sub(made + length),
            _ => 0,
        }
    }

    pub fn since(&self, now: u64) -> u64 {
        now - self.began
    }
}
