// Estimates how long received data has spent in queues: its transit time minus the minimum transit time of the last
// minute. The clocks of sender and receiver need not agree. Pure.

/** How long (ms) the minimum is remembered. */
const REMEMBERED_MS = 60_000;

/** State of one connection; a new connection may have shorter queues. */
export class Lateness {
  /** Candidates for the minimum, in order of arrival and of increasing transit time. */
  #least: { readonly at: number; readonly ms: number }[] = [];
  #taken = -Infinity;

  /**
   * Data sent at `taken` (ms on the sender's clock) arrived at `now` (ms on ours). Returns the queueing time in ms,
   * or null for repeated or older data.
   */
  came(taken: number, now: number): number | null {
    if (taken <= this.#taken) return null;
    this.#taken = taken;
    const ms = now - taken;
    this.#least = this.#least.filter((known) => known.ms < ms && now - known.at <= REMEMBERED_MS);
    this.#least.push({ at: now, ms });
    return ms - (this.#least[0]?.ms ?? ms);
  }
}
