// Client for the configured streams: `/api/streams` and `/api/try`. Only administrators may use them.

import { ApiError } from "./api";
import { errorText } from "./errors";
import { gatewayUrl } from "./gateway";
import { list, number, object, text, texts } from "./json";

/** How long (ms) a try may take; the gateway ends it after fifteen seconds. */
const TRY_TIMEOUT_MS = 20_000;
/** A change waits for its turn, while the gateway may compare components. */
const CHANGE_TIMEOUT_MS = 60_000;

/** Keys of a stream as under `[streams.NAME]` in the config. */
export type Settings = Readonly<Record<string, unknown>>;

/** A configured stream, from `GET /api/streams`. */
export interface ConfiguredStream {
  readonly name: string;
  /** Where it is kept; only those in the gateway's state can be changed here. */
  readonly kept: "config" | "state" | "device" | string;
  /** Its source without secrets. */
  readonly source: string;
  /** Its other keys. */
  readonly settings: Settings;
}

/** What a source delivers, from `POST /api/try`. */
export interface TryResult {
  /** All of it in a sentence. */
  readonly text: string;
  readonly notes: readonly string[];
  readonly bitsPerSecond: number | null;
  /** A frame as a `data:` URL; null if there is none. */
  readonly preview: string | null;
}

/** Fetches the configured streams. */
export async function fetchStreams(): Promise<ConfiguredStream[]> {
  return parseStreams(await request("GET", "api/streams"));
}

/** Adds a stream; rejects if there is one of that name. */
export async function addStream(name: string, settings: Settings): Promise<void> {
  await request("PUT", streamPath(name), settings, { "if-none-match": "*" });
}

/** Gives a stream other settings. Without `source`, it keeps its source. */
export async function putStream(name: string, settings: Settings): Promise<void> {
  await request("PUT", streamPath(name), settings);
}

/** Removes a stream. */
export async function deleteStream(name: string): Promise<void> {
  await request("DELETE", streamPath(name));
}

/** Tries a source, which takes a few seconds. Aborting `signal` ends it. */
export async function trySource(source: Settings, signal: AbortSignal): Promise<TryResult> {
  const limited = new AbortController();
  const abort = (): void => limited.abort();
  const timer = setTimeout(abort, TRY_TIMEOUT_MS);
  signal.addEventListener("abort", abort);
  try {
    return parseTryResult(await request("POST", "api/try", source, {}, limited.signal));
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

/** Parses the response of `GET /api/streams`. */
export function parseStreams(json: unknown): ConfiguredStream[] {
  return list(json).flatMap((entry) => {
    const name = text(entry["name"]);
    const settings = object(entry["settings"]) ?? {};
    return name === "" ? [] : [{ name, kept: text(entry["kept"]), source: text(entry["source"]), settings }];
  });
}

/** Parses the response of `POST /api/try`. */
export function parseTryResult(json: unknown): TryResult {
  const result = object(json);
  const preview = text(result?.["preview"]);
  return {
    text: text(result?.["text"]),
    notes: texts(result?.["notes"]),
    bitsPerSecond: number(result?.["bits_per_second"]),
    preview: preview.startsWith("data:image/") ? preview : null,
  };
}

function streamPath(name: string): string {
  return `api/streams/${encodeURIComponent(name)}`;
}

async function request(
  method: string,
  path: string,
  body?: Settings,
  more: Record<string, string> = {},
  signal: AbortSignal = AbortSignal.timeout(CHANGE_TIMEOUT_MS),
): Promise<unknown> {
  const headers: Record<string, string> = { accept: "application/json", ...more };
  if (body !== undefined) headers["content-type"] = "application/json";
  const init: RequestInit = { method, headers, signal, cache: "no-store" };
  if (body !== undefined) init.body = JSON.stringify(body);
  const response = await fetch(gatewayUrl(path), init);
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return response.json();
}
