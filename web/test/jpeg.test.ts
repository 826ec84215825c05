// Tests of JPEG repair.

import assert from "node:assert/strict";
import { test } from "node:test";
import { isJpeg, withEnd } from "../src/media/jpeg";

test("a missing end marker is appended, and an existing one is kept", () => {
  const whole = Uint8Array.of(0xff, 0xd8, 1, 2, 0xff, 0xd9);
  assert.equal(withEnd(whole), whole);
  assert.deepEqual(withEnd(whole.slice(0, -2)), whole);
  // A truncated marker, and no data at all: left to the decoder to reject.
  assert.deepEqual(withEnd(Uint8Array.of(0xff, 0xd8, 0xff)), Uint8Array.of(0xff, 0xd8, 0xff, 0xff, 0xd9));
  assert.deepEqual(withEnd(new Uint8Array(0)), Uint8Array.of(0xff, 0xd9));
});

test("MIME types that cameras use for JPEG are recognised", () => {
  assert.deepEqual(["image/jpeg", "image/jpg", "image/pjpeg", "image/png", "", "text/plain"].map(isJpeg), [true, true, true, false, false, false]);
});
