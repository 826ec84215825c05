// Timeouts for requests.

/** Timeout (ms) for a response of the gateway, which itself waits up to ten seconds, and a little longer for HLS. */
export const RESPONSE_TIMEOUT_MS = 15_000;

/** Runs `request` with a signal that is aborted with `signal` and after `ms`. */
export async function withTimeout<T>(ms: number, signal: AbortSignal, request: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const cancel = (): void => controller.abort();
  if (signal.aborted) cancel();
  signal.addEventListener("abort", cancel);
  const deadline = setTimeout(cancel, ms);
  try {
    return await request(controller.signal);
  } finally {
    clearTimeout(deadline);
    signal.removeEventListener("abort", cancel);
  }
}
