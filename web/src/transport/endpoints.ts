// Remembers where gateways accept WebTransport, with tickets for streams, since a browser sends no cookies there, and
// where it did not get through: for this page, and for later ones in the same tab.

import { ApiError } from "../net/api";
import { type Choice, fetchChoice, type WebTransportOffer } from "../net/choice";
import { withTimeout } from "../net/timeout";
import { transportUrl } from "./transport";
import { type Endpoint, hasReliableWebTransport } from "./webtransport";

/** Storage key, followed by the gateway's origin. The value is the end of the time, in Unix ms. */
const BLOCKED = "sluicegate-webtransport-blocked/";
/** How long (ms) it is not tried where it did not get through. The tab may come into another network. */
const BLOCKED_MS = 10 * 60_000;
/** After this time (ms), the gateway is asked again: it may have another certificate, and tickets last a minute. */
const OFFER_MS = 45_000;
/** Time (ms) for its answer. */
const ANSWER_MS = 3000;

interface Known {
  readonly offer: WebTransportOffer;
  readonly ticket: string | null;
  /** In ms of `performance.now()`. */
  readonly until: number;
}

/** By the stream's URL. */
const offers = new Map<string, Known>();
/** By the origin of the gateway. */
const blocked = new Map<string, number>();

/** The stream's URL without its rendition and query. */
function streamUrl(base: URL): string {
  return base.origin + base.pathname.replace(/(@|%40)[^/]*$/, "");
}

/** The gateway's newest offer for the stream at `base`; it may have no WebTransport. */
export function noteOffer(base: URL, { webTransport: offer, ticket }: Pick<Choice, "webTransport" | "ticket">): void {
  const key = streamUrl(base);
  if (offer === null) offers.delete(key);
  else offers.set(key, { offer, ticket, until: performance.now() + OFFER_MS });
}

/** A connection to this gateway ended: after a restart it has another certificate, and takes no older ticket. */
export function doubtOffer(base: URL): void {
  const key = streamUrl(base);
  const known = offers.get(key);
  if (known !== undefined) offers.set(key, { ...known, until: -Infinity });
}

/**
 * Where to try WebTransport for the stream at `base`; null if it is not offered, or cannot be relied on. Asks the
 * gateway if what is known may not hold any more, and rejects if it does not answer.
 */
export async function webTransportEndpoint(base: URL, signal: AbortSignal): Promise<Endpoint | null> {
  const key = streamUrl(base);
  const known = offers.get(key);
  if (known === undefined || typeof WebTransport !== "function" || !hasReliableWebTransport(navigator.userAgent) || isBlocked(base)) return null;
  if (known.until < performance.now()) await askAgain(base, signal);
  const current = offers.get(key);
  if (current === undefined) return null;
  const { offer, ticket } = current;
  const url = transportUrl(base, "webcodecs");
  if (ticket !== null) url.pathname = url.pathname.replace(/\/live\//, `/live/~${ticket}/`);
  const ownPort = base.port || (base.protocol === "https:" ? "443" : "80");
  url.protocol = "https:";
  url.port = String(offer.port ?? ownPort);
  return { url: url.href, hashes: offer.hashes };
}

async function askAgain(base: URL, signal: AbortSignal): Promise<void> {
  const stream = new URL(base);
  stream.search = "";
  const request = { can: ["webcodecs"], transport: null, rendition: null, network: null, listening: false };
  try {
    const choice = await withTimeout(ANSWER_MS, signal, (signal) => fetchChoice(stream, request, signal));
    noteOffer(base, choice);
  } catch (error) {
    // Why it refuses shows when the stream is opened.
    if (!(error instanceof ApiError)) throw error;
  }
}

/** WebTransport could not be opened, though the gateway answers otherwise: UDP does not get through. */
export function noteBlocked({ origin }: URL): void {
  const until = Date.now() + BLOCKED_MS;
  blocked.set(origin, until);
  try {
    sessionStorage.setItem(BLOCKED + origin, String(until));
  } catch {
    // No storage.
  }
}

function isBlocked({ origin }: URL): boolean {
  let stored: string | null = null;
  try {
    stored = sessionStorage.getItem(BLOCKED + origin);
  } catch {
    // No storage.
  }
  return Math.max(blocked.get(origin) ?? 0, Number(stored)) > Date.now();
}
