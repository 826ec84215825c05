// As much of JPEG (ITU-T T.81) as it takes to hand a camera's picture to a browser's decoder.

const MARKER = 0xff;
/** The second byte of the EOI marker (T.81 B.1.1.3). */
const EOI = 0xd9;

/** What cameras and gateways call a JPEG; `image/jpeg` is the registered one. */
const TYPES: ReadonlySet<string> = new Set(["image/jpeg", "image/jpg", "image/pjpeg"]);

/** Whether a media type, in lower case and without parameters, is a JPEG's. */
export function isJpeg(type: string): boolean {
  return TYPES.has(type);
}

/** The picture with its EOI marker. Cameras leave that out, and browsers take such a picture for one that was cut off. */
export function withEnd(jpeg: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const { length } = jpeg;
  if (jpeg[length - 2] === MARKER && jpeg[length - 1] === EOI) return jpeg;
  const whole = new Uint8Array(length + 2);
  whole.set(jpeg);
  whole.set([MARKER, EOI], length);
  return whole;
}
