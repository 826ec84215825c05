// Tests of the clock offset measurement.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ServerClock } from "../src/net/server_clock";
import { Clock, replace, settled, unanswered } from "./support";

test("without a response from the gateway, the local clock is used", async (t) => {
  const clock = new Clock(t);
  replace(t, "fetch", unanswered);
  const server = new ServerClock(new URL("http://gateway/healthz"));
  void server.measure();
  await settled();
  assert.equal(server.now(), null);
  clock.advance(15_000);
  await settled();
  assert.ok(Math.abs((server.now() ?? 0) - Date.now()) < 1000);
  void server.measure();
  server.stop();
  await settled();
  assert.equal(clock.running, 0);
});
