// Tests of geometry messages and display sizes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { displaySize, readGeometry } from "../src/media/geometry";

test("the display size follows from pixel aspect and rotation", () => {
  for (const [aspect, rotation, size] of [
    [[16, 11], 0, { width: 931, height: 360 }],
    [[16, 11], 90, { width: 360, height: 931 }],
    [[16, 11], 180, { width: 931, height: 360 }],
    [[1, 1], 270, { width: 360, height: 640 }],
    [[1, 2], 0, { width: 640, height: 720 }],
  ] as const) {
    const geometry = readGeometry(JSON.stringify({ pixelAspect: aspect, rotation, mirrored: true }));
    assert.ok(geometry !== null);
    assert.deepEqual(geometry.orientation, { rotation, mirrored: true });
    assert.deepEqual(displaySize(geometry, 640, 360), size);
  }
});

test("the display size is at most a canvas, at the same aspect ratio", () => {
  for (const [aspect, rotation, coded, size] of [
    [[16, 1], 0, [16384, 360], { width: 16384, height: 23 }],
    [[16, 1], 90, [4096, 2160], { width: 540, height: 16384 }],
    [[1, 16], 0, [2160, 4096], { width: 540, height: 16384 }],
    [[16, 1], 0, [16384, 1], { width: 16384, height: 1 }],
  ] as const) {
    assert.deepEqual(displaySize({ orientation: { rotation, mirrored: false }, pixelAspect: aspect }, coded[0], coded[1]), size);
  }
});

test("invalid geometry messages are rejected", () => {
  for (const text of [
    "",
    "[]",
    "{}",
    '{"pixelAspect":[1,1],"rotation":45,"mirrored":false}',
    '{"pixelAspect":[0,1],"rotation":90,"mirrored":false}',
    '{"pixelAspect":[-1,1],"rotation":90,"mirrored":false}',
    '{"pixelAspect":[1],"rotation":90,"mirrored":false}',
    '{"pixelAspect":"1:1","rotation":90,"mirrored":false}',
    '{"pixelAspect":[1,1],"rotation":90}',
  ]) {
    assert.equal(readGeometry(text), null, text);
  }
});
