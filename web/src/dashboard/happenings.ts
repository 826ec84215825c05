// The newest events as a list, newest first. What is told in words here is told nowhere else on the page once it is over.

import type { Happening } from "../net/events";
import { element } from "../page/dom";
import { size } from "../page/format";

const MOST = 50;

/** A line of the list, and how it is coloured. */
export interface Said {
  readonly text: string;
  readonly tone: "good" | "bad" | "plain";
}

/** Keeps the list to the newest `MOST`. */
export class Happenings {
  readonly #section: HTMLElement;
  readonly #list: HTMLElement;

  /** `list` is in `section`, which is hidden as long as nothing happened. */
  constructor(section: HTMLElement, list: HTMLElement) {
    this.#section = section;
    this.#list = list;
  }

  add(happening: Happening): void {
    const said = sentence(happening);
    if (said !== null) this.say(happening.at, said);
  }

  /** Something that happened here, `time` in Unix ms. */
  say(time: number, said: Said): void {
    const at = new Date(time);
    const when = element("time", { datetime: at.toISOString() }, at.toLocaleTimeString());
    this.#list.prepend(element("li", { "data-tone": said.tone }, when, said.text));
    while (this.#list.children.length > MOST) this.#list.lastElementChild?.remove();
    this.#section.hidden = false;
  }
}

/** An event in words, and whether it is good or bad; null for what is no news. */
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
      return { text: `a viewer of ${happening.stream} came, on ${happening.transport}`, tone: "plain" };
    case "viewer-left":
      return { text: `a viewer of ${happening.stream} left, on ${happening.transport}`, tone: "plain" };
    case "plugin": {
      const what = `${happening.transport} of ${happening.stream}`;
      if (happening.state === "running") return { text: `${what} works again`, tone: "good" };
      const state = happening.state === "broken" ? "rests, it failed too often" : "failed";
      return { text: `${what} ${state}: ${happening.reason}`, tone: "bad" };
    }
    case "capture": {
      const measured = size(happening.width, happening.height);
      const kept = happening.path === "" ? "" : ` and kept as ${happening.path}`;
      return { text: `a picture of ${happening.stream} was taken${measured === "–" ? "" : `, ${measured},`}${kept}`, tone: "plain" };
    }
    case "missed": {
      const count = happening.count === null ? "events" : `${happening.count} events`;
      return { text: `${count} from before are not known`, tone: "plain" };
    }
    case "hello":
      return null;
  }
}
