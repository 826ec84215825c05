// Why a connection could not be made, in the gateway's own words where it has some.

import { errorText } from "../net/errors";
import { ANSWER_MS, within } from "../net/within";
import type { Ending } from "./transport";

/** Nobody answered. A browser does not tell that apart from an answer that another site's page may not see. */
export function unreachable(url: URL): Ending {
  const reason =
    url.origin === location.origin
      ? "the gateway does not answer"
      : `the gateway does not answer, or its \`origins\` do not name ${location.origin}`;
  return { kind: "unreachable", reason };
}

/** A gateway that answers "not available" after at least so long (ms) had waited for something to send. At once, a component says
 * so itself, and for how long it stays so; the gateway's own refusals are not kept. */
const WAITED_MS = 5000;
const STAYS = /\bmax-age=[1-9]/;
const UNAVAILABLE = 503;

/** What the gateway said no with, `ms` after it was asked. */
export async function refusedBy(response: Response, ms: number): Promise<Ending> {
  const stays = STAYS.test(response.headers.get("cache-control") ?? "");
  const unready = response.status === UNAVAILABLE && (stays || ms >= WAITED_MS);
  return { kind: unready ? "unready" : "refused", reason: await errorText(response) };
}

/**
 * Asks a plain question where a WebSocket or a player got no answer that it could show. `otherwise` is said where the
 * gateway has nothing against it.
 */
export async function refusal(url: URL, signal: AbortSignal, otherwise: Ending): Promise<Ending> {
  const asked = performance.now();
  try {
    return await within(ANSWER_MS, signal, async (signal) => {
      const response = await fetch(url, { signal, cache: "no-store" });
      // 400 and 426 are what a healthy WebSocket address may answer to a plain GET.
      if (!response.ok && response.status !== 400 && response.status !== 426) {
        return refusedBy(response, performance.now() - asked);
      }
      await response.body?.cancel();
      return otherwise;
    });
  } catch {
    return unreachable(url);
  }
}
