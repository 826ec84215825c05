// Controls how far behind live a video element plays: as little as the network allows. Pure; the caller supplies
// clock and element state and applies the returned adjustment.
//
// Playback is smooth if each frame is available by the time the previous one has been displayed. A frame's lateness is
// therefore its arrival time (clock) minus the start of the previous frame (media time). The maximum over the last
// seconds bounds how late frames may arrive; playing at (now - maximum - a margin for decoding) never underruns and is
// no later than necessary.

/** A range of buffered media, in seconds. */
export interface TimeRange {
  readonly from: number;
  readonly to: number;
}

/** An action for the element. */
export type Adjustment = { readonly kind: "seek"; readonly to: number } | { readonly kind: "rate"; readonly rate: number };

/** Initial margin for decoding (s), from append to decoded. */
const MARGIN = 0.04;
const MARGIN_STEP = 0.03;
const MARGIN_LIMIT = 0.5;
/** Minimum time (ms) between two increases of the margin, and time without need after which it shrinks. */
const MARGIN_TRIED_MS = 1000;
const MARGIN_KEPT_MS = 20_000;

/** Lateness is remembered for this long (ms), in buckets. */
const REMEMBERED_MS = 5000;
const BUCKET_MS = 500;
/** Maximum jitter buffer (s), however late media arrives; beyond that, playback may underrun. */
const MAX_JITTER_BUFFER = 2;

/** The backlog sent to a joining viewer arrives at once. It is complete when nothing has arrived for this long (ms). */
const BACKLOG_PAUSE_MS = 60;
/** Initial lateness (s), as the frames of a backlog do not reveal it. */
const INITIAL_LATENESS = 0.1;
/**
 * On a long path a backlog pauses, too: TCP sends a little more each round trip. Each part is less late than all before,
 * as no frame on time is. So if lateness sinks below its minimum by more than `BACKLOG` (s) in all, in steps of at least
 * `BACKLOG_STEP` (s) that follow one another within `BACKLOG_STEP_MS`, what was before was a backlog.
 */
const BACKLOG = 0.1;
const BACKLOG_STEP = 0.005;
const BACKLOG_STEP_MS = 300;

/** Beyond this distance (s) the player jumps instead of catching up by rate. */
const JUMP = 4;
/** The same after a pause, when nobody notices the jump. */
const JUMP_RESUMED = 0.3;
/** An offset above `ADJUST_ABOVE` (s) changes the playback rate; below `ADJUST_UNTIL` the rate returns to 1. */
const ADJUST_ABOVE = 0.03;
const ADJUST_UNTIL = 0.015;
/** At this distance (s) from the end of the buffer, the last frame is still displayed. */
const AT_END = 0.01;

/**
 * Without rate changes: the distance (s) that triggers a jump, its target distance (s), and the minimum time (ms)
 * between jumps.
 */
const STEADY_JUMP = 3;
const STEADY_TARGET = 0.75;
const STEADY_REST_MS = 5000;

/** State for one media source, from its opening on. */
export class LiveEdge {
  readonly #adjustsRate: boolean;
  #buckets: { readonly since: number; lateness: number; frameDuration: number }[] = [];
  #margin = MARGIN;
  #marginAt = 0;
  #rate = 1;
  #jumpedAt = -Infinity;
  #last: { readonly now: number; readonly from: number } | null = null;
  #joining = true;
  #resumed = false;
  /** The minimum of lateness (s), when it last sank by a step, and by how much it has sunk in such steps. */
  #least = Infinity;
  #sank = { now: 0, by: 0 };

  /** `adjustsRate`: whether the playback rate may be changed. */
  constructor({ adjustsRate }: { adjustsRate: boolean }) {
    this.#adjustsRate = adjustsRate;
  }

  /** At `now` (ms), media from `from` to `to` (s) became playable. */
  arrived(now: number, from: number, to: number): void {
    const last = this.#last;
    if (this.#joining && last !== null && now - last.now >= ((to - from) * 1000) / 2) this.#joining = false;
    if (this.#joining || last === null) {
      // Only the end of a backlog reveals how late media arrives.
      this.#buckets = [{ since: now, lateness: now / 1000 - to + INITIAL_LATENESS, frameDuration: to - from }];
      this.#last = { now, from: to };
      return;
    }
    const lateness = now / 1000 - last.from;
    if (this.#isBacklog(now, lateness)) this.#buckets = [{ since: now, lateness: lateness + INITIAL_LATENESS, frameDuration: to - from }];
    else this.#record(now, lateness, to - from);
    // Several frames may have arrived at once.
    this.#last = { now, from: to - Math.min(...this.#buckets.map(({ frameDuration }) => frameDuration)) };
  }

  /** Playback stopped at `position` (s) although more was buffered: decoding takes longer than assumed. */
  underrun(now: number, position: number, ranges: readonly TimeRange[]): void {
    const newest = ranges.at(-1);
    if (now - this.#marginAt < MARGIN_TRIED_MS || newest === undefined || position < newest.from || position > newest.to - MARGIN / 2) return;
    this.#margin = Math.min(MARGIN_LIMIT, this.#margin + MARGIN_STEP);
    this.#marginAt = now;
  }

  /** Playback resumed after a pause. */
  resumed(): void {
    this.#resumed = true;
  }

  /** Returns the action at `now` (ms) for an element at `position` (s) with these buffered ranges; null for none. */
  update(now: number, position: number, ranges: readonly TimeRange[]): Adjustment | null {
    const newest = ranges.at(-1);
    if (newest === undefined || this.#last === null) return null;
    if (this.#joining && now - this.#last.now < BACKLOG_PAUSE_MS) return null;
    if (now - this.#marginAt > MARGIN_KEPT_MS && this.#margin > MARGIN) {
      this.#margin = Math.max(MARGIN, this.#margin - MARGIN_STEP);
      this.#marginAt = now;
    }
    const due = now / 1000 - this.#maxLateness() - this.#margin;
    const target = Math.min(Math.max(due, newest.from), newest.to - AT_END);
    const behind = target - position;
    const inside = ranges.find(({ from, to }) => from <= position && position < to - AT_END);
    if (this.#joining || (inside === undefined && position < newest.from)) {
      this.#joining = false;
      return this.#seek(now, target);
    }
    const jumps = this.#resumed || this.#backlogEnded(now);
    this.#resumed = false;
    if (jumps && behind > JUMP_RESUMED) return this.#seek(now, target);
    return this.#adjustsRate ? this.#follow(now, behind, target) : this.#jump(now, newest.to - position, newest);
  }

  /** Whether all frames until this one were late only because they were part of a backlog. */
  #isBacklog(now: number, lateness: number): boolean {
    const by = this.#least - lateness;
    this.#least = Math.min(this.#least, lateness);
    if (by < BACKLOG_STEP || by === Infinity) return false;
    const before = now - this.#sank.now < BACKLOG_STEP_MS ? this.#sank.by : 0;
    this.#sank = { now, by: before + by };
    return this.#sank.by > BACKLOG;
  }

  /** Whether a backlog has ended since the last call. */
  #backlogEnded(now: number): boolean {
    const ended = this.#sank.by > BACKLOG && now - this.#sank.now >= BACKLOG_STEP_MS;
    if (ended) this.#sank = { now, by: 0 };
    return ended;
  }

  #record(now: number, lateness: number, frameDuration: number): void {
    const bucket = this.#buckets.at(-1);
    if (bucket !== undefined && now - bucket.since < BUCKET_MS) {
      bucket.lateness = Math.max(bucket.lateness, lateness);
      bucket.frameDuration = Math.min(bucket.frameDuration, frameDuration);
      return;
    }
    this.#buckets.push({ since: now, lateness, frameDuration });
    while ((this.#buckets[0]?.since ?? now) < now - REMEMBERED_MS) this.#buckets.shift();
  }

  #maxLateness(): number {
    const all = this.#buckets.map(({ lateness }) => lateness);
    return Math.min(Math.max(...all), Math.min(...all) + MAX_JITTER_BUFFER);
  }

  #follow(now: number, behind: number, target: number): Adjustment | null {
    if (behind > JUMP) return this.#seek(now, target);
    const offset = Math.abs(behind);
    if (offset > ADJUST_UNTIL && offset < ADJUST_ABOVE) return null;
    const change = offset <= ADJUST_UNTIL ? 0 : offset < 2 * ADJUST_ABOVE ? 0.05 : 0.1;
    const rate = 1 + (behind > 0 ? change : -change);
    if (rate === this.#rate) return null;
    this.#rate = rate;
    return { kind: "rate", rate };
  }

  #jump(now: number, behind: number, newest: TimeRange): Adjustment | null {
    if (behind <= STEADY_JUMP || now - this.#jumpedAt < STEADY_REST_MS) return null;
    return this.#seek(now, Math.max(newest.from, newest.to - STEADY_TARGET));
  }

  #seek(now: number, to: number): Adjustment {
    this.#jumpedAt = now;
    return { kind: "seek", to };
  }
}
