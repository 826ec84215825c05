// Measures how long playback has stalled, for the reports to the gateway. Pure.

/** A frame may stay on the screen this long (ms) before it counts as a stall. */
const STILL = 1000;

/**
 * Accumulates stall time from displayed frames; times are ms on one monotonic clock. Before the first frame there is
 * no stall.
 */
export class StallMeter {
  #shownAt = Infinity;
  #lookedAt = 0;
  /** Stall time since the last look that a frame has already ended. */
  #counted = 0;

  shown(now: number): void {
    this.#counted += this.#until(now);
    this.#shownAt = now;
  }

  /** Stall time in ms since the last look, beyond the tolerated duration per frame. */
  look(now: number): number {
    const stood = this.#counted + this.#until(now);
    this.#counted = 0;
    this.#lookedAt = now;
    return stood;
  }

  #until(now: number): number {
    return Math.max(0, now - Math.max(this.#lookedAt, this.#shownAt + STILL));
  }
}
