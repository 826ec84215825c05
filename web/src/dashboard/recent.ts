// Derives current rates from counters that run since the gateway started.

import type { FrameCounts, Muxer } from "../net/api";

type Calls = Pick<Muxer, "calls" | "microsPerCall">;

/** Mean duration (µs) of the calls between two samples; of all calls if there were none. */
export function microsBetween(before: Calls | undefined, after: Calls): number {
  const calls = after.calls - (before?.calls ?? 0);
  if (before === undefined || calls <= 0) return after.microsPerCall;
  return Math.max(0, (after.calls * after.microsPerCall - before.calls * before.microsPerCall) / calls);
}

const LOOK_MS = 1000;

/** Rates of decoded and encoded frames, updated once a second. */
export class Work {
  #last: { at: number; made: FrameCounts } | null = null;
  #rates: FrameCounts = { decoded: 0, encoded: 0, jpegs: 0 };

  look(made: FrameCounts, now: number): FrameCounts {
    const last = this.#last;
    // Tolerance for a timer that fires slightly early.
    if (last !== null && now - last.at < LOOK_MS * 0.9) return this.#rates;
    this.#last = { at: now, made };
    if (last !== null) {
      // Counters that decreased belong to a restarted gateway.
      const rate = (count: (made: FrameCounts) => number): number => Math.max(0, ((count(made) - count(last.made)) * 1000) / (now - last.at));
      this.#rates = { decoded: rate(({ decoded }) => decoded), encoded: rate(({ encoded }) => encoded), jpegs: rate(({ jpegs }) => jpegs) };
    }
    return this.#rates;
  }
}

/** Texts for the rates that are not zero. */
export function workFacts(rates: FrameCounts): string[] {
  const fact = (rate: number, text: string): string[] => (rate > 0 ? [text.replace("N", rate < 10 ? rate.toFixed(1) : rate.toFixed(0))] : []);
  return [...fact(rates.decoded, "decodes N/s"), ...fact(rates.encoded, "encodes N/s"), ...fact(rates.jpegs, "N JPEGs/s")];
}
