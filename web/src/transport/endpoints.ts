// Remembers where gateways accept WebTransport, and where it did not get through: for this page, and for later ones in
// the same tab.

import type { WebTransportOffer } from "../net/choice";
import { transportUrl } from "./transport";
import { type Endpoint, hasReliableWebTransport } from "./webtransport";

/** Storage key, followed by the gateway's origin. */
const BLOCKED = "sluicegate-webtransport-blocked/";

/** By the origin of the gateway. */
const offers = new Map<string, WebTransportOffer>();
const blocked = new Set<string>();

/** The gateway's newest offer; null if it has no WebTransport. */
export function noteOffer({ origin }: URL, offer: WebTransportOffer | null): void {
  if (offer === null) offers.delete(origin);
  else offers.set(origin, offer);
}

/** Where to try WebTransport for the stream at `base`; null if it is not offered, or cannot be relied on. */
export function webTransportEndpoint(base: URL): Endpoint | null {
  const offer = offers.get(base.origin);
  if (offer === undefined || typeof WebTransport !== "function" || !hasReliableWebTransport(navigator.userAgent) || isBlocked(base)) return null;
  const url = transportUrl(base, "webcodecs");
  const ownPort = base.port || (base.protocol === "https:" ? "443" : "80");
  url.protocol = "https:";
  url.port = String(offer.port ?? ownPort);
  return { url: url.href, hashes: offer.hashes };
}

/** WebTransport could not be opened, though the gateway answers otherwise: UDP does not get through. */
export function noteBlocked({ origin }: URL): void {
  blocked.add(origin);
  try {
    sessionStorage.setItem(BLOCKED + origin, "true");
  } catch {
    // No storage.
  }
}

function isBlocked({ origin }: URL): boolean {
  try {
    return blocked.has(origin) || sessionStorage.getItem(BLOCKED + origin) !== null;
  } catch {
    return false;
  }
}
