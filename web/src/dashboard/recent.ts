// What a call costs now: the mean of the calls since the last look, not since the gateway started.

import type { Muxer } from "../net/api";

type Calls = Pick<Muxer, "calls" | "microsPerCall">;

/** The mean of the calls between two looks; of all calls if there were none. */
export function microsBetween(before: Calls | undefined, after: Calls): number {
  const calls = after.calls - (before?.calls ?? 0);
  if (before === undefined || calls <= 0) return after.microsPerCall;
  return Math.max(0, (after.calls * after.microsPerCall - before.calls * before.microsPerCall) / calls);
}
