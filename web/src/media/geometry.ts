// Display geometry of coded frames: pixel aspect ratio and orientation. The gateway sends it in the catalogue of
// `webcodecs`, and as a text message on `nal` if frames are not displayed as coded.

import { flag, number, object } from "../net/json";

/**
 * Maximum side of a displayed frame in pixels, as in the gateway: a canvas that is too large stays empty without an
 * error.
 */
const MAX_SIDE = 16_384;

/** Orientation: mirrored horizontally if `mirrored`, then rotated clockwise by `rotation` degrees. */
export interface Orientation {
  readonly rotation: 0 | 90 | 180 | 270;
  readonly mirrored: boolean;
}

export interface Geometry {
  readonly orientation: Orientation;
  /** Pixel aspect ratio, as width : height. */
  readonly pixelAspect: readonly [number, number];
}

/** Whether width and height are exchanged. */
export function isSideways({ rotation }: Orientation): boolean {
  return rotation === 90 || rotation === 270;
}

/** Parses a text message. Null if it is not a geometry. */
export function readGeometry(message: string): Geometry | null {
  try {
    const fields = object(JSON.parse(message));
    return fields === null ? null : geometry(fields);
  } catch {
    return null;
  }
}

/** The geometry in these fields. Null if there is none. */
export function geometry(fields: Record<string, unknown>): Geometry | null {
  const aspect = fields["pixelAspect"];
  const [wide, tall] = Array.isArray(aspect) ? aspect.map(number) : [];
  const rotation = number(fields["rotation"]);
  const mirrored = flag(fields["mirrored"]);
  if (rotation !== 0 && rotation !== 90 && rotation !== 180 && rotation !== 270) return null;
  if (mirrored === null || !wide || !tall || wide < 0 || tall < 0) return null;
  return { orientation: { rotation, mirrored }, pixelAspect: [wide, tall] };
}

/**
 * Display size in pixels of a coded frame after rotation. One side stays as coded and the other is stretched, within
 * the maximum.
 */
export function displaySize({ orientation, pixelAspect: [wide, tall] }: Geometry, width: number, height: number): { width: number; height: number } {
  const across = wide >= tall ? (width * wide) / tall : width;
  const down = wide >= tall ? height : (height * tall) / wide;
  const scale = Math.min(1, MAX_SIDE / Math.max(across, down));
  const scaled = (side: number): number => Math.max(1, Math.round(side * scale));
  return isSideways(orientation) ? { width: scaled(down), height: scaled(across) } : { width: scaled(across), height: scaled(down) };
}
