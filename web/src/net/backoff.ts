// Delay before the next attempt: exponential from 0.5 s to 10 s, with jitter, so that the viewers of a gateway that
// restarts do not all reconnect at once.

const FIRST_MS = 500;
const MAX_MS = 10_000;

/** The delays between attempts at one thing. */
export class Backoff {
  readonly #random: () => number;
  #attempts = 0;

  /** `random` returns numbers in [0, 1). */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** The next delay in ms, between 0.5 and 10 s. */
  next(): number {
    const plain = Math.min(MAX_MS, FIRST_MS * 2 ** Math.min(this.#attempts, 16));
    this.#attempts++;
    const spread = plain * (0.75 + 0.5 * this.#random());
    return Math.round(Math.min(MAX_MS, Math.max(FIRST_MS, spread)));
  }

  /** The attempt succeeded: the next delay is the shortest again. */
  reset(): void {
    this.#attempts = 0;
  }
}
