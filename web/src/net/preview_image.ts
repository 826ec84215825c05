// Fetches a preview image of a stream: `GET /live/{stream}/frame.jpg`.

import { ApiError } from "./api";
import { errorText } from "./errors";
import { header } from "./headers";

const WIDTH = 320;
const QUALITY = 60;

/** A small JPEG, and its age when the gateway sent it; null if the gateway does not say. */
export interface PreviewImage {
  readonly blob: Blob;
  /** Capture time as the gateway writes it; equal values mean the same image. */
  readonly capturedAt: string;
  readonly ageMs: number | null;
}

/** URL of the preview image. Every tile requests the same size, so that the gateway encodes one JPEG for all of them. */
export function previewUrl(base: string): string {
  return `${base}/frame.jpg?width=${WIDTH}&quality=${QUALITY}`;
}

/** Fetches the newest image of the stream at `base`. */
export async function fetchPreview(base: string, signal: AbortSignal): Promise<PreviewImage> {
  const response = await fetch(previewUrl(base), { signal, cache: "no-store", headers: { accept: "image/jpeg" } });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return { blob: await response.blob(), capturedAt: response.headers.get("x-captured-at") ?? "", ageMs: header(response.headers, "x-age-ms") };
}
