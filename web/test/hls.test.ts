// Tests of loading hls.js.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { openHls } from "../src/transport/hls";
import type { Ending, Sink } from "../src/transport/transport";
import type { VideoScreen } from "../src/transport/video";
import { Clock, replace, settled } from "./support";

/** A page that has started to load hls.js. */
function open(t: TestContext) {
  const clock = new Clock(t);
  replace(t, "MediaSource", class {});
  const told: Ending[] = [];
  let released = 0;
  const screen = { lend: () => ({ element: new EventTarget(), release: () => released++ }) } as unknown as VideoScreen;
  const sink = { ended: (ending: Ending) => told.push(ending) } as unknown as Sink;
  const transport = openHls(new URL("http://gateway/live/demo"), sink, true, screen);
  return { clock, told, transport, released: () => released };
}

test("an HLS player that does not load within 15 s counts as refused", async (t) => {
  const { clock, told, released } = open(t);
  clock.advance(15_000);
  await settled();
  assert.deepEqual(told.map(({ kind }) => kind), ["refused"]);
  assert.ok(released() > 0);
  assert.equal(clock.running, 0);
});

test("stopping while the HLS player loads leaves no timers", async (t) => {
  const { clock, told, transport } = open(t);
  transport.stop();
  assert.equal(clock.running, 0);
  clock.advance(15_000);
  await settled();
  assert.deepEqual([told, clock.running], [[], 0]);
});
