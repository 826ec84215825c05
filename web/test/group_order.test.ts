// Tests of the order of groups, with a clock that the test advances.

import assert from "node:assert/strict";
import { test } from "node:test";
import { GroupOrder, LATE_MS, MAX_HELD_BYTES } from "../src/transport/group_order";
import { seeded, Timers } from "./support";

/** An order that logs what passes: `2:a`, or `!2:a` after a gap. */
class World {
  readonly log: string[] = [];
  readonly timers = new Timers();
  readonly order = new GroupOrder<string>(
    {
      now: () => this.timers.now,
      timer: (callback, ms) => {
        const timer = this.timers.start(callback, ms);
        return () => this.timers.stop(timer);
      },
    },
    { item: (item, gap) => this.log.push(gap ? `!${item}` : item) },
  );

  push(...items: readonly string[]): boolean[] {
    return items.map((item) => this.order.push(Number(item.split(":")[0]), item, 100));
  }
}

test("what arrives in order passes at once", () => {
  const world = new World();
  world.push("1:a", "1:b");
  world.order.end(1, true);
  world.push("2:a");
  assert.deepEqual([world.log, world.timers.running], [["1:a", "1:b", "2:a"], 0]);
});

test("a newer group waits for the end of an older one", () => {
  const world = new World();
  world.push("1:a", "2:a", "3:a", "1:b");
  world.order.end(2, true);
  world.timers.advance(LATE_MS - 1);
  assert.deepEqual(world.log, ["1:a", "1:b"]);
  world.order.end(1, true);
  assert.deepEqual([world.log, world.timers.running], [["1:a", "1:b", "2:a", "3:a"], 0]);
});

test("a group that never arrives is skipped by its number, after its budget", () => {
  const world = new World();
  world.push("1:a");
  world.order.end(1, true);
  world.push("3:a", "3:b");
  world.timers.advance(LATE_MS - 1);
  assert.deepEqual(world.log, ["1:a"]);
  world.timers.advance(1);
  assert.deepEqual(world.log, ["1:a", "!3:a", "3:b"]);
  assert.deepEqual(world.push("2:a", "3:c"), [false, true]);
  assert.equal(world.log.at(-1), "3:c");
});

test("a group that stalls is left after its budget, one that is reset at once", () => {
  const stalled = new World();
  stalled.push("1:a", "2:a");
  stalled.timers.advance(LATE_MS);
  assert.deepEqual([stalled.log, stalled.push("1:b")], [["1:a", "!2:a"], [false]]);

  const reset = new World();
  reset.push("1:a", "2:a");
  reset.order.end(1, false);
  assert.deepEqual(reset.log, ["1:a", "!2:a"]);

  const later = new World();
  later.push("1:a", "2:a", "3:a");
  later.order.end(2, false);
  later.order.end(1, true);
  assert.deepEqual(later.log, ["1:a", "2:a", "!3:a"]);
});

test("what follows the end of an incomplete group is behind a gap, even if it is of the same group", () => {
  const world = new World();
  world.push("1:a");
  world.order.end(1, false);
  world.push("1:c", "1:d", "2:a");
  assert.deepEqual(world.log, ["1:a", "!1:c", "1:d", "!2:a"]);
});

test("what is held back is bounded", () => {
  const many = new World();
  many.push("1:a");
  for (let group = 2; group < 30; group++) many.push(`${group}:a`);
  assert.ok(many.log.length >= 12, `${many.log}`);

  const large = new World();
  large.push("1:a");
  large.order.push(2, "2:a", MAX_HELD_BYTES);
  assert.deepEqual(large.log, ["1:a"]);
  large.order.push(2, "2:b", 1);
  assert.deepEqual(large.log, ["1:a", "!2:a", "2:b"]);
});

test("nothing happens after stop", () => {
  const world = new World();
  world.push("1:a", "2:a");
  world.order.stop();
  world.timers.advance(LATE_MS);
  assert.deepEqual([world.log, world.timers.running], [["1:a"], 0]);
});

test("whatever overtakes or is lost, items pass in order and none is held for longer than the budget", () => {
  const random = seeded(3);
  for (let round = 0; round < 300; round++) {
    const world = new World();
    const due: { at: number; act: () => void }[] = [];
    for (let group = 1; group <= 10; group++) {
      const start = group * 100 + random() * 500;
      if (random() < 0.15) continue;
      for (let nth = 0; nth < 3; nth++) due.push({ at: start + nth * 20, act: () => world.push(`${group}:${nth}`) });
      const complete = random() < 0.8;
      if (random() < 0.9) due.push({ at: start + 60, act: () => world.order.end(group, complete) });
    }
    for (const { at, act } of due.sort((one, other) => one.at - other.at)) {
      world.timers.advance(at - world.timers.now);
      act();
    }
    world.timers.advance(LATE_MS * 10);
    const passed = world.log.map((item) => item.replace("!", ""));
    assert.deepEqual(passed, [...passed].sort((one, other) => parseFloat(one.replace(":", ".")) - parseFloat(other.replace(":", "."))));
    assert.equal(world.timers.running, 0);
  }
});
