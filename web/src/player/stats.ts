// Collects the statistics of a player from the reports of its parts.

import { Meter } from "./meter";
import type { Phase, SessionState } from "./session";
import type { TransportName } from "../transport/names";
import type { CarrierName, Delay, DisplayedFrame } from "../transport/transport";

/** Start of a latency measurement. */
export type LatencyKind = "picture" | Delay["kind"];

/** Value of `element.stats`: a snapshot of the statistics. */
export interface Stats {
  readonly phase: Phase;
  readonly transport: TransportName | null;
  /** Its name for people. */
  readonly label: string | null;
  /** The protocol over which media arrives, where the transport has several; else null. */
  readonly carrier: CarrierName | null;
  /** Why the selection is not simply playing; empty if it is. */
  readonly reason: string;
  /** Size of the displayed frame in pixels; 0 before the first. */
  readonly width: number;
  readonly height: number;
  /** Frames displayed and media bits received per second, over the last second. */
  readonly framesPerSecond: number;
  readonly bitsPerSecond: number;
  /** Latency of the displayed frame in ms; null until it is known. */
  readonly latencyMs: number | null;
  /**
   * `picture`: end to end, from capture to display, read from the frame's block code. `decode`: from arrival to
   * display. `live`: distance to the newest frame that the player knows of.
   */
  readonly latencyKind: LatencyKind | null;
  /** Frames displayed, and frames received but not displayed, since the stream was selected. */
  readonly painted: number;
  readonly dropped: number;
  readonly reconnects: number;
}

/** Accumulates the reports; all times are ms of `performance.now()`. */
export class StatsCollector {
  readonly #meter: Meter;
  #width = 0;
  #height = 0;
  #painted = 0;
  #dropped = 0;
  #latency: { readonly ms: number; readonly kind: LatencyKind } | null = null;

  constructor(now: number) {
    this.#meter = new Meter(now);
  }

  bytes(count: number): void {
    this.#meter.bytes(count);
  }

  dropped(count: number): void {
    this.#dropped += count;
  }

  displayed({ width, height, count }: DisplayedFrame): void {
    this.#meter.frames(count);
    this.#painted += count;
    this.#width = width;
    this.#height = height;
  }

  latency(ms: number, kind: LatencyKind): void {
    this.#latency = { ms, kind };
  }

  /** Ends the current interval for rates. */
  sample(now: number): void {
    this.#meter.sample(now);
  }

  /** The connection changed: rates and latency of the old one do not apply to the new one. */
  connectionChanged(now: number): void {
    this.#meter.clear(now);
    this.#latency = null;
  }

  /** Another stream was selected: all counters restart at 0. */
  clear(now: number): void {
    this.connectionChanged(now);
    this.#width = this.#height = this.#painted = this.#dropped = 0;
  }

  read(state: SessionState): Stats {
    return {
      phase: state.phase,
      transport: state.transport,
      label: state.label,
      carrier: state.carrier,
      reason: [state.reason, state.fallback].filter((text) => text !== "").join("; "),
      width: this.#width,
      height: this.#height,
      ...this.#meter.rates,
      latencyMs: this.#latency?.ms ?? null,
      latencyKind: this.#latency?.kind ?? null,
      painted: this.#painted,
      dropped: this.#dropped,
      reconnects: state.reconnects,
    };
  }
}
