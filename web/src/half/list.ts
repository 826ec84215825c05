// Asks the gateway which transports bring a player for browsers, `GET /api/halves/{stream}`.

import { ApiError } from "../net/api";
import { resolvePath } from "../net/choice";
import { errorText } from "../net/errors";
import { list, number, object, text, texts } from "../net/json";

/** A transport whose component has a half that runs in the browser. */
export interface HalfEntry {
  /** Name of the transport. */
  readonly name: string;
  /** Its name for people. */
  readonly label: string;
  /** Names of its carriers; empty if an older gateway does not tell. */
  readonly carriers: readonly string[];
  /** Address of the transport with a ticket. */
  readonly url: URL;
  /** Time in ms for which the ticket is valid. */
  readonly ticketMs: number;
  readonly module: URL;
  /** Document of the sandboxed frame; null if the module runs in the page. */
  readonly frame: URL | null;
}

/** The list for the stream at `base`. Throws `ApiError` if the gateway refuses, and a `TypeError` if it does not respond. */
export async function fetchHalves(base: URL, signal: AbortSignal): Promise<readonly HalfEntry[]> {
  const response = await fetch(halvesUrl(base), { signal, cache: "no-store" });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return parseHalves(await response.json(), base);
}

/** Fetches the names of all transports for the stream at `base`, whoever plays them. Throws as `fetchHalves` does. */
export async function fetchTransports(base: URL, signal: AbortSignal): Promise<readonly string[]> {
  const url = apiUrl(base, "devices");
  // A rendition has the transports of its stream.
  url.pathname = url.pathname.replace(/@.*$/, "");
  url.search = "";
  const response = await fetch(url, { signal });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  return texts(object(await response.json())?.["transports"]);
}

/** URL of what the API has at `name` for the stream at `base`. */
function apiUrl(base: URL, name: string): URL {
  const url = new URL(base);
  const path = url.pathname.replace(/\/+$/, "");
  const at = path.lastIndexOf("/");
  url.pathname = `${path.slice(0, at)}/../api/${name}/${path.slice(at + 1)}`;
  return url;
}

/** URL of the list for the stream at `base`, such as `http://host/live/demo`. Its session stays in the query. */
export function halvesUrl(base: URL): URL {
  const url = apiUrl(base, "halves");
  const session = base.searchParams.get("session");
  url.search = session === null ? "" : `?session=${encodeURIComponent(session)}`;
  return url;
}

/** Parses the list; leaves out what is invalid. */
export function parseHalves(json: unknown, gateway: URL): readonly HalfEntry[] {
  return list(json).flatMap((entry) => {
    const name = text(entry["transport"]);
    const [url, module] = [resolvePath(text(entry["url"]), gateway), resolvePath(text(entry["module"]), gateway)];
    const frame = entry["frame"] === null ? null : resolvePath(text(entry["frame"]), gateway);
    if (name === "" || url === null || module === null || (frame === null && entry["frame"] !== null)) return [];
    const ticketMs = (number(entry["ticket_seconds"]) ?? 60) * 1000;
    return [{ name, label: text(entry["label"]) || name, carriers: texts(entry["carriers"]), url, ticketMs, module, frame }];
  });
}
