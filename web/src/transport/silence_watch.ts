// Notices that one of two paths has gone silent: a firewall may begin to drop UDP at any moment, and no error tells so.
// A source that is still looks the same, so the other path is asked: it takes over only if it has news that this one
// lacks. Time is passed in.

import type { OrderEnv } from "./group_order";

/** What is to be done. */
export interface SilenceEvents {
  /** Send something on this path: if the client's address has changed, the gateway learns it from that only. */
  poke(): void;
  /** This path is silent: ask the other one. */
  ask(): void;
  /** This path has spoken: the other one is not needed. */
  dismiss(): void;
  /** The other path takes over. */
  takeOver(): void;
}

/** After this time (ms) without data, the other path is asked. */
export const SILENT_MS = 1000;
/** Parts of that time after which something is sent on this path. */
const POKES = [0.25, 0.5];
/** The news of the other path have to be ahead by this time (ms): it may just be a little faster. */
export const LEAD_MS = 300;
/** A timer that is late by more than this (ms) tells of a busy device, where data may have arrived that waits, too. */
const BUSY_MS = 100;
/** Sources that are still or slow let this path be silent for longer each time, up to this (ms). */
const MAX_SILENT_MS = 32_000;

/** State of one connection, from its beginning until `stop` or `takeOver`. */
export class SilenceWatch {
  readonly #env: OrderEnv;
  readonly #events: SilenceEvents;
  #patience = SILENT_MS;
  #heardAt: number;
  #poked = false;
  #asking = false;
  #hasNews = false;
  #cancelTimer: () => void;

  constructor(env: OrderEnv, events: SilenceEvents) {
    this.#env = env;
    this.#events = events;
    this.#heardAt = env.now();
    this.#cancelTimer = () => undefined;
    this.#check();
  }

  /** Data arrived on this path. */
  heard(): void {
    this.#heardAt = this.#env.now();
    if (!this.#poked && !this.#asking) return;
    const asked = this.#asking;
    this.#poked = this.#asking = this.#hasNews = false;
    if (asked) this.#patience = Math.min(2 * this.#patience, MAX_SILENT_MS);
    this.#check();
    if (asked) this.#events.dismiss();
  }

  /** The other path has something that did not arrive on this one. */
  news(): void {
    if (!this.#asking || this.#hasNews) return;
    this.#hasNews = true;
    this.#wait(LEAD_MS, () => this.#events.takeOver());
  }

  /** No event follows. */
  stop(): void {
    this.#cancelTimer();
  }

  #check(): void {
    const silent = this.#env.now() - this.#heardAt;
    if (silent >= this.#patience) {
      this.#asking = true;
      this.#events.ask();
      return;
    }
    const pokes = POKES.map((part) => part * this.#patience);
    if (pokes.some((ms) => ms <= silent)) {
      this.#poked = true;
      this.#events.poke();
    }
    this.#wait((pokes.find((ms) => ms > silent) ?? this.#patience) - silent, () => this.#check());
  }

  /** Calls back after `ms`, or once what arrived meanwhile has been looked at, if the device was busy. */
  #wait(ms: number, callback: () => void): void {
    this.#cancelTimer();
    const due = this.#env.now() + ms;
    const timeUp = (): void => {
      if (this.#env.now() > due + BUSY_MS) this.#cancelTimer = this.#env.timer(callback, BUSY_MS);
      else callback();
    };
    this.#cancelTimer = this.#env.timer(timeUp, ms);
  }
}
