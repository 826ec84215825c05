// Tests of the reconnect delays and of the clock offset.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/net/backoff";
import { offsetOf } from "../src/net/server_clock";
import { seeded } from "./support";

test("delays double from 0.5 s to 10 s", () => {
  const backoff = new Backoff(() => 0.5);
  const waits = Array.from({ length: 8 }, () => backoff.next());
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 10_000, 10_000, 10_000]);
});

test("delays are randomised and stay within 0.5 s and 10 s", () => {
  const backoff = new Backoff(seeded(3));
  const waits = Array.from({ length: 2000 }, () => backoff.next());
  assert.ok(waits.every((wait) => wait >= 500 && wait <= 10_000));
  assert.ok(new Set(waits.slice(10)).size > 100);
});

test("after a success the delay starts at 0.5 s again", () => {
  const backoff = new Backoff(() => 0.5);
  backoff.next();
  backoff.next();
  backoff.reset();
  assert.equal(backoff.next(), 500);
});

test("the clock offset comes from the sample with the shortest round trip", () => {
  assert.equal(offsetOf([]), 0);
  const samples = [
    { sent: 1000, received: 1400, server: 9000 },
    { sent: 2000, received: 2010, server: 7005 },
    { sent: 3000, received: 3100, server: 1 },
  ];
  assert.equal(offsetOf(samples), 5000);
});
