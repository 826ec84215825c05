// How coded pictures are to be shown: the shape of a pixel, and which way is up. What the gateway tells in a text message of
// `nal` where pictures are not shown as they are coded.

import { flag, number, object } from "../net/json";

/** The longest side (px) that a picture is shown with, as in the gateway: a canvas that is too large stays empty without an error. */
const LONGEST = 16_384;

/** Left and right are exchanged if so said, then the picture is turned clockwise by so many degrees. */
export interface Orientation {
  readonly rotation: 0 | 90 | 180 | 270;
  readonly mirrored: boolean;
}

export interface Geometry {
  readonly orientation: Orientation;
  /** Width and height of a coded pixel, in a unit of their own. */
  readonly pixelAspect: readonly [number, number];
}

/** Whether width and height change places. */
export function isSideways({ rotation }: Orientation): boolean {
  return rotation === 90 || rotation === 270;
}

/** Reads a text message. Null if it says something else. */
export function readGeometry(message: string): Geometry | null {
  let told: Record<string, unknown> | null;
  try {
    told = object(JSON.parse(message));
  } catch {
    return null;
  }
  const aspect = told?.["pixelAspect"];
  const [wide, tall] = Array.isArray(aspect) ? aspect.map(number) : [];
  const rotation = number(told?.["rotation"]);
  const mirrored = flag(told?.["mirrored"]);
  if (rotation !== 0 && rotation !== 90 && rotation !== 180 && rotation !== 270) return null;
  if (mirrored === null || !wide || !tall || wide < 0 || tall < 0) return null;
  return { orientation: { rotation, mirrored }, pixelAspect: [wide, tall] };
}

/** The size (px) at which a coded picture is seen, upright: one side stays as coded and the other is stretched, as far as it may be long. */
export function displaySize({ orientation, pixelAspect: [wide, tall] }: Geometry, width: number, height: number): { width: number; height: number } {
  const across = wide >= tall ? (width * wide) / tall : width;
  const down = wide >= tall ? height : (height * tall) / wide;
  const scale = Math.min(1, LONGEST / Math.max(across, down));
  const seen = (side: number): number => Math.max(1, Math.round(side * scale));
  return isSideways(orientation) ? { width: seen(down), height: seen(across) } : { width: seen(across), height: seen(down) };
}
