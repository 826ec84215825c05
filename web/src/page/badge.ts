// The state of a stream as a small coloured word.

import { element, setText } from "./dom";

const WORDS: Readonly<Record<string, string>> = {
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

/** A badge that says nothing yet. */
export function badge(): HTMLElement {
  return element("span", { class: "badge", "data-state": "unknown" });
}

/** Shows a state. The word is always there: colour alone would not do. */
export function setBadge(node: HTMLElement, state: string): void {
  node.dataset["state"] = state in WORDS ? state : "unknown";
  setText(node, WORDS[state] ?? state);
}
