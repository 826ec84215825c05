// H.264 frames with length prefixes (ISO/IEC 14496-15 §5).

const IDR_SLICE = 5;
/** Byte of the configuration whose lowest two bits are the size of the length prefixes, minus one. */
const LENGTH_SIZE = 4;

/** Whether the frame has an IDR slice. `config` is the track's avcC. */
export function hasIdr(frame: Uint8Array, config: Uint8Array): boolean {
  const size = ((config[LENGTH_SIZE] ?? 3) & 3) + 1;
  for (let at = 0; at + size < frame.length; ) {
    let length = 0;
    for (let byte = 0; byte < size; byte++) length = length * 256 + (frame[at + byte] ?? 0);
    at += size;
    if (((frame[at] ?? 0) & 0x1f) === IDR_SLICE) return true;
    at += length;
  }
  return false;
}
