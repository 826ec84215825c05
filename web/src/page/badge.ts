// Badge that displays the state of a stream.

import { element, setText } from "./dom";

const LABELS: Readonly<Record<string, string>> = {
  idle: "idle",
  starting: "starting",
  live: "live",
  "waiting-for-keyframe": "waiting for keyframe",
  silent: "silent",
  retrying: "retrying",
  failed: "failed",
  offline: "offline",
  unauthorized: "unauthorized",
};

/** Creates an empty badge. */
export function badge(): HTMLElement {
  return element("span", { class: "badge", "data-state": "unknown" });
}

/** Displays a state. It is always shown as text too, as colour alone is not accessible. */
export function setBadge(node: HTMLElement, state: string): void {
  node.dataset["state"] = state in LABELS ? state : "unknown";
  setText(node, LABELS[state] ?? state);
}
