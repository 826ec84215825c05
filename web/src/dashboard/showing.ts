// Decides whether a tile displays previews, and which message it displays instead. Pure.
//
// Opening the dashboard starts no stream: streams that run for others are displayed, idle ones wait for a click. It
// does not keep streams running either: one that is used by this page only is released.

import type { Device } from "../net/api";

/** The viewer's selection for a tile: on, off, or null for automatic. */
export type Choice = boolean | null;

/** What a tile does and displays. */
export interface Showing {
  /** Whether it requests previews. */
  readonly follow: boolean;
  /** Whether previews can be turned on or off. */
  readonly startable: boolean;
  /** Message over the preview; empty for none. */
  readonly words: string;
}

const RUNNING: readonly string[] = ["live", "silent", "waiting-for-keyframe", "starting"];
const TROUBLE: readonly string[] = ["retrying", "failed"];

export function showing(device: Device, choice: Choice): Showing {
  const { state, reason } = device;
  if (state === "offline") return { follow: false, startable: false, words: reason || "The device is not connected." };
  if (state === "unauthorized") return { follow: false, startable: false, words: reason || "The device has not authorized the gateway. Confirm the prompt on its screen." };
  const follow = choice ?? (RUNNING.includes(state) && isUsed(device));
  return { follow, startable: true, words: TROUBLE.includes(state) ? reason || state : "" };
}

/**
 * Whether the stream has viewers. Captures do not count, as each of our own previews is one. If the gateway does not
 * say what is always on, whatever runs counts as used.
 */
function isUsed({ viewers, alwaysOn }: Device): boolean {
  return viewers > 0 || alwaysOn !== false;
}

/** Age of a frame as text, empty if it is recent enough to be taken for live. */
export function ageText(ageMs: number | null): string {
  if (ageMs === null || ageMs < 3000) return "";
  const seconds = Math.round(ageMs / 1000);
  if (seconds < 60) return `${seconds} s old`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min old` : `${Math.floor(seconds / 3600)} h old`;
}
