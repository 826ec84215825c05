// Decides whether a tile displays previews, and which message it displays instead. Pure.
//
// Opening the dashboard starts no stream: streams that run for others are displayed, idle ones wait for a click. It
// does not keep streams running either: one that is used by this page only is released.

import type { Device } from "../net/api";

/** The viewer's selection for a tile: on, off, or null for automatic. */
export type PreviewChoice = boolean | null;

/** What a tile does and displays. */
export interface PreviewState {
  /** Whether it requests previews. */
  readonly active: boolean;
  /** Whether previews can be turned on or off. */
  readonly selectable: boolean;
  /** Message over the preview; empty for none. */
  readonly message: string;
}

const RUNNING: readonly string[] = ["live", "silent", "waiting-for-keyframe", "starting"];
const FAILING: readonly string[] = ["retrying", "failed"];

export function previewState(device: Device, choice: PreviewChoice): PreviewState {
  const { state, reason } = device;
  if (state === "offline") return { active: false, selectable: false, message: reason || "The device is not connected." };
  if (state === "unauthorized") return { active: false, selectable: false, message: reason || "The device has not authorized the gateway. Confirm the prompt on its screen." };
  const active = choice ?? (RUNNING.includes(state) && isUsed(device));
  return { active, selectable: true, message: FAILING.includes(state) ? reason || state : "" };
}

/**
 * Whether the stream has viewers. Captures do not count, as each of our own previews is one. If the gateway does not
 * say what is always on, whatever runs counts as used.
 */
function isUsed({ viewers, alwaysOn }: Device): boolean {
  return viewers > 0 || alwaysOn !== false;
}

/** Age of an image as text, empty if it is recent enough to be taken for live. */
export function ageText(ageMs: number | null): string {
  if (ageMs === null || ageMs < 3000) return "";
  const seconds = Math.round(ageMs / 1000);
  if (seconds < 60) return `${seconds} s old`;
  return seconds < 3600 ? `${Math.floor(seconds / 60)} min old` : `${Math.floor(seconds / 3600)} h old`;
}
