// Executes the preview requests that `PreviewScheduler` schedules, and aborts those whose tile is no longer visible.

import { PreviewScheduler, type Turn } from "./preview_scheduler";

/** Timeout for one request, longer than the gateway waits for a frame. */
const TIMEOUT_MS = 15_000;

/** Clock, timers and random numbers, replaced in tests. */
export interface RequestEnv {
  readonly now: () => number;
  /** Calls back once; the returned function cancels it. */
  readonly timer: (callback: () => void, ms: number) => () => void;
  readonly random: () => number;
}

/** Fetches and displays the next preview of `name`; rejects if there is none. */
export type FetchPreview = (name: string, signal: AbortSignal) => Promise<void>;

export class PreviewRequests {
  readonly #fetch: FetchPreview;
  readonly #env: RequestEnv;
  readonly #scheduler: PreviewScheduler;
  readonly #requests = new Map<string, AbortController>();
  #cancel = (): void => {};
  #running = false;

  constructor(fetchPreview: FetchPreview, env: RequestEnv) {
    this.#fetch = fetchPreview;
    this.#env = env;
    this.#scheduler = new PreviewScheduler({ random: env.random });
  }

  /** Maximum number of concurrent requests. */
  set limit(limit: number) {
    this.#scheduler.limit = limit;
    this.#schedule();
  }

  /** Starts or stops previews of `name`; stopping aborts its request. */
  want(name: string, wanted: boolean): void {
    if (wanted) {
      this.#scheduler.want(name);
    } else {
      this.#scheduler.pause(name);
      this.#abort(name);
    }
    this.#schedule();
  }

  /** Retries `name` now instead of after its backoff. */
  retryNow(name: string): void {
    this.#scheduler.retryNow(name);
    this.#schedule();
  }

  forget(name: string): void {
    this.#scheduler.forget(name);
    this.#abort(name);
    this.#schedule();
  }

  /** Starts or stops all requests. */
  run(running: boolean): void {
    this.#running = running;
    if (!running) {
      this.#scheduler.drop();
      for (const name of [...this.#requests.keys()]) this.#abort(name);
    }
    this.#schedule();
  }

  #schedule(): void {
    this.#cancel();
    this.#cancel = () => {};
    if (!this.#running) return;
    for (let turn = this.#scheduler.take(this.#env.now()); turn !== null; turn = this.#scheduler.take(this.#env.now())) void this.#send(turn);
    const wait = this.#scheduler.wait(this.#env.now());
    if (wait !== null) this.#cancel = this.#env.timer(() => this.#schedule(), wait);
  }

  async #send(turn: Turn): Promise<void> {
    const request = new AbortController();
    this.#requests.set(turn.name, request);
    const cancel = this.#env.timer(() => request.abort(), TIMEOUT_MS);
    let succeeded = true;
    try {
      await this.#fetch(turn.name, request.signal);
    } catch {
      // `fetchPreview` displays the reason; only the failure matters here.
      succeeded = false;
    }
    cancel();
    if (this.#requests.get(turn.name) === request) this.#requests.delete(turn.name);
    this.#scheduler.done(turn, this.#env.now(), succeeded);
    this.#schedule();
  }

  #abort(name: string): void {
    this.#requests.get(name)?.abort();
    this.#requests.delete(name);
  }
}
