// Reads the messages of a half. It is not trusted: whatever it sends may be wrong, too large or too much. Pure.

import type { EndKind, Sink } from "../transport/transport";

/** Longest message in characters. */
const MAX_LENGTH = 1000;
/** Messages per second, and how many may come at once. Three for each frame of a fast stream are some hundred. */
const RATE = 600;
const BURST = 1200;
/** Largest values in one message. */
const MAX_SIZE = 65_535;
const MAX_COUNT = 1000;
const MAX_BYTES = 1e9;
const MAX_MS = 600_000;
const MAX_REASON = 200;

const END_KINDS: readonly EndKind[] = ["unreachable", "refused", "lost", "draining", "unsupported", "unready"];

/** Passes the valid messages of one half to its sink. Times are ms on one monotonic clock. */
export class Reports {
  readonly #sink: Sink;
  readonly #now: () => number;
  #tokens = BURST;
  #at: number;

  constructor(sink: Sink, now: () => number) {
    this.#sink = sink;
    this.#now = now;
    this.#at = now();
  }

  /** Handles a message. Returns what is wrong if the half has to be stopped; a message that is not understood is ignored. */
  receive(data: unknown): string | null {
    const now = this.#now();
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#at) * RATE) / 1000) - 1;
    this.#at = now;
    if (this.#tokens < 0) return `its player sends more than ${RATE} messages a second`;
    if (typeof data !== "string" || data.length > MAX_LENGTH) return "its player sends messages that are too large";
    const message = parse(data);
    if (message !== null) this.#pass(message, now);
    return null;
  }

  #pass([name, ...values]: readonly unknown[], now: number): void {
    const sink = this.#sink;
    switch (name) {
      case "bytes":
        sink.bytes(within(values[0], 0, MAX_BYTES));
        return;
      case "received":
        sink.fed(whole(values[0]));
        return;
      case "displayed": {
        const [width, height, count] = [within(values[0], 0, MAX_SIZE), within(values[1], 0, MAX_SIZE), whole(values[2])];
        const delay = values[3] === null ? null : ({ ms: within(values[3], 0, MAX_MS), kind: "decode" } as const);
        if (width >= 1 && height >= 1 && count >= 1) sink.displayed({ width: Math.round(width), height: Math.round(height), at: now, count, delay });
        return;
      }
      case "dropped":
        sink.dropped(whole(values[0]));
        return;
      case "audio":
        sink.audio(values[0] === true);
        return;
      case "link":
        sink.bandwidthSample(within(values[0], 0, MAX_BYTES), within(values[1], 0, MAX_MS));
        return;
      case "queued":
        sink.queueingDelay(within(values[0], 0, MAX_MS));
        return;
      case "ended": {
        const kind = END_KINDS.find((known) => known === values[0]) ?? "lost";
        sink.ended({ kind, reason: plain(values[1]) || "the transport's player ended" });
        return;
      }
    }
  }
}

/** The answer of a half to the question whether it can play: null if it can, otherwise the reason. */
export function readObstacle(data: unknown): string | null {
  const [name, reason] = typeof data === "string" && data.length <= MAX_LENGTH ? (parse(data) ?? []) : [];
  if (name === "can-play" && reason === null) return null;
  return plain(reason) || "the transport's player gives no valid answer";
}

function parse(json: string): readonly unknown[] | null {
  try {
    const message: unknown = JSON.parse(json);
    return Array.isArray(message) ? message : null;
  } catch {
    return null;
  }
}

/** The number, limited to this range; 0 for anything else. */
function within(value: unknown, least: number, most: number): number {
  return typeof value === "number" && Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : 0;
}

function whole(value: unknown): number {
  return Math.floor(within(value, 0, MAX_COUNT));
}

/** Text without control characters. */
function plain(value: unknown): string {
  return typeof value === "string" ? value.slice(0, MAX_REASON).replace(/\p{C}/gu, " ").trim() : "";
}
