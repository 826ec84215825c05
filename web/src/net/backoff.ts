// How long to wait before the next attempt: doubling from 0.5 s to 10 s, spread so that viewers of a gateway that
// returns do not all come back at once.

const FIRST_MS = 500;
const LONGEST_MS = 10_000;

/** The waits between attempts at one thing. */
export class Backoff {
  readonly #random: () => number;
  #attempts = 0;

  /** `random` gives numbers in [0, 1). */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** The next wait in ms, always within 0.5 and 10 s. */
  next(): number {
    const plain = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.#attempts, 16));
    this.#attempts++;
    const spread = plain * (0.75 + 0.5 * this.#random());
    return Math.round(Math.min(LONGEST_MS, Math.max(FIRST_MS, spread)));
  }

  /** It worked: the next wait is the first again. */
  reset(): void {
    this.#attempts = 0;
  }
}
