// One picture of a stream: `GET /live/{stream}/frame.jpg`.

import { ApiError } from "./api";
import { errorText } from "./errors";
import { header } from "./headers";

const WIDTH = 320;
const QUALITY = 60;

/** A small picture, and how old it was when the gateway sent it; null where it does not say. */
export interface Frame {
  readonly blob: Blob;
  /** When it was taken, as the gateway writes it: the same again is the same picture. */
  readonly takenAt: string;
  readonly ageMs: number | null;
}

/** Every tile asks for the same size, so that the gateway makes one for everybody who looks. */
export function frameUrl(base: string): string {
  return `${base}/frame.jpg?width=${WIDTH}&quality=${QUALITY}`;
}

/** Asks for the newest picture of the stream below `base`. */
export async function fetchFrame(base: string, signal: AbortSignal): Promise<Frame> {
  const response = await fetch(frameUrl(base), { signal, cache: "no-store", headers: { accept: "image/jpeg" } });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return { blob: await response.blob(), takenAt: response.headers.get("x-captured-at") ?? "", ageMs: header(response.headers, "x-age-ms") };
}
