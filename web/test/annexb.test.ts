// Tests of the H.264 access unit inspection.

import assert from "node:assert/strict";
import { test } from "node:test";
import { codecString, concat, inspect, mergeParameters, sameBytes, withParameters } from "../src/media/annexb";
import { annexB, AUD, DELTA, IDR, PPS, RECOVERY, seeded, SPS, USER_DATA } from "./support";

test("a keyframe with parameter sets is recognised with any start code length", () => {
  for (const startCode of [[0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0, 0, 1]]) {
    const unit = inspect(annexB([AUD, SPS, PPS, IDR, IDR], startCode));
    assert.deepEqual([...(unit.sps ?? [])], SPS);
    assert.deepEqual([...(unit.parameters ?? [])], [...annexB([SPS, PPS])]);
    assert.deepEqual([unit.picture, unit.idr, unit.hasPps, unit.recovery], [true, true, true, false]);
  }
});

test("a delta picture has no parameter sets and is no keyframe", () => {
  const unit = inspect(annexB([AUD, DELTA]));
  assert.deepEqual([unit.picture, unit.idr, unit.sps, unit.parameters], [true, false, null, null]);
});

test("a message with only parameter sets contains no picture", () => {
  const unit = inspect(annexB([AUD, SPS, PPS, USER_DATA]));
  assert.equal(unit.picture, false);
  assert.notEqual(unit.parameters, null);
});

test("a recovery point is found after other SEI messages, not inside them", () => {
  assert.equal(inspect(annexB([RECOVERY, DELTA])).recovery, true);
  assert.equal(inspect(annexB([USER_DATA, DELTA])).recovery, false);
  const behindEscaped = [0x06, 0x05, 0x03, 0x00, 0x00, 0x03, 0x01, 0x06, 0x01, 0xc4, 0x80];
  assert.equal(inspect(annexB([behindEscaped, DELTA])).recovery, true);
});

test("parameter sets are inserted after the access unit delimiter", () => {
  const bytes = annexB([AUD, IDR]);
  const unit = inspect(bytes);
  const whole = withParameters(bytes, unit.insertAt, annexB([SPS, PPS]));
  assert.deepEqual([...whole], [...annexB([AUD, SPS, PPS, IDR])]);
  assert.equal(inspect(annexB([IDR])).insertAt, 0);
});

test("the codec string is profile, constraints and level in hex", () => {
  assert.equal(codecString(Uint8Array.from(SPS)), "avc1.42c01f");
  assert.equal(codecString(Uint8Array.of(0x67, 0x64, 0x00, 0x0a)), "avc1.64000a");
  assert.equal(codecString(Uint8Array.of(0x67, 0x64)), null);
});

test("an invalid level is replaced by one that browsers accept", () => {
  assert.equal(codecString(Uint8Array.of(0x67, 0x4d, 0x40, 0x00)), "avc1.4d4034");
  assert.equal(codecString(Uint8Array.of(0x67, 0x64, 0x00, 0x09)), "avc1.640009");
});

test("a parameter set replaces the one with the same id and no other", () => {
  // pic_parameter_set_id 0, 0 and 1.
  const [first, other, beside] = [[0x68, 0xce, 0x3c, 0x80], [0x68, 0xcb, 0x83], [0x68, 0x4b, 0x83]];
  const merged = mergeParameters(annexB([SPS, first, beside]), annexB([other]));
  assert.deepEqual([...merged], [...annexB([SPS, beside, other])]);
  assert.deepEqual([...mergeParameters(merged, annexB([other]))], [...merged]);
});

test("B slices are distinguished from other slices", () => {
  // first_mb_in_slice 0 and slice_type 1, 6, 5, 7; then first_mb_in_slice 3 and slice_type 6.
  for (const [slice, bidirectional] of [
    [[0x01, 0xa0], true],
    [[0x01, 0x9c], true],
    [DELTA, false],
    [IDR, false],
    [[0x01, 0x21, 0xc0], true],
  ] as const) {
    assert.equal(inspect(annexB([[...slice]])).bidirectional, bidirectional, String(slice));
  }
});

test("random bytes throw no exception", () => {
  const random = seeded(2);
  for (let run = 0; run < 2000; run++) {
    // Mostly zeros and ones, so that start codes occur.
    const bytes = Uint8Array.from({ length: Math.floor(random() * 64) }, () =>
      random() < 0.7 ? Math.floor(random() * 2) : Math.floor(random() * 256),
    );
    const unit = inspect(bytes);
    assert.ok(unit.insertAt <= bytes.length);
  }
});

test("byte arrays are concatenated and compared", () => {
  assert.deepEqual([...concat([Uint8Array.of(1), Uint8Array.of(), Uint8Array.of(2, 3)])], [1, 2, 3]);
  assert.ok(sameBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 2)));
  assert.ok(!sameBytes(Uint8Array.of(1, 2), Uint8Array.of(1, 3)));
  assert.ok(!sameBytes(Uint8Array.of(1), Uint8Array.of(1, 2)));
});
