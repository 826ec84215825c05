// Asks the gateway which transport and rendition this client should play: the choice of its config and policy.

import { ApiError } from "./api";
import { errorText } from "./errors";
import { flag, number, object, text, texts } from "./json";

/** A transport, and a rendition of the stream. */
export interface PlaybackTarget {
  /** Name of the transport; a gateway may have transports that this player does not know. */
  readonly transport: string;
  /** Name of the rendition; empty for the stream itself. */
  readonly rendition: string;
}

/** Where the gateway accepts WebTransport. */
export interface WebTransportOffer {
  /** UDP port; null if it is that of the gateway's pages. */
  readonly port: number | null;
  /** SHA-256 of acceptable certificates, in Base64; empty if the certificate is of a known authority. */
  readonly hashes: readonly string[];
}

/** A response of `GET /live/{stream}`. */
export interface Choice extends PlaybackTarget {
  /** Base URL of the stream in that rendition. */
  readonly base: URL;
  /** URL of the control channel, `/api/sessions/{id}`; `http:` like `base`. */
  readonly session: URL;
  readonly reason: string;
  /** Whether this is the gateway's test pattern, whose frames carry a block code. */
  readonly pattern: boolean;
  /** Null if the gateway has no WebTransport. */
  readonly webTransport: WebTransportOffer | null;
  /** Ticket for what cannot send cookies, in paths: `/live/~TICKET/NAME`. Null if everybody may view the stream. */
  readonly ticket: string | null;
}

/** Capabilities of this client, and the viewer's selection. */
export interface ChoiceRequest {
  /** Names of the transports that this browser can play, in order of preference. */
  readonly can: readonly string[];
  readonly transport: string | null;
  readonly rendition: string | null;
  /** Network type as reported by the browser, if it reports one. */
  readonly network: string | null;
  /** Whether the viewer has turned audio on. */
  readonly listening: boolean;
}

/**
 * Requests a choice. Throws `ApiError` with the gateway's message if it refuses, and a `TypeError` if it does not
 * respond.
 */
export async function fetchChoice(base: URL, request: ChoiceRequest, signal: AbortSignal): Promise<Choice> {
  const url = new URL(base);
  const set = (name: string, value: string | null): void => {
    if (value !== null) url.searchParams.set(name, value);
  };
  set("can", request.can.join(","));
  set("transport", request.transport);
  set("rendition", request.rendition);
  set("network", request.network);
  if (request.listening) set("listening", "true");
  const response = await fetch(url, { signal, cache: "no-store", headers: { accept: "application/json" } });
  if (!response.ok) throw new ApiError(response.status, await errorText(response));
  const choice = parseChoice(await response.json(), base);
  if (choice === null) throw new ApiError(response.status, "the gateway's response does not name a transport and a session");
  return choice;
}

/** Parses a response; null if it is invalid. URLs in it are paths on the gateway. */
export function parseChoice(json: unknown, gateway: URL): Choice | null {
  const fields = object(json);
  const [transport, base, session] = ["transport", "base", "session"].map((name) => text(fields?.[name]));
  if (fields === null || !transport || !base || !session) return null;
  const [at, control] = [resolvePath(base, gateway), resolvePath(session, gateway)];
  if (at === null || control === null) return null;
  return {
    transport,
    rendition: text(fields["rendition"]),
    base: at,
    session: control,
    reason: text(fields["reason"]),
    pattern: flag(fields["pattern"]) ?? false,
    webTransport: parseOffer(object(fields["webtransport"])),
    ticket: text(fields["ticket"]) || null,
  };
}

function parseOffer(fields: Record<string, unknown> | null): WebTransportOffer | null {
  return fields === null ? null : { port: number(fields["port"]), hashes: texts(fields["hashes"]) };
}

/** Resolves a path on the gateway; null for URLs elsewhere. */
export function resolvePath(path: string, gateway: URL): URL | null {
  return /^\/(?![/\\])/.test(path) && URL.canParse(path, gateway) ? new URL(path, gateway) : null;
}

/** The kind of network if the browser reports it, otherwise its effective type; null if it reports neither. */
export function networkType(): string | null {
  const { connection } = navigator as { connection?: { readonly type?: string; readonly effectiveType?: string } };
  const type = connection?.type;
  if (type !== undefined && type !== "unknown" && type !== "none") return type;
  return connection?.effectiveType ?? null;
}
