// Repairs JPEGs (ITU-T T.81) from cameras, so that browsers decode them.

const MARKER = 0xff;
/** The second byte of the EOI marker (T.81 B.1.1.3). */
const EOI = 0xd9;

/** Media types that cameras and gateways use for JPEG; `image/jpeg` is the registered one. */
const TYPES: ReadonlySet<string> = new Set(["image/jpeg", "image/jpg", "image/pjpeg"]);

/** Whether a media type (lower case, without parameters) denotes JPEG. */
export function isJpeg(type: string): boolean {
  return TYPES.has(type);
}

/** The JPEG with an EOI marker. Some cameras omit it, and browsers then treat the image as truncated. */
export function withEnd(jpeg: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { length } = jpeg;
  if (jpeg[length - 2] === MARKER && jpeg[length - 1] === EOI) return jpeg;
  const whole = new Uint8Array(length + 2);
  whole.set(jpeg);
  whole.set([MARKER, EOI], length);
  return whole;
}
