// Measures how long playback has stalled, for the reports to the gateway. Pure.

/** A frame may stay on the screen this long (ms) before it counts as a stall. */
const MAX_FRAME_MS = 1000;

/**
 * Accumulates stall time from displayed frames; times are ms on one monotonic clock. Before the first frame there is
 * no stall.
 */
export class StallMeter {
  #displayedAt = Infinity;
  #sampledAt = 0;
  /** Stall time since the last sample that a frame has already ended. */
  #counted = 0;

  displayed(now: number): void {
    this.#counted += this.#until(now);
    this.#displayedAt = now;
  }

  /** Stall time in ms since the last sample, beyond the tolerated duration per frame. */
  sample(now: number): number {
    const stalled = this.#counted + this.#until(now);
    this.#counted = 0;
    this.#sampledAt = now;
    return stalled;
  }

  #until(now: number): number {
    return Math.max(0, now - Math.max(this.#sampledAt, this.#displayedAt + MAX_FRAME_MS));
  }
}
