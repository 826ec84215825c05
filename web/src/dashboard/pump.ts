// Makes the requests for pictures that the rota gives turns to, and ends those that nobody looks at any more.

import { Rota, type Turn } from "./rota";

/** Longer than the gateway waits for a picture. */
const LONGEST_MS = 15_000;

/** Clock, timers and chance, as a pump needs them. */
export interface Ground {
  readonly now: () => number;
  /** Calls back once; what it gives back cancels that. */
  readonly timer: (callback: () => void, ms: number) => () => void;
  readonly random: () => number;
}

/** Asks for the next picture of `name` and shows it; fails where there is none. */
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

  /** How many requests may be under way. */
  set limit(limit: number) {
    this.#rota.limit = limit;
    this.#go();
  }

  /** Pictures of this are looked at, or not: then what is under way ends at once. */
  want(name: string, wanted: boolean): void {
    if (wanted) {
      this.#rota.want(name);
    } else {
      this.#rota.rest(name);
      this.#end(name);
    }
    this.#go();
  }

  /** It is worth trying anew now. */
  hurry(name: string): void {
    this.#rota.hurry(name);
    this.#go();
  }

  forget(name: string): void {
    this.#rota.forget(name);
    this.#end(name);
    this.#go();
  }

  /** Whether anything is asked for at all. */
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
      // Whoever asks shows why; here it is only no picture.
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
