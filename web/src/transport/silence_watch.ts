// Notices that one of two paths has gone silent: a firewall may begin to drop UDP at any moment, and no error tells so.
// A source that is still looks the same, so the other path is asked: it takes over only if it has news that this one
// lacks. Time is passed in.

import type { OrderEnv } from "./group_order";

/** What is to be done. */
export interface SilenceEvents {
  /** This path is silent: ask the other one. */
  ask(): void;
  /** This path has spoken: the other one is not needed. */
  dismiss(): void;
  /** The other path takes over. */
  takeOver(): void;
}

/** After this time (ms) without data, the other path is asked. */
export const SILENT_MS = 1000;
/** The news of the other path have to be ahead by this time (ms): it may just be a little faster. */
export const LEAD_MS = 300;
/** Sources that are still or slow let this path be silent for longer each time, up to this (ms). */
const MAX_SILENT_MS = 32_000;

/** State of one connection, from its first data until `stop` or `takeOver`. */
export class SilenceWatch {
  readonly #env: OrderEnv;
  readonly #events: SilenceEvents;
  #patience = SILENT_MS;
  #heardAt: number;
  #asking = false;
  #hasNews = false;
  #cancelTimer: () => void;

  constructor(env: OrderEnv, events: SilenceEvents) {
    this.#env = env;
    this.#events = events;
    this.#heardAt = env.now();
    this.#cancelTimer = env.timer(() => this.#check(), SILENT_MS);
  }

  /** Data arrived on this path. */
  heard(): void {
    this.#heardAt = this.#env.now();
    if (!this.#asking) return;
    this.#asking = this.#hasNews = false;
    this.#patience = Math.min(2 * this.#patience, MAX_SILENT_MS);
    this.#wait(this.#patience);
    this.#events.dismiss();
  }

  /** The other path has something that did not arrive on this one. */
  news(): void {
    if (!this.#asking || this.#hasNews) return;
    this.#hasNews = true;
    this.#cancelTimer = this.#env.timer(() => this.#events.takeOver(), LEAD_MS);
  }

  /** No event follows. */
  stop(): void {
    this.#cancelTimer();
  }

  #check(): void {
    const silent = this.#env.now() - this.#heardAt;
    if (silent < this.#patience) {
      this.#wait(this.#patience - silent);
      return;
    }
    this.#asking = true;
    this.#events.ask();
  }

  #wait(ms: number): void {
    this.#cancelTimer();
    this.#cancelTimer = this.#env.timer(() => this.#check(), ms);
  }
}
