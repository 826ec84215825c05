// Polls while the page is visible, one request at a time.

import { withTimeout } from "../net/timeout";

const PAUSE_MS = 1000;
const SHORTEST_PAUSE_MS = 200;
const LONGEST_MS = 5000;

/**
 * Calls `ask` now and one second after each completion, while the page is visible. `ask` must not reject. The
 * returned function triggers the next call immediately, at most five times a second.
 */
export function poll(ask: (signal: AbortSignal) => Promise<void>): () => void {
  let running: AbortController | null = null;
  let hurried = false;
  let hurry = (): void => {};

  const run = async (current: AbortController): Promise<void> => {
    while (!current.signal.aborted) {
      // Each request has a timeout, so that a hanging gateway is noticed.
      hurried = false;
      await withTimeout(LONGEST_MS, current.signal, ask);
      await pause(SHORTEST_PAUSE_MS, current.signal);
      if (hurried) continue;
      const rest = new AbortController();
      hurry = () => rest.abort();
      current.signal.addEventListener("abort", hurry);
      await pause(PAUSE_MS - SHORTEST_PAUSE_MS, rest.signal);
      current.signal.removeEventListener("abort", hurry);
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
    hurried = true;
    hurry();
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
