// Fetches a single small frame of a stream: `GET /live/{stream}/frame.jpg`.

import { ApiError } from "./api";
import { errorText } from "./errors";
import { header } from "./headers";

const WIDTH = 320;
const QUALITY = 60;

/** A small JPEG, and its age when the gateway sent it; null if the gateway does not say. */
export interface Frame {
  readonly blob: Blob;
  /** Capture time as the gateway writes it; equal values mean the same frame. */
  readonly takenAt: string;
  readonly ageMs: number | null;
}

/** URL of the frame. Every tile requests the same size, so that the gateway encodes one JPEG for all of them. */
export function frameUrl(base: string): string {
  return `${base}/frame.jpg?width=${WIDTH}&quality=${QUALITY}`;
}

/** Fetches the newest frame of the stream at `base`. */
export async function fetchFrame(base: string, signal: AbortSignal): Promise<Frame> {
  const response = await fetch(frameUrl(base), { signal, cache: "no-store", headers: { accept: "image/jpeg" } });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return { blob: await response.blob(), takenAt: response.headers.get("x-captured-at") ?? "", ageMs: header(response.headers, "x-age-ms") };
}
