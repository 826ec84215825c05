// Tests of `DisplayWatchdog`: detection of a browser that displays nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DisplayWatchdog } from "../src/player/display_watchdog";

/** Feeds a frame every 40 ms for `ms`; returns the time of the report that nothing is displayed, or null. */
function feed(watchdog: DisplayWatchdog, from: number, ms: number): number | null {
  for (let at = from; at < from + ms; at += 40) if (watchdog.fed(1, at)) return at;
  return null;
}

test("a page that was suspended starts counting again", () => {
  const watchdog = new DisplayWatchdog();
  assert.equal(feed(watchdog, 0, 7000), null);
  assert.equal(feed(watchdog, 3_600_000, 7000), null);
  assert.equal(feed(watchdog, 3_607_000, 7000), 3_608_000);
});

test("a displayed frame resets the count and allows a longer pause", () => {
  const watchdog = new DisplayWatchdog();
  assert.equal(feed(watchdog, 0, 7000), null);
  watchdog.displayed();
  assert.equal(feed(watchdog, 7000, 14_000), null);
  assert.equal(feed(watchdog, 21_000, 2000), 22_000);
});

test("a burst of frames triggers the watchdog only after 8 s", () => {
  const watchdog = new DisplayWatchdog();
  assert.equal(watchdog.fed(300, 0), false);
  assert.equal(watchdog.fed(300, 7999), false);
  assert.equal(watchdog.fed(1, 8000), true);
});
