// Tells UDP that is blocked from a device or gateway that is busy: in both cases a session does not open, but only
// where UDP is blocked does the gateway answer over TCP meanwhile. So the time is counted in rounds, each with a
// request, and a round ends only with its answer.

import { withTimeout } from "../net/timeout";

/**
 * After this time (ms), in which TCP had its answers, UDP is taken to be blocked: the WebSocket has to show something
 * within two seconds.
 */
export const OPEN_MS = 1500;
/** A round takes at least this time (ms), and counts as this even if its timer is late. */
export const ROUND_MS = 250;
/** A session opens with the second round trip, a request has its answer with the first. */
const ROUND_TRIPS = 2;
/** After this time (ms), whatever the reason, something else is tried. */
export const GIVE_UP_MS = 6000;

/**
 * Resolves when no session may be waited for any longer. `blocked`: `ask`, which sends a request over TCP, got all
 * answers meanwhile. `late`: it did not, so nothing is known of UDP. Ends early when `signal` is aborted.
 */
export async function silenceOfUdp(ask: (signal: AbortSignal) => Promise<unknown>, signal: AbortSignal): Promise<"blocked" | "late"> {
  const giveUpAt = performance.now() + GIVE_UP_MS;
  let answered = true;
  /** Returns when the next round may begin. */
  const answer = async (): Promise<number> => {
    const sent = performance.now();
    try {
      await withTimeout(giveUpAt - sent, signal, ask);
    } catch {
      answered = false;
    }
    return sent + ROUND_TRIPS * (performance.now() - sent);
  };
  let counted = 0;
  while (counted < OPEN_MS && performance.now() < giveUpAt && !signal.aborted) {
    const round = pause(ROUND_MS, signal);
    const next = answered ? await answer() : 0;
    await round;
    const now = performance.now();
    if (answered && next > now) await pause(Math.min(next, giveUpAt) - now, signal);
    counted += ROUND_MS;
  }
  return answered && counted >= OPEN_MS ? "blocked" : "late";
}

/** Ends after `ms`, or when `signal` is aborted. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}
