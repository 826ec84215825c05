// How far behind live a video element plays: as little as the network allows. Pure; whoever calls has clock and element.
//
// A browser plays smoothly if it has a picture by the time that it shows the one before. So each picture's lateness is its
// arrival (clock) less the start of the one before (media time). The largest of the last seconds tells how late pictures
// may come; playing at (now - that - a margin for decoding) never runs dry and is no later than need be.

/** Buffered media, in seconds. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

/** What to do with the element. */
export type Move = { readonly kind: "seek"; readonly to: number } | { readonly kind: "rate"; readonly rate: number };

/** Time (s) from appended to decoded. */
const MARGIN = 0.04;
const MARGIN_STEP = 0.03;
const MARGIN_LIMIT = 0.5;
/** A margin is not widened more often than this (ms), and shrinks again after this long without need. */
const MARGIN_TRIED_MS = 1000;
const MARGIN_KEPT_MS = 20_000;

/** Lateness is remembered for this long (ms), in buckets. */
const REMEMBERED_MS = 5000;
const BUCKET_MS = 500;
/** No more than this (s) of a cushion, however late media comes: then it may run dry. */
const CUSHION_LIMIT = 2;

/** What is there when a viewer joins arrives at once. It is over when nothing came for this long (ms). */
const BACKLOG_PAUSE_MS = 60;
/** The lateness to begin with, since the pictures of a backlog do not tell it (s). */
const FIRST_LATE = 0.1;

/** Further behind (s) than this is not worth catching up by rate. */
const JUMP = 4;
/** The same where it was paused, since nobody sees the jump. */
const JUMP_RESUMED = 0.3;
/** Off by more than this (s), the rate changes; by less than the other, it is 1 again. */
const LOOSE = 0.03;
const CLOSE = 0.015;
/** A hundredth of a second before the end of what is there still shows the last picture. */
const AT_END = 0.01;

/** Where the rate is left alone: the distances of a jump (s), and its rest (ms). */
const STEADY_JUMP = 3;
const STEADY_TARGET = 0.75;
const STEADY_REST_MS = 5000;

/** Of one media source, from its opening on. */
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

  /** `rates`: whether the rate may be changed. */
  constructor({ rates }: { rates: boolean }) {
    this.#rates = rates;
  }

  /** From `now` (ms) on, media from `from` to `to` (s) can be played too. */
  arrived(now: number, from: number, to: number): void {
    const last = this.#last;
    if (this.#joining && last !== null && now - last.now >= ((to - from) * 1000) / 2) this.#joining = false;
    if (this.#joining || last === null) {
      // Only its end tells how late media comes.
      this.#buckets = [{ since: now, late: now / 1000 - to + FIRST_LATE, step: to - from }];
      this.#last = { now, from: to };
      return;
    }
    this.#note(now, now / 1000 - last.from, to - from);
    // Several may have come at once.
    this.#last = { now, from: to - Math.min(...this.#buckets.map(({ step }) => step)) };
  }

  /** It ran dry at `at` (s) though there was more: decoding takes longer than thought. */
  starved(now: number, at: number, spans: readonly Span[]): void {
    const span = spans.at(-1);
    if (now - this.#marginAt < MARGIN_TRIED_MS || span === undefined || at < span.from || at > span.to - MARGIN / 2) return;
    this.#margin = Math.min(MARGIN_LIMIT, this.#margin + MARGIN_STEP);
    this.#marginAt = now;
  }

  /** It plays on after a pause. */
  resumed(): void {
    this.#resumed = true;
  }

  /** What to do at `now` (ms), with the element at `at` (s) and this buffered; null for nothing. */
  look(now: number, at: number, spans: readonly Span[]): Move | null {
    const newest = spans.at(-1);
    if (newest === undefined || this.#last === null) return null;
    if (this.#joining && now - this.#last.now < BACKLOG_PAUSE_MS) return null;
    if (now - this.#marginAt > MARGIN_KEPT_MS && this.#margin > MARGIN) {
      this.#margin = Math.max(MARGIN, this.#margin - MARGIN_STEP);
      this.#marginAt = now;
    }
    const due = now / 1000 - this.#late() - this.#margin;
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

  #note(now: number, late: number, step: number): void {
    const bucket = this.#buckets.at(-1);
    if (bucket !== undefined && now - bucket.since < BUCKET_MS) {
      bucket.late = Math.max(bucket.late, late);
      bucket.step = Math.min(bucket.step, step);
      return;
    }
    this.#buckets.push({ since: now, late, step });
    while ((this.#buckets[0]?.since ?? now) < now - REMEMBERED_MS) this.#buckets.shift();
  }

  #late(): number {
    const all = this.#buckets.map(({ late }) => late);
    return Math.min(Math.max(...all), Math.min(...all) + CUSHION_LIMIT);
  }

  #follow(now: number, behind: number, target: number): Move | null {
    if (behind > JUMP) return this.#seek(now, target);
    const off = Math.abs(behind);
    if (off > CLOSE && off < LOOSE) return null;
    const size = off <= CLOSE ? 0 : off < 2 * LOOSE ? 0.05 : 0.1;
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
