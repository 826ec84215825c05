// Computes frame rate and bit rate from counters, over the interval between two calls of `sample`.

/** Rates over the last complete interval. */
export interface Rates {
  readonly framesPerSecond: number;
  readonly bitsPerSecond: number;
}

/** Counts frames and bytes and divides by the interval. Times are ms on any monotonic clock. */
export class Meter {
  #frames = 0;
  #bytes = 0;
  #since: number;
  #rates: Rates = { framesPerSecond: 0, bitsPerSecond: 0 };

  constructor(now: number) {
    this.#since = now;
  }

  frames(count: number): void {
    this.#frames += count;
  }

  bytes(count: number): void {
    this.#bytes += count;
  }

  /** The rates at the last `sample`. */
  get rates(): Rates {
    return this.#rates;
  }

  /** Ends the interval that began at the previous `sample` and returns its rates. */
  sample(now: number): Rates {
    const seconds = (now - this.#since) / 1000;
    if (seconds > 0) {
      this.#rates = { framesPerSecond: this.#frames / seconds, bitsPerSecond: (this.#bytes * 8) / seconds };
      this.#frames = 0;
      this.#bytes = 0;
      this.#since = now;
    }
    return this.#rates;
  }

  /** Resets all counters and rates, for example when the connection was closed. */
  clear(now: number): void {
    this.#frames = 0;
    this.#bytes = 0;
    this.#since = now;
    this.#rates = { framesPerSecond: 0, bitsPerSecond: 0 };
  }
}
