// Whether a tile shows pictures, and what it says in place of them. Pure.
//
// A look at the dashboard starts nothing: what runs for others is shown, what is idle waits for a click. Nor does it keep
// anything running: a stream that only this page would still use is let go of.

import type { Device } from "../net/api";

/** What somebody chose for a tile: pictures, none, or as it comes. */
export type Choice = boolean | null;

/** What a tile does, and says over its picture. */
export interface Showing {
  /** It asks for pictures. */
  readonly follow: boolean;
  /** A click would bring pictures; or, while they come, end them. */
  readonly startable: boolean;
  /** In place of a picture; empty where there is nothing to say. */
  readonly words: string;
}

const RUNNING: readonly string[] = ["live", "silent", "waiting-for-keyframe", "starting"];
const TROUBLE: readonly string[] = ["retrying", "failed"];

export function showing(device: Device, choice: Choice): Showing {
  const { state, reason } = device;
  if (state === "offline") return { follow: false, startable: false, words: reason || "The device is not connected." };
  if (state === "unauthorized") return { follow: false, startable: false, words: reason || "The device does not let the gateway in: allow it on its screen." };
  const follow = choice ?? (RUNNING.includes(state) && isUsed(device));
  return { follow, startable: true, words: TROUBLE.includes(state) ? reason || state : "" };
}

/**
 * By anybody who watches; who captures does not count, as each of our own pictures is a capture. A gateway that does not
 * say what is always on: whatever runs.
 */
function isUsed({ viewers, alwaysOn }: Device): boolean {
  return viewers > 0 || alwaysOn !== false;
}

/** How old a picture is, where that is worth saying: it may be taken for what is there now. */
export function oldness(ageMs: number | null): string {
  if (ageMs === null || ageMs < 3000) return "";
  const seconds = Math.round(ageMs / 1000);
  if (seconds < 60) return `${seconds} s old`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min old` : `${Math.floor(seconds / 3600)} h old`;
}
