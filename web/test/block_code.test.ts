// Tests of the block code reader.

import assert from "node:assert/strict";
import { test } from "node:test";
import { age, CELLS, crc8, MODULUS, type Pixels, readRow, rowHeight } from "../src/media/block_code";
import { seeded } from "./support";

/** A frame of noise with both rows drawn; `white` and `black` are their levels. */
function frame(width: number, height: number, number: number, clock: number, white = 235, black = 16): Pixels {
  const random = seeded(width);
  const data = Uint8ClampedArray.from({ length: width * height * 4 }, () => random() * 256);
  const row = rowHeight(height);
  paint(data, width, height - row, row, number, white, black);
  paint(data, width, height - 2 * row, row, clock, white, black);
  return { data, width, height };
}

function paint(data: Uint8ClampedArray, width: number, top: number, rows: number, value: number, white: number, black: number): void {
  const bytes = [(value >> 16) & 255, (value >> 8) & 255, value & 255];
  bytes.push(crc8(bytes));
  for (let x = 0; x < width; x++) {
    const cell = Math.floor((x * CELLS) / width);
    const bit = ((bytes[cell >> 3] ?? 0) >> (7 - (cell & 7))) & 1;
    for (let y = top; y < top + rows; y++) data.fill(bit ? white : black, (y * width + x) * 4, (y * width + x) * 4 + 3);
  }
}

test("both rows are read at any frame size", () => {
  for (const [width, height] of [[1280, 720], [320, 180], [1920, 1080], [640, 480], [322, 182], [160, 96]] as const) {
    const row = rowHeight(height);
    for (const value of [0, 1, 0x123456, MODULUS - 1]) {
      const pixels = frame(width, height, value, MODULUS - 1 - value);
      assert.equal(readRow(pixels, height - row, row), value, `${width}x${height}`);
      assert.equal(readRow(pixels, height - 2 * row, row), MODULUS - 1 - value);
    }
  }
});

test("rows with reduced contrast are read", () => {
  const pixels = frame(640, 360, 4711, 815, 170, 90);
  assert.equal(readRow(pixels, 330, 30), 4711);
});

test("a frame without the code gives no number", () => {
  const pixels = frame(640, 360, 4711, 815);
  assert.equal(readRow(pixels, 60, 30), null);
  const flipped = { ...pixels, data: Uint8ClampedArray.from(pixels.data) };
  for (let y = 330; y < 360; y++) flipped.data.fill(pixels.data[330 * 640 * 4] === 16 ? 235 : 16, y * 640 * 4, (y * 640 + 20) * 4);
  assert.equal(readRow(flipped, 330, 30), null);
});

test("rows outside the frame or too small for cells give no number", () => {
  const pixels = frame(640, 360, 1, 2);
  assert.equal(readRow(pixels, 340, 30), null);
  assert.equal(readRow(pixels, -1, 30), null);
  assert.equal(readRow({ ...pixels, width: 40 }, 0, 30), null);
});

test("the checksum matches the published check value of CRC-8", () => {
  // Computed independently: CRC-8, poly 07, init FF, over the usual check string.
  assert.equal(crc8([...new TextEncoder().encode("123456789")]), 0xfb);
  assert.equal(crc8([]), 0xff);
});

test("the age is correct across a wrap, and may be negative", () => {
  const now = 1_763_700_000_123;
  assert.equal(age((now - 250) % MODULUS, now), 250);
  assert.equal(age((now + 40) % MODULUS, now), -40);
  assert.equal(age(MODULUS - 10, MODULUS * 3 + 5), 15);
});
