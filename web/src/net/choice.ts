// What the gateway says is to be played: its config's and its policy's choice for this client.

import { ApiError } from "./api";
import { errorText } from "./errors";
import { flag, object, text } from "./json";

/** A transport, and the stream in a rendition. */
export interface Form {
  /** Its name; not every gateway's are known to this player. */
  readonly transport: string;
  /** Empty: the stream itself. */
  readonly rendition: string;
}

/** An answer of `GET /live/{stream}`. */
export interface Choice extends Form {
  /** Base address of the stream in that rendition. */
  readonly base: URL;
  /** Address of the control channel, `/api/sessions/{id}`; `http:` as `base`. */
  readonly session: URL;
  readonly reason: string;
  /** It is the gateway's test pattern, whose pictures carry a block code. */
  readonly pattern: boolean;
}

/** What is told of this client, and what somebody chose by hand. */
export interface Asking {
  /** Names of transports that this browser can play, best first. */
  readonly can: readonly string[];
  readonly transport: string | null;
  readonly rendition: string | null;
  /** What the browser says of the network, if it does. */
  readonly network: string | null;
  /** Whether the sound is turned on. */
  readonly listening: boolean;
}

/** Asks. Throws what the gateway has against it, or that it does not answer. */
export async function fetchChoice(base: URL, asking: Asking, signal: AbortSignal): Promise<Choice> {
  const url = new URL(base);
  const set = (name: string, value: string | null): void => {
    if (value !== null) url.searchParams.set(name, value);
  };
  set("can", asking.can.join(","));
  set("transport", asking.transport);
  set("rendition", asking.rendition);
  set("network", asking.network);
  if (asking.listening) set("listening", "true");
  const response = await fetch(url, { signal, cache: "no-store", headers: { accept: "application/json" } });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  const choice = parseChoice(await response.json(), base);
  if (choice === null) throw new ApiError(response.status, "the gateway's answer is no choice");
  return choice;
}

/** Reads an answer; null if it is none. Places are paths on the gateway. */
export function parseChoice(json: unknown, gateway: URL): Choice | null {
  const fields = object(json);
  const [transport, base, session] = ["transport", "base", "session"].map((name) => text(fields?.[name]));
  if (fields === null || !transport || !base || !session) return null;
  const [at, control] = [place(base, gateway), place(session, gateway)];
  if (at === null || control === null) return null;
  return { transport, rendition: text(fields["rendition"]), base: at, session: control, reason: text(fields["reason"]), pattern: flag(fields["pattern"]) ?? false };
}

/** A path on the gateway; nothing elsewhere. */
export function place(path: string, gateway: URL): URL | null {
  return /^\/(?![/\\])/.test(path) && URL.canParse(path, gateway) ? new URL(path, gateway) : null;
}

/** The kind of network where the browser tells it, else how good it is; null where it tells nothing. */
export function networkType(): string | null {
  const { connection } = navigator as { connection?: { readonly type?: string; readonly effectiveType?: string } };
  const type = connection?.type;
  if (type !== undefined && type !== "unknown" && type !== "none") return type;
  return connection?.effectiveType ?? null;
}
