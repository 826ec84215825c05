// The figures of a player, collected from what its parts report.

import { Meter } from "./meter";
import type { Phase, SessionState } from "./session";
import type { TransportName } from "../transport/names";
import type { Delay, Shown } from "../transport/transport";

/** What a latency was measured from. */
export type LatencyKind = "picture" | Delay["kind"];

/** `element.stats`: one moment's figures. */
export interface Stats {
  readonly phase: Phase;
  readonly transport: TransportName | null;
  /** Why it is not simply playing what was asked for; empty if it is. */
  readonly reason: string;
  /** Size of the picture shown in pixels; 0 before the first. */
  readonly width: number;
  readonly height: number;
  /** Pictures shown and media bits received, per second, over the last second. */
  readonly framesPerSecond: number;
  readonly bitsPerSecond: number;
  /** How old the picture on the screen is; null until it is known. */
  readonly latencyMs: number | null;
  /**
   * `picture`: from the making of the picture to its showing, read from its block code. `decode`: from arrival to showing.
   * `live`: behind the newest picture that the player knows of.
   */
  readonly latencyKind: LatencyKind | null;
  /** Pictures shown, and pictures received but not shown, since the stream was chosen. */
  readonly painted: number;
  readonly dropped: number;
  readonly reconnects: number;
}

/** Adds up what the player's parts report; all times are ms of `performance.now()`. */
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

  shown({ width, height, count }: Shown): void {
    this.#meter.frames(count);
    this.#painted += count;
    this.#width = width;
    this.#height = height;
  }

  latency(ms: number, kind: LatencyKind): void {
    this.#latency = { ms, kind };
  }

  /** Ends the second that rates are of. */
  look(now: number): void {
    this.#meter.look(now);
  }

  /** The connection changed: rates and latency of the old one say nothing about the new. */
  connectionChanged(now: number): void {
    this.#meter.clear(now);
    this.#latency = null;
  }

  /** Another stream is chosen: all counts begin at 0. */
  clear(now: number): void {
    this.connectionChanged(now);
    this.#width = this.#height = this.#painted = this.#dropped = 0;
  }

  read(state: SessionState): Stats {
    return {
      phase: state.phase,
      transport: state.transport,
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
