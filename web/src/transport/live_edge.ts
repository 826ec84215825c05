// Controls how far behind live a video element plays: as little as the network allows. Pure; the caller supplies
// clock and element state and applies the returned move.
//
// Playback is smooth if each frame is available by the time the previous one has been shown. A frame's lateness is
// therefore its arrival time (clock) minus the start of the previous frame (media time). The maximum over the last
// seconds bounds how late frames may arrive; playing at (now - maximum - a margin for decoding) never runs dry and is
// no later than necessary.

/** A range of buffered media, in seconds. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** An action for the element. */
export type Move = { readonly kind: "seek"; readonly to: number } | { readonly kind: "rate"; readonly rate: number };

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
/** Maximum cushion (s), however late media arrives; beyond that, playback may run dry. */
const CUSHION_LIMIT = 2;

/** The backlog sent to a joining viewer arrives at once. It is complete when nothing has arrived for this long (ms). */
const BACKLOG_PAUSE_MS = 60;
/** Initial lateness (s), as the frames of a backlog do not reveal it. */
const INITIAL_LATENESS = 0.1;

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
  readonly #rates: boolean;
  #buckets: { readonly since: number; late: number; step: number }[] = [];
  #margin = MARGIN;
  #marginAt = 0;
  #rate = 1;
  #jumpedAt = -Infinity;
  #last: { readonly now: number; readonly from: number } | null = null;
  #joining = true;
  #resumed = false;

  /** `rates`: whether the playback rate may be changed. */
  constructor({ rates }: { rates: boolean }) {
    this.#rates = rates;
  }

  /** At `now` (ms), media from `from` to `to` (s) became playable. */
  arrived(now: number, from: number, to: number): void {
    const last = this.#last;
    if (this.#joining && last !== null && now - last.now >= ((to - from) * 1000) / 2) this.#joining = false;
    if (this.#joining || last === null) {
      // Only the end of a backlog reveals how late media arrives.
      this.#buckets = [{ since: now, late: now / 1000 - to + INITIAL_LATENESS, step: to - from }];
      this.#last = { now, from: to };
      return;
    }
    this.#record(now, now / 1000 - last.from, to - from);
    // Several frames may have arrived at once.
    this.#last = { now, from: to - Math.min(...this.#buckets.map(({ step }) => step)) };
  }

  /** Playback ran dry at `at` (s) although more was buffered: decoding takes longer than assumed. */
  starved(now: number, at: number, spans: readonly Span[]): void {
    const span = spans.at(-1);
    if (now - this.#marginAt < MARGIN_TRIED_MS || span === undefined || at < span.from || at > span.to - MARGIN / 2) return;
    this.#margin = Math.min(MARGIN_LIMIT, this.#margin + MARGIN_STEP);
    this.#marginAt = now;
  }

  /** Playback resumed after a pause. */
  resumed(): void {
    this.#resumed = true;
  }

  /** Returns the action at `now` (ms) for an element at position `at` (s) with these buffered ranges; null for none. */
  look(now: number, at: number, spans: readonly Span[]): Move | null {
    const newest = spans.at(-1);
    if (newest === undefined || this.#last === null) return null;
    if (this.#joining && now - this.#last.now < BACKLOG_PAUSE_MS) return null;
    if (now - this.#marginAt > MARGIN_KEPT_MS && this.#margin > MARGIN) {
      this.#margin = Math.max(MARGIN, this.#margin - MARGIN_STEP);
      this.#marginAt = now;
    }
    const due = now / 1000 - this.#maxLateness() - this.#margin;
    const target = Math.min(Math.max(due, newest.from), newest.to - AT_END);
    const behind = target - at;
    const inside = spans.find(({ from, to }) => from <= at && at < to - AT_END);
    if (this.#joining || (inside === undefined && at < newest.from)) {
      this.#joining = false;
      return this.#seek(now, target);
    }
    const resumed = this.#resumed;
    this.#resumed = false;
    if (resumed && behind > JUMP_RESUMED) return this.#seek(now, target);
    return this.#rates ? this.#follow(now, behind, target) : this.#jump(now, newest.to - at, newest);
  }

  #record(now: number, late: number, step: number): void {
    const bucket = this.#buckets.at(-1);
    if (bucket !== undefined && now - bucket.since < BUCKET_MS) {
      bucket.late = Math.max(bucket.late, late);
      bucket.step = Math.min(bucket.step, step);
      return;
    }
    this.#buckets.push({ since: now, late, step });
    while ((this.#buckets[0]?.since ?? now) < now - REMEMBERED_MS) this.#buckets.shift();
  }

  #maxLateness(): number {
    const all = this.#buckets.map(({ late }) => late);
    return Math.min(Math.max(...all), Math.min(...all) + CUSHION_LIMIT);
  }

  #follow(now: number, behind: number, target: number): Move | null {
    if (behind > JUMP) return this.#seek(now, target);
    const off = Math.abs(behind);
    if (off > ADJUST_UNTIL && off < ADJUST_ABOVE) return null;
    const size = off <= ADJUST_UNTIL ? 0 : off < 2 * ADJUST_ABOVE ? 0.05 : 0.1;
    const rate = 1 + (behind > 0 ? size : -size);
    if (rate === this.#rate) return null;
    this.#rate = rate;
    return { kind: "rate", rate };
  }

  #jump(now: number, behind: number, newest: Span): Move | null {
    if (behind <= STEADY_JUMP || now - this.#jumpedAt < STEADY_REST_MS) return null;
    return this.#seek(now, Math.max(newest.from, newest.to - STEADY_TARGET));
  }

  #seek(now: number, to: number): Move {
    this.#jumpedAt = now;
    return { kind: "seek", to };
  }
}
