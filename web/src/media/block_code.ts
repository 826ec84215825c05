// Reads the block code of the test pattern: two rows at the bottom of the frame, each of 32 black or white cells that
// encode a 24-bit value and its CRC-8. The lower row is the frame number, the upper one the Unix time in ms, both
// modulo 2^24. The code survives scaling and JPEG, so what a viewer sees can be compared with what was sent, and
// when.

/** RGBA pixels, laid out as in `ImageData`. */
export interface Pixels {
  readonly data: ArrayLike<number>;
  readonly width: number;
  readonly height: number;
}

/** Values wrap at this number. */
export const MODULUS = 1 << 24;

/** Cells per row. */
export const CELLS = 32;

/** Height in pixels of one row in a frame that is `height` pixels high. */
export function rowHeight(height: number): number {
  return Math.floor(height / 12);
}

/**
 * Reads the row of height `rows` whose first line is `top`. Null if its CRC does not match: the frame has no block
 * code.
 */
export function readRow(pixels: Pixels, top: number, rows: number): number | null {
  if (pixels.width < CELLS * 2 || rows < 2 || top < 0 || top + rows > pixels.height) return null;
  const bytes = [0, 0, 0, 0];
  for (let cell = 0; cell < CELLS; cell++) {
    if (cellLuma(pixels, cell, top, rows) >= 128) {
      const index = cell >> 3;
      bytes[index] = (bytes[index] ?? 0) | (0x80 >> (cell & 7));
    }
  }
  const [high = 0, middle = 0, low = 0, check = 0] = bytes;
  return crc8([high, middle, low]) === check ? (high << 16) | (middle << 8) | low : null;
}

/** CRC-8, polynomial 0x07, initial value 0xFF, not reflected, no final xor. */
export function crc8(bytes: readonly number[]): number {
  let crc = 0xff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80 ? ((crc << 1) ^ 0x07) & 0xff : crc << 1;
  }
  return crc;
}

/** Milliseconds from `clock` (a value of the clock row) to `now` (Unix ms); negative if `clock` is ahead. */
export function age(clock: number, now: number): number {
  const behind = (((Math.round(now) - clock) % MODULUS) + MODULUS) % MODULUS;
  return behind >= MODULUS / 2 ? behind - MODULUS : behind;
}

/** Mean luma (BT.601, full range) of the central half of a cell, in both directions. */
function cellLuma(pixels: Pixels, cell: number, top: number, rows: number): number {
  const size = pixels.width / CELLS;
  const left = Math.floor((cell + 0.25) * size);
  const right = Math.max(left + 1, Math.floor((cell + 0.75) * size));
  const first = Math.floor(top + rows * 0.25);
  const last = Math.max(first + 1, Math.floor(top + rows * 0.75));
  let sum = 0;
  for (let y = first; y < last; y++) {
    for (let x = left; x < right; x++) {
      const at = (y * pixels.width + x) * 4;
      sum += 0.299 * (pixels.data[at] ?? 0) + 0.587 * (pixels.data[at + 1] ?? 0) + 0.114 * (pixels.data[at + 2] ?? 0);
    }
  }
  return sum / ((right - left) * (last - first));
}
