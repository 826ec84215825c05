// The gateway's API as the pages use it. A field that is absent or of another type becomes null or its plain default, so an
// older page and a newer gateway get along.

import { errorText } from "./errors";

/** The states of a stream (wire contract); anything else is shown as it is named. */
export type StreamState =
  | "idle"
  | "starting"
  | "live"
  | "waiting-for-keyframe"
  | "silent"
  | "retrying"
  | "failed"
  | "offline"
  | "unauthorized";

/** One stream, from `GET /api/devices`. Rates in bits per second, `since` in Unix ms. */
export interface Device {
  readonly serial: string;
  /** Base path of the stream. */
  readonly url: string;
  /** Path of its page. */
  readonly watch: string;
  readonly state: StreamState | string;
  readonly reason: string;
  readonly since: number | null;
  readonly source: string;
  readonly width: number | null;
  readonly height: number | null;
  readonly codec: string;
  readonly frameRate: number | null;
  readonly bitsIn: number | null;
  readonly bitsOut: number | null;
  readonly viewers: number;
  readonly decoder: string;
  readonly transports: readonly string[];
  readonly notes: readonly string[];
}

/** One viewer, from `GET /api/sessions`. */
export interface Viewer {
  readonly id: string;
  readonly stream: string;
  readonly transport: string;
  readonly rendition: string;
  readonly since: number | null;
  readonly reason: string;
}

/** The gateway answered, but not with what was asked for; the message is its own. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Every stream the gateway knows. */
export async function fetchDevices(signal: AbortSignal): Promise<Device[]> {
  return parseDevices(await getJson("/api/devices", signal));
}

/** Everybody who watches. */
export async function fetchViewers(signal: AbortSignal): Promise<Viewer[]> {
  return parseViewers(await getJson("/api/sessions", signal));
}

/** Why the gateway does not know the stream of this name, in its words; null if it does know it. */
export async function whyUnknown(serial: string, signal: AbortSignal): Promise<string | null> {
  try {
    await getJson(`/api/devices/${encodeURIComponent(serial)}`, signal);
    return null;
  } catch (error) {
    if (error instanceof ApiError) return error.message;
    throw error;
  }
}

/** Reads the answer of `/api/devices`. */
export function parseDevices(json: unknown): Device[] {
  return list(json).flatMap((entry) => {
    const serial = text(entry["serial"]);
    if (serial === "") return [];
    const name = encodeURIComponent(serial);
    return {
      serial,
      url: path(entry["url"]) ?? `/live/${name}`,
      watch: path(entry["watch"]) ?? `/watch/${name}`,
      state: text(entry["state"]) || "unknown",
      reason: text(entry["reason"]),
      since: time(entry["since"]),
      source: text(entry["source"]),
      width: number(entry["width"]),
      height: number(entry["height"]),
      codec: text(entry["codec"]),
      frameRate: number(entry["frame_rate"]),
      bitsIn: number(entry["bits_in"]),
      bitsOut: number(entry["bits_out"]),
      viewers: number(entry["viewers"]) ?? 0,
      decoder: text(entry["decoder"]),
      transports: texts(entry["transports"]),
      notes: texts(entry["notes"]),
    };
  });
}

/** Reads the answer of `/api/sessions`. */
export function parseViewers(json: unknown): Viewer[] {
  const sessions = typeof json === "object" && json !== null && "sessions" in json ? json.sessions : [];
  return list(sessions).map((entry) => ({
    id: text(entry["id"]),
    stream: text(entry["stream"]),
    transport: text(entry["transport"]),
    rendition: text(entry["rendition"]),
    since: time(entry["since"]),
    reason: text(entry["reason"]),
  }));
}

async function getJson(address: string, signal: AbortSignal): Promise<unknown> {
  const response = await fetch(address, { signal, cache: "no-store", headers: { accept: "application/json" } });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return response.json();
}

function list(value: unknown): Record<string, unknown>[] {
  if (!Array.isArray(value)) return [];
  return value.filter((entry): entry is Record<string, unknown> => typeof entry === "object" && entry !== null);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((entry): entry is string => typeof entry === "string") : [];
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

/** Unix ms, or RFC 3339. */
function time(value: unknown): number | null {
  if (typeof value === "string") return number(Date.parse(value));
  return number(value);
}

/** A path on this host; links must not lead anywhere else. */
function path(value: unknown): string | null {
  return typeof value === "string" && /^\/(?![/\\])/.test(value) ? value : null;
}
