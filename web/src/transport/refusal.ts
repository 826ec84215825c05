// Why a connection could not be made, in the gateway's own words where it has some.

import { errorText } from "../net/errors";
import type { Ending } from "./transport";

/** Nobody answered. A browser does not tell that apart from an answer that another site's page may not see. */
export function unreachable(url: URL): Ending {
  const reason =
    url.origin === location.origin
      ? "the gateway does not answer"
      : `the gateway does not answer, or its \`origins\` do not name ${location.origin}`;
  return { kind: "unreachable", reason };
}

/**
 * Asks a plain question where a WebSocket or a player got no answer that it could show. `otherwise` is said where the
 * gateway has nothing against it.
 */
export async function refusal(url: URL, signal: AbortSignal, otherwise: string): Promise<Ending> {
  try {
    const response = await fetch(url, { signal, cache: "no-store" });
    // 400 and 426 are what a healthy WebSocket address may answer to a plain GET.
    if (!response.ok && response.status !== 400 && response.status !== 426) {
      return { kind: "refused", reason: await errorText(response) };
    }
    await response.body?.cancel();
    return { kind: "refused", reason: otherwise };
  } catch {
    return unreachable(url);
  }
}
