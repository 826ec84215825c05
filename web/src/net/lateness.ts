// How long what comes has been lying in queues: by how much more it is late than the least late one of the last time. Clocks
// need not agree for that. Pure.

/** The least late one is remembered for so long (ms). */
const REMEMBERED_MS = 60_000;

/** Of one connection: a new one may have shorter queues. */
export class Lateness {
  /** What may be the least later on, in order of time; each is later by less than those after it. */
  #least: { readonly at: number; readonly ms: number }[] = [];
  #taken = -Infinity;

  /** Something taken at `taken` (ms on the sender's clock) arrived at `now` (ms here). Null: it came before, or is older. */
  came(taken: number, now: number): number | null {
    if (taken <= this.#taken) return null;
    this.#taken = taken;
    const ms = now - taken;
    this.#least = this.#least.filter((known) => known.ms < ms && now - known.at <= REMEMBERED_MS);
    this.#least.push({ at: now, ms });
    return ms - (this.#least[0]?.ms ?? ms);
  }
}
