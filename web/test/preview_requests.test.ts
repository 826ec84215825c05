// Tests of preview requests with a fake clock.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PreviewRequests } from "../src/dashboard/preview_requests";

/** A fake clock, and requests that complete when the test says so. */
class World {
  #now = 0;
  #timers: { at: number; callback: () => void }[] = [];
  readonly requests: { name: string; signal: AbortSignal; end: (succeeded: boolean) => void }[] = [];
  readonly previews = new PreviewRequests(
    (name, signal) =>
      new Promise<void>((resolve, reject) => {
        const end = (succeeded: boolean): void => (succeeded ? resolve() : reject(new Error("no")));
        this.requests.push({ name, signal, end });
        signal.addEventListener("abort", () => reject(new Error("aborted")));
      }),
    {
      now: () => this.#now,
      random: () => 0.5,
      timer: (callback, ms) => {
        const timer = { at: this.#now + ms, callback };
        this.#timers.push(timer);
        return () => (this.#timers = this.#timers.filter((other) => other !== timer));
      },
    },
  );

  get names(): string[] {
    return this.requests.map(({ name }) => name);
  }

  get inFlight(): string[] {
    return this.requests.filter(({ signal }) => !signal.aborted).map(({ name }) => name);
  }

  get timers(): number {
    return this.#timers.length;
  }

  /** Waits until promises have settled. */
  async settle(): Promise<void> {
    for (let times = 0; times < 10; times++) await Promise.resolve();
  }

  async pass(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      await this.settle();
      this.#timers.sort((a, b) => a.at - b.at);
      const next = this.#timers[0];
      if (next === undefined || next.at > end) break;
      this.#timers.shift();
      this.#now = next.at;
      next.callback();
    }
    this.#now = end;
  }
}

test("nothing is requested before the page is visible, or for hidden tiles", async () => {
  const { previews, requests } = new World();
  previews.want("a", true);
  assert.equal(requests.length, 0);
  previews.run(true);
  assert.deepEqual(requests.map(({ name }) => name), ["a"]);
  previews.want("b", false);
  assert.equal(requests.length, 1);
});

test("a tile that leaves the screen aborts its request and makes no more", async () => {
  const stage = new World();
  stage.previews.run(true);
  stage.previews.want("a", true);
  stage.previews.want("a", false);
  assert.equal(stage.requests[0]?.signal.aborted, true);
  await stage.pass(60_000);
  assert.equal(stage.requests.length, 1);
  assert.equal(stage.timers, 0);
  stage.previews.want("a", true);
  assert.equal(stage.requests.length, 2);
});

test("a hidden page has no requests or timers, and resumes when visible", async () => {
  const stage = new World();
  stage.previews.run(true);
  for (const name of ["a", "b", "c"]) stage.previews.want(name, true);
  stage.requests[0]?.end(true);
  await stage.settle();
  stage.previews.run(false);
  assert.ok(stage.requests.slice(1).every(({ signal }) => signal.aborted));
  await stage.pass(60_000);
  const before = stage.requests.length;
  assert.equal(stage.timers, 0);
  stage.previews.run(true);
  assert.ok(stage.requests.length > before);
});

test("the next request is 0.5 s after a response, and one times out after 15 s", async () => {
  const stage = new World();
  stage.previews.run(true);
  stage.previews.want("a", true);
  await stage.pass(3000);
  assert.equal(stage.requests.length, 1);
  stage.requests[0]?.end(true);
  await stage.pass(499);
  assert.equal(stage.requests.length, 1);
  await stage.pass(1);
  assert.equal(stage.requests.length, 2);
  await stage.pass(14_999);
  assert.equal(stage.requests[1]?.signal.aborted, false);
  await stage.pass(1);
  assert.equal(stage.requests[1]?.signal.aborted, true);
  await stage.pass(1000);
  assert.equal(stage.requests.length, 3);
});

test("the limit may change while requests run", async () => {
  const stage = new World();
  stage.previews.run(true);
  for (const name of ["a", "b", "c"]) {
    stage.previews.want(name, true);
    stage.requests.at(-1)?.end(true);
    await stage.settle();
  }
  stage.previews.limit = 1;
  await stage.pass(500);
  assert.equal(stage.requests.length, 4);
  stage.previews.limit = 3;
  assert.equal(stage.requests.length, 6);
});

test("a removed tile aborts its request", async () => {
  const stage = new World();
  stage.previews.run(true);
  stage.previews.want("a", true);
  stage.previews.forget("a");
  assert.equal(stage.requests[0]?.signal.aborted, true);
  await stage.pass(60_000);
  assert.deepEqual([stage.requests.length, stage.timers], [1, 0]);
});
