// Tests of the watch over a path that may go silent, with a clock that the test advances.

import assert from "node:assert/strict";
import { test } from "node:test";
import { LEAD_MS, SILENT_MS, SilenceWatch } from "../src/transport/silence_watch";
import { Timers } from "./support";

class World {
  readonly log: string[] = [];
  /** When something was sent. */
  readonly pokes: number[] = [];
  readonly timers = new Timers();
  readonly watch = new SilenceWatch(
    {
      now: () => this.timers.now,
      timer: (callback, ms) => {
        const timer = this.timers.start(callback, ms);
        return () => this.timers.stop(timer);
      },
    },
    { poke: () => this.pokes.push(this.timers.now), ask: () => this.log.push("ask"), dismiss: () => this.log.push("dismiss"), takeOver: () => this.log.push("take over") },
  );

  after(ms: number, what?: "heard" | "news"): this {
    this.timers.advance(ms);
    if (what !== undefined) this.watch[what]();
    return this;
  }
}

test("a path that speaks is left alone", () => {
  const world = new World();
  for (let nth = 0; nth < 100; nth++) world.after(SILENT_MS - 1, "heard");
  world.watch.stop();
  assert.deepEqual([world.log, world.timers.running], [[], 0]);
});

test("the other path takes over if it is ahead for a while", () => {
  const world = new World().after(500, "heard").after(SILENT_MS - 1, "news");
  assert.deepEqual(world.log, []);
  world.after(1).after(100, "news").after(LEAD_MS - 1, "news");
  assert.deepEqual(world.log, ["ask"]);
  world.after(1);
  assert.deepEqual([world.log, world.timers.running], [["ask", "take over"], 0]);
});

test("a path that is only slower, or whose source is still, is asked for less and less often", () => {
  const world = new World();
  for (const patience of [1, 2, 4, 8, 16, 32, 32]) {
    world.after(patience * SILENT_MS - 1);
    assert.deepEqual(world.log, [], `${patience}`);
    world.after(1, "news").after(LEAD_MS - 1, "heard");
    assert.deepEqual(world.log.splice(0), ["ask", "dismiss"]);
  }
  assert.equal(world.timers.running, 1);
});

test("without news nothing happens, however long", () => {
  const world = new World().after(600_000);
  assert.deepEqual([world.log, world.timers.running], [["ask"], 0]);
});

test("before the other path is asked, something is sent on this one", () => {
  const world = new World().after(249, "heard").after(249, "heard").after(600, "heard").after(1, "heard");
  assert.deepEqual([world.pokes, world.log], [[748, 998], []]);
  world.after(SILENT_MS).after(5000, "heard");
  assert.deepEqual([world.pokes.slice(2), world.log], [[1349, 1599], ["ask", "dismiss"]]);
  world.after(499).after(1);
  assert.equal(world.pokes.length, 5);
  world.watch.stop();
});

test("on a busy device, what has arrived meanwhile comes first", () => {
  const world = new World();
  world.timers.stall(5 * SILENT_MS);
  world.after(0, "heard").after(SILENT_MS - 1);
  assert.deepEqual(world.log, []);
  world.after(1, "news");
  world.timers.stall(2 * LEAD_MS);
  world.after(0, "heard").after(SILENT_MS);
  assert.deepEqual(world.log, ["ask", "dismiss"]);
  // If there is nothing, it only takes a little longer.
  world.timers.stall(5 * SILENT_MS);
  world.after(100, "news");
  world.timers.stall(2 * LEAD_MS);
  world.after(100);
  assert.deepEqual([world.log, world.timers.running], [["ask", "dismiss", "ask", "take over"], 0]);
});
