// Tests of the fragmented MP4 parser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { hasSamples, startsWithSync, videoTrack } from "../src/media/fmp4";
import { fragment, initSegment, seeded } from "./support";

test("the video track is found among others", () => {
  assert.equal(videoTrack(initSegment("vide")), 1);
  assert.equal(videoTrack(initSegment("soun", "vide")), 2);
  assert.equal(videoTrack(initSegment("soun")), null);
});

test("a keyframe is recognised by any kind of flags, for its own track only", () => {
  for (const way of ["first", "each", "default"] as const) {
    assert.equal(startsWithSync(fragment(2, true, way), 2), true, way);
    assert.equal(startsWithSync(fragment(2, false, way), 2), false, way);
    assert.equal(startsWithSync(fragment(1, true, way), 2), false, way);
  }
});

test("a fragment has samples only of the tracks that it names", () => {
  for (const way of ["first", "each", "default"] as const) {
    assert.equal(hasSamples(fragment(2, false, way), 2), true, way);
    assert.equal(hasSamples(fragment(1, true, way), 2), false, way);
  }
  assert.equal(hasSamples(initSegment("vide"), 1), false);
});

test("truncated and damaged boxes throw no exception", () => {
  const random = seeded(3);
  for (const whole of [initSegment("soun", "vide"), fragment(2, true, "each")]) {
    for (let times = 0; times < 2000; times++) {
      const bytes = whole.slice(0, Math.floor(random() * (whole.length + 1)));
      for (let hits = Math.floor(random() * 4); hits > 0; hits--) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
      videoTrack(bytes);
      startsWithSync(bytes, 2);
      hasSamples(bytes, 2);
    }
  }
});
