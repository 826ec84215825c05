// Finds out why a connection could not be made, using the gateway's own error message where there is one.

import { errorText } from "../net/errors";
import { RESPONSE_TIMEOUT_MS, withTimeout } from "../net/timeout";
import type { Ending } from "./transport";

/** No response. To a script, this looks the same as a response that CORS hides from another site's page. */
export function unreachable(url: URL): Ending {
  const reason =
    url.origin === location.origin
      ? "the gateway is not responding"
      : `the gateway is not responding, or its \`origins\` setting does not include ${location.origin}`;
  return { kind: "unreachable", reason };
}

/**
 * "503" after at least this time (ms) means that the gateway waited for media and there was none. An immediate "503"
 * with a max-age comes from a component that states for how long it is not ready; the gateway's own refusals are not
 * cacheable.
 */
const WAITED_MS = 5000;
const CACHEABLE = /\bmax-age=[1-9]/;
const UNAVAILABLE = 503;

/** Classifies an error response that arrived `ms` after the request. */
export async function classifyRefusal(response: Response, ms: number): Promise<Ending> {
  const cacheable = CACHEABLE.test(response.headers.get("cache-control") ?? "");
  const unready = response.status === UNAVAILABLE && (cacheable || ms >= WAITED_MS);
  return { kind: unready ? "unready" : "refused", reason: await errorText(response) };
}

/**
 * Repeats a failed request as a plain GET, as a WebSocket or a video element does not reveal the response. Returns
 * `otherwise` if the gateway does not refuse it.
 */
export async function refusal(url: URL, signal: AbortSignal, otherwise: Ending): Promise<Ending> {
  const requestedAt = performance.now();
  try {
    return await withTimeout(RESPONSE_TIMEOUT_MS, signal, async (signal) => {
      const response = await fetch(url, { signal, cache: "no-store" });
      // 400 and 426 are valid answers of a WebSocket endpoint to a plain GET.
      if (!response.ok && response.status !== 400 && response.status !== 426) {
        return classifyRefusal(response, performance.now() - requestedAt);
      }
      await response.body?.cancel();
      return otherwise;
    });
  } catch {
    return unreachable(url);
  }
}
