// Tests of `Absence`: detection of a browser that displays nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Absence } from "../src/player/absence";

/** Feeds a frame every 40 ms from `from` on, for `ms`; returns the time at which the absence was detected. */
function feed(absence: Absence, from: number, ms: number): number | null {
  for (let at = from; at < from + ms; at += 40) if (absence.fed(1, at)) return at;
  return null;
}

test("a page that was suspended starts counting anew", () => {
  const absence = new Absence();
  assert.equal(feed(absence, 0, 7000), null);
  assert.equal(feed(absence, 3_600_000, 7000), null);
  assert.equal(feed(absence, 3_607_000, 7000), 3_608_000);
});

test("a picture that is shown excuses those before it, and the next pause may be longer", () => {
  const absence = new Absence();
  assert.equal(feed(absence, 0, 7000), null);
  absence.shown();
  assert.equal(feed(absence, 7000, 14_000), null);
  assert.equal(feed(absence, 21_000, 2000), 22_000);
});

test("pictures in a lump count, and still are given their time", () => {
  const absence = new Absence();
  assert.equal(absence.fed(300, 0), false);
  assert.equal(absence.fed(300, 7999), false);
  assert.equal(absence.fed(1, 8000), true);
});
