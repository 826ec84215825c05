// Estimates how long received data has spent in queues: its transit time minus the minimum transit time of the last
// minute. The clocks of sender and receiver need not agree. Pure.

/** How long (ms) the minimum is remembered. */
const REMEMBERED_MS = 60_000;

/** State of one connection; a new connection may have shorter queues. */
export class Lateness {
  /** Candidates for the minimum, in order of arrival and of increasing transit time. */
  #minima: { readonly at: number; readonly ms: number }[] = [];
  #lastSentAt = -Infinity;

  /**
   * Data sent at `sentAt` (ms on the sender's clock) arrived at `now` (ms on ours). Returns the queueing time in ms,
   * or null for repeated or older data.
   */
  arrived(sentAt: number, now: number): number | null {
    if (sentAt <= this.#lastSentAt) return null;
    this.#lastSentAt = sentAt;
    const ms = now - sentAt;
    this.#minima = this.#minima.filter((known) => known.ms < ms && now - known.at <= REMEMBERED_MS);
    this.#minima.push({ at: now, ms });
    return ms - (this.#minima[0]?.ms ?? ms);
  }
}
