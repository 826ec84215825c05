// For how long the picture has been standing still. Pure.

/** A picture may stay for so long (ms) before that counts. */
const STILL = 1000;

/** Pictures and looks, on one rising clock (ms). What was never there does not stand still. */
export class Standstill {
  #shownAt = Infinity;
  #lookedAt = 0;
  /** What already counts of the time since the last look, because a picture ended it. */
  #counted = 0;

  shown(now: number): void {
    this.#counted += this.#until(now);
    this.#shownAt = now;
  }

  /** How long it stood still since the last look, beyond what it may. */
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
