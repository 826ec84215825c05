// Estimates the offset to the gateway's clock, so that latency read from a frame is correct on another machine too.

import { number, object } from "./json";
import { RESPONSE_TIMEOUT_MS, withTimeout } from "./timeout";

/** One response of /healthz; all times in Unix ms. */
export interface Sample {
  readonly sent: number;
  readonly received: number;
  readonly server: number;
}

/**
 * Offset to add to the local clock, from the response with the shortest round trip; its error is at most half of
 * that.
 */
export function offsetOf(samples: readonly Sample[]): number {
  const trip = (sample: Sample): number => sample.received - sample.sent;
  const best = samples.reduce<Sample | null>((a, b) => (a === null || trip(b) < trip(a) ? b : a), null);
  return best === null ? 0 : best.server - (best.sent + best.received) / 2;
}

const SAMPLES = 3;

/** Keeps the offset. Sends requests only in `measure`. */
export class ServerClock {
  readonly #url: URL;
  #offset = 0;
  #measured = false;
  #request: AbortController | null = null;

  constructor(url: URL) {
    this.#url = url;
  }

  /** Unix ms on the gateway's clock, or on ours if the gateway does not send it; null before the first measurement. */
  now(): number | null {
    return this.#measured ? Date.now() + this.#offset : null;
  }

  /** Measures again. The offset stays the same if the gateway does not respond, or without `now`. */
  async measure(): Promise<void> {
    this.stop();
    const request = new AbortController();
    this.#request = request;
    const samples: Sample[] = [];
    try {
      while (samples.length < SAMPLES) {
        const sample = await withTimeout(RESPONSE_TIMEOUT_MS, request.signal, (signal) => this.#sample(signal));
        if (sample === null) break;
        samples.push(sample);
      }
    } catch {
      // Unreachable or stopped: the player of the stream notices and reports it.
    }
    if (samples.length > 0) this.#offset = offsetOf(samples);
    if (this.#request !== request) return;
    this.#measured = true;
    this.#request = null;
  }

  async #sample(signal: AbortSignal): Promise<Sample | null> {
    const sent = Date.now();
    const response = await fetch(this.#url, { signal, cache: "no-store" });
    const received = Date.now();
    const server = number(object(await response.json())?.["now"]);
    return server === null ? null : { sent, received, server };
  }

  stop(): void {
    this.#request?.abort();
    this.#request = null;
  }
}
