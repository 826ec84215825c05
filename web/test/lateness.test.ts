// Tests of the estimation of queueing time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Lateness } from "../src/net/lateness";

test("lateness is relative to the least late frame, whatever the clocks", () => {
  const lateness = new Lateness();
  // The sender's clock is an hour behind.
  const arrived = (sentAt: number, ms: number): number | null => lateness.arrived(sentAt, sentAt + 3_600_000 + ms);
  assert.equal(arrived(0, 40), 0);
  assert.equal(arrived(100, 45), 5);
  assert.equal(arrived(200, 1040), 1000);
  assert.equal(arrived(300, 30), 0);
  assert.equal(arrived(400, 40), 10);
  // The same frame again, and an older one.
  assert.equal(arrived(400, 140), null);
  assert.equal(arrived(300, 240), null);
});

test("the least late frame is forgotten after a minute", () => {
  const lateness = new Lateness();
  assert.equal(lateness.arrived(0, 40), 0);
  assert.equal(lateness.arrived(1000, 1240), 200);
  for (let sentAt = 2000; sentAt < 60_000; sentAt += 1000) assert.equal(lateness.arrived(sentAt, sentAt + 300), 260);
  assert.equal(lateness.arrived(60_500, 60_800), 60);
  assert.equal(lateness.arrived(62_000, 62_300), 0);
});
