// The gateway's clock as seen from here, so that latency read from a picture is right on another machine too.

/** One answer of /healthz, all in Unix ms. */
export interface Sample {
  readonly sent: number;
  readonly received: number;
  readonly server: number;
}

/** What to add to the local clock, from the answer with the shortest round trip; it errs by half of that at most. */
export function offsetOf(samples: readonly Sample[]): number {
  const trip = (sample: Sample): number => sample.received - sample.sent;
  const best = samples.reduce<Sample | null>((a, b) => (a === null || trip(b) < trip(a) ? b : a), null);
  return best === null ? 0 : best.server - (best.sent + best.received) / 2;
}

const SAMPLES = 3;

/** Keeps the offset. Asks only when told to. */
export class ServerClock {
  readonly #url: URL;
  #offset = 0;
  #asked = false;
  #asking: AbortController | null = null;

  constructor(url: URL) {
    this.#url = url;
  }

  /** Unix ms on the gateway, or here if the gateway does not tell; null before it was asked. */
  now(): number | null {
    return this.#asked ? Date.now() + this.#offset : null;
  }

  /** Measures anew. A gateway that does not answer, or not with `now`, changes nothing. */
  async measure(): Promise<void> {
    this.stop();
    const asking = new AbortController();
    this.#asking = asking;
    const samples: Sample[] = [];
    try {
      while (samples.length < SAMPLES) {
        const sent = Date.now();
        const response = await fetch(this.#url, { signal: asking.signal, cache: "no-store" });
        const received = Date.now();
        const body: unknown = await response.json();
        const server = typeof body === "object" && body !== null && "now" in body ? body.now : null;
        if (typeof server !== "number") break;
        samples.push({ sent, received, server });
      }
    } catch {
      // Unreachable or stopped: whoever plays the stream notices and says so.
    }
    if (samples.length > 0) this.#offset = offsetOf(samples);
    if (this.#asking !== asking) return;
    this.#asked = true;
    this.#asking = null;
  }

  stop(): void {
    this.#asking?.abort();
    this.#asking = null;
  }
}
