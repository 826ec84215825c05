// Inspects an H.264 access unit in Annex B format for what the player must know before it may decode it (ITU-T H.264
// §7.4.1, B.1). Only the NAL units before the first slice are read, so the cost does not grow with the frame.

/** What the start of an access unit reveals. */
export interface AccessUnit {
  /** The sequence parameter set without its start code, if the unit has one. */
  readonly sps: Uint8Array | null;
  readonly hasPps: boolean;
  /** The unit's parameter sets (SPS, SPS extension, PPS), each with a start code; null if it has none. */
  readonly parameters: Uint8Array | null;
  /** Whether the unit has a slice; without one it is not a picture. */
  readonly picture: boolean;
  /** Whether the picture is an IDR picture: decoding may start here. */
  readonly idr: boolean;
  /**
   * Whether a recovery point SEI precedes the picture: decoding may start here and the picture becomes correct
   * gradually (intra refresh).
   */
  readonly recovery: boolean;
  /** Whether the picture's first slice is a B slice: it may be predicted from pictures on both sides of it. */
  readonly bidirectional: boolean;
  /**
   * Offset at which parameter sets may be inserted: after the access unit delimiter, which must stay first
   * (§7.4.1.2.3).
   */
  readonly insertAt: number;
}

const SLICE = 1;
const IDR_SLICE = 5;
const SEI = 6;
const SPS = 7;
const PPS = 8;
const AUD = 9;
const SPS_EXTENSION = 13;

const START_CODE = Uint8Array.of(0, 0, 0, 1);
const RECOVERY_POINT = 6;
/** Enough bytes for `first_mb_in_slice` and `slice_type`. */
const SLICE_HEADER_BYTES = 12;
const B = 1;
/** Valid values of `level_idc` (Table A-1), and 9 for level 1b. */
const LEVELS = [9, 10, 11, 12, 13, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 52, 60, 61, 62];
/** Level 5.2, in place of an invalid level. */
const FALLBACK_LEVEL = 52;
/** Recovery point messages come early; a longer SEI unit carries captions or user data after them. */
const MAX_SEI_BYTES = 4096;

/**
 * Inspects an access unit up to its first slice. Never throws: bytes without a start code are reported as not being a
 * picture.
 */
export function inspect(unit: Uint8Array): AccessUnit {
  let sps: Uint8Array | null = null;
  let hasPps = false;
  let recovery = false;
  let insertAt = 0;
  const sets: Uint8Array[] = [];
  const done = (picture: boolean, idr: boolean, bidirectional = false): AccessUnit => ({
    sps,
    hasPps,
    parameters: sets.length === 0 ? null : concat(sets.flatMap((set) => [START_CODE, set])),
    picture,
    idr,
    recovery,
    bidirectional,
    insertAt,
  });

  let start = nextStartCode(unit, 0);
  while (start >= 0) {
    const from = start + 3;
    const type = (unit[from] ?? 0) & 0x1f;
    if (type >= SLICE && type <= IDR_SLICE) return done(true, type === IDR_SLICE, isBidirectional(unit.subarray(from + 1, from + SLICE_HEADER_BYTES)));
    const next = nextStartCode(unit, from);
    const nal = unit.subarray(from, endOf(unit, from, next));
    switch (type) {
      case SPS:
        sps = nal;
        sets.push(nal);
        break;
      case PPS:
        hasPps = true;
        sets.push(nal);
        break;
      case SPS_EXTENSION:
        sets.push(nal);
        break;
      case SEI:
        recovery ||= hasRecoveryPoint(nal);
        break;
      case AUD:
        if (sets.length === 0) insertAt = from + nal.length;
        break;
    }
    start = next;
  }
  return done(false, false);
}

/**
 * The WebCodecs codec string of an SPS (RFC 6381 §3.3: profile, constraints, level), or null if it is too short. Some
 * encoders write an invalid level (0), which browsers reject; it is replaced by one that covers everything browsers
 * play.
 */
export function codecString(sps: Uint8Array): string | null {
  const [, profile, constraints, level] = sps;
  if (profile === undefined || constraints === undefined || level === undefined) return null;
  const fields = [profile, constraints, LEVELS.includes(level) ? level : FALLBACK_LEVEL];
  const hex = fields.map((byte) => byte.toString(16).padStart(2, "0"));
  return `avc1.${hex.join("")}`;
}

/**
 * Merges `added` into the parameter sets `known` (each with a start code): a set replaces the previous one of the
 * same kind and id.
 */
export function mergeParameters(known: Uint8Array, added: Uint8Array): Uint8Array {
  const merged = new Map<string, Uint8Array>();
  for (const set of [...nals(known), ...nals(added)]) {
    const type = (set[0] ?? 0) & 0x1f;
    // A PPS begins with its id; there is only one SPS.
    const id = type === PPS ? expGolomb(withoutEmulation(set.subarray(1, 1 + SLICE_HEADER_BYTES)), 0).value : 0;
    const key = `${type} ${id}`;
    merged.delete(key);
    merged.set(key, set);
  }
  return concat([...merged.values()].flatMap((set) => [START_CODE, set]));
}

/** Splits a byte stream into NAL units. */
function nals(stream: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let start = nextStartCode(stream, 0); start >= 0; ) {
    const next = nextStartCode(stream, start + 3);
    found.push(stream.subarray(start + 3, endOf(stream, start + 3, next)));
    start = next;
  }
  return found;
}

/** Whether a slice is a B slice (§7.3.3), from its bytes after the NAL unit header. */
function isBidirectional(slice: Uint8Array): boolean {
  const bits = withoutEmulation(slice);
  const first = expGolomb(bits, 0);
  return expGolomb(bits, first.end).value % 5 === B;
}

/** Reads ue(v) (§9.1) at bit `from`, and returns the position after it. Bits past the end read as zero. */
function expGolomb(bytes: Uint8Array, from: number): { value: number; end: number } {
  const bit = (at: number): number => ((bytes[at >> 3] ?? 0) >> (7 - (at & 7))) & 1;
  let zeros = 0;
  while (zeros < 32 && bit(from + zeros) === 0) zeros++;
  let value = 1;
  for (let at = 1; at <= zeros; at++) value = value * 2 + bit(from + zeros + at);
  return { value: value - 1, end: from + 2 * zeros + 1 };
}

/** Inserts `parameters` into `unit` at the position the standard requires. */
export function withParameters(unit: Uint8Array, insertAt: number, parameters: Uint8Array): Uint8Array {
  return concat([unit.subarray(0, insertAt), parameters, unit.subarray(insertAt)]);
}

/** Whether both arrays have the same content. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** Concatenates all pieces. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}

/** Index of the next 00 00 01, or -1. Reads only every third byte where that rules out a start code. */
function nextStartCode(bytes: Uint8Array, from: number): number {
  let at = from + 2;
  while (at < bytes.length) {
    const byte = bytes[at] ?? 0;
    if (byte > 1) {
      at += 3;
    } else if (byte === 0) {
      at += 1;
    } else if (bytes[at - 1] === 0 && bytes[at - 2] === 0) {
      return at - 2;
    } else {
      at += 3;
    }
  }
  return -1;
}

/** End of a NAL unit: trailing zero bytes belong to the next start code or to nothing (§B.1.1). */
function endOf(bytes: Uint8Array, from: number, next: number): number {
  let end = next < 0 ? bytes.length : next;
  while (end > from && bytes[end - 1] === 0) end--;
  return end;
}

/** Searches the SEI messages of a NAL unit for a recovery point (§7.3.2.3.1). */
function hasRecoveryPoint(nal: Uint8Array): boolean {
  const data = withoutEmulation(nal.subarray(1, MAX_SEI_BYTES));
  let at = 0;
  // A lone 0x80 is the RBSP trailing bits.
  while (at + 1 < data.length) {
    let type = 0;
    while (data[at] === 0xff) {
      type += 255;
      at++;
    }
    type += data[at++] ?? 0;
    let size = 0;
    while (data[at] === 0xff) {
      size += 255;
      at++;
    }
    size += data[at++] ?? 0;
    if (type === RECOVERY_POINT && at + size <= data.length) return true;
    at += size;
  }
  return false;
}

/** Removes emulation prevention bytes (§7.4.1). */
function withoutEmulation(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length);
  let length = 0;
  let zeros = 0;
  for (const byte of bytes) {
    if (zeros >= 2 && byte === 3) {
      zeros = 0;
      continue;
    }
    zeros = byte === 0 ? zeros + 1 : 0;
    out[length++] = byte;
  }
  return out.subarray(0, length);
}
