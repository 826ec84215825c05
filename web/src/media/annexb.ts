// What the player must know about an H.264 access unit in Annex B form before it may decode it (ITU-T H.264 §7.4.1, B.1).
// Only what stands before the first slice is looked at, so the cost does not grow with the picture.

/** The beginnings of one access unit. */
export interface AccessUnit {
  /** The sequence parameter set without start code, if the unit carries one. */
  readonly sps: Uint8Array | null;
  readonly hasPps: boolean;
  /** The unit's parameter sets (SPS, SPS extension, PPS), each behind a start code; null if it carries none. */
  readonly parameters: Uint8Array | null;
  /** The unit has a slice; without one it is not a picture. */
  readonly picture: boolean;
  /** The picture is an IDR picture: decoding may start here. */
  readonly idr: boolean;
  /** A recovery point SEI stands before the picture: decoding may start here, the picture mends as it goes (intra refresh). */
  readonly recovery: boolean;
  /** Where parameter sets may be put in: behind the access unit delimiter, which has to stay first (§7.4.1.2.3). */
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
/** Recovery point messages stand early; a longer SEI unit carries captions or user data behind them. */
const SEI_LOOKED_AT = 4096;

/** Looks at an access unit up to its first slice. Never throws: bytes without a start code are no picture. */
export function inspect(unit: Uint8Array): AccessUnit {
  let sps: Uint8Array | null = null;
  let hasPps = false;
  let recovery = false;
  let insertAt = 0;
  const sets: Uint8Array[] = [];
  const done = (picture: boolean, idr: boolean): AccessUnit => ({
    sps,
    hasPps,
    parameters: sets.length === 0 ? null : concat(sets.flatMap((set) => [START_CODE, set])),
    picture,
    idr,
    recovery,
    insertAt,
  });

  let start = nextStartCode(unit, 0);
  while (start >= 0) {
    const from = start + 3;
    const type = (unit[from] ?? 0) & 0x1f;
    if (type >= SLICE && type <= IDR_SLICE) return done(true, type === IDR_SLICE);
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

/** The WebCodecs codec string of an SPS (RFC 6381 §3.3: profile, constraints, level), or null if it is too short. */
export function codecString(sps: Uint8Array): string | null {
  if (sps.length < 4) return null;
  const hex = Array.from(sps.subarray(1, 4), (byte) => byte.toString(16).padStart(2, "0"));
  return `avc1.${hex.join("")}`;
}

/** `unit` with `parameters` put in where the standard wants them. */
export function withParameters(unit: Uint8Array, insertAt: number, parameters: Uint8Array): Uint8Array {
  return concat([unit.subarray(0, insertAt), parameters, unit.subarray(insertAt)]);
}

/** True if both hold the same bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** All pieces one after the other. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    joined.set(piece, at);
    at += piece.length;
  }
  return joined;
}

/** Index of the next 00 00 01, or -1. Looks at every third byte as long as they rule a start code out. */
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

/** Trailing zero bytes belong to the next start code or to nothing (§B.1.1), never to the NAL unit. */
function endOf(bytes: Uint8Array, from: number, next: number): number {
  let end = next < 0 ? bytes.length : next;
  while (end > from && bytes[end - 1] === 0) end--;
  return end;
}

/** Walks the SEI messages of a NAL unit (§7.3.2.3.1). */
function hasRecoveryPoint(nal: Uint8Array): boolean {
  const data = withoutEmulation(nal.subarray(1, SEI_LOOKED_AT));
  let at = 0;
  // 0x80 alone is the trailing bits.
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

/** Takes out emulation prevention bytes (§7.4.1). */
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
