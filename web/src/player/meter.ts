// Rates from counts: what was shown and received since the last look.

/** Rates of the last whole interval. */
export interface Rates {
  readonly framesPerSecond: number;
  readonly bitsPerSecond: number;
}

/** Counts, and divides by the time between two looks (ms on any rising clock). */
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

  /** The rates at the last `look`. */
  get rates(): Rates {
    return this.#rates;
  }

  /** Closes the interval that began at the last look. */
  look(now: number): Rates {
    const seconds = (now - this.#since) / 1000;
    if (seconds > 0) {
      this.#rates = { framesPerSecond: this.#frames / seconds, bitsPerSecond: (this.#bytes * 8) / seconds };
      this.#frames = 0;
      this.#bytes = 0;
      this.#since = now;
    }
    return this.#rates;
  }

  /** Forgets everything, as when the connection was given up. */
  clear(now: number): void {
    this.#frames = 0;
    this.#bytes = 0;
    this.#since = now;
    this.#rates = { framesPerSecond: 0, bitsPerSecond: 0 };
  }
}
