// The list of recent events, newest first. It is the only record on the page of errors that are over.

import type { Happening } from "../net/events";
import { element } from "../page/dom";
import { size } from "../page/format";

const MOST = 50;

/** A line of the list, and its tone, which sets the colour. */
export interface Said {
  readonly text: string;
  readonly tone: "good" | "bad" | "plain";
}

/** Keeps the `MOST` newest lines. */
export class Happenings {
  readonly #section: HTMLElement;
  readonly #list: HTMLElement;

  /** `section` contains `list` and is hidden until there is an event. */
  constructor(section: HTMLElement, list: HTMLElement) {
    this.#section = section;
    this.#list = list;
  }

  add(happening: Happening): void {
    const said = sentence(happening);
    if (said !== null) this.say(happening.at, said);
  }

  /** Adds a line for something that happened on this page; `time` in Unix ms. */
  say(time: number, said: Said): void {
    const at = new Date(time);
    const when = element("time", { datetime: at.toISOString() }, at.toLocaleTimeString());
    this.#list.prepend(element("li", { "data-tone": said.tone }, when, said.text));
    while (this.#list.children.length > MOST) this.#list.lastElementChild?.remove();
    this.#section.hidden = false;
  }
}

/** Text and tone of an event; null for events that are not displayed. */
export function sentence(happening: Happening): Said | null {
  switch (happening.kind) {
    case "stream": {
      const { stream, state, reason } = happening;
      const tone = state === "live" ? "good" : ["retrying", "failed", "silent", "offline", "unauthorized"].includes(state) ? "bad" : "plain";
      return { text: `${stream} is ${state.replaceAll("-", " ")}${reason === "" ? "" : `: ${reason}`}`, tone };
    }
    case "group-cut":
      return { text: `${happening.stream}: ${happening.reason}`, tone: "bad" };
    case "viewer-came":
      return { text: `${happening.stream}: viewer connected (${happening.transport})`, tone: "plain" };
    case "viewer-left":
      return { text: `${happening.stream}: viewer disconnected (${happening.transport})`, tone: "plain" };
    case "plugin": {
      const what = `${happening.stream}: ${happening.transport}`;
      if (happening.state === "running") return { text: `${what} recovered`, tone: "good" };
      const state = happening.state === "broken" ? "stopped after repeated failures" : "failed";
      return { text: `${what} ${state}: ${happening.reason}`, tone: "bad" };
    }
    case "capture": {
      const measured = size(happening.width, happening.height);
      const kept = happening.path === "" ? "" : `, saved as ${happening.path}`;
      return { text: `${happening.stream}: picture captured${measured === "–" ? "" : `, ${measured}`}${kept}`, tone: "plain" };
    }
    case "missed": {
      const count = happening.count === null ? "some earlier events" : `${happening.count} earlier events`;
      return { text: `${count} were missed`, tone: "plain" };
    }
    case "hello":
      return null;
  }
}
