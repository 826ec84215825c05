// Executes the preview requests that `Rota` schedules, and aborts those whose tile is no longer visible.

import { Rota, type Turn } from "./rota";

/** Timeout for one request, longer than the gateway waits for a frame. */
const LONGEST_MS = 15_000;

/** Clock, timers and random numbers, replaced in tests. */
export interface Ground {
  readonly now: () => number;
  /** Calls back once; the returned function cancels it. */
  readonly timer: (callback: () => void, ms: number) => () => void;
  readonly random: () => number;
}

/** Fetches and displays the next preview of `name`; rejects if there is none. */
export type Ask = (name: string, signal: AbortSignal) => Promise<void>;

export class Pump {
  readonly #ask: Ask;
  readonly #ground: Ground;
  readonly #rota: Rota;
  readonly #requests = new Map<string, AbortController>();
  #cancel = (): void => {};
  #running = false;

  constructor(ask: Ask, ground: Ground) {
    this.#ask = ask;
    this.#ground = ground;
    this.#rota = new Rota({ random: ground.random });
  }

  /** Maximum number of concurrent requests. */
  set limit(limit: number) {
    this.#rota.limit = limit;
    this.#go();
  }

  /** Starts or stops previews of `name`; stopping aborts its request. */
  want(name: string, wanted: boolean): void {
    if (wanted) {
      this.#rota.want(name);
    } else {
      this.#rota.rest(name);
      this.#end(name);
    }
    this.#go();
  }

  /** Retries `name` now instead of after its backoff. */
  hurry(name: string): void {
    this.#rota.hurry(name);
    this.#go();
  }

  forget(name: string): void {
    this.#rota.forget(name);
    this.#end(name);
    this.#go();
  }

  /** Starts or stops all requests. */
  run(running: boolean): void {
    this.#running = running;
    if (!running) {
      this.#rota.drop();
      for (const name of [...this.#requests.keys()]) this.#end(name);
    }
    this.#go();
  }

  #go(): void {
    this.#cancel();
    this.#cancel = () => {};
    if (!this.#running) return;
    for (let turn = this.#rota.take(this.#ground.now()); turn !== null; turn = this.#rota.take(this.#ground.now())) void this.#make(turn);
    const wait = this.#rota.wait(this.#ground.now());
    if (wait !== null) this.#cancel = this.#ground.timer(() => this.#go(), wait);
  }

  async #make(turn: Turn): Promise<void> {
    const request = new AbortController();
    this.#requests.set(turn.name, request);
    const cancel = this.#ground.timer(() => request.abort(), LONGEST_MS);
    let came = true;
    try {
      await this.#ask(turn.name, request.signal);
    } catch {
      // `ask` displays the reason; only the failure matters here.
      came = false;
    }
    cancel();
    if (this.#requests.get(turn.name) === request) this.#requests.delete(turn.name);
    this.#rota.done(turn, this.#ground.now(), came);
    this.#go();
  }

  #end(name: string): void {
    this.#requests.get(name)?.abort();
    this.#requests.delete(name);
  }
}
