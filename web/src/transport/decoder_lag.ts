// Decides whether a decoder is so far behind that it has to skip to the next keyframe. Pure.

/** With more units waiting than this, the decoder is behind. */
const QUEUE_LIMIT = 4;

/**
 * After being behind for this long (ms), everything up to the next keyframe is skipped. Bursts from the network or a
 * busy page are shorter than that.
 */
const BEHIND_LIMIT = 500;

/** A joining viewer receives the newest group at once; decoding it may take this long (ms). */
const CATCH_UP_LIMIT = 3000;

/** Maximum queue length, however short the time. */
export const BURST_LIMIT = 900;

/** State of one decoder. Times are ms on one monotonic clock. */
export class DecoderLag {
  #catchingUp = true;
  #hasOutput = false;
  #keptUpAt: number | null = null;

  /** The decoder has output a frame: the stream can be decoded. */
  frameDecoded(): void {
    this.#hasOutput = true;
  }

  /** Whether a decoder with so many units waiting has been behind for too long. */
  isBehind(queueSize: number, now: number): boolean {
    if (queueSize <= QUEUE_LIMIT) {
      if (this.#hasOutput) this.#catchingUp = false;
      this.#keptUpAt = now;
      return false;
    }
    const since = now - (this.#keptUpAt ?? now);
    return queueSize > BURST_LIMIT || since > (this.#catchingUp ? CATCH_UP_LIMIT : BEHIND_LIMIT);
  }

  /** The queue was discarded. */
  restarted(now: number): void {
    this.#keptUpAt = now;
  }
}
