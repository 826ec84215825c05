// Tests of the preview scheduler, including a simulation of sixteen tiles.

import assert from "node:assert/strict";
import { test } from "node:test";
import { PreviewScheduler } from "../src/dashboard/preview_scheduler";
import { seeded } from "./support";

const newScheduler = (limit = 3): PreviewScheduler => new PreviewScheduler({ limit, random: () => 0.5 });

/** Completes all turns at `now`. */
function completeAll(tiles: PreviewScheduler, names: readonly string[], now = 0): void {
  for (const name of names) tiles.want(name);
  for (let left = names.length; left > 0; left--) {
    const turn = tiles.take(now);
    assert.ok(turn);
    tiles.done(turn, now, true);
  }
}

test("a tile requests 0.5 s after its image, and not while a request is in flight", () => {
  const tiles = newScheduler();
  tiles.want("a");
  const turn = tiles.take(0);
  assert.ok(turn);
  assert.equal(tiles.take(5000), null);
  assert.equal(tiles.wait(5000), null);
  tiles.done(turn, 5000, true);
  assert.equal(tiles.wait(5000), 500);
  assert.equal(tiles.take(5499), null);
  assert.equal(tiles.take(5500)?.name, "a");
});

test("three requests run at a time, and the longest due is next", () => {
  const tiles = newScheduler();
  completeAll(tiles, ["a", "b", "c", "d", "e"]);
  const first = [tiles.take(500), tiles.take(500), tiles.take(500)];
  assert.deepEqual(first.map((turn) => turn?.name), ["a", "b", "c"]);
  assert.equal(tiles.take(500), null);
  assert.equal(tiles.wait(500), null);
  assert.ok(first[1]);
  tiles.done(first[1], 700, true);
  assert.equal(tiles.take(700)?.name, "d");
  assert.ok(first[0]);
  tiles.done(first[0], 2000, true);
  assert.equal(tiles.take(2000)?.name, "e");
});

test("tiles without an image so far leave a slot for the others", () => {
  const tiles = newScheduler();
  completeAll(tiles, ["live"]);
  for (const name of ["asleep", "dead", "lost"]) tiles.want(name);
  assert.deepEqual([tiles.take(100)?.name, tiles.take(100)?.name, tiles.take(100)], ["asleep", "dead", null]);
  assert.equal(tiles.wait(100), 400);
  assert.equal(tiles.take(500)?.name, "live");
  // With a limit of one, they take turns.
  const narrow = newScheduler(1);
  narrow.want("asleep");
  assert.equal(narrow.take(0)?.name, "asleep");
});

test("failures back off, a change of state retries at once, and an image resets the delay", () => {
  const tiles = newScheduler();
  tiles.want("a");
  const fail = (now: number): number | null => {
    const turn = tiles.take(now);
    assert.ok(turn);
    tiles.done(turn, now, false);
    return tiles.wait(now);
  };
  assert.deepEqual([fail(0), fail(500), fail(1500)], [500, 1000, 2000]);
  tiles.retryNow("a");
  assert.equal(tiles.wait(1600), 0);
  const turn = tiles.take(1600);
  assert.ok(turn);
  tiles.done(turn, 1600, true);
  // A change of state does not allow more than two requests a second.
  tiles.retryNow("a");
  assert.equal(tiles.wait(1600), 500);
});

test("a returning tile requests no sooner, and its old request is ignored", () => {
  const tiles = newScheduler();
  tiles.want("a");
  const turn = tiles.take(0);
  assert.ok(turn);
  tiles.pause("a");
  assert.equal(tiles.wait(100), null);
  tiles.want("a");
  assert.equal(tiles.take(100), null);
  const again = tiles.take(500);
  assert.ok(again);
  tiles.done(turn, 501, true);
  assert.equal(tiles.take(2000), null);
  tiles.forget("a");
  tiles.done(again, 2000, true);
  assert.equal(tiles.wait(2000), null);
});

test("sixteen tiles: limit and rate are kept, and every tile gets images", () => {
  const random = seeded(7);
  for (const slowest of [5, 60, 900]) {
    const tiles = newScheduler();
    const names = Array.from({ length: 16 }, (_, at) => `tile ${at}`);
    for (const name of names) tiles.want(name);
    const received = new Map<string, number[]>(names.map((name) => [name, []]));
    let inFlight: { turn: NonNullable<ReturnType<PreviewScheduler["take"]>>; end: number }[] = [];
    for (let now = 0; now < 30_000; now++) {
      for (const { turn } of inFlight.filter(({ end }) => end === now)) {
        tiles.done(turn, now, true);
        received.get(turn.name)?.push(now);
      }
      inFlight = inFlight.filter(({ end }) => end > now);
      for (let turn = tiles.take(now); turn !== null; turn = tiles.take(now)) inFlight.push({ turn, end: now + 1 + Math.floor(random() * slowest) });
      assert.ok(inFlight.length <= 3);
      assert.ok(inFlight.length === 3 || tiles.wait(now) !== 0);
    }
    const counts = [...received.values()].map((times) => times.length);
    for (const times of received.values()) times.slice(1).forEach((time, at) => assert.ok(time - (times[at] ?? 0) >= 500));
    assert.ok(Math.min(...counts) >= Math.max(...counts) * 0.8, `${slowest}: ${counts}`);
    assert.ok(Math.min(...counts) >= (slowest < 100 ? 50 : 10), `${slowest}: ${counts}`);
  }
});
