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
  const endings: Ending[] = [];
  let detached = 0;
  const screen = { attach: () => ({ element: new EventTarget(), detach: () => detached++ }) } as unknown as VideoScreen;
  const sink = { ended: (ending: Ending) => endings.push(ending) } as unknown as Sink;
  const transport = openHls(new URL("http://gateway/live/demo"), sink, true, screen);
  return { clock, endings, transport, detached: () => detached };
}

test("an HLS player that does not load within 15 s counts as refused", async (t) => {
  const { clock, endings, detached } = open(t);
  clock.advance(15_000);
  await settled();
  assert.deepEqual(endings.map(({ kind }) => kind), ["refused"]);
  assert.ok(detached() > 0);
  assert.equal(clock.running, 0);
});

test("stopping while the HLS player loads leaves no timers", async (t) => {
  const { clock, endings, transport } = open(t);
  transport.stop();
  assert.equal(clock.running, 0);
  clock.advance(15_000);
  await settled();
  assert.deepEqual([endings, clock.running], [[], 0]);
});
