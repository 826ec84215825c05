// Full-size captures: `POST /api/devices/{serial}/capture`.

import { errorText } from "./errors";
import { gatewayUrl } from "./gateway";
import { header } from "./headers";
import { object, text } from "./json";

/** Longer than the gateway's own timeout, as its error message says more than ours. */
const TIMEOUT_MS = 30_000;

/** A captured image: a JPEG, and its metadata from the gateway. */
export interface CapturedImage {
  readonly id: string;
  readonly blob: Blob;
  /** Capture time in Unix ms. */
  readonly at: number;
  /** Age of the frame at the time of the request; null if the gateway does not say. */
  readonly ageMs: number | null;
  readonly width: number | null;
  readonly height: number | null;
  /** Path of the saved copy, relative to the gateway's capture directory; null if none was saved. */
  readonly path: string | null;
}

/** A failed capture: an error code of the API, or one of our own if there was no response, and a message. */
export class CaptureError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Requests a capture; `save` makes the gateway keep a copy. Throws only `CaptureError`. */
export async function captureImage(serial: string, save: boolean): Promise<CapturedImage> {
  try {
    const response = await fetch(gatewayUrl(`api/devices/${encodeURIComponent(serial)}/capture`), {
      method: "POST",
      headers: { accept: "image/jpeg", "content-type": "application/json" },
      body: JSON.stringify({ format: "jpeg", save }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    return await readCapturedImage(response, Date.now());
  } catch (error) {
    if (error instanceof CaptureError) throw error;
    const timedOut = error instanceof DOMException && error.name === "TimeoutError";
    throw timedOut
      ? new CaptureError("NO_ANSWER", `the gateway did not respond within ${TIMEOUT_MS / 1000} s`)
      : new CaptureError("UNREACHABLE", "the gateway is not responding");
  }
}

/** Parses the response that arrived at `now` (Unix ms). */
export async function readCapturedImage(response: Response, now: number): Promise<CapturedImage> {
  if (!response.ok) throw await readError(response);
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("image/jpeg")) throw new CaptureError("BAD_ANSWER", `the gateway sent ${type || "an unknown type"} instead of a JPEG`);
  const at = Date.parse(response.headers.get("x-captured-at") ?? "");
  return {
    id: response.headers.get("x-capture-id") ?? "",
    blob: await response.blob(),
    at: Number.isFinite(at) ? at : now,
    ageMs: header(response.headers, "x-age-ms"),
    width: header(response.headers, "x-width"),
    height: header(response.headers, "x-height"),
    path: response.headers.get("x-path"),
  };
}

async function readError(response: Response): Promise<CaptureError> {
  const body = response.clone();
  const message = await errorText(response);
  let code = "";
  try {
    code = text(object(await body.json())?.["code"]);
  } catch {
    // Not JSON: the response of a proxy, or the gateway's for an unknown path.
  }
  return new CaptureError(code === "" ? `HTTP ${response.status}` : code, message);
}
