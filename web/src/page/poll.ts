// Polls while the page is visible, one request at a time.

import { withTimeout } from "../net/timeout";

const PAUSE_MS = 1000;
const MIN_PAUSE_MS = 200;
const TIMEOUT_MS = 5000;

/**
 * Calls `request` now and one second after each completion, while the page is visible. `request` must not reject. The
 * returned function triggers the next call immediately, at most five times a second.
 */
export function poll(request: (signal: AbortSignal) => Promise<void>): () => void {
  let running: AbortController | null = null;
  let woken = false;
  let wake = (): void => {};

  const run = async (current: AbortController): Promise<void> => {
    while (!current.signal.aborted) {
      // Each request has a timeout, so that a hanging gateway is noticed.
      woken = false;
      await withTimeout(TIMEOUT_MS, current.signal, request);
      await pause(MIN_PAUSE_MS, current.signal);
      if (woken) continue;
      const rest = new AbortController();
      wake = () => rest.abort();
      current.signal.addEventListener("abort", wake);
      await pause(PAUSE_MS - MIN_PAUSE_MS, rest.signal);
      current.signal.removeEventListener("abort", wake);
    }
  };
  const follow = (): void => {
    const visible = document.visibilityState === "visible";
    if (visible && running === null) {
      running = new AbortController();
      void run(running);
    } else if (!visible) {
      running?.abort();
      running = null;
    }
  };
  document.addEventListener("visibilitychange", follow);
  follow();
  return () => {
    woken = true;
    wake();
  };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
