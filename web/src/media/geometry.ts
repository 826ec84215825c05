// How coded pictures are to be shown: the shape of a pixel, and which way is up. What the gateway tells in a text message of
// `nal` where pictures are not shown as they are coded.

import { flag, number, object } from "../net/json";

/** Left and right are exchanged if so said, then the picture is turned clockwise by so many degrees. */
export interface Orientation {
  readonly rotation: 0 | 90 | 180 | 270;
  readonly mirrored: boolean;
}

export interface Geometry {
  readonly orientation: Orientation;
  /** Width and height of a coded pixel. */
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

/** The size at which a coded picture is seen, upright: one side stays as coded, the other is stretched. */
export function displaySize({ orientation, pixelAspect: [wide, tall] }: Geometry, width: number, height: number): { width: number; height: number } {
  const stretched =
    wide >= tall ? { width: Math.round((width * wide) / tall), height } : { width, height: Math.round((height * tall) / wide) };
  return isSideways(orientation) ? { width: stretched.height, height: stretched.width } : stretched;
}
