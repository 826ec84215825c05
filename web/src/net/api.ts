// The gateway's API as the pages use it. A field that is absent or of another type becomes null or its plain default, so an
// older page and a newer gateway get along.

import { errorText } from "./errors";
import { flag, list, number, object, text, texts, time } from "./json";
import { ANSWER_MS } from "./within";

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
  readonly watching: readonly Watching[];
  /** A device's make; empty where there is none. */
  readonly model: string;
  readonly decoder: "running" | "stopped" | string;
  /** Runs also while nobody uses it; null where the gateway does not say. */
  readonly alwaysOn: boolean | null;
  readonly made: Made;
  /** What encodes where the config names nothing else; null as long as nothing was to be encoded. */
  readonly encoder: Encoder | null;
  readonly transports: readonly string[];
  readonly notes: readonly string[];
}

/** Pictures since the gateway started. */
export interface Made {
  readonly decoded: number;
  readonly encoded: number;
  readonly jpegs: number;
}

/** The encoder that was chosen ("" if none works), and why not others. */
export interface Encoder {
  readonly name: string;
  readonly passedOver: readonly { readonly name: string; readonly reason: string }[];
}

/** How many watch one form of a stream by one transport. */
export interface Watching {
  /** Empty: the stream itself. */
  readonly rendition: string;
  readonly transport: string;
  readonly viewers: number;
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

/** One transport at work on one stream, from `GET /api/plugins`. */
export interface Muxer {
  readonly stream: string;
  /** Empty: the stream itself. */
  readonly rendition: string;
  readonly transport: string;
  /** name@version of its component. */
  readonly component: string;
  readonly state: "running" | "backing-off" | "broken" | string;
  readonly reason: string;
  readonly calls: number;
  /** Mean of all calls. */
  readonly microsPerCall: number;
  readonly failures: number;
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
  // Half a second old will do, and one answer serves all dashboards then.
  return parseDevices(await getJson("/api/devices", signal, { "cache-control": "max-age=1" }));
}

/** Everybody who watches. */
export async function fetchViewers(signal: AbortSignal): Promise<Viewer[]> {
  return parseViewers(await getJson("/api/sessions", signal));
}

/** Every transport at work; null if this page may not know, which is for the gateway's own machine only. */
export async function fetchMuxers(signal: AbortSignal): Promise<Muxer[] | null> {
  try {
    return parseMuxers(await getJson("/api/plugins", signal));
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) return null;
    throw error;
  }
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

/** The description of this API, OpenAPI 3.1. */
export async function fetchManual(): Promise<unknown> {
  return getJson("/api/openapi.json", AbortSignal.timeout(ANSWER_MS));
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
      watching: list(entry["watching"]).map((way) => ({
        rendition: text(way["rendition"]),
        transport: text(way["transport"]),
        viewers: number(way["viewers"]) ?? 0,
      })),
      model: text(entry["model"]),
      decoder: text(entry["decoder"]),
      alwaysOn: flag(entry["always_on"]),
      made: parseMade(object(entry["made"])),
      encoder: parseEncoder(object(entry["encoder"])),
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

/** Reads the answer of `/api/plugins`. */
export function parseMuxers(json: unknown): Muxer[] {
  return list(json).flatMap((plugin) =>
    list(plugin["muxers"]).map((muxer) => ({
      stream: text(muxer["serial"]),
      rendition: text(muxer["rendition"]),
      transport: text(plugin["name"]),
      component: text(plugin["component"]),
      state: text(muxer["state"]),
      reason: text(muxer["reason"]),
      calls: number(muxer["calls"]) ?? 0,
      microsPerCall: number(muxer["us_per_call"]) ?? 0,
      failures: number(muxer["failures"]) ?? 0,
    })),
  );
}

async function getJson(
  address: string,
  signal: AbortSignal,
  more: Record<string, string> = {},
): Promise<unknown> {
  const headers = { accept: "application/json", ...more };
  const response = await fetch(address, { signal, cache: "no-store", headers });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return response.json();
}

function parseMade(made: Record<string, unknown> | null): Made {
  const count = (name: string): number => number(made?.[name]) ?? 0;
  return { decoded: count("decoded"), encoded: count("encoded"), jpegs: count("jpegs") };
}

function parseEncoder(encoder: Record<string, unknown> | null): Encoder | null {
  if (encoder === null) return null;
  const passedOver = list(encoder["passed_over"]).map((one) => ({ name: text(one["name"]), reason: text(one["reason"]) }));
  return { name: text(encoder["name"]), passedOver };
}

/** A path on this host; links must not lead anywhere else. */
function path(value: unknown): string | null {
  return typeof value === "string" && /^\/(?![/\\])/.test(value) ? value : null;
}
