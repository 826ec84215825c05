// Small helpers for the unit tests.

/** Annex B from NAL units, with 4-byte start codes unless told otherwise. */
export function annexB(nals: readonly (readonly number[])[], startCode: readonly number[] = [0, 0, 0, 1]): Uint8Array {
  return Uint8Array.from(nals.flatMap((nal) => [...startCode, ...nal]));
}

export const SPS = [0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01];
export const OTHER_SPS = [0x67, 0x64, 0x00, 0x28, 0xac, 0x2b];
export const PPS = [0x68, 0xce, 0x3c, 0x80];
export const AUD = [0x09, 0x10];
export const IDR = [0x65, 0x88, 0x84, 0x21];
export const DELTA = [0x41, 0x9a, 0x02, 0x33];
/** One SEI message: recovery point, one byte long. */
export const RECOVERY = [0x06, 0x06, 0x01, 0xc4, 0x80];
/** User data of five bytes, then nothing. */
export const USER_DATA = [0x06, 0x05, 0x05, 0x06, 0x01, 0xc4, 0x06, 0x06, 0x80];

/** The same random numbers in every run (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
