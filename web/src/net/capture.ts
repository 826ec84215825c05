// A picture on request, in full size: `POST /api/devices/{serial}/capture`.

import { errorText } from "./errors";
import { header } from "./headers";
import { object, text } from "./json";

/** Longer than the gateway's own time limit: its answer says more than ours. */
const LONGEST_MS = 30_000;

/** A picture that was taken: a JPEG, and what the gateway says of it. */
export interface Taken {
  readonly id: string;
  readonly blob: Blob;
  /** Unix ms. */
  readonly at: number;
  /** How old the picture was then; null where the gateway does not say. */
  readonly ageMs: number | null;
  readonly width: number | null;
  readonly height: number | null;
  /** Where the gateway keeps it, below its folder of captures; null where it does not. */
  readonly path: string | null;
}

/** Why there is no picture: a code of the wire contract, or one of ours where there was no answer, and the words for it. */
export class CaptureError extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** Takes a picture; `save` has the gateway keep a copy. Fails with a `CaptureError` only. */
export async function takePicture(serial: string, save: boolean): Promise<Taken> {
  try {
    const response = await fetch(`/api/devices/${encodeURIComponent(serial)}/capture`, {
      method: "POST",
      headers: { accept: "image/jpeg", "content-type": "application/json" },
      body: JSON.stringify({ format: "jpeg", save }),
      signal: AbortSignal.timeout(LONGEST_MS),
    });
    return await readTaken(response, Date.now());
  } catch (error) {
    if (error instanceof CaptureError) throw error;
    const late = error instanceof DOMException && error.name === "TimeoutError";
    throw late
      ? new CaptureError("NO_ANSWER", `the gateway did not answer within ${LONGEST_MS / 1000} s`)
      : new CaptureError("UNREACHABLE", "the gateway does not answer");
  }
}

/** Reads the answer that came at `now`. */
export async function readTaken(response: Response, now: number): Promise<Taken> {
  if (!response.ok) throw await readError(response);
  const type = response.headers.get("content-type") ?? "";
  if (!type.startsWith("image/jpeg")) throw new CaptureError("BAD_ANSWER", `the gateway sent ${type || "something"} in place of a picture`);
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
  const words = await errorText(response);
  let code = "";
  try {
    code = text(object(await body.json())?.["code"]);
  } catch {
    // No JSON: a proxy's answer, or the gateway's on a path that it does not know.
  }
  return new CaptureError(code === "" ? `HTTP ${response.status}` : code, words);
}
