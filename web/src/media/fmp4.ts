// A minimal parser for fragmented MP4 (ISO/IEC 14496-12): which tracks there are, and where decoding can start.

/** `sample_is_non_sync_sample` in sample flags (8.8.3.1). */
const NON_SYNC = 0x10000;

/** Id of the video track in an init segment; null if there is none. */
export function videoTrack(init: Uint8Array): number | null {
  for (const track of inside(init, "moov", "trak")) {
    const [header] = boxes(track, "tkhd");
    const [handler] = [...boxes(track, "mdia")].flatMap((media) => [...boxes(media, "hdlr")]);
    if (header === undefined || handler === undefined || fourCc(handler, 8) !== "vide") continue;
    // Version 1 has 64-bit times before the id (8.3.2).
    return uint32(header, header[0] === 1 ? 20 : 12);
  }
  return null;
}

/** Whether a fragment has samples of this track. */
export function hasSamples(fragment: Uint8Array, track: number): boolean {
  return runOf(fragment, track) !== null;
}

/** Whether a fragment has samples of this track and the first one is a sync sample. */
export function startsWithSync(fragment: Uint8Array, track: number): boolean {
  const found = runOf(fragment, track);
  return found !== null && (firstFlags(found.header, found.run) & NON_SYNC) === 0;
}

/** Contents of the fragment's `tfhd` and first `trun` of this track, if the run has samples. */
function runOf(fragment: Uint8Array, track: number): { header: Uint8Array; run: Uint8Array } | null {
  for (const part of inside(fragment, "moof", "traf")) {
    const [header] = boxes(part, "tfhd");
    const [run] = boxes(part, "trun");
    if (header !== undefined && run !== undefined && uint32(header, 4) === track && uint32(run, 4) > 0) return { header, run };
  }
  return null;
}

/** Flags of a run's first sample: its own, the run's `first_sample_flags`, or the fragment's default (8.8.7, 8.8.8). */
function firstFlags(header: Uint8Array, run: Uint8Array): number {
  const runFlags = uint32(run, 0);
  const dataOffset = runFlags & 0x1 ? 4 : 0;
  if (runFlags & 0x4) return uint32(run, 8 + dataOffset);
  if (runFlags & 0x400) {
    const before = (runFlags & 0x100 ? 4 : 0) + (runFlags & 0x200 ? 4 : 0);
    return uint32(run, 8 + dataOffset + before);
  }
  const flags = uint32(header, 0);
  if (!(flags & 0x20)) return 0;
  return uint32(header, 8 + (flags & 0x1 ? 8 : 0) + (flags & 0x2 ? 4 : 0) + (flags & 0x8 ? 4 : 0) + (flags & 0x10 ? 4 : 0));
}

function* inside(bytes: Uint8Array, outer: string, inner: string): Generator<Uint8Array> {
  for (const box of boxes(bytes, outer)) yield* boxes(box, inner);
}

/** Contents of all boxes of one type. Truncated boxes are skipped. */
function* boxes(bytes: Uint8Array, type: string): Generator<Uint8Array> {
  for (let at = 0; at + 8 <= bytes.length; ) {
    const size = uint32(bytes, at);
    // Sizes 0 ("to the end") and 1 (64 bits) are not used in a fragment's header.
    if (size < 8 || at + size > bytes.length) return;
    if (fourCc(bytes, at + 4) === type) yield bytes.subarray(at + 8, at + size);
    at += size;
  }
}

function fourCc(bytes: Uint8Array, at: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}

function uint32(bytes: Uint8Array, at: number): number {
  const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(at, at + 4);
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}
