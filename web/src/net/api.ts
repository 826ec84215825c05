// Client for the gateway's JSON API, as the pages use it. A field that is absent or of another type becomes null or a
// default, so that an older page works with a newer gateway.

import { errorText } from "./errors";
import { gatewayUrl } from "./gateway";
import { flag, list, number, object, text, texts, time } from "./json";
import { RESPONSE_TIMEOUT_MS } from "./timeout";

/** States of a stream as documented in the API; unknown ones are displayed by name. */
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
  /** Base path of the stream, `/live/NAME`. */
  readonly url: string;
  /** Path of its player page. */
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
  readonly watching: readonly ViewerCount[];
  /** Model of a device; empty for other sources. */
  readonly model: string;
  readonly decoder: "running" | "stopped" | string;
  /** Whether the stream runs without viewers; null if the gateway does not say. */
  readonly alwaysOn: boolean | null;
  readonly frameCounts: FrameCounts;
  /** The H.264 encoder used unless the config names another; null until something had to be encoded. */
  readonly encoder: Encoder | null;
  readonly transports: readonly string[];
  /** Names of the renditions. */
  readonly renditions: readonly string[];
  readonly notes: readonly string[];
}

/** Numbers of frames processed since the gateway started. */
export interface FrameCounts {
  readonly decoded: number;
  readonly encoded: number;
  readonly jpegs: number;
}

/** The selected encoder ("" if none works), and why others were not selected. */
export interface Encoder {
  readonly name: string;
  readonly passedOver: readonly { readonly name: string; readonly reason: string }[];
}

/** Number of viewers of one rendition over one transport. */
export interface ViewerCount {
  /** Name of the rendition; empty for the stream itself. */
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

/** One muxer: a transport running on one stream, from `GET /api/plugins`. */
export interface Muxer {
  readonly stream: string;
  /** Name of the rendition; empty for the stream itself. */
  readonly rendition: string;
  readonly transport: string;
  /** name@version of its component. */
  readonly component: string;
  readonly state: "running" | "backing-off" | "broken" | string;
  readonly reason: string;
  readonly calls: number;
  /** Mean duration over all calls. */
  readonly microsPerCall: number;
  readonly failures: number;
}

/** The gateway responded with an error; the message is its own. */
export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Fetches all streams of the gateway. */
export async function fetchDevices(signal: AbortSignal): Promise<Device[]> {
  // A cached response of half a second ago is good enough, and then serves all dashboards.
  return parseDevices(await getJson("api/devices", signal, { "cache-control": "max-age=1" }));
}

/** Fetches all viewers. */
export async function fetchViewers(signal: AbortSignal): Promise<Viewer[]> {
  return parseViewers(await getJson("api/sessions", signal));
}

/** Fetches all muxers; null if this page may not see them, as only administrators may. */
export async function fetchMuxers(signal: AbortSignal): Promise<Muxer[] | null> {
  try {
    return parseMuxers(await getJson("api/plugins", signal));
  } catch (error) {
    if (error instanceof ApiError && (error.status === 401 || error.status === 403)) return null;
    throw error;
  }
}

/** Returns the gateway's message for an unknown stream of this name; null if it knows the stream. */
export async function unknownReason(serial: string, signal: AbortSignal): Promise<string | null> {
  try {
    await getJson(`api/devices/${encodeURIComponent(serial)}`, signal);
    return null;
  } catch (error) {
    if (error instanceof ApiError) return error.message;
    throw error;
  }
}

/** Fetches the description of the API, OpenAPI 3.1. */
export async function fetchApiDescription(): Promise<unknown> {
  return getJson("api/openapi.json", AbortSignal.timeout(RESPONSE_TIMEOUT_MS));
}

/** Parses the response of `/api/devices`. */
export function parseDevices(json: unknown): Device[] {
  return list(json).flatMap((entry) => {
    const serial = text(entry["serial"]);
    if (serial === "") return [];
    const name = encodeURIComponent(serial);
    return {
      serial,
      url: path(entry["url"]) ?? gatewayUrl(`live/${name}`).pathname,
      watch: path(entry["watch"]) ?? gatewayUrl(`watch/${name}`).pathname,
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
      watching: list(entry["watching"]).map((count) => ({
        rendition: text(count["rendition"]),
        transport: text(count["transport"]),
        viewers: number(count["viewers"]) ?? 0,
      })),
      model: text(entry["model"]),
      decoder: text(entry["decoder"]),
      alwaysOn: flag(entry["always_on"]),
      frameCounts: parseFrameCounts(object(entry["made"])),
      encoder: parseEncoder(object(entry["encoder"])),
      transports: texts(entry["transports"]),
      renditions: texts(entry["renditions"]),
      notes: texts(entry["notes"]),
    };
  });
}

/** Parses the response of `/api/sessions`. */
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

/** Parses the response of `/api/plugins`. */
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
  path: string,
  signal: AbortSignal,
  extraHeaders: Record<string, string> = {},
): Promise<unknown> {
  const headers = { accept: "application/json", ...extraHeaders };
  const response = await fetch(gatewayUrl(path), { signal, cache: "no-store", headers });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return response.json();
}

function parseFrameCounts(counts: Record<string, unknown> | null): FrameCounts {
  const count = (name: string): number => number(counts?.[name]) ?? 0;
  return { decoded: count("decoded"), encoded: count("encoded"), jpegs: count("jpegs") };
}

function parseEncoder(encoder: Record<string, unknown> | null): Encoder | null {
  if (encoder === null) return null;
  const passedOver = list(encoder["passed_over"]).map((one) => ({ name: text(one["name"]), reason: text(one["reason"]) }));
  return { name: text(encoder["name"]), passedOver };
}

/** A path on this host; other URLs are rejected, as links must not lead elsewhere. */
function path(value: unknown): string | null {
  return typeof value === "string" && /^\/(?![/\\])/.test(value) ? value : null;
}
