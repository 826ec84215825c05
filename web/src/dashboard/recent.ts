// What goes on now, of figures that count since the gateway started.

import type { Made, Muxer } from "../net/api";

type Calls = Pick<Muxer, "calls" | "microsPerCall">;

/** The mean of the calls between two looks; of all calls if there were none. */
export function microsBetween(before: Calls | undefined, after: Calls): number {
  const calls = after.calls - (before?.calls ?? 0);
  if (before === undefined || calls <= 0) return after.microsPerCall;
  return Math.max(0, (after.calls * after.microsPerCall - before.calls * before.microsPerCall) / calls);
}

const LOOK_MS = 1000;

/** Pictures decoded and made a second, taken anew once a second. */
export class Work {
  #last: { at: number; made: Made } | null = null;
  #rates: Made = { decoded: 0, encoded: 0, jpegs: 0 };

  look(made: Made, now: number): Made {
    const last = this.#last;
    // A little early is on time.
    if (last !== null && now - last.at < LOOK_MS * 0.9) return this.#rates;
    this.#last = { at: now, made };
    if (last !== null) {
      // Counts that fell are those of a gateway that was started again.
      const rate = (count: (made: Made) => number): number => Math.max(0, ((count(made) - count(last.made)) * 1000) / (now - last.at));
      this.#rates = { decoded: rate(({ decoded }) => decoded), encoded: rate(({ encoded }) => encoded), jpegs: rate(({ jpegs }) => jpegs) };
    }
    return this.#rates;
  }
}

/** In words, as far as there is any. */
export function workFacts(rates: Made): string[] {
  const fact = (rate: number, text: string): string[] => (rate > 0 ? [text.replace("N", rate < 10 ? rate.toFixed(1) : rate.toFixed(0))] : []);
  return [...fact(rates.decoded, "decodes N/s"), ...fact(rates.encoded, "encodes N/s"), ...fact(rates.jpegs, "N JPEGs/s")];
}
