// Derives current rates from counters that run since the gateway started.

import type { FrameCounts, Muxer } from "../net/api";

type Calls = Pick<Muxer, "calls" | "microsPerCall">;

/** Mean duration (µs) of the calls between two samples; of all calls if there were none. */
export function microsBetween(before: Calls | undefined, after: Calls): number {
  const calls = after.calls - (before?.calls ?? 0);
  if (before === undefined || calls <= 0) return after.microsPerCall;
  return Math.max(0, (after.calls * after.microsPerCall - before.calls * before.microsPerCall) / calls);
}

const UPDATE_MS = 1000;

/** Rates of decoded and encoded frames, updated once a second. */
export class ProcessingRates {
  #last: { at: number; counts: FrameCounts } | null = null;
  #rates: FrameCounts = { decoded: 0, encoded: 0, jpegs: 0 };

  update(counts: FrameCounts, now: number): FrameCounts {
    const last = this.#last;
    // Tolerance for a timer that fires slightly early.
    if (last !== null && now - last.at < UPDATE_MS * 0.9) return this.#rates;
    this.#last = { at: now, counts };
    if (last !== null) {
      // Counters that decreased belong to a restarted gateway.
      const rate = (count: (counts: FrameCounts) => number): number => Math.max(0, ((count(counts) - count(last.counts)) * 1000) / (now - last.at));
      this.#rates = { decoded: rate(({ decoded }) => decoded), encoded: rate(({ encoded }) => encoded), jpegs: rate(({ jpegs }) => jpegs) };
    }
    return this.#rates;
  }
}

/** Texts for the rates that are not zero. */
export function processingTexts(rates: FrameCounts): string[] {
  const fact = (rate: number, text: string): string[] => (rate > 0 ? [text.replace("N", rate < 10 ? rate.toFixed(1) : rate.toFixed(0))] : []);
  return [...fact(rates.decoded, "decodes N/s"), ...fact(rates.encoded, "encodes N/s"), ...fact(rates.jpegs, "N JPEGs/s")];
}
