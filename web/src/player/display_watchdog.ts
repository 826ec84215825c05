// Detects a browser that receives video but displays none of it. Some decoders reject a stream without reporting an
// error: Chromium's drop everything before an IDR picture, and a stream with intra refresh never sends one. `Session`
// reports to it what arrives and what is displayed, and gives the transport up on its verdict. Pure.

/**
 * Minimum number of frames: a decoder may hold back up to 16 for reordering (H.264 A.3.1, `max_dec_frame_buffering`).
 */
const MIN_FRAMES = 20;
/** Time in ms during which frames are fed and none is displayed: before the first displayed frame, and after it. */
const BEFORE_FIRST_MS = 8000;
const AFTER_FIRST_MS = 15_000;
/** A gap in feeding longer than this (ms) means that the page was suspended; counting restarts. */
const SUSPENDED_MS = 30_000;

/** State of one connection; use a new instance per connection. All times are ms on one monotonic clock. */
export class DisplayWatchdog {
  #hasDisplayed = false;
  #frames = 0;
  #countingSince = 0;
  #lastFedAt = -Infinity;

  /**
   * `count` frames arrived, as reported by `Sink.fed`. Returns true once the browser has provably displayed none of
   * them.
   */
  fed(count: number, now: number): boolean {
    if (this.#frames === 0 || now - this.#lastFedAt > SUSPENDED_MS) {
      this.#frames = 0;
      this.#countingSince = now;
    }
    this.#frames += count;
    this.#lastFedAt = now;
    return this.#frames >= MIN_FRAMES && now - this.#countingSince >= (this.#hasDisplayed ? AFTER_FIRST_MS : BEFORE_FIRST_MS);
  }

  /** A frame was displayed, or audio was played. */
  displayed(): void {
    this.#hasDisplayed = true;
    this.#frames = 0;
  }

  /** Playback was blocked so far because the viewer has to tap first; restarts the count. */
  reset(): void {
    this.#frames = 0;
  }
}
